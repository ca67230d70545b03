//! The MySQL store, on a real server: `TEST_MYSQL_URL`.
#![cfg(feature = "mysql")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy takes only functions with #[test] for tests"
)]

mod contract;
mod log;
mod opening;
mod outages;
mod races;
mod support;
mod throughput;
