//! SEC-010: no conversion makes a signing key, or a shared secret, from a verifying key.

use countersign_jwt::jws;
use countersign_jwt::{SigningKey, VerifyingKey};

fn signs_with_a_public_key(key: &VerifyingKey) {
    let _ = jws::sign(key, "at+jwt", b"{}");
}

fn becomes_a_signing_key(key: VerifyingKey) -> SigningKey {
    key.into()
}

fn main() {}
