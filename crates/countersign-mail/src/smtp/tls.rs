//! TLS to the mail server.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::url::rustls_name;
use super::{Roots, RootsError};

/// What it takes to encrypt a connection to one server.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    pub(super) fn new(extra: &Roots, host: &str) -> Result<Self, RootsError> {
        let mut roots = RootCertStore::empty();
        // A system's list may have certificates that rustls does not read; the others count.
        let _unread = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for certificate in &extra.0 {
            roots.add(certificate.clone()).map_err(|_| RootsError::Damaged)?;
        }
        if roots.is_empty() {
            return Err(RootsError::NoneKnown);
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider has the usual versions of TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = rustls_name(host).expect("the host was checked with the URL");
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    pub(super) async fn encrypt(&self, tcp: TcpStream) -> io::Result<Encrypted> {
        let tls = self.connector.connect(self.name.clone(), tcp).await?;
        Ok(Encrypted { tls, before: b"" })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An encrypted connection, which can be made to say something before the server does.
#[derive(Debug)]
pub(super) struct Encrypted {
    tls: TlsStream<TcpStream>,
    before: &'static [u8],
}

impl Encrypted {
    /// After STARTTLS the server does not greet again, but a client that begins on the encrypted connection waits for a
    /// greeting. It reads this one.
    pub(super) const fn with_greeting(mut self) -> Self {
        self.before = b"220 encrypted\r\n";
        self
    }
}

impl AsyncTokioStream for Encrypted {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tls.get_ref().0.peer_addr()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.tls).poll_read(context, buffer);
        }
        let (now, later) = self.before.split_at(self.before.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.before = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(context)
    }
}
