//! How an operation is carried out: on a lent connection, within the deadline, tried again where the server says so.

use std::fmt::Write as _;
use std::time::Duration;

use countersign_core::store::{BoxError, StoreError};
use sqlx::error::DatabaseError;
use sqlx::mysql::{MySqlArguments, MySqlDatabaseError, MySqlRow};
use sqlx::query::Query;
use sqlx::{Arguments, AssertSqlSafe, Encode, FromRow, MySql, MySqlConnection, SqlSafeStr, SqlStr, Type};

use super::STORE;
use super::server::{Role, Route};
use crate::OpenError;
use crate::operations::{Dialect, Fate, Operations, Shape, settled};
use crate::pool::{Lease, Pool, Server};
use crate::record::all;

/// Carries operations out.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    operations: Operations<Route>,
}

/// A statement with its parameters, which may be sent more than once. It cannot be printed, because parameters are
/// secret: hashes, seeds.
pub(super) struct Statement {
    sql: SqlStr,
    parameters: Result<MySqlArguments, String>,
}

/// What a statement has done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Done {
    /// How many rows it has inserted or deleted; of an update, how many it has found, also where it left them as they
    /// were (the driver asks for that).
    pub(super) rows: u64,
    /// What it gave to `LAST_INSERT_ID(…)`.
    pub(super) noted: u64,
}

/// Several statements that are done all or none. READ COMMITTED: each sees what was committed before it began. When
/// one fails, everything is undone and no other can follow.
pub(super) struct Transaction {
    /// `None` once it has ended.
    lease: Option<Lease<Route>>,
}

/// What the server said, as far as it does not quote statements or rows.
#[derive(Debug, thiserror::Error)]
#[error("{}error {number} (SQLSTATE {state})", message.as_deref().unwrap_or_default())]
struct ServerError {
    number: u16,
    state: String,
    message: Option<String>,
}

impl Statement {
    pub(super) fn new(sql: &'static str) -> Self {
        Self { sql: sql.into_sql_str(), parameters: Ok(MySqlArguments::default()) }
    }

    /// The same for a statement with a part that is there once for each of `count` values. `separator` stands between
    /// them.
    pub(super) fn repeating(
        [before, part, after]: [&'static str; 3],
        separator: &'static str,
        count: usize,
    ) -> Self {
        let mut sql = before.to_owned();
        for number in 0..count {
            // Writing into a text never fails.
            let _ = write!(sql, "{}{part}", if number > 0 { separator } else { "" });
        }
        sql.push_str(after);
        // Put together from texts of this program alone.
        Self { sql: AssertSqlSafe(sql).into_sql_str(), parameters: Ok(MySqlArguments::default()) }
    }

    /// The next parameter, a number.
    #[must_use]
    pub(super) fn number(self, value: impl Into<Option<i64>>) -> Self {
        self.bind(value.into())
    }

    /// The next parameter, a text: sent as bytes, which no character set changes.
    #[must_use]
    pub(super) fn text<'t>(self, value: impl Into<Option<&'t str>>) -> Self {
        self.bytes(value.into().map(str::as_bytes))
    }

    /// The next parameter, bytes.
    #[must_use]
    pub(super) fn bytes<'t>(self, value: impl Into<Option<&'t [u8]>>) -> Self {
        self.bind(value.into())
    }

    fn bind<'t, T: Encode<'t, MySql> + Type<MySql>>(mut self, value: T) -> Self {
        if let Ok(parameters) = &mut self.parameters
            && let Err(error) = Arguments::add(parameters, value)
        {
            self.parameters = Err(error.to_string());
        }
        self
    }

    #[cfg(test)]
    pub(super) fn explained(&self) -> Query<'static, MySql, MySqlArguments> {
        let explain = AssertSqlSafe(format!("EXPLAIN {}", self.sql.as_str()));
        sqlx::query_with(explain, self.parameters.clone().unwrap()).persistent(false)
    }

    fn query(&self) -> Result<Query<'static, MySql, MySqlArguments>, sqlx::Error> {
        let parameters = self.parameters.clone().map_err(|error| sqlx::Error::Encode(error.into()))?;
        Ok(sqlx::query_with(self.sql.clone(), parameters))
    }

    async fn execute(&self, connection: &mut MySqlConnection) -> Result<Done, sqlx::Error> {
        let done = self.query()?.execute(connection).await?;
        Ok(Done { rows: done.rows_affected(), noted: done.last_insert_id() })
    }

    async fn rows(&self, connection: &mut MySqlConnection) -> Result<Vec<MySqlRow>, sqlx::Error> {
        self.query()?.fetch_all(connection).await
    }
}

