//! A client of a running server that adds little of its own.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// Every user's.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// The middle and the 99th percentile of these waits.
pub(crate) fn told(mut waits: Vec<Duration>) -> String {
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize].as_secs_f64() * 1_000.0;
    format!("p50 {:7.2} ms p99 {:7.2} ms", at(0.5), at(0.99))
}

pub(crate) async fn register(address: &str, name: &str) -> Value {
    let body = json!({ "email": format!("{name}@example.org"), "username": name, "password": PASSWORD });
    let (status, answer) =
        Client::connect(address).await.send("POST", "/v1/auth/register", None, Some(&body)).await;
    assert_eq!(status, 201, "an empty store is needed: {answer}");
    answer
}

pub(crate) fn text(answer: &Value, member: &str) -> String {
    answer[member].as_str().expect("a text").to_owned()
}

/// A connection that is kept open.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) async fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n");
        if let Some(token) = token {
            request += &format!("authorization: Bearer {token}\r\n");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        if !body.is_empty() {
            request += "content-type: application/json\r\n";
        }
        request += &format!("content-length: {}\r\n\r\n{body}", body.len());
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let (mut status, mut length, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            assert!(self.stream.read_line(&mut line).await.unwrap() > 0, "the server closed the connection");
            let head = line.trim_end().to_ascii_lowercase();
            if head.is_empty() {
                break;
            } else if let Some(rest) = head.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(rest) = head.strip_prefix("content-length: ") {
                length = rest.parse().unwrap();
            }
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).await.unwrap();
        (status, serde_json::from_slice(&answer).unwrap_or(Value::Null))
    }
}
