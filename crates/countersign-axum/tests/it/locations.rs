//! Tokens in the query string and in JSON bodies.

use axum::Router;
use axum::extract::{FromRequestParts as _, Request};
use axum::routing::{get, post};
use countersign_axum::{AccessToken, AuthBuilder, AuthLayer, Guard, Location, RefreshToken, Requirement};
use http::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::client::{ACCESS, Client};
use crate::log;

const ALL: [Location; 4] = [Location::Header, Location::Cookie, Location::Query, Location::Body];

async fn everywhere() -> TestApp {
    TestApp::with(|builder| builder.locations(ALL)).await
}

/// A route that answers with the URI it sees, and one that answers with its body.
fn mirrors(app: &TestApp) -> Client {
    let router = Router::new()
        .route("/uri", get(async |_: AccessToken, request: Request| request.uri().to_string()))
        .route(
            "/body",
            post(async |_: AccessToken, body: String| body)
                .put(async |_: AccessToken, body: String| body)
                .patch(async |_: AccessToken, body: String| body)
                .delete(async |_: AccessToken, body: String| body)
                .get(async |_: AccessToken, body: String| body),
        )
        .route("/open", post(async |body: String| body.len().to_string()))
        .route("/refresh-token", post(async |_: RefreshToken| "in"))
        .layer(AuthLayer::new(app.auth.clone()));
    Client::new(router)
}

#[tokio::test]
async fn sec_051_sec_195_a_token_in_the_query_leaves_no_trace() {
    let app = everywhere().await;
    let token = app.register("ada").await.access_token;
    let client = mirrors(&app);
    let reply = client.clone().get(&format!("/uri?a=1&access_token={token}&b=x%20y")).await;
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.body, "/uri?a=1&access_token=redacted&b=x+y", "nobody behind the layer sees it");
    assert_eq!(reply.header("cache-control"), Some("private, no-store"));
    assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
    for path in ["/uri", "/uri?a=1", "/uri?Access_token=x", "/uri?access_token"] {
        let reply = client.clone().bearer(&token).get(path).await;
        assert_eq!(reply.status(), 200, "{path}");
        let has_it = path.ends_with("?access_token");
        assert_eq!(reply.header("referrer-policy").is_some(), has_it, "{path}");
    }
    // The log of this process panics on anything that begins as tokens do, so a canary is one of those (log.rs).
    let canary = "eyJcanary-secret";
    let reply = client.clone().get(&format!("/uri?access_token={canary}")).await;
    assert_eq!(reply.outcome(), (401, "invalid_token".to_owned()));
    assert_eq!(reply.header("referrer-policy"), Some("no-referrer"), "refusals too");
    assert!(!String::from_utf8_lossy(&reply.body).contains(canary));
    assert!(!log::contains(canary));
    let not_found = client.clone().get(&format!("/nowhere?access_token={canary}")).await;
    assert_eq!((not_found.status(), not_found.header("cache-control")), (404, Some("private, no-store")));
}

#[tokio::test]
async fn a_token_in_a_compressed_body_is_refused_by_the_name_of_its_encoding() {
    let app = everywhere().await;
    let token = app.register("ada").await.access_token;
    let client = mirrors(&app).with("content-encoding", "gzip");
    let compressed = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03".to_vec();
    let send = async |client: &Client, content_type: &str| {
        client.clone().send_bytes(Method::POST, "/body", Some(content_type), compressed.clone()).await
    };
    let reply = send(&client, "application/json").await;
    assert_eq!(reply.outcome(), (415, "unsupported_media_type".to_owned()));
    assert!(reply.json()["error_description"].as_str().unwrap().contains("gzip"), "{reply:?}");
    // A token elsewhere decides, and what the handler does with the body is its own business.
    let bearer = client.clone().bearer(&token);
    assert_ne!(send(&bearer, "application/json").await.status(), 415);
    assert_eq!(send(&client, "text/plain").await.outcome(), (401, "missing_token".to_owned()));

    // A form, in which the CSRF value may be.
    let browser = app.signed_in_browser("bob").await;
    let jar = browser.jar().iter();
    let client = jar.fold(client, |client, (name, value)| client.set_cookie(name, value));
    let reply = send(&client, "application/x-www-form-urlencoded").await;
    assert_eq!(reply.outcome(), (415, "unsupported_media_type".to_owned()), "{reply:?}");
    let proven = client.with("x-csrf-token", browser.cookie(crate::client::CSRF));
    assert_ne!(send(&proven, "application/x-www-form-urlencoded").await.status(), 403);
}

#[tokio::test]
async fn sec_051_a_refresh_token_is_never_taken_from_the_query() {
    let app = everywhere().await;
    let account = app.register("ada").await;
    let router = Router::new()
        .route("/any", get(async || "in"))
        .route_layer(Guard::new(Requirement::ANY))
        .layer(AuthLayer::new(app.auth.clone()));
    let client = Client::new(router);
    for (token, expected) in [(&account.access_token, 200), (&account.refresh_token, 401)] {
        assert_eq!(client.clone().get(&format!("/any?access_token={token}")).await.status(), expected);
        assert_eq!(client.clone().bearer(token).get("/any").await.status(), 200, "elsewhere either will do");
    }
}

