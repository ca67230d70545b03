//! Why a token is refused.

use crate::claims::TokenType;
use crate::json::JsonError;

/// Why a presented token was not accepted. Nothing of the token is in the message, so it can go to a log.
///
/// Clients learn only `invalid_token` (RFC 6750 §3.1), whichever it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Longer than the [`Limits`](crate::jws::Limits).
    #[error("token or its header is too long")]
    TooLong,
    /// Not three segments of base64url characters (RFC 7515 §7.1).
    #[error("token is not in compact form")]
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
    /// A header member that is never accepted: a key that the token brings itself, an extension, encryption.
    #[error("header member {0} is not accepted")]
    RefusedHeader(&'static str),
    /// The claims are signed but not strict JSON.
    #[error("token claims: {0}")]
    Claims(JsonError),
    /// No key in the ring has the token's `kid`.
    #[error("token names an unknown key")]
    UnknownKey,
    /// The token names no key, and not exactly one key fits.
    #[error("token names no key")]
    NoKeyNamed,
    /// `alg` is not the one algorithm of the key.
    #[error("algorithm is not that of the key")]
    Algorithm,
    /// The signature does not hold.
    #[error("signature does not hold")]
    Signature,
    /// `typ` in the header is not that of the expected kind (RFC 8725 §3.11).
    #[error("header does not say that this is {expected} token")]
    Typ {
        /// The kind that this verifier takes.
        expected: TokenType,
    },
    /// `type` in the claims is another kind.
    #[error("expected {expected} token, found {found} token")]
    TokenType {
        /// The kind that this verifier takes.
        expected: TokenType,
        /// The kind that was presented.
        found: TokenType,
    },
    /// A required claim is absent.
    #[error("claim {0} is missing")]
    MissingClaim(&'static str),
    /// A claim has the wrong type or is out of range.
    #[error("claim {0} is invalid")]
    InvalidClaim(&'static str),
    /// `exp` has passed.
    #[error("token has expired")]
    Expired,
    /// `nbf` has not come yet.
    #[error("token is not valid yet")]
    NotYetValid,
    /// `iat` lies in the future.
    #[error("token was issued in the future")]
    IssuedInFuture,
    /// `iss` is absent or another one.
    #[error("issuer is not the expected one")]
    Issuer,
    /// `aud` is absent, names only others, or is present where none is expected.
    #[error("audience is not the expected one")]
    Audience,
}

/// What kind of trouble a [`VerifyError`] is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum VerifyErrorKind {
    /// Not a token as this crate understands it.
    Malformed,
    /// No key in the ring is right for it. A reload of the ring may help.
    Key,
    /// Forged or damaged.
    Signature,
    /// Genuine, but not valid here and now.
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
