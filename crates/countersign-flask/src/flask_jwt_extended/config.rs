//! The 43 options of Flask-JWT-Extended.

use std::time::Duration;

use countersign_http::Location;
use http::{HeaderName, Method};
use serde_json::Value;
use url::Url;

use crate::options::{ALGORITHMS, OptionError, Options, duration};
use crate::tokens::{KeySource, Leeway, algorithm_by_name};

/// A value of `JWT_COOKIE_SAMESITE`, the attribute that tells browsers which requests carry the cookies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CookieSameSite {
    /// `Strict`: no request from another site carries the cookie.
    Strict,
    /// `Lax`: links from other sites carry the cookie, forms and scripts there do not.
    Lax,
    /// `None`: every request carries the cookie.
    None,
}

impl From<CookieSameSite> for cookie::SameSite {
    fn from(same_site: CookieSameSite) -> Self {
        match same_site {
            CookieSameSite::Strict => Self::Strict,
            CookieSameSite::Lax => Self::Lax,
            CookieSameSite::None => Self::None,
        }
    }
}

/// The options of Flask-JWT-Extended, with their names without `JWT_` and its defaults.
///
/// [`FlaskJwtExtendedConfig::from_options`] reads and checks the original names, from a file or an environment.
///
/// ```
/// use std::time::Duration;
/// use countersign_flask::FlaskJwtExtendedConfig;
/// use serde_json::{Map, json};
///
/// let options = Map::from_iter([("JWT_ACCESS_TOKEN_EXPIRES".to_owned(), json!(3600))]);
/// let config = FlaskJwtExtendedConfig::from_options(options)?;
/// assert_eq!(config.access_token_expires.as_duration(), Some(Duration::from_secs(3600)));
/// assert_eq!(config.header_type.as_deref(), Some("Bearer"));
/// # Ok::<(), countersign_flask::OptionError>(())
/// ```
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the options are what they are")]
pub struct FlaskJwtExtendedConfig {
    /// `JWT_ALGORITHM`: the algorithm that signs tokens. Default `HS256`.
    pub algorithm: String,
    /// `JWT_DECODE_ALGORITHMS`: the algorithms accepted beside [`algorithm`](Self::algorithm). Default none.
    pub decode_algorithms: Vec<String>,
    /// `JWT_SECRET_KEY`, or else Flask's `SECRET_KEY`, for HS256, HS384, HS512. It must be at least as long as the
    /// algorithm's hash.
    pub secret_key: Option<KeySource>,
    /// `JWT_PRIVATE_KEY`: the PEM key that signs with all other algorithms.
    pub private_key: Option<KeySource>,
    /// `JWT_PUBLIC_KEY`: the PEM key that verifies tokens signed by the private key.
    pub public_key: Option<KeySource>,
    /// `JWT_ACCESS_TOKEN_EXPIRES`, in seconds, or `false`. Default 15 minutes.
    pub access_token_expires: Lifetime,
    /// `JWT_REFRESH_TOKEN_EXPIRES`, in seconds, or `false`. Default 30 days.
    pub refresh_token_expires: Lifetime,
    /// `JWT_IDENTITY_CLAIM`: the claim that names the user. Default `sub`.
    pub identity_claim: String,
    /// `JWT_ENCODE_NBF`: whether new tokens have `nbf`. Default true.
    pub encode_nbf: bool,
    /// `JWT_ENCODE_AUDIENCE`: the `aud` of new tokens, a text or a list. Default none.
    pub encode_audience: Option<Value>,
    /// `JWT_ENCODE_ISSUER`: the `iss` of new tokens. Default none.
    pub encode_issuer: Option<String>,
    /// `JWT_DECODE_AUDIENCE`: the audiences of which `aud` must name one. Default: `aud` is not checked.
    pub decode_audience: Option<Vec<String>>,
    /// `JWT_DECODE_ISSUER`: the issuers of which `iss` must be one. Default: `iss` is not checked.
    pub decode_issuer: Option<Vec<String>>,
    /// `JWT_DECODE_LEEWAY`, in seconds, at most 300. Default 0.
    pub decode_leeway: Leeway,
    /// `JWT_VERIFY_SUB`: whether `sub` must be text. Default true.
    pub verify_sub: bool,
    /// `JWT_ERROR_MESSAGE_KEY`: the member of answers that holds the message. Default `msg`.
    pub error_message_key: String,
    /// `JWT_TOKEN_LOCATION`: `headers`, `cookies`, `query_string`, `json`, in the order in which they are looked at.
    /// Default: the headers.
    pub token_location: Vec<Location>,
    /// `JWT_HEADER_NAME`, spelled as in the option because messages name it. Default `Authorization`.
    pub header_name: String,
    /// `JWT_HEADER_TYPE`: the word before the token; `None` or empty for the bare token. Default `Bearer`.
    pub header_type: Option<String>,
    /// `JWT_QUERY_STRING_NAME`. Default `jwt`.
    pub query_string_name: String,
    /// `JWT_QUERY_STRING_VALUE_PREFIX`. Default none.
    pub query_string_value_prefix: String,
    /// `JWT_JSON_KEY`. Default `access_token`.
    pub json_key: String,
    /// `JWT_REFRESH_JSON_KEY`. Default `refresh_token`.
    pub refresh_json_key: String,
    /// The cookies of access tokens.
    pub access: CookieNames,
    /// The cookies of refresh tokens.
    pub refresh: CookieNames,
    /// `JWT_COOKIE_DOMAIN`. Default none.
    pub cookie_domain: Option<String>,
    /// `JWT_COOKIE_SAMESITE`. Default none.
    pub cookie_samesite: Option<CookieSameSite>,
    /// `JWT_COOKIE_SECURE`. Default false; set it wherever the application is reached by https.
    pub cookie_secure: bool,
    /// `JWT_SESSION_COOKIE`: whether cookies end with the browser; otherwise they last a year. Default true.
    pub session_cookie: bool,
    /// `JWT_COOKIE_CSRF_PROTECT`: whether tokens carry a CSRF value that requests with cookies must send. Default true.
    pub cookie_csrf_protect: bool,
    /// `JWT_CSRF_IN_COOKIES`: whether the CSRF value is also set as a readable cookie. Default true.
    pub csrf_in_cookies: bool,
    /// `JWT_CSRF_METHODS`. Default POST, PUT, PATCH, DELETE.
    pub csrf_methods: Vec<Method>,
    /// `JWT_CSRF_CHECK_FORM`: whether the CSRF value may also come in a form. Default false.
    pub csrf_check_form: bool,
}

