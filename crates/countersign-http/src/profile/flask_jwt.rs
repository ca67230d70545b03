//! Flask-JWT's rules: its options, tokens, login endpoint and answers, under names of this library.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use countersign_core::flow::TokenFormat;
use countersign_core::model::Device;
use countersign_core::profile::{
    FLASK_JWT_REFRESH_AUDIENCE, FlaskJwtRules, IssueError, KeySource, Leeway, NewToken, ProfileClaims,
    ProfileError, UnverifiedToken, algorithm_by_name, is_falsy,
};
use countersign_core::store::BoxError;
use countersign_jwt::jws::SignError;
use countersign_jwt::key::ImportRules;
use countersign_jwt::{Clock, NewClaims, SigningKey, TokenType, VerifyingKey};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use serde::Serialize;
use serde_json::{Map, Value};

use super::flask_jwt_extended::{self, BuildProfileError, Hook, claim_in_words, hook, is_json};
use super::options::{OptionError, Options, duration};
use super::{HookedUser, Profile, ProfileToken, SessionLookUp, hook_failed};
use crate::answer::{Answer, ErrorCode, quotable};
use crate::encoding::ContentEncoding;
use crate::locate::Location;
use crate::log::shown_in_log;
use crate::requirement::{Optional, RequiredToken, Requirement};
use crate::system::SystemClock;

/// The options of Flask-JWT, with their names without `JWT_` and its defaults.
#[derive(Clone, Debug)]
pub struct FlaskJwtConfig {
    /// `JWT_DEFAULT_REALM`. Default `Login Required`.
    pub default_realm: String,
    /// `JWT_AUTH_URL_RULE`: the path of the login endpoint; `None` for no such endpoint. Default `/auth`.
    pub auth_url_rule: Option<String>,
    /// `methods` of `JWT_AUTH_URL_OPTIONS`. Default POST.
    pub auth_methods: Vec<Method>,
    /// `JWT_AUTH_USERNAME_KEY`. Default `username`.
    pub auth_username_key: String,
    /// `JWT_AUTH_PASSWORD_KEY`. Default `password`.
    pub auth_password_key: String,
    /// `JWT_ALGORITHM`: signs, and is the only one accepted. Default `HS256`.
    pub algorithm: String,
    /// `JWT_SECRET_KEY`, else Flask's `SECRET_KEY`. At least as long as the hash.
    pub secret_key: Option<KeySource>,
    /// `JWT_LEEWAY`, seconds, at most 300. Default 10.
    pub leeway: Leeway,
    /// `JWT_AUTH_HEADER_PREFIX`: the word before the token, in any case. Default `JWT`.
    pub auth_header_prefix: String,
    /// `JWT_EXPIRATION_DELTA`, seconds. Default 300.
    pub expiration_delta: Duration,
    /// `JWT_NOT_BEFORE_DELTA`, seconds. Default 0.
    pub not_before_delta: Duration,
    /// `JWT_REQUIRED_CLAIMS`: which claims a token must have. Default `exp`, `iat`, `nbf`.
    pub required_claims: Vec<String>,
}

impl Default for FlaskJwtConfig {
    fn default() -> Self {
        Self::read(&Options::default()).expect("the defaults are good options")
    }
}

impl FlaskJwtConfig {
    /// Every option's name. `JWT_AUTH_ENDPOINT`, `JWT_VERIFY_CLAIMS`, `JWT_VERIFY` and `JWT_VERIFY_EXPIRATION` have
    /// no effect, as in Flask-JWT: signature and times are always checked.
    pub const NAMES: [&str; 17] = [
        "JWT_ALGORITHM",
        "JWT_AUTH_ENDPOINT",
        "JWT_AUTH_HEADER_PREFIX",
        "JWT_AUTH_PASSWORD_KEY",
        "JWT_AUTH_URL_OPTIONS",
        "JWT_AUTH_URL_RULE",
        "JWT_AUTH_USERNAME_KEY",
        "JWT_DEFAULT_REALM",
        "JWT_EXPIRATION_DELTA",
        "JWT_LEEWAY",
        "JWT_NOT_BEFORE_DELTA",
        "JWT_REQUIRED_CLAIMS",
        "JWT_SECRET_KEY",
        "JWT_VERIFY",
        "JWT_VERIFY_CLAIMS",
        "JWT_VERIFY_EXPIRATION",
        "SECRET_KEY",
    ];

    /// Reads and checks the options. Absent ones have Flask-JWT's defaults.
    ///
    /// # Errors
    /// [`OptionError`] names the first option that cannot be used, and what to write.
    pub fn from_options(options: impl Into<Options>) -> Result<Self, OptionError> {
        let options = options.into();
        options.check_names(&Self::NAMES)?;
        Self::read(&options)
    }

    /// Whether tokens must say when they end.
    pub(super) fn requires_expiry(&self) -> bool {
        self.required_claims.iter().any(|name| name == "exp")
    }

