//! bcrypt (`$2b$12$` and 53 characters), as Flask-Bcrypt, Rails, PHP and many others write it.
//!
//! bcrypt takes 72 bytes of its input and ignores the rest, so two passwords that agree in these have the same hash. New
//! hashes are never bcrypt (SEC-120); the first good login replaces an imported one by Argon2id of the whole password.

use base64::Engine as _;
use base64::alphabet::BCRYPT;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};

use crate::model::password_hash::function::{Function, Input, StoredHash};
use crate::model::password_hash::{UnusableHash, number};

/// The prefix of our own for a bcrypt hash of the SHA-256 of the password in hexadecimal digits.
pub(super) const HEX_SHA256: &str = "bcrypt-sha256-hex";

pub(super) fn read(text: &str) -> Result<StoredHash, UnusableHash> {
    if text.starts_with("$2x$") {
        return Err(UnusableHash::FlawedBcrypt);
    }
    let rest = ["$2a$", "$2b$", "$2y$"].iter().find_map(|variant| text.strip_prefix(variant));
    let (cost, salt_and_tag) = rest.and_then(|rest| rest.split_once('$')).ok_or(UnusableHash::Form)?;
    let (salt, tag) = salt_and_tag.split_at_checked(SALT_CHARACTERS).ok_or(UnusableHash::Form)?;
    if cost.len() != 2 {
        return Err(UnusableHash::Form);
    }
    hash(number(cost)?, salt, tag)
}

pub(super) fn read_of_hex_sha256(text: &str) -> Result<StoredHash, UnusableHash> {
    let hash = text.strip_prefix(HEX_SHA256).ok_or(UnusableHash::Form)?;
    Ok(read(hash)?.of(Input::HexSha256))
}

/// The hash with this cost, salt and tag, the latter two in bcrypt's own base64.
pub(super) fn hash(cost: u32, salt: &str, tag: &str) -> Result<StoredHash, UnusableHash> {
    // Some implementations leave bits set that no byte needs.
    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &BCRYPT,
        GeneralPurposeConfig::new()
            .with_encode_padding(false)
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone)
            .with_decode_allow_trailing_bits(true),
    );
    let decoded = |text| BASE64.decode(text).map_err(|_| UnusableHash::Form);
    let salt = decoded(salt)?.try_into().map_err(|_| UnusableHash::Form)?;
    let tag = super::function::tag(decoded(tag)?, TAG_BYTES)?;
    Ok(StoredHash::new(Function::bcrypt(cost, salt)?, tag))
}

const SALT_CHARACTERS: usize = 22;
const TAG_BYTES: usize = 23;
