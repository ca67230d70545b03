//! The handle that a program holds: sessions and accounts, and how their tokens travel.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use countersign_core::account::{Accounts, User};
use countersign_core::background::Background;
use countersign_core::session::{AccessError, RefreshError, Sessions};
use countersign_core::store::BoxError;
use countersign_core::{Claims, Clock, UserId};
use http::request::Parts;
use http::{HeaderMap, Method};

use crate::answer::{Answer, ErrorCode};
use crate::cookie::{CookieLookup, find_cookie};
use crate::cookie_config::{CookieConfig, CookieKind};
use crate::csrf::{CsrfError, check_csrf, is_unsafe};
use crate::locate::{LocateError, Location, Locator};
use crate::origin::{CrossSite, CrossSiteCheck};
use crate::requirement::{RequiredToken, Requirement};

/// Authentication for one program: cheap to clone, made by [`Auth::builder`](crate::AuthBuilder).
///
/// The whole policy can be had without a framework: [`Auth::authenticate`] takes a request's parts.
#[derive(Clone, Debug)]
pub struct Auth {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) accounts: Accounts,
    pub(crate) cookies: CookieConfig,
    pub(crate) access: Locator,
    pub(crate) refresh: Locator,
    pub(crate) cross_site: CrossSiteCheck,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) loaders: UserLoaders,
    pub(crate) _background: Option<Background>,
}

/// A credential that was accepted.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// Its claims.
    pub claims: Claims,
    /// Where it was found.
    pub location: Location,
}