    fn read(options: &Options) -> Result<Self, OptionError> {
        let secret = options.key("JWT_SECRET_KEY")?;
        let required = || ["exp", "iat", "nbf"].map(str::to_owned).to_vec();
        Ok(Self {
            default_realm: options.text_or("JWT_DEFAULT_REALM", Some("Login Required"))?.unwrap_or_default(),
            auth_url_rule: auth_url_rule(options)?,
            auth_methods: auth_methods(options)?,
            auth_username_key: options.name("JWT_AUTH_USERNAME_KEY", "username")?,
            auth_password_key: options.name("JWT_AUTH_PASSWORD_KEY", "password")?,
            algorithm: flask_jwt_extended::algorithm(options, "JWT_ALGORITHM", "HS256")?,
            secret_key: match secret {
                Some(secret) => Some(secret),
                None => options.key("SECRET_KEY")?,
            },
            leeway: options.leeway("JWT_LEEWAY", Duration::from_secs(10))?,
            auth_header_prefix: options.text_or("JWT_AUTH_HEADER_PREFIX", Some("JWT"))?.unwrap_or_default(),
            expiration_delta: delta(options, "JWT_EXPIRATION_DELTA", 300)?,
            not_before_delta: delta(options, "JWT_NOT_BEFORE_DELTA", 0)?,
            required_claims: options.texts("JWT_REQUIRED_CLAIMS")?.unwrap_or_else(required),
        })
    }
}

fn auth_url_rule(options: &Options) -> Result<Option<String>, OptionError> {
    const NAME: &str = "JWT_AUTH_URL_RULE";
    match options.text_or(NAME, Some("/auth"))?.filter(|rule| !rule.is_empty()) {
        Some(rule) if !rule.starts_with('/') || rule.contains(['{', '}', '<', '>', '*']) => {
            Err(OptionError::new(NAME, "must be a path such as \"/auth\", or null for no login endpoint"))
        }
        rule => Ok(rule),
    }
}

fn auth_methods(options: &Options) -> Result<Vec<Method>, OptionError> {
    const NAME: &str = "JWT_AUTH_URL_OPTIONS";
    let wrong = || OptionError::new(NAME, "must be an object such as {\"methods\": [\"POST\"]}");
    match options.value(NAME) {
        None | Some(Value::Null) => Ok(vec![Method::POST]),
        Some(Value::Object(members)) => match members.get("methods") {
            None => Ok(vec![Method::GET]),
            Some(Value::Array(names)) => names
                .iter()
                .map(|name| {
                    let name = name.as_str().ok_or_else(wrong)?.to_ascii_uppercase();
                    Method::from_bytes(name.as_bytes()).map_err(|_| wrong())
                })
                .collect(),
            Some(_) => Err(wrong()),
        },
        Some(_) => Err(wrong()),
    }
}

/// A number of seconds that may be 0.
fn delta(options: &Options, name: &'static str, default: u64) -> Result<Duration, OptionError> {
    match options.value(name) {
        None => Ok(Duration::from_secs(default)),
        Some(Value::Number(number)) if number.as_f64() == Some(0.0) => Ok(Duration::ZERO),
        Some(value) => duration(value).ok_or_else(|| {
            OptionError::new(name, "must be a number of seconds that is not negative, such as 300")
        }),
    }
}

/// Who logged in: the value that tokens carry as `identity`, and the application's own object.
#[derive(Clone)]
pub struct Identity {
    id: Value,
    user: Arc<dyn Any + Send + Sync>,
}

impl Identity {
    /// An identity of the application's own.
    #[must_use]
    pub fn new(id: impl Into<Value>, user: impl Any + Send + Sync) -> Self {
        Self { id: id.into(), user: Arc::new(user) }
    }

    /// What tokens carry.
    #[must_use]
    pub fn id(&self) -> &Value {
        &self.id
    }

    /// The application's own object.
    #[must_use]
    pub fn user<U: 'static>(&self) -> Option<&U> {
        self.user.downcast_ref()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A login request.
pub(super) struct Login {
    /// As it was sent.
    pub(super) username: Value,
    /// As it was sent.
    pub(super) password: Value,
    /// Who asks.
    pub(super) device: Device,
}

/// An error as Flask-JWT reports it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct FlaskJwtError {
    /// What.
    pub description: String,
    /// Which kind.
    pub error: String,
    /// The status that Flask-JWT gives it: 401.
    pub status_code: u16,
}

impl FlaskJwtError {
    fn new(error: &str, description: &str) -> Self {
        Self { description: description.to_owned(), error: error.to_owned(), status_code: 401 }
    }
}

/// What sessions of this library add to the rules.
pub(super) struct OverSessions {
    /// Whether the session of a token has ended.
    pub(super) is_revoked: Hook<ProfileClaims, bool>,
    /// A login with this library's accounts, where the application has none of its own.
    pub(super) authenticate: Hook<Login, Option<Identity>>,
    /// The answer to such a login.
    pub(super) auth_response: Hook<(String, Identity), Answer>,
}

/// What the hook reads out of a request: a token's text.
type RequestHook = Arc<dyn Fn(&Parts) -> Option<String> + Send + Sync>;

