//! Keys: what becomes one, what it is called, what it never shows.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_jwt::key::KeyError;
use countersign_jwt::{Algorithm, JsonError, KeyId, KeyRing, SigningKey, VerifyError, VerifyingKey, jws};
use support::{ALL, Broken, Seeded, decode, encode, key, ring};

fn id(text: &str) -> KeyId {
    KeyId::new(text).unwrap()
}

/// RFC 8410 §4: what precedes the 32 bytes of an Ed25519 public key in its `SubjectPublicKeyInfo`.
const ED25519_SPKI: &[u8] = &[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
/// RFC 5480 §2: the same for an uncompressed point on P-256.
const P256_SPKI: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

#[test]
fn sec_010_a_public_key_never_becomes_a_mac_key() {
    let ed = key(Algorithm::EdDsa).verifying_key();
    let ec = key(Algorithm::Es256).verifying_key();
    let point = ec.public_key().unwrap();
    let ed_der = [ED25519_SPKI, ed.public_key().unwrap()].concat();
    let ec_der = [P256_SPKI, point].concat();
    // PKCS#1: a SEQUENCE of modulus and exponent.
    let modulus = [&[0x02, 0x82, 0x01, 0x01, 0x00, 0xc3][..], &[0x5a; 255]].concat();
    let pkcs1 = [&[0x30, 0x82, 0x01, 0x0a][..], &modulus, &[0x02, 0x03, 0x01, 0x00, 0x01]].concat();
    let pkcs8 = key(Algorithm::Es256).to_secret_bytes();
    let pem = |label: &str, der: &[u8]| {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    };
    let jwk = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, encode(ed.public_key().unwrap()));
    for (case, bytes) in [
        ("Ed25519 DER", ed_der.clone()),
        ("P-256 DER", ec_der.clone()),
        ("PKCS#1 DER", pkcs1.clone()),
        ("PKCS#8 DER", pkcs8.to_vec()),
        ("Ed25519 PEM", pem("PUBLIC KEY", &ed_der).into_bytes()),
        ("P-256 PEM without line break", pem("PUBLIC KEY", &ec_der).trim().as_bytes().to_vec()),
        ("PKCS#1 PEM", pem("RSA PUBLIC KEY", &pkcs1).into_bytes()),
        ("PEM after white space", format!("\n  {}", pem("PUBLIC KEY", &ec_der)).into_bytes()),
        ("certificate", pem("CERTIFICATE", &ec_der).into_bytes()),
        ("body of a PEM", STANDARD.encode(&ec_der).into_bytes()),
        ("base64url of DER", encode(&ed_der).into_bytes()),
        ("DER with a line break", [&ec_der[..], b"\n"].concat()),
        ("JWK", jwk.clone().into_bytes()),
        ("JWK with white space", format!(" {jwk}\n").into_bytes()),
        ("JWK set", format!(r#"{{"keys":[{jwk}]}}"#).into_bytes()),
        ("point", point.to_vec()),
        ("SSH", b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPq7 ada@example".to_vec()),
    ] {
        assert_eq!(SigningKey::hmac(Algorithm::Hs256, &bytes).unwrap_err(), KeyError::NotASecret, "{case}");
    }
    for verifying in [&ed, &ec] {
        let bytes = verifying.public_key().unwrap();
        let verdict = VerifyingKey::from_public_key(Algorithm::Hs256, id("k"), bytes);
        assert_eq!(verdict.unwrap_err(), KeyError::WrongForm { algorithm: Algorithm::Hs256 });
    }
    assert!(SigningKey::hmac(Algorithm::EdDsa, &[7; 32]).is_err());
}

#[test]
fn sec_163_hs256_over_a_public_key_is_refused() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
        let key = key(algorithm);
        let verifying = key.verifying_key();
        let mac = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, verifying.public_key().unwrap());
        for head in
            [format!(r#"{{"alg":"HS256","kid":"{}"}}"#, key.key_id()), r#"{"alg":"HS256"}"#.to_owned()]
        {
            let input = format!("{}.{}", encode(head), encode("{}"));
            let tag = aws_lc_rs::hmac::sign(&mac, input.as_bytes());
            let error = jws::verify(&format!("{input}.{}", encode(tag)), &ring(&[&key])).unwrap_err();
            assert!(matches!(error, VerifyError::Algorithm | VerifyError::NoKeyNamed), "{error}");
        }
    }
}

#[test]
fn sec_018_short_and_well_known_secrets_are_refused() {
    let good = Seeded::new(1);
    let mut secret = [0; 40];
    countersign_jwt::Random::fill(&good, &mut secret).unwrap();
    for length in [0, 1, 16, 31] {
        let verdict = SigningKey::hmac(Algorithm::Hs256, &secret[..length]);
        assert_eq!(verdict.unwrap_err(), KeyError::SecretTooShort { actual: length, minimum: 32 });
    }
    for length in [32, 33, 40] {
        assert!(SigningKey::hmac(Algorithm::Hs256, &secret[..length]).is_ok());
    }
    for guessable in [
        &[0; 32][..],
        &[b'a'; 64],
        b"01010101010101010101010101010101",
        b"a-string-secret-at-least-256-bits-long",
        b"please CHANGE_ME before you deploy this",
        b"super-secret-super-secret-super-secret",
        b"your-256-bit-secret-your-256-bit-secret",
    ] {
        let verdict = SigningKey::hmac(Algorithm::Hs256, guessable);
        assert_eq!(verdict.unwrap_err(), KeyError::SecretGuessable);
    }
}

#[test]
fn sec_021_low_order_and_non_canonical_ed25519_keys_are_refused() {
    let mut weak = Vec::new();
    for y in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "f3ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ] {
        let mut bytes: Vec<u8> =
            (0..32).map(|at| u8::from_str_radix(&y[2 * at..2 * at + 2], 16).unwrap()).collect();
        weak.push(bytes.clone());
        bytes[31] |= 0x80;
        weak.push(bytes);
    }
    for bytes in weak {
        let verdict = VerifyingKey::from_public_key(Algorithm::EdDsa, id("k"), &bytes);
        assert_eq!(verdict.unwrap_err(), KeyError::WeakPublicKey, "{bytes:x?}");
    }
    let good = key(Algorithm::EdDsa).verifying_key();
    assert!(VerifyingKey::from_public_key(Algorithm::EdDsa, id("k"), good.public_key().unwrap()).is_ok());
}

#[test]
fn public_keys_have_one_form_each() {
    for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
        let public = key(algorithm).verifying_key();
        let bytes = public.public_key().unwrap();
        let other = if algorithm == Algorithm::EdDsa { Algorithm::Es256 } else { Algorithm::EdDsa };
        for (case, algorithm, bytes) in [
            ("empty", algorithm, vec![]),
            ("short", algorithm, bytes[1..].to_vec()),
            ("long", algorithm, [bytes, b"\0"].concat()),
            ("other algorithm", other, bytes.to_vec()),
            ("DER", Algorithm::EdDsa, [ED25519_SPKI, bytes].concat()),
            ("DER", Algorithm::Es256, [P256_SPKI, bytes].concat()),
        ] {
            let verdict = VerifyingKey::from_public_key(algorithm, id("k"), &bytes);
            assert_eq!(verdict.unwrap_err(), KeyError::Malformed { algorithm }, "{case}");
        }
    }
    let mut off_curve = key(Algorithm::Es256).verifying_key().public_key().unwrap().to_vec();
    off_curve[64] ^= 1;
    assert!(VerifyingKey::from_public_key(Algorithm::Es256, id("k"), &off_curve).is_err());
}

