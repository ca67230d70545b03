//! Noting in memory which generations are in use, without delaying requests.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, TryLockError};

use countersign_jwt::id::{Generation, SessionId, UserId};

use crate::model::decide::Acknowledgement;

/// Generations that were seen in use and are not yet written to the store.
///
/// The notes are best effort by design: their number is bounded, and if two requests come at the same instant, one is
/// not noted. Losing half of all acknowledgements changes nothing that the rules of refresh promise.
#[derive(Debug, Default)]
pub struct Acknowledgements {
    pending: Mutex<Vec<Acknowledgement>>,
    known: Known,
}

impl Acknowledgements {
    /// The most acknowledgements that wait to be written. Further ones are dropped.
    pub const PENDING: usize = 10_000;

    /// Notes that a token of this generation was seen in use. The call never waits.
    pub fn note(&self, user_id: &UserId, session_id: SessionId, generation: Generation) {
        if self.known.contains(session_id, generation) {
            return;
        }
        let mut pending = match self.pending.try_lock() {
            Ok(pending) => pending,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if pending.len() >= Self::PENDING {
            return;
        }
        pending.push(Acknowledgement { user_id: user_id.clone(), session_id, generation });
        self.known.insert(session_id, generation);
    }

    /// Takes out the acknowledgements that wait to be written, each once.
    #[must_use]
    pub fn take(&self) -> Vec<Acknowledgement> {
        let pending = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        // A generation that others had pushed out of the table may have been noted twice.
        pending.into_iter().collect::<HashSet<_>>().into_iter().collect()
    }

    /// Forgets which generations were noted lately, so that they are noted again. It is called after a write has
    /// failed.
    pub fn forget(&self) {
        self.known.clear();
    }
}

/// The generations that were noted lately, so that a token that is used a thousand times is written down once. It is a
/// table of small sets that takes no lock and never grows. A new generation replaces an older one of its set, which is
/// then noted again if it is still in use.
#[derive(Debug, Default)]
struct Known {
    sets: OnceLock<Box<[Set]>>,
}

/// Tags of the generations that fall into this set; 0 where there is none.
type Set = [AtomicU32; WAYS];

impl Known {
    fn contains(&self, session_id: SessionId, generation: Generation) -> bool {
        let Some(sets) = self.sets.get() else { return false };
        let (set, tag) = find(sets, session_id, generation);
        set.is_some_and(|set| set.iter().any(|known| known.load(Ordering::Relaxed) == tag))
    }

    fn insert(&self, session_id: SessionId, generation: Generation) {
        let sets = self.sets.get_or_init(|| (0..SETS).map(|_| Set::default()).collect());
        let (Some(set), tag) = find(sets, session_id, generation) else { return };
        let free = set.iter().find(|known| known.load(Ordering::Relaxed) == 0);
        let any = set.get(usize::try_from(tag).unwrap_or_default() % WAYS);
        if let Some(place) = free.or(any) {
            place.store(tag, Ordering::Relaxed);
        }
    }

    fn clear(&self) {
        for known in self.sets.get().into_iter().flatten().flatten() {
            known.store(0, Ordering::Relaxed);
        }
    }
}

/// The set of a generation, and its tag in that set. Session ids are random, so their bits need no keyed hash. Two
/// generations share set and tag, so that one of them goes unnoted, with a probability of 2^-47.
fn find(sets: &[Set], session_id: SessionId, generation: Generation) -> (Option<&Set>, u32) {
    let (high, low) = session_id.as_uuid().as_u64_pair();
    let mixed = (high ^ low.rotate_left(32) ^ u64::from(generation.as_u32())).wrapping_mul(MIX);
    let set = usize::try_from(mixed >> 32).unwrap_or_default() % SETS;
    let tag = u32::try_from(mixed & u64::from(u32::MAX)).unwrap_or_default();
    (sets.get(set), tag.max(1))
}

const WAYS: usize = 4;

/// Room for 131,072 generations in half a megabyte, which is allocated with the first note.
const SETS: usize = 1 << 15;

/// 2^64 divided by the golden ratio, which spreads the low bits over the high ones.
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn note(acks: &Acknowledgements, session: u128, generation: u32) {
        let user = UserId::new("ada").unwrap();
        acks.note(&user, SessionId::new(Uuid::from_u128(session)), Generation::new(generation));
    }

    #[test]
    fn a_generation_is_written_once_however_often_it_is_seen() {
        let acks = Acknowledgements::default();
        note(&acks, 1, 1);
        note(&acks, 1, 1);
        assert_eq!(acks.take().len(), 1);
        note(&acks, 1, 1);
        assert!(acks.take().is_empty());
        note(&acks, 1, 2);
        assert_eq!(acks.take().len(), 1);
    }

    #[test]
    fn a_failed_write_is_tried_again_when_the_token_is_seen_again() {
        let acks = Acknowledgements::default();
        note(&acks, 1, 1);
        let _lost = acks.take();
        acks.forget();
        note(&acks, 1, 1);
        assert_eq!(acks.take().len(), 1);
    }

    #[test]
    fn what_waits_is_bounded() {
        let acks = Acknowledgements::default();
        for session in 0..30_000 {
            note(&acks, session, 1);
        }
        assert_eq!(acks.take().len(), Acknowledgements::PENDING);
    }
}
