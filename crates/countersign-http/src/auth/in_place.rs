//! Going on with a login session in the request that shows it: [`InPlace`].

use countersign_core::flow::CheckError;
use countersign_core::model::Device;
use http::HeaderMap;
use http::request::Parts;

use super::{Auth, Authenticated, authenticated};
use crate::answer::{Answer, ErrorCode};
use crate::error::AuthError;
use crate::locate::{LocateError, Location};
use crate::login_sessions::{self, DeviceBinding, Pages};
use crate::renewal::Renewal;
use crate::requirement::Requirement;
use crate::return_to::ReturnTo;
use crate::rules::RenewedInPlace;
use crate::set_cookies::SetCookies;

/// A request that was let through as [`Auth::authenticate_optional`] does, with its login session renewed in place where
/// that was needed.
#[derive(Debug)]
pub struct InPlace {
    /// The credential that was accepted; `None` if the request may pass as nobody.
    pub authenticated: Option<Authenticated>,
    /// What the answer does to the cookies of the session.
    pub change: Option<CookieChange>,
}

/// What the answer to a request does to the cookies of its login session, unless the answer is an error or the handler
/// has signed somebody in or out (SEC-065).
#[derive(Clone, Debug)]
pub enum CookieChange {
    /// The session goes on with the pair of this renewal.
    Renew(Renewal),
    /// The session is over.
    Forget,
}

impl CookieChange {
    /// Carries the change out: advances the session where it goes on. Returns the cookies for the answer to a request
    /// with these headers; `None` if the session was ended or renewed elsewhere meanwhile.
    pub async fn carry_out(&self, auth: &Auth, headers: &HeaderMap) -> Option<SetCookies> {
        match self {
            Self::Renew(renewal) => renewal.commit().await.then(|| auth.set_cookies(renewal.pair())),
            Self::Forget => Some(SetCookies::forgetting_carried(auth.rules().cookies(), headers)),
        }
    }
}

impl InPlace {
    /// Lets a request through as [`Auth::authenticate_optional`] does, and goes on with a login session whose access
    /// token is missing or has expired, where the program has [login sessions](crate::AuthBuilder::login_sessions). The
    /// answer to the request then carries out the [`CookieChange`].
    ///
    /// Where the requirement is optional, cookies of a session that is over count as none.
    ///
    /// # Errors
    /// [`AuthError`]; [`Auth::refuse`] turns it into an answer.
    pub async fn authenticate(
        auth: &Auth,
        parts: &Parts,
        requirement: &Requirement,
        device: impl FnOnce() -> Device + Send,
    ) -> Result<Self, AuthError> {
        let found = auth.find(parts, requirement).await;
        let Some(pages) = &auth.engine().pages else {
            return match found? {
                None if !requirement.is_optional() => Err(AuthError::Missing),
                authenticated => Ok(Self { authenticated, change: None }),
            };
        };
        let refused = match found {
            Ok(Some(caller)) => {
                if auth.rules().renews_each_request(&caller)
                    && let Ok(Some(renewed)) =
                        auth.rules().renew_in_place(auth.engine(), parts, requirement, device()).await
                {
                    return Ok(Self::renewed(renewed));
                }
                return Ok(Self { authenticated: Some(caller), change: None });
            }
            Ok(None) => None,
            Err(error) if is_of_session(&error) => Some(error),
            Err(error) => return Err(error),
        };
        if auth.rules().decides_by_cookie(parts, requirement) {
            Box::pin(Self::go_on(auth, pages, parts, requirement, refused, device())).await
        } else if let Some(error) = refused {
            Err(error)
        } else if requirement.is_optional() {
            Ok(Self { authenticated: None, change: None })
        } else {
            Err(AuthError::Missing)
        }
    }

