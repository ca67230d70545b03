//! A node's view of the revocation log: the index, the loop that keeps it up to date, and its honest age. The loop
//! contains no rule: the [tail](super::tail) says what is read when, and what an answer is worth.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign_jwt::key::{KeyId, KeyRing};
use countersign_jwt::time::{Clock as _, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::flow::clock::MachineTime;
use crate::flow::clock::StoreClock;
use crate::flow::tail::{self, Entries, Now, Outcome, Read, Tail};
use crate::model::{Entry, Index, Target};
use crate::store::{RevocationStore, StoreError};

/// The node's view of the revocation log is older than the revocation bound and could not be renewed in time. The
/// client gets 503, because an answer might accept a revoked token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the view of the revocation log is too old and could not be renewed in time")]
pub struct ViewTooOld;

/// The revocation log as this node knows it.
///
/// Requests ask the index and never the store. The tail reads new entries in the background ([`RevocationView::poll`]).
/// If the view is older than the revocation bound nevertheless, requests join one shared poll.
///
/// ```
/// use countersign_core::model::EndReason;
/// # use countersign_core::{model::{Device, UserSession}, store::MemoryStore};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let one = countersign_testkit::TestBed::over(MemoryStore::new()).await;
/// # let other = one.another_node().await;
/// # let pair = one.begin(&countersign_jwt::UserId::new("ada")?, Device::default()).await;
/// # let key = UserSession { user_id: pair.user_id.clone(), id: pair.session.id };
/// one.sessions.end(key, EndReason::LoggedOut).await?;
/// assert!(one.authenticate(&pair.access_token).await.is_err(), "the node that ended it knows at once");
///
/// // The background task of every other node polls several times within the revocation bound.
/// other.sessions.view().poll().await?;
/// assert!(other.authenticate(&pair.access_token).await.is_err());
/// # Ok(())
/// # }
/// ```
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
    /// The name of this node's heartbeat in the log.
    node: Uuid,
    index: Index,
    /// The latest `at` of the entries that this node has read or written, in milliseconds.
    newest: AtomicI64,
    /// How old an entry of another node was when this node read it first, in milliseconds; -1 before the first.
    lag: AtomicI64,
    /// The rings that removed keys are taken out of.
    rings: OnceLock<[Arc<ArcSwap<KeyRing>>; 2]>,
    counts_from: CountsFrom,
    /// The state of the tail. The poll or the read of pushed entries that is under way holds the lock.
    tail: tokio::sync::Mutex<Tail>,
    /// The lock that is held while the whole log is read again.
    reading_whole_log: tokio::sync::Mutex<()>,
    joined: Mutex<Option<watch::Receiver<PollState>>>,
}

/// The moment from which the view's age counts, as requests read it: a copy of what the tail says. It has two numbers,
/// because the age is the longer of two differences, and packing both into one number would make each overflow or grow
/// coarse.
#[derive(Debug, Default)]
struct CountsFrom {
    /// The monotonic time in milliseconds, plus one; 0 before the first good poll.
    monotonic: AtomicU64,
    /// The machine's time of day in milliseconds.
    time_of_day: AtomicI64,
}

impl CountsFrom {
    fn set(&self, began: MachineTime) {
        let monotonic = u64::try_from(began.monotonic.as_millis()).unwrap_or(u64::MAX - 1).saturating_add(1);
        // In this order a request that reads between the two stores finds a view that is too old, never one that is too
        // young.
        self.time_of_day.store(began.time_of_day.as_millis(), Ordering::Release);
        self.monotonic.store(monotonic, Ordering::Release);
    }

