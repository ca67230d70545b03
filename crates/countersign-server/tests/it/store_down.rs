//! Somebody else keeps the database locked.

use countersign_core::Clock as _;
use countersign_http::SystemClock;
use serde_json::json;
use sqlx::Connection as _;

use crate::client::{Client, PASSWORD};
use crate::server::Folder;

#[tokio::test]
async fn sec_087_a_locked_store_is_a_503_in_time_and_nothing_is_lost() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;
    let leaving = client.login("ada@example.org").await;

    let eve = json!({ "email": "eve@example.org", "password": PASSWORD });
    let mut database = folder.database().await;
    let lock = database.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let clock = SystemClock::new();
    let asked = clock.monotonic();
    let (refresh, login, logout, register) = tokio::join!(
        client.refresh(&pair.refresh),
        client.try_login("ada@example.org", PASSWORD),
        client.logout(&leaving.refresh),
        client.post("/v1/auth/register", &eve),
    );
    println!("a locked store: four answers after {:?}; the limit is 3 s", clock.monotonic() - asked);
    for answer in [refresh, login, logout, register] {
        let answer = answer.expect_error(503, "unavailable");
        assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    }
    // What needs no writing goes on.
    client.me(&pair.access).await.expect(200);
    client.get("/healthz").await.expect(200);
    client.get("/readyz").await.expect(200);

    lock.rollback().await.unwrap();
    client.refresh(&pair.refresh).await.expect(200);
    client.me(&leaving.access).await.expect(200);
    client.logout(&leaving.refresh).await.expect(204);
    client.me(&leaving.access).await.expect_error(401, "invalid_token");
    client.login("ada@example.org").await;
    client.register("eve@example.org").await;
    server.stop().await;
}

#[tokio::test]
async fn sec_087_a_lock_that_is_released_in_time_is_only_a_pause() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;
    let mut database = folder.database().await;
    let lock = database.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let refreshing = client.refresh(&pair.refresh);
    let released = async {
        // Answered while the refresh waits: it holds up nobody else.
        for _ in 0..20 {
            client.me(&pair.access).await.expect(200);
        }
        lock.rollback().await.unwrap();
    };
    let (refreshed, ()) = tokio::join!(refreshing, released);
    refreshed.expect(200);
    server.stop().await;
}
