//! The routes by which signed-in users see their own account and end their own sessions.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request};
use countersign_core::flow::RevokeTokensError;
use countersign_core::model::{EndReason, UserSession};
use countersign_core::store::{SessionEnded, SessionPage};
use countersign_http::{Answer, Auth, AuthError, Authenticated, ErrorCode, Location, Requirement};
use countersign_jwt::{SessionId, TokenId};
use http::StatusCode;
use http::request::Parts;
use serde_json::Value;

use super::cursor::{self, PageQuery};
use super::{clear_cookies, personal, personal_empty, refused, unavailable};
use crate::body::read_members;
use crate::extract::{Installed, proven};
use crate::guard::try_to_prove;
use crate::reply::Reply;
use crate::wire::{RevokedBody, SessionBody, SessionsBody, UserBody};

/// `GET /v1/auth/me`
pub(super) async fn me(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let (mut parts, _) = request.into_parts();
    let caller = match proven(&mut parts, &Requirement::ACCESS).await {
        Ok(caller) => caller,
        Err(rejection) => return Err(Reply(rejection.answer().clone())),
    };
    match auth.signed_in_user(&caller).await {
        Ok(user) => personal(StatusCode::OK, &UserBody::from(user)),
        Err(error) => Err(refused(&auth, &parts, error).await),
    }
}

/// `GET /v1/auth/sessions`
pub(super) async fn sessions(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let (mut parts, _) = request.into_parts();
    let caller = authenticate(&auth, &mut parts).await?;
    let wanted = PageQuery::parse(parts.uri.query().unwrap_or_default())?;
    // The page is read with one row more than is shown, which tells whether there are more.
    let page = SessionPage { after: wanted.after, skip: 0, limit: wanted.limit + 1 };
    let mut sessions = auth.sessions().list(caller.claims().subject(), page).await?;
    let has_more = sessions.len() > wanted.limit;
    sessions.truncate(wanted.limit);
    let next = sessions.last().filter(|_| has_more).map(|last| cursor::write(last.into()));
    let current = current_session(&caller);
    let sessions = sessions.iter().map(|session| SessionBody::new(session, current)).collect();
    personal(StatusCode::OK, &SessionsBody { sessions, next })
}

/// `DELETE /v1/auth/sessions/{id}`
pub(super) async fn end_one(
    Installed(auth): Installed,
    id: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Reply, Reply> {
    let (mut parts, _) = request.into_parts();
    let caller = authenticate(&auth, &mut parts).await?;
    let user_id = caller.claims().subject().clone();
    // A session that is unknown, ended or another user's gets the same answer as text that is no id.
    let id = id.ok().and_then(|Path(id)| id.parse::<SessionId>().ok());
    let Some(id) = id else { return Err(Reply::error(ErrorCode::NotFound)) };
    let key = UserSession { user_id, id };
    if !auth.sessions().is_live(&key).await? {
        return Err(Reply::error(ErrorCode::NotFound));
    }
    let is_current = current_session(&caller) == Some(id);
    let reason = if is_current { EndReason::LoggedOut } else { EndReason::EndedByUser };
    if auth.sessions().end(key, reason).await? != SessionEnded::Now {
        return Err(Reply::error(ErrorCode::NotFound));
    }
    let mut reply = personal_empty(StatusCode::NO_CONTENT);
    if is_current && caller.location() == Location::Cookie {
        clear_cookies(&auth, &parts.headers, &mut reply);
    }
    Ok(reply)
}

/// `DELETE /v1/auth/sessions`
pub(super) async fn end_others(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let (mut parts, _) = request.into_parts();
    let caller = authenticate(&auth, &mut parts).await?;
    let user_id = caller.claims().subject().clone();
    auth.sessions().end_others(user_id, current_session(&caller)).await?;
    Ok(personal_empty(StatusCode::NO_CONTENT))
}

/// `DELETE /v1/auth/revoke-tokens`
pub(super) async fn revoke_tokens(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    const MOST: usize = 100;
    let (mut parts, body) = request.into_parts();
    let caller = authenticate(&auth, &mut parts).await?;
    let mut members = read_members(&parts.headers, body).await?;
    let tokens = members.required_list("tokens").unwrap_or_default();
    if tokens.is_empty() || tokens.len() > MOST {
        members.wrong("tokens", "must be a list of 1 to 100 token ids");
    } else if !tokens.iter().all(Value::is_string) {
        members.wrong("tokens", "must be a list of texts");
    }
    members.check()?;

    let ids: BTreeSet<TokenId> =
        tokens.iter().filter_map(Value::as_str).filter_map(|text| text.parse().ok()).collect();
    let revoked = ids.len();
    if revoked > 0 {
        let user_id = caller.claims().subject().clone();
        auth.sessions()
            .revoke_tokens(user_id, ids.into_iter().collect())
            .await
            .map_err(|error| revocation_refused(&auth, error))?;
    }
    personal(StatusCode::OK, &RevokedBody { revoked })
}

pub(super) async fn authenticate(auth: &Auth, parts: &mut Parts) -> Result<Authenticated, Reply> {
    match try_to_prove(auth, parts, &Requirement::ACCESS).await {
        Ok(Some(caller)) => Ok(caller),
        Ok(None) => Err(refused(auth, parts, AuthError::Missing).await),
        Err(error) => Err(refused(auth, parts, error).await),
    }
}

fn current_session(caller: &Authenticated) -> Option<SessionId> {
    caller.claims().session().map(|session| session.id)
}

fn revocation_refused(auth: &Auth, error: RevokeTokensError) -> Reply {
    match error {
        RevokeTokensError::TooMany { free_at } => {
            let wait = free_at.since(auth.engine().now()).max(Duration::from_secs(1));
            Reply(Answer::error(ErrorCode::TooManyAttempts).retry_after(wait))
        }
        error => unavailable(&error),
    }
}
