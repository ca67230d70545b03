//! The default fetcher, against servers on real sockets that do not behave.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign_http::remote::{
    FetchError, FetchJwks, HttpsFetcher, JwksUrl, KeysError, RemoteIssuer, RemoteIssuers, RemoteVerifyError,
};
use countersign_jwt::Algorithm;
use countersign_jwt::key::Jwk;
use countersign_testkit::FixedClock;
use http::StatusCode;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::kit::{ISSUER, claims, header, jwk, key, key_set, sign, token, with};

/// What a server does after it has read a request.
#[derive(Clone)]
enum Answer {
    /// Writes this and closes.
    Text(String),
    /// Writes this, and then zeros until nobody reads them.
    Endless(String),
    /// Writes this, and then nothing, without closing.
    Silence(String),
}

fn ok(body: &str) -> Answer {
    Answer::Text(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

struct Server {
    address: SocketAddr,
    /// What was asked.
    requests: mpsc::UnboundedReceiver<String>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(answer: Answer) -> Self {
        Self::start_with(answer, None).await
    }

    async fn start_with(answer: Answer, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (answer, sender, tls) = (answer.clone(), sender.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => converse(stream, answer, sender).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                converse(stream, answer, sender).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, requests, connections }
    }

    fn url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn converse(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: Answer,
    sender: mpsc::UnboundedSender<String>,
) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let (Answer::Text(start) | Answer::Endless(start) | Answer::Silence(start)) = &answer;
    let _ = stream.write_all(start.as_bytes()).await;
    let _ = stream.flush().await;
    let _ = sender.send(String::from_utf8(request).unwrap());
    match answer {
        Answer::Text(_) => drop(stream.shutdown().await),
        Answer::Endless(_) => while stream.write_all(&[b'0'; 4096]).await.is_ok() {},
        Answer::Silence(_) => std::future::pending().await,
    }
}

async fn fetch(url: &str) -> Result<String, FetchError> {
    let fetcher = HttpsFetcher::new().unwrap();
    let text = fetcher.fetch(&JwksUrl::dangerous_loopback_http(url).unwrap()).await?;
    Ok(String::from_utf8(text.to_vec()).unwrap())
}

#[tokio::test]
async fn a_key_set_is_fetched_from_a_server_and_verifies() {
    let key = key(Algorithm::Es256, "one");
    let mut server = Server::start(ok(&key_set(&[&key]))).await;
    let rules = RemoteIssuer::new(ISSUER, server.url()).audience("api").dangerous_loopback_http();
    let fetcher = Arc::new(HttpsFetcher::new().unwrap());
    let issuers = RemoteIssuers::with([rules], fetcher, Arc::new(FixedClock::default())).unwrap();
    issuers.verify(&token(&key, ISSUER)).await.unwrap();
    let request = server.requests.recv().await.unwrap().to_ascii_lowercase();
    assert!(request.starts_with("get /jwks.json http/1.1\r\n"), "{request}");
    for absent in ["cookie", "authorization", "referer", "accept-encoding", "proxy"] {
        assert!(!request.contains(absent), "{request}");
    }
}

#[tokio::test]
async fn sec_044_redirects_are_not_followed() {
    let canary = Server::start(ok("{}")).await;
    for status in [301, 302, 303, 307, 308, 300, 304] {
        let answer =
            format!("HTTP/1.1 {status} Moved\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", canary.url());
        let server = Server::start(Answer::Text(answer)).await;
        let error = fetch(&server.url()).await.unwrap_err();
        assert!(matches!(error, FetchError::Redirect(found) if found.as_u16() == status), "{error}");
        assert_eq!(server.connections(), 1);
    }
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn only_200_is_an_answer() {
    for status in [201, 202, 204, 206, 400, 401, 403, 404, 429, 500, 503] {
        let body = if status == 204 { "" } else { "content-length: 11\r\n\r\n{\"keys\":[]}" };
        let server = Server::start(Answer::Text(format!("HTTP/1.1 {status} X\r\n{body}\r\n"))).await;
        let error = fetch(&server.url()).await.unwrap_err();
        assert!(matches!(error, FetchError::Status(found) if found.as_u16() == status), "{error}");
    }
}

#[tokio::test]
async fn sec_044_more_than_64_kib_is_not_read() {
    let limit = Jwk::MAX_BYTES;
    let full = "x".repeat(limit);
    let server = Server::start(ok(&full)).await;
    assert_eq!(fetch(&server.url()).await.unwrap().len(), limit, "64 KiB are accepted");
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let server = Server::start(Answer::Text(format!("{chunked}{}0\r\n\r\n", chunk(&full)))).await;
    assert_eq!(fetch(&server.url()).await.unwrap().len(), limit, "64 KiB are accepted");

    for (case, answer) in [
        ("announced", Answer::Silence(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", limit + 1))),
        ("announced and sent", ok(&"x".repeat(limit + 1))),
        (
            "announced beyond any",
            Answer::Silence(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 1_u64 << 40)),
        ),
        ("until the end", Answer::Text(format!("HTTP/1.1 200 OK\r\n\r\n{full}x"))),
        ("without end", Answer::Endless("HTTP/1.1 200 OK\r\n\r\n".to_owned())),
        ("in chunks", Answer::Text(format!("{chunked}{}{}0\r\n\r\n", chunk(&full), chunk("x")))),
        ("in a chunk without end", Answer::Endless(format!("{chunked}FFFFFFFF\r\n"))),
    ] {
        let server = Server::start(answer).await;
        let error = fetch(&server.url()).await.unwrap_err();
        assert!(matches!(error, FetchError::TooLong), "{case}: {error:?}");
    }
}

#[tokio::test]
async fn half_an_answer_is_none() {
    for (case, answer) in [
        ("nothing", ""),
        ("half a status", "HTTP/1."),
        ("half a head", "HTTP/1.1 200 OK\r\ncontent-le"),
        ("half a body", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"keys\":[]}"),
        ("half a chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\n{\"keys\":[]}"),
        ("no last chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nb\r\n{\"keys\":[]}\r\n"),
        ("another protocol", "SSH-2.0-OpenSSH_9.9\r\n"),
        ("a head without end", "HTTP/1.1 200 OK\r\nx: "),
    ] {
        let server = Server::start(Answer::Text(answer.to_owned())).await;
        let error = fetch(&server.url()).await.unwrap_err();
        assert!(matches!(error, FetchError::Request(_)), "{case}: {error:?}");
    }
    let endless_head = Server::start(Answer::Endless("HTTP/1.1 200 OK\r\nx: ".to_owned())).await;
    assert!(matches!(fetch(&endless_head.url()).await, Err(FetchError::Request(_))));
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = fetch(&format!("http://{unused}/secret?secret")).await.unwrap_err();
    assert!(matches!(error, FetchError::Request(_)));
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn sec_044_a_slow_server_has_five_seconds() {
    for (case, start) in [
        ("says nothing", ""),
        ("stops in the head", "HTTP/1.1 200 OK\r\ncontent"),
        ("stops in the body", "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"keys\""),
        (
            "stops before the last chunk",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nb\r\n{\"keys\":[]}\r\n",
        ),
    ] {
        let mut server = Server::start(Answer::Silence(start.to_owned())).await;
        let rules = RemoteIssuer::new(ISSUER, server.url()).audience("api").dangerous_loopback_http();
        let fetcher = Arc::new(HttpsFetcher::new().unwrap());
        let issuers = RemoteIssuers::with([rules], fetcher, Arc::new(FixedClock::default())).unwrap();
        let token = token(&key(Algorithm::Es256, "one"), ISSUER);
        let verdict = tokio::spawn(async move { issuers.verify(&token).await });
        server.requests.recv().await.unwrap();
        // From here on time passes only when told to.
        tokio::time::pause();
        tokio::time::advance(Duration::from_millis(4_500)).await;
        assert!(!verdict.is_finished(), "{case}");
        tokio::time::advance(Duration::from_millis(500)).await;
        let error = verdict.await.unwrap().unwrap_err();
        let RemoteVerifyError::KeysUnavailable { reason, .. } = error else { panic!("{case}: {error}") };
        assert!(matches!(*reason, KeysError::TimedOut), "{case}: {reason}");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn cookies_are_neither_kept_nor_sent() {
    let answer = "HTTP/1.1 200 OK\r\nset-cookie: a=b; Path=/\r\ncontent-length: 2\r\n\r\n{}";
    let mut server = Server::start(Answer::Text(answer.to_owned())).await;
    let fetcher = HttpsFetcher::new().unwrap();
    let url = JwksUrl::dangerous_loopback_http(&server.url()).unwrap();
    for _ in 0..2 {
        fetcher.fetch(&url).await.unwrap();
        let request = server.requests.recv().await.unwrap();
        assert!(!request.to_ascii_lowercase().contains("cookie"), "{request}");
    }
    assert_eq!(server.connections(), 2, "a connection for every fetch");
}

#[tokio::test]
async fn proxies_from_the_environment_are_not_used() {
    // The environment is that of a process, so this test runs another one of this file in a process of its own.
    let canary =
        Server::start(Answer::Text("HTTP/1.1 502 Canary\r\ncontent-length: 0\r\n\r\n".to_owned())).await;
    let proxy = format!("http://{}", canary.address);
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "network::a_key_set_is_fetched_from_a_server_and_verifies"]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        child.env(name, &proxy).env(name.to_ascii_lowercase(), &proxy);
    }
    child.env_remove("NO_PROXY").env_remove("no_proxy").env_remove("REQUEST_METHOD");
    let output = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert_eq!(canary.connections(), 0);
}

#[tokio::test]
async fn sec_011_sec_165_an_address_in_a_header_is_never_connected_to() {
    let key = key(Algorithm::Es256, "one");
    let canary = Server::start(ok(&key_set(&[&key]))).await;
    let server = Server::start(ok(&key_set(&[&key]))).await;
    let rules = RemoteIssuer::new(ISSUER, server.url()).audience("api").dangerous_loopback_http();
    let fetcher = Arc::new(HttpsFetcher::new().unwrap());
    let issuers = RemoteIssuers::with([rules], fetcher, Arc::new(FixedClock::default())).unwrap();
    let url = canary.url();
    let attacker = crate::kit::key(Algorithm::Es256, "attacker");
    for changes in [
        json!({ "jku": url }),
        json!({ "x5u": url }),
        json!({"x5c": [url]}),
        json!({"x5t": url, "x5t#S256": url}),
        json!({"jwk": {"kty": "EC", "x5u": url}}),
        json!({"jwk": jwk(&attacker)}),
        json!({"jku": url, "x5u": url, "x5c": ["A".repeat(3_000)], "jwk": jwk(&attacker), "unknown": [url]}),
    ] {
        let header = with(&header(&key), changes);
        issuers.verify(&sign(&key, &header, &claims(ISSUER))).await.unwrap();
        for (kid, refusal) in [
            (json!("one"), "signature does not hold"),
            (json!("attacker"), "token names an unknown key"),
            (json!(null), "signature does not hold"),
        ] {
            let forged = sign(&attacker, &with(&header, json!({ "kid": kid })), &claims(ISSUER));
            assert_eq!(issuers.verify(&forged).await.unwrap_err().to_string(), refusal);
        }
    }
    for (refusal, changes) in [
        ("token names an unknown key", json!({ "kid": url })),
        ("header member crit is not accepted", json!({"crit": ["jku"], "jku": url})),
    ] {
        let token = sign(&key, &with(&header(&key), changes), &claims(ISSUER));
        assert_eq!(issuers.verify(&token).await.unwrap_err().to_string(), refusal);
    }
    let changes = json!({ "iss": url });
    let token = sign(&key, &header(&key), &with(&claims(ISSUER), changes));
    assert!(matches!(issuers.verify(&token).await, Err(RemoteVerifyError::UnknownIssuer)));
    assert_eq!(canary.connections(), 0);
    assert_eq!(server.connections(), 1);
}

/// A certificate authority, and a server for `localhost` that it vouches for.
fn certificates() -> (String, TlsAcceptor) {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let server_key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let server = server.signed_by(&server_key, &issuer).unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![server.der().clone()], private)
        .unwrap();
    (certificate.pem(), TlsAcceptor::from(Arc::new(config)))
}

#[tokio::test]
async fn https_needs_a_certificate_of_a_trusted_authority_for_this_name() {
    let (authority, tls) = certificates();
    let (stranger, _) = certificates();
    let server = Server::start_with(ok(r#"{"keys":[]}"#), Some(tls)).await;
    let port = server.address.port();
    let localhost = format!("https://localhost:{port}/jwks.json");
    let by_address = format!("https://127.0.0.1:{port}/jwks.json");
    for (case, fetcher, url, accepted) in [
        ("trusted", HttpsFetcher::trusting_only(authority.as_bytes()), &localhost, true),
        ("another name", HttpsFetcher::trusting_only(authority.as_bytes()), &by_address, false),
        ("another authority", HttpsFetcher::trusting_only(stranger.as_bytes()), &localhost, false),
        ("the system's authorities", HttpsFetcher::new(), &localhost, false),
    ] {
        let fetched = fetcher.unwrap().fetch(&JwksUrl::new(url).unwrap()).await;
        match accepted {
            true => assert_eq!(fetched.unwrap(), r#"{"keys":[]}"#, "{case}"),
            false => assert!(matches!(fetched, Err(FetchError::Request(_))), "{case}"),
        }
    }
    for pem in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(HttpsFetcher::trusting_only(pem.as_bytes()).is_err(), "{pem}");
    }
}

#[test]
fn what_a_fetch_failed_for_can_be_read() {
    assert_eq!(
        FetchError::Redirect(StatusCode::FOUND).to_string(),
        "answer is a redirect (302 Found), which is never followed; configure the address where the keys are"
    );
}
