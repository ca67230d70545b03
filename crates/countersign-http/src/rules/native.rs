//! Countersign's own rules: bearer tokens (RFC 6750), cookies with a CSRF value, rotated refresh tokens.

mod cookies;

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use countersign_core::flow::{BrowserSession, CheckError, RefreshError, TokenFormat};
use countersign_core::flow::{Check, Refresh};
use countersign_core::model::{AgentHash, Device, Refusal, SessionPolicy};
use countersign_core::store::BoxError;
use countersign_jwt::{Claims, TokenType, UserId};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Uri, header};
use url::Url;

use super::{
    BodyTokens, CheckedRules, CookieRules, Exchanged, Head, NewTokens, RenewedInPlace, Rules, ShownTokens,
    Vouched,
};
use crate::answer::Answer;
use crate::auth::Authenticated;
use crate::buffered::BufferedBody;
use crate::builder::BuildError;
use crate::cookie::{CookieLookup, find_cookie};
use crate::cookie_config::{CookieConfig, CookieKind};
use crate::cookie_options::CookieOptions;
use crate::csrf::{CsrfError, CsrfMode};
use crate::encoding::ContentEncoding;
use crate::engine::Engine;
use crate::error::AuthError;
use crate::form;
use crate::handshake::is_handshake;
use crate::locate::{Elsewhere, LocateError, Located, Location, Locator};
use crate::login_sessions::DeviceBinding;
use crate::origin::CrossSite;
use crate::renewal::Renewal;
use crate::requirement::{Optional, RequiredToken, Requirement};

/// Countersign's own rules, built and checked.
#[derive(Debug)]
pub(crate) struct Native {
    cookies: CookieConfig,
    access: Locator,
    refresh: Locator,
    /// Whether every route that takes refresh tokens looks for them in the body too. Otherwise only the ready-made
    /// routes do.
    refresh_in_body: bool,
}

/// The options of Countersign's own rules, as [`AuthBuilder`](crate::AuthBuilder) collects them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct NativeOptions {
    pub(crate) cookies: CookieOptions,
    pub(crate) locations: Option<Vec<Location>>,
    pub(crate) refresh_locations: Option<Vec<Location>>,
    pub(crate) refuse_several: bool,
    pub(crate) query_parameter: Option<String>,
}

/// The token that was taken out of a request's URI, so that neither logs nor handlers see it there.
#[derive(Clone)]
struct TakenFromQuery(Result<String, LocateError>);

impl NativeOptions {
    /// Checks the options. `reached_at` is the program's URL, where it is known.
    ///
    /// # Errors
    /// [`BuildError`] for cookies that cannot be set safely at that URL, and for token locations that contradict each
    /// other.
    pub(crate) fn build(self, reached_at: Option<&Url>) -> Result<Native, BuildError> {
        let cookies = self.cookies.build(reached_at)?;
        let (access, refresh) = self.locators(&cookies)?;
        let refresh_in_body = self.refresh_locations.is_some_and(|order| order.contains(&Location::Body));
        Ok(Native { cookies, access, refresh, refresh_in_body })
    }

    fn locators(&self, cookies: &CookieConfig) -> Result<(Locator, Locator), BuildError> {
        let mut access = Locator::access(cookies);
        let mut refresh = Locator::refresh(cookies);
        for order in [&self.locations, &self.refresh_locations].into_iter().flatten() {
            if order.is_empty() {
                return Err(BuildError::Settings(
                    "there is no place to look for tokens; name at least one Location, or leave the setting out",
                ));
            }
            if order
                .iter()
                .enumerate()
                .any(|(at, place)| order.iter().skip(at + 1).any(|later| later == place))
            {
                return Err(BuildError::Settings("a Location is named twice; name each place once"));
            }
        }
        if let Some(order) = &self.locations {
            access = access.in_order(order.clone());
        }
        if let Some(order) = &self.refresh_locations {
            if order.contains(&Location::Query) {
                return Err(BuildError::Settings(
                    "refresh tokens are good for weeks and do not belong into URLs; leave Location::Query out of \
                     `.refresh_locations(…)`",
                ));
            }
            refresh = refresh.in_order(order.clone());
        }
        if let Some(name) = &self.query_parameter {
            if !access.order().contains(&Location::Query) {
                return Err(BuildError::Settings(
                    "a query parameter is named, but tokens are not looked for there; add Location::Query to \
                     `.locations(…)` or leave `.query_parameter(…)` out",
                ));
            }
            if name.is_empty() {
                return Err(BuildError::Settings("the query parameter needs a name"));
            }
            access = access.parameter(name);
        }
        let takes_cookies =
            [&access, &refresh].iter().any(|locator| locator.order().contains(&Location::Cookie));
        if !takes_cookies && self.cookies != CookieOptions::new() {
            return Err(BuildError::Settings(
                "cookies are configured, but no token is taken from one; add Location::Cookie to `.locations(…)` or \
                 leave `.cookies(…)` out",
            ));
        }
        if self.refuse_several {
            (access, refresh) = (access.refuse_several(), refresh.refuse_several());
        }
        Ok((access, refresh))
    }
}

