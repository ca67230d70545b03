//! Known attacks on signed tokens, against the public interface.
//!
//! Where an attack can be signed by the right key, it is: what is refused then is refused for its own sake.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_jwt::claims::{ClaimError, REGISTERED};
use countersign_jwt::key::{Jwk, JwkSet, KeyError};
use countersign_jwt::{Algorithm, Issuer, JsonError, SigningKey, TokenType, Verifier, VerifyError, jws};
use serde_json::{Value, json};
use support::{
    RSA, Seeded, asymmetric, at, decode, encode, header, issued, key, new_claims, payload, ring, signature,
    signed, verifier, with,
};

/// What a verifier of access tokens says, both when it sees the token first and when it sees it again.
fn verdict(key: &SigningKey, token: &str) -> Result<(), VerifyError> {
    let verifier = verifier(key, TokenType::Access);
    let first = verifier.verify(token, at(1)).map(drop);
    assert_eq!(verifier.verify(token, at(1)).map(drop), first);
    first
}

#[test]
fn sec_162_none_in_any_spelling_is_refused() {
    for algorithm in Algorithm::ALL {
        let key = key(algorithm);
        for name in [
            "none",
            "None",
            "NONE",
            "nOnE",
            "noNe",
            "NonE",
            " none",
            "none ",
            "n\u{f6}ne",
            "none\0",
            "null",
            "",
        ] {
            for kid in [Value::Null, json!(key.key_id().as_str()), json!("none")] {
                let head = encode(with(header(&key), json!({"alg": name, "kid": kid})));
                for tail in ["", "e30", "AA"] {
                    let token = format!("{head}.{}.{tail}", encode(payload().to_string()));
                    assert!(verdict(&key, &token).is_err(), "{algorithm} {name:?}");
                }
            }
        }
    }
}

#[test]
fn sec_163_no_form_of_a_public_key_is_a_mac_key() {
    use aws_lc_rs::hmac;

    for algorithm in asymmetric() {
        let key = key(algorithm);
        let public = key.verifying_key();
        let pem = public.to_public_key_pem().unwrap();
        let jwk = public.to_jwk().unwrap();
        let der = public.to_public_key_der().unwrap();
        for secret in [
            pem.as_bytes(),
            pem.trim().as_bytes(),
            pem.replace('\n', "\r\n").as_bytes(),
            jwk.as_bytes(),
            ring(&[&key]).to_jwk_set().as_bytes(),
            &der,
            STANDARD.encode(&der).as_bytes(),
            encode(&der).as_bytes(),
            public.public_key().unwrap(),
        ] {
            // No key can be made of it …
            if algorithm != Algorithm::EdDsa || secret.len() != 32 {
                let verdict = SigningKey::hmac(Algorithm::Hs256, secret);
                assert_eq!(verdict.unwrap_err(), KeyError::NotASecret, "{algorithm}");
            }
            // … and what somebody else makes of it is worth nothing here.
            let mac = hmac::Key::new(hmac::HMAC_SHA256, secret);
            for kid in [json!(key.key_id().as_str()), Value::Null] {
                let head = with(header(&key), json!({"alg": "HS256", "kid": kid}));
                let input = format!("{}.{}", encode(head), encode(payload().to_string()));
                let tag = hmac::sign(&mac, input.as_bytes());
                assert!(verdict(&key, &format!("{input}.{}", encode(tag))).is_err());
            }
        }
    }
}

#[test]
fn sec_164_a_hostile_kid_is_only_an_unknown_name() {
    let key = key(Algorithm::EdDsa);
    for kid in [
        "../../../../dev/null",
        "/etc/passwd",
        "file:///dev/null",
        "https://attacker.example/key",
        "key' UNION SELECT 'secret' --",
        "| cat /etc/passwd",
        "$(id)",
        "test-EdDSA\0",
        "test-EdDSA\r\nlevel=info forged",
        "{{7*7}}",
        "%2e%2e%2f",
        "\u{202e}",
    ] {
        let token = signed(&key, with(header(&key), json!({"kid": kid})), payload().to_string());
        let error = verdict(&key, &token).unwrap_err();
        assert_eq!(error, VerifyError::UnknownKey);
        assert!(!format!("{error} {error:?}").contains(kid));
    }
}