impl Engine {
    pub(super) fn new(pool: Pool<Route>, deadline: Duration) -> Self {
        Self { operations: Operations::new(pool, deadline) }
    }

    /// Reads, in one statement.
    pub(super) async fn read<R: FromMySqlRow>(
        &self,
        action: &'static str,
        statement: Statement,
    ) -> Result<Vec<R>, StoreError> {
        let rows = self.operations.retried(Shape::Read, || async {
            let mut lease = self.operations.lend().await?;
            let rows = statement.rows(lease.connection()?).await;
            settled(lease, rows)
        });
        let rows = self.operations.within_the_deadline(action, rows).await?;
        let rows: Result<_, _> = rows.iter().map(R::from_row).collect();
        rows.map_err(malformed(action))
    }

    /// Writes, in one statement, which is a transaction by itself.
    pub(super) async fn write(&self, action: &'static str, statement: Statement) -> Result<Done, StoreError> {
        let done = self.operations.retried(Shape::Write, || self.write_once(&statement));
        self.operations.within_the_deadline(action, done).await
    }

    /// Inserts a row, unless one with its key is there; returns whether it did.
    pub(super) async fn insert(
        &self,
        action: &'static str,
        statement: Statement,
    ) -> Result<bool, StoreError> {
        // No `INSERT IGNORE`: it would ignore that a value is too long, too, and cut it.
        let inserted =
            self.operations.retried(Shape::Write, || async { is_new(self.write_once(&statement).await) });
        self.operations.within_the_deadline(action, inserted).await
    }

    async fn write_once(&self, statement: &Statement) -> Result<Done, sqlx::Error> {
        let mut lease = self.operations.lend().await?;
        let done = statement.execute(lease.connection()?).await;
        settled(lease, done)
    }

    /// Does several statements, all or none. What `work` does ends with [`Transaction::commit`] or
    /// [`Transaction::undo`]; it is done again if it got into the way of others.
    pub(super) async fn transaction<T, F>(
        &self,
        action: &'static str,
        work: impl Fn(Transaction) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let done = self.operations.retried(Shape::Write, || async {
            let mut lease = self.operations.lend().await?;
            sqlx::raw_sql("BEGIN").execute(lease.connection()?).await?;
            work(Transaction { lease: Some(lease) }).await
        });
        self.operations.within_the_deadline(action, done).await
    }

    /// An operation of several reads, writes and transactions, all of it within the deadline.
    pub(super) async fn series<T>(
        &self,
        action: &'static str,
        steps: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.operations.series(action, steps).await
    }

    /// Lends no more connections.
    pub(super) async fn close(&self) {
        self.operations.close().await;
    }
}

/// Whether a row was inserted, or one with its key was there.
fn is_new(inserted: Result<Done, sqlx::Error>) -> Result<bool, sqlx::Error> {
    match inserted {
        Ok(_) => Ok(true),
        Err(error) if error.as_database_error().is_some_and(|error| error.is_unique_violation()) => Ok(false),
        Err(error) => Err(error),
    }
}

impl Transaction {
    /// Writes.
    pub(super) async fn write(&mut self, statement: &Statement) -> Result<Done, sqlx::Error> {
        let done = statement.execute(self.connection()?).await;
        self.undone_by(done).await
    }

    /// Inserts a row, unless one with its key is there; returns whether it did. The transaction goes on either way.
    pub(super) async fn insert(&mut self, statement: &Statement) -> Result<bool, sqlx::Error> {
        let inserted = is_new(statement.execute(self.connection()?).await);
        self.undone_by(inserted).await
    }

    /// Returns the statement's rows.
    pub(super) async fn read<R: FromMySqlRow>(
        &mut self,
        statement: &Statement,
    ) -> Result<Vec<R>, sqlx::Error> {
        let rows = statement.rows(self.connection()?).await;
        let rows = rows.and_then(|rows| rows.iter().map(R::from_row).collect());
        self.undone_by(rows).await
    }