impl Native {
    /// The token that a request shows for this requirement, and where. `None` where it shows none and the requirement
    /// does not make an error of that.
    fn find_token<'p>(
        &self,
        parts: &'p Parts,
        requirement: &Requirement,
    ) -> Result<Option<(Cow<'p, str>, Location)>, AuthError> {
        let (locator, order) = self.places(requirement);
        let in_query = if Self::searches_query(requirement, order) { self.in_query(parts)? } else { None };
        let in_body = self.in_body(parts, locator, requirement);
        let found = if in_query.is_none() && in_body.is_none() {
            let located = locator.locate_in(order, &parts.headers, Elsewhere::default())?;
            located.map(|located| (Cow::Borrowed(located.token), located.location))
        } else {
            let elsewhere = Elsewhere { query: in_query.as_deref(), body: in_body.as_deref() };
            let located = locator.locate_in(order, &parts.headers, elsewhere)?;
            located.map(|located| (Cow::Owned(located.token.to_owned()), located.location))
        };
        if found.is_some() {
            return Ok(found);
        }
        if let Some(encoding) = self.hidden_in_body(parts, requirement) {
            return Err(AuthError::EncodedBody(encoding));
        }
        let other_scheme = parts.headers.contains_key(header::AUTHORIZATION);
        if other_scheme && requirement.optional == Some(Optional::IfNoCredential) {
            return Err(LocateError::NotAToken(Location::Header).into());
        }
        Ok(None)
    }

    /// What verified claims must be for this requirement, before the application is asked.
    fn check_claims(
        engine: &Engine,
        requirement: &Requirement,
        claims: &Claims,
        location: Location,
    ) -> Result<(), AuthError> {
        // Refresh tokens are good for weeks, so none is taken from a URL, whatever the route accepts.
        if location == Location::Query && claims.token_type() == TokenType::Refresh {
            return Err(LocateError::NotAToken(Location::Query).into());
        }
        if requirement.fresh && !claims.freshness().is_fresh(engine.now()) {
            return Err(AuthError::NotFresh);
        }
        Ok(())
    }

    /// What the request must show beside claims that are accepted: a CSRF value, if they came in a cookie, and the scope.
    fn check_request(
        engine: &Engine,
        parts: &Parts,
        requirement: &Requirement,
        claims: &Claims,
        location: Location,
    ) -> Result<(), AuthError> {
        if location == Location::Cookie {
            if is_of_other_client(claims, &parts.headers) && engine.binding() != DeviceBinding::Off {
                return Err(AuthError::OtherClient);
            }
            Self::check_beside_cookie(engine, parts, claims)?;
        }
        requirement.check_permitted(claims)
    }

    /// The locator for a requirement's kind of token, and the places to look in, in order.
    fn places<'a>(&'a self, requirement: &'a Requirement) -> (&'a Locator, &'a [Location]) {
        let locator = match requirement.token.is_in_refresh_places() {
            false => &self.access,
            true => &self.refresh,
        };
        (locator, requirement.locations.as_deref().unwrap_or(locator.order()))
    }

    /// Whether the query string is searched for this requirement. Refresh tokens are valid for weeks, so they are never
    /// taken from a URL.
    fn searches_query(requirement: &Requirement, order: &[Location]) -> bool {
        order.contains(&Location::Query) && !requirement.token.is_in_refresh_places()
    }

    fn looks_in_body(&self, requirement: &Requirement) -> bool {
        match &requirement.locations {
            Some(order) => order.contains(&Location::Body),
            None if requirement.token.is_in_refresh_places() => self.refresh_in_body,
            None => self.access.order().contains(&Location::Body),
        }
    }

    fn in_query<'r>(&self, parts: &'r Parts) -> Result<Option<Cow<'r, str>>, LocateError> {
        match parts.extensions.get::<TakenFromQuery>() {
            Some(TakenFromQuery(Ok(token))) => Ok(Some(Cow::Borrowed(token))),
            Some(TakenFromQuery(Err(error))) => Err(*error),
            None => self.access.in_query(&parts.uri),
        }
    }

    /// The encoding of a body that may hold the token but is compressed, so that it cannot be read.
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

    /// Whether a form must be read because it may hold the CSRF value that this request needs.
    fn wants_form(&self, engine: &Engine, Head { method, uri, headers }: Head<'_>) -> bool {
        engine.csrf.wants_body(method, headers)
            && self.are_carried(headers)
            && !is_own_by_headers(engine, uri, headers)
    }

    /// Checks what a request must show beside the cookie that authenticates it. A WebSocket handshake, to which pages
    /// cannot add headers, shows one of our origins; without any origin it does not come from a browser, and shows the
    /// CSRF value. Every other request with an unsafe method shows the CSRF value.
    fn check_beside_cookie(engine: &Engine, parts: &Parts, claims: &Claims) -> Result<(), AuthError> {
        if is_handshake(&parts.method, &parts.headers) {
            return match engine.cross_site(parts) {
                CrossSite::Passes => Ok(()),
                CrossSite::Foreign => Err(AuthError::CrossSite),
                CrossSite::Unknown => Self::check_csrf(engine, parts, claims),
            };
        }
        if engine.csrf.concerns(&parts.method) { Self::check_csrf(engine, parts, claims) } else { Ok(()) }
    }

    /// Checks the request's CSRF value against the value that a token from a cookie is bound to (SEC-067). Under
    /// [`CsrfMode::FetchMetadata`], the value is checked unless the headers say that a page of ours sent the request; what
    /// another site sent was refused before, by [`Engine::check_cross_site`].
    ///
    /// # Errors
    /// [`AuthError::Csrf`]. A token that was not issued for cookies has no CSRF value, so it is always refused.
    fn check_csrf(engine: &Engine, parts: &Parts, claims: &Claims) -> Result<(), AuthError> {
        if is_own_by_headers(engine, &parts.uri, &parts.headers) {
            return Ok(());
        }
        let expected = claims.csrf().ok_or(CsrfError::Missing)?;
        match engine.csrf.check(parts, expected) {
            // The value may be in a form that nobody has read.
            Err(CsrfError::Missing) if engine.csrf_field().is_some() && form::is_form(&parts.headers) => {
                let encoded = ContentEncoding::of(&parts.headers).map(AuthError::EncodedBody);
                Err(encoded.unwrap_or(CsrfError::Missing.into()))
            }
            checked => Ok(checked?),
        }
    }
}

