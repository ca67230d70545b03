//! Finding the credential that a request presents.
//!
//! A request may carry a token in several places. The places have a configured order, and the first that holds a token
//! decides, even if that token turns out to be bad. Falling back to the next place would let junk in one place choose
//! the rules by which the other is judged (SEC-049, SEC-050).

use std::borrow::Cow;
use std::fmt;

use http::{HeaderMap, HeaderValue, Method, Uri, header};
use serde_json::Value;
use url::form_urlencoded;

use crate::cookie::{CookieLookup, find_cookie};
use crate::cookie_config::{CookieConfig, CookieKind};

/// The place in a request where a token was found.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Location {
    /// `Authorization: Bearer …` (RFC 6750 §2.1).
    Header,
    /// One of our cookies. Browsers send cookies by themselves, so unsafe requests need a CSRF value as well.
    Cookie,
    /// A parameter of the query string. Off by default, because URLs end up in logs and histories (SEC-051).
    Query,
    /// A member of the JSON body.
    Body,
}

/// A token that a request presents, and its location. Nothing about the token has been checked.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Located<'r> {
    /// The token as it was sent; never empty.
    pub token: &'r str,
    /// The place in the request where the token was found.
    pub location: Location,
}

/// Why a request's credentials are refused before the token itself is checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LocateError {
    /// There are two `Authorization` fields, or one with a list, so it is unknown which credential a proxy in front of
    /// us has checked (SEC-048). The answer is 400 `invalid_request`.
    #[error("the Authorization header is repeated or a list")]
    MalformedAuthorization,
    /// There are different tokens in different places, although [only one is accepted](Locator::refuse_several). The
    /// answer is 400 `invalid_request`.
    #[error("the request presents several tokens")]
    SeveralTokens,
    /// The place that decides holds a value that cannot be a token. The answer is 401 `invalid_token`.
    #[error("the {0:?} credential is not a token")]
    NotAToken(Location),
    /// The query parameter came twice (SEC-051). The answer is 400 `invalid_request`.
    #[error("the token parameter of the query is repeated")]
    RepeatedParameter,
    /// The cookie came twice (SEC-062). The answer is 401 `invalid_token` and expires
    /// [both token cookies](CookieConfig::expire_repeated).
    #[error("the token cookie is repeated")]
    RepeatedCookie,
}

/// Looks for one kind of token, in a fixed order of places.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Locator {
    order: Vec<Location>,
    cookie: String,
    parameter: String,
    member: &'static str,
    refuse_several: bool,
}

/// The tokens in places other than the headers, as found by [`Locator::in_query`] and [`Locator::in_body`], or by a
/// route that reads its body itself.
#[derive(Clone, Copy, Default)]
pub struct Elsewhere<'r> {
    /// The token in the query string.
    pub query: Option<&'r str>,
    /// The token in the body.
    pub body: Option<&'r str>,
}

impl Locator {
    /// A locator for access tokens: the header, then the cookie.
    #[must_use]
    pub fn access(cookies: &CookieConfig) -> Self {
        Self::new(
            cookies.name(CookieKind::Access),
            vec![Location::Header, Location::Cookie],
            DEFAULT_PARAMETER,
        )
    }

    /// A locator for refresh tokens: the body, then the header, then the cookie.
    #[must_use]
    pub fn refresh(cookies: &CookieConfig) -> Self {
        Self::new(
            cookies.name(CookieKind::Refresh),
            vec![Location::Body, Location::Header, Location::Cookie],
            "refresh_token",
        )
    }

    /// Looks in these places, in this order. Places that are left out are not looked at.
    #[must_use]
    pub fn in_order(self, order: Vec<Location>) -> Self {
        Self { order, ..self }
    }

    /// The name of the query parameter. Default: `access_token` for access tokens (RFC 6750 §2.3), `refresh_token` for
    /// refresh tokens.
    #[must_use]
    pub fn parameter(self, name: impl Into<String>) -> Self {
        Self { parameter: name.into(), ..self }
    }

