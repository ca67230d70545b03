//! Deciding whether a browser sent an unsafe request on behalf of another site.
//!
//! Browsers tell where a request comes from, in headers that a page's scripts cannot set. Checking these headers stops
//! forged requests also where no session, and so no CSRF value, exists yet, such as at login (SEC-068, SEC-069).

use std::fmt;
use std::str::FromStr;

use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, Method, Uri, header};
use url::Url;

use crate::csrf::is_unsafe;
use crate::forwarded::Caller;
use crate::handshake::is_handshake;

/// Where a request comes from, as far as its headers tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CrossSite {
    /// The request may pass: it has a safe method and opens no connection, comes from our own origin or an allowed one,
    /// or was started by the user directly.
    Passes,
    /// The request comes from another site: 403 `cross_site`.
    Foreign,
    /// The headers do not tell, so the CSRF value decides. Programs other than browsers send such requests.
    Unknown,
}

/// The check that decides where a request comes from. It applies to requests that carry our cookies or ask for them.
///
/// ```
/// use countersign_http::{AllowedOrigins, CrossSite, CrossSiteCheck};
/// use http::{Method, Request};
///
/// let check = CrossSiteCheck::new(Some("https://app.example.com".parse()?), AllowedOrigins::default());
/// let (parts, ()) =
///     Request::post("/login").header("origin", "https://evil.example").body(())?.into_parts();
/// assert_eq!(check.check(&parts.method, &parts.uri, &parts.headers), CrossSite::Foreign);
/// assert_eq!(check.check(&Method::GET, &parts.uri, &parts.headers), CrossSite::Passes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CrossSiteCheck {
    own: Vec<Origin>,
    allowed: AllowedOrigins,
}

/// A web origin, or the origin of an app's own pages. A web origin is scheme (https or http), host and port, and is
/// compared as such (RFC 6454 §5). The origin of pages that an app brings along under a scheme of its own, such as
/// `tauri://localhost`, is compared letter by letter.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Origin(Kind);

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Kind {
    Web(url::Origin),
    /// An app's origin as it is written, the scheme in lower case. The URL standard gives such schemes no origin that
    /// could be compared, but browsers send this text.
    App(String),
}

/// The error for a text that is not an origin.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{reason}; an origin is scheme, host and port, such as https://app.example.com, http://localhost:3000 or, of an app \
     with a scheme of its own, tauri://localhost"
)]
pub struct OriginError {
    reason: &'static str,
}

/// The origins beside a program's own whose pages may use the program's cookies.
///
/// ```
/// use countersign_http::AllowedOrigins;
///
/// let allowed: AllowedOrigins = "https://admin.example.com, tauri://localhost".parse()?;
/// assert!(allowed.contains(&"https://admin.example.com:443".parse()?));
/// assert!("https://example.com/path".parse::<AllowedOrigins>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AllowedOrigins(Vec<Origin>);

/// The error for an entry in a list of origins that is not an origin.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("allowed origin number {position} cannot be used: {source}")]
pub struct AllowedOriginsError {
    position: usize,
    source: OriginError,
}

impl CrossSiteCheck {
    /// Makes the check from our own origin and the other origins that are allowed.
    ///
    /// If `own` is `None`, an origin with the host and port that the request is addressed to counts as our own,
    /// whatever its scheme, because a program behind a proxy does not know the scheme.
    #[must_use]
    pub fn new(own: Option<Origin>, allowed: AllowedOrigins) -> Self {
        Self { own: own.into_iter().collect(), allowed }
    }

    /// Counts the other names of the loopback interface as our own too, on the same port: a program that listens there
    /// on one name is reached by all of them.
    #[must_use]
    pub fn with_loopback_names(mut self) -> Self {
        let names: Vec<_> = self.own.iter().flat_map(Origin::loopback_names).collect();
        self.own.extend(names);
        self
    }

    /// Decides about one request: an unsafe one, or one that opens a WebSocket. `Sec-Fetch-Site` is asked first,
    /// without it `Origin`, without that `Referer`. A field that is there but repeated or unknown counts as foreign and
    /// is never skipped.
    #[must_use]
    pub fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> CrossSite {
        if is_unsafe(method) || is_handshake(method, headers) {
            self.check_headers(uri, headers)
        } else {
            CrossSite::Passes
        }
    }

