//! The one connection that writes, and how many writes share a commit.
//!
//! A commit waits for the disk, and SQLite has one writer at a time. So all writes go to one task, which takes the
//! writes that came in during the last commit, and commits them together. Each write is still atomic, sees those before
//! it, and is answered only when the commit is on disk.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use countersign_core::store::{BoxError, StoreError};
use sqlx::{Connection, Sqlite, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::connection::{Connector, Role};
use crate::statement::Driver as _;

/// The handle by which writes reach the task that does them.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Box<dyn Job>>,
    deadline: Duration,
}

/// The way to undo a write that fails half-way, while the other writes of its transaction stay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Undo {
    /// SQLite undoes the write itself. The body changes something only in its last statement, and a statement that
    /// fails changes nothing. This saves two statements.
    Statement,
    /// A savepoint around the body undoes the write.
    Savepoint,
}

/// The work of a write on the connection, inside the transaction.
pub(super) type Body<'c, T> = Pin<Box<dyn Future<Output = Result<T, sqlx::Error>> + Send + 'c>>;

#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("the database was busy until the deadline; nothing was written")]
    NotBegun,
    #[error("the commit was not confirmed before the deadline")]
    NotConfirmed,
    #[error("the store was closed")]
    Closed,
}

impl Writer {
    /// Starts the task. When the writer is dropped and its writes are done, the task closes its connection and ends.
    pub(super) fn start(
        connection: SqliteConnection,
        connector: Connector,
        max_batch: usize,
    ) -> (Self, JoinHandle<()>) {
        let (jobs, incoming) = mpsc::channel(max_batch.saturating_mul(4));
        let deadline = connector.deadline();
        let task = tokio::spawn(run(incoming, connection, connector, max_batch));
        (Self { jobs, deadline }, task)
    }

    /// Hands in a write and waits for its commit, at most until the deadline.
    ///
    /// A write that has not begun by the deadline never begins. A write that has begun is not undone when its caller
    /// goes away.
    pub(super) async fn write<T, F>(&self, action: &'static str, undo: Undo, body: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> Body<'c, T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let claimed = Arc::new(AtomicBool::new(false));
        let job = Write { body: Some(body), undo, result: None, reply, claimed: claimed.clone() };
        let exchange = async {
            let closed = || BoxError::from(Unanswered::Closed);
            self.jobs.send(Box::new(job)).await.map_err(|_| closed())?;
            answer.await.map_err(|_| closed())?
        };
        let outcome = match tokio::time::timeout(self.deadline, exchange).await {
            Ok(outcome) => outcome,
            // The first to claim the write decides: this caller that it is not done, or the writer that it is.
            Err(_) if claimed.swap(true, Ordering::AcqRel) => Err(Unanswered::NotConfirmed.into()),
            Err(_) => Err(Unanswered::NotBegun.into()),
        };
        outcome.map_err(|source| StoreError::new(Sqlite::STORE, action, source))
    }
}

/// One write, whatever the type of its answer.
#[async_trait]
trait Job: Send {
    /// Claims the write. Returns whether it is still wanted; afterwards its caller can no longer call it off.
    fn claim(&self) -> bool;

    /// Does the write. An error means that the whole transaction is lost, not only this write.
    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error>;

    /// Answers the caller, once the transaction's result is known.
    fn answer(self: Box<Self>, lost: Option<Arc<sqlx::Error>>);
}

struct Write<T, F> {
    body: Option<F>,
    undo: Undo,
    result: Option<Result<T, sqlx::Error>>,
    reply: oneshot::Sender<Result<T, BoxError>>,
    claimed: Arc<AtomicBool>,
}

