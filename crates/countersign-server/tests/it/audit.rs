//! The audit trail: each event once, and the commands that read it.

use std::collections::BTreeMap;
use std::process::Stdio;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection as _;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::timeout;

use crate::client::{Client, PASSWORD, send};
use crate::server::{Folder, PATIENCE, eventually};

const GRACE: (&str, &str) = ("COUNTERSIGN_REFRESH_GRACE", "0s");

/// The records that a command wrote as lines of JSON.
async fn records(folder: &Folder, arguments: &[&str]) -> Vec<Value> {
    let ran = folder.run(&[&["audit"], arguments].concat(), &[GRACE]).await;
    assert!(ran.status.success(), "{ran:?}");
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn sec_146_each_event_is_in_the_trail_once_with_who_and_where() {
    let folder = Folder::new();
    let server = folder.serve_with(&[GRACE]).await;
    let client = Client::new(&server);
    let first = client.register("ada@example.org").await;
    let second = client.refresh(&first.refresh).await.expect(200).pair();
    client.refresh(&second.refresh).await.expect(200);
    client.refresh(&first.refresh).await.expect_error(401, "invalid_token");
    client.try_login("ada@example.org", "no password of hers").await.expect(401);
    let pair = client.login("ada@example.org").await;
    let change = json!({ "current_password": PASSWORD, "new_password": "another battery staple" });
    let change = client.request(Method::POST, "/v1/auth/password").bearer_auth(&pair.access).json(&change);
    send(change).await.unwrap().expect(200);
    let pair = client.login_with("ada@example.org", "another battery staple").await;
    client.logout(&pair.refresh).await.expect(204);
    let rotated = folder.run(&["key", "rotate"], &[GRACE]).await;
    assert!(rotated.status.success(), "{rotated:?}");
    server.stop().await;

    let records = records(&folder, &["export"]).await;
    let mut counts = BTreeMap::new();
    for record in &records {
        *counts.entry(record["name"].as_str().unwrap()).or_insert(0) += 1;
    }
    let expected = [
        ("admin_signing_key_made", 1),
        // Before the password is changed and after it.
        ("all_sessions_ended", 2),
        ("login_failed", 1),
        ("password_changed", 1),
        ("refresh_reused", 1),
        ("registered", 1),
        ("server_started", 1),
        ("server_stopped", 1),
        ("session_began", 4),
        // One by the reuse, one by the logout.
        ("session_ended", 2),
    ];
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected, "{records:#?}");
    let of = |name: &str| records.iter().find(|record| record["name"] == name).unwrap();
    for name in ["login_failed", "refresh_reused", "session_began"] {
        assert_eq!(of(name)["ip"], "127.0.0.1", "{name}");
        assert_eq!(of(name)["user_id"], of("registered")["user_id"], "{name}");
        assert!(of(name)["at"].as_str().unwrap().ends_with('Z'), "in UTC");
    }
    assert!(of("refresh_reused")["session_id"].is_string());
    assert_eq!(of("admin_signing_key_made")["actor"], "command line");
}

#[tokio::test]
async fn the_trail_is_searched_followed_and_exported_at_a_terminal() {
    let folder = Folder::new();
    let server = folder.serve_with(&[GRACE]).await;
    let client = Client::new(&server);
    let ada = client.register("ada@example.org").await;
    client.register("grace@example.org").await;
    client.logout(&ada.refresh).await.expect(204);
    eventually("all are in the store", async || records(&folder, &["export"]).await.len() == 6).await;

    // Somebody may have written anything into what others read.
    let mut database = folder.database().await;
    let hostile =
        "UPDATE audit SET detail = 'x' || char(27) || '[2J' || char(10) || 'y' WHERE name = 'session_ended'";
    sqlx::query(hostile).execute(&mut database).await.unwrap();
    database.close().await.unwrap();

    let all = records(&folder, &["export"]).await;
    let names = |records: &[Value]| {
        records.iter().map(|record| record["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let id =
        all.iter().find(|record| record["name"] == "session_ended").unwrap()["user_id"].as_str().unwrap();
    for (arguments, expected) in [
        (
            &["search", "--json", "--user", "ada@example.org"][..],
            &["session_ended", "session_began", "registered"][..],
        ),
        (&["search", "--json", "--user", id, "--event", "registered"], &["registered"]),
        (
            &["search", "--json", "--user", id, "--event", "registered", "--event", "session_ended"],
            &["session_ended", "registered"],
        ),
        (&["search", "--json", "--event", "session_ended", "--since", "1h"], &["session_ended"]),
        (&["search", "--json", "--event", "session_ended", "--until", "1h"], &[]),
        (&["search", "--json", "--limit", "1", "--ip", "127.0.0.1"], &["session_began"]),
        (&["search", "--json", "--actor", "command line"], &[]),
        (&["tail", "--json", "-n", "1"], &["session_ended"]),
        (&["tail", "--json", "--event", "registered"], &["registered", "registered"]),
        (&["export", "--since", "2000-01-01", "--until", "2000-01-02"], &[]),
    ] {
        assert_eq!(names(&records(&folder, arguments).await), expected, "{arguments:?}");
    }
    let shown = folder.run(&["audit", "tail"], &[GRACE]).await.stdout;
    assert_eq!(shown.lines().count(), 6, "{shown}");
    assert!(shown.contains("detail=x\\u{1b}[2J\\ny") && !shown.contains('\u{1b}'), "{shown}");

    let written = folder.run(&["audit", "export", "events.jsonl"], &[GRACE]).await;
    assert_eq!(written.stdout, "records: 6 written to events.jsonl\n", "{written:?}");
    assert_eq!(
        (
            std::fs::read_to_string(folder.path("events.jsonl")).unwrap().lines().count(),
            folder.mode("events.jsonl")
        ),
        (6, 0o600)
    );
    folder.run(&["audit", "export", "events.jsonl"], &[GRACE]).await.assert_refused(&["exists already"]);
    folder
        .run(&["audit", "search", "--user", "nobody@example.org"], &[GRACE])
        .await
        .assert_refused(&["no user has"]);

    let mut follow = folder.command(&["audit", "tail", "-n", "0", "--follow", "--json"], &[GRACE]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    // Whether the command has begun to follow is not told, so there is one event after the other until it shows one.
    let next = async {
        loop {
            client.login("grace@example.org").await;
            if let Ok(line) = timeout(std::time::Duration::from_secs(2), lines.next_line()).await {
                return line.unwrap().unwrap();
            }
        }
    };
    let line: Value = serde_json::from_str(&timeout(PATIENCE, next).await.unwrap()).unwrap();
    assert_eq!(line["name"], "session_began");
    follow.kill().await.unwrap();
    server.stop().await;
}
