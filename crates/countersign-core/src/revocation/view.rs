//! A node's view of the revocation log: the index, the tail that keeps it up to date, and its honest age.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::entry::{Entry, EntryKey, Target};
use super::index::Index;
use crate::key::KeyRing;
use crate::session::remove_from_ring;
use crate::store::{RevocationStore, StoreError};
use crate::time::{Clock, Timestamp};

/// The view is older than the bound and could not be renewed in time. Answer 503: better no answer than one
/// that may accept a revoked token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the view of the revocation log is too old and could not be renewed in time")]
pub struct ViewTooOld;

/// The log as this node knows it.
///
/// Requests ask the index and never the store. The tail reads new entries in the background
/// ([`RevocationView::poll`]); when the view is older than the bound all the same, requests join one shared poll.
#[derive(Clone, Debug)]
pub struct RevocationView {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn RevocationStore>,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    bound: Duration,
    index: Index,
    /// Where removed keys are taken out.
    rings: OnceLock<[Arc<ArcSwap<KeyRing>>; 2]>,
    /// The monotonic time, in milliseconds plus one, from before the last good poll began; 0 before the first.
    as_of: AtomicU64,
    tail: tokio::sync::Mutex<Tail>,
    joined: Mutex<Option<watch::Receiver<PollState>>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PollState {
    Running,
    Done,
}

/// Where the tail stands.
#[derive(Debug)]
struct Tail {
    /// When the last good poll began, by the store's clock.
    last_good: Option<Timestamp>,
    /// When the last full read began, by the monotonic clock; `None` asks for one.
    last_full: Option<Duration>,
}

impl RevocationView {
    /// How far behind the last good poll the next one starts, so that an entry whose commit became visible late
    /// is still read.
    pub const OVERLAP: Duration = Duration::from_secs(15);
    /// How often the whole log is read again.
    pub const FULL_READ_EVERY: Duration = Duration::from_secs(60);
    /// For how long a request waits for a shared poll.
    pub const JOIN_DEADLINE: Duration = Duration::from_secs(1);
    /// How many entries a page holds.
    pub const PAGE: usize = 1_000;

    /// A view that has not read anything yet: nothing is accepted before the first good [`RevocationView::poll`].
    #[must_use]
    pub fn new(
        store: Arc<dyn RevocationStore>,
        clock: Arc<dyn Clock>,
        runtime: Handle,
        bound: Duration,
    ) -> Self {
        let tail = Tail { last_good: None, last_full: None };
        Self {
            shared: Arc::new(Shared {
                store,
                clock,
                runtime,
                bound,
                index: Index::new(),
                rings: OnceLock::new(),
                as_of: AtomicU64::new(0),
                tail: tokio::sync::Mutex::new(tail),
                joined: Mutex::new(None),
            }),
        }
    }

    /// The index. What it says holds for [`RevocationView::age`] ago.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.shared.index
    }

    /// Takes in an entry that this node wrote itself and the store has acknowledged.
    pub fn learn(&self, entry: &Entry) {
        self.shared.index.insert(entry);
        if let Target::Key { id } = &entry.target {
            for ring in self.shared.rings.get().into_iter().flatten() {
                remove_from_ring(ring, id);
            }
        }
    }

    /// From now on a key that the log removes leaves these rings in the same moment.
    pub(crate) fn remove_keys_from(&self, rings: [Arc<ArcSwap<KeyRing>>; 2]) {
        // Set once, by the one who made the view.
        let _set_before = self.shared.rings.set(rings);
    }

    /// How old the view is; `None` before the first good poll.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let as_of = self.shared.as_of.load(Ordering::Acquire).checked_sub(1)?;
        Some(self.shared.clock.monotonic().saturating_sub(Duration::from_millis(as_of)))
    }

    /// Whether the view is young enough to decide by.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.age().is_some_and(|age| age <= self.shared.bound)
    }

    /// Reads what is new in the log: the entries since shortly before the last good poll, or all of it at first,
    /// every minute, and after a failure.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not answer; the view then only grows older.
    pub async fn poll(&self) -> Result<(), StoreError> {
        let shared = &*self.shared;
        let mut tail = shared.tail.lock().await;
        let began = shared.clock.monotonic();
        let began_at = shared.clock.now();
        let full = match (tail.last_good, tail.last_full) {
            (Some(last_good), Some(last_full)) => {
                // A clock that was set back would make the incremental read skip entries.
                began.saturating_sub(last_full) >= Self::FULL_READ_EVERY || began_at < last_good
            }
            _ => true,
        };
        let since = match (full, tail.last_good) {
            (false, Some(last_good)) => last_good - Self::OVERLAP,
            _ => Timestamp::MIN,
        };
        // Whatever happens from here on, a poll that did not end well is followed by a full read.
        let last_full = tail.last_full.take();
        let mut after: Option<EntryKey> = None;
        loop {
            let page = shared.store.entries(since, after.as_ref(), Self::PAGE).await?;
            for entry in page.iter().filter(|entry| entry.until > began_at) {
                self.learn(entry);
            }
            match page.last() {
                Some(last) if page.len() >= Self::PAGE => after = Some(last.key()),
                _ => break,
            }
        }
        tail.last_good = Some(began_at);
        tail.last_full = if full { Some(began) } else { last_full };
        let as_of = u64::try_from(began.as_millis()).unwrap_or(u64::MAX - 1).saturating_add(1);
        shared.as_of.store(as_of, Ordering::Release);
        if full {
            shared.index.prune(began_at);
        }
        Ok(())
    }

    /// Returns at once while the view is fresh; else joins the one poll that all waiting requests share, for at
    /// most [`RevocationView::JOIN_DEADLINE`].
    ///
    /// # Errors
    /// [`ViewTooOld`] when the view is still too old after that.
    pub async fn ensure_fresh(&self) -> Result<(), ViewTooOld> {
        if self.is_fresh() {
            return Ok(());
        }
        let mut state = self.join();
        // Who waits too long goes away; the poll goes on for the others.
        let _ = tokio::time::timeout(Self::JOIN_DEADLINE, state.wait_for(|state| *state == PollState::Done))
            .await;
        if self.is_fresh() { Ok(()) } else { Err(ViewTooOld) }
    }

    /// The poll that is running for waiting requests, or a new one.
    fn join(&self) -> watch::Receiver<PollState> {
        let mut joined = self.shared.joined.lock().unwrap_or_else(PoisonError::into_inner);
        // A poll that panicked never says that it is done, but its sender is gone.
        let runs = |state: &&watch::Receiver<PollState>| {
            *state.borrow() == PollState::Running && state.has_changed().is_ok()
        };
        if let Some(running) = joined.as_ref().filter(runs) {
            return running.clone();
        }
        let (done, state) = watch::channel(PollState::Running);
        *joined = Some(state.clone());
        let view = self.clone();
        self.shared.runtime.spawn(async move {
            if let Err(error) = view.poll().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the revocation log could not be read"
                );
            }
            let _ = done.send(PollState::Done);
        });
        state
    }
}
