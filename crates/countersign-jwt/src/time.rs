//! Points in time, and the clock they are read from. Time is always an argument: nothing in this crate asks the
//! operating system for it.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in time, in milliseconds since the Unix epoch, between 1970 and the year 287396.
///
/// Arithmetic saturates at both ends, so no input can make it overflow or panic.
///
/// ```
/// use std::time::Duration;
/// use countersign_jwt::Timestamp;
///
/// let login = Timestamp::from_secs(1_800_000_000);
/// let later = login + Duration::from_secs(900);
/// assert_eq!(later.since(login), Duration::from_secs(900));
/// assert_eq!(login.since(later), Duration::ZERO);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const MIN: Self = Self(0);
    /// The latest time that survives a trip through a JSON number: 2^53 milliseconds.
    pub const MAX: Self = Self(1 << 53);

    /// The time with this number of milliseconds since the Unix epoch. A number out of range becomes the nearest bound.
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

    /// The time with this number of whole seconds since the Unix epoch (a JWT `NumericDate`, RFC 7519 §2).
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self::from_millis(secs.saturating_mul(1000))
    }

    /// The number of milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The number of whole seconds since the Unix epoch, rounded down (a JWT `NumericDate`).
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0 / 1000
    }

    /// The time that has passed since `earlier`; zero if `earlier` is later.
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

/// A source of the time. Programs pass a system clock, tests a fixed one.
///
/// ```
/// use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
/// use countersign_jwt::{Clock, Timestamp};
///
/// #[derive(Debug)]
/// struct MachineClock {
///     started: Instant,
/// }
///
/// impl Clock for MachineClock {
///     fn now(&self) -> Timestamp {
///         let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
///         Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
///     }
///
///     fn monotonic(&self) -> Duration {
///         self.started.elapsed()
///     }
/// }
///
/// let clock = MachineClock { started: Instant::now() };
/// assert!(clock.now() > Timestamp::from_secs(1_700_000_000));
/// ```
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The time of day. It may be set back or forward while the program runs.
    fn now(&self) -> Timestamp;

    /// The time that has passed since some fixed moment, which never goes back. The age of the revocation view is
    /// measured with it, so that setting the time of day back cannot make an old view look young.
    fn monotonic(&self) -> Duration;
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
}
