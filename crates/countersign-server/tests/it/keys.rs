//! Keys: published for others, and worked on from the command line.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_core::jws;
use countersign_core::key::JwkSet;
use serde_json::{Value, json};

use crate::client::{Client, claims, send};
use crate::server::Folder;

/// A member of a token's header, unverified.
fn header(token: &str, name: &str) -> Value {
    let header = token.split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    header[name].clone()
}

#[tokio::test]
async fn sec_042_the_published_keys_are_public_and_verify_access_tokens_alone() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;
    // With credentials and without, as a browser or as a service: the same for everybody.
    let bare = client.get("/.well-known/jwks.json").await.expect(200);
    let asked = client.request(reqwest::Method::GET, "/.well-known/jwks.json").bearer_auth(&pair.access);
    assert_eq!(send(asked).await.unwrap().expect(200).text, bare.text);
    assert_eq!(bare.headers["cache-control"], "public, max-age=300");
    assert_eq!(bare.headers["content-type"], "application/jwk-set+json");
    assert!(!bare.headers.contains_key("set-cookie"));

    let keys = bare.body["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 1, "the refresh tokens' key is a secret: {keys:?}");
    let members: Vec<_> = keys[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["alg", "crv", "kid", "kty", "use", "x"]);
    assert_eq!(keys[0]["use"], "sig");
    assert_eq!(keys[0]["alg"], "EdDSA");
    assert_eq!(keys[0]["kid"], header(&pair.access, "kid"));

    let ring = JwkSet::parse(bare.text.as_bytes()).unwrap().to_ring().unwrap();
    assert!(jws::verify(&pair.access, &ring).is_ok());
    assert!(jws::verify(&pair.refresh, &ring).is_err());
    let stranger = Folder::new();
    let stranger = stranger.serve().await;
    let foreign = Client::new(&stranger).register("ada@example.org").await;
    assert!(jws::verify(&foreign.access, &ring).is_err());

    let posted = client.post("/.well-known/jwks.json", &json!({})).await;
    posted.expect_error(405, "method_not_allowed");
    server.stop().await;
    stranger.stop().await;
}

#[tokio::test]
async fn key_list_and_export_jwks_show_what_is_public() {
    let folder = Folder::new();
    folder.run(&["key", "list"], &[]).await.assert_refused(&["there is no database", "countersign.db"]);
    assert!(folder.names().is_empty(), "looking makes nothing");
    let server = folder.serve().await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;

    let listed = folder.run(&["key", "list"], &[("COUNTERSIGN_SECRET", "not needed")]).await;
    assert!(listed.status.success() && listed.stderr.is_empty(), "{listed:?}");
    let rows: Vec<Vec<_>> = listed.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["KID", "PURPOSE", "ALGORITHM", "STATE", "CREATED"]);
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[1][..4], [header(&pair.access, "kid").as_str().unwrap(), "access", "EdDSA", "active"]);
    assert_eq!(rows[2][..4], [header(&pair.refresh, "kid").as_str().unwrap(), "refresh", "HS256", "active"]);
    assert!(rows[1][4].ends_with('Z'), "{rows:?}");

    let exported = folder.run(&["key", "export-jwks"], &[]).await;
    assert!(exported.status.success(), "{exported:?}");
    let published = client.get("/.well-known/jwks.json").await.expect(200);
    assert_eq!(exported.stdout.trim_end(), published.text);
    server.stop().await;
}

