//! The rules of Flask-Login: a session in one cookie, "remember me" in another, pages for those who are signed out.
//!
//! What a Flask-Login application's users see stays as it is: the names and attributes of its cookies, the redirects,
//! what another browser may do with a session. What is behind it is a session of Countersign's, which can be listed and
//! ended, so that a copy of a cookie is worth nothing after the logout. The cookies of the Flask application itself are
//! not accepted: its users sign in once more.
//!
//! Flask-Login protects no form against other sites. These rules refuse what another site's page sends, by what
//! browsers say about it, and set `SameSite=Lax` where the options name nothing.

mod config;
mod data;
mod rules;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use countersign_core::flow::{Arrival, BeginError, Beginning, BrowserSession, EndError, Presentation};
use countersign_core::model::EndReason;
use countersign_http::{Answer, Auth, DeviceBinding, SetCookies};
use countersign_jwt::UserId;
use http::HeaderValue;

pub use config::{FlaskCookie, FlaskLoginConfig};
pub use data::SessionData;

type Answering = Arc<dyn Fn() -> Answer + Send + Sync>;

/// The rules of Flask-Login, as [`AuthBuilder::rules`](countersign_http::AuthBuilder::rules) takes their
/// [builder](FlaskLogin::builder).
///
/// ```
/// use countersign_flask::{FlaskLogin, FlaskLoginConfig};
/// use countersign_http::Auth;
/// use serde_json::{Map, json};
/// # use countersign_core::store::MemoryStore;
/// # use countersign_testkit::TestBed;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (stores, secrets) = (MemoryStore::new(), TestBed::secrets());
/// let options = Map::from_iter([("SECRET_KEY".to_owned(), json!("correct horse battery staple, twice over"))]);
/// let login = FlaskLogin::builder(FlaskLoginConfig::from_options(options)?).login_view("/signin");
/// let auth = Auth::builder(stores, secrets).rules(login).build().await?;
/// assert_eq!(auth.rules().name(), "flask-login");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct FlaskLogin {
    config: Arc<FlaskLoginConfig>,
    views: Arc<Views>,
}

/// The options of [`FlaskLogin`] that are attributes of its login manager.
#[derive(Clone)]
pub struct FlaskLoginBuilder {
    config: FlaskLoginConfig,
    views: Views,
}

#[derive(Clone, Default)]
struct Views {
    login: Option<String>,
    refresh: Option<String>,
    unauthorized: Option<Answering>,
    needs_refresh: Option<Answering>,
}

/// What `login_user` is told about a login.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct LogIn {
    /// Whether the session outlives the browser. Default no.
    pub remember: bool,
    /// How long it is remembered. Default `REMEMBER_COOKIE_DURATION`.
    pub duration: Option<Duration>,
    /// Whether the session is fresh. Default yes.
    pub fresh: bool,
}

impl Default for LogIn {
    fn default() -> Self {
        Self { remember: false, duration: None, fresh: true }
    }
}

impl LogIn {
    /// Whether the session outlives the browser.
    #[must_use]
    pub fn remember(self, remember: bool) -> Self {
        Self { remember, ..self }
    }

    /// How long the session is remembered.
    #[must_use]
    pub fn duration(self, duration: Option<Duration>) -> Self {
        Self { duration, ..self }
    }

    /// Whether the session is fresh.
    #[must_use]
    pub fn fresh(self, fresh: bool) -> Self {
        Self { fresh, ..self }
    }
}

impl FlaskLogin {
    /// Begins the rules with these options.
    #[must_use]
    pub fn builder(config: FlaskLoginConfig) -> FlaskLoginBuilder {
        FlaskLoginBuilder { config, views: Views::default() }
    }

    /// The rules of this [`Auth`], if they are in force.
    #[must_use]
    pub fn of(auth: &Auth) -> Option<&Self> {
        (auth.rules() as &dyn std::any::Any).downcast_ref()
    }

    /// The options.
    #[must_use]
    pub fn config(&self) -> &FlaskLoginConfig {
        &self.config
    }

