//! Counters of login attempts, kept in PostgreSQL.

use std::ops::Range;

use async_trait::async_trait;
use countersign_core::model::{Attempts, Outcome, Refused, ThrottlePolicy};
use countersign_core::store::{StoreError, ThrottleStore};
use countersign_jwt::Timestamp;

use super::{PostgresStore, Statement};
use crate::column::{limit, surplus};
use crate::record::AttemptsRecord;

fn find(key: &str) -> Statement<Attempts> {
    Statement::new(concat!("SELECT ", attempts_columns!(names), " FROM countersign.throttle WHERE key = $1"))
        .bind(key)
}

/// Reads a counter, and waits until nobody else changes it.
fn find_locked(key: &str) -> Statement<Attempts> {
    Statement::new(concat!(
        "SELECT ",
        attempts_columns!(names),
        " FROM countersign.throttle WHERE key = $1 FOR UPDATE"
    ))
    .bind(key)
}

fn insert(key: &str, counter: &Attempts, now: Timestamp) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO countersign.throttle (key, ",
        attempts_columns!(names),
        ", touched_at)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT DO NOTHING"
    ))
    .bind(key)
    .bind_record(AttemptsRecord::from(counter))
    .bind(now)
}

/// Replaces the counter if it is still as it was read.
fn replace(key: &str, was: &Attempts, counter: &Attempts, now: Timestamp) -> Statement {
    Statement::new(
        "
    UPDATE countersign.throttle
    SET failures = $2, last_failure = $3, running = $4, running_until = $5, touched_at = $6
    WHERE key = $1 AND failures = $7 AND last_failure IS NOT DISTINCT FROM $8 AND running = $9
        AND running_until = $10",
    )
    .bind(key)
    .bind_record(AttemptsRecord::from(counter))
    .bind(now)
    .bind_record(AttemptsRecord::from(was))
}

/// Deletes the counter if it is still as it was read.
fn delete(key: &str, was: &Attempts) -> Statement {
    Statement::new(
        "
    DELETE FROM countersign.throttle
    WHERE key = $1 AND failures = $2 AND last_failure IS NOT DISTINCT FROM $3 AND running = $4
        AND running_until = $5",
    )
    .bind(key)
    .bind_record(AttemptsRecord::from(was))
}

fn count(keys: &Range<&str>) -> Statement<(i64,)> {
    Statement::new("SELECT count(*) AS count FROM countersign.throttle WHERE key >= $1 AND key < $2")
        .bind(keys.start)
        .bind(keys.end)
}

/// Deletes the counters of a range, in the order of the index. A row that another node is deleting is left to that
/// node.
fn thin(keys: &Range<&str>, at_most: usize) -> Statement {
    Statement::new(
        "
    WITH old AS MATERIALIZED (
        SELECT key FROM countersign.throttle WHERE key >= $1 AND key < $2 ORDER BY touched_at LIMIT $3
        FOR UPDATE SKIP LOCKED)
    DELETE FROM countersign.throttle USING old WHERE throttle.key = old.key",
    )
    .bind(keys.start)
    .bind(keys.end)
    .bind(limit(at_most))
}

/// Deletes old counters. A row that another node is deleting is left to that node.
fn purge(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    WITH old AS MATERIALIZED (
        SELECT key FROM countersign.throttle WHERE touched_at < $1 ORDER BY touched_at LIMIT $2
        FOR UPDATE SKIP LOCKED)
    DELETE FROM countersign.throttle USING old WHERE throttle.key = old.key",
    )
    .bind(before)
    .bind(limit(at_most))
}

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

impl PostgresStore {
    /// Reads a counter, moves it on and writes it back if it is still as it was read. A step that finds it changed
    /// tries again with the row locked, while others wait for the row. So an attempt that is refused, of which there
    /// may be a flood, neither writes nor waits for a lock.
    async fn step<T: Send>(
        &self,
        action: &'static str,
        key: &str,
        now: Timestamp,
        step: impl Fn(&mut Attempts) -> T + Send + Sync,
    ) -> Result<T, StoreError> {
        let step = &step;
        let steps = async {
            let (answer, put) = moved_on(key, now, self.attempts(key).await?, step);
            let Some(put) = put else { return Ok(answer) };
            if self.lanes.work.write(action, put).await? > 0 {
                return Ok(answer);
            }
            let find = &find_locked(key);
            loop {
                let locked = self.lanes.work.transaction(action, |mut transaction| async move {
                    let found = transaction.read(find).await?.pop();
                    let (answer, put) = moved_on(key, now, found, step);
                    let done = match put {
                        Some(put) => transaction.write(&put).await? > 0,
                        None => true,
                    };
                    transaction.commit().await?;
                    Ok(done.then_some(answer))
                });
                // The step is not done only if there was no row to wait for.
                if let Some(answer) = locked.await? {
                    return Ok(answer);
                }
            }
        };
        self.lanes.work.series(action, steps).await
    }
}

/// The answer of a step, and the statement that writes the counter back, or deletes it if nothing is left of it. There
/// is no statement if the step left the counter as it was.
fn moved_on<T>(
    key: &str,
    now: Timestamp,
    found: Option<Attempts>,
    step: impl Fn(&mut Attempts) -> T,
) -> (T, Option<Statement>) {
    let before = found.unwrap_or_default();
    let mut after = before;
    let answer = step(&mut after);
    if after == before {
        return (answer, None);
    }
    let put = match found {
        Some(was) if after == Attempts::default() => delete(key, &was),
        Some(was) => replace(key, &was, &after, now),
        None => insert(key, &after, now),
    };
    (answer, Some(put))
}

#[cfg(test)]
mod tests {
    use super::super::plans::Filled;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        let Some(mut filled) = Filled::open().await else { return };
        let (key, counter, now) = ("user 5", Attempts::default(), Timestamp::from_millis(5));
        filled.uses(find(key), "throttle_pkey").await;
        filled.uses(find_locked(key), "throttle_pkey").await;
        filled.uses(replace(key, &counter, &counter, now), "throttle_pkey").await;
        filled.uses(delete(key, &counter), "throttle_pkey").await;
        filled.uses(count(&("user 5".."user 6")), "throttle_pkey").await;
        filled.uses(purge(Timestamp::from_millis(100), 10), "throttle_touched_at").await;
    }
}
