//! The ready-made routes by the rules of a Flask library, driven through the real router.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test, as tests do"
)]

mod agreed;
mod beside;
mod handshakes;
mod hooks;
mod loopback;
mod own_users;

use countersign_testapp::{app, client, hosts, log, members, sockets};