/// The cookies of one type of token, and the places where its CSRF value is expected.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CookieNames {
    /// `JWT_ACCESS_COOKIE_NAME`, `JWT_REFRESH_COOKIE_NAME`.
    pub name: String,
    /// `JWT_ACCESS_COOKIE_PATH`, `JWT_REFRESH_COOKIE_PATH`. Default `/`; `None` sets the cookie without a path.
    pub path: Option<String>,
    /// `JWT_ACCESS_CSRF_COOKIE_NAME`, `JWT_REFRESH_CSRF_COOKIE_NAME`.
    pub csrf_name: String,
    /// `JWT_ACCESS_CSRF_COOKIE_PATH`, `JWT_REFRESH_CSRF_COOKIE_PATH`. Default `/`; `None` sets the cookie without a
    /// path.
    pub csrf_path: Option<String>,
    /// `JWT_ACCESS_CSRF_HEADER_NAME`, `JWT_REFRESH_CSRF_HEADER_NAME`. Default `X-CSRF-TOKEN`.
    pub csrf_header: HeaderName,
    /// `JWT_ACCESS_CSRF_FIELD_NAME`, `JWT_REFRESH_CSRF_FIELD_NAME`. Default `csrf_token`.
    pub csrf_field: String,
}

/// The lifetime of tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lifetime {
    /// Tokens expire after this duration.
    For(Duration),
    /// Tokens stay valid until the key is changed. Tokens of this type may then be without `exp`.
    Never,
}

