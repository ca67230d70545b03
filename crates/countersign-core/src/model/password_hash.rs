//! Password hashes at rest: the forms that are verified, and the costs that are accepted.
//!
//! New hashes are Argon2id. Hashes that other systems made are verified in the forms of those systems, one module each,
//! and are replaced by a new one when their owner logs in. Every form is read into a [`StoredHash`]: a [`Function`] with
//! its costs, the input that it is applied to, and the tag that it must yield.

mod argon2;
mod bcrypt;
mod django;
mod function;
mod passlib;
mod pepper;
mod scrypt;
mod werkzeug;

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

use self::argon2::Origin;
pub(crate) use self::argon2::phc_text;
pub use self::argon2::{Argon2Params, UnsafeArgon2Params};
pub(crate) use self::function::{Function, StoredHash};
pub(crate) use self::pepper::Pepper;
pub use self::pepper::{InvalidPeppers, PepperId, Peppers};

/// A password hash at rest. New hashes have the PHC string format (`$argon2id$v=19$m=…`); hashes of other systems keep
/// the form that those gave them.
///
/// Any text can be a `PasswordHash`. Text from a store is not trusted, and is checked when a password is (SEC-119). The
/// text is wiped from memory when it is dropped, and `Debug` does not show it.
#[derive(Clone)]
pub struct PasswordHash(SecretString);

/// The reason why a stored hash is not used, so that its owner cannot log in. The messages contain nothing of the hash.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum UnusableHash {
    /// The text is in none of the forms that are verified, or is incomplete.
    #[error("it has none of the forms that are verified, or is incomplete")]
    Form,
    /// Checking a password would cost more than any honest hash does.
    #[error(
        "it costs too much to check: more than 1 GiB, 10 passes or 16 lanes (argon2), N = 131072, r = 8, p = 10 \
         (scrypt), a cost of 16 (bcrypt) or 10000000 iterations (pbkdf2)"
    )]
    Cost,
    /// A hash of werkzeug's PBKDF2 does not say its number of iterations.
    #[error(
        "it does not say its number of iterations; write the number that made it after the digest's name, as in \
         pbkdf2:sha256:260000$…"
    )]
    NoIterations,
    /// bcrypt of the variant `$2x$`, in which different passwords have the same hash.
    #[error("it is bcrypt of the flawed variant $2x$; its owner needs a new password")]
    FlawedBcrypt,
    /// The hash was made with a pepper that is not among those of this program.
    #[error("it needs the pepper {0}, which is not set")]
    NoPepper(PepperId),
}

impl PasswordHash {
    /// Takes the text of a stored hash.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text.into())
    }

    /// Takes the text of a bcrypt hash of the SHA-256 of a password in hexadecimal digits, which Flask-Bcrypt makes
    /// where `BCRYPT_HANDLE_LONG_PASSWORDS` is on. Such a text looks like one of bcrypt alone, so the stored text gets
    /// the prefix `bcrypt-sha256-hex`.
    #[must_use]
    pub fn of_flask_bcrypt_long(text: &str) -> Self {
        Self(format!("{}{text}", bcrypt::HEX_SHA256).into())
    }

    /// The text to store. It must stay out of logs and answers, because passwords can be guessed against it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether passwords can be checked against the hash.
    ///
    /// # Errors
    /// [`UnusableHash`] says why they cannot.
    pub fn check(&self, peppers: &Peppers) -> Result<(), UnusableHash> {
        self.read(peppers).map(|_| ())
    }

    /// Reads the hash. Nothing is hashed, and the work is bounded, whatever the text is.
    pub(crate) fn read(&self, peppers: &Peppers) -> Result<StoredHash, UnusableHash> {
        let text = self.expose();
        if text.len() > MAX_BYTES {
            return Err(UnusableHash::Form);
        }
        if let Some(peppered) = text.strip_prefix(pepper::PREFIX) {
            let (id, hash) = pepper::split(peppered).ok_or(UnusableHash::Form)?;
            let pepper = peppers.key(&id).ok_or(UnusableHash::NoPepper(id))?;
            return Ok(argon2::read(hash)?.from(Origin::Own).with_pepper(pepper));
        }
        let form = FORMS.iter().find(|(prefix, _)| text.starts_with(prefix));
        form.map_or(Err(UnusableHash::Form), |(_, read)| read(text))
    }
}

/// A function that reads one form.
type Read = fn(&str) -> Result<StoredHash, UnusableHash>;

/// The forms that are verified, by the beginning of their text. Of two that fit the first one counts.
const FORMS: [(&str, Read); 17] = [
    ("$argon2", |text| Ok(argon2::read(text)?.from(Origin::Own))),
    ("$scrypt$", scrypt::read),
    ("$2a$", bcrypt::read),
    ("$2b$", bcrypt::read),
    ("$2y$", bcrypt::read),
    ("$2x$", |_| Err(UnusableHash::FlawedBcrypt)),
    (bcrypt::HEX_SHA256, bcrypt::read_of_hex_sha256),
    ("scrypt:", werkzeug::read_scrypt),
    ("pbkdf2:", werkzeug::read_pbkdf2),
    ("pbkdf2_", django::read_pbkdf2),
    ("scrypt$", django::read_scrypt),
    ("argon2$", django::read_argon2),
    ("bcrypt$", django::read_bcrypt),
    ("bcrypt_sha256$", django::read_bcrypt_sha256),
    ("$pbkdf2$", passlib::read_pbkdf2),
    ("$pbkdf2-", passlib::read_pbkdf2),
    ("$bcrypt-sha256$", passlib::read_bcrypt_sha256),
];

/// The most bytes that the text of a hash may have. The longest form has some 250.
const MAX_BYTES: usize = 1024;

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// A number in decimal digits, without a sign. `None` is the text that is no number.
fn number(text: &str) -> Result<u32, UnusableHash> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number {
        return Err(UnusableHash::Form);
    }
    // What does not fit into 32 bits is above every limit.
    text.parse().map_err(|_| UnusableHash::Cost)
}

/// The parts of a text between this many separators, no more and no fewer.
fn parts<const N: usize>(text: &str, separator: char) -> Result<[&str; N], UnusableHash> {
    let parts: Vec<_> = text.splitn(N + 1, separator).collect();
    parts.try_into().map_err(|_| UnusableHash::Form)
}
