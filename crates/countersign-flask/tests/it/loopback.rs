//! A program on a loopback address, whose cookies are not `Secure`, under another name (SEC-221).

use countersign_flask::{FlaskJwtExtended, FlaskJwtExtendedConfig};
use serde_json::json;

use crate::beside::SECRET;
use crate::hosts::{app, check_refreshes, check_secure};

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
