//! Counters of login attempts, kept in SQLite.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use async_trait::async_trait;
use countersign_core::model::{AttemptChange, AttemptStep, Attempts, Outcome, Refused, ThrottlePolicy};
use countersign_core::store::{StoreError, ThrottleStore};
use countersign_jwt::Timestamp;
use serde::Serialize;
use sqlx::{Connection as _, SqliteConnection};

use super::{SqliteStore, Statement, Undo};
use crate::column::{limit, surplus};
use crate::purge::in_steps;
use crate::record::{AttemptsRecord, KeyedAttempts};

fn find(key: &str) -> Statement<Attempts> {
    Statement::new(concat!("SELECT ", attempts_columns!(names), " FROM throttle WHERE key = ?1")).bind(key)
}

/// The counters of these keys, which are a JSON list of texts.
fn find_all(keys: &str) -> Statement<KeyedAttempts> {
    Statement::new(concat!(
        "SELECT key, ",
        attempts_columns!(names),
        " FROM throttle WHERE key IN (SELECT value FROM json_each(?1))"
    ))
    .bind(keys)
}

/// Puts counters, which are a JSON list of lists: the key, then the columns.
fn put_all(counters: &str, now: Timestamp) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO throttle (key, ",
        attempts_columns!(names),
        ", touched_at)
    SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, ?2 FROM json_each(?1) WHERE true
    ON CONFLICT (key) DO UPDATE SET failures = excluded.failures, last_failure = excluded.last_failure,
        running = excluded.running, running_until = excluded.running_until, touched_at = excluded.touched_at"
    ))
    .bind(counters)
    .bind(now)
}

/// Deletes the counters of these keys, which are a JSON list of texts.
fn delete_all(keys: &str) -> Statement {
    Statement::new("DELETE FROM throttle WHERE key IN (SELECT value FROM json_each(?1))").bind(keys)
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
        let begin = AttemptChange { key, policy: *policy, step: AttemptStep::Begin };
        let answer = self.change("count the attempt", &[begin], now).await?.pop();
        Ok(answer.unwrap_or(Ok(())))
    }

    async fn finish_attempt(
        &self,
        key: &str,
        outcome: Outcome,
        now: Timestamp,
        policy: &ThrottlePolicy,
    ) -> Result<(), StoreError> {
        let finish = AttemptChange { key, policy: *policy, step: AttemptStep::Finish(outcome) };
        self.change("settle the attempt", &[finish], now).await.map(|_| ())
    }

    async fn change_attempts(
        &self,
        changes: &[AttemptChange<'_>],
        now: Timestamp,
    ) -> Result<Vec<Result<(), Refused>>, StoreError> {
        self.change("count attempts", changes, now).await
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

/// A change that the writer's task can keep.
struct OwnedChange {
    key: String,
    policy: ThrottlePolicy,
    step: AttemptStep,
}

impl From<&AttemptChange<'_>> for OwnedChange {
    fn from(change: &AttemptChange<'_>) -> Self {
        Self { key: change.key.to_owned(), policy: change.policy, step: change.step }
    }
}

impl OwnedChange {
    fn borrowed(&self) -> AttemptChange<'_> {
        AttemptChange { key: &self.key, policy: self.policy, step: self.step }
    }
}

fn json(value: &impl Serialize) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}

impl SqliteStore {
    /// Reads all counters by one statement, changes them, and writes them by one or two, while the transaction holds
    /// the write lock.
    async fn change(
        &self,
        action: &'static str,
        changes: &[AttemptChange<'_>],
        now: Timestamp,
    ) -> Result<Vec<Result<(), Refused>>, StoreError> {
        let changes: Vec<OwnedChange> = changes.iter().map(OwnedChange::from).collect();
        self.writes(action, Undo::Statement, move |connection| {
            Box::pin(async move {
                let keys: BTreeSet<&str> = changes.iter().map(|change| change.key.as_str()).collect();
                let found = find_all(&json(&keys)?).all(connection).await?;
                let before: BTreeMap<String, Attempts> =
                    found.into_iter().map(|KeyedAttempts { key, attempts }| (key, attempts)).collect();
                let mut after = before.clone();
                let mut answers = Vec::with_capacity(changes.len());
                for change in &changes {
                    let change = change.borrowed();
                    let answer = change.apply(after.entry(change.key.to_owned()).or_default(), now);
                    answers.push(answer);
                    if answer.is_err() && change.step == AttemptStep::Begin {
                        break;
                    }
                }
                // A refused attempt changes nothing, so a flood of them costs no writes.
                after.retain(|key, counter| before.get(key).copied().unwrap_or_default() != *counter);
                write(connection, &after, now).await?;
                Ok(answers)
            })
        })
        .await
    }
}

/// Writes counters that have changed. Those of which nothing is left are deleted.
async fn write(
    connection: &mut SqliteConnection,
    changed: &BTreeMap<String, Attempts>,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    let (mut empty, mut kept) = (Vec::new(), Vec::new());
    for (key, counter) in changed {
        if *counter == Attempts::default() {
            empty.push(key);
        } else {
            let AttemptsRecord { failures, last_failure, running, running_until } = counter.into();
            kept.push((key, failures, last_failure, running, running_until));
        }
    }
    match (empty.is_empty(), kept.is_empty()) {
        (true, true) => {}
        (true, false) => _ = put_all(&json(&kept)?, now).changes(connection).await?,
        (false, true) => _ = delete_all(&json(&empty)?).changes(connection).await?,
        (false, false) => {
            let mut both = connection.begin().await?;
            put_all(&json(&kept)?, now).changes(&mut both).await?;
            delete_all(&json(&empty)?).changes(&mut both).await?;
            both.commit().await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::plan;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        for (sql, plan) in [
            plan(find("a")).await,
            plan(find_all("[]")).await,
            plan(delete_all("[]")).await,
            plan(purge(Timestamp::MIN, 5)).await,
        ] {
            // The list of keys is read as a table.
            let plan = plan.replace("SCAN json_each", "");
            assert!(!plan.contains("SCAN"), "{sql}: {plan}");
            assert!(!plan.contains("ORDER BY"), "{sql}: {plan}");
        }
    }
}