#[derive(Clone, Default)]
struct Hooks {
    authenticate: Option<Hook<Login, Option<Identity>>>,
    user: Option<Hook<ProfileClaims, Option<HookedUser>>>,
    payload: Option<Hook<Identity, Map<String, Value>>>,
    headers: Option<Hook<Identity, Map<String, Value>>>,
    auth_response: Option<Hook<(String, Identity), Answer>>,
    error: Option<Hook<FlaskJwtError, Answer>>,
    request: Option<RequestHook>,
    is_revoked: Vec<Hook<ProfileClaims, bool>>,
    /// This library's own sessions, where the rules stand over them.
    sessions: Option<Hook<ProfileClaims, bool>>,
}

/// An application's Flask-JWT: cheap to clone, made by [`FlaskJwt::builder`].
#[derive(Clone)]
pub struct FlaskJwt(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    config: FlaskJwtConfig,
    rules: FlaskJwtRules,
    signing_key: Option<SigningKey>,
    verifying_key: VerifyingKey,
    hooks: Hooks,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for FlaskJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlaskJwt").field("config", &self.0.config).finish_non_exhaustive()
    }
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
        F: Fn(ProfileClaims) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<U>, E>> + Send + 'static,
    {
        self.hooks.user = Some(hook(move |claims| {
            let asking = user(claims);
            async move {
                let user = asking.await.map_err(Into::<BoxError>::into)?;
                Ok::<_, BoxError>(user.map(|user| Arc::new(user) as HookedUser))
            }
        }));
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
        F: Fn(ProfileClaims) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<bool, E>> + Send + 'static,
    {
        self.hooks.is_revoked.push(hook(is_revoked));
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
    /// [`BuildProfileError`] names the option and the remedy.
    pub fn build(self) -> Result<FlaskJwt, BuildProfileError> {
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

    /// Checks everything but whether there are logins, and says nothing about lifetimes: sessions of this library may
    /// shorten them.
    pub(super) fn finish(self) -> Result<FlaskJwt, BuildProfileError> {
        const KEY: &str = "JWT_SECRET_KEY";
        let Self { config, hooks, import, clock } = self;
        let algorithm = algorithm_by_name(&config.algorithm).filter(|algorithm| algorithm.is_symmetric());
        let algorithm = algorithm.ok_or_else(|| {
            OptionError::new(
                "JWT_ALGORITHM",
                "must be HS256, HS384 or HS512: Flask-JWT signs and verifies with one and the same key",
            )
        })?;
        let source = config.secret_key.as_ref().ok_or(BuildProfileError::NoKey { option: KEY, algorithm })?;
        let unusable = |error| flask_jwt_extended::unusable(KEY, algorithm, error);
        let signing_key = flask_jwt_extended::signs(source, KEY, algorithm, import)?;
        let verifying_key = source.verifying(algorithm, import).map_err(unusable)?;
        let rules = FlaskJwtRules {
            algorithm: config.algorithm.clone(),
            leeway: config.leeway,
            required: config.required_claims.clone(),
            identity_claim: IDENTITY.to_owned(),
        };
        Ok(FlaskJwt(Arc::new(Inner { config, rules, signing_key, verifying_key, hooks, clock })))
    }
}

impl FlaskJwt {
    /// Begins with the options; hooks are added to it.
    #[must_use]
    pub fn builder(config: FlaskJwtConfig) -> FlaskJwtBuilder {
        FlaskJwtBuilder {
            config,
            hooks: Hooks::default(),
            import: ImportRules::strict(),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// The options.
    #[must_use]
    pub fn config(&self) -> &FlaskJwtConfig {
        &self.0.config
    }

    /// The same rules over sessions of this library, which also say whether a token was revoked.
    pub(super) fn over_sessions(&self, sessions: OverSessions) -> Self {
        let mut inner = Inner::clone(&self.0);
        inner.hooks.sessions = Some(sessions.is_revoked);
        if inner.hooks.authenticate.is_none() {
            inner.hooks.authenticate = Some(sessions.authenticate);
            inner.hooks.auth_response = Some(sessions.auth_response);
        }
        Self(Arc::new(inner))
    }

    /// Answers a login request, as the endpoint at `JWT_AUTH_URL_RULE` does.
    pub async fn login(&self, headers: &HeaderMap, body: &[u8]) -> Answer {
        self.login_from(headers, body, Device::default()).await
    }

    /// The same, with what is known of who asks: where sessions of this library begin here, they show it.
    pub async fn login_from(&self, headers: &HeaderMap, body: &[u8], device: Device) -> Answer {
        match self.logged_in(headers, body, device).await {
            Ok(answer) => answer,
            Err(refusal) => self.answer(refusal, None).await,
        }
    }

    /// A token for an identity, as a login gives it.
    ///
    /// # Errors
    /// When a hook fails, or what the hooks add cannot be issued.
    pub async fn create_token(&self, identity: &Identity) -> Result<String, BoxError> {
        let Inner { config, hooks, signing_key, clock, .. } = &*self.0;
        let now = clock.now();
        let mut claims = Map::new();
        claims.insert("exp".to_owned(), (now + config.expiration_delta).as_secs().into());
        claims.insert("iat".to_owned(), now.as_secs().into());
        claims.insert("nbf".to_owned(), (now + config.not_before_delta).as_secs().into());
        claims.insert(IDENTITY.to_owned(), identity.id.clone());
        if let Some(hook) = &hooks.payload {
            claims.extend(hook(identity.clone()).await?);
        }
        if let Some(missing) = config.required_claims.iter().find(|name| !claims.contains_key(*name)) {
            return Err(format!("payload is missing a required claim: {missing}").into());
        }
        let mut headers = Map::new();
        if let Some(hook) = &hooks.headers {
            headers = hook(identity.clone()).await?;
        }
        let token = NewToken::new(claims).with_header(headers)?;
        let key =
            signing_key.as_ref().ok_or("JWT_SECRET_KEY is shorter than the hash, so it only verifies")?;
        Ok(token.sign(key, &config.algorithm)?)
    }

    /// Verifies a token that is no part of a request: everything but the user.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn decode_token(&self, token: &str) -> Result<ProfileClaims, ProfileError> {
        let inner = &*self.0;
        let parsed = UnverifiedToken::parse(token)?;
        inner.rules.verify(&parsed, |_| Ok(inner.verifying_key.clone()), inner.clock.now())
    }

    async fn logged_in(&self, headers: &HeaderMap, body: &[u8], device: Device) -> Result<Answer, Refusal> {
        let Inner { config, hooks, .. } = &*self.0;
        if let Some(encoding) = ContentEncoding::of(headers).filter(|_| !body.is_empty()) {
            return Ok(encoding.into());
        }
        if !is_json(headers) {
            return Err(Refusal::Unreadable("The login must be application/json"));
        }
        let Ok(Value::Object(members)) = serde_json::from_slice(body) else {
            return Err(Refusal::Unreadable("The login must be a JSON object"));
        };
        let refused = || Refusal::Error(FlaskJwtError::new("Bad Request", "Invalid credentials"));
        let given = |key: &str| members.get(key).filter(|value| !is_falsy(value)).cloned();
        let (Some(username), Some(password), 2) =
            (given(&config.auth_username_key), given(&config.auth_password_key), members.len())
        else {
            return Err(refused());
        };
        let authenticate = hooks.authenticate.as_ref().ok_or_else(|| {
            Refusal::HookFailed("no authenticate hook; add `.authenticate(…)` to the FlaskJwtBuilder".into())
        })?;
        let login = Login { username, password, device };
        let identity = authenticate(login).await?.ok_or_else(refused)?;
        let token = self.create_token(&identity).await?;
        match &hooks.auth_response {
            Some(hook) => Ok(hook((token, identity)).await?),
            None => {
                let body = Map::from_iter([("access_token".to_owned(), Value::from(token))]);
                let mut answer =
                    Answer::json(StatusCode::OK, &body).map_err(|error| Refusal::HookFailed(error.into()))?;
                crate::answer::no_store(answer.headers_mut());
                Ok(answer)
            }
        }
    }

    /// Finds and verifies the token of a request, and judges it.
    async fn prove(
        &self,
        parts: &Parts,
        requirement: &Requirement,
        look_up: SessionLookUp,
    ) -> Result<Option<ProfileToken>, Refusal> {
        let token = match (self.presented(parts, requirement), requirement.optional) {
            (Err(Refusal::Absent), Some(_))
            | (Err(Refusal::OtherScheme), Some(Optional::IfAbsent | Optional::IfAbsentOrExpired)) => {
                return Ok(None);
            }
            (token, _) => token?,
        };
        match self.decode_token(&token) {
            Err(ProfileError::Expired(_)) if requirement.optional == Some(Optional::IfAbsentOrExpired) => {
                Ok(None)
            }
            Err(error) => Err(self.refused(&token, error)),
            Ok(claims) => self.accepted(claims, Location::Header, requirement, look_up).await.map(Some),
        }
    }

    /// The text of the token that a request presents, where the application says it is, else in the header.
    fn presented(&self, parts: &Parts, requirement: &Requirement) -> Result<String, Refusal> {
        match &self.0.hooks.request {
            Some(hook) => hook(parts).ok_or(Refusal::Absent),
            // Flask-JWT knows no other place, so a route that wants others only has no token.
            None if requirement
                .locations
                .as_ref()
                .is_some_and(|places| !places.contains(&Location::Header)) =>
            {
                Err(Refusal::Absent)
            }
            None => self.in_header(&parts.headers),
        }
    }

    async fn accepted(
        &self,
        claims: ProfileClaims,
        location: Location,
        requirement: &Requirement,
        look_up: SessionLookUp,
    ) -> Result<ProfileToken, Refusal> {
        let user = self.judge(&claims, requirement, look_up).await?;
        Ok(ProfileToken {
            header: claims.header().clone(),
            claims: claims.claims().clone(),
            identity: claims.identity().clone(),
            location,
            user,
            verified: claims,
        })
    }

    /// Judges verified claims, wherever they came from: by what the requirement names, and by every hook of the
    /// application. The user is the one that its hook has found.
    async fn judge(
        &self,
        claims: &ProfileClaims,
        requirement: &Requirement,
        look_up: SessionLookUp,
    ) -> Result<Option<HookedUser>, Refusal> {
        let hooks = &self.0.hooks;
        // A refresh token of Flask-JWT-Extended with the same key gets access tokens, not access.
        if !requirement.token.accepts(claims.token_type()) {
            return Err(invalid(match requirement.token {
                RequiredToken::Refresh => "Only refresh tokens are allowed",
                _ => "Only access tokens are allowed",
            }));
        }
        // Flask-JWT's own tokens never say that they are; those of Flask-JWT-Extended and of our sessions may.
        if requirement.fresh && claims.is_fresh(self.0.clock.now()) != Some(true) {
            return Err(invalid("Fresh token required"));
        }
        if !requirement.skip_revocation {
            let sessions = hooks.sessions.iter().filter(|_| look_up == SessionLookUp::Here);
            for hook in hooks.is_revoked.iter().chain(sessions) {
                if hook(claims.clone()).await? {
                    return Err(invalid("Token has been revoked"));
                }
            }
        }
        if !super::permits(requirement, claims.claims()) {
            return Err(Refusal::Forbidden);
        }
        match &hooks.user {
            Some(hook) => match hook(claims.clone()).await? {
                Some(user) => Ok(Some(user)),
                None => Err(Refusal::Error(FlaskJwtError::new("Invalid JWT", "User does not exist"))),
            },
            None => Ok(None),
        }
    }

    /// The refresh token that a request wants exchanged: the one in its body, else the one that it presents as it
    /// would an access token. Flask-JWT itself has none.
    pub(super) async fn refresh_token(
        &self,
        parts: &Parts,
        in_body: Option<&str>,
    ) -> Result<Option<ProfileToken>, Answer> {
        let (requirement, look_up) = (Requirement::REFRESH, SessionLookUp::ByCaller);
        let proven = match in_body {
            None => self.prove(parts, &requirement, look_up).await,
            Some(token) => match self.decode_token(token) {
                Ok(claims) => self.accepted(claims, Location::Body, &requirement, look_up).await.map(Some),
                Err(error) => Err(self.refused(token, error)),
            },
        };
        match proven {
            Ok(token) => Ok(token),
            Err(refusal) => Err(self.answer(refusal, None).await),
        }
    }

    /// Judges verified claims by the application's hooks alone.
    pub(super) async fn ask_hooks(&self, claims: &ProfileClaims) -> Result<Option<HookedUser>, Answer> {
        match self.judge(claims, &Requirement::ANY, SessionLookUp::ByCaller).await {
            Ok(user) => Ok(user),
            Err(refusal) => Err(self.answer(refusal, None).await),
        }
    }

    fn in_header(&self, headers: &HeaderMap) -> Result<String, Refusal> {
        let fields = headers.get_all(header::AUTHORIZATION).iter();
        let fields: Vec<_> = fields.map(|field| String::from_utf8_lossy(field.as_bytes())).collect();
        let joined = fields.join(",");
        let mut words = joined.split_ascii_whitespace();
        let Some(prefix) = words.next() else { return Err(Refusal::Absent) };
        if prefix.to_lowercase() != self.0.config.auth_header_prefix.to_lowercase() {
            return Err(Refusal::OtherScheme);
        }
        let invalid =
            |description| Err(Refusal::Error(FlaskJwtError::new("Invalid JWT header", description)));
        match (words.next(), words.next()) {
            (None, _) => invalid("Token missing"),
            (Some(token), None) => Ok(token.to_owned()),
            (Some(_), Some(_)) => invalid("Token contains spaces"),
        }
    }

    /// Verifies a token of either kind, expired or not.
    pub(super) async fn decode_for_end(&self, token: &str) -> Result<ProfileClaims, Answer> {
        match self.decode_token(token) {
            Ok(claims) => Ok(claims),
            Err(ProfileError::Expired(claims)) => Ok(*claims),
            Err(error) => Err(self.answer(self.refused(token, error), None).await),
        }
    }

    /// The token that a request presents, if there is anything in its place.
    pub(super) async fn shown(&self, parts: &Parts) -> Option<Result<ProfileClaims, Answer>> {
        match self.presented(parts, &Requirement::ANY) {
            Ok(token) => Some(self.decode_for_end(&token).await),
            Err(Refusal::Absent) => None,
            Err(refusal) => Some(Err(self.answer(refusal, None).await)),
        }
    }

    /// The log has learnt the cause.
    pub(super) async fn revoked(&self) -> Answer {
        self.shaped(FlaskJwtError::new("Invalid token", "Token has been revoked"), None).await
    }

    /// The log has learnt the cause.
    pub(super) fn no_user(&self) -> Answer {
        let error = FlaskJwtError::new("Invalid JWT", "User does not exist");
        Answer::json(StatusCode::UNAUTHORIZED, &error)
            .unwrap_or_else(|_| Answer::error(ErrorCode::InternalError))
    }

    /// Why a token was not accepted, in Flask-JWT's words.
    fn refused(&self, token: &str, error: ProfileError) -> Refusal {
        let Inner { rules, verifying_key, clock, .. } = &*self.0;
        let known_as = rules.explain(token, error, |_| Ok(verifying_key.clone()), clock.now());
        invalid(&text(&known_as))
    }

    async fn answer(&self, refusal: Refusal, realm: Option<&str>) -> Answer {
        let (error, challenge) = match refusal {
            Refusal::HookFailed(error) => return hook_failed(&error),
            Refusal::Forbidden => return Answer::error(ErrorCode::InsufficientScope),
            Refusal::Unreadable(description) => {
                let error =
                    FlaskJwtError { status_code: 400, ..FlaskJwtError::new("Bad Request", description) };
                return Answer::json(StatusCode::BAD_REQUEST, &error)
                    .unwrap_or_else(|_| Answer::error(ErrorCode::InternalError));
            }
            Refusal::Error(error) => (error, None),
            Refusal::OtherScheme => {
                (FlaskJwtError::new("Invalid JWT header", "Unsupported authorization type"), None)
            }
            Refusal::Absent => {
                let realm = realm.unwrap_or(&self.0.config.default_realm);
                let error =
                    FlaskJwtError::new("Authorization Required", "Request does not contain an access token");
                (error, HeaderValue::try_from(format!("JWT realm=\"{}\"", quotable(realm))).ok())
            }
        };
        tracing::info!(
            error = error.error,
            description = shown_in_log(&error.description),
            "a request was not let through"
        );
        self.shaped(error, challenge).await
    }

    async fn shaped(&self, error: FlaskJwtError, challenge: Option<HeaderValue>) -> Answer {
        if let Some(hook) = &self.0.hooks.error {
            return match hook(error).await {
                Ok(answer) => answer,
                Err(error) => hook_failed(&error),
            };
        }
        let status = StatusCode::from_u16(error.status_code).unwrap_or(StatusCode::UNAUTHORIZED);
        let mut answer =
            Answer::json(status, &error).unwrap_or_else(|_| Answer::error(ErrorCode::InternalError));
        if let Some(challenge) = challenge {
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        answer
    }
}

#[async_trait]
impl Profile for FlaskJwt {
    fn is_in_query(&self, _: &Uri) -> bool {
        false
    }

    fn wants_body(&self, _: &Method, _: &HeaderMap, _: Option<&Requirement>) -> bool {
        false
    }

    async fn authenticate(
        &self,
        parts: &Parts,
        requirement: &Requirement,
    ) -> Result<Option<ProfileToken>, Answer> {
        match self.prove(parts, requirement, SessionLookUp::Here).await {
            Ok(token) => Ok(token),
            Err(refusal) => Err(self.answer(refusal, requirement.realm.as_deref()).await),
        }
    }
}

/// Tokens of this library's sessions: the same claims, and those that name the session. Flask-JWT has no refresh
/// tokens; ours are made so that it does not take them for access tokens.
impl TokenFormat for FlaskJwt {
    fn issue(&self, new: &NewClaims) -> Result<String, SignError> {
        let mut claims = new.to_map();
        if let Some(subject) = claims.remove("sub") {
            claims.insert(IDENTITY.to_owned(), subject);
        }
        if new.token_type() == TokenType::Refresh {
            claims.insert("aud".to_owned(), FLASK_JWT_REFRESH_AUDIENCE.into());
        }
        let issued_at = new.issued_at().unwrap_or_else(|| self.0.clock.now());
        claims.insert("nbf".to_owned(), (issued_at + self.0.config.not_before_delta).as_secs().into());
        let key = self.0.signing_key.as_ref().ok_or(SignError::Failed)?;
        NewToken::new(claims).sign(key, &self.0.config.algorithm).map_err(|error| match error {
            IssueError::Sign(error) => error,
            _ => SignError::Failed,
        })
    }
}

/// Why a request or login was not let through.
enum Refusal {
    /// No token.
    Absent,
    /// Credentials of another scheme than the configured one.
    OtherScheme,
    /// A login that is no JSON object: none of Flask-JWT's errors, so that no hook is asked.
    Unreadable(&'static str),
    Error(FlaskJwtError),
    /// The token does not permit enough, which Flask-JWT has no word for.
    Forbidden,
    HookFailed(BoxError),
}

impl From<BoxError> for Refusal {
    fn from(error: BoxError) -> Self {
        Self::HookFailed(error)
    }
}

fn invalid(description: &str) -> Refusal {
    Refusal::Error(FlaskJwtError::new("Invalid token", description))
}

/// What Flask-JWT, and PyJWT below it, say of an error.
fn text(error: &ProfileError) -> String {
    match error {
        ProfileError::Expired(_) => "Signature has expired".to_owned(),
        ProfileError::NotYetValid("iat") => "Issued At claim (iat) cannot be in the future.".to_owned(),
        ProfileError::NotANumber(name) => format!("{} must be an integer.", claim_in_words(name)),
        ProfileError::Audience => "Invalid audience".to_owned(),
        error => flask_jwt_extended::text(error),
    }
}

const IDENTITY: &str = "identity";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::profile::testing::{SECRET, Standing, get, run};

    const NOW: i64 = 1_700_000_000;

    fn builder(mut options: Value) -> FlaskJwtBuilder {
        options["JWT_SECRET_KEY"] = SECRET.into();
        let config = FlaskJwtConfig::from_options(options.as_object().unwrap().clone()).unwrap();
        FlaskJwt::builder(config).clock(Arc::new(Standing)).authenticate(|name, password| async move {
            let known = name == "joe" && password == "pass-joe";
            Ok::<_, BoxError>(known.then(|| Identity::new(1, "joe")))
        })
    }

    fn jwt(options: Value) -> FlaskJwt {
        builder(options).build().unwrap()
    }

    /// A token with these claims, those of a usual one beside them; null takes one out.
    fn token(claims: &Value) -> String {
        let usual = json!({"identity": 1, "exp": NOW + 300, "iat": NOW, "nbf": NOW});
        let mut all = usual.as_object().unwrap().clone();
        all.extend(claims.as_object().unwrap().clone());
        all.retain(|_, claim| !claim.is_null());
        let key = KeySource::new(SECRET).signing(countersign_jwt::Algorithm::Hs256).unwrap();
        NewToken::new(all).sign(&key, "HS256").unwrap()
    }

    fn described(answer: &Answer) -> String {
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        format!(
            "{} {}: {}",
            body["status_code"],
            body["error"].as_str().unwrap(),
            body["description"].as_str().unwrap()
        )
    }

    fn asked(jwt: &FlaskJwt, header: &str, requirement: &Requirement) -> String {
        match run(jwt.authenticate(&get("/", &[("authorization", header)]), requirement)) {
            Ok(Some(token)) => format!("identity {}", token.identity),
            Ok(None) => "nobody".to_owned(),
            Err(answer) => described(&answer),
        }
    }

    #[test]
    fn headers_are_read_as_flask_jwt_reads_them() {
        let good = token(&json!({}));
        let absent = "401 Authorization Required: Request does not contain an access token";
        let other = "401 Invalid JWT header: Unsupported authorization type";
        for (header, expected) in [
            (format!("JWT {good}"), "identity 1"),
            (format!("jwt {good}"), "identity 1"),
            (format!("  JWT \t {good}  "), "identity 1"),
            (String::new(), absent),
            ("   ".to_owned(), absent),
            (format!("Bearer {good}"), other),
            ("Basic x".to_owned(), other),
            (",".to_owned(), other),
            ("JWT".to_owned(), "401 Invalid JWT header: Token missing"),
            (format!("JWT {good} x"), "401 Invalid JWT header: Token contains spaces"),
            ("JWT x".to_owned(), "401 Invalid token: Not enough segments"),
        ] {
            assert_eq!(asked(&jwt(json!({})), &header, &Requirement::ACCESS), expected, "{header:?}");
        }
    }

    #[test]
    fn only_an_absent_token_is_challenged_in_the_realm() {
        let jwt = jwt(json!({"JWT_DEFAULT_REALM": "The \"App\""}));
        let challenge = |header: &str, requirement: &Requirement| {
            let refused =
                run(jwt.authenticate(&get("/", &[("authorization", header)]), requirement)).unwrap_err();
            refused.headers().get(header::WWW_AUTHENTICATE).map(|field| field.to_str().unwrap().to_owned())
        };
        assert_eq!(challenge("", &Requirement::ACCESS).as_deref(), Some("JWT realm=\"The 'App'\""));
        assert_eq!(
            challenge("", &Requirement::ACCESS.realm("Admins")).as_deref(),
            Some("JWT realm=\"Admins\"")
        );
        assert_eq!(challenge("JWT x", &Requirement::ACCESS), None);
    }

    #[test]
    fn the_first_check_that_fails_is_what_is_said() {
        for (claims, said) in [
            (json!({"exp": null, "iat": null}), "Token is missing the \"exp\" claim"),
            (json!({"iat": null}), "Token is missing the \"iat\" claim"),
            (json!({"iat": NOW + 11, "nbf": "x"}), "Issued At claim (iat) cannot be in the future."),
            (json!({"iat": {}}), "Issued At claim (iat) must be an integer."),
            (json!({"nbf": NOW + 11, "exp": 1}), "The token is not yet valid (nbf)"),
            (json!({"exp": NOW - 11, "aud": "x"}), "Signature has expired"),
            (json!({"aud": "x"}), "Invalid audience"),
            (json!({"aud": 5}), "Invalid claim format in token"),
            (json!({"aud": "countersign-refresh"}), "Invalid audience"),
        ] {
            let header = format!("JWT {}", token(&claims));
            let expected = format!("401 Invalid token: {said}");
            assert_eq!(asked(&jwt(json!({})), &header, &Requirement::ACCESS), expected, "{claims}");
        }
        for at_the_limit in [json!({"exp": NOW - 10}), json!({"iat": NOW + 10, "nbf": NOW + 10})] {
            let header = format!("JWT {}", token(&at_the_limit));
            assert_eq!(asked(&jwt(json!({})), &header, &Requirement::ACCESS), "identity 1", "{at_the_limit}");
        }
    }

    #[test]
    fn a_route_gets_no_less_than_it_requires() {
        let jwt = jwt(json!({}));
        let absent = "401 Authorization Required: Request does not contain an access token";
        let elsewhere = Requirement::ACCESS.locations(vec![Location::Cookie]);
        for (claims, requirement, expected) in [
            (
                json!({"type": "refresh"}),
                Requirement::ACCESS,
                "401 Invalid token: Only access tokens are allowed",
            ),
            (json!({}), Requirement::REFRESH, "401 Invalid token: Only refresh tokens are allowed"),
            (json!({"type": "refresh"}), Requirement::REFRESH, "identity 1"),
            (json!({}), Requirement::FRESH, "401 Invalid token: Fresh token required"),
            (json!({"fresh": true}), Requirement::FRESH, "identity 1"),
            (json!({}), elsewhere, absent),
        ] {
            let header = format!("JWT {}", token(&claims));
            assert_eq!(asked(&jwt, &header, &requirement), expected, "{claims} for {requirement:?}");
        }
    }

    #[test]
    fn an_optional_route_takes_other_schemes_for_no_token() {
        let jwt = jwt(json!({}));
        let optional = |when| Requirement::ACCESS.optional(when);
        assert_eq!(asked(&jwt, "Basic x", &optional(Optional::IfAbsent)), "nobody");
        assert_eq!(asked(&jwt, "", &optional(Optional::IfNoCredential)), "nobody");
        let refused = asked(&jwt, "Basic x", &optional(Optional::IfNoCredential));
        assert_eq!(refused, "401 Invalid JWT header: Unsupported authorization type");
        assert!(asked(&jwt, "JWT x", &optional(Optional::IfAbsent)).starts_with("401"));
    }

    #[test]
    fn logins_are_answered_as_flask_jwt_answers_them() {
        let jwt = jwt(json!({}));
        let wrong = "401 Bad Request: Invalid credentials";
        for (content_type, body, expected) in [
            ("application/json", r#"{"username": "joe", "password": "wrong"}"#, wrong),
            ("application/json", r#"{"username": "joe", "password": ""}"#, wrong),
            ("application/json", r#"{"username": "joe"}"#, wrong),
            ("application/json", r#"{"username": "joe", "password": "pass-joe", "x": 1}"#, wrong),
            ("application/json", "{", "400 Bad Request: The login must be a JSON object"),
            ("application/json", "[]", "400 Bad Request: The login must be a JSON object"),
            ("text/plain", "{}", "400 Bad Request: The login must be application/json"),
        ] {
            let headers = get("/", &[("content-type", content_type)]).headers;
            assert_eq!(
                described(&run(jwt.login(&headers, body.as_bytes()))),
                expected,
                "{content_type} {body}"
            );
        }
        let headers = get("/", &[("content-type", "application/vnd.x+json")]).headers;
        let answer = run(jwt.login(&headers, br#"{"username": "joe", "password": "pass-joe"}"#));
        assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        let claims = jwt.decode_token(body["access_token"].as_str().unwrap()).unwrap();
        let expected = json!({"identity": 1, "exp": NOW + 300, "iat": NOW, "nbf": NOW});
        assert_eq!(Value::from(claims.claims().clone()), expected);
    }

    #[test]
    fn a_login_endpoint_needs_somebody_who_decides() {
        let options = json!({"JWT_SECRET_KEY": SECRET});
        let config = FlaskJwtConfig::from_options(options.as_object().unwrap().clone()).unwrap();
        let refused = FlaskJwt::builder(config.clone()).build().unwrap_err().to_string();
        assert!(refused.contains("JWT_AUTH_URL_RULE") && refused.contains("authenticate"), "{refused}");
        assert!(FlaskJwt::builder(FlaskJwtConfig { auth_url_rule: None, ..config }).build().is_ok());
    }

    #[test]
    fn flask_jwt_itself_refuses_our_refresh_tokens() {
        let jwt = jwt(json!({}));
        let issue = |token_type| {
            let id = countersign_jwt::TokenId::new("6f1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d".parse().unwrap());
            let user = countersign_jwt::UserId::new("u1").unwrap();
            let now = Standing.now();
            jwt.issue(&NewClaims::new(token_type, user, id, now, now + Duration::from_secs(60))).unwrap()
        };
        let access = jwt.decode_token(&issue(TokenType::Access)).unwrap();
        assert_eq!((access.identity(), access.claims().get("aud")), (&json!("u1"), None));
        // It looks at no `type`, but refuses every audience.
        let refresh = jwt.decode_token(&issue(TokenType::Refresh)).unwrap();
        assert_eq!(refresh.claims()["aud"], "countersign-refresh");
        let header = format!("JWT {}", issue(TokenType::Refresh));
        assert_eq!(asked(&jwt, &header, &Requirement::REFRESH), "identity \"u1\"");
        assert!(asked(&jwt, &header, &Requirement::ACCESS).starts_with("401"));
    }
}
