//! Cookies as a part of a handler's own answer.

use std::fmt;
use std::time::Duration;

use countersign_core::flow::{EndError, Pair, Renewed};
use countersign_core::model::EndReason;
use countersign_jwt::Claims;
use http::{HeaderMap, HeaderValue, header};

use crate::answer::{no_store, vary_personal};
use crate::auth::Auth;
use crate::cookie::{CookieLookup, find_cookie};
use crate::cookie_config::{CookieError, CookieKind};

/// `Set-Cookie` fields for an answer, with what keeps that answer out of caches (SEC-054).
///
/// With the feature `axum` it is a part of a response: `(auth.set_cookies(&pair), Redirect::to("/"))`. Elsewhere
/// [`SetCookies::apply`] adds it to an answer's headers.
#[derive(Clone)]
#[must_use = "cookies are set by the answer that they are added to"]
pub struct SetCookies(Result<Vec<HeaderValue>, CookieError>);

impl Auth {
    /// The cookies of a pair that was issued for cookies: access, refresh and CSRF, each for as long as what it carries.
    /// Whether the request may be given cookies is for [`Auth::check_cookie_host`] to say.
    pub fn set_cookies(&self, pair: &Pair) -> SetCookies {
        if let Some(profile) = &self.shared.profile {
            let csrf = pair.csrf.as_deref();
            let fields = profile.set_cookies(&pair.access_token, Some(&pair.refresh_token), csrf);
            return SetCookies(fields.ok_or(CookieError::NotForCookies));
        }
        let now = self.clock().now();
        let access = Duration::from_secs(pair.expires_in(now));
        let refresh = Duration::from_secs(pair.refresh_expires_in(now));
        let mut cookies = vec![
            self.cookies().set(CookieKind::Access, &pair.access_token, access),
            self.cookies().set(CookieKind::Refresh, &pair.refresh_token, refresh),
        ];
        match &pair.csrf {
            Some(csrf) if self.cookies().has_csrf_cookie() => {
                cookies.push(self.cookies().set(CookieKind::Csrf, csrf, refresh));
            }
            Some(_) => {}
            None => cookies.push(Err(CookieError::NotForCookies)),
        }
        SetCookies(cookies.into_iter().collect())
    }

    /// Logs out: ends the session of verified claims, and makes the browser forget its cookies.
    ///
    /// # Errors
    /// [`EndError`] when the store cannot answer; the session may live on then.
    pub async fn sign_out(&self, claims: &Claims) -> Result<SetCookies, EndError> {
        self.sessions().end_by_tokens(vec![claims.clone()], EndReason::LoggedOut).await?;
        Ok(self.unset_cookies())
    }

    /// The cookies of an access token that was [renewed](Auth::renew); the refresh token's stay as they are.
    pub fn set_access_cookies(&self, renewed: &Renewed) -> SetCookies {
        let profile = self.shared.profile.as_ref();
        let fields = profile
            .and_then(|profile| profile.set_cookies(&renewed.access_token, None, renewed.csrf.as_deref()));
        SetCookies(fields.ok_or(CookieError::NotForCookies))
    }

    /// Makes a browser forget the access, refresh and CSRF cookies, as a logout does.
    pub fn unset_cookies(&self) -> SetCookies {
        if let Some(profile) = &self.shared.profile {
            return SetCookies(Ok(profile.unset_cookies()));
        }
        SetCookies(Ok(self.cookies().expire_all().into()))
    }

    /// The same for a request with these headers: if a token cookie came twice, copies that were set for this host alone
    /// are forgotten as well. The one that stayed could be of a session that lives.
    pub fn unset_carried_cookies(&self, headers: &HeaderMap) -> SetCookies {
        let is_repeated = [CookieKind::Access, CookieKind::Refresh]
            .into_iter()
            .filter_map(|kind| self.cookie_name(kind))
            .any(|name| find_cookie(headers, name) == CookieLookup::Repeated);
        let SetCookies(unset) = self.unset_cookies();
        if !is_repeated {
            return SetCookies(unset);
        }
        let repeated = match &self.shared.profile {
            Some(profile) => profile.expire_repeated(),
            None => self.cookies().expire_repeated(),
        };
        SetCookies(unset.map(|mut fields| {
            let others: Vec<_> = repeated.into_iter().filter(|field| !fields.contains(field)).collect();
            fields.extend(others);
            fields
        }))
    }
}

impl SetCookies {
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

#[cfg(feature = "axum")]
mod parts {
    use axum_core::response::{IntoResponse, IntoResponseParts, Response, ResponseParts};

    use super::SetCookies;
    use crate::answer::{Answer, ErrorCode};

    impl IntoResponseParts for SetCookies {
        type Error = Response;

        fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Response> {
            match self.apply(parts.headers_mut()) {
                Ok(()) => Ok(parts),
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "cookies could not be set");
                    Err(http::Response::<bytes::Bytes>::from(Answer::error(ErrorCode::InternalError))
                        .map(axum_core::body::Body::from))
                }
            }
        }
    }

    impl IntoResponse for SetCookies {
        fn into_response(self) -> Response {
            (self, ()).into_response()
        }
    }
}
