//! Exchanging a refresh token.

use axum::extract::Request;
use countersign_http::{Auth, AuthError, Location};
use http::StatusCode;

use super::{device, pair_reply};
use crate::body::read_members;
use crate::extract::Installed;
use crate::reply::Reply;

/// `POST /v1/auth/refresh`
pub(super) async fn refresh(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let (parts, body) = request.into_parts();
    let refused = |error: AuthError| Reply(auth.answer(&error));
    auth.check_cross_site(&parts).map_err(refused)?;
    let mut members = read_members(&parts.headers, body).await?;
    let in_body = members.text("refresh_token");
    members.check()?;

    let located = auth.refresh_locator().locate(&parts.headers, in_body.as_deref());
    let located =
        located.map_err(|error| refused(error.into()))?.ok_or_else(|| refused(AuthError::Missing))?;
    let token = auth
        .sessions()
        .verify_refresh(located.token)
        .map_err(|error| refused(AuthError::Refresh(error.into())))?;
    if located.needs_csrf(&parts.method) {
        Auth::check_csrf(&parts.headers, &token).map_err(refused)?;
    }

    let refreshed = auth.accounts().refresh(&token, device(&parts)).await;
    let (refreshed, user) = refreshed.map_err(|error| refused(error.into()))?;
    let by_cookie = located.location == Location::Cookie;
    pair_reply(&auth, StatusCode::OK, &refreshed.pair, &user, by_cookie)
}
