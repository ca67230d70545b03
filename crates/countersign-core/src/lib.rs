//! What Countersign knows about tokens, sessions, revocation and accounts: no HTTP, no database, no
//! environment, no wall clock. Time and randomness are arguments, stores are traits.
//!
//! Most programs use it through the crate `countersign`, which adds HTTP, axum and SQLite.

pub mod account;
pub mod agreed;
pub mod background;
mod base64url;
pub mod claims;
pub mod event;
pub mod id;
mod json;
pub mod jws;
pub mod key;
pub mod keychain;
pub mod profile;
pub mod random;
pub mod revocation;
pub mod seal;
pub mod session;
pub mod store;
pub mod time;
pub mod token;
mod verify;

pub use claims::{Claims, Freshness, NewClaims, SessionRef, TokenType, UnverifiedClaims};
pub use id::{Epoch, Generation, SessionId, TokenId, UserId};
pub use json::JsonError;
pub use key::{Algorithm, KeyId, KeyRing, SigningKey, VerifyingKey};
pub use random::{Random, RandomError};
pub use seal::{Secret, Secrets};
pub use time::{Clock, StoreClock, Timestamp};
pub use token::{Issuer, Verifier};
pub use verify::{VerifyError, VerifyErrorKind};
