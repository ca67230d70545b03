//! Keys of other programs, whose tokens are accepted while users move.

use countersign_jwt::key::{ImportRules, KeyError};
use countersign_jwt::{Algorithm, SigningKey, VerifyingKey};

use crate::app::TestApp;
use crate::log;

/// Shorter than HS256 asks for, as in many an old application.
const SECRET: &[u8] = b"flask-pw1";
/// A token that is signed with it: an access token of ours in everything else, without `kid`.
const TOKEN: [&str; 3] = [
    "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9",
    "eyJpc3MiOiJodHRwczovL2FwcC5leGFtcGxlLmNvbSIsInN1YiI6ImFkYSIsImlhdCI6MTc2OTg2MDgwMCwiZXhwIjoxNzY5ODYxNDAwLCJqdGkiOiIyZjFjOWEzZS01YjBkLTRjOGUtOWE1Ny0wZDFmNmYwYTdiMTEiLCJ0eXBlIjoiYWNjZXNzIiwiZnJlc2giOmZhbHNlfQ",
    "vsoyVroAPxnIrp9Ls_AVIey8B5Q1hUA_cDBG0Yma1Ys",
];

#[tokio::test]
async fn sec_018_a_short_secret_verifies_only_when_insisted_on_and_is_warned_of_at_every_start() {
    let token = TOKEN.join(".");
    let refused = VerifyingKey::hmac_with(ImportRules::strict(), Algorithm::Hs256, SECRET);
    assert_eq!(refused.unwrap_err(), KeyError::SecretTooShort { actual: 9, minimum: 32 });
    let rules = ImportRules::strict().dangerous_accept_short_secrets();
    let key = VerifyingKey::hmac_with(rules, Algorithm::Hs256, SECRET).unwrap();
    let warning = format!("key={}", key.key_id());

    let strict = TestApp::new().await;
    assert_eq!(strict.client().bearer(&token).get("/hello").await.status(), 401);
    assert!(!log::contains(&warning));
    let moving = TestApp::with(|builder| builder.also_accept(key.clone())).await;
    assert_eq!(log::count(&warning), 1);
    assert_eq!(log::count("access tokens of a dangerous key are accepted: its secret is shorter"), 1);
    let reply = moving.client().bearer(&token).get("/hello").await;
    assert_eq!(reply.status(), 200, "{reply:?}");
    // After the keys were read anew, too.
    moving.auth.sessions().keys().poll().await.unwrap();
    assert_eq!(moving.client().bearer(&token).get("/hello").await.status(), 200);
    let again = TestApp::with(|builder| builder.also_accept(key.clone())).await;
    assert_eq!(log::count(&warning), 2, "at every start");

    // It verifies access tokens and does nothing else.
    assert_eq!(again.refresh(&token).await.status(), 401);
    let published = again.auth.sessions().keys().public_keys();
    assert!(
        !published.contains(key.key_id().as_str()) && published.matches("kid").count() == 1,
        "{published}"
    );
    let own = again.register("ada").await;
    assert!(!own.access_token.starts_with(TOKEN[0]));
    assert!(matches!(
        SigningKey::hmac(Algorithm::Hs256, SECRET),
        Err(KeyError::SecretTooShort { actual: 9, minimum: 32 })
    ));
}

#[tokio::test]
async fn a_good_key_of_another_program_is_accepted_without_a_warning() {
    let other = TestApp::new().await;
    let account = other.register("ada").await;
    let random = countersign_testkit::SeededRandom::new(77);
    let key = SigningKey::generate(Algorithm::Es256, &random).unwrap().verifying_key();
    let app = TestApp::with(|builder| builder.also_accept(key.clone())).await;
    assert!(!log::contains(&format!("key={}", key.key_id())));
    // Seeded alike, both applications have the same key of their own: it is accepted as before.
    assert_eq!(app.client().bearer(&account.access_token).get("/hello").await.status(), 200);
    assert!(!app.auth.sessions().keys().public_keys().contains(key.key_id().as_str()));
}