    /// The places that are looked at, in order.
    #[must_use]
    pub fn order(&self) -> &[Location] {
        &self.order
    }

    /// Refuses requests that present different tokens in different places, instead of letting the first place decide
    /// (RFC 6750 §2 forbids clients to send them). Default: off, because a page's cookies come along with the requests
    /// that it makes with a bearer token.
    #[must_use]
    pub fn refuse_several(self) -> Self {
        Self { refuse_several: true, ..self }
    }

    /// The token in the query string, percent-decoded.
    ///
    /// # Errors
    /// [`LocateError::RepeatedParameter`].
    pub fn in_query<'r>(&self, uri: &'r Uri) -> Result<Option<Cow<'r, str>>, LocateError> {
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        let mut values = pairs.filter_map(|(name, value)| (name == self.parameter).then_some(value));
        match (values.next(), values.next()) {
            (first, None) => Ok(first),
            (_, Some(_)) => Err(LocateError::RepeatedParameter),
        }
    }

    /// Whether the query string has a token, one or several.
    #[must_use]
    pub fn is_in_query(&self, uri: &Uri) -> bool {
        !matches!(self.in_query(uri), Ok(None))
    }

    /// The URI with the token in its query replaced by a placeholder, for logs and handlers; `None` if the query has no
    /// token, or if the rest cannot be kept.
    #[must_use]
    pub fn redacted(&self, uri: &Uri) -> Option<Uri> {
        if !self.is_in_query(uri) {
            return None;
        }
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        let pairs = pairs.map(|(name, value)| {
            let value = if name == self.parameter { Cow::Borrowed("redacted") } else { value };
            (name, value)
        });
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(format!("{}?{query}", uri.path()).parse().ok()?);
        Uri::from_parts(parts).ok()
    }

    /// Whether the body of such a request may hold the token: `application/json`, by POST, PUT or PATCH (SEC-052).
    #[must_use]
    pub fn may_be_in_body(method: &Method, headers: &HeaderMap) -> bool {
        let takes_body = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
        takes_body && essence(headers).is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
    }

    /// The token in a JSON body: the member `access_token` or `refresh_token` of an object, if it is text.
    #[must_use]
    pub fn in_body(&self, body: &[u8]) -> Option<String> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(mut members)) => match members.remove(self.member) {
                Some(Value::String(token)) => Some(token),
                _ => None,
            },
            _ => None,
        }
    }

    /// The token that decides about this request; `None` if the request presents none.
    ///
    /// An empty cookie, parameter or body member counts as no token.
    ///
    /// # Errors
    /// [`LocateError`] when the request is malformed, or when the place that decides holds no usable token.
    pub fn locate<'r>(
        &self,
        headers: &'r HeaderMap,
        elsewhere: impl Into<Elsewhere<'r>>,
    ) -> Result<Option<Located<'r>>, LocateError> {
        self.locate_in(&self.order, headers, elsewhere.into())
    }

    /// The token that decides about this request, with the places in the order of `order`.
    pub(crate) fn locate_in<'r>(
        &self,
        order: &[Location],
        headers: &'r HeaderMap,
        elsewhere: Elsewhere<'r>,
    ) -> Result<Option<Located<'r>>, LocateError> {
        let bearer = if order.contains(&Location::Header) { bearer(headers) } else { Ok(None) };
        // A malformed header refuses the request even where another place would decide.
        if bearer == Err(LocateError::MalformedAuthorization) {
            return Err(LocateError::MalformedAuthorization);
        }
        let mut places = self.each_in(order, headers, bearer, elsewhere);
        let Some(deciding) = places.next().transpose()? else { return Ok(None) };
        if self.refuse_several && places.flatten().any(|other| other.token != deciding.token) {
            return Err(LocateError::SeveralTokens);
        }
        Ok(Some(deciding))
    }

    /// The content of every place, in order; places without a token are skipped. For logout, which tries all of them.
    pub fn each<'r>(
        &self,
        headers: &'r HeaderMap,
        elsewhere: impl Into<Elsewhere<'r>>,
    ) -> impl Iterator<Item = Result<Located<'r>, LocateError>> {
        self.each_in(&self.order, headers, bearer(headers), elsewhere.into())
    }

    fn each_in<'r>(
        &self,
        order: &[Location],
        headers: &'r HeaderMap,
        bearer: Result<Option<&'r str>, LocateError>,
        elsewhere: Elsewhere<'r>,
    ) -> impl Iterator<Item = Result<Located<'r>, LocateError>> {
        order.iter().filter_map(move |&location| {
            let token = match location {
                Location::Header => bearer,
                Location::Cookie => self.cookie(headers),
                Location::Query => Ok(elsewhere.query),
                Location::Body => Ok(elsewhere.body),
            };
            let held = token.map(|token| token.filter(|token| !token.is_empty())).transpose()?;
            Some(held.map(|token| Located { token, location }))
        })
    }

    fn new(cookie: &str, order: Vec<Location>, member: &'static str) -> Self {
        let (cookie, parameter) = (cookie.to_owned(), member.to_owned());
        Self { order, cookie, parameter, member, refuse_several: false }
    }

    fn cookie<'r>(&self, headers: &'r HeaderMap) -> Result<Option<&'r str>, LocateError> {
        match find_cookie(headers, &self.cookie) {
            CookieLookup::Absent => Ok(None),
            CookieLookup::One(value) => Ok(Some(value)),
            CookieLookup::Unreadable => Err(LocateError::NotAToken(Location::Cookie)),
            CookieLookup::Repeated => Err(LocateError::RepeatedCookie),
        }
    }
}

