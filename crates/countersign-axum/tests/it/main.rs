//! The contract of `docs/api.md`, driven through the real router: one program, one binary.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test, as tests do"
)]

mod accounts;
mod agreed;
mod app;
mod body;
mod client;
mod credentials;
mod cross_site;
mod extractors;
mod failures;
mod forms;
mod fuzz;
mod guards;
mod handshakes;
mod hosts;
mod kinds;
mod legacy_key;
mod locations;
mod log;
mod loopback;
mod matrix;
mod members;
mod own_users;
mod refresh;
mod revoke_tokens;
mod sessions;
mod settings;
mod sign_in;
mod six_lines;
mod sockets;
mod verify;
mod wire;

/// What the rules under test add to the ready-made routes.
fn more_routes(_: &countersign_axum::Auth) -> axum::Router {
    axum::Router::new()
}
