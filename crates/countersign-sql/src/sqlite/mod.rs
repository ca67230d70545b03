//! All stores of Countersign in one SQLite file: the default, for one machine.
//!
//! ```
//! use countersign_core::store::Stores;
//! use countersign_sql::sqlite::{SqliteOptions, SqliteStore};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("countersign.db");
//! let store = SqliteStore::open(&SqliteOptions::new(&path)).await?;
//! let stores = Stores::from(store);
//! assert!(path.exists());
//! # drop(stores);
//! # Ok(())
//! # }
//! ```
//!
//! An answered write is on disk (write-ahead log, `synchronous=FULL`). The writes of all requests go through one
//! connection and share commits; reads never wait for them. Several processes may use the file at once, such as a
//! server and its command line. The file's folder must be on a local disk, because SQLite's locks do not work on most
//! network file systems. If somebody moves, removes or replaces one of the open files, every operation is an error.

mod admin_keys;
mod audit;
mod backup;
mod connection;
mod devices;
mod files;
mod keys;
mod migrations;
mod one_time;
mod open_store;
mod options;
mod outbox;
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

use countersign_core::store::{BoxError, ChangeSignal, StoreError};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteQueryResult, SqliteRow};
use sqlx::sqlite::{SqlitePool, SqlitePoolOptions};
use sqlx::{Arguments as _, Connection, Sqlite, SqliteConnection};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use connection::{Connector, Role};
use files::Files;
use writer::{Body, Undo, Writer};

use crate::statement::{Driver, FromColumns, Value};

#[doc(no_inline)]
pub use crate::OpenError;
pub use backup::{BackupError, Restored, backup, restore};
pub use options::SqliteOptions;
pub use with_secret::{OpenWithSecretError, open_with_secret};

type Statement<Y = ()> = crate::statement::Statement<Sqlite, Y>;

/// All of Countersign's stores in one SQLite file.
///
/// The store runs a task that writes, so it is opened and used within one tokio runtime.
#[derive(Debug)]
pub struct SqliteStore {
    writer: Writer,
    writing: JoinHandle<()>,
    readers: SqlitePool,
    /// Reads lists. A caller that asks for many lists waits for its own lists and does not delay other reads.
    lists: SqlitePool,
    /// Reads the tail of the revocation log, which must not wait behind other reads.
    tail: SqlitePool,
    connector: Connector,
    path: PathBuf,
    changed: Arc<ChangeSignal>,
    /// Looks for what other processes have written, and checks that the files are still there.
    watching: JoinHandle<()>,
    /// Only keeps the files open: SQLite removes those beside the database with the last connection, and creates others
    /// for the next one.
    anchor: Mutex<SqliteConnection>,
}

/// A read was not answered in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer before the deadline")]
struct DeadlinePassed;

impl SqliteStore {
    /// Opens the database, creates it if it is missing, and brings its tables up to date, as the options say. Processes
    /// that open it at the same time do not disturb each other.
    ///
    /// ```
    /// use countersign_sql::OpenError;
    /// use countersign_sql::sqlite::{SqliteOptions, SqliteStore};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("countersign.db");
    /// // A program that must not begin with an empty database opens only one that is there.
    /// let options = SqliteOptions::new(&path).create(false);
    /// assert!(SqliteStore::open(&options).await.is_err());
    ///
    /// let store = SqliteStore::open(&options.create(true)).await?;
    /// assert!(!store.has_keys().await?);
    /// # store.close().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`OpenError`] says why the database could not be opened. It is an error, too, if SQLite does not accept a
    /// setting that durability or safety rest on.
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

    /// Waits for the writes under way and closes the file. If the store is dropped without this call, each of those
    /// writes is still done or undone as a whole.
    pub async fn close(self) {
        self.watching.abort();
        drop(self.writer);
        let _ended = self.writing.await;
        self.readers.close().await;
        self.lists.close().await;
        self.tail.close().await;
        let _closing_anyway = self.anchor.into_inner().close().await;
    }

