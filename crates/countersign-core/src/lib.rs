//! What Countersign knows about tokens, sessions, revocation and accounts: no HTTP, no database, no
//! environment, no wall clock. Time and randomness are arguments, stores are traits.
//!
//! Most programs use it through the crate `countersign`, which adds HTTP, axum and SQLite.

pub mod account;
pub mod agreed;
pub mod background;
pub mod event;
pub mod keychain;
pub mod revocation;
pub mod session;
pub mod store;
pub mod time;

pub use time::StoreClock;