/// Whether a token is bound to another client than the one that sends it.
fn is_of_other_client(token: &Claims, headers: &HeaderMap) -> bool {
    let agent =
        || headers.get(header::USER_AGENT).map(HeaderValue::as_bytes).filter(|agent| !agent.is_empty());
    BrowserSession::is_of_other_client(token, || agent().map(AgentHash::of))
}

/// Whether the CSRF mode goes by the browser's headers, and they say that a page of ours sent the request.
fn is_own_by_headers(engine: &Engine, uri: &Uri, headers: &HeaderMap) -> bool {
    engine.csrf.mode == CsrfMode::FetchMetadata
        && engine.origins.check_headers(uri, headers) == CrossSite::Passes
}

impl CheckedRules for Native {
    fn name(&self) -> &'static str {
        NAME
    }

    fn token_format(&self) -> Option<Arc<dyn TokenFormat>> {
        None
    }

    fn policy(&self, policy: SessionPolicy) -> SessionPolicy {
        policy
    }

    fn know_users(&self) -> bool {
        false
    }

    fn over(self: Box<Self>, _: &Engine) -> Arc<dyn Rules> {
        Arc::new(*self)
    }
}

const NAME: &str = "native";

/// What a requirement asks of a token.
fn check(requirement: &Requirement) -> Check {
    let check = match requirement.token {
        RequiredToken::Access => Check::ACCESS,
        RequiredToken::Refresh => Check::REFRESH,
        RequiredToken::Any | RequiredToken::AnyAsRefresh => Check::ANY,
    };
    if requirement.skip_revocation { check.even_if_revoked() } else { check }
}

