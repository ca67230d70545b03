//! Counters of login attempts.
//!
//! A counter is read, changed by core's own rules, and written only if it is still as it was read; otherwise this is
//! repeated with its new value. Refused attempts change nothing, so a flood of them causes only reads.

use std::ops::Range;

use async_trait::async_trait;
use countersign_core::model::{Attempts, Outcome, Refused, ThrottlePolicy};
use countersign_core::store::{StoreError, ThrottleStore};
use countersign_jwt::Timestamp;
use redis::Cmd;

use crate::answer;
use crate::failure::Failure;
use crate::script::{PURGE_ATTEMPTS, SWAP_ATTEMPTS};
use crate::store::{Op, RedisStore};
use crate::text::{number, optional_time, time, time_text};

const WHAT: &str = "attempts";
/// The number of counters that one script purges, about a millisecond of work.
const PURGE_STEP: usize = 200;
/// The number of counters' keys that are read at a time, less than a millisecond of the server's work.
const PAGE: usize = 1_000;

#[async_trait]
impl ThrottleStore for RedisStore {
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
        let op = self.op("read the attempts");
        let text = op.query(&self.counter(key)).await?;
        let text = op.value(answer::optional_text(text))?;
        op.value(text.as_deref().map(read).transpose())
    }

    async fn purge_attempts(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let op = self.op("purge attempts");
        op.all(async {
            let mut purged = 0_u64;
            let mut left = limit;
            while left > 0 {
                let at_most = left.min(PURGE_STEP);
                let mut command = redis::cmd("ZRANGEBYSCORE");
                command.arg(self.names.throttles()).arg("-inf").arg(format!("({}", before.as_millis()));
                command.arg("LIMIT").arg(0).arg(at_most);
                let idle = op.value(answer::list(op.query(&command).await?))?;
                if idle.is_empty() {
                    break;
                }
                let found = idle.len();
                let idle = op.value(idle.into_iter().map(answer::text).collect::<Result<Vec<_>, _>>())?;
                purged = purged.saturating_add(self.delete_older(&op, before, idle).await?);
                left -= at_most;
                if found < at_most {
                    break;
                }
            }
            Ok(purged)
        })
        .await
    }

    /// Usually there are fewer counters than may stay, and one command tells that. Otherwise all keys are read in
    /// pages, beginning with the counters that changed longest ago, because the order is by time and cannot be asked
    /// for a range of keys.
    async fn thin_attempts(&self, keys: Range<&str>, keep: u64, limit: usize) -> Result<u64, StoreError> {
        let op = self.op("thin out attempts");
        op.all(async {
            let mut command = redis::cmd("ZCARD");
            command.arg(self.names.throttles());
            let all = op.query(&command).await?;
            if op.value(answer::count(&all))? <= keep {
                return Ok(0);
            }
            let (mut count, mut oldest, mut from) = (0_u64, Vec::new(), 0);
            loop {
                let mut command = redis::cmd("ZRANGE");
                command.arg(self.names.throttles()).arg(from).arg(from + PAGE - 1);
                let page = op.value(answer::list(op.query(&command).await?))?;
                let is_last = page.len() < PAGE;
                for key in page {
                    let key = op.value(answer::text(key))?;
                    if keys.contains(&key.as_str()) {
                        count += 1;
                        if oldest.len() < limit {
                            oldest.push(key);
                        }
                    }
                }
                if is_last {
                    break;
                }
                from += PAGE;
            }
            oldest.truncate(usize::try_from(count.saturating_sub(keep)).unwrap_or(usize::MAX));
            let mut gone = 0_u64;
            for step in oldest.chunks(PURGE_STEP) {
                gone = gone.saturating_add(self.delete_older(&op, Timestamp::MAX, step.to_vec()).await?);
            }
            Ok(gone)
        })
        .await
    }
}

impl RedisStore {
    /// Deletes those of these counters that have not changed since they were read.
    async fn delete_older(
        &self,
        op: &Op<'_>,
        before: Timestamp,
        keys: Vec<String>,
    ) -> Result<u64, StoreError> {
        let mut call = PURGE_ATTEMPTS.on([self.names.throttles()]).number(before.as_millis());
        for key in keys {
            call = call.key(self.names.throttle(&key)).arg(key);
        }
        let gone = op.write(&call).await?;
        op.value(answer::count(&gone))
    }

    async fn step<T: Send>(
        &self,
        action: &'static str,
        key: &str,
        now: Timestamp,
        step: impl Fn(&mut Attempts) -> T + Send + Sync,
    ) -> Result<T, StoreError> {
        let op = self.op(action);
        op.all(async {
            let text = op.query(&self.counter(key)).await?;
            let mut known = op.value(answer::optional_text(text))?;
            // Of concurrent callers one succeeds each time, so every caller's turn comes; the deadline ends the loop.
            loop {
                let before = op.value(known.as_deref().map(read).transpose())?.unwrap_or_default();
                let mut attempts = before;
                let answer = step(&mut attempts);
                if attempts == before {
                    return Ok(answer);
                }
                let is_over = attempts == Attempts::default();
                let mut call = SWAP_ATTEMPTS
                    .on([self.names.throttle(key), self.names.throttles()])
                    .arg(if is_over { String::new() } else { write(&attempts) })
                    .number(now.as_millis())
                    .arg(key);
                if let Some(known) = known {
                    call = call.arg(known);
                }
                let current = op.write(&call).await?;
                match op.value(answer::optional_text(current))? {
                    None => return Ok(answer),
                    Some(current) => known = Some(current).filter(|current| !current.is_empty()),
                }
            }
        })
        .await
    }

    fn counter(&self, key: &str) -> Cmd {
        let mut command = redis::cmd("GET");
        command.arg(self.names.throttle(key));
        command
    }
}

/// The counter as text: `failures last_failure running running_until`.
fn write(attempts: &Attempts) -> String {
    format!(
        "{} {} {} {}",
        attempts.failures,
        time_text(attempts.last_failure),
        attempts.running,
        attempts.running_until.as_millis()
    )
}

fn read(text: &str) -> Result<Attempts, Failure> {
    let mut parts = text.split(' ');
    let (Some(failures), Some(last_failure), Some(running), Some(running_until), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Failure::Malformed(WHAT));
    };
    Ok(Attempts {
        failures: number(WHAT, failures)?,
        last_failure: optional_time(WHAT, last_failure)?,
        running: number(WHAT, running)?,
        running_until: time(WHAT, running_until)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_reads_back_as_written() {
        for attempts in [
            Attempts::default(),
            Attempts {
                failures: u32::MAX,
                last_failure: Some(Timestamp::MAX),
                running: u32::MAX,
                running_until: Timestamp::MAX,
            },
        ] {
            assert_eq!(read(&write(&attempts)).unwrap(), attempts);
        }
        for text in ["", "0 - 0", "0 - 0 0 0", "0 x 0 0", "-1 - 0 0", "0 - 0 -1"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}