    /// Decides about a request that changes state, whatever its method. The headers are judged as by
    /// [`check`](Self::check).
    #[must_use]
    pub fn check_headers(&self, uri: &Uri, headers: &HeaderMap) -> CrossSite {
        self.check_headers_of(None, uri, headers)
    }

    /// The same, with what is known of the caller otherwise: the host that a trusted proxy names counts for the one that
    /// the request is addressed to.
    pub(crate) fn check_headers_of(
        &self,
        caller: Option<&Caller>,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> CrossSite {
        let accepts = |origin: &Origin| self.accepts(origin, caller, uri, headers);
        let origin = Field::read(headers, header::ORIGIN).map(str::parse);
        let passes = match Field::read(headers, SEC_FETCH_SITE) {
            Field::One("same-origin" | "none") => true,
            // A sub-domain is another party, unless it is among the allowed origins.
            Field::One("same-site") => {
                matches!(origin, Field::One(Ok(origin)) if self.allowed.contains(&origin))
            }
            Field::One(_) | Field::Unusable => false,
            Field::Absent => match origin {
                Field::One(Ok(origin)) => accepts(&origin),
                Field::One(Err(_)) | Field::Unusable => false,
                Field::Absent => match Field::read(headers, header::REFERER).map(Origin::of_page) {
                    Field::One(Ok(origin)) => accepts(&origin),
                    Field::One(Err(_)) | Field::Unusable => false,
                    Field::Absent => return CrossSite::Unknown,
                },
            },
        };
        if passes { CrossSite::Passes } else { CrossSite::Foreign }
    }

    /// Whether a request shows that it was sent to something other than this machine's loopback interface. The evidence
    /// is the host that the request is addressed to, what a proxy says of that host, and the page that the request
    /// comes from. An allowed origin is no evidence.
    pub(crate) fn is_sent_elsewhere(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let authority = uri.authority().map(|authority| Some(authority.as_str()));
        let named = headers.get_all(header::HOST).iter().map(|host| host.to_str().ok());
        let is_elsewhere = |host: Option<&str>| !host.is_some_and(is_loopback_host);
        let is_foreign_page = match Field::read(headers, header::ORIGIN).map(Origin::from_str) {
            Field::One(Ok(origin)) => !origin.is_loopback() && !self.allowed.contains(&origin),
            // `null`, for instance, is what pages with a strict referrer policy send to their own server.
            Field::One(Err(_)) | Field::Absent => false,
            Field::Unusable => true,
        };
        let is_https_outside = headers
            .get_all("x-forwarded-proto")
            .iter()
            .any(|proto| proto.as_bytes().to_ascii_lowercase().starts_with(b"https"));
        is_foreign_page
            || is_https_outside
            || named.chain(authority).chain(forwarded_hosts(headers)).any(is_elsewhere)
    }

    /// The other origins, beside our own, that are allowed.
    #[must_use]
    pub fn allowed(&self) -> &AllowedOrigins {
        &self.allowed
    }

    fn accepts(&self, origin: &Origin, caller: Option<&Caller>, uri: &Uri, headers: &HeaderMap) -> bool {
        let is_own = match self.own.as_slice() {
            own @ [_, ..] => own.contains(origin),
            [] => {
                let told = caller.and_then(|caller| caller.host.as_ref()).map(Authority::as_str);
                let host = told.or_else(|| addressed_host(uri, headers));
                // Anybody on the way can put a script into a page that came over http.
                let is_https = caller.is_some_and(|caller| caller.scheme == Some(Scheme::HTTPS));
                host.is_some_and(|host| origin.is_at(host)) && (!is_https || origin.is_https())
            }
        };
        is_own || self.allowed.contains(origin)
    }
}

impl Origin {
    /// The origin of a public URL, whatever its path.
    ///
    /// # Errors
    /// [`OriginError`] if it is not an https or http URL.
    pub fn of(url: &Url) -> Result<Self, OriginError> {
        match url.origin() {
            origin @ url::Origin::Tuple(..) if matches!(url.scheme(), "https" | "http") => {
                Ok(Self(Kind::Web(origin)))
            }
            _ => Err(OriginError { reason: "the scheme is neither https nor http" }),
        }
    }

