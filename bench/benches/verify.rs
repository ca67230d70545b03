//! Verifying a token with all its claims checked, beside `jsonwebtoken` and beside the bare primitives.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_core::{
    Algorithm, Epoch, Freshness, Generation, Issuer, KeyId, KeyRing, NewClaims, Random, RandomError,
    SessionId, SessionRef, SigningKey, Timestamp, TokenId, TokenType, UserId, Verifier, random,
};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use serde::Deserialize;

const ISSUED: i64 = 1_800_000_000;
const ISSUER: &str = "https://auth.example";
const AUDIENCE: &str = "https://api.example";

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

/// What `jsonwebtoken` reads the same token into.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "read, then dropped, as an application would read it")]
struct PeerClaims {
    iss: String,
    sub: String,
    aud: String,
    iat: u64,
    exp: u64,
    jti: String,
    #[serde(rename = "type")]
    kind: String,
    fresh: bool,
    sid: String,
    #[serde(rename = "gen")]
    generation: u32,
    epoch: u64,
}

fn new_claims(random: &dyn Random) -> NewClaims {
    NewClaims::new(
        TokenType::Access,
        UserId::from(random::uuid(random).unwrap()),
        TokenId::new(random::uuid(random).unwrap()),
        Timestamp::from_secs(ISSUED),
        // Far ahead, because the peer asks the system for the time.
        Timestamp::from_secs(ISSUED + 1_000_000_000),
    )
    .with_freshness(Freshness::Fresh)
    .with_session(SessionRef {
        id: SessionId::new(random::uuid(random).unwrap()),
        generation: Generation::new(3),
        epoch: Epoch::new(1),
    })
}

fn algorithm(c: &mut Criterion, algorithm: Algorithm) {
    let random = Counting(0.into());
    let key = SigningKey::generate(algorithm, &random).unwrap().with_key_id(KeyId::new("2026-01").unwrap());
    let issuer = Issuer::new(key.clone()).with_issuer(ISSUER).with_audience(AUDIENCE);
    let claims = new_claims(&random);
    let token = issuer.issue(&claims).unwrap();
    let now = Timestamp::from_secs(ISSUED + 60);

    let mut ring = KeyRing::new();
    ring.insert(key.verifying_key()).unwrap();
    let verifier =
        Verifier::with_fixed_keys(TokenType::Access, ring).with_issuer(ISSUER).with_audience(AUDIENCE);

    let mut group = c.benchmark_group(format!("verify/{algorithm}"));
    group.bench_function("countersign", |b| b.iter(|| verifier.verify(black_box(&token), now).unwrap()));
    peer(&mut group, &key, &token);
    primitives(&mut group, &key, &token);
    group.bench_function("countersign issues", |b| b.iter(|| issuer.issue(black_box(&claims)).unwrap()));
    group.finish();
}

fn peer(group: &mut BenchmarkGroup<'_, WallTime>, key: &SigningKey, token: &str) {
    use jsonwebtoken::{Algorithm as Peer, DecodingKey, Validation, decode};

    let public = key.verifying_key();
    let (algorithm, decoding) = match key.algorithm() {
        Algorithm::Hs256 => (Peer::HS256, DecodingKey::from_secret(&key.to_secret_bytes())),
        Algorithm::EdDsa => (Peer::EdDSA, DecodingKey::from_ed_der(public.public_key().unwrap())),
        _ => (Peer::ES256, DecodingKey::from_ec_der(public.public_key().unwrap())),
    };
    let mut validation = Validation::new(algorithm);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.validate_nbf = true;
    group.bench_function("jsonwebtoken", |b| {
        b.iter(|| decode::<PeerClaims>(black_box(token), &decoding, &validation).unwrap());
    });
}

fn primitives(group: &mut BenchmarkGroup<'_, WallTime>, key: &SigningKey, token: &str) {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let payload = signed.split_once('.').unwrap().1;
    let public = key.verifying_key();
    match public.public_key() {
        None => {
            let mac = hmac::Key::new(hmac::HMAC_SHA256, &key.to_secret_bytes());
            group.bench_function("bare signature", |b| {
                b.iter(|| hmac::verify(&mac, black_box(signed.as_bytes()), &signature).unwrap());
            });
        }
        Some(bytes) => {
            let parsed = if key.algorithm() == Algorithm::EdDsa {
                ParsedPublicKey::new(&ED25519, bytes).unwrap()
            } else {
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes).unwrap()
            };
            group.bench_function("bare signature", |b| {
                b.iter(|| parsed.verify_sig(black_box(signed.as_bytes()), &signature).unwrap());
            });
        }
    }
    group.bench_function("bare base64", |b| b.iter(|| URL_SAFE_NO_PAD.decode(black_box(payload)).unwrap()));
    let json = URL_SAFE_NO_PAD.decode(payload).unwrap();
    group.bench_function("bare JSON", |b| {
        b.iter(|| serde_json::from_slice::<PeerClaims>(black_box(&json)).unwrap());
    });
}

fn benches(c: &mut Criterion) {
    for which in [Algorithm::Hs256, Algorithm::EdDsa, Algorithm::Es256] {
        algorithm(c, which);
    }
}

criterion_group!(verify, benches);
criterion_main!(verify);
