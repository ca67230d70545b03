//! Programs that share a store: what they must agree on, and tokens of an issuer that is no longer the present one.

use std::time::Duration;

use countersign_axum::AuthBuilder;
use countersign_core::flow::{Check, Refresh};
use countersign_core::model::{Device, SessionPolicy};
use countersign_core::store::MemoryStore;
use countersign_http::BuildError;
use countersign_jwt::{
    Algorithm, Clock as _, Issuer, NewClaims, SigningKey, Timestamp, TokenId, TokenType, UserId,
};
use countersign_testkit::{SeededRandom, TestBed};
use serde_json::json;
use url::Url;

use crate::app::TestApp;
use crate::client::Client;
use crate::log;

const OLD: &str = "https://old.example";
const NEW: &str = "https://new.example";

fn at(url: &str) -> impl FnOnce(AuthBuilder) -> AuthBuilder {
    let url = Url::parse(url).unwrap();
    |builder| builder.public_url(url)
}

fn issuer(token: &str) -> String {
    let claims = countersign_jwt::claims::decode_unverified(token).unwrap();
    claims.claims()["iss"].as_str().unwrap().to_owned()
}

async fn logout(client: &mut Client, member: &str, token: &str) -> u16 {
    client.post("/v1/auth/logout", &json!({ member: token })).await.status()
}

#[tokio::test]
async fn tokens_of_the_issuer_before_are_good_until_they_expire() {
    // In no other test: the log is everybody's.
    const BEFORE: &str = "https://before.example";
    const AFTER: &str = "https://after.example";
    let before = TestApp::with(at(BEFORE)).await;
    let (ada, bob, eve) =
        (before.register("ada").await, before.register("bob").await, before.register("eve").await);
    let after = before.beside(at(AFTER)).await.unwrap();
    assert_eq!(log::count(&format!("issuer=\"{AFTER}\" before=\"{BEFORE}\"")), 1, "the log says so");
    assert_eq!(issuer(&after.login("ada").await.access_token), AFTER);

    assert_eq!(after.hello(&ada.access_token).await, 200);
    let verified = after.client().bearer(&ada.access_token).get("/v1/auth/verify").await;
    assert_eq!((verified.status(), verified.json()["iss"].as_str()), (200, Some(BEFORE)));
    let refreshed = after.refresh(&ada.refresh_token).await;
    assert_eq!(refreshed.status(), 200, "{refreshed:?}");
    assert_eq!(
        issuer(refreshed.json()["refresh_token"].as_str().unwrap()),
        AFTER,
        "with a token of the new one"
    );
    assert_eq!(after.client().bearer(&ada.refresh_token).get("/refresh-token").await.status(), 200);
    // Logging out ends them as any, by either token and also when it has expired.
    assert_eq!(logout(&mut after.client(), "access_token", &bob.access_token).await, 204);
    assert_eq!(after.hello(&bob.access_token).await, 401);
    assert_eq!(after.refresh(&bob.refresh_token).await.status(), 401);

    after.wait(15 * 60 + 10);
    after.auth.sessions().keys().poll().await.unwrap();
    assert_eq!(after.hello(&ada.access_token).await, 401, "expired");
    assert_eq!(logout(&mut after.client(), "access_token", &eve.access_token).await, 204);
    assert_eq!(after.refresh(&eve.refresh_token).await.status(), 401);
}

#[tokio::test]
async fn refresh_tokens_of_the_issuer_before_are_good_for_their_whole_life_and_also_after_another_start() {
    let before = TestApp::with(at(OLD)).await;
    let ada = before.register("ada").await;
    before.beside(at(NEW)).await.unwrap();
    before.wait(14 * 86_400 - 1);
    let after = before.beside(at(NEW)).await.unwrap();
    assert_eq!(after.refresh(&ada.refresh_token).await.status(), 200);
}

#[tokio::test]
async fn cookies_of_the_issuer_before_are_good_and_their_csrf_value_with_them() {
    let before = TestApp::with(at(OLD)).await;
    let browser = before.signed_in_browser("ada").await;
    let after = before.beside(at(NEW)).await.unwrap();
    let mut moved = after.browser();
    for (name, value) in browser.jar() {
        moved = moved.set_cookie(name, value);
    }
    assert_eq!(moved.get("/hello").await.status(), 200);
    assert_eq!(moved.post("/hello", &json!({})).await.status(), 403, "without its CSRF value");
    let mut moved = moved.csrf();
    assert_eq!(moved.post_nothing("/v1/auth/refresh").await.status(), 200);
    assert_eq!(moved.post("/hello", &json!({})).await.status(), 200, "by the new cookies");
}

