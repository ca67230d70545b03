//! Turns, within this process.

use std::hash::{BuildHasher, RandomState};

use tokio::sync::{Mutex, MutexGuard};

/// Lets the callers of one process that are about to change the same document do so one after the other. Those of
/// other processes are kept apart by the conditions of the updates. Not many keys share a lock, so nobody waits long for
/// a stranger.
#[derive(Debug)]
pub(crate) struct Locks {
    stripes: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl Locks {
    pub(crate) fn new() -> Self {
        Self {
            stripes: std::iter::repeat_with(Mutex::default).take(256).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Waits for this key's turn. Who has one asks for no other.
    pub(crate) async fn one(&self, key: &str) -> Option<MutexGuard<'_, ()>> {
        let hash = usize::try_from(self.hasher.hash_one(key) >> 32).unwrap_or(0);
        match self.stripes.get(hash % self.stripes.len().max(1)) {
            Some(stripe) => Some(stripe.lock().await),
            None => None,
        }
    }

    /// Waits for the turn of all keys.
    pub(crate) async fn all(&self) -> Vec<MutexGuard<'_, ()>> {
        let mut all = Vec::with_capacity(self.stripes.len());
        for stripe in &self.stripes {
            all.push(stripe.lock().await);
        }
        all
    }
}