impl Lifetime {
    /// The lifetime as a duration; `None` if tokens never expire.
    #[must_use]
    pub fn as_duration(self) -> Option<Duration> {
        match self {
            Self::For(duration) => Some(duration),
            Self::Never => None,
        }
    }
}

impl Default for FlaskJwtExtendedConfig {
    fn default() -> Self {
        Self::read(&Options::default()).expect("the defaults are good options")
    }
}

impl FlaskJwtExtendedConfig {
    /// The names of all options. `SECRET_KEY` is Flask's own, and is used where `JWT_SECRET_KEY` is absent.
    pub const NAMES: [&str; 44] = [
        "JWT_ACCESS_COOKIE_NAME",
        "JWT_ACCESS_COOKIE_PATH",
        "JWT_ACCESS_CSRF_COOKIE_NAME",
        "JWT_ACCESS_CSRF_COOKIE_PATH",
        "JWT_ACCESS_CSRF_FIELD_NAME",
        "JWT_ACCESS_CSRF_HEADER_NAME",
        "JWT_ACCESS_TOKEN_EXPIRES",
        "JWT_ALGORITHM",
        "JWT_COOKIE_CSRF_PROTECT",
        "JWT_COOKIE_DOMAIN",
        "JWT_COOKIE_SAMESITE",
        "JWT_COOKIE_SECURE",
        "JWT_CSRF_CHECK_FORM",
        "JWT_CSRF_IN_COOKIES",
        "JWT_CSRF_METHODS",
        "JWT_DECODE_ALGORITHMS",
        "JWT_DECODE_AUDIENCE",
        "JWT_DECODE_ISSUER",
        "JWT_DECODE_LEEWAY",
        "JWT_ENCODE_AUDIENCE",
        "JWT_ENCODE_ISSUER",
        "JWT_ENCODE_NBF",
        "JWT_ERROR_MESSAGE_KEY",
        "JWT_HEADER_NAME",
        "JWT_HEADER_TYPE",
        "JWT_IDENTITY_CLAIM",
        "JWT_JSON_KEY",
        "JWT_PRIVATE_KEY",
        "JWT_PUBLIC_KEY",
        "JWT_QUERY_STRING_NAME",
        "JWT_QUERY_STRING_VALUE_PREFIX",
        "JWT_REFRESH_COOKIE_NAME",
        "JWT_REFRESH_COOKIE_PATH",
        "JWT_REFRESH_CSRF_COOKIE_NAME",
        "JWT_REFRESH_CSRF_COOKIE_PATH",
        "JWT_REFRESH_CSRF_FIELD_NAME",
        "JWT_REFRESH_CSRF_HEADER_NAME",
        "JWT_REFRESH_JSON_KEY",
        "JWT_REFRESH_TOKEN_EXPIRES",
        "JWT_SECRET_KEY",
        "JWT_SESSION_COOKIE",
        "JWT_TOKEN_LOCATION",
        "JWT_VERIFY_SUB",
        "SECRET_KEY",
    ];

    /// Reads and checks the options. Absent options have Flask-JWT-Extended's defaults.
    ///
    /// # Errors
    /// [`OptionError`] names the first option that cannot be used, and what to write instead.
    pub fn from_options(options: impl Into<Options>) -> Result<Self, OptionError> {
        let options = options.into();
        options.check_names(&Self::NAMES)?;
        Self::read(&options)
    }

