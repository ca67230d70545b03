//! How much memory hostile input takes (SEC-002, SEC-025).
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use countersign_jwt::claims::decode_unverified;
use countersign_jwt::key::{Jwk, JwkSet};
use countersign_jwt::{Algorithm, JsonError, SigningKey, TokenType, VerifyError, VerifyingKey, jws};
use serde_json::json;
use support::{at, encode, header, issued, key, payload, ring, signed, verifier};

/// The most bytes that `work` holds at once.
fn peak<T>(work: impl FnOnce() -> T) -> u64 {
    allocation_counter::measure(|| drop(work())).bytes_max
}

/// Whatever the input, an error and a few names may take so much.
const LITTLE: u64 = 4 * 1024;

/// Texts of about `bytes` that would be much larger as trees, and end in the middle of nowhere.
fn inflating(bytes: usize) -> Vec<(&'static str, String)> {
    let of = |part: &str| part.repeat(bytes / part.len());
    vec![
        ("objects", format!(r#""x":[{}{{}}]"#, of(r#"{"a":0},"#))),
        ("empty objects", format!(r#""x":[{}{{}}]"#, of("{},"))),
        ("empty lists", format!(r#""x":[{}[]]"#, of("[],"))),
        ("numbers", format!(r#""x":[{}0]"#, of("0,"))),
        ("one-letter texts", format!(r#""x":[{}0]"#, of(r#""a","#))),
        ("nested objects", format!(r#""x":{}1{}"#, r#"{"a":"#.repeat(30), "}".repeat(30))),
        ("escapes", format!(r#""x":"{}""#, of(r"\u0041"))),
        ("members", (0..bytes / 8).map(|n| format!(r#""{n:x}":0"#)).collect::<Vec<_>>().join(",")),
    ]
}

#[test]
fn sec_002_an_oversized_token_is_refused_without_allocating() {
    let key = key(Algorithm::Hs256);
    let (ring, verifier) = (ring(&[&key]), verifier(&key, TokenType::Access));
    let megabytes = 10 << 20;
    let good = issued(&key, TokenType::Access);
    // What a thread allocates once.
    assert!(verifier.verify(&good, at(0)).is_ok());
    for (case, token) in [
        ("one segment", "a".repeat(megabytes)),
        ("dots", ".".repeat(megabytes)),
        ("a long header", format!("{}.a.a", "a".repeat(megabytes))),
        ("a long payload", format!("a.{}.a", "a".repeat(megabytes))),
        ("a long signature", format!("{good}{}", "A".repeat(megabytes))),
        ("a known header", format!("{}.{}.a", good.split('.').next().unwrap(), "A".repeat(megabytes))),
        ("not ASCII", "é".repeat(megabytes / 2)),
    ] {
        assert_eq!(jws::verify(&token, &ring).unwrap_err(), VerifyError::TooLong, "{case}");
        assert_eq!(peak(|| jws::verify(&token, &ring)), 0, "{case}");
        assert_eq!(peak(|| verifier.verify(&token, at(0))), 0, "{case}");
        assert_eq!(peak(|| decode_unverified(&token)), 0, "{case}");
        assert_eq!(peak(|| Jwk::parse(token.as_bytes())), 0, "{case}");
        assert_eq!(peak(|| JwkSet::parse(token.as_bytes())), 0, "{case}");
    }
}

#[test]
fn sec_025_a_header_that_nobody_signed_takes_little_memory() {
    let key = key(Algorithm::EdDsa);
    let (ring, verifier) = (ring(&[&key]), verifier(&key, TokenType::Access));
    for bytes in [100, 500, 1_400] {
        for (case, members) in inflating(bytes) {
            let head = format!(r#"{{"alg":"EdDSA","kid":"{}",{members}}}"#, key.key_id());
            let token = format!("{}.e30.{}", encode(head), encode([7; 64]));
            assert!(jws::verify(&token, &ring).is_err());
            let allowed = 16 * token.len() as u64 + LITTLE;
            for taken in [peak(|| jws::verify(&token, &ring)), peak(|| verifier.verify(&token, at(0)))] {
                assert!(taken <= allowed, "{case} of {bytes} bytes: {taken}, {allowed} allowed");
            }
        }
    }
}

/// A tree has a size of its own: a member alone in its object takes some 650 bytes for 8 of text. Members and elements
/// are what bounds it, however long the text is; who gets this far has the issuer's key, or is importing keys.
#[test]
fn sec_025_trees_of_claims_and_keys_are_bounded() {
    const TREE: u64 = 256 * 1024;
    let key = key(Algorithm::Hs256);
    let verifier = verifier(&key, TokenType::Access);
    for bytes in [100, 1_000, 5_500] {
        for (case, members) in inflating(bytes) {
            let claims = format!("{{{members},{}", &payload().to_string()[1..]);
            let token = signed(&key, header(&key).to_string(), claims);
            let allowed = 16 * token.len() as u64 + TREE;
            assert!(peak(|| verifier.verify(&token, at(1))) <= allowed, "{case} of {bytes} bytes");
            assert!(peak(|| decode_unverified(&token)) <= allowed, "{case} of {bytes} bytes");
        }
    }
    for bytes in [100, 10_000, 60_000] {
        for (case, members) in inflating(bytes) {
            let jwk = format!(r#"{{"kty":"oct","k":"AAAA",{members}}}"#);
            let set = format!(r#"{{"keys":[{jwk}]}}"#);
            let allowed = 16 * set.len() as u64 + TREE;
            assert!(peak(|| Jwk::parse(jwk.as_bytes())) <= allowed, "{case} of {bytes} bytes");
            assert!(peak(|| JwkSet::parse(set.as_bytes())) <= allowed, "{case} of {bytes} bytes");
        }
    }
}

#[test]
fn sec_025_keys_in_pem_and_der_take_memory_as_they_are_long() {
    for algorithm in support::asymmetric() {
        let key = key(algorithm);
        let (public, pem) =
            (key.verifying_key().to_public_key_der().unwrap(), key.dangerous_private_key_pem());
        let pem = pem.unwrap();
        let cut = &public[..public.len() - 1];
        let long = [&public[..], &[0; 50_000]].concat();
        let noise = format!("{}{}", "x\n".repeat(20_000), *pem);
        let doubled = format!("{}{}", *pem, *pem);
        let broken = pem.replace('\n', &"\r\n".repeat(10_000));
        let headers = pem.replacen('\n', &format!("\n{}\n", "a:\n".repeat(10_000)), 1);
        let certificates = format!("{}{}", "-----BEGIN A-----\n-----END A-----\n".repeat(1_000), *pem);
        for der in [&public, cut, &long] {
            let taken = peak(|| VerifyingKey::from_public_key_der(algorithm, der));
            assert!(taken <= 16 * der.len() as u64 + LITTLE, "{algorithm}: {taken} for {} bytes", der.len());
        }
        for text in [pem.as_str(), &noise, &doubled, &broken, &headers, &certificates] {
            let taken = peak(|| SigningKey::from_private_key_pem(algorithm, text));
            assert!(
                taken <= 16 * text.len() as u64 + LITTLE,
                "{algorithm}: {taken} for {} bytes",
                text.len()
            );
        }
    }
}

#[test]
fn sec_171_a_hundred_thousand_claims_cost_no_more_than_the_first_few() {
    let key = key(Algorithm::Hs256);
    let many: serde_json::Map<_, _> = (0..100_000).map(|n| (format!("c{n}"), json!(n))).collect();
    let text = serde_json::Value::Object(many).to_string();
    let token = signed(&key, header(&key).to_string(), &text);
    let verifier = verifier(&key, TokenType::Access);
    assert_eq!(verifier.verify(&token, at(0)).unwrap_err(), VerifyError::TooLong);
    assert_eq!(peak(|| verifier.verify(&token, at(0))), 0);
    // As many as fit are still more than may be.
    let fitting: serde_json::Map<_, _> = (0..500).map(|n| (format!("c{n}"), json!(0))).collect();
    let token = signed(&key, header(&key).to_string(), serde_json::Value::Object(fitting).to_string());
    assert_eq!(verifier.verify(&token, at(0)).unwrap_err(), VerifyError::Claims(JsonError::TooLarge));
    assert!(peak(|| verifier.verify(&token, at(0))) <= 16 * token.len() as u64);
}
