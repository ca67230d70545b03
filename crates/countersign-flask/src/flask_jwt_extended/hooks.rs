//! The application's hooks for Flask-JWT-Extended's rules, and the builder that joins them with the options.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use countersign_core::store::BoxError;
use countersign_http::reading::shown_in_log;
use countersign_http::{AllowedOrigins, Answer, CrossSiteCheck, OsRandom, SystemClock};
use countersign_jwt::key::ImportRules;
use countersign_jwt::{Algorithm, Clock, Random, SigningKey, VerifyingKey};
use serde_json::{Map, Value};

use super::answers::{ExtendedRefusal, RefusalKind};
use super::config::{FlaskJwtExtendedConfig, Lifetime};
use super::{FlaskJwtExtended, Inner};
use crate::build::{FlaskBuildError, signs, unusable};
use crate::hooks::{Asking, Hook, TokenHooks, hook, hook_failed};
use crate::options::OptionError;
use crate::tokens::{FlaskClaims, FlaskJwtExtendedChecks, KeySource, algorithm_by_name};

type HeaderAndClaims = (Map<String, Value>, Map<String, Value>);
type AnswerHook = Arc<dyn Fn(RefusalContext) -> Asking<Answer> + Send + Sync>;

/// The information about a refusal for the hook that answers it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RefusalContext {
    /// The text of the default answer.
    pub message: String,
    /// The token; `None` unless its signature holds. It is never present for
    /// [`Unauthorized`](super::RefusalKind::Unauthorized) and [`InvalidToken`](super::RefusalKind::InvalidToken).
    pub token: Option<FlaskClaims>,
}

#[derive(Clone, Default)]
pub(super) struct Hooks {
    pub(super) identity: Option<Hook<Value, Value>>,
    pub(super) extra_claims: Option<Hook<Value, Map<String, Value>>>,
    pub(super) extra_headers: Option<Hook<Value, Map<String, Value>>>,
    pub(super) signing_key: Option<Hook<Value, KeySource>>,
    verifying_key: Option<Hook<HeaderAndClaims, KeySource>>,
    pub(super) of_token: TokenHooks,
    verification: Option<Hook<FlaskClaims, bool>>,
    answers: BTreeMap<RefusalKind, AnswerHook>,
}

impl Hooks {
    pub(super) async fn verifying_key(
        &self,
        header: &Map<String, Value>,
        claims: &Map<String, Value>,
    ) -> Result<Option<KeySource>, ExtendedRefusal> {
        match &self.verifying_key {
            Some(hook) => Ok(Some(hook((header.clone(), claims.clone())).await?)),
            None => Ok(None),
        }
    }

    pub(super) async fn verifies(&self, claims: &FlaskClaims) -> Result<bool, ExtendedRefusal> {
        match &self.verification {
            Some(hook) => Ok(hook(claims.clone()).await?),
            None => Ok(true),
        }
    }

    pub(super) async fn answer(&self, refusal: &ExtendedRefusal, message_key: &str) -> Answer {
        if let ExtendedRefusal::HookFailed(error) = refusal {
            return hook_failed(error);
        }
        let message = shown_in_log(&refusal.message());
        tracing::info!(reason = ?refusal.kind(), message, "a request was not let through");
        match refusal.kind().and_then(|kind| self.answers.get(&kind)) {
            Some(hook) => {
                hook(RefusalContext { message: refusal.message(), token: refusal.token().cloned() }).await
            }
            None => refusal.default_answer(message_key),
        }
    }
}

