//! Configuring an [`Auth`]: every setting, checked once at start.

mod build;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::flow::AgreementError;
use countersign_core::flow::CheckPassword;
use countersign_core::flow::ExtraClaims;
use countersign_core::flow::KeychainError;
use countersign_core::flow::{BreachedPasswords, HashPool, HashRecipe, Letters, PasswordPolicy, UserIds};
use countersign_core::model::Stance;
use countersign_core::model::ThrottlePolicy;
use countersign_core::model::{Argon2Params, PasswordRules, Peppers};
use countersign_core::model::{Events, LogEvents};
use countersign_core::model::{PolicyError, SessionPolicy};
use countersign_core::store::{BoxError, StoreError, Stores};
use countersign_jwt::Secrets;
use countersign_jwt::key::KeyError;
use countersign_jwt::{Claims, Clock, Random, RandomError, UserId, VerifyingKey};
use http::{HeaderName, Method};
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use url::Url;

use crate::account_rules::AccountRules;
use crate::answer::Answer;
use crate::auth::Auth;
use crate::cookie_config::CookieConfigError;
use crate::cookie_options::CookieOptions;
use crate::csrf::{CsrfMode, CsrfRules};
use crate::hooks::{self, Hooks, RefusedRequest};
use crate::locate::Location;
use crate::log::write_with_causes;
use crate::login_sessions::LoginSessions;
use crate::origin::{AllowedOrigins, OriginError};
use crate::rules::{NativeOptions, RulesBuilder};
use crate::system::{OsRandom, SystemClock};
use crate::users::{LoaderRequest, UserLoaders, UserOrder};

/// The settings of an [`Auth`]. Every setting has a safe default.
///
/// ```
/// use std::time::Duration;
/// use countersign_core::model::SessionPolicy;
/// use countersign_http::{Auth, CookieKind, CookieOptions};
/// # use countersign_core::store::MemoryStore;
/// # use countersign_testkit::TestBed;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
/// let auth = Auth::builder(stores, secrets)
///     .public_url("https://app.example.com".parse()?)
///     .policy(SessionPolicy { access_lifetime: Duration::from_secs(300), ..SessionPolicy::default() })
///     .cookies(CookieOptions::new().name(CookieKind::Access, "session"))
///     .build()
///     .await?;
/// assert_eq!(auth.sessions().keys().issuer(), "https://app.example.com");
/// assert_eq!(auth.rules().cookies().name(CookieKind::Access), Some("__Host-session"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AuthBuilder {
    stores: Stores,
    secrets: Secrets,
    public_url: Option<Url>,
    served_at: Option<Url>,
    issuer: Option<String>,
    stance: Stance,
    agreed: BTreeMap<String, String>,
    audience: Option<String>,
    allowed_origins: AllowedOrigins,
    policy: SessionPolicy,
    throttle: ThrottlePolicy,
    recipe: HashRecipe,
    passwords: PasswordPolicy,
    login_floor: Option<Duration>,
    hash_permits: Option<NonZeroUsize>,
    hash_runtime: Option<Handle>,
    hash_queue: usize,
    user_ids: UserIds,
    letters: Option<Arc<dyn Letters>>,
    mails_within: Duration,
    account_rules: AccountRules,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    events: Arc<dyn Events>,
    loaders: UserLoaders,
    hooks: Hooks,
    native: NativeOptions,
    csrf: CsrfRules,
    login_sessions: Option<LoginSessions>,
    extra_claims: Option<ExtraClaims>,
    accepted_keys: Vec<VerifyingKey>,
    rules: Option<Box<dyn RulesBuilder>>,
    background: bool,
}

