//! One connection: opening it, and handing a message over.

use std::error::Error;
use std::net::IpAddr;

use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt, Rset};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::tls::Tls;
use super::{SmtpUrl, TlsMode};
use crate::message::one_line;
use crate::{Message, SendError};

/// The most characters of a server's answer that an error has.
const MAX_REPLY_CHARS: usize = 300;

/// Opens a connection to the server: encrypted as the URL says, greeted and logged in.
pub(super) async fn open(
    url: &SmtpUrl,
    tls: Option<&Tls>,
    hello_name: Option<&str>,
) -> Result<AsyncSmtpConnection, SendError> {
    let unavailable =
        |what: &str, error: &dyn Error| SendError::unavailable(format!("{url}: {what}: {}", chain(error)));
    let tcp = TcpStream::connect((url.host(), url.port()))
        .await
        .map_err(|error| unavailable("no connection", &error))?;
    let ends = tcp.local_addr().and_then(|own| Ok((own.ip(), tcp.peer_addr()?.ip())));
    let (own, peer) = ends.map_err(|error| unavailable("no connection", &error))?;
    let hello = match (hello_name, own) {
        (Some(name), _) => ClientId::Domain(name.to_owned()),
        (None, IpAddr::V4(address)) => ClientId::Ipv4(address),
        (None, IpAddr::V6(address)) => ClientId::Ipv6(address),
    };

    let stream: Box<dyn AsyncTokioStream> = match (url.tls(), tls) {
        (TlsMode::Implicit, Some(tls)) => {
            Box::new(tls.encrypt(tcp).await.map_err(|error| unavailable("no TLS", &error))?)
        }
        (TlsMode::StartTls, Some(tls)) => {
            let tcp = start_tls(tcp, &hello)
                .await
                .map_err(|problem| SendError::unavailable(format!("{url}: {problem}")))?;
            let encrypted = tls.encrypt(tcp).await.map_err(|error| unavailable("no TLS", &error))?;
            Box::new(encrypted.with_greeting())
        }
        // The name localhost is what the system takes it for.
        (TlsMode::None, _) if peer.is_loopback() => Box::new(tcp),
        (TlsMode::None, _) | (_, None) => {
            return Err(SendError::unavailable(format!(
                "{url}: {peer} is not on this machine, so nothing is sent to it in the clear"
            )));
        }
    };

    let mut connection = AsyncSmtpConnection::connect_with_transport(stream, &hello)
        .await
        .map_err(|error| unavailable("no greeting", &error))?;
    if let Some(credentials) = url.credentials() {
        let credentials = Credentials::new(credentials.user().to_owned(), credentials.password().to_owned());
        connection
            .auth(&[Mechanism::Plain, Mechanism::Login], &credentials)
            .await
            .map_err(|error| unavailable("the login failed", &error))?;
    }
    Ok(connection)
}

/// A connection that was kept, if it still answers. The server forgets what it knew of the message before.
pub(super) async fn still_usable(mut connection: AsyncSmtpConnection) -> Option<AsyncSmtpConnection> {
    let answers = !connection.has_broken() && connection.command(Rset).await.is_ok();
    answers.then_some(connection)
}

/// Hands a message over. After an error that does not concern all messages, the connection can be used again.
pub(super) async fn deliver(
    connection: &mut AsyncSmtpConnection,
    message: &Message,
) -> Result<(), SendError> {
    let refused = |reply: &str| SendError::Refused { reply: reply.to_owned() };
    let bytes = message.to_mime().map_err(|error| refused(&chain(&error)))?;
    let (local_part, domain) = message.recipient();
    let mut parameters = Vec::new();
    if !local_part.is_ascii() {
        if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
            return Err(refused(
                "the address has letters before the @ that this mail server cannot write (SMTPUTF8)",
            ));
        }
        parameters.push(MailParameter::SmtpUtfEight);
    }
    if !bytes.is_ascii() {
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    let sender = message.from().mailbox().email;
    let recipient = Address::new_dangerous(local_part, domain);

    let failed = |stage| move |error| failure(stage, &error);
    connection.command(Mail::new(Some(sender), parameters)).await.map_err(failed(Stage::Sender))?;
    connection.command(Rcpt::new(recipient, Vec::new())).await.map_err(failed(Stage::Message))?;
    connection.command(Data).await.map_err(failed(Stage::Message))?;
    connection.message(&bytes).await.map_err(failed(Stage::Message))?;
    Ok(())
}

