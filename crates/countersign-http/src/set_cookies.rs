//! `Set-Cookie` fields for an answer that a handler builds itself.

use std::fmt;

use countersign_core::flow::Renewed;
use countersign_jwt::Timestamp;
use http::{HeaderMap, HeaderValue, header};

use crate::answer::{no_store, vary_personal};
use crate::cookie_config::CookieError;
use crate::rules::CookieRules;

/// `Set-Cookie` fields for an answer, with the header fields that keep the answer out of caches (SEC-054).
///
/// [`SetCookies::apply`] adds them to an answer's headers. With axum, `WithCookies` of `countersign-axum` makes them
/// part of a response.
#[derive(Clone)]
#[must_use = "cookies are set by the answer that they are added to"]
pub struct SetCookies(Result<Vec<HeaderValue>, CookieError>);

impl SetCookies {
    pub(crate) fn new(fields: Result<Vec<HeaderValue>, CookieError>) -> Self {
        Self(fields)
    }

    /// No cookies: an answer that leaves the browser's cookies as they are.
    pub fn none() -> Self {
        Self(Ok(Vec::new()))
    }

    /// These fields, and one more where there is one.
    pub(crate) fn and(self, more: Option<HeaderValue>) -> Self {
        Self(self.0.map(|mut fields| {
            fields.extend(more);
            fields
        }))
    }

    /// The cookies of an access token that a refresh issued alone. The refresh token's cookies stay unchanged.
    pub fn of_access(cookies: &dyn CookieRules, renewed: &Renewed, now: Timestamp) -> Self {
        Self(cookies.set_access(renewed, now))
    }

    /// Makes a browser forget the cookies of a request with these headers. If a token cookie came twice, copies that
    /// were set for this host alone are forgotten as well, because the remaining copy could belong to a live session.
    pub fn forgetting_carried(cookies: &dyn CookieRules, headers: &HeaderMap) -> Self {
        let mut fields = cookies.forget();
        if cookies.are_repeated(headers) {
            let others = cookies.forget_repeated();
            let others: Vec<_> = others.into_iter().filter(|field| !fields.contains(field)).collect();
            fields.extend(others);
        }
        Self(Ok(fields))
    }

    /// Adds the `Set-Cookie` fields to an answer's headers, beside other cookies that the answer sets, and also
    /// `Cache-Control: no-store` and `Vary: Cookie, Authorization`.
    ///
    /// # Errors
    /// [`CookieError`] if a token cannot be a cookie: it is too large, or was not issued for cookies.
    pub fn apply(self, headers: &mut HeaderMap) -> Result<(), CookieError> {
        for field in self.0? {
            headers.append(header::SET_COOKIE, field);
        }
        no_store(headers);
        vary_personal(headers);
        Ok(())
    }
}

/// Omits the tokens.
impl fmt::Debug for SetCookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SetCookies").field(&self.0.as_ref().map(Vec::len)).finish()
    }
}
