//! The handle that a program holds: sessions and accounts, and how their tokens travel.

use std::borrow::Cow;
use std::sync::Arc;

use countersign_core::flow::{
    Accounts, Background, Check, CheckError, ExtraClaimsError, Refresh, RefreshError, Sessions,
};
use countersign_core::model::{Device, Refusal};
use countersign_core::profile::ProfileClaims;
use countersign_core::store::{BoxError, UserStore};
use countersign_jwt::{Claims, Clock, Timestamp, TokenType, VerifyError};
use http::request::Parts;
use http::{Extensions, HeaderMap, Method, Uri, header};

use crate::answer::{Answer, ErrorCode};
use crate::buffered::BufferedBody;
use crate::cookie::{CookieLookup, find_cookie};
use crate::cookie_config::{CookieConfig, CookieKind};
use crate::csrf::{CsrfError, CsrfMode, CsrfRules};
use crate::encoding::ContentEncoding;
use crate::form;
use crate::handshake::is_handshake;
use crate::hooks::Hooks;
use crate::locate::{Elsewhere, LocateError, Location, Locator};
use crate::origin::{CrossSite, CrossSiteCheck};
use crate::profile::{FlaskJwt, HookedUser, ProfileToken, Renewal, Served, ShownTokens};
use crate::requirement::{Optional, RequiredToken, Requirement};
use crate::users::UserLoaders;

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
    pub(crate) users: Arc<dyn UserStore>,
    pub(crate) cookies: CookieConfig,
    pub(crate) access: Locator,
    pub(crate) refresh: Locator,
    /// Whether requests may prove a refresh token in their body anywhere, not at the routes for that alone.
    pub(crate) refresh_in_body: bool,
    pub(crate) cross_site: CrossSiteCheck,
    pub(crate) csrf: CsrfRules,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) loaders: UserLoaders,
    pub(crate) hooks: Hooks,
    /// Another library's rules for tokens, in place of ours.
    pub(crate) profile: Option<Served>,
    pub(crate) _background: Option<Background>,
}

/// A credential that was accepted, by [`Auth::authenticate`] and nothing else: if it came in a cookie of an unsafe
/// request, its CSRF value came too.
#[derive(Clone, Debug)]
pub struct Authenticated {
    claims: Claims,
    location: Location,
    by_profile: Option<ByProfile>,
}

/// What a profile knows of a token that it has accepted.
#[derive(Clone, Debug)]
struct ByProfile {
    /// The same claims as it has verified them.
    verified: ProfileClaims,
    /// The user that the application's hook has found.
    user: Option<HookedUser>,
}

/// The token that was taken out of a request's URI, so that neither logs nor handlers see it there.
#[derive(Clone)]
struct TakenFromQuery(Result<String, LocateError>);

impl Authenticated {
    /// Its claims.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Its claims.
    #[must_use]
    pub fn into_claims(self) -> Claims {
        self.claims
    }

    /// Where it was found.
    #[must_use]
    pub fn location(&self) -> Location {
        self.location
    }

    pub(crate) fn hooked_user(&self) -> Option<&HookedUser> {
        self.by_profile.as_ref()?.user.as_ref()
    }

