//! Keys as JSON: what is read, what is refused, what is published.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use countersign_jwt::key::{ImportRules, Jwk, JwkError, JwkSet, KeyError};
use countersign_jwt::{Algorithm, JsonError, KeyId, SigningKey, VerifyError, jws};
use serde_json::{Value, json};
use support::{RSA, asymmetric, decode, encode, key, ring};

fn read(key: &Value) -> Result<Jwk, JwkError> {
    Jwk::parse(key.to_string().as_bytes())
}

fn read_set(keys: &[Value]) -> Result<JwkSet, JwkError> {
    JwkSet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

/// The public JWK of a test key.
fn public(algorithm: Algorithm) -> Value {
    serde_json::from_str(&key(algorithm).verifying_key().to_jwk().unwrap()).unwrap()
}

/// The whole JWK of a test key.
fn private(algorithm: Algorithm) -> Value {
    serde_json::from_str(&key(algorithm).dangerous_private_jwk().unwrap()).unwrap()
}

/// `key` with some members changed; `null` takes one away.
fn with(key: &Value, changes: Value) -> Value {
    serde_json::from_str(&support::with(key.clone(), changes)).unwrap()
}

#[test]
fn keys_come_back_from_their_jwk() {
    for algorithm in Algorithm::ALL {
        let key = key(algorithm);
        let jwk = Jwk::parse(key.dangerous_private_jwk().unwrap().as_bytes()).unwrap();
        assert_eq!((jwk.algorithm(), jwk.key_id()), (Some(algorithm), Some(key.key_id())));
        assert_eq!(jwk.is_symmetric(), algorithm.is_symmetric());
        let again = jwk.signing_key().unwrap();
        assert_eq!(again.dangerous_private_jwk(), key.dangerous_private_jwk(), "{algorithm}");
        assert_eq!(again.key_id(), key.key_id());

        let token = jws::sign(&again, "at+jwt", b"{}").unwrap();
        assert!(jws::verify(&token, &JwkSet::from_iter([jwk]).to_ring().unwrap()).is_ok());
        let Some(public) = key.verifying_key().to_jwk() else {
            assert!(algorithm.is_symmetric());
            continue;
        };
        let jwk = Jwk::parse(public.as_bytes()).unwrap();
        assert_eq!(jwk.verifying_key().unwrap().public_key(), key.verifying_key().public_key());
        assert_eq!(jwk.signing_key().unwrap_err(), JwkError::NotPrivate);
        assert!(jws::verify(&token, &JwkSet::from_iter([jwk]).to_ring().unwrap()).is_ok());
    }
}

#[test]
fn sec_042_what_is_published_has_no_secret() {
    let keys: Vec<_> = Algorithm::ALL.map(key).into_iter().collect();
    let published = ring(&keys.iter().collect::<Vec<_>>()).to_jwk_set();
    let set: Value = serde_json::from_str(&published).unwrap();
    let published: Vec<_> =
        set["keys"].as_array().unwrap().iter().map(|key| key.as_object().unwrap()).collect();
    assert_eq!(published.len(), asymmetric().count(), "no shared secret");
    for (key, algorithm) in published.into_iter().zip(asymmetric()) {
        let mut names: Vec<_> = key.keys().map(String::as_str).collect();
        names.sort_unstable();
        let expected: &[&str] = match key["kty"].as_str().unwrap() {
            "RSA" => &["alg", "e", "kid", "kty", "n", "use"],
            "EC" => &["alg", "crv", "kid", "kty", "use", "x", "y"],
            _ => &["alg", "crv", "kid", "kty", "use", "x"],
        };
        assert_eq!(names, expected);
        assert_eq!((&key["alg"], &key["use"]), (&json!(algorithm.name()), &json!("sig")));
    }
}

#[test]
fn sec_038_thumbprints_of_the_standards() {
    let rfc_7638_3_1 = json!({
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCi\
              FV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9\
              c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1j\
              F44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB", "alg": "RS256", "kid": "2011-04-29",
    });
    let verifying = read(&rfc_7638_3_1).unwrap().verifying_key().unwrap();
    assert_eq!(verifying.key_id().as_str(), "2011-04-29");
    assert_eq!(verifying.thumbprint().as_deref(), Some("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"));
    let unnamed = read(&with(&rfc_7638_3_1, json!({"kid": null}))).unwrap().verifying_key().unwrap();
    assert_eq!(unnamed.key_id().as_str(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");

    let rfc_8037_a_2 =
        json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let named = read(&rfc_8037_a_2).unwrap().verifying_key().unwrap();
    assert_eq!(named.key_id().as_str(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "RFC 8037 A.3");
}

#[test]
fn sec_043_type_curve_algorithm_and_use_agree() {
    let ec = public(Algorithm::Es256);
    let rsa = public(Algorithm::Rs256);
    let okp = public(Algorithm::EdDsa);
    let oct = private(Algorithm::Hs256);
    for (case, jwk, expected) in [
        ("as it is", ec.clone(), Ok(())),
        ("algorithm of the same curve left out", with(&ec, json!({"alg": null})), Ok(())),
        ("algorithm of another curve", with(&ec, json!({"alg": "ES384"})), Err(JwkError::OtherAlgorithm)),
        ("another curve of that size", with(&ec, json!({"alg": "ES256K"})), Err(JwkError::OtherAlgorithm)),
        ("algorithm of another type", with(&ec, json!({"alg": "RS256"})), Err(JwkError::OtherAlgorithm)),
        ("MAC with a public key", with(&rsa, json!({"alg": "HS256"})), Err(JwkError::OtherAlgorithm)),
        ("signature with a secret", with(&oct, json!({"alg": "EdDSA"})), Err(JwkError::OtherAlgorithm)),
        ("unknown algorithm", with(&ec, json!({"alg": "ES521"})), Err(JwkError::UnknownAlgorithm)),
        ("none", with(&oct, json!({"alg": "none"})), Err(JwkError::UnknownAlgorithm)),
        ("encryption", with(&oct, json!({"alg": "A256GCM"})), Err(JwkError::UnknownAlgorithm)),
        ("lower case", with(&ec, json!({"alg": "es256"})), Err(JwkError::UnknownAlgorithm)),
        ("algorithm is a list", with(&ec, json!({"alg": ["ES256"]})), Err(JwkError::Invalid("alg"))),
        ("curve of another size", with(&ec, json!({"crv": "P-384"})), Err(JwkError::Invalid("x"))),
        ("curve of that size", with(&ec, json!({"crv": "secp256k1"})), Err(JwkError::OtherAlgorithm)),
        ("unknown curve", with(&okp, json!({"crv": "Ed448"})), Err(JwkError::UnknownKeyType)),
        ("key exchange", with(&okp, json!({"crv": "X25519"})), Err(JwkError::UnknownKeyType)),
        ("no curve", with(&okp, json!({"crv": null})), Err(JwkError::Missing("crv"))),
        ("another type", with(&ec, json!({"kty": "RSA"})), Err(JwkError::Missing("n"))),
        ("unknown type", with(&ec, json!({"kty": "ec"})), Err(JwkError::UnknownKeyType)),
        ("no type", with(&ec, json!({"kty": null})), Err(JwkError::Missing("kty"))),
        ("no use", with(&ec, json!({"use": null})), Ok(())),
        ("for encryption", with(&ec, json!({"use": "enc"})), Err(JwkError::OtherUse)),
        ("use is a list", with(&ec, json!({"use": ["sig"]})), Err(JwkError::Invalid("use"))),
        ("verify", with(&ec, json!({"use": null, "key_ops": ["verify"]})), Ok(())),
        ("verify and more", with(&ec, json!({"key_ops": ["wrapKey", "verify"]})), Ok(())),
        ("encrypt", with(&ec, json!({"use": null, "key_ops": ["encrypt"]})), Err(JwkError::OtherUse)),
        ("no operation", with(&ec, json!({"key_ops": []})), Err(JwkError::OtherUse)),
        ("twice", with(&ec, json!({"key_ops": ["verify", "verify"]})), Err(JwkError::Invalid("key_ops"))),
        ("contradiction", with(&ec, json!({"use": "enc", "key_ops": ["verify"]})), Err(JwkError::OtherUse)),
        ("operations in a text", with(&ec, json!({"key_ops": "verify"})), Err(JwkError::Invalid("key_ops"))),
        ("id is a number", with(&ec, json!({"kid": 1})), Err(JwkError::Invalid("kid"))),
        ("empty id", with(&ec, json!({"kid": ""})), Err(JwkError::Invalid("kid"))),
        ("long id", with(&ec, json!({"kid": "k".repeat(129)})), Err(JwkError::Invalid("kid"))),
        ("id with a line break", with(&ec, json!({"kid": "a\nb"})), Err(JwkError::Invalid("kid"))),
        ("unknown members", with(&ec, json!({"x5c": ["MIIB"], "iat": 1, "y2": {"a": []}})), Ok(())),
    ] {
        let verdict = read(&jwk).and_then(|jwk| jwk.verifying_key()).map(drop);
        assert_eq!(verdict, expected, "{case}");
    }
}

#[test]
fn sec_043_key_operations_say_which_way_a_key_works() {
    let sign = read(&with(&private(Algorithm::Es256), json!({"key_ops": ["sign"]}))).unwrap();
    assert!(sign.signing_key().is_ok());
    assert_eq!(sign.verifying_key().unwrap_err(), JwkError::OtherUse);
    let verify = read(&with(&private(Algorithm::Es256), json!({"key_ops": ["verify"]}))).unwrap();
    assert!(verify.verifying_key().is_ok());
    assert_eq!(verify.signing_key().unwrap_err(), JwkError::OtherUse);
    let usable = JwkSet::from_iter([sign, verify]).usable(ImportRules::strict(), None);
    assert_eq!((usable.ring.len(), usable.left_out.for_something_else()), (1, 1));
}

/// The usable keys of a set, by id and algorithm, and what is said of the others.
fn usable(keys: &[Value]) -> (Vec<String>, String) {
    let usable = read_set(keys).unwrap().usable(ImportRules::strict(), None);
    let names = usable.ring.iter().map(|key| format!("{} {}", key.key_id(), key.algorithm()));
    (names.collect(), usable.left_out.to_string())
}

#[test]
fn sec_043_what_a_set_has_for_others_is_left_out() {
    let (ec, okp, rsa) = (public(Algorithm::Es256), public(Algorithm::EdDsa), public(Algorithm::Ps512));
    let set = read_set(&[
        ec,
        json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA", "kid": "future"}),
        json!({"kty": "OKP", "crv": "X25519", "x": "AAAA", "kid": "exchange"}),
        with(&rsa, json!({"use": "enc", "alg": "RSA-OAEP", "kid": "encryption"})),
        with(&rsa, json!({"alg": "RSA-OAEP-256", "kid": "encryption that does not say so"})),
        with(&rsa, json!({"key_ops": ["wrapKey"], "kid": "another way to say so"})),
        with(&okp, json!({"alg": "Ed25519", "kid": "a name of RFC 9864"})),
        okp,
    ])
    .unwrap();
    assert_eq!((set.left_out().faulty(), set.left_out().for_something_else()), (0, 5));
    let ring = set.to_ring().unwrap();
    let names: Vec<_> = ring.iter().map(|key| key.key_id().as_str()).collect();
    assert_eq!(names, ["test-ES256", "a name of RFC 9864", "test-EdDSA"]);

    assert!(read_set(&[]).unwrap().to_ring().unwrap().is_empty());
    let encryption = with(&rsa, json!({"use": "enc"}));
    assert!(read_set(&[encryption]).unwrap().to_ring().unwrap().is_empty(), "nothing is wrong with it");
    for (text, expected) in [
        ("{}", JwkError::Missing("keys")),
        (r#"{"keys":{}}"#, JwkError::Invalid("keys")),
        (r#"{"keys":null}"#, JwkError::Invalid("keys")),
        (r#"{"keys":[],"keys":[]}"#, JwkError::Json(JsonError::DuplicateMember)),
        (r#"{"keys":[{]}"#, JwkError::Json(JsonError::Syntax)),
        (r#"{"keys":[]} "#, JwkError::Json(JsonError::Syntax)),
        ("[]", JwkError::Json(JsonError::Syntax)),
    ] {
        let text = text.replace("]} ", "]}}");
        assert_eq!(JwkSet::parse(text.as_bytes()).unwrap_err(), expected, "{text}");
    }
}

#[test]
fn sec_043_one_bad_key_does_not_spoil_a_set() {
    let (good, rsa) = (public(Algorithm::Es256), public(Algorithm::Rs256));
    let x = good["x"].as_str().unwrap();
    for (bad, reason) in [
        (with(&good, json!({"alg": 1})), "JWK member alg is invalid"),
        (with_null(&good, "alg"), "JWK member alg is invalid"),
        (with_null(&good, "kty"), "JWK member kty is invalid"),
        (with_null(&good, "kid"), "JWK member kid is invalid"),
        (with_null(&good, "use"), "JWK member use is invalid"),
        (with(&good, json!({"kty": null})), "JWK member kty is missing"),
        (with(&good, json!({"x": encode(&decode(x)[..31])})), "JWK member x is invalid"),
        (with(&good, json!({"y": null})), "JWK member y is missing"),
        (with(&good, json!({"y": x})), "not a valid ES256 key"),
        (with(&good, json!({"alg": "ES384"})), "algorithm does not fit the type of the key"),
        (with(&good, json!({"kid": "k".repeat(129)})), "JWK member kid is invalid"),
        (with(&good, json!({"key_ops": "verify"})), "JWK member key_ops is invalid"),
        (with(&rsa, json!({"n": encode([0xc1; 128])})), "RSA key has 1024 bits, 2048 to 8192 are accepted"),
        (with(&rsa, json!({"e": "AQ"})), "RSA public exponent is even or below 65537"),
        (with(&rsa, json!({"alg": null})), "JWK names no algorithm, and several would fit"),
        (json!({"kty": "RSA", "kid": "certificate alone", "x5c": ["MIIB"]}), "JWK member n is missing"),
        (private(Algorithm::Hs256), "shared secret in a set with public keys"),
        (json!(1), "JWK: not a JSON object"),
        (json!(null), "JWK: not a JSON object"),
        (json!([good]), "JWK: not a JSON object"),
    ] {
        let expected = vec!["test-ES256 ES256".to_owned()];
        for (keys, place) in [([bad.clone(), good.clone()], 0), ([good.clone(), bad.clone()], 1)] {
            assert_eq!(usable(&keys), (expected.clone(), format!("keys[{place}]: {reason}")), "{bad}");
        }
        // Alone, it is what is wrong with the set, and with the key. A secret alone is a set of secrets.
        if bad.get("kty") != Some(&json!("oct")) {
            assert_eq!(
                read_set(std::slice::from_ref(&bad)).unwrap().to_ring().unwrap_err().to_string(),
                reason
            );
            let single = read(&bad).and_then(|key| key.verifying_key()).map(drop);
            assert_eq!(single.unwrap_err().to_string(), reason);
        }
    }
    let repeated = good.to_string().replacen('{', r#"{"kty":"EC","#, 1);
    let set = JwkSet::parse(format!(r#"{{"keys":[{repeated},{good}]}}"#).as_bytes()).unwrap();
    assert_eq!(set.left_out().to_string(), "keys[0]: JWK: duplicate member name");
    assert_eq!(set.to_ring().unwrap().len(), 1);
}

/// `key` with a member that is null.
fn with_null(key: &Value, name: &str) -> Value {
    let mut key = key.clone();
    key[name] = Value::Null;
    key
}

#[test]
fn a_token_chooses_among_keys_of_one_id_by_its_algorithm() {
    let [rs256, rs512, ps256, es256] =
        [Algorithm::Rs256, Algorithm::Rs512, Algorithm::Ps256, Algorithm::Es256].map(key);
    let id = KeyId::new("one name").unwrap();
    let named = |key: &SigningKey| key.clone().with_key_id(id.clone());
    let jwk = |key: &SigningKey| -> Value {
        serde_json::from_str(&named(key).verifying_key().to_jwk().unwrap()).unwrap()
    };
    let ring = read_set(&[jwk(&rs256), jwk(&rs512), jwk(&es256)]).unwrap().to_ring().unwrap();
    for key in [&rs256, &rs512, &es256] {
        let token = jws::sign(&named(key), "at+jwt", b"{}").unwrap();
        let verified = jws::verify(&token, &ring).unwrap();
        assert_eq!(verified.header.algorithm(), key.algorithm());
    }
    let other = jws::sign(&named(&ps256), "at+jwt", b"{}").unwrap();
    assert_eq!(jws::verify(&other, &ring).unwrap_err(), VerifyError::Algorithm);

    // Under one id and one algorithm nobody knows which of two is meant, and no token is tried with both.
    let second = SigningKey::generate(Algorithm::Es256, &support::Seeded::new(77)).unwrap();
    let reason = "another key of the set has the same id and algorithm";
    let (names, left_out) = usable(&[jwk(&es256), jwk(&second), jwk(&rs256)]);
    assert_eq!(names, ["one name RS256"]);
    assert_eq!(left_out, format!("keys[0]: {reason}; keys[1]: {reason}"));
    // The same one twice is no question.
    let (names, left_out) = usable(&[jwk(&es256), jwk(&rs256), jwk(&es256)]);
    assert_eq!(names, ["one name ES256", "one name RS256"]);
    assert_eq!(left_out, format!("keys[2]: {reason}"));
    let other =
        with(&private(Algorithm::Hs256), json!({"k": encode([&[9; 16][..], b"0123456789abcdef"].concat())}));
    let (names, left_out) = usable(&[private(Algorithm::Hs256), other, private(Algorithm::Hs384)]);
    assert_eq!(
        (names, left_out),
        (vec!["test-HS384 HS384".to_owned()], format!("keys[0]: {reason}; keys[1]: {reason}"))
    );

    // A secret is known by its name alone, so a malformed one of the same name spoils it.
    let malformed = with(&private(Algorithm::Hs256), json!({"k": "AB"}));
    assert!(usable(&[private(Algorithm::Hs256), malformed.clone()]).0.is_empty());
    assert_eq!(
        usable(&[with(&malformed, json!({"kid": "x"})), private(Algorithm::Hs256)]).0,
        ["test-HS256 HS256"]
    );

    // A ring of our own has one key per id.
    let mut own = ring;
    let verdict = own.insert(named(&ps256).verifying_key());
    assert_eq!(verdict.unwrap_err(), KeyError::DuplicateKeyId(id));
}

#[test]
fn sec_010_no_set_leads_from_a_public_key_to_a_secret() {
    let (rsa, secret) = (public(Algorithm::Rs256), private(Algorithm::Hs256));
    let secret = with(&secret, json!({"kid": rsa["kid"]}));
    for keys in [[rsa.clone(), secret.clone()], [secret.clone(), rsa.clone()]] {
        assert_eq!(usable(&keys).0, ["test-RS256 RS256"]);
    }
    let signing = key(Algorithm::Hs256).with_key_id(KeyId::new("test-RS256").unwrap());
    let token = jws::sign(&signing, "at+jwt", b"{}").unwrap();
    let ring = read_set(&[rsa, secret.clone()]).unwrap().to_ring().unwrap();
    assert_eq!(jws::verify(&token, &ring).unwrap_err(), VerifyError::Algorithm);
    // Secrets among themselves are a set of somebody's own.
    assert_eq!(usable(&[secret.clone(), private(Algorithm::Hs384)]).0.len(), 2);
    assert_eq!(read_set(&[secret]).unwrap().published(&Algorithm::ALL).ring.len(), 0);
}

#[test]
fn sec_043_private_keys_that_are_published_verify_nothing() {
    let algorithms: Vec<_> = asymmetric().collect();
    for algorithm in [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa] {
        let other = if algorithm == Algorithm::Es256 { Algorithm::EdDsa } else { Algorithm::Es256 };
        let (whole, twin, other) = (private(algorithm), public(algorithm), public(other));
        let twin = with(&twin, json!({"kid": "another name"}));
        for leaked in [
            whole.clone(),
            with(&whole, json!({"use": "enc"})),
            with(&whole, json!({"d": "AAAA"})),
            with(&whole, json!({"p": null, "q": null, "dp": null, "dq": null, "qi": null})),
        ] {
            for keys in [[leaked.clone(), twin.clone(), other.clone()], [other.clone(), twin.clone(), leaked]]
            {
                let usable = read_set(&keys).unwrap().published(&algorithms);
                let names: Vec<_> = usable.ring.iter().map(|key| json!(key.key_id().as_str())).collect();
                assert_eq!(names, [other["kid"].clone()], "{algorithm}");
                assert!(usable.left_out.to_string().contains("keys[1]: its private key is published"));
            }
        }
    }
}

#[test]
fn sets_are_limited_by_their_bytes_and_not_by_what_they_are_made_of() {
    let key = public(Algorithm::EdDsa);
    let many: Vec<_> = (0..300).map(|n| with(&key, json!({"kid": format!("key-{n}")}))).collect();
    assert!(json!({ "keys": many }).to_string().len() < Jwk::MAX_BYTES);
    let ring = read_set(&many).unwrap().to_ring().unwrap();
    assert_eq!(ring.len(), 300);
    assert!(ring.get("key-299").is_some());

    let mut wide = key.clone();
    for n in 0..1_000 {
        wide[format!("x-{n}")] = json!([n, {"a": n}]);
    }
    wide["x5c"] = json!(vec!["MIIB"; 2_000]);
    assert!(read(&wide).unwrap().verifying_key().is_ok());
    assert_eq!(read_set(&[wide.clone()]).unwrap().to_ring().unwrap().len(), 1);
    let named: serde_json::Map<_, _> = (0..1_000).map(|n| (format!("x-{n}"), json!(n))).collect();
    let mut set = Value::Object(named);
    set["keys"] = json!([wide]);
    assert_eq!(JwkSet::parse(set.to_string().as_bytes()).unwrap().keys().len(), 1);

    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let text = format!(r#"{{"keys":[{{"kty":"EC","deep":{deep}}},{key}]}}"#);
    let set = JwkSet::parse(text.as_bytes()).unwrap();
    assert_eq!(set.keys().len(), 1);
    assert_eq!(set.left_out().to_string(), "keys[0]: JWK: too deep or too many members");

    let full = format!(r#"{{"keys":[{}0]}}"#, "0,".repeat((Jwk::MAX_BYTES - 11) / 2));
    let set = JwkSet::parse(full.as_bytes()).unwrap();
    assert_eq!(set.left_out().faulty(), (Jwk::MAX_BYTES - 11) / 2 + 1);
    let told = set.left_out().to_string();
    assert!(told.len() < 400 && told.ends_with("32755 more"), "{told}");
    assert_eq!(JwkSet::parse(format!("{full}      ").as_bytes()).unwrap_err(), JwkError::TooLong);
}

#[test]
fn sec_046_what_is_told_of_keys_that_are_left_out_has_nothing_of_them() {
    for algorithm in Algorithm::ALL {
        let key = private(algorithm);
        for bad in [
            with(&key, json!({"kid": "canary\n"})),
            with(&key, json!({"alg": "canary"})),
            with(&key, json!({"use": "canary"})),
            with(&key, json!({"kty": "canary"})),
            with(&key, json!({"key_ops": ["canary", "canary"]})),
            with(&key, json!({"d": "canary!", "k": "canary!"})),
        ] {
            let set = read_set(&[bad, public(Algorithm::Es384)]).unwrap();
            let usable = set.published(&[Algorithm::Es384]);
            let told = format!("{} {:?} {:?}", usable.left_out, usable, set);
            assert!(!told.contains("canary"), "{told}");
            for name in ["d", "k", "p", "q"] {
                assert!(key.get(name).is_none_or(|secret| !told.contains(secret.as_str().unwrap())));
            }
        }
    }
}

#[test]
fn an_ed25519_key_is_read_under_both_names() {
    // As WebCrypto exports it.
    let mut exported = private(Algorithm::EdDsa);
    exported["alg"] = json!("Ed25519");
    exported["key_ops"] = json!(["sign", "verify"]);
    exported["ext"] = json!(true);
    exported.as_object_mut().unwrap().remove("use");
    let jwk = read(&exported).unwrap();
    assert_eq!(jwk.algorithm(), Some(Algorithm::EdDsa));
    assert!(jwk.signing_key().is_ok() && jwk.verifying_key().is_ok());
    assert!(jwk.with_algorithm(Algorithm::EdDsa).is_ok());
    let published: Value =
        serde_json::from_str(&read(&exported).unwrap().verifying_key().unwrap().to_jwk().unwrap()).unwrap();
    assert_eq!(published["alg"], "EdDSA");
    for (kty, name) in [("EC", "Ed25519"), ("RSA", "Ed25519"), ("oct", "Ed25519")] {
        let other = match kty {
            "EC" => public(Algorithm::Es256),
            "RSA" => public(Algorithm::Rs256),
            _ => private(Algorithm::Hs256),
        };
        assert_eq!(read(&with(&other, json!({"alg": name}))).unwrap_err(), JwkError::OtherAlgorithm);
    }
    assert_eq!(read(&with(&exported, json!({"alg": "Ed448"}))).unwrap_err(), JwkError::UnknownAlgorithm);
    assert_eq!("Ed25519".parse(), Ok(Algorithm::EdDsa));
}

#[test]
fn sec_007_duplicate_members_of_a_key_are_refused() {
    let x = encode([1; 32]);
    for text in [
        format!(r#"{{"kty":"OKP","kty":"OKP","crv":"Ed25519","x":"{x}"}}"#),
        format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","\u0078":"{x}"}}"#),
        format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}","e":{{"a":1,"a":2}}}}"#),
    ] {
        let expected = JwkError::Json(JsonError::DuplicateMember);
        assert_eq!(Jwk::parse(text.as_bytes()).unwrap_err(), expected);
        let set = JwkSet::parse(format!(r#"{{"keys":[{text}]}}"#).as_bytes()).unwrap();
        assert_eq!(set.to_ring().unwrap_err(), expected);
    }
    let long = format!(r#"{{"kty":"OKP","x":"{}"}}"#, "A".repeat(Jwk::MAX_BYTES));
    assert_eq!(Jwk::parse(long.as_bytes()).unwrap_err(), JwkError::TooLong);
    assert_eq!(JwkSet::parse(long.as_bytes()).unwrap_err(), JwkError::TooLong);
}

#[test]
fn sec_003_numbers_of_a_key_are_strict_base64url_of_the_right_length() {
    let ec = public(Algorithm::Es512);
    let x = ec["x"].as_str().unwrap().to_owned();
    let shorter = encode(&decode(&x)[1..]);
    let longer = encode([&[0][..], &decode(&x)].concat());
    for x in [format!("{x}="), format!(" {x}"), x.replace(&x[..1], "+"), shorter, longer, String::new()] {
        assert_eq!(read(&with(&ec, json!({"x": x}))).unwrap_err(), JwkError::Invalid("x"), "{x}");
    }
    let rsa = public(Algorithm::Rs256);
    for (name, value) in [("n", encode([0; 256])), ("n", String::new()), ("e", encode([0, 1, 0, 1]))] {
        assert_eq!(read(&with(&rsa, json!({name: value}))).unwrap_err(), JwkError::Invalid(name));
    }
    let key = Jwk::parse(public(Algorithm::EdDsa).to_string().replace("OKP", "O\\u004bP").as_bytes());
    assert!(key.is_ok(), "escapes are JSON");
}

#[test]
fn sec_018_secrets_in_jwks_are_as_long_as_the_hash() {
    let oct = private(Algorithm::Hs256);
    let secret = decode(private(Algorithm::Hs512)["k"].as_str().unwrap());
    for (algorithm, minimum) in [(Algorithm::Hs256, 32), (Algorithm::Hs384, 48), (Algorithm::Hs512, 64)] {
        for (length, good) in [(0, false), (minimum - 1, false), (minimum, true), (64, true)] {
            let changes = json!({"alg": algorithm.name(), "k": encode(&secret[..length])});
            let jwk = read(&with(&oct, changes)).unwrap();
            let expected = JwkError::Key(KeyError::SecretTooShort { actual: length, minimum });
            for rules in [ImportRules::strict(), ImportRules::strict().dangerous_accept_guessable_secrets()] {
                let verdict = jwk.verifying_key_with(rules).map(drop);
                assert_eq!(verdict, if good { Ok(()) } else { Err(expected.clone()) });
            }
            assert_eq!(jwk.signing_key().is_ok(), good);
        }
    }
    let zeros = read(&with(&oct, json!({"k": encode([0; 32])}))).unwrap();
    assert_eq!(zeros.verifying_key().unwrap_err(), JwkError::Key(KeyError::SecretGuessable));
    assert!(zeros.verifying_key_with(ImportRules::strict().dangerous_accept_guessable_secrets()).is_ok());
    assert_eq!(zeros.signing_key().unwrap_err(), JwkError::Key(KeyError::SecretGuessable));
}

#[test]
fn sec_019_weak_rsa_keys_in_jwks_are_refused() {
    let rsa = public(Algorithm::Rs256);
    let small = encode([0xc1; 128]);
    let even = encode([&[0xc1][..], &[0; 255]].concat());
    for (changes, expected) in [
        (json!({"n": small}), KeyError::RsaSize { bits: 1024 }),
        (json!({"n": encode([0xc1; 1025])}), KeyError::RsaSize { bits: 8200 }),
        (json!({"n": even}), KeyError::WeakPublicKey),
        (json!({"e": "AQ"}), KeyError::RsaExponent),
        (json!({"e": "Aw"}), KeyError::RsaExponent),
        (json!({"e": "AQAA"}), KeyError::RsaExponent),
    ] {
        let jwk = read(&with(&rsa, changes)).unwrap();
        assert_eq!(jwk.verifying_key().unwrap_err(), JwkError::Key(expected));
    }
    let three = read(&with(&rsa, json!({"e": "Aw"}))).unwrap();
    assert!(three.verifying_key_with(ImportRules::strict().dangerous_accept_rsa_exponent_3()).is_ok());
}

#[test]
fn sec_019_rsa_sizes_are_exact_and_factorable_keys_are_refused() {
    let rsa = public(Algorithm::Rs256);
    let verdict = |modulus: &[u8]| {
        let jwk = read(&with(&rsa, json!({"n": encode(modulus)}))).unwrap();
        jwk.verifying_key().map(drop)
    };
    let own = decode(rsa["n"].as_str().unwrap());
    assert_eq!((own.len(), verdict(&own)), (256, Ok(())));
    let mut smaller = own.clone();
    smaller[0] = 0x7f;
    assert_eq!(verdict(&smaller), Err(JwkError::Key(KeyError::RsaSize { bits: 2047 })));
    let longest = [&own[..], &[0x5b; 768]].concat();
    assert_eq!(verdict(&longest), Ok(()), "8192 bits");
    let longer = [&[1][..], &longest].concat();
    assert_eq!(verdict(&longer), Err(JwkError::Key(KeyError::RsaSize { bits: 8193 })));

    // CVE-2017-15361: both primes are powers of 65537 modulo many small primes, and so is the modulus. This one is a
    // power of 65537 altogether: 2049 bits for the exponent 128.
    let mut weak = vec![1];
    for _ in 0..128 {
        weak = times_65537(&weak);
    }
    assert_eq!((weak.len(), weak[0]), (257, 1));
    assert_eq!(verdict(&weak), Err(JwkError::Key(KeyError::WeakPublicKey)));
    *weak.last_mut().unwrap() ^= 2;
    assert_eq!(verdict(&weak), Ok(()), "its neighbour has not that form");
}

/// n·65537 = n·2^16 + n, big-endian.
fn times_65537(number: &[u8]) -> Vec<u8> {
    let mut product = Vec::new();
    let mut carry = 0;
    let shifted = [number, &[0, 0]].concat();
    let mut own = number.iter().rev();
    for byte in shifted.iter().rev() {
        let sum = u16::from(*byte) + u16::from(own.next().copied().unwrap_or(0)) + carry;
        product.push(sum.to_le_bytes()[0]);
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    product.reverse();
    product
}

#[test]
fn sec_021_weak_and_wrong_points_in_jwks_are_refused() {
    let weak = with(&public(Algorithm::EdDsa), json!({"x": encode([0; 32])}));
    assert_eq!(read(&weak).unwrap().verifying_key().unwrap_err(), JwkError::Key(KeyError::WeakPublicKey));
    let ec = public(Algorithm::Es256);
    let mut y = decode(ec["y"].as_str().unwrap());
    y[31] ^= 1;
    let off = read(&with(&ec, json!({"y": encode(y)}))).unwrap();
    let expected = JwkError::Key(KeyError::Malformed { algorithm: Algorithm::Es256 });
    assert_eq!(off.verifying_key().unwrap_err(), expected);
}

#[test]
fn private_parts_fit_the_public_ones() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Es512, Algorithm::Rs256] {
        let whole = private(algorithm);
        let other = match algorithm {
            Algorithm::EdDsa => encode([7; 32]),
            _ => encode(
                [&[0][..], &decode(whole["d"].as_str().unwrap())[1..]]
                    .concat()
                    .iter()
                    .rev()
                    .copied()
                    .collect::<Vec<_>>(),
            ),
        };
        let mixed = read(&with(&whole, json!({"d": other}))).unwrap();
        assert!(mixed.signing_key().is_err(), "{algorithm}");
        assert!(mixed.verifying_key().is_err(), "{algorithm}");
    }
    let rsa = private(Algorithm::Rs256);
    for name in ["p", "q", "dp", "dq", "qi"] {
        assert_eq!(read(&with(&rsa, json!({name: null}))).unwrap_err(), JwkError::Missing(name));
        let swapped = with(&rsa, json!({name: rsa["d"].clone()}));
        assert!(read(&swapped).unwrap().signing_key().is_err(), "{name}");
    }
    assert_eq!(read(&with(&rsa, json!({"oth": []}))).unwrap_err(), JwkError::Invalid("oth"));
}

#[test]
fn rsa_keys_and_secrets_need_their_algorithm_said() {
    let unsaid = read(&with(&public(Algorithm::Rs256), json!({"alg": null}))).unwrap();
    assert_eq!(unsaid.algorithm(), None);
    assert_eq!(unsaid.verifying_key().unwrap_err(), JwkError::NoAlgorithm);
    for algorithm in Algorithm::ALL {
        let said = unsaid.clone().with_algorithm(algorithm).and_then(|jwk| jwk.verifying_key());
        assert_eq!(said.is_ok(), RSA.contains(&algorithm), "{algorithm}");
    }
    let said = read(&public(Algorithm::Rs256)).unwrap();
    assert_eq!(said.with_algorithm(Algorithm::Ps256).unwrap_err(), JwkError::OtherAlgorithm);
    let secret = read(&with(&private(Algorithm::Hs512), json!({"alg": null}))).unwrap();
    assert_eq!(secret.signing_key().unwrap_err(), JwkError::NoAlgorithm);
}

#[test]
fn sec_046_debug_of_a_private_jwk_shows_no_secret() {
    for algorithm in Algorithm::ALL {
        let shown = format!("{:?}", Jwk::parse(private(algorithm).to_string().as_bytes()).unwrap());
        assert!(shown.len() < 120 && shown.contains(&format!("test-{algorithm}")), "{shown}");
    }
}

/// The key of RFC 7515 appendix A.2, which signs its example.
#[test]
fn rfc_7515_a_2_rs256_verifies_and_signs_the_same() {
    let jwk = json!({
        "kty": "RSA", "alg": "RS256",
        "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-p\
              CgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg\
              665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FR\
              WyuXpoQ",
        "e": "AQAB",
    });
    let ring = JwkSet::from_iter([read(&jwk).unwrap()]).to_ring().unwrap();
    let token = "eyJhbGciOiJSUzI1NiJ9\
        .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
        .cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1\
        dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwu\
        sC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    assert!(jws::verify(token, &ring).is_ok());
    assert_eq!(jws::verify(&token.replace(".cC4", ".cC5"), &ring).unwrap_err(), VerifyError::Signature);
}

#[test]
fn sec_010_a_jwk_of_a_key_pair_is_no_secret() {
    for algorithm in asymmetric() {
        for text in [public(algorithm), private(algorithm)] {
            let verdict = SigningKey::hmac(Algorithm::Hs256, text.to_string().as_bytes());
            assert_eq!(verdict.unwrap_err(), KeyError::NotASecret, "{algorithm}");
        }
        let claimed = with(&public(algorithm), json!({"kty": "oct", "alg": "HS256"}));
        assert_eq!(read(&claimed).unwrap_err(), JwkError::Missing("k"));
    }
    assert!(KeyId::new("k").is_ok());
}
