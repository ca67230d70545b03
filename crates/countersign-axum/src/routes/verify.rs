//! Verifying a token for another service: what nginx calls `auth_request`, Traefik `forwardAuth` and Caddy
//! `forward_auth`.

use axum::extract::Request;
use countersign_http::{
    Answer, Auth, CrossSite, ErrorCode, ForPrograms, RequestedUri, Requirement, ReturnTo, ThroughProxy,
};
use countersign_jwt::{Claims, Timestamp};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use serde_json::Value;
use url::form_urlencoded;

use super::{personal, personal_empty};
use crate::extract::Installed;
use crate::pending::read_ahead_for;
use crate::reply::Reply;

/// `GET /v1/auth/verify`: 200 with the claims of the access token and the identity in headers, otherwise the refusal of a
/// protected route.
///
/// The query is the proxy's configuration: [`Asked`].
pub(super) async fn verify(Installed(auth): Installed, request: Request) -> Result<Reply, Reply> {
    let (mut parts, _) = request.into_parts();
    let Some(asked) = Asked::of(&auth, &parts) else {
        return Err(Reply(Answer::error_with(ErrorCode::InvalidRequest, WRONG_QUERY)));
    };
    if asked.preflight && is_preflight(&parts.headers) {
        let mut reply = personal_empty(StatusCode::OK);
        identify(reply.0.headers_mut(), None);
        return Ok(reply);
    }
    parts.method = judged_method(&parts.headers);
    if asked.forms && auth.engine().cross_site(&parts) == CrossSite::Passes {
        // The browser has said that a page of ours sent the request. The proxy keeps the form's CSRF value from us.
        parts.method = if parts.method.is_safe() { parts.method } else { Method::GET };
    }
    read_ahead_for(&auth, &mut parts, &asked.requirement).await;
    match auth.authenticate(&parts, &asked.requirement).await {
        Ok(caller) => {
            let mut reply = personal(StatusCode::OK, &caller.claims().to_map())?;
            identify(reply.0.headers_mut(), Some((caller.claims(), auth.engine().now())));
            Ok(reply)
        }
        Err(error) => {
            if asked.redirect
                && let Some(page) = original_page(&parts.headers)
            {
                parts.method = judged_method(&parts.headers);
                parts.extensions.remove::<ForPrograms>();
                parts.extensions.insert(ThroughProxy);
                parts.extensions.insert(RequestedUri(page));
            }
            let mut answer = auth.refuse(&parts, Some(&asked.requirement), &error).await;
            if answer.status().is_success() {
                // To a proxy, any success means that the request may pass.
                answer = Answer::error(error.code());
            }
            Err(Reply(if asked.nginx { for_nginx(answer) } else { answer }))
        }
    }
}

/// What the proxy's configuration asks for, by the query.
struct Asked {
    requirement: Requirement,
    /// `redirect=yes`: browsers without a session are sent to sign in.
    redirect: bool,
    /// `preflight=allow`: the preflights of CORS pass, as nobody.
    preflight: bool,
    /// `csrf=origin`: forms of own pages pass without their CSRF value.
    forms: bool,
    /// `for=nginx`: a refusal is 401 or 403, because nginx makes a 500 of all others.
    nginx: bool,
}

impl Asked {
    /// What the query asks for; `None` if a parameter is unknown or names nothing, because a misspelt name must not switch
    /// the check off.
    fn of(auth: &Auth, parts: &Parts) -> Option<Self> {
        let query = parts.uri.query().unwrap_or_default();
        // Where tokens are taken from the query string, this route tolerates unknown parameters in it.
        let may_hold_tokens = auth.rules().looks_in_query();
        let mut asked = Self {
            requirement: Requirement::ACCESS,
            redirect: false,
            preflight: false,
            forms: false,
            nginx: false,
        };
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match (&*name, &*value) {
                ("scope", scopes) => {
                    let mut scopes = scopes.split_ascii_whitespace().peekable();
                    scopes.peek()?;
                    for scope in scopes {
                        let scope = Some(scope).filter(|scope| is_scope(scope))?;
                        asked.requirement = asked.requirement.scope(scope);
                    }
                }
                ("role", role) if !role.trim().is_empty() && !role.chars().any(char::is_control) => {
                    asked.requirement = asked.requirement.role(role);
                }
                ("redirect", "yes") => asked.redirect = true,
                ("preflight", "allow") => asked.preflight = true,
                ("csrf", "origin") => asked.forms = true,
                ("for", "nginx") => asked.nginx = true,
                ("role" | "redirect" | "preflight" | "csrf" | "for", _) => return None,
                _ if may_hold_tokens => {}
                _ => return None,
            }
        }
        Some(asked)
    }
}

