//! The transport to a mail server, by SMTP.

mod connection;
mod roots;
mod tls;
mod url;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use countersign_core::model::EmailAddress;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use tokio::time::timeout;

pub use roots::{Roots, RootsError};
pub use url::{Credentials, InvalidSmtpUrl, SmtpUrl, TlsMode};

use crate::{Message, SendError, Transport};
use tls::Tls;

/// A mail server that takes messages by SMTP (RFC 5321, RFC 6409).
///
/// - TLS is used exactly as the URL says, and nothing is tried out: with `starttls`, neither the login nor a mail goes to
///   a server that does not offer it.
/// - Every send has a deadline from the first packet to the last, so that a server that hangs costs its one attempt.
/// - A connection is kept for the next message, checked before it is used again, and opened anew after a failure.
///
/// ```no_run
/// use countersign_mail::{Roots, Smtp, SmtpUrl};
///
/// let url: SmtpUrl = "smtp://user:p%40ss@mail.example.com:587?tls=starttls".parse()?;
/// let smtp = Smtp::builder(url)
///     .extra_roots(Roots::from_pem(&std::fs::read("/etc/countersign/mail-ca.pem")?)?)
///     .hello_name("auth.example.com")
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Smtp {
    url: SmtpUrl,
    tls: Option<Tls>,
    hello_name: Option<String>,
    deadline: Duration,
    /// The connection that the last message has left open.
    rested: Mutex<Option<AsyncSmtpConnection>>,
}

/// The options of an [`Smtp`].
#[derive(Debug)]
#[must_use]
pub struct SmtpBuilder {
    url: SmtpUrl,
    roots: Roots,
    hello_name: Option<String>,
    deadline: Duration,
}

impl Smtp {
    /// The longest that one message takes, by default.
    pub const DEADLINE: Duration = Duration::from_secs(30);

    /// The options for the server at this URL.
    pub fn builder(url: SmtpUrl) -> SmtpBuilder {
        SmtpBuilder { url, roots: Roots::default(), hello_name: None, deadline: Self::DEADLINE }
    }

    /// Connects, encrypts and logs in as for a message, and sends none: whether this server would take one.
    ///
    /// # Errors
    /// [`SendError`] as of a message that could not be handed over.
    pub async fn check(&self) -> Result<(), SendError> {
        let open = connection::open(&self.url, self.tls.as_ref(), self.hello_name.as_deref());
        let mut connection = timeout(self.deadline, open).await.map_err(|_| self.silent())??;
        let _left = timeout(Duration::from_secs(1), connection.quit()).await;
        Ok(())
    }

    fn silent(&self) -> SendError {
        SendError::unavailable(format!("{} gave no answer within {} s", self.url, self.deadline.as_secs()))
    }

    async fn attempt(&self, message: &Message) -> Result<(), SendError> {
        let rested = match self.take_rested() {
            Some(connection) => connection::still_usable(connection).await,
            None => None,
        };
        let mut connection = match rested {
            Some(connection) => connection,
            None => connection::open(&self.url, self.tls.as_ref(), self.hello_name.as_deref()).await?,
        };
        let outcome = connection::deliver(&mut connection, message).await;
        // After a refusal of one message the connection is as good as before.
        if !outcome.as_ref().is_err_and(SendError::concerns_all) {
            *self.rested.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
        }
        outcome
    }

    fn take_rested(&self) -> Option<AsyncSmtpConnection> {
        self.rested.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[async_trait]
impl Transport for Smtp {
    async fn send(&self, message: &Message) -> Result<(), SendError> {
        // The deadline of the library concerns connecting alone.
        match timeout(self.deadline, self.attempt(message)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.silent()),
        }
    }

    async fn rest(&self) {
        if let Some(mut connection) = self.take_rested() {
            // Leaving politely is worth a moment, and no more.
            let _left = timeout(Duration::from_secs(1), connection.quit()).await;
        }
    }
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smtp")
            .field("url", &self.url)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl SmtpBuilder {
    /// Certificate authorities that are trusted beside those of the operating system.
    pub fn extra_roots(mut self, roots: Roots) -> Self {
        self.roots = roots;
        self
    }

    /// The name by which this machine greets the server: its domain name, best the public URL's host. Some servers
    /// insist on one. A text that is not a domain name is ignored; without a name, the greeting has the machine's
    /// network address (RFC 5321 §4.1.4).
    pub fn hello_name(mut self, name: &str) -> Self {
        let is_address = name.parse::<std::net::Ipv4Addr>().is_ok();
        let address = EmailAddress::parse(&format!("x@{name}")).ok().filter(|_| !is_address);
        self.hello_name =
            address.and_then(|address| address.key().split_once('@').map(|(_, domain)| domain.to_owned()));
        self
    }

    /// The longest that one message may take, connecting included. Default: 30 s.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The transport. Nothing is connected yet.
    ///
    /// # Errors
    /// [`RootsError`] if TLS is asked for and no certificate authority is known.
    pub fn build(self) -> Result<Smtp, RootsError> {
        let tls = match self.url.tls() {
            TlsMode::None => None,
            TlsMode::StartTls | TlsMode::Implicit => Some(Tls::new(&self.roots, self.url.host())?),
        };
        let Self { url, hello_name, deadline, .. } = self;
        Ok(Smtp { url, tls, hello_name, deadline, rested: Mutex::new(None) })
    }
}
