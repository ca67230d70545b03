//! Points in time, and the clock they are read from. Time is always an argument: nothing in this crate asks
//! the operating system what time it is.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use crate::store::{RevocationStore, StoreError};

/// A point in time, in milliseconds since the Unix epoch, between 1970 and the year 287396.
///
/// Arithmetic saturates at both ends, so no input can make it overflow or panic.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const MIN: Self = Self(0);
    /// The latest time that survives a trip through a JSON number: 2^53 milliseconds.
    pub const MAX: Self = Self(1 << 53);

    /// From milliseconds since the Unix epoch; what is out of range becomes the nearest bound.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        if millis < Self::MIN.0 {
            Self::MIN
        } else if millis > Self::MAX.0 {
            Self::MAX
        } else {
            Self(millis)
        }
    }

    /// From whole seconds since the Unix epoch (a JWT `NumericDate`, RFC 7519 §2).
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self::from_millis(secs.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down (a JWT `NumericDate`).
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0 / 1000
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_sub(millis))
    }
}

/// Where the time comes from. Programs pass a system clock, tests a fixed one.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time of day. It may be set back or forward while the program runs.
    fn now(&self) -> Timestamp;

    /// Time passed since some fixed moment; never goes back. The age of the revocation view is measured with
    /// it, so that setting the time of day back cannot make an old view look young.
    fn monotonic(&self) -> Duration;
}

/// A machine's clock, corrected to the time of the store that all nodes share. Lifetimes, windows and the order of
/// things are the same on every node then, whatever the machines' clocks say.
///
/// Between two answers of the store it goes by the machine's monotonic clock: the time of day may be set. That one stands
/// still, however, while the machine is suspended. Either is [seen](Self::is_odd) by comparing the two, and then the store
/// is to be asked before anything is written: an entry of the log that seems older than it is would be missed by those
/// who read what is new.
#[derive(Debug)]
pub struct StoreClock {
    machine: Arc<dyn Clock>,
    /// Whether the store has a time of its own.
    is_known: AtomicBool,
    /// What is added to the machine's time of day, in milliseconds.
    offset: AtomicI64,
    /// What is added to the machine's monotonic time, in milliseconds.
    since: AtomicI64,
}

impl StoreClock {
    /// More than this is worth telling the operator.
    pub const REMARKABLE: Duration = Duration::from_secs(5);

    /// The machine's own time, until the store's is known.
    #[must_use]
    pub fn new(machine: Arc<dyn Clock>) -> Self {
        Self {
            machine,
            is_known: AtomicBool::new(false),
            offset: AtomicI64::new(0),
            since: AtomicI64::new(0),
        }
    }

    /// How far the machine's clock is from the store's.
    #[must_use]
    pub fn offset(&self) -> Duration {
        Duration::from_millis(self.offset.load(Ordering::Relaxed).unsigned_abs())
    }

    /// The machine's time of day, uncorrected.
    pub(crate) fn time_of_day(&self) -> Timestamp {
        self.machine.now()
    }

    /// Asks the store for its time and takes it in. Returns by how much that has moved this clock.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not answer.
    pub async fn ask(&self, store: &dyn RevocationStore) -> Result<Duration, StoreError> {
        let asked = self.machine.monotonic();
        let answer = store.time().await?;
        Ok(answer.map_or(Duration::ZERO, |answer| self.observe(asked, answer)))
    }