#[test]
fn sec_165_keys_in_the_header_are_never_used() {
    let key = key(Algorithm::EdDsa);
    let attacker = SigningKey::generate(Algorithm::EdDsa, &Seeded::new(66)).unwrap();
    let jwk: Value = serde_json::from_str(&attacker.verifying_key().to_jwk().unwrap()).unwrap();
    for (name, value) in [
        ("jwk", jwk.clone()),
        ("jku", json!("https://attacker.example/jwks.json")),
        ("x5u", json!("https://attacker.example/chain.pem")),
        ("x5c", json!([STANDARD.encode(attacker.verifying_key().to_public_key_der().unwrap())])),
    ] {
        for kid in [json!(key.key_id().as_str()), json!(attacker.key_id().as_str()), Value::Null] {
            let head = with(header(&key), json!({name: value, "kid": kid}));
            let token = signed(&attacker, head, payload().to_string());
            assert_eq!(verdict(&key, &token), Err(VerifyError::RefusedHeader(name)));
        }
    }
}

#[test]
fn sec_165_addresses_in_the_header_are_never_called() {
    let canary = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    canary.set_nonblocking(true).unwrap();
    let url = format!("http://{}/jwks.json", canary.local_addr().unwrap());
    for algorithm in Algorithm::ALL {
        let key = key(algorithm);
        for changes in [
            json!({"jku": url}),
            json!({"x5u": url}),
            json!({"kid": url}),
            json!({"jku": url, "kid": url, "alg": "EdDSA"}),
            json!({"iss": url, "x5t": url, "url": url}),
            json!({"jwk": {"jku": url, "kty": "RSA"}}),
        ] {
            let claims = with(payload(), json!({"iss": url, "jku": url}));
            let token = signed(&key, with(header(&key), changes), claims);
            let _ = verdict(&key, &token);
        }
    }
    let called = canary.accept().map(drop).map_err(|error| error.kind());
    assert_eq!(called, Err(std::io::ErrorKind::WouldBlock));
}

#[test]
fn sec_166_examples_of_full_length_make_no_key() {
    for example in [
        "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
        "404E635266556A586E3272357538782F413F4428472B4B6250645367566B5970",
        "THIS IS USED TO SIGN AND VERIFY JWT TOKENS, REPLACE IT WITH YOUR OWN SECRET",
        "this is my custom Secret key for authentication",
        "your-384-bit-secret-your-384-bit-secret-your-384-bit-secret",
        "a-string-secret-at-least-256-bits-long",
        "my_secret_key_that_is_long_enough_for_hs256",
        "django-insecure-change-me-please-0123456789abcdef",
    ] {
        assert!(example.len() >= 32);
        let verdict = SigningKey::hmac(Algorithm::Hs256, example.as_bytes());
        assert_eq!(verdict.unwrap_err(), KeyError::SecretGuessable, "{example}");
        assert!(countersign_jwt::Secret::new(example.as_bytes().to_vec()).is_err(), "{example}");
    }
}

#[test]
fn sec_166_secrets_from_word_lists_make_no_key() {
    for word in [
        "123456",
        "password",
        "12345678",
        "qwerty",
        "secret",
        "jwt",
        "key",
        "letmein",
        "admin",
        "changeme",
        "test",
        "your-256-bit-secret",
        "super-secret",
        "mysecretkey",
        "0123456789",
        "root",
        "token",
        "iloveyou",
    ] {
        let repeated = word.repeat(64 / word.len() + 1);
        for algorithm in [Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512] {
            assert!(SigningKey::hmac(algorithm, word.as_bytes()).is_err(), "{word}");
            let varied = word.bytes().collect::<std::collections::HashSet<_>>().len() >= 8;
            assert!(varied || SigningKey::hmac(algorithm, repeated.as_bytes()).is_err(), "{repeated}");
        }
    }
}