#[tokio::test]
async fn a_program_that_runs_on_accepts_the_issuer_of_one_that_was_started_since() {
    let old = TestApp::with(at(OLD)).await;
    let new = old.beside(at(NEW)).await.unwrap();
    let (ada, bob) = (new.register("ada").await, new.register("bob").await);
    old.store.reset_calls();
    assert_eq!(old.refresh(&ada.refresh_token).await.status(), 200, "before anything was polled");
    assert_eq!(old.store.calls("settings"), 1, "asked once");
    assert_eq!(old.hello(&ada.access_token).await, 200);
    assert_eq!(old.client().bearer(&ada.access_token).get("/v1/auth/verify").await.status(), 200);
    assert_eq!(logout(&mut old.client(), "refresh_token", &bob.refresh_token).await, 204);
    assert_eq!(old.store.calls("settings"), 1);
    // And what the old one issues meanwhile is good at the new one.
    let eve = old.register("eve").await;
    assert_eq!(
        (new.hello(&eve.access_token).await, new.refresh(&eve.refresh_token).await.status()),
        (200, 200)
    );

    // The same for each place that looks at a token first.
    for (case, place) in [("access", 0), ("any", 1), ("logout", 2)] {
        let old = TestApp::with(at(OLD)).await;
        let new = old.beside(at(NEW)).await.unwrap();
        let ada = new.register("ada").await;
        let mut client = old.client();
        let status = match place {
            0 => old.hello(&ada.access_token).await,
            1 => old.client().bearer(&ada.refresh_token).get("/refresh-token").await.status(),
            _ => logout(&mut client, "access_token", &ada.access_token).await,
        };
        assert!(matches!(status, 200 | 204), "{case}: {status}");
    }
}

#[tokio::test]
async fn who_cannot_ask_the_store_does_not_say_that_a_refresh_token_of_a_new_issuer_is_none() {
    let old = TestApp::with(at(OLD)).await;
    let new = old.beside(at(NEW)).await.unwrap();
    let ada = new.register("ada").await;
    old.store.fail(true);
    assert_eq!(old.refresh(&ada.refresh_token).await.status(), 503);
    assert_eq!(logout(&mut old.client(), "refresh_token", &ada.refresh_token).await, 503);
    old.store.fail(false);
    assert_eq!(old.refresh(&ada.refresh_token).await.status(), 200);
}

#[tokio::test]
async fn an_issuer_stays_known_while_a_program_that_issues_with_it_runs() {
    let old = TestApp::with(at(OLD)).await;
    let new = old.beside(at(NEW)).await.unwrap();
    for _ in 0..4 {
        old.wait(10 * 86_400);
        old.auth.sessions().keys().tend_settings().await.unwrap();
        new.auth.sessions().keys().tend_settings().await.unwrap();
    }
    let known = || new.auth.sessions().keys().known_issuers();
    assert!(
        known().iter().any(|known| known.issuer == OLD && known.until > new.clock.now()),
        "{:?}",
        known()
    );
    assert!(log::contains("another program has changed the settings of this store"));
    // Then it stops, and is forgotten when its last token has expired.
    new.wait(60 * 86_400);
    let again = new.beside(at("https://newer.example")).await.unwrap();
    assert!(again.auth.sessions().keys().known_issuers().iter().all(|known| known.issuer != OLD));
}

/// A token that is one of ours in everything but its key and issuer.
fn foreign(key: &SigningKey, issuer: &str, now: Timestamp) -> String {
    let id = TokenId::new("2f1c9a3e-5b0d-4c8e-9a57-0d1f6f0a7b11".parse().unwrap());
    let expires_at = now + Duration::from_secs(600);
    let claims = NewClaims::new(TokenType::Access, UserId::new("ada").unwrap(), id, now, expires_at);
    Issuer::new(key.clone()).with_issuer(issuer).issue(&claims).unwrap()
}

#[tokio::test]
async fn sec_030_an_issuer_of_before_is_accepted_with_the_stores_own_keys_alone() {
    let random = SeededRandom::new(30);
    let key = SigningKey::generate(Algorithm::EdDsa, &random).unwrap();
    let accepted = key.verifying_key();
    let before = TestApp::with(at(OLD)).await;
    let after = before.beside(|builder| at(NEW)(builder).also_accept(accepted.clone())).await.unwrap();
    let now = after.clock.now();
    for round in ["first", "again, when it may be remembered"] {
        assert_eq!(after.hello(&foreign(&key, NEW, now)).await, 200, "{round}");
        assert_eq!(after.hello(&foreign(&key, OLD, now)).await, 401, "{round}");
        assert_eq!(after.hello(&foreign(&key, "https://other.example", now)).await, 401, "{round}");
    }
    // A key that nobody accepts does not get as far as to ask the store about its issuer.
    let stranger = SigningKey::generate(Algorithm::EdDsa, &SeededRandom::new(31)).unwrap();
    before.store.reset_calls();
    for _ in 0..100 {
        assert_eq!(before.hello(&foreign(&stranger, NEW, now)).await, 401);
    }
    assert_eq!(before.store.calls("settings"), 0);
    // Nor do many tokens of an accepted one make many questions.
    after.store.reset_calls();
    for _ in 0..100 {
        assert_eq!(after.hello(&foreign(&key, "https://other.example", now)).await, 401);
    }
    assert!(after.store.calls("settings") <= 1);
}