    /// Moves everything from the write-ahead log (`-wal`) into the database file, which is then complete by itself. A
    /// program calls it when it stops. If somebody has removed the log, only this call saves what is in it.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer. Nothing is lost then: SQLite reads the log at the next start.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        const ACTION: &str = "move the write-ahead log into the database file";
        let failed = |error: OpenError| StoreError::new(Sqlite::STORE, ACTION, error);
        let checkpoint = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)");
        if self.connector.is_log_alone_gone() {
            // A new connection would create another log; the connection that is open still has the old one.
            let mut anchor = self.anchor.lock().await;
            let query = checkpoint.execute(&mut *anchor);
            return self.answer(ACTION, query).await.map(|_| ());
        }
        let mut connection = self.connector.connect(Role::Writer).await.map_err(failed)?;
        self.answer_of_these_files(ACTION, checkpoint.execute(&mut connection)).await.map(|_| ())
    }

    /// The path of the database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the store has keys. If it has, the secret that sealed them must still exist, and a missing
    /// [`SecretFile`](crate::SecretFile) is an error.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn has_keys(&self) -> Result<bool, StoreError> {
        self.only("look for keys", &self.readers, keys::has_keys()).await.map(|(found,)| found)
    }

    /// Reads in one statement.
    async fn read<Y: FromColumns>(
        &self,
        action: &'static str,
        from: &SqlitePool,
        statement: Statement<Y>,
    ) -> Result<Vec<Y>, StoreError> {
        let rows = async {
            let mut connection = from.acquire().await?;
            statement.all(&mut connection).await
        };
        self.answer_of_these_files(action, rows).await
    }

    /// Reads a row, if there is one.
    async fn first<Y: FromColumns>(
        &self,
        action: &'static str,
        from: &SqlitePool,
        statement: Statement<Y>,
    ) -> Result<Option<Y>, StoreError> {
        Ok(self.read(action, from, statement).await?.into_iter().next())
    }

    /// Reads the row that the statement always returns.
    async fn only<Y: FromColumns>(
        &self,
        action: &'static str,
        from: &SqlitePool,
        statement: Statement<Y>,
    ) -> Result<Y, StoreError> {
        let row = self.first(action, from, statement).await?;
        row.ok_or_else(|| StoreError::new(Sqlite::STORE, action, sqlx::Error::RowNotFound))
    }

    /// Waits for an answer, at most until the deadline. It is an error if the database is no longer where it was,
    /// because others may have written into the file that is there now.
    async fn answer_of_these_files<T>(
        &self,
        action: &'static str,
        query: impl Future<Output = Result<T, sqlx::Error>> + Send,
    ) -> Result<T, StoreError> {
        self.connector.check_files().map_err(|gone| StoreError::new(Sqlite::STORE, action, gone))?;
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
            Ok(Err(error)) => Err(StoreError::new(Sqlite::STORE, action, error)),
            Err(_) => Err(StoreError::new(Sqlite::STORE, action, DeadlinePassed)),
        }
    }

    /// Writes in one statement. Returns how many rows it has changed.
    async fn write(&self, action: &'static str, statement: Statement) -> Result<u64, StoreError> {
        self.writes(action, Undo::Statement, move |connection| {
            Box::pin(async move { statement.changes(connection).await })
        })
        .await
    }

    /// Writes in one statement. Returns the rows of that statement.
    async fn write_returning<Y: FromColumns + 'static>(
        &self,
        action: &'static str,
        statement: Statement<Y>,
    ) -> Result<Vec<Y>, StoreError> {
        self.writes(action, Undo::Statement, move |connection| {
            Box::pin(async move { statement.all(connection).await })
        })
        .await
    }

    /// Writes in one statement. Returns the row that the statement always returns.
    async fn write_returning_only<Y: FromColumns + 'static>(
        &self,
        action: &'static str,
        statement: Statement<Y>,
    ) -> Result<Y, StoreError> {
        let row = self.write_returning(action, statement).await?.into_iter().next();
        row.ok_or_else(|| StoreError::new(Sqlite::STORE, action, sqlx::Error::RowNotFound))
    }

    /// Writes in several statements, all or none. Waits for the commit, at most until the deadline.
    async fn writes<T, F>(&self, action: &'static str, undo: Undo, body: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Body<'c, T> + Send + 'static,
    {
        self.writer.write(action, undo, body).await
    }
}

