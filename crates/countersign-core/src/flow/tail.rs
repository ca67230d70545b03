//! A node's view of the revocation log: the index, the tail that keeps it up to date, and its honest age.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign_jwt::key::KeyRing;
use countersign_jwt::time::{Clock, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::flow::clock::StoreClock;
use crate::flow::sessions::remove_from_ring;
use crate::model::entry::{Entry, Target};
use crate::model::index::Index;
use crate::store::{RevocationStore, StoreError};

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
    clock: Arc<StoreClock>,
    runtime: Handle,
    bound: Duration,
    /// Under which name this node's heartbeat is in the log.
    node: Uuid,
    index: Index,
    /// The latest `at` of the entries that this node has read or written, in milliseconds.
    newest: AtomicI64,
    /// How old an entry of another node was when it was read here first, in milliseconds; -1 before the first.
    lag: AtomicI64,
    /// Where removed keys are taken out.
    rings: OnceLock<[Arc<ArcSwap<KeyRing>>; 2]>,
    /// The monotonic time, in milliseconds plus one, from before the last good poll began; 0 before the first.
    as_of: AtomicU64,
    /// The machine's time of day from then, in milliseconds: while a machine is suspended, monotonic time stands still.
    as_of_day: AtomicI64,
    tail: tokio::sync::Mutex<Tail>,
    /// Held while the whole log is read again.
    reading_again: tokio::sync::Mutex<()>,
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
    /// Until when, by the monotonic clock, other nodes may write entries that are older or younger than this one thinks:
    /// until then every poll reads the whole log.
    unsettled: Option<Duration>,
    /// The `at` of this node's last heartbeat.
    last_beat: Timestamp,
    /// When what was pushed was last read, by the store's clock.
    last_pushed: Option<Timestamp>,
}

/// When a read of the log began.
#[derive(Clone, Copy, Debug)]
struct Began {
    monotonic: Duration,
    /// By the machine's clock.
    time_of_day: Timestamp,
    /// By the store's clock.
    at: Timestamp,
}

/// What a node knows of the log, in numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ViewStats {
    /// How many entries still matter.
    pub entries: usize,
    /// How old the view is; `None` before the first good poll.
    pub age: Option<Duration>,
    /// How long ago the newest entry of another node had been written when this node read it; `None` before the first.
    pub lag: Option<Duration>,
    /// How far the machine's clock is from the store's.
    pub clock_offset: Duration,
}

/// What a read of the log has met, and what it must have met to count.
#[derive(Debug)]
struct Met {
    /// The `at` of the heartbeat that was just written, and must be read back; `None` where none is needed.
    at: Option<Timestamp>,
    /// The heartbeat was read.
    seen: bool,
    /// Removed keys that are not learned yet; `None` where they are learned as they come.
    removed_keys: Option<Vec<Entry>>,
}

impl Met {
    fn none() -> Self {
        Self { at: None, seen: false, removed_keys: None }
    }

    fn is_good(&self) -> bool {
        self.at.is_none() || self.seen
    }
}

/// The log was read, but from a copy that lacks what was written before.
#[derive(Debug, thiserror::Error)]
#[error(
    "what was read is older than this node's own heartbeat: a replica that lags, or a store that lost writes"
)]
struct ReadIsOld;

impl RevocationView {
    /// How far behind the last good poll the next one starts, so that an entry whose commit became visible late
    /// is still read.
    pub const OVERLAP: Duration = crate::model::OVERLAP;
    /// How often the whole log is read again.
    pub const FULL_READ_EVERY: Duration = Duration::from_secs(60);
    /// For how long a request waits for a shared poll.
    pub const JOIN_DEADLINE: Duration = Duration::from_secs(1);
    /// How many entries a page holds.
    pub const PAGE: usize = 5_000;
    /// How many entries are taken into the index before other tasks run.
    const TAKEN_IN_A_TURN: usize = 500;
    /// For how long a heartbeat stays in the log.
    const BEAT_LIVES: Duration = Duration::from_secs(60);
    /// How far behind the last read of what was pushed the next one starts. What becomes visible later than that is
    /// left to the next poll.
    const PUSH_OVERLAP: Duration = Duration::from_secs(1);

