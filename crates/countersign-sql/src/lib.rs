//! Countersign's stores on SQL databases.
//!
//! Feature `sqlite` (default): [`sqlite::SqliteStore`] keeps everything in one file and needs no server.
//! Feature `postgres`: `postgres::PostgresStore` keeps everything in a PostgreSQL database, for any number of nodes.
//! Feature `mysql`: `mysql::MySqlStore` does the same in a MySQL or MariaDB database.
//! [`SecretFile`] keeps the secret that seals the keys in such a store, in a file beside it.

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod column;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod host;
#[cfg(feature = "mysql")]
pub mod mysql;
mod open_error;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod operations;
#[cfg(any(feature = "mysql", feature = "postgres"))]
mod pool;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
mod record;
mod secret_file;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use open_error::OpenError;
pub use secret_file::{SecretFile, SecretFileError, open_to_others};
