//! The cookies that Countersign sets: their names, attributes and `Set-Cookie` fields.

use std::time::Duration;

use cookie::{Cookie, SameSite};
use http::HeaderValue;
use url::{Host, Url};

use crate::cookie_options::CookieOptions;

/// One of the cookies of a session.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CookieKind {
    /// Carries the access token. `HttpOnly` and `SameSite=Lax`, so that a user who follows a link from another site is
    /// signed in.
    Access,
    /// Carries the refresh token. `HttpOnly`, `SameSite=Strict`.
    Refresh,
    /// Carries the CSRF value, for the page's own scripts to read.
    ///
    /// `SameSite=Lax`: it comes with every request that the access cookie comes with. `Strict` would protect nothing,
    /// because this cookie is never compared with anything (SEC-067), and would make pages reached by a link from
    /// elsewhere see a session without its value.
    Csrf,
}

/// The names and attributes of our cookies.
///
/// All cookies are `Secure` outside of development and have `Path=/`, unless [chosen otherwise](CookieOptions).
///
/// ```
/// use std::time::Duration;
/// use countersign_http::{CookieConfig, CookieKind};
///
/// let cookies = CookieConfig::for_public_url(Some(&"https://app.example.com".parse()?))?;
/// let field = cookies.set(CookieKind::Refresh, "a.b.c", Duration::from_secs(900))?;
/// assert_eq!(
///     field,
///     "__Host-countersign_refresh=a.b.c; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=900"
/// );
/// // Over plain http anybody on the way could read the cookies.
/// assert!(CookieConfig::for_public_url(Some(&"http://app.example.com".parse()?)).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CookieConfig {
    scope: Scope,
    access: One,
    refresh: One,
    csrf: One,
    partitioned: bool,
    until_closed: bool,
    without_csrf_cookie: bool,
}

/// The options of one cookie.
#[derive(Clone, Debug, Eq, PartialEq)]
struct One {
    name: String,
    path: String,
    same_site: SameSite,
}

/// The hosts that receive the cookies, which decide their prefix, `Secure` and `Domain`.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Scope {
    /// This host alone, over https: prefix `__Host-`.
    Host,
    /// This domain and everything under it, over https: prefix `__Secure-`.
    Domain(String),
    /// This loopback address, over http: no prefix.
    Loopback,
}

/// Why cookies cannot be set as configured.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CookieConfigError {
    /// The public URL would send the cookies over the open network unencrypted (SEC-064).
    #[error(
        "the public URL is http on a host that is not loopback, where cookies could be read by anyone on the way; \
         use an https URL (or 127.0.0.1, [::1] or localhost for development)"
    )]
    Insecure,
    /// The public URL is neither https nor http.
    #[error("the public URL must begin with https:// (or http:// on a loopback address) and name a host")]
    Scheme,
    /// The domain to share the cookies with is neither the public URL's host nor a parent of it.
    #[error(
        "cookies can be shared only from an https public URL, with its own host name or a parent of it \
         that has at least two labels, such as example.com for https://app.example.com"
    )]
    Domain,
    /// The cookies are to be shared with sub-domains, but no public URL is set.
    #[error(
        "cookies that are shared with sub-domains need the public URL; add `.public_url(…)` to the AuthBuilder"
    )]
    DomainWithoutUrl,
    /// The cookie's name is one that browsers or this program would not accept.
    #[error(
        "a cookie's name must be made of letters, digits, `_`, `-` and `.`; leave `__Host-` and `__Secure-` out, the \
         right one is put before it"
    )]
    Name,
    /// Two cookies have the same name.
    #[error("the access, refresh and CSRF cookies need different names")]
    SameNames,
    /// The cookie's path is not a valid path.
    #[error("a cookie's path must begin with `/` and have no `;`, spaces or control characters")]
    Path,
    /// `SameSite=Strict` and `SameSite=None` are configured at once.
    #[error("cookies cannot be both `strict` and `send_cross_site`; leave one of them out")]
    StrictAndCrossSite,
    /// `SameSite=None` or `Partitioned` is configured without `Secure`, which browsers refuse.
    #[error(
        "`send_cross_site` and `partitioned` cookies must be Secure, so they need an https public URL; leave them out \
         where you develop over http"
    )]
    NeedsSecure,
}