    /// Takes in what the store answered to a question that was asked at `asked`, by the machine's monotonic time. The
    /// answer belongs to some moment since then; within that, everything stays as it is, so that time does not jump
    /// about with the network's delays. Returns by how much it has moved this clock; the first answer moves nothing that was known.
    pub fn observe(&self, asked: Duration, answer: Timestamp) -> Duration {
        let (now, monotonic) = (self.machine.now(), self.machine.monotonic());
        let took = monotonic.saturating_sub(asked);
        // The answer is from the middle of the time that it took.
        let answer = (answer + took / 2).as_millis();
        let uncertain = i64::try_from((took / 2).as_millis()).unwrap_or(i64::MAX).saturating_add(UNCERTAIN);
        let is_as_known = |known: i64| answer.saturating_sub(known).saturating_abs() <= uncertain;
        let before = self.corrected(now, monotonic);
        let has_moved = !is_as_known(now.as_millis().saturating_add(self.offset.load(Ordering::Relaxed)));
        if has_moved {
            self.offset.store(answer.saturating_sub(now.as_millis()), Ordering::Relaxed);
        }
        let right = if is_as_known(before.as_millis()) { before.as_millis() } else { answer };
        self.since.store(right.saturating_sub(in_millis(monotonic)), Ordering::Relaxed);
        let was_known = self.is_known.swap(true, Ordering::AcqRel);
        let offset = self.offset();
        if has_moved && offset > Self::REMARKABLE {
            tracing::warn!(
                offset_millis = self.offset.load(Ordering::Relaxed),
                "this machine's clock is off by {} s from the store's; set it right",
                offset.as_secs()
            );
        }
        let after = self.corrected(now, monotonic);
        if was_known { after.since(before).max(before.since(after)) } else { Duration::ZERO }
    }

    fn corrected(&self, now: Timestamp, monotonic: Duration) -> Timestamp {
        if !self.is_known.load(Ordering::Acquire) {
            return now;
        }
        Timestamp::from_millis(in_millis(monotonic).saturating_add(self.since.load(Ordering::Relaxed)))
    }

    /// Whether the machine's clocks no longer go together as they did when the store was last asked: its time of day was
    /// set, or it was suspended. Never where the store has no time of its own.
    #[must_use]
    pub fn is_odd(&self) -> bool {
        let apart = self.machine.now().as_millis().saturating_sub(in_millis(self.machine.monotonic()));
        let known = self.since.load(Ordering::Relaxed).saturating_sub(self.offset.load(Ordering::Relaxed));
        self.is_known.load(Ordering::Acquire) && apart.saturating_sub(known).saturating_abs() > ODD
    }
}

/// Engines tell their time in milliseconds or coarser, and answers are read a moment late, in milliseconds.
const UNCERTAIN: i64 = 5;

/// The machine's clocks may be so many milliseconds apart, because answers that took long leave some doubt.
const ODD: i64 = 2_000;

fn in_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Clock for StoreClock {
    fn now(&self) -> Timestamp {
        self.corrected(self.machine.now(), self.machine.monotonic())
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_overflowing() {
        assert_eq!(Timestamp::MAX + Duration::MAX, Timestamp::MAX);
        assert_eq!(Timestamp::MIN - Duration::MAX, Timestamp::MIN);
        assert_eq!(Timestamp::from_secs(i64::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::from_millis(i64::MIN), Timestamp::MIN);
        assert_eq!(Timestamp::MIN.since(Timestamp::MAX), Duration::ZERO);
    }

    #[test]
    fn seconds_round_down() {
        assert_eq!(Timestamp::from_millis(1_999).as_secs(), 1);
    }

    #[derive(Debug)]
    struct Machine(Timestamp, Duration);

    impl Clock for Machine {
        fn now(&self) -> Timestamp {
            self.0
        }

        fn monotonic(&self) -> Duration {
            self.1
        }
    }

    #[test]
    fn sec_208_a_machine_whose_clock_is_off_goes_by_the_stores() {
        let millis = Duration::from_millis;
        for (case, store, asked, expected) in [
            ("the same time", 1_000_000, 500, 1_000_000),
            ("within the time that the answer took", 999_990, 400, 1_000_000),
            ("ahead by 5 minutes", 1_300_000, 500, 1_300_000),
            ("behind by 5 minutes", 700_000, 500, 700_000),
            ("the answer is from the middle of the time it took", 1_300_000, 300, 1_300_100),
        ] {
            let clock = StoreClock::new(Arc::new(Machine(Timestamp::from_millis(1_000_000), millis(500))));
            clock.observe(millis(asked), Timestamp::from_millis(store));
            assert_eq!(clock.now().as_millis(), expected, "{case}");
        }
    }
}
