//! The application's hooks for Flask-JWT's rules, and the builder that joins them with the options.

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

/// A hook that reads a token's text out of a request.
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

/// Options and hooks from which a [`FlaskJwt`] is built.
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

    /// Sets how the credentials of a login request are checked, Flask-JWT's `authentication_handler`. `None` means that
    /// the credentials are nobody's.
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

    /// Sets how the user of a token is looked up by its claims, Flask-JWT's `identity_handler`. `None` means that there
    /// is no such user. Default: no user is looked up.
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

    /// Sets the claims to add to the default payload of new tokens, Flask-JWT's `jwt_payload_handler`. Default: none.
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

    /// Sets the members to add to the header of new tokens, Flask-JWT's `jwt_headers_handler`. Default: none.
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

    /// Sets the answer to a login, Flask-JWT's `auth_response_handler`. Default: `{"access_token": …}`.
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

    /// Sets the answer to an error, Flask-JWT's `jwt_error_handler`.
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

    /// Sets how the text of a token is read from a request, in place of the `Authorization` header: Flask-JWT's
    /// `request_handler`.
    #[must_use]
    pub fn request(mut self, token: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static) -> Self {
        self.hooks.request = Some(Arc::new(token));
        self
    }

    /// Sets how the application tells that a token was revoked, which Flask-JWT itself cannot tell. Default: no token
    /// is revoked. Of several such hooks, all are asked.
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

    /// The clock. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Accepts a `JWT_SECRET_KEY` that is shorter than the hash, to verify tokens that a Flask application still signs
    /// with it. Nothing is signed with it here, so logins fail. An attacker who has one token can search for such a
    /// secret and then sign in as anybody, so every start logs a warning (SEC-018).
    #[must_use]
    pub fn dangerous_verify_with_short_secret(mut self) -> Self {
        self.import = self.import.dangerous_accept_short_secrets();
        self
    }

    /// Checks the options and hooks, and reads the key.
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

    /// Checks everything except whether there are logins. Logs nothing about lifetimes, because Countersign's sessions
    /// may shorten them.
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