    fn get(&self) -> Option<MachineTime> {
        let monotonic = Duration::from_millis(self.monotonic.load(Ordering::Acquire).checked_sub(1)?);
        let time_of_day = Timestamp::from_millis(self.time_of_day.load(Ordering::Acquire));
        Some(MachineTime { monotonic, time_of_day })
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum PollState {
    Running,
    Done,
}

/// A node's view of the revocation log, in numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ViewStats {
    /// The number of entries in the index.
    pub entries: usize,
    /// The age of the view; `None` before the first good poll.
    pub age: Option<Duration>,
    /// The time for which the newest entry of another node had been in the log when this node read it; `None` before
    /// the first.
    pub lag: Option<Duration>,
    /// The difference between the machine's clock and the store's.
    pub clock_offset: Duration,
}

/// What a read of the log has found on its way.
#[derive(Debug, Default)]
struct Met {
    /// The latest `at` of this node's own heartbeat among the entries.
    heartbeat: Option<Timestamp>,
    /// The entries of removed keys that were not learned yet; `None` where they are learned as they come.
    removed_keys: Option<Vec<Entry>>,
}

impl RevocationView {
    /// The time before the last good poll from which the next one reads on, so that an entry whose commit became
    /// visible late is still read.
    pub const OVERLAP: Duration = tail::OVERLAP;
    /// The time between two reads of the whole log.
    pub const FULL_READ_EVERY: Duration = tail::FULL_READ_EVERY;
    /// The longest time for which a request waits for a shared poll.
    pub const JOIN_DEADLINE: Duration = Duration::from_secs(1);
    /// The number of entries on a page.
    pub const PAGE: usize = 5_000;
    /// The number of entries that are taken into the index before other tasks run.
    const TAKEN_IN_A_TURN: usize = 500;
    /// The time for which a heartbeat stays in the log.
    const HEARTBEAT_LIVES: Duration = Duration::from_secs(60);