    /// The other names of an origin on the loopback interface; none for any other origin.
    fn loopback_names(&self) -> Vec<Self> {
        let Kind::Web(url::Origin::Tuple(scheme, _, port)) = &self.0 else { return Vec::new() };
        if !self.is_loopback() {
            return Vec::new();
        }
        ["localhost", "127.0.0.1", "[::1]"]
            .iter()
            .filter_map(|name| format!("{scheme}://{name}:{port}").parse().ok())
            .collect()
    }

    /// Whether the origin's host is the loopback interface by any of its names, `app.localhost` among them (RFC 6761
    /// §6.3).
    fn is_loopback(&self) -> bool {
        let Kind::Web(url::Origin::Tuple(_, host, _)) = &self.0 else { return false };
        match host {
            url::Host::Ipv4(ip) => ip.is_loopback(),
            url::Host::Ipv6(ip) => ip.to_canonical().is_loopback(),
            url::Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                name == "localhost" || name.ends_with(".localhost")
            }
        }
    }

    fn is_https(&self) -> bool {
        matches!(&self.0, Kind::Web(url::Origin::Tuple(scheme, ..)) if scheme == "https")
    }

    /// The origin of a page that a `Referer` names.
    fn of_page(referer: &str) -> Result<Self, OriginError> {
        let url = Url::parse(referer).map_err(|_| OriginError { reason: "not a URL" })?;
        Self::of(&url)
    }

    /// Whether this origin is the one with the same scheme and this `host[:port]`.
    fn is_at(&self, host: &str) -> bool {
        // The page of an app comes from no host.
        let Kind::Web(url::Origin::Tuple(scheme, ..)) = &self.0 else { return false };
        format!("{scheme}://{host}").parse().is_ok_and(|other: Self| *self == other)
    }
}

/// Reads an origin strictly. URL parsers repair backslashes, missing slashes and stray white space, and drop
/// passwords; here, only a text that is exactly an origin passes.
impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let error = |reason| Err(OriginError { reason });
        let Some((scheme, authority)) = text.split_once("://") else {
            return error(match text {
                "null" => "`null` is what every sandboxed frame and every local file says of itself",
                "*" => "`*` does not stand for anything here",
                _ => "there is no scheme",
            });
        };
        let scheme = scheme.to_ascii_lowercase();
        let is_web = matches!(scheme.as_str(), "https" | "http");
        match scheme.as_str() {
            _ if is_web => {}
            "ws" | "wss" => {
                return error("pages are not loaded over ws or wss; name the page's https or http origin");
            }
            "about" | "blob" | "data" | "file" | "filesystem" | "ftp" | "javascript" => {
                return error("pages of this scheme have no origin that browsers tell");
            }
            _ if !is_scheme(&scheme) => return error("the scheme has a character that schemes do not have"),
            _ => {}
        }
        if authority.contains('*') {
            return error("`*` does not stand for anything here");
        }
        if authority.contains('@') {
            return error("there is a user name");
        }
        if authority.contains(['/', '?', '#', '\\']) {
            return error("there is a path behind the host");
        }
        if authority.contains(|c: char| c.is_whitespace() || c.is_control() || "%,;<>^|\"'`{}".contains(c)) {
            return error("the host has a character that hosts do not have");
        }
        match Url::parse(text) {
            Ok(url) if is_web => Self::of(&url),
            Ok(_) if is_app_host(authority) => Ok(Self(Kind::App(format!("{scheme}://{authority}")))),
            _ => error("the host or port is malformed"),
        }
    }
}

/// Whether a text is a scheme in lower case (RFC 3986 §3.1).
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte))
}

/// Whether a text is a host, with or without a port. URL parsers accept anything as the host of an unknown scheme.
fn is_app_host(authority: &str) -> bool {
    let (host, port) = authority.split_once(':').unwrap_or((authority, "0"));
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !host.is_empty() && host.bytes().all(is_host) && port.parse::<u16>().is_ok() && !port.starts_with('+')
}

/// Whether a `host[:port]` is this machine's loopback interface.
fn is_loopback_host(host: &str) -> bool {
    format!("http://{host}").parse().is_ok_and(|origin: Origin| origin.is_loopback())
}

