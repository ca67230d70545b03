//! Users and sessions of a Flask application, read out of its own database.
//!
//! The database is only read: SQLite, PostgreSQL, MariaDB or MySQL. Tables and columns are found by their usual names.
//! What cannot be understood is named and left out; what may be dangerous, such as a switch that is neither on nor off,
//! counts as the safe of both. Writing what was read into a store is for the caller.

pub mod columns;
mod row;
mod source;
mod tables;
mod value;

pub use row::{NotAnId, Row, Rows, Say};
pub use tables::read_tables;
pub use value::{Cell, HashForm, unhyphenated};
