//! What Countersign knows about sessions, revocation and accounts: no HTTP, no database, no environment, no wall clock.
//! Time and randomness are arguments, stores are traits. Tokens themselves are in `countersign-jwt`.
//!
//! Three layers, each of which knows only those before it: [`model`], values and pure functions; [`store`], what an
//! engine promises; [`flow`], what one does with both.
//!
//! Most programs use it through the crate `countersign`, which adds HTTP, axum and SQLite.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod flow;
pub mod model;
pub mod store;
