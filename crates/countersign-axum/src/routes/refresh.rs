//! Exchanging a refresh token.

use axum::extract::Request;
use countersign_core::flow::{Check, Refreshed};
use countersign_http::profile::Renewal;
use countersign_http::{Auth, AuthError, Location, Requirement, SignedInUser};
use http::StatusCode;
use http::request::Parts;

use super::{device, internal, pair_reply, personal, refused};
use crate::body::read_members;
use crate::extract::Installed;
use crate::pending::read_ahead_for;
use crate::reply::Reply;
use crate::wire::RenewalBody;

/// `POST /v1/auth/refresh`
pub(super) async fn refresh(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let (mut parts, body) = request.into_parts();
    if let Err(error) = auth.check_cross_site(&parts) {
        return Err(refused(&auth, &parts, error).await);
    }
    read_ahead_for(&auth, &mut parts, &Requirement::REFRESH).await;
    let mut members = read_members(&parts.headers, body).await?;
    let in_body = members.text("refresh_token");
    members.check()?;

    match auth.renew(&parts, in_body.as_deref(), device(&parts)).await {
        None => {}
        Some(Ok(renewal)) => return renewal_reply(&auth, &renewal),
        Some(Err(error)) => return Err(refused(&auth, &parts, error).await),
    }
    match exchange(&auth, &parts, in_body.as_deref()).await {
        Ok((refreshed, user, location)) => {
            let by_cookie = location == Location::Cookie;
            pair_reply(&auth, StatusCode::OK, &refreshed.pair, user, by_cookie)
        }
        Err(error) => Err(refused(&auth, &parts, error).await),
    }
}

/// An access token by a profile's rules: in the body, or in a cookie if the refresh token came in one.
fn renewal_reply(auth: &Auth, renewal: &Renewal) -> Result<Reply, Reply> {
    let by_cookie = renewal.location == Location::Cookie;
    let access_token = (!by_cookie).then_some(renewal.renewed.access_token.as_str());
    let mut reply = personal(StatusCode::OK, &RenewalBody { access_token })?;
    if by_cookie {
        let cookies = auth.set_access_cookies(&renewal.renewed);
        cookies.apply(reply.0.headers_mut()).map_err(|error| internal(&error))?;
    }
    Ok(reply)
}

async fn exchange(
    auth: &Auth,
    parts: &Parts,
    in_body: Option<&str>,
) -> Result<(Refreshed, SignedInUser, Location), AuthError> {
    let located = auth.refresh_locator().locate(&parts.headers, in_body)?.ok_or(AuthError::Missing)?;
    let token =
        auth.sessions().verification().verify(located.token, Check::REFRESH.even_if_revoked()).await?;
    auth.ask_application(&token, false).await?;
    if auth.needs_csrf(&parts.method, located.location) {
        auth.check_csrf(parts, &token)?;
    }
    if located.location == Location::Cookie {
        auth.check_cookie_host(parts)?;
    }
    let (refreshed, user) = auth.refresh(&token, device(parts)).await?;
    Ok((refreshed, user, located.location))
}
