//! The hashes of werkzeug, with which Flask applications usually keep passwords: `scrypt:32768:8:1$salt$hex` (the default
//! since 2.3) and `pbkdf2:sha256:600000$salt$hex`. The salt is used as the text that it is.

use crate::model::password_hash::function::{Digest, Function, StoredHash, tag};
use crate::model::password_hash::{UnusableHash, number, parts};

/// The bytes of werkzeug's scrypt tags.
const SCRYPT_TAG_BYTES: usize = 64;

pub(super) fn read_scrypt(text: &str) -> Result<StoredHash, UnusableHash> {
    let [method, salt, hex] = parts(text, '$')?;
    let [_, n, r, p] = parts(method, ':')?;
    let function = Function::scrypt(number(n)?, number(r)?, number(p)?, salt.as_bytes())?;
    Ok(StoredHash::new(function, tag(from_hex(hex)?, SCRYPT_TAG_BYTES)?))
}

pub(super) fn read_pbkdf2(text: &str) -> Result<StoredHash, UnusableHash> {
    let [method, salt, hex] = parts(text, '$')?;
    let (digest, iterations) = match method.split(':').collect::<Vec<_>>()[..] {
        [_, digest, iterations] => (Digest::named(digest)?, number(iterations)?),
        // The default that such a row leaves out was another one in every version of werkzeug.
        [_, _] => return Err(UnusableHash::NoIterations),
        _ => return Err(UnusableHash::Form),
    };
    let function = Function::pbkdf2(digest, iterations, salt.as_bytes())?;
    Ok(StoredHash::new(function, tag(from_hex(hex)?, digest.bytes())?))
}

/// The bytes of lower-case hexadecimal digits.
fn from_hex(text: &str) -> Result<Vec<u8>, UnusableHash> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(UnusableHash::Form),
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return Err(UnusableHash::Form) };
    pairs.iter().map(|[high, low]| Ok(digit(*high)? << 4 | digit(*low)?)).collect()
}
