//! A program on a loopback address, whose cookies are not `Secure`, under another name (SEC-221).

use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Json, Router};
use countersign_axum::{AuthBuilder, AuthLayer, Reply, SignIn};
use countersign_core::flow::LoginName;
use countersign_core::model::Password;
use countersign_http::profile::FlaskJwtExtended;
use countersign_http::profile::flask_jwt_extended::FlaskJwtExtendedConfig;
use serde_json::{Value, json};
use url::Url;

use crate::app::{PASSWORD, TestApp, credentials};
use crate::client::Client;
use crate::log;
use crate::profiles::SECRET;

const LOOPBACK: &str = "http://127.0.0.1:8080";

async fn app(more: impl FnOnce(AuthBuilder) -> AuthBuilder) -> TestApp {
    TestApp::with(|builder| more(builder.public_url(Url::parse(LOOPBACK).unwrap()))).await
}

fn flask(secure: bool) -> FlaskJwtExtendedConfig {
    let options = json!({
        "JWT_SECRET_KEY": SECRET,
        "JWT_TOKEN_LOCATION": ["headers", "cookies"],
        "JWT_COOKIE_SECURE": secure,
    });
    FlaskJwtExtendedConfig::from_options(options.as_object().cloned().unwrap()).unwrap()
}

/// What requests say that were sent to this machine by one of its names.
const HERE: [&[(&str, &str)]; 5] = [
    &[("host", "127.0.0.1:8080")],
    &[("host", "localhost:8080"), ("origin", "http://127.0.0.1:8080"), ("sec-fetch-site", "same-origin")],
    &[("host", "[::1]:8080")],
    &[
        ("host", "127.0.0.1:8080"),
        ("x-forwarded-host", "localhost:5173"),
        ("origin", "http://127.0.0.1:8080"),
    ],
    // HTTP/1.0.
    &[],
];

/// What they say that were not: behind a proxy, and by a name that somebody has pointed here.
const ELSEWHERE: [&[(&str, &str)]; 6] = [
    &[("host", "auth.example.com")],
    &[
        ("host", "auth.example.com"),
        ("origin", "https://auth.example.com"),
        ("sec-fetch-site", "same-origin"),
    ],
    &[("host", "127.0.0.1:8080"), ("x-forwarded-host", "auth.example.com")],
    &[("host", "127.0.0.1:8080"), ("forwarded", "proto=https;host=auth.example.com")],
    &[("host", "127.0.0.1:8080"), ("origin", "https://auth.example.com"), ("sec-fetch-site", "same-origin")],
    &[("host", "rebound.evil.example:8080"), ("sec-fetch-site", "same-origin")],
];

fn with(client: &Client, fields: &[(&str, &str)]) -> Client {
    fields.iter().fold(client.clone(), |client, (name, value)| client.with(name, value))
}

fn login() -> Value {
    json!({ "username": "ada", "password": PASSWORD, "cookies": true })
}

#[tokio::test]
async fn sec_221_cookies_without_secure_are_set_under_loopback_names_alone() {
    let app = app(|builder| builder).await;
    let account = app.register("ada").await;
    let router = Router::new().route("/sign-in", post(sign_in)).layer(AuthLayer::new(app.auth.clone()));
    let own = Client::new(router);
    for fields in HERE {
        for (client, path) in [(app.client(), "/v1/auth/login"), (own.clone(), "/sign-in")] {
            let reply = with(&client, fields).post(path, &login()).await;
            assert_eq!((reply.status(), reply.set_cookies().len()), (200, 3), "{path} {fields:?}");
        }
    }
    let (hashes, sessions) = (app.hashes(), app.live_sessions(&account.user_id).await);
    for fields in ELSEWHERE {
        let mut register = credentials("eve");
        register["cookies"] = json!(true);
        for (client, path, body) in [
            (app.client(), "/v1/auth/login", login()),
            (app.client(), "/v1/auth/register", register),
            (own.clone(), "/sign-in", login()),
        ] {
            let reply = with(&client, fields).post(path, &body).await;
            assert_eq!(reply.outcome(), (403, "insecure_cookies".to_owned()), "{path} {fields:?}");
            assert!(reply.set_cookies().is_empty(), "{path} {fields:?}");
        }
    }
    assert_eq!(app.hashes(), hashes, "no password was looked at");
    assert_eq!(app.live_sessions(&account.user_id).await, sessions, "no session began or ended");
    assert!(log::contains("set COUNTERSIGN_PUBLIC_URL"));
}

