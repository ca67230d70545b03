//! Whether the time that a refusal takes tells how much of a forged MAC was right (SEC-213).
//!
//! The comparisons of secrets, by reading the code: MACs in `key::mac` (`hmac`'s `verify_slice`, which is `subtle`'s),
//! sealed values by AES-GCM in `aws-lc-rs`, passwords by `argon2`'s own, CSRF values in `countersign-http` (`subtle`).
//! The token cache compares whole tokens with `==`, but only with one whose signature ends in the same 16 characters
//! under a keyed hash. Public-key signatures, key ids and headers are no secrets.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::time::Duration;

use countersign_jwt::{Algorithm, Random, VerifyError, jws};
use support::{Seeded, decode, encode, header, key, ring, signed};

/// Measures two kinds of work in random order, so that whatever else the machine does meets both alike. Gives how often
/// the first one takes longer than the second one; 0.5 tells nothing.
#[expect(clippy::disallowed_methods, reason = "time itself is measured here")]
fn compared(samples: usize, work: [&mut dyn FnMut(); 2]) -> f64 {
    let mut order = vec![0; samples / 4];
    Seeded::new(213).fill(&mut order).unwrap();
    let mut taken: Vec<(Duration, bool)> = Vec::with_capacity(2 * samples);
    for bits in order {
        for bit in 0..8 {
            let which = usize::from(bits >> bit & 1);
            let start = std::time::Instant::now();
            work[which]();
            taken.push((start.elapsed(), which == 0));
        }
    }
    // The rank test's statistic: equal times share their rank.
    taken.sort_unstable();
    let (mut rank, mut ranks, mut firsts) = (0.0, 0.0, 0.0);
    for same in taken.chunk_by(|one, other| one.0 == other.0) {
        let first = same.iter().filter(|(_, first)| *first).count() as f64;
        ranks += first * (rank + (same.len() as f64 + 1.0) / 2.0);
        rank += same.len() as f64;
        firsts += first;
    }
    (ranks - firsts * (firsts + 1.0) / 2.0) / (firsts * (rank - firsts))
}

#[test]
#[ignore = "slow: times a million comparisons"]
fn slow_sec_213_a_forged_mac_is_refused_in_the_same_time_wherever_it_is_wrong() {
    const SAMPLES: usize = 200_000;
    for algorithm in [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512] {
        let key = key(algorithm);
        let ring = ring(&[&key]);
        let token = signed(&key, header(&key).to_string(), "{}");
        let (input, tail) = token.rsplit_once('.').unwrap();
        let wrong_at = |byte: usize| {
            let mut tag = decode(tail);
            tag[byte] ^= 1;
            format!("{input}.{}", encode(tag))
        };
        let bytes = decode(tail).len();
        let refuse = |token: &str| {
            assert_eq!(jws::verify(std::hint::black_box(token), &ring).unwrap_err(), VerifyError::Signature);
        };
        let (first, last, again) = (wrong_at(0), wrong_at(bytes - 1), wrong_at(0));
        let null = compared(SAMPLES, [&mut || refuse(&first), &mut || refuse(&again)]);
        let measured = compared(SAMPLES, [&mut || refuse(&first), &mut || refuse(&last)]);
        println!("{algorithm}: first byte against last {measured:.4}, against the same {null:.4}");
        // Chance alone stays within 0.01, a comparison that stops early is near 1, see below.
        assert!((0.47..=0.53).contains(&measured), "{algorithm}: {measured}");
    }
}

/// The same measurement finds a comparison that stops at the first difference, so the test above could fail.
#[test]
#[ignore = "slow: times half a million comparisons"]
fn slow_sec_213_a_comparison_that_stops_early_would_be_noticed() {
    let key = key(Algorithm::Hs512);
    let token = signed(&key, header(&key).to_string(), "{}");
    let tag = decode(token.rsplit_once('.').unwrap().1);
    let (mut first, mut last) = (tag.clone(), tag.clone());
    first[0] ^= 1;
    last[63] ^= 1;
    let naive = |forged: &[u8]| {
        // Beside the work that a verification does anyway.
        let computed = support::signature(&key, token.as_bytes());
        assert_ne!(computed, tag);
        let equal = std::hint::black_box(&tag).iter().zip(std::hint::black_box(forged)).all(|(a, b)| a == b);
        assert!(!std::hint::black_box(equal));
    };
    let measured = compared(200_000, [&mut || naive(&last), &mut || naive(&first)]);
    println!("a naive comparison: {measured:.4}");
    assert!(measured > 0.6, "{measured}");
}
