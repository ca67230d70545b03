//! Mail that waits to be sent: its record in the outbox, and the rule that says when the next attempt follows a failed
//! one.

use std::time::Duration;

use countersign_jwt::id::UserId;
use countersign_jwt::time::Timestamp;
use uuid::Uuid;

use super::name::EmailAddress;

/// One mail in the outbox. A mail that was sent has no record any more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutboxMail {
    /// The mail's id. Every attempt sends it in the `Message-ID`, so that repeats are recognisable.
    pub id: Uuid,
    /// The address that the mail goes to.
    pub to: EmailAddress,
    /// The kind of the mail, such as `reset_password`: at most 64 bytes of ASCII.
    pub kind: String,
    /// The user that the mail concerns; `None` if there is no account, such as for an invitation.
    pub user_id: Option<UserId>,
    /// The rendered message, sealed with the server's secret. It may hold a one-time secret, which nobody reads out of
    /// the store.
    pub sealed: Vec<u8>,
    /// The time at which the mail was put into the outbox.
    pub created_at: Timestamp,
    /// The time from which on the mail is useless, because its one-time link has expired; `None` if it stays useful. A
    /// useless mail is dropped and not sent.
    pub useless_after: Option<Timestamp>,
    /// The number of times that a node has claimed the mail in order to send it. It tells one claim from the next.
    pub attempts: u32,
    /// Whether the mail waits, and until when.
    pub state: OutboxState,
    /// The reason why the last attempt failed, as the mail server gave it; `None` before the first failure.
    pub last_error: Option<String>,
}

/// Whether a mail in the outbox is still to be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OutboxState {
    /// The mail is to be sent.
    Waiting {
        /// The time from which on a node may claim the mail. A claim moves it to the end of the claim's lease.
        next_at: Timestamp,
    },
    /// The mail could not be sent and is kept for an operator to see: it is a dead letter.
    Dead {
        /// The time of the last attempt.
        since: Timestamp,
    },
}

/// What follows an attempt to send a mail that failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AfterFailure {
    /// The mail waits for its next attempt, or becomes a dead letter.
    Keep(OutboxState),
    /// The mail would be useless at its next attempt. It is removed.
    Drop,
}

impl OutboxMail {
    /// The most characters of [`OutboxMail::last_error`] that are kept.
    pub const MAX_ERROR_CHARS: usize = 500;

    /// Whether the mail is useless at `now`, so that it is not sent any more.
    #[must_use]
    pub fn is_useless(&self, now: Timestamp) -> bool {
        self.useless_after.is_some_and(|useless_after| now >= useless_after)
    }

    /// Decides what follows an attempt that failed at `now`.
    ///
    /// A permanent failure, which another attempt would meet again, makes the mail a dead letter at once. After a
    /// transient one the next attempt follows by [`retry_delay`], until there is none left.
    #[must_use]
    pub fn after_failure(&self, is_permanent: bool, now: Timestamp) -> AfterFailure {
        match retry_delay(self.attempts).filter(|_| !is_permanent) {
            None => AfterFailure::Keep(OutboxState::Dead { since: now }),
            Some(delay) if self.is_useless(now + delay) => AfterFailure::Drop,
            Some(delay) => AfterFailure::Keep(OutboxState::Waiting { next_at: now + delay }),
        }
    }
}

/// The time between a mail's attempt number `attempts` (from 1), which failed, and the next one: 1 min, 5 min, 30 min,
/// 2 h, then 6 h, until 24 h have passed since the first attempt. `None` after the last attempt, which is the ninth.
#[must_use]
pub fn retry_delay(attempts: u32) -> Option<Duration> {
    let failed_before = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    RETRY_DELAYS.get(failed_before).copied()
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// The pauses between attempts. Their sum is 24 h: long enough for the outage of a mail server over night, and short
/// enough that nobody learns days later of what has happened.
const RETRY_DELAYS: [Duration; 8] = [
    Duration::from_secs(MINUTE),
    Duration::from_secs(5 * MINUTE),
    Duration::from_secs(30 * MINUTE),
    Duration::from_secs(2 * HOUR),
    Duration::from_secs(6 * HOUR),
    Duration::from_secs(6 * HOUR),
    Duration::from_secs(6 * HOUR),
    Duration::from_secs(3 * HOUR + 24 * MINUTE),
];

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn mail(attempts: u32, useless_after: Option<Timestamp>) -> OutboxMail {
        OutboxMail {
            id: Uuid::from_u128(1),
            to: EmailAddress::parse("ada@example.com").unwrap(),
            kind: "reset_password".to_owned(),
            user_id: None,
            sealed: Vec::new(),
            created_at: NOW,
            useless_after,
            attempts,
            state: OutboxState::Waiting { next_at: NOW },
            last_error: None,
        }
    }

    #[test]
    fn attempts_follow_at_growing_intervals_until_a_day_has_passed() {
        let mut now = NOW;
        let mut minutes = Vec::new();
        let mut attempts = 1;
        while let AfterFailure::Keep(OutboxState::Waiting { next_at }) =
            mail(attempts, None).after_failure(false, now)
        {
            now = next_at;
            minutes.push(now.since(NOW).as_secs() / MINUTE);
            attempts += 1;
        }
        assert_eq!(minutes, [1, 6, 36, 156, 516, 876, 1_236, 1_440]);
        let dead = AfterFailure::Keep(OutboxState::Dead { since: now });
        assert_eq!(mail(attempts, None).after_failure(false, now), dead);
        assert_eq!(mail(u32::MAX, None).after_failure(false, now), dead);
    }

    #[test]
    fn a_permanent_failure_makes_a_dead_letter_at_once() {
        let dead = AfterFailure::Keep(OutboxState::Dead { since: NOW });
        assert_eq!(mail(1, None).after_failure(true, NOW), dead);
        assert_eq!(mail(1, Some(NOW)).after_failure(true, NOW), dead, "the operator sees refused addresses");
    }

    #[test]
    fn a_mail_whose_link_will_have_expired_is_dropped() {
        let in_a_minute = NOW + Duration::from_secs(MINUTE);
        let just_in_time = in_a_minute + Duration::from_millis(1);
        let waiting = AfterFailure::Keep(OutboxState::Waiting { next_at: in_a_minute });
        assert_eq!(mail(1, Some(just_in_time)).after_failure(false, NOW), waiting);
        assert_eq!(mail(1, Some(in_a_minute)).after_failure(false, NOW), AfterFailure::Drop);
        assert!(!mail(1, Some(in_a_minute)).is_useless(NOW));
        assert!(mail(1, Some(in_a_minute)).is_useless(in_a_minute), "useless from that time on");
        assert!(!mail(1, None).is_useless(Timestamp::MAX));
    }

    #[test]
    fn the_delay_of_a_mail_that_nobody_has_claimed_is_the_first() {
        assert_eq!(retry_delay(0), retry_delay(1));
    }
}
