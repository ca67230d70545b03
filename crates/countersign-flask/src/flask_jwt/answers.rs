//! Refusals: each condition with its status and the text that clients of Flask-JWT know.

use std::fmt;

use countersign_core::store::BoxError;
use countersign_http::reading::{quotable, shown_in_log};
use countersign_http::{Answer, ErrorCode};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use super::FlaskJwt;
use crate::hooks::hook_failed;
use crate::messages::{claim_in_words, text as text_of_either};
use crate::tokens::FlaskTokenError;

/// An error in the form in which Flask-JWT reports it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct FlaskJwtError {
    /// The description of what happened.
    pub description: String,
    /// The name of the error.
    pub error: String,
    /// The status that Flask-JWT gives the error: 401.
    pub status_code: u16,
}

impl FlaskJwtError {
    pub(super) fn new(error: &str, description: &str) -> Self {
        Self { description: description.to_owned(), error: error.to_owned(), status_code: 401 }
    }
}

/// Why a request or login was refused.
#[derive(Debug)]
pub(crate) enum JwtRefusal {
    /// The request has no token.
    Absent,
    /// The request has credentials of another scheme than the configured one.
    OtherScheme,
    /// The login is not a JSON object. Flask-JWT has no such error, so no hook is asked.
    Unreadable(&'static str),
    Error(FlaskJwtError),
    /// The token does not permit the request, an error that Flask-JWT does not have.
    Forbidden,
    HookFailed(BoxError),
}

impl fmt::Display for JwtRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "the request carries no token",
            Self::OtherScheme => "the request has credentials of another scheme",
            Self::Unreadable(what) => what,
            Self::Error(error) => &error.description,
            Self::Forbidden => "the token does not permit this request",
            Self::HookFailed(_) => "a hook of the application failed",
        })
    }
}

impl std::error::Error for JwtRefusal {}

impl From<BoxError> for JwtRefusal {
    fn from(error: BoxError) -> Self {
        Self::HookFailed(error)
    }
}

pub(super) fn invalid(description: &str) -> JwtRefusal {
    JwtRefusal::Error(FlaskJwtError::new("Invalid token", description))
}

/// The text in which Flask-JWT, or PyJWT below it, reports an error.
pub(super) fn text(error: &FlaskTokenError) -> String {
    match error {
        FlaskTokenError::Expired(_) => "Signature has expired".to_owned(),
        FlaskTokenError::NotYetValid("iat") => "Issued At claim (iat) cannot be in the future.".to_owned(),
        FlaskTokenError::NotANumber(name) => format!("{} must be an integer.", claim_in_words(name)),
        FlaskTokenError::Audience => "Invalid audience".to_owned(),
        error => text_of_either(error),
    }
}

impl FlaskJwt {
    /// The answer to a revoked token. The caller has logged the cause.
    pub(super) async fn revoked(&self) -> Answer {
        self.shaped(FlaskJwtError::new("Invalid token", "Token has been revoked"), None).await
    }

    /// The answer to a token without a user. The caller has logged the cause.
    pub(super) fn no_user(&self) -> Answer {
        let error = FlaskJwtError::new("Invalid JWT", "User does not exist");
        Answer::json(StatusCode::UNAUTHORIZED, &error)
            .unwrap_or_else(|_| Answer::error(ErrorCode::InternalError))
    }

    pub(super) async fn answer(&self, refusal: &JwtRefusal, realm: Option<&str>) -> Answer {
        let (error, challenge) = match refusal {
            JwtRefusal::HookFailed(error) => return hook_failed(error),
            JwtRefusal::Forbidden => return Answer::error(ErrorCode::InsufficientScope),
            JwtRefusal::Unreadable(description) => {
                let error =
                    FlaskJwtError { status_code: 400, ..FlaskJwtError::new("Bad Request", description) };
                return Answer::json(StatusCode::BAD_REQUEST, &error)
                    .unwrap_or_else(|_| Answer::error(ErrorCode::InternalError));
            }
            JwtRefusal::Error(error) => (error.clone(), None),
            JwtRefusal::OtherScheme => {
                (FlaskJwtError::new("Invalid JWT header", "Unsupported authorization type"), None)
            }
            JwtRefusal::Absent => {
                let realm = realm.unwrap_or(&self.0.config.default_realm);
                let error =
                    FlaskJwtError::new("Authorization Required", "Request does not contain an access token");
                (error, HeaderValue::try_from(format!("JWT realm=\"{}\"", quotable(realm))).ok())
            }
        };
        tracing::info!(
            error = error.error,
            description = shown_in_log(&error.description),
            "a request was not let through"
        );
        self.shaped(error, challenge).await
    }

    async fn shaped(&self, error: FlaskJwtError, challenge: Option<HeaderValue>) -> Answer {
        if let Some(hook) = &self.0.hooks.error {
            return match hook(error).await {
                Ok(answer) => answer,
                Err(error) => hook_failed(&error),
            };
        }
        let status = StatusCode::from_u16(error.status_code).unwrap_or(StatusCode::UNAUTHORIZED);
        let mut answer =
            Answer::json(status, &error).unwrap_or_else(|_| Answer::error(ErrorCode::InternalError));
        if let Some(challenge) = challenge {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        answer
    }
}
