//! What is measured: each piece of work beside what it is compared with, on the same bytes.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    reason = "a benchmark, each of which uses a part of this"
)]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::hmac as hmac_of_aws;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::{NO_PAD, URL_SAFE_NO_PAD};
use countersign_jwt::{
    Algorithm, Epoch, Freshness, Generation, Issuer, KeyId, KeyRing, NewClaims, Random, RandomError,
    SessionId, SessionRef, SigningKey, Timestamp, TokenId, TokenType, UserId, Verifier, random,
};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

pub(crate) const ISSUED: i64 = 1_800_000_000;
const ISSUER: &str = "https://auth.example";

pub(crate) const COUNTERSIGN: &str = "countersign";
pub(crate) const PEER: &str = "jsonwebtoken";
pub(crate) const BARE: &str = "bare signature";

/// Something to do over and over.
pub(crate) struct Work {
    pub(crate) name: String,
    pub(crate) run: Box<dyn FnMut()>,
}

impl Work {
    fn new<T>(name: impl Into<String>, mut run: impl FnMut() -> T + 'static) -> Self {
        Self { name: name.into(), run: Box::new(move || drop(black_box(run()))) }
    }
}

/// What a token says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Size {
    /// All that a server of ours puts into an access token: 473 bytes with HS256.
    Session,
    /// No session: 333 bytes with HS256.
    Plain,
}

/// Everything that is needed to issue and verify one token.
pub(crate) struct Subject {
    pub(crate) key: SigningKey,
    pub(crate) issuer: Issuer,
    pub(crate) claims: NewClaims,
    pub(crate) token: String,
    /// Remembers nothing.
    pub(crate) verifier: Verifier,
    pub(crate) remembering: Verifier,
    pub(crate) now: Timestamp,
    audience: &'static str,
}

/// Bytes that look random and are the same in every run.
#[derive(Debug)]
struct Counting(AtomicU64);

impl Random for Counting {
    fn fill(&self, dest: &mut [u8]) -> Result<(), RandomError> {
        for byte in dest {
            let n = self.0.fetch_add(1, Ordering::Relaxed);
            *byte = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[0];
        }
        Ok(())
    }
}

/// What the peer and the JSON readers read the same claims into, and write them from.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct PeerClaims {
    iss: String,
    sub: String,
    aud: String,
    iat: u64,
    exp: u64,
    jti: String,
    #[serde(rename = "type")]
    kind: String,
    fresh: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    #[serde(rename = "gen", skip_serializing_if = "Option::is_none")]
    generation: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
}

impl Subject {
    pub(crate) fn new(algorithm: Algorithm, size: Size) -> Self {
        let random = Counting(0.into());
        let uuid = || random::uuid(&random).unwrap();
        let key = SigningKey::generate(algorithm, &random).unwrap();
        let (user, audience) = match size {
            Size::Session => (UserId::from(uuid()), "https://api.example"),
            Size::Plain => (UserId::new("10421742").unwrap(), "api.example"),
        };
        let claims = NewClaims::new(
            TokenType::Access,
            user,
            TokenId::new(uuid()),
            Timestamp::from_secs(ISSUED),
            // Far ahead, because the peer asks the system for the time.
            Timestamp::from_secs(ISSUED + 1_000_000_000),
        )
        .with_freshness(Freshness::Fresh);
        let session =
            SessionRef { id: SessionId::new(uuid()), generation: Generation::new(3), epoch: Epoch::new(1) };
        let (key, claims) = match size {
            Size::Session => (key.with_key_id(KeyId::new("2026-01").unwrap()), claims.with_session(session)),
            Size::Plain => (key.with_key_id(KeyId::new("1").unwrap()), claims),
        };
        let issuer = Issuer::new(key.clone()).with_issuer(ISSUER).with_audience(audience);
        let token = issuer.issue(&claims).unwrap();
        if algorithm == Algorithm::Hs256 {
            assert_eq!(token.len(), if size == Size::Plain { 333 } else { 473 }, "the docs name the length");
        }
        let mut ring = KeyRing::new();
        ring.insert(key.verifying_key()).unwrap();
        let remembering =
            Verifier::with_fixed_keys(TokenType::Access, ring).with_issuer(ISSUER).with_audience(audience);
        let verifier = remembering.clone().with_cache(0);
        Self {
            key,
            issuer,
            claims,
            token,
            verifier,
            remembering,
            now: Timestamp::from_secs(ISSUED + 60),
            audience,
        }
    }

