//! What must hold for whatever arrives, one function for each fuzz target. It takes the fuzzer's bytes and panics when
//! something does not hold.
//!
//! Not panicking is the least of it: verdicts are compared with those of a slow and simple second implementation,
//! which knows every reason to refuse, and with those of `jsonwebtoken`; what is read is written and read again; and
//! memory is bounded by the length of the input (SEC-025).
#![forbid(unsafe_code)]

mod claims;
mod compact;
mod forwarded;
mod header;
mod http_fields;
mod json;
mod jwk;
mod keys;
mod memory;
mod pem;
mod token;

pub use claims::claims;
pub use compact::compact;
pub use forwarded::forwarded;
pub use header::header;
pub use http_fields::{authorization, cookie_header};
pub use jwk::jwk;
pub use pem::pem;

/// Genuine tokens of every kind from keys of every algorithm.
#[must_use]
pub fn genuine() -> &'static [String] {
    &compact::GENUINE
}

/// A key of every algorithm.
pub fn private_keys() -> impl Iterator<Item = &'static countersign_jwt::SigningKey> {
    keys::KEYS.iter().map(|key| &key.signing)
}
