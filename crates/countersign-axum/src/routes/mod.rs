//! The ready-made routes under `/v1/auth`; `docs/api.md` is their contract.

mod account;
mod cursor;
mod own;
mod refresh;
mod sign_in;
mod sign_out;
mod verify;

use std::error::Error;
use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::routing::{delete, get, post};
use axum::{Extension, Router};
use countersign_core::flow::{BeginError, EndError, ExtraClaimsError, Pair, RegisterError, RenewFreshError};
use countersign_core::model::{Device, DeviceToken};
use countersign_core::store::StoreError;
use countersign_http::{
    Answer, Auth, AuthError, ClientAddress, ErrorCode, ForPrograms, SetCookies, no_store, vary_personal,
};
use countersign_jwt::jws::SignError;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::extract::Installed;
use crate::reply::Reply;
use crate::wire::{PairBody, UserBody};

/// The routes for every program: refresh, logout, me, sessions, revoke-tokens and verify under `/v1/auth`, and the
/// public keys at `/.well-known/jwks.json`. They need the [`AuthLayer`](crate::AuthLayer) around them.
///
/// These routes begin no session. They work with any source of users: Countersign's accounts, which [`account_routes`]
/// create, or users of the program's own. A login of the program's own checks the password and begins a session. It has
/// neither the throttle of `Accounts::login` nor the queue that bounds how many passwords are hashed at once, so the
/// program brings its own.
///
/// ```
/// use axum::http::request::Parts;
/// use axum::response::{IntoResponse, Redirect};
/// use axum::{Extension, Form, Json, Router, routing::post};
/// use countersign_axum::{Auth, AuthLayer, Reply, SignIn, WithCookies, device, routes};
/// use countersign_core::{flow::Presentation, model::EndReason};
/// use countersign_http::ErrorCode;
/// use countersign_jwt::{Epoch, UserId};
/// use serde_json::{Map, Value, json};
/// # use axum::{body::Body, http::Request};
/// # use countersign_core::store::MemoryStore;
/// # use countersign_testkit::TestBed;
/// # use tower::ServiceExt as _;
///
/// # struct Member { id: UserId, name: String }
/// # impl Member { fn has_password(&self, password: &str) -> bool { password == "correct horse" } }
/// # async fn find_member(_: UserId) -> Result<Option<Member>, std::io::Error> { Ok(None) }
/// # async fn find_by_name(name: &str) -> Option<Member> {
/// #     (name == "ada").then(|| Member { id: UserId::new("ada").unwrap(), name: name.to_owned() })
/// # }
/// # #[derive(serde::Deserialize)] struct Login { name: String, password: String }
/// /// The member whose password it is, and the epoch that the new session belongs to.
/// async fn check(auth: &Auth, login: &Login) -> Result<(Member, Epoch), Reply> {
///     let wrong = || Reply::error(ErrorCode::InvalidCredentials);
///     let member = find_by_name(&login.name).await.ok_or_else(wrong)?;
///     // Before the password is checked, so that a "log out everywhere" meanwhile ends this login as well.
///     let epoch = auth.sessions().epoch(&member.id).await?;
///     if member.has_password(&login.password) { Ok((member, epoch)) } else { Err(wrong()) }
/// }
///
/// /// For programs, which keep the tokens themselves.
/// async fn login(
///     Extension(auth): Extension<Auth>,
///     parts: Parts,
///     Json(login): Json<Login>,
/// ) -> Result<Json<Value>, Reply> {
///     let (member, epoch) = check(&auth, &login).await?;
///     let pair = auth.sessions().begin(member.id, epoch, Presentation::Explicit, device(&parts)).await?;
///     Ok(Json(json!({"access_token": pair.access_token, "refresh_token": pair.refresh_token})))
/// }
///
/// /// For browsers, which get cookies. `SignIn` refuses requests from other sites.
/// async fn sign_in(
///     SignIn { auth, arrival, .. }: SignIn,
///     Form(login): Form<Login>,
/// ) -> Result<impl IntoResponse, Reply> {
///     let (member, epoch) = check(&auth, &login).await?;
///     // The session of the cookies that the browser still carries.
///     auth.sessions().end_by_tokens(arrival.replacing, EndReason::Replaced).await?;
///     let pair = auth.sessions().begin(member.id, epoch, arrival.presentation, arrival.device).await?;
///     Ok((WithCookies(auth.set_cookies(&pair)), Redirect::to("/")))
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
/// let auth = Auth::builder(stores, secrets)
///     .user_loader(find_member) // by id; `None`: there is no such user any more
///     .show_user(|member: &Member| Map::from_iter([("name".to_owned(), json!(member.name))]))
///     .build()
///     .await?;
/// let app: Router = Router::new()
///     .route("/login", post(login))
///     .route("/sign-in", post(sign_in))
///     .merge(routes())
///     .layer(AuthLayer::new(auth));
/// # for (password, status) in [("correct horse", [200, 303]), ("a guess", [401, 401])] {
/// #     let json = json!({"name": "ada", "password": password}).to_string();
/// #     let form = format!("name=ada&password={}", password.replace(' ', "+"));
/// #     for (path, media_type, body, status) in [
/// #         ("/login", "application/json", json, status[0]),
/// #         ("/sign-in", "application/x-www-form-urlencoded", form, status[1]),
/// #     ] {
/// #         let request = Request::post(path).header("content-type", media_type).body(Body::from(body))?;
/// #         let answer = app.clone().oneshot(request).await?;
/// #         assert_eq!(answer.status(), status, "{path}");
/// #         assert_eq!(answer.headers().contains_key("set-cookie"), status == 303, "{path}");
/// #     }
/// # }
/// # Ok(())
/// # }
/// ```
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/v1/auth/refresh", post(refresh::refresh))
        .route("/v1/auth/logout", post(sign_out::logout))
        .route("/v1/auth/me", get(own::me).patch(account::change).delete(account::delete))
        .route("/v1/auth/verify", get(verify::verify))
        .route("/v1/auth/sessions", get(own::sessions).delete(own::end_others))
        .route("/v1/auth/sessions/{id}", delete(own::end_one))
        .route("/v1/auth/revoke-tokens", delete(own::revoke_tokens))
        .route("/.well-known/jwks.json", get(jwks))
        .route_layer(Extension(ForPrograms))
        .route("/v1/auth/refresh/page", get(refresh::page))
        .method_not_allowed_fallback(method_not_allowed)
}

