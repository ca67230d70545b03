//! Whether a request opens a connection that outlives it, such as a WebSocket.
//!
//! Browsers send such a request from any page to any host, with the cookies of that host, and no CORS stands before
//! the answer: whoever opens the connection reads and writes on it as the user (cross-site WebSocket hijacking,
//! RFC 6455 §10.2). It is a GET, so that rules by method alone overlook it. A page's script cannot add a header to it,
//! so no CSRF value comes along; what tells one page from another is the `Origin`, which browsers always send here.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use crate::origin::{CrossSite, CrossSiteCheck};

/// Whether a request opens a connection that outlives it: it has a safe method and asks for an upgrade, or is a CONNECT
/// (RFC 6455 §4.1, RFC 8441 §5).
///
/// Proxies drop `Upgrade` from what they ask an authentication service, because it is about one hop. They pass on what
/// only a WebSocket's handshake has, so each of these fields is enough. `Upgrade: h2c` opens nothing of the
/// application's: it asks for HTTP/2 and is otherwise the request that it seems to be.
pub fn is_handshake(method: &Method, headers: &HeaderMap) -> bool {
    if *method == Method::CONNECT {
        return true;
    }
    let asks = headers.get_all(header::UPGRADE).iter().any(asks_for_more_than_h2c)
        || headers.contains_key(header::SEC_WEBSOCKET_KEY)
        || headers.contains_key(header::SEC_WEBSOCKET_VERSION)
        || headers.get_all(SEC_FETCH_MODE).iter().any(|mode| mode == "websocket");
    asks && method.is_safe()
}

/// Whether such a request says nothing about the page that it comes from. Browsers always do, so a program sends it,
/// and the CSRF value decides.
pub fn is_handshake_from_nowhere(method: &Method, headers: &HeaderMap) -> bool {
    is_handshake(method, headers)
        && CrossSiteCheck::default().check_headers(&Uri::default(), headers) == CrossSite::Unknown
}

fn asks_for_more_than_h2c(field: &HeaderValue) -> bool {
    let members = field.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    members.filter(|member| !member.is_empty()).any(|member| !member.eq_ignore_ascii_case(b"h2c"))
}

const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_220_a_handshake_is_recognised_by_any_of_its_signs() {
        for (method, fields, expected) in [
            ("GET", &[][..], false),
            ("GET", &[("upgrade", "websocket")], true),
            ("GET", &[("upgrade", "WebSocket"), ("connection", "Upgrade")], true),
            ("GET", &[("upgrade", "h2c, websocket")], true),
            ("GET", &[("upgrade", "h2c"), ("upgrade", "websocket")], true),
            ("GET", &[("upgrade", "anything")], true),
            ("GET", &[("upgrade", "\u{e9}")], true),
            ("GET", &[("upgrade", "h2c"), ("connection", "Upgrade, HTTP2-Settings")], false),
            ("GET", &[("upgrade", "")], false),
            ("GET", &[("upgrade-insecure-requests", "1")], false),
            ("HEAD", &[("upgrade", "websocket")], true),
            // As a proxy asks about it.
            ("GET", &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")], true),
            ("GET", &[("sec-websocket-version", "13")], true),
            ("GET", &[("sec-fetch-mode", "websocket")], true),
            ("GET", &[("sec-fetch-mode", "navigate")], false),
            // Over HTTP/2.
            ("CONNECT", &[("sec-websocket-version", "13")], true),
            ("CONNECT", &[], true),
            // Needs its CSRF value whatever it says beside.
            ("POST", &[("upgrade", "websocket")], false),
            ("get", &[("upgrade", "websocket")], false),
        ] {
            let headers: HeaderMap = fields
                .iter()
                .map(|(name, value)| {
                    let name = HeaderName::from_static(name);
                    (name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
                })
                .collect();
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(is_handshake(&method, &headers), expected, "{method} {fields:?}");
        }
    }
}