#[tokio::test]
async fn a_store_of_a_version_that_kept_no_record_goes_on_with_its_tokens() {
    for url in ["https://auth.example.com", "https://auth.example.com/sso/"] {
        // Its issuer is the store's id, as where no public URL is set; nothing is written about it.
        let bed = TestBed::over(MemoryStore::new()).await;
        let user = bed.register("ada").await.unwrap();
        assert_eq!(bed.stores.keys().settings().await.unwrap(), None);
        let auth = countersign_axum::Auth::builder(bed.stores.clone(), TestBed::secrets());
        let auth = auth.public_url(Url::parse(url).unwrap()).clock(bed.clock.clone()).without_background();
        let auth = auth.build().await.unwrap();
        auth.sessions().verification().verify(&user.pair.access_token, Check::ACCESS).await.unwrap();
        let refresh = auth
            .sessions()
            .verification()
            .verify(&user.pair.refresh_token, Check::REFRESH.even_if_revoked())
            .await
            .unwrap();
        Refresh::of(auth.sessions()).exchange(&refresh, true, Device::default()).await.unwrap();
        assert_eq!(auth.sessions().keys().issuer(), url.trim_end_matches('/'));
        let known = auth.sessions().keys().known_issuers();
        assert!(known.iter().any(|known| known.issuer.starts_with("urn:uuid:")));
        assert_eq!(known.iter().any(|known| known.issuer == url), url.ends_with('/'), "{known:?}");
    }
}

#[tokio::test]
async fn the_issuer_is_what_is_set_to_the_byte_and_else_the_public_url_without_a_slash_at_its_end() {
    for (url, set, expected) in [
        ("https://app.example.com", None, "https://app.example.com"),
        ("https://app.example.com/", None, "https://app.example.com"),
        ("https://app.example.com/sso", None, "https://app.example.com/sso"),
        ("https://app.example.com/sso/", None, "https://app.example.com/sso"),
        (
            "https://app.example.com/sso/",
            Some("https://app.example.com/sso/"),
            "https://app.example.com/sso/",
        ),
        ("https://app.example.com", Some("countersign"), "countersign"),
    ] {
        let app = TestApp::with(|builder| {
            let builder = at(url)(builder);
            match set {
                Some(issuer) => builder.issuer(issuer),
                None => builder,
            }
        });
        assert_eq!(issuer(&app.await.register("ada").await.access_token), expected);
    }
    for wrong in ["", "two words", "line\nbreak", "ümlaut", &"x".repeat(256)] {
        let refused = TestApp::try_with(|builder| builder.issuer(wrong)).await.unwrap_err();
        assert!(matches!(refused, BuildError::Settings(_)), "{wrong}: {refused}");
    }
}

fn with_lifetime(minutes: u64) -> impl FnOnce(AuthBuilder) -> AuthBuilder {
    let access_lifetime = Duration::from_secs(60 * minutes);
    move |builder| builder.policy(SessionPolicy { access_lifetime, ..SessionPolicy::default() })
}

#[tokio::test]
async fn a_program_with_other_lifetimes_than_its_stores_is_not_built_unless_it_is_to_change_them() {
    let app = TestApp::new().await;
    let refused = app.beside(with_lifetime(60)).await.unwrap_err();
    let text = refused.to_string();
    assert!(
        matches!(refused, BuildError::Agreement(_)) && text.contains("access_lifetime is 1h here and 15m"),
        "{text}"
    );
    app.beside(|builder| with_lifetime(60)(builder).change_settings()).await.unwrap();
    app.beside(with_lifetime(60)).await.unwrap();
    app.beside(with_lifetime(15)).await.unwrap_err();
    let follows = app.beside(|builder| with_lifetime(15)(builder).follow_settings()).await.unwrap();
    assert_eq!(follows.auth.sessions().policy().access_lifetime, Duration::from_secs(3600));
}

#[tokio::test]
async fn a_program_with_other_settings_of_its_own_is_not_built() {
    let app = TestApp::with(|builder| builder.agree_on("sessions", "redis")).await;
    let refused = app.beside(|builder| builder.agree_on("sessions", "the database")).await.unwrap_err();
    assert!(
        refused.to_string().contains("sessions is the database here and redis in the store"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_secret_that_opens_nothing_changes_no_settings() {
    let app = TestApp::new().await;
    let before = app.store.stores().keys().settings().await.unwrap();
    let secret =
        countersign_jwt::Secrets::parse("c29tZSBvdGhlciBzZWNyZXQsIHdoaWNoIG9wZW5zIG5vdGhpbmc=").unwrap();
    let builder = countersign_axum::Auth::builder(app.store.stores(), secret).change_settings();
    let refused = with_lifetime(60)(builder).without_background().build().await.unwrap_err();
    assert!(matches!(refused, BuildError::Keys(_)), "{refused}");
    assert_eq!(app.store.stores().keys().settings().await.unwrap(), before);
}
