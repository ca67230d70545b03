//! The ready-made routes under `/v1/auth`; `docs/api.md` is their contract.

mod cursor;
mod own;
mod refresh;
mod sign_in;
mod sign_out;
mod verify;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::{delete, get, post};
use countersign_core::account::{RegisterError, User};
use countersign_core::jws::SignError;
use countersign_core::session::{BeginError, Device, EndError, ExtraClaimsError, Pair};
use countersign_core::store::StoreError;
use countersign_http::{Answer, Auth, AuthError, ErrorCode, no_store, vary_personal};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use std::error::Error;
use std::net::SocketAddr;

use crate::reply::Reply;
use crate::wire::PairBody;

/// Routes to register, log in, refresh, log out, verify, see oneself and one's sessions, all under `/v1/auth`. They need the
/// [`AuthLayer`](crate::AuthLayer) around them.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/v1/auth/register", post(sign_in::register))
        .route("/v1/auth/login", post(sign_in::login))
        .route("/v1/auth/refresh", post(refresh::refresh))
        .route("/v1/auth/logout", post(sign_out::logout))
        .route("/v1/auth/me", get(own::me))
        .route("/v1/auth/verify", get(verify::verify))
        .route("/v1/auth/sessions", get(own::sessions).delete(own::end_others))
        .route("/v1/auth/sessions/{id}", delete(own::end_one))
        .route("/v1/auth/revoke-tokens", delete(own::revoke_tokens))
        .method_not_allowed_fallback(method_not_allowed)
}

/// The answer to an unknown path: 404 `not_found`. For a program's `fallback`.
pub async fn not_found() -> Reply {
    Reply::error(ErrorCode::NotFound)
}

/// The answer to a method that a path doesn't have: 405 `method_not_allowed`.
pub async fn method_not_allowed() -> Reply {
    Reply::error(ErrorCode::MethodNotAllowed)
}

/// The refusal of a request, as the application wants it.
async fn refused(auth: &Auth, parts: &Parts, error: impl Into<AuthError>) -> Reply {
    Reply(auth.refuse(parts, None, &error.into()).await)
}

/// Who sends the request, as far as it shows.
pub(crate) fn device(parts: &Parts) -> Device {
    let agent = parts.headers.get(header::USER_AGENT).map(HeaderValue::as_bytes);
    let address = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_canonical());
    Device::from_header(agent, address)
}

/// A personal answer with a JSON body: never stored, and different for everybody.
fn personal(status: StatusCode, body: &impl Serialize) -> Result<Reply, Reply> {
    let mut answer = Answer::json(status, body).map_err(|error| internal(&error))?;
    no_store(answer.headers_mut());
    vary_personal(answer.headers_mut());
    Ok(Reply(answer))
}

/// A personal answer without a body.
fn personal_empty(status: StatusCode) -> Reply {
    let mut answer = Answer::empty(status);
    no_store(answer.headers_mut());
    vary_personal(answer.headers_mut());
    Reply(answer)
}

/// A pair, in the body or in cookies, never in both.
fn pair_reply(
    auth: &Auth,
    status: StatusCode,
    pair: &Pair,
    user: &User,
    by_cookie: bool,
) -> Result<Reply, Reply> {
    let now = auth.clock().now();
    let body = PairBody::new(pair, user, pair.expires_in(now), by_cookie);
    let mut reply = personal(status, &body)?;
    if by_cookie {
        auth.set_cookies(pair).apply(reply.0.headers_mut()).map_err(|error| internal(&error))?;
    }
    Ok(reply)
}

/// Adds what makes a browser forget our cookies.
fn clear_cookies(auth: &Auth, reply: &mut Reply) {
    if let Err(error) = auth.unset_cookies().apply(reply.0.headers_mut()) {
        tracing::error!(error = &error as &dyn Error, "cookies could not be removed");
    }
}

/// 503: a part of the deployment does not answer. The cause goes to the log.
fn unavailable(error: &(dyn Error + 'static)) -> Reply {
    tracing::error!(error, "a request could not be answered");
    Reply::error(ErrorCode::Unavailable)
}

/// 500: a defect. The cause goes to the log.
fn internal(error: &(dyn Error + 'static)) -> Reply {
    tracing::error!(error, "a request could not be answered");
    Reply::error(ErrorCode::InternalError)
}

impl From<StoreError> for Reply {
    fn from(error: StoreError) -> Self {
        unavailable(&error)
    }
}

impl From<EndError> for Reply {
    fn from(error: EndError) -> Self {
        unavailable(&error)
    }
}

impl From<SignError> for Reply {
    fn from(error: SignError) -> Self {
        internal(&error)
    }
}

impl From<BeginError> for Reply {
    fn from(error: BeginError) -> Self {
        match error {
            // All sessions were ended while the login was under way: so it never happened.
            BeginError::EpochRaised => Self::error(ErrorCode::InvalidCredentials),
            BeginError::TooManySessions => Self::error(ErrorCode::TooManySessions),
            BeginError::Sign(error) => error.into(),
            BeginError::ExtraClaims(ExtraClaimsError::Claim(_)) => internal(&error),
            error => unavailable(&error),
        }
    }
}

impl From<RegisterError> for Reply {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::EmailTaken => Self::error(ErrorCode::EmailTaken),
            RegisterError::UsernameTaken => Self::error(ErrorCode::UsernameTaken),
            RegisterError::Hash(error) => error.into(),
            RegisterError::Begin(error) => error.into(),
            error => unavailable(&error),
        }
    }
}