/// The hosts that proxies report to have been asked for, in the customary header and in that of RFC 7239. `None` stands
/// for a header that is not text.
fn forwarded_hosts(headers: &HeaderMap) -> impl Iterator<Item = Option<&str>> {
    let customary = headers.get_all(FORWARDED_HOST).iter().flat_map(|field| match field.to_str() {
        Ok(list) => list.split(',').map(|host| Some(host.trim())).collect(),
        Err(_) => vec![None],
    });
    let standard = headers.get_all(header::FORWARDED).iter().flat_map(|field| match field.to_str() {
        Ok(list) => list.split([',', ';']).filter_map(|pair| forwarded_host(pair).map(Some)).collect(),
        Err(_) => vec![None],
    });
    customary.chain(standard)
}

/// The value of a `host=` parameter in a `Forwarded` field.
fn forwarded_host(pair: &str) -> Option<&str> {
    let (name, value) = pair.split_once('=')?;
    name.trim().eq_ignore_ascii_case("host").then(|| value.trim().trim_matches('"'))
}

/// Writes the origin as browsers do: without the default port.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Web(origin) => f.write_str(&origin.ascii_serialization()),
            Kind::App(origin) => f.write_str(origin),
        }
    }
}

impl AllowedOrigins {
    /// Whether exactly this origin is in the list.
    #[must_use]
    pub fn contains(&self, origin: &Origin) -> bool {
        self.0.contains(origin)
    }

    /// The allowed origins, in the order of configuration.
    pub fn iter(&self) -> impl Iterator<Item = &Origin> {
        self.0.iter()
    }

    /// Whether no origin is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Origin> for AllowedOrigins {
    fn from_iter<T: IntoIterator<Item = Origin>>(origins: T) -> Self {
        Self(origins.into_iter().collect())
    }
}

/// Reads a comma-separated list, such as `https://app.example.com, http://localhost:3000`. Neither `*` nor `null` is
/// an origin (SEC-071).
impl FromStr for AllowedOrigins {
    type Err = AllowedOriginsError;

    fn from_str(text: &str) -> Result<Self, AllowedOriginsError> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        (1..)
            .zip(entries)
            .map(|(position, entry)| entry.parse().map_err(|source| AllowedOriginsError { position, source }))
            .collect()
    }
}

/// The value of a header field that may appear only once.
enum Field<T> {
    Absent,
    One(T),
    /// The field is repeated, or not text.
    Unusable,
}

impl<'a> Field<&'a str> {
    fn read(headers: &'a HeaderMap, name: HeaderName) -> Self {
        let mut fields = headers.get_all(name).iter();
        match (fields.next(), fields.next()) {
            (None, _) => Self::Absent,
            (Some(field), None) => field.to_str().map_or(Self::Unusable, Self::One),
            (Some(_), Some(_)) => Self::Unusable,
        }
    }

    fn map<T>(self, read: impl FnOnce(&'a str) -> T) -> Field<T> {
        match self {
            Self::Absent => Field::Absent,
            Self::One(text) => Field::One(read(text)),
            Self::Unusable => Field::Unusable,
        }
    }
}

/// The `host[:port]` that a request is addressed to: the URI's own (HTTP/2's `:authority`), otherwise the `Host` field.
fn addressed_host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    if let Some(authority) = uri.authority() {
        return Some(authority.as_str());
    }
    match Field::read(headers, header::HOST) {
        Field::One(host) => Some(host),
        Field::Absent | Field::Unusable => None,
    }
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::forwarded::{ClientAddress, HowFound};

    const OWN: &str = "https://app.example.com";
    const ALLOWED: &str = "https://admin.example.com";
    const SUBDOMAIN: &str = "https://blog.example.com";
    const EVIL: &str = "https://evil.tld";

    use CrossSite::{Foreign, Passes, Unknown};

