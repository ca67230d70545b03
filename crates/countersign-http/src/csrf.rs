//! The CSRF value beside a cookie. A page of ours can read it and send it along; another site's page cannot.
//!
//! The value that the request sends is compared with the value that the verified token is bound to, never with a
//! cookie, because an attacker who can set one cookie can set two (SEC-067).

use http::request::Parts;
use http::{HeaderMap, HeaderName, Method};
use subtle::ConstantTimeEq;

use crate::form;

/// The default request header that carries the CSRF value.
pub const CSRF_HEADER: HeaderName = HeaderName::from_static("x-csrf-token");

/// The default form field that carries the CSRF value.
pub const CSRF_FIELD: &str = "csrf_token";

/// The proof that a page of ours, and not another site's, sent a request that a cookie authenticates.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CsrfMode {
    /// The CSRF value that the token is bound to, in a header or a form field. This is the default, because it works in
    /// all browsers, and also where another program on the same site is not trusted.
    #[default]
    Token,
    /// The browser's headers: `Sec-Fetch-Site`, otherwise `Origin`, otherwise `Referer`. Pages need no code for this
    /// mode. The CSRF value decides only where a request has none of the three headers.
    FetchMetadata,
}

/// The requests that need a CSRF value, and the places where it is looked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CsrfRules {
    pub(crate) mode: CsrfMode,
    pub(crate) header: HeaderName,
    pub(crate) field: Option<String>,
    /// Safe methods by which this program changes state nevertheless.
    pub(crate) also: Vec<Method>,
}

impl Default for CsrfRules {
    fn default() -> Self {
        Self {
            mode: CsrfMode::default(),
            header: CSRF_HEADER,
            field: Some(CSRF_FIELD.to_owned()),
            also: Vec::new(),
        }
    }
}

impl CsrfRules {
    pub(crate) fn concerns(&self, method: &Method) -> bool {
        is_unsafe(method) || self.also.contains(method)
    }

    /// Whether the value may be in a form, so that the request's body is needed.
    pub(crate) fn wants_body(&self, method: &Method, headers: &HeaderMap) -> bool {
        self.field.is_some()
            && self.concerns(method)
            && !headers.contains_key(&self.header)
            && form::is_form(headers)
    }

    /// Checks the CSRF value in the header or, if that is absent, in the form.
    pub(crate) fn check(&self, parts: &Parts, expected: &str) -> Result<(), CsrfError> {
        if let Some(field) = &self.field
            && !parts.headers.contains_key(&self.header)
        {
            return match form::field(parts, field) {
                form::Field::Absent => Err(CsrfError::Missing),
                form::Field::Repeated(_) => Err(CsrfError::Repeated),
                form::Field::One(value) if csrf_matches(&value, expected) => Ok(()),
                form::Field::One(_) => Err(CsrfError::Mismatch),
            };
        }
        check_in(&parts.headers, &self.header, expected)
    }
}

/// Why the CSRF value of a request that a cookie authenticates was not accepted. The client learns `csrf_failed` in all
/// cases.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrfError {
    /// The request has no CSRF value.
    #[error("the CSRF value is missing: neither in the header nor in a form field")]
    Missing,
    /// The request has several CSRF values, so somebody else may have added one.
    #[error("the CSRF value is repeated")]
    Repeated,
    /// The request has the CSRF value of another session, or an invented one.
    #[error("the CSRF value does not belong to this session")]
    Mismatch,
}

/// Whether a method may change state, so that a cookie alone does not authorise it: every method except those that
/// RFC 9110 §9.2.1 calls safe (GET, HEAD, OPTIONS, TRACE).
#[must_use]
pub fn is_unsafe(method: &Method) -> bool {
    !method.is_safe()
}

