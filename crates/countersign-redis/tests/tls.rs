//! TLS, from nothing but the URL.
#![allow(clippy::unwrap_used, reason = "clippy takes only functions with #[test] for tests")]

mod support;

use std::sync::Arc;

use countersign_core::store::{RevocationStore, SessionStore};
use countersign_redis::{OpenError, RedisOptions, RedisStore};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use support::{Place, key, session};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A CA, and a server of this name that it vouches for.
fn certify(name: &str) -> (String, ServerConfig) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca_params = CertificateParams::new([]).unwrap();
    ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = ca_params.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()])
        .unwrap()
        .signed_by(&key, &Issuer::new(ca_params, ca_key))
        .unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    (ca, config)
}

/// Speaks TLS before a server that does not; returns the port.
async fn start(server: &str, config: ServerConfig) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (server, tls) = (server.to_owned(), TlsAcceptor::from(Arc::new(config)));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (server, tls) = (server.clone(), tls.clone());
            tokio::spawn(async move {
                let Ok(mut client) = tls.accept(client).await else { return };
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ended = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_trusted_if_its_ca_and_its_name_are() {
    let Some(place) = Place::durable() else { return };
    let folder = tempfile::TempDir::new().unwrap();
    let open = async |port: u16, ca: &str| {
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, ca).unwrap();
        let url = place.url_at("rediss", &format!("localhost:{port}"));
        let options = RedisOptions::from_url(&format!("{url}?ssl_ca_certs={}", file.display()))?;
        RedisStore::open(&options.prefix(place.prefix())?).await
    };
    let (ca, config) = certify("localhost");
    let (_, untrusted) = certify("localhost");
    let (other_ca, misnamed) = certify("redis.example");

    let store = open(start(place.server(), config).await, &ca).await.unwrap();
    store.insert_session(&session(1, 1)).await.unwrap();
    assert!(store.session(&key(1, 1)).await.unwrap().is_some());
    let mut changes = store.changes().unwrap();
    place.is_listened_to_by(1).await;
    place.tell();
    assert!(changes.next().await, "the push goes through TLS too");

    for (config, ca) in [(untrusted, &ca), (misnamed, &other_ca)] {
        let refused = open(start(place.server(), config).await, ca).await.unwrap_err();
        assert!(matches!(refused, OpenError::Redis(_)), "{refused}");
    }
    let garbage = open(1, "no certificate").await.unwrap_err();
    assert!(matches!(garbage, OpenError::Certificate), "{garbage}");
}
