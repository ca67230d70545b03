//! How an operation is carried out: on a lent connection, within the deadline, and again where the server allows it.
//! The rows are read, and errors name the store.

use std::time::Duration;

use countersign_core::store::StoreError;
use sqlx::Database;

use super::pool::{Lease, Pool};
use super::{Server, Transaction};
use crate::purge::in_steps;
use crate::statement::{Driver, FromColumns, Statement, read_all};

/// Carries out a store's operations on the connections of one pool.
#[derive(Debug)]
pub(crate) struct Operations<S: Server> {
    pool: Pool<S>,
    deadline: Duration,
}

impl<S: Server> Clone for Operations<S> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), deadline: self.deadline }
    }
}

/// A store's connections, separated by the kind of work, so that no kind waits behind another.
#[derive(Debug)]
pub(crate) struct Lanes<S: Server> {
    pub(crate) work: Operations<S>,
    /// Reads lists. A caller that asks for many lists waits for its own lists and does not delay other work.
    pub(crate) lists: Operations<S>,
    /// Reads the tail of the revocation log, which must not wait behind other work.
    pub(crate) tail: Operations<S>,
}

/// How many lists are read at the same time.
const LIST_CONNECTIONS: u32 = 1;
/// The connections for the tail: one reads the tail of the log, and one is left for a request that joins in.
const TAIL_CONNECTIONS: u32 = 2;

impl<S: Server> Lanes<S> {
    /// `work` leads where the work is done, with at most `connections` connections; `tail` leads where the tail is
    /// read.
    pub(crate) fn new(work: S, tail: S, connections: u32, deadline: Duration) -> Self
    where
        S: Clone,
    {
        Self {
            lists: Operations::new(work.clone(), LIST_CONNECTIONS, deadline),
            work: Operations::new(work, connections, deadline),
            tail: Operations::new(tail, TAIL_CONNECTIONS, deadline),
        }
    }

    /// Lends no more connections.
    pub(crate) async fn close(&self) {
        self.work.close().await;
        self.lists.close().await;
        self.tail.close().await;
    }
}

/// Whether a statement reads or writes, which decides whether it may be done twice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Shape {
    Read,
    Write,
}

/// What an error says about the connection, and about trying again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// The connection does its work; the operation failed for a reason of its own.
    Usable,
    /// Two transactions were in each other's way, and the server undid this one, or its statement.
    Conflict,
    /// The connection was closed because it was idle, or its prepared statements are no longer valid: the tables were
    /// changed, or the server behind a pooler is another one. Nothing was done.
    Stale,
    /// The connection is lost, or leads to a server that no longer takes writes.
    Broken,
}

/// No answer came in time. Whether the operation was done is not known.
#[derive(Debug, thiserror::Error)]
#[error("no answer before the deadline")]
struct DeadlinePassed;

/// How often an operation that conflicts with another one is tried again. Each time one of the two succeeds.
const RETRIES: u32 = 10;

/// The result of a statement, in the driver's own type.
type Done<S> = <<S as Server>::Driver as Database>::QueryResult;
type Row<S> = <<S as Server>::Driver as Database>::Row;

impl<S: Server> Operations<S> {
    /// Opens at most so many connections to the server. Each operation is answered by the deadline.
    pub(crate) fn new(server: S, connections: u32, deadline: Duration) -> Self {
        Self { pool: Pool::new(server, connections, deadline), deadline }
    }

    /// Reads in one statement.
    pub(crate) async fn read<Y: FromColumns>(
        &self,
        action: &'static str,
        statement: Statement<S::Driver, Y>,
    ) -> Result<Vec<Y>, StoreError> {
        self.returning(action, Shape::Read, statement).await
    }

    /// Reads a row, if there is one.
    pub(crate) async fn first<Y: FromColumns>(
        &self,
        action: &'static str,
        statement: Statement<S::Driver, Y>,
    ) -> Result<Option<Y>, StoreError> {
        Ok(self.read(action, statement).await?.into_iter().next())
    }

