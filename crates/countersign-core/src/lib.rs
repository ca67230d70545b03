//! The model, the store traits and the operations behind Countersign's sessions, revocation and accounts. The crate
//! knows no HTTP, no database, no environment and no wall clock: time and randomness are arguments, and stores are
//! traits. Tokens themselves are in `countersign-jwt`.
//!
//! The crate has three layers, each of which knows only those before it: [`model`] has values and pure functions,
//! [`store`] has what an engine promises, and [`flow`] has the operations on both.
//!
//! Most programs use this crate through the crate `countersign`, which adds HTTP, axum and SQLite.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod flow;
pub mod model;
pub mod store;
