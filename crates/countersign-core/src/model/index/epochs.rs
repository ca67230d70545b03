//! The table of raised epochs.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign_jwt::id::Epoch;
use countersign_jwt::time::Timestamp;

use crate::model::index::fingerprint::{Point, Subject};
use crate::model::index::seconds::{is_over, pack, unpack};
use crate::model::index::table::{Slot, Table};

/// Users' raised epochs, in one slot of 32 bytes for a user and an excepted session. A clone is the same table.
///
/// What a slot says stays true: all sessions of the user but the excepted one are of that epoch at least. A reader may
/// therefore see any mixture of the slots before and after an insert that is under way.
#[derive(Clone, Default)]
pub(super) struct Epochs {
    table: Table<EpochSlot>,
}

/// A raise of a user's epoch.
#[derive(Clone, Copy)]
pub(super) struct Raise {
    /// The epoch after the raise.
    pub(super) epoch: Epoch,
    /// The session that lives on, if there is one.
    pub(super) except: Excepted,
    /// The time of the raise, in seconds rounded down.
    pub(super) at: u32,
    /// The time until which the raise matters, in seconds rounded up.
    pub(super) until: u32,
}

/// The session that a raise excepts, if it excepts one.
///
/// The session is kept as 48 bits of its fingerprint. Another session of the user is taken for it with a probability of
/// 2^-48.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) struct Excepted(u64);

/// The number of slots that a user exceeds only for a moment, because they are looked at one by one.
pub(super) const MOST_OF_A_USER: usize = 8;

/// The number of a user's slots that decide (see [`Epochs::rebuilt`]).
pub(super) const DECIDING: usize = 2;

#[derive(Default)]
struct EpochSlot {
    user: AtomicU64,
    /// The excepted session, and 16 bits more of the user. The value never changes while the slot is in use.
    except_and_user: AtomicU64,
    epoch: AtomicU64,
    /// `at` and `until`, which are the same in all slots of the user when nobody writes.
    times: AtomicU64,
}

/// The content of a slot.
struct Row {
    user: u64,
    except_and_user: u64,
    epoch: Epoch,
    at: u32,
    until: u32,
}

impl Slot for EpochSlot {
    fn fingerprint(&self) -> &AtomicU64 {
        &self.user
    }
}

impl Excepted {
    pub(super) const NONE: Self = Self(0);

    pub(super) fn session(session: &Point<'_>) -> Self {
        Self((session.fingerprint() >> u16::BITS).max(1))
    }

    fn with(self, user: &Subject<'_>) -> u64 {
        self.0 << u16::BITS | u64::from(user.more())
    }
}

impl Epochs {
    /// Whether there may be a slot of the user (see [`Table::may_hold`]).
    pub(super) fn may_contain(&self, user: &Subject<'_>) -> bool {
        self.table.may_hold(user.fingerprint())
    }

    /// The lowest epoch that a session of the user must have: the highest one that does not except it.
    pub(super) fn for_session(&self, user: &Subject<'_>, session: &Point<'_>) -> Epoch {
        let session = Excepted::session(session);
        let binding = self.of_user(user).filter(|slot| slot.except() != session);
        binding.map(EpochSlot::epoch).max().unwrap_or(Epoch::FIRST)
    }

    /// The time at which the user's epoch was last raised.
    pub(super) fn raised_at(&self, user: &Subject<'_>) -> Option<u32> {
        self.of_user(user).map(|slot| slot.times().0).max()
    }

    pub(super) fn is_full(&self, entries: usize) -> bool {
        self.table.is_full(entries)
    }

    /// The number of slots that no longer matter at `now`.
    pub(super) fn expired(&self, now: Timestamp) -> usize {
        self.table.filled().filter(|(_, slot)| is_over(slot.times().1, now)).count()
    }

    /// Takes in a raise. If that needs a slot, returns how many the user has now. Only one thread may call this at a
    /// time, and the table must not be full.
    pub(super) fn insert(&self, user: &Subject<'_>, raise: &Raise) -> Option<usize> {
        self.table.expect(user.fingerprint());
        // All of a user's entries matter as long as the last of them, and for tokens without a session the last raise
        // counts, whatever the order in which the entries come.
        let (at, until) = self
            .of_user(user)
            .map(EpochSlot::times)
            .fold((raise.at, raise.until), |(at, until), times| (at.max(times.0), until.max(times.1)));
        let (mut slots, mut as_high, mut known) = (0, 0, false);
        for slot in self.of_user(user) {
            slot.times.store(pack(at, until), Ordering::Relaxed);
            if slot.except() == raise.except {
                known = true;
                slot.epoch.fetch_max(raise.epoch.as_u64(), Ordering::Relaxed);
            }
            slots += 1;
            as_high += usize::from(slot.epoch() >= raise.epoch);
        }
        // Two slots that are as high and except different sessions say all that this one says.
        if known || as_high >= DECIDING {
            return None;
        }
        let except_and_user = raise.except.with(user);
        self.add(&Row { user: user.fingerprint(), except_and_user, epoch: raise.epoch, at, until });
        Some(slots + 1)
    }

