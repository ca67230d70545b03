//! The audit trail: events go to the log at once, and into the store by a task that gathers them.
//!
//! Nobody waits for the trail: an event is put into a bounded queue. While the store does not answer, records wait in
//! the queue and are written later; if it is full, the oldest record is dropped, and the log says how many were.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_core::model::{AuditRecord, Event, Events, LogEvents};
use countersign_core::store::{AuditStore, StoreError};
use countersign_http::{OsRandom, SystemClock};
use countersign_jwt::random::uuid;
use countersign_jwt::{Clock, Timestamp};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::metrics::declared::{AUDIT_DROPPED, EVENTS};

/// The most records that wait.
const MOST: usize = 10_000;
/// The most records that are written at once.
const BATCH: usize = 200;
/// How long records are gathered before they are written.
const GATHER: Duration = Duration::from_millis(200);
/// How long the trail waits for a store that does not answer.
const RETRY_EVERY: Duration = Duration::from_secs(5);
/// How often old records are deleted.
const PURGE_EVERY: Duration = Duration::from_secs(3_600);
/// The most records that are deleted at once.
const PURGE_BATCH: usize = 500;

/// The name of the record of a server that has started.
pub(crate) const SERVER_STARTED: &str = "server_started";
/// The name of the record of a server that was asked to stop and did.
pub(crate) const SERVER_STOPPED: &str = "server_stopped";

/// The records that are not in the store yet.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    waiting: Mutex<Waiting>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<AuditRecord>,
    dropped: u64,
    minute: i64,
    /// How often each event of [`MOST_IN_MINUTE`] has happened in this minute.
    in_minute: BTreeMap<&'static str, u64>,
}

/// The most records a minute of each event that anybody can cause, signed in or not. What exceeds them is counted: else
/// strangers would fill the store, and nobody would find anything among their records.
const MOST_IN_MINUTE: [(&str, u64); 2] = [("login_failed", 200), ("login_throttled", 30)];

impl Trail {
    /// A record of something that happens now, about nobody yet. `None` if the system gives no randomness.
    pub(crate) fn record(name: &str) -> Option<AuditRecord> {
        let (id, now) = id_and_time()?;
        Some(AuditRecord::new(id, now, name))
    }

    /// Adds a record.
    pub(crate) fn add(&self, record: AuditRecord) {
        let mut waiting = self.waiting();
        if waiting.records.len() >= MOST {
            waiting.records.pop_front();
            waiting.dropped += 1;
            AUDIT_DROPPED.counter(&[]).increment(1);
        }
        waiting.records.push_back(record);
        drop(waiting);
        self.added.notify_one();
    }

