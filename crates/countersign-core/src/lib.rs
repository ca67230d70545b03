//! What Countersign knows about tokens, sessions, revocation and accounts: no HTTP, no database, no
//! environment, no wall clock.

pub mod account;
pub mod id;
pub mod random;
pub mod time;

pub use id::{Epoch, Generation, SessionId, TokenId, UserId};
pub use random::{Random, RandomError};
pub use time::{Clock, Timestamp};
