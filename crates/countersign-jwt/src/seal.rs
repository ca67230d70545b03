//! The server's secrets, the keys derived from them, and the sealing of values with those keys.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_PAD_INDIFFERENT, URL_SAFE_PAD_INDIFFERENT};
use zeroize::Zeroizing;

use crate::key::{SecretProblem, check_secret, hkdf};
use crate::random;
use crate::random::{Random, RandomError};

/// A secret of the server: at least 32 bytes that nobody can guess.
///
/// The secret itself is never used as a key. Every purpose gets a key of its own, derived from the secret (SEC-045).
///
/// ```
/// use countersign_jwt::Secret;
/// # use countersign_jwt::random;
///
/// # let random = countersign_testkit::SeededRandom::default();
/// let secret = Secret::new(random::bytes::<32>(&random)?.to_vec())?;
/// assert_ne!(secret.derive("cookies"), secret.derive("tokens"));
///
/// assert!(Secret::new(b"too short".to_vec()).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// The reason why a text is not a list of secrets.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSecretText {
    /// The text is not base64.
    #[error("not base64; `countersign key secret` makes a good secret")]
    NotBase64,
    /// The text is base64 of bytes that are not a good secret.
    #[error(transparent)]
    Secret(#[from] InvalidSecret),
}

/// The reason why bytes are not a good secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSecret {
    /// The secret is shorter than 32 bytes.
    #[error(
        "secret is {actual} bytes long, {} are needed; `countersign key secret` makes a good one",
        Secret::MIN_BYTES
    )]
    TooShort {
        /// The number of bytes that the secret has.
        actual: usize,
    },
    /// The secret is an example from documentation, or has almost no variety.
    #[error("secret is guessable; `countersign key secret` makes a good one")]
    Guessable,
    /// The bytes are a key of a key pair, which others may know.
    #[error("a public or private key (PEM, DER or JWK) was given as a secret")]
    NotASecret,
    /// The list of secrets is empty.
    #[error("no secret given; `countersign key secret` makes one")]
    Absent,
}

/// The reason why a value could not be sealed or opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The source of randomness failed.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The value was not sealed by one of these secrets for this context, or was changed since.
    #[error("not sealed with any of the secrets for this context")]
    NotSealedHere,
    /// The value is too long to seal.
    #[error("too long to seal")]
    TooLong,
}

impl Secret {
    /// The fewest bytes that a secret may have.
    pub const MIN_BYTES: usize = 32;

    /// Takes bytes as a secret, after checking them.
    ///
    /// # Errors
    /// [`InvalidSecret`] if the bytes are too short, guessable, or a key of a key pair.
    pub fn new(bytes: Vec<u8>) -> Result<Self, InvalidSecret> {
        let bytes = Zeroizing::new(bytes);
        match check_secret(&bytes, Self::MIN_BYTES) {
            Ok(()) => Ok(Self(bytes)),
            Err(SecretProblem::TooShort { actual, .. }) => Err(InvalidSecret::TooShort { actual }),
            Err(SecretProblem::Guessable) => Err(InvalidSecret::Guessable),
            Err(SecretProblem::NotASecret) => Err(InvalidSecret::NotASecret),
        }
    }

    /// The key for `purpose`, derived by HKDF with SHA-256 (RFC 5869). Different purposes have unrelated keys, and no
    /// key tells anything about the secret.
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

/// The server's secrets, newest first. The first one seals, and all of them open.
///
/// To change the secret, put the new one in front, and remove the old one when nothing sealed with it is left.
///
/// ```
/// use countersign_jwt::Secrets;
///
/// # let random = countersign_testkit::SeededRandom::default();
/// let old = Secrets::parse("SGpubHUVN49UbwYEA0ZMjf9t3jAaqPjZfGqCnjP5Gm0=")?;
/// let sealed = old.seal("user.phone/17", b"+44 20 7946 0000", &random)?;
///
/// // The new secret stands in front and seals; the old one still opens.
/// let both = Secrets::parse(
///     "ZzGVqSZAzmDpR6PpLr3qI5B9EmbTHFTzs1Tk4WPGxUA=, SGpubHUVN49UbwYEA0ZMjf9t3jAaqPjZfGqCnjP5Gm0=",
/// )?;
/// assert_eq!(&**both.open("user.phone/17", &sealed)?, b"+44 20 7946 0000");
/// assert!(both.open("user.phone/18", &sealed).is_err(), "it was sealed for another row");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    /// A list of these secrets, of which the first one seals.
    ///
    /// # Errors
    /// [`InvalidSecret::Absent`] if the list is empty.
    pub fn new(secrets: Vec<Secret>) -> Result<Self, InvalidSecret> {
        let mut keyed = secrets.into_iter().map(|secret| Keyed { sealing: secret.sealing_key(), secret });
        let newest = keyed.next().ok_or(InvalidSecret::Absent)?;
        Ok(Self(Arc::new(List { newest, older: keyed.collect() })))
    }

    /// Parses secrets from text as `COUNTERSIGN_SECRET` has them: one secret, or several separated by commas or white
    /// space. Each is base64 (standard or URL-safe, with or without padding) of at least 32 bytes. The first secret
    /// seals, and all of them open.
    ///
    /// # Errors
    /// [`InvalidSecretText`] if there is no secret or one of them is not good. The message never contains the text.
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

    /// The secrets, beginning with the one that seals. A verifier of something derived from an older secret needs all
    /// of them.
    pub fn iter(&self) -> impl Iterator<Item = &Secret> {
        self.all().map(|keyed| &keyed.secret)
    }

    /// The newest secret's key for `purpose` (see [`Secret::derive`]).
    #[must_use]
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        self.0.newest.secret.derive(purpose)
    }

    /// Encrypts `plain` so that only these secrets open it, and only for the same `context`.
    ///
    /// The context says what is sealed, such as a table, a column and a row's id, so that a sealed value that is moved
    /// elsewhere does not open there. The encryption is AES-256-GCM with a random nonce. The first byte is the format's
    /// version.
    ///
    /// # Errors
    /// [`SealError::Random`] when the source of randomness fails, [`SealError::TooLong`] beyond 64 GiB.
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
                // Plain text that could not be encrypted must not stay behind in freed memory.
                drop(Zeroizing::new(sealed));
                return Err(SealError::TooLong);
            }
        }
        Ok(sealed)
    }

    /// Decrypts what [`Secrets::seal`] returned for the same `context`.
    ///
    /// # Errors
    /// [`SealError::NotSealedHere`] if the value was sealed with another secret or for another context, or was changed.
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

/// The version of the format of [`Secrets::seal`]: this byte, the nonce, the encrypted text, the tag.
const VERSION: u8 = 1;
const HEAD: usize = 1 + NONCE_LEN;
