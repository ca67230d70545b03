//! The reasons why a token is refused.

use crate::claims::TokenType;
use crate::json::JsonError;

/// The reason why a presented token was not accepted. The message contains nothing of the token, so it can go to a log.
///
/// Clients learn only `invalid_token` (RFC 6750 §3.1), whatever the reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The token or its header is longer than the [`Limits`](crate::jws::Limits).
    #[error("token or its header is too long")]
    TooLong,
    /// The token is not three segments of base64url characters (RFC 7515 §7.1).
    #[error("token is not three base64url segments joined by dots")]
    NotCompact,
    /// A segment is not strict base64url (RFC 7515 §2).
    #[error("token has a segment that is not strict base64url")]
    Encoding,
    /// The header is not strict JSON.
    #[error("token header: {0}")]
    Header(JsonError),
    /// A header member is missing or has the wrong type.
    #[error("header member {0} is missing or invalid")]
    InvalidHeader(&'static str),
    /// A header member that is never accepted: a key that the token itself includes, an extension, encryption.
    #[error("header member {0} is not accepted")]
    RefusedHeader(&'static str),
    /// The claims are signed but not strict JSON.
    #[error("token claims: {0}")]
    Claims(JsonError),
    /// No key in the ring has the token's `kid`.
    #[error("token names an unknown key")]
    UnknownKey,
    /// The token names no key, and not exactly one key fits.
    #[error("token has no kid, and not exactly one key fits")]
    NoKeyNamed,
    /// The token's `alg` is not the one algorithm of the key.
    #[error("algorithm is not that of the key")]
    Algorithm,
    /// The signature does not hold.
    #[error("signature does not hold")]
    Signature,
    /// The header's `typ` is not that of the expected kind (RFC 8725 §3.11).
    #[error("header does not say that this is {expected} token")]
    Typ {
        /// The kind that this verifier accepts.
        expected: TokenType,
    },
    /// The claim `type` names another kind.
    #[error("expected {expected} token, found {found} token")]
    TokenType {
        /// The kind that this verifier accepts.
        expected: TokenType,
        /// The kind of the presented token.
        found: TokenType,
    },
    /// A required claim is absent.
    #[error("claim {0} is missing")]
    MissingClaim(&'static str),
    /// A claim has the wrong type or is out of range.
    #[error("claim {0} is invalid")]
    InvalidClaim(&'static str),
    /// The token's `exp` has passed.
    #[error("token has expired")]
    Expired,
    /// The token's `nbf` has not come yet.
    #[error("token is not valid yet")]
    NotYetValid,
    /// The token's `iat` lies in the future.
    #[error("token was issued in the future")]
    IssuedInFuture,
    /// The token's `iss` is absent or not the expected one.
    #[error("issuer is not the expected one")]
    Issuer,
    /// The token's `aud` is absent, names only others, or is present where none is expected.
    #[error("audience is not the expected one")]
    Audience,
}

/// The group of a [`VerifyError`].
///
/// ```
/// use countersign_jwt::{KeyRing, Timestamp, TokenType, Verifier, VerifyErrorKind};
///
/// let verifier = Verifier::with_fixed_keys(TokenType::Access, KeyRing::new());
/// let error = verifier.verify("no token", Timestamp::from_secs(1_800_000_000)).unwrap_err();
/// assert_eq!(error.kind(), VerifyErrorKind::Malformed);
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum VerifyErrorKind {
    /// The text is not a token as this crate understands it.
    Malformed,
    /// No key in the ring can verify the token. A reload of the ring may help.
    Key,
    /// The token is forged or damaged.
    Signature,
    /// The token is genuine, but not valid here and now.
    Claims,
}

impl VerifyError {
    /// The group that this error belongs to.
    #[must_use]
    pub const fn kind(self) -> VerifyErrorKind {
        match self {
            Self::TooLong
            | Self::NotCompact
            | Self::Encoding
            | Self::Header(_)
            | Self::InvalidHeader(_)
            | Self::RefusedHeader(_)
            | Self::Claims(_) => VerifyErrorKind::Malformed,
            Self::UnknownKey | Self::NoKeyNamed | Self::Algorithm => VerifyErrorKind::Key,
            Self::Signature => VerifyErrorKind::Signature,
            Self::Typ { .. }
            | Self::TokenType { .. }
            | Self::MissingClaim(_)
            | Self::InvalidClaim(_)
            | Self::Expired
            | Self::NotYetValid
            | Self::IssuedInFuture
            | Self::Issuer
            | Self::Audience => VerifyErrorKind::Claims,
        }
    }
}
