//! Logging out.

use axum::extract::Request;
use countersign_core::flow::{Check, CheckError};
use countersign_core::model::EndReason;
use countersign_http::{Auth, AuthError, ErrorCode, LocateError, Located, Location, Requirement};
use countersign_jwt::Claims;
use http::StatusCode;
use http::request::Parts;

use super::{clear_cookies, personal_empty, refused};
use crate::body::read_members;
use crate::extract::Installed;
use crate::pending::read_ahead_for;
use crate::reply::Reply;

/// `POST /v1/auth/logout`: ends the session of every credential that the request shows, wherever it is.
///
/// The signature must hold, else anybody could log anybody out; nothing else matters. Who logs out twice, or with an
/// expired token, wants to be logged out and is.
pub(super) async fn logout(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let (mut parts, body) = request.into_parts();
    if let Err(error) = auth.check_cross_site(&parts) {
        return Err(refused(&auth, &parts, error).await);
    }
    read_ahead_for(&auth, &mut parts, &Requirement::ANY).await;
    let mut members = read_members(&parts.headers, body).await?;
    let in_body = BodyTokens { refresh: members.text("refresh_token"), access: members.text("access_token") };
    members.check()?;

    let shown = match Shown::in_request(&auth, &parts, &in_body).await {
        Ok(shown) => shown,
        Err(error) => return Err(refused(&auth, &parts, error).await),
    };
    if shown.tokens.is_empty() {
        let nothing = match auth.authenticate(&parts, &Requirement::ANY).await {
            // A profile has its own words for it.
            Err(error) if auth.has_profile() => error,
            _ => AuthError::Missing,
        };
        return Err(refused(&auth, &parts, shown.refusal.unwrap_or(nothing)).await);
    }
    if !auth.sessions().end_by_tokens(shown.tokens, EndReason::LoggedOut).await? {
        // Signed by us, but its session is past its absolute expiry and gone.
        return Err(Reply::error(ErrorCode::InvalidToken));
    }
    let mut reply = personal_empty(StatusCode::NO_CONTENT);
    if shown.cookies_proven && auth.carries_cookies(&parts.headers) {
        clear_cookies(&auth, &parts.headers, &mut reply);
    }
    Ok(reply)
}

struct BodyTokens {
    refresh: Option<String>,
    access: Option<String>,
}

/// A request's credentials that hold.
struct Shown {
    tokens: Vec<Claims>,
    /// Why another does not: of several reasons, the one whose answer helps the client most.
    refusal: Option<AuthError>,
    /// No good cookie came without its CSRF value, so the cookies may be cleared.
    cookies_proven: bool,
}

impl Shown {
    /// Looks in all places. Only a malformed request is refused at once: what it means is anybody's guess.
    async fn in_request(auth: &Auth, parts: &Parts, in_body: &BodyTokens) -> Result<Self, AuthError> {
        let by_profile = [in_body.refresh.as_deref(), in_body.access.as_deref()];
        if let Some(shown) = auth.shown_by_profile(parts, by_profile).await {
            return Ok(Self {
                tokens: shown.tokens,
                refusal: shown.refusal.map(AuthError::from),
                cookies_proven: shown.cookies_proven,
            });
        }
        let mut shown = Self { tokens: Vec::new(), refusal: None, cookies_proven: true };
        let access_in_body = in_body.access.as_deref().filter(|token| !token.is_empty());
        let places = auth
            .refresh_locator()
            .each(&parts.headers, in_body.refresh.as_deref())
            .chain(access_in_body.map(|token| Ok(Located { token, location: Location::Body })))
            .chain(auth.access_locator().each(&parts.headers, None));
        for found in places {
            match found {
                Ok(located) => shown.add(auth, parts, &located).await,
                Err(error @ (LocateError::MalformedAuthorization | LocateError::SeveralTokens)) => {
                    return Err(error.into());
                }
                Err(error) => shown.refuse(error.into()),
            }
        }
        Ok(shown)
    }

    async fn add(&mut self, auth: &Auth, parts: &Parts, located: &Located<'_>) {
        let claims = match auth.sessions().verification().verify(located.token, Check::ENDING).await {
            Ok(claims) => claims,
            Err(error) => {
                self.refuse(AuthError::Token(error));
                return;
            }
        };
        if auth.needs_csrf(&parts.method, located.location)
            && let Err(error) = auth.check_csrf(parts, &claims)
        {
            self.cookies_proven = false;
            self.refuse(error);
            return;
        }
        self.tokens.push(claims);
    }

    /// A repeated cookie before all, because its answer expires it; then a missing CSRF value, because the client can
    /// mend that.
    fn refuse(&mut self, refusal: AuthError) {
        let rank = |refusal: &AuthError| match refusal {
            AuthError::Locate(LocateError::RepeatedCookie) => 2,
            AuthError::Csrf(_) => 1,
            // Worth repeating.
            AuthError::Token(CheckError::ViewTooOld(_) | CheckError::Store(_)) => 1,
            _ => 0,
        };
        if self.refusal.as_ref().is_none_or(|known| rank(known) <= rank(&refusal)) {
            self.refusal = Some(refusal);
        }
    }
}
