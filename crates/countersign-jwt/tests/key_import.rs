//! Keys in PEM and DER, as other programs write them.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_jwt::key::{ImportRules, KeyError, KeyKind, PemContent, RsaBits};
use countersign_jwt::{Algorithm, KeyRing, SigningKey, VerifyingKey, jws};
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

fn kind(private: &str) -> KeyKind {
    KeyKind::of_private_key_pem(private).unwrap()
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
                KeyError::OtherKind { found: kind(private[0]), algorithm }
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
        for (private, public, name) in OTHERS {
            assert_eq!(kind(private).to_string(), name);
            assert_eq!(kind(private).algorithms().count(), 0, "{name}");
            let expected = KeyError::OtherKind { found: kind(private), algorithm };
            let refused = SigningKey::from_private_key_pem(algorithm, private).unwrap_err();
            assert_eq!(refused, expected);
            assert!(refused.to_string().contains(&format!("this is {name}, and {algorithm} takes an ")));
            if let Some(public) = public {
                assert_eq!(VerifyingKey::from_public_key_pem(algorithm, public).unwrap_err(), expected);
            }
        }
    }
}

/// Keys that sign no tokens, private and public, and what they are called.
const OTHERS: [(&str, Option<&str>, &str); 11] = [
    (pem!("x25519"), Some(pem!("x25519.pub")), "an X25519 key"),
    (pem!("pem/x448"), Some(pem!("pem/x448.pub")), "an X448 key"),
    (pem!("pem/ed448"), Some(pem!("pem/ed448.pub")), "an Ed448 key"),
    (pem!("pem/dsa"), Some(pem!("pem/dsa.pub")), "a DSA key"),
    (pem!("pem/dh"), None, "a Diffie-Hellman key"),
    (pem!("pem/prime192v1"), Some(pem!("pem/prime192v1.pub")), "an EC key on the curve P-192"),
    (pem!("pem/prime192v1.sec1"), Some(pem!("pem/prime192v1.pub")), "an EC key on the curve P-192"),
    (pem!("pem/secp224r1"), Some(pem!("pem/secp224r1.pub")), "an EC key on the curve P-224"),
    (
        pem!("pem/brainpoolP256r1"),
        Some(pem!("pem/brainpoolP256r1.pub")),
        "an EC key on the curve brainpoolP256r1",
    ),
    (
        pem!("pem/explicit"),
        None,
        "an EC key that describes its curve instead of naming it (openssl -param_enc explicit)",
    ),
    (
        pem!("rsa-pss"),
        Some(pem!("pem/rsa-pss.pub")),
        "an RSASSA-PSS (an RSA key that is restricted to this padding) key",
    ),
];

#[test]
fn pem_is_read_as_openssl_reads_it() {
    // With a name in Latin-1.
    let bag_attributes = String::from_utf8_lossy(include_bytes!("data/pem/bag-attributes.pem"));
    for (case, algorithm, text) in [
        ("blanks at the ends of lines", Algorithm::Es256, pem!("pem/blanks-at-line-ends")),
        ("blanks before lines", Algorithm::Es256, pem!("pem/indented")),
        ("empty lines", Algorithm::Es256, pem!("pem/blank-lines")),
        ("a certificate before it", Algorithm::Rs256, pem!("pem/certificate-first")),
        ("a certificate after it", Algorithm::Rs256, pem!("pem/certificate-last")),
        ("what PKCS#12 tools explain", Algorithm::Rs256, &bag_attributes),
        ("curve parameters before it", Algorithm::Es256, pem!("pem/parameters-first")),
        ("curve parameters after it", Algorithm::Es256, pem!("pem/parameters-last")),
        ("CR LF", Algorithm::EdDsa, pem!("pem/crlf")),
        ("CR", Algorithm::EdDsa, pem!("pem/cr")),
        ("a byte order mark", Algorithm::EdDsa, pem!("pem/byte-order-mark")),
        ("no line break at the end", Algorithm::EdDsa, pem!("pem/no-line-break-at-end")),
        ("one long line", Algorithm::Rs256, pem!("pem/one-long-line")),
        ("longer lines", Algorithm::Rs256, pem!("pem/wide")),
        ("a header", Algorithm::Rs256, pem!("pem/headers")),
        ("its public key after it", Algorithm::EdDsa, pem!("pem/private-then-public")),
        ("PKCS#8 under the label of PKCS#1", Algorithm::Rs256, pem!("pem/pkcs8-labelled-pkcs1")),
    ] {
        let (_, private, public) = PAIRS.into_iter().find(|(own, ..)| *own == algorithm).unwrap();
        let expected = SigningKey::from_private_key_pem(algorithm, private[0]).unwrap();
        let read = SigningKey::from_private_key_pem(algorithm, text);
        assert_eq!(read.map(|key| key.key_id().clone()), Ok(expected.key_id().clone()), "{case}");
        assert!(kind(text).algorithms().any(|own| own == algorithm), "{case}");
        let windows = text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n");
        assert!(SigningKey::from_private_key_pem(algorithm, &windows).is_ok(), "{case}, with CR LF");
        // The public one in the same dress.
        let public = format!("{}{public}\n{}", pem!("pem/certificate"), pem!("pem/parameters"));
        let public = VerifyingKey::from_public_key_pem(algorithm, &public.replace('\n', " \t\n")).unwrap();
        assert_eq!(public.key_id(), expected.key_id(), "{case}");
    }
    let public =
        VerifyingKey::from_public_key_pem(Algorithm::EdDsa, pem!("pem/private-then-public")).unwrap();
    assert_eq!(
        public.key_id(),
        VerifyingKey::from_public_key_pem(Algorithm::EdDsa, pem!("ed25519.pub")).unwrap().key_id()
    );
}

