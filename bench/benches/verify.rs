//! Verifying a token with all its claims checked, beside `jsonwebtoken` and beside the bare primitives.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac as hmac_of_aws;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_core::{
    Algorithm, Epoch, Freshness, Generation, Issuer, KeyId, KeyRing, NewClaims, Random, RandomError,
    SessionId, SessionRef, SigningKey, Timestamp, TokenId, TokenType, UserId, Verifier, random,
};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;

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
    let remembering =
        Verifier::with_fixed_keys(TokenType::Access, ring).with_issuer(ISSUER).with_audience(AUDIENCE);
    let verifier = remembering.clone().with_cache(0);

    let mut group = c.benchmark_group(format!("verify/{algorithm}"));
    group.bench_function("countersign", |b| b.iter(|| verifier.verify(black_box(&token), now).unwrap()));
    group.bench_function("countersign, token seen before", |b| {
        b.iter(|| remembering.verify(black_box(&token), now).unwrap());
    });
    // Per token: half of the row above where two threads do twice the work.
    let others = issuer.issue(&claims.clone().with_csrf("other")).unwrap();
    for (name, second) in [("one token", &token), ("own tokens", &others)] {
        group.bench_function(format!("countersign, seen before, two threads, {name}"), |b| {
            b.iter_custom(|rounds| two_threads(&remembering, [&token, second], now, rounds));
        });
    }
    // More tokens than are remembered, one after the other, so that none is seen again in time.
    let many: Vec<_> = (0..3 * Verifier::DEFAULT_CACHE)
        .map(|n| issuer.issue(&claims.clone().with_csrf(n.to_string())).unwrap())
        .collect();
    for (name, verifier) in [("all tokens new", &verifier), ("all tokens new, remembered", &remembering)] {
        let mut tokens = many.iter().cycle();
        group.bench_function(format!("countersign, {name}"), |b| {
            b.iter(|| verifier.verify(black_box(tokens.next().unwrap()), now).unwrap());
        });
    }
    peer(&mut group, &key, &token);
    primitives(&mut group, &key, &token);
    group.bench_function("countersign issues", |b| b.iter(|| issuer.issue(black_box(&claims)).unwrap()));
    group.finish();
}

/// How long two threads take to verify `rounds` tokens together.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn two_threads(verifier: &Verifier, tokens: [&String; 2], now: Timestamp, rounds: u64) -> Duration {
    // So long that the system has spread the threads over its processors.
    const REPEAT: u64 = 16;
    let start = Instant::now();
    thread::scope(|scope| {
        for token in tokens {
            scope.spawn(move || {
                for _ in 0..rounds * REPEAT / 2 {
                    black_box(verifier.verify(black_box(token), now).unwrap());
                }
            });
        }
    });
    start.elapsed() / u32::try_from(REPEAT).unwrap()
}

fn peer(group: &mut BenchmarkGroup<'_, WallTime>, key: &SigningKey, token: &str) {
    use jsonwebtoken::{Algorithm as Peer, DecodingKey, Validation, decode};

    let public = key.verifying_key();
    let (algorithm, decoding) = match key.algorithm() {
        Algorithm::Hs256 => (Peer::HS256, DecodingKey::from_secret(&key.to_secret_bytes())),
        Algorithm::Rs256 => (Peer::RS256, DecodingKey::from_rsa_der(public.public_key().unwrap())),
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
            let mac = Hmac::<Sha256>::new_from_slice(&key.to_secret_bytes()).unwrap();
            group.bench_function("bare signature", |b| {
                b.iter(|| {
                    let mac = mac.clone().chain_update(black_box(signed.as_bytes()));
                    mac.verify_slice(&signature).unwrap();
                });
            });
            let mac = hmac_of_aws::Key::new(hmac_of_aws::HMAC_SHA256, &key.to_secret_bytes());
            group.bench_function("bare signature, aws-lc-rs", |b| {
                b.iter(|| hmac_of_aws::verify(&mac, black_box(signed.as_bytes()), &signature).unwrap());
            });
        }
        Some(bytes) => {
            let algorithm: &'static dyn VerificationAlgorithm = match key.algorithm() {
                Algorithm::EdDsa => &ED25519,
                Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
                _ => &ECDSA_P256_SHA256_FIXED,
            };
            let parsed = ParsedPublicKey::new(algorithm, bytes).unwrap();
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
    for which in [Algorithm::Hs256, Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256] {
        algorithm(c, which);
    }
}

criterion_group!(verify, benches);
criterion_main!(verify);