    /// Reads the row that the statement always returns.
    pub(crate) async fn only<Y: FromColumns>(
        &self,
        action: &'static str,
        statement: Statement<S::Driver, Y>,
    ) -> Result<Y, StoreError> {
        only::<S, Y>(action, self.read(action, statement).await?)
    }

    /// Writes in one statement, which is a transaction by itself. Returns how many rows it has changed.
    pub(crate) async fn write(
        &self,
        action: &'static str,
        statement: Statement<S::Driver>,
    ) -> Result<u64, StoreError> {
        self.execute(action, statement).await.map(|done| S::Driver::changed(&done))
    }

    /// Writes in one statement. Returns what the driver says about it.
    pub(crate) async fn execute(
        &self,
        action: &'static str,
        statement: Statement<S::Driver>,
    ) -> Result<Done<S>, StoreError> {
        let done = self.retried(Shape::Write, || self.execute_once(&statement));
        self.within_the_deadline(action, done).await
    }

    /// Inserts a row, unless there is one with its key. Returns whether it did.
    pub(crate) async fn insert(
        &self,
        action: &'static str,
        statement: Statement<S::Driver>,
    ) -> Result<bool, StoreError> {
        let inserted =
            self.retried(Shape::Write, || async { is_new::<S::Driver>(self.execute_once(&statement).await) });
        self.within_the_deadline(action, inserted).await
    }

    /// Writes in one statement. Returns the rows of that statement.
    #[cfg(feature = "postgres")]
    pub(crate) async fn write_returning<Y: FromColumns>(
        &self,
        action: &'static str,
        statement: Statement<S::Driver, Y>,
    ) -> Result<Vec<Y>, StoreError> {
        self.returning(action, Shape::Write, statement).await
    }

    /// Writes in one statement. Returns the row that the statement always returns.
    #[cfg(feature = "postgres")]
    pub(crate) async fn write_returning_only<Y: FromColumns>(
        &self,
        action: &'static str,
        statement: Statement<S::Driver, Y>,
    ) -> Result<Y, StoreError> {
        only::<S, Y>(action, self.write_returning(action, statement).await?)
    }

    /// Deletes at most so many rows, in steps, so that no transaction is long. A step is given how many rows it may
    /// delete.
    pub(crate) async fn purge(
        &self,
        action: &'static str,
        at_most: usize,
        step: impl Fn(usize) -> Statement<S::Driver>,
    ) -> Result<u64, StoreError> {
        in_steps(at_most, |at_most| self.write(action, step(at_most))).await
    }

    /// Carries out several statements, all or none. `work` ends with [`Transaction::commit`] or [`Transaction::undo`],
    /// and is done again if it conflicted with another transaction.
    pub(crate) async fn transaction<T, F>(
        &self,
        action: &'static str,
        work: impl Fn(Transaction<S>) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        let done = self.retried(Shape::Write, || async {
            work(Transaction::begin(self.pool.lend().await?).await?).await
        });
        self.within_the_deadline(action, done).await
    }

    /// Carries out several reads, writes and transactions as one operation, all within one deadline.
    pub(crate) async fn series<T>(
        &self,
        action: &'static str,
        steps: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let steps = tokio::time::timeout(self.deadline, steps).await;
        steps.map_err(|_| StoreError::new(S::Driver::STORE, action, DeadlinePassed))?
    }

    /// Lends no more connections.
    pub(crate) async fn close(&self) {
        self.pool.close(self.deadline).await;
    }

    async fn returning<Y: FromColumns>(
        &self,
        action: &'static str,
        shape: Shape,
        statement: Statement<S::Driver, Y>,
    ) -> Result<Vec<Y>, StoreError> {
        let rows = self.retried(shape, || self.rows_once(&statement));
        let rows = self.within_the_deadline(action, rows).await?;
        read_all(&rows).map_err(|error| StoreError::new(S::Driver::STORE, action, error))
    }