/// Why a request was not let through.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// No credential.
    #[error("the request carries no token")]
    Missing,
    /// There is one, but not as it must be.
    #[error(transparent)]
    Locate(#[from] LocateError),
    /// The token is not accepted, or nobody can say.
    #[error(transparent)]
    Token(#[from] AccessError),
    /// The refresh token is not accepted, or nobody can say.
    #[error(transparent)]
    Refresh(#[from] RefreshError),
    /// The token comes from a refresh, not from a login.
    #[error("the token is not fresh")]
    NotFresh,
    /// A request with our cookies, sent on another site's behalf.
    #[error(
        "the request comes from an origin that is neither our own nor an allowed one (COUNTERSIGN_ALLOWED_ORIGINS, \
         AuthBuilder::allowed_origins)"
    )]
    CrossSite,
    /// A request that a cookie authenticates, without its CSRF value.
    #[error(transparent)]
    Csrf(#[from] CsrfError),
    /// The token is good, but its user is gone or disabled.
    #[error("the token's user is gone or disabled")]
    UserGone,
    /// The user could not be loaded.
    #[error("the user could not be loaded")]
    LoadUser(#[source] BoxError),
    /// The program asks for a type of user that it has not said how to load.
    #[error("no user loader for {0}; add `.user_loader(…)` to the AuthBuilder")]
    NoUserLoader(&'static str),
}

impl AuthError {
    /// What the client learns of it.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Missing => ErrorCode::MissingToken,
            Self::Locate(error) => (*error).into(),
            Self::Token(AccessError::ViewTooOld(_)) | Self::LoadUser(_) => ErrorCode::Unavailable,
            Self::Refresh(RefreshError::Store(_) | RefreshError::Contended) => ErrorCode::Unavailable,
            Self::Refresh(RefreshError::Sign(_)) => ErrorCode::InternalError,
            Self::Token(_) | Self::Refresh(_) | Self::UserGone => ErrorCode::InvalidToken,
            Self::NotFresh => ErrorCode::FreshTokenRequired,
            Self::CrossSite => ErrorCode::CrossSite,
            Self::Csrf(error) => (*error).into(),
            Self::NoUserLoader(_) => ErrorCode::InternalError,
        }
    }
}

impl Auth {
    /// The sessions.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        self.shared.accounts.sessions()
    }

    /// The accounts.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.shared.accounts
    }

    /// How cookies are named and set.
    #[must_use]
    pub fn cookies(&self) -> &CookieConfig {
        &self.shared.cookies
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        &*self.shared.clock
    }

    /// Where access tokens are looked for.
    #[must_use]
    pub fn access_locator(&self) -> &Locator {
        &self.shared.access
    }

    /// Where refresh tokens are looked for.
    #[must_use]
    pub fn refresh_locator(&self) -> &Locator {
        &self.shared.refresh
    }

    /// Lets a request through if it proves what is required: cross-site check, token, freshness, CSRF, in this
    /// order. For access tokens no store call, unless this node's view of the revocation log has grown too old.
    ///
    /// # Errors
    /// [`AuthError`]; [`Auth::answer`] turns it into an answer.
    pub async fn authenticate(
        &self,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Authenticated, AuthError> {
        self.authenticate_optional(parts, requirement).await?.ok_or(AuthError::Missing)
    }

    /// As [`Auth::authenticate`], but a request without any credential is let through with `None`. A credential
    /// that is not accepted is refused all the same.
    ///
    /// # Errors
    /// [`AuthError`], never [`AuthError::Missing`].
    pub async fn authenticate_optional(
        &self,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Option<Authenticated>, AuthError> {
        self.check_cross_site(parts)?;
        let locator = match requirement.token {
            RequiredToken::Access | RequiredToken::Any => &self.shared.access,
            RequiredToken::Refresh => &self.shared.refresh,
        };
        let Some(located) = locator.locate(&parts.headers, None)? else { return Ok(None) };
        let claims = match requirement.token {
            RequiredToken::Access | RequiredToken::Any => self.sessions().authenticate(located.token).await?,
            RequiredToken::Refresh => self.sessions().authenticate_refresh(located.token).await?,
        };
        if requirement.fresh && !claims.freshness().is_fresh(self.clock().now()) {
            return Err(AuthError::NotFresh);
        }
        if located.needs_csrf(&parts.method) {
            Self::check_csrf(&parts.headers, &claims)?;
        }
        Ok(Some(Authenticated { claims, location: located.location }))
    }

    /// Whether credentials of such a request may be in its body, so that [`Auth::authenticate`] needs it among the
    /// request's extensions, as [`BufferedBody`](crate::BufferedBody).
    #[must_use]
    pub fn wants_body(&self, _method: &Method, _headers: &HeaderMap) -> bool {
        false
    }

    /// Refuses an unsafe request that carries our cookies and was sent on another site's behalf (SEC-068).
    ///
    /// # Errors
    /// [`AuthError::CrossSite`].
    pub fn check_cross_site(&self, parts: &Parts) -> Result<(), AuthError> {
        if !is_unsafe(&parts.method) || !self.carries_cookies(&parts.headers) {
            return Ok(());
        }
        match self.cross_site(parts) {
            CrossSite::Foreign => Err(AuthError::CrossSite),
            CrossSite::Passes | CrossSite::Unknown => Ok(()),
        }
    }

    /// Whether the request comes from another site, whatever it carries.
    #[must_use]
    pub fn cross_site(&self, parts: &Parts) -> CrossSite {
        self.shared.cross_site.check(&parts.method, &parts.uri, &parts.headers)
    }

    /// Whether the request carries one of our token cookies.
    #[must_use]
    pub fn carries_cookies(&self, headers: &HeaderMap) -> bool {
        [CookieKind::Access, CookieKind::Refresh]
            .into_iter()
            .any(|kind| !matches!(find_cookie(headers, self.shared.cookies.name(kind)), CookieLookup::Absent))
    }

    /// Checks the request's CSRF value against the one that a token from a cookie is bound to (SEC-067).
    ///
    /// # Errors
    /// [`AuthError::Csrf`]; a token that was not issued for cookies has no value and is never enough.
    pub fn check_csrf(headers: &HeaderMap, claims: &Claims) -> Result<(), AuthError> {
        let expected = claims.csrf().ok_or(CsrfError::Missing)?;
        Ok(check_csrf(headers, expected)?)
    }

    /// Whether a token needs its CSRF value in a request with this method.
    #[must_use]
    pub fn needs_csrf(method: &Method, location: Location) -> bool {
        location == Location::Cookie && is_unsafe(method)
    }

    /// Loads the user of verified claims, as the program has said for this type.
    ///
    /// # Errors
    /// [`AuthError::UserGone`] (401) if there is none, [`AuthError::LoadUser`] (503) if nobody can say,
    /// [`AuthError::NoUserLoader`] (500) if the program has not said how.
    pub async fn load_user<U: Send + 'static>(&self, claims: &Claims) -> Result<U, AuthError> {
        let loader = self.shared.loaders.get::<U>().ok_or(AuthError::NoUserLoader(type_name::<U>()))?;
        loader(claims.subject().clone()).await.map_err(AuthError::LoadUser)?.ok_or(AuthError::UserGone)
    }

    /// The answer to `GET /.well-known/jwks.json`: the public keys with which others verify our access tokens
    /// (RFC 7517 §5). Caches may keep it for five minutes.
    #[must_use]
    pub fn jwks(&self) -> Answer {
        Answer::jwk_set(self.sessions().public_keys())
    }

    /// The answer to a request that was not let through. The log learns the cause, the client a standard code.
    #[must_use]
    pub fn answer(&self, error: &AuthError) -> Answer {
        let code = error.code();
        let cause = error as &dyn std::error::Error;
        if code.status().is_server_error() {
            tracing::error!(code = code.as_str(), error = cause, "a request could not be authenticated");
        } else {
            tracing::info!(code = code.as_str(), error = cause, "a request was not let through");
        }
        match error {
            AuthError::Locate(error) => Answer::refused_credential(*error, &self.shared.cookies),
            _ => Answer::error(code),
        }
    }
}

/// How a type of user is loaded by its id.
pub(crate) type UserLoader<U> =
    Arc<dyn Fn(UserId) -> Pin<Box<dyn Future<Output = Result<Option<U>, BoxError>> + Send>> + Send + Sync>;

/// One loader for each type of user that the program has.
#[derive(Clone, Default)]
pub(crate) struct UserLoaders(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl UserLoaders {
    pub(crate) fn insert<U: 'static>(&mut self, loader: UserLoader<U>) {
        self.0.insert(TypeId::of::<U>(), Arc::new(loader));
    }

    pub(crate) fn contains<U: 'static>(&self) -> bool {
        self.0.contains_key(&TypeId::of::<U>())
    }

    fn get<U: 'static>(&self) -> Option<&UserLoader<U>> {
        self.0.get(&TypeId::of::<U>())?.downcast_ref()
    }

    /// Countersign's own accounts load themselves, unless the program says otherwise.
    pub(crate) fn with_accounts(mut self, accounts: &Accounts) -> Self {
        if !self.contains::<User>() {
            let accounts = accounts.clone();
            self.insert::<User>(Arc::new(move |id| {
                let accounts = accounts.clone();
                Box::pin(async move { Ok(accounts.enabled_user(&id).await?) })
            }));
        }
        self
    }
}

impl fmt::Debug for UserLoaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserLoaders({})", self.0.len())
    }
}