    fn payload(&self) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(self.token.split('.').nth(1).unwrap()).unwrap()
    }

    /// Verifying the token, and all that it cannot be done without.
    pub(crate) fn verifying(&self) -> Vec<Work> {
        let (verifier, token, now) = (self.verifier.clone(), self.token.clone(), self.now);
        let mut works =
            vec![Work::new(COUNTERSIGN, move || verifier.verify(black_box(&token), now).unwrap())];
        let (verifier, token) = (self.remembering.clone(), self.token.clone());
        works.push(Work::new("countersign, token seen before", move || {
            verifier.verify(black_box(&token), now).unwrap()
        }));
        works.push(self.peer_verifies());
        works.extend(self.bare_verification());
        if self.key.algorithm() == Algorithm::Hs256 {
            works.extend(self.bare_base64());
            works.extend(self.bare_json());
        }
        works
    }

    fn peer_verifies(&self) -> Work {
        use jsonwebtoken::{Algorithm as Peer, DecodingKey, Validation, decode};

        let public = self.key.verifying_key();
        let (algorithm, decoding) = match self.key.algorithm() {
            Algorithm::Hs256 => (Peer::HS256, DecodingKey::from_secret(&self.key.to_secret_bytes())),
            Algorithm::Rs256 => (Peer::RS256, DecodingKey::from_rsa_der(public.public_key().unwrap())),
            Algorithm::EdDsa => (Peer::EdDSA, DecodingKey::from_ed_der(public.public_key().unwrap())),
            _ => (Peer::ES256, DecodingKey::from_ec_der(public.public_key().unwrap())),
        };
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        let token = self.token.clone();
        Work::new(PEER, move || decode::<PeerClaims>(black_box(&token), &decoding, &validation).unwrap())
    }

    fn bare_verification(&self) -> Vec<Work> {
        let (signed, signature) = self.token.rsplit_once('.').unwrap();
        let (signed, signature) = (signed.to_owned(), URL_SAFE_NO_PAD.decode(signature).unwrap());
        let public = self.key.verifying_key();
        let Some(bytes) = public.public_key() else {
            let secret = self.key.to_secret_bytes();
            let ours = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
            let theirs = hmac_of_aws::Key::new(hmac_of_aws::HMAC_SHA256, &secret);
            let (text, tag) = (signed.clone(), signature.clone());
            return vec![
                Work::new("HMAC, hmac and sha2", move || {
                    ours.clone().chain_update(black_box(signed.as_bytes())).verify_slice(&signature).unwrap();
                }),
                Work::new("HMAC, aws-lc-rs", move || {
                    hmac_of_aws::verify(&theirs, black_box(text.as_bytes()), &tag).unwrap();
                }),
            ];
        };
        let algorithm: &'static dyn VerificationAlgorithm = match self.key.algorithm() {
            Algorithm::EdDsa => &ED25519,
            Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
            _ => &ECDSA_P256_SHA256_FIXED,
        };
        let parsed = ParsedPublicKey::new(algorithm, bytes).unwrap();
        vec![Work::new(BARE, move || parsed.verify_sig(black_box(signed.as_bytes()), &signature).unwrap())]
    }

    /// Decoding payload and signature, without allocating.
    fn bare_base64(&self) -> Vec<Work> {
        let segments: Vec<String> = self.token.split('.').skip(1).map(str::to_owned).collect();
        let vector = base64::engine::Simd::url_safe(NO_PAD);
        let (a, b, c) = (segments.clone(), segments.clone(), segments);
        let [mut x, mut y, mut z] = [[0; 512]; 3];
        vec![
            Work::new("base64, general purpose", move || {
                a.iter()
                    .map(|text| URL_SAFE_NO_PAD.decode_slice(black_box(text), &mut x).unwrap())
                    .sum::<usize>()
            }),
            Work::new("base64, vector engine", move || {
                b.iter().map(|text| vector.decode_slice(black_box(text), &mut y).unwrap()).sum::<usize>()
            }),
            Work::new("base64, base64-simd", move || {
                let decode = |text: &String| {
                    let out = base64_simd::Out::from_slice(&mut z);
                    base64_simd::URL_SAFE_NO_PAD.decode(black_box(text.as_bytes()), out).unwrap().len()
                };
                c.iter().map(decode).sum::<usize>()
            }),
        ]
    }

    /// Reading the claims into a struct.
    fn bare_json(&self) -> Vec<Work> {
        let (a, b) = (self.payload(), self.payload());
        vec![
            Work::new("JSON, serde_json", move || {
                serde_json::from_slice::<PeerClaims>(black_box(&a)).unwrap()
            }),
            Work::new("JSON, sonic-rs", move || sonic_rs::from_slice::<PeerClaims>(black_box(&b)).unwrap()),
        ]
    }

    /// Issuing the token.
    pub(crate) fn issuing(&self) -> Vec<Work> {
        use jsonwebtoken::{Algorithm as Peer, EncodingKey, Header, encode};

        let (issuer, claims) = (self.issuer.clone(), self.claims.clone());
        let mut works = vec![Work::new(COUNTERSIGN, move || issuer.issue(black_box(&claims)).unwrap())];
        let secret = self.key.to_secret_bytes();
        let (algorithm, encoding) = match self.key.algorithm() {
            Algorithm::Hs256 => (Peer::HS256, EncodingKey::from_secret(&secret)),
            Algorithm::EdDsa => {
                let pem = self.key.dangerous_private_key_pem().unwrap();
                let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
                let der = base64::engine::general_purpose::STANDARD.decode(der).unwrap();
                (Peer::EdDSA, EncodingKey::from_ed_der(&der))
            }
            Algorithm::Rs256 => return works,
            _ => (Peer::ES256, EncodingKey::from_ec_der(&secret)),
        };
        let mut header = Header::new(algorithm);
        header.kid = Some(self.key.key_id().to_string());
        header.typ = Some("at+jwt".to_owned());
        let claims: PeerClaims = serde_json::from_slice(&self.payload()).unwrap();
        assert_eq!(encode(&header, &claims, &encoding).unwrap().len(), self.token.len());
        works.push(Work::new(PEER, move || encode(&header, black_box(&claims), &encoding).unwrap()));

        let signed = self.token.rsplit_once('.').unwrap().0.to_owned();
        works.push(match self.key.algorithm() {
            Algorithm::Hs256 => {
                let key = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
                Work::new(BARE, move || {
                    key.clone().chain_update(black_box(signed.as_bytes())).finalize().into_bytes()
                })
            }
            Algorithm::EdDsa => {
                let key = Ed25519KeyPair::from_seed_unchecked(&secret).unwrap();
                Work::new(BARE, move || key.sign(black_box(signed.as_bytes())))
            }
            _ => {
                let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &secret).unwrap();
                Work::new(BARE, move || key.sign(&SystemRandom::new(), black_box(signed.as_bytes())).unwrap())
            }
        });
        works
    }
}
