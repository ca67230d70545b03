//! `countersign backup` and `restore`: a copy of a running server's database, and what a restored one accepts.

use crate::client::Client;
use crate::server::Folder;

#[tokio::test]
async fn sec_158_a_copy_of_a_running_server_is_restored_with_its_users_and_without_its_tokens() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    let ended = client.register("ada@example.org").await;
    let alive = client.login("ada@example.org").await;
    let made = folder.run(&["backup", "monday.db"], &[]).await;
    assert!(made.status.success() && made.stderr.is_empty(), "{made:?}");
    assert!(made.stdout.contains("monday.db is a copy of the SQLite database countersign.db"), "{made:?}");
    assert!(made.stdout.contains("keep countersign.db.secret too"), "{made:?}");
    assert_eq!(folder.mode("monday.db"), 0o600);
    let again = folder.run(&["backup", "monday.db"], &[]).await;
    again.assert_refused(&["monday.db exists already, and nothing is written over it"]);
    // After the copy was made.
    client.logout(&ended.refresh).await.expect(204);
    client.register("grace@example.org").await;

    let refused = folder.run(&["restore", "monday.db"], &[]).await;
    refused.assert_refused(&["countersign.db", "exists already", "move it away"]);
    client.me(&alive.access).await.expect(200);
    server.stop().await;
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::rename(
            folder.path(&format!("countersign.db{end}")),
            folder.path(&format!("old.db{end}")),
        );
    }
    let secret = std::fs::read_to_string(folder.path("countersign.db.secret")).unwrap();
    std::fs::remove_file(folder.path("countersign.db.secret")).unwrap();
    let refused = folder.run(&["restore", "monday.db"], &[]).await;
    refused.assert_refused(&["countersign.db.secret is missing", "restore it from a backup"]);
    let other = folder.run(&["key", "secret"], &[]).await.stdout;
    let refused = folder.run(&["restore", "monday.db"], &[("COUNTERSIGN_SECRET", other.trim())]).await;
    refused.assert_refused(&["secret"]);
    assert!(!folder.names().iter().any(|name| name.starts_with("countersign.db")), "{:?}", folder.names());

    folder.write("countersign.db.secret", &secret);
    let restored = folder.run(&["restore", "monday.db"], &[]).await;
    assert!(restored.status.success() && restored.stderr.is_empty(), "{restored:?}");
    assert!(restored.stdout.contains("every token that was issued before is refused"), "{restored:?}");
    let server = folder.serve().await;
    let client = Client::new(&server);
    for pair in [&ended, &alive] {
        client.me(&pair.access).await.expect(401);
        client.refresh(&pair.refresh).await.expect(401);
    }
    let pair = client.login("ada@example.org").await;
    client.me(&pair.access).await.expect(200);
    client.try_login("grace@example.org", crate::client::PASSWORD).await.expect(401);
    server.stop().await;
}

#[tokio::test]
async fn a_copy_may_be_restored_with_its_tokens() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let pair = Client::new(&server).register("ada@example.org").await;
    folder.run(&["backup", "copy.db"], &[]).await;
    server.stop().await;
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(folder.path(&format!("countersign.db{end}")));
    }
    let restored = folder.run(&["restore", "--keep-tokens", "copy.db"], &[]).await;
    assert!(restored.status.success(), "{restored:?}");
    assert!(
        restored.stderr.contains("warning: sessions that were ended after the copy was made are alive again")
    );
    let server = folder.serve().await;
    Client::new(&server).me(&pair.access).await.expect(200);
    server.stop().await;
    let shared =
        [("COUNTERSIGN_DATABASE_URL", "postgres://ada@127.0.0.1:1/auth"), ("COUNTERSIGN_SECRET", "")];
    let refused = folder.run(&["backup", "x.db"], &shared).await;
    refused.assert_refused(&["the PostgreSQL database auth", "pg_dump", "docs/backup.md"]);
}