    /// The lifetimes of access and refresh tokens, with the options that set them.
    pub(crate) fn lifetimes(&self) -> [(&'static str, Lifetime); 2] {
        [
            ("JWT_ACCESS_TOKEN_EXPIRES", self.access_token_expires),
            ("JWT_REFRESH_TOKEN_EXPIRES", self.refresh_token_expires),
        ]
    }

    fn read(options: &Options) -> Result<Self, OptionError> {
        Ok(Self {
            algorithm: options.algorithm()?,
            decode_algorithms: decode_algorithms(options)?,
            secret_key: options.secret_key()?,
            private_key: options.key("JWT_PRIVATE_KEY")?,
            public_key: options.key("JWT_PUBLIC_KEY")?,
            access_token_expires: lifetime(options, "JWT_ACCESS_TOKEN_EXPIRES", 15 * 60)?,
            refresh_token_expires: lifetime(options, "JWT_REFRESH_TOKEN_EXPIRES", 30 * 24 * 3600)?,
            identity_claim: options.name("JWT_IDENTITY_CLAIM", "sub")?,
            encode_nbf: options.flag("JWT_ENCODE_NBF", true)?,
            encode_audience: encode_audience(options)?,
            encode_issuer: options.text("JWT_ENCODE_ISSUER")?.filter(|issuer| !issuer.is_empty()),
            decode_audience: options.texts("JWT_DECODE_AUDIENCE")?,
            decode_issuer: options.texts("JWT_DECODE_ISSUER")?,
            decode_leeway: options.leeway("JWT_DECODE_LEEWAY", Duration::ZERO)?,
            verify_sub: options.flag("JWT_VERIFY_SUB", true)?,
            error_message_key: options.name("JWT_ERROR_MESSAGE_KEY", "msg")?,
            token_location: locations(options)?,
            header_name: header(options, "JWT_HEADER_NAME", "Authorization")?.0,
            header_type: options.text_or("JWT_HEADER_TYPE", Some("Bearer"))?,
            query_string_name: options.name("JWT_QUERY_STRING_NAME", "jwt")?,
            query_string_value_prefix: options.text("JWT_QUERY_STRING_VALUE_PREFIX")?.unwrap_or_default(),
            json_key: options.name("JWT_JSON_KEY", "access_token")?,
            refresh_json_key: options.name("JWT_REFRESH_JSON_KEY", "refresh_token")?,
            access: CookieNames {
                name: cookie_name(options, "JWT_ACCESS_COOKIE_NAME", "access_token_cookie")?,
                path: cookie_path(options, "JWT_ACCESS_COOKIE_PATH")?,
                csrf_name: cookie_name(options, "JWT_ACCESS_CSRF_COOKIE_NAME", "csrf_access_token")?,
                csrf_path: cookie_path(options, "JWT_ACCESS_CSRF_COOKIE_PATH")?,
                csrf_header: header(options, "JWT_ACCESS_CSRF_HEADER_NAME", "X-CSRF-TOKEN")?.1,
                csrf_field: options.name("JWT_ACCESS_CSRF_FIELD_NAME", "csrf_token")?,
            },
            refresh: CookieNames {
                name: cookie_name(options, "JWT_REFRESH_COOKIE_NAME", "refresh_token_cookie")?,
                path: cookie_path(options, "JWT_REFRESH_COOKIE_PATH")?,
                csrf_name: cookie_name(options, "JWT_REFRESH_CSRF_COOKIE_NAME", "csrf_refresh_token")?,
                csrf_path: cookie_path(options, "JWT_REFRESH_CSRF_COOKIE_PATH")?,
                csrf_header: header(options, "JWT_REFRESH_CSRF_HEADER_NAME", "X-CSRF-TOKEN")?.1,
                csrf_field: options.name("JWT_REFRESH_CSRF_FIELD_NAME", "csrf_token")?,
            },
            cookie_domain: cookie_domain(options)?,
            cookie_samesite: same_site(options)?,
            cookie_secure: options.flag("JWT_COOKIE_SECURE", false)?,
            session_cookie: options.flag("JWT_SESSION_COOKIE", true)?,
            cookie_csrf_protect: options.flag("JWT_COOKIE_CSRF_PROTECT", true)?,
            csrf_in_cookies: options.flag("JWT_CSRF_IN_COOKIES", true)?,
            csrf_methods: csrf_methods(options)?,
            csrf_check_form: options.flag("JWT_CSRF_CHECK_FORM", false)?,
        })
    }
}

pub(super) fn location_name(location: Location) -> &'static str {
    match location {
        Location::Header => "headers",
        Location::Cookie => "cookies",
        Location::Query => "query_string",
        Location::Body => "json",
        _ => "elsewhere",
    }
}

