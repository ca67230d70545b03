//! Accounts with passwords: unique names, hashes, the brake on guessing, and the flows over them.
//!
//! Names and passwords are parsed at the edge, so the code behind it never meets a text that was not checked.

mod caller;
mod flow;
mod hasher;
mod name;
mod password;
mod refusals;
mod throttle;
mod user;

pub use flow::{
    Accounts, AccountsConfig, Arrival, LoginError, LoginName, RegisterError, Registration, SignedIn,
};
pub use hasher::{
    Argon2Params, HashError, HashPlace, HashPool, HashTurn, Hasher, PasswordHash, UnsafeArgon2Params,
};
pub use name::{EmailAddress, NameError, Username, without_blanks};
pub use password::{MinimumLength, Password, PasswordError, UnsafeMinimumLength};
pub use throttle::{Attempts, Outcome, Refused, ThrottlePolicy};
pub use user::User;