#[tokio::test]
async fn a_second_layer_around_a_route_takes_nothing_away() {
    let app = everywhere().await;
    let token = app.register("ada").await.access_token;
    let router = Router::new()
        .route("/uri", get(async |_: AccessToken, request: Request| request.uri().to_string()))
        .layer(AuthLayer::new(app.auth.clone()))
        .layer(AuthLayer::new(app.auth.clone()));
    let reply = Client::new(router).get(&format!("/uri?access_token={token}")).await;
    assert_eq!((reply.status(), &reply.body[..]), (200, &b"/uri?access_token=redacted"[..]));
}

/// Middleware that looks at a copy of the head, as some do, and then lets the request go on.
#[tokio::test]
async fn a_body_that_was_read_ahead_for_a_copy_of_the_head_is_whole_for_everybody() {
    let app = everywhere().await;
    let token = app.register("ada").await.access_token;
    let peek = axum::middleware::from_fn(async |request: Request, next: axum::middleware::Next| {
        let (parts, body) = request.into_parts();
        let seen = AccessToken::from_request_parts(&mut parts.clone(), &()).await;
        assert!(seen.is_ok());
        next.run(Request::from_parts(parts, body)).await
    });
    let router = Router::new()
        .route("/body", post(async |_: AccessToken, body: String| body))
        .layer(peek)
        .layer(AuthLayer::new(app.auth.clone()));
    let body = json!({ "access_token": token, "more": "x".repeat(10_000) });
    let reply = Client::new(router).send_json(Method::POST, "/body", &body).await;
    assert_eq!(reply.status(), 200, "{reply:?}");
    assert_eq!(reply.json(), body);
}

#[tokio::test]
async fn sec_051_a_repeated_parameter_is_400() {
    let app = everywhere().await;
    let token = app.register("ada").await.access_token;
    for query in [
        format!("access_token={token}&access_token={token}"),
        format!("access_token={token}&access_token="),
        format!("access_token=&a=b&access%5Ftoken={token}"),
    ] {
        let reply = mirrors(&app).get(&format!("/uri?{query}")).await;
        assert_eq!(reply.outcome(), (400, "invalid_request".to_owned()));
        let with_header = mirrors(&app).bearer(&token).get(&format!("/uri?{query}")).await;
        assert_eq!(with_header.status(), 400, "whatever the header says");
    }
}

#[tokio::test]
async fn sec_051_the_parameter_has_the_name_that_was_configured() {
    let app = TestApp::with(|builder| builder.locations([Location::Query]).query_parameter("ticket")).await;
    let token = app.register("ada").await.access_token;
    for (query, expected) in [("ticket", 200), ("access_token", 401), ("tickets", 401)] {
        assert_eq!(app.client().get(&format!("/hello?{query}={token}")).await.status(), expected, "{query}");
    }
    assert_eq!(app.hello(&token).await, 401, "the header is not among the places");
}

#[tokio::test]
async fn sec_050_sec_189_a_token_elsewhere_does_not_lend_its_freedom_to_the_cookie() {
    let app = everywhere().await;
    let browser = app.signed_in_browser("ada").await;
    let other = app.register("bob").await.access_token;
    for (case, path, expected) in [
        ("junk in the query", "/hello?access_token=junk".to_owned(), (403, "csrf_failed")),
        ("a good token in the query", format!("/hello?access_token={other}"), (403, "csrf_failed")),
        ("nothing in the query", "/hello?access_token=".to_owned(), (403, "csrf_failed")),
    ] {
        let reply = browser.clone().post_nothing(&path).await;
        assert_eq!(reply.outcome(), (expected.0, expected.1.to_owned()), "{case}: the cookie comes first");
    }
    for body in [json!({ "access_token": "junk" }), json!({ "access_token": other })] {
        let reply = browser.clone().send_json(Method::POST, "/hello", &body).await;
        assert_eq!(reply.outcome(), (403, "csrf_failed".to_owned()), "{body}");
    }
    let junk = browser.clone().with("authorization", "Bearer x").post_nothing("/hello").await;
    assert_eq!(junk.outcome(), (401, "invalid_token".to_owned()), "junk that decides is refused as junk");
}

