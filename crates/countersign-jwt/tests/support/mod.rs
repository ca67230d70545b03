//! What the token tests share: seeded randomness, keys, and tokens with any header and payload.
#![allow(dead_code, missing_docs, reason = "each test binary uses a part of this")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Mutex;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_jwt::{
    Algorithm, Epoch, Freshness, Generation, Issuer, KeyId, KeyRing, NewClaims, Random, RandomError,
    SessionId, SessionRef, SigningKey, Timestamp, TokenId, TokenType, UserId, Verifier, random,
};
use serde_json::{Value, json};

pub(crate) const NOW: i64 = 1_800_000_000;
/// Every algorithm of which a key can be made in no time: all but RSA.
pub(crate) const ALL: [Algorithm; 8] = [
    Algorithm::Hs256,
    Algorithm::Hs384,
    Algorithm::Hs512,
    Algorithm::Es256,
    Algorithm::Es256k,
    Algorithm::Es384,
    Algorithm::Es512,
    Algorithm::EdDsa,
];
/// The algorithms with RSA keys.
pub(crate) const RSA: [Algorithm; 6] = [
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
];
/// The algorithms with key pairs.
pub(crate) fn asymmetric() -> impl Iterator<Item = Algorithm> {
    Algorithm::ALL.into_iter().filter(|algorithm| !algorithm.is_symmetric())
}

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
    let key = match algorithm {
        // Made once and kept, because searching for primes takes seconds.
        _ if RSA.contains(&algorithm) => {
            SigningKey::from_private_key_pem(algorithm, include_str!("../data/rsa.pem")).unwrap()
        }
        _ => SigningKey::generate(algorithm, &Seeded::new(7)).unwrap(),
    };
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
    use aws_lc_rs::{hmac, rsa, signature as primitive};

    let secret = key.to_secret_bytes();
    let mac = |hash| hmac::sign(&hmac::Key::new(hash, &secret), input).as_ref().to_vec();
    let ecdsa = |curve| {
        let pair = primitive::EcdsaKeyPair::from_pkcs8(curve, &secret).unwrap();
        pair.sign(&SystemRandom::new(), input).unwrap().as_ref().to_vec()
    };
    let rsa = |padding| {
        let pair = rsa::KeyPair::from_pkcs8(&secret).unwrap();
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(padding, &SystemRandom::new(), input, &mut signature).unwrap();
        signature
    };
    match key.algorithm() {
        Algorithm::Hs256 => mac(hmac::HMAC_SHA256),
        Algorithm::Hs384 => mac(hmac::HMAC_SHA384),
        Algorithm::Hs512 => mac(hmac::HMAC_SHA512),
        Algorithm::Rs256 => rsa(&primitive::RSA_PKCS1_SHA256),
        Algorithm::Rs384 => rsa(&primitive::RSA_PKCS1_SHA384),
        Algorithm::Rs512 => rsa(&primitive::RSA_PKCS1_SHA512),
        Algorithm::Ps256 => rsa(&primitive::RSA_PSS_SHA256),
        Algorithm::Ps384 => rsa(&primitive::RSA_PSS_SHA384),
        Algorithm::Ps512 => rsa(&primitive::RSA_PSS_SHA512),
        Algorithm::Es256 => ecdsa(&primitive::ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::Es256k => ecdsa(&primitive::ECDSA_P256K1_SHA256_FIXED_SIGNING),
        Algorithm::Es384 => ecdsa(&primitive::ECDSA_P384_SHA384_FIXED_SIGNING),
        Algorithm::Es512 => ecdsa(&primitive::ECDSA_P521_SHA512_FIXED_SIGNING),
        Algorithm::EdDsa => {
            let pair = primitive::Ed25519KeyPair::from_seed_unchecked(&secret).unwrap();
            pair.sign(input).as_ref().to_vec()
        }
        other => unreachable!("{other}"),
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
