//! Exchanging a refresh token.

use axum::extract::Request;
use countersign_core::flow::Renewed;
use countersign_http::{Auth, ErrorCode, InPlace, Location, NewTokens, Requirement, SetCookies};
use http::StatusCode;

use super::{device, internal, pair_reply, personal, refused};
use crate::body::read_members;
use crate::extract::Installed;
use crate::pending::read_ahead_for;
use crate::reply::Reply;
use crate::wire::RenewalBody;

/// `POST /v1/auth/refresh`
pub(super) async fn refresh(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let (mut parts, body) = request.into_parts();
    if let Err(error) = auth.engine().check_cross_site(&parts, auth.rules().cookies()) {
        return Err(refused(&auth, &parts, error).await);
    }
    read_ahead_for(&auth, &mut parts, &Requirement::REFRESH).await;
    let mut members = read_members(&parts.headers, body).await?;
    let in_body = members.text("refresh_token");
    members.check()?;

    let exchanged = match auth.refresh(&parts, in_body.as_deref(), device(&parts)).await {
        Ok(exchanged) => exchanged,
        Err(error) => return Err(refused(&auth, &parts, error).await),
    };
    let by_cookie = exchanged.location == Location::Cookie;
    match exchanged.tokens {
        NewTokens::Pair(pair, user) => pair_reply(&auth, StatusCode::OK, &pair, user, by_cookie, None),
        NewTokens::Access(renewed) => access_reply(&auth, &renewed, by_cookie),
    }
}

/// `GET /v1/auth/refresh/page`: renews a browser's session on the way to a page that the refresh cookie does not reach.
pub(super) async fn page(Installed(auth): Installed, request: Request) -> Reply {
    let (parts, _) = request.into_parts();
    match InPlace::renew_for_page(&auth, &parts, device(&parts)).await {
        Some(answer) => Reply(answer),
        None => Reply::error(ErrorCode::NotFound),
    }
}

/// The answer with an access token: in the body, or in a cookie if the refresh token came in one.
fn access_reply(auth: &Auth, renewed: &Renewed, by_cookie: bool) -> Result<Reply, Reply> {
    let access_token = (!by_cookie).then_some(renewed.access_token.as_str());
    let mut reply = personal(StatusCode::OK, &RenewalBody { access_token })?;
    if by_cookie {
        let cookies = SetCookies::of_access(auth.rules().cookies(), renewed, auth.engine().now());
        cookies.apply(reply.0.headers_mut()).map_err(|error| internal(&error))?;
    }
    Ok(reply)
}
