//! The compact form, its header, and who may sign.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use countersign_jwt::jws;
use countersign_jwt::jws::Limits;
use countersign_jwt::{
    Algorithm, JsonError, KeyId, KeyRing, SigningKey, TokenType, VerifyError, VerifyErrorKind,
};
use serde_json::{Value, json};
use support::{
    ALL, Seeded, decode, encode, header, issued, key, payload, ring, signature, signed, verifier, with,
};

/// Verifies a token with any header, signed with the right key.
fn verdict_on_header(changes: Value) -> Result<(), VerifyError> {
    let key = key(Algorithm::EdDsa);
    let token = signed(&key, with(header(&key), changes), payload().to_string());
    jws::verify(&token, &ring(&[&key])).map(drop)
}

fn verdict_on_raw_header(header: &[u8]) -> Result<(), VerifyError> {
    let key = key(Algorithm::EdDsa);
    jws::verify(&signed(&key, header, payload().to_string()), &ring(&[&key])).map(drop)
}

#[test]
fn what_is_signed_is_what_is_verified() {
    for algorithm in Algorithm::ALL {
        let key = key(algorithm);
        for payload in [&b""[..], b"{}", b"\0\xff not JSON", &[7; 5_000]] {
            let token = jws::sign(&key, "receipt+jws", payload).unwrap();
            let verified = jws::verify(&token, &ring(&[&key])).unwrap();
            assert_eq!(verified.payload, payload);
            assert_eq!(verified.header.algorithm(), algorithm);
            assert_eq!(verified.header.key_id(), Some(key.key_id()));
            assert_eq!(verified.header.typ(), Some("receipt+jws"));
        }
    }
}

#[test]
fn sec_001_only_three_segments_of_base64url_characters_are_a_token() {
    let key = key(Algorithm::Hs256);
    let ring = ring(&[&key]);
    let good = issued(&key, TokenType::Access);
    let [head, body, tail] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    for (case, token) in [
        ("nothing", String::new()),
        ("one segment", head.to_owned()),
        ("two segments", format!("{head}.{body}")),
        ("four segments", format!("{good}.{tail}")),
        ("four, signed", signed_segments(&key, &format!("{head}.{body}.{body}"))),
        ("a JWE", format!("{head}.{body}.{tail}.{body}.{tail}")),
        ("dots", "..".repeat(20)),
        ("JSON serialization", json!({"payload": body, "protected": head, "signature": tail}).to_string()),
        ("leading space", format!(" {good}")),
        ("trailing line break", format!("{good}\n")),
        ("quotes", format!("\"{good}\"")),
        ("a NUL", format!("{head}.{body}\0.{tail}")),
        ("not ASCII", format!("{head}.{body}é.{tail}")),
        ("standard alphabet", format!("{head}.{body}+/.{tail}")),
        ("a scheme", format!("Bearer {good}")),
    ] {
        assert_eq!(jws::verify(&token, &ring).unwrap_err(), VerifyError::NotCompact, "{case}");
    }
    for token in ["..", ".a.b", "a..b"] {
        assert!(jws::verify(token, &ring).is_err(), "{token}");
    }
    assert!(jws::verify(&good, &ring).is_ok());
}

fn signed_segments(key: &SigningKey, input: &str) -> String {
    format!("{input}.{}", encode(signature(key, input.as_bytes())))
}

#[test]
fn sec_002_length_is_capped_before_anything_is_decoded() {
    let key = key(Algorithm::Hs256);
    let limits = Limits::default();
    let exactly = |bytes: usize| {
        // Header and signature have a fixed length; the payload's padding decides the rest.
        let frame = signed(&key, header(&key).to_string(), "").len();
        let payload = vec![b'x'; (bytes - frame) * 3 / 4];
        signed(&key, header(&key).to_string(), payload)
    };
    let longest = (0..4).map(|less| exactly(limits.token_bytes - less)).find(|t| t.len() > 8_188).unwrap();
    assert!(longest.len() <= limits.token_bytes);
    assert!(jws::verify(&longest, &ring(&[&key])).is_ok());
    let longer = exactly(limits.token_bytes + 3);
    assert!(longer.len() > limits.token_bytes);
    assert_eq!(jws::verify(&longer, &ring(&[&key])).unwrap_err(), VerifyError::TooLong);

    let padded = |bytes: usize| {
        let head = with(header(&key), json!({"x": "y".repeat(bytes)}));
        (encode(&head).len(), signed(&key, head, "{}"))
    };
    let (length, token) = (1_400..1_600).map(padded).rfind(|(length, _)| *length <= 2_048).unwrap();
    assert!(length > 2_040);
    assert!(jws::verify(&token, &ring(&[&key])).is_ok());
    assert_eq!(jws::verify(&padded(1_600).1, &ring(&[&key])).unwrap_err(), VerifyError::TooLong);

    let huge = format!("{}.{}.{}", "a".repeat(10 << 20), "b", "c");
    assert_eq!(jws::verify(&huge, &ring(&[&key])).unwrap_err(), VerifyError::TooLong);
    assert!(jws::sign(&key, "x", &[0; 8_192]).is_err(), "what would be refused is not issued");
}

