//! Somebody else keeps the database locked.

use countersign_http::SystemClock;
use countersign_jwt::Clock as _;
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

#[cfg(unix)]
#[tokio::test]
async fn a_database_that_is_taken_away_from_a_running_server_is_noticed_before_anything_is_lost() {
    use std::fs;

    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;
    let (database, aside) = (folder.path("countersign.db"), folder.path("aside.db"));
    let eve = json!({ "email": "eve@example.org", "password": PASSWORD });

    // Moved, then replaced by another one.
    fs::rename(&database, &aside).unwrap();
    for replaced in [false, true] {
        if replaced {
            fs::copy(&aside, &database).unwrap();
        }
        for answer in [
            client.post("/v1/auth/register", &eve).await,
            client.refresh(&pair.refresh).await,
            client.logout(&pair.refresh).await,
            client.me(&pair.access).await,
            client.try_login("ada@example.org", PASSWORD).await,
            client.get("/readyz").await,
        ] {
            answer.expect_error(503, "unavailable");
        }
        client.get("/healthz").await.expect(200);
    }
    assert!(server.log().contains("was moved or removed while the database is open"), "{}", server.log());

    // What was refused was not done, and the same file works again.
    fs::rename(&aside, &database).unwrap();
    client.get("/readyz").await.expect(200);
    client.refresh(&pair.refresh).await.expect(200);
    client.register("eve@example.org").await;
    assert!(server.log().contains("the files of the store are back"), "{}", server.log());

    // Without its log, what is there is kept by a server that stops in order.
    fs::remove_file(folder.path("countersign.db-wal")).unwrap();
    client.get("/readyz").await.expect_error(503, "unavailable");
    client.try_login("eve@example.org", PASSWORD).await.expect_error(503, "unavailable");
    server.ask_to_stop().await;
    server.wait().await;
    let server = folder.serve().await;
    Client::new(&server).login("eve@example.org").await;
    server.stop().await;
}
