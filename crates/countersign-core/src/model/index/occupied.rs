//! The parts of the index that hold entries.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::index::SHARDS;

/// A bit for each part of the index that holds entries.
#[derive(Default)]
pub(super) struct Occupied([AtomicU64; SHARDS / u64::BITS as usize]);

impl Occupied {
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| word.load(Ordering::Acquire) == 0)
    }

    pub(super) fn contains(&self, shard: usize) -> bool {
        self.word(shard).is_some_and(|word| word.load(Ordering::Acquire) & bit(shard) != 0)
    }

    /// Marks a part as occupied. [`Occupied::add`] and [`Occupied::remove`] are called with the part's lock held.
    pub(super) fn add(&self, shard: usize) {
        // All readers have this word in their processor's cache, so it is not written without need.
        if let Some(word) = self.word(shard).filter(|_| !self.contains(shard)) {
            word.fetch_or(bit(shard), Ordering::Release);
        }
    }

    pub(super) fn remove(&self, shard: usize) {
        if let Some(word) = self.word(shard).filter(|_| self.contains(shard)) {
            word.fetch_and(!bit(shard), Ordering::Release);
        }
    }

    fn word(&self, shard: usize) -> Option<&AtomicU64> {
        self.0.get(shard / u64::BITS as usize)
    }
}

fn bit(shard: usize) -> u64 {
    1 << (shard % u64::BITS as usize)
}
