//! The library in a ten-line app: run it, then register, log in, refresh and log out as the README shows, on port 3000.

use axum::{Router, routing::get};
use countersign::axum::{AccessToken, AuthLayer, account_routes, routes};
use countersign::{Auth, sqlite};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (store, secrets) = sqlite::open("quickstart.db").await?;
    let auth = Auth::builder(store, secrets).build().await?;
    let app = Router::new()
        .route("/hello", get(hello))
        .merge(routes())
        .merge(account_routes()) // whoever reaches this app may register
        .layer(AuthLayer::new(auth));
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

async fn hello(token: AccessToken) -> String {
    format!("hello {}", token.subject())
}
