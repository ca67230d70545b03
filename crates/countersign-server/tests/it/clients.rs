//! Clients of the endpoints of tokens: the command that makes them, and what libraries of other makers do with them.

use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use url::form_urlencoded;

use crate::client::{Answer, Client, claims, send};
use crate::engine::{Engine, on_every_engine};
use crate::server::{Folder, PATIENCE};

/// A client's id and secret.
#[derive(Clone, Debug)]
struct Credentials {
    id: String,
    secret: String,
}

impl Credentials {
    /// A new client of the server in this folder.
    async fn add(folder: &Folder, settings: &[(&str, &str)], arguments: &[&str]) -> Self {
        let ran = folder.run(&[&["client", "add", "--json"], arguments].concat(), settings).await;
        assert!(ran.status.success(), "{ran:?}");
        let made: Value = serde_json::from_str(&ran.stdout).unwrap();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        Self { id: text("client_id"), secret: text("client_secret") }
    }

    async fn post(&self, client: &Client, path: &str, token: &str) -> Answer {
        let request = client.request(Method::POST, path).basic_auth(&self.id, Some(&self.secret));
        let form = form_urlencoded::Serializer::new(String::new()).append_pair("token", token).finish();
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        send(request.body(form)).await.unwrap()
    }

    async fn is_active(&self, client: &Client, token: &str) -> bool {
        self.post(client, "/v1/auth/introspect", token).await.expect(200).body["active"] == true
    }
}

on_every_engine! {
    sec_105_sec_106_a_client_asks_about_tokens_and_revokes_them
}

async fn sec_105_sec_106_a_client_asks_about_tokens_and_revokes_them(engine: &Engine) {
    let server = engine.serve_with(&[]).await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;
    let (folder, settings) = (&engine.folder, engine.settings());
    let api = Credentials::add(folder, &settings, &["orders-api"]).await;
    let back = Credentials::add(
        folder,
        &settings,
        &["backoffice", "--may", "introspect,revoke", "--expires", "90d"],
    )
    .await;

    let said = api.post(&client, "/v1/auth/introspect", &pair.access).await.expect(200);
    let own = claims(&pair.access);
    assert_eq!(
        (&said.body["active"], &said.body["sub"], &said.body["sid"]),
        (&json!(true), &own["sub"], &own["sid"])
    );
    assert!(api.is_active(&client, &pair.refresh).await);
    api.post(&client, "/v1/auth/revoke", &pair.refresh).await.expect_error(400, "unauthorized_client");
    let wrong = Credentials { secret: back.secret.clone(), ..api.clone() };
    wrong.post(&client, "/v1/auth/introspect", &pair.access).await.expect_error(401, "invalid_client");

    for _ in 0..2 {
        back.post(&client, "/v1/auth/revoke", &pair.refresh).await.expect(200);
    }
    assert!(!api.is_active(&client, &pair.access).await && !api.is_active(&client, &pair.refresh).await);
    client.me(&pair.access).await.expect_error(401, "invalid_token");

    // The two kinds of keys have commands of their own, and the names of both are unique.
    let admin = ["admin-key", "create", "--name", "support", "--scope", "users:read"];
    assert!(folder.run(&admin, &settings).await.status.success());
    let twice = folder.run(&["client", "add", "support"], &settings).await;
    twice.assert_refused(&["there is an admin key with the name support", "admin-key list"]);
    let refused =
        folder.run(&["admin-key", "create", "--name", "x", "--scope", "tokens:revoke"], &settings).await;
    assert!(!refused.status.success() && refused.stderr.contains("users:read"), "{refused:?}");
    let listed = folder.run(&["client", "list", "--json"], &settings).await;
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let shown: Vec<_> =
        listed["clients"].as_array().unwrap().iter().map(|one| (&one["name"], &one["may"])).collect();
    let (orders, both) = (json!("orders-api"), json!(["introspect", "revoke"]));
    assert_eq!(shown, [(&orders, &json!(["introspect"])), (&json!("backoffice"), &both)]);
    let keys = folder.run(&["admin-key", "list"], &settings).await;
    assert!(keys.stdout.contains("support") && !keys.stdout.contains("orders-api"), "{keys:?}");
    folder.run(&["admin-key", "remove", &api.id], &settings).await.assert_refused(&["there is no admin key"]);
    assert!(folder.run(&["client", "remove", &api.id], &settings).await.status.success());
    folder.run(&["client", "remove", &api.id], &settings).await.assert_refused(&["there is no client"]);
    api.post(&client, "/v1/auth/introspect", &pair.access).await.expect_error(401, "invalid_client");

    let log = server.log();
    for secret in [&api.secret, &back.secret, &pair.access, &pair.refresh] {
        assert!(!log.contains(secret.as_str()), "{log}");
    }
    assert!(log.contains("client_revoked") && log.contains("backoffice"), "{log}");
    server.stop().await;
}