/// Elsewhere with a token in the body only.
impl<'r> From<Option<&'r str>> for Elsewhere<'r> {
    fn from(body: Option<&'r str>) -> Self {
        Self { query: None, body }
    }
}

impl fmt::Debug for Elsewhere<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { query, body } = self;
        f.debug_struct("Elsewhere").field("query", &query.is_some()).field("body", &body.is_some()).finish()
    }
}

impl fmt::Debug for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Located").field("location", &self.location).finish_non_exhaustive()
    }
}

/// The bearer token of the `Authorization` header.
///
/// Credentials of another scheme (`Basic dXNlcjpwYXNz`) count as no bearer token: a proxy in front may need them, and
/// browsers then send them with every request, beside our cookies. Anything that is not a scheme followed by
/// credentials is refused, including a token without its scheme.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, LocateError> {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    match (fields.next(), fields.next()) {
        (None, _) => Ok(None),
        (Some(field), None) => bearer_token(field.as_bytes()),
        (Some(_), Some(_)) => Err(LocateError::MalformedAuthorization),
    }
}

fn bearer_token(field: &[u8]) -> Result<Option<&str>, LocateError> {
    let (scheme, credentials) = split_scheme(field);
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer");
    // This is the common case: the field holds no comma, so it is no list.
    if is_bearer
        && is_token68(credentials)
        && let Ok(token) = std::str::from_utf8(credentials)
    {
        return Ok(Some(token));
    }
    let is_other_scheme = !is_bearer && !scheme.is_empty() && !credentials.is_empty();

    // Other schemes have lists of parameters, so for them a comma alone does not make a list of credentials.
    let mut later_elements = field.split(|&byte| byte == b',').skip(1);
    let is_list = if is_other_scheme {
        later_elements.any(begins_with_bearer)
    } else {
        later_elements.next().is_some()
    };
    if is_list {
        return Err(LocateError::MalformedAuthorization);
    }
    if is_other_scheme {
        return Ok(None);
    }
    Err(LocateError::NotAToken(Location::Header))
}