/// The location that has this name in Flask-JWT-Extended.
#[must_use]
pub fn location_by_name(name: &str) -> Option<Location> {
    let all = [Location::Header, Location::Cookie, Location::Query, Location::Body];
    all.into_iter().find(|location| location_name(*location) == name)
}

fn decode_algorithms(options: &Options) -> Result<Vec<String>, OptionError> {
    const NAME: &str = "JWT_DECODE_ALGORITHMS";
    let names = options.texts(NAME)?.unwrap_or_default();
    match names.iter().find(|name| algorithm_by_name(name).is_none()) {
        Some(_) => Err(OptionError::new(NAME, ALGORITHMS)),
        None => Ok(names),
    }
}

fn lifetime(options: &Options, name: &'static str, default: u64) -> Result<Lifetime, OptionError> {
    match options.value(name) {
        None => Ok(Lifetime::For(Duration::from_secs(default))),
        Some(Value::Bool(false)) => Ok(Lifetime::Never),
        Some(Value::String(text)) if text == "False" => Ok(Lifetime::Never),
        Some(value) => duration(value).map(Lifetime::For).ok_or_else(|| {
            OptionError::new(
                name,
                "must be a number of seconds, or false for tokens that never expire; 0, which Flask-JWT-Extended \
                 takes for \"never\", is refused because nobody who writes it expects that",
            )
        }),
    }
}

fn encode_audience(options: &Options) -> Result<Option<Value>, OptionError> {
    const NAME: &str = "JWT_ENCODE_AUDIENCE";
    match options.value(NAME) {
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.as_str().into())),
        None | Some(Value::String(_)) => Ok(None),
        Some(_) => Ok(options.texts(NAME)?.filter(|list| !list.is_empty()).map(Value::from)),
    }
}

fn locations(options: &Options) -> Result<Vec<Location>, OptionError> {
    const NAME: &str = "JWT_TOKEN_LOCATION";
    if !options.has(NAME) {
        return Ok(vec![Location::Header]);
    }
    let names = options.texts(NAME)?.unwrap_or_default();
    if names.is_empty() {
        return Err(OptionError::new(
            NAME,
            "must contain at least one of \"headers\", \"cookies\", \"query_string\", or \"json\"",
        ));
    }
    let locations: Option<Vec<_>> = names.iter().map(|name| location_by_name(name)).collect();
    locations.ok_or_else(|| {
        OptionError::new(NAME, "can only contain \"headers\", \"cookies\", \"query_string\", or \"json\"")
    })
}

fn header(options: &Options, name: &'static str, default: &str) -> Result<(String, HeaderName), OptionError> {
    let text = options.name(name, default)?;
    match HeaderName::try_from(text.as_str()) {
        Ok(header) => Ok((text, header)),
        Err(_) => Err(OptionError::new(name, format!("must be the name of a header, such as {default:?}"))),
    }
}

fn cookie_name(options: &Options, name: &'static str, default: &str) -> Result<String, OptionError> {
    let text = options.name(name, default)?;
    let is_token = |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte);
    if text.bytes().all(is_token) {
        Ok(text)
    } else {
        Err(OptionError::new(name, format!("must be a name that cookies can have, such as {default:?}")))
    }
}

