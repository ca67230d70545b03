//! Several statements of which all are done or none.

use sqlx::{Database, SqlSafeStr};

use super::Server;
use super::operations::{Fate, is_new, settled};
use super::pool::Lease;
use crate::statement::{Driver, FromColumns, Statement, read_all};

/// Several statements of which all are done or none. The transaction is READ COMMITTED: each statement sees what was
/// committed before it began. When one fails, everything is undone and no other can follow. When the transaction is
/// dropped, its connection is closed, and the server undoes what was done.
pub(crate) struct Transaction<S: Server> {
    /// `None` once the transaction has ended.
    lease: Option<Lease<S>>,
}

impl<S: Server> Transaction<S> {
    pub(super) async fn begin(mut lease: Lease<S>) -> Result<Self, sqlx::Error> {
        let begin = lease.server().begin();
        S::send(lease.connection()?, begin).await?;
        Ok(Self { lease: Some(lease) })
    }

    /// Writes in one statement. Returns how many rows it has changed.
    pub(crate) async fn write(&mut self, statement: &Statement<S::Driver>) -> Result<u64, sqlx::Error> {
        self.execute(statement).await.map(|done| S::Driver::changed(&done))
    }

    /// Inserts a row, unless there is one with its key. Returns whether it did. The transaction continues in both
    /// cases.
    pub(crate) async fn insert(&mut self, statement: &Statement<S::Driver>) -> Result<bool, sqlx::Error> {
        let inserted = is_new::<S::Driver>(self.said(statement).await);
        self.undone_by(inserted).await
    }

    /// Reads the rows of a statement.
    pub(crate) async fn read<Y: FromColumns>(
        &mut self,
        statement: &Statement<S::Driver, Y>,
    ) -> Result<Vec<Y>, sqlx::Error> {
        let rows = self.rows(statement).await?;
        self.undone_by(read_all(&rows)).await
    }

    /// Commits the transaction.
    pub(crate) async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.end("COMMIT").await
    }

    /// Undoes the transaction, and keeps its connection.
    pub(crate) async fn undo(mut self) -> Result<(), sqlx::Error> {
        self.end("ROLLBACK").await
    }

    pub(super) async fn execute(
        &mut self,
        statement: &Statement<S::Driver>,
    ) -> Result<<S::Driver as Database>::QueryResult, sqlx::Error> {
        let done = self.said(statement).await;
        self.undone_by(done).await
    }

    pub(super) async fn rows<Y>(
        &mut self,
        statement: &Statement<S::Driver, Y>,
    ) -> Result<Vec<<S::Driver as Database>::Row>, sqlx::Error> {
        let lease = self.lease()?;
        let keep = lease.server().keeps_statements();
        let rows = statement.rows(lease.connection()?, keep).await;
        self.undone_by(rows).await
    }

    async fn said(
        &mut self,
        statement: &Statement<S::Driver>,
    ) -> Result<<S::Driver as Database>::QueryResult, sqlx::Error> {
        let lease = self.lease()?;
        let keep = lease.server().keeps_statements();
        statement.execute(lease.connection()?, keep).await
    }

    /// Undoes everything at once after an error, because others may be waiting.
    async fn undone_by<T>(&mut self, done: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        if let Err(error) = &done
            && Fate::after::<S>(error).leaves_the_connection()
        {
            self.end("ROLLBACK").await?;
        }
        done
    }

    fn lease(&mut self) -> Result<&mut Lease<S>, sqlx::Error> {
        self.lease.as_mut().ok_or(sqlx::Error::WorkerCrashed)
    }

    async fn end(&mut self, how: &'static str) -> Result<(), sqlx::Error> {
        let mut lease = self.lease.take().ok_or(sqlx::Error::WorkerCrashed)?;
        let done = S::send(lease.connection()?, how.into_sql_str()).await;
        settled(lease, done)
    }
}
