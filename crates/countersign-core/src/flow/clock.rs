//! The time that all nodes of one store share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use countersign_jwt::{Clock, Timestamp};

use crate::store::{RevocationStore, StoreError};

/// A machine's clock, corrected to the time of the store that all nodes share. Lifetimes, windows and the order of
/// events are then the same on every node, whatever the machines' clocks say.
///
/// Between two answers of the store, the clock advances by the machine's monotonic clock, because the time of day may
/// be set. The monotonic clock, however, stands still while the machine is suspended. [`StoreClock::has_jumped`]
/// notices both by comparing the two. The store is then asked for its time before anything is written: an entry of the
/// log that seems older than it is would be missed by nodes that read what is new.
#[derive(Debug)]
pub struct StoreClock {
    machine: Arc<dyn Clock>,
    /// Whether the store has a clock of its own.
    is_known: AtomicBool,
    /// The milliseconds that are added to the machine's time of day.
    offset: AtomicI64,
    /// The milliseconds that are added to the machine's monotonic time.
    since: AtomicI64,
}

impl StoreClock {
    /// The difference between two clocks above which the operator is told.
    pub const REMARKABLE: Duration = Duration::from_secs(5);

    /// A clock that shows the machine's own time until the store's time is known.
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

    /// What the machine's two clocks say.
    pub(crate) fn machine_time(&self) -> MachineTime {
        MachineTime { monotonic: self.machine.monotonic(), time_of_day: self.machine.now() }
    }

    /// The store's time at the moment `machine`.
    pub(crate) fn at(&self, machine: MachineTime) -> Timestamp {
        self.corrected(machine.time_of_day, machine.monotonic)
    }

    /// Asks the store for its time and corrects this clock by it. Returns by how much the answer has moved this clock.
    ///
    /// # Errors
    /// [`StoreError`] when the store does not answer.
    pub async fn ask(&self, store: &dyn RevocationStore) -> Result<Duration, StoreError> {
        let asked = self.machine.monotonic();
        let answer = store.time().await?;
        Ok(answer.map_or(Duration::ZERO, |answer| self.observe(asked, answer)))
    }

    /// Corrects this clock by the store's answer to a question that was asked at `asked`, by the machine's monotonic
    /// time. Returns by how much the answer has moved this clock; the first answer moves nothing that was known.
    ///
    /// The answer belongs to some moment since `asked`. As long as this clock is within that uncertainty it stays as it
    /// is, so that time does not jump with the network's delays.
    pub fn observe(&self, asked: Duration, answer: Timestamp) -> Duration {
        let (now, monotonic) = (self.machine.now(), self.machine.monotonic());
        let took = monotonic.saturating_sub(asked);
        // The answer is assumed to be from the middle of the time that it took.
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

    /// Whether the machine's time of day was set, or the machine was suspended, since the store was last asked: its two
    /// clocks then no longer agree. Always `false` where the store has no clock of its own.
    #[must_use]
    pub fn has_jumped(&self) -> bool {
        let apart = self.machine.now().as_millis().saturating_sub(in_millis(self.machine.monotonic()));
        let known = self.since.load(Ordering::Relaxed).saturating_sub(self.offset.load(Ordering::Relaxed));
        self.is_known.load(Ordering::Acquire) && apart.saturating_sub(known).saturating_abs() > APART
    }
}

/// One moment by the machine's own two clocks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct MachineTime {
    /// Time passed since some fixed moment. It never goes back, but stands still while the machine is suspended.
    pub(crate) monotonic: Duration,
    /// The machine's time of day, uncorrected. It goes on while the machine is suspended, but may be set.
    pub(crate) time_of_day: Timestamp,
}

impl MachineTime {
    /// How much time has passed from this moment until `now`: the longer of what the two clocks say. So neither
    /// suspending the machine nor setting its time of day back makes an old view look young.
    pub(crate) fn until(self, now: Self) -> Duration {
        let monotonic = now.monotonic.saturating_sub(self.monotonic);
        monotonic.max(now.time_of_day.since(self.time_of_day))
    }
}

/// The uncertainty of an answer in milliseconds: engines tell their time in milliseconds or coarser, and answers are
/// read a moment late.
const UNCERTAIN: i64 = 5;

/// The milliseconds by which the machine's two clocks may differ, because answers that took long leave some doubt.
const APART: i64 = 2_000;

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
