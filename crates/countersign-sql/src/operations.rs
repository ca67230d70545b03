//! What operations on every server have in common: a lent connection, a deadline, another try where the server says so.

use std::time::Duration;

use countersign_core::store::{BoxError, StoreError};

use crate::pool::{Lease, Pool, Server};

/// A server whose errors tell what to do about them.
pub(crate) trait Dialect: Server {
    /// The engine's name in errors.
    const STORE: &'static str;

    /// What an error of the server's own says.
    fn fate(error: &dyn sqlx::error::DatabaseError) -> Fate;

    /// The error without what the server quotes of statements and rows.
    fn tellable(error: sqlx::Error) -> BoxError;
}

/// Carries operations out.
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

/// What a statement does, and so whether it may be done twice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape {
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
    /// The connection was closed for its silence, or its prepared statements are no longer good: the tables were changed,
    /// or the server behind a pooler is another one. Nothing was done.
    Stale,
    /// The connection is gone, or leads to a server that no longer takes writes.
    Broken,
}

/// Nothing came back in time. Whether the operation was done is not known.
#[derive(Debug, thiserror::Error)]
#[error("no answer before the deadline")]
struct DeadlinePassed;

/// How often an operation is tried again that got into the way of another one. Each time one of them gets through.
const RETRIES: u32 = 10;

impl<S: Dialect> Operations<S> {
    /// On these connections; each operation is answered by the deadline.
    pub(crate) fn new(pool: Pool<S>, deadline: Duration) -> Self {
        Self { pool, deadline }
    }

    /// A connection for one operation.
    pub(crate) async fn lend(&self) -> Result<Lease<S>, sqlx::Error> {
        self.pool.lend().await
    }

    /// An operation of several reads, writes and transactions, all of it within the deadline.
    pub(crate) async fn series<T>(
        &self,
        action: &'static str,
        steps: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let steps = tokio::time::timeout(self.deadline, steps).await;
        steps.map_err(|_| StoreError::new(S::STORE, action, DeadlinePassed))?
    }

    /// When the deadline has passed, or the caller goes away, the connection is closed: nobody can say what the server
    /// still does on it.
    pub(crate) async fn within_the_deadline<T>(
        &self,
        action: &'static str,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.deadline, work).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(StoreError::new(S::STORE, action, S::tellable(error))),
            Err(_) => Err(StoreError::new(S::STORE, action, DeadlinePassed)),
        }
    }

    /// Does it again where that is safe: after a conflict, or on a new connection.
    pub(crate) async fn retried<T, F>(&self, shape: Shape, work: impl Fn() -> F) -> Result<T, sqlx::Error>
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
    pub(crate) async fn close(&self) {
        self.pool.close(self.deadline).await;
    }
}

/// Gives the connection back, unless it is no longer good for anything.
pub(crate) fn settled<S: Dialect, T>(
    lease: Lease<S>,
    done: Result<T, sqlx::Error>,
) -> Result<T, sqlx::Error> {
    if done.as_ref().err().is_none_or(|error| Fate::after::<S>(error).leaves_the_connection()) {
        lease.give_back();
    }
    done
}

impl Fate {
    pub(crate) fn after<S: Dialect>(error: &sqlx::Error) -> Self {
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

    pub(crate) fn leaves_the_connection(self) -> bool {
        matches!(self, Self::Usable | Self::Conflict)
    }
}
