//! SEC-010: no conversion makes a signing key, or a shared secret, from a verifying key.

use countersign_core::jws;
use countersign_core::{SigningKey, VerifyingKey};

fn signs_with_a_public_key(key: &VerifyingKey) {
    let _ = jws::sign(key, "at+jwt", b"{}");
}

fn becomes_a_signing_key(key: VerifyingKey) -> SigningKey {
    key.into()
}

fn main() {}