    // A statement is prepared in one exchange and run in the next. Only a transaction ensures that a pooler hands both
    // to the same server connection. On another one, the same name may be another program's statement.

    async fn rows_once<Y>(&self, statement: &Statement<S::Driver, Y>) -> Result<Vec<Row<S>>, sqlx::Error> {
        let mut lease = self.pool.lend().await?;
        if lease.server().keeps_statements() {
            let rows = statement.rows(lease.connection()?, true).await;
            return settled(lease, rows);
        }
        let mut transaction = Transaction::begin(lease).await?;
        let rows = transaction.rows(statement).await?;
        transaction.commit().await?;
        Ok(rows)
    }

    async fn execute_once(&self, statement: &Statement<S::Driver>) -> Result<Done<S>, sqlx::Error> {
        let mut lease = self.pool.lend().await?;
        if lease.server().keeps_statements() {
            let done = statement.execute(lease.connection()?, true).await;
            return settled(lease, done);
        }
        let mut transaction = Transaction::begin(lease).await?;
        let done = transaction.execute(statement).await?;
        transaction.commit().await?;
        Ok(done)
    }

    /// Closes the connection when the deadline has passed or the caller goes away, because it is unknown what the
    /// server still does on it.
    async fn within_the_deadline<T>(
        &self,
        action: &'static str,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.deadline, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(StoreError::new(S::Driver::STORE, action, S::tellable(error))),
            Err(_) => Err(StoreError::new(S::Driver::STORE, action, DeadlinePassed)),
        }
    }

    /// Does the work again where that is safe: after a conflict, or on a new connection.
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
            let fate = Fate::after::<S>(&error);
            if !fate.leaves_the_connection() {
                // The connection was closed. If it was dead, the other idle ones probably are too.
                self.pool.distrust_idle();
            }
            match fate {
                Fate::Conflict if conflicts < RETRIES => {
                    conflicts += 1;
                    tokio::time::sleep(Duration::from_millis(1 << conflicts.min(6))).await;
                }
                // Nothing was done, so the work is done again on a new connection.
                Fate::Stale if !reconnected => reconnected = true,
                // The work may have been done, which does not matter for a read. A connection that was idle while the
                // server restarted fails like this.
                Fate::Broken if shape == Shape::Read && !reconnected => reconnected = true,
                _ => return Err(error),
            }
        }
    }
}

fn only<S: Server, Y>(action: &'static str, rows: Vec<Y>) -> Result<Y, StoreError> {
    let row = rows.into_iter().next();
    row.ok_or_else(|| StoreError::new(S::Driver::STORE, action, sqlx::Error::RowNotFound))
}

/// Whether a row was inserted; if not, there was one with its key. A statement without a clause for that case is
/// answered by the server with an error. (It is not `INSERT IGNORE`, because MySQL would then also ignore that a value
/// is too long, and cut it.)
pub(super) fn is_new<D: Driver>(inserted: Result<D::QueryResult, sqlx::Error>) -> Result<bool, sqlx::Error> {
    match inserted {
        Ok(done) => Ok(D::changed(&done) > 0),
        Err(error) if error.as_database_error().is_some_and(|error| error.is_unique_violation()) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives the connection back, unless it can no longer be used.
pub(super) fn settled<S: Server, T>(lease: Lease<S>, done: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
    if done.as_ref().err().is_none_or(|error| Fate::after::<S>(error).leaves_the_connection()) {
        lease.give_back();
    }
    done
}

impl Fate {
    pub(super) fn after<S: Server>(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => S::fate(&**error),
            sqlx::Error::Encode(_)
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::RowNotFound => Self::Usable,
            _ => Self::Broken,
        }
    }

    pub(super) fn leaves_the_connection(self) -> bool {
        matches!(self, Self::Usable | Self::Conflict)
    }
}
