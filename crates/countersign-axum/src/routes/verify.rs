//! Asking on behalf of another service: what nginx calls `auth_request` and Traefik `forwardAuth`.

use axum::extract::Request;
use countersign_http::{Answer, Auth, ErrorCode, Requirement};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use url::form_urlencoded;

use super::personal;
use crate::extract::Installed;
use crate::pending::read_ahead_for;
use crate::reply::Reply;

/// `GET /v1/auth/verify`: 200 with the claims of the access token, else as a protected route.
///
/// `?scope=…`, which the proxy's configuration may add, names scopes that the token must have.
pub(super) async fn verify(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let (mut parts, _) = request.into_parts();
    parts.method = judged_method(&parts.headers);
    let requirement = match requirement(&auth, &parts) {
        Some(requirement) => requirement,
        None => return Err(Reply(Answer::error_with(ErrorCode::InvalidRequest, WRONG_QUERY))),
    };
    read_ahead_for(&auth, &mut parts, &requirement).await;
    match auth.authenticate(&parts, &requirement).await {
        Ok(caller) => personal(StatusCode::OK, &caller.claims().to_map()),
        Err(error) => Err(Reply(auth.refuse(&parts, Some(&requirement), &error).await)),
    }
}

/// `None` for a query that asks for something else, or for nothing: a misspelt name must not switch the check off.
fn requirement(auth: &Auth, parts: &Parts) -> Option<Requirement> {
    let query = parts.uri.query().unwrap_or_default();
    // Where tokens are taken from the query, its other parameters are not ours to judge.
    let may_hold_tokens = auth.rules().looks_in_query();
    let mut requirement = Requirement::ACCESS;
    for (name, scopes) in form_urlencoded::parse(query.as_bytes()) {
        if name == "scope" {
            let mut scopes = scopes.split_ascii_whitespace().peekable();
            scopes.peek()?;
            for scope in scopes {
                requirement = requirement.scope(Some(scope).filter(|scope| is_scope(scope))?);
            }
        } else if !may_hold_tokens {
            return None;
        }
    }
    Some(requirement)
}

/// A `scope-token` of RFC 6749 §3.3: no token has another, and the text goes into the log.
fn is_scope(scope: &str) -> bool {
    scope.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
}

const WRONG_QUERY: &str = "The query may name scopes, as scope=…, and nothing else.";

/// The method that the request behind this one has, as far as it matters for cookies.
///
/// This request is a GET, whatever the browser sent to the proxy, and a cookie that is good for a GET is not enough for
/// a POST. So without word of the real method it counts as unsafe. No trust is needed in who names it: a page of another
/// site cannot add these headers to what it makes a browser send, and everybody else has no use for it.
fn judged_method(headers: &HeaderMap) -> Method {
    let named = NAMES.into_iter().flat_map(|name| headers.get_all(name));
    let mut safe = None;
    for name in named {
        match Method::from_bytes(name.as_bytes()) {
            Ok(method) if method.is_safe() => safe = Some(method),
            Ok(method) => return method,
            Err(_) => return Method::POST,
        }
    }
    safe.unwrap_or(Method::POST)
}

/// Traefik and Caddy send the first; for nginx the second is customary.
const NAMES: [HeaderName; 2] =
    [HeaderName::from_static("x-forwarded-method"), HeaderName::from_static("x-original-method")];
