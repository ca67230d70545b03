//! How an operation is carried out: on a lent connection, within the deadline, tried again where the server says so.

use std::sync::Arc;
use std::time::Duration;

use countersign_core::store::{BoxError, StoreError};
use sqlx::postgres::{PgArguments, PgDatabaseError, PgRow, PgSeverity};
use sqlx::query::Query;
use sqlx::{Arguments, AssertSqlSafe, Encode, FromRow, PgConnection, Postgres, Type};

use super::STORE;
use super::pool::{Lease, Pool};
use super::server::Route;
use crate::record::all;

/// Carries operations out.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    pool: Pool,
    deadline: Duration,
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
    lease: Lease,
    keeps_statements: bool,
}

/// What a statement does, and so whether it may be done twice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Shape {
    Read,
    Write,
}

/// Nothing came back in time. Whether the operation was done is not known.
#[derive(Debug, thiserror::Error)]
#[error("no answer before the deadline")]
struct DeadlinePassed;

/// What the server said. Its details are left out: they quote rows.
#[derive(Debug, thiserror::Error)]
#[error("{message} (SQLSTATE {code})")]
struct ServerError {
    code: String,
    message: String,
}

/// How often a transaction is tried again that got into the way of another one. Each time one of them gets through.
const RETRIES: u32 = 10;

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
    pub(super) fn new(pool: Pool, deadline: Duration, route: &Route) -> Self {
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
        Self { pool, deadline, keeps_statements: route.keeps_statements(), begin }
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
        let changed = self.retried(Shape::Write, || async {
            let mut lease = self.pool.lend().await?;
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
        self.within_the_deadline(action, changed).await
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
        let rows = self.retried(shape, || async {
            let mut lease = self.pool.lend().await?;
            if self.keeps_statements {
                let done = statement.rows(lease.connection()?, true).await;
                return settled(lease, done);
            }
            let mut transaction = self.begin(lease).await?;
            let rows = transaction.rows(&statement).await?;
            transaction.commit().await?;
            Ok(rows)
        });
        let rows = self.within_the_deadline(action, rows).await?;
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
        let done = self.retried(Shape::Write, || async {
            let transaction = self.begin(self.pool.lend().await?).await?;
            work(transaction).await
        });
        self.within_the_deadline(action, done).await
    }

    async fn begin(&self, mut lease: Lease) -> Result<Transaction, sqlx::Error> {
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
        let steps = tokio::time::timeout(self.deadline, steps).await;
        steps.map_err(|_| StoreError::new(STORE, action, DeadlinePassed))?
    }

    /// When the deadline has passed, or the caller goes away, the connection is closed: nobody can say what the server
    /// still does on it.
    async fn within_the_deadline<T>(
        &self,
        action: &'static str,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.deadline, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(StoreError::new(STORE, action, tellable(error))),
            Err(_) => Err(StoreError::new(STORE, action, DeadlinePassed)),
        }
    }

    async fn retried<T, F>(&self, shape: Shape, work: impl Fn() -> F) -> Result<T, sqlx::Error>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let (mut conflicts, mut reconnected) = (0, false);
        loop {
            let error = match work().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let fate = Fate::after(&error);
            if !fate.leaves_the_connection() {
                // It was closed. If it was dead, the others that are idle probably are too.
                self.pool.distrust_idle();
            }
            match fate {
                Fate::Conflict if conflicts < RETRIES => {
                    conflicts += 1;
                    tokio::time::sleep(Duration::from_millis(1 << conflicts.min(6))).await;
                }
                // Nothing was done; a new connection does it.
                Fate::Stale if !reconnected => reconnected = true,
                // It may have been done, which does not matter to a read. It is what a connection looks like that was
                // idle while the server restarted.
                Fate::Broken if shape == Shape::Read && !reconnected => reconnected = true,
                _ => return Err(error),
            }
        }
    }

    /// Lends no more connections.
    pub(super) async fn close(&self) {
        self.pool.close(self.deadline).await;
    }
}

/// Gives the connection back, unless it is no longer good for anything.
fn settled<T>(lease: Lease, done: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
    if done.as_ref().err().is_none_or(|error| Fate::after(error).leaves_the_connection()) {
        lease.give_back();
    }
    done
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

/// What an error says about the connection, and about trying again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    /// The connection does its work; the operation failed for a reason of its own.
    Usable,
    /// Two transactions were in each other's way, and the server undid this one.
    Conflict,
    /// The connection's prepared statements are no longer good: the tables were changed, or the server behind a pooler
    /// is another one. Nothing was done.
    Stale,
    /// The connection is gone, or leads to a server that no longer takes writes.
    Broken,
}

impl Fate {
    fn after(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => {
                let Some(error) = error.try_downcast_ref::<PgDatabaseError>() else { return Self::Broken };
                match error.code() {
                    // serialization_failure, deadlock_detected
                    "40001" | "40P01" => Self::Conflict,
                    // invalid_sql_statement_name; feature_not_supported: a cached plan that no longer fits
                    "26000" | "0A000" => Self::Stale,
                    // read_only_sql_transaction: once a primary, now a standby
                    "25006" => Self::Broken,
                    _ if error.severity() == PgSeverity::Error => Self::Usable,
                    _ => Self::Broken,
                }
            }
            sqlx::Error::Encode(_)
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::RowNotFound => Self::Usable,
            _ => Self::Broken,
        }
    }

    fn leaves_the_connection(self) -> bool {
        matches!(self, Self::Usable | Self::Conflict)
    }
}

/// The error without what the server quotes of rows.
fn tellable(error: sqlx::Error) -> BoxError {
    match error.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>()) {
        Some(error) => {
            ServerError { code: error.code().to_owned(), message: error.message().to_owned() }.into()
        }
        None => error.into(),
    }
}
