//! Deciding whether a request opens a connection that outlives it, such as a WebSocket.
//!
//! Browsers send a WebSocket handshake from any page to any host, with the cookies of that host, and CORS does not
//! apply: the page that opens the connection reads and writes on it as the user (cross-site WebSocket hijacking,
//! RFC 6455 §10.2). The handshake is a GET, so rules that go by the method alone overlook it. A page's script cannot
//! add a header to it, so no CSRF value comes along. The `Origin`, which browsers always send here, tells one page from
//! another.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use crate::origin::{CrossSite, CrossSiteCheck};

/// Whether a request opens a connection that outlives it: it has a safe method and asks for an upgrade, or is a CONNECT
/// (RFC 6455 §4.1, RFC 8441 §5).
///
/// Proxies that ask an authentication service drop `Upgrade`, because that field is about one hop, but pass on the
/// fields that only a WebSocket handshake has. Each of these fields is therefore enough. `Upgrade: h2c` does not count:
/// it asks for HTTP/2, and the request is otherwise an ordinary one.
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

/// Whether a handshake says nothing about the page that it comes from. Browsers always send the `Origin`, so another
/// program sends such a handshake, and the CSRF value decides.
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
            // The form in which a proxy asks about the handshake.
            ("GET", &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")], true),
            ("GET", &[("sec-websocket-version", "13")], true),
            ("GET", &[("sec-fetch-mode", "websocket")], true),
            ("GET", &[("sec-fetch-mode", "navigate")], false),
            // A handshake over HTTP/2.
            ("CONNECT", &[("sec-websocket-version", "13")], true),
            ("CONNECT", &[], true),
            // An unsafe method needs its CSRF value, whatever the other fields are.
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
