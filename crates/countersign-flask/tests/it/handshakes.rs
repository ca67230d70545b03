//! WebSockets: a handshake by cookie is for our own pages alone (SEC-220).

use std::sync::Arc;

use axum::body::Body;
use countersign_flask::flask_jwt_extended::FlaskJwtExtendedBuilder;
use countersign_flask::{FlaskJwtExtended, FlaskJwtExtendedConfig};
use serde_json::json;

use crate::app::{ALLOWED, TestApp};
use crate::beside::SECRET;
use crate::sockets::{HANDSHAKES, PAGES, from_page, sockets, with, with_cookies_of};

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
        let app = TestApp::with(|builder| builder.rules(FlaskJwtExtended::builder(flask(protect)))).await;
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
async fn sec_220_a_gate_opens_a_websocket_for_the_addressed_host_alone() {
    let app = TestApp::with(|builder| builder.rules(FlaskJwtExtended::builder(flask(true)))).await;
    let browser = app.signed_in_browser("ada").await;
    let gate = |builder: FlaskJwtExtendedBuilder| Arc::new(builder.clock(app.clock.clone()).build().unwrap());
    let builder = FlaskJwtExtended::builder(flask(true));
    let alone = gate(builder.clone());
    let allowing = gate(builder.allowed_origins(ALLOWED.parse().unwrap()));
    for (gate, origin, status) in [
        (&alone, "https://app.example.com", 200),
        (&alone, "https://evil.example", 403),
        (&alone, ALLOWED, 403),
        (&allowing, ALLOWED, 200),
        (&allowing, "https://evil.example", 403),
    ] {
        let client = with_cookies_of(sockets(gate.clone()), &browser).with("host", "app.example.com");
        for (method, handshake) in HANDSHAKES {
            let mut page = with(&client, handshake).with("origin", origin);
            let reply = page.send(method.clone(), "/guarded", Body::empty()).await;
            assert_eq!(reply.status(), status, "{method} {origin} {handshake:?}");
        }
        let reply = client.with("origin", origin).get("/guarded").await;
        assert_eq!(reply.status(), 200, "{origin}: an ordinary request");
    }
}
