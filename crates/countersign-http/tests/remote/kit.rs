//! Issuers whose keys the test holds, and a network that is under its control.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512,
    RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use countersign_http::remote::{
    FetchError, FetchJwks, JwksUrl, RemoteClaims, RemoteIssuer, RemoteIssuers, RemoteVerifyError,
};
use countersign_jwt::{Algorithm, KeyId, SigningKey};
use countersign_testkit::{FixedClock, SeededRandom};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// What `FixedClock` starts with.
pub(crate) const NOW: i64 = FixedClock::START.as_secs();

/// A key named `id`, always the same one for the same id but for RSA.
pub(crate) fn key(algorithm: Algorithm, id: &str) -> SigningKey {
    let seed = id.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31) + u64::from(byte));
    let key = SigningKey::generate(algorithm, &SeededRandom::new(seed)).unwrap();
    key.with_key_id(KeyId::new(id).unwrap())
}

pub(crate) fn jwk(key: &SigningKey) -> Value {
    serde_json::from_str(&key.verifying_key().to_jwk().unwrap()).unwrap()
}

/// A JSON object with some members changed; null takes one away.
pub(crate) fn with(object: &Value, changes: Value) -> Value {
    let mut object = object.clone();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => object.as_object_mut().unwrap().remove(name),
            value => object.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    object
}

pub(crate) fn key_set(keys: &[&SigningKey]) -> String {
    json!({ "keys": keys.iter().map(|key| jwk(key)).collect::<Vec<_>>() }).to_string()
}

/// The header that `key` usually signs with.
pub(crate) fn header(key: &SigningKey) -> Value {
    json!({"alg": key.algorithm().name(), "kid": key.key_id().as_str(), "typ": "at+jwt"})
}

/// Claims that `issuers().audience("api")` accepts.
pub(crate) fn claims(issuer: &str) -> Value {
    json!({"iss": issuer, "sub": "user-1", "aud": "api", "iat": NOW - 60, "exp": NOW + 3600})
}

/// A compact token with any header and payload. The product's own signer writes only headers that it accepts.
pub(crate) fn sign(key: &SigningKey, header: &Value, claims: &Value) -> String {
    sign_text(key, &header.to_string(), &claims.to_string())
}

pub(crate) fn sign_text(key: &SigningKey, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let (secret, random) = (key.to_secret_bytes(), SystemRandom::new());
    let signature = match key.algorithm() {
        Algorithm::Es256 => {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &secret).unwrap();
            pair.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec()
        }
        Algorithm::EdDsa => {
            let pair = Ed25519KeyPair::from_seed_unchecked(&secret).unwrap();
            pair.sign(message.as_bytes()).as_ref().to_vec()
        }
        Algorithm::Rs256 | Algorithm::Rs512 => {
            let pair = RsaKeyPair::from_pkcs8(&secret).unwrap();
            let mut signature = vec![0; pair.public_modulus_len()];
            let padding =
                if key.algorithm() == Algorithm::Rs256 { &RSA_PKCS1_SHA256 } else { &RSA_PKCS1_SHA512 };
            pair.sign(padding, &random, message.as_bytes(), &mut signature).unwrap();
            signature
        }
        other => panic!("the kit does not sign with {other}"),
    };
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A good token of `issuer`.
pub(crate) fn token(key: &SigningKey, issuer: &str) -> String {
    sign(key, &header(key), &claims(issuer))
}

/// A network with a text at each URL, which counts and can make everybody wait.
#[derive(Debug)]
pub(crate) struct FakeNetwork {
    texts: Mutex<HashMap<String, Result<String, StatusCode>>>,
    fetches: AtomicUsize,
    gate: Semaphore,
}

impl FakeNetwork {
    pub(crate) fn new() -> Arc<Self> {
        let gate = Semaphore::new(Semaphore::MAX_PERMITS);
        Arc::new(Self { texts: Mutex::default(), fetches: AtomicUsize::new(0), gate })
    }

    pub(crate) fn publish(&self, url: &str, text: impl Into<String>) {
        self.texts.lock().unwrap().insert(url.to_owned(), Ok(text.into()));
    }

    pub(crate) fn fail(&self, url: &str) {
        self.texts.lock().unwrap().insert(url.to_owned(), Err(StatusCode::BAD_GATEWAY));
    }

    pub(crate) fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    /// Fetches begin from here on, but do not end until `open`.
    pub(crate) fn close(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub(crate) fn open(&self) {
        self.gate.add_permits(1_000);
    }
}

#[async_trait]
impl FetchJwks for FakeNetwork {
    async fn fetch(&self, url: &JwksUrl) -> Result<Bytes, FetchError> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        match self.texts.lock().unwrap().get(url.as_url().as_str()) {
            Some(Ok(text)) => Ok(text.clone().into()),
            Some(Err(status)) => Err(FetchError::Status(*status)),
            None => Err(FetchError::Status(StatusCode::NOT_FOUND)),
        }
    }
}

pub(crate) const ISSUER: &str = "https://sso.example.com/a";
pub(crate) const URL: &str = "https://sso.example.com/a/jwks.json";

/// One issuer, with the default rules and the audience `api`, and all that it depends on.
pub(crate) struct Bed {
    pub(crate) network: Arc<FakeNetwork>,
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) issuers: RemoteIssuers,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::with([RemoteIssuer::new(ISSUER, URL).audience("api")])
    }

    pub(crate) fn with(issuers: impl IntoIterator<Item = RemoteIssuer>) -> Self {
        let (network, clock) = (FakeNetwork::new(), Arc::new(FixedClock::default()));
        let issuers = RemoteIssuers::with(issuers, network.clone(), clock.clone()).unwrap();
        Self { network, clock, issuers }
    }

    /// With a key set at [`URL`].
    pub(crate) fn publishing(self, keys: &[&SigningKey]) -> Self {
        self.network.publish(URL, key_set(keys));
        self
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(crate) async fn verify(&self, token: &str) -> Result<RemoteClaims, RemoteVerifyError> {
        self.issuers.verify(token).await
    }

    /// The refusal's text; panics if there is none.
    pub(crate) async fn refusal(&self, token: &str) -> String {
        self.verify(token).await.expect_err("token is refused").to_string()
    }

    /// Lets tasks in the background end.
    pub(crate) async fn settle(&self) {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}
