//! The ready-made routes by the rules of a Flask library, driven through the real router.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test, as tests do"
)]

mod agreed;
#[allow(dead_code, reason = "the tests of countersign-axum need the rest")]
#[path = "../../../countersign-axum/tests/it/app.rs"]
mod app;
mod beside;
#[allow(dead_code, reason = "the tests of countersign-axum need the rest")]
#[path = "../../../countersign-axum/tests/it/client.rs"]
mod client;
mod handshakes;
mod hooks;
#[allow(dead_code, reason = "the tests of countersign-axum need the rest")]
#[path = "../../../countersign-axum/tests/it/hosts.rs"]
mod hosts;
#[allow(dead_code, reason = "the tests of countersign-axum need the rest")]
#[path = "../../../countersign-axum/tests/it/log.rs"]
mod log;
mod loopback;
#[allow(dead_code, reason = "the tests of countersign-axum need the rest")]
#[path = "../../../countersign-axum/tests/it/members.rs"]
mod members;
mod own_users;
#[allow(dead_code, reason = "the tests of countersign-axum need the rest")]
#[path = "../../../countersign-axum/tests/it/sockets.rs"]
mod sockets;

use countersign_flask::axum::login_routes;

/// What the rules under test add to the ready-made routes.
fn more_routes(auth: &countersign_axum::Auth) -> axum::Router {
    login_routes(auth)
}
