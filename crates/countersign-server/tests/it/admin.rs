//! The admin API: keys and scopes, accounts, sessions and the audit trail.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Client, PASSWORD, send};
use crate::engine::{Engine, Kind, on_every_engine};
use crate::server::{Folder, PATIENCE, Server, eventually};

const SCOPES: [&str; 5] = ["users:read", "users:write", "sessions:read", "sessions:write", "events:read"];

/// A client of the admin API.
#[derive(Debug)]
struct Admin {
    http: reqwest::Client,
    url: String,
    key: String,
}

impl Admin {
    /// The admin API of this server, used with this key.
    fn of(server: &Server, key: &str) -> Self {
        let log = server.log();
        let address = log.split("admin=").nth(1).expect("the log says where").split_whitespace().next();
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        Self { http, url: format!("http://{}", address.unwrap()), key: key.to_owned() }
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let mut request = self.http.request(method, format!("{}/v1/admin/{path}", self.url));
        if !self.key.is_empty() {
            request = request.bearer_auth(&self.key);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        send(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(body)).await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// The events of this name, once there are any.
    async fn events(&self, query: &str) -> Vec<Value> {
        let mut events = Vec::new();
        eventually(query, async || {
            events = self.get(&format!("events?{query}")).await.expect(200).body["events"]
                .as_array()
                .unwrap()
                .clone();
            !events.is_empty()
        })
        .await;
        events
    }
}

async fn serve(engine: &Engine) -> Server {
    engine.serve_with(&[("COUNTERSIGN_ADMIN_LISTEN", "127.0.0.1:0")]).await
}

/// A new key with these scopes.
async fn key(folder: &Folder, settings: &[(&str, &str)], scopes: &[&str]) -> String {
    let name = if scopes.len() == 1 { scopes[0] } else { "tests" };
    let mut arguments = vec!["admin-key", "create", "--name", name];
    arguments.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
    let ran = folder.run(&arguments, settings).await;
    assert!(ran.status.success() && ran.stdout.starts_with("csk_"), "{ran:?}");
    ran.stdout.trim().to_owned()
}

on_every_engine! {
    sec_082_an_operator_finds_a_user_and_ends_the_sessions
    an_operator_makes_changes_and_deletes_a_user
}

async fn sec_082_an_operator_finds_a_user_and_ends_the_sessions(engine: &Engine) {
    let server = serve(engine).await;
    let admin = Admin::of(&server, &key(&engine.folder, &engine.settings(), &SCOPES).await);
    let client = Client::new(&server);
    let first = client.register("ada@example.org").await;
    let second = client.login("ada@example.org").await;
    client.register("grace@example.org").await;

    let found = admin.get("users?query=ADA%40example.org").await.expect(200);
    let users = found.body["users"].as_array().unwrap();
    assert_eq!((users.len(), &users[0]["email"]), (1, &json!("ada@example.org")), "{found:?}");
    let id = users[0]["id"].as_str().unwrap();
    assert_eq!(found.headers["cache-control"], "no-store");

    let page = admin.get("users?limit=1").await.expect(200);
    assert_eq!(page.body["users"][0]["email"], "grace@example.org", "newest first");
    let next = page.body["next"].as_str().unwrap();
    let page = admin.get(&format!("users?limit=1&next={next}")).await.expect(200);
    assert_eq!((&page.body["users"][0]["id"], &page.body["next"]), (&json!(id), &Value::Null));

    let sessions = admin.get(&format!("users/{id}/sessions?limit=1")).await.expect(200);
    let session = sessions.body["sessions"][0]["id"].as_str().unwrap().to_owned();
    assert!(sessions.body["next"].is_string(), "{sessions:?}");
    let path = format!("users/{id}/sessions/{session}");
    admin.delete(&path).await.expect(204);
    admin.delete(&path).await.expect_error(404, "not_found");
    client.me(&second.access).await.expect_error(401, "invalid_token");
    client.me(&first.access).await.expect(200);
    admin.delete(&format!("users/{id}/sessions")).await.expect(204);
    client.me(&first.access).await.expect_error(401, "invalid_token");
    client.refresh(&first.refresh).await.expect_error(401, "invalid_token");
    let left = admin.get(&format!("users/{id}/sessions")).await.expect(200);
    assert_eq!(left.body, json!({ "sessions": [], "next": null }));

    let ended = admin.events(&format!("name=admin_session_ended&user={id}")).await;
    assert_eq!((&ended[0]["actor"], &ended[0]["session_id"]), (&json!("tests"), &json!(session)));
    assert_eq!(ended[0]["ip"], "127.0.0.1");
    let ended = admin.events(&format!("name=session_ended&user={id}")).await;
    assert_eq!(ended[0]["detail"], "ended_by_operator");
    server.stop().await;
}

async fn an_operator_makes_changes_and_deletes_a_user(engine: &Engine) {
    let server = serve(engine).await;
    let admin = Admin::of(&server, &key(&engine.folder, &engine.settings(), &SCOPES).await);
    let client = Client::new(&server);
    let account = json!({ "email": "ada@example.org", "username": "ada", "roles": ["editor", "admin"] });
    let made = admin.post("users", account.clone()).await.expect(201).body;
    assert_eq!((&made["roles"], &made["has_password"]), (&json!(["admin", "editor"]), &json!(false)));
    assert_eq!((&made["disabled_at"], &made["deleted_at"]), (&Value::Null, &Value::Null));
    admin.post("users", account).await.expect_error(409, "email_taken");
    admin.post("users", json!({})).await.expect_error(422, "invalid_fields");
    let user = format!("users/{}", made["id"].as_str().unwrap());
    assert_eq!(admin.get(&user).await.expect(200).body, made);

    client.register("grace@example.org").await;
    admin.patch(&user, json!({ "email": "grace@example.org" })).await.expect_error(409, "email_taken");
    let change =
        json!({ "email": "Ada@example.com", "username": null, "roles": [], "email_verified": false });
    let changed = admin.patch(&user, change).await.expect(200).body;
    assert_eq!((&changed["email"], &changed["username"]), (&json!("Ada@example.com"), &Value::Null));
    assert_eq!((&changed["roles"], &changed["email_verified"]), (&json!([]), &json!(false)));
    let changed = admin.patch(&user, json!({ "email_verified": true })).await.expect(200).body;
    assert_eq!(changed["email_verified"], true);
    for wrong in [json!({ "password": PASSWORD }), json!({ "roles": "admin" }), json!({ "disabled": null })] {
        let answer = admin.patch(&user, wrong).await;
        assert!(!answer.text.contains(PASSWORD), "{answer:?}");
        answer.expect_error(422, "invalid_fields");
    }

    let disabled = admin.patch(&user, json!({ "disabled": true })).await.expect(200).body;
    assert!(disabled["disabled_at"].is_string(), "{disabled}");
    let enabled = admin.patch(&user, json!({ "disabled": false })).await.expect(200).body;
    assert_eq!(enabled["disabled_at"], Value::Null);
    admin.delete(&user).await.expect(204);
    assert!(admin.get(&user).await.expect(200).body["deleted_at"].is_string());
    admin.patch(&user, json!({ "disabled": false })).await.expect_error(409, "conflict");
    admin.get("users/nobody").await.expect_error(404, "not_found");
    admin.patch("users/nobody", json!({ "disabled": true })).await.expect_error(404, "not_found");
    admin.delete("users/nobody").await.expect_error(404, "not_found");

    // Records are written in the order of the acts, so those before this one are there too.
    admin.events("name=admin_user_deleted").await;
    let events = admin.events("name=admin_user_changed").await;
    let details: Vec<_> = events.iter().map(|event| event["detail"].as_str().unwrap()).collect();
    assert_eq!(details, ["enabled", "disabled", "email verified", "email; username; no roles"]);
    assert!(events.iter().all(|event| event["actor"] == "tests"), "{events:?}");
    server.stop().await;
}

#[tokio::test]
async fn sec_144_every_route_needs_its_scope_and_no_other() {
    let Some(engine) = Engine::new(Kind::Sqlite).await else { return };
    let server = serve(&engine).await;
    let routes = [
        (Method::GET, "users", "users:read"),
        (Method::POST, "users", "users:write"),
        (Method::GET, "users/nobody", "users:read"),
        (Method::PATCH, "users/nobody", "users:write"),
        (Method::DELETE, "users/nobody", "users:write"),
        (Method::POST, "users/nobody/reset", "users:write"),
        (Method::GET, "users/nobody/sessions", "sessions:read"),
        (Method::DELETE, "users/nobody/sessions", "sessions:write"),
        (Method::DELETE, "users/nobody/sessions/6f1e4d5c-0000-4000-8000-000000000000", "sessions:write"),
        (Method::GET, "events", "events:read"),
    ];
    let mut keys = Vec::new();
    for scope in SCOPES {
        keys.push((scope, key(&engine.folder, &engine.settings(), &[scope]).await));
    }
    for (method, path, needed) in routes {
        let send = async |key: &str| Admin::of(&server, key).send(method.clone(), path, None).await;
        send("").await.expect_error(401, "missing_token");
        send("csk_nonsense").await.expect_error(401, "invalid_token");
        for (scope, key) in &keys {
            let answer = send(key).await;
            if *scope == needed {
                assert!([200, 404, 422].contains(&answer.status), "{method} {path} {scope}: {answer:?}");
                continue;
            }
            let answer = answer.expect_error(403, "insufficient_scope");
            let challenge = answer.headers["www-authenticate"].to_str().unwrap();
            assert!(challenge.contains(&format!("scope=\"{needed}\"")), "{method} {path}: {challenge}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn sec_144_the_admin_api_is_nowhere_else_and_takes_nothing_but_its_keys() {
    let folder = Folder::new();
    let server = folder
        .serve_with(&[
            ("COUNTERSIGN_ADMIN_LISTEN", "127.0.0.1:0"),
            ("COUNTERSIGN_ALLOWED_ORIGINS", "https://app.example.com"),
        ])
        .await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;
    let made = key(&folder, &[], &SCOPES).await;
    let on_the_main_one = client.request(Method::GET, "/v1/admin/users").bearer_auth(&made);
    send(on_the_main_one).await.unwrap().expect_error(404, "not_found");

    let admin = Admin::of(&server, &made);
    let answer = admin.get("users").await.expect(200);
    assert!(!answer.headers.contains_key("set-cookie"), "{answer:?}");
    let with_origin = admin.http.get(format!("{}/v1/admin/users", admin.url)).bearer_auth(&made);
    let answer = send(with_origin.header("origin", "https://app.example.com")).await.unwrap().expect(200);
    assert!(!answer.headers.contains_key("access-control-allow-origin"), "{answer:?}");
    let of_users = send(admin.http.get(format!("{}/v1/auth/me", admin.url)).bearer_auth(&pair.access)).await;
    of_users.unwrap().expect_error(404, "not_found");

    let other_id = made.replacen(|c: char| c.is_ascii_digit(), "x", 1);
    let mut other_secret = made.clone();
    other_secret.pop();
    let last = if made.ends_with('A') { 'E' } else { 'A' };
    other_secret.push(last);
    for wrong in [pair.access.as_str(), &other_id, &other_secret] {
        Admin::of(&server, wrong).get("users").await.expect_error(401, "invalid_token");
    }
    let twice = admin.http.get(format!("{}/v1/admin/users", admin.url)).bearer_auth(&made).bearer_auth(&made);
    send(twice).await.unwrap().expect_error(400, "invalid_request");
    assert!(!server.log().contains(&made[40..]), "no key is in the log");

    let listed = folder.run(&["admin-key", "list", "--json"], &[]).await;
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let id = listed["admin_keys"][0]["id"].as_str().unwrap();
    let namesake = ["admin-key", "create", "--name", "tests", "--scope", "users:read"];
    folder.run(&namesake, &[]).await.assert_refused(&["the name tests", "admin-key list"]);
    let removed = folder.run(&["admin-key", "remove", id], &[]).await;
    assert!(removed.status.success(), "{removed:?}");
    admin.get("users").await.expect_error(401, "invalid_token");
    folder.run(&["admin-key", "remove", id], &[]).await.assert_refused(&["admin-key list"]);
    server.stop().await;
}

#[tokio::test]
async fn an_expired_key_is_refused() {
    let folder = Folder::new();
    let server = folder.serve_with(&[("COUNTERSIGN_ADMIN_LISTEN", "127.0.0.1:0")]).await;
    let admin = Admin::of(&server, &key(&folder, &[], &["users:read"]).await);
    admin.get("users").await.expect(200);
    let mut database = folder.database().await;
    let past = sqlx::query("UPDATE admin_key SET expires_at = 1");
    assert_eq!(past.execute(&mut database).await.unwrap().rows_affected(), 1);
    admin.get("users").await.expect_error(401, "invalid_token");
    server.stop().await;
}

#[tokio::test]
async fn sec_154_the_admin_api_is_not_served_in_plain_http_to_other_machines() {
    let folder = Folder::new();
    let settings = [("COUNTERSIGN_LISTEN", "127.0.0.1:0"), ("COUNTERSIGN_ADMIN_LISTEN", "0.0.0.0:0")];
    let ran = folder.run(&[], &settings).await;
    ran.assert_refused(&["COUNTERSIGN_ADMIN_LISTEN", "plain http"]);
    assert!(folder.names().is_empty(), "a start that cannot succeed leaves nothing behind");
}

#[tokio::test]
async fn sec_145_no_answer_and_no_record_holds_a_secret() {
    let folder = Folder::new();
    let server = folder.serve_with(&[("COUNTERSIGN_ADMIN_LISTEN", "127.0.0.1:0")]).await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;
    client
        .try_login("ada@example.org", "canary wrong password")
        .await
        .expect_error(401, "invalid_credentials");
    client.logout(&pair.refresh).await.expect(204);
    let admin = Admin::of(&server, &key(&folder, &[], &SCOPES).await);
    admin.events("name=session_ended").await;
    let names: Vec<_> = admin.events("limit=100").await.iter().map(|event| event["name"].clone()).collect();
    for name in ["registered", "session_began", "login_failed", "session_ended", "admin_key_created"] {
        assert!(names.contains(&json!(name)), "{name}: {names:?}");
    }
    let answers = [admin.get("users").await, admin.get("events").await];
    for answer in answers {
        for secret in ["argon2", "canary", PASSWORD, &pair.refresh, &admin.key[40..]] {
            assert!(!answer.text.contains(secret), "{secret}: {answer:?}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn sec_146_what_happened_before_a_stop_is_in_the_trail() {
    let folder = Folder::new();
    let server = folder.serve().await;
    Client::new(&server).register("ada@example.org").await;
    server.stop().await;
    let mut database = folder.database().await;
    let names = sqlx::query_scalar::<_, String>("SELECT name FROM audit ORDER BY name");
    let names = names.fetch_all(&mut database).await.unwrap();
    assert_eq!(names, ["registered", "server_started", "server_stopped", "session_began"]);
}

#[tokio::test]
async fn sec_124_an_operator_mails_a_reset_and_learns_no_password() {
    let folder = Folder::new();
    let server = folder.serve_with(&[("COUNTERSIGN_ADMIN_LISTEN", "127.0.0.1:0")]).await;
    let admin = Admin::of(&server, &key(&folder, &[], &SCOPES).await);
    let made = admin.post("users", json!({ "email": "ada@example.org", "invite": true })).await.expect(201);
    let user = format!("users/{}", made.body["id"].as_str().unwrap());
    let reset = admin.send(Method::POST, &format!("{user}/reset"), None).await.expect(202);
    assert_eq!(reset.text, "");
    // Without a mail server, mails are in the log.
    eventually("both mails", async || {
        let log = server.log();
        log.contains("/invite?token=") && log.contains("/reset?token=")
    })
    .await;
    let log = server.log();
    let token = log.split("/reset?token=").nth(1).unwrap();
    let token: String =
        token.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.~".contains(*c)).collect();
    let body = json!({ "token": token, "new_password": PASSWORD });
    let client = Client::new(&server);
    client.post("/v1/auth/password/reset", &body).await.expect(204);
    client.login("ada@example.org").await;

    admin.patch(&user, json!({ "disabled": true })).await.expect(200);
    admin.send(Method::POST, &format!("{user}/reset"), None).await.expect_error(422, "invalid_fields");
    let without_address = admin.post("users", json!({ "username": "grace", "invite": true })).await;
    without_address.expect_error(422, "invalid_fields");
    let found = admin.get("users?query=grace").await.expect(200);
    assert_eq!(found.body["users"], json!([]), "nothing is made that cannot be invited");
    server.stop().await;
}

#[test]
fn the_contract_names_every_event() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let read = |path: &str| std::fs::read_to_string(format!("{root}/{path}")).unwrap();
    let contract = read("docs/api.md");
    let listed = contract.split("- The names of events: ").nth(1).unwrap().split(".\n").next().unwrap();
    let listed: BTreeSet<_> = listed.split('`').skip(1).step_by(2).collect();
    let (core, operator) = (
        read("crates/countersign-core/src/model/event.rs"),
        [
            "operator.rs",
            "command/admin_key.rs",
            "command/client.rs",
            "command/key.rs",
            "command/mail.rs",
            "audit.rs",
        ]
        .map(|path| read(&format!("crates/countersign-server/src/{path}")))
        .concat(),
    );
    let name = core.split("const fn name(").nth(1).unwrap().split("\n    }\n").next().unwrap();
    let quoted = |text: &'_ str| text.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let of_server = quoted(&operator).into_iter().filter(|name| {
        // A member of what `admin-key list --json` writes has such a name, too.
        // So have members of what `client add --json` writes.
        ["admin_", "client_", "server_"].iter().any(|begin| name.starts_with(begin))
            && !["admin_keys", "client_id", "client_secret"].contains(&name.as_str())
            && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    });
    let emitted: BTreeSet<_> = quoted(name).into_iter().chain(of_server).collect();
    assert_eq!(listed, emitted.iter().map(String::as_str).collect());
}
