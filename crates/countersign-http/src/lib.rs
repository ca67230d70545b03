//! Where tokens travel in HTTP, for any framework that speaks the [`http`] crate.
//!
//! Finding a credential in a request, deciding whether a browser sent the request on another site's behalf,
//! setting and expiring cookies, and turning refusals into answers are the same work under axum, actix or tonic,
//! and easy to get subtly wrong. This crate does it once. What a token means is `countersign-core`'s business: here
//! a token is text.

mod cookie;
mod cookie_config;
mod system;
mod wire;

pub use cookie::{CookieLookup, find_cookie};
pub use cookie_config::{CookieConfig, CookieConfigError, CookieError, CookieKind};
pub use system::{OsRandom, SystemClock};
pub use wire::rfc3339;
