//! Everything in one SQLite file: the default, for one machine.
//!
//! ```
//! use countersign_core::store::Stores;
//! use countersign_sql::OpenError;
//! use countersign_sql::sqlite::{SqliteOptions, SqliteStore};
//!
//! # async fn open() -> Result<(), OpenError> {
//! let store = SqliteStore::open(&SqliteOptions::new("countersign.db")).await?;
//! let stores = Stores::from(store);
//! # Ok(())
//! # }
//! ```
//!
//! What was answered is on disk (write-ahead log, `synchronous=FULL`). Writes of all requests go through one
//! connection and share commits; reads never wait for them. Several processes may use the file at once, such as
//! a server and its command line. The file's folder must be on a local disk: SQLite's locks do not work on most
//! network file systems. While the files are not those that were opened, because somebody has moved, removed or replaced
//! one, every operation is an error.

mod connection;
mod files;
mod keys;
mod migrations;
mod options;
mod revocations;
mod sessions;
mod throttles;
mod users;
mod watch;
mod with_secret;
mod writer;

use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use countersign_core::store::{ChangeSignal, StoreError};
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use sqlx::{Connection, SqliteConnection};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use connection::{Connector, Role};
use files::Files;
use writer::{Body, Undo, Writer};

use crate::OpenError;

pub use options::SqliteOptions;
pub use with_secret::{OpenWithSecretError, open_with_secret};

/// The name of this engine in errors.
const STORE: &str = "sqlite";

/// All of Countersign's stores in one SQLite file.
///
/// It runs a task that writes, so it is opened and used within one tokio runtime.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Writer,
    writing: JoinHandle<()>,
    readers: SqlitePool,
    /// Reads lists, so that whoever asks for many of them waits for himself and not others for him.
    lists: SqlitePool,
    /// Reads the tail of the revocation log, which must not wait behind other reads.
    tail: SqlitePool,
    connector: Connector,
    path: PathBuf,
    changed: Arc<ChangeSignal>,
    /// Looks for what other processes have written, and whether the files are still there.
    watching: JoinHandle<()>,
    /// Does nothing but keep the files open: SQLite removes those beside the database with the last connection, and makes
    /// other ones for the next.
    anchor: Mutex<SqliteConnection>,
}

/// A read did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer before the deadline")]
struct DeadlinePassed;

impl SqliteStore {
    /// Opens the database, makes it if it is missing, and brings its tables up to date, as the options say.
    /// Processes that do so at the same time do not disturb each other.
    ///
    /// # Errors
    /// [`OpenError`], also when SQLite does not take a setting that durability or safety rest on.
    pub async fn open(options: &SqliteOptions) -> Result<Self, OpenError> {
        let path = absolute(&options.path)?;
        let connector = Connector::new(&path, options.deadline);
        let connection = prepare(options, &path, &connector).await?;
        let anchor = connector.connect(Role::Reader).await?;
        let files = Files::of(&path).map_err(|source| OpenError::Path { path: path.clone(), source })?;
        let connector = connector.with_files(files);
        let readers = pool(&connector, options.readers).await?;
        let lists = pool(&connector, LIST_READERS).await?;
        let tail = pool(&connector, 1).await?;
        let (writer, writing) = Writer::start(connection, connector.clone(), options.max_batch);
        let changed = Arc::new(ChangeSignal::new());
        let watcher = connector.connect(Role::Reader).await?;
        let watching = tokio::spawn(watch::run(watcher, connector.clone(), Arc::downgrade(&changed)));
        Ok(Self {
            writer,
            writing,
            readers,
            lists,
            tail,
            connector,
            path,
            changed,
            watching,
            anchor: Mutex::new(anchor),
        })
    }

    /// Waits for the writes under way and closes the file. Without it they are still done or undone as a whole.
    pub async fn close(self) {
        self.watching.abort();
        drop(self.writer);
        let _ended = self.writing.await;
        self.readers.close().await;
        self.lists.close().await;
        self.tail.close().await;
        let _closing_anyway = self.anchor.into_inner().close().await;
    }

