//! One GET request, as a client from elsewhere would make it.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use url::Url;

/// How long the whole may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// The most bytes of a body that are read.
const MOST_BYTES: usize = 64 * 1024;

/// An answer, and the certificates by which it was protected.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    pub(super) chain: Vec<CertificateDer<'static>>,
}

/// The authorities that this system trusts.
pub(super) fn authorities() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

/// Asks for an http or https URL. Redirects are not followed.
///
/// # Errors
/// What prevented an answer.
pub(super) async fn get(url: &Url) -> Result<Fetched, Box<dyn Error>> {
    match tokio::time::timeout(DEADLINE, get_now(url)).await {
        Ok(fetched) => fetched,
        Err(_) => Err(format!("no answer within {} s", DEADLINE.as_secs()).into()),
    }
}

async fn get_now(url: &Url) -> Result<Fetched, Box<dyn Error>> {
    let host = url.host_str().ok_or("the URL names no host")?;
    let port = url.port_or_known_default().ok_or("the URL names no port")?;
    let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    if url.scheme() != "https" {
        return exchange(tcp, url, Vec::new()).await;
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities());
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())?;
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
    exchange(tls, url, chain).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    url: &Url,
    chain: Vec<CertificateDer<'static>>,
) -> Result<Fetched, Box<dyn Error>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(&url[url::Position::BeforePath..])
        .header(header::HOST, &url[url::Position::BeforeHost..url::Position::AfterPort])
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("countersign/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<bytes::Bytes>::new())?;
    let asked = async {
        let answer = sender.send_request(request).await?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, MOST_BYTES).collect().await;
        let body = body.map_err(|error| -> Box<dyn Error> { error })?.to_bytes().to_vec();
        Ok(Fetched { status: head.status, headers: head.headers, body, chain })
    };
    tokio::select! {
        fetched = asked => fetched,
        // It ends only by an error while an answer is awaited.
        ended = connection => Err(ended.err().map_or_else(|| "the connection was closed".into(), Into::into)),
    }
}
