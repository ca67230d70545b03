//! The pages over HTTP, without a browser.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod account;
mod anybody;
mod attacks;
mod by_mail;
mod visitor;