/// Why a value cannot be set as a cookie.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CookieError {
    /// The cookie is too large. Browsers drop larger cookies silently, so the login would succeed and the next request
    /// fail (SEC-060).
    #[error("cookie name and value are {bytes} bytes together, more than the {MAX_BYTES} that browsers keep")]
    TooLarge {
        /// The bytes of name and value together.
        bytes: usize,
    },
    /// The tokens carry no CSRF value, so they would be refused in cookies.
    #[error("the pair was not issued for cookies; begin its session with Presentation::Cookie")]
    NotForCookies,
    /// The value has a byte outside of RFC 6265's `cookie-octet`.
    #[error("cookie value has a character that cookies cannot carry")]
    Character,
}

impl CookieConfig {
    /// The cookies for a public URL.
    ///
    /// For https, and for an unknown URL, the names are `__Host-countersign_access`, `__Host-countersign_refresh` and
    /// `__Host-countersign_csrf`, which browsers accept only over https and from exactly this host (SEC-056). For http
    /// on a loopback address (127.0.0.0/8, ::1, localhost) the cookies have neither prefix nor `Secure`.
    ///
    /// # Errors
    /// [`CookieConfigError::Insecure`] for http on any other host, [`CookieConfigError::Scheme`] for other schemes.
    pub fn for_public_url(public_url: Option<&Url>) -> Result<Self, CookieConfigError> {
        CookieOptions::new().build(public_url)
    }

    /// The cookies for an application that is spread over the sub-domains of `domain`.
    ///
    /// Sharing cookies is weaker than [`for_public_url`](Self::for_public_url): every host under the domain receives
    /// the tokens and may put cookies of its own in their place. The names begin with `__Secure-`, because `__Host-`
    /// forbids `Domain`.
    ///
    /// # Errors
    /// [`CookieConfigError::Domain`] unless the URL is https and `domain` is its host or a parent of it.
    pub fn shared_with_subdomains(public_url: &Url, domain: &str) -> Result<Self, CookieConfigError> {
        CookieOptions::new().shared_with_subdomains(domain).build(Some(public_url))
    }

    pub(crate) fn with_options(
        public_url: Option<&Url>,
        options: &CookieOptions,
    ) -> Result<Self, CookieConfigError> {
        let scope = match (&options.domain, public_url) {
            (None, url) => Scope::at(url)?,
            (Some(domain), Some(url)) => Scope::shared(url, domain)?,
            (Some(_), None) => return Err(CookieConfigError::DomainWithoutUrl),
        };
        if options.strict && options.cross_site {
            return Err(CookieConfigError::StrictAndCrossSite);
        }
        if scope == Scope::Loopback && (options.cross_site || options.partitioned) {
            return Err(CookieConfigError::NeedsSecure);
        }
        let [access, refresh, csrf] = [CookieKind::Access, CookieKind::Refresh, CookieKind::Csrf]
            .map(|kind| One::new(kind, &scope, options));
        let config = Self {
            access: access?,
            refresh: refresh?,
            csrf: csrf?,
            partitioned: options.partitioned,
            until_closed: options.until_closed,
            without_csrf_cookie: options.without_csrf_cookie,
            scope,
        };
        let names = [CookieKind::Access, CookieKind::Refresh, CookieKind::Csrf].map(|kind| config.name(kind));
        match names {
            [access, refresh, csrf] if access != refresh && access != csrf && refresh != csrf => Ok(config),
            _ => Err(CookieConfigError::SameNames),
        }
    }

    /// The name of a cookie.
    #[must_use]
    pub fn name(&self, kind: CookieKind) -> &str {
        &self.one(kind).name
    }

    /// Whether a CSRF cookie is set at all.
    #[must_use]
    pub fn has_csrf_cookie(&self) -> bool {
        !self.without_csrf_cookie
    }

