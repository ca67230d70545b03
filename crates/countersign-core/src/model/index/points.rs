//! The table of revoked tokens and ended sessions.

use std::sync::atomic::{AtomicU64, Ordering};

use countersign_jwt::time::Timestamp;

use crate::model::index::fingerprint::Point;
use crate::model::index::seconds::{is_over, pack, unpack};
use crate::model::index::table::{Slot, Table};

/// Revoked tokens and ended sessions, 16 bytes each. A clone is the same table.
#[derive(Clone, Default)]
pub(super) struct Points {
    table: Table<PointSlot>,
}

#[derive(Default)]
struct PointSlot {
    fingerprint: AtomicU64,
    /// The other 32 bits of the hash, and the time until which the entry matters.
    rest: AtomicU64,
}

impl Slot for PointSlot {
    fn fingerprint(&self) -> &AtomicU64 {
        &self.fingerprint
    }
}

impl Points {
    /// Whether there may be a slot of this token or session (see [`Table::may_hold`]).
    pub(super) fn may_contain(&self, point: &Point<'_>) -> bool {
        self.table.may_hold(point.fingerprint())
    }

    pub(super) fn contains(&self, point: &Point<'_>) -> bool {
        self.find(point).is_some()
    }

    pub(super) fn is_full(&self, entries: usize) -> bool {
        self.table.is_full(entries)
    }

    /// The number of entries that no longer matter at `now`.
    pub(super) fn expired(&self, now: Timestamp) -> usize {
        self.table.filled().filter(|(_, slot)| is_over(slot.until(), now)).count()
    }

    /// Takes in a token or session; returns whether it is new. Only one thread may call this at a time, and the table
    /// must not be full.
    pub(super) fn insert(&self, point: &Point<'_>, until: u32) -> bool {
        self.table.expect(point.fingerprint());
        if let Some(slot) = self.find(point) {
            if until > slot.until() {
                slot.rest.store(pack(point.more(), until), Ordering::Relaxed);
            }
            return false;
        }
        self.add(point.fingerprint(), pack(point.more(), until));
        true
    }

    /// A copy of the table, larger or smaller, and how many entries it has. With `forget` it has the entries that still
    /// matter at that time; without, it has all of them.
    pub(super) fn rebuilt(&self, forget: Option<Timestamp>) -> (Self, usize) {
        let kept =
            || self.table.filled().filter(|(_, slot)| forget.is_none_or(|now| !is_over(slot.until(), now)));
        let entries = kept().count();
        if entries == 0 && forget.is_some() {
            return (Self::default(), 0);
        }
        let rebuilt = Self { table: Table::for_entries(entries) };
        for (fingerprint, slot) in kept() {
            rebuilt.add(fingerprint, slot.rest.load(Ordering::Relaxed));
        }
        (rebuilt, entries)
    }

    fn find(&self, point: &Point<'_>) -> Option<&PointSlot> {
        self.table.with(point.fingerprint()).find(|slot| slot.more() == point.more())
    }

    fn add(&self, fingerprint: u64, rest: u64) {
        self.table.add(fingerprint, |slot| slot.rest.store(rest, Ordering::Relaxed));
    }
}

impl PointSlot {
    fn more(&self) -> u32 {
        unpack(self.rest.load(Ordering::Relaxed)).0
    }

    fn until(&self) -> u32 {
        unpack(self.rest.load(Ordering::Relaxed)).1
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use uuid::Uuid;

    use super::super::fingerprint::Subject;
    use super::*;
    use countersign_jwt::id::{TokenId, UserId};

    #[test]
    fn ids_that_somebody_chose_do_not_meet_in_one_place() {
        let key = RandomState::new();
        let user = Subject::new(&key, &UserId::new("mallory").unwrap());
        for (case, id) in [
            ("sequential", (|number| number) as fn(u128) -> u128),
            ("equal low halves", |number| number << 64),
            ("equal high bits and low bits", |number| number << 48),
        ] {
            let point = |number: u128| user.token(TokenId::new(Uuid::from_u128(id(number))));
            let (mut points, mut entries) = (Points::default(), 0);
            // The ids are numbered from the nil id on.
            for number in 0..100_000 {
                if points.is_full(entries) {
                    (points, entries) = points.rebuilt(None);
                }
                entries += usize::from(points.insert(&point(number), 1));
            }
            assert_eq!(entries, 100_000);
            let lookups = 0..200_000;
            let counts: Vec<_> =
                lookups.map(|number| points.table.probes(point(number).fingerprint())).collect();
            // The average of a full table is 8.5; a run of 1000 has a probability of 10^-11.
            assert!(counts.iter().sum::<usize>() < 16 * counts.len(), "{case}");
            assert!(counts.iter().all(|probes| *probes < 1_000), "{case}");
        }
    }

    #[test]
    fn one_that_comes_again_stays_until_the_later_of_both() {
        let key = RandomState::new();
        let user = Subject::new(&key, &UserId::new("ada").unwrap());
        let points = Points::default().rebuilt(None).0;
        let point = user.token(TokenId::new(Uuid::nil()));
        for (until, new, stays_until) in [(5, true, 5), (3, false, 5), (9, false, 9)] {
            assert_eq!(points.insert(&point, until), new);
            assert_eq!(points.expired(Timestamp::from_secs(stays_until - 1)), 0);
            assert_eq!(points.expired(Timestamp::from_secs(stays_until)), 1);
        }
    }

    #[test]
    fn half_a_hash_does_not_revoke() {
        let key = RandomState::new();
        let user = |name: &str| Subject::new(&key, &UserId::new(name).unwrap());
        let points = Points::default().rebuilt(None).0;
        let (ada, bob) = (user("ada"), user("bob"));
        let nil = TokenId::new(Uuid::nil());
        points.add(ada.token(nil).fingerprint(), pack(bob.token(nil).more(), 1));
        assert!(!points.contains(&ada.token(nil)));
        points.insert(&ada.token(nil), 1);
        assert!(points.contains(&ada.token(nil)));
    }
}
