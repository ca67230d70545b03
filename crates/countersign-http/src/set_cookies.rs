//! Cookies as a part of a handler's own answer.

use std::fmt;

use countersign_core::flow::Renewed;
use countersign_jwt::Timestamp;
use http::{HeaderMap, HeaderValue, header};

use crate::answer::{no_store, vary_personal};
use crate::cookie_config::CookieError;
use crate::rules::CookieRules;

/// `Set-Cookie` fields for an answer, with what keeps that answer out of caches (SEC-054).
///
/// [`SetCookies::apply`] adds them to an answer's headers; with axum, `WithCookies` of `countersign-axum` makes them a
/// part of a response.
#[derive(Clone)]
#[must_use = "cookies are set by the answer that they are added to"]
pub struct SetCookies(Result<Vec<HeaderValue>, CookieError>);

impl SetCookies {
    pub(crate) fn new(fields: Result<Vec<HeaderValue>, CookieError>) -> Self {
        Self(fields)
    }

    /// The cookies of an access token that a refresh has handed out alone; the refresh token's stay as they are.
    pub fn of_access(cookies: &dyn CookieRules, renewed: &Renewed, now: Timestamp) -> Self {
        Self(cookies.set_access(renewed, now))
    }

    /// Makes a browser forget the cookies of a request with these headers: if a token cookie came twice, copies that were
    /// set for this host alone are forgotten as well. The one that stayed could be of a session that lives.
    pub fn forgetting_carried(cookies: &dyn CookieRules, headers: &HeaderMap) -> Self {
        let mut fields = cookies.forget();
        if cookies.are_repeated(headers) {
            let others = cookies.forget_repeated();
            let others: Vec<_> = others.into_iter().filter(|field| !fields.contains(field)).collect();
            fields.extend(others);
        }
        Self(Ok(fields))
    }

    /// Adds the fields to an answer's headers, beside other cookies that it sets, and `Cache-Control: no-store` and
    /// `Vary: Cookie, Authorization`.
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

/// Without the tokens.
impl fmt::Debug for SetCookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SetCookies").field(&self.0.as_ref().map(Vec::len)).finish()
    }
}
