//! Keys of every algorithm, with primitives beside them that sign whatever they are given.

use std::cell::Cell;
use std::fmt;
use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    self as primitive, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RsaSignatureEncoding,
};
use aws_lc_rs::{hmac, rsa};
use countersign_jwt::{Algorithm, KeyId, KeyRing, Random, RandomError, SigningKey};
use jsonwebtoken::DecodingKey;

use crate::json::encode;

pub(crate) struct Key {
    pub(crate) signing: SigningKey,
    primitive: Primitive,
    /// The same key for `jsonwebtoken`, where it knows the algorithm.
    pub(crate) theirs: Option<(jsonwebtoken::Algorithm, DecodingKey)>,
}

enum Primitive {
    Mac(Box<hmac::Key>),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(rsa::KeyPair, &'static RsaSignatureEncoding),
}

/// One key of every algorithm, and a second one of ES384, so that its tokens have to name theirs.
pub(crate) static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let mut keys: Vec<_> = Algorithm::ALL.into_iter().map(|algorithm| Key::new(algorithm, 1)).collect();
    keys.push(Key::new(Algorithm::Es384, 2));
    keys
});

pub(crate) static RING: LazyLock<KeyRing> = LazyLock::new(|| {
    let mut ring = KeyRing::new();
    for key in KEYS.iter() {
        ring.insert(key.signing.verifying_key()).expect("names differ");
    }
    ring
});

/// The key that `choice` means.
pub(crate) fn key(choice: u8) -> &'static Key {
    &KEYS[usize::from(choice) % KEYS.len()]
}

pub(crate) fn key_of(algorithm: Algorithm) -> &'static Key {
    KEYS.iter().find(|key| key.signing.algorithm() == algorithm).expect("every algorithm has a key")
}

impl Key {
    fn new(algorithm: Algorithm, number: u8) -> Self {
        let signing = match algorithm.name().as_bytes() {
            [b'R' | b'P', b'S', ..] => SigningKey::from_private_key_pem(algorithm, RSA_PEM),
            _ => SigningKey::generate(algorithm, &Chain(number)),
        };
        let id = KeyId::new(&format!("{algorithm}-{number}")).expect("a short name");
        let signing = signing.expect("a good key").with_key_id(id);
        Self { primitive: Primitive::new(&signing), theirs: theirs(&signing), signing }
    }

    pub(crate) fn id(&self) -> &str {
        self.signing.key_id().as_str()
    }

    /// A compact token with any header and payload.
    pub(crate) fn token(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        let input = format!("{}.{}", encode(header), encode(payload));
        let signature = self.signature(input.as_bytes());
        format!("{input}.{}", encode(signature))
    }

    pub(crate) fn signature(&self, message: &[u8]) -> Vec<u8> {
        match &self.primitive {
            Primitive::Mac(key) => hmac::sign(key, message).as_ref().to_vec(),
            Primitive::Ecdsa(pair) => {
                pair.sign(&SystemRandom::new(), message).expect("it signs").as_ref().to_vec()
            }
            Primitive::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Primitive::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &SystemRandom::new(), message, &mut signature).expect("it signs");
                signature
            }
        }
    }
}

impl Primitive {
    fn new(key: &SigningKey) -> Self {
        let secret = key.to_secret_bytes();
        let mac = |hash| Self::Mac(Box::new(hmac::Key::new(hash, &secret)));
        let ecdsa = |curve: &'static EcdsaSigningAlgorithm| {
            Self::Ecdsa(EcdsaKeyPair::from_pkcs8(curve, &secret).expect("our own form"))
        };
        let rsa = |encoding| Self::Rsa(rsa::KeyPair::from_pkcs8(&secret).expect("our own form"), encoding);
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
                Self::Ed25519(Ed25519KeyPair::from_seed_unchecked(&secret).expect("our own form"))
            }
            other => panic!("no primitive for {other}"),
        }
    }
}

/// The verifying half for `jsonwebtoken`, by way of our own JWK.
pub(crate) fn theirs(key: &SigningKey) -> Option<(jsonwebtoken::Algorithm, DecodingKey)> {
    let algorithm = key.algorithm().name().parse().ok()?;
    let decoding = match key.verifying_key().to_jwk() {
        None => DecodingKey::from_secret(&key.to_secret_bytes()),
        Some(jwk) => {
            let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_str(&jwk).expect("they read our JWK");
            DecodingKey::from_jwk(&jwk).expect("they take our JWK")
        }
    };
    Some((algorithm, decoding))
}

/// The same bytes in every run.
pub(crate) struct Chain(pub(crate) u8);

thread_local!(static COUNT: Cell<u64> = const { Cell::new(0) });

impl Random for Chain {
    fn fill(&self, dest: &mut [u8]) -> Result<(), RandomError> {
        for chunk in dest.chunks_mut(32) {
            let count = COUNT.replace(COUNT.get() + 1);
            let block = digest(&SHA256, &[&[self.0][..], &count.to_be_bytes()].concat());
            chunk.copy_from_slice(&block.as_ref()[..chunk.len()]);
        }
        Ok(())
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chain")
    }
}

const RSA_PEM: &str = include_str!("../../crates/countersign-jwt/tests/data/rsa.pem");
