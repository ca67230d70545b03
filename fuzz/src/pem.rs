//! Keys in PEM and DER of any bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_jwt::key::{KeyError, PemContent};
use countersign_jwt::{Algorithm, KeyId, SigningKey, VerifyingKey};

use crate::jwk::{check_public, check_signing};
use crate::memory::{LITTLE, bounded};

/// The first byte chooses the algorithm and whether the others are DER or PEM.
pub fn pem(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else { return };
    let algorithm = Algorithm::ALL[usize::from(choice & 0x7f) % Algorithm::ALL.len()];
    if choice & 0x80 == 0 {
        text(algorithm, bytes);
    } else {
        der(algorithm, bytes);
    }
    secret(algorithm, bytes);
}

fn text(algorithm: Algorithm, bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let public = bounded(text.len(), PARSED, || VerifyingKey::from_public_key_pem(algorithm, text));
    let private = bounded(text.len(), PARSED, || SigningKey::from_private_key_pem(algorithm, text));
    // One text may hold both keys of a pair.
    checked(algorithm, public, Err(KeyError::Pem));
    checked(algorithm, Err(KeyError::Pem), private);
}

fn der(algorithm: Algorithm, bytes: &[u8]) {
    let public = bounded(bytes.len(), PARSED, || VerifyingKey::from_public_key_der(algorithm, bytes));
    let private = bounded(bytes.len(), PARSED, || SigningKey::from_private_key_der(algorithm, bytes));
    // In PEM it is the same key, or none for the same reason.
    let armoured = |label: &str| {
        let body: Vec<_> = STANDARD.encode(bytes).into_bytes();
        let lines = body.chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII"));
        let body: String = lines.map(|line| format!("{line}\n")).collect();
        format!("-----BEGIN {label}-----\n{body}-----END {label}-----\n")
    };
    if !bytes.is_empty() {
        for label in ["PUBLIC KEY", "RSA PUBLIC KEY"] {
            let pem = VerifyingKey::from_public_key_pem(algorithm, &armoured(label));
            assert_eq!(
                pem.map(|key| key.thumbprint()),
                public.clone().map(|key| key.thumbprint()),
                "{label}"
            );
        }
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
            let pem = SigningKey::from_private_key_pem(algorithm, &armoured(label));
            let name = |key: SigningKey| key.key_id().clone();
            assert_eq!(pem.map(name), private.clone().map(name), "{label}");
        }
        assert_eq!(
            VerifyingKey::from_public_key_pem(algorithm, &armoured("CERTIFICATE")).err(),
            Some(KeyError::PemContent(PemContent::Certificate))
        );
    }
    checked(algorithm, public, private);
    // And without any wrapping.
    let id = KeyId::new("raw").expect("a short name");
    if let Ok(key) = VerifyingKey::from_public_key(algorithm, id.clone(), bytes) {
        assert_eq!(key.public_key(), Some(bytes));
        check_public(&key);
    }
    if let Ok(key) = SigningKey::from_secret_bytes(algorithm, id, bytes) {
        check_signing(&key);
    }
}

fn checked(
    algorithm: Algorithm,
    public: Result<VerifyingKey, KeyError>,
    private: Result<SigningKey, KeyError>,
) {
    assert!(public.is_err() || private.is_err(), "public or private, not both");
    if let Ok(key) = public {
        assert_eq!(key.algorithm(), algorithm);
        assert_eq!(key.thumbprint().as_deref(), Some(key.key_id().as_str()));
        check_public(&key);
    }
    if let Ok(key) = private {
        assert_eq!(key.algorithm(), algorithm);
        check_signing(&key);
    }
}

/// What is a key of a key pair in any form is no shared secret.
fn secret(algorithm: Algorithm, bytes: &[u8]) {
    let Ok(key) = SigningKey::hmac(algorithm, bytes) else { return };
    assert!(algorithm.is_symmetric());
    check_signing(&key);
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_symmetric()) {
        assert!(VerifyingKey::from_public_key_der(algorithm, bytes).is_err(), "{algorithm}");
        assert!(VerifyingKey::from_public_key_pem(algorithm, text).is_err(), "{algorithm}");
        assert!(SigningKey::from_private_key_der(algorithm, bytes).is_err(), "{algorithm}");
        assert!(SigningKey::from_private_key_pem(algorithm, text).is_err(), "{algorithm}");
    }
}

/// A key that was read holds its known headers and thumbprint beside itself.
const PARSED: usize = 2 * LITTLE;
