//! Keys for message authentication codes.
//!
//! The HMAC is RustCrypto's, because its prepared state is copied without allocating. For texts as short as tokens,
//! that is most of the difference from `aws-lc-rs` (see `docs/benchmarks.md`).

use hmac::digest::CtOutput;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha384, Sha512};

use super::algorithm::Hash;

/// A prepared HMAC key, wiped when it is dropped.
#[derive(Clone)]
pub(super) enum MacKey {
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

impl MacKey {
    pub(super) fn new(hash: Hash, secret: &[u8]) -> Self {
        const ANY_LENGTH: &str = "HMAC takes secrets of any length";
        match hash {
            Hash::Sha256 => Self::Sha256(Hmac::new_from_slice(secret).expect(ANY_LENGTH)),
            Hash::Sha384 => Self::Sha384(Hmac::new_from_slice(secret).expect(ANY_LENGTH)),
            Hash::Sha512 => Self::Sha512(Hmac::new_from_slice(secret).expect(ANY_LENGTH)),
        }
    }

    pub(super) fn sign(&self, message: &[u8]) -> Tag {
        match self {
            Self::Sha256(key) => Tag::Sha256(key.clone().chain_update(message).finalize()),
            Self::Sha384(key) => Tag::Sha384(key.clone().chain_update(message).finalize()),
            Self::Sha512(key) => Tag::Sha512(key.clone().chain_update(message).finalize()),
        }
    }

    /// Whether `tag` is the MAC of `message`, compared in constant time and in full length (SEC-017).
    pub(super) fn accepts(&self, message: &[u8], tag: &[u8]) -> bool {
        let verdict = match self {
            Self::Sha256(key) => key.clone().chain_update(message).verify_slice(tag),
            Self::Sha384(key) => key.clone().chain_update(message).verify_slice(tag),
            Self::Sha512(key) => key.clone().chain_update(message).verify_slice(tag),
        };
        verdict.is_ok()
    }
}

/// The MAC that a message is signed with.
pub(super) enum Tag {
    Sha256(CtOutput<Hmac<Sha256>>),
    Sha384(CtOutput<Hmac<Sha384>>),
    Sha512(CtOutput<Hmac<Sha512>>),
}

impl AsRef<[u8]> for Tag {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Sha256(tag) => tag.as_bytes(),
            Self::Sha384(tag) => tag.as_bytes(),
            Self::Sha512(tag) => tag.as_bytes(),
        }
    }
}