    /// The number of records that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting().records.len()
    }

    /// Writes what waits. After an error the rest waits on.
    pub(crate) async fn flush(&self, store: &dyn AuditStore) -> Result<(), StoreError> {
        loop {
            let batch = self.next_batch();
            if batch.is_empty() {
                return Ok(());
            }
            // A record stays in the queue until it is in the store. Writing it twice is safe.
            store.insert_audit(&batch).await?;
            let written: HashSet<Uuid> = batch.iter().map(|record| record.id).collect();
            let mut waiting = self.waiting();
            while waiting.records.front().is_some_and(|record| written.contains(&record.id)) {
                waiting.records.pop_front();
            }
        }
    }

    fn next_batch(&self) -> Vec<AuditRecord> {
        let mut waiting = self.waiting();
        let dropped = std::mem::take(&mut waiting.dropped);
        if dropped > 0 {
            tracing::error!(dropped, "the audit trail lacks events, because the store did not take them");
        }
        waiting.records.iter().take(BATCH).cloned().collect()
    }

    /// Writes records from now on, and deletes those that are older than `retention`, in the background.
    pub(crate) fn start(
        self: Arc<Self>,
        store: Arc<dyn AuditStore>,
        clock: Arc<dyn Clock>,
        retention: Duration,
    ) -> JoinHandle<()> {
        tokio::spawn(async move {
            let mut purge_at = clock.monotonic();
            loop {
                tokio::select! {
                    () = self.added.notified() => tokio::time::sleep(GATHER).await,
                    () = tokio::time::sleep(RETRY_EVERY) => {}
                }
                self.count_minute(clock.now());
                if let Err(error) = self.flush(&*store).await {
                    tracing::warn!(
                        error = &error as &dyn Error,
                        "the audit trail could not be written; its records wait"
                    );
                    tokio::time::sleep(RETRY_EVERY).await;
                }
                if clock.monotonic() >= purge_at {
                    purge_at = clock.monotonic() + PURGE_EVERY;
                    purge(&*store, clock.now() - retention).await;
                }
            }
        })
    }

    /// Whether this event gets a record of its own. Adds the records of what was counted in a minute that is over.
    fn admits(&self, event: &Event, now: Timestamp) -> bool {
        self.count_minute(now);
        let name = event.name();
        let Some((_, most)) = MOST_IN_MINUTE.iter().find(|(known, _)| *known == name) else { return true };
        let mut waiting = self.waiting();
        let count = waiting.in_minute.entry(name).or_default();
        *count += 1;
        *count <= *most
    }

    /// Adds a record of each event that has happened too often in a minute that is over, with how often.
    fn count_minute(&self, now: Timestamp) {
        let over = {
            let mut waiting = self.waiting();
            let minute = now.as_secs().div_euclid(60);
            if waiting.minute == minute {
                return;
            }
            waiting.minute = minute;
            std::mem::take(&mut waiting.in_minute)
        };
        for (name, count) in over {
            let most = MOST_IN_MINUTE.iter().find(|(known, _)| *known == name).map_or(0, |(_, most)| *most);
            if let (true, Some(record)) = (count > most, Self::record(name)) {
                let detail = Some(format!("{} more within a minute", count - most));
                self.add(AuditRecord { detail, ..record });
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Events for Trail {
    fn emit(&self, event: &Event) {
        LogEvents.emit(event);
        EVENTS.counter(&[("event", event.name())]).increment(1);
        if let Some((id, now)) = id_and_time()
            && self.admits(event, now)
        {
            self.add(AuditRecord::of(event, id, now));
        }
    }
}

fn id_and_time() -> Option<(Uuid, Timestamp)> {
    match uuid(&OsRandom) {
        Ok(id) => Some((id, SystemClock::new().now())),
        Err(error) => {
            tracing::error!(error = &error as &dyn Error, "the audit trail lacks an event");
            None
        }
    }
}

async fn purge(store: &dyn AuditStore, before: Timestamp) {
    loop {
        match store.purge_audit(before, PURGE_BATCH).await {
            Ok(deleted) if deleted >= PURGE_BATCH as u64 => {}
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "old audit records could not be deleted");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use countersign_core::model::Device;
    use countersign_core::store::{AuditPage, MemoryStore};
    use countersign_jwt::UserId;
    use countersign_testkit::Instrumented;

    use super::*;

    async fn names(store: &dyn AuditStore) -> Vec<String> {
        let page = AuditPage { limit: MOST * 2, ..AuditPage::default() };
        let mut names: Vec<_> =
            store.audit(&page).await.unwrap().into_iter().map(|record| record.name).collect();
        names.sort();
        names
    }

    #[test]
    fn a_flood_of_failures_is_counted_and_not_written_one_by_one() {
        let trail = Trail::default();
        let throttled = Event::LoginThrottled { user_id: None, device: Device::default() };
        let minute = Timestamp::from_secs(1_700_000_040);
        let admitted = (0..1_000).filter(|_| trail.admits(&throttled, minute)).count();
        assert_eq!(admitted, 30);
        let registered = Event::Registered { user_id: UserId::new("ada").unwrap() };
        assert!(trail.admits(&registered, minute), "nothing else is held up");
        trail.count_minute(minute + Duration::from_secs(59));
        assert!(trail.waiting().records.is_empty(), "the minute is not over");
        assert!(trail.admits(&throttled, minute + Duration::from_secs(60)));
        let told: Vec<_> = trail.waiting().records.iter().map(|record| record.detail.clone()).collect();
        assert_eq!(told, [Some("970 more within a minute".to_owned())]);
        trail.count_minute(minute + Duration::from_secs(120));
        assert_eq!(trail.waiting().records.len(), 1, "one throttled login was written as such");
    }

    #[tokio::test]
    async fn records_wait_while_the_store_does_not_answer() {
        let stores = Instrumented::new(MemoryStore::new());
        let audit = stores.stores().audit().clone();
        let trail = Trail::default();
        for number in 0..=BATCH {
            trail.add(Trail::record(&format!("{number:04}")).unwrap());
        }
        stores.fail(true);
        assert!(trail.flush(&*audit).await.is_err());
        trail.add(Trail::record("later").unwrap());
        stores.fail(false);
        trail.flush(&*audit).await.unwrap();
        assert_eq!(names(&*audit).await.len(), BATCH + 2);
        trail.flush(&*audit).await.unwrap();
        assert_eq!(names(&*audit).await.len(), BATCH + 2, "each is written once");
    }

    #[tokio::test]
    async fn a_full_queue_drops_the_oldest_record() {
        let trail = Trail::default();
        for number in 0..MOST + 3 {
            trail.add(Trail::record(&format!("{number:05}")).unwrap());
        }
        assert_eq!(trail.waiting().dropped, 3);
        let audit = Instrumented::new(MemoryStore::new()).stores().audit().clone();
        trail.flush(&*audit).await.unwrap();
        let names = names(&*audit).await;
        assert_eq!((names.len(), names.first().map(String::as_str)), (MOST, Some("00003")));
    }
}
