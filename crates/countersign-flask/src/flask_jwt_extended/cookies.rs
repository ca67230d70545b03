//! Setting and removing cookies.

use std::time::Duration;

use cookie::time::{Duration as CookieDuration, OffsetDateTime};
use cookie::{Cookie, Expiration};
use countersign_jwt::Timestamp;
use http::HeaderValue;

use super::answers::ExtendedRefusal;
use super::config::{CookieNames, domain_of};
use super::{FlaskJwtExtended, Refused};

/// The arguments of `set_access_cookies` and similar functions. Without them, the options decide.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CookieArguments {
    /// The lifetime of the cookies in seconds; 0 counts as not given.
    pub max_age: Option<f64>,
    /// The domain of the cookies; an empty one counts as not given.
    pub domain: Option<String>,
}

/// The lifetime of cookies under the option `JWT_SESSION_COOKIE = False`: a year.
const PERSISTENT: f64 = 31_540_000.0;

impl FlaskJwtExtended {
    /// `Set-Cookie` fields for an access token and, where there is one, its CSRF value.
    ///
    /// # Errors
    /// [`Refused`] for a token that is not valid now, or too long for a cookie.
    pub async fn set_access_cookies(
        &self,
        token: &str,
        arguments: &CookieArguments,
    ) -> Result<Vec<HeaderValue>, Refused> {
        self.set_cookies(token, &self.config().access, arguments).await
    }

    /// `Set-Cookie` fields for a refresh token and, where there is one, its CSRF value.
    ///
    /// # Errors
    /// [`Refused`] for a token that is not valid now, or too long for a cookie.
    pub async fn set_refresh_cookies(
        &self,
        token: &str,
        arguments: &CookieArguments,
    ) -> Result<Vec<HeaderValue>, Refused> {
        self.set_cookies(token, &self.config().refresh, arguments).await
    }

    /// `Set-Cookie` fields that remove the access token's cookies.
    #[must_use]
    pub fn unset_access_cookies(&self, domain: Option<&str>) -> Vec<HeaderValue> {
        self.unset_cookies(&self.config().access, domain)
    }

    /// `Set-Cookie` fields that remove the refresh token's cookies.
    #[must_use]
    pub fn unset_refresh_cookies(&self, domain: Option<&str>) -> Vec<HeaderValue> {
        self.unset_cookies(&self.config().refresh, domain)
    }

    /// `Set-Cookie` fields that remove the cookies of both tokens.
    #[must_use]
    pub fn unset_jwt_cookies(&self, domain: Option<&str>) -> Vec<HeaderValue> {
        [self.unset_access_cookies(domain), self.unset_refresh_cookies(domain)].concat()
    }

    /// The fields that make a browser forget both copies of a token cookie that came twice. They remove the copies that
    /// are set here. Where that is for a domain, they also remove copies set for this host alone, that of the CSRF
    /// cookie included, because a page would otherwise go on reading it.
    pub(super) fn expire_repeated(&self) -> Vec<HeaderValue> {
        let config = self.config();
        let kinds = [&config.access, &config.refresh];
        let domain = self.domain(None);
        let tokens = kinds.into_iter().filter_map(|names| {
            let path = names.path.as_deref();
            self.cookie(&names.name, "", path, true, Expiry::Removed, domain.as_deref())
        });
        let mut fields: Vec<_> = tokens.collect();
        if domain.is_some() {
            fields.extend(kinds.into_iter().flat_map(|names| self.removals(names, None)));
        }
        fields
    }

    async fn set_cookies(
        &self,
        token: &str,
        names: &CookieNames,
        arguments: &CookieArguments,
    ) -> Result<Vec<HeaderValue>, Refused> {
        let csrf = if self.sets_csrf_cookies() { Some(self.csrf_value(token).await?) } else { None };
        self.cookies_of(token, csrf.as_deref(), names, arguments)
            .ok_or_else(|| Refused(ExtendedRefusal::Invalid("Token is too long for a cookie".to_owned())))
    }