/// The routes that create accounts and sign them in, beside [`routes`]: `POST /v1/auth/register` and `POST
/// /v1/auth/login`.
///
/// With these routes **everybody who can reach the program can register**, and a registered user passes every
/// [`AccessToken`](crate::AccessToken). A program with users of its own leaves them out and begins sessions by
/// `Sessions::begin`. A program that decides itself who gets an account calls `Accounts::register` and
/// `Accounts::login` in handlers of its own, with [`SignIn`](crate::SignIn).
///
/// ```
/// use axum::Router;
/// use countersign_axum::{AuthLayer, account_routes, routes};
/// # use axum::{body::Body, http::Request};
/// # use countersign_core::store::MemoryStore;
/// # use countersign_testkit::TestBed;
/// # use tower::ServiceExt as _;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let auth = countersign_axum::Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
/// let app: Router = Router::new().merge(routes()).merge(account_routes()).layer(AuthLayer::new(auth));
///
/// let ada = r#"{"email":"ada@example.org","password":"correct horse"}"#;
/// let request = Request::post("/v1/auth/register").header("content-type", "application/json");
/// assert_eq!(app.oneshot(request.body(Body::from(ada))?).await?.status(), 201);
/// # Ok(())
/// # }
/// ```
pub fn account_routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/v1/auth/register", post(sign_in::register))
        .route("/v1/auth/login", post(sign_in::login))
        .route("/v1/auth/code", post(account::mail_code))
        .route("/v1/auth/password", post(account::change_password))
        .route("/v1/auth/password/forgot", post(account::forgot))
        .route("/v1/auth/password/reset", post(account::reset))
        .route("/v1/auth/reauthenticate", post(account::reauthenticate))
        .route("/v1/auth/email/verify", post(account::verify_email))
        .route("/v1/auth/email/resend", post(account::resend))
        .route_layer(Extension(ForPrograms))
        .method_not_allowed_fallback(method_not_allowed)
}

/// `GET /.well-known/jwks.json`: the public keys, for services that verify our access tokens themselves.
async fn jwks(Installed(auth): Installed) -> Reply {
    auth.jwks().into()
}

/// The answer to an unknown path: 404 `not_found`. For a program's `fallback`.
///
/// ```
/// use axum::{Router, routing::get};
/// use countersign_axum::{method_not_allowed, not_found};
/// # use axum::{body::Body, http::Request};
/// # use tower::ServiceExt as _;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let app: Router = Router::new()
///     .route("/hello", get(async || "hello"))
///     .fallback(not_found)
///     .method_not_allowed_fallback(method_not_allowed);
///
/// let answer = app.clone().oneshot(Request::get("/nowhere").body(Body::empty())?).await?;
/// assert_eq!(answer.headers()["content-type"], "application/json");
/// let answer = app.oneshot(Request::post("/hello").body(Body::empty())?).await?;
/// assert_eq!(answer.status(), 405);
/// # Ok(())
/// # }
/// ```
pub async fn not_found() -> Reply {
    Reply::error(ErrorCode::NotFound)
}

/// The answer to a method that a path doesn't have: 405 `method_not_allowed`.
pub async fn method_not_allowed() -> Reply {
    Reply::error(ErrorCode::MethodNotAllowed)
}