#[test]
fn keys_come_back_from_their_secret_bytes() {
    for algorithm in ALL {
        let key = key(algorithm);
        let again =
            SigningKey::from_secret_bytes(algorithm, key.key_id().clone(), &key.to_secret_bytes()).unwrap();
        assert_eq!(again.key_id(), key.key_id());
        let token = jws::sign(&again, "at+jwt", b"{}").unwrap();
        assert!(jws::verify(&token, &ring(&[&key])).is_ok(), "{algorithm}");
        assert_eq!(again.verifying_key().public_key(), key.verifying_key().public_key());
        for bytes in [&[][..], &[1; 31], &[1; 33], b"\x30\x00"] {
            assert!(SigningKey::from_secret_bytes(algorithm, id("k"), bytes).is_err(), "{algorithm}");
        }
    }
}

#[test]
fn generated_keys_depend_on_the_given_randomness_alone() {
    for algorithm in ALL {
        let generate = |seed| SigningKey::generate(algorithm, &Seeded::new(seed)).unwrap();
        assert_eq!(generate(1).to_secret_bytes(), generate(1).to_secret_bytes());
        assert_ne!(generate(1).to_secret_bytes(), generate(2).to_secret_bytes());
        assert_ne!(generate(1).key_id(), generate(2).key_id());
        assert!(matches!(SigningKey::generate(algorithm, &Broken), Err(KeyError::Random(_))), "SEC-160");
    }
}

