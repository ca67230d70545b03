//! A whole application in six lines, whose types hold no parameter of ours.

use axum::Router;
use axum::routing::get;
use countersign_axum::{AccessToken, Auth, AuthLayer, CurrentUser, Fresh, account_routes, routes};
use countersign_core::model::User;
use countersign_core::store::MemoryStore;
use countersign_testkit::TestBed;
use serde_json::json;

use crate::app::{PASSWORD, credentials};
use crate::client::Client;
use crate::log;

async fn application() -> Router {
    let auth = Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await.unwrap();
    Router::new()
        .route("/hello", get(async |token: AccessToken| format!("hello {}", token.subject())))
        .merge(routes())
        .merge(account_routes())
        .layer(AuthLayer::new(auth))
}

#[tokio::test]
async fn six_lines_are_an_application() {
    log::install();
    let router = application().await;
    let mut browser = Client::new(router).with("sec-fetch-site", "same-origin");
    assert_eq!(browser.get("/hello").await.status(), 401);
    let mut body = credentials("ada");
    body["cookies"] = json!(true);
    assert_eq!(browser.post("/v1/auth/register", &body).await.status(), 201);
    let hello = browser.get("/hello").await;
    assert!(hello.status() == 200 && hello.body.starts_with(b"hello "));
    let mut browser = browser.csrf();
    assert_eq!(browser.post_nothing("/v1/auth/refresh").await.status(), 200);
    assert_eq!(browser.post_nothing("/v1/auth/logout").await.status(), 204);
    assert_eq!(browser.get("/hello").await.status(), 401);
    let login = json!({ "email_or_username": "ada", "password": PASSWORD });
    assert_eq!(browser.post("/v1/auth/login", &login).await.status(), 200);
}

/// An application's own state, extractors beside others, and no type parameter anywhere.
#[derive(Clone)]
struct AppState {
    greeting: &'static str,
    auth: Auth,
}

async fn greet(
    axum::extract::State(state): axum::extract::State<AppState>,
    token: Option<AccessToken>,
    axum::extract::Path(name): axum::extract::Path<String>,
) -> String {
    let sessions = state.auth.sessions().policy().idle.as_secs();
    format!("{} {name} {} {sessions}", state.greeting, token.is_some())
}

async fn both(_fresh: Fresh<AccessToken>, CurrentUser(user): CurrentUser<User>, body: String) -> String {
    format!("{} {body}", user.email.map(|email| email.as_str().to_owned()).unwrap_or_default())
}

#[tokio::test]
async fn extractors_stand_beside_an_applications_own_state_and_body() {
    log::install();
    let auth = Auth::builder(MemoryStore::new(), TestBed::secrets()).build().await.unwrap();
    let state = AppState { greeting: "good day", auth: auth.clone() };
    let router = Router::new()
        .route("/greet/{name}", get(greet))
        .route("/both", axum::routing::post(both))
        .merge(routes::<AppState>())
        .merge(account_routes())
        .layer(AuthLayer::new(auth))
        .with_state(state);
    let mut client = Client::new(router);
    assert_eq!(client.get("/greet/ada").await.body, "good day ada false 1209600");
    let token = client.post("/v1/auth/register", &credentials("ada")).await.json()["access_token"].clone();
    let mut client = client.bearer(token.as_str().unwrap());
    assert_eq!(client.get("/greet/ada").await.body, "good day ada true 1209600");
    let reply =
        client.send_bytes(http::Method::POST, "/both", Some("text/plain"), b"the body".to_vec()).await;
    assert_eq!(reply.body, "ada@example.org the body");
}
