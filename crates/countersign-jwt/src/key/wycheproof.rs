//! The public Wycheproof vectors, run through the keys that tokens are verified with.
//!
//! The messages of the vectors are not tokens, so they enter where the JWS layer hands over signing input and
//! signature.

use wycheproof::TestResult;
use wycheproof::ecdsa::{self, TestName as Ecdsa};
use wycheproof::eddsa;
use wycheproof::mac::{self, TestName as Mac};
use wycheproof::rsa_pkcs1_verify::{self as pkcs1, TestName as Pkcs1};
use wycheproof::rsa_pss_verify::{self as pss, TestName as Pss};

use super::{Algorithm, ImportRules, KeyError, SigningKey, VerifyingKey};

/// Counts the vectors that were judged, so that no test passes by doing nothing.
#[derive(Debug, Default)]
struct Judged {
    accepted: usize,
    refused: usize,
}

impl Judged {
    fn judge(
        &mut self,
        key: &VerifyingKey,
        message: &[u8],
        signature: &[u8],
        result: TestResult,
        case: &str,
    ) {
        let accepted = key.accepts(message, signature);
        match result {
            TestResult::Valid => assert!(accepted, "{case}"),
            TestResult::Invalid => assert!(!accepted, "{case}"),
            // The vector has an encoding that some implementations accept.
            TestResult::Acceptable => {}
        }
        *(if accepted { &mut self.accepted } else { &mut self.refused }) += 1;
    }
}

#[test]
fn sec_017_hmac_vectors() {
    for (name, algorithm, minimum) in [
        (Mac::HmacSha256, Algorithm::Hs256, 32),
        (Mac::HmacSha384, Algorithm::Hs384, 48),
        (Mac::HmacSha512, Algorithm::Hs512, 64),
    ] {
        let mut judged = Judged::default();
        let rules = ImportRules::strict().dangerous_accept_guessable_secrets();
        for group in mac::TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let case = format!("{algorithm} {} {}", test.tc_id, test.comment);
                let key = match VerifyingKey::hmac_with(rules, algorithm, &test.key) {
                    Ok(key) => key,
                    Err(error) => {
                        let short = KeyError::SecretTooShort { actual: test.key.len(), minimum };
                        assert_eq!(error, short, "{case}");
                        continue;
                    }
                };
                // A shortened tag is right in the vectors and wrong here.
                let full = group.tag_size == 8 * minimum;
                let result = if full { test.result } else { TestResult::Invalid };
                judged.judge(&key, &test.msg, &test.tag, result, &case);
                if full && test.result == TestResult::Valid {
                    let signing = SigningKey::hmac(algorithm, &test.key).unwrap();
                    let mut message = String::from_utf8_lossy(&test.msg).into_owned();
                    if message.as_bytes() == *test.msg {
                        signing.sign(&mut message).unwrap();
                        assert!(message.ends_with(&crate::base64url::encode(&test.tag)), "{case}");
                    }
                }
            }
        }
        assert!(judged.accepted > 20 && judged.refused > 40, "{algorithm}");
    }
}

#[test]
fn sec_020_ecdsa_vectors_in_the_form_of_jws() {
    for (name, algorithm) in [
        (Ecdsa::EcdsaSecp256r1Sha256P1363, Algorithm::Es256),
        (Ecdsa::EcdsaSecp384r1Sha384P1363, Algorithm::Es384),
        (Ecdsa::EcdsaSecp521r1Sha512P1363, Algorithm::Es512),
        (Ecdsa::EcdsaSecp256k1Sha256P1363, Algorithm::Es256k),
    ] {
        let mut judged = Judged::default();
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let key = VerifyingKey::from_public_key_der(algorithm, &group.der).unwrap();
            assert_eq!(key.public_key(), Some(group.key.key.as_slice()));
            for test in group.tests {
                let case = format!("{algorithm} {} {}", test.tc_id, test.comment);
                judged.judge(&key, &test.msg, &test.sig, test.result, &case);
            }
        }
        assert!(judged.accepted > 50 && judged.refused > 50, "{algorithm}: {judged:?}");
    }
}

