//! Requests that were sent to a loopback address, and others.

use countersign_axum::AuthBuilder;
use serde_json::{Value, json};
use url::Url;

use crate::app::{PASSWORD, TestApp};
use crate::client::Client;

/// The public URL of a program on this machine.
pub const LOOPBACK: &str = "http://127.0.0.1:8080";

/// An application at [`LOOPBACK`], with more settings.
pub async fn app(more: impl FnOnce(AuthBuilder) -> AuthBuilder) -> TestApp {
    TestApp::with(|builder| more(builder.public_url(Url::parse(LOOPBACK).unwrap()))).await
}

/// What requests say that were sent to this machine by one of its names.
pub const HERE: [&[(&str, &str)]; 5] = [
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
pub const ELSEWHERE: [&[(&str, &str)]; 6] = [
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

/// The same client, which sends these header fields too.
pub fn with(client: &Client, fields: &[(&str, &str)]) -> Client {
    fields.iter().fold(client.clone(), |client, (name, value)| client.with(name, value))
}

/// The body of a login that asks for cookies.
pub fn login() -> Value {
    json!({ "username": "ada", "password": PASSWORD, "cookies": true })
}

/// Cookies that are not `Secure` are refreshed under loopback names alone; `csrf` is the cookie with the CSRF value.
pub async fn check_refreshes(app: &TestApp, csrf: &str) {
    app.register("ada").await;
    let mut browser = app.client();
    assert_eq!(browser.post("/v1/auth/login", &login()).await.status(), 200);
    let browser = browser.clone().with("x-csrf-token", browser.cookie(csrf));
    for fields in ELSEWHERE {
        let reply = with(&browser, fields).post_nothing("/v1/auth/refresh").await;
        // A page of another origin is refused before.
        let code = reply.code();
        assert_eq!(reply.status(), 403, "{fields:?}");
        assert!(["insecure_cookies", "cross_site"].contains(&code.as_str()), "{fields:?}: {code}");
        assert!(reply.set_cookies().is_empty(), "{fields:?}");
        assert_eq!(with(&browser, fields).get("/v1/auth/me").await.status(), 200, "{fields:?}");
    }
    for fields in HERE {
        let reply = with(&browser, fields).post_nothing("/v1/auth/refresh").await;
        assert_eq!(reply.status(), 200, "{fields:?}: {reply:?}");
    }
    let mut out = with(&browser, ELSEWHERE[0]);
    assert_eq!(out.post_nothing("/v1/auth/logout").await.status(), 204, "who wants out gets out");
}

/// Secure cookies are set under every host name.
pub async fn check_secure(app: &TestApp, host: &str) {
    let reply = app.client().with("host", host).post("/v1/auth/login", &login()).await;
    assert_eq!(reply.status(), 200, "{host}");
    let cookies = reply.set_cookies();
    assert!(
        cookies.iter().all(|cookie| cookie.attributes.contains(&"Secure".to_owned())),
        "{host}: {reply:?}"
    );
}
