//! One part of the index: the tables that readers see, and the lock for changing them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Guard};
use countersign_jwt::time::Timestamp;

use crate::model::index::epochs::{DECIDING, Epochs, MOST_OF_A_USER, Raise};
use crate::model::index::fingerprint::{Point, Subject};
use crate::model::index::points::Points;

/// The entries of some of the users. Readers take the tables as they are and never wait; a writer holds the lock.
#[derive(Default)]
pub(super) struct Shard {
    tables: ArcSwap<Tables>,
    written: Mutex<Written>,
}

/// The tables that readers see, which are always complete. A table that becomes too small, or mostly obsolete, is
/// replaced by a copy when the copy is complete; until then readers use the old one.
#[derive(Clone, Default)]
pub(super) struct Tables {
    pub(super) points: Points,
    pub(super) epochs: Epochs,
}

/// The tables as the writer sees them, with the number of slots in use.
#[derive(Default)]
struct Written {
    tables: Tables,
    points: usize,
    epochs: usize,
    /// The number of epochs that decide.
    deciding: usize,
}

/// The right to change a shard.
pub(super) struct Writer<'s> {
    seen: &'s ArcSwap<Tables>,
    written: MutexGuard<'s, Written>,
}

impl Shard {
    /// The tables with all entries whose insert has returned.
    pub(super) fn tables(&self) -> Guard<Arc<Tables>> {
        self.tables.load()
    }

    /// Waits for the right to change the part.
    pub(super) fn writer(&self) -> Writer<'_> {
        Writer { seen: &self.tables, written: self.lock() }
    }

    /// The number of entries in the part.
    pub(super) fn len(&self) -> usize {
        let written = self.lock();
        written.points + written.deciding
    }

    // No code that holds the lock can panic half way through a change, so the tables are whole even after a panic.
    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer<'_> {
    pub(super) fn insert_point(&mut self, point: &Point<'_>, until: u32) {
        // Growing drops nothing, because it does not know what time it is. The time that an earlier prune was told may
        // be later than now, because clocks are set back.
        if self.written.tables.points.is_full(self.written.points) {
            self.replace_points(None);
        }
        if self.written.tables.points.insert(point, until) {
            self.written.points += 1;
        }
    }

    pub(super) fn insert_epoch(&mut self, user: &Subject<'_>, raise: &Raise) {
        if self.written.tables.epochs.is_full(self.written.epochs) {
            self.replace_epochs(None);
        }
        let Some(of_user) = self.written.tables.epochs.insert(user, raise) else { return };
        self.written.epochs += 1;
        self.written.deciding += usize::from(of_user <= DECIDING);
        if of_user > MOST_OF_A_USER {
            self.replace_epochs(None);
        }
    }

    /// Forgets the entries that no longer matter at `now`, if they are worth a copy of the rest.
    pub(super) fn prune(&mut self, now: Timestamp) {
        if is_worth_a_copy(self.written.tables.points.expired(now), self.written.points) {
            self.replace_points(Some(now));
        }
        if is_worth_a_copy(self.written.tables.epochs.expired(now), self.written.epochs) {
            self.replace_epochs(Some(now));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.written.points + self.written.epochs == 0
    }

    fn replace_points(&mut self, forget: Option<Timestamp>) {
        (self.written.tables.points, self.written.points) = self.written.tables.points.rebuilt(forget);
        self.show();
    }

    fn replace_epochs(&mut self, forget: Option<Timestamp>) {
        (self.written.tables.epochs, self.written.epochs) = self.written.tables.epochs.rebuilt(forget);
        // Only the epochs that decide were copied.
        self.written.deciding = self.written.epochs;
        self.show();
    }

    /// Shows these tables to readers from now on.
    fn show(&self) {
        self.seen.store(self.written.tables.clone().into());
    }
}

/// Whether a copy is worth its cost, which it is if it leaves out an eighth of the slots. Below that, expired entries
/// stay; they revoke only tokens that have expired too.
fn is_worth_a_copy(expired: usize, used: usize) -> bool {
    expired > 0 && expired.saturating_mul(8) >= used
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use uuid::Uuid;

    use super::super::epochs::Excepted;
    use super::*;
    use countersign_jwt::id::{Epoch, SessionId, UserId};

    #[test]
    fn a_user_who_raises_the_epoch_from_many_sessions_keeps_few_slots() {
        let (shard, key, later) = (Shard::default(), RandomState::new(), Timestamp::from_secs(2));
        let ada = Subject::new(&key, &UserId::new("ada").unwrap());
        let session = |number: u64| ada.session(SessionId::new(Uuid::from_u128(number.into())));
        for number in 1..=1_000 {
            let except = Excepted::session(&session(number));
            let raise = Raise { epoch: Epoch::new(number), except, at: 1, until: 2 };
            shard.writer().insert_epoch(&ada, &raise);
            let used = shard.writer().written.epochs;
            assert!(used <= MOST_OF_A_USER);
            assert_eq!(shard.tables().epochs.expired(later), used);
            assert_eq!(shard.len() as u64, number.min(2));
            let bound = |session| shard.tables().epochs.for_session(&ada, &session);
            assert_eq!(bound(session(number)), Epoch::new(number - 1));
            assert_eq!(bound(session(number + 1)), Epoch::new(number));
        }
        shard.writer().prune(later);
        assert!(shard.writer().is_empty() && !shard.tables().epochs.may_contain(&ada));
    }
}