    /// The fields for a token whose CSRF value is known; `None` if it is too long for a cookie.
    pub(super) fn cookies_of(
        &self,
        token: &str,
        csrf: Option<&str>,
        names: &CookieNames,
        arguments: &CookieArguments,
    ) -> Option<Vec<HeaderValue>> {
        let config = self.config();
        let given = arguments.max_age.filter(|seconds| *seconds != 0.0);
        let max_age = given.or((!config.session_cookie).then_some(PERSISTENT));
        let expiry = match max_age {
            Some(seconds) => Expiry::After(seconds),
            None => Expiry::WithTheBrowser,
        };
        let domain = self.domain(arguments.domain.as_deref());
        let domain = domain.as_deref();
        let mut fields =
            vec![self.cookie(&names.name, token, names.path.as_deref(), true, expiry, domain)?];
        if let Some(csrf) = csrf.filter(|_| self.sets_csrf_cookies()) {
            let path = names.csrf_path.as_deref();
            fields.push(self.cookie(&names.csrf_name, csrf, path, false, expiry, domain)?);
        }
        Some(fields)
    }

    fn unset_cookies(&self, names: &CookieNames, domain: Option<&str>) -> Vec<HeaderValue> {
        self.removals(names, self.domain(domain).as_deref())
    }

    /// The domain that cookies are set for: the argument, otherwise the option's; `None` for this host alone.
    fn domain(&self, argument: Option<&str>) -> Option<String> {
        let given = argument.and_then(domain_of);
        given.or_else(|| self.config().cookie_domain.as_deref().and_then(domain_of))
    }

    fn removals(&self, names: &CookieNames, domain: Option<&str>) -> Vec<HeaderValue> {
        let main = self.cookie(&names.name, "", names.path.as_deref(), true, Expiry::Removed, domain);
        let csrf = self.sets_csrf_cookies().then(|| {
            self.cookie(&names.csrf_name, "", names.csrf_path.as_deref(), false, Expiry::Removed, domain)
        });
        main.into_iter().chain(csrf.flatten()).collect()
    }

    fn sets_csrf_cookies(&self) -> bool {
        self.config().cookie_csrf_protect && self.config().csrf_in_cookies
    }

    fn cookie(
        &self,
        name: &str,
        value: &str,
        path: Option<&str>,
        http_only: bool,
        expiry: Expiry,
        domain: Option<&str>,
    ) -> Option<HeaderValue> {
        let is_octet = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\');
        // Browsers would drop such a cookie silently.
        if name.len() + value.len() > 4096 || !value.bytes().all(is_octet) {
            return None;
        }
        let config = self.config();
        // `Secure` is set explicitly either way, because the crate adds it to `SameSite=None` on its own.
        let mut cookie = Cookie::build((name, value)).http_only(http_only).secure(config.cookie_secure);
        if let Some(path) = path {
            cookie = cookie.path(path);
        }
        if let Some(domain) = domain {
            cookie = cookie.domain(domain);
        }
        if let Some(same_site) = config.cookie_samesite {
            cookie = cookie.same_site(cookie::SameSite::from(same_site));
        }
        let cookie = match expiry {
            Expiry::WithTheBrowser => cookie,
            Expiry::Removed => cookie.expires(Expiration::DateTime(OffsetDateTime::UNIX_EPOCH)),
            Expiry::After(seconds) => {
                let at = moment(self.clock_now(), seconds);
                let cookie = cookie.expires(Expiration::from(at));
                #[expect(clippy::cast_possible_truncation, reason = "a cast from a float saturates")]
                cookie.max_age(CookieDuration::seconds(seconds as i64))
            }
        };
        let mut field = HeaderValue::try_from(cookie.build().to_string()).ok()?;
        field.set_sensitive(true);
        Some(field)
    }

    fn clock_now(&self) -> Timestamp {
        self.0.clock.now()
    }
}

#[derive(Clone, Copy)]
enum Expiry {
    WithTheBrowser,
    After(f64),
    Removed,
}