/// An access token that is good has arrived at its client, whatever else the request lacks.
fn note_use(engine: &Engine, requirement: &Requirement, claims: &Claims) {
    if claims.token_type() == TokenType::Access && !requirement.skip_revocation {
        engine.sessions().verification().note_use(claims);
    }
}

/// Where the requirement says so, a request with an expired token passes as nobody.
fn nobody_if_expired(error: AuthError, requirement: &Requirement) -> Result<Option<Vouched>, AuthError> {
    if error.is_expired() && requirement.optional == Some(Optional::IfAbsentOrExpired) {
        return Ok(None);
    }
    Err(error)
}

#[async_trait]
impl Rules for Native {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cookies(&self) -> &dyn CookieRules {
        self
    }

    fn wants_body(&self, engine: &Engine, head: Head<'_>, requirement: Option<&Requirement>) -> bool {
        let tokens_in_body = match requirement {
            Some(requirement) => self.looks_in_body(requirement),
            None => self.refresh_in_body || self.access.order().contains(&Location::Body),
        };
        tokens_in_body && Locator::may_be_in_body(head.method, head.headers) || self.wants_form(engine, head)
    }

    fn looks_in_query(&self) -> bool {
        self.access.order().contains(&Location::Query)
    }

    /// The URI keeps the word `redacted` in the token's place.
    fn take_from_query(&self, uri: &mut Uri, extensions: &mut Extensions) -> bool {
        // Another layer around this one has already taken the token out.
        if extensions.get::<TakenFromQuery>().is_some() {
            return true;
        }
        let locator = &self.access;
        if !locator.order().contains(&Location::Query) {
            return false;
        }
        let taken = match locator.in_query(uri) {
            Ok(None) => return false,
            Ok(Some(token)) => Ok(token.into_owned()),
            Err(error) => Err(error),
        };
        extensions.insert(TakenFromQuery(taken));
        // A URI that cannot be rebuilt with the redacted query loses its query altogether.
        let path = || uri.path().parse().unwrap_or_default();
        *uri = locator.redacted(uri).unwrap_or_else(path);
        true
    }

    fn is_in_query(&self, parts: &Parts, requirement: &Requirement) -> bool {
        let (_, order) = self.places(requirement);
        Self::searches_query(requirement, order) && !matches!(self.in_query(parts), Ok(None))
    }

