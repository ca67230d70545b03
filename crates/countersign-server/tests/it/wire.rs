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
    assert_eq!(login.headers.get_all("set-cookie").iter().count(), 3);

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
