//! Programs that the tests serve themselves, beside the server: an attacker's pages, and applications.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::Html;
use axum::serve::Listener;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::server::TlsStream;

/// A port of this machine that nobody else has.
#[derive(Debug)]
pub(crate) struct Place {
    listener: TcpListener,
    pub(crate) port: u16,
}

impl Place {
    pub(crate) async fn free() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port }
    }

    /// Serves a program here, until the test ends.
    pub(crate) fn serve(self, program: Router) {
        tokio::spawn(async move { axum::serve(self.listener, program).await.unwrap() });
    }

    /// Serves a program here over https, with a certificate that nobody has signed.
    pub(crate) fn serve_https(self, program: Router) {
        let listener = Https::new(self.listener);
        tokio::spawn(async move { axum::serve(listener, program).await.unwrap() });
    }
}

/// Serves a program on a port of its own.
pub(crate) async fn serve(program: Router) -> u16 {
    let place = Place::free().await;
    let port = place.port;
    place.serve(program);
    port
}

/// Serves a program on a port of its own over https.
pub(crate) async fn serve_https(program: Router) -> u16 {
    let place = Place::free().await;
    let port = place.port;
    place.serve_https(program);
    port
}

/// A program that has these pages, and an empty one for everything else.
pub(crate) fn pages(pages: BTreeMap<String, String>) -> Router {
    let pages = Arc::new(pages);
    Router::new().fallback(async move |request: Request| {
        Html(pages.get(request.uri().path()).cloned().unwrap_or_default())
    })
}

/// A form that sends itself.
pub(crate) fn form(action: &str, fields: &[(&str, &str)]) -> String {
    let fields: String = fields
        .iter()
        .map(|(name, value)| format!("<input type=hidden name='{name}' value='{value}'>"))
        .collect();
    format!("<form id=f method=post action='{action}'>{fields}</form><script>f.submit()</script>")
}

/// Connections whose handshake is done.
struct Https {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    local: SocketAddr,
}

impl Https {
    fn new(listener: TcpListener) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (done, ready) = mpsc::channel(16);
        let local = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let (acceptor, done) = (acceptor.clone(), done.clone());
                // A browser opens connections that it does not use; nobody waits for those.
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = done.send((stream, peer)).await;
                    }
                });
            }
        });
        Self { ready, local }
    }
}

impl Listener for Https {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        self.ready.recv().await.expect("the task goes on for as long as this is there")
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }
}
