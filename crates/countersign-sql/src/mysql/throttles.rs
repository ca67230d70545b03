//! Counters of login attempts, kept in MySQL or MariaDB.

use std::ops::Range;

use async_trait::async_trait;
use countersign_core::model::{Attempts, Outcome, Refused, ThrottlePolicy};
use countersign_core::store::{StoreError, ThrottleStore};
use countersign_jwt::Timestamp;

use super::{MySqlStore, Statement};
use crate::column::{limit, surplus};
use crate::record::AttemptsRecord;

pub(super) fn find(key: &str) -> Statement<Attempts> {
    Statement::new(concat!(
        "
    SELECT ",
        attempts_columns!(names),
        " FROM countersign_throttle WHERE counter = ?"
    ))
    .bind(key)
}

pub(super) fn insert(key: &str, counter: &Attempts, now: Timestamp) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO countersign_throttle (",
        attempts_columns!(names),
        ", touched_at, counter)
    VALUES (?, ?, ?, ?, ?, ?)"
    ))
    .bind_record(AttemptsRecord::from(counter))
    .bind(now)
    .bind(key)
}

/// Replaces the counter if it is still as it was read.
pub(super) fn replace(key: &str, was: &Attempts, counter: &Attempts, now: Timestamp) -> Statement {
    Statement::new(
        "
    UPDATE countersign_throttle
    SET failures = ?, last_failure = ?, running = ?, running_until = ?, touched_at = ?
    WHERE counter = ? AND failures = ? AND last_failure <=> ? AND running = ? AND running_until = ?",
    )
    .bind_record(AttemptsRecord::from(counter))
    .bind(now)
    .bind(key)
    .bind_record(AttemptsRecord::from(was))
}

/// Deletes the counter if it is still as it was read.
pub(super) fn delete(key: &str, was: &Attempts) -> Statement {
    Statement::new(
        "
    DELETE FROM countersign_throttle
    WHERE counter = ? AND failures = ? AND last_failure <=> ? AND running = ? AND running_until = ?",
    )
    .bind(key)
    .bind_record(AttemptsRecord::from(was))
}

pub(super) fn count(keys: &Range<&str>) -> Statement<(i64,)> {
    Statement::new(
        "
    SELECT count(*) FROM countersign_throttle WHERE counter >= ? AND counter < ?",
    )
    .bind(keys.start)
    .bind(keys.end)
}

pub(super) fn thin(keys: &Range<&str>, at_most: usize) -> Statement {
    Statement::new(
        "
    DELETE FROM countersign_throttle WHERE counter >= ? AND counter < ? ORDER BY touched_at LIMIT ?",
    )
    .bind(keys.start)
    .bind(keys.end)
    .bind(limit(at_most))
}

pub(super) fn purge(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    DELETE FROM countersign_throttle WHERE touched_at < ? ORDER BY touched_at LIMIT ?",
    )
    .bind(before)
    .bind(limit(at_most))
}

#[async_trait]
impl ThrottleStore for MySqlStore {
    async fn begin_attempt(
        &self,
        key: &str,
        now: Timestamp,
        policy: &ThrottlePolicy,
    ) -> Result<Result<(), Refused>, StoreError> {
        self.step("count the attempt", key, now, |attempts| attempts.begin(now, policy)).await
    }

    async fn finish_attempt(
        &self,
        key: &str,
        outcome: Outcome,
        now: Timestamp,
        policy: &ThrottlePolicy,
    ) -> Result<(), StoreError> {
        self.step("settle the attempt", key, now, |attempts| attempts.finish(outcome, now, policy)).await
    }

    async fn attempts(&self, key: &str) -> Result<Option<Attempts>, StoreError> {
        self.lanes.work.first("read the attempts", find(key)).await
    }

    async fn purge_attempts(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        self.lanes.work.purge("purge attempts", at_most, |step| purge(before, step)).await
    }

    async fn thin_attempts(&self, keys: Range<&str>, keep: u64, at_most: usize) -> Result<u64, StoreError> {
        const ACTION: &str = "thin out attempts";
        let (count,) = self.lanes.work.only(ACTION, count(&keys)).await?;
        let at_most = surplus(count, keep, at_most);
        if at_most == 0 {
            return Ok(0);
        }
        self.lanes.work.write(ACTION, thin(&keys, at_most)).await
    }
}

impl MySqlStore {
    /// Reads a counter, moves it on and writes it back if it is still as it was read; otherwise tries again. Each time
    /// one of the concurrent attempts succeeds, and refused attempts write nothing, so that ends soon. No lock is held
    /// during a round trip over the network.
    async fn step<T>(
        &self,
        action: &'static str,
        key: &str,
        now: Timestamp,
        step: impl Fn(&mut Attempts) -> T + Send + Sync,
    ) -> Result<T, StoreError> {
        let steps = async {
            loop {
                let found = self.attempts(key).await?;
                let before = found.unwrap_or_default();
                let mut counter = before;
                let answer = step(&mut counter);
                // A refused attempt changes nothing, so a flood of them costs no writes either.
                if counter == before {
                    return Ok(answer);
                }
                let work = &self.lanes.work;
                let is_put = match found {
                    Some(was) if counter == Attempts::default() => {
                        work.write(action, delete(key, &was)).await? > 0
                    }
                    Some(was) => work.write(action, replace(key, &was, &counter, now)).await? > 0,
                    None => work.insert(action, insert(key, &counter, now)).await?,
                };
                if is_put {
                    return Ok(answer);
                }
            }
        };
        self.lanes.work.series(action, steps).await
    }
}
