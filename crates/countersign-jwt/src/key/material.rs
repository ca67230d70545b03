//! Checks on key material before anything is built from it.

use aws_lc_rs::signature::ParsedPublicKey;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::curve::Curve;
use super::jwk::{Members, is_set};
use super::{ImportRules, KeyError, KeyId};
use crate::base64url;
use crate::key::hkdf;

/// The reason why bytes cannot be a shared secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum SecretProblem {
    /// The secret has too few bytes.
    TooShort {
        /// The number of bytes that the secret has.
        actual: usize,
        /// The number of bytes that the secret needs.
        minimum: usize,
    },
    /// The secret is an example from documentation, or has almost no variety.
    Guessable,
    /// The bytes are a key of a key pair, which others may know (SEC-010).
    NotASecret,
}

impl From<SecretProblem> for KeyError {
    fn from(problem: SecretProblem) -> Self {
        match problem {
            SecretProblem::TooShort { actual, minimum } => Self::SecretTooShort { actual, minimum },
            SecretProblem::Guessable => Self::SecretGuessable,
            SecretProblem::NotASecret => Self::NotASecret,
        }
    }
}

/// Checks that `secret` has at least `minimum` bytes, is not a well-known text, and is not a key of a key pair.
///
/// A library that takes "a key" as bytes can be tricked into using a public key, which the attacker has, as the secret
/// of a MAC (RFC 8725 §2.1). Types prevent that inside this crate; this check prevents it where bytes come in.
///
/// # Errors
/// [`SecretProblem`] of the first of the three checks that failed.
pub(crate) fn check_secret(secret: &[u8], minimum: usize) -> Result<(), SecretProblem> {
    if is_key_pair_part(secret) {
        return Err(SecretProblem::NotASecret);
    }
    if secret.len() < minimum {
        return Err(SecretProblem::TooShort { actual: secret.len(), minimum });
    }
    if is_guessable(secret) {
        return Err(SecretProblem::Guessable);
    }
    Ok(())
}

/// Checks a secret as [`check_secret`] does, except for what the rules accept. Returns what is wrong with a secret that
/// is accepted only by the rules.
pub(super) fn check_secret_with(
    rules: ImportRules,
    secret: &[u8],
    minimum: usize,
) -> Result<Option<&'static str>, SecretProblem> {
    let mut verdict = check_secret(secret, minimum);
    let mut warning = None;
    // An empty secret is refused under any rules.
    if matches!(verdict, Err(SecretProblem::TooShort { actual: 1.., .. })) && rules.accepts_short_secrets() {
        warning = Some("its secret is shorter than the hash, so it can be found out from any token");
        verdict = check_secret(secret, 1);
    }
    if verdict == Err(SecretProblem::Guessable) && rules.accepts_guessable_secrets() {
        warning = Some("its secret is an example or almost constant, so anybody may forge tokens");
        verdict = Ok(());
    }
    verdict.map(|()| warning)
}

/// The default id of a shared secret's key. It is the same on every node, and tells nothing about the secret.
pub(super) fn secret_name(secret: &[u8]) -> KeyId {
    let derived = hkdf(secret, "countersign/kid/v1", "");
    let (id, _) = derived.split_at(16);
    KeyId(base64url::encode(id).into())
}

/// Whether a public key is of low order, so that one signature can be valid for any message, or is written in a second
/// spelling. No key pair has such a public key (SEC-021).
pub(super) fn is_weak_ed25519(public: &[u8; 32]) -> bool {
    let mut y = *public;
    // The top bit is the sign of x. The rest is y, little-endian.
    y[31] &= 0x7f;
    let [lowest, middle @ .., highest] = &y;
    // y >= 2^255 - 19 is a second spelling of a smaller y (RFC 8032 §5.1.3).
    let canonical = *highest != 0x7f || middle.iter().any(|byte| *byte != 0xff) || *lowest < 0xed;
    !canonical || LOW_ORDER_Y.contains(&y)
}

/// The fewest different bytes in a secret that may be random: 32 random hexadecimal digits almost surely have more.
const MIN_VARIETY: usize = 8;

/// Parts of secrets that stand in documentation and templates, in lower case. The long numbers are from tutorials of
/// FastAPI and Spring, the sentences from those of ASP.NET. All of them are long enough, and found in production.
const WELL_KNOWN: &[&[u8]] = &[
    b"-at-least-256-bits",
    b"09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
    b"256-bit-secret",
    b"384-bit-secret",
    b"404e635266556a586e3272357538782f413f4428472b4b6250645367566b5970",
    b"512-bit-secret",
    b"change me",
    b"change this",
    b"change-me",
    b"change-this",
    b"change_me",
    b"change_this",
    b"changeme",
    b"changethis",
    b"my-secret",
    b"my_secret",
    b"mysecret",
    b"secret key for auth",
    b"super secret",
    b"super-secret",
    b"super_secret",
    b"supersecret",
    b"used to sign and verify jwt",
    b"your-secret",
    b"your_secret",
];