    /// Moves everything from the write-ahead log (`-wal`) into the database file, which then is complete by itself.
    /// For when a program stops. If somebody has removed the log, what is in it is saved here, and only here.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer. Nothing is lost then: SQLite reads the log at the next start.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        const ACTION: &str = "move the write-ahead log into the database file";
        let failed = |error: OpenError| StoreError::new(STORE, ACTION, error);
        let checkpoint = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)");
        if self.connector.is_log_alone_gone() {
            // A new connection would make another log. One that is open still has the old one.
            let mut anchor = self.anchor.lock().await;
            let query = checkpoint.execute(&mut *anchor);
            return self.answer(ACTION, query).await.map(|_| ());
        }
        let mut connection = self.connector.connect(Role::Writer).await.map_err(failed)?;
        self.read(ACTION, checkpoint.execute(&mut connection)).await.map(|_| ())
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there are keys in the store. If so, they were sealed with a secret that must still be there, and a
    /// [`SecretFile`](crate::SecretFile) that is missing is an error.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn has_keys(&self) -> Result<bool, StoreError> {
        let query = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sealed_key)");
        let found: i64 = self.read("look for keys", query.fetch_one(&self.readers)).await?;
        Ok(found != 0)
    }

    /// Waits for a read, at most until the deadline. An error if the database is not where it was: others may have
    /// written into the file that is there now.
    async fn read<T>(
        &self,
        action: &'static str,
        query: impl Future<Output = Result<T, sqlx::Error>> + Send,
    ) -> Result<T, StoreError> {
        self.connector.check_files().map_err(|gone| StoreError::new(STORE, action, gone))?;
        self.answer(action, query).await
    }

    /// Waits for an answer, at most until the deadline.
    async fn answer<T>(
        &self,
        action: &'static str,
        query: impl Future<Output = Result<T, sqlx::Error>> + Send,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.connector.deadline(), query).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(StoreError::new(STORE, action, error)),
            Err(_) => Err(StoreError::new(STORE, action, DeadlinePassed)),
        }
    }

    /// Waits for a write's commit, at most until the deadline.
    async fn write<T, F>(&self, action: &'static str, undo: Undo, body: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Body<'c, T> + Send + 'static,
    {
        self.writer.write(action, undo, body).await
    }

    /// Deletes in steps, so that other writes get their turn in between. `step` deletes at most as many rows as
    /// it is told and returns how many.
    async fn purge<S, F>(&self, limit: usize, step: S) -> Result<u64, StoreError>
    where
        S: Fn(usize) -> F + Send + Sync,
        F: Future<Output = Result<u64, StoreError>> + Send,
    {
        let mut left = limit;
        let mut purged = 0_u64;
        while left > 0 {
            let at_most = left.min(PURGE_STEP);
            let gone = step(at_most).await?;
            purged = purged.saturating_add(gone);
            left -= at_most;
            if gone < at_most as u64 {
                break;
            }
        }
        Ok(purged)
    }
}

/// Brings the tables of a database up to date, for a command line; makes the file if the options say so.
///
/// # Errors
/// [`OpenError`]; then nothing was changed.
pub async fn migrate(options: &SqliteOptions) -> Result<(), OpenError> {
    let path = absolute(&options.path)?;
    let connector = Connector::new(&path, options.deadline);
    let connection = prepare(&options.clone().run_migrations(true), &path, &connector).await?;
    connection.close().await.map_err(OpenError::engine)
}

/// A connection that writes, to a file that exists and has its tables.
async fn prepare(
    options: &SqliteOptions,
    path: &Path,
    connector: &Connector,
) -> Result<SqliteConnection, OpenError> {
    make_file(path, options.create)?;
    check_modes(path)?;
    let attempts = async {
        loop {
            let attempt = async {
                let mut connection = connector.connect(Role::Writer).await?;
                if options.run_migrations {
                    migrations::run(&mut connection).await?;
                } else if !migrations::is_current(&mut connection).await? {
                    return Err(OpenError::NotMigrated);
                }
                Ok(connection)
            };
            match attempt.await {
                // SQLite does not wait for the lock with which a new file is switched to the write-ahead log.
                Err(error) if is_busy(&error) => tokio::time::sleep(BUSY_PAUSE).await,
                outcome => return outcome,
            }
        }
    };
    // Far more than needed, unless somebody keeps the lock.
    let deadline = options.deadline.saturating_mul(2);
    tokio::time::timeout(deadline, attempts).await.map_err(|_| OpenError::Locked)?
}

