//! Whatever arrives, nothing panics; whatever is issued, comes back (SEC-025).
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use countersign_jwt::claims::decode_unverified;
use countersign_jwt::key::{Jwk, JwkSet};
use countersign_jwt::{Algorithm, Issuer, JsonError, SigningKey, TokenType, VerifyError, VerifyingKey, jws};
use proptest::prelude::*;
use serde_json::Value;
use support::{ALL, Seeded, at, header, key, new_claims, ring, signed, verifier};

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Eighths are exact: `serde_json` reads other fractions to the nearest bit or the one beside it.
        any::<i32>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0)),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(".{0,6}", inner, 0..5).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sec_025_any_text_is_refused_without_panic(text in "\\PC*") {
        let key = key(Algorithm::Hs256);
        prop_assert!(verifier(&key, TokenType::Access).verify(&text, at(0)).is_err());
        let _ = decode_unverified(&text);
    }

    #[test]
    fn sec_025_any_segments_are_refused_without_panic(
        head in prop::collection::vec(any::<u8>(), 0..200),
        body in prop::collection::vec(any::<u8>(), 0..200),
        tail in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let token = [head, body, tail].map(support::encode).join(".");
        for algorithm in ALL {
            prop_assert!(jws::verify(&token, &ring(&[&key(algorithm)])).is_err());
        }
        let _ = decode_unverified(&token);
    }

    #[test]
    fn sec_025_any_signed_payload_is_judged_without_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let key = key(Algorithm::Hs256);
        let token = signed(&key, header(&key).to_string(), &body);
        prop_assert!(verifier(&key, TokenType::Access).verify(&token, at(0)).is_err());
        prop_assert_eq!(jws::verify(&token, &ring(&[&key])).unwrap().payload, body);
    }

    #[test]
    fn sec_005_nests_are_judged_by_their_depth(
        objects in prop::collection::vec(any::<bool>(), 0..70),
        sibling in any::<bool>(),
    ) {
        let sibling = if sibling { "0," } else { "" };
        let open = |object: &bool| if *object { r#"{"a":"#.to_owned() } else { format!("[{sibling}") };
        let close = |object: &bool| if *object { '}' } else { ']' };
        let nest: String = objects.iter().map(open).chain(["1".to_owned()]).collect();
        let nest: String = nest.chars().chain(objects.iter().rev().map(close)).collect();
        // The outermost object counts as one.
        let fits = objects.len() < 32;
        let key = key(Algorithm::Hs256);
        let claims = format!(r#"{{"x":{nest},{}"#, &support::payload().to_string()[1..]);
        let verdict = verifier(&key, TokenType::Access).verify(&signed(&key, header(&key).to_string(), claims), at(1));
        prop_assert_eq!(verdict.map(drop), if fits { Ok(()) } else { Err(VerifyError::Claims(JsonError::TooLarge)) });
        let head = format!(r#"{{"x":{nest},{}"#, &header(&key).to_string()[1..]);
        let verdict = jws::verify(&signed(&key, head, "{}"), &ring(&[&key]));
        prop_assert_eq!(verdict.map(drop), if fits { Ok(()) } else { Err(VerifyError::Header(JsonError::TooLarge)) });
    }

    #[test]
    fn sec_025_any_signed_json_is_judged_without_panic(
        name in prop_oneof![
            Just("sub"), Just("aud"), Just("exp"), Just("iat"), Just("jti"), Just("fresh"), Just("sid"), Just("gen"),
        ],
        value in json_value(),
    ) {
        let key = key(Algorithm::Hs256);
        let mut claims = support::payload();
        claims[name] = value;
        let token = signed(&key, header(&key).to_string(), claims.to_string());
        let _ = verifier(&key, TokenType::Access).verify(&token, at(0));
    }

    #[test]
    fn sec_025_any_bytes_are_judged_as_keys_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..130)) {
        let id = key(Algorithm::EdDsa).key_id().clone();
        for algorithm in ALL {
            let _ = SigningKey::hmac(algorithm, &bytes);
            let _ = SigningKey::from_private_key_der(algorithm, &bytes);
            let _ = SigningKey::from_secret_bytes(algorithm, id.clone(), &bytes);
            let _ = VerifyingKey::from_public_key(algorithm, id.clone(), &bytes);
        }
    }

    #[test]
    fn sec_025_any_json_is_judged_as_a_jwk_without_panic(
        kty in prop_oneof![Just("RSA"), Just("EC"), Just("OKP"), Just("oct"), Just("AKP")],
        name in prop_oneof![Just("alg"), Just("crv"), Just("use"), Just("key_ops"), Just("kid"), Just("d"), Just("oth")],
        value in json_value(),
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        pem in "\\PC{0,200}",
    ) {
        let bytes_text = support::encode(&bytes);
        let mut jwk = serde_json::json!({
            "kty": kty, "crv": "P-256", "n": bytes_text, "e": "AQAB", "x": bytes_text, "y": bytes_text, "k": bytes_text,
        });
        jwk[name] = value;
        if let Ok(key) = Jwk::parse(jwk.to_string().as_bytes()) {
            for algorithm in Algorithm::ALL {
                if let Ok(key) = key.clone().with_algorithm(algorithm) {
                    let _ = key.verifying_key();
                    let _ = key.signing_key();
                }
            }
        }
        let _ = JwkSet::parse(serde_json::json!({"keys": [jwk]}).to_string().as_bytes()).map(|set| set.to_ring());
        let _ = Jwk::parse(&bytes);
        for algorithm in Algorithm::ALL {
            for label in ["PUBLIC KEY", "RSA PUBLIC KEY"] {
                let text = format!("-----BEGIN {label}-----\n{pem}\n-----END {label}-----\n");
                let _ = VerifyingKey::from_public_key_pem(algorithm, &text);
                let _ = SigningKey::from_private_key_pem(algorithm, &text.replace("PUBLIC", "PRIVATE"));
            }
            let _ = VerifyingKey::from_public_key_der(algorithm, &bytes);
        }
    }

    #[test]
    fn sec_025_claims_of_any_value_come_back(name in "[a-z_]{7,12}", value in json_value(), csrf in ".{0,20}") {
        let key = key(Algorithm::Hs256);
        let claims = new_claims(TokenType::Access).with_csrf(csrf.as_str()).with_claim(&name, &value).unwrap();
        let token = Issuer::new(key.clone()).issue(&claims).unwrap();
        let read = verifier(&key, TokenType::Access).verify(&token, at(0)).unwrap();
        prop_assert_eq!(read.get::<Value>(&name).unwrap(), Some(value));
        prop_assert_eq!(read.csrf(), Some(csrf.as_str()));
    }

    #[test]
    fn one_changed_character_is_noticed(at_char in 0_usize..400, with in "[A-Za-z0-9_-]", seed in 0_u8..16) {
        let key = SigningKey::generate(ALL[usize::from(seed) % ALL.len()], &Seeded::new(seed)).unwrap();
        let token = support::issued(&key, TokenType::Access);
        let at_char = at_char % token.len();
        let mut changed = token.clone();
        changed.replace_range(at_char..=at_char, &with);
        let verdict = verifier(&key, TokenType::Access).verify(&changed, at(0));
        prop_assert_eq!(verdict.is_ok(), changed == token);
    }
}
