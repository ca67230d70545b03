//! Flask-Login's rules over sessions.

use std::sync::Arc;

use async_trait::async_trait;
use countersign_core::flow::{
    BrowserSession, Check, CheckError, Pair, Refresh, RefreshError, Renewed, TokenFormat,
};
use countersign_core::model::{AgentHash, Device, Refusal, SessionPolicy};
use countersign_core::store::BoxError;
use countersign_http::{
    Answer, AuthError, Authenticated, BodyTokens, CheckedRules, CookieError, CookieKind, CookieLookup,
    CookieRules, DeviceBinding, Engine, ErrorCode, Exchanged, ForPrograms, Head, LocateError, Location,
    LoginSessions, NewTokens, Renewal, RenewedInPlace, RequestedUri, RequiredToken, Requirement, ReturnTo,
    Rules, RulesBuilder, SetCookies, ShownTokens, Vouched, find_cookie,
};
use countersign_jwt::{Claims, Clock, Freshness, Random, Timestamp, TokenType, UserId};
use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use url::form_urlencoded;

use super::config::LONGEST;
use super::{FlaskLogin, FlaskLoginBuilder, SessionData};

const NAME: &str = "flask-login";
/// Between the tokens in the session's cookie.
const BETWEEN: char = '~';

#[async_trait]
impl RulesBuilder for FlaskLoginBuilder {
    async fn check(
        self: Box<Self>,
        _: Arc<dyn Clock>,
        _: Arc<dyn Random>,
    ) -> Result<Box<dyn CheckedRules>, BoxError> {
        let Self { config, views } = *self;
        for view in [&views.login, &views.refresh].into_iter().flatten() {
            if ReturnTo::parse(view).is_none() {
                return Err("login_view and refresh_view are paths of this program, such as /login".into());
            }
        }
        if config.secret_key.is_none() {
            return Err("SECRET_KEY is missing: Flask-Login needs it too".into());
        }
        Ok(Box::new(FlaskLogin { config: Arc::new(config), views: Arc::new(views) }))
    }
}

impl CheckedRules for FlaskLogin {
    fn name(&self) -> &'static str {
        NAME
    }

    fn token_format(&self) -> Option<Arc<dyn TokenFormat>> {
        None
    }

    /// A session is remembered for as long as the options say, whether or not it is used meanwhile.
    fn policy(&self, policy: SessionPolicy) -> SessionPolicy {
        let remembered = self.config.remember_duration;
        if self.config.refresh_each_request {
            return SessionPolicy { idle: remembered, absolute: LONGEST, ..policy };
        }
        let absolute = policy.absolute.max(remembered);
        SessionPolicy { idle: absolute, absolute, ..policy }
    }

    fn login_sessions(&self) -> Option<LoginSessions> {
        Some(LoginSessions::new().bound_to_device(self.config.session_protection))
    }

    fn know_users(&self) -> bool {
        false
    }

    fn over(self: Box<Self>, _: &Engine) -> Arc<dyn Rules> {
        Arc::new(*self)
    }
}

