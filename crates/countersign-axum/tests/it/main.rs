//! The contract of `docs/api.md`, driven through the real router: one program, one binary.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test, as tests do"
)]

mod account_life;
mod accounts;
mod agreed;
mod body;
mod credentials;
mod cross_site;
mod extractors;
mod failures;
mod forms;
mod fuzz;
mod guards;
mod handshakes;
mod kinds;
mod legacy_key;
mod locations;
mod login_sessions;
mod loopback;
mod matrix;
mod own_login;
mod own_users;
mod refresh;
mod revoke_tokens;
mod secrets;
mod sessions;
mod settings;
mod sign_in;
mod sign_up;
mod six_lines;
mod standard;
mod verify;
mod wire;

use countersign_testapp::{app, client, hosts, log, members, sockets};