    /// A copy of the table, larger or smaller, and how many of its slots are in use. With `forget` it has the users
    /// whose entries still matter at that time; without, it has all users.
    ///
    /// Of each user the copy keeps the highest epoch and the next one, which excepts another session. For any session,
    /// one of the two is the highest that does not except it.
    pub(super) fn rebuilt(&self, forget: Option<Timestamp>) -> (Self, usize) {
        let mut rows: Vec<Row> = self
            .table
            .filled()
            .map(|(user, slot)| slot.row(user))
            .filter(|row| forget.is_none_or(|now| !is_over(row.until, now)))
            .collect();
        // The filled slots come in the order of their places, which is by user, so they are almost sorted.
        rows.sort_by_key(|row| (row.of(), Reverse(row.epoch)));
        let deciding =
            || rows.chunk_by(|a, b| a.of() == b.of()).flat_map(|of_user| of_user.iter().take(DECIDING));
        let entries = deciding().count();
        if entries == 0 && forget.is_some() {
            return (Self::default(), 0);
        }
        let rebuilt = Self { table: Table::for_entries(entries) };
        deciding().for_each(|row| rebuilt.add(row));
        (rebuilt, entries)
    }

    fn of_user(&self, user: &Subject<'_>) -> impl Iterator<Item = &EpochSlot> {
        self.table.with(user.fingerprint()).filter(|slot| slot.user_more() == user.more())
    }

    fn add(&self, row: &Row) {
        self.table.add(row.user, |slot| {
            slot.except_and_user.store(row.except_and_user, Ordering::Relaxed);
            slot.epoch.store(row.epoch.as_u64(), Ordering::Relaxed);
            slot.times.store(pack(row.at, row.until), Ordering::Relaxed);
        });
    }
}

impl EpochSlot {
    fn except(&self) -> Excepted {
        Excepted(self.except_and_user.load(Ordering::Relaxed) >> u16::BITS)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
    fn user_more(&self) -> u16 {
        self.except_and_user.load(Ordering::Relaxed) as u16
    }

    fn epoch(&self) -> Epoch {
        Epoch::new(self.epoch.load(Ordering::Relaxed))
    }

    /// The time at which the epoch was raised, and the time until which that matters.
    fn times(&self) -> (u32, u32) {
        unpack(self.times.load(Ordering::Relaxed))
    }

    fn row(&self, user: u64) -> Row {
        let (at, until) = self.times();
        let except_and_user = self.except_and_user.load(Ordering::Relaxed);
        Row { user, except_and_user, epoch: self.epoch(), at, until }
    }
}

impl Row {
    /// All that is known of the user.
    #[expect(clippy::cast_possible_truncation, reason = "the low bits are wanted")]
    fn of(&self) -> (u64, u16) {
        (self.user, self.except_and_user as u16)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use uuid::Uuid;

    use super::*;
    use countersign_jwt::id::{SessionId, UserId};

    fn ada(key: &RandomState) -> Subject<'_> {
        Subject::new(key, &UserId::new("ada").unwrap())
    }

    #[test]
    fn what_two_higher_ones_say_takes_no_slot() {
        let key = RandomState::new();
        let epochs = Epochs::default().rebuilt(None).0;
        let session = |number| Excepted::session(&ada(&key).session(SessionId::new(Uuid::from_u128(number))));
        for (epoch, except, slots, case) in [
            (5, session(1), Some(1), "the first"),
            (4, session(1), None, "lower, with the same exception"),
            (3, session(2), Some(2), "lower, with another exception"),
            (4, session(3), Some(3), "lower than only one"),
            (4, session(4), None, "not higher than two"),
            (2, Excepted::NONE, None, "lower than two, without exception"),
            (6, Excepted::NONE, Some(4), "the highest"),
            (6, session(2), None, "higher, with a known exception"),
        ] {
            let raise = Raise { epoch: Epoch::new(epoch), except, at: 1, until: 1 };
            assert_eq!(epochs.insert(&ada(&key), &raise), slots, "{case}");
        }
    }

    #[test]
    fn times_of_a_user_are_the_latest_of_all_its_entries() {
        let key = RandomState::new();
        let epochs = Epochs::default().rebuilt(None).0;
        let session = ada(&key).session(SessionId::new(Uuid::nil()));
        // The second entry came late and is lower, but was written later.
        for (epoch, except, at, until) in
            [(9, Excepted::NONE, 10, 20), (8, Excepted::session(&session), 15, 25)]
        {
            epochs.insert(&ada(&key), &Raise { epoch: Epoch::new(epoch), except, at, until });
        }
        assert_eq!(epochs.raised_at(&ada(&key)), Some(15));
        assert_eq!(epochs.expired(Timestamp::from_secs(24)), 0);
        assert_eq!(epochs.expired(Timestamp::from_secs(25)), 2);
        let (rebuilt, entries) = epochs.rebuilt(Some(Timestamp::from_secs(24)));
        assert_eq!((entries, rebuilt.raised_at(&ada(&key))), (2, Some(15)));
    }

    #[test]
    fn part_of_a_hash_is_not_a_user() {
        let key = RandomState::new();
        let epochs = Epochs::default().rebuilt(None).0;
        let (user, except_and_user) = (ada(&key).fingerprint(), u64::from(!ada(&key).more()));
        epochs.add(&Row { user, except_and_user, epoch: Epoch::new(1), at: 1, until: 1 });
        assert_eq!(epochs.raised_at(&ada(&key)), None);
        assert_eq!(
            epochs
                .insert(&ada(&key), &Raise { epoch: Epoch::new(2), except: Excepted::NONE, at: 2, until: 2 }),
            Some(1)
        );
        let (rebuilt, entries) = epochs.rebuilt(None);
        assert_eq!((entries, rebuilt.raised_at(&ada(&key))), (2, Some(2)));
    }
}
