//! Accounts brought from files and written to files.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::client::{Client, PASSWORD, claims};
use crate::engine::{Engine, on_every_engine};
use crate::server::{Folder, Ran};

/// A hash that werkzeug made of [`PASSWORD`].
const WERKZEUG: &str =
    "pbkdf2:sha256:1000$8ECaAJnLyrjFdw3p$abd1e32e4d71a49510a7bc1c2a197ebf01f33990430ee3b862c7f1a47e13f751";

async fn migrated() -> Folder {
    let folder = Folder::new();
    let ran = folder.run(&["migrate"], &[]).await;
    assert!(ran.status.success(), "{ran:?}");
    folder
}

/// Exits with this status, having said all of this.
#[track_caller]
fn ended(ran: &Ran, status: i32, stdout: &[&str], stderr: &[&str]) {
    assert_eq!(ran.status.code(), Some(status), "{ran:?}");
    for text in stdout {
        assert!(ran.stdout.contains(text), "{text}\n{ran:?}");
    }
    for text in stderr {
        assert!(ran.stderr.contains(text), "{text}\n{ran:?}");
    }
    assert!(!stderr.is_empty() || ran.stderr.is_empty(), "{ran:?}");
}

async fn export(folder: &Folder) -> Vec<Value> {
    let ran = folder.run(&["user", "export", "--with-hashes"], &[]).await;
    ended(&ran, 0, &[], &[]);
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Accounts of every kind, newest first.
fn accounts() -> String {
    let mut lines = String::new();
    for account in [
        json!({ "id": "018f4e9a-7d2b-7c3e-9f10-2b6a5c4d3e2f", "email": "Ada+1@Example.org", "email_verified": true,
            "email_verified_at": "2026-01-02T03:04:05.678Z", "username": "Ada", "password_hash": WERKZEUG,
            "roles": ["admin", "editor"], "language": "pt-br", "disabled": false,
            "created_at": "2026-01-01T00:00:00.001Z" }),
        json!({ "id": "7", "email_verified": false, "username": "bob", "roles": [], "disabled": true,
            "disabled_at": "2026-01-31T12:00:00Z", "created_at": "2025-01-01T00:00:00Z" }),
        json!({ "id": "6", "email": "eve@example.org", "email_verified": false, "password_hash": "$6$salt$unusable",
            "roles": [], "disabled": false, "created_at": "2025-01-01T00:00:00Z" }),
        json!({ "id": "caf\u{e9} \"1\"", "email": "\u{4f60}@example.org", "email_verified": false, "roles": [],
            "disabled": false, "created_at": "2024-01-01T00:00:00Z" }),
    ] {
        lines.push_str(&format!("{account}\n"));
    }
    lines
}

async fn import_of_an_export_gives_the_same_accounts(engine: &Engine) {
    let settings = engine.settings();
    ended(&engine.folder.run(&["migrate"], &settings).await, 0, &[], &[]);
    engine.folder.write("users.jsonl", &accounts());
    let told = [
        "users: 4 read, 4 brought over, 0 here already, 0 refused",
        "passwords: 2 users without one",
        "passwords: 1 whose hash is not used",
    ];
    let note = ["note: line 3: its password_hash is kept, but is not used"];
    let dry = engine.folder.run(&["user", "import", "users.jsonl", "--dry-run"], &settings).await;
    ended(&dry, 0, &told, &note);
    assert!(dry.stdout.ends_with("this was a dry run: nothing was written\n"), "{dry:?}");
    let ran = engine.folder.run(&["user", "import", "users.jsonl"], &settings).await;
    ended(&ran, 0, &told, &note);
    let exported = engine.folder.run(&["user", "export", "out.jsonl", "--with-hashes"], &settings).await;
    ended(&exported, 0, &["users: 4 written to out.jsonl"], &[]);
    assert_eq!(engine.folder.mode("out.jsonl"), 0o600);
    let written = std::fs::read_to_string(engine.folder.path("out.jsonl")).unwrap();
    let read =
        |text: &str| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
    assert_eq!(read(&written), read(&accounts()));

    // Into another store, and out of it again.
    let other = migrated().await;
    other.write("in.jsonl", &written);
    ended(&other.run(&["user", "import", "in.jsonl"], &[]).await, 0, &told, &note);
    let back = other.run(&["user", "export", "-", "--with-hashes"], &[]).await;
    assert_eq!(back.stdout, written);

    // Again changes nothing, and without --with-hashes there are none.
    let again = engine.folder.run(&["user", "import", "out.jsonl"], &settings).await;
    let told = [
        "users: 4 read, 0 brought over, 4 here already, 0 refused",
        "are left as they are, with their hashes",
    ];
    ended(&again, 0, &told, &[]);
    let plain = engine.folder.run(&["user", "export"], &settings).await;
    assert!(!plain.stdout.contains("password_hash") && !plain.stdout.contains("pbkdf2"), "{plain:?}");
    let refused = engine.folder.run(&["user", "export", "out.jsonl"], &settings).await;
    refused.assert_refused(&["out.jsonl exists already and is not overwritten"]);

    let numbers =
        [&settings[..], &[("COUNTERSIGN_USER_IDS", "integer"), ("COUNTERSIGN_LOGIN_NAMES", "both")]].concat();
    let server = engine.folder.serve_with(&numbers).await;
    let client = Client::new(&server);
    let access = client.login("ada+1@example.org").await.access;
    assert_eq!(claims(&access)["roles"], json!(["admin", "editor"]));
    let bob = json!({ "username": "bob", "password": PASSWORD });
    client.post("/v1/auth/login", &bob).await.expect(401);
    let new = client.register("new@example.org").await.access;
    let number: u64 = claims(&new)["sub"].as_str().unwrap().parse().unwrap();
    assert!(number > 7, "new ids count on: {number}");
    server.stop().await;
}

on_every_engine! {
    import_of_an_export_gives_the_same_accounts
}

#[tokio::test]
async fn refused_rows_are_named_with_their_line_and_the_others_are_brought() {
    let folder = migrated().await;
    folder.write(
        "users.csv",
        &format!(
            "ID,Email,username,password_hash,roles,email_verified,disabled,created_at,shoe size\n\
             1,ada@example.org,ada,{WERKZEUG},\"admin, editor\",true,,2026-01-31 12:00,38\n\
             2,,,,,,,,\n\
             3,no address,,,,,,,\n\
             4,d@example.org,,hunter2-canary,,,,,\n\
             5,ADA@example.org,,,,,,,\n\
             1,e@example.org,,,,,,,\n\
             6,f@example.org,,,\"say \"\"hi\"\"\",,,,\n\
             7,g@example.org,,,,perhaps,,,\n\
             8,h@example.org,,,,,,yesterday,\n\
             9,i@example.org\n\
             10,j@example.org,,,editor,no,yes,,\n\
             ,k@example.org,kay,,,,,,\n\
             ,k@example.org,kay,,,,,,\n\
             ,,KAY,,,,,,\n\
             1,ada@example.org,Ada,,,,,,\n\
             11,,leo,,,1,,,\n"
        ),
    );
    let ran = folder.run(&["user", "import", "users.csv"], &[]).await;
    ended(
        &ran,
        1,
        &["users: 16 read, 3 brought over, 2 here already, 11 refused"],
        &[
            "warning: not understood and left out: shoe size; the columns are id, email,",
            "refused: line 3: it has neither an email nor a username",
            "refused: line 4: its email cannot be used",
            "refused: line 5: its password_hash is in no known form of a hash, perhaps the password itself",
            "refused: line 6: another account has its email or username",
            "refused: line 7: its id is here already, with other names",
            "refused: line 8: its roles cannot be used",
            "refused: line 9: its email_verified is neither true nor false nor a time",
            "refused: line 10: its created_at is neither a time",
            "refused: line 11: it has 2 fields, and the heading has 9",
            "refused: line 15: another account has its email or username",
            "refused: line 17: its email is verified, but it has no email",
            "error: 11 rows were refused",
        ],
    );
    assert!(!ran.stderr.contains("canary"), "{ran:?}");
    let mut users = export(&folder).await;
    users.sort_by_key(|user| user["email"].as_str().unwrap_or_default().to_owned());
    assert_eq!(users.len(), 3);
    assert_eq!(users[0]["roles"], json!(["admin", "editor"]));
    assert_eq!(users[0]["created_at"], "2026-01-31T12:00:00Z");
    assert_eq!((&users[0]["email_verified"], &users[1]["disabled"]), (&json!(true), &json!(true)));
    assert_eq!(users[2]["id"].as_str().unwrap().len(), 36);
    let server = folder.serve().await;
    Client::new(&server).login("ada@example.org").await;
    server.stop().await;

    // At the first refused row, if that is wanted.
    let stopped = folder.run(&["user", "import", "--stop-at-refusal", "users.csv"], &[]).await;
    ended(
        &stopped,
        1,
        &["users: 2 read, 0 brought over, 1 here already, 1 refused"],
        &["error: one row was refused"],
    );
}

#[tokio::test]
async fn accounts_without_an_id_get_the_next_numbers_in_the_order_of_the_rows() {
    let folder = migrated().await;
    let settings = [("COUNTERSIGN_USER_IDS", "integer")];
    let mut rows = "id,email\n40,first@example.org\n".to_owned();
    for number in 0..600 {
        rows.push_str(&format!(",user{number}@example.org\n"));
    }
    for told in ["601 read, 601 brought over, 0 here", "601 read, 0 brought over, 601 here"] {
        let mut command = folder.command(&["user", "import", "-"], &settings);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(rows.as_bytes()).await.unwrap();
        drop(input);
        let output = child.wait_with_output().await.unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8(output.stdout).unwrap().contains(told), "{told}");
    }
    let users = export(&folder).await;
    assert_eq!(users.len(), 601);
    let id = |email: &str| users.iter().find(|user| user["email"] == email).unwrap()["id"].clone();
    let numbers: Vec<u64> = (0..600)
        .map(|number| id(&format!("user{number}@example.org")).as_str().unwrap().parse().unwrap())
        .collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]) && numbers[0] > 40, "{numbers:?}");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_an_error() {
    let folder = migrated().await;
    folder.write("mail.csv", "id,mail\n1,a@example.org\n");
    folder.write("quote.csv", &format!("email\n\"{}", "x".repeat(3_000_000)));
    for (file, saying) in [
        ("missing.csv", "cannot read missing.csv"),
        ("mail.csv", "the first line must name the columns"),
        ("sqlite:///srv/app.db", "countersign import flask --from URL"),
    ] {
        folder.run(&["user", "import", file], &[]).await.assert_refused(&[saying]);
    }
    let ran = folder.run(&["user", "import", "quote.csv"], &[]).await;
    ended(&ran, 1, &["users: 0 read"], &["a row is longer than 1048576 bytes"]);
    let empty = Folder::new();
    empty.write("users.csv", "email\na@example.org\n");
    empty.run(&["user", "import", "users.csv"], &[]).await.assert_refused(&["there is no database"]);
    empty.run(&["user", "export"], &[]).await.assert_refused(&["there is no database"]);
}
