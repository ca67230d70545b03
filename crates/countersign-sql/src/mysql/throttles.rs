//! Counters of login attempts.

use std::ops::Range;

use async_trait::async_trait;
use countersign_core::model::{Attempts, Outcome, Refused, ThrottlePolicy};
use countersign_core::store::{StoreError, ThrottleStore};
use countersign_jwt::Timestamp;

use super::MySqlStore;
use super::engine::{Statement, values};
use crate::column::{limit, surplus};
use crate::record::AttemptsRecord;

pub(super) const FIND: &str = "
    SELECT failures, last_failure, running, running_until FROM countersign_throttle WHERE counter = ?";

pub(super) const INSERT: &str = "
    INSERT INTO countersign_throttle (failures, last_failure, running, running_until, touched_at, counter)
    VALUES (?, ?, ?, ?, ?, ?)";

/// Only if the counter is still as it was read.
pub(super) const REPLACE: &str = "
    UPDATE countersign_throttle
    SET failures = ?, last_failure = ?, running = ?, running_until = ?, touched_at = ?
    WHERE counter = ? AND failures = ? AND last_failure <=> ? AND running = ? AND running_until = ?";

/// Only if the counter is still as it was read.
pub(super) const DELETE: &str = "
    DELETE FROM countersign_throttle
    WHERE counter = ? AND failures = ? AND last_failure <=> ? AND running = ? AND running_until = ?";

pub(super) const COUNT: &str = "
    SELECT count(*) FROM countersign_throttle WHERE counter >= ? AND counter < ?";

pub(super) const THIN: &str = "
    DELETE FROM countersign_throttle WHERE counter >= ? AND counter < ? ORDER BY touched_at LIMIT ?";

pub(super) const PURGE: &str = "
    DELETE FROM countersign_throttle WHERE touched_at < ? ORDER BY touched_at LIMIT ?";

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
        const ACTION: &str = "read the attempts";
        let rows = self.work.read::<AttemptsRecord>(ACTION, Statement::new(FIND).text(key)).await?;
        Ok(values(ACTION, rows)?.pop())
    }

    async fn purge_attempts(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        self.purge("purge attempts", PURGE, before, at_most).await
    }

    async fn thin_attempts(&self, keys: Range<&str>, keep: u64, at_most: usize) -> Result<u64, StoreError> {
        const ACTION: &str = "thin out attempts";
        let of = |sql| Statement::new(sql).text(keys.start).text(keys.end);
        let count = self.work.read::<(i64,)>(ACTION, of(COUNT)).await?.first().map_or(0, |(count,)| *count);
        let at_most = surplus(count, keep, at_most);
        if at_most == 0 {
            return Ok(0);
        }
        Ok(self.work.write(ACTION, of(THIN).number(limit(at_most))).await?.rows)
    }
}

impl MySqlStore {
    /// Reads a counter, moves it on and writes it back if it is still as it was read; else once more. Each time one of
    /// those that try gets through, and those that are refused write nothing, so that ends soon. No lock is held while
    /// the network is waited for.
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
                // A flood of refused attempts changes nothing, so it costs no write either.
                if counter == before {
                    return Ok(answer);
                }
                let is_put = match found {
                    Some(_) if counter == Attempts::default() => {
                        let delete = counter_is(Statement::new(DELETE).text(key), &before);
                        self.work.write(action, delete).await?.rows > 0
                    }
                    None => self.work.insert(action, to(INSERT, &counter, now).text(key)).await?,
                    Some(_) => {
                        let replace = to(REPLACE, &counter, now).text(key);
                        let replace = counter_is(replace, &before);
                        self.work.write(action, replace).await?.rows > 0
                    }
                };
                if is_put {
                    return Ok(answer);
                }
            }
        };
        self.work.series(action, steps).await
    }
}

fn to(sql: &'static str, counter: &Attempts, now: Timestamp) -> Statement {
    counter_is(Statement::new(sql), counter).number(now.as_millis())
}

fn counter_is(statement: Statement, counter: &Attempts) -> Statement {
    statement
        .number(i64::from(counter.failures))
        .number(counter.last_failure.map(Timestamp::as_millis))
        .number(i64::from(counter.running))
        .number(counter.running_until.as_millis())
}
