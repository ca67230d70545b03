//! The cookies of Countersign's own rules.

use std::time::Duration;

use countersign_core::flow::{BrowserSession, Pair, Renewed};
use countersign_jwt::{Claims, Timestamp};
use http::request::Parts;
use http::{HeaderValue, Method};

use super::Native;
use crate::cookie_config::{CookieError, CookieKind};
use crate::device_cookie;
use crate::engine::Engine;
use crate::error::AuthError;
use crate::rules::CookieRules;

impl CookieRules for Native {
    fn why_not(&self) -> Option<&'static str> {
        None
    }

    fn name(&self, kind: CookieKind) -> Option<&str> {
        Some(self.cookies.name(kind))
    }

    fn path(&self, kind: CookieKind) -> &str {
        self.cookies.path(kind)
    }

    fn shows_session(&self) -> bool {
        self.cookies.shows_session()
    }

    fn device(&self) -> Option<&str> {
        Some(if self.cookies.is_secure() { device_cookie::HOST_NAME } else { device_cookie::NAME })
    }

    fn are_secure(&self) -> bool {
        self.cookies.is_secure()
    }

    /// Sets the access, refresh and CSRF cookies, each with the lifetime of the token it belongs to.
    fn set(&self, pair: &Pair, now: Timestamp) -> Result<Vec<HeaderValue>, CookieError> {
        let access = Duration::from_secs(pair.expires_in(now));
        let refresh = Duration::from_secs(pair.refresh_expires_in(now));
        // The access cookie of a login session is forgotten with the browser, so that what comes after is not fresh.
        let (access, refresh) = match pair.browser {
            None => (Some(access), Some(refresh)),
            Some(BrowserSession { remembered: true, .. }) => (None, Some(refresh)),
            Some(BrowserSession { remembered: false, .. }) => (None, None),
        };
        let set = |kind, value: &str, max_age: Option<Duration>| match max_age {
            Some(max_age) => self.cookies.set(kind, value, max_age),
            None => self.cookies.set_until_closed(kind, value),
        };
        let mut cookies = vec![
            set(CookieKind::Access, &pair.access_token, access)?,
            set(CookieKind::Refresh, &pair.refresh_token, refresh)?,
        ];
        match &pair.csrf {
            Some(csrf) if self.cookies.has_csrf_cookie() => {
                cookies.push(set(CookieKind::Csrf, csrf, refresh)?);
            }
            Some(_) => {}
            None => return Err(CookieError::NotForCookies),
        }
        Ok(cookies)
    }

    /// Sets nothing, because under these rules every refresh hands out a pair.
    fn set_access(&self, _: &Renewed, _: Timestamp) -> Result<Vec<HeaderValue>, CookieError> {
        Err(CookieError::NotForCookies)
    }

    fn forget(&self) -> Vec<HeaderValue> {
        self.cookies.expire_all().into()
    }

    fn forget_repeated(&self) -> Vec<HeaderValue> {
        self.cookies.expire_repeated()
    }

    fn needs_csrf(&self, engine: &Engine, method: &Method) -> bool {
        engine.csrf.concerns(method)
    }

    fn check_carried(
        &self,
        engine: &Engine,
        parts: &Parts,
        carried: &[(CookieKind, Claims)],
    ) -> Result<(), AuthError> {
        carried.iter().try_for_each(|(_, claims)| Self::check_csrf(engine, parts, claims))
    }
}
