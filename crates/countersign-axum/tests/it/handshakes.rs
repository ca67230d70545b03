//! WebSockets: a handshake by cookie is for our own pages alone (SEC-220).

use axum::body::Body;
use countersign_http::CsrfMode;
use http::Method;

use crate::app::{OWN, TestApp};
use crate::client::CSRF;
use crate::sockets::{HANDSHAKES, PAGES, ROUTES, from_page, sockets, with, with_cookies_of};

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
