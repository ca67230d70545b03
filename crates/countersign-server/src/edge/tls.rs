//! TLS by rustls: the certificate and its key, from files that are read again when they change.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{self, Digest, SHA256};
use countersign_sql::open_to_others;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs::default_provider};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ClientConfig, InconsistentKeys, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use zeroize::Zeroizing;

use super::pinned::Pinned;

/// No chain of certificates and no key is larger.
const MOST_BYTES: u64 = 1024 * 1024;

/// The server's side of TLS.
#[derive(Debug)]
pub(crate) struct Tls {
    files: Files,
    certificate: Arc<Certificate>,
    acceptor: Acceptor,
    /// The content of the files when the server started.
    first: Digest,
}

/// The files of a certificate and its key, in PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Files {
    /// The server's own certificate, and behind it those up to an authority.
    pub(crate) certificate: PathBuf,
    /// The private key of the server's own certificate.
    pub(crate) key: PathBuf,
}

/// Why there is no certificate. No message holds any part of the key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot read {}, which {setting} names", path.display())]
    Read { setting: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "{0} holds a private key and is open to other users (mode {mode:03o}); where it is mounted, let it be root's and \
         readable by this user's group alone (Kubernetes: defaultMode: 0440); else run: chmod 600 {0}", .path.display()
    )]
    Open { path: PathBuf, mode: u32 },
    #[error(
        "{0} holds no certificate; it must be PEM (-----BEGIN CERTIFICATE-----): the server's own certificate, and behind it \
         those of the authorities in between (such as Let's Encrypt's fullchain.pem)", .path.display()
    )]
    NoCertificate { path: PathBuf },
    #[error(
        "{0} holds no private key; it must be PEM and not encrypted (-----BEGIN PRIVATE KEY-----; from an encrypted one: \
         openssl pkey -in {0} -out key.pem)", .path.display()
    )]
    NoKey { path: PathBuf },
    #[error(
        "the key in {} is not the one of the first certificate in {}; the server's own certificate comes first, and the key \
         is the one that it was requested with", .files.key.display(), .files.certificate.display()
    )]
    Mismatch { files: Files },
    #[error("the certificate in {} or its key in {} cannot be used", .files.certificate.display(), .files.key.display())]
    Unusable { files: Files, source: rustls::Error },
}

/// The certificate that new connections are shown.
struct Certificate(ArcSwap<CertifiedKey>);

struct Acceptor(TlsAcceptor);

impl Tls {
    /// Reads and checks the files.
    pub(crate) fn open(files: Files) -> Result<Self, TlsError> {
        let provider = Arc::new(default_provider());
        let read = files.read()?;
        let certified = files.parse(&read, &provider)?;
        let certificate = Arc::new(Certificate(ArcSwap::from_pointee(certified)));
        // TLS 1.2 and 1.3; rustls has no older version, and no cipher suite without forward secrecy.
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|source| TlsError::Unusable { files: files.clone(), source })?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(certificate.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = Acceptor(TlsAcceptor::from(Arc::new(config)));
        Ok(Self { files, certificate, acceptor, first: read.digest() })
    }

    pub(super) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor.0
    }

    /// What connects to a server that shows this certificate, and to no other.
    pub(crate) fn connector(&self) -> Result<TlsConnector, TlsError> {
        let unusable = |source| TlsError::Unusable { files: self.files.clone(), source };
        let shown = self.certificate.0.load();
        let certificate = shown.end_entity_cert().map_err(unusable)?.clone().into_owned();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(unusable)?;
        let pinned = Pinned { certificate, provider: default_provider() };
        let config = builder.dangerous().with_custom_certificate_verifier(Arc::new(pinned));
        Ok(TlsConnector::from(Arc::new(config.with_no_client_auth())))
    }

    /// Looks at the files again and again, and takes the certificate from them when they have changed.
    ///
    /// Their content is compared, because a file that is replaced through a link, as Kubernetes and certbot do it, may
    /// keep its time.
    pub(super) async fn follow(&self, every: Duration) {
        let mut last = Seen::Used(self.first);
        loop {
            tokio::time::sleep(every).await;
            let files = self.files.clone();
            let found = tokio::task::spawn_blocking(move || {
                let read = files.read()?;
                let certified = files.parse(&read, &default_provider());
                Ok((read.digest(), certified))
            });
            let Ok(found) = found.await else { continue };
            last = self.take(last, found);
        }
    }

    /// Uses what was found, if it is new and good.
    fn take(&self, last: Seen, found: Result<(Digest, Result<CertifiedKey, TlsError>), TlsError>) -> Seen {
        let error = match found {
            Ok((content, _)) if last.is_in_use(&content) => return Seen::Used(content),
            Ok((content, Ok(certified))) => {
                self.certificate.0.store(Arc::new(certified));
                let certificate = self.files.certificate.display();
                tracing::info!(%certificate, "new connections get the new certificate");
                return Seen::Used(content);
            }
            Ok((_, Err(error))) | Err(error) => error,
        };
        let text = error.to_string();
        match last {
            // Two files cannot be replaced at once, so one that does not fit is given time to be followed by the other.
            Seen::Broken { used, error: before, .. } if before != text => {
                Seen::Broken { used, error: text, is_said: false }
            }
            Seen::Used(used) => Seen::Broken { used, error: text, is_said: false },
            Seen::Broken { used, is_said, .. } => {
                if !is_said {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the certificate's files were changed and cannot be used; connections get the former certificate \
                         until this is corrected"
                    );
                }
                Seen::Broken { used, error: text, is_said: true }
            }
        }
    }
}

