//! Which SQLite file a store uses, and how it is opened.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::OpenError;

/// How a [`SqliteStore`](super::SqliteStore) is opened.
///
/// ```
/// use std::path::Path;
/// use std::time::Duration;
/// use countersign_sql::sqlite::SqliteOptions;
///
/// let options = SqliteOptions::from_url("sqlite:///var/lib/app/countersign.db")?.deadline(Duration::from_secs(1));
/// assert_eq!(options.path(), Path::new("/var/lib/app/countersign.db"));
/// assert!(SqliteOptions::from_url("sqlite::memory:").is_err());
/// # Ok::<(), countersign_sql::OpenError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    pub(super) path: PathBuf,
    pub(super) create: bool,
    pub(super) run_migrations: bool,
    pub(super) deadline: Duration,
    pub(super) max_batch: usize,
    pub(super) readers: u32,
}

impl SqliteOptions {
    /// The default deadline: 3 s.
    pub const DEADLINE: Duration = Duration::from_secs(3);
    /// The default number of writes that share a commit at most: 128.
    pub const MAX_BATCH: usize = 128;
    /// The default number of connections that read: 4.
    pub const READERS: u32 = 4;

    /// The options for a database file. By default the file is created if it is missing (mode 0600), and its tables are
    /// brought up to date when it is opened.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            create: true,
            run_migrations: true,
            deadline: Self::DEADLINE,
            max_batch: Self::MAX_BATCH,
            readers: Self::READERS,
        }
    }

    /// Reads the options from a URL: `sqlite://countersign.db`, `sqlite:///var/lib/app/countersign.db` or
    /// `sqlite:countersign.db`. The path is taken unchanged, without percent-decoding. The defaults are those of
    /// [`SqliteOptions::new`].
    ///
    /// # Errors
    /// [`OpenError::Url`] for other URLs and those with parameters, [`OpenError::InMemory`] for `sqlite::memory:`.
    pub fn from_url(url: &str) -> Result<Self, OpenError> {
        const NO_URL: OpenError =
            OpenError::Url { engine: "SQLite", form: "sqlite:// and the file's path, without parameters" };
        let path = url.strip_prefix("sqlite:").ok_or(NO_URL)?;
        let path = path.strip_prefix("//").unwrap_or(path);
        if path == ":memory:" {
            return Err(OpenError::InMemory);
        }
        if path.is_empty() || path.contains(['?', '#']) {
            return Err(NO_URL);
        }
        Ok(Self::new(path))
    }

    /// Whether a missing file is created. Default: yes.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Whether opening the store brings the tables up to date. Default: yes. With `false`, opening fails if they are
    /// not.
    #[must_use]
    pub fn run_migrations(mut self, run: bool) -> Self {
        self.run_migrations = run;
        self
    }

    /// The deadline by which every operation is answered, with an error if need be: at least 10 ms, at most a minute.
    /// Default 3 s, so that a request gets its 503 while the client still waits.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline.clamp(Duration::from_millis(10), Duration::from_secs(60));
        self
    }

    /// The largest number of writes that share a commit. Default 128: far more than arrive during one commit, which
    /// still stays short.
    #[must_use]
    pub fn max_batch(mut self, writes: usize) -> Self {
        self.max_batch = writes.clamp(1, 10_000);
        self
    }

    /// The number of connections that read. Default 4. The tail of the revocation log is read by one more connection.
    #[must_use]
    pub fn readers(mut self, connections: u32) -> Self {
        self.readers = connections.clamp(1, 64);
        self
    }

    /// The path of the database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Shows where the database is.
impl fmt::Display for SqliteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the SQLite database {}", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_file() {
        for (url, path) in [
            ("sqlite://countersign.db", Some("countersign.db")),
            ("sqlite:countersign.db", Some("countersign.db")),
            ("sqlite:///var/lib/a b/c.db", Some("/var/lib/a b/c.db")),
            ("sqlite://C:/data/c.db", Some("C:/data/c.db")),
            ("sqlite::memory:", None),
            ("sqlite://:memory:", None),
            ("sqlite://", None),
            ("sqlite://a.db?mode=ro", None),
            ("sqlite://a.db#x", None),
            ("postgres://localhost/a", None),
            ("countersign.db", None),
        ] {
            let options = SqliteOptions::from_url(url).ok();
            assert_eq!(options.as_ref().map(SqliteOptions::path), path.map(Path::new), "{url}");
        }
    }
}
