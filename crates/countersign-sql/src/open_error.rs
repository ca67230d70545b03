//! Why a database could not be opened, whichever engine it is.

use std::path::PathBuf;

use countersign_core::store::BoxError;

/// Why a database could not be opened.
///
/// Some variants occur with every engine, others with one engine only. No message shows a URL, because it may hold the
/// password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The URL is not one of this engine.
    #[error("not a {engine} URL: write {form}")]
    Url {
        /// The engine.
        engine: &'static str,
        /// The form of the engine's URLs.
        form: &'static str,
    },
    /// The URL has a parameter that the engine does not know, or a value that the parameter cannot have.
    #[error("the {engine} URL has {problem}; known are: {}", known.join(", "))]
    UrlParameter {
        /// The engine.
        engine: &'static str,
        /// What is wrong with the parameter.
        problem: &'static str,
        /// The parameters that the engine knows.
        known: &'static [&'static str],
    },
    /// The engine refused the connection, or could not be reached.
    #[error("could not open the database")]
    Engine(#[source] BoxError),
    /// MySQL accepts this user's password only over an encrypted connection, and the connection is not encrypted.
    #[error(
        "the server takes this user's password (caching_sha2_password, sha256_password) only over TLS: turn TLS on in \
         the server, and write ssl-mode=REQUIRED or ssl-mode=VERIFY_IDENTITY in the URL"
    )]
    PasswordNeedsTls,
    /// The engine did not accept a setting that the store's promises rest on, or a proxy in between took it away.
    #[error("{setting} is {found}, but must be {expected}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// The value that the setting must have.
        expected: String,
        /// The value that the setting has.
        found: String,
    },
    /// A table in MySQL is kept by a storage engine that has no transactions.
    #[error("the table {table} is kept by {engine}, but must be by InnoDB")]
    TableWithoutTransactions {
        /// The table.
        table: String,
        /// The storage engine that keeps it.
        engine: String,
    },
    /// The tables are those of another version of this program, or were changed by hand.
    #[error(
        "the tables are from a newer version of this program, or were changed by hand (migration {version}); upgrade this program"
    )]
    UnknownChange {
        /// The number of the change that is not known, or is known with other content.
        version: i64,
    },
    /// The tables of a SQLite file could not be brought up to date, or are those of a newer version.
    #[error("could not bring the database's tables up to date")]
    Migrate(#[source] BoxError),
    /// The tables are not up to date, and the options say that opening does not change them.
    #[error(
        "the database's tables are not up to date; run the migrations first (`countersign migrate`, or allow migrations in \
         the store's options)"
    )]
    NotMigrated,
    /// The server did not answer in time.
    #[error("the server did not answer before the deadline")]
    Deadline,
    /// Other connections kept the SQLite file locked until the deadline.
    #[error("the database was locked by others until the deadline")]
    Locked,
    /// An in-memory SQLite database would vanish with its connection.
    #[error(
        "an in-memory SQLite database is gone with its connection; name a file, such as sqlite:///tmp/try.db, or use `MemoryStore` \
         in a program of your own"
    )]
    InMemory,
    /// The path of the SQLite file cannot be used.
    #[error("the path {} cannot be used", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The SQLite file does not exist, and the options say that opening does not create it.
    #[error(
        "there is no database {}; run in the server's folder, name the database (`--database`), or create it with \
         `countersign migrate`", path.display()
    )]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// The SQLite file could not be created.
    #[error(
        "could not create the database {}; its folder must exist and be writable, or name another path", path.display()
    )]
    Create {
        /// The path.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Every user of the machine may read or change the SQLite file, or a file beside it (SEC-046).
    #[error(
        "{0} is open to every user of this machine (mode {mode:03o}), and holds accounts, sessions and keys; run: chmod 600 \
         {0}", path.display()
    )]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// The file's permission bits.
        mode: u32,
    },
}

#[cfg(any(feature = "mysql", feature = "postgres", feature = "sqlite"))]
impl OpenError {
    /// The error for an engine's driver that could not do what opening asks for. Drivers are no part of what this crate
    /// promises, so the error is kept as a cause without its type.
    pub(crate) fn engine(error: sqlx::Error) -> Self {
        Self::Engine(error.into())
    }

    /// The driver's error, if the cause is one.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn of_the_driver(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Engine(source) => source.downcast_ref(),
            _ => None,
        }
    }

    /// The error as one of the driver, for callers that expect one.
    #[cfg(any(feature = "mysql", feature = "sqlite"))]
    pub(crate) fn into_driver_error(self) -> sqlx::Error {
        match self {
            Self::Engine(source) => match source.downcast::<sqlx::Error>() {
                Ok(error) => *error,
                Err(source) => sqlx::Error::Configuration(source),
            },
            other => sqlx::Error::config(other),
        }
    }
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn the_drivers_error_is_the_cause_and_comes_back_as_it_was() {
        let error = OpenError::engine(sqlx::Error::PoolClosed);
        assert_eq!(error.to_string(), "could not open the database");
        assert_eq!(error.source().unwrap().to_string(), sqlx::Error::PoolClosed.to_string());
        assert!(matches!(error.of_the_driver(), Some(sqlx::Error::PoolClosed)));
        assert!(matches!(error.into_driver_error(), sqlx::Error::PoolClosed));
        let other = OpenError::NotMigrated.into_driver_error();
        assert!(other.to_string().contains("run the migrations first"), "{other}");
    }
}
