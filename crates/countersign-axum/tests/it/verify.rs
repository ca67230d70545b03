//! `GET /v1/auth/verify`: asking on behalf of another service.

use serde_json::json;

use crate::app::TestApp;
use crate::client::payload;

#[tokio::test]
async fn the_answer_is_the_claims_and_personal() {
    let app = TestApp::new().await;
    let token = app.register("ada").await.access_token;
    let reply = app.client().bearer(&token).get("/v1/auth/verify").await;
    assert_eq!((reply.status(), reply.json()), (200, payload(&token)));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("vary"), Some("Cookie, Authorization"));

    let browser = app.signed_in_browser("bob").await.csrf();
    let claims = browser.clone().get("/v1/auth/verify").await.json();
    assert!(
        claims["sub"].is_string() && claims.get("csrf").is_none(),
        "the CSRF value stays with the session"
    );
}

#[tokio::test]
async fn sec_053_it_refuses_as_a_protected_route() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    for (client, expected, challenge) in [
        (app.client(), (401, "missing_token"), "Bearer"),
        (app.client().bearer("x"), (401, "invalid_token"), "Bearer error=\"invalid_token\""),
        (
            app.client().bearer(&account.refresh_token),
            (401, "invalid_token"),
            "Bearer error=\"invalid_token\"",
        ),
        (app.client().bearer("x").bearer("x"), (400, "invalid_request"), "Bearer error=\"invalid_request\""),
    ] {
        let reply = client.clone().get("/v1/auth/verify").await;
        assert_eq!(reply.outcome(), (expected.0, expected.1.to_owned()));
        assert!(reply.header("www-authenticate").unwrap().starts_with(challenge));
    }
    assert_eq!(
        app.client().bearer(&account.access_token).post_nothing("/v1/auth/logout").await.status(),
        204
    );
    let ended = app.client().bearer(&account.access_token).get("/v1/auth/verify").await;
    assert_eq!(ended.outcome(), (401, "invalid_token".to_owned()));
}

#[tokio::test]
async fn scopes_are_asked_for_in_the_query() {
    let app = TestApp::with(|builder| {
        builder.access_claims(async |_: countersign_jwt::UserId| {
            let claims = serde_json::Map::from_iter([("scope".to_owned(), json!("read write"))]);
            Ok::<_, std::convert::Infallible>(claims)
        })
    })
    .await;
    let token = app.register("ada").await.access_token;
    for (query, expected) in [
        ("", 200),
        ("?scope=read", 200),
        ("?scope=read+write", 200),
        ("?scope=read&scope=write", 200),
        ("?scope=admin", 403),
        ("?scope=", 400),
        ("?scope=%22read%22", 400),
        ("?scope=read+%E2%80%AEnimda", 400),
        ("?scope=%1B", 400),
        ("?scopes=admin", 400),
        ("?scope=read&x=1", 400),
        ("?scope=read%20admin", 403),
        ("?scope=read&scope=admin", 403),
    ] {
        let reply = app.client().bearer(&token).get(&format!("/v1/auth/verify{query}")).await;
        assert_eq!(reply.status(), expected, "{query}");
        if expected == 403 {
            assert!(reply.header("www-authenticate").unwrap().contains("scope=\""), "{query}");
        }
    }
}

#[tokio::test]
async fn sec_067_a_cookie_that_is_asked_about_by_get_does_not_authorise_a_post() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await;
    let (forwarded, original) = ("x-forwarded-method", "x-original-method");
    for (case, fields, expected) in [
        ("nobody says what it was", &[][..], 403),
        ("GET", &[(forwarded, "GET")], 200),
        ("GET, as nginx is told", &[(original, "GET")], 200),
        ("HEAD", &[(forwarded, "HEAD")], 200),
        ("POST", &[(forwarded, "POST")], 403),
        ("DELETE, as nginx is told", &[(original, "DELETE")], 403),
        ("get is no GET", &[(forwarded, "get")], 403),
        ("not a method", &[(forwarded, "G E T")], 403),
        ("an empty one", &[(forwarded, "")], 403),
        ("both, one unsafe", &[(forwarded, "GET"), (original, "POST")], 403),
        ("both, the other unsafe", &[(forwarded, "POST"), (original, "GET")], 403),
        ("twice, one unsafe", &[(forwarded, "GET"), (forwarded, "POST")], 403),
    ] {
        let client = fields.iter().fold(browser.clone(), |client, (name, value)| client.with(name, value));
        let reply = client.clone().get("/v1/auth/verify").await;
        assert_eq!(reply.status(), expected, "{case}");
        if expected == 403 {
            assert_eq!(reply.code(), "csrf_failed", "{case}");
        }
        assert_eq!(client.csrf().get("/v1/auth/verify").await.status(), 200, "{case}: with the value");
    }
    let foreign = browser.csrf().without("sec-fetch-site").with("sec-fetch-site", "cross-site");
    assert_eq!(foreign.clone().get("/v1/auth/verify").await.code(), "cross_site");
    assert_eq!(foreign.with(forwarded, "GET").get("/v1/auth/verify").await.status(), 200, "following a link");
    let token = app.login("ada").await.access_token;
    assert_eq!(
        app.client().bearer(&token).with(forwarded, "POST").get("/v1/auth/verify").await.status(),
        200
    );
}