    /// Begins a session as `login_user` does, and ends those whose cookies the browser still carries. Returns the cookies
    /// for the answer. The caller has read the epoch by `Sessions::epoch` before the password was checked, or reads it
    /// here.
    ///
    /// # Errors
    /// [`BeginError`] when the store cannot answer.
    pub async fn login_user(
        &self,
        auth: &Auth,
        id: &UserId,
        arrival: Arrival,
        login: LogIn,
    ) -> Result<SetCookies, BeginError> {
        let epoch = auth.sessions().epoch(id).await?;
        if let Err(EndError::Store(error)) =
            auth.sessions().end_by_tokens(arrival.replacing, EndReason::Replaced).await
        {
            return Err(error.into());
        }
        let LogIn { remember: remembered, duration, fresh } = login;
        let bound = self.config.session_protection != DeviceBinding::Off;
        let mut beginning = Beginning::of(Presentation::Browser(BrowserSession { remembered, bound }));
        beginning.fresh = fresh;
        beginning.lifetime = match (remembered, duration) {
            (true, Some(duration)) => Some(duration),
            (true, None) if !self.config.refresh_each_request => Some(self.config.remember_duration),
            _ => None,
        };
        let pair = auth.sessions().begin(id.clone(), epoch, beginning, arrival.device).await?;
        Ok(auth.set_cookies(&pair))
    }

    /// The name of the cookie with the application's own data.
    fn data_name(&self) -> String {
        format!("{}_data", self.config.session.name)
    }

    fn data_key(&self) -> hmac::Key {
        let secret = self.config.secret_key.as_ref().map(|key| key.bytes().to_vec()).unwrap_or_default();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let tag = hmac::sign(&key, b"countersign flask session data v1");
        hmac::Key::new(hmac::HMAC_SHA256, tag.as_ref())
    }
}

impl FlaskLoginBuilder {
    /// `login_view`: the path of the page that those who are signed out are sent to. Default: none, and the answer is
    /// 401.
    #[must_use]
    pub fn login_view(mut self, path: impl Into<String>) -> Self {
        self.views.login = Some(path.into());
        self
    }

    /// `refresh_view`: the path of the page that those whose session is not fresh are sent to. Default: none, and the
    /// answer is 401.
    #[must_use]
    pub fn refresh_view(mut self, path: impl Into<String>) -> Self {
        self.views.refresh = Some(path.into());
        self
    }

    /// `unauthorized_handler`: the answer to those who are signed out, in place of the redirect.
    #[must_use]
    pub fn unauthorized_handler(mut self, answer: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        self.views.unauthorized = Some(Arc::new(answer));
        self
    }

    /// `needs_refresh_handler`: the answer to those whose session is not fresh, in place of the redirect.
    #[must_use]
    pub fn needs_refresh_handler(mut self, answer: impl Fn() -> Answer + Send + Sync + 'static) -> Self {
        self.views.needs_refresh = Some(Arc::new(answer));
        self
    }
}

impl FlaskCookie {
    /// A `Set-Cookie` field with the attributes that the options name.
    fn field(&self, name: &str, value: &str, max_age: Option<u64>) -> Option<HeaderValue> {
        let Self { domain, path, secure, http_only, same_site, .. } = self;
        let mut field = format!("{name}={value}");
        if let Some(domain) = domain {
            field.push_str(&format!("; Domain={domain}"));
        }
        if let Some(max_age) = max_age {
            field.push_str(&format!("; Max-Age={max_age}"));
        }
        for (attribute, is_set) in [("Secure", secure), ("HttpOnly", http_only)] {
            if *is_set {
                field.push_str(&format!("; {attribute}"));
            }
        }
        field.push_str(&format!("; Path={path}; SameSite={same_site}"));
        let mut field = HeaderValue::try_from(field).ok()?;
        field.set_sensitive(true);
        Some(field)
    }
}

impl fmt::Debug for FlaskLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlaskLogin").field("config", &self.config).finish_non_exhaustive()
    }
}

impl fmt::Debug for FlaskLoginBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlaskLoginBuilder").field("config", &self.config).finish_non_exhaustive()
    }
}