/// Options and hooks from which a [`FlaskJwtExtended`] is built. Every hook may fail; the answer is then 503, and the
/// log gets the cause.
///
/// ```
/// use countersign_core::store::MemoryStore;
/// use countersign_flask::{FlaskJwtExtended, FlaskJwtExtendedConfig};
/// use countersign_http::Auth;
/// # use countersign_core::{flow::Presentation, model::Device};
/// # use countersign_jwt::{Epoch, UserId, claims::decode_unverified};
/// # use countersign_testkit::TestBed;
/// # use serde_json::{Map, Value, json};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let options = json!({"JWT_SECRET_KEY": "o2X9c1vB7uQkLz0TfYhWmR4s8NpEaJdG"});
/// # let options = options.as_object().cloned().unwrap_or_default();
/// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
/// let rules = FlaskJwtExtended::builder(FlaskJwtExtendedConfig::from_options(options)?)
///     .user(async |token| Ok::<_, std::io::Error>(token.identity().as_str().map(str::to_owned)));
///
/// // Countersign's sessions issue tokens that the Flask application accepts.
/// let auth = Auth::builder(stores, secrets).rules(rules).build().await?;
/// let (alice, epoch) = (UserId::new("alice")?, Epoch::FIRST);
/// let pair = auth.sessions().begin(alice, epoch, Presentation::Explicit, Device::default()).await?;
/// assert_eq!(decode_unverified(&pair.access_token)?.header()["alg"], "HS256");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FlaskJwtExtendedBuilder {
    config: FlaskJwtExtendedConfig,
    hooks: Hooks,
    import: ImportRules,
    cross_site: CrossSiteCheck,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl fmt::Debug for FlaskJwtExtendedBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlaskJwtExtendedBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl FlaskJwtExtendedBuilder {
    pub(super) fn new(config: FlaskJwtExtendedConfig) -> Self {
        Self {
            config,
            hooks: Hooks::default(),
            import: ImportRules::strict(),
            cross_site: CrossSiteCheck::default(),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(OsRandom),
        }
    }

    /// Sets what tokens carry as an identity, Flask-JWT-Extended's `user_identity_loader`. Default: the identity
    /// itself.
    #[must_use]
    pub fn identity<E, F, Fut>(mut self, identity: F) -> Self
    where
        E: Into<BoxError>,
        F: Fn(Value) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Value, E>> + Send + 'static,
    {
        self.hooks.identity = Some(hook(identity));
        self
    }

    /// Sets the claims to add to the tokens of an identity, Flask-JWT-Extended's `additional_claims_loader`. Default:
    /// none.
    #[must_use]
    pub fn extra_claims<E, F, Fut>(mut self, claims: F) -> Self
    where
        E: Into<BoxError>,
        F: Fn(Value) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Map<String, Value>, E>> + Send + 'static,
    {
        self.hooks.extra_claims = Some(hook(claims));
        self
    }

    /// Sets the header members to add to the tokens of an identity, Flask-JWT-Extended's `additional_headers_loader`.
    /// Default: none.
    #[must_use]
    pub fn extra_headers<E, F, Fut>(mut self, headers: F) -> Self
    where
        E: Into<BoxError>,
        F: Fn(Value) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Map<String, Value>, E>> + Send + 'static,
    {
        self.hooks.extra_headers = Some(hook(headers));
        self
    }

    /// Sets the key that signs the tokens of an identity, Flask-JWT-Extended's `encode_key_loader`. Default: the
    /// configured key.
    #[must_use]
    pub fn signing_key<E, F, Fut>(mut self, key: F) -> Self
    where
        E: Into<BoxError>,
        F: Fn(Value) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<KeySource, E>> + Send + 'static,
    {
        self.hooks.signing_key = Some(hook(key));
        self
    }

    /// Sets the key that verifies a token, by its header and claims, about which **nothing is proven** yet:
    /// Flask-JWT-Extended's `decode_key_loader`. Default: the configured key.
    #[must_use]
    pub fn verifying_key<E, F, Fut>(mut self, key: F) -> Self
    where
        E: Into<BoxError>,
        F: Fn(Map<String, Value>, Map<String, Value>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<KeySource, E>> + Send + 'static,
    {
        self.hooks.verifying_key = Some(hook(move |(header, claims)| key(header, claims)));
        self
    }

    /// Sets how the application tells that a token was revoked, Flask-JWT-Extended's `token_in_blocklist_loader`.
    /// Default: no token is revoked. Of several such hooks, all are asked.
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

    /// Sets whether the application accepts a token's claims, Flask-JWT-Extended's `token_verification_loader`.
    /// Default: all are accepted.
    #[must_use]
    pub fn verification<E, F, Fut>(mut self, verification: F) -> Self
    where
        E: Into<BoxError>,
        F: Fn(FlaskClaims) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<bool, E>> + Send + 'static,
    {
        self.hooks.verification = Some(hook(verification));
        self
    }

    /// Sets how the user of a token is looked up, Flask-JWT-Extended's `user_lookup_loader`. `None` means that there is
    /// no such user. Default: no user is looked up.
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

    /// Sets the answer to one kind of refusal; see [`RefusalKind`] for the Flask names. Default: Flask-JWT-Extended's.
    #[must_use]
    pub fn answer<F, Fut>(mut self, kind: RefusalKind, answer: F) -> Self
    where
        F: Fn(RefusalContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        self.hooks.answers.insert(kind, Arc::new(move |context| Box::pin(answer(context))));
        self
    }

    /// Sets the other origins whose pages may open WebSockets with the cookies. Default: none; the page must come from
    /// the host that the request is addressed to. Within an [`Auth`](countersign_http::Auth) its own origins are used
    /// instead.
    ///
    /// Flask-JWT-Extended has no such check. It is needed because browsers open a WebSocket from any page, with the
    /// cookies and without a CSRF value.
    #[must_use]
    pub fn allowed_origins(mut self, origins: AllowedOrigins) -> Self {
        self.cross_site = CrossSiteCheck::new(None, origins);
        self
    }

    /// The clock. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The source of random numbers. Default: the operating system's.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// Accepts a `JWT_SECRET_KEY` that is shorter than the hash, to verify tokens that a Flask application still signs
    /// with it. Nothing is signed with it here. An attacker who has one token can search for such a secret and then
    /// sign in as anybody, so every start logs a warning (SEC-018).
    #[must_use]
    pub fn dangerous_verify_with_short_secret(mut self) -> Self {
        self.import = self.import.dangerous_accept_short_secrets();
        self
    }

    /// Checks the options and hooks, and reads the keys.
    ///
    /// # Errors
    /// [`FlaskBuildError`] names the option and the remedy.
    pub fn build(self) -> Result<FlaskJwtExtended, FlaskBuildError> {
        let jwt = self.finish()?;
        for (name, lifetime) in jwt.config().lifetimes() {
            if lifetime == Lifetime::Never {
                tracing::warn!(
                    "{name} is false: such tokens never expire, and whoever finds one has it for good"
                );
            }
        }
        Ok(jwt)
    }

    /// Checks everything, and logs nothing about lifetimes, because Countersign's sessions may shorten them.
    pub(crate) fn finish(self) -> Result<FlaskJwtExtended, FlaskBuildError> {
        let Self { config, hooks, import, cross_site, clock, random } = self;
        for (name, lifetime) in config.lifetimes() {
            if lifetime == Lifetime::For(std::time::Duration::ZERO) {
                return Err(OptionError::new(name, "must be more than 0 seconds").into());
            }
        }
        if config.token_location.is_empty() {
            return Err(OptionError::new("JWT_TOKEN_LOCATION", "must name at least one location").into());
        }
        let signs_with = algorithm(&config.algorithm)?;
        let signing_key = signing_key(&config, signs_with, import, hooks.signing_key.is_some())?;
        let mut names = config.decode_algorithms.clone();
        if !names.contains(&config.algorithm) {
            names.push(config.algorithm.clone());
        }
        let mut verifying_keys = BTreeMap::new();
        for name in &names {
            let verifies = algorithm(name)?;
            let required = verifies == signs_with && hooks.verifying_key.is_none();
            if let Some(key) = verifying_key(&config, verifies, import, required)? {
                verifying_keys.insert(verifies, key);
            }
        }
        let checks = FlaskJwtExtendedChecks {
            algorithms: names,
            audience: config.decode_audience.clone(),
            issuer: config.decode_issuer.clone(),
            leeway: config.decode_leeway,
            subject_is_text: config.verify_sub,
            identity_claim: config.identity_claim.clone(),
            access_without_expiry: config.access_token_expires == Lifetime::Never,
            refresh_without_expiry: config.refresh_token_expires == Lifetime::Never,
        };
        let inner =
            Inner { config, checks, signing_key, verifying_keys, import, cross_site, hooks, clock, random };
        Ok(FlaskJwtExtended(Arc::new(inner)))
    }
}

fn algorithm(name: &str) -> Result<Algorithm, FlaskBuildError> {
    algorithm_by_name(name).ok_or_else(|| OptionError::new("JWT_ALGORITHM", "is unknown").into())
}

/// The configured key that signs; `None` where only a hook has a key, or where the service only verifies.
fn signing_key(
    config: &FlaskJwtExtendedConfig,
    algorithm: Algorithm,
    import: ImportRules,
    by_hook: bool,
) -> Result<Option<SigningKey>, FlaskBuildError> {
    let (option, source) = match algorithm.is_symmetric() {
        true => ("JWT_SECRET_KEY", &config.secret_key),
        false => ("JWT_PRIVATE_KEY", &config.private_key),
    };
    match source {
        Some(source) => signs(source, option, algorithm, import),
        None if by_hook || !algorithm.is_symmetric() => Ok(None),
        None => Err(FlaskBuildError::NoKey { option, algorithm }),
    }
}

fn verifying_key(
    config: &FlaskJwtExtendedConfig,
    algorithm: Algorithm,
    import: ImportRules,
    required: bool,
) -> Result<Option<VerifyingKey>, FlaskBuildError> {
    let (option, source) = match algorithm.is_symmetric() {
        true => ("JWT_SECRET_KEY", &config.secret_key),
        false => ("JWT_PUBLIC_KEY", &config.public_key),
    };
    match source.as_ref().map(|source| source.verifying(algorithm, import)) {
        Some(Ok(key)) => Ok(Some(key)),
        Some(Err(error)) if required => Err(unusable(option, algorithm, error)),
        // There is no key for this further accepted algorithm, so its tokens are refused.
        Some(Err(_)) => Ok(None),
        None if required => Err(FlaskBuildError::NoKey { option, algorithm }),
        None => Ok(None),
    }
}