    /// A view that has not read anything yet. Nothing is accepted before the first good [`RevocationView::poll`].
    #[must_use]
    pub fn new(
        store: Arc<dyn RevocationStore>,
        clock: Arc<StoreClock>,
        runtime: Handle,
        bound: Duration,
        node: Uuid,
    ) -> Self {
        let tail = Tail::new(bound, store.is_one_copy());
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
                counts_from: CountsFrom::default(),
                tail: tokio::sync::Mutex::new(tail),
                reading_whole_log: tokio::sync::Mutex::new(()),
                joined: Mutex::new(None),
            }),
        }
    }

    /// The name of this node's heartbeat in the log ([`Target::Node`]).
    #[must_use]
    pub fn node(&self) -> Uuid {
        self.shared.node
    }

    /// The index of the entries that still matter. Its answers hold for the moment that is [`RevocationView::age`] ago.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.shared.index
    }

    /// Takes an entry into the index that this node wrote itself and the store has acknowledged.
    pub fn learn(&self, entry: &Entry) {
        self.shared.newest.fetch_max(entry.at.as_millis(), Ordering::Relaxed);
        self.shared.index.insert(entry);
        if let Target::Key { id } = &entry.target {
            for ring in self.shared.rings.get().into_iter().flatten() {
                remove_from_ring(ring, id);
            }
        }
    }

    /// Registers rings of keys. From then on a key that the log removes leaves these rings in the same moment.
    pub(crate) fn remove_keys_from(&self, rings: [Arc<ArcSwap<KeyRing>>; 2]) {
        // The rings are set once, by the owner of the view.
        let _set_before = self.shared.rings.set(rings);
    }

    /// The age of the view; `None` before the first good poll.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let began = self.shared.counts_from.get()?;
        Some(began.until(self.machine_time()))
    }

    /// Whether the view is young enough to decide by: not older than the revocation bound.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        tail::is_fresh(self.age(), self.shared.bound)
    }

    /// Whether the view was young enough to decide by at the moment `machine`.
    pub(crate) fn is_fresh_at(&self, machine: MachineTime) -> bool {
        let age = self.shared.counts_from.get().map(|began| began.until(machine));
        tail::is_fresh(age, self.shared.bound)
    }

    /// The view's numbers for telemetry.
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

    /// Reads what is new in the log: the entries since shortly before the last good poll. At first, every minute, and
    /// after a failure, the poll reads the whole log too. While that takes long, new entries are read in between, so
    /// that the view does not grow old.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not answer; the view then only grows older.
    pub async fn poll(&self) -> Result<(), StoreError> {
        self.poll_and_tell(|| {}).await
    }

    /// Polls as [`RevocationView::poll`] does, and calls `fresh` as soon as the view is up to date, before the whole
    /// log is read again.
    async fn poll_and_tell(&self, fresh: impl FnOnce()) -> Result<(), StoreError> {
        let mut tail = self.shared.tail.lock().await;
        let whole_log = self.bring_up_to_date(&mut tail).await?;
        // The lock is released, so that pushed entries need not wait while the whole log is read.
        drop(tail);
        fresh();
        match whole_log {
            Some(asked) => self.read_whole_log(asked).await,
            None => Ok(()),
        }
    }

    /// Carries out what the tail asks for until the view is up to date. Returns the read of the whole log that is due
    /// after that, if one is.
    async fn bring_up_to_date(&self, tail: &mut Tail) -> Result<Option<Entries>, StoreError> {
        let Shared { store, clock, index, .. } = &*self.shared;
        tail.begin();
        loop {
            match tail.next(self.now()) {
                Read::StoreTime => {
                    clock.ask(&**store).await?;
                    self.took(tail, Outcome::StoreTime)?;
                }
                Read::Entries(asked) => {
                    self.write_heartbeat(asked.heartbeat).await?;
                    let mut met = Met::default();
                    self.read(&asked, &mut met).await?;
                    let forgotten_at = asked.is_whole_log().then_some(asked.began.store);
                    self.took(tail, Outcome::Entries { asked, heartbeat: met.heartbeat })?;
                    if let Some(at) = forgotten_at {
                        prune(index, at).await;
                    }
                }
                Read::WholeLog(asked) => return Ok(Some(asked)),
                Read::Nothing => return Ok(None),
            }
        }
    }

    /// Reports the outcome of a read to the tail, and the view's age that follows to the requests.
    fn took(&self, tail: &mut Tail, outcome: Outcome) -> Result<(), StoreError> {
        tail.took(outcome)
            .map_err(|old| StoreError::new("replicated", "show what was written before", old))?;
        if let Some(began) = tail.counts_from() {
            self.shared.counts_from.set(began);
        }
        Ok(())
    }

    /// Reads the entries that a [push](RevocationStore::changes) has announced. The view grows no younger by it,
    /// because its age rests on the poll.
    ///
    /// Returns the entries of removed keys that were found and not [learned](Self::learn). The successors of these keys
    /// are to be read before they are learned, so that nothing is signed with a key that is no longer accepted.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not answer.
    pub async fn read_pushed(&self) -> Result<Vec<Entry>, StoreError> {
        let mut tail = self.shared.tail.lock().await;
        let Some(asked) = tail.next_pushed(self.now()) else { return Ok(Vec::new()) };
        let mut met = Met { removed_keys: Some(Vec::new()), ..Met::default() };
        self.read(&asked, &mut met).await?;
        self.took(&mut tail, Outcome::Entries { asked, heartbeat: met.heartbeat })?;
        Ok(met.removed_keys.unwrap_or_default())
    }

    /// Reads the whole log again, unless another caller does, polls between two pages where that is due, and forgets
    /// the entries that no longer matter.
    async fn read_whole_log(&self, asked: Entries) -> Result<(), StoreError> {
        let Shared { bound, index, tail, reading_whole_log, .. } = &*self.shared;
        let Ok(_reading) = reading_whole_log.try_lock() else { return Ok(()) };
        let mut met = Met::default();
        let mut page = self.first_page(&asked).await?;
        while let Some(read) = page {
            page = self.take_in_and_go_on(&asked, read, &mut met).await?;
            if page.is_some() && tail::is_poll_due(self.age(), *bound) {
                // This poll asks for no read of the whole log, because that read is under way.
                self.bring_up_to_date(&mut *tail.lock().await).await?;
            }
        }
        let forgotten_at = asked.began.store;
        self.took(&mut *tail.lock().await, Outcome::Entries { asked, heartbeat: met.heartbeat })?;
        prune(index, forgotten_at).await;
        Ok(())
    }

    /// Writes this node's heartbeat with this `at`, if there is one to be written.
    async fn write_heartbeat(&self, at: Option<Timestamp>) -> Result<(), StoreError> {
        let Shared { store, node, .. } = &*self.shared;
        let Some(at) = at else { return Ok(()) };
        let entry = Entry { target: Target::Node { id: *node }, until: at + Self::HEARTBEAT_LIVES, at };
        store.insert_entry(&entry).await
    }

    async fn read(&self, asked: &Entries, met: &mut Met) -> Result<(), StoreError> {
        let mut page = self.first_page(asked).await?;
        while let Some(read) = page {
            page = self.take_in_and_go_on(asked, read, met).await?;
        }
        Ok(())
    }

    async fn first_page(&self, asked: &Entries) -> Result<Option<Vec<Entry>>, StoreError> {
        self.shared.store.entries(asked.since, None, Self::PAGE).await.map(Some)
    }

    /// Takes a page into the index while the store looks up the next one, if there may be one. When a node starts and
    /// has many entries to read, both the node and the store have enough to do.
    async fn take_in_and_go_on(
        &self,
        asked: &Entries,
        page: Vec<Entry>,
        met: &mut Met,
    ) -> Result<Option<Vec<Entry>>, StoreError> {
        let Some(last) = page.last().filter(|_| page.len() >= Self::PAGE) else {
            self.take_in(asked, &page, met).await;
            return Ok(None);
        };
        let next = self.shared.store.entries(asked.since, Some(last), Self::PAGE);
        let (next, ()) = tokio::join!(next, self.take_in(asked, &page, met));
        next.map(Some)
    }

    /// Takes entries into the index, and lets other tasks run in between.
    async fn take_in(&self, asked: &Entries, page: &[Entry], met: &mut Met) {
        let Shared { clock, node, newest, lag, .. } = &*self.shared;
        let known = Timestamp::from_millis(newest.load(Ordering::Relaxed));
        let mut latest = None;
        for (number, entry) in page.iter().enumerate() {
            if number % Self::TAKEN_IN_A_TURN == Self::TAKEN_IN_A_TURN - 1 {
                tokio::task::yield_now().await;
            }
            if let Target::Node { id } = &entry.target {
                if id == node {
                    met.heartbeat = met.heartbeat.max(Some(entry.at));
                }
            } else if entry.until > asked.began.store {
                match (&entry.target, &mut met.removed_keys) {
                    (Target::Key { .. }, Some(removed)) => removed.push(entry.clone()),
                    _ => self.learn(entry),
                }
                latest = latest.max(Some(entry.at));
            }
        }
        if let Some(found) = latest.and_then(|latest| asked.lag(known, latest, clock.now())) {
            lag.store(i64::try_from(found.as_millis()).unwrap_or(i64::MAX), Ordering::Relaxed);
        }
    }

    fn machine_time(&self) -> MachineTime {
        self.shared.clock.machine_time()
    }

    fn now(&self) -> Now {
        Now { machine: self.machine_time(), store: self.shared.clock.now() }
    }

    /// Returns at once while the view is fresh. Otherwise joins the one poll that all waiting requests share, for at
    /// most [`RevocationView::JOIN_DEADLINE`].
    ///
    /// # Errors
    /// [`ViewTooOld`] when the view is still too old after that.
    pub async fn ensure_fresh(&self) -> Result<(), ViewTooOld> {
        if self.is_fresh() {
            return Ok(());
        }
        let mut state = self.join();
        // A request that waits too long gives up; the poll goes on for the others.
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

/// Lets the index forget the entries that no longer matter, and lets other tasks run in between.
async fn prune(index: &Index, now: Timestamp) {
    for () in index.prune_in_turns(now) {
        tokio::task::yield_now().await;
    }
}

/// Takes a key out of a ring that others read and exchange meanwhile.
pub(crate) fn remove_from_ring(ring: &ArcSwap<KeyRing>, id: &KeyId) {
    if ring.load().get(id.as_str()).is_some() {
        ring.rcu(|ring| {
            let mut without = KeyRing::clone(ring);
            without.remove(id);
            without
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_read_from_when_the_view_counts_and_never_later() {
        let counts_from = CountsFrom::default();
        assert_eq!(counts_from.get(), None);
        for (micros, time_of_day) in [(0, 0), (999, 1_800_000_000_000), (1_000_001, 1), (u64::MAX, 1 << 53)] {
            let monotonic = Duration::from_micros(micros);
            let time_of_day = Timestamp::from_millis(time_of_day);
            counts_from.set(MachineTime { monotonic, time_of_day });
            let read = counts_from.get().unwrap();
            assert_eq!(read.time_of_day, time_of_day);
            assert!(read.monotonic <= monotonic && monotonic - read.monotonic < Duration::from_millis(1));
        }
    }
}
