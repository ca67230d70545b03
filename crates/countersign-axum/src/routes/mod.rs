//! The ready-made routes under `/v1/auth`; `docs/api.md` is their contract.

mod account;
mod cursor;
mod own;
mod refresh;
mod sign_in;
mod sign_out;
mod standard;
mod verify;

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;

use axum::extract::ConnectInfo;
use axum::routing::{delete, get, post};
use axum::{Extension, Router};
use countersign_core::flow::{
    BeginError, EndError, ExtraClaimsError, Pair, RegisterError, RenewFreshError, preferred_language,
};
use countersign_core::model::{Device, DeviceToken, Language};
use countersign_core::store::StoreError;
use countersign_http::{
    Answer, Auth, AuthError, ClientAddress, DeviceCookie, ErrorCode, ForPrograms, SetCookies, no_store,
    vary_personal,
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
/// create, or users of the program's own, who log in by [`login_routes`].
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

/// The login for users whom the program keeps itself, beside [`routes`]: `POST /v1/auth/login`. They are those of
/// `AuthBuilder::own_users`.
///
/// A program whose users are Countersign's accounts, but who decides itself who gets one, uses it too: without
/// `own_users` it logs in accounts. Nobody can register by these routes.
///
/// ```
/// use axum::Router;
/// use countersign_axum::{Auth, AuthLayer, login_routes, routes};
/// use countersign_core::flow::{CheckPassword, FindUser};
/// # use axum::{body::Body, http::Request};
/// # use countersign_core::store::MemoryStore;
/// # use countersign_testkit::TestBed;
/// # use std::convert::Infallible;
/// # use tower::ServiceExt as _;
///
/// #[derive(Clone)]
/// struct Member {
///     id: i64,
///     password_hash: String,
/// }
///
/// struct Members;
///
/// impl FindUser for Members {
///     type User = Member;
///     type Id = i64;
///     type Error = Infallible; // where the users are in a database, its error
///
///     fn id(member: &Member) -> i64 {
///         member.id
///     }
///
///     async fn find_by_id(&self, id: i64) -> Result<Option<Member>, Infallible> {
///         Ok((id == 17).then(ada)) // SELECT … FROM users WHERE id = ?
///     }
///
///     async fn find_by_login_name(&self, name: &str) -> Result<Option<Member>, Infallible> {
///         Ok((name == "ada").then(ada)) // SELECT … FROM users WHERE name = ?
///     }
/// }
///
/// impl CheckPassword for Members {
///     fn password_hash(member: &Member) -> Option<&str> {
///         Some(&member.password_hash)
///     }
/// }
///
/// fn ada() -> Member {
///     // As werkzeug has made it; hashes of other libraries are read too.
///     let hash = "scrypt:1024:8:1$V2nPp4ncJzH0Ccz2$e4…";
///     # let hash = "scrypt:1024:8:1$VTCwQrVS00eSC2X6$713cdffa9fe6929580f525fe452c71bc6fbaf8153a5072d001c75c363e4a2bfbf6a19b0b9ef2c8955bf5714fb084d13a66acc395244e5a1fc7768a00fff8dd62";
///     Member { id: 17, password_hash: hash.to_owned() }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
/// let auth = Auth::builder(stores, secrets).own_users(Members).build().await?;
/// let app: Router = Router::new().merge(routes()).merge(login_routes()).layer(AuthLayer::new(auth));
///
/// for (password, status) in [("correct horse battery staple", 200), ("a guess", 401)] {
///     let body = format!(r#"{{"username":"ada","password":"{password}"}}"#);
///     let request = Request::post("/v1/auth/login").header("content-type", "application/json");
///     assert_eq!(app.clone().oneshot(request.body(Body::from(body))?).await?.status(), status);
/// }
/// # Ok(())
/// # }
/// ```
pub fn login_routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/v1/auth/login", post(sign_in::login_any))
        .method_not_allowed_fallback(method_not_allowed)
}

/// The routes that create accounts and sign them in, beside [`routes`]: `POST /v1/auth/register` and `POST
/// /v1/auth/login`.
///
/// With these routes **everybody who can reach the program can register**, and a registered user passes every
/// [`AccessToken`](crate::AccessToken). A program with users of its own leaves them out and adds [`login_routes`]. A
/// program that decides itself who gets an account calls `Accounts::register` in a handler of its own, and adds
/// [`login_routes`] or logs in by [`SignIn`](crate::SignIn).
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

/// The endpoints of tokens by standards, for programs of other makers, beside [`routes`]: `POST /v1/auth/introspect`
/// (RFC 7662), `POST /v1/auth/revoke` (RFC 7009) and the metadata that names them,
/// `GET /.well-known/oauth-authorization-server` (RFC 8414).
///
/// Introspection and revocation are for clients, whom `countersign client add` makes: a record in the store of admin
/// keys whose scopes are those of [clients](countersign_core::model::ConfidentialClient). Without one, both refuse
/// everybody.
///
/// ```
/// use axum::Router;
/// use countersign_axum::{AuthLayer, routes, standard_routes};
/// # use axum::{body::Body, http::Request};
/// # use countersign_core::store::MemoryStore;
/// # use countersign_testkit::TestBed;
/// # use tower::ServiceExt as _;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let builder = countersign_axum::Auth::builder(MemoryStore::new(), TestBed::secrets());
/// let auth = builder.public_url("https://auth.example.com".parse()?).build().await?;
/// let app: Router = Router::new().merge(routes()).merge(standard_routes()).layer(AuthLayer::new(auth));
///
/// let request = Request::get("/.well-known/oauth-authorization-server");
/// assert_eq!(app.oneshot(request.body(Body::empty())?).await?.status(), 200);
/// # Ok(())
/// # }
/// ```
pub fn standard_routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/v1/auth/introspect", post(standard::introspect))
        .route("/v1/auth/revoke", post(standard::revoke))
        .route("/.well-known/oauth-authorization-server", get(standard::metadata))
        .route("/.well-known/oauth-authorization-server/{*issuer}", get(standard::metadata))
        .route_layer(Extension(ForPrograms))
        .method_not_allowed_fallback(method_not_allowed)
}

/// `GET /.well-known/jwks.json`: the public keys, for services that verify our access tokens themselves.
async fn jwks(Installed(auth): Installed, headers: HeaderMap) -> Reply {
    auth.token_endpoints().jwks().unless_known(&headers).into()
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
        if let Some(field) = device.and_then(|device| DeviceCookie::of(auth.rules())?.set(device)) {
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

/// What is wrong with an address whose domain the account rules do not name.
const OTHER_DOMAIN: &str = "addresses of this domain are not accepted here";

/// 422 because of the domain of an address.
pub(crate) fn address_not_accepted() -> Reply {
    Reply(Answer::invalid_fields(&BTreeMap::from([("email", OTHER_DOMAIN.into())])))
}

/// The language that the client asks for.
pub(crate) fn language(headers: &HeaderMap) -> Option<Language> {
    preferred_language(headers.get(header::ACCEPT_LANGUAGE)?.to_str().ok()?)
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
            RegisterError::TooManyAttempts { retry_after } => {
                Self(Answer::error(ErrorCode::TooManyAttempts).retry_after(retry_after))
            }
            RegisterError::NoName => no_name(),
            RegisterError::WeakPassword(error) => error.into(),
            RegisterError::Hash(error) => error.into(),
            RegisterError::Begin(error) => error.into(),
            error => unavailable(&error),
        }
    }
}
