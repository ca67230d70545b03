//! Derivation of what a session's tokens carry from the session's row, so that any node rebuilds the same pair and no
//! store has to keep it.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_jwt::claims::TokenType;
use countersign_jwt::id::{Generation, TokenId};
use countersign_jwt::time::Timestamp;

use crate::model::session::{Session, SessionSeed};

/// The `jti` of a generation's token: 122 bits of HMAC-SHA256(seed, generation ‖ issued_at ‖ kind), in the form of a
/// UUID.
#[must_use]
pub fn token_id(session: &Session, token_type: TokenType) -> TokenId {
    token_id_of(&session.seed, session.generation, session.issued_at, token_type)
}

fn token_id_of(
    seed: &SessionSeed,
    generation: Generation,
    issued_at: Timestamp,
    token_type: TokenType,
) -> TokenId {
    let mut message = [0; 17];
    message[..4].copy_from_slice(&generation.as_u32().to_be_bytes());
    message[4..12].copy_from_slice(&issued_at.as_millis().to_be_bytes());
    // The label separates this use of the seed from that for the CSRF value.
    message[12..16].copy_from_slice(b"jti:");
    message[16] = match token_type {
        TokenType::Access => b'a',
        TokenType::Refresh => b'r',
    };
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, seed.as_bytes()), &message);
    let mut id = [0; 16];
    id.copy_from_slice(tag.as_ref().split_at(16).0);
    TokenId::new(uuid::Builder::from_random_bytes(id).into_uuid())
}

/// The session's CSRF value. It is the same for all generations of a session, so that a refresh in one tab doesn't
/// break the forms of another, and new with every login (SEC-072).
#[must_use]
pub fn csrf_value(session: &Session) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, session.seed.as_bytes()), b"csrf");
    URL_SAFE_NO_PAD.encode(tag.as_ref())
}