    /// Until when it is good. What outlives the request, such as a WebSocket, ends then at the latest;
    /// [`Auth::recheck`] tells whether it ended before.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.claims.expires_at().unwrap_or(Timestamp::MIN)
    }
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
    Token(#[from] CheckError),
    /// The refresh token is not accepted, or nobody can say.
    #[error(transparent)]
    Refresh(#[from] RefreshError),
    /// The token comes from a refresh, not from a login.
    #[error("the token is not fresh")]
    NotFresh,
    /// The token does not permit this request.
    #[error("the token lacks {lacks}")]
    InsufficientScope {
        /// What the requirement names and the token has not.
        lacks: String,
        /// The scope that the requirement names, if it names one.
        scope: Option<String>,
    },
    /// The application says that the token was revoked.
    #[error("the application has revoked the token")]
    RevokedByApplication,
    /// The application does not accept the token's claims.
    #[error("the application does not accept the token's claims")]
    RefusedByApplication,
    /// The application could not say.
    #[error("the application could not say whether the token is good")]
    AskApplication(#[source] BoxError),
    /// A request with our cookies, sent on another site's behalf.
    #[error(
        "the request comes from an origin that is neither our own nor an allowed one (COUNTERSIGN_ALLOWED_ORIGINS, \
         AuthBuilder::allowed_origins)"
    )]
    CrossSite,
    /// Cookies that are not `Secure` were to be set under a name that is not this machine's own.
    #[error(
        "cookies would go out without `Secure`: without a public URL they are those of a loopback address, but the \
         request was sent to another host name; set COUNTERSIGN_PUBLIC_URL (AuthBuilder::public_url) to the https URL \
         under which users reach the service"
    )]
    InsecureCookies,
    /// A request that a cookie authenticates, without its CSRF value.
    #[error(transparent)]
    Csrf(#[from] CsrfError),
    /// What the request must show is looked for in its body, which is compressed.
    #[error("the body is encoded with {0}, and is read as it is alone")]
    EncodedBody(ContentEncoding),
    /// The token is good, but its user is gone or disabled.
    #[error("the token's user is gone or disabled")]
    UserGone,
    /// The user could not be loaded.
    #[error("the user could not be loaded")]
    LoadUser(#[source] BoxError),
    /// The profile does not accept the token, and has its own answer.
    #[error("the profile does not accept the token")]
    Profile(Box<Answer>),
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
            Self::Token(CheckError::ViewTooOld(_) | CheckError::Store(_))
            | Self::LoadUser(_)
            | Self::AskApplication(_) => ErrorCode::Unavailable,
            Self::Refresh(
                RefreshError::Store(_)
                | RefreshError::ViewTooOld(_)
                | RefreshError::Contended
                | RefreshError::ExtraClaims(ExtraClaimsError::Ask(_)),
            ) => ErrorCode::Unavailable,
            Self::Refresh(RefreshError::Sign(_) | RefreshError::ExtraClaims(_)) => ErrorCode::InternalError,
            Self::Token(_)
            | Self::Refresh(_)
            | Self::UserGone
            | Self::RevokedByApplication
            | Self::RefusedByApplication => ErrorCode::InvalidToken,
            Self::Profile(_) => ErrorCode::InvalidToken,
            Self::InsufficientScope { .. } => ErrorCode::InsufficientScope,
            Self::NotFresh => ErrorCode::FreshTokenRequired,
            Self::CrossSite => ErrorCode::CrossSite,
            Self::InsecureCookies => ErrorCode::InsecureCookies,
            Self::EncodedBody(_) => ErrorCode::UnsupportedMediaType,
            Self::Csrf(error) => (*error).into(),
            Self::NoUserLoader(_) => ErrorCode::InternalError,
        }
    }
}

impl From<Answer> for AuthError {
    fn from(answer: Answer) -> Self {
        Self::Profile(Box::new(answer))
    }
}

