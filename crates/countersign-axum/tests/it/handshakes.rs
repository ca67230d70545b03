//! WebSockets: a handshake by cookie is for our own pages alone (SEC-220).

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use countersign_axum::{AccessToken, AuthLayer, Authority, Guard, RefreshToken, Requirement};
use countersign_http::CsrfMode;
use countersign_http::profile::FlaskJwtExtended;
use countersign_http::profile::flask_jwt_extended::FlaskJwtExtendedConfig;
use http::Method;
use serde_json::json;

use crate::app::{ALLOWED, OWN, TestApp};
use crate::client::{CSRF, Client};
use crate::profiles::SECRET;

/// How a browser opens a WebSocket over HTTP/1.1, what a proxy passes on of that, and how it does over HTTP/2.
const HANDSHAKES: [(Method, &[(&str, &str)]); 4] = [
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
const ROUTES: [&str; 4] = ["/token", "/maybe", "/guarded", "/refresh-token"];

fn sockets(authority: impl Into<Authority>) -> Client {
    let router = Router::new()
        .route("/token", any(async |_: AccessToken| "open"))
        .route("/maybe", any(async |_: Option<AccessToken>| "open"))
        .route("/guarded", any(async || "open").layer(Guard::new(Requirement::ACCESS)))
        .route("/refresh-token", any(async |_: RefreshToken| "open"))
        .layer(AuthLayer::new(authority));
    Client::new(router)
}

fn with(client: &Client, fields: &[(&str, &str)]) -> Client {
    fields.iter().fold(client.clone(), |client, (name, value)| client.with(name, value))
}

/// A browser with these cookies, somewhere else.
fn with_cookies_of(client: Client, browser: &Client) -> Client {
    browser.jar().iter().fold(client, |client, (name, value)| client.set_cookie(name, value))
}

/// Where pages come from: p opens, - is refused, ? is for the CSRF value to decide.
const PAGES: [(Option<&str>, Option<&str>, char); 14] = [
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

fn from_page(client: &Client, site: Option<&str>, origin: Option<&str>) -> Client {
    let fields = [("sec-fetch-site", site), ("origin", origin)];
    let fields = fields.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
    fields.fold(client.clone(), |client, (name, value)| client.with(name, value))
}

#[tokio::test]
async fn sec_220_a_websocket_is_opened_with_our_cookies_by_our_pages_alone() {
    for mode in [CsrfMode::Token, CsrfMode::FetchMetadata] {
        let app = TestApp::with(|builder| builder.csrf_mode(mode)).await;
        let browser = app.signed_in_browser("ada").await;
        let client = with_cookies_of(sockets(app.auth.clone()), &browser);
        for (method, handshake) in HANDSHAKES {
            let client = with(&client, handshake);
            for (site, origin, expected) in PAGES {
                let page = from_page(&client, site, origin);
                for path in ROUTES {
                    let case = format!("{mode:?} {method} {path} {handshake:?} {site:?} {origin:?}");
                    let with_value = page.clone().with("x-csrf-token", browser.cookie(CSRF));
                    let mut outcomes = Vec::new();
                    for mut client in [page.clone(), with_value] {
                        let reply = client.send(method.clone(), path, Body::empty()).await;
                        outcomes.push(if reply.status() == 200 { String::new() } else { reply.code() });
                    }
                    let wanted = match expected {
                        'p' => ["", ""],
                        '-' => ["cross_site", "cross_site"],
                        _ => ["csrf_failed", ""],
                    };
                    assert_eq!(outcomes, wanted, "{case}");
                }
            }
        }
    }
}

#[tokio::test]
async fn sec_220_the_ready_made_routes_look_at_handshakes_too() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await.without("sec-fetch-site");
    let handshake = with(&browser, HANDSHAKES[0].1);
    for path in ["/v1/auth/me", "/v1/auth/sessions", "/hello", "/profile"] {
        for (site, origin, expected) in PAGES {
            let reply = from_page(&handshake, site, origin).get(path).await;
            let expected = match expected {
                'p' => (200, String::new()),
                '-' => (403, "cross_site".to_owned()),
                _ => (403, "csrf_failed".to_owned()),
            };
            assert_eq!(reply.outcome(), expected, "{path} {site:?} {origin:?}");
        }
    }
}

#[tokio::test]
async fn sec_220_a_proxy_that_asks_about_a_handshake_is_told() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await.without("sec-fetch-site");
    // nginx is told to say the method and drops `Upgrade`, as Traefik does; others pass all of it on.
    for method in
        [("x-original-method", "GET"), ("x-forwarded-method", "GET"), ("x-forwarded-method", "CONNECT")]
    {
        for (_, handshake) in HANDSHAKES {
            let asked = with(&browser, &[method]);
            let asked = with(&asked, handshake);
            for (site, origin, expected) in PAGES {
                let reply = from_page(&asked, site, origin).get("/v1/auth/verify").await;
                let expected = match expected {
                    'p' => (200, String::new()),
                    '-' => (403, "cross_site".to_owned()),
                    _ => (403, "csrf_failed".to_owned()),
                };
                assert_eq!(reply.outcome(), expected, "{method:?} {handshake:?} {site:?} {origin:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_handshake_without_our_cookies_passes_from_anywhere() {
    let app = TestApp::new().await;
    let token = app.register("ada").await.access_token;
    let client = sockets(app.auth.clone()).with("origin", "https://evil.example").bearer(&token);
    for (method, handshake) in HANDSHAKES {
        for path in ["/token", "/maybe", "/guarded"] {
            let reply = with(&client, handshake).send(method.clone(), path, Body::empty()).await;
            assert_eq!(reply.status(), 200, "{method} {path} {handshake:?}");
        }
    }
}

#[tokio::test]
async fn an_upgrade_to_http_2_is_an_ordinary_request() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await.without("sec-fetch-site");
    // As Java's HttpClient sends every request over http.
    let mut java = browser
        .with("connection", "Upgrade, HTTP2-Settings")
        .with("upgrade", "h2c")
        .with("http2-settings", "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA");
    assert_eq!(java.get("/hello").await.status(), 200);
}

#[tokio::test]
async fn sec_220_an_upgrade_header_does_not_replace_the_csrf_value_of_an_unsafe_request() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await;
    let mut client = with(&browser, HANDSHAKES[0].1).with("origin", OWN);
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        let reply = client.send(method.clone(), "/hello", Body::empty()).await;
        assert_eq!(reply.outcome(), (403, "csrf_failed".to_owned()), "{method}");
    }
}

fn flask(protect: bool) -> FlaskJwtExtendedConfig {
    let options = json!({
        "JWT_SECRET_KEY": SECRET,
        "JWT_TOKEN_LOCATION": ["headers", "cookies"],
        "JWT_COOKIE_CSRF_PROTECT": protect,
    });
    FlaskJwtExtendedConfig::from_options(options.as_object().cloned().unwrap()).unwrap()
}

#[tokio::test]
async fn sec_220_flask_jwt_extendeds_cookies_open_a_websocket_for_our_pages_alone() {
    for protect in [true, false] {
        let app = TestApp::with(|builder| builder.profile(FlaskJwtExtended::builder(flask(protect)))).await;
        let browser = app.signed_in_browser("ada").await;
        let client = with_cookies_of(sockets(app.auth.clone()), &browser);
        let csrf = browser.cookie("csrf_access_token").to_owned();
        for (method, handshake) in HANDSHAKES {
            let client = with(&client, handshake);
            for (site, origin, expected) in PAGES {
                for path in ["/token", "/maybe", "/guarded"] {
                    let mut page = from_page(&client, site, origin);
                    let reply = page.send(method.clone(), path, Body::empty()).await;
                    let case = format!("{protect} {method} {path} {handshake:?} {site:?} {origin:?}");
                    match (expected, protect) {
                        ('p', _) | ('?', false) => assert_eq!(reply.status(), 200, "{case}"),
                        ('-', _) => assert_eq!(reply.outcome(), (403, "cross_site".to_owned()), "{case}"),
                        _ => {
                            let said = json!({ "msg": "Missing CSRF token" });
                            assert_eq!((reply.status(), reply.json()), (401, said), "{case}");
                            let reply = page.clone().with("x-csrf-token", &csrf);
                            let reply = reply.clone().send(method.clone(), path, Body::empty()).await;
                            assert_eq!(reply.status(), 200, "{case}");
                        }
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn sec_220_a_profile_on_its_own_opens_a_websocket_for_the_addressed_host_alone() {
    let app = TestApp::with(|builder| builder.profile(FlaskJwtExtended::builder(flask(true)))).await;
    let browser = app.signed_in_browser("ada").await;
    let profile = |builder: countersign_http::profile::flask_jwt_extended::FlaskJwtExtendedBuilder| {
        Arc::new(builder.clock(app.clock.clone()).build().unwrap())
    };
    let builder = FlaskJwtExtended::builder(flask(true));
    let alone = profile(builder.clone());
    let allowing = profile(builder.allowed_origins(ALLOWED.parse().unwrap()));
    for (profile, origin, status) in [
        (&alone, "https://app.example.com", 200),
        (&alone, "https://evil.example", 403),
        (&alone, ALLOWED, 403),
        (&allowing, ALLOWED, 200),
        (&allowing, "https://evil.example", 403),
    ] {
        let client = with_cookies_of(sockets(profile.clone()), &browser).with("host", "app.example.com");
        for (method, handshake) in HANDSHAKES {
            let mut page = with(&client, handshake).with("origin", origin);
            let reply = page.send(method.clone(), "/guarded", Body::empty()).await;
            assert_eq!(reply.status(), status, "{method} {origin} {handshake:?}");
        }
        let reply = client.with("origin", origin).get("/guarded").await;
        assert_eq!(reply.status(), 200, "{origin}: an ordinary request");
    }
}