    /// A view that has not read anything yet: nothing is accepted before the first good [`RevocationView::poll`].
    #[must_use]
    pub fn new(
        store: Arc<dyn RevocationStore>,
        clock: Arc<StoreClock>,
        runtime: Handle,
        bound: Duration,
        node: Uuid,
    ) -> Self {
        let tail = Tail {
            last_good: None,
            last_full: None,
            unsettled: None,
            last_beat: Timestamp::MIN,
            last_pushed: None,
        };
        Self {
            shared: Arc::new(Shared {
                store,
                clock,
                runtime,
                bound,
                node,
                index: Index::new(),
                newest: AtomicI64::new(0),
                lag: AtomicI64::new(-1),
                rings: OnceLock::new(),
                as_of: AtomicU64::new(0),
                as_of_day: AtomicI64::new(0),
                tail: tokio::sync::Mutex::new(tail),
                reading_again: tokio::sync::Mutex::new(()),
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
        self.shared.newest.fetch_max(entry.at.as_millis(), Ordering::Relaxed);
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
        let Shared { clock, as_of, as_of_day, .. } = &*self.shared;
        let began = Duration::from_millis(as_of.load(Ordering::Acquire).checked_sub(1)?);
        let began_at = Timestamp::from_millis(as_of_day.load(Ordering::Acquire));
        Some(clock.monotonic().saturating_sub(began).max(clock.time_of_day().since(began_at)))
    }

    /// Whether the view is young enough to decide by.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.age().is_some_and(|age| age <= self.shared.bound)
    }

    /// The view in numbers, for telemetry.
    #[must_use]
    pub fn stats(&self) -> ViewStats {
        let lag = u64::try_from(self.shared.lag.load(Ordering::Relaxed)).ok();
        ViewStats {
            entries: self.shared.index.len(),
            age: self.age(),
            lag: lag.map(Duration::from_millis),
            clock_offset: self.shared.clock.offset(),
        }
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
        let moved = clock.ask(&*self.shared.store).await?;
        if moved > Self::OVERLAP / 2 {
            // Other nodes will ask too, but may not have yet.
            tail.unsettled = Some(clock.monotonic() + self.shared.bound * 2);
        }
        let last_full = last_full.filter(|_| tail.unsettled.is_none_or(|until| clock.monotonic() > until));
        // A clock that was set back would make the incremental reads skip entries.
        if tail.last_pushed.is_some_and(|last_pushed| clock.now() < last_pushed) {
            tail.last_pushed = None;
        }
        if tail.last_good.is_some_and(|last_good| clock.now() < last_good) {
            tail.last_good = None;
            tail.last_pushed = None;
        }
        if self.read_new(&mut tail).await? {
            fresh();
            if let Some(last_full) = last_full.filter(|last_full| !is_over(clock, *last_full)) {
                tail.last_full = Some(last_full);
                return Ok(());
            }
            // What is pushed meanwhile need not wait.
            drop(tail);
            return self.read_again().await;
        }
        self.read_all(&mut tail).await
    }

    /// Reads the entries since shortly before the last good poll, if there was one.
    async fn read_new(&self, tail: &mut Tail) -> Result<bool, StoreError> {
        let Some(last_good) = tail.last_good else { return Ok(false) };
        let began = self.begin();
        let mut met = self.beat(tail, began.at).await?;
        self.read_since(last_good - Self::OVERLAP, began.at, &mut met).await?;
        self.good(tail, met, began)?;
        Ok(true)
    }

    /// Reads what a [push](RevocationStore::changes) has announced. The view grows no younger by it: what it rests on is
    /// the poll.
    ///
    /// Returns the entries of removed keys that it has met, and has not [learned](Self::learn): before that, their
    /// successors are to be read, so that nothing is signed with a key that is no longer accepted.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not answer.
    pub async fn read_pushed(&self) -> Result<Vec<Entry>, StoreError> {
        let mut tail = self.shared.tail.lock().await;
        let Some(from) = tail.last_pushed.max(tail.last_good) else { return Ok(Vec::new()) };
        let began_at = self.shared.clock.now();
        let mut met = Met { removed_keys: Some(Vec::new()), ..Met::none() };
        self.read_since(from - Self::PUSH_OVERLAP, began_at, &mut met).await?;
        tail.last_pushed = Some(began_at);
        Ok(met.removed_keys.unwrap_or_default())
    }

    async fn read_since(&self, since: Timestamp, now: Timestamp, met: &mut Met) -> Result<(), StoreError> {
        let mut page = self.first_page(since).await?;
        while let Some(read) = page {
            page = self.take_in_and_go_on(since, read, now, met).await?;
        }
        Ok(())
    }

    /// Writes this node's heartbeat, where the store has more than one copy.
    async fn beat(&self, tail: &mut Tail, now: Timestamp) -> Result<Met, StoreError> {
        let Shared { store, node, .. } = &*self.shared;
        if store.is_one_copy() {
            return Ok(Met::none());
        }
        // Later than the one before even if the clock was set back: entries merge by the later time.
        let at = now.max(tail.last_beat + Duration::from_millis(1));
        let entry = Entry { target: Target::Node { id: *node }, until: at + Self::BEAT_LIVES, at };
        store.insert_entry(&entry).await?;
        tail.last_beat = at;
        Ok(Met { at: Some(at), ..Met::none() })
    }

    /// Reads the whole log for the first time, page by page.
    async fn read_all(&self, tail: &mut Tail) -> Result<(), StoreError> {
        let began = self.begin();
        let mut met = self.beat(tail, began.at).await?;
        let mut page = self.first_page(Timestamp::MIN).await?;
        while let Some(read) = page {
            page = self.take_in_and_go_on(Timestamp::MIN, read, began.at, &mut met).await?;
        }
        self.good(tail, met, began)?;
        tail.last_full = Some(began.monotonic);
        self.prune(began.at).await;
        Ok(())
    }

    /// Reads the whole log again, page by page, unless another caller does, and forgets what no longer matters. What is
    /// new is read in between where it is time, so that the view does not grow old.
    async fn read_again(&self) -> Result<(), StoreError> {
        let Ok(_reading) = self.shared.reading_again.try_lock() else { return Ok(()) };
        let began = self.begin();
        let mut met = Met::none();
        let mut page = self.first_page(Timestamp::MIN).await?;
        while let Some(read) = page {
            page = self.take_in_and_go_on(Timestamp::MIN, read, began.at, &mut met).await?;
            if page.is_some() && self.age().is_some_and(|age| age > self.shared.bound / 5) {
                let mut tail = self.shared.tail.lock().await;
                self.read_new(&mut tail).await?;
            }
        }
        self.shared.tail.lock().await.last_full = Some(began.monotonic);
        self.prune(began.at).await;
        Ok(())
    }

    async fn first_page(&self, since: Timestamp) -> Result<Option<Vec<Entry>>, StoreError> {
        self.shared.store.entries(since, None, Self::PAGE).await.map(Some)
    }

    /// Takes a page into the index while the store looks up the next one, if there may be one: at the start of a node
    /// that has many entries to read, both have enough to do.
    async fn take_in_and_go_on(
        &self,
        since: Timestamp,
        page: Vec<Entry>,
        now: Timestamp,
        met: &mut Met,
    ) -> Result<Option<Vec<Entry>>, StoreError> {
        let Some(last) = page.last().filter(|_| page.len() >= Self::PAGE) else {
            self.take_in(&page, now, met).await;
            return Ok(None);
        };
        let next = self.shared.store.entries(since, Some(last), Self::PAGE);
        let (next, ()) = tokio::join!(next, self.take_in(&page, now, met));
        next.map(Some)
    }

    /// Lets the index forget what no longer matters; other tasks run in between.
    async fn prune(&self, now: Timestamp) {
        for () in self.shared.index.prune_in_turns(now) {
            tokio::task::yield_now().await;
        }
    }

    /// Takes entries into the index; other tasks run in between.
    async fn take_in(&self, page: &[Entry], now: Timestamp, met: &mut Met) {
        let Shared { node, newest, lag, .. } = &*self.shared;
        let known = newest.load(Ordering::Relaxed);
        let mut latest = None;
        for (number, entry) in page.iter().enumerate() {
            if number % Self::TAKEN_IN_A_TURN == Self::TAKEN_IN_A_TURN - 1 {
                tokio::task::yield_now().await;
            }
            if let Target::Node { id } = &entry.target {
                met.seen |= id == node && Some(entry.at) >= met.at;
            } else if entry.until > now {
                match (&entry.target, &mut met.removed_keys) {
                    (Target::Key { .. }, Some(removed)) => removed.push(entry.clone()),
                    _ => self.learn(entry),
                }
                latest = latest.max(Some(entry.at));
            }
        }
        // Before the first good poll entries are new to this node alone.
        let is_tail = self.shared.as_of.load(Ordering::Relaxed) > 0;
        if let Some(latest) = latest.filter(|latest| is_tail && latest.as_millis() > known && known > 0) {
            let age = self.shared.clock.now().since(latest).as_millis();
            lag.store(i64::try_from(age).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }

    fn begin(&self) -> Began {
        let clock = &*self.shared.clock;
        Began { monotonic: clock.monotonic(), time_of_day: clock.time_of_day(), at: clock.now() }
    }

    /// Notes that everything written before `began` is in the index.
    fn good(&self, tail: &mut Tail, met: Met, began: Began) -> Result<(), StoreError> {
        if !met.is_good() {
            return Err(StoreError::new("replicated", "show what was written before", ReadIsOld));
        }
        let Shared { as_of, as_of_day, .. } = &*self.shared;
        tail.last_good = Some(began.at);
        let monotonic = u64::try_from(began.monotonic.as_millis()).unwrap_or(u64::MAX - 1).saturating_add(1);
        as_of_day.store(began.time_of_day.as_millis(), Ordering::Release);
        as_of.store(monotonic, Ordering::Release);
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

/// Whether a full read that began then is to be followed by another one.
fn is_over(clock: &dyn Clock, last_full: Duration) -> bool {
    clock.monotonic().saturating_sub(last_full) >= RevocationView::FULL_READ_EVERY
}
