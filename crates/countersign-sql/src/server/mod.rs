//! The parts that the stores on database servers share: connections that are kept open, operations with a deadline and
//! another try, opening, migrations, and tasks in the background.

mod accounts;
mod background;
mod host;
mod migrations;
mod opening;
mod operations;
mod pool;
mod transaction;

use countersign_core::store::BoxError;
use sqlx::error::DatabaseError;
use sqlx::{Database, SqlSafeStr, SqlStr};

use crate::statement::Driver;

pub(crate) use background::{Followed, Task, keep_up};
pub(crate) use host::{Place, address_and_parameters, without_brackets};
pub(crate) use migrations::{MigrationsStanding, change};
pub(crate) use opening::{ServerSettings, Way, prepare};
pub(crate) use operations::{Fate, Lanes, Operations};
pub(crate) use transaction::Transaction;

/// The server that the connections of a pool lead to. Its errors say what to do about them.
pub(crate) trait Server: Send + Sync + 'static {
    /// The driver of this server.
    type Driver: Driver;

    /// Opens a connection, ready for work.
    fn connect(
        &self,
    ) -> impl Future<Output = Result<<Self::Driver as Database>::Connection, sqlx::Error>> + Send;

    /// Whether a statement that was prepared on a connection is still there in its next transaction.
    fn keeps_statements(&self) -> bool {
        true
    }

    /// The statement that begins a transaction.
    fn begin(&self) -> SqlStr {
        "BEGIN".into_sql_str()
    }

    /// Sends a text of this program's own unchanged, without preparing it.
    fn send(
        connection: &mut <Self::Driver as Database>::Connection,
        sql: SqlStr,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    /// What an error that the server itself reports says about the connection.
    fn fate(error: &dyn DatabaseError) -> Fate;

    /// The error without what the server quotes of statements and rows.
    fn tellable(error: sqlx::Error) -> BoxError;
}