/// What the last look at the files has found.
#[derive(Debug)]
enum Seen {
    /// The content that is in use.
    Used(Digest),
    /// Something that cannot be used.
    Broken { used: Digest, error: String, is_said: bool },
}

impl Seen {
    fn is_in_use(&self, content: &Digest) -> bool {
        let (Self::Used(used) | Self::Broken { used, .. }) = self;
        used.as_ref() == content.as_ref()
    }
}

/// The content of both files.
struct Content {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Content {
    fn digest(&self) -> Digest {
        let mut context = digest::Context::new(&SHA256);
        context.update(digest::digest(&SHA256, &self.certificate).as_ref());
        context.update(digest::digest(&SHA256, &self.key).as_ref());
        context.finish()
    }
}

impl Files {
    /// The certificates in the file: the server's own, and those behind it.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        self.parse(&self.read()?, &default_provider()).map(|certified| certified.cert)
    }

    fn read(&self) -> Result<Content, TlsError> {
        let certificate = read("COUNTERSIGN_TLS_CERT", &self.certificate, |_| Ok(()))?;
        let key = read("COUNTERSIGN_TLS_KEY", &self.key, |metadata| match open_to_others(metadata) {
            // What is no regular file, such as a pipe, has no content that stays.
            Some(mode) if metadata.is_file() => Err(TlsError::Open { path: self.key.clone(), mode }),
            _ => Ok(()),
        })?;
        Ok(Content { certificate: certificate.to_vec(), key })
    }

    fn parse(&self, content: &Content, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let unusable = |source| TlsError::Unusable { files: self.clone(), source };
        let certificates = CertificateDer::pem_slice_iter(&content.certificate);
        let certificates = certificates
            .collect::<Result<Vec<_>, pem::Error>>()
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .ok_or_else(|| TlsError::NoCertificate { path: self.certificate.clone() })?;
        let key = PrivateKeyDer::from_pem_slice(&content.key);
        let key = key.map_err(|_| TlsError::NoKey { path: self.key.clone() })?;
        CertifiedKey::from_der(certificates, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::Mismatch { files: self.clone() }
            }
            error => unusable(error),
        })
    }
}

