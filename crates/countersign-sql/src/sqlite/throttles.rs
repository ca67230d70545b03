//! Counters of login attempts.

use std::ops::Range;

use async_trait::async_trait;
use countersign_core::model::{Attempts, Outcome, Refused, ThrottlePolicy};
use countersign_core::store::{StoreError, ThrottleStore};
use countersign_jwt::Timestamp;
use sqlx::SqliteConnection;

use super::{STORE, SqliteStore, Undo};
use crate::column::{limit, surplus};
use crate::record::AttemptsRecord;

const FIND: &str = "SELECT * FROM throttle WHERE key = ?1";

const PUT: &str = "
    INSERT INTO throttle (key, failures, last_failure, running, running_until, touched_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (key) DO UPDATE SET failures = excluded.failures, last_failure = excluded.last_failure,
        running = excluded.running, running_until = excluded.running_until, touched_at = excluded.touched_at";

const DELETE: &str = "DELETE FROM throttle WHERE key = ?1";

const COUNT: &str = "SELECT count(*) FROM throttle WHERE key >= ?1 AND key < ?2";

/// By the index alone, which holds the keys too.
const THIN: &str = "
    DELETE FROM throttle WHERE key IN
        (SELECT key FROM throttle WHERE +key >= ?1 AND +key < ?2 ORDER BY touched_at LIMIT ?3)";

const PURGE: &str = "
    DELETE FROM throttle WHERE key IN
        (SELECT key FROM throttle WHERE touched_at < ?1 ORDER BY touched_at LIMIT ?2)";

#[async_trait]
impl ThrottleStore for SqliteStore {
    async fn begin_attempt(
        &self,
        key: &str,
        now: Timestamp,
        policy: &ThrottlePolicy,
    ) -> Result<Result<(), Refused>, StoreError> {
        let policy = *policy;
        self.step("count the attempt", key, now, move |attempts| attempts.begin(now, &policy)).await
    }

    async fn finish_attempt(
        &self,
        key: &str,
        outcome: Outcome,
        now: Timestamp,
        policy: &ThrottlePolicy,
    ) -> Result<(), StoreError> {
        let policy = *policy;
        let finish = move |attempts: &mut Attempts| attempts.finish(outcome, now, &policy);
        self.step("settle the attempt", key, now, finish).await
    }

    async fn attempts(&self, key: &str) -> Result<Option<Attempts>, StoreError> {
        let action = "read the attempts";
        let query = sqlx::query_as::<_, AttemptsRecord>(FIND).bind(key);
        let row = self.read(action, query.fetch_optional(&self.readers)).await?;
        row.map(Attempts::try_from).transpose().map_err(|error| StoreError::new(STORE, action, error))
    }

    async fn purge_attempts(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        self.purge(at_most, |step| {
            self.write("purge attempts", Undo::Statement, move |connection| {
                Box::pin(async move {
                    let query = sqlx::query(PURGE).bind(before.as_millis()).bind(limit(step));
                    Ok(query.execute(connection).await?.rows_affected())
                })
            })
        })
        .await
    }

    async fn thin_attempts(&self, keys: Range<&str>, keep: u64, at_most: usize) -> Result<u64, StoreError> {
        const ACTION: &str = "thin out attempts";
        let count = sqlx::query_scalar::<_, i64>(COUNT).bind(keys.start).bind(keys.end);
        let count = self.read(ACTION, count.fetch_one(&self.readers)).await?;
        self.purge(surplus(count, keep, at_most), |step| {
            let (start, end) = (keys.start.to_owned(), keys.end.to_owned());
            self.write(ACTION, Undo::Statement, move |connection| {
                Box::pin(async move {
                    let query = sqlx::query(THIN).bind(&start).bind(&end).bind(limit(step));
                    Ok(query.execute(connection).await?.rows_affected())
                })
            })
        })
        .await
    }
}

impl SqliteStore {
    /// Reads a counter, moves it on and writes it back, while the transaction holds the write lock.
    async fn step<T: Send + 'static>(
        &self,
        action: &'static str,
        key: &str,
        now: Timestamp,
        step: impl FnOnce(&mut Attempts) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let key = key.to_owned();
        self.write(action, Undo::Statement, move |connection| {
            Box::pin(async move {
                let query = sqlx::query_as::<_, AttemptsRecord>(FIND).bind(&key);
                let found = query.fetch_optional(&mut *connection).await?;
                let before = found.map(Attempts::try_from).transpose()?.unwrap_or_default();
                let mut counter = before;
                let answer = step(&mut counter);
                // A flood of refused attempts changes nothing, so it costs no write either.
                if counter != before {
                    put(connection, &key, &counter, now).await?;
                }
                Ok(answer)
            })
        })
        .await
    }
}

/// Writes a counter, or deletes it where nothing is left of it.
async fn put(
    connection: &mut SqliteConnection,
    key: &str,
    attempts: &Attempts,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    if *attempts == Attempts::default() {
        sqlx::query(DELETE).bind(key).execute(connection).await?;
        return Ok(());
    }
    sqlx::query(PUT)
        .bind(key)
        .bind(i64::from(attempts.failures))
        .bind(attempts.last_failure.map(Timestamp::as_millis))
        .bind(i64::from(attempts.running))
        .bind(attempts.running_until.as_millis())
        .bind(now.as_millis())
        .execute(connection)
        .await?;
    Ok(())
}
