//!
//! never meets a text that was not checked.

mod name;

pub use name::{EmailAddress, NameError, Username};