fn is_guessable(secret: &[u8]) -> bool {
    let mut seen = [false; 256];
    for byte in secret {
        if let Some(seen) = seen.get_mut(usize::from(*byte)) {
            *seen = true;
        }
    }
    let variety = seen.iter().filter(|seen| **seen).count();
    let lower = secret.to_ascii_lowercase();
    variety < MIN_VARIETY || WELL_KNOWN.iter().any(|part| contains(&lower, part))
}

fn is_key_pair_part(secret: &[u8]) -> bool {
    let text = secret.trim_ascii();
    contains(text, b"-----BEGIN ")
        || text.starts_with(b"ssh-")
        || is_der_key(secret)
        || is_der_key(text)
        || is_encoded_der_key(text)
        || is_jwk(text)
        || is_point(secret)
}

/// Whether a text is a JWK or a JWK set, of any kind.
fn is_jwk(text: &[u8]) -> bool {
    text.starts_with(b"{") && (Members::parse(text).is_ok_and(|key| key.has("kty")) || is_set(text))
}

/// Whether a text is what stands between the lines of a PEM file.
fn is_encoded_der_key(text: &[u8]) -> bool {
    let digits: Vec<u8> =
        text.iter().copied().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=').collect();
    [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD]
        .into_iter()
        .any(|engine| engine.decode(&digits).is_ok_and(|der| is_der_key(&der)))
}

/// Whether bytes are a key as `SubjectPublicKeyInfo`, PKCS#1, PKCS#8 or RFC 5915: one SEQUENCE that begins with a
/// SEQUENCE or an INTEGER, whose parts fill it exactly. The shortest such key is Ed25519's, with 44 bytes, and longer
/// random bytes have this form once in ten million.
fn is_der_key(der: &[u8]) -> bool {
    let Some((SEQUENCE, mut content, [])) = der_element(der) else { return false };
    if der.len() < 44 || !matches!(content.first(), Some(&(SEQUENCE | INTEGER))) {
        return false;
    }
    while !content.is_empty() {
        let Some((_, _, rest)) = der_element(content) else { return false };
        content = rest;
    }
    true
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;

/// The tag and content of the first DER element, and what follows it.
pub(super) fn der_element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Whether bytes are an uncompressed point on one of the curves.
fn is_point(bytes: &[u8]) -> bool {
    Curve::ALL.into_iter().any(|curve| {
        bytes.len() == curve.point_bytes() && ParsedPublicKey::new(curve.verification(), bytes).is_ok()
    })
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// The y of the points whose order divides 8 (8 is the cofactor, RFC 8032 §5.1).
const LOW_ORDER_Y: [[u8; 32]; 5] = [
    [0; 32],
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_018_dangerous_rules_accept_what_they_name_and_warn_of_it() {
        use SecretProblem::{Guessable, NotASecret, TooShort};

        let strict = ImportRules::strict();
        let short = strict.dangerous_accept_short_secrets();
        let guessable = strict.dangerous_accept_guessable_secrets();
        let both = short.dangerous_accept_guessable_secrets();
        let good = b"Xk2!vQ9#bT7$mW4%zR8^cY1&nP5*hJ3(".as_slice();
        for (case, rules, secret, expected) in [
            ("good", strict, good, Ok(false)),
            ("good under dangerous rules", both, good, Ok(false)),
            ("short", strict, b"short-pw1".as_slice(), Err(TooShort { actual: 9, minimum: 32 })),
            ("short, insisted on", short, b"short-pw1", Ok(true)),
            (
                "short, but something else was insisted on",
                guessable,
                b"short-pw1",
                Err(TooShort { actual: 9, minimum: 32 }),
            ),
            ("short and guessable", short, b"secret", Err(Guessable)),
            ("short and guessable, both insisted on", both, b"secret", Ok(true)),
            ("nothing", both, b"", Err(TooShort { actual: 0, minimum: 32 })),
            ("almost constant", guessable, &[7; 32], Ok(true)),
            ("almost constant", short, &[7; 32], Err(Guessable)),
            ("a public key", both, b"-----BEGIN PUBLIC KEY-----", Err(NotASecret)),
        ] {
            let warned = check_secret_with(rules, secret, 32).map(|warning| warning.is_some());
            assert_eq!(warned, expected, "{case}");
        }
    }
}