#[tokio::test]
async fn sec_052_a_token_in_a_json_body() {
    let app = everywhere().await;
    let account = app.register("ada").await;
    let token = account.access_token;
    let client = mirrors(&app);
    let body = |value: Value| value.to_string().into_bytes();
    let good = body(json!({ "access_token": token, "more": [1, 2] }));
    let json_type = Some("application/json");
    for (case, method, content_type, body, expected) in [
        ("POST", Method::POST, json_type, good.clone(), 200),
        ("PUT", Method::PUT, json_type, good.clone(), 200),
        ("PATCH", Method::PATCH, json_type, good.clone(), 200),
        ("with a charset", Method::POST, Some("Application/JSON; charset=utf-8"), good.clone(), 200),
        ("GET", Method::GET, json_type, good.clone(), 401),
        ("DELETE", Method::DELETE, json_type, good.clone(), 401),
        ("no type", Method::POST, None, good.clone(), 401),
        ("text", Method::POST, Some("text/plain"), good.clone(), 401),
        ("a form", Method::POST, Some("application/x-www-form-urlencoded"), good.clone(), 401),
        ("a likeness", Method::POST, Some("application/jsonp"), good.clone(), 401),
        ("a number", Method::POST, json_type, body(json!({ "access_token": 1 })), 401),
        ("null", Method::POST, json_type, body(json!({ "access_token": null })), 401),
        ("empty", Method::POST, json_type, body(json!({ "access_token": "" })), 401),
        ("nested", Method::POST, json_type, body(json!({ "a": { "access_token": token } })), 401),
        ("a list", Method::POST, json_type, body(json!([{ "access_token": token }])), 401),
        ("a text", Method::POST, json_type, body(json!(token)), 401),
        ("malformed", Method::POST, json_type, good[..good.len() - 1].to_vec(), 401),
        ("nothing", Method::POST, json_type, Vec::new(), 401),
    ] {
        let reply = client.clone().send_bytes(method, "/body", content_type, body.clone()).await;
        assert_eq!(reply.status(), expected, "{case}");
        if expected == 200 {
            assert_eq!(reply.body, body, "{case}: the handler has the whole body");
        } else {
            assert_eq!(reply.code(), "missing_token", "{case}");
        }
    }
    let refresh = json!({ "refresh_token": account.refresh_token });
    let reply = client.clone().post("/refresh-token", &refresh).await;
    assert_eq!(reply.status(), 401, "refresh tokens have places of their own");
}

#[tokio::test]
async fn sec_052_a_body_is_read_up_to_64_kib_and_given_back_whole() {
    let app = everywhere().await;
    let token = app.register("ada").await.access_token;
    let client = mirrors(&app);
    let of_length = |length: usize| {
        let frame = json!({ "access_token": token, "pad": "" }).to_string().len();
        json!({ "access_token": token, "pad": "x".repeat(length - frame) }).to_string().into_bytes()
    };
    let json_type = Some("application/json");
    for (length, expected) in [(64 * 1024, 200), (64 * 1024 + 1, 401)] {
        let reply = client.clone().send_bytes(Method::POST, "/body", json_type, of_length(length)).await;
        assert_eq!(reply.status(), expected, "{length}");
    }
    // A body that is too long for a token may still be what the route wants.
    let long = of_length(300 * 1024);
    for path in ["/open", "/body"] {
        let bearer = client.clone().bearer(&token);
        let reply = bearer.clone().send_bytes(Method::POST, path, json_type, long.clone()).await;
        assert_eq!(reply.status(), 200, "{path}");
        let length = if path == "/open" { reply.body.clone() } else { reply.body.len().to_string().into() };
        assert_eq!(length, long.len().to_string(), "{path}");
    }
}

#[tokio::test]
async fn a_refresh_token_in_any_json_body_if_configured() {
    let configure = |builder: AuthBuilder| builder.refresh_locations([Location::Body, Location::Header]);
    let app = TestApp::with(configure).await;
    let account = app.register("ada").await;
    let body = json!({ "refresh_token": account.refresh_token });
    assert_eq!(mirrors(&app).post("/refresh-token", &body).await.status(), 200);
    let access = json!({ "refresh_token": account.access_token });
    assert_eq!(mirrors(&app).post("/refresh-token", &access).await.status(), 401);
    assert_eq!(app.refresh(&account.refresh_token).await.status(), 200);
}

#[tokio::test]
async fn sec_049_strict_mode_refuses_two_different_tokens_wherever_they_are() {
    let app = TestApp::with(|builder| builder.locations(ALL).refuse_several_tokens()).await;
    let browser = app.signed_in_browser("ada").await;
    let cookie = browser.cookie(ACCESS).to_owned();
    let other = app.register("bob").await.access_token;
    for (case, client, path, expected) in [
        ("the same twice", app.client().bearer(&other), format!("/hello?access_token={other}"), 200),
        ("header and query", app.client().bearer(&other), format!("/hello?access_token={cookie}"), 400),
        ("cookie and query", browser.clone(), format!("/hello?access_token={other}"), 400),
        ("header and cookie", browser.clone().bearer(&other), "/hello".to_owned(), 400),
        ("one", browser.clone(), "/hello".to_owned(), 200),
    ] {
        assert_eq!(client.clone().get(&path).await.status(), expected, "{case}");
    }
    let body = json!({ "access_token": cookie });
    assert_eq!(app.client().bearer(&other).post("/hello", &body).await.code(), "invalid_request");
}