impl FlaskLogin {
    /// The tokens in the session's cookie: the access token and, where the session is not remembered, the refresh token.
    fn in_session<'h>(
        &self,
        headers: &'h HeaderMap,
    ) -> Result<(Option<&'h str>, Option<&'h str>), LocateError> {
        let value = match find_cookie(headers, &self.config.session.name) {
            CookieLookup::Absent => return Ok((None, None)),
            CookieLookup::One(value) => value,
            CookieLookup::Unreadable => return Err(LocateError::NotAToken(Location::Cookie)),
            CookieLookup::Repeated => return Err(LocateError::RepeatedCookie),
        };
        let (access, refresh) = match value.split_once(BETWEEN) {
            Some((access, refresh)) => (access, Some(refresh)),
            None => (value, None),
        };
        Ok((Some(access).filter(|access| !access.is_empty()), refresh))
    }

    /// The refresh tokens of a request: of the remember cookie, and of the session's.
    fn refresh_tokens<'h>(&self, headers: &'h HeaderMap) -> Result<Vec<&'h str>, LocateError> {
        let remembered = match find_cookie(headers, &self.config.remember.name) {
            CookieLookup::One(token) => Some(token),
            CookieLookup::Absent | CookieLookup::Unreadable => None,
            CookieLookup::Repeated => return Err(LocateError::RepeatedCookie),
        };
        Ok(remembered.into_iter().chain(self.in_session(headers)?.1).collect())
    }

    /// The first refresh token of a request that verifies: junk in one cookie hides nothing in the other.
    async fn verified_refresh(&self, engine: &Engine, parts: &Parts) -> Result<Option<Claims>, AuthError> {
        let mut refused = None;
        for token in self.refresh_tokens(&parts.headers)? {
            let check = Check::REFRESH.even_if_revoked();
            match engine.sessions().verification().verify(token, check).await {
                Ok(claims) => return Ok(Some(claims)),
                Err(error @ (CheckError::ViewTooOld(_) | CheckError::Store(_))) => return Err(error.into()),
                Err(error) => refused = Some(error),
            }
        }
        refused.map_or(Ok(None), |error| Err(error.into()))
    }

    /// Whether the session's cookie says that the session is fresh, which it stays as long as it lives.
    async fn stays_fresh(&self, engine: &Engine, parts: &Parts, token: &Claims) -> bool {
        let Ok((Some(access), _)) = self.in_session(&parts.headers) else { return false };
        let check = Check::ACCESS.even_if_expired().even_if_revoked();
        let Ok(access) = engine.sessions().verification().verify(access, check).await else { return false };
        access.freshness() != Freshness::Stale
            && access.session().map(|session| session.id) == token.session().map(|session| session.id)
            && !is_of_other_client(&access, &parts.headers)
    }

    /// Where those who are signed out, or not fresh, are sent.
    fn redirect(&self, parts: &Parts, view: &str) -> Answer {
        let requested = parts.extensions.get::<RequestedUri>().map_or(&parts.uri, |RequestedUri(uri)| uri);
        let next = ReturnTo::of(requested);
        let mut kept = None;
        let location = match next {
            Some(next) if self.config.use_session_for_next => {
                let mut data = SessionData::of(self, &parts.headers);
                data.0.insert(ReturnTo::PARAMETER.to_owned(), readable(next.as_str()).into());
                kept = data.set(self);
                view.to_owned()
            }
            Some(next) => with_next(view, &readable(next.as_str())),
            None => view.to_owned(),
        };
        let mut response = http::Response::new(bytes::Bytes::new());
        *response.status_mut() = StatusCode::FOUND;
        if let Ok(location) = HeaderValue::try_from(location) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response.headers_mut().extend(kept.map(|field| (header::SET_COOKIE, field)));
        countersign_http::no_store(response.headers_mut());
        countersign_http::vary_personal(response.headers_mut());
        response.into()
    }
}

fn is_of_other_client(token: &Claims, headers: &HeaderMap) -> bool {
    let agent =
        || headers.get(header::USER_AGENT).map(HeaderValue::as_bytes).filter(|agent| !agent.is_empty());
    BrowserSession::is_of_other_client(token, || agent().map(AgentHash::of))
}

/// A view's URL with the page to come back to, in place of another one.
fn with_next(view: &str, next: &str) -> String {
    let (path, query) = view.split_once('?').unwrap_or((view, ""));
    let kept = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != ReturnTo::PARAMETER);
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(kept).append_pair(ReturnTo::PARAMETER, next);
    format!("{path}?{}", query.finish())
}

/// A page as Werkzeug's `request.url` writes it: without percent-encoding where that changes nothing.
fn readable(page: &str) -> String {
    let (path, query) = match page.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (page, None),
    };
    let path = unquoted(path, b"/?#");
    query.map_or_else(|| path.clone(), |query| format!("{path}?{}", unquoted(query, b"&=+#")))
}