    fn check() -> CrossSiteCheck {
        CrossSiteCheck::new(Some(OWN.parse().unwrap()), ALLOWED.parse().unwrap())
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn post(check: &CrossSiteCheck, fields: &[(&'static str, &str)]) -> CrossSite {
        check.check(&Method::POST, &Uri::from_static("/v1/auth/login"), &headers(fields))
    }

    #[test]
    fn sec_220_a_handshake_is_judged_as_an_unsafe_request() {
        for (fields, expected) in [
            (&[("upgrade", "websocket")][..], Unknown),
            (&[("upgrade", "websocket"), ("origin", OWN)], Passes),
            (&[("upgrade", "websocket"), ("origin", EVIL)], Foreign),
            (&[("upgrade", "websocket"), ("sec-fetch-site", "cross-site")], Foreign),
            (&[("sec-websocket-key", "x"), ("origin", EVIL)], Foreign),
            (&[("upgrade", "h2c"), ("origin", EVIL)], Passes),
            (&[("origin", EVIL)], Passes),
        ] {
            let found = check().check(&Method::GET, &Uri::from_static("/"), &headers(fields));
            assert_eq!(found, expected, "{fields:?}");
        }
    }

    #[test]
    fn sec_068_matrix_of_site_and_origin() {
        let origins = [None, Some(OWN), Some(ALLOWED), Some(SUBDOMAIN), Some(EVIL), Some("null")];
        for (site, expected) in [
            (None, [Unknown, Passes, Passes, Foreign, Foreign, Foreign]),
            (Some("same-origin"), [Passes; 6]),
            (Some("none"), [Passes; 6]),
            (Some("same-site"), [Foreign, Foreign, Passes, Foreign, Foreign, Foreign]),
            (Some("cross-site"), [Foreign; 6]),
            (Some("SAME-ORIGIN"), [Foreign; 6]),
            (Some("same-origin, none"), [Foreign; 6]),
            (Some(""), [Foreign; 6]),
            (Some("é"), [Foreign; 6]),
        ] {
            for (origin, expected) in origins.into_iter().zip(expected) {
                let site = site.map(|value| ("sec-fetch-site", value));
                let fields: Vec<_> = site.into_iter().chain(origin.map(|value| ("origin", value))).collect();
                for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                    let found = check().check(&method, &Uri::from_static("/"), &headers(&fields));
                    assert_eq!(found, expected, "{method} {fields:?}");
                }
                for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
                    let found = check().check(&method, &Uri::from_static("/"), &headers(&fields));
                    assert_eq!(found, Passes, "{method} {fields:?}");
                }
            }
        }
    }

    #[test]
    fn sec_068_the_referer_is_asked_only_without_an_origin() {
        for (fields, expected) in [
            (&[("referer", "https://app.example.com/login?next=/a#b")][..], Passes),
            (&[("referer", "https://admin.example.com/")], Passes),
            (&[("referer", "https://evil.tld/https://app.example.com/")], Foreign),
            (&[("referer", "https://app.example.com@evil.tld/")], Foreign),
            (&[("referer", "https://app.example.com.evil.tld/")], Foreign),
            (&[("referer", "http://app.example.com/")], Foreign),
            (&[("referer", "about:blank")], Foreign),
            (&[("referer", "/login")], Foreign),
            (&[("referer", "")], Foreign),
            (&[("referer", "https://app.example.com/"), ("referer", "https://app.example.com/")], Foreign),
            (&[("origin", "null"), ("referer", "https://app.example.com/")], Foreign),
            (&[("origin", EVIL), ("referer", "https://app.example.com/")], Foreign),
            (&[("origin", OWN), ("referer", "https://evil.tld/")], Passes),
        ] {
            assert_eq!(post(&check(), fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn sec_068_repeated_fields_are_foreign() {
        for fields in [
            &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "same-origin")][..],
            &[("origin", OWN), ("origin", OWN)],
            &[("sec-fetch-site", "same-site"), ("origin", ALLOWED), ("origin", ALLOWED)],
        ] {
            assert_eq!(post(&check(), fields), Foreign, "{fields:?}");
        }
    }

    #[test]
    fn a_loopback_origin_goes_by_all_its_names_but_only_there() {
        let own = |text: &str| Some(text.parse::<Origin>().unwrap());
        let accepted = |check: &CrossSiteCheck, origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, http::HeaderValue::from_static(origin));
            check.check(&Method::POST, &Uri::from_static("/"), &headers) == CrossSite::Passes
        };
        let local = CrossSiteCheck::new(own("http://127.0.0.1:8080"), AllowedOrigins::default());
        assert!(!accepted(&local, "http://localhost:8080"));
        let local = local.with_loopback_names();
        for origin in ["http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080"] {
            assert!(accepted(&local, origin), "{origin}");
        }
        for origin in
            ["http://localhost:8081", "https://localhost:8080", "http://localhost.evil.example:8080"]
        {
            assert!(!accepted(&local, origin), "{origin}");
        }
        let public = CrossSiteCheck::new(own("https://a.example"), AllowedOrigins::default());
        assert!(!accepted(&public.with_loopback_names(), "http://localhost:443"));
    }

    #[test]
    fn sec_152_the_host_that_a_trusted_proxy_names_is_the_addressed_one() {
        let check = CrossSiteCheck::new(None, AllowedOrigins::default());
        let client = ClientAddress::new("192.0.2.1".parse().unwrap(), HowFound::XForwardedFor);
        let mut told = Caller::new(client);
        told.scheme = Some(Scheme::HTTPS);
        told.host = Some("app.example.com".parse().unwrap());
        let mut over_tls = Caller::new(client);
        over_tls.scheme = Some(Scheme::HTTPS);
        for (caller, origin, expected) in [
            (None, "https://app.example.com", Foreign),
            (None, "http://backend:8080", Passes),
            (None, "https://backend:8080", Passes),
            (Some(&told), "https://app.example.com", Passes),
            (Some(&told), "http://app.example.com", Foreign),
            (Some(&told), "https://backend:8080", Foreign),
            (Some(&over_tls), "https://backend:8080", Passes),
            (Some(&over_tls), "http://backend:8080", Foreign),
        ] {
            let headers = headers(&[("host", "backend:8080"), ("origin", origin)]);
            let found = check.check_headers_of(caller, &Uri::from_static("/"), &headers);
            assert_eq!(found, expected, "{caller:?} {origin}");
        }
    }

    #[test]
    fn sec_068_without_an_own_origin_the_addressed_host_is_own() {
        let check = CrossSiteCheck::new(None, AllowedOrigins::default());
        for (uri, host, origin, expected) in [
            ("/", "127.0.0.1:8080", "http://127.0.0.1:8080", Passes),
            ("/", "app.example.com", "https://app.example.com", Passes),
            ("/", "APP.example.com:443", "https://app.example.com", Passes),
            ("/", "app.example.com:8443", "https://app.example.com", Foreign),
            ("/", "app.example.com", "https://evil.tld", Foreign),
            ("/", "app.example.com", "https://app.example.com.evil.tld", Foreign),
            ("/", "user@app.example.com", "https://app.example.com", Foreign),
            ("/", "app.example.com/x", "https://app.example.com", Foreign),
            ("/", "", "https://app.example.com", Foreign),
            ("https://app.example.com/", "evil.tld", "https://app.example.com", Passes),
            ("https://app.example.com/", "evil.tld", "https://evil.tld", Foreign),
        ] {
            let uri = Uri::from_static(uri);
            let found = check.check(&Method::POST, &uri, &headers(&[("host", host), ("origin", origin)]));
            assert_eq!(found, expected, "{uri} {host} {origin}");
        }
        let two_hosts = [("host", "a.tld"), ("host", "a.tld"), ("origin", "https://a.tld")];
        assert_eq!(post(&check, &two_hosts), Foreign);
        assert_eq!(post(&check, &[("origin", "https://a.tld")]), Foreign, "no host at all");
    }

    #[test]
    fn sec_071_only_exact_origins_are_allowed() {
        let check = CrossSiteCheck::new(
            Some(OWN.parse().unwrap()),
            "https://good.example, http://[::1]:3000".parse().unwrap(),
        );
        for (origin, expected) in [
            ("https://good.example", Passes),
            ("https://good.example:443", Passes),
            ("https://GOOD.example", Passes),
            ("http://[::1]:3000", Passes),
            ("https://good.example.evil.tld", Foreign),
            ("https://evilgood.example", Foreign),
            ("https://sub.good.example", Foreign),
            ("http://good.example", Foreign),
            ("https://good.example:8443", Foreign),
            ("https://good.example/", Foreign),
            ("https://good.example@evil.tld", Foreign),
            ("https://evil.tld#good.example", Foreign),
            ("https://evil.tld\\.good.example", Foreign),
            ("https:good.example", Foreign),
            ("https:\\\\good.example", Foreign),
            ("https://good.example ", Foreign),
            ("https://good.ex\tample", Foreign),
            ("https://good.example, https://evil.tld", Foreign),
            ("https://good.example:99999", Foreign),
            ("https://", Foreign),
            ("null", Foreign),
            ("*", Foreign),
            ("", Foreign),
        ] {
            assert_eq!(post(&check, &[("origin", origin)]), expected, "{origin:?}");
        }
    }

    #[test]
    fn sec_071_patterns_and_urls_cannot_be_allowed() {
        for text in [
            "*",
            "null",
            "https://*.example.com",
            "https://*",
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://app.example.com?q",
            "https://user:pw@app.example.com",
            "app.example.com",
            "//app.example.com",
            "ftp://app.example.com",
            "file:///index.html",
            "file://",
            "wss://app.example.com",
            "data://text",
            "tauri:localhost",
            "tauri://",
            "tauri:///",
            "tauri://localhost/",
            "tauri://*",
            "tauri://:80",
            "tauri://localhost:port",
            "tauri://localhost:+1",
            "tauri://user@localhost",
            "tauri://[::1]",
            "tau ri://localhost",
            "1app://localhost",
            "https://app example.com",
            "https://good.example, *",
        ] {
            assert!(text.parse::<AllowedOrigins>().is_err(), "{text}");
        }
        let error = "https://good.example, https://user:pw@x.example".parse::<AllowedOrigins>().unwrap_err();
        assert!(
            error.to_string().starts_with("allowed origin number 2 cannot be used: there is a user name; an")
        );
        assert!(!format!("{error:?}").contains("pw"));
    }

    #[test]
    fn sec_071_an_apps_own_scheme_is_allowed_exactly() {
        let own = || Some(OWN.parse().unwrap());
        let listed = "tauri://localhost, capacitor://localhost, IONIC://localhost, app://bundle:1, \
                      chrome-extension://abcdefghijklmnopabcdefghijklmnop";
        let check = CrossSiteCheck::new(own(), listed.parse().unwrap());
        for (origin, expected) in [
            ("tauri://localhost", Passes),
            ("capacitor://localhost", Passes),
            ("ionic://localhost", Passes),
            ("app://bundle:1", Passes),
            ("chrome-extension://abcdefghijklmnopabcdefghijklmnop", Passes),
            ("tauri://LOCALHOST", Foreign),
            ("tauri://localhost.evil.tld", Foreign),
            ("tauri://localhost:80", Foreign),
            ("tauri://localhost/", Foreign),
            ("tauri://evil", Foreign),
            ("other://localhost", Foreign),
            ("http://localhost", Foreign),
            ("https://localhost", Foreign),
            ("app://bundle", Foreign),
            ("chrome-extension://bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", Foreign),
        ] {
            assert_eq!(post(&check, &[("origin", origin)]), expected, "{origin:?}");
        }
        let written: Vec<_> = check.allowed().iter().map(ToString::to_string).collect();
        assert_eq!(written[0], "tauri://localhost");
        assert_eq!(written[2], "ionic://localhost");
        // The host of a request never makes an app's page our own, whatever it is called.
        let addressed = CrossSiteCheck::default();
        assert_eq!(post(&addressed, &[("host", "localhost"), ("origin", "tauri://localhost")]), Foreign);
    }

    #[test]
    fn a_refused_origin_says_why() {
        for (text, why) in [
            ("null", "every sandboxed frame"),
            ("*", "does not stand for anything"),
            ("app.example.com", "there is no scheme"),
            ("wss://app.example.com", "name the page's https or http origin"),
            ("file:///index.html", "no origin that browsers tell"),
            ("https://app.example.com/", "there is a path behind the host"),
            ("https://*.example.com", "does not stand for anything"),
            ("tauri://localhost:x", "the host or port is malformed"),
        ] {
            let error = text.parse::<AllowedOrigins>().unwrap_err().to_string();
            assert!(error.contains("number 1") && error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn sec_221_what_was_sent_elsewhere_is_told_from_what_was_sent_to_loopback() {
        let allowed = "https://admin.example.com, tauri://localhost".parse().unwrap();
        let check = CrossSiteCheck::new(Some("http://127.0.0.1:8080".parse().unwrap()), allowed);
        let loopback = ("host", "127.0.0.1:8080");
        for (uri, fields, expected) in [
            ("/", &[loopback][..], false),
            ("/", &[("host", "localhost")], false),
            ("/", &[("host", "LOCALHOST.:8080")], false),
            ("/", &[("host", "app.localhost:3000")], false),
            ("/", &[("host", "127.1.2.3")], false),
            ("/", &[("host", "[::1]:8080")], false),
            ("/", &[("host", "[::ffff:127.0.0.1]")], false),
            // An HTTP/1.0 request.
            ("/", &[], false),
            ("/", &[("host", "auth.example.com")], true),
            ("/", &[("host", "localhost.evil.tld")], true),
            ("/", &[("host", "notlocalhost")], true),
            ("/", &[("host", "127.0.0.1.evil.tld")], true),
            ("/", &[("host", "127.0.0.1@evil.tld")], true),
            ("/", &[("host", "192.168.0.1:8080")], true),
            ("/", &[("host", "0.0.0.0:8080")], true),
            ("/", &[("host", "")], true),
            ("/", &[("host", "\u{e9}")], true),
            ("/", &[loopback, ("host", "auth.example.com")], true),
            ("http://127.0.0.1:8080/", &[], false),
            ("http://auth.example.com/", &[], true),
            ("http://auth.example.com/", &[loopback], true),
            // A proxy that names itself by our address forwards this request.
            ("/", &[loopback, ("x-forwarded-host", "localhost:8080")], false),
            ("/", &[loopback, ("x-forwarded-host", "auth.example.com")], true),
            ("/", &[loopback, ("x-forwarded-host", "localhost, auth.example.com")], true),
            ("/", &[loopback, ("forwarded", "for=1.2.3.4;host=\"localhost:8080\"")], false),
            ("/", &[loopback, ("forwarded", "for=1.2.3.4, proto=https;Host=auth.example.com")], true),
            ("/", &[loopback, ("forwarded", "for=1.2.3.4;proto=https")], false),
            ("/", &[loopback, ("origin", "http://localhost:3000")], false),
            ("/", &[loopback, ("origin", "null")], false),
            ("/", &[loopback, ("origin", "https://admin.example.com")], false),
            ("/", &[loopback, ("origin", "tauri://localhost")], false),
            ("/", &[loopback, ("origin", "https://auth.example.com")], true),
            ("/", &[loopback, ("origin", "capacitor://localhost")], true),
            ("/", &[loopback, ("origin", "http://localhost"), ("origin", "http://localhost")], true),
        ] {
            let found = check.is_sent_elsewhere(&Uri::from_static(uri), &headers(fields));
            assert_eq!(found, expected, "{uri} {fields:?}");
        }
    }

    #[test]
    fn origins_are_read_and_written_as_browsers_write_them() {
        let allowed: AllowedOrigins =
            " https://App.example.com:443 ,, http://localhost:3000,".parse().unwrap();
        let written: Vec<_> = allowed.iter().map(ToString::to_string).collect();
        assert_eq!(written, ["https://app.example.com", "http://localhost:3000"]);
        assert!("".parse::<AllowedOrigins>().unwrap().is_empty());

        let public_url = Url::parse("https://app.example.com:443/base/?x").unwrap();
        assert_eq!(Origin::of(&public_url).unwrap().to_string(), "https://app.example.com");
        assert!(Origin::of(&Url::parse("data:text/plain,x").unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn sec_068_arbitrary_header_bytes_never_panic(
            origin in prop::collection::vec(any::<u8>(), 0..48),
            referer in prop::collection::vec(any::<u8>(), 0..48),
            host in "[ -~]{0,24}",
            site in "(same-site|[ -~]{0,8})?",
        ) {
            let mut headers = HeaderMap::new();
            for (name, bytes) in [
                (header::ORIGIN, origin.as_slice()),
                (header::REFERER, &referer),
                (header::HOST, host.as_bytes()),
                (SEC_FETCH_SITE, site.as_bytes()),
            ] {
                if let Ok(value) = HeaderValue::from_bytes(bytes) && !bytes.is_empty() {
                    headers.insert(name, value);
                }
            }
            for check in [check(), CrossSiteCheck::default()] {
                let _ = check.check(&Method::POST, &Uri::from_static("/"), &headers);
            }
        }

        #[test]
        fn sec_068_texts_that_look_like_urls_never_panic(text in "https?://[ -~é]{0,24}") {
            if let Ok(origin) = text.parse::<Origin>() {
                prop_assert_eq!(origin.to_string().parse::<Origin>(), Ok(origin));
            }
        }
    }
}
