//! No secret is in the log, whatever happens (SEC-147).

use countersign_testapp::app::{Account, PASSWORD, TestApp, credentials};
use countersign_testapp::client::{ACCESS, CSRF, Client, REFRESH};
use countersign_testapp::log;
use serde_json::json;

#[tokio::test]
async fn sec_147_no_password_token_cookie_or_csrf_value_is_logged_at_any_level() {
    let app = TestApp::new().await;
    let mut browser = app.signed_in_browser("log-reader").await;
    let mut secrets = vec![PASSWORD.to_owned()];
    let mut remember_cookies = |browser: &Client| {
        secrets.extend([ACCESS, REFRESH, CSRF].map(|name| browser.cookie(name).to_owned()));
    };
    remember_cookies(&browser);
    browser = browser.csrf();
    assert_eq!(browser.post_nothing("/v1/auth/refresh").await.status(), 200);
    remember_cookies(&browser);
    let account = app.login("log-reader").await;
    secrets.extend([account.access_token.clone(), account.refresh_token.clone()]);
    app.refresh(&account.refresh_token).await;

    // Refusals log their causes.
    let wrong = json!({ "username": "log-reader", "password": "canary-secret wrong" });
    assert_eq!(app.client().post("/v1/auth/login", &wrong).await.status(), 401);
    assert_eq!(app.hello("canary-secret.not.a-token").await, 401);
    assert_eq!(app.hello(&account.refresh_token).await, 401);
    assert_eq!(app.refresh("canary-secret").await.status(), 401);
    assert_eq!(app.refresh(&account.access_token).await.status(), 401);
    let mut listed = app.client().with("authorization", "Bearer canary-secret, Bearer canary-secret");
    assert_eq!(listed.get("/hello").await.status(), 400);
    let unreadable = b"{\"password\": \"canary-secret".to_vec();
    let json = Some("application/json");
    assert_eq!(
        app.client().send_bytes(http::Method::POST, "/v1/auth/login", json, unreadable).await.status(),
        400
    );
    let mut forged = browser.clone().without("x-csrf-token").with("x-csrf-token", "canary-secret");
    assert_eq!(forged.post_nothing("/hello").await.status(), 403);
    assert_eq!(app.client().post("/v1/auth/register", &credentials("log-reader")).await.status(), 409);
    app.store.fail(true);
    let login = json!({ "username": "log-reader", "password": PASSWORD });
    assert_eq!(app.client().post("/v1/auth/login", &login).await.status(), 503);
    app.store.fail(false);
    // The replay of an old token is an event.
    app.wait(60);
    let next = Account::of(&app.refresh(&account.refresh_token).await);
    app.wait(60);
    app.refresh(&next.refresh_token).await;
    app.wait(60);
    app.refresh(&account.refresh_token).await;
    assert_eq!(browser.post_nothing("/v1/auth/logout").await.status(), 204);

    assert!(log::contains("was not let through"), "the log is being read at all");
    for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
        assert!(!log::contains(&secret));
    }
    assert!(!log::contains("canary-secret"));
}