/// Splits the field at the spaces after the scheme (RFC 9110 §11.4). Without a space there are no credentials; without
/// a well-formed scheme both parts are empty.
fn split_scheme(field: &[u8]) -> (&[u8], &[u8]) {
    let mut halves = field.splitn(2, |&byte| byte == b' ');
    let scheme = halves.next().unwrap_or_default();
    let credentials = halves.next().unwrap_or_default();
    let first = credentials.iter().position(|&byte| byte != b' ').unwrap_or(credentials.len());
    let credentials = credentials.get(first..).unwrap_or_default();
    if scheme.iter().copied().all(is_token_char) { (scheme, credentials) } else { (&[], &[]) }
}

/// The media type of a body, without its parameters; `None` if it is absent, repeated or not text.
pub fn essence(headers: &HeaderMap) -> Option<&str> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next().map(HeaderValue::to_str), types.next()) else { return None };
    Some(only.ok()?.split(';').next().unwrap_or_default().trim())
}

/// The default name of both the query parameter and the member of the body (RFC 6750 §2.2, §2.3).
const DEFAULT_PARAMETER: &str = "access_token";

fn begins_with_bearer(element: &[u8]) -> bool {
    let first = element.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(element.len());
    split_scheme(element.get(first..).unwrap_or_default()).0.eq_ignore_ascii_case(b"bearer")
}

/// Whether a text is a `token68` (RFC 9110 §11.2): letters, digits and `-._~+/`, then any number of `=`.
fn is_token68(text: &[u8]) -> bool {
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    let body = text.get(..text.len().saturating_sub(padding)).unwrap_or_default();
    // Every byte is looked at, without branches, so that the compiler checks many at once: this runs for each request.
    !body.is_empty() && body.iter().fold(true, |all, &byte| all & is_token68_char(byte))
}

fn is_token68_char(byte: u8) -> bool {
    let is_letter = (byte | 0x20).wrapping_sub(b'a') < 26;
    let is_digit = byte.wrapping_sub(b'0') < 10;
    let is_dash_dot_or_slash = byte.wrapping_sub(b'-') < 3;
    is_letter | is_digit | is_dash_dot_or_slash | (byte == b'_') | (byte == b'~') | (byte == b'+')
}

