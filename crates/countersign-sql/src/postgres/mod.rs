//! All stores of Countersign in a PostgreSQL database, shared by any number of nodes.
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
//! The tables are in a schema of their own, `countersign`, so the database may be the application's own. An answered
//! write is on the server's disk, as far as the server's settings ensure that ([`PostgresStore::weaknesses`]). Nodes
//! notify each other at once of what was revoked (`NOTIFY`), and poll the log as well.
//!
//! A pooler such as PgBouncer may be between a node and the server, in transaction mode as well; see
//! [`PostgresOptions::pooled`] and [`PostgresOptions::listen_url`].

mod admin_keys;
mod audit;
mod devices;
mod driver;
mod keys;
mod migrations;
mod one_time;
mod open_store;
mod options;
mod outbox;
#[cfg(test)]
mod plans;
mod push;
mod revocations;
mod server;
mod sessions;
mod throttles;
mod users;

use std::sync::Arc;

use countersign_core::store::{ChangeSignal, StoreError};
use tokio::sync::Notify;

use driver::RouteFor;
use server::{Role, Route};

use crate::server::{Lanes, Task, prepare};

#[doc(no_inline)]
pub use crate::OpenError;
pub use options::PostgresOptions;

type Statement<Y = ()> = crate::statement::Statement<sqlx::Postgres, Y>;

/// All of Countersign's stores in one PostgreSQL database.
///
/// The store runs tasks in the background, so it is opened and used within one tokio runtime.
#[derive(Debug)]
pub struct PostgresStore {
    lanes: Lanes<RouteFor>,
    weaknesses: Vec<String>,
    /// Raised when another node announces a revocation; `None` if notifications cannot be received.
    changed: Option<Arc<ChangeSignal>>,
    wanted: Arc<Notify>,
    _tasks: Vec<Task>,
}

impl PostgresStore {
    /// Opens the database and brings its tables up to date, if the options say so. Nodes that open it at the same time
    /// do not disturb each other.
    ///
    /// ```no_run
    /// use countersign_sql::postgres::{PostgresOptions, PostgresStore};
    ///
    /// # async fn open() -> Result<(), countersign_sql::OpenError> {
    /// let options = PostgresOptions::from_url("postgres://app:password@db.example/app?sslmode=verify-full")?;
    /// let store = PostgresStore::open(&options).await?;
    /// for weakness in store.weaknesses() {
    ///     println!("this database may lose what it has answered: {weakness}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`OpenError`] says why the database could not be opened.
    pub async fn open(options: &PostgresOptions) -> Result<Self, OpenError> {
        let (route, mut connection) = Route::explore(options).await?;
        let weaknesses = prepare(&route, &mut connection, &options.settings).await?;
        let deadline = options.settings.deadline;
        let (work, tail) = (RouteFor::new(&route, Role::Work), RouteFor::new(&route, Role::Tail));
        let lanes = Lanes::new(work, tail, options.settings.connections, deadline);
        let wanted = Arc::new(Notify::new());
        let mut tasks = vec![push::announce(lanes.work.clone(), wanted.clone())];
        let changed = match push::route(&route, options).await {
            Some(route) => {
                let changed = Arc::new(ChangeSignal::new());
                tasks.push(push::listen(route, deadline, Arc::downgrade(&changed)));
                Some(changed)
            }
            None => None,
        };
        Ok(Self { lanes, weaknesses, changed, wanted, _tasks: tasks })
    }

    /// Closes the connections. A store that is dropped without this call closes them as well.
    pub async fn close(self) {
        self.lanes.close().await;
    }

    /// The server's settings with which it may lose what was answered: each with its value and what may be lost. The
    /// store logged them when it was opened.
    #[must_use]
    pub fn weaknesses(&self) -> &[String] {
        &self.weaknesses
    }

    /// Whether the store has keys. If it has, the secret that sealed them must still exist, and a missing
    /// [`SecretFile`](crate::SecretFile) is an error.
    ///
    /// # Errors
    /// [`StoreError`] when the database does not answer.
    pub async fn has_keys(&self) -> Result<bool, StoreError> {
        self.lanes.work.only("look for keys", keys::has_keys()).await.map(|(found,)| found)
    }

    /// Asks for a notification that tells the other nodes soon that the log has grown.
    fn announce(&self) {
        self.wanted.notify_one();
    }
}

/// Brings the tables of a database up to date, for use by a command line.
///
/// # Errors
/// [`OpenError`] says why the tables could not be changed. Nothing was changed then.
pub async fn migrate(options: &PostgresOptions) -> Result<(), OpenError> {
    let (route, _) = Route::explore(options).await?;
    migrations::run(&route).await
}
