//! Refusals: the condition, its status and the text that clients of Flask-JWT-Extended know.

use countersign_core::profile::{ProfileClaims, ProfileError, Segment};
use countersign_core::store::BoxError;
use http::StatusCode;
use serde_json::{Map, Value};

use crate::answer::{Answer, ErrorCode};

/// What was refused, and why. [`FlaskJwtExtended::answer`](super::FlaskJwtExtended::answer) makes it an answer.
#[derive(Debug)]
pub struct Refused(pub(super) Refusal);

/// Which hook answers a refusal. Its Flask name is in the documentation of each.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum RefusalKind {
    /// No token, or a CSRF value that is absent or wrong: `unauthorized_loader`, 401.
    Unauthorized,
    /// A token that is not accepted: `invalid_token_loader`, 422.
    InvalidToken,
    /// `expired_token_loader`, 401.
    ExpiredToken,
    /// `needs_fresh_token_loader`, 401.
    NeedsFreshToken,
    /// `revoked_token_loader`, 401.
    RevokedToken,
    /// `token_verification_failed_loader`, 400.
    TokenVerificationFailed,
    /// `user_lookup_error_loader`, 401.
    UserLookupError,
}

#[derive(Debug)]
pub(super) enum Refusal {
    Unauthorized(String),
    Invalid(String),
    /// The cookie came twice: its answer makes the browser forget both.
    RepeatedCookie(String),
    Expired(Box<ProfileClaims>),
    NotFresh(ProfileClaims),
    Revoked(ProfileClaims),
    VerificationFailed(ProfileClaims),
    NoUser(ProfileClaims),
    /// A hook of the application could not say.
    HookFailed(BoxError),
}

impl Refused {
    /// Which kind; `None` where a hook of the application failed.
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

impl Refusal {
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
            Self::HookFailed(_) => return None,
        })
    }

    /// The text that the answer holds.
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
            Self::HookFailed(_) => "A part of the application could not answer".to_owned(),
        }
    }

    /// The token, where its signature holds.
    pub(super) fn token(&self) -> Option<&ProfileClaims> {
        match self {
            Self::Unauthorized(_) | Self::Invalid(_) | Self::RepeatedCookie(_) | Self::HookFailed(_) => None,
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
            Self::HookFailed(_) => return Answer::error(ErrorCode::Unavailable),
        };
        let body = Map::from_iter([(message_key.to_owned(), Value::from(self.message()))]);
        Answer::json(status, &body).unwrap_or_else(|_| Answer::error(ErrorCode::InternalError))
    }
}

impl From<ProfileError> for Refusal {
    fn from(error: ProfileError) -> Self {
        match error {
            ProfileError::Expired(claims) => Self::Expired(claims),
            error => Self::Invalid(text(&error)),
        }
    }
}

/// What Flask-JWT-Extended, and PyJWT below it, say of an error. Where they accept what is refused here, the text is
/// our own.
pub(in super::super) fn text(error: &ProfileError) -> String {
    match error {
        ProfileError::TooLong => "Token is too long".to_owned(),
        ProfileError::NotEnoughSegments => "Not enough segments".to_owned(),
        ProfileError::Encoding(Segment::Signature) => "Invalid crypto padding".to_owned(),
        ProfileError::Encoding(segment) => format!("Invalid {segment} padding"),
        ProfileError::Json(segment, error) => format!("Invalid {segment} string: {error}"),
        ProfileError::NotAnObject(segment) => format!("Invalid {segment} string: must be a json object"),
        ProfileError::KeyIdType => "Key ID header parameter must be a string".to_owned(),
        ProfileError::CriticalShape => "Invalid 'crit' header: must be a non-empty list".to_owned(),
        ProfileError::CriticalType => "Invalid 'crit' header: values must be strings".to_owned(),
        ProfileError::CriticalUnknown(name) => format!("Unsupported critical extension: {name}"),
        ProfileError::CriticalAbsent(name) => format!("Critical extension '{name}' is missing from headers"),
        ProfileError::DetachedPayload => "Payload segment must be empty when 'b64' is false.".to_owned(),
        ProfileError::RefusedHeader(name) => format!("Header parameter '{name}' is not accepted"),
        ProfileError::NoAlgorithm => "Algorithm not specified".to_owned(),
        ProfileError::AlgorithmUnknown => "Algorithm not supported".to_owned(),
        ProfileError::AlgorithmNotAllowed | ProfileError::Key(_) => {
            "The specified alg value is not allowed".to_owned()
        }
        ProfileError::NotANumber(name) => format!("{} must be an integer.", claim_in_words(name)),
        ProfileError::NotYetValid(name) => format!("The token is not yet valid ({name})"),
        ProfileError::MissingClaim(name) => format!("Token is missing the \"{name}\" claim"),
        ProfileError::IssuerType => "Payload Issuer (iss) must be a string".to_owned(),
        ProfileError::Issuer => "Invalid issuer".to_owned(),
        ProfileError::AudienceType => "Invalid claim format in token".to_owned(),
        ProfileError::Audience => "Audience doesn't match".to_owned(),
        ProfileError::SubjectType => "Subject must be a string".to_owned(),
        ProfileError::TokenIdType => "JWT ID must be a string".to_owned(),
        ProfileError::NoExpiry(_) => "Token is missing the \"exp\" claim".to_owned(),
        ProfileError::TokenTypeType => "Token type must be a string".to_owned(),
        ProfileError::MissingIdentity(name) => format!("Missing claim: {name}"),
        // Errors that are yet to come are about signatures or nothing that clients must know.
        _ => "Signature verification failed".to_owned(),
    }
}

pub(in super::super) fn claim_in_words(name: &str) -> &'static str {
    match name {
        "iat" => "Issued At claim (iat)",
        "nbf" => "Not Before claim (nbf)",
        _ => "Expiration Time claim (exp)",
    }
}

/// A 401 with this message.
pub(super) fn plain(message_key: &str, message: &str) -> Answer {
    let body = Map::from_iter([(message_key.to_owned(), Value::from(message))]);
    Answer::json(StatusCode::UNAUTHORIZED, &body).unwrap_or_else(|_| Answer::error(ErrorCode::InternalError))
}

/// A value as a Python program prints it.
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