    /// Whether the cookies travel over https only.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.scope != Scope::Loopback
    }

    /// A `Set-Cookie` field that sets a cookie for `max_age`, in whole seconds and at most 400 days, because browsers
    /// cut longer lifetimes (RFC 6265bis §5.5).
    ///
    /// # Errors
    /// [`CookieError::TooLarge`] when name and value exceed 4096 bytes, [`CookieError::Character`] when the value
    /// is not made of cookie characters.
    pub fn set(&self, kind: CookieKind, value: &str, max_age: Duration) -> Result<HeaderValue, CookieError> {
        self.set_for(kind, value, (!self.until_closed).then(|| max_age.min(MAX_AGE)))
    }

    fn set_for(
        &self,
        kind: CookieKind,
        value: &str,
        max_age: Option<Duration>,
    ) -> Result<HeaderValue, CookieError> {
        let bytes = self.name(kind).len().saturating_add(value.len());
        if bytes > MAX_BYTES {
            return Err(CookieError::TooLarge { bytes });
        }
        if !value.bytes().all(is_cookie_octet) {
            return Err(CookieError::Character);
        }
        self.field(kind, value, max_age, self.domain()).ok_or(CookieError::Character)
    }

    /// A `Set-Cookie` field that sets a cookie which the browser forgets when it is closed.
    ///
    /// # Errors
    /// Those of [`CookieConfig::set`].
    pub fn set_until_closed(&self, kind: CookieKind, value: &str) -> Result<HeaderValue, CookieError> {
        self.set_for(kind, value, None)
    }

    /// The path of a cookie.
    #[must_use]
    pub fn path(&self, kind: CookieKind) -> &str {
        &self.one(kind).path
    }

    /// Whether a browser that another site sends here brings a cookie of the session, when it withholds the refresh
    /// token.
    #[must_use]
    pub fn shows_session(&self) -> bool {
        self.has_csrf_cookie() && self.csrf.same_site != SameSite::Strict && self.csrf.path == "/"
    }

    /// A `Set-Cookie` field that removes a cookie. It has the name, path, domain and `Secure` that the cookie was set
    /// with, and `Max-Age=0` (RFC 6265bis §5.7; SEC-063).
    #[must_use]
    pub fn expire(&self, kind: CookieKind) -> HeaderValue {
        self.removal(kind, self.domain())
    }

    /// The fields that remove all our cookies, as a logout does.
    #[must_use]
    pub fn expire_all(&self) -> [HeaderValue; 3] {
        [CookieKind::Access, CookieKind::Refresh, CookieKind::Csrf].map(|kind| self.expire(kind))
    }

    /// The fields that remove both token cookies after one of their names came twice (SEC-062). They remove the copies
    /// that we have set. Where cookies are shared with sub-domains, they also remove copies set for this host alone,
    /// that of the CSRF cookie included, because a page would otherwise go on reading it.
    #[must_use]
    pub fn expire_repeated(&self) -> Vec<HeaderValue> {
        let kinds = [CookieKind::Access, CookieKind::Refresh];
        let mut fields: Vec<_> = kinds.iter().map(|&kind| self.expire(kind)).collect();
        if self.domain().is_some() {
            let all = [CookieKind::Access, CookieKind::Refresh, CookieKind::Csrf];
            fields.extend(all.map(|kind| self.removal(kind, None)));
        }
        fields
    }

    fn one(&self, kind: CookieKind) -> &One {
        match kind {
            CookieKind::Access => &self.access,
            CookieKind::Refresh => &self.refresh,
            CookieKind::Csrf => &self.csrf,
        }
    }

    fn domain(&self) -> Option<&str> {
        match &self.scope {
            Scope::Domain(domain) => Some(domain),
            Scope::Host | Scope::Loopback => None,
        }
    }

    fn removal(&self, kind: CookieKind, domain: Option<&str>) -> HeaderValue {
        self.field(kind, "", Some(Duration::ZERO), domain)
            .expect("names and domains are checked when configured")
    }

    fn field(
        &self,
        kind: CookieKind,
        value: &str,
        max_age: Option<Duration>,
        domain: Option<&str>,
    ) -> Option<HeaderValue> {
        let One { name, path, same_site } = self.one(kind);
        let mut cookie = Cookie::build((name, value))
            .path(path)
            .secure(self.is_secure())
            .http_only(kind != CookieKind::Csrf)
            .same_site(*same_site);
        if let Some(max_age) = max_age {
            let seconds = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX);
            cookie = cookie.max_age(cookie::time::Duration::seconds(seconds));
        }
        if self.partitioned {
            cookie = cookie.partitioned(true);
        }
        if let Some(domain) = domain {
            cookie = cookie.domain(domain);
        }
        let mut field = HeaderValue::try_from(cookie.build().to_string()).ok()?;
        field.set_sensitive(true); // keeps tokens out of `Debug` output and HPACK tables
        Some(field)
    }
}