/// Whether a byte is a `tchar` (RFC 9110 §5.6.2).
fn is_token_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const MALFORMED: LocateError = LocateError::MalformedAuthorization;
    const NOT_A_TOKEN: LocateError = LocateError::NotAToken(Location::Header);

    fn access() -> Locator {
        Locator::access(&CookieConfig::for_public_url(None).unwrap())
    }

    fn refresh() -> Locator {
        Locator::refresh(&CookieConfig::for_public_url(None).unwrap())
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn at(location: Location, token: &str) -> Result<Option<Located<'_>>, LocateError> {
        Ok(Some(Located { token, location }))
    }

    #[test]
    fn sec_047_a_bearer_header_is_a_scheme_spaces_and_a_token68() {
        for (field, expected) in [
            ("Bearer a.b.c", Ok(Some("a.b.c"))),
            ("bearer a.b.c", Ok(Some("a.b.c"))),
            ("BEARER a.b.c", Ok(Some("a.b.c"))),
            ("Bearer    a.b.c", Ok(Some("a.b.c"))),
            ("Bearer aZ09-._~+/==", Ok(Some("aZ09-._~+/=="))),
            ("Bearer", Err(NOT_A_TOKEN)),
            ("Bearer ", Err(NOT_A_TOKEN)),
            ("Bearer =", Err(NOT_A_TOKEN)),
            ("Bearer a=b", Err(NOT_A_TOKEN)),
            ("Bearer a b", Err(NOT_A_TOKEN)),
            ("Bearer a ", Err(NOT_A_TOKEN)),
            ("Bearer\ta", Err(NOT_A_TOKEN)),
            ("Bearer \ta", Err(NOT_A_TOKEN)),
            ("Bearer \"a\"", Err(NOT_A_TOKEN)),
            ("Bearer é", Err(NOT_A_TOKEN)),
            (" Bearer a", Err(NOT_A_TOKEN)),
            ("", Err(NOT_A_TOKEN)),
            ("a.b.c", Err(NOT_A_TOKEN)),
            ("Bearer:a.b.c", Err(NOT_A_TOKEN)),
            ("é a", Err(NOT_A_TOKEN)),
            ("Basic dXNlcjpwYXNz", Ok(None)),
            ("Digest username=\"ada\", realm=\"x\"", Ok(None)),
            ("Bearers a", Ok(None)),
        ] {
            let headers = headers(&[("authorization", field)]);
            let expected =
                expected.map(|token| token.map(|token| Located { token, location: Location::Header }));
            assert_eq!(access().locate(&headers, None), expected, "{field:?}");
        }
    }

    #[test]
    fn sec_047_of_all_bytes_only_those_of_a_token68_are_in_a_token() {
        for byte in 0..=u8::MAX {
            let expected = byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
            for before in [0, 1, 15, 16, 40] {
                let mut text = vec![b'a'; before];
                text.push(byte);
                text.extend_from_slice(b"a=");
                assert_eq!(is_token68(&text), expected, "{byte:#x}");
            }
        }
    }

    #[test]
    fn sec_048_repeated_or_listed_authorization_is_malformed() {
        for fields in [
            &["Bearer a", "Bearer b"][..],
            &["Bearer a", "Bearer a"],
            &["Bearer a", "Basic b"],
            &["Bearer a, Bearer b"],
            &["Bearer a,b"],
            &["Bearer a,"],
            &[",Bearer a"],
            &["Basic a, Bearer b"],
            &["Basic a,bearer b"],
            &["Digest x=\"y\", Bearer b"],
            &["a,b"],
        ] {
            let mut fields: Vec<_> = fields.iter().map(|field| ("authorization", *field)).collect();
            fields.push(("cookie", "__Host-countersign_access=c; __Host-countersign_refresh=r"));
            let headers = headers(&fields);
            assert_eq!(access().locate(&headers, None), Err(MALFORMED), "{fields:?}");
            assert_eq!(refresh().locate(&headers, Some("b")), Err(MALFORMED), "{fields:?}");
        }
    }

    #[test]
    fn sec_049_the_first_place_that_holds_a_token_decides() {
        let bearer = ("authorization", "Bearer h");
        let junk = ("authorization", "Bearer \"junk\"");
        let basic = ("authorization", "Basic h");
        let cookies = ("cookie", "__Host-countersign_access=a; __Host-countersign_refresh=r");
        let empty = ("cookie", "__Host-countersign_access=; __Host-countersign_refresh=");
        for (fields, body, for_access, for_refresh) in [
            (&[][..], None, Ok(None), Ok(None)),
            (&[bearer], None, at(Location::Header, "h"), at(Location::Header, "h")),
            (&[cookies], None, at(Location::Cookie, "a"), at(Location::Cookie, "r")),
            (&[bearer, cookies], None, at(Location::Header, "h"), at(Location::Header, "h")),
            (&[bearer, cookies], Some("b"), at(Location::Header, "h"), at(Location::Body, "b")),
            (&[cookies], Some(""), at(Location::Cookie, "a"), at(Location::Cookie, "r")),
            (&[basic, cookies], None, at(Location::Cookie, "a"), at(Location::Cookie, "r")),
            (&[junk, cookies], None, Err(NOT_A_TOKEN), Err(NOT_A_TOKEN)),
            (&[junk, cookies], Some("b"), Err(NOT_A_TOKEN), at(Location::Body, "b")),
            (&[empty], None, Ok(None), Ok(None)),
        ] {
            let headers = headers(fields);
            // Access tokens are never looked for in a body, so a token that a route passes there is not used.
            assert_eq!(access().locate(&headers, body), for_access, "access {fields:?} {body:?}");
            assert_eq!(refresh().locate(&headers, body), for_refresh, "refresh {fields:?} {body:?}");
        }
    }

    #[test]
    fn sec_049_the_order_is_configurable() {
        let headers = headers(&[("authorization", "Bearer h"), ("cookie", "__Host-countersign_access=a")]);
        for (order, expected) in [
            (vec![Location::Cookie, Location::Header], at(Location::Cookie, "a")),
            (vec![Location::Cookie], at(Location::Cookie, "a")),
            (vec![Location::Body], Ok(None)),
            (vec![], Ok(None)),
        ] {
            assert_eq!(access().in_order(order.clone()).locate(&headers, None), expected, "{order:?}");
        }
    }

    #[test]
    fn sec_049_strict_mode_refuses_two_different_tokens() {
        for (cookie, expected) in [
            ("__Host-countersign_access=h", at(Location::Header, "h")),
            ("__Host-countersign_access=a", Err(LocateError::SeveralTokens)),
            ("__Host-countersign_refresh=r", at(Location::Header, "h")),
        ] {
            let headers = headers(&[("authorization", "Bearer h"), ("cookie", cookie)]);
            assert_eq!(access().refuse_several().locate(&headers, None), expected, "{cookie}");
        }
    }

    #[test]
    fn sec_050_sec_189_junk_in_the_header_does_not_switch_off_the_csrf_check() {
        for field in ["Bearer x", "Bearer", "Bearer \"", "Basic x", "x", ""] {
            let headers = headers(&[("authorization", field), ("cookie", "__Host-countersign_access=a")]);
            if let Ok(Some(located)) = access().locate(&headers, None) {
                assert_eq!(located.location == Location::Cookie, located.token == "a", "{field:?}");
            }
        }
    }

    #[test]
    fn sec_062_a_repeated_cookie_is_refused() {
        let repeated = "__Host-countersign_access=a; __Host-countersign_access=a";
        assert_eq!(
            access().locate(&headers(&[("cookie", repeated)]), None),
            Err(LocateError::RepeatedCookie)
        );
        assert_eq!(refresh().locate(&headers(&[("cookie", repeated)]), None), Ok(None));
    }

    #[test]
    fn a_cookie_that_is_not_text_is_refused() {
        let mut headers = HeaderMap::new();
        let field = HeaderValue::from_bytes(b"__Host-countersign_access=\xff").unwrap();
        headers.insert(header::COOKIE, field);
        assert_eq!(access().locate(&headers, None), Err(LocateError::NotAToken(Location::Cookie)));
    }

    #[test]
    fn logout_sees_every_place() {
        let headers = headers(&[
            ("authorization", "Bearer \"junk\""),
            ("cookie", "__Host-countersign_access=a; __Host-countersign_refresh=r"),
        ]);
        let found: Vec<_> = refresh().each(&headers, Some("b")).collect();
        let expected = [
            Ok(Located { token: "b", location: Location::Body }),
            Err(NOT_A_TOKEN),
            Ok(Located { token: "r", location: Location::Cookie }),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn tokens_do_not_show_in_debug_output() {
        let located = Located { token: "canary", location: Location::Header };
        assert!(!format!("{located:?}").contains("canary"));
    }

    proptest! {
        #[test]
        fn sec_047_arbitrary_header_bytes_never_panic(
            authorization in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..48), 0..3),
            cookie in prop::collection::vec(any::<u8>(), 0..48),
        ) {
            let mut headers = HeaderMap::new();
            for field in &authorization {
                if let Ok(value) = HeaderValue::from_bytes(field) {
                    headers.append(header::AUTHORIZATION, value);
                }
            }
            if let Ok(value) = HeaderValue::from_bytes(&cookie) {
                headers.append(header::COOKIE, value);
            }
            for locator in [access(), refresh(), access().refuse_several()] {
                if let Ok(Some(located)) = locator.locate(&headers, None) {
                    prop_assert!(!located.token.is_empty());
                }
            }
        }

        #[test]
        fn sec_047_nothing_but_token68_gets_through(junk in "(?i:bearer) {1,2}[ -~é]{0,8}") {
            if let Ok(Some(token)) = bearer_token(junk.as_bytes()) {
                prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b)));
            }
        }
    }
}
