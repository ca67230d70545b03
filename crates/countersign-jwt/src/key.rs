//! Keys that sign tokens, keys that verify them, and the ring in which verifiers look them up.
//!
//! A key carries its one algorithm, so a token's header never chooses how it is checked (RFC 8725 §3.1). Signing and
//! verifying keys are different types, and nothing turns public bytes into a key for MACs.

mod algorithm;
mod curve;
mod encoded;
mod hkdf;
mod jwk;
mod kind;
mod mac;
mod material;
mod pem;
mod ring;
mod rsa;
mod rules;
mod signing;
mod verifying;
#[cfg(test)]
mod wycheproof;

pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use jwk::{Jwk, JwkError, JwkSet, LeftOut, UsableKeys};
pub use kind::KeyKind;
pub use pem::PemContent;
pub use ring::KeyRing;
pub use rules::ImportRules;
pub use signing::{RsaBits, SigningKey};
pub use verifying::VerifyingKey;

pub(crate) use hkdf::hkdf;
pub(crate) use material::{SecretProblem, check_secret};

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::random::RandomError;

/// The id of a key, which is the `kid` of the tokens it signs (RFC 7515 §4.1.4).
///
/// A key id has 1 to 128 bytes without control characters, so that it can stand in a log line.
///
/// ```
/// use countersign_jwt::{Algorithm, KeyId, SigningKey};
///
/// # let random = countersign_testkit::SeededRandom::default();
/// let key = SigningKey::generate(Algorithm::EdDsa, &random)?.with_key_id(KeyId::new("2026-01")?);
/// assert_eq!(key.verifying_key().key_id().as_str(), "2026-01");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyId(Arc<str>);

/// A text that cannot be a key id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a key id is 1 to 128 bytes of text without control characters")]
pub struct InvalidKeyId;

impl KeyId {
    /// The most bytes that a key id may have.
    pub const MAX_BYTES: usize = 128;

    /// Parses a text as a key id.
    ///
    /// # Errors
    /// [`InvalidKeyId`] if the text is empty, longer than 128 bytes, or has a control character or a line break.
    pub fn new(text: &str) -> Result<Self, InvalidKeyId> {
        // U+2028 and U+2029 are not control characters, but some log viewers start a line after them.
        let breaks_lines = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        if text.is_empty() || text.len() > Self::MAX_BYTES || text.chars().any(breaks_lines) {
            return Err(InvalidKeyId);
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    fn from_str(text: &str) -> Result<Self, InvalidKeyId> {
        Self::new(text)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The reason why a key was not accepted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The secret is shorter than the algorithm's hash (RFC 7518 §3.2).
    #[error("secret is {actual} bytes long, {minimum} are needed")]
    SecretTooShort {
        /// The number of bytes that the secret has.
        actual: usize,
        /// The number of bytes that the secret needs.
        minimum: usize,
    },
    /// The secret is an example from documentation, or has almost no variety.
    #[error("secret is guessable; use 32 random bytes")]
    SecretGuessable,
    /// The bytes given as a shared secret are a key of a key pair, which others may know (SEC-010).
    #[error("a public or private key (PEM, DER or JWK) was given as a shared secret")]
    NotASecret,
    /// The bytes are not a key of this algorithm.
    #[error("not a valid {algorithm} key")]
    Malformed {
        /// The algorithm that the key was read for.
        algorithm: Algorithm,
    },
    /// The algorithm's keys cannot be read from this form, as a shared secret cannot be read from PKCS#8.
    #[error("{algorithm} keys cannot be read from this form")]
    WrongForm {
        /// The algorithm that the key was read for.
        algorithm: Algorithm,
    },
    /// The key is of a kind that the algorithm does not take.
    #[error("not a valid {algorithm} key: this is {found}, and {algorithm} takes {}", kind::Wanted(*algorithm))]
    OtherKind {
        /// The kind of the key.
        found: KeyKind,
        /// The algorithm that the key was read for.
        algorithm: Algorithm,
    },
    /// The PEM text has no key in a form that can be read here.
    #[error("not a private key in PKCS#8, PKCS#1 or SEC 1 form")]
    UnknownForm,
    /// The text is not the PEM form of a key (RFC 7468).
    #[error("not a PEM text with a key: -----BEGIN … KEY-----, lines of base64, -----END … KEY-----")]
    Pem,
    /// The text is PEM, but does not have exactly the one key that was asked for.
    #[error("{0}")]
    PemContent(PemContent),
    /// The key is an Ed25519 public key of low order or not in its one canonical form, or an RSA key that can be
    /// factored (CVE-2017-15361).
    #[error(
        "weak public key: an Ed25519 key of low order or not in its canonical form, or an RSA key that can be factored"
    )]
    WeakPublicKey,
    /// The RSA key is too small to protect, or so large that verifying with it would be an attack.
    #[error("RSA key has {bits} bits, 2048 to 8192 are accepted")]
    RsaSize {
        /// The number of bits of the key's modulus.
        bits: usize,
    },
    /// The RSA key's public exponent is even or below 65537.
    #[error("RSA public exponent is even or below 65537")]
    RsaExponent,
    /// The ring already has a key with this id.
    #[error("a key with id {0} is already in the ring")]
    DuplicateKeyId(KeyId),
    /// The source of randomness failed, so no key could be made.
    #[error(transparent)]
    Random(#[from] RandomError),
}
