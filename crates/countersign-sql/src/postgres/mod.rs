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

mod driver;
mod keys;
mod migrations;
mod open_store;
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
/// It runs tasks in the background, so it is opened and used within one tokio runtime.
#[derive(Debug)]
pub struct PostgresStore {
    lanes: Lanes<RouteFor>,
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

    /// Closes the connections. Without it they are closed when the store is dropped.
    pub async fn close(self) {
        self.lanes.close().await;
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
        self.lanes.work.only("look for keys", keys::has_keys()).await.map(|(found,)| found)
    }

    /// Tells the other nodes, soon, that the log has grown.
    fn announce(&self) {
        self.wanted.notify_one();
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
