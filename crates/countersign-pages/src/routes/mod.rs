//! The pages, by what a visitor wants.

pub(crate) mod account;
pub(crate) mod code;
pub(crate) mod credentials;
pub(crate) mod errors;
mod fields;
pub(crate) mod home;
pub(crate) mod language;
pub(crate) mod sign_in;
pub(crate) mod sign_out;
pub(crate) mod verify;
