//! Bodies: type, size, form.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::Method;
use http_body::Frame;
use serde_json::json;

use crate::app::{PASSWORD, TestApp, credentials};
use crate::client::payload;

const JSON: Option<&str> = Some("application/json");

#[tokio::test]
async fn sec_070_json_routes_take_nothing_but_json() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let good = json!({ "username": "ada", "password": PASSWORD, "refresh_token": account.refresh_token, "tokens": ["x"] });
    let routes = [
        (Method::POST, "/v1/auth/register"),
        (Method::POST, "/v1/auth/login"),
        (Method::POST, "/v1/auth/refresh"),
        (Method::POST, "/v1/auth/logout"),
        (Method::DELETE, "/v1/auth/revoke-tokens"),
    ];
    for (method, path) in &routes {
        for content_type in [
            None,
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
            Some("multipart/form-data; boundary=x"),
            Some("application/jsonp"),
            Some("application/json, text/plain"),
            Some("text/plain; application/json"),
            Some("é"),
            Some(""),
        ] {
            let mut client = app.client().bearer(&account.access_token);
            let body = good.to_string().into_bytes();
            let reply = client.send_bytes(method.clone(), path, content_type, body).await;
            assert_eq!(
                reply.outcome(),
                (415, "unsupported_media_type".to_owned()),
                "{path} {content_type:?}"
            );
        }
        let client = app.client().bearer(&account.access_token).with("content-type", "application/json");
        let mut client = client.with("content-type", "text/plain");
        let reply = client.send(method.clone(), path, Body::from(good.to_string())).await;
        assert_eq!(reply.status(), 415, "{path} two types");
    }
    for content_type in
        ["application/json", "Application/JSON", "application/json; charset=utf-8", "application/json;x=y"]
    {
        let body = good.to_string().into_bytes();
        let reply = app.client().send_bytes(Method::POST, "/v1/auth/login", Some(content_type), body).await;
        assert_eq!(reply.status(), 200, "{content_type}");
    }
}

#[tokio::test]
async fn a_compressed_body_is_refused_by_the_name_of_its_encoding() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    // What gzip begins with. Nobody looks further.
    let body = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03".to_vec();
    for (method, path) in [
        (Method::POST, "/v1/auth/register"),
        (Method::POST, "/v1/auth/login"),
        (Method::POST, "/v1/auth/refresh"),
        (Method::POST, "/v1/auth/logout"),
        (Method::DELETE, "/v1/auth/revoke-tokens"),
    ] {
        for (encoding, named) in
            [("gzip", "gzip"), ("br", "br"), ("deflate", "deflate"), ("made-up", "Content-Encoding")]
        {
            let client = app.client().bearer(&account.access_token);
            let mut client = client.with("content-encoding", encoding);
            let reply = client.send_bytes(method.clone(), path, JSON, body.clone()).await;
            assert_eq!(reply.outcome(), (415, "unsupported_media_type".to_owned()), "{path} {encoding}");
            assert!(reply.json()["error_description"].as_str().unwrap().contains(named), "{path} {encoding}");
            assert_eq!(reply.header("accept-encoding"), Some("identity"), "{path} {encoding}");
        }
    }
    let login = json!({ "username": "ada", "password": PASSWORD });
    let reply = app.client().with("content-encoding", "identity").post("/v1/auth/login", &login).await;
    assert_eq!(reply.status(), 200);
    let mut nothing = app.client().bearer(&account.access_token).with("content-encoding", "gzip");
    assert_eq!(nothing.post_nothing("/v1/auth/logout").await.status(), 204, "an empty body is not read");
}

#[tokio::test]
async fn an_empty_body_needs_no_type() {
    let app = TestApp::new().await;
    for content_type in [None, Some("text/plain"), JSON] {
        let mut browser =
            app.signed_in_browser(&format!("ada-{}", content_type.unwrap_or("").len())).await.csrf();
        let refresh = browser.send_bytes(Method::POST, "/v1/auth/refresh", content_type, Vec::new()).await;
        assert_eq!(refresh.status(), 200, "{content_type:?}");
        let logout = browser.send_bytes(Method::POST, "/v1/auth/logout", content_type, Vec::new()).await;
        assert_eq!(logout.status(), 204, "{content_type:?}");
    }
}

#[tokio::test]
async fn a_body_has_at_most_64_kib() {
    let app = TestApp::new().await;
    app.register("ada").await;
    let login = json!({ "username": "ada", "password": PASSWORD, "padding": "" });
    let empty = login.to_string().len();
    for (bytes, expected) in [
        (64 * 1024 - 1, (200, "")),
        (64 * 1024, (200, "")),
        (64 * 1024 + 1, (413, "too_large")),
        (1024 * 1024, (413, "too_large")),
    ] {
        let mut body = login.clone();
        body["padding"] = json!("x".repeat(bytes - empty));
        let body = body.to_string().into_bytes();
        assert_eq!(body.len(), bytes);
        let reply = app.client().send_bytes(Method::POST, "/v1/auth/login", JSON, body).await;
        assert_eq!(reply.outcome(), (expected.0, expected.1.to_owned()), "{bytes}");
    }
}