#[test]
fn sec_167_critical_and_unencoded_tricks_are_refused() {
    let key = key(Algorithm::Hs256);
    for (refused, changes) in [
        ("crit", json!({"crit": []})),
        ("crit", json!({"crit": ["exp"], "exp": 1})),
        ("crit", json!({"crit": ["alg"]})),
        ("crit", json!({"crit": ["typ", "kid"]})),
        ("crit", json!({"crit": ["unknown"], "unknown": true})),
        ("crit", json!({"crit": ["absent"]})),
        ("crit", json!({"crit": "b64"})),
        ("crit", json!({"crit": {"b64": true}})),
        ("crit", json!({"crit": true})),
        ("b64", json!({"b64": false})),
        ("b64", json!({"b64": true})),
        ("b64", json!({"b64": 0, "crit": ["b64"]})),
    ] {
        let token = signed(&key, with(header(&key), changes), payload().to_string());
        assert_eq!(verdict(&key, &token), Err(VerifyError::RefusedHeader(refused)));
    }
    let null = header(&key).to_string().replace('{', r#"{"crit":null,"#);
    assert_eq!(
        verdict(&key, &signed(&key, null, payload().to_string())),
        Err(VerifyError::RefusedHeader("crit"))
    );
}

#[test]
fn sec_168_duplicate_members_are_refused_although_signed() {
    let key = key(Algorithm::Es256);
    let good = payload().to_string();
    for twin in ["\"sub\":\"eve\"", r#""\u0073ub":"eve""#, r#""s\u0075b":"ada""#, r#""x":{"a":1,"\u0061":2}"#]
    {
        for claims in [format!("{{{twin},{}", &good[1..]), format!("{},{twin}}}", &good[..good.len() - 1])] {
            let token = signed(&key, header(&key).to_string(), claims);
            assert_eq!(verdict(&key, &token), Err(VerifyError::Claims(JsonError::DuplicateMember)));
        }
    }
}

#[test]
fn sec_169_other_encodings_are_refused_although_signed() {
    let key = key(Algorithm::Es384);
    let good = payload().to_string();
    for (case, claims) in [
        ("UTF-8 with mark", format!("\u{feff}{good}").into_bytes()),
        ("UTF-16 LE", good.encode_utf16().flat_map(u16::to_le_bytes).collect()),
        (
            "UTF-16 BE with mark",
            [0xfeff].into_iter().chain(good.encode_utf16()).flat_map(u16::to_be_bytes).collect(),
        ),
        ("UTF-32", good.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect()),
        (
            "Latin-1",
            good.replace("ada", "ad\u{e9}").chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect(),
        ),
        ("overlong slash", [&good.as_bytes()[..good.len() - 1], b",\"x\":\"\xc0\xaf\"}"].concat()),
        ("encoded surrogate", [&good.as_bytes()[..good.len() - 1], b",\"x\":\"\xed\xa0\x80\"}"].concat()),
        ("lone surrogate", good.replace("ada", "\\ud83d").into_bytes()),
    ] {
        let token = signed(&key, header(&key).to_string(), claims);
        let verdict = verdict(&key, &token);
        assert!(
            matches!(verdict, Err(VerifyError::Claims(JsonError::NotUtf8 | JsonError::Syntax))),
            "{case}"
        );
    }
}

#[test]
fn sec_170_a_token_has_no_second_spelling() {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for algorithm in [Algorithm::Hs256, Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256] {
        let key = key(algorithm);
        let token = issued(&key, TokenType::Access);
        assert_eq!(verdict(&key, &token), Ok(()));
        let last = DIGITS.iter().position(|digit| *digit == *token.as_bytes().last().unwrap()).unwrap();
        for bits in 1..4 {
            let mut twin = token.clone();
            twin.pop();
            twin.push(char::from(DIGITS[last ^ bits]));
            assert!(verdict(&key, &twin).is_err(), "{algorithm} {bits}");
        }
        for twin in [format!("{token}="), format!("{token}=="), format!("{token}\n"), token.replace('-', "+")]
        {
            assert!(twin == token || verdict(&key, &twin).is_err(), "{algorithm}");
        }
    }
}

#[test]
fn sec_171_huge_and_deep_tokens_fit_a_small_stack() {
    let judge = std::thread::Builder::new().stack_size(256 * 1024).spawn(|| {
        let key = key(Algorithm::Hs256);
        let deep = |open: &str, close: &str, depth: usize| {
            format!(r#"{{"x":{}1{},{}"#, open.repeat(depth), close.repeat(depth), &payload().to_string()[1..])
        };
        for claims in [deep("[", "]", 2_500), deep("{\"a\":", "}", 900), deep("[{\"a\":", "}]", 600)] {
            let token = signed(&key, header(&key).to_string(), &claims);
            assert_eq!(verdict(&key, &token), Err(VerifyError::Claims(JsonError::TooLarge)));
            let head = signed(&key, claims.get(..1_400).unwrap(), "{}");
            assert!(verdict(&key, &head).is_err());
            assert!(Jwk::parse(claims.as_bytes()).is_err());
            assert!(JwkSet::parse(claims.as_bytes()).is_err());
        }
        let many: serde_json::Map<_, _> = (0..100_000).map(|n| (format!("c{n}"), 0.into())).collect();
        let many = signed(&key, header(&key).to_string(), Value::Object(many).to_string());
        assert_eq!(verdict(&key, &many), Err(VerifyError::TooLong));
    });
    judge.unwrap().join().unwrap();
}

#[test]
fn sec_172_ecdsa_signatures_are_two_numbers_in_range() {
    for (algorithm, order) in [
        (Algorithm::Es256, "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"),
        (Algorithm::Es256k, "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"),
        (
            Algorithm::Es384,
            "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
        ),
        (
            Algorithm::Es512,
            "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899\
             c47aebb6fb71e91386409",
        ),
    ] {
        let order: Vec<u8> = (0..order.len() / 2)
            .map(|at| u8::from_str_radix(&order[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let key = key(algorithm);
        let token = issued(&key, TokenType::Access);
        let (input, tail) = token.rsplit_once('.').unwrap();
        let genuine = decode(tail);
        let (r, s) = genuine.split_at(order.len());
        assert_eq!(s.len(), order.len());
        let zero = vec![0; order.len()];
        let mut one = zero.clone();
        *one.last_mut().unwrap() = 1;
        for (case, signature) in [
            ("psychic", [&zero[..], &zero].concat()),
            ("r = 0", [&zero[..], s].concat()),
            ("s = 0", [r, &zero].concat()),
            ("r = n", [&order[..], s].concat()),
            ("s = n", [r, &order].concat()),
            ("both n", [&order[..], &order].concat()),
            ("both one", [&one[..], &one].concat()),
            ("longer", [&[0][..], r, &[0], s].concat()),
            ("shorter", [&r[1..], &s[1..]].concat()),
            ("trailing zero", [&genuine[..], &[0]].concat()),
        ] {
            let forged = format!("{input}.{}", encode(signature));
            assert_eq!(verdict(&key, &forged), Err(VerifyError::Signature), "{algorithm} {case}");
        }
        assert_eq!(verdict(&key, &token), Ok(()));
    }
}

#[test]
fn sec_173_a_signature_belongs_to_its_token_alone() {
    for algorithm in Algorithm::ALL {
        let key = key(algorithm);
        let token = issued(&key, TokenType::Access);
        let other = issued(&key, TokenType::Refresh);
        let (input, tail) = token.rsplit_once('.').unwrap();
        let (_, foreign) = other.rsplit_once('.').unwrap();
        for tail in ["", &tail[..tail.len() - 4], &tail[4..], foreign, &format!("{tail}AAAA")] {
            assert!(verdict(&key, &format!("{input}.{tail}")).is_err(), "{algorithm}");
        }
        assert_eq!(verdict(&key, input), Err(VerifyError::NotCompact));
    }
}

#[test]
fn sec_174_weak_ed25519_keys_and_second_signatures_are_refused() {
    // Under the neutral element, r = s·B holds for any message.
    let weak = json!({"kty": "OKP", "crv": "Ed25519", "x": encode([&[1][..], &[0; 31]].concat())});
    let jwk = Jwk::parse(weak.to_string().as_bytes()).unwrap();
    assert!(jwk.verifying_key().is_err());
    let key = key(Algorithm::EdDsa);
    let token = issued(&key, TokenType::Access);
    let (input, tail) = token.rsplit_once('.').unwrap();
    for bit in 0..512 {
        let mut changed = decode(tail);
        changed[bit / 8] ^= 1 << (bit % 8);
        let twin = format!("{input}.{}", encode(changed));
        assert_eq!(verdict(&key, &twin), Err(VerifyError::Signature), "bit {bit}");
    }
}

#[test]
fn sec_175_encrypted_and_json_forms_are_refused() {
    let key = key(Algorithm::Rs256);
    let head = encode(json!({"alg": "RSA-OAEP", "enc": "A256GCM", "kid": key.key_id().as_str()}).to_string());
    let encrypted =
        format!("{head}.{}.{}.{}.{}", encode([7; 256]), encode([7; 12]), encode([7; 40]), encode([7; 16]));
    assert_eq!(verdict(&key, &encrypted), Err(VerifyError::NotCompact));
    let token = issued(&key, TokenType::Access);
    let [head, body, tail] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    for form in [
        json!({"payload": body, "protected": head, "signature": tail}),
        json!({"payload": body, "signatures": [{"protected": head, "signature": tail}]}),
        json!([token]),
        json!(token),
    ] {
        assert_eq!(verdict(&key, &form.to_string()), Err(VerifyError::NotCompact));
    }
}

#[test]
fn sec_177_a_token_for_one_service_is_none_for_another() {
    let key = key(Algorithm::Ps256);
    let keys = Arc::new(ArcSwap::from_pointee(ring(&[&key])));
    let service = |audience: &str| {
        Verifier::new(TokenType::Access, Arc::clone(&keys))
            .with_issuer("https://auth.example")
            .with_audience(audience)
    };
    let issuer = Issuer::new(key.clone()).with_issuer("https://auth.example");
    let token =
        issuer.clone().with_audience("https://a.example").issue(&new_claims(TokenType::Access)).unwrap();
    assert!(service("https://a.example").verify(&token, at(1)).is_ok());
    for other in ["https://b.example", "https://a.example/", "https://a.exampl", "https://A.example", ""] {
        assert_eq!(service(other).verify(&token, at(1)).unwrap_err(), VerifyError::Audience, "{other}");
    }
    let anybody = issuer.issue(&new_claims(TokenType::Access)).unwrap();
    assert_eq!(service("https://a.example").verify(&anybody, at(1)).unwrap_err(), VerifyError::Audience);
    let elsewhere =
        Issuer::new(key.clone()).with_issuer("https://evil.example").with_audience("https://a.example");
    let elsewhere = elsewhere.issue(&new_claims(TokenType::Access)).unwrap();
    assert_eq!(service("https://a.example").verify(&elsewhere, at(1)).unwrap_err(), VerifyError::Issuer);
}

#[test]
fn sec_178_claims_of_odd_types_are_refused_although_signed() {
    let key = key(Algorithm::Hs384);
    for name in
        ["sub", "exp", "iat", "nbf", "jti", "type", "fresh", "sid", "gen", "epoch", "csrf", "iss", "aud"]
    {
        let odd = [json!({}), json!([1]), json!([[]]), json!(-1), json!(1e300), json!({"a": "b"})];
        for value in odd {
            let token = signed(&key, header(&key).to_string(), with(payload(), json!({name: value})));
            assert!(verdict(&key, &token).is_err(), "{name} {value}");
        }
        let null = format!(r#"{{"{name}":null,{}"#, &payload().to_string()[1..]);
        assert!(verdict(&key, &signed(&key, header(&key).to_string(), null)).is_err(), "{name}");
    }
    for (name, value) in
        [("exp", json!("never")), ("exp", json!(true)), ("sub", json!(0)), ("aud", json!({}))]
    {
        let token = signed(&key, header(&key).to_string(), with(payload(), json!({name: value})));
        assert_eq!(verdict(&key, &token), Err(VerifyError::InvalidClaim(name)));
    }
}

#[test]
fn sec_179_own_claims_never_replace_registered_ones() {
    for name in REGISTERED {
        let verdict = new_claims(TokenType::Access).with_claim(name, "mine");
        assert_eq!(verdict.unwrap_err(), ClaimError::Registered(name.to_owned()));
    }
    for name in ["EXP", "exp ", "\u{435}xp"] {
        let key = key(Algorithm::EdDsa);
        let claims = new_claims(TokenType::Access).with_claim(name, 1).unwrap();
        let token = Issuer::new(key.clone()).issue(&claims).unwrap();
        let read = verifier(&key, TokenType::Access).verify(&token, at(1)).unwrap();
        assert_eq!(read.expires_at(), Some(at(900)), "another name is another claim");
    }
}

#[test]
fn sec_022_no_two_ecdsa_signatures_share_their_nonce() {
    for algorithm in [Algorithm::Es256, Algorithm::Es256k, Algorithm::Es384, Algorithm::Es512] {
        let key = key(algorithm);
        let mut seen = std::collections::HashSet::new();
        for n in 0..50 {
            let token = jws::sign(&key, "at+jwt", format!("{}", n / 2).as_bytes()).unwrap();
            let signature = decode(token.rsplit_once('.').unwrap().1);
            assert!(seen.insert(signature[..signature.len() / 2].to_vec()), "{algorithm}");
        }
    }
}

#[test]
fn sec_037_default_claims_hold_ids_and_times_only() {
    let key = key(Algorithm::EdDsa);
    let token = issued(&key, TokenType::Access);
    let claims: Value = serde_json::from_slice(&decode(token.split('.').nth(1).unwrap())).unwrap();
    let mut names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["epoch", "exp", "fresh", "gen", "iat", "jti", "sid", "sub", "type"]);
}

#[test]
fn sec_019_an_rsa_signature_has_the_length_of_its_modulus() {
    for algorithm in RSA {
        let key = key(algorithm);
        let input = format!("{}.{}", encode(header(&key).to_string()), encode(payload().to_string()));
        let genuine = signature(&key, input.as_bytes());
        assert_eq!(verdict(&key, &format!("{input}.{}", encode(&genuine))), Ok(()), "{algorithm}");
        for wrong in [
            [&[0][..], &genuine].concat(),
            [&genuine[..], &[0]].concat(),
            genuine[1..].to_vec(),
            vec![0; 256],
            vec![0xff; 256],
            [&[0; 255][..], &[1]].concat(),
        ] {
            let forged = format!("{input}.{}", encode(wrong));
            assert_eq!(verdict(&key, &forged), Err(VerifyError::Signature), "{algorithm}");
        }
    }
}
