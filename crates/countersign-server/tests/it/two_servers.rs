//! Two processes on one database.

use countersign_core::Clock as _;
use countersign_http::SystemClock;

use crate::client::Client;
use crate::server::{Folder, eventually};

#[tokio::test]
async fn a_logout_at_one_server_reaches_the_other_within_the_bound() {
    let folder = Folder::new();
    let (one, two) = tokio::join!(folder.serve(), folder.serve());
    let (here, there) = (Client::new(&one), Client::new(&two));
    let pair = here.register("ada@example.org").await;
    there.me(&pair.access).await.expect(200);

    here.logout(&pair.refresh).await.expect(204);
    let clock = SystemClock::new();
    let ended = clock.monotonic();
    here.me(&pair.access).await.expect_error(401, "invalid_token");
    // Refreshing asks the store, so there is nothing to wait for.
    there.refresh(&pair.refresh).await.expect_error(401, "invalid_token");
    eventually("the other server refuses the token", async || there.me(&pair.access).await.status == 401)
        .await;
    let took = clock.monotonic().saturating_sub(ended);
    println!("the other server refused the access token {took:?} after the logout; the bound is 5 s");
    there.me(&pair.access).await.expect_error(401, "invalid_token");
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_refresh_at_both_servers_at_once_yields_one_successor() {
    let folder = Folder::new();
    let (one, two) = tokio::join!(folder.serve(), folder.serve());
    let (here, there) = (Client::new(&one), Client::new(&two));
    let pair = here.register("ada@example.org").await;
    let answers = tokio::join!(here.refresh(&pair.refresh), there.refresh(&pair.refresh));
    assert_eq!(answers.0.expect(200).pair(), answers.1.expect(200).pair());
}
