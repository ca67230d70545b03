//! Flask-JWT-Extended's rules over sessions and accounts.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use countersign_core::flow::{Pair, Renewed, TokenFormat as _};
use countersign_core::model::SessionPolicy;
use countersign_core::store::BoxError;
use countersign_http::{
    Answer, AuthError, CheckedRules, CookieError, CookieKind, CookieLookup, CookieRules, CrossSiteCheck,
    CsrfError, Engine, FoundUser, Gate, Location, Requirement, RulesBuilder, csrf_matches,
};
use countersign_jwt::{Claims, Clock, KeyRing, NewClaims, Random, Timestamp, TokenType, UserId};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Uri};
use serde_json::Value;

use super::answers::{self, ExtendedRefusal, Refused};
use super::locate::{self, Found};
use super::{CookieArguments, FlaskJwtExtended, FlaskJwtExtendedBuilder, Inner, Lifetime};
use crate::build::FlaskBuildError;
use crate::hooks::{FlaskToken, Hook, SessionLookUp};
use crate::over_sessions::{self, Checked, Library, Shown, tell_of_lifetime};
use crate::tokens::{FlaskClaims, algorithm_by_name};

#[async_trait]
impl RulesBuilder for FlaskJwtExtendedBuilder {
    async fn check(
        self: Box<Self>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Box<dyn CheckedRules>, BoxError> {
        let now = clock.now();
        let jwt = self.clock(clock).random(random).finish()?;
        for (name, lifetime) in jwt.config().lifetimes() {
            tell_of_lifetime(name, lifetime);
        }
        jwt.try_out(now).await?;
        Ok(Box::new(Checked(jwt)))
    }
}

impl FlaskJwtExtended {
    /// Makes a token and verifies it, before a client gets one. Otherwise a key pair that does not match, an issuer or
    /// audience that is required but not issued, or a missing signing key would show only at the first login.
    async fn try_out(&self, now: Timestamp) -> Result<(), FlaskBuildError> {
        if let Some(error) = self.signs_nothing() {
            return Err(error);
        }
        let no_tokens = |reason: String| FlaskBuildError::NoTokens { reason };
        let (Ok(user), Ok(id)) = (UserId::new("somebody"), "00000000-0000-4000-8000-000000000000".parse())
        else {
            return Ok(());
        };
        let claims = NewClaims::new(TokenType::Access, user, id, now, now + Duration::from_secs(60));
        let token = self.issue(&claims).map_err(|error| no_tokens(error.to_string()))?;
        match self.decode_token(&token, None, false).await {
            Ok(_) => Ok(()),
            Err(refused) => Err(no_tokens(format!(
                "what is made with them, they refuse: {refused}; look at JWT_ENCODE_… and JWT_DECODE_…, and whether the \
                 keys are a pair"
            ))),
        }
    }

    /// The reason why the rules cannot issue tokens of sessions: they have no configured key to sign with. `None` if
    /// they have one.
    fn signs_nothing(&self) -> Option<FlaskBuildError> {
        if self.0.signing_key.is_some() {
            return None;
        }
        let algorithm = algorithm_by_name(&self.0.config.algorithm)?;
        Some(match algorithm.is_symmetric() {
            true => FlaskBuildError::NoTokens {
                reason:
                    "nothing is signed here with a JWT_SECRET_KEY that is too short, or that a hook gives"
                        .to_owned(),
            },
            false => FlaskBuildError::NoKey { option: "JWT_PRIVATE_KEY", algorithm },
        })
    }

    /// Verifies a token of either type, expired or not.
    async fn decode_token_for_end(&self, token: &str) -> Result<FlaskClaims, Refused> {
        self.decode_token(token, None, true).await
    }

    /// The tokens of a request in all places, of either type, expired or not.
    async fn shown_tokens(&self, parts: &Parts) -> Vec<Shown<Refused>> {
        let mut shown = Vec::new();
        for &location in &self.0.config.token_location {
            if location == Location::Cookie {
                shown.extend(self.shown_in_cookies(parts).await);
                continue;
            }
            for is_refresh in [false, true] {
                // Only the body has a different name for each type.
                if is_refresh && location != Location::Body {
                    continue;
                }
                let verdict = match self.0.config.look(location, parts, is_refresh) {
                    Found::Absent(_) => continue,
                    Found::Stop(refusal) => Err(Refused(refusal)),
                    Found::Token(presented) => self.decode_token_for_end(&presented.token).await,
                };
                shown.push(verdict.into());
            }
        }
        shown
    }

