//! Verifying a token for another service: what nginx calls `auth_request` and Traefik `forwardAuth`.

use axum::extract::Request;
use countersign_http::{Answer, Auth, ErrorCode, Requirement};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use url::form_urlencoded;

use super::personal;
use crate::extract::Installed;
use crate::pending::read_ahead_for;
use crate::reply::Reply;

/// `GET /v1/auth/verify`: 200 with the claims of the access token, otherwise the refusal of a protected route.
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

/// The requirement that the query asks for; `None` if a parameter is unknown or names nothing, because a misspelt name
/// must not switch the check off.
fn requirement(auth: &Auth, parts: &Parts) -> Option<Requirement> {
    let query = parts.uri.query().unwrap_or_default();
    // Where tokens are taken from the query string, this route tolerates unknown parameters in it.
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

/// Whether a text is a `scope-token` (RFC 6749 §3.3). No token has any other scope, and the text goes into the log.
fn is_scope(scope: &str) -> bool {
    scope.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
}

const WRONG_QUERY: &str = "The query may name scopes, as scope=…, and nothing else.";

/// The method of the request that the proxy asks about, as far as it matters for cookies.
///
/// The proxy's own request is a GET, whatever the browser sent, and a cookie that suffices for a GET does not suffice
/// for a POST. Without a header that names the real method, the request therefore counts as unsafe. The header needs no
/// trust: a page of another site cannot add it to a request that it makes a browser send, and other clients gain
/// nothing by it.
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

/// The headers that name the real method. Traefik and Caddy send the first; for nginx the second is customary.
const NAMES: [HeaderName; 2] =
    [HeaderName::from_static("x-forwarded-method"), HeaderName::from_static("x-original-method")];
