//! The rules of a protocol: where its credentials travel, which cookies it sets and clears, what a refresh hands out,
//! and what an error looks like.
//!
//! [`Rules`] is the interface between a protocol and the [`Engine`]. An [`Auth`](crate::Auth) holds one implementation
//! and treats all implementations alike: Countersign's own rules, or those that
//! [`AuthBuilder::rules`](crate::AuthBuilder::rules) was given. Another protocol's rules are built in three steps:
//!
//! | type | is |
//! |---|---|
//! | [`RulesBuilder`] | options, not yet checked |
//! | [`CheckedRules`] | rules whose options and keys have been checked: they say which tokens the sessions issue |
//! | [`Rules`] | rules over an engine, which decide about requests |
//!
//! [`Gate`] is for protocols that let requests through without Countersign's sessions.

mod gate;
mod native;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use countersign_core::flow::{EndError, Pair, Renewed, TokenFormat};
use countersign_core::model::{Device, SessionPolicy};
use countersign_core::store::BoxError;
use countersign_jwt::{Claims, Clock, Random, Timestamp, TokenType, UserId};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Uri};

pub use gate::{Gate, Passed};
pub(crate) use native::NativeOptions;

use crate::answer::Answer;
use crate::auth::Authenticated;
use crate::cookie::{CookieLookup, find_cookie};
use crate::cookie_config::{CookieError, CookieKind};
use crate::engine::Engine;
use crate::error::AuthError;
use crate::locate::Location;
use crate::login_sessions::LoginSessions;
use crate::renewal::Renewal;
use crate::requirement::Requirement;
use crate::users::{FoundUser, SignedInUser};

