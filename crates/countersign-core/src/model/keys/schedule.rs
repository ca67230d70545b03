//! The schedule by which keys are replaced automatically.

use std::time::Duration;

use countersign_jwt::time::Timestamp;

use crate::model::keys::active;
use crate::model::{KeyPurpose, StoredKey};

/// The schedule by which the keys of a store are replaced. Two durations and the store's rows decide, so that all nodes
/// come to the same step without telling each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Schedule {
    /// The time for which a key signs.
    pub every: Duration,
    /// The time for which its successor is published before it signs, so that every verifier knows it then.
    pub ahead: Duration,
}

/// The step to be taken with the keys of one purpose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// No key is to be made yet.
    Wait,
    /// A key is to be made that signs from `active_at` on.
    Add {
        /// The time from which on the key signs.
        active_at: Timestamp,
    },
}

impl Schedule {
    /// The step that these keys need at `now`.
    ///
    /// Nodes whose clocks differ by less than `ahead` see each other's new key as the one that they would make. A clock
    /// that says that the signing key is not in use yet is wrong, and no key is made by a wrong clock.
    #[must_use]
    pub fn step(&self, purpose: KeyPurpose, stored: &[StoredKey], now: Timestamp) -> Step {
        let Some(signing) = active(stored, purpose, now).filter(|key| key.active_at <= now) else {
            return Step::Wait;
        };
        let due = signing.active_at + self.every;
        if now + self.ahead < due {
            return Step::Wait;
        }
        // The time is later than due if no node was there to make the key in time.
        let active_at = due.max(now + self.ahead);
        match waiting(stored, purpose, now, active_at + self.ahead) {
            Some(_) => Step::Wait,
            None => Step::Add { active_at },
        }
    }
}

