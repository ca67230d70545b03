//! Turns: concurrent calls of one user run one after the other.

use std::hash::{BuildHasher as _, RandomState};

use countersign_jwt::id::UserId;
use tokio::sync::{Mutex, MutexGuard};

/// The number of users who may have their turn at the same time.
const TURNS: u64 = 64;

/// Lets calls of one user through one by one. Two users sometimes share a turn.
#[derive(Debug)]
pub(super) struct Turns {
    hash: RandomState,
    turns: Box<[Mutex<()>]>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { hash: RandomState::new(), turns: (0..TURNS).map(|_| Mutex::new(())).collect() }
    }
}

impl Turns {
    /// Waits for the user's turn, which lasts as long as the guard is held.
    pub(super) async fn wait(&self, user_id: &UserId) -> Option<MutexGuard<'_, ()>> {
        let number = self.hash.hash_one(user_id) % TURNS;
        let turn = usize::try_from(number).ok().and_then(|number| self.turns.get(number))?;
        Some(turn.lock().await)
    }
}
