//! Keys: published for others, and worked on from the command line.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_core::jws;
use countersign_core::key::JwkSet;
use serde_json::{Value, json};

use crate::client::{Client, send};
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
