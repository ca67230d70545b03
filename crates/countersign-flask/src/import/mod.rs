//! Reading users, sessions and revoked tokens of a Flask application from its own database.
//!
//! The database, SQLite, PostgreSQL, MariaDB or MySQL, is only read. Tables and columns are found by their usual names.
//! A value that cannot be understood is reported and left out. A value that may be dangerous, such as a switch that is
//! neither on nor off, is read as the safer of both. The caller writes what was read into a store.

mod blocklist;
pub mod columns;
mod roles;
mod row;
mod source;
mod tables;
mod value;

pub use blocklist::{Blocklist, BlocklistError};
pub use roles::Memberships;
pub use row::{NotAnId, Row, Rows, Say};
pub use source::NotRead;
pub use tables::{TableNames, Tables, read_tables};
pub use value::{Cell, HashForm, unhyphenated};
