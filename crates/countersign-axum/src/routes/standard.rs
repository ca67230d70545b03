//! Introspection (RFC 7662), revocation (RFC 7009) and metadata (RFC 8414).

use axum::extract::Request;
use countersign_http::ErrorCode;

use crate::body::read_bounded;
use crate::extract::Installed;
use crate::reply::Reply;

/// `POST /v1/auth/introspect`
pub(super) async fn introspect(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let (parts, body) = request.into_parts();
    let body = read_bounded(body).await?;
    Ok(auth.token_endpoints().introspect(&parts, &body).await.into())
}

/// `POST /v1/auth/revoke`
pub(super) async fn revoke(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let (parts, body) = request.into_parts();
    let body = read_bounded(body).await?;
    Ok(auth.token_endpoints().revoke(&parts, &body).await.into())
}

/// `GET /.well-known/oauth-authorization-server`, followed by the issuer's path.
pub(super) async fn metadata(Installed(auth): Installed, request: Request) -> Reply {
    match auth.token_endpoints().server_metadata(request.uri().path()) {
        Some(answer) => answer.unless_known(request.headers()).into(),
        None => Reply::error(ErrorCode::NotFound),
    }
}
