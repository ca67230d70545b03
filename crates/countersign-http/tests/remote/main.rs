//! Tokens of other issuers, verified with keys that a test publishes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test, as tests do"
)]

mod kit;
mod network;
mod published;
mod tokens;
