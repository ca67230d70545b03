//! Flask-JWT's rules over sessions and accounts.

use std::sync::Arc;

use async_trait::async_trait;
use countersign_core::flow::{Pair, Renewed};
use countersign_core::model::SessionPolicy;
use countersign_core::store::BoxError;
use countersign_http::{
    Answer, Auth, AuthError, CheckedRules, CookieError, CookieKind, CookieRules, Engine, FoundUser,
    Requirement, RulesBuilder,
};
use countersign_jwt::{Claims, Clock, KeyRing, Random, Timestamp};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Uri};
use serde_json::Value;

use super::answers::JwtRefusal;
use super::{FlaskJwt, FlaskJwtBuilder, OverSessions, login};
use crate::flask_jwt_extended::Lifetime;
use crate::hooks::{FlaskToken, SessionLookUp, hook};
use crate::over_sessions::{self, Checked, LONGEST, Library, Shown, tell_of_lifetime};
use crate::tokens::{FlaskClaims, FlaskTokenError};

impl FlaskJwt {
    /// The Flask-JWT rules of this [`Auth`], if they are in force: the login endpoint must then be served.
    #[must_use]
    pub fn of(auth: &Auth) -> Option<&Self> {
        over_sessions::library(auth.rules())
    }
}

#[async_trait]
impl RulesBuilder for FlaskJwtBuilder {
    async fn check(
        self: Box<Self>,
        clock: Arc<dyn Clock>,
        _: Arc<dyn Random>,
    ) -> Result<Box<dyn CheckedRules>, BoxError> {
        let jwt = self.clock(clock).finish()?;
        let config = jwt.config();
        tell_of_lifetime("JWT_EXPIRATION_DELTA", Lifetime::For(config.expiration_delta));
        if !config.requires_expiry() {
            let longest = config.expiration_delta.min(LONGEST).as_secs();
            tracing::warn!(
                "JWT_REQUIRED_CLAIMS does not name exp: tokens without it are refused {longest} s after their iat \
                 (JWT_EXPIRATION_DELTA)"
            );
        }
        Ok(Box::new(Checked(jwt)))
    }
}

#[async_trait]
impl Library for FlaskJwt {
    type Refusal = JwtRefusal;

    const NAME: &'static str = "flask-jwt";

    fn lifetimes(&self, policy: &SessionPolicy) -> [Lifetime; 2] {
        [Lifetime::For(self.config().expiration_delta), Lifetime::For(policy.absolute)]
    }

    fn over(&self, engine: &Engine) -> Self {
        let logins = engine.clone();
        self.over_sessions(OverSessions {
            is_revoked: over_sessions::has_ended(engine.sessions()),
            authenticate: hook(move |login| login::log_in(logins.clone(), login)),
            auth_response: hook(|(_, identity)| async move { login::token_answer(&identity) }),
        })
    }

    fn cookies(&self) -> &dyn CookieRules {
        self
    }

    fn wants_body(&self, _: &Method, _: &HeaderMap, _: Option<&Requirement>) -> bool {
        false
    }

    fn is_in_query(&self, _: &Uri) -> bool {
        false
    }

    async fn let_through(
        &self,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Option<FlaskToken>, JwtRefusal> {
        self.prove(parts, requirement, SessionLookUp::Here).await
    }

    async fn refresh_token(
        &self,
        parts: &Parts,
        in_body: Option<&str>,
    ) -> Result<Option<FlaskToken>, JwtRefusal> {
        self.refresh_token(parts, in_body).await
    }

    async fn ask_hooks(&self, claims: &FlaskClaims) -> Result<Option<FoundUser>, JwtRefusal> {
        self.judge(claims, &Requirement::ANY, SessionLookUp::ByCaller).await
    }

    async fn decode(&self, token: &str, even_expired: bool) -> Result<FlaskClaims, BoxError> {
        match self.decode_token(token) {
            Err(FlaskTokenError::Expired(claims)) if even_expired => Ok(*claims),
            verdict => Ok(verdict?),
        }
    }

    fn is_outage(refusal: &JwtRefusal) -> bool {
        matches!(refusal, JwtRefusal::HookFailed(_))
    }

    async fn decode_for_end(&self, token: &str) -> Result<FlaskClaims, JwtRefusal> {
        self.decode_for_end(token)
    }

    /// The token that a request presents, if its place holds anything.
    async fn shown(&self, parts: &Parts) -> Vec<Shown<JwtRefusal>> {
        match self.presented(parts, &Requirement::ANY) {
            Ok(token) => vec![self.decode_for_end(&token).into()],
            Err(JwtRefusal::Absent) => Vec::new(),
            Err(refusal) => vec![Shown::Bad(refusal)],
        }
    }

    /// An empty ring, because a shared secret is not a public key.
    fn public_keys(&self) -> KeyRing {
        KeyRing::new()
    }

    async fn answer(&self, refusal: &JwtRefusal, requirement: Option<&Requirement>) -> Answer {
        self.answer(refusal, requirement.and_then(Requirement::shown_realm)).await
    }

    async fn session_ended(&self) -> Answer {
        self.revoked().await
    }

    fn no_user(&self, _: &Value) -> Answer {
        self.no_user()
    }
}

/// Cookies do not exist under Flask-JWT's rules.
impl CookieRules for FlaskJwt {
    fn why_not(&self) -> Option<&'static str> {
        Some("tokens are not taken from cookies here: Flask-JWT has none")
    }

    fn name(&self, _: CookieKind) -> Option<&str> {
        None
    }

    fn are_secure(&self) -> bool {
        false
    }

    fn set(&self, _: &Pair, _: Timestamp) -> Result<Vec<HeaderValue>, CookieError> {
        Ok(Vec::new())
    }

    fn set_access(&self, _: &Renewed, _: Timestamp) -> Result<Vec<HeaderValue>, CookieError> {
        Ok(Vec::new())
    }

    fn forget(&self) -> Vec<HeaderValue> {
        Vec::new()
    }

    fn forget_repeated(&self) -> Vec<HeaderValue> {
        Vec::new()
    }

    fn needs_csrf(&self, _: &Engine, _: &Method) -> bool {
        false
    }

    fn check_carried(&self, _: &Engine, _: &Parts, _: &[(CookieKind, Claims)]) -> Result<(), AuthError> {
        Ok(())
    }
}