fn moment(now: Timestamp, seconds: f64) -> Option<OffsetDateTime> {
    let distance = Duration::try_from_secs_f64(seconds.abs()).ok()?;
    let at = if seconds < 0.0 { now - distance } else { now + distance };
    OffsetDateTime::from_unix_timestamp(at.as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::flask_jwt_extended::{FlaskJwtExtendedConfig, NewAccess};
    use crate::testing::{SECRET, Standing, run};

    fn jwt(mut options: Value) -> FlaskJwtExtended {
        options["JWT_SECRET_KEY"] = SECRET.into();
        let config = FlaskJwtExtendedConfig::from_options(options.as_object().unwrap().clone()).unwrap();
        FlaskJwtExtended::builder(config).clock(std::sync::Arc::new(Standing)).build().unwrap()
    }

    /// The attributes of a field in the order of their names, without the cookie's value.
    fn attributes(field: &HeaderValue) -> String {
        let mut parts: Vec<_> = field.to_str().unwrap().split("; ").skip(1).collect();
        parts.sort_unstable();
        parts.join("; ")
    }

    fn set(options: Value, arguments: &CookieArguments) -> Vec<String> {
        let jwt = jwt(options);
        let token = run(jwt.create_access_token("alice", NewAccess::new())).unwrap();
        run(jwt.set_access_cookies(&token, arguments)).unwrap().iter().map(attributes).collect()
    }

    #[test]
    fn cookies_have_the_attributes_of_the_options() {
        let nothing = CookieArguments::default();
        let for_a_minute = CookieArguments { max_age: Some(60.0), domain: None };
        let at_once = CookieArguments { max_age: Some(0.0), domain: Some(".example.org:80".to_owned()) };
        let session = "HttpOnly; Path=/";
        let year = "Expires=Wed, 13 Nov 2024 23:20:00 GMT; HttpOnly; Max-Age=31540000; Path=/";
        let minute = "Expires=Tue, 14 Nov 2023 22:14:20 GMT; HttpOnly; Max-Age=60; Path=/";
        let strict = json!({"JWT_COOKIE_SECURE": true, "JWT_COOKIE_SAMESITE": "strict"});
        for (options, arguments, expected) in [
            (json!({}), &nothing, session.to_owned()),
            (strict, &nothing, format!("{session}; SameSite=Strict; Secure")),
            (json!({"JWT_COOKIE_SAMESITE": "NONE"}), &nothing, format!("{session}; SameSite=None")),
            (json!({"JWT_SESSION_COOKIE": false}), &nothing, year.to_owned()),
            (json!({"JWT_SESSION_COOKIE": false}), &for_a_minute, minute.to_owned()),
            (json!({"JWT_COOKIE_DOMAIN": "example.com"}), &at_once, format!("Domain=example.org; {session}")),
            (
                json!({"JWT_ACCESS_COOKIE_PATH": "/a b", "JWT_ACCESS_CSRF_COOKIE_PATH": "/a b"}),
                &nothing,
                "HttpOnly; Path=/a%20b".to_owned(),
            ),
            (
                json!({"JWT_ACCESS_COOKIE_PATH": null, "JWT_ACCESS_CSRF_COOKIE_PATH": null}),
                &nothing,
                "HttpOnly".to_owned(),
            ),
        ] {
            let readable = expected.replace("HttpOnly; ", "").replace("HttpOnly", "");
            assert_eq!(set(options.clone(), arguments), [expected, readable], "{options}");
        }
    }

    #[test]
    fn csrf_cookies_are_left_out_where_they_are_switched_off() {
        for options in [json!({"JWT_CSRF_IN_COOKIES": false}), json!({"JWT_COOKIE_CSRF_PROTECT": false})] {
            assert_eq!(set(options.clone(), &CookieArguments::default()).len(), 1, "{options}");
            assert_eq!(jwt(options.clone()).unset_jwt_cookies(None).len(), 2, "{options}");
        }
        assert_eq!(jwt(json!({})).unset_jwt_cookies(None).len(), 4);
    }

    #[test]
    fn cookies_are_removed_where_they_were_set() {
        let jwt = jwt(json!({"JWT_COOKIE_DOMAIN": "example.com", "JWT_REFRESH_COOKIE_PATH": "/refresh"}));
        let fields = jwt.unset_refresh_cookies(None);
        let past = "Domain=example.com; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
        assert_eq!(attributes(&fields[0]), format!("{past}; HttpOnly; Path=/refresh"));
        assert_eq!(attributes(&fields[1]), format!("{past}; Path=/"));
        assert!(fields[0].to_str().unwrap().starts_with("refresh_token_cookie=;"));
    }

    #[test]
    fn only_a_valid_token_gets_into_cookies() {
        let jwt = jwt(json!({}));
        let refused = run(jwt.set_access_cookies("a.b.c", &CookieArguments::default())).unwrap_err();
        assert_eq!(refused.to_string(), "Invalid header padding");
    }
}
