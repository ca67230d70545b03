//! Where tokens travel in HTTP, for any framework that speaks the [`http`] crate.
//!
//! Finding a credential in a request, deciding whether a browser sent the request on another site's behalf,
//! and easy to get subtly wrong. This crate does it once. What a token means is `countersign-core`'s business: here
//! a token is text.

mod system;
mod wire;

pub use system::{OsRandom, SystemClock};
pub use wire::rfc3339;