    /// Goes on with the login session of a request whose access token is missing or `refused`.
    async fn go_on(
        auth: &Auth,
        pages: &Pages,
        parts: &Parts,
        requirement: &Requirement,
        mut refused: Option<AuthError>,
        device: Device,
    ) -> Result<Self, AuthError> {
        let may_go_on = match &refused {
            None
            | Some(
                AuthError::Token(CheckError::Invalid(_))
                | AuthError::Locate(LocateError::NotAToken(Location::Cookie)),
            ) => true,
            Some(AuthError::OtherClient) => pages.sessions.binding() == DeviceBinding::Basic,
            // What was revoked was revoked on purpose.
            Some(_) => false,
        };
        if may_go_on {
            match auth.rules().renew_in_place(auth.engine(), parts, requirement, device).await {
                Ok(Some(renewed)) => return Ok(Self::renewed(renewed)),
                Ok(None) => {}
                Err(error) if is_of_session(&error) => refused = Some(refused.unwrap_or(error)),
                Err(error) => return Err(error),
            }
        }
        let cookies = auth.rules().cookies();
        if !requirement.is_optional() || login_sessions::asks_again(cookies, parts, refused.as_ref()) {
            return Err(refused.unwrap_or(AuthError::Missing));
        }
        let is_over = refused.is_some_and(|error| login_sessions::is_over(cookies, &parts.headers, &error));
        Ok(Self { authenticated: None, change: is_over.then_some(CookieChange::Forget) })
    }

    fn renewed(RenewedInPlace { vouched, renewal }: RenewedInPlace) -> Self {
        Self { authenticated: Some(authenticated(vouched)), change: Some(CookieChange::Renew(renewal)) }
    }

    /// The answer that makes a browser come again with the refresh token that it withheld from this request, which was
    /// refused with `error`: another site's link has led here, or the cookie's path keeps it from this page. `None` if the
    /// browser has withheld none, or the program has no [login sessions](crate::AuthBuilder::login_sessions).
    ///
    /// [`Auth::refuse`] gives this answer where a page refuses strangers. A program asks for it where a page is for
    /// strangers too, or where it answers refusals itself.
    #[must_use]
    pub fn come_again(auth: &Auth, parts: &Parts, error: &AuthError) -> Option<Answer> {
        let pages = auth.engine().pages.as_ref()?;
        pages.come_again(auth.rules().cookies(), parts, error, auth.engine().now())
    }

    /// Renews the session of a browser that a page has sent here, because the refresh cookie's path keeps the cookie from
    /// the page, and sends the browser back to the page (see [`LoginSessions`](crate::LoginSessions)). `None` if the
    /// program has no such sessions, or has not sent the browser.
    pub async fn renew_for_page(auth: &Auth, parts: &Parts, device: Device) -> Option<Answer> {
        let pages = auth.engine().pages.as_ref()?;
        let page = pages.way_back(parts, auth.engine().now())?;
        let cookies = auth.rules().cookies();
        let requirement = Requirement::ACCESS;
        match auth.rules().renew_in_place(auth.engine(), parts, &requirement, device).await {
            Ok(Some(RenewedInPlace { renewal, .. })) => {
                let mut answer = Answer::see_other(page.as_str());
                if let Some(cookies) = CookieChange::Renew(renewal).carry_out(auth, &parts.headers).await
                    && let Err(error) = cookies.apply(answer.headers_mut())
                {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "cookies could not be set");
                }
                Some(answer)
            }
            // The browser withholds the cookie from other sites; it sends the cookie when our own page asks.
            Ok(None) if login_sessions::is_from_elsewhere(&parts.headers) => {
                Some(login_sessions::again(&ReturnTo::of(&parts.uri)?))
            }
            Ok(None) => Some(pages.stay_out(&page)),
            Err(error) if is_of_session(&error) => {
                let mut answer = pages.stay_out(&page);
                login_sessions::forget(cookies, &parts.headers, &mut answer);
                Some(answer)
            }
            Err(error) => Some(auth.refuse(parts, Some(&requirement), &error).await),
        }
    }
}

/// Whether an error says that a session's token is not accepted. A cookie that came twice is another matter.
fn is_of_session(error: &AuthError) -> bool {
    error.code() == ErrorCode::InvalidToken
        && !matches!(error, AuthError::Locate(LocateError::RepeatedCookie))
}
