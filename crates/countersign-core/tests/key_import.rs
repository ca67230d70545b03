//! Keys in PEM and DER, as other programs write them.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_core::key::{ImportRules, KeyError, RsaBits};
use countersign_core::{Algorithm, KeyRing, SigningKey, VerifyingKey, jws};
use support::{RSA, asymmetric};

macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("data/", $name, ".pem"))
    };
}

/// Per algorithm: the private key in the forms that OpenSSL writes, and its public key.
const PAIRS: [(Algorithm, &[&str], &str); 6] = [
    (Algorithm::EdDsa, &[pem!("ed25519")], pem!("ed25519.pub")),
    (Algorithm::Es256, &[pem!("p256"), pem!("p256.sec1")], pem!("p256.pub")),
    (Algorithm::Es384, &[pem!("p384"), pem!("p384.sec1")], pem!("p384.pub")),
    (Algorithm::Es512, &[pem!("p521"), pem!("p521.sec1")], pem!("p521.pub")),
    (Algorithm::Es256k, &[pem!("secp256k1"), pem!("secp256k1.sec1")], pem!("secp256k1.pub")),
    (Algorithm::Rs256, &[pem!("rsa"), pem!("rsa.pkcs1")], pem!("rsa.pub")),
];

/// What stands between the last pair of boundary lines.
fn der(pem: &str) -> Vec<u8> {
    let lines: Vec<_> = pem.lines().collect();
    let start = lines.iter().rposition(|line| line.starts_with("-----BEGIN")).unwrap();
    STANDARD.decode(lines[start + 1..lines.len() - 1].concat()).unwrap()
}

fn verifies(signing: &SigningKey, verifying: &VerifyingKey) -> bool {
    let mut ring = KeyRing::new();
    ring.insert(verifying.clone().with_key_id(signing.key_id().clone())).unwrap();
    jws::verify(&jws::sign(signing, "at+jwt", b"{}").unwrap(), &ring).is_ok()
}

#[test]
fn keys_that_openssl_wrote_sign_and_verify() {
    for (algorithm, private, public) in PAIRS {
        let verifying = VerifyingKey::from_public_key_pem(algorithm, public).unwrap();
        assert_eq!(Some(verifying.key_id().as_str()), verifying.thumbprint().as_deref());
        let from_der = VerifyingKey::from_public_key_der(algorithm, &der(public)).unwrap();
        assert_eq!(from_der.public_key(), verifying.public_key());
        for pem in private {
            for signing in [
                SigningKey::from_private_key_pem(algorithm, pem).unwrap(),
                SigningKey::from_private_key_der(algorithm, &der(pem)).unwrap(),
            ] {
                assert_eq!(signing.key_id(), verifying.key_id(), "{algorithm}");
                assert!(verifies(&signing, &verifying), "{algorithm}");
            }
        }
    }
}

#[test]
fn what_is_written_is_what_openssl_writes() {
    for (algorithm, private, public) in PAIRS {
        let key = SigningKey::from_private_key_pem(algorithm, private[0]).unwrap();
        assert_eq!(key.verifying_key().to_public_key_pem().as_deref(), Some(public), "{algorithm}");
        assert_eq!(key.verifying_key().to_public_key_der(), Some(der(public)), "{algorithm}");
        assert_eq!(
            key.dangerous_private_key_pem().as_deref().map(String::as_str),
            Some(private[0]),
            "{algorithm}"
        );
    }
    let secret = support::key(Algorithm::Hs512);
    assert_eq!(secret.dangerous_private_key_pem(), None);
    assert_eq!(secret.verifying_key().to_public_key_pem(), None);
    assert_eq!(secret.verifying_key().to_public_key_der(), None);
}

#[test]
fn rsa_keys_come_in_pkcs1_too_and_serve_one_algorithm_each() {
    for algorithm in RSA {
        let signing = SigningKey::from_private_key_pem(algorithm, pem!("rsa.pkcs1")).unwrap();
        let verifying = VerifyingKey::from_public_key_pem(algorithm, pem!("rsa.pkcs1.pub")).unwrap();
        assert_eq!(verifying.public_key(), Some(&der(pem!("rsa.pkcs1.pub"))[..]));
        assert!(verifies(&signing, &verifying), "{algorithm}");
        for other in RSA.into_iter().filter(|other| *other != algorithm) {
            let other = VerifyingKey::from_public_key_pem(other, pem!("rsa.pub")).unwrap();
            assert!(!verifies(&signing, &other), "{algorithm} {other:?}");
        }
    }
}

#[test]
fn sec_020_a_key_is_read_for_no_algorithm_but_its_own() {
    for (own, private, public) in PAIRS {
        for algorithm in Algorithm::ALL {
            let same = algorithm == own || (RSA.contains(&algorithm) && RSA.contains(&own));
            let expected = if algorithm.is_symmetric() {
                KeyError::WrongForm { algorithm }
            } else {
                KeyError::Malformed { algorithm }
            };
            let verdict = VerifyingKey::from_public_key_pem(algorithm, public).map(drop);
            assert_eq!(verdict, if same { Ok(()) } else { Err(expected.clone()) }, "{own} {algorithm}");
            for pem in private {
                let verdict = SigningKey::from_private_key_pem(algorithm, pem).map(drop);
                assert_eq!(verdict, if same { Ok(()) } else { Err(expected.clone()) }, "{own} {algorithm}");
            }
        }
    }
}

