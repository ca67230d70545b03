//! Tokens of other issuers, verified with keys that a test publishes.

mod kit;
mod network;
mod published;
mod tokens;