impl AuthError {
    fn is_expired(&self) -> bool {
        matches!(
            self,
            Self::Token(CheckError::Invalid(VerifyError::Expired))
                | Self::Refresh(RefreshError::Invalid(VerifyError::Expired))
        )
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

    /// Lets a request through if it proves what is required: cross-site check, token, freshness, the application's own
    /// checks, CSRF, scope, in this order. For access tokens no store call, unless this node's view of the revocation
    /// log has grown too old.
    ///
    /// Needs nothing but a request's head, so it serves WebSocket upgrades and other frameworks as well. Tokens and
    /// CSRF values in a body are found if [`BufferedBody`](crate::BufferedBody) is among the head's extensions.
    ///
    /// # Errors
    /// [`AuthError`]; [`Auth::refuse`] turns it into an answer. [`AuthError::Missing`] also where an
    /// [optional](Requirement::optional) requirement lets a request pass as nobody.
    pub async fn authenticate(
        &self,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Authenticated, AuthError> {
        self.find(parts, requirement).await?.ok_or(AuthError::Missing)
    }

    /// As [`Auth::authenticate`], but a request that may pass as nobody is let through with `None`: if the requirement
    /// is [optional](Requirement::optional).
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn authenticate_optional(
        &self,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Option<Authenticated>, AuthError> {
        match self.find(parts, requirement).await? {
            None if !requirement.is_optional() => Err(AuthError::Missing),
            found => Ok(found),
        }
    }

    async fn find(
        &self,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Option<Authenticated>, AuthError> {
        self.check_cross_site(parts)?;
        if let Some(profile) = &self.shared.profile {
            return Box::pin(self.find_by_profile(profile, parts, requirement)).await;
        }
        let (locator, order) = self.places(requirement);
        let in_query = if Self::looks_in_query(requirement, order) { self.in_query(parts)? } else { None };
        let in_body = self.in_body(parts, locator, requirement);
        let elsewhere = Elsewhere { query: in_query.as_deref(), body: in_body.as_deref() };
        let Some(located) = locator.locate_in(order, &parts.headers, elsewhere)? else {
            if let Some(encoding) = self.hidden_in_body(parts, requirement) {
                return Err(AuthError::EncodedBody(encoding));
            }
            let other_scheme = parts.headers.contains_key(header::AUTHORIZATION);
            if other_scheme && requirement.optional == Some(Optional::IfNoCredential) {
                return Err(LocateError::NotAToken(Location::Header).into());
            }
            return Ok(None);
        };
        let claims = match self.verify(located.token, requirement).await {
            Err(error) if error.is_expired() && requirement.optional == Some(Optional::IfAbsentOrExpired) => {
                return Ok(None);
            }
            verified => verified?,
        };
        // Refresh tokens are good for weeks, so none is taken from a URL, whatever the route accepts.
        if located.location == Location::Query && claims.token_type() == TokenType::Refresh {
            return Err(LocateError::NotAToken(Location::Query).into());
        }
        if requirement.fresh && !claims.freshness().is_fresh(self.clock().now()) {
            return Err(AuthError::NotFresh);
        }
        self.ask_application(&claims, requirement.skip_revocation).await?;
        if located.location == Location::Cookie {
            self.check_beside_cookie(parts, &claims)?;
        }
        requirement.check_permitted(&claims)?;
        self.sessions().verification().note_use(&claims);
        Ok(Some(Authenticated { claims, location: located.location, by_profile: None }))
    }

    async fn find_by_profile(
        &self,
        profile: &Served,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Option<Authenticated>, AuthError> {
        let found = profile.profile().authenticate(parts, requirement).await?;
        match found {
            Some(token) => self.accepted(profile, token, requirement.skip_revocation).await.map(Some),
            None => Ok(None),
        }
    }

    /// A token that a profile has accepted, judged by the application's checks of all tokens as well.
    async fn accepted(
        &self,
        profile: &Served,
        token: ProfileToken,
        skip_revocation: bool,
    ) -> Result<Authenticated, AuthError> {
        let claims = profile.claims(&token)?;
        self.ask_application(&claims, skip_revocation).await?;
        let by_profile = ByProfile { verified: token.verified, user: token.user };
        Ok(Authenticated { claims, location: token.location, by_profile: Some(by_profile) })
    }

    /// Whether another library's rules hold for tokens, as [`AuthBuilder::profile`](crate::AuthBuilder::profile) says.
    #[must_use]
    pub fn has_profile(&self) -> bool {
        self.shared.profile.is_some()
    }

    /// Flask-JWT, if that is the profile: its login endpoint is to be served.
    #[must_use]
    pub fn flask_jwt(&self) -> Option<&FlaskJwt> {
        self.shared.profile.as_ref()?.flask_jwt()
    }

    /// Exchanges a refresh token by the profile's rules for an access token; `None` where no profile has its own.
    /// `in_body` is what the route found in the body.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn renew(
        &self,
        parts: &Parts,
        in_body: Option<&str>,
        device: Device,
    ) -> Option<Result<Renewal, AuthError>> {
        let profile = self.shared.profile.as_ref()?;
        Some(self.renew_by_profile(profile, parts, in_body, device).await)
    }

    async fn renew_by_profile(
        &self,
        profile: &Served,
        parts: &Parts,
        in_body: Option<&str>,
        device: Device,
    ) -> Result<Renewal, AuthError> {
        let in_body = in_body.filter(|token| !token.is_empty());
        let token = profile.refresh_token(parts, in_body).await?;
        if token.location == Location::Cookie {
            self.check_cookie_host(parts)?;
        }
        let caller = self.accepted(profile, token, false).await?;
        // Asked first: a token of a user that there is not must not get a session.
        self.signed_in_user(&caller).await?;
        match Refresh::of(self.sessions()).renew(&caller.claims, true, device).await {
            Ok(renewed) => Ok(Renewal { renewed, location: caller.location }),
            Err(error) => Err(profile.refused_refresh(error).await.into()),
        }
    }

    /// The tokens that a request shows for logging out, by the profile's rules; `None` where no profile has its own.
    pub async fn shown_by_profile(&self, parts: &Parts, in_body: [Option<&str>; 2]) -> Option<ShownTokens> {
        let in_body = in_body.map(|token| token.filter(|token| !token.is_empty()));
        Some(self.shared.profile.as_ref()?.shown(parts, in_body).await)
    }

    /// Verifies a token of either kind for ending its session, whatever its times.
    pub async fn verify_for_end(&self, token: &str) -> Option<Claims> {
        match &self.shared.profile {
            Some(profile) => profile.verify_for_end(token).await,
            None => self.sessions().verification().verify(token, Check::ENDING).await.ok(),
        }
    }

    /// Whether a token that is no part of a request would be accepted now by the profile's rules and the application's
    /// checks, for its own kind; `None` where no profile has its own. A refresh token is not exchanged.
    pub async fn judge_by_profile(&self, token: &str) -> Option<Result<Claims, BoxError>> {
        let profile = self.shared.profile.as_ref()?;
        Some(self.judged_by(profile, token).await)
    }

    async fn judged_by(&self, profile: &Served, token: &str) -> Result<Claims, BoxError> {
        let verified = profile.decode(token).await?;
        let claims = verified.to_claims().ok_or(
            "its identity can be no user's id here, or it does not name its session as this library does",
        )?;
        let hooked = profile.ask_hooks(&verified).await.map_err(AuthError::from)?;
        self.ask_application(&claims, false).await?;
        match claims.token_type() {
            TokenType::Access => {
                self.sessions().verification().recheck(&claims, Check::ACCESS.even_if_expired()).await?;
            }
            TokenType::Refresh => {
                if self.known_user(claims.subject(), hooked.as_ref()).await?.is_none() {
                    return Err(Refusal::User.into());
                }
                Refresh::of(self.sessions()).check_renewal(&claims).await?;
            }
        }
        Ok(claims)
    }

    /// The name of the algorithm with which a token is signed with the profile's key, or why that is not proven;
    /// `None` where no profile has its own.
    pub async fn signature_by_profile(&self, token: &str) -> Option<Result<String, BoxError>> {
        Some(self.shared.profile.as_ref()?.proves(token).await)
    }

    /// Whether a login can be presented by cookies.
    #[must_use]
    pub fn takes_cookies(&self) -> bool {
        self.shared.profile.as_ref().is_none_or(Served::takes_cookies)
    }

    /// The name of a cookie. A profile has its own, if any.
    #[must_use]
    pub fn cookie_name(&self, kind: CookieKind) -> Option<&str> {
        match &self.shared.profile {
            Some(profile) => profile.cookie_name(kind),
            None => Some(self.shared.cookies.name(kind)),
        }
    }

    async fn verify(&self, token: &str, requirement: &Requirement) -> Result<Claims, AuthError> {
        let check = match requirement.token {
            RequiredToken::Access => Check::ACCESS,
            RequiredToken::Refresh => Check::REFRESH,
            RequiredToken::Any | RequiredToken::AnyAsRefresh => Check::ANY,
        };
        let check = if requirement.skip_revocation { check.even_if_revoked() } else { check };
        Ok(self.sessions().verification().verify(token, check).await?)
    }

    /// Asks once more whether what was authenticated still holds: not expired, not revoked, accepted by the application.
    /// For connections that outlive their request.
    ///
    /// # Errors
    /// [`AuthError`] says why not.
    pub async fn recheck(&self, authenticated: &Authenticated) -> Result<(), AuthError> {
        let claims = &authenticated.claims;
        match claims.token_type() {
            TokenType::Access => self.sessions().verification().recheck(claims, Check::ACCESS).await?,
            TokenType::Refresh if self.clock().now() >= authenticated.expires_at() => {
                return Err(CheckError::from(VerifyError::Expired).into());
            }
            // Asks the store: the index forgets ended sessions long before their refresh tokens expire.
            TokenType::Refresh if self.has_profile() => {
                Refresh::of(self.sessions()).check_renewal(claims).await?
            }
            TokenType::Refresh => {
                let check = Check::REFRESH.even_if_expired();
                self.sessions().verification().recheck(claims, check).await.map_err(RefreshError::from)?;
            }
        }
        if let (Some(profile), Some(by)) = (&self.shared.profile, &authenticated.by_profile) {
            profile.ask_hooks(&by.verified).await?;
        }
        self.ask_application(claims, false).await
    }

    /// The application's own checks of verified claims: whether they are
    /// [revoked](crate::AuthBuilder::is_revoked), and whether it [accepts](crate::AuthBuilder::verify_claims) them.
    ///
    /// # Errors
    /// [`AuthError::RevokedByApplication`], [`AuthError::RefusedByApplication`], [`AuthError::AskApplication`].
    pub async fn ask_application(&self, claims: &Claims, skip_revocation: bool) -> Result<(), AuthError> {
        let Hooks { is_revoked, accepts, .. } = &self.shared.hooks;
        if let Some(is_revoked) = is_revoked
            && !skip_revocation
            && is_revoked(claims.clone()).await.map_err(AuthError::AskApplication)?
        {
            return Err(AuthError::RevokedByApplication);
        }
        match accepts {
            Some(accepts) if !accepts(claims.clone()).await.map_err(AuthError::AskApplication)? => {
                Err(AuthError::RefusedByApplication)
            }
            _ => Ok(()),
        }
    }

    /// Where a requirement's token is looked for.
    fn places<'a>(&'a self, requirement: &'a Requirement) -> (&'a Locator, &'a [Location]) {
        let locator = match requirement.token.is_in_refresh_places() {
            false => &self.shared.access,
            true => &self.shared.refresh,
        };
        (locator, requirement.locations.as_deref().unwrap_or(locator.order()))
    }

    /// Refresh tokens are good for weeks, so they are never taken from a URL.
    fn looks_in_query(requirement: &Requirement, order: &[Location]) -> bool {
        order.contains(&Location::Query) && !requirement.token.is_in_refresh_places()
    }

    fn looks_in_body(&self, requirement: &Requirement) -> bool {
        match &requirement.locations {
            Some(order) => order.contains(&Location::Body),
            None if requirement.token.is_in_refresh_places() => self.shared.refresh_in_body,
            None => self.shared.access.order().contains(&Location::Body),
        }
    }

    fn in_query<'r>(&self, parts: &'r Parts) -> Result<Option<Cow<'r, str>>, LocateError> {
        match parts.extensions.get::<TakenFromQuery>() {
            Some(TakenFromQuery(Ok(token))) => Ok(Some(Cow::Borrowed(token))),
            Some(TakenFromQuery(Err(error))) => Err(*error),
            None => self.shared.access.in_query(&parts.uri),
        }
    }

    /// The encoding of a body that may hold the token.
    fn hidden_in_body(&self, parts: &Parts, requirement: &Requirement) -> Option<ContentEncoding> {
        let may_hold = self.looks_in_body(requirement)
            && Locator::may_be_in_body(&parts.method, &parts.headers)
            && parts.extensions.get::<BufferedBody>().is_some_and(|body| !body.0.is_empty());
        ContentEncoding::of(&parts.headers).filter(|_| may_hold)
    }

    fn in_body(&self, parts: &Parts, locator: &Locator, requirement: &Requirement) -> Option<String> {
        if !self.looks_in_body(requirement) || !Locator::may_be_in_body(&parts.method, &parts.headers) {
            return None;
        }
        locator.in_body(&parts.extensions.get::<BufferedBody>()?.0)
    }

    /// Takes the token out of a request's URI, if tokens may be there, for [`Auth::authenticate`] to find among the
    /// extensions; in the URI `redacted` stands in its place. Whether there was one: the answer then needs
    /// [`private_query`](crate::private_query). A profile leaves it where the Flask application finds it, too.
    pub fn take_from_query(&self, uri: &mut Uri, extensions: &mut Extensions) -> bool {
        // Another layer around this one has done it.
        if extensions.get::<TakenFromQuery>().is_some() {
            return true;
        }
        if let Some(profile) = &self.shared.profile {
            return profile.is_in_query(uri);
        }
        let locator = &self.shared.access;
        if !locator.order().contains(&Location::Query) {
            return false;
        }
        let taken = match locator.in_query(uri) {
            Ok(None) => return false,
            Ok(Some(token)) => Ok(token.into_owned()),
            Err(error) => Err(error),
        };
        extensions.insert(TakenFromQuery(taken));
        // What cannot be written again is left away as a whole.
        let path = || uri.path().parse().unwrap_or_default();
        *uri = locator.redacted(uri).unwrap_or_else(path);
        true
    }

    /// Whether this requirement looks at the query string, and this one has a token.
    #[must_use]
    pub fn is_in_query(&self, parts: &Parts, requirement: &Requirement) -> bool {
        let (_, order) = self.places(requirement);
        Self::looks_in_query(requirement, order) && !matches!(self.in_query(parts), Ok(None))
    }

    /// Whether credentials of such a request may be in its body, so that [`Auth::authenticate`] needs it among the
    /// request's extensions, as [`BufferedBody`](crate::BufferedBody).
    #[must_use]
    pub fn wants_body(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
        if let Some(profile) = &self.shared.profile {
            return profile.wants_body(method, headers);
        }
        let tokens_in_body =
            self.shared.refresh_in_body || self.shared.access.order().contains(&Location::Body);
        tokens_in_body && Locator::may_be_in_body(method, headers) || self.wants_form(method, uri, headers)
    }

    /// The same for one requirement.
    #[must_use]
    pub fn wants_body_for(&self, parts: &Parts, requirement: &Requirement) -> bool {
        let Parts { method, uri, headers, .. } = parts;
        if let Some(profile) = &self.shared.profile {
            return profile.profile().wants_body(method, headers, Some(requirement));
        }
        self.looks_in_body(requirement) && Locator::may_be_in_body(method, headers)
            || self.wants_form(method, uri, headers)
    }

    /// Whether the CSRF value may be in a form, and is needed.
    fn wants_form(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
        self.shared.csrf.wants_body(method, headers)
            && self.carries_cookies(headers)
            && !self.is_own_by_headers(uri, headers)
    }

    /// Refuses an unsafe request, or a WebSocket's handshake, that carries our cookies and was sent on another site's
    /// behalf (SEC-068, SEC-220).
    ///
    /// # Errors
    /// [`AuthError::CrossSite`].
    pub fn check_cross_site(&self, parts: &Parts) -> Result<(), AuthError> {
        if !self.carries_cookies(&parts.headers) {
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
        if self.shared.csrf.concerns(&parts.method) || is_handshake(&parts.method, &parts.headers) {
            self.shared.cross_site.check_headers(&parts.uri, &parts.headers)
        } else {
            CrossSite::Passes
        }
    }

    /// What a request must show beside the cookie that authenticates it. An unsafe one shows the CSRF value. A
    /// WebSocket's handshake, to which pages can add nothing, shows an origin of ours; without any origin it comes from
    /// no browser, and shows the CSRF value, too.
    fn check_beside_cookie(&self, parts: &Parts, claims: &Claims) -> Result<(), AuthError> {
        if is_handshake(&parts.method, &parts.headers) {
            return match self.cross_site(parts) {
                CrossSite::Passes => Ok(()),
                CrossSite::Foreign => Err(AuthError::CrossSite),
                CrossSite::Unknown => self.check_csrf(parts, claims),
            };
        }
        if self.shared.csrf.concerns(&parts.method) { self.check_csrf(parts, claims) } else { Ok(()) }
    }

    /// Whether the request carries one of our token cookies.
    #[must_use]
    pub fn carries_cookies(&self, headers: &HeaderMap) -> bool {
        [CookieKind::Access, CookieKind::Refresh]
            .into_iter()
            .filter_map(|kind| self.cookie_name(kind))
            .any(|name| !matches!(find_cookie(headers, name), CookieLookup::Absent))
    }

    /// Checks the request's CSRF value against the one that a token from a cookie is bound to (SEC-067); under
    /// [`CsrfMode::FetchMetadata`] only if the request's headers do not tell where it comes from.
    ///
    /// # Errors
    /// [`AuthError::Csrf`]; a token that was not issued for cookies has no value and does not satisfy.
    pub fn check_csrf(&self, parts: &Parts, claims: &Claims) -> Result<(), AuthError> {
        let needs_none = self.shared.profile.as_ref().is_some_and(|profile| !profile.checks_csrf());
        if needs_none || self.is_own_by_headers(&parts.uri, &parts.headers) {
            return Ok(());
        }
        let expected = claims.csrf().ok_or(CsrfError::Missing)?;
        match self.shared.csrf.check(parts, expected) {
            // It may be in a form that nobody reads.
            Err(CsrfError::Missing) if self.csrf_field().is_some() && form::is_form(&parts.headers) => {
                let encoded = ContentEncoding::of(&parts.headers).map(AuthError::EncodedBody);
                Err(encoded.unwrap_or(CsrfError::Missing.into()))
            }
            checked => Ok(checked?),
        }
    }

    /// Refuses to give out cookies that would travel unprotected (SEC-221). The cookies of a loopback address are not
    /// `Secure`, so they are set only where the request was sent to one, as far as it tells: its `Host`, what a proxy
    /// says about that, and its `Origin`. So the program behind an https proxy needs its public URL, and a name that
    /// somebody has pointed to this machine gets nothing (DNS rebinding).
    ///
    /// Whoever sets cookies by [`Auth::set_cookies`] asks this first; the ready-made routes and `SignIn` do.
    ///
    /// # Errors
    /// [`AuthError::InsecureCookies`].
    pub fn check_cookie_host(&self, parts: &Parts) -> Result<(), AuthError> {
        let is_secure = self.cookies().is_secure()
            || self.shared.profile.as_ref().is_some_and(Served::has_secure_cookies);
        if is_secure || !self.shared.cross_site.is_sent_elsewhere(&parts.uri, &parts.headers) {
            return Ok(());
        }
        Err(AuthError::InsecureCookies)
    }

    /// Checks the CSRF value of a request that wants to take the place of these sessions, whose cookies it carries.
    /// A profile's cookies may each have a value of their own; any of them is out of another site's reach.
    ///
    /// # Errors
    /// [`AuthError::Csrf`].
    pub fn check_carried(&self, parts: &Parts, carried: &[(CookieKind, Claims)]) -> Result<(), AuthError> {
        let Some(profile) = &self.shared.profile else {
            return carried.iter().try_for_each(|(_, claims)| self.check_csrf(parts, claims));
        };
        if carried.is_empty() || !profile.checks_csrf() {
            return Ok(());
        }
        let verdicts = carried.iter().map(|(kind, claims)| profile.check_csrf(parts, *kind, claims));
        Ok(verdicts.reduce(Result::or).unwrap_or(Ok(()))?)
    }

    /// Whether the browser's headers are enough here, and say that a page of ours sent the request.
    fn is_own_by_headers(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        self.shared.csrf.mode == CsrfMode::FetchMetadata
            && self.shared.cross_site.check_headers(uri, headers) == CrossSite::Passes
    }

    /// Whether a token that was found here needs its CSRF value in a request with this method: where the browser may have
    /// sent it by itself, for unsafe methods and [those beside](crate::AuthBuilder::csrf_also_for). A profile has its own
    /// methods.
    #[must_use]
    pub fn needs_csrf(&self, method: &Method, location: Location) -> bool {
        location == Location::Cookie
            && match &self.shared.profile {
                Some(profile) => profile.needs_csrf(method),
                None => self.shared.csrf.concerns(method),
            }
    }

    /// The name of the form field that the CSRF value is looked for in; `None` if it is not.
    #[must_use]
    pub fn csrf_field(&self) -> Option<&str> {
        self.shared.csrf.field.as_deref()
    }

    /// The answer to `GET /.well-known/jwks.json`: the public keys with which others verify our access tokens
    /// (RFC 7517 §5). Caches may keep it for five minutes.
    #[must_use]
    pub fn jwks(&self) -> Answer {
        let keys = match &self.shared.profile {
            Some(profile) => profile.public_keys(),
            None => self.sessions().keys().public_keys(),
        };
        Answer::jwk_set(keys)
    }

    /// The answer to a request that was not let through: as the application [has it](crate::AuthBuilder::answer), else
    /// the default. The log learns the cause, the client a standard code. The requirement completes the challenge.
    pub async fn refuse(
        &self,
        parts: &Parts,
        requirement: Option<&Requirement>,
        error: &AuthError,
    ) -> Answer {
        // The profile has told the log, and asked the application.
        if let AuthError::Profile(answer) = error {
            return (**answer).clone();
        }
        let mut answer = self.answer(error);
        let realm = requirement.and_then(|requirement| requirement.realm.as_deref());
        let scope = match error {
            AuthError::InsufficientScope { scope, .. } => scope.as_deref(),
            _ => None,
        };
        answer.complete_challenge(realm, scope);
        self.shared.hooks.answer(error.code(), parts, answer).await
    }

    /// The default answer to a request that was not let through. The log learns the cause.
    fn answer(&self, error: &AuthError) -> Answer {
        let code = error.code();
        let cause = error as &dyn std::error::Error;
        if code.status().is_server_error() {
            tracing::error!(code = code.as_str(), error = cause, "a request could not be authenticated");
        } else if code == ErrorCode::InsecureCookies {
            // Nobody signs in until the operator does something about it.
            tracing::warn!(code = code.as_str(), error = cause, "a request was not let through");
        } else {
            tracing::info!(code = code.as_str(), error = cause, "a request was not let through");
        }
        match error {
            AuthError::Locate(error) => Answer::refused_credential(*error, &self.shared.cookies),
            AuthError::EncodedBody(encoding) => (*encoding).into(),
            _ => Answer::error(code),
        }
    }
}