    /// The tokens in cookies. Each has a CSRF value of its own, but pages send only one. Any of the values shows that
    /// the request comes from a page that can read the cookies.
    async fn shown_in_cookies(&self, parts: &Parts) -> Vec<Shown<Refused>> {
        let config = &self.0.config;
        let (mut good, mut shown) = (Vec::new(), Vec::new());
        for names in [&config.access, &config.refresh] {
            match locate::cookie(&parts.headers, &names.name) {
                CookieLookup::Absent | CookieLookup::One("") => {}
                CookieLookup::One(token) => match self.decode_token_for_end(token).await {
                    Ok(claims) => good.push(claims),
                    Err(refused) => shown.push(Shown::Bad(refused)),
                },
                CookieLookup::Unreadable => {
                    let refusal =
                        ExtendedRefusal::Invalid(format!("Cookie \"{}\" is not a token", names.name));
                    shown.push(Shown::Bad(Refused(refusal)));
                }
                CookieLookup::Repeated => {
                    let refusal = locate::repeated(&names.name);
                    shown.push(Shown::Bad(Refused(refusal)));
                }
            }
        }
        let needs_csrf = self.config().needs_csrf(&parts.method);
        let kinds = [&config.access, &config.refresh];
        let values: Vec<_> = kinds.into_iter().filter_map(|names| config.csrf_value(parts, names)).collect();
        let is_proven = good.iter().any(|claims| values.iter().any(|value| claims.csrf_matches(value)));
        if good.is_empty() || is_proven || !needs_csrf {
            shown.extend(good.into_iter().map(Shown::Good));
        } else {
            let message = match values.is_empty() {
                true => "Missing CSRF token",
                false => "CSRF double submit tokens do not match",
            };
            let refusal = ExtendedRefusal::Unauthorized(message.to_owned());
            shown.push(Shown::Unproven(Refused(refusal)));
        }
        shown
    }

    /// The same rules over Countersign's sessions, which also tell whether a token was revoked, with the origins of the
    /// sessions' `Auth`.
    fn over_sessions(&self, is_revoked: Hook<FlaskClaims, bool>, origins: CrossSiteCheck) -> Self {
        let mut inner = Inner::clone(&self.0);
        inner.hooks.of_token.set_sessions(is_revoked);
        inner.cross_site = origins;
        Self(Arc::new(inner))
    }

    /// The keys that verify tokens. A key that serves several algorithms appears once.
    fn verifying_ring(&self) -> KeyRing {
        let mut ring = KeyRing::new();
        for key in self.0.verifying_keys.values() {
            if ring.insert(key.clone()).is_err() {
                tracing::debug!(key = %key.key_id(), "a key serves several algorithms");
            }
        }
        ring
    }

    /// Checks the CSRF value for one of the cookies.
    fn check_csrf(&self, parts: &Parts, kind: CookieKind, claims: &Claims) -> Result<(), CsrfError> {
        let config = self.config();
        let names = if kind == CookieKind::Refresh { &config.refresh } else { &config.access };
        let presented = config.csrf_value(parts, names).ok_or(CsrfError::Missing)?;
        match csrf_matches(&presented, claims.csrf().unwrap_or_default()) {
            true => Ok(()),
            false => Err(CsrfError::Mismatch),
        }
    }

    /// The cookies of a login; for a refresh, without those of the refresh token.
    fn cookies_of_login(
        &self,
        access_token: &str,
        refresh_token: Option<&str>,
        csrf: Option<&str>,
    ) -> Result<Vec<HeaderValue>, CookieError> {
        let arguments = CookieArguments::default();
        let set =
            |token, names| self.cookies_of(token, csrf, names, &arguments).ok_or(CookieError::NotForCookies);
        let mut fields = set(access_token, &self.config().access)?;
        if let Some(token) = refresh_token {
            fields.extend(set(token, &self.config().refresh)?);
        }
        Ok(fields)
    }
}

#[async_trait]
impl Library for FlaskJwtExtended {
    type Refusal = Refused;

    const NAME: &'static str = "flask-jwt-extended";

    fn lifetimes(&self, _: &SessionPolicy) -> [Lifetime; 2] {
        [self.config().access_token_expires, self.config().refresh_token_expires]
    }

    fn over(&self, engine: &Engine) -> Self {
        self.over_sessions(over_sessions::has_ended(engine.sessions()), engine.origins().clone())
    }

    fn cookies(&self) -> &dyn CookieRules {
        self
    }

