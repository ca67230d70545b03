//! The manners of a protocol: where its credentials travel, which cookies it sets and clears, what a refresh hands out,
//! and what an error looks like.
//!
//! [`Rules`] is the seam between these manners and the [`Engine`]. An [`Auth`](crate::Auth) holds one implementation
//! and asks nobody which one it is: Countersign's own rules, or those that [`AuthBuilder::rules`](crate::AuthBuilder::rules)
//! was given. Rules of one's own come in three steps:
//!
//! | type | is |
//! |---|---|
//! | [`RulesBuilder`] | options, not yet checked |
//! | [`CheckedRules`] | rules whose options and keys are good: they say which tokens the sessions issue |
//! | [`Rules`] | rules over an engine, which decide about requests |
//!
//! [`Gate`] is for protocols that let requests through without any sessions.

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
use crate::requirement::Requirement;
use crate::users::{FoundUser, SignedInUser};

/// One protocol's manners over the [`Engine`]. Shared as `Arc<dyn Rules>`.
///
/// Every method that decides about a credential also asks the engine's sessions and the application's checks
/// ([`Engine::ask_application`]).
#[async_trait]
pub trait Rules: Any + fmt::Debug + Send + Sync {
    /// What the rules are called in the settings that a store's programs agree on. Never changes: stores keep it.
    fn name(&self) -> &'static str;

    /// The cookies.
    fn cookies(&self) -> &dyn CookieRules;