impl Scope {
    fn at(public_url: Option<&Url>) -> Result<Self, CookieConfigError> {
        let Some(url) = public_url else { return Ok(Self::Host) };
        match (url.scheme(), url.host()) {
            ("https", Some(_)) => Ok(Self::Host),
            ("http", Some(host)) if is_loopback(&host) => Ok(Self::Loopback),
            ("http", Some(_)) => Err(CookieConfigError::Insecure),
            _ => Err(CookieConfigError::Scheme),
        }
    }

    fn shared(public_url: &Url, domain: &str) -> Result<Self, CookieConfigError> {
        let (Some(Host::Domain(host)), "https") = (public_url.host(), public_url.scheme()) else {
            return Err(CookieConfigError::Domain);
        };
        let domain = domain.to_ascii_lowercase();
        let covers_host = host == domain || host.strip_suffix(&domain).is_some_and(|sub| sub.ends_with('.'));
        let has_two_labels = domain.contains('.') && domain.split('.').all(is_label);
        if !covers_host || !has_two_labels {
            return Err(CookieConfigError::Domain);
        }
        Ok(Self::Domain(domain))
    }
}

impl One {
    fn new(kind: CookieKind, scope: &Scope, options: &CookieOptions) -> Result<Self, CookieConfigError> {
        let chosen = |choices: &[(CookieKind, String)]| {
            choices.iter().rev().find(|(of, _)| *of == kind).map(|(_, choice)| choice.clone())
        };
        let path = chosen(&options.paths).unwrap_or_else(|| "/".to_owned());
        if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';') {
            return Err(CookieConfigError::Path);
        }
        let name = chosen(&options.names).unwrap_or_else(|| kind.default_name().to_owned());
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let has_prefix =
            ["__host-", "__secure-"].iter().any(|prefix| name.to_ascii_lowercase().starts_with(prefix));
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_name_byte) || has_prefix {
            return Err(CookieConfigError::Name);
        }
        let prefix = match scope {
            Scope::Host if path == "/" => "__Host-",
            Scope::Host | Scope::Domain(_) => "__Secure-",
            Scope::Loopback => "",
        };
        let same_site = match kind {
            _ if options.cross_site => SameSite::None,
            CookieKind::Refresh => SameSite::Strict,
            CookieKind::Access | CookieKind::Csrf if options.strict => SameSite::Strict,
            CookieKind::Access | CookieKind::Csrf => SameSite::Lax,
        };
        Ok(Self { name: format!("{prefix}{name}"), path, same_site })
    }
}

impl CookieKind {
    const fn default_name(self) -> &'static str {
        match self {
            Self::Access => "countersign_access",
            Self::Refresh => "countersign_refresh",
            Self::Csrf => "countersign_csrf",
        }
    }
}

fn is_label(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// Whether a byte is a `cookie-octet` of RFC 6265 §4.1.1: printable ASCII without space, `"`, `,`, `;` and `\`.
fn is_cookie_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\')
}

/// The largest number of bytes that name and value may have together (RFC 6265bis §5.5).
const MAX_BYTES: usize = 4096;

/// The largest number of bytes in a name, which leaves room for a token beside it.
const MAX_NAME: usize = 128;

