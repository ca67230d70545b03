//! How much memory verifying takes, counted.
#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod support;

use allocation_counter::{AllocationInfo, measure};
use countersign_jwt::{Algorithm, Issuer, NewClaims, TokenId, TokenType, random};
use support::{Seeded, at, issued, key, verifier};

#[test]
fn a_token_seen_before_is_verified_without_allocating() {
    for algorithm in support::ALL {
        let key = key(algorithm);
        let token = issued(&key, TokenType::Access);
        let verifier = verifier(&key, TokenType::Access);
        // Verified, verified and remembered, found and copied for this thread.
        for _ in 0..3 {
            verifier.verify(&token, at(0)).unwrap();
        }
        let memory = measure(|| {
            for _ in 0..1_000 {
                verifier.verify(&token, at(0)).unwrap();
            }
        });
        assert_eq!(memory, AllocationInfo::default(), "{algorithm}");
    }
}

#[test]
fn verifying_leaves_nothing_behind() {
    let key = key(Algorithm::Hs256);
    let token = issued(&key, TokenType::Access);
    let verifier = verifier(&key, TokenType::Access).with_cache(0);
    verifier.verify(&token, at(0)).unwrap();
    let memory = measure(|| {
        for _ in 0..1_000 {
            verifier.verify(&token, at(0)).unwrap();
        }
    });
    assert_eq!((memory.count_current, memory.bytes_current), (0, 0));
    // The payload, its claims, and the subject.
    assert_eq!(memory.count_total, 3_000);
}

#[test]
fn remembered_tokens_take_bounded_memory() {
    let key = key(Algorithm::Hs256);
    let issuer = Issuer::new(key.clone());
    let random = Seeded::new(4);
    let verifier = verifier(&key, TokenType::Access).with_cache(64);
    let mut grown = [0, 0, 0].map(|_: i64| {
        let tokens: Vec<String> = (0..1_000)
            .map(|_| {
                let id = TokenId::new(random::uuid(&random).unwrap());
                let user = "ada".parse().unwrap();
                issuer.issue(&NewClaims::new(TokenType::Access, user, id, at(0), at(900))).unwrap()
            })
            .collect();
        measure(|| {
            for token in &tokens {
                for _ in 0..3 {
                    verifier.verify(token, at(0)).unwrap();
                }
            }
        })
        .bytes_current
    });
    assert!(grown[0] > 0, "something was remembered");
    assert!(grown[0] < 128 * 1024, "{} bytes for 64 tokens", grown[0]);
    grown[0] = 0;
    assert!(grown.iter().all(|bytes| bytes.abs() < 4 * 1024), "no growth once it is full: {grown:?}");
}

#[test]
fn hs256_tokens_that_come_once_are_not_kept() {
    let key = key(Algorithm::Hs256);
    let issuer = Issuer::new(key.clone());
    let random = Seeded::new(5);
    let verifier = verifier(&key, TokenType::Access).with_cache(64);
    let new = || {
        let id = TokenId::new(random::uuid(&random).unwrap());
        let user = "ada".parse().unwrap();
        issuer.issue(&NewClaims::new(TokenType::Access, user, id, at(0), at(900))).unwrap()
    };
    // The first makes the table.
    verifier.verify(&new(), at(0)).unwrap();
    let tokens: Vec<_> = (0..1_000).map(|_| new()).collect();
    let memory = measure(|| {
        for token in &tokens {
            verifier.verify(token, at(0)).unwrap();
        }
    });
    assert_eq!((memory.count_current, memory.bytes_current), (0, 0));
}
