//! Counters of login attempts.

use std::ops::Range;

use async_trait::async_trait;
use countersign_core::model::{Attempts, KEEP_ATTEMPTS_FOR, Outcome, Refused, ThrottlePolicy};
use countersign_core::store::{StoreError, ThrottleStore};
use countersign_jwt::Timestamp;
use mongodb::bson::doc;

use crate::call::{Failure, pause};
use crate::field::date;
use crate::locks::Turn;
use crate::record;
use crate::store::MongodbStore;

#[async_trait]
impl ThrottleStore for MongodbStore {
    async fn begin_attempt(
        &self,
        key: &str,
        now: Timestamp,
        policy: &ThrottlePolicy,
    ) -> Result<Result<(), Refused>, StoreError> {
        let begin = |attempts: &mut Attempts| attempts.begin(now, policy);
        self.answer("count the attempt", Turn::Always(key), self.count(key, now, begin)).await
    }

    async fn finish_attempt(
        &self,
        key: &str,
        outcome: Outcome,
        now: Timestamp,
        policy: &ThrottlePolicy,
    ) -> Result<(), StoreError> {
        let finish = |attempts: &mut Attempts| attempts.finish(outcome, now, policy);
        self.answer("settle the attempt", Turn::Always(key), self.count(key, now, finish)).await
    }

    async fn attempts(&self, key: &str) -> Result<Option<Attempts>, StoreError> {
        self.answer("read the attempts", Turn::Any, self.counter(key)).await
    }

    async fn purge_attempts(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        let old = doc! { "touched_at": { "$lt": before.as_millis() } };
        self.purge("purge attempts", &self.throttles, old, doc! { "touched_at": 1 }, at_most).await
    }

    async fn thin_attempts(&self, keys: Range<&str>, keep: u64, at_most: usize) -> Result<u64, StoreError> {
        const ACTION: &str = "thin out attempts";
        let these = doc! { "_id": { "$gte": keys.start, "$lt": keys.end } };
        let count = self.answer(ACTION, Turn::Any, self.throttles.count(these.clone())).await?;
        let surplus = usize::try_from(count.saturating_sub(keep)).unwrap_or(usize::MAX);
        self.purge(ACTION, &self.throttles, these, doc! { "touched_at": 1 }, at_most.min(surplus)).await
    }
}

impl MongodbStore {
    async fn counter(&self, key: &str) -> Result<Option<Attempts>, Failure> {
        self.throttles.find_one(doc! { "_id": key }).await?.as_deref().map(record::attempts).transpose()
    }

    /// Reads a counter, changes it, and writes it back on the condition that it is still as it was read; repeats this
    /// until the condition holds. The condition is the whole counter, so a counter that has returned to its former
    /// value does no harm. Attempts on one account through this node take turns instead of failing each other's
    /// conditions.
    async fn count<T: Send>(
        &self,
        key: &str,
        now: Timestamp,
        step: impl Fn(&mut Attempts) -> T + Send + Sync,
    ) -> Result<T, Failure> {
        let mut tries = 0;
        loop {
            let found = self.counter(key).await?;
            let before = found.unwrap_or_default();
            let mut counter = before;
            let answer = step(&mut counter);
            // A refused attempt changes nothing, so a flood of them causes no writes.
            if counter == before {
                return Ok(answer);
            }
            let mut document = record::of_attempts(&counter);
            document.insert("touched_at", now.as_millis());
            document.insert("gone_at", date(self.not_before_opening(now) + KEEP_ATTEMPTS_FOR));
            let mut filter = doc! { "_id": key };
            let written = if counter == Attempts::default() {
                filter.extend(record::of_attempts(&before));
                self.throttles.delete_many(filter).await? > 0
            } else if found.is_some() {
                filter.extend(record::of_attempts(&before));
                self.throttles.update_one(filter, doc! { "$set": document }).await?
            } else {
                filter.extend(document);
                self.throttles.insert(&filter).await?
            };
            if written {
                return Ok(answer);
            }
            tries += 1;
            pause(tries).await;
        }
    }
}
