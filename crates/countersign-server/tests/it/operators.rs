//! What operators do to users at the command line, beside a running server.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::client::{Client, PASSWORD, claims};
use crate::engine::{Engine, on_every_engine};
use crate::server::{Folder, PATIENCE, Ran, eventually};

/// Runs a command that must succeed; returns what it printed.
async fn run(folder: &Folder, settings: &[(&str, &str)], arguments: &[&str]) -> String {
    let ran = folder.run(arguments, settings).await;
    assert!(ran.status.success() && ran.stderr.is_empty(), "{arguments:?}: {ran:?}");
    ran.stdout
}

/// Runs a command with this text on its standard input.
async fn run_with_input(folder: &Folder, arguments: &[&str], input: &str) -> Ran {
    let mut command = folder.command(arguments, &[]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
    let output = tokio::time::timeout(PATIENCE, process.wait_with_output()).await.unwrap().unwrap();
    Ran {
        status: output.status,
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

on_every_engine! {
    sec_082_a_user_is_found_shown_and_signed_out_at_the_command_line
}

async fn sec_082_a_user_is_found_shown_and_signed_out_at_the_command_line(engine: &Engine) {
    let server = engine.serve().await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;
    let other = client.login("ada@example.org").await;
    client.register("grace@example.org").await;
    let (folder, settings) = (&engine.folder, engine.settings());

    let listed = run(folder, &settings, &["user", "list", "--query", "ADA"]).await;
    let rows: Vec<Vec<_>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["ID", "EMAIL", "USERNAME", "ROLES", "STATE", "CREATED"]);
    assert_eq!((rows.len(), rows[1][1], rows[1][4]), (2, "ada@example.org", "enabled"));
    let id = rows[1][0];
    for name in [id, "Ada@Example.org"] {
        let shown = run(folder, &settings, &["user", "show", name, "--json"]).await;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!((&shown["id"], &shown["has_password"]), (&json!(id), &json!(true)));
    }

    let sessions = run(folder, &settings, &["user", "sessions", "ada@example.org"]).await;
    assert_eq!(sessions.lines().count(), 3, "{sessions}");
    let session = claims(&other.access)["sid"].as_str().unwrap().to_owned();
    run(folder, &settings, &["user", "end-sessions", id, "--session", &session]).await;
    let is_refused = async |access: &str| client.me(access).await.status == 401;
    eventually("one session has ended", async || is_refused(&other.access).await).await;
    client.me(&pair.access).await.expect(200);
    run(folder, &settings, &["user", "end-sessions", "ada@example.org"]).await;
    eventually("all sessions have ended", async || is_refused(&pair.access).await).await;
    client.refresh(&pair.refresh).await.expect_error(401, "invalid_token");

    run(folder, &settings, &["user", "disable", id]).await;
    client.try_login("ada@example.org", PASSWORD).await.expect_error(401, "invalid_credentials");
    run(folder, &settings, &["user", "enable", id]).await;
    let set = run(folder, &settings, &["user", "set-roles", id, "editor", "admin"]).await;
    assert!(set.contains("admin editor"), "{set}");
    let roles = claims(&client.login("ada@example.org").await.access)["roles"].clone();
    assert_eq!(roles, json!(["admin", "editor"]));
    folder.run(&["user", "set-roles", id], &settings).await.assert_refused(&["<ROLE>"]);
    let set = run(folder, &settings, &["user", "set-roles", id, "--none"]).await;
    assert!(set.contains("roles: none"), "{set}");

    let refused = folder.run(&["user", "delete", id], &settings).await;
    refused.assert_refused(&["--yes"]);
    run(folder, &settings, &["user", "delete", id, "--yes"]).await;
    client.try_login("ada@example.org", PASSWORD).await.expect_error(401, "invalid_credentials");
    folder.run(&["user", "show", "nobody"], &settings).await.assert_refused(&["user list --query nobody"]);
    server.stop().await;
}

#[tokio::test]
async fn sec_124_the_first_admin_comes_to_be_by_a_link_that_is_good_once() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let arguments = ["user", "create", "--email", "ada@example.org", "--roles", "admin", "--invite-link"];
    let made = folder.run(&arguments, &[]).await.stdout;
    let link = url::Url::parse(made.lines().nth(1).unwrap()).unwrap();
    assert_eq!(link.path(), "/invite", "{made}");
    let token = link.query_pairs().find(|(name, _)| name == "token").unwrap().1.into_owned();

    let client = Client::new(&server);
    let body = json!({ "token": token, "new_password": PASSWORD });
    client.post("/v1/auth/password/reset", &body).await.expect(204);
    client.post("/v1/auth/password/reset", &body).await.expect_error(400, "invalid_link");
    let signed_in = client.try_login("ada@example.org", PASSWORD).await.expect(200);
    assert_eq!(signed_in.body["user"]["roles"], json!(["admin"]));
    assert_eq!(
        signed_in.body["user"]["email_verified"], false,
        "the link was not mailed, so it proves nothing"
    );
    server.stop().await;
}

#[tokio::test]
async fn sec_124_a_password_is_read_from_standard_input_and_ends_all_sessions() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;
    let argument = folder.run(&["user", "set-password", "ada@example.org", "a new password"], &[]).await;
    assert!(!argument.status.success(), "an argument could be seen by other users: {argument:?}");

    let set = ["user", "set-password", "ada@example.org"];
    let weak = run_with_input(&folder, &set, "short\n").await;
    weak.assert_refused(&["use at least 8 characters"]);
    client.me(&pair.access).await.expect(200);
    let done = run_with_input(&folder, &set, "a wholly other passphrase\n").await;
    assert!(done.status.success() && !done.stdout.contains("passphrase"), "{done:?}");
    eventually("the session has ended", async || client.me(&pair.access).await.status == 401).await;
    client.try_login("ada@example.org", PASSWORD).await.expect_error(401, "invalid_credentials");
    client.login_with("ada@example.org", "a wholly other passphrase").await;
    server.stop().await;
}

