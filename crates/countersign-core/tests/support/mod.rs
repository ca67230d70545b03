//! What the token tests share: seeded randomness, keys, and tokens with any header and payload.
#![allow(dead_code, missing_docs, reason = "each test binary uses a part of this")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Mutex;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_core::{
    Algorithm, Epoch, Freshness, Generation, Issuer, KeyId, KeyRing, NewClaims, Random, RandomError,
    SessionId, SessionRef, SigningKey, Timestamp, TokenId, TokenType, UserId, Verifier, random,
};
use serde_json::{Value, json};

pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const ALL: [Algorithm; 3] = [Algorithm::Hs256, Algorithm::Es256, Algorithm::EdDsa];

/// A chain of hashes: unpredictable enough for tests, the same in every run.
#[derive(Debug)]
pub(crate) struct Seeded(Mutex<[u8; 32]>);

impl Seeded {
    pub(crate) fn new(seed: u8) -> Self {
        Self(Mutex::new([seed; 32]))
    }
}

impl Random for Seeded {
    fn fill(&self, dest: &mut [u8]) -> Result<(), RandomError> {
        let mut state = self.0.lock().unwrap();
        for chunk in dest.chunks_mut(32) {
            let next = digest(&SHA256, state.as_slice());
            state.copy_from_slice(next.as_ref());
            let block = digest(&SHA256, &[state.as_slice(), b"out"].concat());
            chunk.copy_from_slice(&block.as_ref()[..chunk.len()]);
        }
        Ok(())
    }
}

/// A source that has failed.
#[derive(Debug)]
pub(crate) struct Broken;

impl Random for Broken {
    fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
        Err(RandomError)
    }
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(NOW + seconds)
}

pub(crate) fn key(algorithm: Algorithm) -> SigningKey {
    let key = SigningKey::generate(algorithm, &Seeded::new(7)).unwrap();
    key.with_key_id(KeyId::new(&format!("test-{algorithm}")).unwrap())
}

pub(crate) fn ring(keys: &[&SigningKey]) -> KeyRing {
    let mut ring = KeyRing::new();
    for key in keys {
        ring.insert(key.verifying_key()).unwrap();
    }
    ring
}

pub(crate) fn new_claims(kind: TokenType) -> NewClaims {
    let random = Seeded::new(9);
    NewClaims::new(
        kind,
        UserId::new("ada").unwrap(),
        TokenId::new(random::uuid(&random).unwrap()),
        at(0),
        at(900),
    )
    .with_freshness(Freshness::Fresh)
    .with_session(SessionRef {
        id: SessionId::new(random::uuid(&random).unwrap()),
        generation: Generation::new(3),
        epoch: Epoch::new(2),
    })
}

pub(crate) fn verifier(key: &SigningKey, kind: TokenType) -> Verifier {
    Verifier::with_fixed_keys(kind, ring(&[key])).with_leeway(std::time::Duration::ZERO).unwrap()
}

pub(crate) fn issued(key: &SigningKey, kind: TokenType) -> String {
    Issuer::new(key.clone()).issue(&new_claims(kind)).unwrap()
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// Signs whatever header and payload, with primitives that know nothing about tokens.
pub(crate) fn signed(key: &SigningKey, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
    let input = format!("{}.{}", encode(header), encode(payload));
    let signature = signature(key, input.as_bytes());
    format!("{input}.{}", encode(signature))
}

pub(crate) fn signature(key: &SigningKey, input: &[u8]) -> Vec<u8> {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};

    let secret = key.to_secret_bytes();
    match key.algorithm() {
        Algorithm::Hs256 => {
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
            aws_lc_rs::hmac::sign(&key, input).as_ref().to_vec()
        }
        Algorithm::Es256 => {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &secret).unwrap();
            pair.sign(&SystemRandom::new(), input).unwrap().as_ref().to_vec()
        }
        _ => Ed25519KeyPair::from_seed_unchecked(&secret).unwrap().sign(input).as_ref().to_vec(),
    }
}

/// A header that is right for `key` and access tokens.
pub(crate) fn header(key: &SigningKey) -> Value {
    json!({"alg": key.algorithm().name(), "kid": key.key_id().as_str(), "typ": "at+jwt"})
}

/// Claims that are right for an access token.
pub(crate) fn payload() -> Value {
    json!({
        "sub": "ada", "iat": NOW, "exp": NOW + 900, "type": "access", "fresh": false,
        "jti": "0b8f0a3e-6f0e-4f0e-9a52-0d3a7c1f2b4d",
    })
}

/// `base` with some members changed; `null` takes one away.
pub(crate) fn with(mut base: Value, changes: Value) -> String {
    let map = base.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            map.remove(name);
        } else {
            map.insert(name.clone(), value.clone());
        }
    }
    base.to_string()
}
