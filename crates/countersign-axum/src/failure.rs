//! The errors of handlers: what a `?` may meet, as an answer.

use std::error::Error;
use std::fmt;
use std::panic::Location;

use axum::response::{IntoResponse, Response};
use countersign_core::flow::{
    BeginError, CodeLoginError, CredentialsError, EndError, HashError, LinkError, LoginError, ProfileError,
    RegisterError,
};
use countersign_core::model::{NameError, PasswordError, WeakPassword};
use countersign_core::store::{BoxError, StoreError};
use countersign_http::{Answer, AuthError, ErrorCode};
use countersign_jwt::jws::SignError;

use crate::reply::{AuthRejection, Reply};

/// The error type of handlers, which `?` makes of any error.
///
/// The errors of Countersign get the answers that the ready-made routes give: a wrong password 401, a database that is
/// down 503. Every other error, such as that of the program's own database, is answered with 500 `internal_error`. The
/// client learns nothing of it; the log gets the error, its causes, and the line with the `?`.
///
/// ```
/// use axum::response::IntoResponse as _;
/// use countersign_axum::{HandlerError, Reply};
/// use countersign_http::ErrorCode;
///
/// async fn report(name: &str) -> Result<String, HandlerError> {
///     if name.is_empty() {
///         return Err(Reply::error(ErrorCode::NotFound).into());
///     }
///     Ok(std::fs::read_to_string(name)?)
/// }
/// # #[tokio::main]
/// # async fn main() {
/// assert_eq!(report("").await.into_response().status(), 404);
/// assert_eq!(report("/no such file").await.into_response().status(), 500);
/// # }
/// ```
///
/// This type is no [`Error`] itself; otherwise it could not be made of all of them.
pub struct HandlerError {
    kind: Kind,
    at: &'static Location<'static>,
}

enum Kind {
    /// A finished answer.
    Reply(Reply),
    Error(BoxError),
}

impl HandlerError {
    /// The error that it was made of, if it is of this type. A page can show a message of its own for it:
    ///
    /// ```
    /// use countersign_axum::HandlerError;
    /// use countersign_core::flow::LoginError;
    ///
    /// let error = HandlerError::from(LoginError::InvalidCredentials);
    /// assert!(matches!(error.cause::<LoginError>(), Some(LoginError::InvalidCredentials)));
    /// ```
    #[must_use]
    pub fn cause<E: Error + 'static>(&self) -> Option<&E> {
        match &self.kind {
            Kind::Reply(_) => None,
            Kind::Error(error) => error.downcast_ref(),
        }
    }
}

impl<E: Into<BoxError>> From<E> for HandlerError {
    #[track_caller]
    fn from(error: E) -> Self {
        Self { kind: Kind::Error(error.into()), at: Location::caller() }
    }
}

impl From<Reply> for HandlerError {
    #[track_caller]
    fn from(reply: Reply) -> Self {
        Self { kind: Kind::Reply(reply), at: Location::caller() }
    }
}

impl From<AuthRejection> for HandlerError {
    #[track_caller]
    fn from(rejection: AuthRejection) -> Self {
        Reply(rejection.answer().clone()).into()
    }
}

impl IntoResponse for HandlerError {
    fn into_response(self) -> Response {
        let Self { kind, at } = self;
        match kind {
            Kind::Reply(reply) => reply,
            Kind::Error(error) => known(error).unwrap_or_else(|error| {
                let error = &*error as &dyn Error;
                tracing::error!(error, at = %at, "a handler failed");
                Reply::error(ErrorCode::InternalError)
            }),
        }
        .into_response()
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Reply(Reply(answer)) => f.debug_tuple("HandlerError").field(&answer.status()).finish(),
            Kind::Error(error) => f.debug_tuple("HandlerError").field(error).finish(),
        }
    }
}

/// The answer to an error of Countersign's; other errors come back.
fn known(error: BoxError) -> Result<Reply, BoxError> {
    /// Tries the conversions one after another.
    fn of<E: Error + Into<Reply> + 'static>(error: BoxError) -> Result<Reply, BoxError> {
        error.downcast::<E>().map(|error| (*error).into())
    }
    of::<LoginError>(error)
        .or_else(of::<StoreError>)
        .or_else(of::<BeginError>)
        .or_else(of::<EndError>)
        .or_else(of::<HashError>)
        .or_else(of::<RegisterError>)
        .or_else(of::<CredentialsError>)
        .or_else(of::<ProfileError>)
        .or_else(of::<LinkError>)
        .or_else(of::<CodeLoginError>)
        .or_else(of::<NameError>)
        .or_else(of::<PasswordError>)
        .or_else(of::<WeakPassword>)
        .or_else(of::<SignError>)
        .or_else(of::<AuthError>)
}

/// The default answer to a refusal. A handler that asks [`Auth::refuse`](countersign_http::Auth::refuse) gets the
/// answer that the application has chosen.
impl From<AuthError> for Reply {
    fn from(error: AuthError) -> Self {
        if error.code().status().is_server_error() {
            tracing::error!(error = &error as &dyn Error, "a request could not be answered");
        }
        Self(Answer::from(&error))
    }
}