#[tokio::test]
async fn a_reset_is_mailed_by_the_server_or_printed() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    client.register("ada@example.org").await;
    run(&folder, &[], &["user", "reset", "ada@example.org"]).await;
    eventually("the server sends it", async || server.log().contains("/reset?token=")).await;

    let elsewhere = folder.run(&["user", "reset", "ada@example.org", "--link"], &[]).await;
    assert!(elsewhere.stderr.contains("set COUNTERSIGN_PUBLIC_URL as it has it"), "{elsewhere:?}");
    let public = [("COUNTERSIGN_PUBLIC_URL", "https://auth.example.org")];
    let there = folder.run(&["user", "reset", "ada@example.org", "--link"], &public).await;
    assert!(there.stdout.starts_with("https://auth.example.org/") && there.stderr.is_empty(), "{there:?}");
    let link = folder.run(&["user", "reset", "ada@example.org", "--link"], &[]).await.stdout;
    let token = link.trim().rsplit_once("token=").unwrap().1.to_owned();
    let token = url::form_urlencoded::parse(format!("t={token}").as_bytes()).next().unwrap().1.into_owned();
    let body = json!({ "token": token, "new_password": "a wholly other passphrase" });
    client.post("/v1/auth/password/reset", &body).await.expect(204);
    client.login_with("ada@example.org", "a wholly other passphrase").await;

    let elsewhere = [("COUNTERSIGN_PUBLIC_URL", "https://auth.example.com")];
    let ran = folder.run(&["user", "reset", "ada@example.org"], &elsewhere).await;
    ran.assert_refused(&["COUNTERSIGN_SMTP_URL", "--link"]);
    server.stop().await;
}

