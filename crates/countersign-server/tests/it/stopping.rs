//! SIGTERM: what is waited for, and what is not.

use std::process::Stdio;

use reqwest::Method;
use serde_json::json;
use sqlx::Connection as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;

use crate::client::{Client, PASSWORD, send};
use crate::server::{Folder, PATIENCE, Server, eventually};

/// Any secret of the right form.
const SECRET: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

/// So long that a test that waits for it fails before.
const FOR_EVER: [(&str, &str); 1] = [("COUNTERSIGN_SHUTDOWN_GRACE", "1h")];

/// A connection on which this was sent.
async fn connected(server: &Server, sent: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).await.unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    stream
}

/// What comes until the server closes the connection; a reset is as good as an end.
async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let _end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn connections_on_which_nothing_is_answered_do_not_keep_the_server() {
    let folder = Folder::new();
    let server = folder.serve_with(&FOR_EVER).await;
    // One that was used, as browsers and pools keep them.
    let mut used = connected(&server, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"{\"status\":\"ok\"}") {
        let mut piece = [0; 1024];
        let read = used.read(&mut piece).await.unwrap();
        answer.extend_from_slice(&piece[..read]);
    }
    let http_2 = Client::with(reqwest::Client::builder().http2_prior_knowledge(), &server);
    http_2.get("/healthz").await.expect(200);

    let mut half = vec![used];
    for sent in [
        "",
        "G",
        "GET /healthz HTTP/1.1\r\n",
        "GET /healthz HTTP/1.1\r\nhost: x\r\nx-half: ",
        "POST /v1/auth/login HTTP/1.1\r\nhost: x\r\n",
        // A head that is whole, and half a body.
        "POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{",
        "POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{",
        // One that was answered, and half of the next.
        "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nGET /healthz HTTP/1.1\r\nho",
        // HTTP/2's first words alone.
        "PRI * HTTP/2.0\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        half.push(connected(&server, sent).await);
    }
    // Whatever was sent before has arrived when this is answered.
    Client::new(&server).get("/healthz").await.expect(200);
    server.stop().await;
    for stream in half {
        rest(stream).await;
    }
    drop(http_2);
}

#[tokio::test]
async fn requests_that_are_being_answered_are_answered() {
    let folder = Folder::new();
    let server = folder.serve_with(&FOR_EVER).await;
    let http_2 = Client::with(reqwest::Client::builder().http2_prior_knowledge(), &server);
    http_2.get("/healthz").await.expect(200);
    // Until it is unlocked, nobody can be registered.
    let mut database = folder.database().await;
    let lock = database.begin_with("BEGIN IMMEDIATE").await.unwrap();

    let body = |name: &str| json!({ "email": format!("{name}@example.org"), "password": PASSWORD });
    let by_2 = tokio::spawn(send(http_2.request(Method::POST, "/v1/auth/register").json(&body("eve"))));
    let text = body("ada").to_string();
    let head = format!(
        "POST /v1/auth/register HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         expect: 100-continue\r\n\r\n",
        text.len(),
    );
    let mut by_1 = connected(&server, &head).await;
    let mut interim = [0; 25];
    by_1.read_exact(&mut interim).await.unwrap();
    by_1.write_all(text.as_bytes()).await.unwrap();
    http_2.get("/healthz").await.expect(200);

    server.ask_to_stop().await;
    eventually("it says that it is stopping", async || server.log().contains("stopping")).await;
    let refused = async || TcpStream::connect(server.address()).await.is_err();
    eventually("nobody can connect any more", refused).await;
    lock.rollback().await.unwrap();
    let answer = rest(by_1).await;
    assert!(answer.starts_with("HTTP/1.1 201 ") && answer.ends_with('}'), "{answer}");
    by_2.await.unwrap().unwrap().expect(201).pair();
    let (status, _) = server.wait().await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_grace_of_nothing_waits_for_nothing() {
    let folder = Folder::new();
    let server = folder.serve_with(&[("COUNTERSIGN_SHUTDOWN_GRACE", "0")]).await;
    let half = "POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{";
    let half = connected(&server, half).await;
    Client::new(&server).get("/healthz").await.expect(200);
    server.stop().await;
    assert_eq!(rest(half).await, "");
}

#[tokio::test]
async fn a_server_that_waits_for_its_database_at_the_start_can_be_stopped() {
    let folder = Folder::new();
    let database = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://ada@{}/auth", database.local_addr().unwrap());
    let settings = [
        ("COUNTERSIGN_DATABASE_URL", url.as_str()),
        ("COUNTERSIGN_LISTEN", "127.0.0.1:0"),
        ("COUNTERSIGN_SECRET", SECRET),
    ];
    let process = folder.command(&[], &settings).stderr(Stdio::piped()).spawn().unwrap();
    // It has connected, and is not answered.
    let _connection = timeout(PATIENCE, database.accept()).await.unwrap().unwrap();
    let pid = process.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    let output = timeout(PATIENCE, process.wait_with_output()).await.unwrap().unwrap();
    // Status 0, and not the signal: it was caught. To the first process of a container it would otherwise not come.
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("stopped before the server was ready"),
        "{output:?}"
    );
}