/// Checks the `X-CSRF-Token` header against the value that the deciding token is bound to.
///
/// ```
/// use countersign_http::{CSRF_HEADER, CsrfError, check_csrf};
/// use http::{HeaderMap, HeaderValue};
///
/// # let expected = "5d2c0f7a";
/// let mut headers = HeaderMap::new();
/// assert_eq!(check_csrf(&headers, expected), Err(CsrfError::Missing));
///
/// headers.insert(CSRF_HEADER, HeaderValue::from_str(expected)?);
/// assert_eq!(check_csrf(&headers, expected), Ok(()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`CsrfError`] unless there is exactly one such header and it has that value.
pub fn check_csrf(headers: &HeaderMap, expected: &str) -> Result<(), CsrfError> {
    check_in(headers, &CSRF_HEADER, expected)
}

fn check_in(headers: &HeaderMap, name: &HeaderName, expected: &str) -> Result<(), CsrfError> {
    let mut fields = headers.get_all(name).iter();
    match (fields.next(), fields.next()) {
        (None, _) => Err(CsrfError::Missing),
        (Some(_), Some(_)) => Err(CsrfError::Repeated),
        (Some(field), None) if csrf_matches(field.as_bytes(), expected) => Ok(()),
        (Some(_), None) => Err(CsrfError::Mismatch),
    }
}

/// Compares a presented CSRF value, such as one from a form field, with the expected one. The time taken reveals only
/// the length, which is not secret.
///
/// An empty expected value matches nothing, so an empty header cannot satisfy a token without a CSRF value.
#[must_use]
pub fn csrf_matches(presented: &[u8], expected: &str) -> bool {
    !expected.is_empty() && bool::from(presented.ct_eq(expected.as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const EXPECTED: &str = "kNq2vZ8s";

    #[test]
    fn sec_067_only_the_value_bound_to_the_token_is_accepted() {
        for (case, fields, expected) in [
            ("the value", &[&b"kNq2vZ8s"[..]][..], Ok(())),
            ("missing", &[], Err(CsrfError::Missing)),
            ("empty", &[b""], Err(CsrfError::Mismatch)),
            ("another session's", &[b"AAAAAAAA"], Err(CsrfError::Mismatch)),
            ("a beginning of it", &[b"kNq2vZ8"], Err(CsrfError::Mismatch)),
            ("with more behind it", &[b"kNq2vZ8s, x"], Err(CsrfError::Mismatch)),
            ("other case", &[b"KNQ2VZ8S"], Err(CsrfError::Mismatch)),
            ("not text", &[b"\xff\xfe"], Err(CsrfError::Mismatch)),
            ("repeated", &[b"kNq2vZ8s", b"kNq2vZ8s"], Err(CsrfError::Repeated)),
        ] {
            let values = fields.iter().map(|field| HeaderValue::from_bytes(field).unwrap());
            let headers: HeaderMap = values.map(|value| (CSRF_HEADER, value)).collect();
            assert_eq!(check_csrf(&headers, EXPECTED), expected, "{case}");
        }
    }

    #[test]
    fn sec_067_a_token_without_a_csrf_value_is_not_satisfied_by_an_empty_header() {
        let headers = HeaderMap::from_iter([(CSRF_HEADER, HeaderValue::from_static(""))]);
        assert_eq!(check_csrf(&headers, ""), Err(CsrfError::Mismatch));
        assert!(!csrf_matches(b"", ""));
    }

    #[test]
    fn sec_066_every_method_that_is_not_known_to_be_safe_is_unsafe() {
        for (method, expected) in [
            (Method::GET, false),
            (Method::HEAD, false),
            (Method::OPTIONS, false),
            (Method::TRACE, false),
            (Method::POST, true),
            (Method::PUT, true),
            (Method::PATCH, true),
            (Method::DELETE, true),
            (Method::CONNECT, true),
            (Method::from_bytes(b"get").unwrap(), true),
            (Method::from_bytes(b"PURGE").unwrap(), true),
        ] {
            assert_eq!(is_unsafe(&method), expected, "{method}");
        }
    }
}
