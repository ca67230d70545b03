//! JWKs and JWK sets of any bytes.

use countersign_jwt::key::{Jwk, JwkSet};
use countersign_jwt::{Algorithm, KeyRing, SigningKey, VerifyingKey, jws};
use serde_json::Value;

use crate::json::faults;
use crate::keys::theirs;
use crate::memory::{TREE, bounded};

/// The input is read as a key and as a set.
pub fn jwk(input: &[u8]) {
    let key = bounded(input.len(), TREE, || Jwk::parse(input));
    let set = bounded(input.len(), TREE, || JwkSet::parse(input));
    if key.is_ok() || set.is_ok() {
        let (faults, _) = faults(input);
        assert!(!faults.contains("not UTF-8"));
        // Their length bounds them, not what they are made of. Each key of a set is judged by itself.
        assert!(set.is_ok() || faults.iter().all(|fault| *fault == "too large"), "strict JSON");
        assert!(input.len() <= Jwk::MAX_BYTES);
    }
    if let Ok(key) = &key {
        one(key);
        check_spelling(key, input);
        for algorithm in Algorithm::ALL {
            if let Ok(key) = key.clone().with_algorithm(algorithm) {
                assert_eq!(key.algorithm(), Some(algorithm));
                one(&key);
            }
        }
    }
    if let Ok(set) = &set {
        set.keys().iter().for_each(one);
        if let Ok(ring) = set.to_ring() {
            check_published(&ring);
            let kinds = ring.iter().map(|key| key.public_key().is_some());
            assert!(kinds.collect::<std::collections::BTreeSet<_>>().len() < 2, "secrets among public keys");
        }
        for key in set.published(&Algorithm::ALL).ring.iter() {
            assert!(key.public_key().is_some(), "a secret that is published");
        }
    }
}

/// A public key has one spelling: what is accepted is what would be written.
fn check_spelling(key: &Jwk, input: &[u8]) {
    let key =
        key.algorithm().or(Some(Algorithm::Rs256)).and_then(|name| key.clone().with_algorithm(name).ok());
    let Some(jwk) = key.and_then(|key| key.verifying_key().ok()?.to_jwk()) else { return };
    let (written, read): (Value, Value) =
        (serde_json::from_str(&jwk).expect("JSON"), serde_json::from_slice(input).expect("JSON"));
    // What else stands there belongs to other types of keys and is ignored.
    for name in ["kty", "crv", "x", "y", "n", "e"] {
        assert!(written.get(name).is_none_or(|value| read.get(name) == Some(value)), "{name}");
    }
}

fn one(key: &Jwk) {
    let verifying = key.verifying_key();
    if let Ok(verifying) = &verifying {
        assert_eq!(Some(verifying.algorithm()), key.algorithm());
        assert!(key.key_id().is_none_or(|id| id == verifying.key_id()));
        assert_eq!(key.is_symmetric(), verifying.to_jwk().is_none(), "secrets have no public form");
        check_public(verifying);
    }
    if let Ok(signing) = key.signing_key() {
        if let Ok(verifying) = &verifying {
            assert!(same(verifying, &signing.verifying_key()));
        }
        check_signing(&signing);
    }
}

/// A public key comes back from its JWK, its PEM and its DER as it was.
pub(crate) fn check_public(key: &VerifyingKey) {
    let Some(jwk) = key.to_jwk() else { return };
    check_members(&serde_json::from_str(&jwk).expect("JSON"));
    let back = Jwk::parse(jwk.as_bytes()).expect("our own JWK");
    assert!(same(&back.verifying_key().expect("our own JWK"), key));
    assert!(back.signing_key().is_err(), "a public key does not sign");
    let (pem, der) = (key.to_public_key_pem().expect("public"), key.to_public_key_der().expect("public"));
    for back in [
        VerifyingKey::from_public_key_pem(key.algorithm(), &pem),
        VerifyingKey::from_public_key_der(key.algorithm(), &der),
    ] {
        let back = back.expect("our own form").with_key_id(key.key_id().clone());
        assert!(same(&back, key));
    }
    // What others may have can be no secret.
    for bytes in [jwk.as_bytes(), pem.as_bytes(), &der] {
        assert!(SigningKey::hmac(Algorithm::Hs256, bytes).is_err());
    }
}

/// A private key comes back from its JWK and its PEM as it was, and what it signs verifies, elsewhere, too.
pub(crate) fn check_signing(key: &SigningKey) {
    check_public(&key.verifying_key());
    let algorithm = key.algorithm();
    let jwk = key.dangerous_private_jwk().expect("a private form");
    let back = Jwk::parse(jwk.as_bytes()).expect("our own JWK").signing_key().expect("our own JWK");
    assert!(same(&back.verifying_key(), &key.verifying_key()));
    if algorithm.is_symmetric() {
        assert_eq!(back.to_secret_bytes(), key.to_secret_bytes());
    } else {
        let pem = key.dangerous_private_key_pem().expect("a private form");
        let back = SigningKey::from_private_key_pem(algorithm, &pem).expect("our own PEM");
        assert_eq!(back.verifying_key().public_key(), key.verifying_key().public_key());
        assert!(VerifyingKey::from_public_key_pem(algorithm, &pem).is_err(), "private is not public");
    }
    let mut ring = KeyRing::new();
    ring.insert(key.verifying_key()).expect("the first one");
    let token = jws::sign(key, "test", b"{}").expect("it signs");
    assert_eq!(jws::verify(&token, &ring).expect("it verifies").payload, b"{}");
    if let Some((theirs_name, decoding)) = theirs(key) {
        let (input, signature) = token.rsplit_once('.').expect("three segments");
        let verdict = jsonwebtoken::crypto::verify(signature, input.as_bytes(), &decoding, theirs_name);
        assert_eq!(verdict.ok(), Some(true), "they refuse our signature");
    }
}

/// What a ring publishes has no secret in it and makes the same ring again, without the shared secrets.
fn check_published(ring: &KeyRing) {
    let published = ring.to_jwk_set();
    let value: Value = serde_json::from_str(&published).expect("JSON");
    value["keys"].as_array().expect("keys").iter().for_each(check_members);
    if published.len() > Jwk::MAX_BYTES {
        return;
    }
    let back = JwkSet::parse(published.as_bytes()).expect("our own set").to_ring().expect("our own set");
    let public: Vec<_> = ring.iter().filter(|key| key.public_key().is_some()).collect();
    assert_eq!(back.len(), public.len());
    assert!(back.iter().zip(public).all(|(back, key)| same(back, key)));
}

fn check_members(jwk: &Value) {
    let allowed = ["kty", "crv", "x", "y", "n", "e", "alg", "kid", "use"];
    let members = jwk.as_object().expect("an object");
    assert!(members.keys().all(|name| allowed.contains(&name.as_str())), "{:?}", members.keys());
}

fn same(one: &VerifyingKey, other: &VerifyingKey) -> bool {
    one.algorithm() == other.algorithm()
        && one.key_id() == other.key_id()
        && one.public_key() == other.public_key()
        && one.thumbprint() == other.thumbprint()
}