impl Driver for Sqlite {
    const STORE: &'static str = "sqlite";

    fn add(arguments: &mut SqliteArguments, value: Value<'_>) -> Result<(), BoxError> {
        match value {
            Value::Number(number) => arguments.add(number),
            Value::Count(count) => arguments.add(i64::try_from(count)?),
            Value::Text(text) => arguments.add(text.as_deref()),
            Value::Bytes(bytes) => arguments.add(&*bytes),
        }
    }

    async fn execute(
        connection: &mut SqliteConnection,
        query: Query<'static, Self, SqliteArguments>,
    ) -> Result<SqliteQueryResult, sqlx::Error> {
        query.execute(connection).await
    }

    async fn fetch(
        connection: &mut SqliteConnection,
        query: Query<'static, Self, SqliteArguments>,
    ) -> Result<Vec<SqliteRow>, sqlx::Error> {
        query.fetch_all(connection).await
    }

    fn changed(done: &SqliteQueryResult) -> u64 {
        done.rows_affected()
    }
}

/// Brings the tables of a database up to date, for use by a command line. Creates the file if the options say so.
///
/// # Errors
/// [`OpenError`] says why the tables could not be changed. Nothing was changed then.
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
    // The deadline is far more than needed, unless somebody keeps the lock.
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
        // A local file never closes its connections.
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

/// The absolute path. With it, neither a later change of the working directory nor a name that SQLite would read as a
/// URI leads to another file.
fn absolute(path: &Path) -> Result<PathBuf, OpenError> {
    if path == Path::new(":memory:") {
        return Err(OpenError::InMemory);
    }
    std::path::absolute(path).map_err(|source| OpenError::Path { path: path.to_owned(), source })
}

/// Creates an empty file that only its owner may read. SQLite gives the files beside it the same mode.
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

/// Refuses files that everybody may read or change. The file's group may, because an administrator has chosen it: for a
/// backup or a second program. The files beside the database get its mode when they are created, and may outlive a
/// change of that mode.
#[cfg(unix)]
fn check_modes(path: &Path) -> Result<(), OpenError> {
    use std::os::unix::fs::PermissionsExt as _;

    const OTHERS: u32 = 0o006;
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let file = PathBuf::from(name);
        // A file that does not exist is open to nobody.
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

/// Whether the error says that another connection held a lock.
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

/// How many lists are read at the same time.
const LIST_READERS: u32 = 1;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// A statement's text, and SQLite's plan for it.
#[cfg(test)]
async fn plan<Y>(statement: Statement<Y>) -> (String, String) {
    use sqlx::Row as _;

    let folder = tempfile::TempDir::new().unwrap();
    let store = SqliteStore::open(&SqliteOptions::new(folder.path().join("test.db"))).await.unwrap();
    let steps = statement.after("EXPLAIN QUERY PLAN").fetch_all(&store.readers).await.unwrap();
    let steps: Vec<String> = steps.iter().map(|step| step.get("detail")).collect();
    // A SELECT without a table reads nothing; whether an index holds all columns does not matter.
    let steps = steps.join("\n").replace("SCAN CONSTANT ROW", "").replace("COVERING INDEX", "INDEX");
    (statement.sql().to_owned(), steps)
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
        // The pools do not hand out a connection that fails the check.
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