async fn pool(connector: &Connector, connections: u32) -> Result<SqlitePool, OpenError> {
    let checker = Arc::new(connector.clone());
    let pool = SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(connector.deadline())
        .max_lifetime(None)
        .idle_timeout(None)
        // A local file does not hang up.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let checker = checker.clone();
            Box::pin(async move {
                checker.check(connection, Role::Reader).await.map_err(OpenError::into_driver_error)
            })
        })
        .connect_with(connector.options(Role::Reader));
    pool.await.map_err(OpenError::engine)
}

/// The absolute path, so that a later change of the working directory, or a name that SQLite would read as a URI,
/// leads nowhere else.
fn absolute(path: &Path) -> Result<PathBuf, OpenError> {
    if path == Path::new(":memory:") {
        return Err(OpenError::InMemory);
    }
    std::path::absolute(path).map_err(|source| OpenError::Path { path: path.to_owned(), source })
}

/// Makes an empty file that only its owner may read. SQLite gives the files beside it the same mode.
fn make_file(path: &Path, create: bool) -> Result<(), OpenError> {
    if !create {
        return if path.exists() { Ok(()) } else { Err(OpenError::Missing { path: path.to_owned() }) };
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(OpenError::Create { path: path.to_owned(), source }),
    }
}

/// Refuses files that everybody may read or change. Its group may, which an administrator has chosen: a backup, a second
/// program. The files beside it get the mode of the database when they are made, and may outlive a change of that.
#[cfg(unix)]
fn check_modes(path: &Path) -> Result<(), OpenError> {
    use std::os::unix::fs::PermissionsExt as _;

    const OTHERS: u32 = 0o006;
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let file = PathBuf::from(name);
        // What is not there is open to nobody.
        let Ok(metadata) = fs::metadata(&file) else { continue };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & OTHERS != 0 {
            return Err(OpenError::OpenToOthers { path: file, mode });
        }
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_modes(_: &Path) -> Result<(), OpenError> {
    Ok(())
}

/// Whether another connection held a lock.
fn is_busy(error: &OpenError) -> bool {
    use sqlx::migrate::MigrateError;

    const BUSY: i32 = 5;
    let error = match error {
        OpenError::Migrate(error) => match error.downcast_ref() {
            Some(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => Some(error),
            _ => None,
        },
        error => error.of_the_driver(),
    };
    let code =
        error.and_then(sqlx::Error::as_database_error).and_then(|error| error.code()?.parse::<i32>().ok());
    code.is_some_and(|code| code & 0xff == BUSY)
}

/// How many rows one write deletes at most: some milliseconds of work.
const PURGE_STEP: usize = 1_000;
/// How many lists are read at the same time.
const LIST_READERS: u32 = 1;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// How SQLite would run a statement.
#[cfg(test)]
async fn plan(statement: &'static str) -> String {
    use sqlx::{AssertSqlSafe, Row};

    let folder = tempfile::TempDir::new().unwrap();
    let store = SqliteStore::open(&SqliteOptions::new(folder.path().join("test.db"))).await.unwrap();
    let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
    let steps = sqlx::query(explain).fetch_all(&store.readers).await.unwrap();
    let steps: Vec<String> = steps.iter().map(|step| step.get("detail")).collect();
    // A SELECT without a table reads nothing; whether an index holds all columns does not matter.
    steps.join("\n").replace("SCAN CONSTANT ROW", "").replace("COVERING INDEX", "INDEX")
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[tokio::test]
    async fn every_pooled_connection_is_checked() {
        let folder = TempDir::new().unwrap();
        let options = SqliteOptions::new(folder.path().join("test.db")).readers(3);
        let store = SqliteStore::open(&options).await.unwrap();
        let mut held = vec![store.tail.acquire().await.unwrap()];
        for _ in 0..3 {
            held.push(store.readers.acquire().await.unwrap());
        }
        for connection in &mut held {
            store.connector.check(connection, Role::Reader).await.unwrap();
        }
        // What the pools do with a connection that fails the check: they do not hand it out.
        let spoilt = Connector::new(&store.path, Duration::from_secs(6));
        let pool = SqlitePoolOptions::new().acquire_timeout(Duration::from_millis(100)).after_connect(
            move |connection, _| {
                let spoilt = spoilt.clone();
                Box::pin(
                    async move { spoilt.check(connection, Role::Reader).await.map_err(sqlx::Error::config) },
                )
            },
        );
        let options = store.connector.options(Role::Reader);
        assert!(pool.connect_with(options).await.is_err());
    }
}
