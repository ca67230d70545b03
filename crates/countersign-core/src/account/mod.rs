//! What an account is made of: its unique names, its password, and the brake on guessing it.
//!
//! Nothing here reads a store or a clock. Names and passwords are parsed at the edge, so the code behind it
//! never meets a text that was not checked.

mod hasher;
mod name;
mod password;
mod throttle;

pub use hasher::{Argon2Params, HashError, HashPool, Hasher, PasswordHash, UnsafeArgon2Params};
pub use name::{EmailAddress, NameError, Username};
pub use password::{MinimumLength, Password, PasswordError, UnsafeMinimumLength};
pub use throttle::{Attempts, Outcome, Refused, ThrottlePolicy};