#[test]
fn sec_020_der_signatures_are_refused() {
    for (name, algorithm) in [
        (Ecdsa::EcdsaSecp256r1Sha256, Algorithm::Es256),
        (Ecdsa::EcdsaSecp384r1Sha384, Algorithm::Es384),
        (Ecdsa::EcdsaSecp521r1Sha512, Algorithm::Es512),
        (Ecdsa::EcdsaSecp256k1Sha256, Algorithm::Es256k),
    ] {
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let key = VerifyingKey::from_public_key_der(algorithm, &group.der).unwrap();
            for test in group.tests {
                assert!(!key.accepts(&test.msg, &test.sig), "{algorithm} {}", test.tc_id);
            }
        }
    }
}

#[test]
fn sec_021_ed25519_vectors() {
    let mut judged = Judged::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let key = VerifyingKey::from_public_key_der(Algorithm::EdDsa, &group.der).unwrap();
        for test in group.tests {
            let case = format!("{} {}", test.tc_id, test.comment);
            judged.judge(&key, &test.msg, &test.sig, test.result, &case);
        }
    }
    assert!(judged.accepted > 50 && judged.refused > 50);
}

#[test]
fn sec_019_rsa_pkcs1_vectors() {
    for (names, algorithm) in [
        (
            [Pkcs1::Rsa2048Sha256, Pkcs1::Rsa3072Sha256, Pkcs1::Rsa4096Sha256, Pkcs1::Rsa8192Sha256],
            Algorithm::Rs256,
        ),
        (
            [Pkcs1::Rsa2048Sha384, Pkcs1::Rsa3072Sha384, Pkcs1::Rsa4096Sha384, Pkcs1::Rsa8192Sha384],
            Algorithm::Rs384,
        ),
        (
            [Pkcs1::Rsa2048Sha512, Pkcs1::Rsa3072Sha512, Pkcs1::Rsa4096Sha512, Pkcs1::Rsa8192Sha512],
            Algorithm::Rs512,
        ),
    ] {
        for name in names {
            let mut judged = Judged::default();
            for group in pkcs1::TestSet::load(name).unwrap().test_groups {
                let key = rsa_key(algorithm, &group.asn_key);
                for test in group.tests {
                    let case = format!("{name:?} {} {}", test.tc_id, test.comment);
                    judged.judge(&key, &test.msg, &test.sig, test.result, &case);
                }
            }
            assert!(judged.accepted > 0 && judged.refused > 100, "{name:?}");
        }
    }
}

#[test]
fn sec_019_rsa_pss_vectors() {
    for (name, algorithm, fits) in [
        (Pss::RsaPss2048Sha256Mgf1SaltLen32, Algorithm::Ps256, true),
        (Pss::RsaPss3072Sha256Mgf1SaltLen32, Algorithm::Ps256, true),
        (Pss::RsaPss4096Sha256Mgf1SaltLen32, Algorithm::Ps256, true),
        (Pss::RsaPss2048Sha384Mgf1SaltLen48, Algorithm::Ps384, true),
        (Pss::RsaPss4096Sha384Mgf1SaltLen48, Algorithm::Ps384, true),
        (Pss::RsaPss4096Sha512Mgf1SaltLen64, Algorithm::Ps512, true),
        (Pss::RsaPss2048Sha256Mgf1SaltLen0, Algorithm::Ps256, false),
        (Pss::RsaPss2048Sha256Mgf1Sha1_20, Algorithm::Ps256, false),
        (Pss::RsaPss4096Sha512Mgf1SaltLen32, Algorithm::Ps512, false),
    ] {
        let mut judged = Judged::default();
        for group in pss::TestSet::load(name).unwrap().test_groups {
            let key = rsa_key(algorithm, &group.asn_key);
            for test in group.tests {
                let case = format!("{name:?} {} {}", test.tc_id, test.comment);
                // A salt of another length is right in the vectors and wrong here (RFC 7518 §3.5). A salt that was
                // changed to the length of the hash is wrong in the vectors and right here.
                let result = match test.result {
                    TestResult::Valid if !fits => TestResult::Invalid,
                    TestResult::Invalid if !fits => TestResult::Acceptable,
                    result => result,
                };
                judged.judge(&key, &test.msg, &test.sig, result, &case);
            }
        }
        assert!(judged.refused > 20 && (judged.accepted > 20) == fits, "{name:?}");
    }
}

/// Reads an RSA key of the vectors, some of which have the exponent 3.
fn rsa_key(algorithm: Algorithm, pkcs1: &[u8]) -> VerifyingKey {
    let rules = ImportRules::strict().dangerous_accept_rsa_exponent_3();
    VerifyingKey::from_public_key_der_with(rules, algorithm, pkcs1).unwrap()
}
