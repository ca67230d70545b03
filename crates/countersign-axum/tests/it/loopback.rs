//! A program on a loopback address, whose cookies are not `Secure`, under another name (SEC-221).

use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Json, Router};
use countersign_axum::{AuthLayer, Reply, SignIn, WithCookies};
use countersign_core::flow::LoginName;
use countersign_core::model::Password;
use serde_json::{Value, json};

use crate::app::{PASSWORD, TestApp, credentials};
use crate::client::Client;
use crate::hosts::{ELSEWHERE, HERE, app, check_refreshes, check_secure, login, with};
use crate::log;

#[tokio::test]
async fn sec_221_cookies_without_secure_are_set_under_loopback_names_alone() {
    let app = app(|builder| builder).await;
    let account = app.register("ada").await;
    let router = Router::new().route("/sign-in", post(sign_in)).layer(AuthLayer::new(app.auth.clone()));
    let own = Client::new(router);
    for fields in HERE {
        for (client, path) in [(app.client(), "/v1/auth/login"), (own.clone(), "/sign-in")] {
            let reply = with(&client, fields).post(path, &login()).await;
            // The ready-made route names the device as well.
            let cookies = if path == "/sign-in" { 3 } else { 4 };
            assert_eq!((reply.status(), reply.set_cookies().len()), (200, cookies), "{path} {fields:?}");
        }
    }
    let (hashes, sessions) = (app.hashes(), app.live_sessions(&account.user_id).await);
    for fields in ELSEWHERE {
        let mut register = credentials("eve");
        register["cookies"] = json!(true);
        for (client, path, body) in [
            (app.client(), "/v1/auth/login", login()),
            (app.client(), "/v1/auth/register", register),
            (own.clone(), "/sign-in", login()),
        ] {
            let reply = with(&client, fields).post(path, &body).await;
            assert_eq!(reply.outcome(), (403, "insecure_cookies".to_owned()), "{path} {fields:?}");
            assert!(reply.set_cookies().is_empty(), "{path} {fields:?}");
        }
    }
    assert_eq!(app.hashes(), hashes, "no password was looked at");
    assert_eq!(app.live_sessions(&account.user_id).await, sessions, "no session began or ended");
    assert!(log::contains("set COUNTERSIGN_PUBLIC_URL"));
}

async fn sign_in(
    SignIn { auth, arrival, .. }: SignIn,
    Json(_): Json<Value>,
) -> Result<impl IntoResponse, Reply> {
    let password = Password::new_for_login(PASSWORD.to_owned())?;
    let signed_in = auth.accounts().login(LoginName::parse("ada"), password, arrival).await?;
    Ok((WithCookies(auth.set_cookies(&signed_in.pair)), "in"))
}

#[tokio::test]
async fn tokens_in_the_body_are_for_every_host_name() {
    let app = app(|builder| builder).await;
    app.register("ada").await;
    for fields in ELSEWHERE {
        let body = json!({ "username": "ada", "password": PASSWORD });
        let reply = with(&app.client(), fields).post("/v1/auth/login", &body).await;
        assert_eq!(reply.status(), 200, "{fields:?}");
        let refresh = json!({ "refresh_token": reply.json()["refresh_token"] });
        let reply = with(&app.client(), fields).post("/v1/auth/refresh", &refresh).await;
        assert_eq!(reply.status(), 200, "{fields:?}");
    }
}

#[tokio::test]
async fn sec_221_cookies_without_secure_are_refreshed_under_loopback_names_alone() {
    check_refreshes(&app(|builder| builder).await, "countersign_csrf").await;
}

#[tokio::test]
async fn secure_cookies_are_set_under_every_host_name() {
    let app = TestApp::new().await;
    app.register("ada").await;
    for host in ["app.example.com", "10.0.0.1:8080"] {
        check_secure(&app, host).await;
    }
}