#[test]
fn keys_for_something_else_are_refused() {
    for algorithm in asymmetric() {
        assert!(VerifyingKey::from_public_key_pem(algorithm, pem!("x25519.pub")).is_err());
        for pem in [pem!("x25519"), pem!("rsa-pss")] {
            let verdict = SigningKey::from_private_key_pem(algorithm, pem);
            assert_eq!(verdict.unwrap_err(), KeyError::Malformed { algorithm });
        }
    }
}

#[test]
fn pem_is_one_block_with_a_label_for_its_use() {
    let public = pem!("ed25519.pub");
    let private = pem!("ed25519");
    let read = |pem: &str| VerifyingKey::from_public_key_pem(Algorithm::EdDsa, pem).map(drop);
    for (case, pem) in [
        ("as written", public.to_owned()),
        ("without final line break", public.trim().to_owned()),
        ("blank lines after it", format!("{public}\n\n")),
        ("CRLF", public.replace('\n', "\r\n")),
        ("text before it", format!("Our key.\n{public}")),
    ] {
        assert_eq!(read(&pem), Ok(()), "{case}");
    }
    for (case, pem) in [
        ("nothing", String::new()),
        ("DER as base64", STANDARD.encode(der(public))),
        ("text after it", format!("{public}Our key.\n")),
        ("twice", format!("{public}{public}")),
        ("private key", private.to_owned()),
        ("other label", public.replace("PUBLIC KEY", "CERTIFICATE")),
        ("labels differ", public.replace("END PUBLIC", "END PRIVATE")),
        ("URL alphabet", public.replace(['+', '/'], "-")),
        ("cut off", public[..60].to_owned()),
    ] {
        assert_eq!(read(&pem), Err(KeyError::Pem), "{case}");
    }
    for pem in [public, pem!("ed25519.encrypted")] {
        let verdict = SigningKey::from_private_key_pem(Algorithm::EdDsa, pem);
        assert_eq!(verdict.unwrap_err(), KeyError::Pem);
    }
}

#[test]
fn der_is_read_to_its_end() {
    for (algorithm, private, public) in PAIRS {
        for bytes in [[&der(public)[..], b"\0"].concat(), der(public)[1..].to_vec(), vec![]] {
            assert!(VerifyingKey::from_public_key_der(algorithm, &bytes).is_err(), "{algorithm}");
        }
        for pem in private {
            for bytes in [[&der(pem)[..], b"\0"].concat(), der(pem)[1..].to_vec(), vec![]] {
                assert!(SigningKey::from_private_key_der(algorithm, &bytes).is_err(), "{algorithm}");
            }
        }
    }
}

#[test]
fn sec_019_small_rsa_keys_and_exponents_are_refused() {
    for algorithm in RSA {
        let verdict = SigningKey::from_private_key_pem(algorithm, pem!("rsa-1024"));
        assert!(verdict.is_err(), "{algorithm}");
        let verdict = SigningKey::from_private_key_pem(algorithm, pem!("rsa-e3"));
        assert_eq!(verdict.unwrap_err(), KeyError::RsaExponent);
        let verdict = VerifyingKey::from_public_key_pem(algorithm, pem!("rsa-e3.pub"));
        assert_eq!(verdict.unwrap_err(), KeyError::RsaExponent);
        let rules = ImportRules::strict().dangerous_accept_rsa_exponent_3();
        let verdict = VerifyingKey::from_public_key_pem_with(rules, algorithm, pem!("rsa-e3.pub"));
        assert!(verdict.is_ok(), "for verifying only, and only by name");
    }
}

#[test]
fn sec_019_pss_salt_is_as_long_as_the_hash() {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa;
    use aws_lc_rs::signature::{RSA_PSS_SHA256, RsaPssSaltLength, RsaSignatureEncoding};

    const SALTS: [RsaSignatureEncoding; 5] = [
        RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(32)),
        RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(0)),
        RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(20)),
        RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Custom(33)),
        RSA_PSS_SHA256.with_pss_salt_length(RsaPssSaltLength::Max),
    ];
    static ENCODINGS: [RsaSignatureEncoding; 5] = SALTS;

    let key = support::key(Algorithm::Ps256);
    let pair = rsa::KeyPair::from_pkcs8(&key.to_secret_bytes()).unwrap();
    for (at, encoding) in ENCODINGS.iter().enumerate() {
        let input = format!("{}.e30", support::encode(support::header(&key).to_string()));
        let mut signature = [0; 256];
        pair.sign(encoding, &SystemRandom::new(), input.as_bytes(), &mut signature).unwrap();
        let token = format!("{input}.{}", support::encode(signature));
        assert_eq!(jws::verify(&token, &support::ring(&[&key])).is_ok(), at == 0, "{encoding:?}");
    }
}

#[test]
fn rsa_keys_are_made_in_the_size_asked_for() {
    for (bits, bytes) in [(RsaBits::Bits2048, 256), (RsaBits::Bits3072, 384)] {
        let key = SigningKey::generate_rsa(Algorithm::Ps256, bits).unwrap();
        let token = jws::sign(&key, "at+jwt", b"{}").unwrap();
        assert_eq!(support::decode(token.rsplit_once('.').unwrap().1).len(), bytes);
        assert!(jws::verify(&token, &support::ring(&[&key])).is_ok());
    }
    assert_eq!(RsaBits::default(), RsaBits::Bits2048);
    let verdict = SigningKey::generate_rsa(Algorithm::EdDsa, RsaBits::default());
    assert_eq!(verdict.unwrap_err(), KeyError::WrongForm { algorithm: Algorithm::EdDsa });
}
