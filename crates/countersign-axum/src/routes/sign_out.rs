//! Logging out.

use axum::extract::Request;
use countersign_core::session::{AccessError, EndReason, SessionKey};
use countersign_core::store::SessionEnded;
use countersign_http::{Auth, AuthError, ErrorCode, LocateError, Located, Location};
use http::StatusCode;
use http::request::Parts;

use super::{clear_cookies, internal, personal_empty};
use crate::body::read_members;
use crate::extract::Installed;
use crate::reply::Reply;

/// `POST /v1/auth/logout`: ends the session of every credential that the request shows, wherever it is.
///
/// The signature must hold, else anybody could log anybody out; nothing else matters. Who logs out twice, or with an
/// expired token, wants to be logged out and is.
pub(super) async fn logout(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let (parts, body) = request.into_parts();
    let refused = |error: AuthError| Reply(auth.answer(&error));
    auth.check_cross_site(&parts).map_err(refused)?;
    let mut members = read_members(&parts.headers, body).await?;
    let in_body = BodyTokens { refresh: members.text("refresh_token"), access: members.text("access_token") };
    members.check()?;

    let shown = Shown::in_request(&auth, &parts, &in_body).map_err(refused)?;
    if shown.sessions.is_empty() {
        return Err(refused(shown.refusal.unwrap_or(AuthError::Missing)));
    }
    if !end_all(&auth, shown.sessions).await? {
        // Signed by us, but its session is past its absolute expiry and gone.
        return Err(Reply::error(ErrorCode::InvalidToken));
    }
    let mut reply = personal_empty(StatusCode::NO_CONTENT);
    if shown.cookies_proven && auth.carries_cookies(&parts.headers) {
        clear_cookies(&auth, &mut reply);
    }
    Ok(reply)
}

/// Ends the sessions, all of them even if the client hangs up after the first; returns whether any is known.
async fn end_all(auth: &Auth, sessions: Vec<SessionKey>) -> Result<bool, Reply> {
    let auth = auth.clone();
    let ending = tokio::spawn(async move {
        let mut any_known = false;
        for key in sessions {
            any_known |= auth.sessions().end(key, EndReason::LoggedOut).await? != SessionEnded::Unknown;
        }
        Ok(any_known)
    });
    ending.await.unwrap_or_else(|panicked| Err(internal(&panicked)))
}

struct BodyTokens {
    refresh: Option<String>,
    access: Option<String>,
}

/// The sessions that a request's credentials name.
struct Shown {
    sessions: Vec<SessionKey>,
    /// Why a credential names none: the last one, but a repeated cookie before all, because its answer expires it.
    refusal: Option<AuthError>,
    /// No good cookie came without its CSRF value, so the cookies may be cleared.
    cookies_proven: bool,
}

impl Shown {
    /// Looks in all places. Only a malformed request is refused at once: what it means is anybody's guess.
    fn in_request(auth: &Auth, parts: &Parts, in_body: &BodyTokens) -> Result<Self, AuthError> {
        let mut shown = Self { sessions: Vec::new(), refusal: None, cookies_proven: true };
        let access_in_body = in_body.access.as_deref().filter(|token| !token.is_empty());
        let places = auth
            .refresh_locator()
            .each(&parts.headers, in_body.refresh.as_deref())
            .chain(access_in_body.map(|token| Ok(Located { token, location: Location::Body })))
            .chain(auth.access_locator().each(&parts.headers, None));
        for found in places {
            match found {
                Ok(located) => shown.add(auth, parts, &located),
                Err(error @ (LocateError::MalformedAuthorization | LocateError::SeveralTokens)) => {
                    return Err(error.into());
                }
                Err(error) => shown.refuse(error.into()),
            }
        }
        Ok(shown)
    }

    fn add(&mut self, auth: &Auth, parts: &Parts, located: &Located<'_>) {
        let claims = match auth.sessions().verify_for_end(located.token) {
            Ok(claims) => claims,
            Err(error) => {
                self.refuse(AuthError::Token(AccessError::Invalid(error)));
                return;
            }
        };
        if located.needs_csrf(&parts.method)
            && let Err(error) = Auth::check_csrf(&parts.headers, &claims)
        {
            self.cookies_proven = false;
            self.refuse(error);
            return;
        }
        if let Some(session) = claims.session() {
            let key = SessionKey { user_id: claims.subject().clone(), id: session.id };
            if !self.sessions.contains(&key) {
                self.sessions.push(key);
            }
        }
    }
    fn refuse(&mut self, refusal: AuthError) {
        if !matches!(self.refusal, Some(AuthError::Locate(LocateError::RepeatedCookie))) {
            self.refusal = Some(refusal);
        }
    }
}
