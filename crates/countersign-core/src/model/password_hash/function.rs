//! The functions that turn a password into a tag, the costs that are accepted of them (SEC-119), and what they are
//! applied to.

use std::num::NonZeroU32;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::model::password_hash::UnusableHash;
use crate::model::password_hash::argon2::{Origin, StoredArgon2};
use crate::model::password_hash::pepper::Pepper;

/// A stored hash whose cost is known to be within the limits.
pub(crate) struct StoredHash {
    pub(crate) function: Function,
    input: Input,
    /// The output that the function has for the right password.
    tag: Box<[u8]>,
    pepper: Option<Pepper>,
}

/// A function that hashes passwords, with its costs and its salt.
pub(crate) enum Function {
    /// Argon2, which is applied in memory that the caller keeps.
    Argon2(StoredArgon2),
    Imported(Imported),
}

/// A function that only other systems hash with.
pub(crate) enum Imported {
    Scrypt { params: scrypt::Params, salt: Box<[u8]> },
    Pbkdf2 { digest: Digest, iterations: NonZeroU32, salt: Box<[u8]> },
    Bcrypt { cost: u32, salt: [u8; 16] },
}

/// A function was asked for a number of bytes that it does not yield.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the hash function does not yield so many bytes")]
pub(crate) struct WrongLength;

/// The digest that PBKDF2 is built on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Digest {
    Sha1,
    Sha256,
    Sha512,
}

/// The bytes that a function is applied to.
pub(crate) enum Input {
    /// The password as it is.
    Password,
    /// The SHA-256 of the password, in lower-case hexadecimal digits.
    HexSha256,
    /// The SHA-256 of the password, in base64.
    Base64Sha256,
    /// The HMAC with SHA-256 of the password under this key, in base64.
    Base64HmacSha256(Box<[u8]>),
}

impl StoredHash {
    pub(super) fn new(function: Function, tag: impl Into<Box<[u8]>>) -> Self {
        Self { function, input: Input::Password, tag: tag.into(), pepper: None }
    }

    pub(super) fn of(self, input: Input) -> Self {
        Self { input, ..self }
    }

    /// This hash as one that another system stored in this way.
    pub(super) fn from(self, origin: Origin) -> Self {
        let function = match self.function {
            Function::Argon2(argon2) => Function::Argon2(StoredArgon2 { origin, ..argon2 }),
            function => function,
        };
        Self { function, ..self }
    }

    pub(super) fn with_pepper(self, pepper: Pepper) -> Self {
        Self { pepper: Some(pepper), ..self }
    }

    /// The bytes that the function is applied to for this password.
    pub(crate) fn input(&self, password: &[u8]) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match &self.input {
            Input::Password => password.to_vec(),
            Input::HexSha256 => {
                let digest = digest::digest(&digest::SHA256, password);
                hex(digest.as_ref()).into_bytes()
            }
            Input::Base64Sha256 => {
                STANDARD.encode(digest::digest(&digest::SHA256, password).as_ref()).into_bytes()
            }
            Input::Base64HmacSha256(key) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, key);
                STANDARD.encode(hmac::sign(&key, password).as_ref()).into_bytes()
            }
        })
    }

    /// The number of bytes that the function must yield.
    pub(crate) fn tag_bytes(&self) -> usize {
        self.tag.len()
    }

    /// The pepper that the output of the function went through.
    pub(crate) fn pepper(&self) -> Option<&Pepper> {
        self.pepper.as_ref()
    }

    /// Whether this output of the function is that of the right password. The comparison takes constant time.
    pub(crate) fn is_tag(&self, output: &[u8]) -> bool {
        match &self.pepper {
            Some(pepper) => verify_slices_are_equal(&pepper.apply(output), &self.tag).is_ok(),
            None => verify_slices_are_equal(output, &self.tag).is_ok(),
        }
    }
}

