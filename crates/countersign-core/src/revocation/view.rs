//! A node's view of the revocation log: the index, the tail that keeps it up to date, and its honest age.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::Instrument as _;

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

    /// Reads what is new in the log: the entries since shortly before the last good poll. At first, every minute
    /// and after a failure it reads the whole log too; while that takes long, the new entries are read in between,
    /// so that the view does not grow old over it.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not answer; the view then only grows older.
    pub async fn poll(&self) -> Result<(), StoreError> {
        self.poll_and_tell(|| {}).await
    }

    /// As [`RevocationView::poll`]; `fresh` is called as soon as the view is up to date, before the whole log is read.
    async fn poll_and_tell(&self, fresh: impl FnOnce()) -> Result<(), StoreError> {
        let clock = &*self.shared.clock;
        let mut tail = self.shared.tail.lock().await;
        // Whatever happens from here on, a poll that did not end well is followed by a full read.
        let last_full = tail.last_full.take();
        // A clock that was set back would make the incremental read skip entries.
        if tail.last_good.is_some_and(|last_good| clock.now() < last_good) {
            tail.last_good = None;
        }
        if self.read_new(&mut tail).await? {
            let recent =
                |last_full: &Duration| clock.monotonic().saturating_sub(*last_full) < Self::FULL_READ_EVERY;
            fresh();
            if let Some(last_full) = last_full.filter(recent) {
                tail.last_full = Some(last_full);
                return Ok(());
            }
        }
        self.read_all(&mut tail).await
    }

    /// Reads the entries since shortly before the last good poll, if there was one.
    async fn read_new(&self, tail: &mut Tail) -> Result<bool, StoreError> {
        let Some(last_good) = tail.last_good else { return Ok(false) };
        let (began, began_at) = (self.shared.clock.monotonic(), self.shared.clock.now());
        let mut after = None;
        loop {
            after = self.read_page(last_good - Self::OVERLAP, after.as_ref(), began_at).await?;
            if after.is_none() {
                break;
            }
        }
        self.good(tail, began, began_at);
        Ok(true)
    }

    /// Reads the whole log, page by page, and forgets what no longer matters.
    async fn read_all(&self, tail: &mut Tail) -> Result<(), StoreError> {
        let (began, began_at) = (self.shared.clock.monotonic(), self.shared.clock.now());
        let mut after = None;
        loop {
            after = self.read_page(Timestamp::MIN, after.as_ref(), began_at).await?;
            if after.is_none() {
                break;
            }
            if self.age().is_some_and(|age| age > self.shared.bound / 5) {
                self.read_new(tail).await?;
            }
        }
        if tail.last_good.is_none() {
            self.good(tail, began, began_at);
        }
        tail.last_full = Some(began);
        self.shared.index.prune(began_at);
        Ok(())
    }

    /// Reads a page into the index; the key to go on after, if there may be more.
    async fn read_page(
        &self,
        since: Timestamp,
        after: Option<&EntryKey>,
        now: Timestamp,
    ) -> Result<Option<EntryKey>, StoreError> {
        let page = self.shared.store.entries(since, after, Self::PAGE).await?;
        for entry in page.iter().filter(|entry| entry.until > now) {
            self.learn(entry);
        }
        Ok(page.last().filter(|_| page.len() >= Self::PAGE).map(Entry::key))
    }

    /// Notes that everything written before `began` is in the index.
    fn good(&self, tail: &mut Tail, began: Duration, began_at: Timestamp) {
        tail.last_good = Some(began_at);
        let as_of = u64::try_from(began.as_millis()).unwrap_or(u64::MAX - 1).saturating_add(1);
        self.shared.as_of.store(as_of, Ordering::Release);
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
        let poll = async move {
            let polled = view.poll_and_tell(|| {
                let _ = done.send(PollState::Done);
            });
            if let Err(error) = polled.await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the revocation log could not be read"
                );
            }
            let _ = done.send(PollState::Done);
        };
        self.shared.runtime.spawn(poll.in_current_span());
        state
    }
}
