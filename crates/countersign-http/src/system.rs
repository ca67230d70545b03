//! The operating system's clock and random numbers, for programs; tests pass fixed ones.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use countersign_jwt::{Clock, Random, RandomError, Timestamp};

/// The operating system's clock.
///
/// The clock's monotonic reading counts from the clock's creation. Some systems stop that reading while the machine is
/// suspended.
///
/// ```
/// use countersign_http::SystemClock;
/// use countersign_jwt::{Clock, Timestamp};
///
/// let clock = SystemClock::new();
/// let before = clock.monotonic();
/// assert!(clock.now() > Timestamp::from_secs(1_700_000_000));
/// assert!(clock.monotonic() >= before);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic reading starts at zero now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this type is what a program passes as its `Clock`")]
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this type is what a program passes as its `Clock`")]
    fn now(&self) -> Timestamp {
        // A clock before 1970 reads as 1970, where every token is not yet valid.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::MIN + since_epoch
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// The operating system's random numbers, which seed the AWS-LC generator that this reads from.
///
/// ```
/// use countersign_http::OsRandom;
/// use countersign_jwt::random;
///
/// let secret = random::bytes::<32>(&OsRandom)?;
/// assert_ne!(secret, [0; 32]);
/// # Ok::<(), countersign_jwt::RandomError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    #[expect(clippy::disallowed_methods, reason = "this type is what a program passes as its `Random`")]
    fn fill(&self, dest: &mut [u8]) -> Result<(), RandomError> {
        aws_lc_rs::rand::fill(dest).map_err(|_| RandomError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_bytes_are_filled_in_and_differ() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        OsRandom.fill(&mut a).unwrap();
        OsRandom.fill(&mut b).unwrap();
        assert_ne!(a, [0; 32]);
        assert_ne!(a, b);
    }

    #[test]
    fn monotonic_time_never_goes_back() {
        let clock = SystemClock::new();
        let earlier = clock.monotonic();
        assert!(clock.monotonic() >= earlier);
    }
}
