//! `GET /v1/auth/whoami`: what this server sees of the caller, for whoever sets up a proxy (SEC-152).

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use countersign_axum::Reply;
use countersign_http::{Answer, Caller, ErrorCode, ForwardedHeader, HowFound, TrustedProxies, no_store};
use http::request::Parts;
use http::{HeaderMap, HeaderName, StatusCode, header};

/// The path of the route.
pub(crate) const PATH: &str = "/v1/auth/whoami";

/// What the server sees of the caller.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Caller)]
pub(crate) struct WhoAmI {
    /// The client's address.
    #[schema(required)]
    address: Option<String>,
    /// `connection`, `proxy_protocol`, `forwarded` or `x_forwarded_for`.
    #[schema(required)]
    found_by: Option<&'static str>,
    scheme: String,
    #[schema(required)]
    host: Option<String>,
    /// Whether this server trusts any proxy.
    trusted_proxies: bool,
    /// Whether a trusted proxy has passed this request on.
    through_trusted_proxy: bool,
    /// The headers of proxies that came with the request and had no effect.
    ignored_headers: Vec<String>,
    /// The reason why the address is a proxy's.
    #[schema(required)]
    problem: Option<String>,
}

/// Answers with what is known of the caller, and nothing else.
pub(crate) async fn whoami(State(proxies): State<TrustedProxies>, parts: Parts) -> Response {
    let caller = parts.extensions.get::<Caller>();
    let is_passed_on = caller.is_some_and(|caller| caller.is_passed_on);
    let by_protocol = caller.is_some_and(|caller| caller.client.found() == HowFound::ProxyProtocol);
    let told_scheme = caller.and_then(|caller| caller.scheme.as_ref());
    let told_host = caller.and_then(|caller| caller.host.as_ref()).map(ToString::to_string);
    let ignored_headers = ignored(&parts.headers, &proxies, is_passed_on);
    let body = WhoAmI {
        address: caller.map(|caller| caller.client.address().to_string()),
        found_by: caller.map(|caller| caller.client.found().as_str()),
        scheme: told_scheme.map_or("http", |scheme| scheme.as_str()).to_owned(),
        host: told_host.or_else(|| addressed_host(&parts)),
        trusted_proxies: !proxies.is_empty(),
        through_trusted_proxy: is_passed_on || by_protocol,
        problem: caller.and_then(|caller| {
            let problem = caller.problem.map(|problem| problem.to_string());
            problem.or_else(|| not_trusted(&ignored_headers, caller).filter(|_| !by_protocol))
        }),
        ignored_headers,
    };
    match Answer::json(StatusCode::OK, &body) {
        Ok(mut answer) => {
            no_store(answer.headers_mut());
            Reply(answer).into_response()
        }
        Err(_) => Reply(Answer::error(ErrorCode::InternalError)).into_response(),
    }
}

fn addressed_host(parts: &Parts) -> Option<String> {
    let authority = parts.uri.authority().map(ToString::to_string);
    authority.or_else(|| Some(parts.headers.get(header::HOST)?.to_str().ok()?.to_owned()))
}

/// The sentence for a proxy that passes on who its client is, and is not trusted.
fn not_trusted(ignored: &[String], caller: &Caller) -> Option<String> {
    let is_from_proxy = ignored.iter().any(|name| name != "x-real-ip") && !caller.is_passed_on;
    let address = caller.client.address();
    is_from_proxy.then(|| {
        format!("headers of a proxy came from {address}, which COUNTERSIGN_TRUSTED_PROXIES does not name")
    })
}

/// The headers that name a client, its scheme or its host, and that are not read.
fn ignored(headers: &HeaderMap, proxies: &TrustedProxies, is_trusted: bool) -> Vec<String> {
    let forwarded = [header::FORWARDED];
    let x_forwarded =
        ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"].map(HeaderName::from_static);
    let never_read = [HeaderName::from_static("x-real-ip")];
    let (reads_forwarded, reads_x_forwarded) = match proxies.reads() {
        _ if !is_trusted => (false, false),
        Some(ForwardedHeader::Forwarded) => (true, false),
        Some(ForwardedHeader::XForwardedFor) => (false, true),
        _ => (true, true),
    };
    let ignored = forwarded
        .into_iter()
        .filter(|_| !reads_forwarded)
        .chain(x_forwarded.into_iter().filter(|_| !reads_x_forwarded))
        .chain(never_read);
    ignored.filter(|name| headers.contains_key(name)).map(|name| name.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn headers_without_effect_are_named() {
        let mut headers = HeaderMap::new();
        for name in ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-real-ip"] {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        let proxies = |header: Option<&str>| {
            let proxies: TrustedProxies = "10.0.0.1".parse().unwrap();
            header.map_or(proxies.clone(), |header| proxies.reading(header.parse().unwrap()))
        };
        for (header, is_trusted, expected) in [
            (None, false, &["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-real-ip"][..]),
            (None, true, &["x-real-ip"]),
            (Some("forwarded"), true, &["x-forwarded-for", "x-forwarded-proto", "x-real-ip"]),
            (Some("x-forwarded-for"), true, &["forwarded", "x-real-ip"]),
        ] {
            assert_eq!(ignored(&headers, &proxies(header), is_trusted), expected, "{header:?} {is_trusted}");
        }
        assert!(ignored(&HeaderMap::new(), &proxies(None), false).is_empty());
    }
}
