//! Opens connections, each with the settings that the store's promises rest on.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection};

use super::files::{Files, Gone};
use crate::OpenError;

/// Opens connections to one database file.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    path: PathBuf,
    deadline: Duration,
    files: Option<Arc<Files>>,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    Writer,
    Reader,
}

impl Connector {
    pub(super) fn new(path: &Path, deadline: Duration) -> Self {
        Self { path: path.to_owned(), deadline, files: None }
    }

    /// Restricts connections to these files, and refuses others with the same names.
    pub(super) fn with_files(self, files: Files) -> Self {
        Self { files: Some(Arc::new(files)), ..self }
    }

    /// Checks that the files are still where they were.
    pub(super) fn check_files(&self) -> Result<(), Gone> {
        self.files.as_ref().map_or(Ok(()), |files| files.check())
    }

    /// The deadline by which every operation is answered.
    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Whether only the write-ahead log is no longer where it was.
    pub(super) fn is_log_alone_gone(&self) -> bool {
        self.files.as_ref().is_some_and(|files| files.is_log_alone_gone())
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
            // With the write-ahead log, readers do not wait for the writer, nor the writer for readers.
            .journal_mode(SqliteJournalMode::Wal)
            // With `NORMAL`, a power cut could undo a logout that was already answered.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // The file may have been tampered with, so no functions run from its schema, and damaged pages are noticed.
            .pragma("trusted_schema", "OFF")
            .pragma("cell_size_check", "ON")
            // After a burst the log file shrinks to 64 MiB again.
            .pragma("journal_size_limit", "67108864")
            .pragma("query_only", if role == Role::Reader { "ON" } else { "OFF" })
            // Statements are no secret, but logs are to hold no SQL.
            .disable_statement_logging()
    }

    pub(super) async fn connect(&self, role: Role) -> Result<SqliteConnection, OpenError> {
        // The check comes before connecting, which writes into a file that has no write-ahead log yet.
        self.check_files().map_err(|gone| OpenError::engine(sqlx::Error::config(gone)))?;
        let mut connection = self.options(role).connect().await.map_err(OpenError::engine)?;
        self.check(&mut connection, role).await?;
        Ok(connection)
    }

    /// Reads the settings back, because SQLite ignores what it does not know or cannot do.
    pub(super) async fn check(&self, connection: &mut SqliteConnection, role: Role) -> Result<(), OpenError> {
        for (sql, expected) in [("PRAGMA journal_mode", "wal"), ("PRAGMA encoding", "UTF-8")] {
            let found = sqlx::query_scalar(sql).fetch_one(&mut *connection).await;
            let found: String = found.map_err(OpenError::engine)?;
            if found != expected {
                return Err(OpenError::Setting { setting: sql, expected: expected.to_owned(), found });
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
            let found = sqlx::query_scalar(sql).fetch_one(&mut *connection).await;
            let found: i64 = found.map_err(OpenError::engine)?;
            if found != expected {
                return Err(OpenError::Setting {
                    setting: sql,
                    expected: expected.to_string(),
                    found: found.to_string(),
                });
            }
        }
        self.check_files().map_err(|gone| OpenError::engine(sqlx::Error::config(gone)))
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn connector(folder: &TempDir) -> Connector {
        let path = folder.path().join("test.db");
        std::fs::File::create(&path).unwrap();
        Connector::new(&path, Duration::from_secs(3))
    }

    #[tokio::test]
    async fn every_connection_has_the_settings_that_the_promises_rest_on() {
        let folder = TempDir::new().unwrap();
        let connector = connector(&folder);
        for role in [Role::Writer, Role::Reader] {
            let mut connection = connector.connect(role).await.unwrap();
            for (sql, expected) in [
                ("SELECT journal_mode FROM pragma_journal_mode", "wal"),
                ("SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous", "2"),
                ("SELECT CAST(timeout AS TEXT) FROM pragma_busy_timeout", "2500"),
            ] {
                let found: String = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
                assert_eq!(found, expected, "{role:?}: {sql}");
            }
        }
    }

    #[tokio::test]
    async fn a_setting_that_was_not_taken_is_an_error() {
        let folder = TempDir::new().unwrap();
        let connector = connector(&folder);
        for (undo, pragma) in [
            ("PRAGMA synchronous = NORMAL", "PRAGMA synchronous"),
            ("PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys"),
            ("PRAGMA trusted_schema = ON", "PRAGMA trusted_schema"),
            ("PRAGMA cell_size_check = OFF", "PRAGMA cell_size_check"),
            ("PRAGMA query_only = ON", "PRAGMA query_only"),
            ("PRAGMA busy_timeout = 0", "PRAGMA busy_timeout"),
            // The last case, because it changes the file.
            ("PRAGMA journal_mode = DELETE", "PRAGMA journal_mode"),
        ] {
            let mut connection = connector.connect(Role::Writer).await.unwrap();
            sqlx::raw_sql(undo).execute(&mut connection).await.unwrap();
            match connector.check(&mut connection, Role::Writer).await {
                Err(OpenError::Setting { setting: found, .. }) => assert_eq!(found, pragma),
                other => panic!("{undo}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_reader_cannot_write() {
        let folder = TempDir::new().unwrap();
        let connector = connector(&folder);
        let mut reader = connector.connect(Role::Reader).await.unwrap();
        assert!(sqlx::raw_sql("CREATE TABLE t (x)").execute(&mut reader).await.is_err());
    }
}
