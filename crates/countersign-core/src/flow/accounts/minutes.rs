//! Registrations that were refused because a name is taken, counted by the minute.
//!
//! Each refusal tells the client that somebody has an account. One refusal is a slip of memory; thousands a second come
//! from somebody who has a list of addresses. An event for each would drown the log, so there is one event a minute,
//! with the number of refusals. In a minute with many refusals each answer costs a hash, as a registration does.

use std::time::Duration;

use countersign_jwt::time::Timestamp;

use crate::model::Device;
use crate::model::event::Event;

/// The refusals that were not reported yet.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    minute: Option<Minute>,
}

/// A minute that begins with its first refusal.
#[derive(Debug)]
struct Minute {
    since: Timestamp,
    count: u64,
    last: Device,
}

impl Refusals {
    const MINUTE: Duration = Duration::from_secs(60);
    /// The number of refusals in one minute from which on they are not slips of memory.
    const FEW: u64 = 60;

    /// Counts one more refusal. Returns whether there were many in this minute, and what is to be reported of the
    /// minute before.
    pub(super) fn count(&mut self, now: Timestamp, device: Device) -> (bool, Option<Event>) {
        let told = self.tell(now);
        let minute = self.minute.get_or_insert(Minute { since: now, count: 0, last: Device::default() });
        minute.count = minute.count.saturating_add(1);
        minute.last = device;
        (minute.count > Self::FEW, told)
    }

    /// What is to be reported of a minute that is over.
    pub(super) fn tell(&mut self, now: Timestamp) -> Option<Event> {
        // A clock that was set back must not make a minute longer.
        let is_over = |minute: &mut Minute| now < minute.since || now.since(minute.since) >= Self::MINUTE;
        let Minute { since, count, last } = self.minute.take_if(is_over)?;
        Some(Event::RegistrationsRefused { count, since, last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn device(name: &str) -> Device {
        Device::new(Some(name), None)
    }

    fn event(count: u64, since: Timestamp, name: &str) -> Option<Event> {
        Some(Event::RegistrationsRefused { count, since, last: device(name) })
    }

    #[test]
    fn a_minute_of_refusals_is_one_event_with_their_number() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.tell(NOW), None, "nothing happened");
        for number in 0..5_600_u64 {
            let at = NOW + Duration::from_millis(number % 60_000);
            let (are_many, told) = refusals.count(at, device(&number.to_string()));
            assert_eq!((are_many, told), (number >= 60, None), "{number}");
        }
        assert_eq!(refusals.tell(NOW + Duration::from_millis(59_999)), None);
        assert_eq!(refusals.tell(NOW + Duration::from_secs(60)), event(5_600, NOW, "5599"));
        assert_eq!(refusals.tell(NOW + Duration::from_secs(3_600)), None, "once");
    }

    #[test]
    fn a_refusal_after_the_minute_tells_of_the_one_before() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.count(NOW, device("a")), (false, None));
        let later = NOW + Duration::from_secs(61);
        assert_eq!(refusals.count(later, device("b")), (false, event(1, NOW, "a")));
        let before = NOW - Duration::from_secs(86_400);
        assert_eq!(
            refusals.count(before, device("c")),
            (false, event(1, later, "b")),
            "the clock was set back"
        );
    }
}