/// One protocol's rules over the [`Engine`]. Shared as `Arc<dyn Rules>`.
///
/// Every method that decides about a credential also asks the engine's sessions and the application's checks
/// ([`Engine::ask_application`]).
///
/// ```
/// use countersign_http::CookieKind;
/// use countersign_jwt::TokenType;
/// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
/// # use countersign_jwt::{Epoch, UserId};
/// # use countersign_testkit::TestBed;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), countersign_core::store::BoxError> {
/// # let auth = countersign_http::Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await?;
/// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
/// # let pair = auth.sessions().begin(user, epoch, Presentation::Explicit, Device::default()).await?;
/// let rules = auth.rules();
/// assert_eq!(rules.name(), "native");
/// assert_eq!(rules.cookies().name(CookieKind::Csrf), Some("__Host-countersign_csrf"));
///
/// // For an operator who has found a token and asks what it is.
/// let claims = rules.judge(auth.engine(), &pair.access_token, TokenType::Access).await?;
/// assert_eq!(claims.subject().as_str(), "ada");
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Rules: Any + fmt::Debug + Send + Sync {
    /// The name of the rules in the settings that a store's programs agree on. It never changes, because stores keep
    /// it.
    fn name(&self) -> &'static str;

    /// The rules for cookies.
    fn cookies(&self) -> &dyn CookieRules;

    /// Whether the body of such a request may hold credentials. [`Rules::authenticate`] then needs the body among the
    /// request's extensions, as [`BufferedBody`](crate::BufferedBody). Without a requirement, the answer covers any
    /// route.
    fn wants_body(&self, engine: &Engine, head: Head<'_>, requirement: Option<&Requirement>) -> bool;

    /// Whether tokens are looked for in the query string. If so, a route must tolerate query parameters it does not
    /// know.
    fn looks_in_query(&self) -> bool;

    /// Takes the token out of a request's URI, where the rules want that, and keeps it among the extensions for
    /// [`Rules::authenticate`]. Returns whether there was one: the answer then needs
    /// [`private_query`](crate::private_query).
    fn take_from_query(&self, uri: &mut Uri, extensions: &mut Extensions) -> bool;

    /// Whether this requirement looks for tokens in the query string, and the query string still has one that
    /// [`Rules::take_from_query`] did not take.
    fn is_in_query(&self, parts: &Parts, requirement: &Requirement) -> bool;

    /// Decides as [`Rules::authenticate`] does, without waiting. `None`, which is what the default always returns, means
    /// that the decision has to wait and [`Rules::authenticate`] is to be asked. Asking this method first saves most
    /// requests an allocation.
    fn authenticate_at_once(
        &self,
        engine: &Engine,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Option<Result<Option<Vouched>, AuthError>> {
        let _ = (engine, parts, requirement);
        None
    }

    /// Lets a request through if it proves what `requirement` demands: token, freshness, the application's own checks,
    /// CSRF, scope. `None` means that the request shows no credential; the caller decides whether it may pass as
    /// nobody.
    ///
    /// # Errors
    /// [`AuthError`]; [`Rules::answer`] turns it into an answer.
    async fn authenticate(
        &self,
        engine: &Engine,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Option<Vouched>, AuthError>;

    /// Whether cookies decide about this request: no other place holds a token, or none at all. Default: no, and then
    /// nothing is renewed in place.
    fn decides_by_cookie(&self, parts: &Parts, requirement: &Requirement) -> bool {
        let _ = (parts, requirement);
        false
    }

    /// Goes on with the login session of a request whose access token is missing or no longer accepted, by the refresh
    /// token in its cookies. All checks of [`Rules::authenticate`] are made. `None`, which is what the default always
    /// returns, means that there is no refresh token.
    ///
    /// # Errors
    /// [`AuthError`]. One with the code `invalid_token` says that the session is over.
    async fn renew_in_place(
        &self,
        engine: &Engine,
        parts: &Parts,
        requirement: &Requirement,
        device: Device,
    ) -> Result<Option<RenewedInPlace>, AuthError> {
        let _ = (engine, parts, requirement, device);
        Ok(None)
    }

    /// Whether the session of an accepted credential is renewed with every request. Default: no.
    fn renews_each_request(&self, authenticated: &Authenticated) -> bool {
        let _ = authenticated;
        false
    }

    /// Checks again that an accepted credential still holds: not expired, not revoked, still accepted by the
    /// application.
    ///
    /// # Errors
    /// [`AuthError`] tells why the credential no longer holds.
    async fn recheck(&self, engine: &Engine, authenticated: &Authenticated) -> Result<(), AuthError>;

    /// Exchanges the refresh token of a request; `in_body` is the token that the route found in the body.
    ///
    /// # Errors
    /// [`AuthError`].
    async fn refresh(
        &self,
        engine: &Engine,
        parts: &Parts,
        in_body: Option<&str>,
        device: Device,
    ) -> Result<Exchanged, AuthError>;

    /// The tokens that a request shows for logging out: in any place, of either token type, expired or not.
    ///
    /// # Errors
    /// [`AuthError`] for a request whose meaning is ambiguous.
    async fn shown(
        &self,
        engine: &Engine,
        parts: &Parts,
        in_body: BodyTokens<'_>,
    ) -> Result<ShownTokens, AuthError>;

    /// Verifies a token of either type in order to end its session; the token's times do not matter. `None` means that
    /// the token is not valid.
    ///
    /// # Errors
    /// [`AuthError`] if nobody can tell at the moment whether the token is valid; the client gets 503.
    async fn verify_for_end(&self, engine: &Engine, token: &str) -> Result<Option<Claims>, AuthError>;

    /// Judges a token that is not part of a request: whether it would be accepted now as a token of its own type.
    /// `kind` gives the type where neither the token nor the rules tell it. A refresh token is not exchanged.
    ///
    /// # Errors
    /// The reason why the token would be refused. One with the code
    /// [`ErrorCode::Unavailable`](crate::ErrorCode::Unavailable) says that nobody can tell at the moment.
    async fn judge(&self, engine: &Engine, token: &str, kind: TokenType) -> Result<Claims, AuthError>;

    /// The name of the algorithm with which a token was signed by a key of these rules. Expired tokens are covered as
    /// well.
    ///
    /// # Errors
    /// The reason why the signature is not proven.
    async fn signature(&self, engine: &Engine, token: &str, kind: TokenType) -> Result<String, BoxError>;

    /// The public keys with which others verify access tokens, as a JWK set.
    fn public_keys(&self, engine: &Engine) -> String;

    /// The error that refuses a valid token whose user is gone or disabled.
    fn user_gone(&self, user: &UserId) -> AuthError;

    /// The answer to a refused request. The log gets the cause; the client gets what the protocol discloses.
    async fn answer(
        &self,
        engine: &Engine,
        parts: &Parts,
        requirement: Option<&Requirement>,
        error: &AuthError,
    ) -> Answer;
}

/// One protocol's cookies: their names, how they are set and forgotten, and the CSRF value beside them.
pub trait CookieRules: fmt::Debug + Send + Sync {
    /// The reason why tokens are not taken from cookies; `None` if they are.
    fn why_not(&self) -> Option<&'static str>;

    /// The name of a cookie; `None` if this cookie is not read.
    fn name(&self, kind: CookieKind) -> Option<&str>;

    /// The path of a cookie.
    fn path(&self, kind: CookieKind) -> &str {
        let _ = kind;
        "/"
    }

    /// Whether a browser that another site sends here brings another cookie of the session, when it withholds the
    /// refresh token. Default: no.
    fn shows_session(&self) -> bool {
        false
    }

    /// Whether the cookies are `Secure`, so that they travel over https only.
    fn are_secure(&self) -> bool;

    /// The name of the cookie by which a browser is recognised at its next login; `None`, the default, if these rules
    /// set none.
    fn device(&self) -> Option<&str> {
        None
    }

    /// The `Set-Cookie` fields of a pair.
    ///
    /// # Errors
    /// [`CookieError`] if a token cannot be set as a cookie.
    fn set(&self, pair: &Pair, now: Timestamp) -> Result<Vec<HeaderValue>, CookieError>;

    /// The `Set-Cookie` fields of an access token without a refresh token. The refresh token's cookies stay unchanged.
    ///
    /// # Errors
    /// [`CookieError`] if the token cannot be set as a cookie.
    fn set_access(&self, renewed: &Renewed, now: Timestamp) -> Result<Vec<HeaderValue>, CookieError>;

    /// The `Set-Cookie` fields that make a browser forget all of these cookies.
    fn forget(&self) -> Vec<HeaderValue>;

    /// The `Set-Cookie` fields that make a browser forget both copies of a cookie that came twice.
    fn forget_repeated(&self) -> Vec<HeaderValue>;

    /// Whether a token from a cookie needs its CSRF value in a request with this method.
    fn needs_csrf(&self, engine: &Engine, method: &Method) -> bool;

    /// Checks the CSRF value of a request whose new session would replace the sessions of the cookies that it carries.
    ///
    /// # Errors
    /// [`AuthError::Csrf`].
    fn check_carried(
        &self,
        engine: &Engine,
        parts: &Parts,
        carried: &[(CookieKind, Claims)],
    ) -> Result<(), AuthError>;

    /// Whether a `Set-Cookie` field sets one of these cookies.
    fn is_set(&self, field: &[u8]) -> bool {
        let names = [CookieKind::Access, CookieKind::Refresh, CookieKind::Csrf];
        names
            .into_iter()
            .filter_map(|kind| self.name(kind))
            .any(|name| field.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'=')))
    }

    /// Whether a request carries one of the token cookies.
    fn are_carried(&self, headers: &HeaderMap) -> bool {
        carried(self, headers, |lookup| lookup != CookieLookup::Absent)
    }

    /// Whether one of the token cookies came twice.
    fn are_repeated(&self, headers: &HeaderMap) -> bool {
        carried(self, headers, |lookup| lookup == CookieLookup::Repeated)
    }
}

fn carried<C: CookieRules + ?Sized>(
    cookies: &C,
    headers: &HeaderMap,
    is: impl Fn(CookieLookup<'_>) -> bool,
) -> bool {
    let mut names =
        [CookieKind::Access, CookieKind::Refresh].into_iter().filter_map(|kind| cookies.name(kind));
    names.any(|name| is(find_cookie(headers, name)))
}

/// The options of a protocol's rules, as [`AuthBuilder::rules`](crate::AuthBuilder::rules) takes them.
#[async_trait]
pub trait RulesBuilder: fmt::Debug + Send {
    /// Checks the options and reads the keys.
    ///
    /// # Errors
    /// The option that cannot be used, and how to correct it.
    async fn check(
        self: Box<Self>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Box<dyn CheckedRules>, BoxError>;
}

/// Rules whose options have been checked, before there are sessions. They tell what the sessions must know of them.
pub trait CheckedRules: fmt::Debug + Send {
    /// The name of the rules, the same as [`Rules::name`].
    fn name(&self) -> &'static str;

    /// The format of the sessions' tokens, where the rules decide it instead of Countersign. Such tokens do not name
    /// Countersign's issuer.
    fn token_format(&self) -> Option<Arc<dyn TokenFormat>>;

    /// The session policy with the lifetimes that the rules decide put in place of the given ones.
    fn policy(&self, policy: SessionPolicy) -> SessionPolicy;

    /// The login sessions that the rules decide; `None`, the default, if they leave them to
    /// [`AuthBuilder::login_sessions`](crate::AuthBuilder::login_sessions).
    fn login_sessions(&self) -> Option<LoginSessions> {
        None
    }

    /// Whether the rules can load the program's users themselves.
    fn know_users(&self) -> bool;

    /// Makes the rules work with an engine.
    fn over(self: Box<Self>, engine: &Engine) -> Arc<dyn Rules>;
}

/// A credential that rules vouch for: it has passed every check of [`Rules::authenticate`]. Only an
/// [`Auth`](crate::Auth) makes an [`Authenticated`] of it.
#[derive(Clone)]
pub struct Vouched {
    /// The verified claims.
    pub claims: Claims,
    /// The place in the request where the credential was found.
    pub location: Location,
    /// The user that the rules have already loaded, if they do that themselves.
    pub user: Option<FoundUser>,
    /// What the rules need again in [`Rules::recheck`], as a type that they define.
    pub proof: Option<Arc<dyn Any + Send + Sync>>,
}

impl fmt::Debug for Vouched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vouched").field("location", &self.location).finish_non_exhaustive()
    }
}

/// The parts of a request that tell whether its body is needed.
#[derive(Clone, Copy, Debug)]
pub struct Head<'r> {
    /// The request's method.
    pub method: &'r Method,
    /// The request's URI.
    pub uri: &'r Uri,
    /// The request's headers.
    pub headers: &'r HeaderMap,
}

