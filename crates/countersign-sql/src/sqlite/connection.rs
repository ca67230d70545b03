//! Opening connections, each with the settings that the store's promises rest on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};

use super::options::OpenError;

/// Makes connections to one database file.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    path: PathBuf,
    deadline: Duration,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    Writer,
    Reader,
}

impl Connector {
    pub(super) fn new(path: &Path, deadline: Duration) -> Self {
        Self { path: path.to_owned(), deadline }
    }

    /// Within this time every operation is answered.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// How long SQLite waits for a lock: a little less than the deadline, so that its own answer comes first.
    fn busy_timeout(&self) -> Duration {
        self.deadline.saturating_mul(5) / 6
    }

    pub(super) fn options(&self, role: Role) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .create_if_missing(false)
            .busy_timeout(self.busy_timeout())
            // Readers do not wait for the writer, nor the writer for readers.
            .journal_mode(SqliteJournalMode::Wal)
            // With NORMAL, a power cut could take back a logout that was answered.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // The file may have been tampered with: no functions run from its schema, damaged pages are noticed.
            .pragma("trusted_schema", "OFF")
            .pragma("cell_size_check", "ON")
            // After a burst the log file shrinks to 64 MiB again.
            .pragma("journal_size_limit", "67108864")
            .pragma("query_only", if role == Role::Reader { "ON" } else { "OFF" })
            // Statements are no secret, but logs are to hold no SQL.
            .disable_statement_logging()
    }

    pub(super) async fn connect(&self, role: Role) -> Result<SqliteConnection, OpenError> {
        let mut connection = self.options(role).connect().await?;
        self.check(&mut connection, role).await?;
        Ok(connection)
    }

    /// Reads the settings back: SQLite ignores what it does not know or cannot do.
    pub(super) async fn check(&self, connection: &mut SqliteConnection, role: Role) -> Result<(), OpenError> {
        for (sql, expected) in [("PRAGMA journal_mode", "wal"), ("PRAGMA encoding", "UTF-8")] {
            let found: String = sqlx::query_scalar(sql).fetch_one(&mut *connection).await?;
            if found != expected {
                return Err(OpenError::Setting { pragma: sql, expected: expected.to_owned(), found });
            }
        }
        let busy_timeout = i64::try_from(self.busy_timeout().as_millis()).unwrap_or(i64::MAX);
        for (sql, expected) in [
            ("PRAGMA synchronous", 2),
            ("PRAGMA foreign_keys", 1),
            ("PRAGMA trusted_schema", 0),
            ("PRAGMA cell_size_check", 1),
            ("PRAGMA query_only", i64::from(role == Role::Reader)),
            ("PRAGMA busy_timeout", busy_timeout),
        ] {
            let found: i64 = sqlx::query_scalar(sql).fetch_one(&mut *connection).await?;
            if found != expected {
                return Err(OpenError::Setting {
                    pragma: sql,
                    expected: expected.to_string(),
                    found: found.to_string(),
                });
            }
        }
        Ok(())
    }
}