fn cookie_path(options: &Options, name: &'static str) -> Result<Option<String>, OptionError> {
    let path = options.text_or(name, Some("/"))?;
    match &path {
        Some(path)
            if !path.starts_with('/') || path.contains([';', ',']) || path.chars().any(char::is_control) =>
        {
            Err(OptionError::new(name, "must be a path such as \"/\", or null for none"))
        }
        Some(path) => {
            // The path must have the form in which browsers write it in a request, or they would never send the cookie.
            let mut url = Url::parse("http://localhost").expect("a constant URL");
            url.set_path(path);
            Ok(Some(url.path().to_owned()))
        }
        None => Ok(None),
    }
}

fn cookie_domain(options: &Options) -> Result<Option<String>, OptionError> {
    const NAME: &str = "JWT_COOKIE_DOMAIN";
    options
        .text(NAME)?
        .filter(|domain| !domain.is_empty())
        .map(|domain| {
            domain_of(&domain)
                .ok_or_else(|| OptionError::new(NAME, "must be a domain such as \"example.com\""))
        })
        .transpose()
}

/// A domain in the form that cookies need, without a leading dot and without a port.
pub(super) fn domain_of(text: &str) -> Option<String> {
    let domain = text.trim_start_matches('.');
    let domain = domain.split_once(':').map_or(domain, |(host, _)| host);
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (!domain.is_empty() && domain.bytes().all(is_host)).then(|| domain.to_owned())
}

fn same_site(options: &Options) -> Result<Option<CookieSameSite>, OptionError> {
    const NAME: &str = "JWT_COOKIE_SAMESITE";
    match options.text(NAME)?.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None => Ok(None),
        Some("lax") => Ok(Some(CookieSameSite::Lax)),
        Some("strict") => Ok(Some(CookieSameSite::Strict)),
        Some("none") => Ok(Some(CookieSameSite::None)),
        Some(_) => Err(OptionError::new(NAME, "must be \"Lax\", \"Strict\", \"None\", or null for none")),
    }
}