#[tokio::test]
async fn sec_046_the_secret_is_changed_without_ending_a_session() {
    let folder = Folder::new();
    let secret = async || folder.run(&["key", "secret"], &[]).await.stdout.trim().to_owned();
    let (old, new, wrong) = (secret().await, secret().await, secret().await);
    let server = folder.serve_with(&[("COUNTERSIGN_SECRET", &old)]).await;
    let pair = Client::new(&server).register("ada@example.org").await;
    let before = folder.keys().await;

    let reseal = async |secret: &str| folder.run(&["key", "reseal"], &[("COUNTERSIGN_SECRET", secret)]).await;
    reseal(&format!("{new},{wrong}")).await.assert_refused(&["the secret does not open the key"]);
    assert_eq!(folder.keys().await, before, "all or nothing");

    // While the server runs.
    let resealed = reseal(&format!("{new},{old}")).await;
    assert!(resealed.status.success() && resealed.stdout.starts_with("2 keys"), "{resealed:?}");
    let after = folder.keys().await;
    assert!(before.0.iter().zip(&after.0).all(|(old, new)| old.0 == new.0 && old.1 != new.1));
    Client::new(&server).me(&pair.access).await.expect(200);
    server.stop().await;

    folder
        .run(&[], &[("COUNTERSIGN_LISTEN", "127.0.0.1:0"), ("COUNTERSIGN_SECRET", &old)])
        .await
        .assert_refused(&["secret"]);
    let server = folder.serve_with(&[("COUNTERSIGN_SECRET", &new)]).await;
    Client::new(&server).me(&pair.access).await.expect(200);
    Client::new(&server).refresh(&pair.refresh).await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn token_verify_and_inspect_say_what_the_server_would() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;
    let browser = Client::browser(&server);
    let body = json!({ "email": "grace@example.org", "password": crate::client::PASSWORD, "cookies": true });
    let answer = browser.post("/v1/auth/register", &body).await.expect(201);
    let (cookie_token, _) = answer.cookie("countersign_access").unwrap();
    let csrf = claims(&cookie_token)["csrf"].as_str().unwrap().to_owned();
    let inspect = async |token: &str| {
        let ran = folder.run(&["token", "inspect", token], &[]).await;
        assert!(ran.status.success() && ran.stderr.is_empty(), "{ran:?}");
        for segment in token.split('.') {
            assert!(!ran.stdout.contains(segment), "{ran:?}");
        }
        ran.stdout
    };

    for token in [&pair.access, &pair.refresh, &cookie_token] {
        let ran = folder.run(&["token", "verify", token], &[]).await;
        assert!(ran.status.success() && ran.stdout == "ok\n", "{ran:?}");
    }
    client.refresh(&pair.refresh).await.expect(200);
    let text = inspect(&pair.access).await;
    for (name, value) in claims(&pair.access).as_object().unwrap() {
        assert!(text.contains(&format!("  {name} (")), "{name}: {text}");
        let value = value.as_str().filter(|value| *value != csrf).unwrap_or_default();
        assert!(text.contains(value), "{name}: {text}");
    }
    assert!(text.contains("exp (expires)"), "{text}");
    assert!(text.contains(", in 14 minutes") || text.contains(", in 15 minutes"), "{text}");
    assert!(text.contains("holds, EdDSA") && text.contains("would accept it as an access token"), "{text}");
    let text = inspect(&cookie_token).await;
    assert!(text.contains("csrf (CSRF value)") && !text.contains(&csrf), "{text}");

    // Damaged, with another kind of claims, ended.
    let (signed, _) = pair.access.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", "A".repeat(86));
    let text = inspect(&forged).await;
    assert!(text.contains("not proven: signature does not hold"), "{text}");
    assert!(text.contains("would refuse it as an access token: signature does not hold"), "{text}");
    folder.run(&["token", "verify", &forged], &[]).await.assert_refused(&["signature does not hold"]);
    folder.run(&["token", "inspect", "abc"], &[]).await.assert_refused(&["not in compact form"]);
    client.logout(&pair.refresh).await.expect(204);
    for token in [&pair.access, &pair.refresh] {
        let refused = folder.run(&["token", "verify", token], &[]).await;
        refused.assert_refused(&["session was ended"]);
        assert!(!refused.stderr.contains(token.as_str()), "{refused:?}");
    }
    let text = inspect(&pair.refresh).await;
    assert!(text.contains("holds, HS256") && text.contains("would refuse it as a refresh token"), "{text}");

    // From standard input, as it was sent.
    folder.write("header", &format!("Authorization: Bearer {cookie_token}\n"));
    let mut command = folder.command(&["token", "verify"], &[]);
    command.stdin(std::fs::File::open(folder.path("header")).unwrap());
    assert_eq!(command.output().await.unwrap().stdout, b"ok\n");
    server.stop().await;
}
