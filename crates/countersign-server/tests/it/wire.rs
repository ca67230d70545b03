//! Requests as no well-behaved client sends them.

use reqwest::{Method, Version};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{Client, PASSWORD, send};
use crate::server::{Folder, PATIENCE, Server};

/// Sends bytes and reads until the server closes the connection.
pub(crate) async fn exchange(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    let exchanged = async {
        // The server may close before it has read all; what it answered counts.
        let (_written, _read) =
            tokio::join!(writer.write_all(request.as_bytes()), reader.read_to_end(&mut answer));
    };
    tokio::time::timeout(PATIENCE, exchanged).await.unwrap();
    String::from_utf8(answer).unwrap()
}

fn get(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{fields}\r\n")
}

#[tokio::test]
async fn two_authorization_fields_are_a_bad_request() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let access = Client::new(&server).register("ada@example.org").await.access;
    let field = format!("authorization: Bearer {access}\r\n");
    let one = exchange(&server, &get("/v1/auth/me", &field)).await;
    assert!(one.starts_with("HTTP/1.1 200 "), "{one}");
    for second in [&field, "Authorization: Bearer other\r\n", "AUTHORIZATION: Basic eDp5\r\n"] {
        let answer = exchange(&server, &get("/v1/auth/me", &format!("{field}{second}"))).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("\"invalid_request\"") && answer.contains("x-request-id: "), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_header_that_is_too_long_is_refused_and_the_server_goes_on() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let long = format!("x-long: {}\r\n", "x".repeat(1024 * 1024));
    for fields in [long, "x-many: x\r\n".repeat(1_000)] {
        let answer = exchange(&server, &get("/healthz", &fields)).await;
        // Who is still sending when the connection closes may not see the answer.
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    // What browsers send at most is no reason to refuse.
    let large =
        exchange(&server, &get("/healthz", &format!("cookie: x={}\r\n", "x".repeat(12 * 1024)))).await;
    assert!(large.starts_with("HTTP/1.1 200 "), "{large}");
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_http_is_answered_or_dropped_and_the_server_goes_on() {
    let folder = Folder::new();
    let server = folder.serve().await;
    for request in [
        "\r\n\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\u{3}\u{3}",
        "POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{}",
        "POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nhost: x\r\nx: a\u{0}b\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        // A reset is as good as an end.
        let _end = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer}");
    }
    Client::new(&server).get("/healthz").await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn http_2_works_without_an_upgrade() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::with(reqwest::Client::builder().http2_prior_knowledge(), &server);
    let pair = client.register("ada@example.org").await;
    client.me(&pair.access).await.expect(200);
    let body = json!({ "email": "ada@example.org", "password": PASSWORD, "cookies": true });
    let login = client.post("/v1/auth/login", &body).await.expect(200);
    assert_eq!(login.headers.get_all("set-cookie").iter().count(), 4, "tokens, CSRF value, device");

    let two = client.request(Method::GET, "/v1/auth/me").bearer_auth(&pair.access).bearer_auth("other");
    assert_eq!(
        two.try_clone().unwrap().build().unwrap().headers().get_all("authorization").iter().count(),
        2
    );
    send(two).await.unwrap().expect_error(400, "invalid_request");
    let response = client.request(Method::GET, "/healthz").send().await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    drop((client, response));
    server.stop().await;
}

#[tokio::test]
async fn head_is_answered_as_get_without_a_body() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let access = Client::new(&server).register("ada@example.org").await.access;
    for fields in ["", &format!("authorization: Bearer {access}\r\n")] {
        let request = get("/v1/auth/me", fields).replacen("GET", "HEAD", 1);
        let answer = exchange(&server, &request).await;
        let status = if fields.is_empty() { "401" } else { "200" };
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_request_names_exactly_one_host() {
    let folder = Folder::new();
    let server = folder.serve().await;
    for (version, fields, status) in [
        ("1.1", "", "400"),
        ("1.1", "host: x\r\n", "200"),
        ("1.1", "host: x\r\nHost: x\r\n", "400"),
        ("1.1", "host: x\r\nHost: y\r\n", "400"),
        ("1.1", "host:\r\n", "400"),
        ("1.1", "host: a b\r\n", "400"),
        ("1.1", "host: x, y\r\n", "400"),
        ("1.1", "host: user@x\r\n", "400"),
        ("1.1", "host: x:port\r\n", "400"),
        ("1.1", "host: http://x\r\n", "400"),
        ("1.1", "host: [::1]:8080\r\n", "200"),
        ("1.0", "", "200"),
        ("1.0", "host: x\r\n", "200"),
        ("1.0", "host: x\r\nhost: x\r\n", "400"),
    ] {
        for path in ["/healthz", "/nowhere"] {
            let request = format!("GET {path} HTTP/{version}\r\nconnection: close\r\n{fields}\r\n");
            let answer = exchange(&server, &request).await;
            let status = if status == "200" && path == "/nowhere" { "404" } else { status };
            assert!(answer.starts_with(&format!("HTTP/{version} {status} ")), "{request}: {answer}");
            assert!(answer.contains("x-request-id: ") && answer.contains("nosniff"), "{answer}");
            if status == "400" {
                assert!(answer.contains("\"invalid_request\""), "{answer}");
                assert!(answer.to_lowercase().contains("host"), "{answer}");
            }
        }
    }
    // HTTP/2 names it in the request's target.
    let client = Client::with(reqwest::Client::builder().http2_prior_knowledge(), &server);
    let named =
        async |host: &str| send(client.request(Method::GET, "/healthz").header("host", host)).await.unwrap();
    named(server.address()).await.expect(200);
    named("other.example").await.expect_error(400, "invalid_request");
    client.get("/healthz").await.expect(200);
    server.stop().await;
}

#[tokio::test]
async fn every_answer_forbids_to_guess_its_type() {
    let folder = Folder::new();
    let server = folder.serve_with(&[("COUNTERSIGN_ALLOWED_ORIGINS", "https://app.example.com")]).await;
    let large = "x".repeat(100 * 1024);
    let post = |body: &str, more: &str| {
        let head = "POST /v1/auth/login HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
        format!("{head}content-length: {}\r\n{more}\r\n{body}", body.len())
    };
    let json = "content-type: application/json\r\n";
    for (request, status) in [
        (get("/", ""), 200),
        (get("/", "accept: text/html\r\n"), 200),
        (get("/docs/api.md", ""), 200),
        (get("/healthz", ""), 200),
        (get("/readyz", ""), 200),
        (get("/.well-known/jwks.json", ""), 200),
        (get("/nowhere", ""), 404),
        (get("/v1/auth/login", ""), 405),
        (get("/v1/auth/me", ""), 401),
        (post("{", json), 400),
        (post("{}", json), 422),
        (post("{}", ""), 415),
        (post("{}", &format!("{json}content-encoding: gzip\r\n")), 415),
        (post(&large, json), 413),
        (
            get("/v1/auth/me", "origin: https://app.example.com\r\naccess-control-request-method: GET\r\n")
                .replacen("GET", "OPTIONS", 1),
            200,
        ),
    ] {
        let answer = exchange(&server, &request).await;
        let head = answer.split("\r\n\r\n").next().unwrap();
        let short = request.get(..80).unwrap_or(&request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{short}: {head}");
        assert_eq!(head.matches("x-content-type-options: nosniff").count(), 1, "{short}: {head}");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_apps_own_scheme_is_an_origin_that_can_be_allowed() {
    let folder = Folder::new();
    let allowed = "tauri://localhost, capacitor://localhost";
    let server = folder.serve_with(&[("COUNTERSIGN_ALLOWED_ORIGINS", allowed)]).await;
    let client = Client::new(&server);
    let access = client.register("ada@example.org").await.access;
    for (origin, is_allowed) in [
        ("tauri://localhost", true),
        ("capacitor://localhost", true),
        ("tauri://localhost.evil.example", false),
        ("ionic://localhost", false),
        ("null", false),
    ] {
        let expected = is_allowed.then_some(origin);
        let preflight = client
            .request(Method::OPTIONS, "/v1/auth/login")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type");
        let read = client.request(Method::GET, "/v1/auth/me").bearer_auth(&access).header("origin", origin);
        for request in [preflight, read] {
            let answer = send(request).await.unwrap().expect(200);
            let given = answer.headers.get("access-control-allow-origin");
            assert_eq!(given.map(|given| given.to_str().unwrap()), expected, "{origin}");
        }
        let body = json!({ "email": "ada@example.org", "password": PASSWORD, "cookies": true });
        let login = client.request(Method::POST, "/v1/auth/login").json(&body).header("origin", origin);
        send(login).await.unwrap().expect(if is_allowed { 200 } else { 403 });
    }
    server.stop().await;

    let refused = folder.run(&[], &[("COUNTERSIGN_ALLOWED_ORIGINS", "tauri://localhost,app://*")]).await;
    refused.assert_refused(&["COUNTERSIGN_ALLOWED_ORIGINS", "number 2", "`*` does not stand for anything"]);
}

#[tokio::test]
async fn sec_221_behind_a_proxy_without_a_public_url_nobody_gets_cookies_and_the_log_says_why() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    client.register("ada@example.org").await;
    let body = json!({ "email": "ada@example.org", "password": PASSWORD, "cookies": true });
    let login = async |host: &str| {
        send(client.request(Method::POST, "/v1/auth/login").header("host", host).json(&body)).await.unwrap()
    };
    let refused = login("auth.example.com").await.expect_error(403, "insecure_cookies");
    assert!(!refused.headers.contains_key("set-cookie"));
    let log = server.log();
    let warning = log.lines().find(|line| line.contains("WARN") && line.contains("COUNTERSIGN_PUBLIC_URL"));
    assert!(warning.is_some(), "{log}");
    for host in ["localhost", "127.0.0.1:1", "[::1]"] {
        assert!(login(host).await.expect(200).cookie("countersign_access").is_some(), "{host}");
    }
    client.try_login("ada@example.org", PASSWORD).await.expect(200);
    server.stop().await;

    let server = folder.serve_with(&[("COUNTERSIGN_PUBLIC_URL", "https://auth.example.com")]).await;
    let client = Client::new(&server);
    let answer =
        client.request(Method::POST, "/v1/auth/login").header("host", "auth.example.com").json(&body);
    let (_, attributes) =
        send(answer).await.unwrap().expect(200).cookie("__Host-countersign_access").unwrap();
    assert!(attributes.contains("Secure"), "{attributes}");
    server.stop().await;
}

#[tokio::test]
async fn sec_153_forms_of_request_smuggling_never_yield_a_second_request() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let smuggled = "GET /v1/auth/whoami HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let post = |fields: &str, body: &str| {
        format!(
            "POST /v1/auth/login HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{fields}\r\n{body}"
        )
    };
    let chunked = format!("2\r\n{{}}\r\n0\r\n\r\n{smuggled}");
    let length = |length: usize| format!("content-length: {length}\r\n");
    for (case, request, statuses) in [
        // Each is one request to a server that goes by the length, and two to one that goes by the chunks; or the reverse.
        (
            "CL, TE",
            post(&format!("{}transfer-encoding: chunked\r\n", length(chunked.len())), &chunked),
            &["422"][..],
        ),
        (
            "TE, CL",
            post(&format!("transfer-encoding: chunked\r\n{}", length(chunked.len())), &chunked),
            &["422"],
        ),
        (
            "two lengths",
            post(&format!("{}{}", length(2), length(2 + smuggled.len())), &format!("{{}}{smuggled}")),
            &["400"],
        ),
        ("a list of lengths", post("content-length: 2, 60\r\n", &format!("{{}}{smuggled}")), &["400"]),
        ("a length with a sign", post("content-length: +2\r\n", &format!("{{}}{smuggled}")), &["400"]),
        ("another last coding", post("transfer-encoding: chunked, identity\r\n", &chunked), &["400"]),
        ("a coding in disguise", post("transfer-encoding: \u{b}chunked\r\n", &chunked), &["400"]),
        ("a field name with a blank", post("transfer-encoding : chunked\r\n", &chunked), &["400"]),
        ("a folded field", post("x: a\r\n transfer-encoding: chunked\r\n", &chunked), &["400"]),
        (
            "HTTP/1.0 with chunks",
            post("transfer-encoding: chunked\r\n", &chunked).replace("HTTP/1.1\r\nhost", "HTTP/1.0\r\nhost"),
            &["400"],
        ),
    ] {
        let answer = exchange(&server, &request).await;
        let found: Vec<_> = answer.split("HTTP/1.").skip(1).map(|answer| &answer[2..5]).collect();
        assert_eq!(found, statuses, "{case}: {answer}");
        assert!(!answer.contains("found_by"), "{case}: the second request was answered: {answer}");
    }
    for method in ["TRACE", "TRACK", "CONNECT", "BREW"] {
        let answer = exchange(&server, &format!("{method} /v1/auth/login HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncookie: canary=1\r\n\r\n")).await;
        assert!(
            answer.starts_with("HTTP/1.1 405 ") || method == "CONNECT" && answer.starts_with("HTTP/1.1 4"),
            "{method}: {answer}"
        );
        assert!(!answer.contains("canary"), "{method} shows nothing of the request: {answer}");
    }
    Client::new(&server).get("/healthz").await.expect(200);
    server.stop().await;
}