/// How far a message has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// The sender was named, which is the same for all messages.
    Sender,
    /// The recipient was named, or the message handed over.
    Message,
}

/// What an error of the server at this stage means for the message and for others.
fn failure(stage: Stage, error: &lettre::transport::smtp::Error) -> SendError {
    let Some(code) = error.status() else {
        return SendError::unavailable(format!("the connection broke off: {}", chain(error)));
    };
    let code = u16::from(code);
    let text = error.source().map(ToString::to_string).unwrap_or_default();
    let reply = one_line(&format!("{code} {text}"), MAX_REPLY_CHARS);
    match (stage, code) {
        // The server closes the connection (421), or the login or the protocol is wrong: no message would pass.
        (_, 421 | 503 | 530 | 534 | 535 | 538) => SendError::unavailable(reply),
        (Stage::Sender, _) => SendError::unavailable(format!("it refuses the sender: {reply}")),
        (Stage::Message, 500..) => SendError::Refused { reply },
        (Stage::Message, _) => SendError::Deferred { reply },
    }
}

/// Brings a connection to the point where TLS begins (RFC 3207).
///
/// This is done by hand and not by the library, because whatever else the server has said in the clear must be thrown
/// away. Otherwise somebody on the way could put answers behind the server's, which would be taken for encrypted ones.
async fn start_tls(tcp: TcpStream, hello: &ClientId) -> Result<TcpStream, String> {
    let mut stream = BufReader::new(tcp);
    let _greeting = answer(&mut stream, "220").await?;
    command(&mut stream, &format!("EHLO {hello}\r\n")).await?;
    let offers = answer(&mut stream, "250").await?;
    if !offers.iter().any(|offer| offer.eq_ignore_ascii_case("STARTTLS")) {
        return Err(
            "it does not offer STARTTLS; if it is encrypted from the start, write ?tls=implicit".to_owned()
        );
    }
    command(&mut stream, "STARTTLS\r\n").await?;
    let _ready = answer(&mut stream, "220").await?;
    if !stream.buffer().is_empty() {
        return Err(
            "more came in the clear than the answer to STARTTLS; somebody on the way may have added it"
                .to_owned(),
        );
    }
    Ok(stream.into_inner())
}

async fn command(stream: &mut BufReader<TcpStream>, line: &str) -> Result<(), String> {
    stream
        .get_mut()
        .write_all(line.as_bytes())
        .await
        .map_err(|error| format!("the connection broke off: {error}"))
}

/// The lines of an answer with this code (RFC 5321 §4.2.1), without the code.
async fn answer(stream: &mut BufReader<TcpStream>, code: &str) -> Result<Vec<String>, String> {
    const MAX_LINES: usize = 100;
    const MAX_LINE_BYTES: u64 = 2_000;
    let mut lines = Vec::new();
    while lines.len() < MAX_LINES {
        let mut line = Vec::new();
        let read = (&mut *stream).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await;
        read.map_err(|error| format!("the connection broke off: {error}"))?;
        let line = String::from_utf8_lossy(&line);
        let Some(line) = line.strip_suffix('\n').map(str::trim_end) else {
            return Err("it ended the connection, or its answer has no end".to_owned());
        };
        let rest =
            line.strip_prefix(code).ok_or_else(|| format!("it said: {}", one_line(line, MAX_REPLY_CHARS)))?;
        let (is_last, text) = match rest.strip_prefix('-') {
            Some(text) => (false, text),
            None => (true, rest.strip_prefix(' ').unwrap_or(rest)),
        };
        lines.push(text.to_owned());
        if is_last {
            return Ok(lines);
        }
    }
    Err("its answer has no end".to_owned())
}

/// An error with its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    one_line(&text, MAX_REPLY_CHARS)
}
