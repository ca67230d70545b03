//! A real mail server (aiosmtpd) that misbehaves as it is told, and the certificate that it shows.

use std::process::Stdio;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// The login that the server takes, percent-encoded.
pub const LOGIN: &str = "mailer%40example.com:p%40ss%3A%20%C3%A4@";

/// How the server encrypts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// After STARTTLS.
    StartTls,
    /// From the first byte.
    Implicit,
    /// Not at all.
    None,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::StartTls => "starttls",
            Self::Implicit => "implicit",
            Self::None => "none",
        }
    }
}

/// A certificate authority, and a server of a name that it vouches for.
#[derive(Debug)]
pub struct Certificate {
    authority: String,
    certificate: String,
    key: String,
}

impl Certificate {
    /// One for a server of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let authority_key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new([]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = parameters.self_signed(&authority_key).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()])
            .unwrap()
            .signed_by(&key, &Issuer::new(parameters, authority_key))
            .unwrap();
        Self { authority, certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// The authority's own certificate (PEM).
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

/// The running server. It ends with this value.
#[derive(Debug)]
pub struct Server {
    mode: Mode,
    port: u16,
    _process: Child,
    orders: ChildStdin,
    events: Lines<BufReader<ChildStdout>>,
    seen: Vec<Value>,
    _folder: TempDir,
}

impl Server {
    /// Starts the server; `None` if there is no Python that has aiosmtpd.
    pub async fn start(mode: Mode, certificate: &Certificate) -> Option<Self> {
        let python = python().await?;
        let folder = TempDir::new().unwrap();
        let (certificate_file, key_file) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        std::fs::write(&certificate_file, &certificate.certificate).unwrap();
        std::fs::write(&key_file, &certificate.key).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/mail_server/mail_server.py");
        let mut process = Command::new(python)
            .args([script, mode.name()])
            .args([certificate_file, key_file])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let orders = process.stdin.take().unwrap();
        let events = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut server =
            Self { mode, port: 0, _process: process, orders, events, seen: Vec::new(), _folder: folder };
        server.port = server.next().await["port"].as_u64().unwrap().try_into().unwrap();
        Some(server)
    }

    /// The server's port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's URL, with this text for user and password.
    #[must_use]
    pub fn url(&self, login: &str) -> String {
        format!("smtp://{login}localhost:{}?tls={}", self.port, self.mode.name())
    }

    async fn next(&mut self) -> Value {
        let line = self.events.next_line().await.unwrap().expect("the server runs");
        serde_json::from_str(&line).unwrap()
    }

    /// Gives an order and waits until it is carried out.
    pub async fn order(&mut self, order: &Value) {
        self.orders.write_all(format!("{order}\n").as_bytes()).await.unwrap();
        loop {
            let event = self.next().await;
            if event["done"] == *order {
                break;
            }
            self.seen.push(event);
        }
    }

    /// Changes how the server behaves.
    pub async fn behave(&mut self, behaviour: &Value) {
        self.order(&json!({"behave": behaviour})).await;
    }

    /// Waits until the server hangs at this stage.
    pub async fn hangs(&mut self, stage: &str) {
        loop {
            let event = self.next().await;
            if event["hangs"] == stage {
                break;
            }
            self.seen.push(event);
        }
    }

    /// Waits for the next message to this address.
    ///
    /// # Panics
    ///
    /// If none arrives within a minute.
    pub async fn message_to(&mut self, address: &str) -> Value {
        let is_to = |event: &Value| event["message"]["recipients"][0] == address;
        if let Some(position) = self.seen.iter().position(is_to) {
            return self.seen.remove(position)["message"].take();
        }
        let arrives = async {
            loop {
                let mut event = self.next().await;
                if is_to(&event) {
                    return event["message"].take();
                }
                self.seen.push(event);
            }
        };
        match timeout(Duration::from_secs(60), arrives).await {
            Ok(message) => message,
            Err(_) => panic!("no message to {address} arrived; others: {:?}", self.seen),
        }
    }

    /// What has happened since the last call.
    pub async fn events(&mut self) -> Vec<Value> {
        self.order(&json!({"do": "flush"})).await;
        std::mem::take(&mut self.seen)
    }
}

/// A Python that has aiosmtpd. One that `TEST_FLASK_PYTHON` names must.
async fn python() -> Option<String> {
    let named = std::env::var("TEST_FLASK_PYTHON").ok();
    let python = named.clone().unwrap_or_else(|| "python3".to_owned());
    let tried = Command::new(&python).args(["-c", "import aiosmtpd"]).output().await;
    if tried.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    assert!(named.is_none(), "TEST_FLASK_PYTHON names {python}, which cannot import aiosmtpd");
    eprintln!(
        "LEFT OUT: sending to a real mail server: {python} cannot import aiosmtpd. Set TEST_FLASK_PYTHON to a Python with \
         `pip install aiosmtpd`."
    );
    None
}
