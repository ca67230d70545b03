//! An API with accounts and sessions, on the database that one setting names: a program of docs/examples.md.

use std::env;
use std::error::Error;

use axum::{Extension, Json, Router, routing::get};
use countersign::axum::{AuthLayer, CurrentUser, HandlerError, account_routes, routes};
use countersign::engine::model::EmailAddress;
use countersign::engine::store::{SessionPage, Stores};
use countersign::mongodb::{MongodbOptions, MongodbStore};
use countersign::postgres::{PostgresOptions, PostgresStore};
use countersign::{Auth, Secrets, User, sqlite};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (stores, secrets) =
        open(&env::var("DATABASE_URL").unwrap_or("sqlite://sessions.db".to_owned())).await?;
    let auth = Auth::builder(stores, secrets).build().await?;
    let app = Router::new()
        .route("/", get(home))
        .route("/profile", get(profile))
        .merge(routes()) // refresh, logout, sessions, revoke-tokens, …
        .merge(account_routes()) // register and login: whoever reaches this app may register
        .layer(AuthLayer::new(auth)); // after the routes
    let address = env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app.into_make_service_with_connect_info::<std::net::SocketAddr>()).await?)
}

/// The stores in the database of this URL, and the secret that seals the keys there. SQLite has its secret in a file
/// beside the database; the programs that share a database share COUNTERSIGN_SECRET.
async fn open(url: &str) -> Result<(Stores, Secrets), Box<dyn Error>> {
    let shared = || match env::var("COUNTERSIGN_SECRET") {
        Ok(text) => Ok(Secrets::parse(&text)?),
        Err(_) => Err(Box::<dyn Error>::from("set COUNTERSIGN_SECRET: openssl rand -base64 32")),
    };
    match url.split_once("://") {
        Some(("sqlite", path)) => {
            let (store, secrets) = sqlite::open(path).await?;
            Ok((store.into(), secrets))
        }
        Some(("postgres", _)) => {
            let secrets = shared()?;
            Ok((PostgresStore::open(&PostgresOptions::from_url(url)?).await?.into(), secrets))
        }
        Some(("mongodb", _)) => {
            let secrets = shared()?;
            Ok((MongodbStore::open(&MongodbOptions::from_url(url)?).await?.into(), secrets))
        }
        _ => Err("DATABASE_URL begins with sqlite://, postgres:// or mongodb://".into()),
    }
}

/// For everybody. A token that is not accepted is refused all the same.
async fn home(user: Option<CurrentUser<User>>) -> String {
    user.map_or("welcome".to_owned(), |user| format!("welcome back, {}", email(&user)))
}

/// For users.
async fn profile(
    CurrentUser(user): CurrentUser<User>,
    Extension(auth): Extension<Auth>,
) -> Result<Json<Value>, HandlerError> {
    let sessions = auth.sessions().list(&user.id, SessionPage::first(100)).await?;
    Ok(Json(json!({ "email": email(&user), "sessions": sessions.len() })))
}

fn email(user: &User) -> &str {
    user.email.as_ref().map_or("", EmailAddress::as_str)
}