/// Why no [`Auth`] could be built.
///
/// The `Debug` form is the error's text and its causes, because that is what a `main` that returns it prints.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A lifetime or a rule of the policy is out of range.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Cookies cannot be set safely at this URL.
    #[error(transparent)]
    Cookies(#[from] CookieConfigError),
    /// The program's URL has no origin that browsers' requests could be compared with.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// The signing keys could not be read or made.
    #[error(transparent)]
    Keys(#[from] KeychainError),
    /// Settings differ from those that the store's programs have agreed on. [`AuthBuilder::change_settings`] makes the
    /// store take this program's settings.
    #[error(transparent)]
    Agreement(#[from] AgreementError),
    /// Settings contradict each other, or one has no effect.
    #[error("{0}")]
    Settings(&'static str),
    /// A key given to [`AuthBuilder::also_accept`] has the id of another key.
    #[error(transparent)]
    AcceptedKey(#[from] KeyError),
    /// The options of the rules cannot be used.
    #[error(transparent)]
    Rules(BoxError),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gave no random numbers.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// [`AuthBuilder::build`] was called outside of a tokio runtime.
    #[error("no tokio runtime is running; build inside #[tokio::main] or Runtime::block_on")]
    NoRuntime,
}

impl fmt::Debug for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_with_causes(self, f)
    }
}

impl Auth {
    /// Begins the settings of an [`Auth`] over these stores. `secrets` seal the keys in the store.
    ///
    /// ```
    /// use countersign_core::store::MemoryStore;
    /// use countersign_http::Auth;
    /// use countersign_jwt::Secrets;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let from_a_file = "SGpubHUVN49UbwYEA0ZMjf9t3jAaqPjZfGqCnjP5Gm0=";
    /// let secrets = Secrets::parse(from_a_file)?;
    /// let auth = Auth::builder(MemoryStore::new(), secrets).build().await?;
    /// assert!(auth.sessions().keys().issuer().starts_with("urn:uuid:"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn builder(stores: impl Into<Stores>, secrets: Secrets) -> AuthBuilder {
        AuthBuilder {
            stores: stores.into(),
            secrets,
            public_url: None,
            served_at: None,
            issuer: None,
            stance: Stance::Agree,
            agreed: BTreeMap::new(),
            audience: None,
            allowed_origins: AllowedOrigins::default(),
            policy: SessionPolicy::default(),
            throttle: ThrottlePolicy::default(),
            recipe: HashRecipe::default(),
            passwords: PasswordPolicy::default(),
            login_floor: None,
            hash_permits: None,
            hash_runtime: None,
            hash_queue: HashPool::DEFAULT_QUEUE,
            user_ids: UserIds::default(),
            letters: None,
            mails_within: Duration::from_millis(100),
            account_rules: AccountRules::default(),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(OsRandom),
            events: Arc::new(LogEvents),
            loaders: UserLoaders::default(),
            hooks: Hooks::default(),
            native: NativeOptions::default(),
            csrf: CsrfRules::default(),
            login_sessions: None,
            extra_claims: None,
            accepted_keys: Vec::new(),
            rules: None,
            background: true,
        }
    }
}

impl AuthBuilder {
    /// The URL at which users reach the program. It is the issuer of the program's tokens (without a slash at its end)
    /// and the program's own origin, and decides whether cookies are `Secure`. Default: the issuer is the store's id,
    /// cookies are `Secure`, and the own origin is the host that a request addresses.
    #[must_use]
    pub fn public_url(mut self, url: Url) -> Self {
        self.public_url = Some(url);
        self
    }

    /// The URL at which the program is reached where no public URL is set. It decides about cookies and the own origin,
    /// but is not the issuer.
    #[must_use]
    pub fn served_at(mut self, url: Url) -> Self {
        self.served_at = Some(url);
        self
    }

    /// The `iss` of tokens, taken as it is. Default: the public URL.
    ///
    /// The store remembers former issuers. When the issuer changes, through this setting or the public URL, tokens of
    /// the former issuer stay valid until they expire, if one of the store's own keys has signed them.
    #[must_use]
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// The kind of ids that new accounts get. Default: random UUIDs.
    #[must_use]
    pub fn user_ids(mut self, ids: UserIds) -> Self {
        self.user_ids = ids;
        self
    }

    /// The rules of the routes of accounts: who may register, and with which names.
    #[must_use]
    pub fn account_rules(mut self, rules: AccountRules) -> Self {
        self.account_rules = rules;
        self
    }

    /// The writer of mails to users. Without it nothing is mailed: links to verify an address or to reset a password
    /// and codes to sign in are never made, and a new e-mail address counts at once.
    #[must_use]
    pub fn letters(mut self, letters: Arc<dyn Letters>) -> Self {
        self.letters = Some(letters);
        self
    }

    /// Replaces the settings that the programs of the store have agreed on with this program's. Without it, a program
    /// whose settings differ is not built. Stop the other programs first, or restart them with the same settings.
    #[must_use]
    pub fn change_settings(mut self) -> Self {
        self.stance = Stance::Change;
        self
    }

    /// Takes the lifetimes, rules and issuer from the store where this program's differ, and writes none. For an
    /// operator's commands that run beside the serving programs.
    #[must_use]
    pub fn follow_settings(mut self) -> Self {
        self.stance = Stance::Follow;
        self
    }

    /// Adds a setting in which all programs of the store must agree, beside the [built-in
    /// ones](countersign_core::model::AgreedSettings). The value is kept in the store as plain text, so it must not be a secret.
    #[must_use]
    pub fn agree_on(mut self, setting: impl Into<String>, value: impl Into<String>) -> Self {
        self.agreed.insert(setting.into(), value.into());
        self
    }

    /// The `aud` of tokens. Tokens are issued with it, and only tokens that name it are accepted. Default: none.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// The origins beside the program's own whose pages may send requests with cookies. Default: none.
    ///
    /// ```
    /// use countersign_http::{Auth, AuthError, Requirement};
    /// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
    /// # use countersign_jwt::{Epoch, UserId};
    /// # use countersign_testkit::TestBed;
    /// # use http::Request;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
    /// let auth = Auth::builder(stores, secrets)
    ///     .public_url("https://app.example.com".parse()?)
    ///     .allowed_origins("https://admin.example.com".parse()?)
    ///     .build()
    ///     .await?;
    /// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
    /// # let pair = auth.sessions().begin(user, epoch, Presentation::Cookie, Device::default()).await?;
    /// for (origin, may_send) in [("https://admin.example.com", true), ("https://evil.example", false)] {
    ///     let request = Request::post("/")
    ///         .header("origin", origin)
    ///         .header("cookie", format!("__Host-countersign_access={}", pair.access_token))
    ///         .header("x-csrf-token", pair.csrf.as_deref().unwrap_or_default());
    ///     let (parts, ()) = request.body(())?.into_parts();
    ///     assert_eq!(auth.authenticate(&parts, &Requirement::ACCESS).await.is_ok(), may_send);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn allowed_origins(mut self, origins: AllowedOrigins) -> Self {
        self.allowed_origins = origins;
        self
    }

    /// Names, paths and attributes of the cookies. The defaults suit one application on one host.
    #[must_use]
    pub fn cookies(mut self, options: CookieOptions) -> Self {
        self.native.cookies = options;
        self
    }

    /// The places where access tokens are looked for, in this order; the first place that holds one decides. Default:
    /// the header, then the cookie.
    ///
    /// [`Location::Body`] is the member `access_token` of a JSON object. [`Location::Query`] is the parameter
    /// `access_token`. URLs are copied, logged and remembered, so use the query only where nothing else is possible,
    /// such as for a link in an e-mail (RFC 9700 §4.3.2).
    ///
    /// ```
    /// use countersign_http::{Auth, Location, Requirement};
    /// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
    /// # use countersign_jwt::{Epoch, UserId};
    /// # use countersign_testkit::TestBed;
    /// # use http::Request;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
    /// let auth = Auth::builder(stores, secrets).locations([Location::Header]).build().await?;
    /// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
    /// # let pair = auth.sessions().begin(user, epoch, Presentation::Explicit, Device::default()).await?;
    /// let cookie = format!("__Host-countersign_access={}", pair.access_token);
    /// let (parts, ()) = Request::get("/").header("cookie", cookie).body(())?.into_parts();
    /// assert!(auth.authenticate(&parts, &Requirement::ACCESS).await.is_err(), "cookies are not looked at");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn locations(mut self, order: impl Into<Vec<Location>>) -> Self {
        self.native.locations = Some(order.into());
        self
    }

    /// The places where refresh tokens are looked for, in this order. Default: the body (at the ready-made routes
    /// only), then the header, then the cookie.
    #[must_use]
    pub fn refresh_locations(mut self, order: impl Into<Vec<Location>>) -> Self {
        self.native.refresh_locations = Some(order.into());
        self
    }

    /// Refuses requests that present different tokens in different places (400), instead of letting the first place
    /// decide. Default: off, because a page's cookies come along with the requests that it makes with a bearer token.
    #[must_use]
    pub fn refuse_several_tokens(mut self) -> Self {
        self.native.refuse_several = true;
        self
    }

    /// The name of the query parameter, where [`Location::Query`] is among the locations. Default: `access_token`.
    #[must_use]
    pub fn query_parameter(mut self, name: impl Into<String>) -> Self {
        self.native.query_parameter = Some(name.into());
        self
    }

    /// The proof that a page of ours sent a request that a cookie authenticates. Default: [`CsrfMode::Token`].
    ///
    /// ```
    /// use countersign_http::{Auth, CsrfMode, Requirement};
    /// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
    /// # use countersign_jwt::{Epoch, UserId};
    /// # use countersign_testkit::TestBed;
    /// # use http::Request;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
    /// let auth = Auth::builder(stores, secrets).csrf_mode(CsrfMode::FetchMetadata).build().await?;
    /// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
    /// # let pair = auth.sessions().begin(user, epoch, Presentation::Cookie, Device::default()).await?;
    /// # let cookie = format!("__Host-countersign_access={}", pair.access_token);
    /// for (site, may_send) in [("same-origin", true), ("cross-site", false)] {
    ///     let request = Request::post("/").header("cookie", &cookie).header("sec-fetch-site", site);
    ///     let (parts, ()) = request.body(())?.into_parts();
    ///     assert_eq!(auth.authenticate(&parts, &Requirement::ACCESS).await.is_ok(), may_send);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn csrf_mode(mut self, mode: CsrfMode) -> Self {
        self.csrf.mode = mode;
        self
    }

    /// The header that carries the CSRF value. Default: `X-CSRF-Token`.
    #[must_use]
    pub fn csrf_header(mut self, name: HeaderName) -> Self {
        self.csrf.header = name;
        self
    }

    /// The form field, urlencoded or multipart, that carries the CSRF value where the header is absent. Default:
    /// `csrf_token`; `None` looks at no form. In a multipart form of more than 64 KiB the field must come before the
    /// files.
    #[must_use]
    pub fn csrf_field(mut self, name: Option<String>) -> Self {
        self.csrf.field = name;
        self
    }

    /// Safe methods by which this program changes state nevertheless; requests with them need the CSRF value as well.
    /// Unsafe methods always need it.
    #[must_use]
    pub fn csrf_also_for(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.csrf.also.extend(methods);
        self
    }

    /// Sets how the application's own claims for a user's access tokens, such as `scope` and `roles`, are obtained. The
    /// hook is called whenever a pair is made: at login, at refresh, and when the current pair is served again, which
    /// then carries the claims as they are now. Registered claims cannot be set (SEC-024).
    ///
    /// If the hook fails, the login or refresh is answered with 503 and the session has not changed.
    ///
    /// ```
    /// use countersign_http::Auth;
    /// # use std::convert::Infallible;
    /// # use countersign_http::Requirement;
    /// # use serde_json::{Map, json};
    /// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
    /// # use countersign_jwt::{Epoch, UserId};
    /// # use countersign_testkit::TestBed;
    /// # use http::Request;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
    /// let auth = Auth::builder(stores, secrets)
    ///     .access_claims(async |user: UserId| {
    ///         let scope = if user.as_str() == "ada" { "reports:read reports:write" } else { "reports:read" };
    ///         Ok::<_, Infallible>(Map::from_iter([("scope".to_owned(), json!(scope))]))
    ///     })
    ///     .build()
    ///     .await?;
    /// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
    /// # let pair = auth.sessions().begin(user, epoch, Presentation::Explicit, Device::default()).await?;
    /// let bearer = format!("Bearer {}", pair.access_token);
    /// let (parts, ()) = Request::get("/").header("authorization", bearer).body(())?.into_parts();
    /// assert!(auth.authenticate(&parts, &Requirement::ACCESS.scope("reports:write")).await.is_ok());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn access_claims<E, F, Asking>(mut self, ask: F) -> Self
    where
        E: Into<BoxError>,
        F: Fn(UserId) -> Asking + Send + Sync + 'static,
        Asking: Future<Output = Result<Map<String, Value>, E>> + Send + 'static,
    {
        self.extra_claims = Some(ExtraClaims::new(ask));
        self
    }

    /// Sets how the application tells that it has revoked a token, beside Countersign's own revocation: `true` is
    /// answered with 401, an error with 503. The hook is called at every request with a valid token, so it should be
    /// fast.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// use countersign_http::{Auth, AuthError, Requirement};
    /// # use countersign_jwt::Claims;
    /// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
    /// # use countersign_jwt::{Epoch, UserId};
    /// # use countersign_testkit::TestBed;
    /// # use http::Request;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
    /// let auth = Auth::builder(stores, secrets)
    ///     .is_revoked(async |claims: Claims| Ok::<_, Infallible>(claims.subject().as_str() == "ada"))
    ///     .build()
    ///     .await?;
    /// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
    /// # let pair = auth.sessions().begin(user, epoch, Presentation::Explicit, Device::default()).await?;
    /// let bearer = format!("Bearer {}", pair.access_token);
    /// let (parts, ()) = Request::get("/").header("authorization", bearer).body(())?.into_parts();
    /// let refused = auth.authenticate(&parts, &Requirement::ACCESS).await;
    /// assert!(matches!(refused, Err(AuthError::RevokedByApplication)));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_revoked<E, F, Asking>(mut self, is_revoked: F) -> Self
    where
        E: Into<BoxError>,
        F: Fn(Claims) -> Asking + Send + Sync + 'static,
        Asking: Future<Output = Result<bool, E>> + Send + 'static,
    {
        self.hooks.is_revoked = Some(hooks::check(is_revoked));
        self
    }

    /// Sets how the application tells whether it accepts the claims of an otherwise valid token: `false` is answered
    /// with 401, an error with 503.
    ///
    /// ```
    /// use countersign_http::{Auth, AuthError, Requirement};
    /// # use countersign_jwt::Claims;
    /// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
    /// # use countersign_jwt::{Epoch, UserId};
    /// # use countersign_testkit::TestBed;
    /// # use http::Request;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
    /// let auth = Auth::builder(stores, secrets)
    ///     // Only tokens that name a tenant; one of another type is an error of the program.
    ///     .verify_claims(async |claims: Claims| claims.get::<String>("tenant").map(|tenant| tenant.is_some()))
    ///     .build()
    ///     .await?;
    /// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
    /// # let pair = auth.sessions().begin(user, epoch, Presentation::Explicit, Device::default()).await?;
    /// let bearer = format!("Bearer {}", pair.access_token);
    /// let (parts, ()) = Request::get("/").header("authorization", bearer).body(())?.into_parts();
    /// let refused = auth.authenticate(&parts, &Requirement::ACCESS).await;
    /// assert!(matches!(refused, Err(AuthError::RefusedByApplication)));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn verify_claims<E, F, Asking>(mut self, accepts: F) -> Self
    where
        E: Into<BoxError>,
        F: Fn(Claims) -> Asking + Send + Sync + 'static,
        Asking: Future<Output = Result<bool, E>> + Send + 'static,
    {
        self.hooks.accepts = Some(hooks::check(accepts));
        self
    }

    /// Sets the answer to a refused request, in place of the default answer. By the refusal's [`code`](RefusedRequest::code),
    /// an application can send a sign-in page, another body, or another language.
    ///
    /// ```
    /// use countersign_http::{Answer, Auth, AuthError, ErrorCode, RefusedRequest};
    /// use http::{HeaderValue, StatusCode, header};
    /// # use countersign_core::store::MemoryStore;
    /// # use countersign_testkit::TestBed;
    /// # use http::Request;
    ///
    /// /// Sends a stranger to the page where one signs in.
    /// async fn to_sign_in(refused: RefusedRequest) -> Answer {
    ///     if refused.code != ErrorCode::MissingToken {
    ///         return refused.answer;
    ///     }
    ///     let mut answer = Answer::empty(StatusCode::SEE_OTHER);
    ///     answer.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/sign-in"));
    ///     answer
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
    /// let auth = Auth::builder(stores, secrets).answer(to_sign_in).build().await?;
    /// # let (parts, ()) = Request::get("/").body(())?.into_parts();
    /// let answer = auth.refuse(&parts, None, &AuthError::Missing).await;
    /// assert_eq!(answer.headers()["location"], "/sign-in");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn answer<F, Answering>(mut self, answer: F) -> Self
    where
        F: Fn(RefusedRequest) -> Answering + Send + Sync + 'static,
        Answering: Future<Output = Answer> + Send + 'static,
    {
        self.hooks.answer = Some(Arc::new(move |refusal| Box::pin(answer(refusal))));
        self
    }

    /// Lifetimes of tokens, sessions and keys, and the rules of refresh.
    #[must_use]
    pub fn policy(mut self, policy: SessionPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The limits on login attempts.
    #[must_use]
    pub fn throttle(mut self, throttle: ThrottlePolicy) -> Self {
        self.throttle = throttle;
        self
    }

    /// The cost of a password hash. Default: m = 19,456 KiB, t = 2, p = 1. Hashes of another cost are verified, and
    /// replaced when their owner logs in.
    #[must_use]
    pub fn argon2(mut self, params: Argon2Params) -> Self {
        self.recipe.argon2 = params;
        self
    }

    /// The peppers of password hashes: keys outside of the database, without which a copy of it verifies no password.
    /// Default: none. All programs of a store need the same.
    #[must_use]
    pub fn password_peppers(mut self, peppers: Peppers) -> Self {
        self.recipe.peppers = peppers;
        self
    }

    /// The rules for new passwords. Default: at least 8 code points, none of the most common passwords, and not the
    /// user's own names.
    #[must_use]
    pub fn password_rules(mut self, rules: PasswordRules) -> Self {
        self.passwords.rules = rules;
        self
    }

    /// A file of breached passwords, which new passwords must not be among. Default: none.
    #[must_use]
    pub fn breached_passwords(mut self, breached: BreachedPasswords) -> Self {
        self.passwords.breached = Some(breached);
        self
    }

    /// The least time that the answer to a login takes, so that no login stands out by being answered sooner or later.
    /// Default: none, because all logins cost one hash. It makes a difference where imported hashes take longer to check
    /// than new ones.
    #[must_use]
    pub fn login_floor(mut self, floor: Duration) -> Self {
        self.login_floor = Some(floor);
        self
    }

    /// The number of passwords that are hashed at the same time. Default: one less than there are cores, at least one.
    #[must_use]
    pub fn hash_permits(mut self, permits: NonZeroUsize) -> Self {
        self.hash_permits = Some(permits);
        self
    }

    /// The runtime on whose blocking threads passwords are hashed. Default: the one in which [`AuthBuilder::build`] is
    /// called. With a runtime of their own, the threads that hash can have a lower priority than others
    /// ([`tokio::runtime::Builder::on_thread_start`]); then there may be as many permits as cores.
    #[must_use]
    pub fn hash_runtime(mut self, runtime: Handle) -> Self {
        self.hash_runtime = Some(runtime);
        self
    }

    /// The number of passwords that may wait to be hashed; further ones are answered with 503 `overloaded`. Default:
    /// 64.
    #[must_use]
    pub fn hash_queue(mut self, queue: usize) -> Self {
        self.hash_queue = queue;
        self
    }

    /// The longest random pause before a mail is written that somebody has asked for who is not signed in. Without one,
    /// the request after it takes longer where an account has the address, because the store is busy then (SEC-131).
    /// Default: 100 milliseconds.
    #[must_use]
    pub fn mails_within(mut self, pause: Duration) -> Self {
        self.mails_within = pause;
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

    /// The receiver of events. Default: the log.
    ///
    /// ```
    /// use countersign_http::Auth;
    /// use std::sync::Arc;
    /// use countersign_core::model::{Event, Events};
    /// # use countersign_core::{flow::Presentation, model::Device, store::MemoryStore};
    /// # use countersign_jwt::{Epoch, UserId};
    /// # use countersign_testkit::TestBed;
    ///
    /// #[derive(Debug)]
    /// struct AuditTrail;
    ///
    /// impl Events for AuditTrail {
    ///     fn emit(&self, event: &Event) {
    ///         println!("{}", event.name());
    ///     }
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
    /// let auth = Auth::builder(stores, secrets).events(Arc::new(AuditTrail)).build().await?;
    /// # let (user, epoch) = (UserId::new("ada")?, Epoch::FIRST);
    /// # let pair = auth.sessions().begin(user, epoch, Presentation::Explicit, Device::default()).await?;
    /// // printed: session_began
    /// # assert_eq!(pair.user_id.as_str(), "ada");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn events(mut self, events: Arc<dyn Events>) -> Self {
        self.events = events;
        self
    }

    /// Sets the users that the program keeps itself: how they are found by id and by login name, and how their password
    /// is checked. [`Engine::login`](crate::Engine::login) and the ready-made login then log them in, with the throttles, the bound on hashes and
    /// the ending of earlier sessions that Countersign's accounts have. `CurrentUser<U>`, `/refresh` and `/me` load them,
    /// as with [`user_loader`](Self::user_loader).
    ///
    /// ```
    /// use countersign_core::flow::{Arrival, CheckPassword, FindUser, LoginError, Presentation};
    /// use countersign_core::model::{Device, Password};
    /// use countersign_http::Auth;
    /// # use std::convert::Infallible;
    /// # use countersign_core::store::MemoryStore;
    /// # use countersign_testkit::TestBed;
    /// # #[derive(Clone)]
    /// # struct Member { id: i64, name: String, password_hash: String }
    /// # struct Members(Vec<Member>);
    /// # impl FindUser for Members {
    /// #     type User = Member;
    /// #     type Id = i64;
    /// #     type Error = Infallible;
    /// #     fn id(member: &Member) -> i64 { member.id }
    /// #     async fn find_by_id(&self, id: i64) -> Result<Option<Member>, Infallible> {
    /// #         Ok(self.0.iter().find(|member| member.id == id).cloned())
    /// #     }
    /// #     async fn find_by_login_name(&self, name: &str) -> Result<Option<Member>, Infallible> {
    /// #         Ok(self.0.iter().find(|member| member.name == name).cloned())
    /// #     }
    /// # }
    /// # impl CheckPassword for Members {
    /// #     fn password_hash(member: &Member) -> Option<&str> { Some(&member.password_hash) }
    /// # }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
    /// # let password_hash = "pbkdf2:sha256:1000$salt$\
    /// #     45bc2f9e4d5ab04ee7e1a9e5dbc5d8f4a0d0b0b42a4eab9d2ad5a3ab7dfd6a4b".to_owned();
    /// # let members = Members(vec![Member { id: 17, name: "ada".to_owned(), password_hash }]);
    /// // `Members` implements `FindUser` and `CheckPassword`.
    /// let auth = Auth::builder(stores, secrets).own_users(members).build().await?;
    ///
    /// let guess = Password::new_for_login("a guess".to_owned())?;
    /// let arrival = Arrival::new(Presentation::Explicit, Device::default());
    /// let refused = auth.engine().login("ada", guess, arrival).await;
    /// assert!(matches!(refused, Err(LoginError::InvalidCredentials)));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn own_users<D: CheckPassword>(mut self, users: D) -> Self {
        self.loaders.insert_own(Arc::new(users));
        self
    }

    /// Sets how the application's own type of user is loaded by its id, for `CurrentUser<U>`. `None` means that there
    /// is no such user any more, or that the user is disabled: 401. An error means that the user could not be loaded:
    /// 503.
    ///
    /// The ready-made routes use the loaders for users whose ids are not those of Countersign's accounts: `/refresh`
    /// asks the loaders whether there is such a user, and `/me` shows what [`show_user`](Self::show_user) returns.
    ///
    /// ```
    /// use countersign_http::Auth;
    /// # use std::convert::Infallible;
    /// # use countersign_core::store::MemoryStore;
    /// # use countersign_jwt::UserId;
    /// # use countersign_testkit::TestBed;
    /// struct Member {
    ///     name: &'static str,
    /// }
    ///
    /// async fn find_member(id: UserId) -> Result<Option<Member>, Infallible> {
    ///     Ok((id.as_str() == "17").then_some(Member { name: "Ada" }))
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
    /// let auth = Auth::builder(stores, secrets).user_loader(find_member).build().await?;
    /// let users = auth.engine().users();
    /// assert_eq!(users.load::<Member>(&UserId::new("17")?).await?.map(|member| member.name), Some("Ada"));
    /// assert!(users.load::<Member>(&UserId::new("18")?).await?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn user_loader<U, E, F, Loading>(mut self, load: F) -> Self
    where
        U: Send + 'static,
        E: Into<BoxError>,
        F: Fn(UserId) -> Loading + Send + Sync + 'static,
        Loading: Future<Output = Result<Option<U>, E>> + Send + 'static,
    {
        self.loaders.insert(load);
        self
    }

    /// Sets a loader of users by requests: any async function from a request to a user, such as the owner of an API key.
    /// `CurrentUser` and `LoginRequired` of `countersign-axum` ask it. Such a user has no session and is never fresh,
    /// and a request that is let through for one neither sets nor clears cookies of sessions.
    ///
    /// A loader that reads a cookie has to protect its users from requests that other sites send.
    ///
    /// ```
    /// use countersign_http::{Auth, LoaderRequest};
    /// # use std::convert::Infallible;
    /// # use countersign_core::store::MemoryStore;
    /// # use countersign_testkit::TestBed;
    /// struct Member {
    ///     name: &'static str,
    /// }
    ///
    /// async fn by_api_key(request: LoaderRequest) -> Result<Option<Member>, Infallible> {
    ///     let key = request.headers.get("x-api-key").and_then(|key| key.to_str().ok());
    ///     Ok((key == Some("7f3a")).then_some(Member { name: "Ada" })) // better: look up the key's hash
    /// }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
    /// let auth = Auth::builder(stores, secrets).request_loader(by_api_key).build().await?;
    /// # let (parts, ()) = http::Request::get("/").header("x-api-key", "7f3a").body(())?.into_parts();
    /// let user = auth.engine().users().of_request(&parts, None).await?;
    /// assert_eq!(user.and_then(|user| user.downcast::<Member>().ok()).map(|member| member.name), Some("Ada"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn request_loader<U, E, F, Loading>(mut self, load: F) -> Self
    where
        U: Send + 'static,
        E: Into<BoxError>,
        F: Fn(LoaderRequest) -> Loading + Send + Sync + 'static,
        Loading: Future<Output = Result<Option<U>, E>> + Send + 'static,
    {
        self.loaders.insert_by_request(load, false);
        self
    }

    /// Sets a loader of users by requests, as [`request_loader`](Self::request_loader) does, that gets JSON bodies too,
    /// such as one that looks for a token there. The handler still gets the whole body.
    #[must_use]
    pub fn request_loader_with_json<U, E, F, Loading>(mut self, load: F) -> Self
    where
        U: Send + 'static,
        E: Into<BoxError>,
        F: Fn(LoaderRequest) -> Loading + Send + Sync + 'static,
        Loading: Future<Output = Result<Option<U>, E>> + Send + 'static,
    {
        self.loaders.insert_by_request(load, true);
        self
    }

    /// Which user counts where a request names one to a [loader](Self::request_loader) and carries a session too.
    /// Default: the one of the request.
    #[must_use]
    pub fn user_order(mut self, order: UserOrder) -> Self {
        self.loaders.order = order;
        self
    }

    /// Sets what `/me` and `/refresh` show of a user of the application's own, beside the `id`. Default: nothing,
    /// because the type may hold values that clients must not see.
    ///
    /// ```
    /// # use std::convert::Infallible;
    /// # use serde_json::{Map, json};
    /// use countersign_http::{Auth, SignedInUser};
    /// # use countersign_core::store::MemoryStore;
    /// # use countersign_jwt::UserId;
    /// # use countersign_testkit::TestBed;
    /// # struct Member { name: &'static str }
    /// # async fn find_member(_: UserId) -> Result<Option<Member>, Infallible> { Ok(Some(Member { name: "Ada" })) }
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
    /// let auth = Auth::builder(stores, secrets)
    ///     .user_loader(find_member)
    ///     .show_user(|member: &Member| Map::from_iter([("name".to_owned(), json!(member.name))]))
    ///     .build()
    ///     .await?;
    /// match auth.engine().users().known(&UserId::new("17")?, None).await? {
    ///     Some(SignedInUser::Own { shown, .. }) => assert_eq!(shown["name"], "Ada"),
    ///     _ => unreachable!("the loader finds a member"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn show_user<U: 'static>(
        mut self,
        show: impl Fn(&U) -> Map<String, Value> + Send + Sync + 'static,
    ) -> Self {
        self.loaders.show(show);
        self
    }

    /// Also accepts access tokens that are signed with this key, to move users from another program while their tokens
    /// are still valid. Issuer, token type and all other claims must be those of own tokens. The key signs nothing and
    /// is not published.
    ///
    /// A key that was read under dangerous rules, such as one from a short secret, is named in a warning at every start
    /// (SEC-018).
    ///
    /// ```
    /// use countersign_http::Auth;
    /// # use std::time::Duration;
    /// # use countersign_http::Requirement;
    /// # use countersign_jwt::{Algorithm, Clock as _, Issuer, NewClaims, SigningKey, TokenId, TokenType, random};
    /// # use countersign_core::store::MemoryStore;
    /// # use countersign_jwt::UserId;
    /// # use countersign_testkit::TestBed;
    /// # use http::Request;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (stores, secrets, random) = (MemoryStore::new(), TestBed::secrets(), countersign_testkit::SeededRandom::default());
    /// # let key_of_the_old_program = SigningKey::generate(Algorithm::Es256, &random)?;
    /// let auth = Auth::builder(stores, secrets)
    ///     .issuer("https://app.example.com")
    ///     .also_accept(key_of_the_old_program.verifying_key())
    ///     .build()
    ///     .await?;
    /// # let now = countersign_http::SystemClock::new().now();
    /// # let (user, id) = (UserId::new("ada")?, TokenId::new(random::uuid(&random)?));
    /// # let claims = NewClaims::new(TokenType::Access, user, id, now, now + Duration::from_secs(60));
    /// let old_token = Issuer::new(key_of_the_old_program).with_issuer("https://app.example.com").issue(&claims)?;
    /// let bearer = format!("Bearer {old_token}");
    /// let (parts, ()) = Request::get("/").header("authorization", bearer).body(())?.into_parts();
    /// assert!(auth.authenticate(&parts, &Requirement::ACCESS).await.is_ok());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn also_accept(mut self, key: VerifyingKey) -> Self {
        self.accepted_keys.push(key);
        self
    }

    /// Turns login sessions of browsers on: sessions go on in place, and browsers without one are sent to the sign-in
    /// page. Default off.
    #[must_use]
    pub fn login_sessions(mut self, sessions: LoginSessions) -> Self {
        self.login_sessions = Some(sessions);
        self
    }

    /// Replaces Countersign's own rules: what tokens say, where they travel and how refusals look. Accounts and
    /// sessions stay. Lifetimes that the rules decide override those of this builder. Cookies and token locations are
    /// options of the rules, so [`AuthBuilder::build`] refuses settings of this builder for them.
    #[must_use]
    pub fn rules(mut self, rules: impl RulesBuilder + 'static) -> Self {
        self.rules = Some(Box::new(rules));
        self
    }

    /// Starts no background tasks: the program calls `RevocationView::poll`, `flush_acknowledgements` and `purge`
    /// itself. For tests.
    #[must_use]
    pub fn without_background(mut self) -> Self {
        self.background = false;
        self
    }
}
