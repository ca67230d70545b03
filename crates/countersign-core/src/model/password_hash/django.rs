//! The hashes of Django: a word, and the rest. The salt of PBKDF2 and scrypt is used as the text that it is, and their
//! tags are base64 with padding.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::model::password_hash::argon2::Origin;
use crate::model::password_hash::function::{Digest, Function, Input, StoredHash, tag};
use crate::model::password_hash::{UnusableHash, argon2, bcrypt, number, parts};

/// The bytes of Django's scrypt tags.
const SCRYPT_TAG_BYTES: usize = 64;

/// `pbkdf2_sha256$iterations$salt$tag`, and with `sha1`.
pub(super) fn read_pbkdf2(text: &str) -> Result<StoredHash, UnusableHash> {
    let [name, iterations, salt, base64] = parts(text, '$')?;
    let digest = Digest::named(name.strip_prefix("pbkdf2_").ok_or(UnusableHash::Form)?)?;
    let function = Function::pbkdf2(digest, number(iterations)?, salt.as_bytes())?;
    Ok(StoredHash::new(function, tag(from_base64(base64)?, digest.bytes())?))
}

/// `scrypt$N$salt$r$p$tag`.
pub(super) fn read_scrypt(text: &str) -> Result<StoredHash, UnusableHash> {
    let [_, n, salt, r, p, base64] = parts(text, '$')?;
    let function = Function::scrypt(number(n)?, number(r)?, number(p)?, salt.as_bytes())?;
    Ok(StoredHash::new(function, tag(from_base64(base64)?, SCRYPT_TAG_BYTES)?))
}

/// `argon2$argon2id$v=19$…`.
pub(super) fn read_argon2(text: &str) -> Result<StoredHash, UnusableHash> {
    let hash = text.strip_prefix("argon2").ok_or(UnusableHash::Form)?;
    Ok(argon2::read(hash)?.from(Origin::Imported))
}

/// `bcrypt$$2b$…`.
pub(super) fn read_bcrypt(text: &str) -> Result<StoredHash, UnusableHash> {
    bcrypt::read(text.strip_prefix("bcrypt$").ok_or(UnusableHash::Form)?)
}

/// `bcrypt_sha256$$2b$…`, of the SHA-256 of the password in hexadecimal digits.
pub(super) fn read_bcrypt_sha256(text: &str) -> Result<StoredHash, UnusableHash> {
    let hash = bcrypt::read(text.strip_prefix("bcrypt_sha256$").ok_or(UnusableHash::Form)?)?;
    Ok(hash.of(Input::HexSha256))
}

fn from_base64(text: &str) -> Result<Vec<u8>, UnusableHash> {
    STANDARD.decode(text).map_err(|_| UnusableHash::Form)
}