    /// Makes it last.
    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.end("COMMIT").await
    }

    /// Undoes it, and keeps the connection.
    pub(super) async fn undo(mut self) -> Result<(), sqlx::Error> {
        self.end("ROLLBACK").await
    }

    /// After an error, undoes everything at once: others may be waiting.
    async fn undone_by<T>(&mut self, done: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        if let Err(error) = &done
            && Fate::after::<Route>(error).leaves_the_connection()
        {
            self.end("ROLLBACK").await?;
        }
        done
    }

    fn connection(&mut self) -> Result<&mut MySqlConnection, sqlx::Error> {
        self.lease.as_mut().ok_or(sqlx::Error::WorkerCrashed)?.connection()
    }

    async fn end(&mut self, how: &'static str) -> Result<(), sqlx::Error> {
        let mut lease = self.lease.take().ok_or(sqlx::Error::WorkerCrashed)?;
        let done = sqlx::raw_sql(how).execute(lease.connection()?).await.map(drop);
        settled(lease, done)
    }
}

/// What a row is read into.
pub(super) trait FromMySqlRow: for<'r> FromRow<'r, MySqlRow> + Send {}

impl<R: for<'r> FromRow<'r, MySqlRow> + Send> FromMySqlRow for R {}

/// The one row that a statement always returns.
pub(super) fn only<R>(action: &'static str, rows: Vec<R>) -> Result<R, StoreError> {
    rows.into_iter().next().ok_or_else(|| StoreError::new(STORE, action, sqlx::Error::RowNotFound))
}

/// Rows as the values that they stand for.
pub(super) fn values<R, T>(action: &'static str, rows: Vec<R>) -> Result<Vec<T>, StoreError>
where
    T: TryFrom<R, Error = sqlx::Error>,
{
    all(rows).map_err(malformed(action))
}

/// A column holds what this program never writes, or a parameter is more than a column can hold.
pub(super) fn malformed(action: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |error| StoreError::new(STORE, action, error)
}

impl Server for Route {
    type Connection = MySqlConnection;

    async fn connect(&self) -> Result<MySqlConnection, sqlx::Error> {
        Self::connect(self, Role::Work).await.map_err(OpenError::into_driver_error)
    }
}

impl Dialect for Route {
    const STORE: &'static str = STORE;

    fn fate(error: &dyn DatabaseError) -> Fate {
        let Some(error) = error.try_downcast_ref::<MySqlDatabaseError>() else { return Fate::Broken };
        match error.number() {
            // ER_LOCK_DEADLOCK, also where a cluster does not take a transaction; ER_LOCK_WAIT_TIMEOUT;
            // ER_CHECKREAD: another one has changed the row; ER_TRANSACTION_ROLLBACK_DURING_COMMIT: the group
            // does not take it
            1213 | 1205 | 1020 | 3101 => Fate::Conflict,
            // ER_CLIENT_INTERACTION_TIMEOUT; ER_UNKNOWN_STMT_HANDLER; ER_NEED_REPREPARE
            4031 | 1243 | 1615 => Fate::Stale,
            // ER_CON_COUNT_ERROR; ER_UNKNOWN_COM_ERROR: a node that has left its cluster; ER_SERVER_SHUTDOWN;
            // the connection's own errors; ER_OPTION_PREVENTS_STATEMENT,
            // ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION and ER_READ_ONLY_MODE: once a primary, now a replica;
            // ER_CONNECTION_KILLED
            1040 | 1047 | 1053 | 1152..=1161 | 1290 | 1792 | 1836 | 1927 => Fate::Broken,
            _ => Fate::Usable,
        }
    }

    fn tellable(error: sqlx::Error) -> BoxError {
        let Some(error) =
            error.as_database_error().and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>())
        else {
            return error.into();
        };
        // Those of use to an operator that hold names of users, hosts, tables and settings alone: full disk or table, too
        // many connections, no right, no such database, table, column or setting, shutdown, value too long, read only,
        // deadlock, lock wait and statement timeouts, too many statements, killed, interrupted.
        let is_plain = matches!(
            error.number(),
            1021 | 1040 | 1044
                ..=1047
                    | 1049
                    | 1053
                    | 1054
                    | 1114
                    | 1129
                    | 1130
                    | 1142
                    | 1143
                    | 1146
                    | 1193
                    | 1203
                    | 1205
                    | 1213
                    | 1226
                    | 1227
                    | 1290
                    | 1317
                    | 1406
                    | 1461
                    | 1792
                    | 1836
                    | 1927
                    | 1969
                    | 3024
                    | 4031
        );
        let message = is_plain.then(|| format!("{}; ", error.message()));
        let state = error.code().unwrap_or_default().to_owned();
        ServerError { number: error.number(), state, message }.into()
    }
}