/// Whether a text is a `scope-token` (RFC 6749 §3.3). No token has any other scope, and the text goes into the log.
fn is_scope(scope: &str) -> bool {
    scope.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
}

const WRONG_QUERY: &str = "The query may have scope=…, role=…, redirect=yes, preflight=allow, csrf=origin and for=nginx, and nothing else.";

/// Names who is let through. Every header is there every time, so that a proxy that copies them replaces what the client
/// has sent under these names.
fn identify(headers: &mut HeaderMap, caller: Option<(&Claims, Timestamp)>) {
    let mut values = [const { String::new() }; 5];
    if let Some((claims, now)) = caller {
        let others = claims.others();
        values = [
            safe(claims.subject().as_str()),
            claims.session().map(|session| safe(&session.id.to_string())).unwrap_or_default(),
            texts(others.get("scope"), true),
            texts(others.get("roles"), false),
            if claims.freshness().is_fresh(now) { "yes" } else { "no" }.to_owned(),
        ];
    }
    for (name, value) in IDENTITY.into_iter().zip(values) {
        // Nothing but visible ASCII and spaces is left, so the empty value is never taken.
        headers.insert(name, HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("")));
    }
}

/// The headers of [`identify`].
const IDENTITY: [HeaderName; 5] = [
    HeaderName::from_static("x-auth-user"),
    HeaderName::from_static("x-auth-session"),
    HeaderName::from_static("x-auth-scope"),
    HeaderName::from_static("x-auth-roles"),
    HeaderName::from_static("x-auth-fresh"),
];

/// A claim that is a list of texts, with spaces between them. A scope may also be one text that has the spaces already.
fn texts(claim: Option<&Value>, has_spaces: bool) -> String {
    let list: Vec<&str> = match claim {
        Some(Value::String(text)) if has_spaces => text.split_ascii_whitespace().collect(),
        Some(Value::Array(texts)) => texts.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    list.into_iter().map(safe).collect::<Vec<_>>().join(" ")
}

/// A text as visible ASCII: every other byte of its UTF-8, and `%`, is percent-encoded (RFC 3986 §2.1).
fn safe(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut safe, byte| {
        if byte.is_ascii_graphic() && byte != b'%' {
            safe.push(char::from(byte));
        } else {
            safe.push_str(&format!("%{byte:02X}"));
        }
        safe
    })
}

/// A refusal that nginx's `auth_request` understands: it knows 401 and 403, and where a browser is to go is said beside.
/// Faults of the server stay what they are.
fn for_nginx(answer: Answer) -> Answer {
    let status = answer.status();
    let is_known = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status);
    if is_known || status.is_server_error() {
        return answer;
    }
    let mut refusal = Answer::error(if status.is_redirection() {
        ErrorCode::MissingToken
    } else {
        ErrorCode::InvalidToken
    });
    if let Some(page) = answer.headers().get(header::LOCATION) {
        refusal.headers_mut().insert(REDIRECT, page.clone());
    }
    for field in answer.headers().get_all(header::SET_COOKIE) {
        refusal.headers_mut().append(header::SET_COOKIE, field.clone());
    }
    refusal
}

const REDIRECT: HeaderName = HeaderName::from_static("x-auth-redirect");

/// Whether the proxy asks about the preflight of a CORS request (Fetch §3.3.2). Every header that names the method must
/// name OPTIONS: a client may have sent the one that the proxy does not write.
fn is_preflight(headers: &HeaderMap) -> bool {
    let mut methods = NAMES.into_iter().flat_map(|name| headers.get_all(name)).peekable();
    methods.peek().is_some()
        && methods.all(|method| method == "OPTIONS")
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The page that the browser asked the proxy for. `None` if the proxy does not say, or if what is said does not agree.
fn original_page(headers: &HeaderMap) -> Option<Uri> {
    let mut named =
        ORIGINAL_PAGE.into_iter().flat_map(|name| headers.get_all(name)).filter(|uri| !uri.is_empty());
    let page = named.next()?;
    if named.any(|other| other != page) {
        return None;
    }
    ReturnTo::parse(page.to_str().ok()?)?.as_str().parse().ok()
}

/// The headers that name the original page. Traefik and Caddy send the first; for nginx the second is customary.
const ORIGINAL_PAGE: [HeaderName; 2] =
    [HeaderName::from_static("x-forwarded-uri"), HeaderName::from_static("x-original-uri")];

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
