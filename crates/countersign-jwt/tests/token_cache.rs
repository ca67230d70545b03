//! A verifier that remembers tokens says what one that forgets says.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign_jwt::jws::Limits;
use countersign_jwt::{
    Algorithm, Issuer, KeyRing, NewClaims, SigningKey, TokenId, TokenType, Verifier, VerifyError,
};
use proptest::prelude::*;
use serde_json::json;
use support::{Seeded, at, header, issued, key, new_claims, payload, ring, signed, with};

const ALGORITHMS: [Algorithm; 4] = [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Hs256, Algorithm::Rs256];

/// The same name, and another key.
static IMPOSTOR: LazyLock<SigningKey> = LazyLock::new(|| {
    let key = SigningKey::generate(Algorithm::EdDsa, &Seeded::new(8)).unwrap();
    key.with_key_id(support::key(Algorithm::EdDsa).key_id().clone())
});
static KEYS: LazyLock<Vec<SigningKey>> = LazyLock::new(|| ALGORITHMS.map(key).to_vec());
/// A second key of an algorithm, so that tokens without `kid` are refused beside it.
static SECOND: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::generate(Algorithm::EdDsa, &Seeded::new(3)).unwrap());

/// Rings that the verifiers may be given: all keys, the same made anew, some, none, others of the same name.
static RINGS: LazyLock<Vec<KeyRing>> = LazyLock::new(|| {
    let all: Vec<_> = KEYS.iter().collect();
    let anew = ALGORITHMS.map(key);
    vec![
        ring(&all),
        ring(&anew.iter().collect::<Vec<_>>()),
        ring(&all[..2]),
        ring(&[&all[..], &[&SECOND]].concat()),
        ring(&[&IMPOSTOR, all[1]]),
        KeyRing::new(),
    ]
});

static TOKENS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut tokens = Vec::new();
    for key in KEYS.iter() {
        let claims = new_claims(TokenType::Access);
        tokens.push(issued(key, TokenType::Access));
        tokens.push(issued(key, TokenType::Refresh));
        tokens.push(Issuer::new(key.clone()).with_audience("other").issue(&claims).unwrap());
        tokens.push(Issuer::new(key.clone()).with_issuer("other").issue(&claims).unwrap());
        tokens.push(signed(key, with(header(key), json!({"kid": null})), payload().to_string()));
        tokens.push(signed(
            key,
            header(key).to_string(),
            with(payload(), json!({"nbf": support::NOW + 400})),
        ));
        tokens.push(signed(key, header(key).to_string(), with(payload(), json!({"exp": "never"}))));
        let (input, tail) = tokens[tokens.len() - 7].rsplit_once('.').unwrap();
        let (head, _) = input.split_once('.').unwrap();
        // Another payload under a signature that is remembered.
        tokens.push(format!("{head}.{}.{tail}", support::encode(with(payload(), json!({"sub": "eve"})))));
    }
    tokens
});

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn remembering_changes_no_verdict(
        steps in prop::collection::vec(
            (any::<prop::sample::Index>(), 0_usize..24, -1_000_i64..2_000, 0_usize..500), 1..60,
        ),
        capacity in 1_usize..40,
    ) {
        let keys = Arc::new(ArcSwap::from_pointee(RINGS[0].clone()));
        let plain = Verifier::new(TokenType::Access, Arc::clone(&keys)).with_issuer("us");
        let plain = [Verifier::new(TokenType::Access, Arc::clone(&keys)), plain];
        let remembering = plain.clone().map(|verifier| verifier.with_cache(capacity));
        let plain = plain.map(|verifier| verifier.with_cache(0));
        for (token, ring, seconds, damage) in steps {
            if let Some(ring) = RINGS.get(ring) {
                keys.store(Arc::new(ring.clone()));
            }
            let mut token = TOKENS[token.index(TOKENS.len())].clone();
            if damage < token.len() {
                token.replace_range(damage..=damage, "A");
            }
            for (plain, remembering) in plain.iter().zip(&remembering) {
                // Twice: what the first one leaves behind must not change the second one.
                for _ in 0..2 {
                    prop_assert_eq!(remembering.verify(&token, at(seconds)), plain.verify(&token, at(seconds)));
                }
                prop_assert_eq!(remembering.verify_expired_ok(&token), plain.verify_expired_ok(&token));
            }
        }
    }
}

#[test]
fn sec_041_a_remembered_token_goes_with_its_very_key() {
    for key in KEYS.iter() {
        let keys = Arc::new(ArcSwap::from_pointee(ring(&[key])));
        let verifier = Verifier::new(TokenType::Access, Arc::clone(&keys)).with_cache(16);
        let token = issued(key, TokenType::Access);
        for _ in 0..3 {
            assert!(verifier.verify(&token, at(0)).is_ok());
        }
        keys.store(Arc::new(KeyRing::new()));
        assert_eq!(verifier.verify(&token, at(0)).unwrap_err(), VerifyError::UnknownKey);
        let other = SigningKey::generate(Algorithm::EdDsa, &Seeded::new(5)).unwrap();
        keys.store(Arc::new(ring(&[&other.with_key_id(key.key_id().clone())])));
        assert!(verifier.verify(&token, at(0)).is_err());
    }
}

#[test]
fn a_remembered_token_still_expires() {
    let key = key(Algorithm::EdDsa);
    let token = issued(&key, TokenType::Access);
    let verifier = support::verifier(&key, TokenType::Access).with_leeway(Duration::from_secs(10)).unwrap();
    assert!(verifier.verify(&token, at(0)).is_ok());
    for (seconds, expected) in [
        (909, Ok(())),
        (910, Err(VerifyError::Expired)),
        (-11, Err(VerifyError::IssuedInFuture)),
        (0, Ok(())),
    ] {
        assert_eq!(verifier.verify(&token, at(seconds)).map(drop), expected, "{seconds}");
    }
    let elsewhere = verifier.clone().with_audience("elsewhere");
    assert_eq!(elsewhere.verify(&token, at(0)).unwrap_err(), VerifyError::Audience);
    let short = verifier.with_limits(Limits { token_bytes: 100, ..Limits::default() });
    assert_eq!(short.verify(&token, at(0)).unwrap_err(), VerifyError::TooLong);
}

#[test]
fn more_tokens_than_fit_are_verified_all_the_same() {
    let key = key(Algorithm::EdDsa);
    let verifier = support::verifier(&key, TokenType::Access).with_cache(8);
    let random = Seeded::new(1);
    let tokens: Vec<_> = (0..100)
        .map(|_| {
            let id = TokenId::new(countersign_jwt::random::uuid(&random).unwrap());
            let claims = NewClaims::new(TokenType::Access, "ada".parse().unwrap(), id, at(0), at(900));
            (id, Issuer::new(key.clone()).issue(&claims).unwrap())
        })
        .collect();
    for (id, token) in tokens.iter().chain(&tokens) {
        assert_eq!(verifier.verify(token, at(0)).unwrap().token_id(), *id);
    }
}
