//! SEC-016: what was only decoded never becomes claims.

use countersign_jwt::claims::{Claims, UnverifiedClaims, decode_unverified};

fn needs_proof(_: &Claims) {}

fn believes_anything(token: &str) {
    needs_proof(&decode_unverified(token).unwrap());
}

fn converts(claims: UnverifiedClaims) -> Claims {
    claims.into()
}

fn main() {}