impl<'r> From<&'r Parts> for Head<'r> {
    fn from(Parts { method, uri, headers, .. }: &'r Parts) -> Self {
        Self { method, uri, headers }
    }
}

impl<'r, B> From<&'r Request<B>> for Head<'r> {
    fn from(request: &'r Request<B>) -> Self {
        Self { method: request.method(), uri: request.uri(), headers: request.headers() }
    }
}

/// A login session that goes on in place.
#[derive(Clone, Debug)]
pub struct RenewedInPlace {
    /// The access token that the session goes on with.
    pub vouched: Vouched,
    /// The renewal, which the answer commits.
    pub renewal: Renewal,
}

/// The result of a refresh.
#[derive(Debug)]
pub struct Exchanged {
    /// The tokens that were issued.
    pub tokens: NewTokens,
    /// The place in the request where the refresh token was found.
    pub location: Location,
}

/// The tokens that a refresh issues.
#[derive(Debug)]
pub enum NewTokens {
    /// A new pair, and the user it belongs to. The presented refresh token is used up.
    Pair(Pair, SignedInUser),
    /// A new access token alone. The presented refresh token stays valid.
    Access(Renewed),
}

/// The tokens that a logout route found in the request's body.
#[derive(Clone, Copy, Debug, Default)]
pub struct BodyTokens<'r> {
    /// The member `refresh_token` of the body.
    pub refresh: Option<&'r str>,
    /// The member `access_token` of the body.
    pub access: Option<&'r str>,
}

/// The tokens that a request shows for logging out.
#[derive(Debug)]
pub struct ShownTokens {
    /// The claims of the tokens whose signature holds.
    pub tokens: Vec<Claims>,
    /// The reason why another token was refused. Of several reasons it is the one whose answer helps the client most.
    pub refusal: Option<AuthError>,
    /// Whether the browser may forget its cookies: no valid token came in a cookie without its CSRF value.
    pub cookies_proven: bool,
}

impl Default for ShownTokens {
    /// A request that shows no token.
    fn default() -> Self {
        Self { tokens: Vec::new(), refusal: None, cookies_proven: true }
    }
}

/// Why a logout ended no session. The enum is complete: each variant has an answer of its own.
#[derive(Debug, thiserror::Error)]
pub enum LogOutError {
    /// The request showed no token whose signature holds.
    #[error(transparent)]
    Refused(#[from] AuthError),
    /// The tokens are genuine, but their sessions are past their absolute expiry and gone from the store.
    #[error("the token's session has passed its absolute expiry")]
    Gone,
    /// The store could not answer.
    #[error(transparent)]
    End(#[from] EndError),
}
