//! Refusals: each condition with its status and the text that clients of Flask-JWT-Extended know.

use countersign_core::store::BoxError;
use countersign_http::{Answer, ErrorCode};
use http::StatusCode;
use serde_json::{Map, Value};

use crate::messages::text;
use crate::tokens::{FlaskClaims, FlaskTokenError};

/// A refusal and its reason. [`FlaskJwtExtended::answer`](super::FlaskJwtExtended::answer) turns it into an answer.
#[derive(Debug)]
pub struct Refused(pub(super) ExtendedRefusal);

/// The kind of a refusal, which decides which hook answers it. Each variant names the hook in Flask-JWT-Extended.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum RefusalKind {
    /// There is no token, or the CSRF value is absent or wrong: `unauthorized_loader`, 401.
    Unauthorized,
    /// The token is not accepted: `invalid_token_loader`, 422.
    InvalidToken,
    /// The token has expired: `expired_token_loader`, 401.
    ExpiredToken,
    /// The token is not fresh: `needs_fresh_token_loader`, 401.
    NeedsFreshToken,
    /// The token was revoked: `revoked_token_loader`, 401.
    RevokedToken,
    /// The application does not accept the token's claims: `token_verification_failed_loader`, 400.
    TokenVerificationFailed,
    /// The token's user was not found: `user_lookup_error_loader`, 401.
    UserLookupError,
}

#[derive(Debug)]
pub(crate) enum ExtendedRefusal {
    Unauthorized(String),
    Invalid(String),
    /// The cookie came twice. The answer makes the browser forget both copies.
    RepeatedCookie(String),
    Expired(Box<FlaskClaims>),
    NotFresh(FlaskClaims),
    Revoked(FlaskClaims),
    VerificationFailed(FlaskClaims),
    NoUser(FlaskClaims),
    /// A page of another site opens a WebSocket with the cookies.
    CrossSite,
    /// A hook of the application failed.
    HookFailed(BoxError),
}

impl Refused {
    /// The kind of the refusal; `None` where a hook of the application failed.
    #[must_use]
    pub fn kind(&self) -> Option<RefusalKind> {
        self.0.kind()
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.message())
    }
}

impl std::error::Error for Refused {}

impl ExtendedRefusal {
    pub(super) fn missing_claim(name: &str) -> Self {
        Self::Invalid(format!("Missing claim: {name}"))
    }

    pub(super) fn kind(&self) -> Option<RefusalKind> {
        Some(match self {
            Self::Unauthorized(_) => RefusalKind::Unauthorized,
            Self::Invalid(_) | Self::RepeatedCookie(_) => RefusalKind::InvalidToken,
            Self::Expired(_) => RefusalKind::ExpiredToken,
            Self::NotFresh(_) => RefusalKind::NeedsFreshToken,
            Self::Revoked(_) => RefusalKind::RevokedToken,
            Self::VerificationFailed(_) => RefusalKind::TokenVerificationFailed,
            Self::NoUser(_) => RefusalKind::UserLookupError,
            Self::CrossSite | Self::HookFailed(_) => return None,
        })
    }

    /// The text of the answer.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Unauthorized(message) | Self::Invalid(message) | Self::RepeatedCookie(message) => {
                message.clone()
            }
            Self::Expired(_) => "Token has expired".to_owned(),
            Self::NotFresh(_) => "Fresh token required".to_owned(),
            Self::Revoked(_) => "Token has been revoked".to_owned(),
            Self::VerificationFailed(_) => "User claims verification failed".to_owned(),
            Self::NoUser(claims) => format!("Error loading the user {}", python_text(claims.identity())),
            Self::CrossSite => "The page is of another site, and not of an allowed one".to_owned(),
            Self::HookFailed(_) => "A part of the application could not answer".to_owned(),
        }
    }

    /// The token; `None` unless its signature holds.
    pub(super) fn token(&self) -> Option<&FlaskClaims> {
        match self {
            Self::Unauthorized(_)
            | Self::Invalid(_)
            | Self::RepeatedCookie(_)
            | Self::CrossSite
            | Self::HookFailed(_) => None,
            Self::Expired(claims) => Some(claims),
            Self::NotFresh(claims)
            | Self::Revoked(claims)
            | Self::VerificationFailed(claims)
            | Self::NoUser(claims) => Some(claims),
        }
    }

    pub(super) fn default_answer(&self, message_key: &str) -> Answer {
        let status = match self {
            Self::Unauthorized(_)
            | Self::Expired(_)
            | Self::NotFresh(_)
            | Self::Revoked(_)
            | Self::NoUser(_) => StatusCode::UNAUTHORIZED,
            Self::Invalid(_) | Self::RepeatedCookie(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::VerificationFailed(_) => StatusCode::BAD_REQUEST,
            Self::CrossSite => return Answer::error(ErrorCode::CrossSite),
            Self::HookFailed(_) => return Answer::error(ErrorCode::Unavailable),
        };
        let body = Map::from_iter([(message_key.to_owned(), Value::from(self.message()))]);
        Answer::json(status, &body).unwrap_or_else(|_| Answer::error(ErrorCode::InternalError))
    }
}

impl From<BoxError> for ExtendedRefusal {
    fn from(error: BoxError) -> Self {
        Self::HookFailed(error)
    }
}

impl From<FlaskTokenError> for ExtendedRefusal {
    fn from(error: FlaskTokenError) -> Self {
        match error {
            FlaskTokenError::Expired(claims) => Self::Expired(claims),
            error => Self::Invalid(text(&error)),
        }
    }
}

/// The answer 401 with this message.
pub(super) fn plain(message_key: &str, message: &str) -> Answer {
    let body = Map::from_iter([(message_key.to_owned(), Value::from(message))]);
    Answer::json(StatusCode::UNAUTHORIZED, &body).unwrap_or_else(|_| Answer::error(ErrorCode::InternalError))
}

/// A value in the form in which a Python program prints it.
pub(super) fn python_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => python_repr(value),
    }
}

fn python_quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::from(quote);
    for c in text.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c == quote => quoted.extend(['\\', quote]),
            c if c.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push(quote);
    quoted
}

fn python_repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => python_quoted(text),
        Value::Array(list) => {
            format!("[{}]", list.iter().map(python_repr).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| {
                format!("{}: {}", python_repr(&Value::from(name.as_str())), python_repr(value))
            };
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn identities_are_shown_as_python_prints_them() {
        for (identity, shown) in [
            (json!("it's"), "it's"),
            (json!(5), "5"),
            (json!(null), "None"),
            (json!([true, 1.5, "a"]), "[True, 1.5, 'a']"),
            (json!(["it's"]), "[\"it's\"]"),
            (json!(["'\""]), "['\\'\"']"),
            (json!(["a\\b\t\u{1}ü"]), "['a\\\\b\\t\\x01ü']"),
            (json!({"id": [false]}), "{'id': [False]}"),
        ] {
            assert_eq!(python_text(&identity), shown);
        }
    }
}