fn csrf_methods(options: &Options) -> Result<Vec<Method>, OptionError> {
    const NAME: &str = "JWT_CSRF_METHODS";
    let Some(names) = options.texts(NAME)? else {
        return Ok(vec![Method::POST, Method::PUT, Method::PATCH, Method::DELETE]);
    };
    let method = |name: &String| {
        let method = Method::from_bytes(name.as_bytes()).ok();
        method.filter(|_| !name.bytes().any(|byte| byte.is_ascii_lowercase())).ok_or_else(|| {
            OptionError::new(
                NAME,
                "must be a list of methods in upper case, such as [\"POST\", \"PUT\", \"PATCH\", \"DELETE\"]; no request \
                 has a method in lower case, so that the check would be off",
            )
        })
    };
    names.iter().map(method).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(options: Value) -> Result<FlaskJwtExtendedConfig, OptionError> {
        let Value::Object(map) = options else { panic!("an object") };
        FlaskJwtExtendedConfig::from_options(map)
    }

    fn from_environment(pairs: &[(&str, &str)]) -> Result<FlaskJwtExtendedConfig, OptionError> {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        FlaskJwtExtendedConfig::from_options(Options::from_environment(pairs))
    }

    #[test]
    fn there_are_43_options_and_flasks_own_secret() {
        assert_eq!(FlaskJwtExtendedConfig::NAMES.iter().filter(|name| name.starts_with("JWT_")).count(), 43);
    }

    #[test]
    fn a_wrong_value_names_the_option_and_what_to_write() {
        for (options, expected) in [
            (json!({"JWT_TOKEN_LOCATION": []}), "JWT_TOKEN_LOCATION must contain at least one of"),
            (json!({"JWT_TOKEN_LOCATION": "Headers"}), "JWT_TOKEN_LOCATION can only contain"),
            (json!({"JWT_HEADER_NAME": ""}), "JWT_HEADER_NAME must be a text that is not empty"),
            (json!({"JWT_HEADER_NAME": "a b"}), "JWT_HEADER_NAME must be the name of a header"),
            (json!({"JWT_ALGORITHM": "none"}), "JWT_ALGORITHM must be one of HS256"),
            (json!({"JWT_ALGORITHM": "hs256"}), "JWT_ALGORITHM must be one of HS256"),
            (json!({"JWT_DECODE_ALGORITHMS": ["HS256", "foo"]}), "JWT_DECODE_ALGORITHMS must be one of"),
            (json!({"JWT_ACCESS_TOKEN_EXPIRES": 0}), "JWT_ACCESS_TOKEN_EXPIRES must be a number of seconds"),
            (json!({"JWT_ACCESS_TOKEN_EXPIRES": "15m"}), "JWT_ACCESS_TOKEN_EXPIRES must be a number"),
            (json!({"JWT_REFRESH_TOKEN_EXPIRES": true}), "JWT_REFRESH_TOKEN_EXPIRES must be a number"),
            (json!({"JWT_REFRESH_TOKEN_EXPIRES": null}), "JWT_REFRESH_TOKEN_EXPIRES must be a number"),
            (json!({"JWT_DECODE_LEEWAY": 301}), "JWT_DECODE_LEEWAY must be a number of seconds between"),
            (json!({"JWT_COOKIE_SAMESITE": "lazy"}), "JWT_COOKIE_SAMESITE must be"),
            (json!({"JWT_COOKIE_SAMESITE": ""}), "JWT_COOKIE_SAMESITE must be"),
            (json!({"JWT_COOKIE_SECURE": 1}), "JWT_COOKIE_SECURE must be true or false"),
            (
                json!({"JWT_CSRF_METHODS": ["post"]}),
                "JWT_CSRF_METHODS must be a list of methods in upper case",
            ),
            (json!({"JWT_ACCESS_COOKIE_NAME": "a;b"}), "JWT_ACCESS_COOKIE_NAME must be a name"),
            (json!({"JWT_ACCESS_COOKIE_PATH": "x; Domain=e"}), "JWT_ACCESS_COOKIE_PATH must be a path"),
            (json!({"JWT_ACCES_TOKEN_EXPIRES": 5}), "did you mean JWT_ACCESS_TOKEN_EXPIRES?"),
        ] {
            let error = read(options.clone()).expect_err(&options.to_string()).to_string();
            assert!(error.contains(expected), "{options}: {error}");
        }
    }

    #[test]
    fn sec_046_no_error_shows_a_secret() {
        let error = read(json!({"JWT_SECRET_KEY": ["canary"]})).unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
        let config = read(json!({"JWT_SECRET_KEY": "canary"})).unwrap();
        assert!(!format!("{config:?}").contains("canary"));
    }

    #[test]
    fn an_environment_holds_json_or_text_and_lists_with_commas() {
        let config = from_environment(&[
            ("JWT_TOKEN_LOCATION", "headers, cookies"),
            ("JWT_ACCESS_TOKEN_EXPIRES", "60"),
            ("JWT_REFRESH_TOKEN_EXPIRES", "false"),
            ("JWT_COOKIE_SECURE", "true"),
            ("JWT_SESSION_COOKIE", "False"),
            ("JWT_HEADER_TYPE", "null"),
            ("JWT_SECRET_KEY", "12345678901234567890123456789012"),
            ("JWT_DECODE_AUDIENCE", "[\"a\", \"b\"]"),
            ("JWT_QUERY_STRING_NAME", "7"),
            ("JWT_SOMEBODY_ELSES", "x"),
            ("PATH", "/bin"),
        ])
        .unwrap();
        assert_eq!(config.token_location, [Location::Header, Location::Cookie]);
        assert_eq!(config.access_token_expires, Lifetime::For(Duration::from_secs(60)));
        assert_eq!(config.refresh_token_expires, Lifetime::Never);
        assert!(config.cookie_secure && !config.session_cookie);
        assert_eq!(config.header_type, None);
        assert!(config.secret_key.is_some());
        assert_eq!(config.decode_audience, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(config.query_string_name, "7");
    }
}