#[async_trait]
impl<T, F> Job for Write<T, F>
where
    T: Send,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> Body<'c, T> + Send,
{
    fn claim(&self) -> bool {
        !self.claimed.swap(true, Ordering::AcqRel)
    }

    async fn run(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let Some(body) = self.body.take() else { return Ok(()) };
        let result = match self.undo {
            Undo::Statement => body(connection).await,
            Undo::Savepoint => {
                let mut savepoint = connection.begin().await?;
                match body(&mut savepoint).await {
                    Ok(value) => {
                        savepoint.commit().await?;
                        Ok(value)
                    }
                    Err(error) => {
                        savepoint.rollback().await?;
                        Err(error)
                    }
                }
            }
        };
        match result {
            Err(error) if !leaves_the_transaction(&error) => Err(error),
            result => {
                self.result = Some(result);
                Ok(())
            }
        }
    }

    fn answer(self: Box<Self>, lost: Option<Arc<sqlx::Error>>) {
        let answer = match (lost, self.result) {
            (Some(error), _) => Err(error.into()),
            (None, Some(result)) => result.map_err(Into::into),
            (None, None) => Err(Unanswered::NotBegun.into()),
        };
        // The caller may be gone, but the commit stands.
        let _gone = self.reply.send(answer);
    }
}

/// Whether the transaction is as good as before the statement that failed with this error. After other errors (disk
/// full, I/O error) SQLite may have rolled all of it back.
fn leaves_the_transaction(error: &sqlx::Error) -> bool {
    const TOO_BIG: i32 = 18;
    const CONSTRAINT: i32 = 19;
    const MISMATCH: i32 = 20;
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().and_then(|code| code.parse::<i32>().ok());
            // The low byte is the primary code; the rest gives details.
            code.is_some_and(|code| matches!(code & 0xff, TOO_BIG | CONSTRAINT | MISMATCH))
        }
        sqlx::Error::Encode(_)
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::RowNotFound => true,
        _ => false,
    }
}

async fn run(
    mut incoming: mpsc::Receiver<Box<dyn Job>>,
    connection: SqliteConnection,
    connector: Connector,
    max_batch: usize,
) {
    let mut open = Some(connection);
    let mut jobs = Vec::with_capacity(max_batch);
    while incoming.recv_many(&mut jobs, max_batch).await > 0 {
        // The connection stays open, because it is the last hold on what was written before. The program's log has been
        // told.
        if let Err(gone) = connector.check_files() {
            let lost = Some(Arc::new(sqlx::Error::config(gone)));
            jobs.drain(..).for_each(|job| job.answer(lost.clone()));
            continue;
        }
        let outcome = commit(&mut open, &connector, &mut jobs).await;
        let mut lost = outcome.err().map(Arc::new);
        if let Err(gone) = connector.check_files()
            && lost.is_none()
        {
            // The commit went into a file that nobody will find.
            lost = Some(Arc::new(sqlx::Error::config(gone)));
        } else if let Some(error) = &lost {
            tracing::warn!(error = %error, writes = jobs.len(), "sqlite could not commit; connecting again");
            // The connection's transaction, if it still has one, ends with it.
            open = None;
        }
        for job in jobs.drain(..) {
            job.answer(lost.clone());
        }
    }
    if let Some(connection) = open {
        let _closing_anyway = connection.close().await;
    }
}

