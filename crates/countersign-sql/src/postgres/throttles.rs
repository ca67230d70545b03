//! Counters of login attempts.

use std::ops::Range;

use async_trait::async_trait;
use countersign_core::model::{Attempts, Outcome, Refused, ThrottlePolicy};
use countersign_core::store::{StoreError, ThrottleStore};
use countersign_jwt::Timestamp;

use super::PostgresStore;
use super::engine::{Statement, Transaction, values};
use crate::column::{limit, surplus};
use crate::record::AttemptsRecord;

const FIND: &str = "SELECT * FROM countersign.throttle WHERE key = $1";

/// Waits until nobody else moves it.
const FIND_LOCKED: &str = "SELECT * FROM countersign.throttle WHERE key = $1 FOR UPDATE";

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

/// Only if the counter is still as it was read.
const DELETE: &str = "
    DELETE FROM countersign.throttle
    WHERE key = $1 AND failures = $2 AND last_failure IS NOT DISTINCT FROM $3 AND running = $4
        AND running_until = $5";

const COUNT: &str = "SELECT count(*) AS count FROM countersign.throttle WHERE key >= $1 AND key < $2";

/// In the order of the index; what another node is deleting is left to it.
const THIN: &str = "
    WITH old AS MATERIALIZED (
        SELECT key FROM countersign.throttle WHERE key >= $1 AND key < $2 ORDER BY touched_at LIMIT $3
        FOR UPDATE SKIP LOCKED)
    DELETE FROM countersign.throttle USING old WHERE throttle.key = old.key";

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

    async fn thin_attempts(&self, keys: Range<&str>, keep: u64, at_most: usize) -> Result<u64, StoreError> {
        const ACTION: &str = "thin out attempts";
        let count = Statement::new(COUNT).bind(keys.start).bind(keys.end);
        let count = self.work.read::<(i64,)>(ACTION, count).await?.first().map_or(0, |(count,)| *count);
        let at_most = surplus(count, keep, at_most);
        if at_most == 0 {
            return Ok(0);
        }
        let thin = Statement::new(THIN).bind(keys.start).bind(keys.end).bind(limit(at_most));
        self.work.write(ACTION, thin).await
    }
}

impl PostgresStore {
    /// Reads a counter, moves it on and writes it back if it is still as it was read. Who comes too late for that tries
    /// again while others wait for the row. So an attempt that is refused, of which there may be a flood, neither writes
    /// nor waits for a lock.
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
            if self.work.write(action, put).await? > 0 {
                return Ok(answer);
            }
            let find = &Statement::new(FIND_LOCKED).bind(key);
            loop {
                let locked = |mut transaction: Transaction| async move {
                    let found = transaction.read::<AttemptsRecord>(find).await?.pop();
                    let (answer, put) = moved_on(key, now, found.map(Attempts::try_from).transpose()?, step);
                    let done = match put {
                        Some(put) => transaction.write(&put).await? > 0,
                        None => true,
                    };
                    transaction.commit().await?;
                    Ok(done.then_some(answer))
                };
                // Not done only if there was no row to wait for.
                if let Some(answer) = self.work.transaction(action, locked).await? {
                    return Ok(answer);
                }
            }
        };
        self.work.series(action, steps).await
    }
}

/// The answer of a step, and what writes the counter back, or deletes it where nothing is left of it; nothing, if the
/// step left it as it was.
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
    let was = |statement: Statement| {
        statement
            .bind(i64::from(before.failures))
            .bind(before.last_failure.map(Timestamp::as_millis))
            .bind(i64::from(before.running))
            .bind(before.running_until.as_millis())
    };
    if after == Attempts::default() {
        return (answer, Some(was(Statement::new(DELETE).bind(key))));
    }
    let put = Statement::new(if found.is_some() { REPLACE } else { INSERT })
        .bind(key)
        .bind(i64::from(after.failures))
        .bind(after.last_failure.map(Timestamp::as_millis))
        .bind(i64::from(after.running))
        .bind(after.running_until.as_millis())
        .bind(now.as_millis());
    let put = if found.is_some() { was(put) } else { put };
    (answer, Some(put))
}

#[cfg(test)]
mod tests {
    use super::super::plans::Filled;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        let Some(mut filled) = Filled::open().await else { return };
        let counter = |sql| Statement::new(sql).bind("user 5").bind(0_i64).bind(None::<i64>).bind(0_i64);
        let replace = counter(REPLACE).bind(0_i64).bind(5_i64);
        let replace = replace.bind(0_i64).bind(None::<i64>).bind(0_i64).bind(0_i64);
        for (statement, index) in [
            (Statement::new(FIND).bind("user 5"), "throttle_pkey"),
            (Statement::new(FIND_LOCKED).bind("user 5"), "throttle_pkey"),
            (replace, "throttle_pkey"),
            (
                Statement::new(DELETE).bind("user 5").bind(0_i64).bind(None::<i64>).bind(0_i64).bind(0_i64),
                "throttle_pkey",
            ),
            (Statement::new(COUNT).bind("user 5").bind("user 6"), "throttle_pkey"),
            (Statement::new(PURGE).bind(100_i64).bind(10_i64), "throttle_touched_at"),
        ] {
            let plan = filled.plan(&statement).await;
            assert!(!plan.contains("Seq Scan") && plan.contains(index), "{}: {plan}", statement.sql());
        }
    }
}
