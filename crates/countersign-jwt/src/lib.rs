#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

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