/// Commits the jobs in one transaction, on the open connection or a new one.
async fn commit(
    open: &mut Option<SqliteConnection>,
    connector: &Connector,
    jobs: &mut Vec<Box<dyn Job>>,
) -> Result<(), sqlx::Error> {
    let connection = match open {
        Some(connection) => connection,
        None => open.insert(connector.connect(Role::Writer).await.map_err(sqlx::Error::config)?),
    };
    // The write lock is taken now, because a transaction that starts as a reader and then writes can fail at any
    // statement.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    jobs.retain(|job| job.claim());
    for job in jobs.iter_mut() {
        job.run(&mut transaction).await?;
    }
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;

    /// A writer on a database with one table, `t (x PRIMARY KEY, parent REFERENCES t)`.
    async fn writer(folder: &TempDir) -> (Writer, SqliteConnection) {
        let path = folder.path().join("test.db");
        std::fs::File::create(&path).unwrap();
        let connector = Connector::new(Path::new(&path), Duration::from_secs(3));
        let mut other = connector.connect(Role::Writer).await.unwrap();
        let table =
            "CREATE TABLE t (x INTEGER PRIMARY KEY, parent INTEGER REFERENCES t (x), filling BLOB) STRICT";
        sqlx::raw_sql(table).execute(&mut other).await.unwrap();
        let connection = connector.connect(Role::Writer).await.unwrap();
        (Writer::start(connection, connector, 128).0, other)
    }

    /// Runs the statements one after the other as one write.
    async fn write(
        writer: &Writer,
        undo: Undo,
        statements: &'static [&'static str],
    ) -> Result<(), StoreError> {
        writer
            .write("test", undo, move |connection| {
                Box::pin(async move {
                    for statement in statements {
                        sqlx::query(*statement).execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    async fn rows(other: &mut SqliteConnection) -> Vec<i64> {
        sqlx::query_scalar("SELECT x FROM t ORDER BY x").fetch_all(other).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_write_that_fails_half_way_is_undone_and_its_neighbours_stay() {
        let folder = TempDir::new().unwrap();
        let (writer, mut other) = writer(&folder).await;
        // While the lock is held, all three get into one transaction.
        let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let (first, failing, statement, last, ()) = tokio::join!(
            write(&writer, Undo::Savepoint, &["INSERT INTO t (x) VALUES (1)"]),
            write(
                &writer,
                Undo::Savepoint,
                &["INSERT INTO t (x) VALUES (2)", "INSERT INTO t (x) VALUES (1)"]
            ),
            write(&writer, Undo::Statement, &["INSERT INTO t (x) VALUES (3), (1)"]),
            write(&writer, Undo::Statement, &["INSERT INTO t (x) VALUES (4)"]),
            async { lock.rollback().await.unwrap() },
        );
        assert!(first.is_ok() && last.is_ok());
        assert!(failing.is_err() && statement.is_err());
        assert_eq!(rows(&mut other).await, [1, 4]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_commit_that_fails_fails_all_its_writes_and_the_next_one_succeeds() {
        let folder = TempDir::new().unwrap();
        let (writer, mut other) = writer(&folder).await;
        let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let warm_up = write(&writer, Undo::Statement, &["INSERT INTO t (x) VALUES (1)"]);
        let (warm_up, neighbour, failing, ()) = tokio::join!(
            warm_up,
            write(&writer, Undo::Statement, &["INSERT INTO t (x) VALUES (2)"]),
            // The constraint is checked only at the commit.
            write(
                &writer,
                Undo::Savepoint,
                &["PRAGMA defer_foreign_keys = ON", "INSERT INTO t (x, parent) VALUES (3, 99)"]
            ),
            async { lock.rollback().await.unwrap() },
        );
        assert!(failing.is_err());
        // The neighbour's answer is true, whichever commit it was part of.
        let expected: Vec<i64> =
            [(1, &warm_up), (2, &neighbour)].iter().filter(|(_, r)| r.is_ok()).map(|(x, _)| *x).collect();
        assert_eq!(rows(&mut other).await, expected);
        write(&writer, Undo::Statement, &["INSERT INTO t (x) VALUES (4)"]).await.unwrap();
        assert!(rows(&mut other).await.contains(&4));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_full_disk_fails_the_write_and_the_next_one_succeeds() {
        let folder = TempDir::new().unwrap();
        let (writer, mut other) = writer(&folder).await;
        let full = write(
            &writer,
            Undo::Savepoint,
            &[
                "INSERT INTO t (x) VALUES (1)",
                "PRAGMA max_page_count = 3",
                "INSERT INTO t (x, filling) VALUES (2, zeroblob(1000000))",
            ],
        );
        assert!(full.await.is_err());
        assert_eq!(rows(&mut other).await, [0_i64; 0]);
        // The next write is done on a new connection.
        let big = &["INSERT INTO t (x, filling) VALUES (3, zeroblob(1000000))"];
        write(&writer, Undo::Statement, big).await.unwrap();
        assert_eq!(rows(&mut other).await, [3]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_task_ends_when_the_writer_is_dropped() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("test.db");
        std::fs::File::create(&path).unwrap();
        let connector = Connector::new(&path, Duration::from_secs(3));
        let connection = connector.connect(Role::Writer).await.unwrap();
        let (writer, task) = Writer::start(connection, connector, 1);
        drop(writer);
        task.await.unwrap();
    }
}