#[cfg(feature = "flask")]
#[tokio::test]
async fn under_a_profile_clients_ask_about_tokens_and_there_is_no_metadata() {
    let folder = Folder::new();
    let settings = [
        ("COUNTERSIGN_PROFILE", "flask-jwt-extended"),
        ("JWT_SECRET_KEY", "canary-Vq8Zt7_Wm4Kc9Ru6Jd3Fs0Hv2Lp5Go8Xn1Yb"),
    ];
    let server = folder.serve_with(&settings).await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;
    let back = Credentials::add(&folder, &settings, &["api", "--may", "introspect,revoke"]).await;
    let said = back.post(&client, "/v1/auth/introspect", &pair.access).await.expect(200);
    assert_eq!((&said.body["active"], &said.body["sub"]), (&json!(true), &claims(&pair.access)["sub"]));
    assert!(said.body.get("csrf").is_none() && back.is_active(&client, &pair.refresh).await);
    assert_eq!(back.post(&client, "/v1/auth/introspect", "x").await.expect(200).text, r#"{"active":false}"#);
    back.post(&client, "/v1/auth/revoke", &pair.refresh).await.expect(200);
    assert!(!back.is_active(&client, &pair.access).await && !back.is_active(&client, &pair.refresh).await);
    client.get("/.well-known/oauth-authorization-server").await.expect_error(404, "not_found");
    server.stop().await;
}

/// Also shows what a stranger's library needs of the metadata, the keys and the errors.
#[tokio::test]
async fn sec_105_to_109_openid_client_asks_revokes_and_verifies() {
    let Some(packages) = packages() else { return };
    let folder = Folder::new();
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let issuer = format!("http://127.0.0.1:{port}");
    let address = format!("127.0.0.1:{port}");
    let settings = [("COUNTERSIGN_PUBLIC_URL", &*issuer), ("COUNTERSIGN_LISTEN", &*address)];
    let server = folder.serve_with(&settings).await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;
    let back = Credentials::add(&folder, &settings, &["api", "--may", "introspect,revoke"]).await;

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients/openid-client.mjs");
    let mut node = Command::new("node");
    node.arg(script).arg(packages).args([&issuer, &back.id, &back.secret, &pair.access, &pair.refresh]);
    let ran = tokio::time::timeout(PATIENCE, node.kill_on_drop(true).output()).await.unwrap().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let seen: Value = serde_json::from_slice(&ran.stdout).unwrap();

    let (sub, inactive) = (&claims(&pair.access)["sub"], json!({ "active": false }));
    assert_eq!(seen["metadata"]["issuer"], *issuer);
    assert_eq!(seen["metadata"]["grant_types_supported"], json!([]));
    assert_eq!(seen["verified"], *sub);
    assert_eq!(seen["refreshIsNoAccess"], "ERR_JOSE_NOT_SUPPORTED", "a published set has no key for HS256");
    assert!(seen["rfc9068"].as_str().unwrap().contains("missing"), "{seen}");
    assert_eq!((&seen["access"]["active"], &seen["access"]["sub"]), (&json!(true), sub));
    assert_eq!((&seen["refresh"]["active"], &seen["refresh"]["iss"]), (&json!(true), &json!(issuer)));
    assert_eq!(seen["garbage"], inactive);
    for refused in ["wrongSecret", "wrongRevocation"] {
        assert_eq!(seen[refused], 401, "{seen}");
    }
    assert_eq!((&seen["accessAfter"], &seen["refreshAfter"]), (&inactive, &inactive));
    client.me(&pair.access).await.expect_error(401, "invalid_token");
    server.stop().await;
}

/// The folder of the packages, which `./test` fetches.
fn packages() -> Option<PathBuf> {
    let given = std::env::var_os("TEST_OPENID_CLIENT").map(PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/openid-client");
    let folder = given.unwrap_or(root);
    let is_there = folder.join("node_modules/openid-client").is_dir();
    if !is_there {
        println!("left out: openid-client (npm install --prefix target/openid-client openid-client@6.9.0)");
    }
    is_there.then_some(folder)
}
