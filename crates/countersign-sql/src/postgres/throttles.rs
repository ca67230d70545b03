//! Counters of login attempts.

use async_trait::async_trait;
use countersign_core::Timestamp;
use countersign_core::account::{Attempts, Outcome, Refused, ThrottlePolicy};
use countersign_core::store::{StoreError, ThrottleStore};

use super::PostgresStore;
use super::engine::{Statement, values};
use crate::record::AttemptsRecord;

const FIND: &str = "SELECT * FROM countersign.throttle WHERE key = $1";

const INSERT: &str = "
    INSERT INTO countersign.throttle (key, failures, last_failure, running, running_until, touched_at)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT DO NOTHING";

/// Only if the counter is still as it was read.
const REPLACE: &str = "
    UPDATE countersign.throttle
    SET failures = $2, last_failure = $3, running = $4, running_until = $5, touched_at = $6
    WHERE key = $1 AND failures = $7 AND last_failure IS NOT DISTINCT FROM $8 AND running = $9
        AND running_until = $10";

/// What another node is deleting is left to it.
const PURGE: &str = "
    WITH old AS MATERIALIZED (
        SELECT key FROM countersign.throttle WHERE touched_at < $1 ORDER BY touched_at LIMIT $2
        FOR UPDATE SKIP LOCKED)
    DELETE FROM countersign.throttle USING old WHERE throttle.key = old.key";

#[async_trait]
impl ThrottleStore for PostgresStore {
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
        let statement = Statement::new(FIND).bind(key);
        Ok(values(ACTION, self.work.read::<AttemptsRecord>(ACTION, statement).await?)?.pop())
    }

    async fn purge_attempts(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        self.purge("purge attempts", PURGE, before, at_most).await
    }
}

impl PostgresStore {
    /// Reads a counter, moves it on and writes it back if it is still as it was read; else once more. Each time one of
    /// those that try gets through, and those that are refused write nothing, so that ends soon. No lock is held while
    /// the network is waited for.
    async fn step<T: Send>(
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
                let put = Statement::new(if found.is_some() { REPLACE } else { INSERT })
                    .bind(key)
                    .bind(i64::from(counter.failures))
                    .bind(counter.last_failure.map(Timestamp::as_millis))
                    .bind(i64::from(counter.running))
                    .bind(counter.running_until.as_millis())
                    .bind(now.as_millis());
                let put = match found {
                    Some(before) => put
                        .bind(i64::from(before.failures))
                        .bind(before.last_failure.map(Timestamp::as_millis))
                        .bind(i64::from(before.running))
                        .bind(before.running_until.as_millis()),
                    None => put,
                };
                if self.work.write(action, put).await? > 0 {
                    return Ok(answer);
                }
            }
        };
        self.work.series(action, steps).await
    }
}