    fn authenticate_at_once(
        &self,
        engine: &Engine,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Option<Result<Option<Vouched>, AuthError>> {
        if engine.has_checks() || requirement.token != RequiredToken::Access {
            return None;
        }
        let (token, location) = match self.find_token(parts, requirement) {
            Ok(Some(found)) => found,
            Ok(None) => return Some(Ok(None)),
            Err(error) => return Some(Err(error)),
        };
        let verified = engine.sessions().verification().verify_at_once(&token, check(requirement))?;
        let claims = match verified {
            Ok(claims) => claims,
            Err(error) => return Some(nobody_if_expired(error.into(), requirement)),
        };
        note_use(engine, requirement, &claims);
        let judged = Self::check_claims(engine, requirement, &claims, location)
            .and_then(|()| Self::check_request(engine, parts, requirement, &claims, location));
        Some(judged.map(|()| Some(Vouched { claims, location, user: None, proof: None })))
    }

    async fn authenticate(
        &self,
        engine: &Engine,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Option<Vouched>, AuthError> {
        let Some((token, location)) = self.find_token(parts, requirement)? else { return Ok(None) };
        let verified = engine.sessions().verification().verify(&token, check(requirement)).await;
        let claims = match verified {
            Ok(claims) => claims,
            Err(error) => return nobody_if_expired(error.into(), requirement),
        };
        note_use(engine, requirement, &claims);
        Self::check_claims(engine, requirement, &claims, location)?;
        engine.ask_application(&claims, requirement.skip_revocation).await?;
        Self::check_request(engine, parts, requirement, &claims, location)?;
        Ok(Some(Vouched { claims, location, user: None, proof: None }))
    }

    fn decides_by_cookie(&self, parts: &Parts, requirement: &Requirement) -> bool {
        let (_, order) = self.places(requirement);
        requirement.token == RequiredToken::Access
            && order.contains(&Location::Cookie)
            && match self.find_token(parts, requirement) {
                Ok(found) => found.is_none_or(|(_, location)| location == Location::Cookie),
                Err(error) => {
                    matches!(error, AuthError::Locate(LocateError::NotAToken(Location::Cookie)))
                }
            }
    }

    async fn renew_in_place(
        &self,
        engine: &Engine,
        parts: &Parts,
        requirement: &Requirement,
        device: Device,
    ) -> Result<Option<RenewedInPlace>, AuthError> {
        let token = match find_cookie(&parts.headers, self.cookies.name(CookieKind::Refresh)) {
            CookieLookup::Absent | CookieLookup::One("") => return Ok(None),
            CookieLookup::One(token) => token,
            CookieLookup::Unreadable => return Err(LocateError::NotAToken(Location::Cookie).into()),
            CookieLookup::Repeated => return Err(LocateError::RepeatedCookie.into()),
        };
        let check_refresh = Check::REFRESH.even_if_revoked();
        let token = engine.sessions().verification().verify(token, check_refresh).await?;
        engine.ask_application(&token, false).await?;
        if is_of_other_client(&token, &parts.headers) && engine.binding() == DeviceBinding::Strong {
            return Err(AuthError::OtherClient);
        }
        Self::check_beside_cookie(engine, parts, &token)?;
        engine.check_cookie_host(parts, self)?;
        if requirement.fresh {
            return Err(AuthError::NotFresh);
        }
        if engine.users().known(token.subject(), None).await?.is_none() {
            return Err(RefreshError::Refused(Refusal::User).into());
        }
        let renewal = Renewal::of(engine, token, device, false).await?;
        let access_token = &renewal.pair().access_token;
        let claims = engine.sessions().verification().verify(access_token, check(requirement)).await?;
        engine.ask_application(&claims, requirement.skip_revocation).await?;
        requirement.check_permitted(&claims)?;
        let vouched = Vouched { claims, location: Location::Cookie, user: None, proof: None };
        Ok(Some(RenewedInPlace { vouched, renewal }))
    }

    async fn recheck(&self, engine: &Engine, authenticated: &Authenticated) -> Result<(), AuthError> {
        let claims = authenticated.claims();
        // A refresh token is checked in the store, because the index forgets ended sessions long before their refresh
        // tokens expire.
        engine.sessions().verification().recheck(claims, Check::ANY).await?;
        engine.ask_application(claims, false).await
    }

    async fn refresh(
        &self,
        engine: &Engine,
        parts: &Parts,
        in_body: Option<&str>,
        device: Device,
    ) -> Result<Exchanged, AuthError> {
        let located = self.refresh.locate(&parts.headers, in_body)?.ok_or(AuthError::Missing)?;
        let token =
            engine.sessions().verification().verify(located.token, Check::REFRESH.even_if_revoked()).await?;
        engine.ask_application(&token, false).await?;
        if located.location == Location::Cookie {
            if engine.csrf.concerns(&parts.method) {
                Self::check_csrf(engine, parts, &token)?;
            }
            engine.check_cookie_host(parts, self)?;
        }
        let user = engine.users().known(token.subject(), None).await?;
        let refreshed = Refresh::of(engine.sessions()).exchange(&token, user.is_some(), device).await?;
        let user = user.ok_or(RefreshError::Refused(Refusal::User))?;
        Ok(Exchanged { tokens: NewTokens::Pair(refreshed.pair, user), location: located.location })
    }

    /// Looks for tokens in all places. Only a malformed request is refused at once, because its meaning is ambiguous.
    async fn shown(
        &self,
        engine: &Engine,
        parts: &Parts,
        in_body: BodyTokens<'_>,
    ) -> Result<ShownTokens, AuthError> {
        let mut shown = ShownTokens::default();
        let access_in_body = in_body.access.filter(|token| !token.is_empty());
        let places = self
            .refresh
            .each(&parts.headers, in_body.refresh)
            .chain(access_in_body.map(|token| Ok(Located { token, location: Location::Body })))
            .chain(self.access.each(&parts.headers, None));
        for found in places {
            match found {
                Ok(located) => show(&mut shown, engine, parts, &located).await,
                Err(error @ (LocateError::MalformedAuthorization | LocateError::SeveralTokens)) => {
                    return Err(error.into());
                }
                Err(error) => refuse(&mut shown, error.into()),
            }
        }
        Ok(shown)
    }

    async fn verify_for_end(&self, engine: &Engine, token: &str) -> Result<Option<Claims>, AuthError> {
        match engine.sessions().verification().verify(token, Check::ENDING).await {
            Ok(claims) => Ok(Some(claims)),
            Err(error @ (CheckError::ViewTooOld(_) | CheckError::Store(_))) => Err(error.into()),
            Err(_) => Ok(None),
        }
    }

    async fn judge(&self, engine: &Engine, token: &str, kind: TokenType) -> Result<Claims, AuthError> {
        let check = match kind {
            TokenType::Access => Check::ACCESS,
            TokenType::Refresh => Check::REFRESH,
        };
        let claims = engine.sessions().verification().verify(token, check).await?;
        engine.ask_application(&claims, false).await?;
        if kind == TokenType::Refresh && engine.users().known(claims.subject(), None).await?.is_none() {
            return Err(RefreshError::Refused(Refusal::User).into());
        }
        Ok(claims)
    }

    async fn signature(&self, engine: &Engine, token: &str, kind: TokenType) -> Result<String, BoxError> {
        Ok(engine.sessions().keys().verify_signature(token, kind)?.to_string())
    }

    fn public_keys(&self, engine: &Engine) -> String {
        engine.sessions().keys().public_keys()
    }

    fn user_gone(&self, _: &UserId) -> AuthError {
        AuthError::UserGone
    }

    async fn answer(
        &self,
        engine: &Engine,
        parts: &Parts,
        requirement: Option<&Requirement>,
        error: &AuthError,
    ) -> Answer {
        let answer = match error {
            AuthError::Locate(error) => Answer::refused_credential(*error, &self.cookies),
            _ => Answer::from(error),
        };
        let page = engine.pages.as_ref().and_then(|pages| {
            let by_cookie = self.decides_by_cookie(parts, requirement.unwrap_or(&Requirement::ACCESS));
            pages.answer(self, parts, error, by_cookie, engine.now())
        });
        let answer = page.unwrap_or(answer);
        engine.answer(parts, requirement, error, answer).await
    }
}

async fn show(shown: &mut ShownTokens, engine: &Engine, parts: &Parts, located: &Located<'_>) {
    let claims = match engine.sessions().verification().verify(located.token, Check::ENDING).await {
        Ok(claims) => claims,
        Err(error) => return refuse(shown, AuthError::Token(error)),
    };
    if located.location == Location::Cookie
        && engine.csrf.concerns(&parts.method)
        && let Err(error) = Native::check_csrf(engine, parts, &claims)
    {
        shown.cookies_proven = false;
        return refuse(shown, error);
    }
    shown.tokens.push(claims);
}

/// Keeps the refusal whose answer helps the client most. A repeated cookie ranks first, because its answer expires the
/// cookie; a missing CSRF value ranks second, because the client can correct it.
fn refuse(shown: &mut ShownTokens, refusal: AuthError) {
    let rank = |refusal: &AuthError| match refusal {
        AuthError::Locate(LocateError::RepeatedCookie) => 2,
        AuthError::Csrf(_) => 1,
        // Worth repeating.
        AuthError::Token(CheckError::ViewTooOld(_) | CheckError::Store(_)) => 1,
        _ => 0,
    };
    if shown.refusal.as_ref().is_none_or(|known| rank(known) <= rank(&refusal)) {
        shown.refusal = Some(refusal);
    }
}