/// A body that is sent in chunks, and counts those that were read.
struct Chunks {
    left: usize,
    read: Arc<AtomicUsize>,
}

const CHUNK: usize = 64 * 1024;

impl HttpBody for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        self.read.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; CHUNK])))))
    }
}

#[tokio::test]
async fn an_oversized_body_is_read_to_its_end_up_to_2_mib_and_then_no_further() {
    let app = TestApp::new().await;
    for (chunks, expected) in [(2, 2), (31, 31), (32, 32), (33, 33), (34, 33), (10_000, 33)] {
        let read = Arc::new(AtomicUsize::new(0));
        let body = Chunks { left: chunks, read: read.clone() };
        let reply = app.client().send(Method::POST, "/v1/auth/login", Body::new(body)).await;
        assert_eq!(reply.outcome(), (413, "too_large".to_owned()), "{chunks}");
        assert_eq!(read.load(Ordering::Relaxed), expected, "{chunks}");
    }
    assert_eq!(app.store.total_calls(), 0);
}

/// A body whose connection breaks.
struct Broken;

impl HttpBody for Broken {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())))
    }
}

#[tokio::test]
async fn a_body_that_ends_early_is_an_invalid_request() {
    let app = TestApp::new().await;
    let reply = app.client().send(Method::POST, "/v1/auth/login", Body::new(Broken)).await;
    assert_eq!(reply.outcome(), (400, "invalid_request".to_owned()));
}

#[tokio::test]
async fn json_is_malformed_or_its_members_are_wrong() {
    let app = TestApp::new().await;
    let deep = "[".repeat(60_000);
    for (body, expected) in [
        ("{", (400, "invalid_request")),
        ("{\"email\":\"a@b.c\"} x", (400, "invalid_request")),
        ("\u{feff}{}", (400, "invalid_request")),
        ("{\"email\":\"\\ud800\"}", (400, "invalid_request")),
        ("{'email':'x'}", (400, "invalid_request")),
        (" ", (400, "invalid_request")),
        (&deep, (400, "invalid_request")),
        ("[]", (422, "invalid_fields")),
        ("null", (422, "invalid_fields")),
        ("\"email\"", (422, "invalid_fields")),
        ("{}", (422, "invalid_fields")),
    ] {
        let reply = app.client().send_bytes(Method::POST, "/v1/auth/login", JSON, body.into()).await;
        assert_eq!(reply.outcome(), (expected.0, expected.1.to_owned()), "{body:.40}");
        assert_eq!(reply.json()["fields"].is_object(), expected.0 == 422, "{body:.40}");
    }
    let not_utf8 = b"{\"email\":\"\xff\"}".to_vec();
    let reply = app.client().send_bytes(Method::POST, "/v1/auth/login", JSON, not_utf8).await;
    assert_eq!(reply.status(), 400);
}

#[tokio::test]
async fn sec_135_unknown_members_are_ignored_and_set_nothing() {
    let app = TestApp::new().await;
    let mut body = credentials("ada");
    for (name, value) in [
        ("id", json!("00000000-0000-4000-8000-000000000000")),
        ("role", json!("admin")),
        ("roles", json!(["admin"])),
        ("is_admin", json!(true)),
        ("verified", json!(true)),
        ("email_verified", json!(true)),
        ("disabled", json!(true)),
        ("disabled_at", json!("2020-01-01T00:00:00Z")),
        ("created_at", json!("2020-01-01T00:00:00Z")),
        ("password_hash", json!("$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$xxxx")),
        ("epoch", json!(7)),
        ("fresh", json!(true)),
        ("scope", json!("admin")),
    ] {
        body[name] = value;
    }
    let reply = app.client().post("/v1/auth/register", &body).await;
    assert_eq!(reply.status(), 201);
    let user = &reply.json()["user"];
    assert_ne!(user["id"], body["id"]);
    assert_eq!(user["created_at"], "2026-01-31T12:00:00Z");
    assert_eq!(user.as_object().unwrap().len(), 7);
    assert_eq!((&user["roles"], &user["email_verified"]), (&json!([]), &json!(false)));
    let claims = payload(reply.json()["access_token"].as_str().unwrap());
    let mut names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["epoch", "exp", "fresh", "gen", "iat", "iss", "jti", "sid", "sub", "type"]);
    assert_eq!(claims["epoch"], 0);
    let id = user["id"].as_str().unwrap().parse().unwrap();
    let stored = app.auth.accounts().enabled_user(&id).await.unwrap().expect("enabled");
    assert!(stored.password_hash.unwrap().expose().starts_with("$argon2id$v=19$m=19456,"));
}