async fn sign_in(
    SignIn { auth, arrival, .. }: SignIn,
    Json(_): Json<Value>,
) -> Result<impl IntoResponse, Reply> {
    let password = Password::new_for_login(PASSWORD.to_owned())?;
    let signed_in = auth.accounts().login(LoginName::parse("ada"), password, arrival).await?;
    Ok((auth.set_cookies(&signed_in.pair), "in"))
}

#[tokio::test]
async fn sec_221_cookies_without_secure_are_refreshed_under_loopback_names_alone() {
    for profile in [false, true] {
        let app =
            app(
                |builder| {
                    if profile { builder.profile(FlaskJwtExtended::builder(flask(false))) } else { builder }
                },
            )
            .await;
        app.register("ada").await;
        let mut browser = app.client();
        assert_eq!(browser.post("/v1/auth/login", &login()).await.status(), 200);
        let csrf = if profile { "csrf_refresh_token" } else { "countersign_csrf" };
        let browser = browser.clone().with("x-csrf-token", browser.cookie(csrf));
        for fields in ELSEWHERE {
            let reply = with(&browser, fields).post_nothing("/v1/auth/refresh").await;
            // A page of another origin is refused before.
            let code = reply.code();
            assert_eq!(reply.status(), 403, "{profile} {fields:?}");
            assert!(
                ["insecure_cookies", "cross_site"].contains(&code.as_str()),
                "{profile} {fields:?}: {code}"
            );
            assert!(reply.set_cookies().is_empty(), "{profile} {fields:?}");
            assert_eq!(with(&browser, fields).get("/v1/auth/me").await.status(), 200, "{profile} {fields:?}");
        }
        for fields in HERE {
            let reply = with(&browser, fields).post_nothing("/v1/auth/refresh").await;
            assert_eq!(reply.status(), 200, "{profile} {fields:?}: {reply:?}");
        }
        let mut out = with(&browser, ELSEWHERE[0]);
        assert_eq!(out.post_nothing("/v1/auth/logout").await.status(), 204, "who wants out gets out");
    }
}

#[tokio::test]
async fn tokens_in_the_body_are_for_every_host_name() {
    let app = app(|builder| builder).await;
    app.register("ada").await;
    for fields in ELSEWHERE {
        let body = json!({ "username": "ada", "password": PASSWORD });
        let reply = with(&app.client(), fields).post("/v1/auth/login", &body).await;
        assert_eq!(reply.status(), 200, "{fields:?}");
        let refresh = json!({ "refresh_token": reply.json()["refresh_token"] });
        let reply = with(&app.client(), fields).post("/v1/auth/refresh", &refresh).await;
        assert_eq!(reply.status(), 200, "{fields:?}");
    }
}

#[tokio::test]
async fn secure_cookies_are_set_under_every_host_name() {
    let own = TestApp::new().await;
    own.register("ada").await;
    let secure = app(|builder| builder.profile(FlaskJwtExtended::builder(flask(true)))).await;
    secure.register("ada").await;
    for (app, host) in [(&own, "app.example.com"), (&own, "10.0.0.1:8080"), (&secure, "auth.example.com")] {
        let reply = app.client().with("host", host).post("/v1/auth/login", &login()).await;
        assert_eq!(reply.status(), 200, "{host}");
        let cookies = reply.set_cookies();
        assert!(
            cookies.iter().all(|cookie| cookie.attributes.contains(&"Secure".to_owned())),
            "{host}: {reply:?}"
        );
    }
}
