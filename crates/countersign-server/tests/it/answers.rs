//! What every answer has, and what no error tells.

use reqwest::Method;
use serde_json::json;

use crate::client::{Answer, Client, PASSWORD, send};
use crate::server::{Folder, Server};

/// No error tells of these.
fn assert_generic(answer: &Answer, server: &Server) {
    let log = server.log_path().display().to_string();
    let folder = log.rsplit_once('/').unwrap().0;
    let headers = format!("{:?}", answer.headers);
    for inside in [
        folder,
        "countersign.db",
        "SELECT",
        "INSERT",
        "UPDATE",
        "sqlite",
        "SQLITE",
        "sqlx",
        ".rs",
        "panicked",
        "stack",
        env!("CARGO_PKG_VERSION"),
    ] {
        assert!(!answer.text.contains(inside), "{inside}: {answer:?}");
        assert!(!headers.contains(inside), "{inside}: {answer:?}");
    }
    assert!(!answer.headers.contains_key("server"), "{answer:?}");
}

#[tokio::test]
async fn sec_149_errors_are_json_with_a_request_id_and_tell_nothing_of_the_inside() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    client.register("ada@example.org").await;
    let request = |method, path: &str| client.request(method, path);
    let login = |body: &str| {
        request(Method::POST, "/v1/auth/login")
            .header("content-type", "application/json")
            .body(body.to_owned())
    };
    let wrong = json!({ "email": "ada@example.org", "password": "not the password" }).to_string();
    for (request, status, code) in [
        (request(Method::GET, "/v1/auth/nowhere"), 404, "not_found"),
        (request(Method::GET, "/%00%ff/%2e%2e%2fetc"), 404, "not_found"),
        (request(Method::DELETE, "/nowhere").bearer_auth("x.y.z"), 404, "not_found"),
        (request(Method::GET, "/v1/auth/login"), 405, "method_not_allowed"),
        (request(Method::POST, "/healthz"), 405, "method_not_allowed"),
        (request(Method::POST, "/"), 405, "method_not_allowed"),
        (request(Method::TRACE, "/v1/auth/me"), 405, "method_not_allowed"),
        (request(Method::GET, "/v1/auth/me"), 401, "missing_token"),
        (request(Method::GET, "/v1/auth/me").bearer_auth("garbage"), 401, "invalid_token"),
        (
            request(Method::GET, "/v1/auth/me").bearer_auth("x.y.z").bearer_auth("x.y.z"),
            400,
            "invalid_request",
        ),
        (request(Method::DELETE, "/v1/auth/sessions/x"), 401, "missing_token"),
        (request(Method::POST, "/v1/auth/refresh"), 401, "missing_token"),
        (request(Method::POST, "/v1/auth/logout"), 401, "missing_token"),
        (login("{\"email\":"), 400, "invalid_request"),
        (login("[]"), 422, "invalid_fields"),
        (login("{}"), 422, "invalid_fields"),
        (login(&wrong), 401, "invalid_credentials"),
        (login(&format!("\"{}\"", "x".repeat(64 * 1024))), 413, "too_large"),
        (login("{}").header("content-type", "text/plain"), 415, "unsupported_media_type"),
        (request(Method::POST, "/v1/auth/login").body("email=x"), 415, "unsupported_media_type"),
        (
            request(Method::POST, "/v1/auth/register")
                .json(&json!({ "email": "ada@example.org", "password": PASSWORD })),
            409,
            "email_taken",
        ),
        (
            request(Method::POST, "/v1/auth/register")
                .json(&json!({ "email": "no address", "password": "short" })),
            422,
            "invalid_fields",
        ),
    ] {
        let answer = send(request).await.unwrap().expect_error(status, code);
        assert_generic(&answer, &server);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_method_is_answered_with_those_that_are_right() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    for (method, path, allowed) in [
        (Method::GET, "/v1/auth/login", "POST"),
        (Method::PUT, "/v1/auth/sessions", "DELETE"),
        (Method::POST, "/healthz", "GET"),
    ] {
        let answer =
            send(client.request(method, path)).await.unwrap().expect_error(405, "method_not_allowed");
        let allow = answer.headers.get("allow").map(|allow| allow.to_str().unwrap()).unwrap_or_default();
        assert!(allow.contains(allowed), "RFC 9110 §15.5.6: {path}: {answer:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_proxys_request_id_is_kept_if_it_is_plain() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    for (given, kept) in
        [("4bf92f35-77b3", true), ("a b", false), (&"x".repeat(65), false), ("<script>", false), ("", false)]
    {
        let request = client.request(Method::GET, "/nowhere").header("x-request-id", given);
        let answer = send(request).await.unwrap().expect_error(404, "not_found");
        assert_eq!(answer.headers["x-request-id"] == given, kept, "{given}");
        assert_eq!(answer.headers.get_all("x-request-id").iter().count(), 1);
    }
    let [one, two] = [client.get("/healthz").await, client.get("/healthz").await];
    assert_ne!(one.headers["x-request-id"], two.headers["x-request-id"]);
    server.stop().await;
}

#[tokio::test]
async fn sec_071_without_allowed_origins_there_is_no_cors() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    for origin in ["https://good.example", "null", &server.url] {
        let request = client.request(Method::GET, "/healthz").header("origin", origin);
        let answer = send(request).await.unwrap().expect(200);
        assert!(
            !answer.headers.keys().any(|name| name.as_str().starts_with("access-control-")),
            "{answer:?}"
        );
    }
    let preflight = client
        .request(Method::OPTIONS, "/v1/auth/me")
        .header("origin", "https://good.example")
        .header("access-control-request-method", "GET");
    send(preflight).await.unwrap().expect_error(405, "method_not_allowed");
    server.stop().await;
}

#[tokio::test]
async fn sec_071_cors_allows_exact_origins_and_varies_by_origin() {
    let folder = Folder::new();
    let origins = ("COUNTERSIGN_ALLOWED_ORIGINS", "https://good.example, https://also.example:8443");
    let server = folder.serve_with(&[origins]).await;
    let client = Client::new(&server);
    for (origin, allowed) in [
        ("https://good.example", true),
        ("https://also.example:8443", true),
        ("https://good.example.evil.tld", false),
        ("https://evil.tld/https://good.example", false),
        ("https://sub.good.example", false),
        ("https://evilgood.example", false),
        ("http://good.example", false),
        ("https://good.example:8443", false),
        ("https://GOOD.example", false),
        ("https://good.example.", false),
        ("null", false),
        ("*", false),
    ] {
        let simple = client.request(Method::GET, "/v1/auth/me").header("origin", origin);
        let preflight = client
            .request(Method::OPTIONS, "/v1/auth/login")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type, x-csrf-token");
        for request in [simple, preflight] {
            let answer = send(request).await.unwrap();
            let header = |name: &str| answer.headers.get(name).map(|value| value.to_str().unwrap());
            assert_eq!(header("access-control-allow-origin"), allowed.then_some(origin), "{answer:?}");
            let varies = answer.headers.get_all("vary").iter().filter_map(|field| field.to_str().ok());
            let varies = varies.collect::<Vec<_>>().join(",").to_lowercase();
            assert!(varies.split(',').any(|name| name.trim() == "origin"), "{origin}: {answer:?}");
            assert!(answer.headers.contains_key("x-request-id"), "{answer:?}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn health_and_home() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(client.get(path).await.expect(200).body, json!({ "status": "ok" }));
    }
    let home = client.get("/").await.expect(200);
    assert_eq!(home.body["name"], "countersign");
    let page = client.request(Method::GET, "/").header("accept", "text/html");
    let page = send(page).await.unwrap().expect(200);
    assert!(page.text.starts_with("<!doctype html>") || page.text.starts_with("<!DOCTYPE html>"));
    client.get(home.body["documentation"].as_str().unwrap()).await.expect(200);
    server.stop().await;
}
