//! Locks that make operations within this process take turns.

use std::hash::{BuildHasher, RandomState};

use tokio::sync::{Mutex, MutexGuard};

/// Makes operations of one process that change the same documents run one after the other. Operations of other
/// processes are kept apart by the conditions of the updates. Few keys share a lock, so an operation rarely waits for
/// one with another key.
#[derive(Debug)]
pub(crate) struct Locks {
    stripes: Vec<Mutex<()>>,
    hasher: RandomState,
}

/// The other operations beside which an operation must not run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn<'a> {
    /// No other operations.
    Any,
    /// Operations with the same key.
    Always(&'a str),
    /// Operations with the same key, where the engine does not settle races between updates by itself. A single node is
    /// then exact on such an engine too.
    IfWeak(&'a str),
    /// All operations, where the engine does not settle races between updates by itself.
    OfAllIfWeak,
}

impl Locks {
    pub(crate) fn new() -> Self {
        Self {
            stripes: std::iter::repeat_with(Mutex::default).take(256).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Waits for the operation's turn, which lasts until the returned guards are dropped.
    pub(crate) async fn wait(&self, turn: Turn<'_>, is_weak: bool) -> Vec<MutexGuard<'_, ()>> {
        let stripes = match turn {
            Turn::Always(key) => self.stripe(key),
            Turn::IfWeak(key) if is_weak => self.stripe(key),
            // All operations take the locks in this order, so that no two wait for each other.
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