#[test]
fn sec_002_the_caps_are_exact_and_cannot_be_switched_off() {
    let key = key(Algorithm::Hs256);
    let ring = ring(&[&key]);
    // No base64url text has a length of 4n + 1, so the header's length decides which lengths a token can have.
    let of_length = |length: usize| {
        (0..4).find_map(|pad| {
            let head = with(header(&key), json!({"x": "y".repeat(pad)}));
            let frame = signed(&key, &head, "").len();
            let payload = vec![b'x'; (length - frame) * 3 / 4];
            Some(signed(&key, head, payload)).filter(|token| token.len() == length)
        })
    };
    let at_cap = of_length(8_192).unwrap();
    assert!(jws::verify(&at_cap, &ring).is_ok());
    let beyond = of_length(8_193).unwrap();
    assert_eq!(jws::verify(&beyond, &ring).unwrap_err(), VerifyError::TooLong);

    let with_header_of = |length: usize| {
        let head = (0..2_000).map(|pad| with(header(&key), json!({"x": "y".repeat(pad)})));
        signed(&key, head.into_iter().find(|head| encode(head).len() == length).unwrap(), "{}")
    };
    assert!(jws::verify(&with_header_of(2_048), &ring).is_ok());
    assert_eq!(jws::verify(&with_header_of(2_050), &ring).unwrap_err(), VerifyError::TooLong);

    let off = Limits { token_bytes: usize::MAX, header_bytes: usize::MAX };
    let verifier = verifier(&key, TokenType::Access).with_limits(off);
    let claims = |bytes: usize| with(payload(), json!({"x": "y".repeat(bytes)}));
    let long = signed(&key, header(&key).to_string(), claims(48_000));
    assert!(verifier.verify(&long, support::at(1)).is_ok(), "what is configured counts");
    let longer = signed(&key, header(&key).to_string(), claims(49_200));
    assert!(longer.len() > Limits::MAX.token_bytes);
    assert_eq!(verifier.verify(&longer, support::at(1)).unwrap_err(), VerifyError::TooLong);
    let head = with(header(&key), json!({"x": "y".repeat(12_300)}));
    let head = signed(&key, head, payload().to_string());
    assert_eq!(verifier.verify(&head, support::at(1)).unwrap_err(), VerifyError::TooLong);
}

#[test]
fn sec_003_base64url_is_strict_in_all_segments() {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for algorithm in ALL {
        let key = key(algorithm);
        let ring = ring(&[&key]);
        // Lengths that leave unused bits in every segment, signed by the right key as they are.
        let head = (0..3)
            .map(|n| encode(with(header(&key), json!({"x": "y".repeat(n)}))))
            .find(|head| head.len() % 4 != 0)
            .unwrap();
        let body = encode(b"1");
        let mutate = |segment: &str| {
            let (rest, last) = segment.split_at(segment.len() - 1);
            let index = DIGITS.iter().position(|digit| *digit == last.as_bytes()[0]).unwrap();
            format!("{rest}{}", char::from(DIGITS[index ^ 1]))
        };
        let good = signed_segments(&key, &format!("{head}.{body}"));
        assert!(jws::verify(&good, &ring).is_ok());

        let (input, tail) = good.rsplit_once('.').unwrap();
        let mut cases = vec![
            ("header", signed_segments(&key, &format!("{}.{body}", mutate(&head)))),
            ("payload", signed_segments(&key, &format!("{head}.{}", mutate(&body)))),
            ("impossible payload length", signed_segments(&key, &format!("{head}.AAAAA"))),
        ];
        // Signatures of 48 and 66 bytes fill their digits.
        if tail.len() % 4 != 0 {
            cases.push(("signature", format!("{input}.{}", mutate(tail))));
        }
        for (case, token) in cases {
            assert_eq!(jws::verify(&token, &ring).unwrap_err(), VerifyError::Encoding, "{algorithm} {case}");
        }
        for token in [format!("{head}=.{body}.{tail}"), format!("{good}="), format!("{input}==.{tail}")] {
            assert_eq!(jws::verify(&token, &ring).unwrap_err(), VerifyError::NotCompact, "padding");
        }
    }
}

