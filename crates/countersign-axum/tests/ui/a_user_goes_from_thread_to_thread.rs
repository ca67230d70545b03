//! A user is loaded on one thread and handled on another; the handler's argument says so if its type cannot.

use std::rc::Rc;

use axum::{Router, routing::get};
use countersign_axum::CurrentUser;

struct Member {
    _name: Rc<str>,
}

async fn profile(_: CurrentUser<Member>) {}

fn main() {
    let _: Router = Router::new().route("/profile", get(profile));
}
