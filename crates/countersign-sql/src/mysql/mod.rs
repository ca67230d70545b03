//! Everything in a MySQL or MariaDB database, shared by any number of nodes.
//!
//! ```no_run
//! use countersign_core::store::Stores;
//! use countersign_sql::OpenError;
//! use countersign_sql::mysql::{MySqlOptions, MySqlStore};
//!
//! # async fn open() -> Result<(), OpenError> {
//! let options = MySqlOptions::from_url("mysql://app:password@db.example/app?ssl-mode=VERIFY_IDENTITY")?;
//! let stores = Stores::from(MySqlStore::open(&options).await?);
//! # Ok(())
//! # }
//! ```
//!
//! The tables' names begin with `countersign_`, so the database may be the application's own. What was answered is on
//! the server's disk, as far as the server's settings go ([`MySqlStore::weaknesses`]). Each node looks many times a
//! second for what others have revoked ([`MySqlOptions::watch`]), and polls all the same.
//!
//! The URL leads to the primary, or to any node of a cluster that takes writes; not to a proxy that sends reads to
//! replicas. Transactions are READ COMMITTED, which every connection asks for and checks. Where a proxy takes that
//! away later, the statements are right under REPEATABLE READ, too, and only get into each other's way more often.

mod engine;
mod keys;
mod migrations;
mod options;
#[cfg(test)]
mod plans;
mod revocations;
mod server;
mod sessions;
mod throttles;
mod users;
mod watch;

use std::sync::Arc;

use countersign_core::Timestamp;
use countersign_core::store::{ChangeSignal, StoreError};

use engine::{Engine, Statement, only};
use migrations::Standing;
use server::Route;
use watch::Task;

use crate::OpenError;
use crate::column::limit;
use crate::pool::Pool;

pub use options::MySqlOptions;

/// The name of this engine in errors.
const STORE: &str = "mysql";

/// How many rows one statement deletes at most: some milliseconds of work.
const PURGE_STEP: usize = 1_000;

/// One reads the tail of the log, and one is left for a request that joins in.
const TAIL_CONNECTIONS: u32 = 2;

/// How many lists are read at the same time.
const LIST_CONNECTIONS: u32 = 1;

/// All of Countersign's stores in one MySQL or MariaDB database.
///
/// It runs tasks in the background, so it is opened and used within one tokio runtime.
#[derive(Debug)]
pub struct MySqlStore {
    work: Engine,
    /// Reads lists, so that whoever asks for many of them waits for himself and not others for him.
    lists: Engine,
    /// For the tail of the revocation log, which must not wait behind other work.
    tail: Engine,
    weaknesses: Vec<String>,
    /// `None` where nobody looks.
    changed: Option<Arc<ChangeSignal>>,
    _watching: Option<Task>,
}

impl MySqlStore {
    /// Opens the database and brings its tables up to date, as the options say. Nodes that do so at the same time do
    /// not disturb each other.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(options: &MySqlOptions) -> Result<Self, OpenError> {
        let (route, mut connection) = Route::explore(options).await?;
        let looking = async {
            let weaknesses = server::weaknesses(&mut connection).await?;
            let standing = migrations::standing(&mut connection).await.map_err(OpenError::engine)?;
            Ok::<_, OpenError>((weaknesses, standing))
        };
        let looked = tokio::time::timeout(options.deadline, looking).await;
        let (weaknesses, standing) = looked.map_err(|_| OpenError::Deadline)??;
        for weakness in &weaknesses {
            tracing::warn!("MySQL is set to lose data: {weakness}");
        }
        match standing {
            Standing::Current => {}
            Standing::Other(version) => return Err(OpenError::UnknownChange { version }),
            Standing::Behind(_) if options.run_migrations => migrations::run(&route).await?,
            Standing::Behind(_) => return Err(OpenError::NotMigrated),
        }
        let checking =
            tokio::time::timeout(options.deadline, migrations::check_engines(&mut connection)).await;
        checking.map_err(|_| OpenError::Deadline)??;

        let engine = |connections| {
            let pool = Pool::new(route.clone(), connections, options.deadline);
            Engine::new(pool, options.deadline)
        };
        let changed = options.watch.then(|| Arc::new(ChangeSignal::new()));
        let watching = changed.as_ref().map(Arc::downgrade);
        Ok(Self {
            work: engine(options.connections),
            lists: engine(LIST_CONNECTIONS),
            tail: engine(TAIL_CONNECTIONS),
            weaknesses,
            changed,
            _watching: watching.map(|changed| watch::watch(route.clone(), options.deadline, changed)),
        })
    }

    /// Closes the connections. Without it they are closed when the store is dropped.
    pub async fn close(self) {
        self.work.close().await;
        self.lists.close().await;
        self.tail.close().await;
    }

    /// Settings of the server with which it may lose what was answered: each with its value and what may be lost. They
    /// were logged when the store was opened.
    #[must_use]
    pub fn weaknesses(&self) -> &[String] {
        &self.weaknesses
    }

    /// Whether there are keys in the store. If so, they were sealed with a secret that must still be there, and a
    /// [`SecretFile`](crate::SecretFile) that is missing is an error.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn has_keys(&self) -> Result<bool, StoreError> {
        const ACTION: &str = "look for keys";
        const HAS_KEYS: &str = "SELECT EXISTS (SELECT 1 FROM countersign_sealed_key)";
        let (found,): (i64,) = only(ACTION, self.work.read(ACTION, Statement::new(HAS_KEYS)).await?)?;
        Ok(found != 0)
    }

    /// Deletes in steps, so that no transaction is long. The statement takes a time and how many rows it may delete.
    async fn purge(
        &self,
        action: &'static str,
        sql: &'static str,
        before: Timestamp,
        at_most: usize,
    ) -> Result<u64, StoreError> {
        let mut left = at_most;
        let mut purged = 0_u64;
        while left > 0 {
            let step = left.min(PURGE_STEP);
            let statement = Statement::new(sql).number(before.as_millis()).number(limit(step));
            let gone = self.work.write(action, statement).await?.rows;
            purged = purged.saturating_add(gone);
            left -= step;
            if gone < step as u64 {
                break;
            }
        }
        Ok(purged)
    }
}

/// Brings the tables of a database up to date, for a command line.
///
/// # Errors
/// [`OpenError`]. What was changed before stays, and the next call goes on from there.
pub async fn migrate(options: &MySqlOptions) -> Result<(), OpenError> {
    let (route, _) = Route::explore(options).await?;
    migrations::run(&route).await
}
