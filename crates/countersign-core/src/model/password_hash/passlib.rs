//! The hashes of passlib that are its own. Its Argon2, scrypt and bcrypt hashes have the forms that everybody has.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::model::password_hash::function::{Digest, Function, Input, StoredHash, tag};
use crate::model::password_hash::{UnusableHash, bcrypt, number, parts};

/// `$pbkdf2-sha256$iterations$salt$tag`, and with `sha512`; with SHA-1 it is `$pbkdf2$…`. Salt and tag are base64 without
/// padding that has `.` in place of `+`.
pub(super) fn read_pbkdf2(text: &str) -> Result<StoredHash, UnusableHash> {
    let [_, name, iterations, salt, base64] = parts(text, '$')?;
    let digest = match name {
        "pbkdf2" => Digest::Sha1,
        name => Digest::named(name.strip_prefix("pbkdf2-").ok_or(UnusableHash::Form)?)?,
    };
    let function = Function::pbkdf2(digest, number(iterations)?, &from_adapted_base64(salt)?)?;
    Ok(StoredHash::new(function, tag(from_adapted_base64(base64)?, digest.bytes())?))
}

/// `$bcrypt-sha256$v=2,t=2b,r=12$salt$tag`, of an HMAC under the salt's text; and `$bcrypt-sha256$2b,12$salt$tag`, of a
/// digest, from before passlib 1.7.3.
pub(super) fn read_bcrypt_sha256(text: &str) -> Result<StoredHash, UnusableHash> {
    let [_, _, settings, salt, tag] = parts(text, '$')?;
    let (cost, input) = match settings.strip_prefix("v=2,t=2b,r=") {
        Some(cost) => (cost, Input::Base64HmacSha256(salt.as_bytes().into())),
        None => {
            let cost = settings.strip_prefix("2b,").or_else(|| settings.strip_prefix("2a,"));
            (cost.ok_or(UnusableHash::Form)?, Input::Base64Sha256)
        }
    };
    Ok(bcrypt::hash(number(cost)?, salt, tag)?.of(input))
}

fn from_adapted_base64(text: &str) -> Result<Vec<u8>, UnusableHash> {
    if text.contains('+') {
        return Err(UnusableHash::Form);
    }
    STANDARD_NO_PAD.decode(text.replace('.', "+")).map_err(|_| UnusableHash::Form)
}
