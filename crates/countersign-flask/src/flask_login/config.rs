//! The options of Flask-Login, and those of Flask that govern its cookies.

use std::time::Duration;

use countersign_http::DeviceBinding;
use serde_json::Value;

use crate::options::{OptionError, Options, duration};
use crate::tokens::KeySource;

/// The options of a Flask application with Flask-Login, as far as they have a meaning here.
///
/// ```
/// use countersign_flask::FlaskLoginConfig;
/// use serde_json::{Map, json};
///
/// let options = Map::from_iter([("REMEMBER_COOKIE_NAME".to_owned(), json!("keep"))]);
/// let config = FlaskLoginConfig::from_options(options)?;
/// assert_eq!(config.remember.name, "keep");
/// # Ok::<(), countersign_flask::OptionError>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FlaskLoginConfig {
    /// `SECRET_KEY`, by which the application's own data in cookies is signed.
    pub secret_key: Option<KeySource>,
    /// `SESSION_COOKIE_…`: the cookie of a session, named `session` by default.
    pub session: FlaskCookie,
    /// `REMEMBER_COOKIE_…`: the cookie that outlives the browser, named `remember_token` by default.
    pub remember: FlaskCookie,
    /// `REMEMBER_COOKIE_DURATION`: how long a session is remembered. Default 365 days, and at most 400.
    pub remember_duration: Duration,
    /// `REMEMBER_COOKIE_REFRESH_EACH_REQUEST`: every answer begins the duration anew. Default off.
    pub refresh_each_request: bool,
    /// `SESSION_PROTECTION`: `basic` (the default), `strong`, or null for none.
    pub session_protection: DeviceBinding,
    /// `LOGIN_DISABLED`: guards let everybody through. Default off.
    pub login_disabled: bool,
    /// `USE_SESSION_FOR_NEXT`: the page to come back to is kept in a cookie and not in the URL. Default off.
    pub use_session_for_next: bool,
}

/// A cookie, as the options of Flask describe it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FlaskCookie {
    /// The name.
    pub name: String,
    /// The domain, without a leading dot.
    pub domain: Option<String>,
    /// The path.
    pub path: String,
    /// Whether it travels over https only.
    pub secure: bool,
    /// Whether scripts cannot read it.
    pub http_only: bool,
    /// `SameSite`. Where the options name none it is `Lax`, which is stricter than Flask-Login.
    pub same_site: String,
}

impl FlaskLoginConfig {
    /// The options that are read.
    pub const NAMES: [&str; 20] = [
        "LOGIN_DISABLED",
        "REMEMBER_COOKIE_DOMAIN",
        "REMEMBER_COOKIE_DURATION",
        "REMEMBER_COOKIE_HTTPONLY",
        "REMEMBER_COOKIE_NAME",
        "REMEMBER_COOKIE_PATH",
        "REMEMBER_COOKIE_REFRESH_EACH_REQUEST",
        "REMEMBER_COOKIE_SAMESITE",
        "REMEMBER_COOKIE_SECURE",
        "SECRET_KEY",
        "SESSION_COOKIE_DOMAIN",
        "SESSION_COOKIE_HTTPONLY",
        "SESSION_COOKIE_NAME",
        "SESSION_COOKIE_PATH",
        "SESSION_COOKIE_SAMESITE",
        "SESSION_COOKIE_SECURE",
        "SESSION_PROTECTION",
        "USE_SESSION_FOR_NEXT",
        "FORCE_HOST_FOR_REDIRECTS",
        "AUTH_HEADER_NAME",
    ];