    /// Whether credentials of such a request may be in its body, so that [`Rules::authenticate`] needs it among the
    /// request's extensions, as [`BufferedBody`](crate::BufferedBody). Without a requirement: for any route.
    fn wants_body(&self, engine: &Engine, head: Head<'_>, requirement: Option<&Requirement>) -> bool;

    /// Whether tokens are looked for in the query string, so that its other parameters are not a route's to judge.
    fn looks_in_query(&self) -> bool;

    /// Takes the token out of a request's URI, where the rules want that, for [`Rules::authenticate`] to find among the
    /// extensions. Whether there was one: the answer then needs [`private_query`](crate::private_query).
    fn take_from_query(&self, uri: &mut Uri, extensions: &mut Extensions) -> bool;

    /// Whether this requirement looks at the query string, and this one has a token that
    /// [`Rules::take_from_query`] does not know of.
    fn is_in_query(&self, parts: &Parts, requirement: &Requirement) -> bool;

    /// Decides as [`Rules::authenticate`] does where nothing is to be waited for. `None` where it has to be asked, which is
    /// what rules answer that always wait. Whoever asks it first saves the usual request an allocation.
    fn authenticate_at_once(
        &self,
        engine: &Engine,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Option<Result<Option<Vouched>, AuthError>> {
        let _ = (engine, parts, requirement);
        None
    }

    /// Lets a request through if it proves what is required: token, freshness, the application's own checks, CSRF,
    /// scope. `None`: it shows no credential, and whether it may pass as nobody is for the caller to say.
    ///
    /// # Errors
    /// [`AuthError`]; [`Rules::answer`] turns it into an answer.
    async fn authenticate(
        &self,
        engine: &Engine,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Option<Vouched>, AuthError>;

    /// Asks once more whether what was authenticated still holds: not expired, not revoked, accepted by the application.
    ///
    /// # Errors
    /// [`AuthError`] says why not.
    async fn recheck(&self, engine: &Engine, authenticated: &Authenticated) -> Result<(), AuthError>;

    /// Exchanges the refresh token of a request; `in_body` is what the route found in the body.
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

    /// The tokens that a request shows for logging out, in whatever place, of either kind, expired or not.
    ///
    /// # Errors
    /// [`AuthError`] for a request whose meaning is anybody's guess.
    async fn shown(
        &self,
        engine: &Engine,
        parts: &Parts,
        in_body: BodyTokens<'_>,
    ) -> Result<ShownTokens, AuthError>;

    /// Verifies a token of either kind for ending its session, whatever its times.
    async fn verify_for_end(&self, engine: &Engine, token: &str) -> Option<Claims>;

    /// Whether a token that is no part of a request would be accepted now for its own kind, which `kind` tells where
    /// nothing else does. A refresh token is not exchanged.
    ///
    /// # Errors
    /// Why it would not.
    async fn judge(&self, engine: &Engine, token: &str, kind: TokenType) -> Result<Claims, BoxError>;

    /// The name of the algorithm with which a token is signed with a key of these rules; of an expired token as well.
    ///
    /// # Errors
    /// Why that is not proven.
    async fn signature(&self, engine: &Engine, token: &str, kind: TokenType) -> Result<String, BoxError>;

    /// The public keys with which others verify access tokens, as a JWK set.
    fn public_keys(&self, engine: &Engine) -> String;

    /// What refuses a good token whose user is gone or disabled.
    fn user_gone(&self, user: &UserId) -> AuthError;

    /// The answer to a request that was not let through. The log learns the cause, the client what the protocol tells.
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
    /// Why tokens are not taken from cookies; `None` if they are.
    fn why_not(&self) -> Option<&'static str>;

    /// The name of a cookie; `None` if it is not looked at.
    fn name(&self, kind: CookieKind) -> Option<&str>;

    /// Whether they travel over https alone, whatever the program's URL is.
    fn are_secure(&self) -> bool;

    /// The `Set-Cookie` fields of a pair.
    ///
    /// # Errors
    /// [`CookieError`] if a token cannot be a cookie.
    fn set(&self, pair: &Pair, now: Timestamp) -> Result<Vec<HeaderValue>, CookieError>;

    /// The fields of an access token alone; the refresh token's cookies stay as they are.
    ///
    /// # Errors
    /// [`CookieError`] if it cannot be a cookie.
    fn set_access(&self, renewed: &Renewed, now: Timestamp) -> Result<Vec<HeaderValue>, CookieError>;

    /// The fields that make a browser forget all of them.
    fn forget(&self) -> Vec<HeaderValue>;

    /// The fields that make a browser forget both copies of a cookie that came twice.
    fn forget_repeated(&self) -> Vec<HeaderValue>;

    /// Whether a token from a cookie needs its CSRF value in a request with this method.
    fn needs_csrf(&self, engine: &Engine, method: &Method) -> bool;

    /// Checks the CSRF value of a request that wants to take the place of these sessions, whose cookies it carries.
    ///
    /// # Errors
    /// [`AuthError::Csrf`].
    fn check_carried(
        &self,
        engine: &Engine,
        parts: &Parts,
        carried: &[(CookieKind, Claims)],
    ) -> Result<(), AuthError>;

    /// Whether a request carries one of the tokens' cookies.
    fn are_carried(&self, headers: &HeaderMap) -> bool {
        carried(self, headers, |lookup| lookup != CookieLookup::Absent)
    }

    /// Whether one of the tokens' cookies came twice.
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

/// Options of rules, as [`AuthBuilder::rules`](crate::AuthBuilder::rules) takes them.
#[async_trait]
pub trait RulesBuilder: fmt::Debug + Send {
    /// Checks the options and reads the keys.
    ///
    /// # Errors
    /// What cannot be used, and how to mend it.
    async fn check(
        self: Box<Self>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Box<dyn CheckedRules>, BoxError>;
}

/// Rules whose options are good, before there are sessions: what the sessions must know of them.
pub trait CheckedRules: fmt::Debug + Send {
    /// As [`Rules::name`].
    fn name(&self) -> &'static str;

    /// What the sessions' tokens say, where that is not for Countersign to say: they then name no issuer of its own.
    fn token_format(&self) -> Option<Arc<dyn TokenFormat>>;

    /// The lifetimes of tokens and sessions, as far as the rules decide them.
    fn policy(&self, policy: SessionPolicy) -> SessionPolicy;

    /// Whether the rules themselves may know the program's users.
    fn know_users(&self) -> bool;

    /// Puts them over an engine.
    fn over(self: Box<Self>, engine: &Engine) -> Arc<dyn Rules>;
}

/// A credential that rules vouch for: it has passed every check of [`Rules::authenticate`]. An
/// [`Auth`](crate::Auth) makes an [`Authenticated`] of it, and nobody else does.
#[derive(Clone)]
pub struct Vouched {
    /// Its claims.
    pub claims: Claims,
    /// Where it was found.
    pub location: Location,
    /// The user that the rules have found themselves.
    pub user: Option<FoundUser>,
    /// What the rules want to see again in [`Rules::recheck`], of a type of theirs.
    pub proof: Option<Arc<dyn Any + Send + Sync>>,
}

impl fmt::Debug for Vouched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vouched").field("location", &self.location).finish_non_exhaustive()
    }
}

/// What tells whether a request's body is needed.
#[derive(Clone, Copy, Debug)]
pub struct Head<'r> {
    /// The method.
    pub method: &'r Method,
    /// The URI.
    pub uri: &'r Uri,
    /// The headers.
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

/// What a refresh hands out.
#[derive(Debug)]
pub struct Exchanged {
    /// The tokens.
    pub tokens: NewTokens,
    /// Where the refresh token was.
    pub location: Location,
}

/// The tokens of a refresh.
#[derive(Debug)]
pub enum NewTokens {
    /// A pair, and whose it is: the refresh token that was presented is used up.
    Pair(Pair, SignedInUser),
    /// An access token: the refresh token that was presented stays good.
    Access(Renewed),
}

/// The tokens that a route for logging out found in the body.
#[derive(Clone, Copy, Debug, Default)]
pub struct BodyTokens<'r> {
    /// The member `refresh_token`.
    pub refresh: Option<&'r str>,
    /// The member `access_token`.
    pub access: Option<&'r str>,
}

/// The tokens that a request shows for logging out.
#[derive(Debug)]
pub struct ShownTokens {
    /// Those that hold.
    pub tokens: Vec<Claims>,
    /// Why another does not: of several reasons, the one whose answer helps the client most.
    pub refusal: Option<AuthError>,
    /// No good cookie came without its CSRF value, so the cookies may be forgotten.
    pub cookies_proven: bool,
}

impl Default for ShownTokens {
    /// Nothing is shown.
    fn default() -> Self {
        Self { tokens: Vec::new(), refusal: None, cookies_proven: true }
    }
}

/// Why a logout did nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogOutError {
    /// No token that holds was shown.
    #[error(transparent)]
    Refused(#[from] AuthError),
    /// The tokens hold, but their sessions are past their absolute expiry and gone.
    #[error("the session is gone")]
    Gone,
    /// The store could not answer.
    #[error(transparent)]
    End(#[from] EndError),
}
