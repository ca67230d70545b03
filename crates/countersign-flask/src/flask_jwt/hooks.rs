//! What the application plugs in, and how everything is put together.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use countersign_core::store::BoxError;
use countersign_http::{Answer, SystemClock};
use countersign_jwt::Clock;
use countersign_jwt::key::ImportRules;
use http::request::Parts;
use serde_json::{Map, Value};

use super::answers::FlaskJwtError;
use super::config::FlaskJwtConfig;
use super::login::{Identity, Login};
use super::{FlaskJwt, IDENTITY, Inner};
use crate::build::{FlaskBuildError, signs, unusable};
use crate::hooks::{Hook, TokenHooks, hook};
use crate::options::OptionError;
use crate::tokens::{FlaskClaims, FlaskJwtChecks, algorithm_by_name};

/// What the hook reads out of a request: a token's text.
pub(super) type RequestHook = Arc<dyn Fn(&Parts) -> Option<String> + Send + Sync>;

#[derive(Clone, Default)]
pub(super) struct Hooks {
    pub(super) authenticate: Option<Hook<Login, Option<Identity>>>,
    pub(super) payload: Option<Hook<Identity, Map<String, Value>>>,
    pub(super) headers: Option<Hook<Identity, Map<String, Value>>>,
    pub(super) auth_response: Option<Hook<(String, Identity), Answer>>,
    pub(super) error: Option<Hook<FlaskJwtError, Answer>>,
    pub(super) request: Option<RequestHook>,
    pub(super) of_token: TokenHooks,
}

/// Options and hooks, about to become a [`FlaskJwt`].
#[derive(Clone)]
pub struct FlaskJwtBuilder {
    config: FlaskJwtConfig,
    hooks: Hooks,
    import: ImportRules,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for FlaskJwtBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlaskJwtBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl FlaskJwtBuilder {
    pub(super) fn new(config: FlaskJwtConfig) -> Self {
        Self {
            config,
            hooks: Hooks::default(),
            import: ImportRules::strict(),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// Who has these credentials, as the login request has them: `authentication_handler`. `None`: nobody.
    #[must_use]
    pub fn authenticate<E, F, Fut>(mut self, authenticate: F) -> Self
    where
        E: Into<BoxError>,
        F: Fn(Value, Value) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Identity>, E>> + Send + 'static,
    {
        let authenticate = move |login: Login| authenticate(login.username, login.password);
        self.hooks.authenticate = Some(hook(authenticate));
        self
    }

    /// The user of a token, by its claims: `identity_handler`. `None`: there is none. Default: nobody is looked up.
    #[must_use]
    pub fn user<U, E, F, Fut>(mut self, user: F) -> Self
    where
        U: Send + Sync + 'static,
        E: Into<BoxError>,
        F: Fn(FlaskClaims) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<U>, E>> + Send + 'static,
    {
        self.hooks.of_token.set_user(user);
        self
    }

    /// What to add to the default payload of new tokens: `jwt_payload_handler`. Default nothing.
    #[must_use]
    pub fn payload<E, F, Fut>(mut self, payload: F) -> Self
    where
        E: Into<BoxError>,
        F: Fn(Identity) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Map<String, Value>, E>> + Send + 'static,
    {
        self.hooks.payload = Some(hook(payload));
        self
    }

    /// What to add to the header of new tokens: `jwt_headers_handler`. Default nothing.
    #[must_use]
    pub fn headers<E, F, Fut>(mut self, headers: F) -> Self
    where
        E: Into<BoxError>,
        F: Fn(Identity) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Map<String, Value>, E>> + Send + 'static,
    {
        self.hooks.headers = Some(hook(headers));
        self
    }

    /// The answer to a login: `auth_response_handler`. Default `{"access_token": …}`.
    #[must_use]
    pub fn auth_response<E, F, Fut>(mut self, answer: F) -> Self
    where
        E: Into<BoxError>,
        F: Fn(String, Identity) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Answer, E>> + Send + 'static,
    {
        self.hooks.auth_response = Some(hook(move |(token, identity)| answer(token, identity)));
        self
    }

    /// The answer to an error: `jwt_error_handler`.
    #[must_use]
    pub fn error<E, F, Fut>(mut self, answer: F) -> Self
    where
        E: Into<BoxError>,
        F: Fn(FlaskJwtError) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Answer, E>> + Send + 'static,
    {
        self.hooks.error = Some(hook(answer));
        self
    }

    /// The text of a request's token, in place of the `Authorization` header: `request_handler`.
    #[must_use]
    pub fn request(mut self, token: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        self.hooks.request = Some(Arc::new(token));
        self
    }

    /// Whether a token was revoked, which Flask-JWT itself cannot say. Default: none is. Added again, all are asked.
    #[must_use]
    pub fn is_revoked<E, F, Fut>(mut self, is_revoked: F) -> Self
    where
        E: Into<BoxError>,
        F: Fn(FlaskClaims) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<bool, E>> + Send + 'static,
    {
        self.hooks.of_token.add_is_revoked(hook(is_revoked));
        self
    }

    /// The time. Default the system's clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Accepts a `JWT_SECRET_KEY` that is shorter than the hash, to verify what a Flask application still signs with
    /// it. Nothing is signed with it here, so that logins fail. Whoever has one token can search for such a secret,
    /// and then signs in as anybody, so every start says so in the log (SEC-018).
    #[must_use]
    pub fn dangerous_verify_with_short_secret(mut self) -> Self {
        self.import = self.import.dangerous_accept_short_secrets();
        self
    }

    /// Checks everything, the key above all.
    ///
    /// # Errors
    /// [`FlaskBuildError`] names the option and the remedy.
    pub fn build(self) -> Result<FlaskJwt, FlaskBuildError> {
        if self.config.auth_url_rule.is_some() && self.hooks.authenticate.is_none() {
            return Err(OptionError::new(
                "JWT_AUTH_URL_RULE",
                "gives a login endpoint, so `.authenticate(…)` must say on the builder who may log in; or set it to \
                 null for no login endpoint",
            )
            .into());
        }
        let jwt = self.finish()?;
        if !jwt.config().requires_expiry() {
            tracing::warn!("JWT_REQUIRED_CLAIMS does not name exp: tokens without it are good for ever");
        }
        Ok(jwt)
    }

    /// Checks everything but whether there are logins, and says nothing about lifetimes: sessions of Countersign may
    /// shorten them.
    pub(crate) fn finish(self) -> Result<FlaskJwt, FlaskBuildError> {
        const KEY: &str = "JWT_SECRET_KEY";
        let Self { config, hooks, import, clock } = self;
        let algorithm = algorithm_by_name(&config.algorithm).filter(|algorithm| algorithm.is_symmetric());
        let algorithm = algorithm.ok_or_else(|| {
            OptionError::new(
                "JWT_ALGORITHM",
                "must be HS256, HS384 or HS512: Flask-JWT signs and verifies with one and the same key",
            )
        })?;
        let source = config.secret_key.as_ref().ok_or(FlaskBuildError::NoKey { option: KEY, algorithm })?;
        let unusable = |error| unusable(KEY, algorithm, error);
        let signing_key = signs(source, KEY, algorithm, import)?;
        let verifying_key = source.verifying(algorithm, import).map_err(unusable)?;
        let checks = FlaskJwtChecks {
            algorithm: config.algorithm.clone(),
            leeway: config.leeway,
            required: config.required_claims.clone(),
            identity_claim: IDENTITY.to_owned(),
        };
        Ok(FlaskJwt(Arc::new(Inner { config, checks, signing_key, verifying_key, hooks, clock })))
    }
}