    /// Reads and checks the options. Absent options have the defaults of Flask-Login and Flask.
    ///
    /// # Errors
    /// [`OptionError`] names the first option that cannot be used, and what to write instead.
    pub fn from_options(options: impl Into<Options>) -> Result<Self, OptionError> {
        let options = options.into();
        options.check_names(&Self::NAMES)?;
        for name in ["FORCE_HOST_FOR_REDIRECTS", "AUTH_HEADER_NAME"] {
            if options.has(name) {
                return Err(OptionError::new(name, "has no effect here; leave it out"));
            }
        }
        let session = FlaskCookie {
            name: options.name("SESSION_COOKIE_NAME", "session")?,
            domain: domain(&options, "SESSION_COOKIE_DOMAIN")?,
            path: path(&options, "SESSION_COOKIE_PATH")?,
            secure: options.flag("SESSION_COOKIE_SECURE", false)?,
            http_only: options.flag("SESSION_COOKIE_HTTPONLY", true)?,
            same_site: same_site(&options, "SESSION_COOKIE_SAMESITE")?,
        };
        let remember = FlaskCookie {
            name: options.name("REMEMBER_COOKIE_NAME", "remember_token")?,
            domain: domain(&options, "REMEMBER_COOKIE_DOMAIN")?,
            path: path(&options, "REMEMBER_COOKIE_PATH")?,
            secure: options.flag("REMEMBER_COOKIE_SECURE", false)?,
            http_only: options.flag("REMEMBER_COOKIE_HTTPONLY", true)?,
            same_site: same_site(&options, "REMEMBER_COOKIE_SAMESITE")?,
        };
        for (cookie, name) in [(&session, "SESSION_COOKIE_NAME"), (&remember, "REMEMBER_COOKIE_NAME")] {
            if cookie.same_site == "None" && !cookie.secure {
                return Err(OptionError::new(
                    name,
                    "has SameSite=None, which browsers take over https alone",
                ));
            }
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
            if cookie.name.is_empty() || !cookie.name.bytes().all(is_name) {
                return Err(OptionError::new(name, "must be made of letters, digits, `_`, `-` and `.`"));
            }
        }
        if session.name == remember.name {
            return Err(OptionError::new("REMEMBER_COOKIE_NAME", "must not be that of the session's cookie"));
        }
        Ok(Self {
            secret_key: options.key("SECRET_KEY")?,
            session,
            remember,
            remember_duration: remember_duration(&options)?,
            refresh_each_request: options.flag("REMEMBER_COOKIE_REFRESH_EACH_REQUEST", false)?,
            session_protection: session_protection(&options)?,
            login_disabled: options.flag("LOGIN_DISABLED", false)?,
            use_session_for_next: options.flag("USE_SESSION_FOR_NEXT", false)?,
        })
    }
}

/// The longest time for which a session is remembered, which is what browsers keep a cookie for.
pub(super) const LONGEST: Duration = Duration::from_secs(400 * 24 * 3600);

fn remember_duration(options: &Options) -> Result<Duration, OptionError> {
    const NAME: &str = "REMEMBER_COOKIE_DURATION";
    let wrong = || OptionError::new(NAME, "must be a number of seconds, from 1 to 34560000 (400 days)");
    let given = match options.value(NAME) {
        None => Some(Duration::from_secs(365 * 24 * 3600)),
        Some(value) => duration(value),
    };
    given.filter(|given| *given >= Duration::from_secs(1) && *given <= LONGEST).ok_or_else(wrong)
}

fn session_protection(options: &Options) -> Result<DeviceBinding, OptionError> {
    const NAME: &str = "SESSION_PROTECTION";
    match options.value(NAME) {
        None => Ok(DeviceBinding::Basic),
        Some(Value::Null) => Ok(DeviceBinding::Off),
        Some(Value::String(mode)) if mode == "basic" => Ok(DeviceBinding::Basic),
        Some(Value::String(mode)) if mode == "strong" => Ok(DeviceBinding::Strong),
        // Flask-Login takes every other value for no protection.
        Some(_) => Err(OptionError::new(NAME, "must be \"basic\", \"strong\" or null")),
    }
}

fn domain(options: &Options, name: &'static str) -> Result<Option<String>, OptionError> {
    let domain = options.text(name)?.map(|domain| domain.trim_start_matches('.').to_owned());
    let is_domain = |domain: &String| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        !domain.is_empty() && domain.bytes().all(allowed)
    };
    match domain {
        Some(domain) if !is_domain(&domain) => Err(OptionError::new(name, "must be a domain")),
        domain => Ok(domain),
    }
}

fn path(options: &Options, name: &'static str) -> Result<String, OptionError> {
    let path = options.text_or(name, Some("/"))?.unwrap_or_else(|| "/".to_owned());
    if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';') {
        Ok(path)
    } else {
        Err(OptionError::new(name, "must be a path such as \"/\""))
    }
}

fn same_site(options: &Options, name: &'static str) -> Result<String, OptionError> {
    match options.text(name)?.as_deref() {
        None => Ok("Lax".to_owned()),
        Some(value @ ("Lax" | "Strict" | "None")) => Ok(value.to_owned()),
        Some(_) => Err(OptionError::new(name, "must be \"Lax\", \"Strict\" or \"None\"")),
    }
}
