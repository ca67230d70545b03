//! How an operation is carried out: on a lent connection, within the deadline, tried again where the server says so.

use std::sync::Arc;
use std::time::Duration;

use countersign_core::store::{BoxError, StoreError};
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgDatabaseError, PgRow, PgSeverity};
use sqlx::query::Query;
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Encode, FromRow, PgConnection, Postgres, Type};

use super::STORE;
use super::server::Route;
use crate::operations::{Dialect, Fate, Operations, Shape, settled};
use crate::pool::{Lease, Pool, Server};
use crate::record::all;

/// Carries operations out.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    operations: Operations<PgConnectOptions>,
    /// Whether a connection still has in the next transaction what was prepared on it in this one.
    keeps_statements: bool,
    /// How a transaction begins.
    begin: Arc<str>,
}

/// A statement with its parameters, which may be sent more than once. It cannot be printed, because parameters are
/// secret: hashes, seeds.
pub(super) struct Statement {
    sql: &'static str,
    parameters: Result<PgArguments, String>,
}

/// Several statements that are done all or none (READ COMMITTED: each sees what was committed before it began). When it
/// is dropped, its connection is closed, and the server undoes what was done.
pub(super) struct Transaction {
    lease: Lease<PgConnectOptions>,
    keeps_statements: bool,
}

/// What the server said. Its details are left out: they quote rows.
#[derive(Debug, thiserror::Error)]
#[error("{message} (SQLSTATE {code})")]
struct ServerError {
    code: String,
    message: String,
}

impl Statement {
    pub(super) fn new(sql: &'static str) -> Self {
        Self { sql, parameters: Ok(PgArguments::default()) }
    }

    /// The next parameter.
    #[must_use]
    pub(super) fn bind<'t, T: Encode<'t, Postgres> + Type<Postgres>>(mut self, value: T) -> Self {
        if let Ok(parameters) = &mut self.parameters
            && let Err(error) = Arguments::add(parameters, value)
        {
            self.parameters = Err(error.to_string());
        }
        self
    }

    #[cfg(test)]
    pub(super) fn sql(&self) -> &'static str {
        self.sql
    }

    #[cfg(test)]
    pub(super) fn parameters(&self) -> PgArguments {
        self.parameters.clone().unwrap()
    }

    fn query(&self, keep: bool) -> Result<Query<'static, Postgres, PgArguments>, sqlx::Error> {
        let parameters = self.parameters.clone().map_err(|error| sqlx::Error::Encode(error.into()))?;
        Ok(sqlx::query_with(self.sql, parameters).persistent(keep))
    }

    async fn count(&self, connection: &mut PgConnection, keep: bool) -> Result<u64, sqlx::Error> {
        Ok(self.query(keep)?.execute(connection).await?.rows_affected())
    }

    async fn rows(&self, connection: &mut PgConnection, keep: bool) -> Result<Vec<PgRow>, sqlx::Error> {
        self.query(keep)?.fetch_all(connection).await
    }
}

impl Engine {
    pub(super) fn new(pool: Pool<PgConnectOptions>, deadline: Duration, route: &Route) -> Self {
        let begin = if route.is_direct() {
            "BEGIN".into()
        } else {
            // Connections could not be told, so each transaction is.
            let millis = deadline.as_millis();
            format!(
                "BEGIN; SET LOCAL statement_timeout = {millis}; \
                 SET LOCAL idle_in_transaction_session_timeout = {millis}"
            )
            .into()
        };
        Self {
            operations: Operations::new(pool, deadline),
            keeps_statements: route.keeps_statements(),
            begin,
        }
    }

    /// Reads, in one statement.
    pub(super) async fn read<R: FromPgRow>(
        &self,
        action: &'static str,
        statement: Statement,
    ) -> Result<Vec<R>, StoreError> {
        self.returning(action, Shape::Read, statement).await
    }

    /// Writes, in one statement, and returns how many rows that has changed.
    pub(super) async fn write(&self, action: &'static str, statement: Statement) -> Result<u64, StoreError> {
        let changed = self.operations.retried(Shape::Write, || async {
            let mut lease = self.operations.lend().await?;
            // A statement is prepared in one exchange and run in the next. Only a transaction makes sure that a pooler
            // hands both to the same server connection; on another one, the same name may be another program's
            // statement.
            if self.keeps_statements {
                let done = statement.count(lease.connection()?, true).await;
                return settled(lease, done);
            }
            let mut transaction = self.begin(lease).await?;
            let changed = transaction.write(&statement).await?;
            transaction.commit().await?;
            Ok(changed)
        });
        self.operations.within_the_deadline(action, changed).await
    }