#[test]
fn sec_004_header_is_one_utf8_json_object() {
    let good = with(header(&key(Algorithm::EdDsa)), json!({}));
    let cases: [(&str, Vec<u8>, VerifyError); 8] = [
        ("empty", vec![], VerifyError::Header(JsonError::Syntax)),
        ("array", b"[]".to_vec(), VerifyError::Header(JsonError::Syntax)),
        ("mark", [b"\xef\xbb\xbf", good.as_bytes()].concat(), VerifyError::Header(JsonError::Syntax)),
        ("UTF-16", good.bytes().flat_map(|b| [b, 0]).collect(), VerifyError::Header(JsonError::Syntax)),
        ("garbage", format!("{good}x").into(), VerifyError::Header(JsonError::Syntax)),
        ("Latin-1", b"{\"alg\":\"EdDSA\xe9\"}".to_vec(), VerifyError::Header(JsonError::NotUtf8)),
        ("surrogate", br#"{"alg":"EdDSA","kid":"\ud800"}"#.to_vec(), VerifyError::Header(JsonError::Syntax)),
        ("surrogate elsewhere", br#"{"x":"\udfff"}"#.to_vec(), VerifyError::Header(JsonError::Syntax)),
    ];
    for (case, header, expected) in cases {
        assert_eq!(verdict_on_raw_header(&header), Err(expected), "{case}");
    }
}

#[test]
fn sec_005_deep_or_wide_headers_are_refused() {
    let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(400), "]".repeat(400));
    assert_eq!(verdict_on_raw_header(deep.as_bytes()), Err(VerifyError::Header(JsonError::TooLarge)));
    let wide: serde_json::Map<_, _> = (0..260).map(|n| (format!("{n:x}"), 0.into())).collect();
    let wide = Value::Object(wide).to_string();
    assert!(encode(&wide).len() < 4_000);
    let key = key(Algorithm::EdDsa);
    let token = signed(&key, payload().to_string(), wide);
    assert!(jws::verify(&token, &ring(&[&key])).is_err());
}

#[test]
fn sec_006_odd_white_space_in_the_header_still_verifies() {
    for algorithm in ALL {
        let key = key(algorithm);
        let head = format!("\r\n {{ \"kid\" :\t\"{}\",\n\"alg\":\"{algorithm}\" }} ", key.key_id());
        let verified = jws::verify(&signed(&key, head, "as signed"), &ring(&[&key])).unwrap();
        assert_eq!(verified.payload, b"as signed");
        assert_eq!(verified.header.typ(), None);
    }
}

#[test]
fn sec_007_duplicate_header_members_are_refused() {
    let id = "test-EdDSA";
    for head in [
        format!(r#"{{"alg":"EdDSA","alg":"EdDSA","kid":"{id}"}}"#),
        format!(r#"{{"alg":"EdDSA","\u0061lg":"none","kid":"{id}"}}"#),
        format!(r#"{{"alg":"EdDSA","kid":"{id}","\u006bid":"{id}"}}"#),
        format!(r#"{{"alg":"EdDSA","kid":"{id}","x":1,"x":1}}"#),
        format!(r#"{{"alg":"EdDSA","kid":"{id}","x":{{"y":1,"y":2}}}}"#),
    ] {
        let verdict = verdict_on_raw_header(head.as_bytes());
        assert_eq!(verdict, Err(VerifyError::Header(JsonError::DuplicateMember)), "{head}");
    }
}

#[test]
fn sec_008_algorithm_is_exactly_the_one_of_the_key() {
    for algorithm in Algorithm::ALL {
        let key = key(algorithm);
        let others = [
            "hs256", "EDDSA", "ed25519", "ED25519", "Ed448", "Rs256", " HS256", "HS256 ", "ES521",
            "RSA-OAEP", "",
        ];
        for name in Algorithm::ALL.map(Algorithm::name).into_iter().chain(others) {
            let token = signed(&key, with(header(&key), json!({"alg": name})), "{}");
            let expected = if name == algorithm.name() { Ok(()) } else { Err(VerifyError::Algorithm) };
            assert_eq!(jws::verify(&token, &ring(&[&key])).map(drop), expected, "{algorithm} {name}");
        }
    }
    assert_eq!(verdict_on_raw_header(br#"{"kid":"test-EdDSA"}"#), Err(VerifyError::InvalidHeader("alg")));
    for alg in ["null", "[\"EdDSA\"]", "{}", "1", "true"] {
        let head = format!(r#"{{"alg":{alg},"kid":"test-EdDSA"}}"#);
        assert_eq!(verdict_on_raw_header(head.as_bytes()), Err(VerifyError::InvalidHeader("alg")), "{alg}");
    }
}

#[test]
fn sec_021_both_names_of_ed25519_are_read_and_only_for_its_key() {
    for algorithm in Algorithm::ALL {
        let key = key(algorithm);
        for kid in [json!(key.key_id().as_str()), Value::Null] {
            let token = signed(&key, with(header(&key), json!({"alg": "Ed25519", "kid": kid})), "{}");
            let verdict = jws::verify(&token, &ring(&[&key]));
            if algorithm == Algorithm::EdDsa {
                assert_eq!(verdict.unwrap().header.algorithm(), Algorithm::EdDsa);
            } else {
                let expected = if kid.is_null() { VerifyError::NoKeyNamed } else { VerifyError::Algorithm };
                assert_eq!(verdict.unwrap_err(), expected, "{algorithm}");
            }
        }
    }
    assert!(
        jws::sign(&key(Algorithm::EdDsa), "at+jwt", b"{}")
            .unwrap()
            .starts_with(&encode(r#"{"alg":"EdDSA""#)[..18])
    );
}

#[test]
fn sec_009_none_and_empty_signatures_are_refused() {
    for algorithm in ALL {
        let key = key(algorithm);
        for kid in [json!(key.key_id().as_str()), Value::Null] {
            for name in ["none", "None", "NONE", "nOnE", "nonE", "none ", "\0none"] {
                let head = encode(with(header(&key), json!({"alg": name, "kid": kid})));
                let body = encode(payload().to_string());
                for token in [format!("{head}.{body}."), format!("{head}.{body}.AAAA")] {
                    let verdict = jws::verify(&token, &ring(&[&key])).unwrap_err();
                    assert_eq!(verdict, VerifyError::Algorithm, "{name}");
                }
            }
            let head = encode(with(header(&key), json!({"kid": kid})));
            let stripped = format!("{head}.{}.", encode(payload().to_string()));
            assert_eq!(jws::verify(&stripped, &ring(&[&key])).unwrap_err(), VerifyError::Signature);
        }
    }
}

#[test]
fn sec_011_keys_that_the_token_brings_are_refused() {
    let attacker = key(Algorithm::EdDsa);
    let x = encode(attacker.verifying_key().public_key().unwrap());
    for (name, value) in [
        ("jwk", json!({"kty": "OKP", "crv": "Ed25519", "x": x})),
        ("jku", json!("https://attacker.example/keys")),
        ("x5u", json!("https://attacker.example/chain")),
        ("x5c", json!(["MIIB"])),
        ("jwk", json!("")),
    ] {
        assert_eq!(verdict_on_header(json!({name: value})), Err(VerifyError::RefusedHeader(name)));
    }
    assert_eq!(
        verdict_on_raw_header(br#"{"alg":"EdDSA","jwk":null}"#),
        Err(VerifyError::RefusedHeader("jwk"))
    );
    assert_eq!(verdict_on_header(json!({"x5t": "abc"})), Ok(()), "only named, never used");
}

#[test]
fn sec_011_in_tokens_of_others_keys_and_their_addresses_are_passed_over_and_never_used() {
    let (issuer, attacker) = (key(Algorithm::EdDsa), key(Algorithm::Es256));
    let jwk: Value = serde_json::from_str(&attacker.verifying_key().to_jwk().unwrap()).unwrap();
    let brought = [
        json!({"jwk": jwk}),
        json!({"jwk": ""}),
        json!({"jku": "https://attacker.example/keys"}),
        json!({"x5u": "https://attacker.example/chain"}),
        json!({"x5c": ["MIIB"]}),
        json!({"x5c": ["A".repeat(3_000)], "x5t": "abc", "x5t#S256": "abc"}),
        json!({"jku": {"deep": [1, {"a": 2}]}, "another": 1}),
    ];
    for changes in brought {
        let honest = signed(&issuer, with(header(&issuer), changes.clone()), "{}");
        assert!(jws::verify_foreign(&honest, &ring(&[&issuer])).is_ok(), "{changes}");
        assert!(jws::verify(&honest, &ring(&[&issuer])).is_err(), "ours have none: {changes}");
        for kid in [json!(issuer.key_id().as_str()), json!(attacker.key_id().as_str()), Value::Null] {
            let head = with(header(&attacker), with_value(&changes, "kid", kid));
            let forged = signed(&attacker, head, "{}");
            assert!(jws::verify_foreign(&forged, &ring(&[&issuer])).is_err(), "{changes}");
        }
    }
    for (name, value) in [
        ("crit", json!(["jku"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("enc", json!("A128GCM")),
        ("cty", json!("JWT")),
    ] {
        let changes = json!({name: value, "jku": "https://issuer.example/keys"});
        let token = signed(&issuer, with(header(&issuer), changes), "{}");
        let verdict = jws::verify_foreign(&token, &ring(&[&issuer]));
        assert_eq!(verdict.unwrap_err(), VerifyError::RefusedHeader(name));
    }
    // They are still strict JSON.
    let twice = format!(r#"{{"alg":"EdDSA","kid":"{}","jku":"a","jku":"b"}}"#, issuer.key_id());
    let verdict = jws::verify_foreign(&signed(&issuer, twice, "{}"), &ring(&[&issuer]));
    assert_eq!(verdict.unwrap_err(), VerifyError::Header(JsonError::DuplicateMember));
    let long = signed(&issuer, with(header(&issuer), json!({"x5c": ["A".repeat(5_000)]})), "{}");
    assert_eq!(jws::verify_foreign(&long, &ring(&[&issuer])).unwrap_err(), VerifyError::TooLong);
}

/// An object with one member more.
fn with_value(object: &Value, name: &str, value: Value) -> Value {
    let mut object = object.clone();
    object.as_object_mut().unwrap().insert(name.to_owned(), value);
    object
}

#[test]
fn sec_012_crit_is_refused_whatever_it_says() {
    for crit in [
        json!([]),
        json!("exp"),
        json!(["exp"]),
        json!(["alg"]),
        json!(["http://example.invalid/unknown"]),
        json!(["b64", "b64"]),
        json!(["absent"]),
        json!({}),
    ] {
        assert_eq!(verdict_on_header(json!({"crit": crit})), Err(VerifyError::RefusedHeader("crit")));
    }
}

#[test]
fn sec_013_unencoded_payloads_are_refused() {
    assert_eq!(verdict_on_header(json!({"b64": false})), Err(VerifyError::RefusedHeader("b64")));
    assert!(verdict_on_header(json!({"b64": false, "crit": ["b64"]})).is_err());

    let key = key(Algorithm::EdDsa);
    let token = signed(&key, header(&key).to_string(), payload().to_string());
    let (input, tail) = token.rsplit_once('.').unwrap();
    let (head, _) = input.split_once('.').unwrap();
    let detached = format!("{head}..{tail}");
    assert_eq!(jws::verify(&detached, &ring(&[&key])).unwrap_err(), VerifyError::Signature);
}

#[test]
fn sec_015_nested_and_encrypted_tokens_are_refused() {
    for (name, value) in [
        ("enc", json!("A256GCM")),
        ("zip", json!("DEF")),
        ("cty", json!("JWT")),
        ("cty", json!("jwt")),
        ("cty", json!("application/JWT")),
    ] {
        assert_eq!(verdict_on_header(json!({name: value})), Err(VerifyError::RefusedHeader(name)), "{value}");
    }
    assert_eq!(verdict_on_header(json!({"cty": "json"})), Ok(()));
}

#[test]
fn sec_017_mac_has_its_full_length() {
    for (algorithm, bytes) in [(Algorithm::Hs256, 32), (Algorithm::Hs384, 48), (Algorithm::Hs512, 64)] {
        let key = key(algorithm);
        let ring = ring(&[&key]);
        let token = issued(&key, TokenType::Access);
        let (input, tail) = token.rsplit_once('.').unwrap();
        let tag = decode(tail);
        assert_eq!(tag.len(), bytes);
        for length in 0..bytes {
            let short = format!("{input}.{}", encode(&tag[..length]));
            let verdict = jws::verify(&short, &ring).unwrap_err();
            assert_eq!(verdict, VerifyError::Signature, "{algorithm} {length} bytes");
        }
        for longer in [[&tag[..], b"\0"].concat(), [&tag[..], &tag[..]].concat()] {
            let long = format!("{input}.{}", encode(longer));
            assert_eq!(jws::verify(&long, &ring).unwrap_err(), VerifyError::Signature, "{algorithm}");
        }
        for bit in 0..8 * bytes {
            let mut changed = tag.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let forged = format!("{input}.{}", encode(changed));
            let verdict = jws::verify(&forged, &ring).unwrap_err();
            assert_eq!(verdict, VerifyError::Signature, "{algorithm} bit {bit}");
        }
    }
}

#[test]
fn sec_020_es256_signature_is_two_numbers_in_range() {
    let key = key(Algorithm::Es256);
    let ring = ring(&[&key]);
    let token = issued(&key, TokenType::Access);
    let (input, tail) = token.rsplit_once('.').unwrap();
    let (r, s) = decode(tail).split_at(32).to_owned_pair();
    let order = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    let zero = vec![0; 32];
    let der = der_signature(&r, &s);
    for (case, signature) in [
        ("r = s = 0", [&zero[..], &zero].concat()),
        ("r = 0", [&zero[..], &s].concat()),
        ("s = 0", [&r[..], &zero].concat()),
        ("r = n", [&order[..], &s].concat()),
        ("s = n", [&r[..], &order].concat()),
        ("all ones", vec![0xff; 64]),
        ("DER", der),
        ("padded", [&[0][..], &r, &[0], &s].concat()),
        ("swapped", [&s[..], &r].concat()),
        ("r alone", r.clone()),
    ] {
        let forged = format!("{input}.{}", encode(signature));
        assert_eq!(jws::verify(&forged, &ring).unwrap_err(), VerifyError::Signature, "{case}");
    }
    assert!(jws::verify(&token, &ring).is_ok());
}

trait ToOwnedPair {
    fn to_owned_pair(self) -> (Vec<u8>, Vec<u8>);
}

impl ToOwnedPair for (&[u8], &[u8]) {
    fn to_owned_pair(self) -> (Vec<u8>, Vec<u8>) {
        (self.0.to_vec(), self.1.to_vec())
    }
}

fn der_signature(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let pad: &[u8] = if number[0] & 0x80 == 0 { &[] } else { &[0] };
        [&[2, u8::try_from(number.len() + pad.len()).unwrap()], pad, number].concat()
    };
    let body = [integer(r), integer(s)].concat();
    [&[0x30, u8::try_from(body.len()).unwrap()], &body[..]].concat()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn sec_021_ed25519_signature_is_not_malleable() {
    let key = key(Algorithm::EdDsa);
    let token = issued(&key, TokenType::Access);
    let (input, tail) = token.rsplit_once('.').unwrap();
    let mut signature = decode(tail);
    // S + L, little-endian: the same point, another spelling.
    let order = hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
    let mut carry = 0;
    for (byte, add) in signature[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    let forged = format!("{input}.{}", encode(signature));
    assert_eq!(jws::verify(&forged, &ring(&[&key])).unwrap_err(), VerifyError::Signature);
    assert!(jws::verify(&token, &ring(&[&key])).is_ok());
}

#[test]
fn sec_024_issued_header_carries_alg_kid_typ_in_this_order() {
    for algorithm in ALL {
        let key = key(algorithm);
        for typ in ["at+jwt", "rt+jwt", "other+jwt"] {
            let token = jws::sign(&key, typ, b"{}").unwrap();
            let head = decode(token.split('.').next().unwrap());
            let expected = format!(r#"{{"alg":"{algorithm}","kid":"test-{algorithm}","typ":"{typ}"}}"#);
            assert_eq!(String::from_utf8(head).unwrap(), expected);
        }
    }
    let odd = key(Algorithm::Hs256).with_key_id(KeyId::new("a\"\\b é").unwrap());
    let token = jws::sign(&odd, "x\"y", b"{}").unwrap();
    let verified = jws::verify(&token, &ring(&[&odd])).unwrap();
    assert_eq!(verified.header.key_id(), Some(odd.key_id()));
    assert_eq!(verified.header.typ(), Some("x\"y"));
}

#[test]
fn sec_038_kid_is_looked_up_exactly_and_nothing_else() {
    for (kid, expected) in [
        (json!("test-EdDSA"), Ok(())),
        (json!("TEST-EdDSA"), Err(VerifyError::UnknownKey)),
        (json!("test-EdDSA "), Err(VerifyError::UnknownKey)),
        (json!(""), Err(VerifyError::UnknownKey)),
        (json!("../../dev/null"), Err(VerifyError::UnknownKey)),
        (json!("' OR 1=1 --"), Err(VerifyError::UnknownKey)),
        (json!("a\r\nforged log line"), Err(VerifyError::UnknownKey)),
        (json!("test-EdDSA\0"), Err(VerifyError::UnknownKey)),
        (json!("k".repeat(128)), Err(VerifyError::UnknownKey)),
        (json!("k".repeat(129)), Err(VerifyError::InvalidHeader("kid"))),
        (json!("k".repeat(1 << 20)), Err(VerifyError::TooLong)),
        (json!(1), Err(VerifyError::InvalidHeader("kid"))),
        (json!(["test-EdDSA"]), Err(VerifyError::InvalidHeader("kid"))),
    ] {
        let verdict = verdict_on_header(json!({"kid": kid}));
        assert_eq!(verdict, expected);
        if let Err(error) = verdict {
            assert!(!error.to_string().contains("forged"), "no message repeats the token");
        }
    }
    for text in ["", "a\nb", "a\u{7f}", "a\u{2028}b", &"k".repeat(129)] {
        assert!(KeyId::new(text).is_err(), "{text:?}");
    }
}

#[test]
fn sec_039_a_token_without_kid_needs_exactly_one_fitting_key() {
    let first = key(Algorithm::EdDsa);
    let second = SigningKey::generate(Algorithm::EdDsa, &Seeded::new(2)).unwrap();
    let other = key(Algorithm::Es256);
    let anonymous = signed(&first, r#"{"alg":"EdDSA"}"#, "{}");
    let verdict =
        |ring: &KeyRing| jws::verify(&anonymous, ring).map(|verified| verified.header.key_id().cloned());

    assert_eq!(verdict(&ring(&[&first])), Ok(None));
    assert_eq!(verdict(&ring(&[&other, &first])), Ok(None), "another algorithm does not fit");
    assert_eq!(verdict(&ring(&[&first, &second])), Err(VerifyError::NoKeyNamed));
    assert_eq!(verdict(&ring(&[&other])), Err(VerifyError::NoKeyNamed));
    assert_eq!(verdict(&KeyRing::new()), Err(VerifyError::NoKeyNamed));
    assert_eq!(verdict(&ring(&[&second])), Err(VerifyError::Signature));

    let unknown = signed(&first, r#"{"alg":"EdDSA","kid":"gone"}"#, "{}");
    let error = jws::verify(&unknown, &ring(&[&first])).unwrap_err();
    assert_eq!(error, VerifyError::UnknownKey, "no other key is tried");
    assert_eq!(error.kind(), VerifyErrorKind::Key);
}

#[test]
fn sec_173_segments_of_two_genuine_tokens_do_not_mix() {
    for algorithm in ALL {
        let key = key(algorithm);
        let first = signed(&key, header(&key).to_string(), with(payload(), json!({"sub": "ada"})));
        let second = signed(&key, header(&key).to_string(), with(payload(), json!({"sub": "eve"})));
        let (input, _) = first.rsplit_once('.').unwrap();
        let (_, tail) = second.rsplit_once('.').unwrap();
        let mixed = format!("{input}.{tail}");
        let verifier = verifier(&key, TokenType::Access);
        assert_eq!(verifier.verify(&mixed, support::at(1)).unwrap_err(), VerifyError::Signature);
    }
}
