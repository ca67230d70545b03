//! Countersign's stores on SQL databases.
//!
//! Feature `sqlite` (default): [`sqlite::SqliteStore`] keeps everything in one file and needs no server.
//! Feature `postgres`: `postgres::PostgresStore` keeps everything in a PostgreSQL database, for any number of nodes.
//! Feature `mysql`: `mysql::MySqlStore` keeps everything in a MySQL or MariaDB database, for any number of nodes.
//! [`SecretFile`] keeps the secret that seals the keys in such a store, in a file beside it.
#![cfg_attr(docsrs, feature(doc_cfg))]

// Declared first, because the macros of this module put lists of columns into the texts of statements.
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
#[macro_use]
mod record;

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod column;
#[cfg(feature = "mysql")]
pub mod mysql;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod names;
mod open_error;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod purge;
mod secret_file;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod server;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod statement;

pub use open_error::OpenError;
pub use secret_file::{SecretFile, SecretFileError, open_to_others};
