//! https without a proxy.

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use reqwest::{Certificate, ClientBuilder, Version};
use serde_json::json;

use crate::client::{Client, PASSWORD, send};
use crate::server::{Folder, Server};

const FILES: [(&str, &str); 2] =
    [("COUNTERSIGN_TLS_CERT", "certificate.pem"), ("COUNTERSIGN_TLS_KEY", "key.pem")];

fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap()
}

/// Puts a new certificate and its key into the folder.
fn write(folder: &Folder) -> Certificate {
    let CertifiedKey { cert, signing_key } = certificate();
    folder.write("certificate.pem", &cert.pem());
    folder.write("key.pem", &signing_key.serialize_pem());
    Certificate::from_pem(cert.pem().as_bytes()).unwrap()
}

fn trusting(certificate: &Certificate) -> ClientBuilder {
    reqwest::Client::builder().tls_certs_only([certificate.clone()])
}

async fn serve(folder: &Folder, settings: &[(&str, &str)]) -> Server {
    let mut server = folder.serve_with(&[&FILES, settings].concat()).await;
    server.url = server.url.replace("0.0.0.0", "127.0.0.1");
    server
}

#[tokio::test]
async fn https_is_served_by_http_2_and_by_http_1_1_from_tls_1_2_on() {
    let folder = Folder::new();
    let certificate = write(&folder);
    let server = serve(&folder, &[]).await;
    assert!(server.url.starts_with("https://127.0.0.1:"), "{}", server.url);
    let browser = trusting(&certificate);
    for (client, version) in [
        (browser, Version::HTTP_2),
        (trusting(&certificate).http1_only(), Version::HTTP_11),
        (trusting(&certificate).max_tls_version(reqwest::tls::Version::TLS_1_2), Version::HTTP_2),
    ] {
        let client = client.build().unwrap();
        let answer = client.get(format!("{}/v1/auth/whoami", server.url)).send().await.unwrap();
        assert_eq!(answer.version(), version);
        let seen: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert_eq!((&seen["scheme"], &seen["address"]), (&json!("https"), &json!("127.0.0.1")));
    }
    let strangers = reqwest::Client::new().get(format!("{}/healthz", server.url)).send().await;
    assert!(strangers.is_err(), "a certificate of nobody's is not accepted");
    server.stop().await;
}

#[tokio::test]
async fn sec_154_over_tls_other_machines_are_served_and_cookies_are_secure() {
    for listen in ["127.0.0.1:0", "0.0.0.0:0"] {
        let folder = Folder::new();
        let certificate = write(&folder);
        let server = serve(&folder, &[("COUNTERSIGN_LISTEN", listen)]).await;
        let client = Client::with(trusting(&certificate), &server);
        client.register("ada@example.org").await;
        let body = json!({ "email": "ada@example.org", "password": PASSWORD, "cookies": true });
        let answer = client.post("/v1/auth/login", &body).await.expect(200);
        let (_, attributes) = answer.cookie("__Host-countersign_access").expect("a cookie");
        assert!(attributes.contains("Secure"), "{attributes}");
        for (scheme, status) in [("https", 200), ("http", 403)] {
            let login = client.request(reqwest::Method::POST, "/v1/auth/login").json(&body);
            let login = login.header("origin", format!("{scheme}://{}", server.address()));
            assert_eq!(send(login).await.unwrap().status, status, "{listen} {scheme}");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_stop_the_start_with_the_remedy() {
    let folder = Folder::new();
    write(&folder);
    let good = |name: &str| std::fs::read_to_string(folder.path(name)).unwrap();
    let (certificate, key) = (good("certificate.pem"), good("key.pem"));
    let other = self::certificate().signing_key.serialize_pem();
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (case, certificate, key, mode, expected) in [
        (
            "another key",
            certificate.as_str(),
            other.as_str(),
            0o600,
            "is not the one of the first certificate",
        ),
        ("no certificate", "hello", &key, 0o600, "fullchain.pem"),
        ("the key for the certificate", &key, &key, 0o600, "holds no certificate"),
        ("the certificate for the key", &certificate, &certificate, 0o600, "holds no private key"),
        ("an encrypted key", &certificate, encrypted, 0o600, "openssl pkey -in"),
        (
            "a broken certificate",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            &key,
            0o600,
            "cannot be used",
        ),
        ("an open key", &certificate, &key, 0o644, "chmod 600 key.pem"),
    ] {
        folder.write("certificate.pem", certificate);
        folder.write("key.pem", key);
        folder.set_mode("key.pem", mode);
        let ran = folder.run(&["serve", "--listen", "127.0.0.1:0"], &FILES).await;
        ran.assert_refused(&[expected]);
        assert!(!ran.stderr.contains("PRIVATE KEY-----\n"), "{case}: {ran:?}");
        assert!(!folder.path("countersign.db").exists(), "{case}: nothing was begun");
    }
    std::fs::remove_file(folder.path("key.pem")).unwrap();
    let ran = folder.run(&["serve", "--listen", "127.0.0.1:0"], &FILES).await;
    ran.assert_refused(&["cannot read key.pem", "COUNTERSIGN_TLS_KEY"]);
}
