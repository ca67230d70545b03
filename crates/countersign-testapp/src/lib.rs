//! A pretend application around the ready-made routes, for the tests of Countersign's own crates: the application, a
//! client without a network, and the checks that the tests of several crates share. The crate is not published.

#![allow(clippy::missing_panics_doc, reason = "helpers of tests fail the test, as tests do")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail the test, as tests do"
)]

pub mod app;
pub mod client;
pub mod hosts;
pub mod log;
pub mod mail_server;
pub mod members;
pub mod sockets;
