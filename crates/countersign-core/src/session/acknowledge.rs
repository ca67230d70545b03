//! Learning which generations are in use, off the request's way.

use std::collections::HashSet;
use std::sync::{Mutex, TryLockError};

use super::decide::Acknowledgement;
use crate::id::{Generation, SessionId, UserId};

/// Generations that were seen in use and not yet written down.
///
/// Best effort by design: bounded, and where two requests come at the same instant one is not noted. Losing half
/// of all acknowledgements changes nothing that the rules of refresh promise.
#[derive(Debug, Default)]
pub struct Acknowledgements {
    sets: Mutex<Sets>,
}

#[derive(Debug, Default)]
struct Sets {
    pending: HashSet<Acknowledgement>,
    /// Noted lately, so that a token used a thousand times is written down once. Two halves: when the younger is
    /// full it becomes the older.
    known: HashSet<(SessionId, Generation)>,
    known_before: HashSet<(SessionId, Generation)>,
}

impl Acknowledgements {
    /// At most this many wait to be written; more are dropped.
    pub const PENDING: usize = 10_000;
    const KNOWN: usize = 20_000;

    /// Notes that a token of this generation was seen. Never waits.
    pub fn note(&self, user_id: &UserId, session_id: SessionId, generation: Generation) {
        let mut sets = match self.sets.try_lock() {
            Ok(sets) => sets,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let seen = (session_id, generation);
        if sets.known.contains(&seen)
            || sets.known_before.contains(&seen)
            || sets.pending.len() >= Self::PENDING
        {
            return;
        }
        if sets.known.len() >= Self::KNOWN {
            sets.known_before = std::mem::take(&mut sets.known);
        }
        sets.known.insert(seen);
        sets.pending.insert(Acknowledgement { user_id: user_id.clone(), session_id, generation });
    }

    /// What waits to be written, which then no longer waits.
    #[must_use]
    pub fn take(&self) -> Vec<Acknowledgement> {
        let mut sets = self.sets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        sets.pending.drain().collect()
    }

    /// Forgets what was noted lately, so that it will be noted again: a write has failed.
    pub fn forget(&self) {
        let mut sets = self.sets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        sets.known.clear();
        sets.known_before.clear();
    }
}

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
