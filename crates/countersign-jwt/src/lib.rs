//! JSON Web Tokens (RFC 7519): signed, verified, and nothing else. No async, no store, no HTTP, no clock of its own.
//!
//! A service that only verifies tokens takes this crate alone, and so does a tool that signs them. Logins, sessions and
//! revocation are in `countersign-core`; the crate `countersign` adds HTTP, axum and a database.

mod base64url;
pub mod claims;
pub mod id;
pub mod issuers;
pub mod json;
pub mod jws;
pub mod key;
pub mod random;
pub mod seal;
pub mod time;
pub mod token;
mod verify;

pub use claims::{Claims, Freshness, NewClaims, SessionRef, TokenType, UnverifiedClaims};
pub use id::{Epoch, Generation, SessionId, TokenId, UserId};
pub use json::JsonError;
pub use key::{Algorithm, KeyId, KeyRing, SigningKey, VerifyingKey};
pub use random::{Random, RandomError};
pub use seal::{Secret, Secrets};
pub use time::{Clock, Timestamp};
pub use token::{Issuer, Verifier};
pub use verify::{VerifyError, VerifyErrorKind};
