//! `GET /docs/api`: a page that shows every operation of `/openapi.json` and sends requests to it.
//!
//! The page is on the origin of the pages where people sign in, so it can do as little as possible. Only its one script
//! runs, and that makes no HTML of texts. It sends requests without the browser's cookies, so that it never acts as whoever
//! is signed in here, and it forgets its tokens when it is closed.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::fixed::Fixed;

/// The path of the page.
pub(crate) const PATH: &str = "/docs/api";

const STYLE: &str = include_str!("api_page/page.css");
const SCRIPT: &str = include_str!("api_page/page.js");

/// No script and no style but those in the page, requests to this origin alone, no HTML out of texts, no frame.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(digest::digest(&digest::SHA256, text.as_bytes()));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
});

/// The page, made once.
#[derive(Clone, Debug)]
pub(crate) struct ApiPage(Fixed);

impl ApiPage {
    pub(crate) fn new() -> Self {
        let page = include_str!("api_page/page.html")
            .replace("<style></style>", &format!("<style>{STYLE}</style>"))
            .replace("<script></script>", &format!("<script>{SCRIPT}</script>"));
        let mut page = Fixed::new(page, "text/html; charset=utf-8", "no-cache");
        if let Ok(policy) = HeaderValue::try_from(&*POLICY) {
            page = page.header(header::CONTENT_SECURITY_POLICY, policy);
        }
        for (name, value) in [
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::REFERRER_POLICY, "same-origin"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ] {
            page = page.header(name, HeaderValue::from_static(value));
        }
        Self(page)
    }
}

pub(crate) async fn serve(State(ApiPage(page)): State<ApiPage>, headers: HeaderMap) -> Response {
    page.answer(&headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_loads_nothing_and_keeps_nothing() {
        let page = include_str!("api_page/page.html");
        for part in [page, STYLE, SCRIPT] {
            for word in [
                "http:",
                "https:",
                "//cdn",
                "@import",
                " url(",
                "innerHTML",
                "localStorage",
                "sessionStorage",
                "document.cookie",
                "indexedDB",
                "eval(",
            ] {
                assert!(!part.contains(word), "{word}");
            }
        }
        assert!(SCRIPT.contains("credentials: 'omit'"));
        // Otherwise the hash in the policy would be that of another text.
        assert!(!SCRIPT.contains("</script") && !STYLE.contains("</style"));
        assert_eq!(
            (page.matches("<script></script>").count(), page.matches("<style></style>").count()),
            (1, 1)
        );
    }
}