/// Decodes a part of a URL, apart from bytes that would then mean something else.
fn unquoted(part: &str, kept: &[u8]) -> String {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (mut decoded, mut rest) = (Vec::with_capacity(part.len()), part.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let byte = match after {
            [high, low, ..] if *first == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        let byte = byte.and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        match byte.filter(|byte| *byte > b' ' && !matches!(byte, b'%' | 0x7f) && !kept.contains(byte)) {
            Some(byte) => {
                decoded.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| part.to_owned())
}

/// The page that Flask answers with, without its words.
fn unauthorized() -> Answer {
    let mut response =
        http::Response::new(bytes::Bytes::from_static(b"<!doctype html>\n<title>401 Unauthorized</title>"));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    countersign_http::no_store(response.headers_mut());
    countersign_http::vary_personal(response.headers_mut());
    response.into()
}

#[async_trait]
impl Rules for FlaskLogin {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cookies(&self) -> &dyn CookieRules {
        self
    }

    fn wants_body(&self, _: &Engine, _: Head<'_>, _: Option<&Requirement>) -> bool {
        false
    }

    fn looks_in_query(&self) -> bool {
        false
    }

    fn take_from_query(&self, _: &mut Uri, _: &mut Extensions) -> bool {
        false
    }

    fn is_in_query(&self, _: &Parts, _: &Requirement) -> bool {
        false
    }

    async fn authenticate(
        &self,
        engine: &Engine,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Option<Vouched>, AuthError> {
        if requirement.token() != RequiredToken::Access {
            return Ok(None);
        }
        let (Some(access), _) = self.in_session(&parts.headers)? else { return Ok(None) };
        let claims = engine.sessions().verification().verify(access, Check::ACCESS).await?;
        if is_of_other_client(&claims, &parts.headers) && self.config.session_protection != DeviceBinding::Off
        {
            return Err(AuthError::OtherClient);
        }
        engine.sessions().verification().note_use(&claims);
        if requirement.wants_fresh() && !claims.freshness().is_fresh(engine.now()) {
            return Err(AuthError::NotFresh);
        }
        engine.ask_application(&claims, requirement.skips_revocation()).await?;
        check_permitted(requirement, &claims)?;
        Ok(Some(Vouched { claims, location: Location::Cookie, user: None, proof: None }))
    }

    fn decides_by_cookie(&self, _: &Parts, requirement: &Requirement) -> bool {
        requirement.token() == RequiredToken::Access
    }

    async fn renew_in_place(
        &self,
        engine: &Engine,
        parts: &Parts,
        requirement: &Requirement,
        device: Device,
    ) -> Result<Option<RenewedInPlace>, AuthError> {
        let Some(token) = self.verified_refresh(engine, parts).await? else { return Ok(None) };
        engine.ask_application(&token, false).await?;
        let protection = self.config.session_protection;
        if is_of_other_client(&token, &parts.headers) && protection == DeviceBinding::Strong {
            return Err(AuthError::OtherClient);
        }
        engine.check_cookie_host(parts, self)?;
        let fresh = self.stays_fresh(engine, parts, &token).await;
        if requirement.wants_fresh() && !fresh {
            return Err(AuthError::NotFresh);
        }
        if engine.users().known(token.subject(), None).await?.is_none() {
            return Err(RefreshError::Refused(Refusal::User).into());
        }
        let renewal = Renewal::of(engine, token, device, fresh).await?;
        let access_token = &renewal.pair().access_token;
        let claims = engine.sessions().verification().verify(access_token, Check::ACCESS).await?;
        engine.ask_application(&claims, requirement.skips_revocation()).await?;
        check_permitted(requirement, &claims)?;
        let vouched = Vouched { claims, location: Location::Cookie, user: None, proof: None };
        Ok(Some(RenewedInPlace { vouched, renewal }))
    }

    fn renews_each_request(&self, authenticated: &Authenticated) -> bool {
        let browser = BrowserSession::of(authenticated.claims());
        self.config.refresh_each_request && browser.is_some_and(|browser| browser.remembered)
    }

    async fn recheck(&self, engine: &Engine, authenticated: &Authenticated) -> Result<(), AuthError> {
        engine.sessions().verification().recheck(authenticated.claims(), Check::ANY).await?;
        engine.ask_application(authenticated.claims(), false).await
    }

    async fn refresh(
        &self,
        engine: &Engine,
        parts: &Parts,
        _: Option<&str>,
        device: Device,
    ) -> Result<Exchanged, AuthError> {
        let token = self.verified_refresh(engine, parts).await?.ok_or(AuthError::Missing)?;
        engine.ask_application(&token, false).await?;
        engine.check_cookie_host(parts, self)?;
        let user = engine.users().known(token.subject(), None).await?;
        let refreshed = Refresh::of(engine.sessions()).exchange(&token, user.is_some(), device).await?;
        let user = user.ok_or(RefreshError::Refused(Refusal::User))?;
        Ok(Exchanged { tokens: NewTokens::Pair(refreshed.pair, user), location: Location::Cookie })
    }

    async fn shown(
        &self,
        engine: &Engine,
        parts: &Parts,
        _: BodyTokens<'_>,
    ) -> Result<ShownTokens, AuthError> {
        let mut shown = ShownTokens::default();
        let mut tokens = self.refresh_tokens(&parts.headers)?;
        tokens.extend(self.in_session(&parts.headers)?.0);
        for token in tokens {
            match engine.sessions().verification().verify(token, Check::ENDING).await {
                Ok(claims) => shown.tokens.push(claims),
                Err(error) => shown.refusal = Some(error.into()),
            }
        }
        Ok(shown)
    }

    async fn verify_for_end(&self, engine: &Engine, token: &str) -> Result<Option<Claims>, AuthError> {
        let token = token.split(BETWEEN).next().unwrap_or_default();
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
        Ok(engine.sessions().verification().verify(token, check).await?)
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
        let is_out = matches!(error.code(), ErrorCode::MissingToken | ErrorCode::InvalidToken);
        let chosen = match error {
            _ if parts.extensions.get::<ForPrograms>().is_some() => None,
            AuthError::NotFresh => Some((&self.views.needs_refresh, &self.views.refresh)),
            _ if is_out => Some((&self.views.unauthorized, &self.views.login)),
            _ => None,
        };
        let mut answer = match chosen {
            None => Answer::from(error),
            Some((Some(handler), _)) => handler(),
            Some((None, Some(view))) => self.redirect(parts, view),
            Some((None, None)) => unauthorized(),
        };
        if error.code() == ErrorCode::InvalidToken && self.are_carried(&parts.headers) {
            // Removing cookies cannot fail: there is no value that could be too large.
            let _ = SetCookies::forgetting_carried(self, &parts.headers).apply(answer.headers_mut());
        }
        engine.answer(parts, requirement, error, answer).await
    }
}

fn check_permitted(requirement: &Requirement, claims: &Claims) -> Result<(), AuthError> {
    match requirement.lacking(&claims.to_map()) {
        Some(lacks) => Err(AuthError::InsufficientScope { lacks, scope: None }),
        None => Ok(()),
    }
}

impl CookieRules for FlaskLogin {
    fn why_not(&self) -> Option<&'static str> {
        None
    }

    fn name(&self, kind: CookieKind) -> Option<&str> {
        match kind {
            CookieKind::Access => Some(&self.config.session.name),
            CookieKind::Refresh => Some(&self.config.remember.name),
            CookieKind::Csrf => None,
        }
    }

    fn path(&self, kind: CookieKind) -> &str {
        match kind {
            CookieKind::Access | CookieKind::Csrf => &self.config.session.path,
            CookieKind::Refresh => &self.config.remember.path,
        }
    }

    fn are_secure(&self) -> bool {
        self.config.session.secure && self.config.remember.secure
    }

    fn set(&self, pair: &Pair, now: Timestamp) -> Result<Vec<HeaderValue>, CookieError> {
        let browser = pair.browser.ok_or(CookieError::NotForCookies)?;
        let (session, remember) = (&self.config.session, &self.config.remember);
        let field = |cookie: &super::FlaskCookie, value: &str, max_age| {
            let bytes = cookie.name.len().saturating_add(value.len());
            if bytes > MAX_BYTES {
                return Err(CookieError::TooLarge { bytes });
            }
            cookie.field(&cookie.name, value, max_age).ok_or(CookieError::Character)
        };
        if browser.remembered {
            let max_age = pair.refresh_expires_in(now);
            let remember = field(remember, &pair.refresh_token, Some(max_age))?;
            Ok(vec![remember, field(session, &pair.access_token, None)?])
        } else {
            let both = format!("{}{BETWEEN}{}", pair.access_token, pair.refresh_token);
            Ok(vec![field(session, &both, None)?])
        }
    }

    fn set_access(&self, _: &Renewed, _: Timestamp) -> Result<Vec<HeaderValue>, CookieError> {
        Err(CookieError::NotForCookies)
    }

    fn forget(&self) -> Vec<HeaderValue> {
        let (session, remember) = (&self.config.session, &self.config.remember);
        [remember, session].into_iter().filter_map(|cookie| cookie.field(&cookie.name, "", Some(0))).collect()
    }

    fn forget_repeated(&self) -> Vec<HeaderValue> {
        self.forget()
    }

    fn needs_csrf(&self, _: &Engine, _: &Method) -> bool {
        false
    }

    fn check_carried(&self, _: &Engine, _: &Parts, _: &[(CookieKind, Claims)]) -> Result<(), AuthError> {
        Ok(())
    }

    /// The application's own data is in a cookie of the session as well.
    fn is_set(&self, field: &[u8]) -> bool {
        let data = self.data_name();
        [self.config.session.name.as_str(), self.config.remember.name.as_str(), data.as_str()]
            .iter()
            .any(|name| field.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'=')))
    }
}

/// The bytes of name and value together that browsers keep.
const MAX_BYTES: usize = 4096;
