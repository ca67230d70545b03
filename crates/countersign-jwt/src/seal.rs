//! Secrets, what is derived from them, and what they seal.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_PAD_INDIFFERENT, URL_SAFE_PAD_INDIFFERENT};
use zeroize::Zeroizing;

use crate::key::{SecretProblem, check_secret, hkdf};
use crate::random;
use crate::random::{Random, RandomError};

/// A secret of the server, at least 32 bytes that nobody can guess.
///
/// It is never used as a key itself: every purpose gets a key of its own, derived from it (SEC-045).
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// A text that is no list of secrets.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSecretText {
    /// Not base64.
    #[error("not base64; `countersign key secret` makes a good secret")]
    NotBase64,
    /// Base64 of bytes that will not do.
    #[error(transparent)]
    Secret(#[from] InvalidSecret),
}

/// Bytes that will not do as a secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSecret {
    /// Shorter than 32 bytes.
    #[error(
        "secret is {actual} bytes long, {} are needed; `countersign key secret` makes a good one",
        Secret::MIN_BYTES
    )]
    TooShort {
        /// How many bytes it has.
        actual: usize,
    },
    /// An example from documentation, or bytes with almost no variety.
    #[error("secret is guessable; `countersign key secret` makes a good one")]
    Guessable,
    /// A key of a key pair, which others may know.
    #[error("a public or private key (PEM, DER or JWK) was given as a secret")]
    NotASecret,
    /// The list of secrets is empty.
    #[error("no secret given")]
    Absent,
}

/// Why something could not be sealed or opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// No randomness to seal with.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// Not sealed by one of these secrets in this context, or changed since.
    #[error("not sealed with any of the secrets for this context")]
    NotSealedHere,
    /// Too long to seal.
    #[error("too long to seal")]
    TooLong,
}

impl Secret {
    /// The fewest bytes a secret may have.
    pub const MIN_BYTES: usize = 32;

    /// Checks and takes bytes as a secret.
    ///
    /// # Errors
    /// [`InvalidSecret`] if they are too short, guessable, or a key of a key pair.
    pub fn new(bytes: Vec<u8>) -> Result<Self, InvalidSecret> {
        let bytes = Zeroizing::new(bytes);
        match check_secret(&bytes, Self::MIN_BYTES) {
            Ok(()) => Ok(Self(bytes)),
            Err(SecretProblem::TooShort { actual, .. }) => Err(InvalidSecret::TooShort { actual }),
            Err(SecretProblem::Guessable) => Err(InvalidSecret::Guessable),
            Err(SecretProblem::NotASecret) => Err(InvalidSecret::NotASecret),
        }
    }

    /// The key for `purpose`: different purposes have unrelated keys, and none tells anything about the secret
    /// (HKDF with SHA-256, RFC 5869).
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        hkdf(&self.0, "countersign/derive/v1/", purpose)
    }

    fn sealing_key(&self) -> LessSafeKey {
        let key = hkdf(&self.0, "countersign/seal/v1", "");
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_slice()).expect("an AES-256 key is 32 bytes"))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

/// The server's secrets, newest first: the first one seals, all of them open.
///
/// To change the secret, put the new one in front, and take the old one away when nothing sealed with it is left.
#[derive(Clone)]
pub struct Secrets(Arc<List>);

struct List {
    newest: Keyed,
    older: Vec<Keyed>,
}

struct Keyed {
    secret: Secret,
    sealing: LessSafeKey,
}

impl Secrets {
    /// Takes the secrets, the one that seals first.
    ///
    /// # Errors
    /// [`InvalidSecret::Absent`] if there is none.
    pub fn new(secrets: Vec<Secret>) -> Result<Self, InvalidSecret> {
        let mut keyed = secrets.into_iter().map(|secret| Keyed { sealing: secret.sealing_key(), secret });
        let newest = keyed.next().ok_or(InvalidSecret::Absent)?;
        Ok(Self(Arc::new(List { newest, older: keyed.collect() })))
    }

    /// Reads secrets from text, as `COUNTERSIGN_SECRET` has them: base64 (standard or URL-safe, with or without padding)
    /// of at least 32 bytes, or several of them, separated by commas or white space. The first one seals, all of them
    /// open.
    ///
    /// # Errors
    /// [`InvalidSecretText`] if there is none or one of them will not do. The message never holds the text.
    pub fn parse(text: &str) -> Result<Self, InvalidSecretText> {
        let secrets = text
            .split(|c: char| c == ',' || c.is_ascii_whitespace())
            .filter(|part| !part.is_empty())
            .map(|part| {
                let alphabet = if part.contains(['-', '_']) {
                    &URL_SAFE_PAD_INDIFFERENT
                } else {
                    &STANDARD_PAD_INDIFFERENT
                };
                let bytes = alphabet.decode(part).map_err(|_| InvalidSecretText::NotBase64)?;
                Ok(Secret::new(bytes)?)
            })
            .collect::<Result<Vec<_>, InvalidSecretText>>()?;
        Ok(Self::new(secrets)?)
    }

    /// The secrets, the one that seals first. Verifiers of what was derived from an older one need them all.
    pub fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.all().map(|keyed| &keyed.secret)
    }

    /// The newest secret's key for `purpose`, see [`Secret::derive`].
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        self.0.newest.secret.derive(purpose)
    }

    /// Encrypts `plain` so that only these secrets open it, and only for the same `context`.
    ///
    /// The context says what is sealed, such as a table, a column and a row's id: a sealed value that is moved
    /// elsewhere does not open there. AES-256-GCM with a random nonce; the first byte is the format's version.
    ///
    /// # Errors
    /// [`SealError::Random`] without randomness, [`SealError::TooLong`] beyond 64 GiB.
    pub fn seal(&self, context: &str, plain: &[u8], random: &dyn Random) -> Result<Vec<u8>, SealError> {
        let nonce = random::bytes::<NONCE_LEN>(random)?;
        let mut sealed = Vec::with_capacity(HEAD + plain.len() + AES_256_GCM.tag_len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let (_, text) = sealed.split_at_mut(HEAD);
        let nonce = Nonce::assume_unique_for_key(nonce);
        match self.0.newest.sealing.seal_in_place_separate_tag(nonce, Aad::from(context), text) {
            Ok(tag) => sealed.extend_from_slice(tag.as_ref()),
            Err(_) => {
                // What could not be encrypted must not stay behind in freed memory.
                drop(Zeroizing::new(sealed));
                return Err(SealError::TooLong);
            }
        }
        Ok(sealed)
    }

    /// Decrypts what [`Secrets::seal`] gave for the same `context`.
    ///
    /// # Errors
    /// [`SealError::NotSealedHere`] if it was sealed with another secret or for another context, or was changed.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, text) = match sealed.split_first() {
            Some((&VERSION, rest)) => {
                rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::NotSealedHere)?
            }
            _ => return Err(SealError::NotSealedHere),
        };
        for keyed in self.all() {
            let mut buffer = Zeroizing::new(text.to_vec());
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let opened =
                keyed.sealing.open_in_place(nonce, Aad::from(context), &mut buffer).map(|plain| plain.len());
            if let Ok(length) = opened {
                buffer.truncate(length);
                return Ok(buffer);
            }
        }
        Err(SealError::NotSealedHere)
    }

    fn all(&self) -> impl Iterator<Item = &Keyed> {
        std::iter::once(&self.0.newest).chain(&self.0.older)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The format of what [`Secrets::seal`] gives: this byte, the nonce, the encrypted text, the tag.
const VERSION: u8 = 1;
const HEAD: usize = 1 + NONCE_LEN;