/// The refusal of a request, shaped by the application's hook.
async fn refused(auth: &Auth, parts: &Parts, error: impl Into<AuthError>) -> Reply {
    Reply(auth.refuse(parts, None, &error.into()).await)
}

/// The device that sends the request, as far as the request shows it. Its address is the [`ClientAddress`] among the
/// request's extensions, otherwise the other end of the connection.
///
/// ```
/// use axum::http::Request;
/// use countersign_axum::device;
///
/// let request = Request::get("/").header("user-agent", "ExampleApp/2.1 (Android)").body(())?;
/// let (parts, ()) = request.into_parts();
/// assert_eq!(device(&parts).user_agent.as_deref(), Some("ExampleApp/2.1 (Android)"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn device(parts: &Parts) -> Device {
    let agent = parts.headers.get(header::USER_AGENT).map(HeaderValue::as_bytes);
    let peer = || parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_canonical());
    let client = parts.extensions.get::<ClientAddress>().map(|client| client.address());
    let address = client.or_else(peer);
    Device::from_header(agent, address)
}

/// A personal answer with a JSON body, which no cache may store or give to another user.
fn personal(status: StatusCode, body: &impl Serialize) -> Result<Reply, Reply> {
    let mut answer = Answer::json(status, body).map_err(|error| internal(&error))?;
    no_store(answer.headers_mut());
    vary_personal(answer.headers_mut());
    Ok(Reply(answer))
}

/// A personal answer without a body, which no cache may store.
fn personal_empty(status: StatusCode) -> Reply {
    let mut answer = Answer::empty(status);
    no_store(answer.headers_mut());
    vary_personal(answer.headers_mut());
    Reply(answer)
}

/// The answer with a pair: its tokens are in the body or in cookies, never in both.
fn pair_reply(
    auth: &Auth,
    status: StatusCode,
    pair: &Pair,
    user: impl Into<UserBody>,
    by_cookie: bool,
    device: Option<&DeviceToken>,
) -> Result<Reply, Reply> {
    let now = auth.engine().now();
    let mut body = PairBody::new(pair, user.into(), pair.expires_in(now), by_cookie);
    body.device_token = device.filter(|_| !by_cookie).map(DeviceToken::expose);
    let mut reply = personal(status, &body)?;
    if by_cookie {
        if let Some(field) = device.and_then(|device| auth.device_cookie(device)) {
            reply.0.headers_mut().append(header::SET_COOKIE, field);
        }
        auth.set_cookies(pair).apply(reply.0.headers_mut()).map_err(|error| internal(&error))?;
    }
    Ok(reply)
}

/// Adds the fields that make a browser forget our cookies, including those of another scope that the request shows.
fn clear_cookies(auth: &Auth, headers: &HeaderMap, reply: &mut Reply) {
    add_cookies(SetCookies::forgetting_carried(auth.rules().cookies(), headers), reply);
}

fn add_cookies(cookies: SetCookies, reply: &mut Reply) {
    if let Err(error) = cookies.apply(reply.0.headers_mut()) {
        tracing::error!(error = &error as &dyn Error, "cookies could not be removed");
    }
}

/// 422 because an account would have no name.
fn no_name() -> Reply {
    const WHY: &str = "An account needs an e-mail address or a username.";
    Reply(Answer::error_with(ErrorCode::InvalidFields, WHY))
}

/// 503 because a part of the deployment does not answer. The cause goes to the log.
fn unavailable(error: &(dyn Error + 'static)) -> Reply {
    tracing::error!(error, "a request could not be answered");
    Reply::error(ErrorCode::Unavailable)
}

/// 500 because of a defect in this program. The cause goes to the log.
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
            BeginError::TooManySessions => Self::error(ErrorCode::TooManySessions),
            BeginError::Sign(error) => error.into(),
            BeginError::ExtraClaims(ExtraClaimsError::Claim(_)) => internal(&error),
            error => unavailable(&error),
        }
    }
}

impl From<RenewFreshError> for Reply {
    fn from(error: RenewFreshError) -> Self {
        match error {
            RenewFreshError::Gone => Self::error(ErrorCode::InvalidToken),
            RenewFreshError::Sign(error) => error.into(),
            RenewFreshError::ExtraClaims(ExtraClaimsError::Claim(_)) => internal(&error),
            error => unavailable(&error),
        }
    }
}

impl From<RegisterError> for Reply {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::EmailTaken => Self::error(ErrorCode::EmailTaken),
            RegisterError::UsernameTaken => Self::error(ErrorCode::UsernameTaken),
            RegisterError::IdTaken => Self::error(ErrorCode::Conflict),
            RegisterError::NoName => no_name(),
            RegisterError::WeakPassword(error) => error.into(),
            RegisterError::Hash(error) => error.into(),
            RegisterError::Begin(error) => error.into(),
            error => unavailable(&error),
        }
    }
}
