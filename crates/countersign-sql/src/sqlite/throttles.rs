//! Counters of login attempts, kept in SQLite.

use std::ops::Range;

use async_trait::async_trait;
use countersign_core::model::{Attempts, Outcome, Refused, ThrottlePolicy};
use countersign_core::store::{StoreError, ThrottleStore};
use countersign_jwt::Timestamp;

use super::{SqliteStore, Statement, Undo};
use crate::column::{limit, surplus};
use crate::purge::in_steps;
use crate::record::AttemptsRecord;

fn find(key: &str) -> Statement<Attempts> {
    Statement::new(concat!("SELECT ", attempts_columns!(names), " FROM throttle WHERE key = ?1")).bind(key)
}

fn put(key: &str, counter: &Attempts, now: Timestamp) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO throttle (key, ",
        attempts_columns!(names),
        ", touched_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (key) DO UPDATE SET failures = excluded.failures, last_failure = excluded.last_failure,
        running = excluded.running, running_until = excluded.running_until, touched_at = excluded.touched_at"
    ))
    .bind(key)
    .bind_record(AttemptsRecord::from(counter))
    .bind(now)
}

fn delete(key: &str) -> Statement {
    Statement::new("DELETE FROM throttle WHERE key = ?1").bind(key)
}

fn count(keys: &Range<&str>) -> Statement<(i64,)> {
    Statement::new("SELECT count(*) FROM throttle WHERE key >= ?1 AND key < ?2")
        .bind(keys.start)
        .bind(keys.end)
}

/// Deletes the oldest counters, by the index alone, which holds the keys too.
fn thin(keys: &Range<&str>, at_most: usize) -> Statement {
    Statement::new(
        "
    DELETE FROM throttle WHERE key IN
        (SELECT key FROM throttle WHERE +key >= ?1 AND +key < ?2 ORDER BY touched_at LIMIT ?3)",
    )
    .bind(keys.start)
    .bind(keys.end)
    .bind(limit(at_most))
}

fn purge(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    DELETE FROM throttle WHERE key IN
        (SELECT key FROM throttle WHERE touched_at < ?1 ORDER BY touched_at LIMIT ?2)",
    )
    .bind(before)
    .bind(limit(at_most))
}

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
        self.first("read the attempts", &self.readers, find(key)).await
    }

    async fn purge_attempts(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        in_steps(at_most, |step| self.write("purge attempts", purge(before, step))).await
    }

    async fn thin_attempts(&self, keys: Range<&str>, keep: u64, at_most: usize) -> Result<u64, StoreError> {
        const ACTION: &str = "thin out attempts";
        let (count,) = self.only(ACTION, &self.readers, count(&keys)).await?;
        in_steps(surplus(count, keep, at_most), |step| self.write(ACTION, thin(&keys, step))).await
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
        self.writes(action, Undo::Statement, move |connection| {
            Box::pin(async move {
                let before = find(&key).all(connection).await?.pop().unwrap_or_default();
                let mut counter = before;
                let answer = step(&mut counter);
                // A refused attempt changes nothing, so a flood of them costs no writes either.
                if counter != before {
                    // A counter of which nothing is left is deleted.
                    let is_empty = counter == Attempts::default();
                    let write = if is_empty { delete(&key) } else { put(&key, &counter, now) };
                    write.changes(connection).await?;
                }
                Ok(answer)
            })
        })
        .await
    }
}
