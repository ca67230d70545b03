//! What is fresh is an access token or its user; a handler that takes another type learns which there are.

use axum::{Router, routing::post};
use countersign_axum::{Fresh, RefreshToken};

struct Member;

async fn change_address(_: Fresh<Member>) {}

async fn refresh(_: Option<Fresh<RefreshToken>>) {}

fn main() {
    let _: Router = Router::new().route("/address", post(change_address)).route("/refresh", post(refresh));
}
