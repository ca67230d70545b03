//! `GET /`: a page that says what this server is, for people and for programs; and the HTTP contract.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_axum::Reply;
use countersign_http::{Answer, ErrorCode};
use countersign_pages::Pages;
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::openapi;

const STYLE: &str = include_str!("home.css");
const CONTRACT: &str = include_str!("../docs/api.md");
/// The path at which the HTTP contract is served.
pub(crate) const CONTRACT_PATH: &str = "/docs/api.md";

/// The page's content security policy: no script, no form, no frame, and only the one style that is in the page.
static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| {
    let style = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    HeaderValue::try_from(format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ))
    .ok()
});

/// What this server is.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub(crate) struct Home {
    /// Always `countersign`.
    name: &'static str,
    version: &'static str,
    /// The path of the contract in words.
    documentation: &'static str,
    /// The path of the contract as an OpenAPI document.
    openapi: &'static str,
}

/// The URL of the server, as the page shows it.
#[derive(Clone, Debug)]
pub(crate) struct ShownOrigin(pub(crate) String);

/// Answers with a page for browsers and with JSON for all other clients. Where there are pages for people, it is the
/// first of those.
pub(crate) async fn home(
    State((ShownOrigin(origin), pages)): State<(ShownOrigin, Option<Pages>)>,
    request: Request,
) -> Response {
    let mut response = match (Pages::are_wanted(request.headers()), pages) {
        (true, Some(pages)) => Pages::home(State(pages), request).await,
        (true, None) => page(&origin),
        (false, _) => json(),
    };
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// The HTTP contract of this version of the server.
pub(crate) async fn contract() -> Response {
    let plain = HeaderValue::from_static("text/markdown; charset=utf-8");
    let mut response = CONTRACT.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    secure(&mut response);
    response
}

fn page(origin: &str) -> Response {
    // An origin consists of a scheme, a host and a port, so nothing in it needs escaping.
    let page = include_str!("home.html")
        .replace("$ORIGIN", origin)
        .replace("<style></style>", &format!("<style>{STYLE}</style>"));
    let mut response = page.into_response();
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, html);
    secure(&mut response);
    response
}

fn secure(response: &mut Response) {
    let headers = response.headers_mut();
    if let Some(policy) = POLICY.clone() {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let opener = HeaderName::from_static("cross-origin-opener-policy");
    headers.insert(opener, HeaderValue::from_static("same-origin"));
}

fn json() -> Response {
    let home = Home {
        name: "countersign",
        version: env!("CARGO_PKG_VERSION"),
        documentation: CONTRACT_PATH,
        openapi: openapi::PATH,
    };
    match Answer::json(StatusCode::OK, &home) {
        Ok(answer) => Reply(answer).into_response(),
        Err(_) => Reply(Answer::error(ErrorCode::InternalError)).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn browsers_get_the_page_and_programs_get_json() {
        for (accept, html) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
            ("*/*", false),
            ("", false),
            ("application/json", false),
            ("application/json, text/html", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(Pages::are_wanted(&headers), html, "{accept}");
        }
    }
}
