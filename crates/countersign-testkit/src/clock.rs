//! A clock that moves only when a test moves it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_jwt::{Clock, Timestamp};

/// A clock that stands still until it is moved.
///
/// ```
/// use std::time::Duration;
/// use countersign_jwt::Clock;
/// use countersign_testkit::FixedClock;
///
/// let clock = FixedClock::default();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(clock.now(), FixedClock::START + Duration::from_secs(60));
///
/// // Somebody sets the machine's time of day back. The monotonic time does not notice.
/// let monotonic = clock.monotonic();
/// clock.set(FixedClock::START);
/// assert_eq!(clock.monotonic(), monotonic);
/// ```
#[derive(Debug)]
pub struct FixedClock {
    time: Mutex<Time>,
}

#[derive(Clone, Copy, Debug)]
struct Time {
    now: Timestamp,
    monotonic: Duration,
}

impl FixedClock {
    /// 2026-01-31T12:00:00Z, the time at which [`FixedClock::default`] starts.
    pub const START: Timestamp = Timestamp::from_secs(1_769_860_800);

    /// A clock that stands at `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        // The monotonic time is not zero, because a mistake in code that takes zero for "never" would go unnoticed.
        Self { time: Mutex::new(Time { now, monotonic: Duration::from_secs(1_000) }) }
    }

    /// Lets this much time pass.
    pub fn advance(&self, by: Duration) {
        let mut time = self.time();
        time.now = time.now + by;
        time.monotonic = time.monotonic.saturating_add(by);
    }

    /// Sets the time of day, forward or back, while no monotonic time passes.
    pub fn set(&self, now: Timestamp) {
        self.time().now = now;
    }

    fn time(&self) -> MutexGuard<'_, Time> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for FixedClock {
    fn default() -> Self {
        Self::new(Self::START)
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.time().now
    }

    fn monotonic(&self) -> Duration {
        self.time().monotonic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_the_time_of_day_back_does_not_make_time_pass_backwards() {
        let clock = FixedClock::default();
        let before = clock.monotonic();
        clock.advance(Duration::from_secs(5));
        clock.set(Timestamp::MIN);
        assert_eq!(clock.now(), Timestamp::MIN);
        assert_eq!(clock.monotonic() - before, Duration::from_secs(5));
    }
}
