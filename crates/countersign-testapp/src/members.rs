//! Users of a program's own.

use std::convert::Infallible;

use axum::Router;
use axum::routing::get;
use countersign_axum::{AccessToken, AuthLayer, not_found};
use countersign_core::flow::{Pair, Presentation};
use countersign_core::model::Device;
use countersign_jwt::UserId;
use serde_json::{Map, Value};

use crate::app::TestApp;
use crate::client::Client;

/// A user as an application keeps it.
#[derive(Debug)]
pub struct Member {
    /// The name that others may see.
    pub name: &'static str,
    /// What nobody should see.
    #[expect(dead_code, reason = "it is there to be left out")]
    password_hash: &'static str,
}

/// Loads a member by id; there is one, number 17.
pub async fn member(id: UserId) -> Result<Option<Member>, Infallible> {
    let member = Member { name: "Ada", password_hash: "canary-secret" };
    Ok((id.as_str() == "17").then_some(member))
}

/// What clients see of a member.
pub fn shown(member: &Member) -> Map<String, Value> {
    Map::from_iter([("name".to_owned(), member.name.into()), ("id".to_owned(), "another".into())])
}

/// The routes that the program merges, and one of its own.
pub fn with_routes(app: &TestApp, ready_made: Router) -> Client {
    let hello = get(async |token: AccessToken| token.subject().to_string());
    let router = Router::new().route("/hello", hello).merge(ready_made).fallback(not_found);
    Client::new(router.layer(AuthLayer::new(app.auth.clone())))
}

/// A session of a user, as the program's own login begins it.
pub async fn begin(app: &TestApp, id: &str, presentation: Presentation) -> Pair {
    let id = UserId::new(id).unwrap();
    let epoch = app.auth.sessions().epoch(&id).await.unwrap();
    app.auth.sessions().begin(id, epoch, presentation, Device::default()).await.unwrap()
}

/// A disabled account is nobody, whatever loads the program's users.
pub async fn check_account_decides(app: &TestApp) {
    let account = app.register("ada").await;
    let mut signed_in = app.client().bearer(&account.access_token);
    assert_eq!(signed_in.get("/v1/auth/me").await.json()["email"], "ada@example.org", "shown as ever");
    app.auth.accounts().disable(&account.user_id).await.unwrap();
    app.wait(1);
    // Begun after the disabling, as by a login of the program's that does not look.
    let pair = begin(app, account.user_id.as_str(), Presentation::Explicit).await;
    assert_eq!(app.refresh(&pair.refresh_token).await.status(), 401);
    let me = app.client().bearer(&pair.access_token).get("/v1/auth/me").await;
    assert_eq!(me.status(), 401);
}
