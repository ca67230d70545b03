//! A program on a loopback address, whose cookies are not `Secure`, under another name (SEC-221).

use axum::Router;
use countersign_axum::{Auth, AuthBuilder, AuthLayer, account_routes, routes};
use countersign_core::store::MemoryStore;
use countersign_flask::{FlaskJwtExtended, FlaskJwtExtendedConfig};
use countersign_http::{CookieOptions, Location};
use countersign_testkit::TestBed;
use serde_json::json;

use crate::app::{TestApp, credentials};
use crate::beside::SECRET;
use crate::client::Client;
use crate::hosts::{ELSEWHERE, HERE, app, check_refreshes, check_secure, with};

fn flask(secure: bool) -> FlaskJwtExtendedConfig {
    let options = json!({
        "JWT_SECRET_KEY": SECRET,
        "JWT_TOKEN_LOCATION": ["headers", "cookies"],
        "JWT_COOKIE_SECURE": secure,
    });
    FlaskJwtExtendedConfig::from_options(options.as_object().cloned().unwrap()).unwrap()
}

#[tokio::test]
async fn sec_221_cookies_without_secure_are_refreshed_under_loopback_names_alone() {
    let app = app(|builder| builder.rules(FlaskJwtExtended::builder(flask(false)))).await;
    check_refreshes(&app, "csrf_refresh_token").await;
}

#[tokio::test]
async fn secure_cookies_are_set_under_every_host_name() {
    let app = app(|builder| builder.rules(FlaskJwtExtended::builder(flask(true)))).await;
    app.register("ada").await;
    check_secure(&app, "auth.example.com").await;
}

#[tokio::test]
async fn sec_221_without_a_public_url_the_rules_own_cookies_decide() {
    for secure in [true, false] {
        let auth = Auth::builder(MemoryStore::new(), TestBed::secrets())
            .rules(FlaskJwtExtended::builder(flask(secure)))
            .without_background();
        let auth = auth.build().await.unwrap();
        let router: Router = routes().merge(account_routes()).layer(AuthLayer::new(auth));
        let client = Client::new(router);
        for (number, (fields, is_here)) in [(HERE[0], true), (ELSEWHERE[0], false)].into_iter().enumerate() {
            let mut body = credentials(&format!("user{number}"));
            body["cookies"] = json!(true);
            let reply = with(&client, fields).post("/v1/auth/register", &body).await;
            let expected = if secure || is_here { 201 } else { 403 };
            assert_eq!(reply.status(), expected, "Secure: {secure}, {fields:?}");
        }
    }
    // A public URL with https vouches for the way, as a Flask application behind a proxy expects.
    let app = TestApp::with(|builder| builder.rules(FlaskJwtExtended::builder(flask(false)))).await;
    let mut body = credentials("ada");
    body["cookies"] = json!(true);
    let mut client = with(&app.client(), &[("host", "app.example.com")]);
    assert_eq!(client.post("/v1/auth/register", &body).await.status(), 201);
}

#[tokio::test]
async fn settings_of_the_own_rules_are_refused_under_other_rules() {
    type Configure = fn(AuthBuilder) -> AuthBuilder;
    let cases: [(&str, Configure); 5] = [
        ("cookies", |builder| builder.cookies(CookieOptions::new().strict())),
        ("locations", |builder| builder.locations([Location::Header])),
        ("refresh locations", |builder| builder.refresh_locations([Location::Body])),
        ("query parameter", |builder| builder.query_parameter("ticket")),
        ("several tokens", AuthBuilder::refuse_several_tokens),
    ];
    for (case, configure) in cases {
        let rules = FlaskJwtExtended::builder(flask(true));
        let refused = TestApp::try_with(|builder| configure(builder).rules(rules)).await.map(drop);
        let error = refused.map_or_else(|error| error.to_string(), |()| String::new());
        assert!(error.contains("have options of their own"), "{case}: {error:?}");
    }
}
