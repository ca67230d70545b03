//! Everything in a PostgreSQL database, shared by any number of nodes.
//!
//! ```no_run
//! use countersign_core::store::Stores;
//! use countersign_sql::OpenError;
//! use countersign_sql::postgres::{PostgresOptions, PostgresStore};
//!
//! # async fn open() -> Result<(), OpenError> {
//! let options = PostgresOptions::from_url("postgres://app:password@db.example/app?sslmode=verify-full")?;
//! let stores = Stores::from(PostgresStore::open(&options).await?);
//! # Ok(())
//! # }
//! ```
//!
//! The tables are in a schema of their own, `countersign`, so the database may be the application's own. What was
//! answered is on the server's disk, as far as the server's settings go ([`PostgresStore::weaknesses`]). Nodes tell each
//! other at once what was revoked (`NOTIFY`), and poll all the same.
//!
//! A pooler such as PgBouncer may be in between, in transaction mode too; see [`PostgresOptions::pooled`] and
//! [`PostgresOptions::listen_url`].

mod engine;
mod keys;
mod migrations;
mod options;
#[cfg(test)]
mod plans;
mod push;
mod revocations;
mod server;
mod sessions;
mod throttles;
mod users;

use std::sync::Arc;

use countersign_core::Timestamp;
use countersign_core::store::{ChangeSignal, StoreError};
use tokio::sync::Notify;

use engine::{Engine, Statement, only};
use migrations::Standing;
use push::Task;
use server::{Role, Route};

use crate::OpenError;
use crate::column::limit;
use crate::pool::Pool;

pub use options::PostgresOptions;

/// The name of this engine in errors.
const STORE: &str = "postgres";

/// How many rows one statement deletes at most: some milliseconds of work.
const PURGE_STEP: usize = 1_000;

/// One reads the tail of the log, and one is left for a request that joins in.
const TAIL_CONNECTIONS: u32 = 2;
/// How many lists are read at the same time.
const LIST_CONNECTIONS: u32 = 1;

/// All of Countersign's stores in one PostgreSQL database.
///
/// It runs tasks in the background, so it is opened and used within one tokio runtime.
#[derive(Debug)]
pub struct PostgresStore {
    work: Engine,
    /// Reads lists, so that whoever asks for many of them waits for himself and not others for him.
    lists: Engine,
    /// For the tail of the revocation log, which must not wait behind other work.
    tail: Engine,
    weaknesses: Vec<String>,
    /// `None` where notifications cannot be had.
    changed: Option<Arc<ChangeSignal>>,
    wanted: Arc<Notify>,
    _tasks: Vec<Task>,
}

impl PostgresStore {
    /// Opens the database and brings its tables up to date, as the options say. Nodes that do so at the same time do
    /// not disturb each other.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(options: &PostgresOptions) -> Result<Self, OpenError> {
        let (route, mut connection) = Route::explore(options).await?;
        let looking = async {
            let weaknesses = server::weaknesses(&mut connection).await?;
            let standing = migrations::standing(&mut connection).await.map_err(OpenError::engine)?;
            Ok((weaknesses, standing))
        };
        let looked = tokio::time::timeout(options.deadline, looking).await;
        let (weaknesses, standing) = looked.map_err(|_| OpenError::Deadline)??;
        for weakness in &weaknesses {
            tracing::warn!("PostgreSQL is set to lose data: {weakness}");
        }
        match standing {
            Standing::Current => {}
            Standing::Other(version) => return Err(OpenError::UnknownChange { version }),
            Standing::Behind(_) if options.run_migrations => migrations::run(&route).await?,
            Standing::Behind(_) => return Err(OpenError::NotMigrated),
        }

        let engine = |role, connections| {
            let pool = Pool::new(route.options(role), connections, options.deadline);
            Engine::new(pool, options.deadline, &route)
        };
        let (work, tail) = (engine(Role::Work, options.connections), engine(Role::Tail, TAIL_CONNECTIONS));
        let lists = engine(Role::Work, LIST_CONNECTIONS);
        let wanted = Arc::new(Notify::new());
        let mut tasks = vec![push::announce(work.clone(), wanted.clone())];
        let changed = match push::route(&route, options).await {
            Some(route) => {
                let changed = Arc::new(ChangeSignal::new());
                tasks.push(push::listen(route, options.deadline, Arc::downgrade(&changed)));
                Some(changed)
            }
            None => None,
        };
        Ok(Self { work, lists, tail, weaknesses, changed, wanted, _tasks: tasks })
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
        let statement = Statement::new("SELECT EXISTS (SELECT 1 FROM countersign.sealed_key)");
        let (found,) = only(ACTION, self.work.read::<(bool,)>(ACTION, statement).await?)?;
        Ok(found)
    }

    /// Tells the other nodes, soon, that the log has grown.
    fn announce(&self) {
        self.wanted.notify_one();
    }

    /// Deletes what mattered until before then, in steps, so that no transaction is long.
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
            let statement = Statement::new(sql).bind(before.as_millis()).bind(limit(step));
            let gone = self.work.write(action, statement).await?;
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
/// [`OpenError`]; then nothing was changed.
pub async fn migrate(options: &PostgresOptions) -> Result<(), OpenError> {
    let (route, _) = Route::explore(options).await?;
    migrations::run(&route).await
}
