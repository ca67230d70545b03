//! All stores of Countersign in a MySQL or MariaDB database, shared by any number of nodes.
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
//! The names of the tables begin with `countersign_`, so the database may be the application's own. An answered write
//! is on the server's disk, as far as the server's settings ensure that ([`MySqlStore::weaknesses`]). Each node looks
//! many times a second for what other nodes have revoked ([`MySqlOptions::watch`]), and polls the log as well.
//!
//! The URL must lead to the primary, or to any node of a cluster that takes writes. It must not lead to a proxy that
//! sends reads to replicas. Transactions are READ COMMITTED, which every connection asks for and checks. If a proxy
//! takes that away later, the statements are still right under REPEATABLE READ, and only conflict more often.

#[macro_use]
mod driver;

mod admin_keys;
mod audit;
mod devices;
mod keys;
mod migrations;
mod one_time;
mod open_store;
mod options;
mod outbox;
#[cfg(test)]
mod plans;
mod revocations;
mod server;
mod sessions;
mod throttles;
mod users;
mod watch;

use std::sync::Arc;

use countersign_core::store::{ChangeSignal, StoreError};

use server::Route;

use crate::server::{Lanes, Task, prepare};

#[doc(no_inline)]
pub use crate::OpenError;
pub use options::MySqlOptions;

type Statement<Y = ()> = crate::statement::Statement<sqlx::MySql, Y>;

/// All of Countersign's stores in one MySQL or MariaDB database.
///
/// The store runs tasks in the background, so it is opened and used within one tokio runtime.
#[derive(Debug)]
pub struct MySqlStore {
    lanes: Lanes<Route>,
    weaknesses: Vec<String>,
    /// Raised when another node has written into the log; `None` if the store does not watch it.
    changed: Option<Arc<ChangeSignal>>,
    _watching: Option<Task>,
}

impl MySqlStore {
    /// Opens the database and brings its tables up to date, if the options say so. Nodes that open it at the same time
    /// do not disturb each other.
    ///
    /// ```no_run
    /// use countersign_sql::mysql::{MySqlOptions, MySqlStore};
    ///
    /// # async fn open() -> Result<(), countersign_sql::OpenError> {
    /// let options = MySqlOptions::from_url("mysql://app:password@db.example/app?ssl-mode=VERIFY_IDENTITY")?;
    /// let store = MySqlStore::open(&options).await?;
    /// for weakness in store.weaknesses() {
    ///     println!("this database may lose what it has answered: {weakness}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`OpenError`] says why the database could not be opened.
    pub async fn open(options: &MySqlOptions) -> Result<Self, OpenError> {
        let (route, mut connection) = Route::explore(options).await?;
        let weaknesses = prepare(&route, &mut connection, &options.settings).await?;
        let deadline = options.settings.deadline;
        let checking = tokio::time::timeout(deadline, migrations::check_engines(&mut connection)).await;
        checking.map_err(|_| OpenError::Deadline)??;
        let changed = options.watch.then(|| Arc::new(ChangeSignal::new()));
        let watching = changed.as_ref().map(Arc::downgrade);
        Ok(Self {
            lanes: Lanes::new(route.clone(), route.clone(), options.settings.connections, deadline),
            weaknesses,
            changed,
            _watching: watching.map(|changed| watch::watch(route, deadline, changed)),
        })
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
}

/// Brings the tables of a database up to date, for use by a command line.
///
/// # Errors
/// [`OpenError`] says why a change was not made. The changes before it stay, and the next call continues from there.
pub async fn migrate(options: &MySqlOptions) -> Result<(), OpenError> {
    let (route, _) = Route::explore(options).await?;
    migrations::run(&route).await
}
