//! What a page says where something failed that no form can tell.

use std::error::Error;
use std::time::Duration;

use countersign_core::flow::{
    AskError, BeginError, CodeLoginError, CredentialsError, EndError, HashError, LinkError, LoginError,
    ProfileError, RegisterError,
};
use countersign_core::store::StoreError;
use countersign_http::{AuthError, ErrorCode};
use http::StatusCode;

/// The reason for an error page.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    /// The name of the texts: `error.{kind}_title` and `error.{kind}`.
    pub(crate) kind: &'static str,
    pub(crate) retry_after: Option<Duration>,
}

/// How long a busy or unreachable service is to be left alone.
const SOON: Duration = Duration::from_secs(1);

impl Failure {
    pub(crate) fn of(status: StatusCode, retry_after: Option<Duration>) -> Self {
        let kind = match status.as_u16() {
            401 | 403 => "forbidden",
            404 => "not_found",
            405 => "method",
            413 => "too_large",
            429 => "too_many",
            503 => "unavailable",
            400..500 => "bad_request",
            _ => "internal",
        };
        let retry_after = match status.as_u16() {
            429 | 503 => Some(retry_after.unwrap_or(SOON)),
            _ => None,
        };
        Self { status, kind, retry_after }
    }

    pub(crate) fn new(code: ErrorCode) -> Self {
        match code {
            ErrorCode::InsecureCookies => {
                Self { status: StatusCode::FORBIDDEN, kind: "insecure", retry_after: None }
            }
            code => Self::of(code.status(), None),
        }
    }

    pub(crate) fn unavailable(error: &(dyn Error + 'static)) -> Self {
        tracing::error!(error, "a page could not be answered");
        Self::of(StatusCode::SERVICE_UNAVAILABLE, None)
    }

    pub(crate) fn internal(error: &(dyn Error + 'static)) -> Self {
        tracing::error!(error, "a page could not be answered");
        Self::of(StatusCode::INTERNAL_SERVER_ERROR, None)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::unavailable(&error)
    }
}

impl From<EndError> for Failure {
    fn from(error: EndError) -> Self {
        Self::unavailable(&error)
    }
}

impl From<&AuthError> for Failure {
    fn from(error: &AuthError) -> Self {
        Self::new(error.code())
    }
}

impl From<HashError> for Failure {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Overloaded => Self::new(ErrorCode::Overloaded),
            error => Self::unavailable(&error),
        }
    }
}

impl From<BeginError> for Failure {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::TooManySessions => Self::new(ErrorCode::TooManySessions),
            BeginError::Sign(error) => Self::internal(&error),
            error => Self::unavailable(&error),
        }
    }
}

macro_rules! unavailable {
    ($($error:ident),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                match error {
                    $error::Store(error) => error.into(),
                    $error::TooManyAttempts { retry_after } => {
                        Self::of(StatusCode::TOO_MANY_REQUESTS, Some(retry_after))
                    }
                    error => Self::unavailable(&error),
                }
            }
        })*
    };
}

// What users can mend is told in the form before, so these are failures of the service, or refusals of a throttle.
unavailable!(AskError, CodeLoginError, CredentialsError, LoginError, ProfileError, RegisterError);

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Store(error) => error.into(),
            error => Self::unavailable(&error),
        }
    }
}
