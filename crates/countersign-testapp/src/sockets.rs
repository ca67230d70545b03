//! WebSockets' handshakes, and the pages that they come from.

use axum::Router;
use axum::routing::any;
use countersign_axum::{AccessToken, AuthLayer, Authority, Guard, RefreshToken, Requirement};
use http::Method;

use crate::app::{ALLOWED, OWN};
use crate::client::Client;

/// How a browser opens a WebSocket over HTTP/1.1, what a proxy passes on of that, and how it does over HTTP/2.
pub const HANDSHAKES: [(Method, &[(&str, &str)]); 4] = [
    (
        Method::GET,
        &[
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ],
    ),
    (Method::GET, &[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")]),
    (Method::GET, &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]),
    (Method::CONNECT, &[("sec-websocket-version", "13")]),
];

/// Every way in which a route may want a token.
pub const ROUTES: [&str; 4] = ["/token", "/maybe", "/guarded", "/refresh-token"];

/// A program with [`ROUTES`], below a layer for this authority.
pub fn sockets(authority: impl Into<Authority>) -> Client {
    let router = Router::new()
        .route("/token", any(async |_: AccessToken| "open"))
        .route("/maybe", any(async |_: Option<AccessToken>| "open"))
        .route("/guarded", any(async || "open").layer(Guard::new(Requirement::ACCESS)))
        .route("/refresh-token", any(async |_: RefreshToken| "open"))
        .layer(AuthLayer::new(authority));
    Client::new(router)
}

/// The same client, which sends these header fields too.
pub fn with(client: &Client, fields: &[(&str, &str)]) -> Client {
    fields.iter().fold(client.clone(), |client, (name, value)| client.with(name, value))
}

/// A browser with these cookies, somewhere else.
pub fn with_cookies_of(client: Client, browser: &Client) -> Client {
    browser.jar().iter().fold(client, |client, (name, value)| client.set_cookie(name, value))
}

/// Where pages come from: p opens, - is refused, ? is for the CSRF value to decide.
pub const PAGES: [(Option<&str>, Option<&str>, char); 14] = [
    (None, None, '?'),
    (None, Some(OWN), 'p'),
    (None, Some(ALLOWED), 'p'),
    (None, Some("https://blog.example.com"), '-'),
    (None, Some("https://evil.example"), '-'),
    (None, Some("null"), '-'),
    (Some("same-origin"), Some(OWN), 'p'),
    (Some("same-origin"), None, 'p'),
    (Some("same-site"), Some(ALLOWED), 'p'),
    (Some("same-site"), Some("https://blog.example.com"), '-'),
    (Some("same-site"), None, '-'),
    (Some("cross-site"), Some("https://evil.example"), '-'),
    (Some("cross-site"), Some(OWN), '-'),
    (Some("nonsense"), Some(OWN), '-'),
];

/// The same client, which sends what a browser tells of the page that a request comes from.
pub fn from_page(client: &Client, site: Option<&str>, origin: Option<&str>) -> Client {
    let fields = [("sec-fetch-site", site), ("origin", origin)];
    let fields = fields.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
    fields.fold(client.clone(), |client, (name, value)| client.with(name, value))
}