fn read(
    setting: &'static str,
    path: &Path,
    check: impl Fn(&fs::Metadata) -> Result<(), TlsError>,
) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let failed = |source| TlsError::Read { setting, path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    check(&metadata)?;
    // Of the right size from the beginning, so that no copy of a key stays behind.
    let size = usize::try_from(metadata.len().min(MOST_BYTES)).unwrap_or_default();
    let mut content = Zeroizing::new(Vec::with_capacity(size.saturating_add(1)));
    file.take(MOST_BYTES).read_to_end(&mut content).map_err(failed)?;
    Ok(content)
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate(…)")
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor(…)")
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use countersign_http::TrustedProxies;
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::oneshot;
    use tokio_rustls::rustls::RootCertStore;
    use tokio_rustls::rustls::pki_types::ServerName;

    use super::super::{Edge, Limits};
    use super::*;

    struct Folder(TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn files(&self) -> Files {
            Files { certificate: self.0.path().join("certificate.pem"), key: self.0.path().join("key.pem") }
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            fs::write(&path, text).unwrap();
            #[cfg(unix)]
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }

        /// Writes a new certificate, and returns it.
        fn renew(&self) -> CertificateDer<'static> {
            let CertifiedKey { cert, signing_key } =
                generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            self.write("certificate.pem", &cert.pem());
            self.write("key.pem", &signing_key.serialize_pem());
            cert.der().clone()
        }
    }

    /// One look at the files, as [`Tls::follow`] does it.
    fn look(tls: &Tls, last: Seen) -> Seen {
        let found = tls.files.read().map(|read| (read.digest(), tls.files.parse(&read, &default_provider())));
        tls.take(last, found)
    }

    fn shown(tls: &Tls) -> CertificateDer<'static> {
        tls.certificate.0.load().cert[0].clone()
    }

    #[test]
    fn a_new_certificate_is_taken_and_a_broken_one_is_not() {
        let folder = Folder::new();
        let first = folder.renew();
        let tls = Tls::open(folder.files()).unwrap();
        let mut seen = look(&tls, Seen::Used(tls.first));
        assert!(matches!(seen, Seen::Used(_)) && shown(&tls) == first);
        let second = folder.renew();
        seen = look(&tls, seen);
        assert!(matches!(seen, Seen::Used(_)) && shown(&tls) == second);

        // The key is not there yet: nothing is said at the first look.
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        folder.write("certificate.pem", &cert.pem());
        seen = look(&tls, seen);
        assert!(matches!(seen, Seen::Broken { is_said: false, .. }) && shown(&tls) == second, "{seen:?}");
        seen = look(&tls, seen);
        assert!(matches!(seen, Seen::Broken { is_said: true, .. }) && shown(&tls) == second, "{seen:?}");
        folder.write("key.pem", &signing_key.serialize_pem());
        seen = look(&tls, seen);
        assert!(matches!(seen, Seen::Used(_)) && shown(&tls) == *cert.der(), "{seen:?}");

        fs::remove_file(&tls.files.key).unwrap();
        seen = look(&tls, look(&tls, seen));
        assert!(matches!(seen, Seen::Broken { is_said: true, .. }) && shown(&tls) == *cert.der());
        folder.write("key.pem", &signing_key.serialize_pem());
        assert!(matches!(look(&tls, seen), Seen::Used(_)));
    }

    /// The certificate that a new connection is shown, and the answer on it.
    async fn connect(
        address: std::net::SocketAddr,
        trusted: &CertificateDer<'static>,
    ) -> Result<String, io::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = TcpStream::connect(address).await?;
        let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    fn edge(tls: Tls) -> Edge {
        let limits = Limits { certificate: Duration::from_millis(1), ..Limits::default() };
        Edge {
            name: "users",
            limits,
            proxies: TrustedProxies::default(),
            proxy_protocol: false,
            tls: Some(tls),
        }
    }

    #[tokio::test]
    async fn new_connections_get_a_renewed_certificate_without_a_restart() {
        let folder = Folder::new();
        let first = folder.renew();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let router = Router::new().route("/", get(|| async { "hello" }));
        let edge = edge(Tls::open(folder.files()).unwrap());
        let serving = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            edge.serve(listener, router, stopped, Duration::from_secs(10)).await;
        });
        assert!(connect(address, &first).await.unwrap().ends_with("hello"));
        let second = folder.renew();
        let patience = tokio::time::timeout(Duration::from_secs(60), async {
            while connect(address, &second).await.is_err() {
                tokio::task::yield_now().await;
            }
        });
        patience.await.expect("the new certificate is served");
        assert!(connect(address, &first).await.is_err());
        stop.send(()).unwrap();
        serving.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn sec_151_a_handshake_has_10_seconds() {
        use super::super::connection::{Connection, Shared};
        use super::super::places::Places;

        let folder = Folder::new();
        folder.renew();
        for sent in [&b""[..], b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01"] {
            let edge = edge(Tls::open(folder.files()).unwrap());
            let counts = super::super::counts::Counts::of("users");
            let places = Places::new(&edge.limits, counts.clone()).of_addresses();
            let shared = Arc::new(Shared::new(edge, Router::new(), places, counts));
            let (mut client, accepted) = duplex(1024);
            let connection = Connection::new(accepted, ([192, 0, 2, 1], 1).into(), &shared).unwrap();
            let (_stop, stopping) = tokio::sync::watch::channel(false);
            tokio::spawn(connection.serve(shared, stopping));
            client.write_all(sent).await.unwrap();
            let mut read = Vec::new();
            let early = tokio::time::timeout(Duration::from_secs(9), client.read_to_end(&mut read)).await;
            assert!(early.is_err(), "{sent:?}");
            let late = tokio::time::timeout(Duration::from_secs(2), client.read_to_end(&mut read)).await;
            assert!(late.is_ok(), "{sent:?}");
        }
    }
}
