//! Drives the real binary over real HTTP, each test in a folder of its own.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "the helpers of tests are tests too"
)]

mod account_life;
mod admin;
mod answers;
mod attacks;
mod audit;
mod backup;
mod client;
mod clients;
mod config;
mod deployment;
mod doctor;
mod edge;
mod engine;
#[cfg(feature = "flask")]
mod import;
mod keys;
mod kill_nine;
mod logs;
mod main_path;
mod metrics;
mod nodes;
mod openapi;
mod operating;
mod operators;
#[cfg(feature = "flask")]
mod profiles;
mod proxies;
mod revoke_all;
mod rolling;
mod server;
mod slow;
mod starting;
mod stopping;
mod store_down;
mod tls;
mod traces;
mod two_servers;
mod user_files;
mod wire;
