//! Turns, within this process.

use std::hash::{BuildHasher, RandomState};

use tokio::sync::{Mutex, MutexGuard};

/// Lets operations of one process that change the same documents run one after the other. Those of other processes are
/// kept apart by the conditions of the updates. Not many keys share a lock, so nobody waits long for a stranger.
#[derive(Debug)]
pub(crate) struct Locks {
    stripes: Vec<Mutex<()>>,
    hasher: RandomState,
}

/// Which other operations an operation must not run beside.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn<'a> {
    /// None.
    Any,
    /// Those of the same key.
    Always(&'a str),
    /// Those of the same key, where the engine does not settle races between updates by itself. So a single node is exact
    /// there too.
    IfWeak(&'a str),
    /// All, where the engine does not settle races.
    OfAllIfWeak,
}

impl Locks {
    pub(crate) fn new() -> Self {
        Self {
            stripes: std::iter::repeat_with(Mutex::default).take(256).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Waits for the turn, which lasts as long as what is returned.
    pub(crate) async fn wait(&self, turn: Turn<'_>, is_weak: bool) -> Vec<MutexGuard<'_, ()>> {
        let stripes = match turn {
            Turn::Always(key) => self.stripe(key),
            Turn::IfWeak(key) if is_weak => self.stripe(key),
            // In this order by all, so that no two wait for each other.
            Turn::OfAllIfWeak if is_weak => self.stripes.as_slice(),
            Turn::Any | Turn::IfWeak(_) | Turn::OfAllIfWeak => &[],
        };
        let mut turn = Vec::with_capacity(stripes.len());
        for stripe in stripes {
            turn.push(stripe.lock().await);
        }
        turn
    }

    fn stripe(&self, key: &str) -> &[Mutex<()>] {
        let hash = usize::try_from(self.hasher.hash_one(key) >> 32).unwrap_or(0);
        let stripe = hash % self.stripes.len().max(1);
        self.stripes.get(stripe..=stripe).unwrap_or_default()
    }
}