#[test]
fn sec_038_default_kid_is_the_thumbprint() {
    // RFC 8037 appendix A.3.
    let public = decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    let rfc = VerifyingKey::from_public_key(Algorithm::EdDsa, id("k"), &public).unwrap();
    assert_eq!(rfc.thumbprint().as_deref(), Some("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"));

    for algorithm in [Algorithm::EdDsa, Algorithm::Es256] {
        let key = SigningKey::generate(algorithm, &Seeded::new(3)).unwrap();
        assert_eq!(Some(key.key_id().as_str()), key.verifying_key().thumbprint().as_deref());
    }
    let hmac = SigningKey::generate(Algorithm::Hs256, &Seeded::new(3)).unwrap();
    assert_eq!(hmac.key_id().as_str().len(), 22, "128 random bits");
    assert_eq!(hmac.verifying_key().thumbprint(), None);

    let secret = hmac.to_secret_bytes();
    let named = |secret: &[u8]| SigningKey::hmac(Algorithm::Hs256, secret).unwrap().key_id().clone();
    assert_eq!(named(&secret), named(&secret), "every node gives a secret the same name");
}

#[test]
fn sec_043_a_ring_holds_one_key_per_id() {
    let (first, second) = (key(Algorithm::EdDsa), key(Algorithm::Es256).with_key_id(id("test-EdDSA")));
    let mut ring = KeyRing::new();
    ring.insert(first.verifying_key()).unwrap();
    let error = ring.insert(second.verifying_key()).unwrap_err();
    assert_eq!(error, KeyError::DuplicateKeyId(id("test-EdDSA")));
    assert_eq!((ring.len(), ring.is_empty()), (1, false));

    let token = jws::sign(&first, "at+jwt", b"{}").unwrap();
    assert!(jws::verify(&token, &ring).is_ok());
    assert!(ring.remove(first.key_id()).unwrap().is_same_key(&first.verifying_key()));
    assert_eq!(jws::verify(&token, &ring).unwrap_err(), VerifyError::UnknownKey);
    assert!(ring.remove(first.key_id()).is_none());
}

#[test]
fn sec_046_debug_shows_no_secret() {
    for algorithm in ALL {
        let key = key(algorithm);
        let secret = key.to_secret_bytes();
        let shown = format!("{key:?} {:?} {:#?}", key.verifying_key(), ring(&[&key]));
        assert!(shown.contains("[redacted]") && shown.contains(key.key_id().as_str()), "{shown}");
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        for form in [encode(&secret), STANDARD.encode(&secret), hex, format!("{:?}", &secret[..8])] {
            assert!(!shown.contains(&form), "{algorithm}");
        }
    }
}

#[test]
fn rfc_7515_a_1_hs256_verifies() {
    let secret =
        decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow");
    let key = SigningKey::hmac(Algorithm::Hs256, &secret).unwrap();
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9\
        .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
        .dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let verified = jws::verify(token, &ring(&[&key])).unwrap();
    assert_eq!(verified.header.typ(), Some("JWT"));
    assert_eq!(
        String::from_utf8(verified.payload).unwrap(),
        "{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}"
    );
}

#[test]
fn rfc_7515_a_3_es256_verifies() {
    let x = decode("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU");
    let y = decode("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
    let point = [&[4][..], &x, &y].concat();
    let mut ring = KeyRing::new();
    ring.insert(VerifyingKey::from_public_key(Algorithm::Es256, id("k"), &point).unwrap()).unwrap();
    let token = "eyJhbGciOiJFUzI1NiJ9\
        .eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ\
        .DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    assert!(jws::verify(token, &ring).is_ok());
}

#[test]
fn rfc_8037_a_4_eddsa_verifies_and_signs_the_same() {
    let seed = decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A");
    let key = SigningKey::from_secret_bytes(Algorithm::EdDsa, id("k"), &seed).unwrap();
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc\
        .hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let verified = jws::verify(token, &ring(&[&key])).unwrap();
    assert_eq!(verified.payload, b"Example of Ed25519 signing");
    assert_eq!(support::signed(&key, r#"{"alg":"EdDSA"}"#, "Example of Ed25519 signing"), token);
}

#[test]
fn errors_say_what_is_wrong_without_secrets() {
    assert_eq!(
        VerifyError::Header(JsonError::DuplicateMember).to_string(),
        "token header: duplicate member name"
    );
}