#[tokio::test]
async fn sec_145_the_command_line_is_an_actor_of_the_trail() {
    let folder = Folder::new();
    run(&folder, &[], &["migrate"]).await;
    run(&folder, &[], &["user", "create", "--username", "ada"]).await;
    run(&folder, &[], &["user", "disable", "ada"]).await;
    let mut database = folder.database().await;
    let rows =
        sqlx::query_as::<_, (String, Option<String>)>("SELECT name, actor FROM audit ORDER BY at, name");
    let rows = rows.fetch_all(&mut database).await.unwrap();
    for name in ["admin_user_created", "admin_user_changed"] {
        assert!(rows.contains(&(name.to_owned(), Some("command line".to_owned()))), "{name}: {rows:?}");
    }
    assert!(rows.contains(&("user_disabled".to_owned(), None)), "{rows:?}");
}

#[tokio::test]
async fn a_text_that_names_two_users_names_none() {
    let folder = Folder::new();
    let integers = [("COUNTERSIGN_USER_IDS", "integer")];
    run(&folder, &integers, &["migrate"]).await;
    let mut database = folder.database().await;
    let number = sqlx::query("INSERT OR REPLACE INTO user_number (only_row, last_number) VALUES (1, 4710)");
    number.execute(&mut database).await.unwrap();
    let made = run(&folder, &integers, &["user", "create", "--email", "ada@example.org"]).await;
    assert_eq!(made, "4711 is a user now\n");
    run(&folder, &integers, &["user", "create", "--username", "4711"]).await;

    let refused = folder.run(&["user", "disable", "4711"], &integers).await;
    refused.assert_refused(&["4711 is the id of one user and the username of another, 4712"]);
    run(&folder, &integers, &["user", "disable", "4712"]).await;
    run(&folder, &integers, &["user", "disable", "ada@example.org"]).await;
}

#[tokio::test]
async fn mails_that_could_not_be_sent_are_listed_and_sent_again() {
    let folder = Folder::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let smtp = format!("smtp://{}?tls=none", closed.local_addr().unwrap());
    drop(closed);
    let settings = [
        ("COUNTERSIGN_SMTP_URL", smtp.as_str()),
        ("COUNTERSIGN_MAIL_FROM", "no-reply@example.org"),
        ("COUNTERSIGN_PUBLIC_URL", "http://127.0.0.1:8080"),
    ];
    run(&folder, &settings, &["migrate"]).await;
    run(&folder, &settings, &["user", "create", "--email", "ada@example.org", "--invite"]).await;
    assert_eq!(run(&folder, &[], &["mail", "list"]).await.lines().count(), 1, "it still waits");
    let mut database = folder.database().await;
    let dead = sqlx::query("UPDATE outbox SET dead_since = 1, next_at = NULL, last_error = 'no such host'");
    assert_eq!(dead.execute(&mut database).await.unwrap().rows_affected(), 1);

    let listed = run(&folder, &[], &["mail", "list", "--json"]).await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let mail = &listed["mails"][0];
    assert_eq!((&mail["to"], &mail["last_error"]), (&json!("ada@example.org"), &json!("no such host")));
    let id = mail["id"].as_str().unwrap();
    run(&folder, &[], &["mail", "retry", id]).await;
    folder.run(&["mail", "retry", id], &[]).await.assert_refused(&["mail list"]);
    assert_eq!(run(&folder, &[], &["mail", "retry", "--all"]).await.trim(), "0 mails wait to be sent again");
}

#[tokio::test]
async fn help_shows_how_to_find_a_user_reset_a_password_and_end_a_session() {
    let folder = Folder::new();
    for arguments in [&["--help"][..], &["-h"], &["user", "--help"]] {
        let help = run(&folder, &[], arguments).await;
        for command in ["user list --query ada", "user reset ada@example.com", "user end-sessions ada"] {
            assert!(help.contains(command), "{arguments:?}: {help}");
        }
    }
}