/// The longest lifetime that browsers grant a cookie (RFC 6265bis §5.5).
const MAX_AGE: Duration = Duration::from_secs(400 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [CookieKind; 3] = [CookieKind::Access, CookieKind::Refresh, CookieKind::Csrf];

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn config(public_url: &str) -> CookieConfig {
        CookieConfig::for_public_url(Some(&url(public_url))).unwrap()
    }

    fn set(config: &CookieConfig, kind: CookieKind) -> String {
        config.set(kind, "v", Duration::from_secs(900)).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn sec_056_default_cookies_are_bound_to_the_host() {
        for config in [CookieConfig::for_public_url(None).unwrap(), config("https://app.example.com")] {
            for kind in KINDS {
                let field = set(&config, kind);
                assert!(field.starts_with("__Host-countersign_"), "{field}");
                assert!(field.contains("; Secure") && field.contains("; Path=/;"), "{field}");
                assert!(!field.contains("Domain"), "{field}");
            }
        }
        assert_eq!(
            set(&config("https://app.example.com"), CookieKind::Access),
            "__Host-countersign_access=v; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=900"
        );
    }

    #[test]
    fn sec_056_sharing_with_subdomains_is_opt_in_and_gives_up_the_host_prefix() {
        let shared =
            CookieConfig::shared_with_subdomains(&url("https://app.example.com"), "Example.com").unwrap();
        assert_eq!(
            set(&shared, CookieKind::Refresh),
            "__Secure-countersign_refresh=v; HttpOnly; SameSite=Strict; Secure; Path=/; Domain=example.com; Max-Age=900"
        );
        for (public_url, domain) in [
            ("http://localhost", "localhost"),
            ("http://app.example.com", "example.com"),
            ("https://app.example.com", "com"),
            ("https://app.example.com", ""),
            ("https://app.example.com", ".example.com"),
            ("https://app.example.com", "ple.com"),
            ("https://app.example.com", "other.com"),
            ("https://app.example.com", "x.app.example.com"),
            ("https://app.example.com", "example.com; Path=/x"),
            ("https://a;b.example.com", "a;b.example.com"),
            ("https://192.0.2.1", "192.0.2.1"),
        ] {
            let refused = CookieConfig::shared_with_subdomains(&url(public_url), domain);
            assert_eq!(refused, Err(CookieConfigError::Domain), "{public_url} {domain}");
        }
    }

    #[test]
    fn sec_057_only_the_csrf_cookie_is_readable_by_scripts() {
        for config in [config("https://app.example.com"), config("http://localhost:8080")] {
            for kind in KINDS {
                assert_eq!(set(&config, kind).contains("; HttpOnly"), kind != CookieKind::Csrf, "{kind:?}");
            }
        }
    }

    #[test]
    fn sec_059_no_cookie_is_sent_with_cross_site_posts() {
        let config = config("https://app.example.com");
        for (kind, same_site) in
            [(CookieKind::Access, "Lax"), (CookieKind::Refresh, "Strict"), (CookieKind::Csrf, "Lax")]
        {
            assert!(set(&config, kind).contains(&format!("; SameSite={same_site};")), "{kind:?}");
        }
    }

    #[test]
    fn sec_060_a_cookie_that_browsers_would_drop_is_an_error() {
        let config = config("https://app.example.com");
        let room = 4096 - config.name(CookieKind::Access).len();
        for (bytes, expected) in
            [(room, Ok(())), (room + 1, Err(CookieError::TooLarge { bytes: 4097 })), (0, Ok(()))]
        {
            let set = config.set(CookieKind::Access, &"x".repeat(bytes), Duration::from_secs(1));
            assert_eq!(set.map(drop), expected, "{bytes}");
        }
    }

    #[test]
    fn sec_060_a_cookie_lives_at_most_400_days() {
        let config = config("https://app.example.com");
        for (max_age, text) in [
            (Duration::from_millis(900_999), "Max-Age=900"),
            (Duration::from_secs(34_560_000), "Max-Age=34560000"),
            (Duration::from_secs(34_560_001), "Max-Age=34560000"),
            (Duration::MAX, "Max-Age=34560000"),
        ] {
            let field = config.set(CookieKind::Refresh, "v", max_age).unwrap();
            assert!(field.to_str().unwrap().ends_with(text), "{field:?}");
        }
    }

    #[test]
    fn a_value_cannot_add_attributes_or_fields() {
        let config = config("https://app.example.com");
        for value in
            ["a; Domain=evil", "a b", "a,b", "a\"b", "a\\b", "a\r\nSet-Cookie: b=c", "é", "\0", "\u{7f}"]
        {
            let set = config.set(CookieKind::Access, value, Duration::from_secs(1));
            assert_eq!(set, Err(CookieError::Character), "{value:?}");
        }
    }

    #[test]
    fn tokens_do_not_show_in_debug_output() {
        let field =
            config("https://app.example.com").set(CookieKind::Access, "canary", Duration::from_secs(1));
        assert!(!format!("{field:?}").contains("canary"));
    }

    #[test]
    fn sec_063_expiring_repeats_what_the_cookie_was_set_with() {
        let shared =
            CookieConfig::shared_with_subdomains(&url("https://app.example.com"), "example.com").unwrap();
        for config in [config("https://app.example.com"), config("http://[::1]:8080"), shared] {
            for kind in KINDS {
                let was_set = set(&config, kind).replacen("=v;", "=;", 1).replace("Max-Age=900", "Max-Age=0");
                assert_eq!(config.expire(kind).to_str().unwrap(), was_set);
            }
            assert_eq!(config.expire_all(), KINDS.map(|kind| config.expire(kind)));
        }
    }

    #[test]
    fn sec_062_repeated_cookies_are_expired_for_the_host_and_for_the_domain() {
        let fields = config("https://app.example.com").expire_repeated();
        assert_eq!(fields.len(), 2);
        let shared =
            CookieConfig::shared_with_subdomains(&url("https://app.example.com"), "example.com").unwrap();
        let with_domain = |field: &&HeaderValue| field.to_str().unwrap().contains("; Domain=example.com");
        assert_eq!(shared.expire_repeated().len(), 5);
        assert_eq!(shared.expire_repeated().iter().filter(with_domain).count(), 2);
        let is_csrf = |field: &&HeaderValue| field.to_str().unwrap().contains("countersign_csrf=;");
        assert_eq!(
            shared.expire_repeated().iter().filter(is_csrf).count(),
            1,
            "the one that a page would read"
        );
    }

    #[test]
    fn sec_064_insecure_cookies_exist_only_on_loopback_and_have_other_names() {
        for (public_url, expected) in [
            ("https://app.example.com", Ok("__Host-countersign_access")),
            ("https://localhost", Ok("__Host-countersign_access")),
            ("https://127.0.0.1:8443", Ok("__Host-countersign_access")),
            ("http://localhost:8080", Ok("countersign_access")),
            ("http://LOCALHOST", Ok("countersign_access")),
            ("http://127.0.0.1:8080", Ok("countersign_access")),
            ("http://127.9.9.9", Ok("countersign_access")),
            ("http://[::1]:8080", Ok("countersign_access")),
            ("http://app.example.com", Err(CookieConfigError::Insecure)),
            ("http://0.0.0.0:8080", Err(CookieConfigError::Insecure)),
            ("http://192.168.0.1", Err(CookieConfigError::Insecure)),
            ("http://localhost.example.com", Err(CookieConfigError::Insecure)),
            ("http://127.0.0.1.example.com", Err(CookieConfigError::Insecure)),
            ("http://[::ffff:127.0.0.1]", Err(CookieConfigError::Insecure)),
            ("ftp://localhost", Err(CookieConfigError::Scheme)),
            ("data:text/plain,x", Err(CookieConfigError::Scheme)),
        ] {
            let config = CookieConfig::for_public_url(Some(&url(public_url)));
            match (&config, expected) {
                (Ok(config), Ok(name)) => {
                    assert_eq!(config.name(CookieKind::Access), name, "{public_url}");
                    assert_eq!(set(config, CookieKind::Access).contains("; Secure"), config.is_secure());
                    assert_eq!(config.is_secure(), public_url.starts_with("https"), "{public_url}");
                }
                (config, expected) => {
                    assert_eq!(config.clone().map(drop), expected.map(drop), "{public_url}");
                }
            }
        }
    }
}
