//! Guards by scope, and a stream that ends with its token: at its deadline, or within two seconds of a logout.
//!
//! Register as the README shows, on port 3000. Then `curl -N localhost:3000/ticks -H "authorization: Bearer $ACCESS"`.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router, routing::get};
use bytes::Bytes;
use countersign::axum::{AccessToken, AuthLayer, Guard, Reply, account_routes, routes};
use countersign::{Auth, Requirement, UserId, sqlite};
use http_body::Frame;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (store, secrets) = sqlite::open("guards.db").await?;
    let auth = Auth::builder(store, secrets).access_claims(claims).build().await?;
    let app = Router::new()
        .route("/reports", get(reports).route_layer(Guard::new(Requirement::ACCESS.scope("reports:read"))))
        .route(
            "/admin",
            get(reports).route_layer(Guard::new(Requirement::ACCESS.role("admin").realm("admin"))),
        )
        .route("/ticks", get(ticks))
        .merge(routes())
        .merge(account_routes()) // whoever reaches this app may register
        .layer(AuthLayer::new(auth));
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    Ok(axum::serve(listener, app).await?)
}

/// Everybody reads reports, nobody is an administrator.
async fn claims(_: UserId) -> Result<Map<String, Value>, Infallible> {
    Ok(Map::from_iter([("scope".to_owned(), json!("reports:read")), ("roles".to_owned(), json!(["reader"]))]))
}

async fn reports(token: AccessToken) -> String {
    format!("reports for {}", token.subject())
}

/// What a WebSocket does after its upgrade: it was let in once, and asks again while it lives.
async fn ticks(Extension(auth): Extension<Auth>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let caller = match auth.authenticate(&parts, &Requirement::ACCESS).await {
        Ok(caller) => caller,
        Err(error) => return Reply(auth.refuse(&parts, None, &error).await).into_response(),
    };
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(2));
        loop {
            ticks.tick().await;
            let left = caller.expires_at().since(auth.engine().now());
            // Expired, logged out, revoked: the stream ends.
            if auth.recheck(&caller).await.is_err() {
                break;
            }
            if sender.send(format!("{} s left\n", left.as_secs()).into()).await.is_err() {
                break;
            }
        }
    });
    Body::new(Lines(receiver)).into_response()
}

struct Lines(mpsc::Receiver<Bytes>);

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
