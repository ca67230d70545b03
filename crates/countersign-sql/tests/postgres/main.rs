//! The PostgreSQL store, on a real server: `TEST_POSTGRES_URL`, and PgBouncer in transaction mode before it:
//! `TEST_PGBOUNCER_URL`.
#![cfg(feature = "postgres")]
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
