//! Two processes on one database.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_http::SystemClock;
use countersign_jwt::Clock as _;

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

#[tokio::test]
async fn sec_041_a_removed_key_is_refused_by_every_server_within_the_bound() {
    let folder = Folder::new();
    let (one, two) = tokio::join!(folder.serve(), folder.serve());
    let (here, there) = (Client::new(&one), Client::new(&two));
    let pair = here.register("ada@example.org").await;
    let servers = [&here, &there];
    for server in servers {
        server.me(&pair.access).await.expect(200);
    }
    let listed = folder.run(&["key", "list"], &[]).await.stdout;
    let key = listed.lines().find(|line| line.contains(" access ")).unwrap();
    let key = key.split_whitespace().next().unwrap();
    let clock = SystemClock::new();
    let retired = folder.run(&["key", "retire", key], &[]).await;
    let removed = clock.monotonic();
    assert!(retired.status.success(), "{retired:?}");
    for (number, server) in servers.into_iter().enumerate() {
        eventually("the server refuses the token", async || server.me(&pair.access).await.status == 401)
            .await;
        let took = clock.monotonic().saturating_sub(removed);
        println!("server {number} refused the key's token {took:?} after its removal; the bound is 5 s");
        server.me(&pair.access).await.expect_error(401, "invalid_token");
        assert!(!server.get("/.well-known/jwks.json").await.expect(200).text.contains(key));
    }
    // Sessions go on, with a key that both servers sign with and know.
    let mut refresh = pair.refresh;
    for server in [&here, &there] {
        let refreshed = server.refresh(&refresh).await.expect(200).pair();
        for verifier in servers {
            verifier.me(&refreshed.access).await.expect(200);
        }
        refresh = refreshed.refresh;
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn sec_040_a_rotated_key_is_used_by_both_servers_and_fails_no_token() {
    let folder = Folder::new();
    let bound = [("COUNTERSIGN_REVOCATION_BOUND", "1s")];
    let (one, two) = tokio::join!(folder.serve_with(&bound), folder.serve_with(&bound));
    let servers = [Client::new(&one), Client::new(&two)];
    servers[0].register("ada@example.org").await;
    let rotated = folder.run(&["key", "rotate"], &bound).await.stdout;
    let key = rotated.split_whitespace().nth(2).unwrap().to_owned();
    let mut tokens = Vec::new();
    for issuer in &servers {
        eventually("the server signs with the new key", async || {
            let pair = issuer.login("ada@example.org").await;
            for verifier in &servers {
                // By the old key or the new one, from whichever server: accepted by both, at once.
                verifier.me(&pair.access).await.expect(200);
            }
            let header = pair.access.split('.').next().unwrap().to_owned();
            tokens.push(pair.access);
            let header = URL_SAFE_NO_PAD.decode(header).unwrap();
            String::from_utf8(header).unwrap().contains(&key)
        })
        .await;
    }
    for token in &tokens {
        for verifier in &servers {
            verifier.me(token).await.expect(200);
        }
    }
    one.stop().await;
    two.stop().await;
}
