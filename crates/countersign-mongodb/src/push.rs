//! Listening for what other nodes have written into the revocation log.
//!
//! A server with change streams tells of changes by one. On other servers there is a bell: a document that every writer
//! changes after its entry, and that every node reads, by its `_id`, twenty times a second. Either signal only means
//! "read the log now", and the next poll reads whatever a signal missed.

use std::sync::{Arc, Weak};
use std::time::Duration;

use countersign_core::store::ChangeSignal;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::options::ReadConcern;
use mongodb::{Collection, Database};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::call::{Failure, within};
use crate::field::number;
use crate::records::Records;
use crate::schema::LOG;

/// The parts that the listening task works with.
pub(crate) struct Listener {
    pub(crate) database: Database,
    /// The collection of the bell, through a connection of its own.
    pub(crate) store: Records,
    pub(crate) deadline: Duration,
    pub(crate) changed: Weak<ChangeSignal>,
    /// Notified of this node's own entries.
    pub(crate) written: Arc<Notify>,
}

/// The interval at which the bell is read, and the shortest interval for a change stream that has nothing to tell.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The interval at which the task checks whether the store still exists.
const ALIVE_EVERY: Duration = Duration::from_secs(1);

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The `_id` of the document that is the bell.
const BELL: &str = "bell";

impl Listener {
    /// Raises the signal whenever the log may have grown, until the store is gone.
    pub(crate) async fn run(self) {
        let mut pause = FIRST_PAUSE;
        let mut streams = true;
        while self.changed.strong_count() > 0 {
            let heard = if streams { self.stream().await } else { self.bell().await };
            match heard {
                Ok(()) => return,
                Err(Lost::Failed(error)) if streams && error.is_not_implemented() => {
                    tracing::info!(
                        error = %error,
                        "the server has no change streams here; revocations of other nodes are polled for"
                    );
                    streams = false;
                    continue;
                }
                Err(Lost::Failed(error)) => tracing::debug!(error = %error, "nothing is pushed for now"),
                // The stream worked until now, so the pause begins short again.
                Err(Lost::Ended) => pause = FIRST_PAUSE,
            }
            sleep(pause).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }

    /// Raises the signal after an interruption, because changes during it were not heard.
    fn raise(&self) -> bool {
        self.changed.upgrade().inspect(|changed| changed.raise()).is_some()
    }

    async fn stream(&self) -> Result<(), Lost> {
        let log: Collection<RawDocumentBuf> = self.database.collection(LOG);
        // Heartbeats are left out, because they are the most frequent entries and revoke nothing.
        let revoking =
            doc! { "$match": { "operationType": "insert", "fullDocument.kind": { "$ne": "node" } } };
        let opening = async {
            let stream = log.watch().pipeline([revoking]).max_await_time(ALIVE_EVERY);
            Ok(stream.read_concern(ReadConcern::majority()).await?)
        };
        let stream = within(self.deadline, opening).await?;
        let mut stream = stream.with_type::<Document>();
        while self.raise() {
            // An answer without an event comes every second; one that comes after an event wakes the store again.
            loop {
                match stream.next_if_any().await {
                    Ok(Some(_)) => break,
                    Ok(None) if self.changed.strong_count() == 0 => return Ok(()),
                    // Some servers answer at once, without waiting for an event.
                    Ok(None) if stream.is_alive() => sleep(LOOK_EVERY).await,
                    Ok(None) | Err(_) => return Err(Lost::Ended),
                }
            }
        }
        Ok(())
    }

    async fn bell(&self) -> Result<(), Lost> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = self.read().await?;
        while self.raise() {
            loop {
                tokio::select! {
                    () = self.written.notified() => self.ring().await?,
                    _ = looks.tick() => {}
                }
                if self.changed.strong_count() == 0 {
                    return Ok(());
                }
                let rung = self.read().await?;
                if rung != known {
                    known = rung;
                    break;
                }
            }
        }
        Ok(())
    }

    async fn read(&self) -> Result<i64, Failure> {
        match within(self.deadline, self.store.find_one(doc! { "_id": BELL })).await? {
            Some(document) => number(&document, "rung"),
            None => Ok(0),
        }
    }

    async fn ring(&self) -> Result<(), Failure> {
        // Two rings at once may be counted as one, and the bell has still been rung.
        let ring = self.store.upsert(doc! { "_id": BELL }, doc! { "$inc": { "rung": 1_i64 } });
        within(self.deadline, ring).await
    }
}

/// Why nothing can be heard for now.
enum Lost {
    Failed(Failure),
    /// The stream ended.
    Ended,
}

impl From<Failure> for Lost {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}