    fn wants_body(&self, method: &Method, headers: &HeaderMap, requirement: Option<&Requirement>) -> bool {
        Gate::wants_body(self, method, headers, requirement)
    }

    fn is_in_query(&self, uri: &Uri) -> bool {
        Gate::is_in_query(self, uri)
    }

    async fn let_through(
        &self,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Option<FlaskToken>, Refused> {
        self.let_through(parts, requirement).await.map_err(Refused)
    }

    /// The refresh token in the body, otherwise the one in the places that the options name.
    async fn refresh_token(
        &self,
        parts: &Parts,
        in_body: Option<&str>,
    ) -> Result<Option<FlaskToken>, Refused> {
        let (requirement, look_up) = (Requirement::REFRESH, SessionLookUp::ByCaller);
        let proven = match in_body {
            None => self.prove(parts, &requirement, look_up).await,
            Some(token) => match self.verified(token, None).await {
                Ok(claims) => self.accepted(claims, Location::Body, &requirement, look_up).await.map(Some),
                Err(refusal) => Err(refusal),
            },
        };
        proven.map_err(Refused)
    }

    async fn ask_hooks(&self, claims: &FlaskClaims) -> Result<Option<FoundUser>, Refused> {
        self.judge(claims, &Requirement::ANY, SessionLookUp::ByCaller).await.map_err(Refused)
    }

    async fn decode(&self, token: &str, even_expired: bool) -> Result<FlaskClaims, BoxError> {
        Ok(self.decode_token(token, None, even_expired).await?)
    }

    fn is_outage(refusal: &Refused) -> bool {
        matches!(refusal.0, ExtendedRefusal::HookFailed(_))
    }

    async fn decode_for_end(&self, token: &str) -> Result<FlaskClaims, Refused> {
        self.decode_token_for_end(token).await
    }

    async fn shown(&self, parts: &Parts) -> Vec<Shown<Refused>> {
        self.shown_tokens(parts).await
    }

    fn public_keys(&self) -> KeyRing {
        self.verifying_ring()
    }

    async fn answer(&self, refusal: &Refused, _: Option<&Requirement>) -> Answer {
        self.answer_to(refusal).await
    }

    async fn session_ended(&self) -> Answer {
        answers::plain(&self.config().error_message_key, "Token has been revoked")
    }

    fn no_user(&self, identity: &Value) -> Answer {
        let message = format!("Error loading the user {}", answers::python_text(identity));
        answers::plain(&self.config().error_message_key, &message)
    }
}

impl CookieRules for FlaskJwtExtended {
    fn why_not(&self) -> Option<&'static str> {
        match self.config().token_location.contains(&Location::Cookie) {
            true => None,
            false => Some("tokens are not taken from cookies here: JWT_TOKEN_LOCATION does not name them"),
        }
    }

    fn name(&self, kind: CookieKind) -> Option<&str> {
        let config = self.config();
        let name = match kind {
            CookieKind::Access => &config.access.name,
            CookieKind::Refresh => &config.refresh.name,
            CookieKind::Csrf => &config.access.csrf_name,
        };
        Some(name.as_str()).filter(|_| self.why_not().is_none())
    }

    fn are_secure(&self) -> bool {
        self.config().cookie_secure
    }

    fn set(&self, pair: &Pair, _: Timestamp) -> Result<Vec<HeaderValue>, CookieError> {
        self.cookies_of_login(&pair.access_token, Some(&pair.refresh_token), pair.csrf.as_deref())
    }

    fn set_access(&self, renewed: &Renewed, _: Timestamp) -> Result<Vec<HeaderValue>, CookieError> {
        self.cookies_of_login(&renewed.access_token, None, renewed.csrf.as_deref())
    }

    fn forget(&self) -> Vec<HeaderValue> {
        self.unset_jwt_cookies(None)
    }

    fn forget_repeated(&self) -> Vec<HeaderValue> {
        self.expire_repeated()
    }

    fn needs_csrf(&self, _: &Engine, method: &Method) -> bool {
        self.config().needs_csrf(method)
    }

    /// The cookies may have a CSRF value each. Any of them suffices, because another site's page can read none.
    fn check_carried(
        &self,
        _: &Engine,
        parts: &Parts,
        carried: &[(CookieKind, Claims)],
    ) -> Result<(), AuthError> {
        if !self.config().cookie_csrf_protect {
            return Ok(());
        }
        let verdicts = carried.iter().map(|(kind, claims)| self.check_csrf(parts, *kind, claims));
        Ok(verdicts.reduce(Result::or).unwrap_or(Ok(()))?)
    }
}
