//! What happens too often for an event each time, counted by the minute: registrations that were refused because a name
//! is taken, and failed logins.
//!
//! Each refused registration tells the client that somebody has an account, and each failed login may be a guess. One is
//! a slip of memory; thousands a second come from somebody who has a list. There is one event a minute, with their
//! number, for whoever watches all accounts at once.

use std::time::Duration;

use countersign_jwt::time::Timestamp;

use crate::model::Device;

/// What was counted and not reported yet.
#[derive(Debug, Default)]
pub(super) struct Minutes {
    minute: Option<Minute>,
}

/// A minute that begins with the first of what is counted.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Minute {
    pub(super) since: Timestamp,
    pub(super) count: u64,
    pub(super) last: Device,
}

impl Minutes {
    const MINUTE: Duration = Duration::from_secs(60);

    /// Counts one more. Returns the number in this minute, and what is to be reported of the minute before.
    pub(super) fn count(&mut self, now: Timestamp, device: Device) -> (u64, Option<Minute>) {
        let over = self.take_over(now);
        let minute = self.minute.get_or_insert(Minute { since: now, count: 0, last: Device::default() });
        minute.count = minute.count.saturating_add(1);
        minute.last = device;
        (minute.count, over)
    }

    /// What is to be reported of a minute that is over.
    pub(super) fn take_over(&mut self, now: Timestamp) -> Option<Minute> {
        // A clock that was set back must not make a minute longer.
        let is_over = |minute: &mut Minute| now < minute.since || now.since(minute.since) >= Self::MINUTE;
        self.minute.take_if(is_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn device(name: &str) -> Device {
        Device::new(Some(name), None)
    }

    fn minute(count: u64, since: Timestamp, name: &str) -> Option<Minute> {
        Some(Minute { count, since, last: device(name) })
    }

    #[test]
    fn a_minute_is_reported_once_with_its_number() {
        let mut minutes = Minutes::default();
        assert_eq!(minutes.take_over(NOW), None, "nothing happened");
        for number in 1..=5_600_u64 {
            let at = NOW + Duration::from_millis(number % 60_000);
            assert_eq!(minutes.count(at, device(&number.to_string())), (number, None), "{number}");
        }
        assert_eq!(minutes.take_over(NOW + Duration::from_millis(59_999)), None);
        let since = NOW + Duration::from_millis(1);
        assert_eq!(minutes.take_over(since + Duration::from_secs(60)), minute(5_600, since, "5600"));
        assert_eq!(minutes.take_over(NOW + Duration::from_secs(3_600)), None, "once");
    }

    #[test]
    fn the_first_of_a_minute_tells_of_the_minute_before() {
        let mut minutes = Minutes::default();
        assert_eq!(minutes.count(NOW, device("a")), (1, None));
        let later = NOW + Duration::from_secs(61);
        assert_eq!(minutes.count(later, device("b")), (1, minute(1, NOW, "a")));
        let before = NOW - Duration::from_secs(86_400);
        assert_eq!(minutes.count(before, device("c")), (1, minute(1, later, "b")), "the clock was set back");
    }
}
