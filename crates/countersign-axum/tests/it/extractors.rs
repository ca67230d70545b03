//! Extractors: what a handler takes, its requests have proven.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::routing::get;
use countersign_axum::{AccessToken, AuthLayer, CurrentUser, routes};
use countersign_jwt::UserId;
use serde_json::json;

use crate::app::{Account, TestApp};
use crate::client::{Client, payload};
use crate::log;

#[tokio::test]
async fn an_access_token_is_required_or_optional_and_never_wrong() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let subject = account.user_id.to_string();
    for (case, client, hello, maybe) in [
        ("none", app.client(), (401, "missing_token"), Some("nobody")),
        ("good", app.client().bearer(&account.access_token), (200, ""), Some(subject.as_str())),
        ("garbage", app.client().bearer("x"), (401, "invalid_token"), None),
        ("a refresh token", app.client().bearer(&account.refresh_token), (401, "invalid_token"), None),
    ] {
        let required = client.clone().get("/hello").await;
        assert_eq!(required.status(), hello.0, "{case}");
        if hello.0 == 401 {
            assert_eq!(required.code(), hello.1, "{case}");
        }
        let optional = client.clone().get("/maybe").await;
        assert_eq!(optional.status(), if maybe.is_some() { 200 } else { 401 }, "{case}");
        if let Some(maybe) = maybe {
            assert_eq!(optional.body, maybe.as_bytes(), "{case}");
        }
    }
    app.wait(910);
    assert_eq!(
        app.client().bearer(&account.access_token).get("/maybe").await.status(),
        401,
        "expired is not absent"
    );
}

#[tokio::test]
async fn a_fresh_token_is_one_from_a_login() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let refreshed = Account::of(&app.refresh(&account.refresh_token).await);
    for (token, expected) in
        [(&account.access_token, (200, "")), (&refreshed.access_token, (401, "fresh_token_required"))]
    {
        let reply = app.client().bearer(token).post_nothing("/fresh").await;
        assert_eq!(reply.status(), expected.0);
        if expected.0 == 401 {
            assert_eq!(reply.code(), expected.1);
        }
    }
    assert_eq!(app.client().post_nothing("/fresh").await.code(), "missing_token");
}

#[tokio::test]
async fn a_refresh_token_can_be_asked_for_without_exchanging_it() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let bearer = |token: &str| app.client().bearer(token);
    for _ in 0..3 {
        assert_eq!(bearer(&account.refresh_token).get("/refresh-token").await.status(), 200);
    }
    let next = Account::of(&app.refresh(&account.refresh_token).await);
    assert_eq!(payload(&next.refresh_token)["gen"], 1);
    assert_eq!(bearer(&next.refresh_token).get("/refresh-token").await.status(), 200);
    let mut browser = app.signed_in_browser("bob").await;
    assert_eq!(browser.get("/refresh-token").await.status(), 200, "from its cookie");
    assert_eq!(browser.post_nothing("/refresh-token").await.code(), "csrf_failed");
    assert_eq!(browser.csrf().post_nothing("/refresh-token").await.status(), 200);

    let logout = json!({ "refresh_token": next.refresh_token });
    assert_eq!(app.client().post("/v1/auth/logout", &logout).await.status(), 204);
    assert_eq!(
        bearer(&next.refresh_token).get("/refresh-token").await.outcome(),
        (401, "invalid_token".to_owned())
    );
}

#[tokio::test]
async fn a_refresh_token_that_would_not_be_exchanged_any_more_is_refused() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let mut current = account.clone();
    for _ in 0..2 {
        app.wait(60);
        current = Account::of(&app.refresh(&current.refresh_token).await);
    }
    app.wait(60);
    let mut old = app.client().bearer(&account.refresh_token);
    assert_eq!(old.get("/refresh-token").await.outcome(), (401, "invalid_token".to_owned()), "two steps old");
    assert_eq!(app.client().bearer(&current.refresh_token).get("/refresh-token").await.status(), 200);
    app.store.fail(true);
    let reply = app.client().bearer(&current.refresh_token).get("/refresh-token").await;
    assert_eq!(reply.outcome(), (503, "unavailable".to_owned()));
}

/// A user as an application keeps it.
struct AppUser {
    nickname: String,
}

async fn nickname(CurrentUser(user): CurrentUser<AppUser>) -> String {
    user.nickname
}

#[derive(Debug)]
struct DatabaseDown;

impl std::fmt::Display for DatabaseDown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the application's database is down")
    }
}

impl std::error::Error for DatabaseDown {}

#[tokio::test]
async fn the_current_user_is_loaded_by_the_application() {
    let (gone, failing) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (is_gone, is_failing) = (gone.clone(), failing.clone());
    let app = TestApp::with(|builder| {
        builder.user_loader(move |id: UserId| {
            let (gone, failing) = (gone.load(Ordering::Relaxed), failing.load(Ordering::Relaxed));
            async move {
                match (failing, gone) {
                    (true, _) => Err(DatabaseDown),
                    (false, true) => Ok(None),
                    (false, false) => Ok(Some(AppUser { nickname: format!("nick {}", id.as_str().len()) })),
                }
            }
        })
    })
    .await;
    let account = app.register("ada").await;
    let router = Router::new().route("/nickname", get(nickname)).layer(AuthLayer::new(app.auth.clone()));
    let client = Client::new(router);
    let mut signed_in = client.clone().bearer(&account.access_token);
    assert_eq!(signed_in.get("/nickname").await.body, "nick 36");
    assert_eq!(client.clone().get("/nickname").await.outcome(), (401, "missing_token".to_owned()));

    is_gone.store(true, Ordering::Relaxed);
    assert_eq!(signed_in.get("/nickname").await.outcome(), (401, "invalid_token".to_owned()));
    is_failing.store(true, Ordering::Relaxed);
    let reply = signed_in.get("/nickname").await;
    assert_eq!(reply.outcome(), (503, "unavailable".to_owned()));
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert!(log::contains("the application's database is down"), "the log learns the cause");
}

#[tokio::test]
async fn a_user_type_without_a_loader_is_a_500_that_says_what_to_add() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let router = Router::new().route("/nickname", get(nickname)).layer(AuthLayer::new(app.auth.clone()));
    let reply = Client::new(router).bearer(&account.access_token).get("/nickname").await;
    assert_eq!(reply.outcome(), (500, "internal_error".to_owned()));
    assert!(log::contains("add `.user_loader(…)` to the AuthBuilder"));
    assert!(!String::from_utf8_lossy(&reply.body).contains("loader"));
}

#[tokio::test]
async fn a_missing_layer_is_a_500_whose_log_line_says_what_to_add() {
    log::install();
    async fn hello(_: AccessToken) {}
    async fn maybe(_: Option<AccessToken>) {}
    let router = Router::new().route("/hello", get(hello)).route("/maybe", get(maybe)).merge(routes());
    for path in ["/hello", "/maybe", "/v1/auth/me", "/v1/auth/sessions"] {
        let reply = Client::new(router.clone()).get(path).await;
        assert_eq!(reply.outcome(), (500, "internal_error".to_owned()), "{path}");
        assert!(!String::from_utf8_lossy(&reply.body).contains("Layer"), "{path}");
    }
    assert!(log::contains(".layer(AuthLayer::new(auth))"));
}