#[test]
fn pem_without_the_one_key_that_is_wanted_is_refused_for_what_it_holds() {
    use PemContent::{Certificate, Dsa, Encrypted, OpenSsh, PrivateKey, PublicKey, SeveralKeys};

    let openssh_public = include_str!("data/pem/openssh.pub");
    for (text, private, public) in [
        (pem!("pem/encrypted"), Some(Encrypted), Some(Encrypted)),
        (pem!("pem/encrypted.traditional"), Some(Encrypted), Some(PrivateKey)),
        (pem!("ed25519.encrypted"), Some(Encrypted), Some(Encrypted)),
        (pem!("pem/certificate"), Some(Certificate), Some(Certificate)),
        (pem!("pem/request"), Some(Certificate), Some(Certificate)),
        (pem!("pem/openssh"), Some(OpenSsh), Some(OpenSsh)),
        (openssh_public, Some(OpenSsh), Some(OpenSsh)),
        (pem!("pem/dsa.traditional"), Some(Dsa), Some(Dsa)),
        (pem!("rsa.pub"), Some(PublicKey), None),
        (pem!("rsa"), None, Some(PrivateKey)),
        (pem!("pem/two-keys"), Some(SeveralKeys), Some(PrivateKey)),
    ] {
        let (first, _) = text.split_at(30);
        if let Some(expected) = private {
            let refused = SigningKey::from_private_key_pem(Algorithm::Rs256, text).unwrap_err();
            assert_eq!(refused, KeyError::PemContent(expected), "{first}");
            assert_eq!(KeyKind::of_private_key_pem(text).unwrap_err(), refused);
        }
        if let Some(expected) = public {
            let refused = VerifyingKey::from_public_key_pem(Algorithm::Rs256, text).unwrap_err();
            assert_eq!(refused, KeyError::PemContent(expected), "{first}");
        }
    }
    let explicit = SigningKey::from_private_key_pem(Algorithm::Es256, pem!("pem/explicit.sec1")).unwrap_err();
    assert!(explicit.to_string().contains("describes its curve"), "{explicit}");
}

#[test]
fn text_that_is_no_pem_is_refused() {
    let public = pem!("ed25519.pub");
    let read = |pem: &str| VerifyingKey::from_public_key_pem(Algorithm::EdDsa, pem).map(drop);
    for (case, pem) in [
        ("as written", public.to_owned()),
        ("blank lines after it", format!("{public}\n\n")),
        ("text before it", format!("Our key.\n{public}")),
        ("text after it", format!("{public}Our key.\n")),
    ] {
        assert_eq!(read(&pem), Ok(()), "{case}");
    }
    let body = public.lines().nth(1).unwrap();
    for (case, pem) in [
        ("nothing", String::new()),
        ("DER as base64", STANDARD.encode(der(public))),
        ("unknown label", public.replace("PUBLIC KEY", "PUBIC KEY")),
        ("labels differ", public.replace("END PUBLIC", "END PRIVATE")),
        ("URL alphabet", public.replace(['+', '/'], "-")),
        ("cut off", public[..60].to_owned()),
        ("cut off before a whole one", format!("{}\n{public}", &public[..60])),
        ("end alone", format!("{public}-----END PUBLIC KEY-----\n")),
        ("all in one line", public.replace('\n', " ")),
        ("line breaks as two characters", public.replace('\n', "\\n")),
        ("no digits", public.replace(body, "")),
        ("a digit less", public.replace(body, &body[1..])),
        ("a comment inside", public.replace(body, &format!("{body}\n# ours"))),
        ("headers without end", public.replace(body, &format!("Comment: ours\n{body}"))),
        ("four dashes", public.replace("-----", "----")),
    ] {
        assert_eq!(read(&pem), Err(KeyError::Pem), "{case}");
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
        let small = KeyError::RsaSize { bits: 1024 };
        for pem in [pem!("rsa-1024"), pem!("pem/rsa-1024.pkcs1")] {
            assert_eq!(SigningKey::from_private_key_pem(algorithm, pem).unwrap_err(), small);
        }
        let verdict = VerifyingKey::from_public_key_pem(algorithm, pem!("pem/rsa-1024.pub"));
        assert_eq!(verdict.unwrap_err(), small);
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