/// The key that waits for its turn, if the turn comes until then, and does not sign already. A clock that was far ahead
/// may have left a key that waits for years; it must not keep others from being made.
pub(crate) fn waiting(
    stored: &[StoredKey],
    purpose: KeyPurpose,
    now: Timestamp,
    until: Timestamp,
) -> Option<&StoredKey> {
    let signing = active(stored, purpose, now).map(|key| &key.key_id);
    stored
        .iter()
        .filter(|key| key.purpose == purpose && key.removed_at.is_none() && Some(&key.key_id) != signing)
        .find(|key| key.active_at > now && key.active_at <= until)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::KeyState;
    use crate::model::key_state;
    use countersign_jwt::key::{Algorithm, KeyId};

    const DAY: Duration = Duration::from_secs(86_400);
    const AHEAD: Duration = Duration::from_secs(620);
    const OVERLAP: Duration = Duration::from_secs(1_530);
    const START: Timestamp = Timestamp::from_secs(1_769_860_800);
    const SCHEDULE: Schedule = Schedule { every: Duration::from_secs(90 * 86_400), ahead: AHEAD };

    fn key(number: u32, active_at: Timestamp) -> StoredKey {
        StoredKey {
            purpose: KeyPurpose::Access,
            number,
            key_id: KeyId::new(&format!("key-{number}")).unwrap(),
            algorithm: Algorithm::EdDsa,
            sealed: Vec::new(),
            created_at: active_at,
            active_at,
            removed_at: None,
        }
    }

    fn step(keys: &[StoredKey], now: Timestamp) -> Step {
        SCHEDULE.step(KeyPurpose::Access, keys, now)
    }

    /// Does what a node does: asks for the step, and inserts the key unless its number is taken.
    fn tick(keys: &mut Vec<StoredKey>, now: Timestamp) -> bool {
        let Step::Add { active_at } = step(keys, now) else { return false };
        let number = u32::try_from(keys.len()).unwrap() + 1;
        keys.push(StoredKey { created_at: now, ..key(number, active_at) });
        true
    }

    #[test]
    fn a_successor_is_made_so_early_that_everybody_knows_it_when_it_signs() {
        let keys = [key(1, START)];
        let due = START + SCHEDULE.every;
        let early = due - AHEAD;
        for (case, now, expected) in [
            ("new", START, Step::Wait),
            ("just before", early - Duration::from_millis(1), Step::Wait),
            ("in time", early, Step::Add { active_at: due }),
            ("a bit late", early + DAY, Step::Add { active_at: early + DAY + AHEAD }),
            ("a year late", START + 455 * DAY, Step::Add { active_at: START + 455 * DAY + AHEAD }),
        ] {
            assert_eq!(step(&keys, now), expected, "{case}");
        }
        assert_eq!(step(&[], START), Step::Wait, "the first key is made at the start");
        let other_purpose = StoredKey { purpose: KeyPurpose::Refresh, ..key(1, START) };
        assert_eq!(step(&[other_purpose], due), Step::Wait);
    }

    #[test]
    fn over_two_years_of_hourly_ticks_there_is_one_key_a_quarter_and_always_one_that_signs() {
        let mut keys = vec![key(1, START)];
        let mut made = Vec::new();
        for hour in 0..24 * 730 {
            let now = START + Duration::from_secs(3_600) * hour;
            if tick(&mut keys, now) {
                made.push(hour / 24);
            }
            let states: Vec<_> = keys.iter().map(|key| key_state(key, &keys, now, OVERLAP)).collect();
            let count = |wanted| states.iter().filter(|state| **state == wanted).count();
            assert_eq!(count(KeyState::Active), 1, "hour {hour}: {states:?}");
            assert!(count(KeyState::Next) + count(KeyState::Retiring) <= 1, "hour {hour}: {states:?}");
        }
        assert_eq!(made, [90, 180, 270, 360, 450, 540, 630, 720]);
        for pair in keys.windows(2) {
            let [before, after] = pair else { unreachable!("windows of two") };
            let signed_for = after.active_at.since(before.active_at);
            assert!(
                SCHEDULE.every <= signed_for
                    && signed_for < SCHEDULE.every + Duration::from_secs(3_600 + 620)
            );
            assert!(after.active_at.since(after.created_at) >= AHEAD, "published before it signs");
        }
    }

    #[test]
    fn nodes_whose_clocks_differ_make_one_key_between_them() {
        // For every skew and every order of the nodes, in time and late, the second node finds the first one's key.
        for late in [Duration::ZERO, Duration::from_millis(1), DAY, 400 * DAY] {
            for skew_secs in [0, 1, 5, 30, 300, 619] {
                let skew = Duration::from_secs(skew_secs);
                let now = START + SCHEDULE.every - AHEAD + late;
                for (first, second) in [(now, now + skew), (now + skew, now)] {
                    let mut keys = vec![key(1, START)];
                    assert!(tick(&mut keys, first));
                    assert!(!tick(&mut keys, second), "late {late:?}, skew {skew:?}");
                }
            }
        }
    }

    #[test]
    fn a_clock_that_was_wrong_for_a_while_costs_at_most_one_key_and_stops_no_rotation() {
        // The clock is ten years ahead, then right again.
        let mut keys = vec![key(1, START)];
        assert!(tick(&mut keys, START + 3_650 * DAY));
        assert!(!tick(&mut keys, START + 3_650 * DAY));
        assert!(!tick(&mut keys, START + DAY), "back again, nothing is due");
        let signing = |keys: &[StoredKey], now| {
            let active: Vec<_> =
                keys.iter().filter(|key| key_state(key, keys, now, OVERLAP) == KeyState::Active).collect();
            assert_eq!(active.len(), 1);
            active[0].number
        };
        assert_eq!(signing(&keys, START + DAY), 1);
        assert!(tick(&mut keys, START + SCHEDULE.every), "the one that waits for years does not count");
        assert_eq!(signing(&keys, START + SCHEDULE.every + AHEAD), 3);

        // The clock shows a time before the first key was made, as on a machine without a battery. No key is made at
        // any such time.
        let mut keys = vec![key(1, START)];
        for days in [0, 1, 100, 9_000] {
            assert!(!tick(&mut keys, Timestamp::MIN + days * DAY));
        }
        assert_eq!(signing(&keys, Timestamp::MIN), 1, "there is always one that signs");

        // The clock goes forth and back over the moment at which the successor takes over.
        let due = START + SCHEDULE.every;
        let mut keys = vec![key(1, START)];
        assert!(tick(&mut keys, due - AHEAD));
        for (now, expected) in [(due, 2), (due - Duration::from_secs(30), 1), (due, 2)] {
            assert!(!tick(&mut keys, now));
            assert_eq!(signing(&keys, now), expected);
        }
    }

    #[test]
    fn a_key_that_was_made_by_hand_or_removed_moves_the_schedule() {
        let rotated = START + 30 * DAY;
        let by_hand = [key(1, START), key(2, rotated)];
        assert_eq!(step(&by_hand, START + SCHEDULE.every), Step::Wait);
        let due = rotated + SCHEDULE.every;
        assert_eq!(step(&by_hand, due - AHEAD), Step::Add { active_at: due });

        // A waiting key was removed, so another one is made in its place.
        let due = START + SCHEDULE.every;
        let removed = StoredKey { removed_at: Some(due - AHEAD), ..key(2, due) };
        assert_eq!(
            step(&[key(1, START), removed], due - AHEAD / 2),
            Step::Add { active_at: due - AHEAD / 2 + AHEAD }
        );
    }
}