    /// Writes, in one statement, and returns its rows.
    pub(super) async fn write_returning<R: FromPgRow>(
        &self,
        action: &'static str,
        statement: Statement,
    ) -> Result<Vec<R>, StoreError> {
        self.returning(action, Shape::Write, statement).await
    }

    async fn returning<R: FromPgRow>(
        &self,
        action: &'static str,
        shape: Shape,
        statement: Statement,
    ) -> Result<Vec<R>, StoreError> {
        let rows = self.operations.retried(shape, || async {
            let mut lease = self.operations.lend().await?;
            if self.keeps_statements {
                let done = statement.rows(lease.connection()?, true).await;
                return settled(lease, done);
            }
            let mut transaction = self.begin(lease).await?;
            let rows = transaction.rows(&statement).await?;
            transaction.commit().await?;
            Ok(rows)
        });
        let rows = self.operations.within_the_deadline(action, rows).await?;
        let rows: Result<_, _> = rows.iter().map(R::from_row).collect();
        rows.map_err(|error| StoreError::new(STORE, action, error))
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
            let transaction = self.begin(self.operations.lend().await?).await?;
            work(transaction).await
        });
        self.operations.within_the_deadline(action, done).await
    }

    async fn begin(&self, mut lease: Lease<PgConnectOptions>) -> Result<Transaction, sqlx::Error> {
        // Nothing in it comes from outside.
        let begin = AssertSqlSafe(self.begin.clone());
        sqlx::raw_sql(begin).execute(lease.connection()?).await?;
        Ok(Transaction { lease, keeps_statements: self.keeps_statements })
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

impl Transaction {
    /// Returns how many rows the statement has changed.
    pub(super) async fn write(&mut self, statement: &Statement) -> Result<u64, sqlx::Error> {
        statement.count(self.lease.connection()?, self.keeps_statements).await
    }

    /// Returns the statement's rows.
    pub(super) async fn read<R: FromPgRow>(&mut self, statement: &Statement) -> Result<Vec<R>, sqlx::Error> {
        self.rows(statement).await?.iter().map(R::from_row).collect()
    }

    async fn rows(&mut self, statement: &Statement) -> Result<Vec<PgRow>, sqlx::Error> {
        statement.rows(self.lease.connection()?, self.keeps_statements).await
    }

    /// Makes it last.
    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        self.end("COMMIT").await
    }

    /// Undoes it, and keeps the connection.
    pub(super) async fn undo(self) -> Result<(), sqlx::Error> {
        self.end("ROLLBACK").await
    }

    async fn end(mut self, how: &'static str) -> Result<(), sqlx::Error> {
        let done = sqlx::raw_sql(how).execute(self.lease.connection()?).await.map(drop);
        settled(self.lease, done)
    }
}

/// What a row is read into.
pub(super) trait FromPgRow: for<'r> FromRow<'r, PgRow> + Send {}

impl<R: for<'r> FromRow<'r, PgRow> + Send> FromPgRow for R {}

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

impl Server for PgConnectOptions {
    type Connection = PgConnection;

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        ConnectOptions::connect(self).await
    }
}

impl Dialect for PgConnectOptions {
    const STORE: &'static str = STORE;

    fn fate(error: &dyn DatabaseError) -> Fate {
        let Some(error) = error.try_downcast_ref::<PgDatabaseError>() else { return Fate::Broken };
        match error.code() {
            // serialization_failure, deadlock_detected
            "40001" | "40P01" => Fate::Conflict,
            // invalid_sql_statement_name; feature_not_supported: a cached plan that no longer fits
            "26000" | "0A000" => Fate::Stale,
            // read_only_sql_transaction: once a primary, now a standby
            "25006" => Fate::Broken,
            _ if error.severity() == PgSeverity::Error => Fate::Usable,
            _ => Fate::Broken,
        }
    }

    fn tellable(error: sqlx::Error) -> BoxError {
        match error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>()) {
            Some(error) => {
                ServerError { code: error.code().to_owned(), message: error.message().to_owned() }.into()
            }
            None => error.into(),
        }
    }
}
