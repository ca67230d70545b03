//! `countersign revoke-all`: what a restored backup has forgotten stays ended.

use crate::client::{Client, Pair};
use crate::server::{Folder, eventually};

/// Signs in, as soon as the server has read which keys sign now.
async fn sign_in_anew(client: &Client) -> Pair {
    let mut pair = client.login("ada@example.org").await;
    eventually("the new keys are in use", async || {
        if client.me(&pair.access).await.status == 200 && client.refresh(&pair.refresh).await.status == 200 {
            return true;
        }
        pair = client.login("ada@example.org").await;
        false
    })
    .await;
    pair
}

#[tokio::test]
async fn sec_158_after_a_backup_was_restored_ended_sessions_are_ended_by_revoke_all() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    let ended = client.register("ada@example.org").await;
    let other = client.login("ada@example.org").await;
    server.stop().await;
    std::fs::copy(folder.path("countersign.db"), folder.path("backup.db")).unwrap();

    let server = folder.serve().await;
    let client = Client::new(&server);
    client.logout(&ended.refresh).await.expect(204);
    client.me(&ended.access).await.expect(401);
    server.stop().await;
    // Nothing is beside the file that belongs to what was in it. SQLite takes the empty files away only if the last of the
    // connections is closed before the program has ended.
    let log = std::fs::metadata(folder.path("countersign.db-wal")).map_or(0, |log| log.len());
    assert_eq!(log, 0, "{:?}", folder.names());
    std::fs::copy(folder.path("backup.db"), folder.path("countersign.db")).unwrap();

    // The store has forgotten that the session was ended.
    let server = folder.serve().await;
    let client = Client::new(&server);
    client.me(&ended.access).await.expect(200);
    let stepped = client.refresh(&ended.refresh).await.expect(200).pair();

    server.stop().await;

    let ran = folder.run(&["revoke-all", "--yes"], &[]).await;
    assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
    assert_eq!(ran.stdout.matches(" is removed\n").count(), 2, "{ran:?}");
    assert_eq!(ran.stdout.matches(" signs now\n").count(), 2, "{ran:?}");
    assert!(ran.stdout.contains("refused by all servers within 5 s"), "{ran:?}");
    let server = folder.serve().await;
    let client = Client::new(&server);
    for pair in [&ended, &stepped, &other] {
        client.me(&pair.access).await.expect(401);
        client.refresh(&pair.refresh).await.expect(401);
    }
    let new = client.login("ada@example.org").await;
    client.me(&new.access).await.expect(200);
    client.refresh(&new.refresh).await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn revoke_all_removes_keys_that_wait_or_retire_too_and_running_servers_learn_of_it() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    let old = client.register("ada@example.org").await;
    let rotated = folder.run(&["key", "rotate", "--now"], &[]).await;
    assert!(rotated.status.success(), "{rotated:?}");
    let rotated = folder.run(&["key", "rotate", "--purpose", "refresh"], &[]).await;
    assert!(rotated.status.success(), "{rotated:?}");
    let ran = folder.run(&["revoke-all", "--yes"], &[]).await;
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(ran.stdout.matches(" is removed\n").count(), 4, "{ran:?}");
    assert_eq!(ran.stdout.matches(" signs now\n").count(), 2, "{ran:?}");
    eventually("the server refuses the token", async || client.me(&old.access).await.status == 401).await;
    eventually("and its refresh token", async || client.refresh(&old.refresh).await.status == 401).await;
    sign_in_anew(&client).await;
    server.stop().await;
}

#[tokio::test]
async fn revoke_all_asks_first_and_knows_where_it_cannot_help() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;
    let before = folder.keys().await;
    folder.run(&["revoke-all"], &[]).await.assert_refused(&["--yes"]);
    #[cfg(feature = "flask")]
    {
        let secret = "canary-Vq8Zt7_Wm4Kc9Ru6Jd3Fs0Hv2Lp5Go8Xn1Yb";
        for profile in ["flask-jwt-extended", "flask-jwt"] {
            let settings = [("COUNTERSIGN_PROFILE", profile), ("JWT_SECRET_KEY", secret)];
            let refused = folder.run(&["revoke-all", "--yes"], &settings).await;
            refused.assert_refused(&["change JWT_SECRET_KEY"]);
            assert!(!refused.stderr.contains("canary"), "{refused:?}");
        }
    }
    assert_eq!(folder.keys().await, before);
    client.me(&pair.access).await.expect(200);
    server.stop().await;
    Folder::new().run(&["revoke-all", "--yes"], &[]).await.assert_refused(&["there is no database"]);
}
