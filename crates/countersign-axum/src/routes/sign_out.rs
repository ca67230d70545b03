//! Logging out.

use axum::extract::Request;
use countersign_http::{BodyTokens, ErrorCode, LogOutError, Requirement};
use http::StatusCode;

use super::{add_cookies, personal_empty, refused};
use crate::body::read_members;
use crate::extract::Installed;
use crate::pending::read_ahead_for;
use crate::reply::Reply;

/// `POST /v1/auth/logout`: ends the session of every credential that the request shows, wherever it is.
pub(super) async fn logout(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let (mut parts, body) = request.into_parts();
    if let Err(error) = auth.engine().check_cross_site(&parts, auth.rules().cookies()) {
        return Err(refused(&auth, &parts, error).await);
    }
    read_ahead_for(&auth, &mut parts, &Requirement::ANY).await;
    let mut members = read_members(&parts.headers, body).await?;
    let (refresh, access) = (members.text("refresh_token"), members.text("access_token"));
    members.check()?;

    let in_body = BodyTokens { refresh: refresh.as_deref(), access: access.as_deref() };
    let cookies = match auth.log_out(&parts, in_body).await {
        Ok(cookies) => cookies,
        Err(LogOutError::Refused(error)) => return Err(refused(&auth, &parts, error).await),
        Err(LogOutError::End(error)) => return Err(error.into()),
        Err(LogOutError::Gone) => return Err(Reply::error(ErrorCode::InvalidToken)),
    };
    let mut reply = personal_empty(StatusCode::NO_CONTENT);
    if let Some(cookies) = cookies {
        add_cookies(cookies, &mut reply);
    }
    Ok(reply)
}
