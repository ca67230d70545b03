//! The 17 options of Flask-JWT.

use std::time::Duration;

use http::Method;
use serde_json::Value;

use crate::options::{OptionError, Options, duration};
use crate::tokens::{KeySource, Leeway};

/// The options of Flask-JWT, with their names without `JWT_` and its defaults.
///
/// ```
/// use std::time::Duration;
/// use countersign_flask::FlaskJwtConfig;
/// use serde_json::{Map, json};
///
/// let options = Map::from_iter([("JWT_AUTH_URL_RULE".to_owned(), json!("/login"))]);
/// let config = FlaskJwtConfig::from_options(options)?;
/// assert_eq!(config.auth_url_rule.as_deref(), Some("/login"));
/// assert_eq!(config.expiration_delta, Duration::from_secs(300));
/// # Ok::<(), countersign_flask::OptionError>(())
/// ```
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
    /// `JWT_ALGORITHM`: the algorithm that signs, and the only one accepted. Default `HS256`.
    pub algorithm: String,
    /// `JWT_SECRET_KEY`, or else Flask's `SECRET_KEY`. It must be at least as long as the algorithm's hash.
    pub secret_key: Option<KeySource>,
    /// `JWT_LEEWAY`, in seconds, at most 300. Default 10.
    pub leeway: Leeway,
    /// `JWT_AUTH_HEADER_PREFIX`: the word before the token, in upper or lower case. Default `JWT`.
    pub auth_header_prefix: String,
    /// `JWT_EXPIRATION_DELTA`, in seconds. Default 300.
    pub expiration_delta: Duration,
    /// `JWT_NOT_BEFORE_DELTA`, in seconds. Default 0.
    pub not_before_delta: Duration,
    /// `JWT_REQUIRED_CLAIMS`: the claims that a token must have. Default `exp`, `iat`, `nbf`.
    pub required_claims: Vec<String>,
}

impl Default for FlaskJwtConfig {
    fn default() -> Self {
        Self::read(&Options::default()).expect("the defaults are good options")
    }
}

impl FlaskJwtConfig {
    /// The names of all options. `JWT_AUTH_ENDPOINT`, `JWT_VERIFY_CLAIMS`, `JWT_VERIFY` and `JWT_VERIFY_EXPIRATION`
    /// have no effect, as in Flask-JWT: signature and times are always checked.
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

    /// Reads and checks the options. Absent options have Flask-JWT's defaults.
    ///
    /// # Errors
    /// [`OptionError`] names the first option that cannot be used, and what to write instead.
    pub fn from_options(options: impl Into<Options>) -> Result<Self, OptionError> {
        let options = options.into();
        options.check_names(&Self::NAMES)?;
        Self::read(&options)
    }

    /// Whether tokens must have `exp`.
    pub(crate) fn requires_expiry(&self) -> bool {
        self.required_claims.iter().any(|name| name == "exp")
    }

    fn read(options: &Options) -> Result<Self, OptionError> {
        let required = || ["exp", "iat", "nbf"].map(str::to_owned).to_vec();
        Ok(Self {
            default_realm: options.text_or("JWT_DEFAULT_REALM", Some("Login Required"))?.unwrap_or_default(),
            auth_url_rule: auth_url_rule(options)?,
            auth_methods: auth_methods(options)?,
            auth_username_key: options.name("JWT_AUTH_USERNAME_KEY", "username")?,
            auth_password_key: options.name("JWT_AUTH_PASSWORD_KEY", "password")?,
            algorithm: options.algorithm()?,
            secret_key: options.secret_key()?,
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
