//! Secrets and what they seal.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_jwt::seal::{InvalidSecret, InvalidSecretText, SealError};
use countersign_jwt::{Algorithm, SigningKey, jws, random};
use countersign_jwt::{Secret, Secrets};
use support::{Broken, Seeded, ring};

fn secret(seed: u8) -> Secret {
    Secret::new(random::bytes::<32>(&Seeded::new(seed)).unwrap().to_vec()).unwrap()
}

fn secrets(seeds: &[u8]) -> Secrets {
    Secrets::new(seeds.iter().map(|seed| secret(*seed)).collect()).unwrap()
}

#[test]
fn what_is_sealed_opens_in_its_context_only() {
    let secrets = secrets(&[1]);
    let random = Seeded::new(5);
    for plain in [&b""[..], b"a", &[7; 4_000]] {
        let sealed = secrets.seal("keys/1", plain, &random).unwrap();
        assert_eq!(sealed[0], 1, "the format's version");
        assert_eq!(sealed.len(), 1 + 12 + plain.len() + 16);
        assert_eq!(secrets.open("keys/1", &sealed).unwrap().as_slice(), plain);
        assert_eq!(secrets.open("keys/2", &sealed), Err(SealError::NotSealedHere));
        assert_ne!(sealed, secrets.seal("keys/1", plain, &random).unwrap(), "a nonce of its own each time");
        for at in 0..sealed.len().min(64) {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(secrets.open("keys/1", &changed), Err(SealError::NotSealedHere), "byte {at}");
        }
        for length in 0..sealed.len().min(64) {
            assert_eq!(secrets.open("keys/1", &sealed[..length]), Err(SealError::NotSealedHere));
        }
    }
    assert!(matches!(secrets.seal("x", b"", &Broken), Err(SealError::Random(_))));
}

#[test]
fn the_first_secret_seals_and_all_open() {
    let random = Seeded::new(5);
    let old = secrets(&[1]).seal("x", b"plain", &random).unwrap();
    let rotated = secrets(&[2, 1]);
    assert_eq!(rotated.open("x", &old).unwrap().as_slice(), b"plain");
    let new = rotated.seal("x", b"plain", &random).unwrap();
    assert_eq!(secrets(&[2]).open("x", &new).unwrap().as_slice(), b"plain");
    assert_eq!(secrets(&[1]).open("x", &new), Err(SealError::NotSealedHere));
    assert!(matches!(Secrets::new(vec![]), Err(InvalidSecret::Absent)));
}

#[test]
fn sec_018_weak_secrets_are_refused() {
    assert!(matches!(Secret::new(vec![3; 31]), Err(InvalidSecret::TooShort { actual: 31 })));
    assert!(matches!(Secret::new(vec![3; 32]), Err(InvalidSecret::Guessable)));
    let pem = b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----".to_vec();
    assert!(matches!(Secret::new(pem), Err(InvalidSecret::NotASecret)));
}

#[test]
fn sec_045_a_mac_for_one_purpose_fails_for_another() {
    let secret = secret(1);
    let key = |purpose: &str| SigningKey::hmac(Algorithm::Hs256, secret.derive(purpose).as_slice()).unwrap();
    let purposes = ["access", "refresh", "csrf", "cookie", "reset", ""];
    for one in purposes {
        let token = jws::sign(&key(one), "at+jwt", b"{}").unwrap();
        for other in purposes {
            // The same name, so that the key is found and only the MAC decides.
            let named = key(other).with_key_id(key(one).key_id().clone());
            assert_eq!(jws::verify(&token, &ring(&[&named])).is_ok(), one == other, "{one} {other}");
        }
    }
    assert_eq!(secrets(&[1, 2]).derive("x"), secret.derive("x"), "the newest secret's");
    assert_ne!(*secret.derive("x"), *self::secret(2).derive("x"));
}

#[test]
fn sec_046_debug_shows_no_secret() {
    let shown = format!("{:?} {:?}", secret(1), secrets(&[1, 2]));
    assert_eq!(shown, "Secret([redacted]) [Secret([redacted]), Secret([redacted])]");
}

#[test]
fn secrets_are_read_in_both_alphabets_padded_or_not() {
    let bytes: Vec<u8> = (0..32).map(|i: u8| 255 - i * 3).collect();
    let derived = |secrets: &Secrets| *secrets.derive("test");
    let expected = derived(&Secrets::new(vec![Secret::new(bytes.clone()).unwrap()]).unwrap());
    let standard = STANDARD.encode(&bytes);
    let url_safe = standard.replace('+', "-").replace('/', "_");
    assert_ne!(standard, url_safe);
    for text in [
        standard.clone(),
        format!(" {standard}\r\n"),
        standard.trim_end_matches('=').to_owned(),
        url_safe.clone(),
        url_safe.trim_end_matches('=').to_owned(),
        format!("{standard},AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        format!("{standard}\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"),
    ] {
        assert_eq!(derived(&Secrets::parse(&text).unwrap()), expected, "{text:?}");
    }
    assert_eq!(Secrets::parse(&format!("{standard}, {url_safe}")).unwrap().iter().count(), 2);
    for (text, error) in [
        (String::new(), InvalidSecretText::Secret(InvalidSecret::Absent)),
        (" , ".to_owned(), InvalidSecretText::Secret(InvalidSecret::Absent)),
        (format!("{standard}{standard}"), InvalidSecretText::NotBase64),
        (format!("{standard},x"), InvalidSecretText::NotBase64),
        (standard[..40].to_owned(), InvalidSecretText::Secret(InvalidSecret::TooShort { actual: 30 })),
    ] {
        assert_eq!(Secrets::parse(&text).unwrap_err(), error, "{text:?}");
    }
}