impl Function {
    /// scrypt with N = `n`.
    pub(super) fn scrypt(n: u32, r: u32, p: u32, salt: &[u8]) -> Result<Self, UnusableHash> {
        if n < 2 || !n.is_power_of_two() || r == 0 || p == 0 {
            return Err(UnusableHash::Form);
        }
        if n > MAX_SCRYPT_N || r > MAX_SCRYPT_R || p > MAX_SCRYPT_P {
            return Err(UnusableHash::Cost);
        }
        let log_n = u8::try_from(n.ilog2()).map_err(|_| UnusableHash::Cost)?;
        let params = scrypt::Params::new(log_n, r, p).map_err(|_| UnusableHash::Cost)?;
        Ok(Self::Imported(Imported::Scrypt { params, salt: salt.into() }))
    }

    pub(super) fn pbkdf2(digest: Digest, iterations: u32, salt: &[u8]) -> Result<Self, UnusableHash> {
        let iterations = NonZeroU32::new(iterations).ok_or(UnusableHash::Form)?;
        if iterations.get() > MAX_PBKDF2_ITERATIONS {
            return Err(UnusableHash::Cost);
        }
        Ok(Self::Imported(Imported::Pbkdf2 { digest, iterations, salt: salt.into() }))
    }

    pub(super) fn bcrypt(cost: u32, salt: [u8; 16]) -> Result<Self, UnusableHash> {
        match cost {
            0..MIN_BCRYPT_COST => Err(UnusableHash::Form),
            MIN_BCRYPT_COST..=MAX_BCRYPT_COST => Ok(Self::Imported(Imported::Bcrypt { cost, salt })),
            _ => Err(UnusableHash::Cost),
        }
    }
}

impl Imported {
    /// Writes the function's output for `input` into `output`.
    pub(crate) fn apply(&self, input: &[u8], output: &mut [u8]) -> Result<(), WrongLength> {
        match self {
            Self::Scrypt { params, salt } => {
                scrypt::scrypt(input, salt, params, output).map_err(|_| WrongLength)
            }
            Self::Pbkdf2 { digest, iterations, salt } => {
                pbkdf2::derive(digest.of_pbkdf2(), *iterations, salt, input, output);
                Ok(())
            }
            Self::Bcrypt { cost, salt } => {
                let whole = Zeroizing::new(bcrypt::bcrypt(*cost, *salt, &bcrypt_key(input)));
                // Every implementation leaves the last byte out.
                output.copy_from_slice(whole.get(..output.len()).ok_or(WrongLength)?);
                Ok(())
            }
        }
    }
}

/// What bcrypt keys its cipher with: the input with a NUL behind it, of which it takes 72 bytes. A NUL inside the input
/// does not end it.
fn bcrypt_key(input: &[u8]) -> Zeroizing<Vec<u8>> {
    const BYTES: usize = 72;
    let mut key = Zeroizing::new(Vec::with_capacity(BYTES + 1));
    key.extend(input.iter().take(BYTES));
    key.push(0);
    key.truncate(BYTES);
    key
}

impl Digest {
    /// The digest with this name, without a hyphen.
    pub(super) fn named(name: &str) -> Result<Self, UnusableHash> {
        match name {
            "sha1" => Ok(Self::Sha1),
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(UnusableHash::Form),
        }
    }

    /// The number of bytes that the digest has.
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::Sha1 => digest::SHA1_OUTPUT_LEN,
            Self::Sha256 => digest::SHA256_OUTPUT_LEN,
            Self::Sha512 => digest::SHA512_OUTPUT_LEN,
        }
    }

    const fn of_pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
            Self::Sha512 => pbkdf2::PBKDF2_HMAC_SHA512,
        }
    }
}

/// Bytes in lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

/// A tag of so many bytes.
pub(super) fn tag(bytes: Vec<u8>, expected: usize) -> Result<Vec<u8>, UnusableHash> {
    if bytes.len() == expected { Ok(bytes) } else { Err(UnusableHash::Form) }
}

/// The highest N of scrypt that is accepted: with r = 8 it takes 128 MiB.
const MAX_SCRYPT_N: u32 = 1 << 17;
const MAX_SCRYPT_R: u32 = 8;
const MAX_SCRYPT_P: u32 = 10;
const MAX_PBKDF2_ITERATIONS: u32 = 10_000_000;
const MIN_BCRYPT_COST: u32 = 4;
const MAX_BCRYPT_COST: u32 = 16;
