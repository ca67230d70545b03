//! The common parts of the tables: where an entry is, and how large a table is.
//!
//! A table uses open addressing by groups of eight slots. It has one byte for each slot, its tag. Lookups read the
//! tags, eight at a time, and a slot only where its tag matches. Most lookups find nothing, and the tags are a small
//! part of the table, so that more of what is looked at is in the processor's caches.
//!
//! One thread at a time writes, and any number read meanwhile. The writer fills a slot and sets its tag last; from then
//! on the slot is never emptied and never given to another entry. Entries that are to be forgotten are left out of the
//! next table.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::index::fingerprint::EMPTY;

/// Slots and their tags. A clone is the same table.
pub(super) struct Table<S> {
    /// The tags, eight in each word, in the order of the slots.
    tags: Arc<[AtomicU64]>,
    slots: Arc<[S]>,
}

/// A place for one entry.
pub(super) trait Slot: Default {
    /// The fingerprint of the entry, which is [`EMPTY`] until the slot is filled.
    fn fingerprint(&self) -> &AtomicU64;
}

impl<S: Slot> Table<S> {
    /// An empty table for so many entries, with half as many slots more. When the table is full, a quarter of its slots
    /// are still free, and the next table is larger by half. A slot of 16 bytes and its tag therefore take 34 bytes an
    /// entry at most, while only one part of the index is in memory twice.
    pub(super) fn for_entries(entries: usize) -> Self {
        let groups = entries.saturating_mul(2).div_ceil(GROUP).max(1);
        Self {
            tags: (0..groups).map(|_| AtomicU64::new(0)).collect(),
            slots: (0..groups.saturating_mul(GROUP)).map(|_| S::default()).collect(),
        }
    }

    /// Whether the next entry needs a larger table.
    pub(super) fn is_full(&self, entries: usize) -> bool {
        entries.saturating_mul(4) >= self.slots.len().saturating_mul(3)
    }

    /// Whether there may be a slot with this fingerprint. Usually there is none, and then the answer is `false`.
    #[inline]
    pub(super) fn may_hold(&self, fingerprint: u64) -> bool {
        self.groups(fingerprint).any(|(_, tags)| equal(tags, tag(fingerprint)) != 0)
    }

    /// The slots with this fingerprint.
    #[inline]
    pub(super) fn with(&self, fingerprint: u64) -> impl Iterator<Item = &S> {
        let mut groups = self.groups(fingerprint);
        let (mut group, mut marks) = (0, 0);
        std::iter::from_fn(move || {
            loop {
                while marks == 0 {
                    let (next, tags) = groups.next()?;
                    (group, marks) = (next, equal(tags, tag(fingerprint)));
                }
                let slot = self.slots.get(first_marked(group, marks))?;
                marks &= marks - 1;
                if slot.fingerprint().load(Ordering::Acquire) == fingerprint {
                    return Some(slot);
                }
            }
        })
    }

    /// Requests the memory around an entry's slot, so that it arrives while the tags are looked at.
    #[inline]
    pub(super) fn expect(&self, fingerprint: u64) {
        if let Some(slot) = self.slots.get(self.home(fingerprint) * GROUP) {
            // The answer is not needed.
            let _ = slot.fingerprint().load(Ordering::Acquire);
        }
    }

    /// Puts an entry into a free slot; `fill` writes everything but the fingerprint.
    ///
    /// Only one thread may call this at a time. The table must not be full, because it is replaced by a larger one in
    /// time.
    pub(super) fn add(&self, fingerprint: u64, fill: impl FnOnce(&S)) {
        let free = self.groups(fingerprint).find_map(|(group, tags)| {
            let free = equal(tags, FREE);
            if free == 0 { None } else { Some((group, first_marked(group, free))) }
        });
        let free =
            free.and_then(|(group, number)| Some((self.tags.get(group)?, number, self.slots.get(number)?)));
        debug_assert!(free.is_some(), "the table is full");
        let Some((tags, number, slot)) = free else { return };
        fill(slot);
        // A reader that sees the fingerprint sees the rest of the slot, and a reader that sees the tag sees both. A
        // slot may be looked at without its tag (see `equal`).
        slot.fingerprint().store(fingerprint, Ordering::Release);
        let tag = u64::from(tag(fingerprint)) << (number % GROUP * TAG_BITS);
        // The tag is not set in one atomic step, because that would wait for the slot to come from the memory, and
        // nobody else writes.
        tags.store(tags.load(Ordering::Relaxed) | tag, Ordering::Release);
    }

    /// The filled slots, with their fingerprints.
    pub(super) fn filled(&self) -> impl Iterator<Item = (u64, &S)> {
        self.slots
            .iter()
            .map(|slot| (slot.fingerprint().load(Ordering::Relaxed), slot))
            .filter(|(found, _)| *found != EMPTY)
    }

    /// The groups in which an entry may be, with their tags, from its home to the first group that has room. An entry
    /// is put into the next group only when the one before is full.
    #[inline]
    fn groups(&self, fingerprint: u64) -> Groups<'_> {
        Groups { tags: &self.tags, next: self.home(fingerprint), left: self.tags.len() }
    }

    /// The home group of a fingerprint. The high half of the product is evenly spread below the number of groups, which
    /// therefore need not be a power of two. It grows with the fingerprint, so that a table is copied into a larger one
    /// from front to back.
    #[inline]
    fn home(&self, fingerprint: u64) -> usize {
        let product = u128::from(fingerprint) * self.tags.len() as u128;
        usize::try_from(product >> u64::BITS).unwrap_or(0)
    }

    /// The number of slots that a lookup concerns.
    #[cfg(test)]
    pub(super) fn probes(&self, fingerprint: u64) -> usize {
        self.groups(fingerprint).count() * GROUP
    }
}

/// The iterator of [`Table::groups`]. It is written by hand, because the compiler makes calls of a chain of closures,
/// and every request runs this code.
struct Groups<'t> {
    tags: &'t [AtomicU64],
    next: usize,
    left: usize,
}

impl Iterator for Groups<'_> {
    type Item = (usize, u64);

    #[inline]
    fn next(&mut self) -> Option<(usize, u64)> {
        self.left = self.left.checked_sub(1)?;
        let group = self.next;
        let tags = self.tags.get(group)?.load(Ordering::Acquire);
        self.next = if group + 1 < self.tags.len() { group + 1 } else { 0 };
        if equal(tags, FREE) != 0 {
            self.left = 0;
        }
        Some((group, tags))
    }
}

impl<S> Clone for Table<S> {
    fn clone(&self) -> Self {
        Self { tags: self.tags.clone(), slots: self.slots.clone() }
    }
}

impl<S> Default for Table<S> {
    /// A table without any slot.
    fn default() -> Self {
        Self { tags: Arc::default(), slots: Arc::default() }
    }
}

/// The number of slots that are looked at together.
const GROUP: usize = 8;

const TAG_BITS: usize = u8::BITS as usize;

/// The tag of a slot that is free.
const FREE: u8 = 0;

/// The tag of a fingerprint: its low bits, which have no part in the home.
#[inline]
fn tag(fingerprint: u64) -> u8 {
    fingerprint.to_le_bytes()[0].max(FREE + 1)
}

/// Marks the bytes that equal `tag` by their highest bits. A byte above an equal one may be marked in error. The lowest
/// mark is always right, and no mark always means that no byte is equal.
#[inline]
fn equal(tags: u64, tag: u8) -> u64 {
    const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let difference = tags ^ (LOW * u64::from(tag));
    difference.wrapping_sub(LOW) & !difference & HIGH
}

/// The number of the first slot of a group that is marked.
#[inline]
fn first_marked(group: usize, marks: u64) -> usize {
    group * GROUP + marks.trailing_zeros() as usize / TAG_BITS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Bare(AtomicU64);

    impl Slot for Bare {
        fn fingerprint(&self) -> &AtomicU64 {
            &self.0
        }
    }

    #[test]
    fn every_fingerprint_has_a_home_in_the_table() {
        for entries in [0, 1, 4, 5, 1_000, 1_001] {
            let table = Table::<Bare>::for_entries(entries);
            assert_eq!(table.home(1), 0);
            assert_eq!(table.home(u64::MAX), table.tags.len() - 1);
        }
        assert_eq!(Table::<Bare>::default().home(u64::MAX), 0);
    }

    #[test]
    fn a_full_table_grows_by_half_and_is_half_full_then() {
        for entries in 4..2_000_usize {
            let table = Table::<Bare>::for_entries(entries);
            let full = (entries..).find(|entries| table.is_full(*entries)).unwrap();
            assert!((6 * entries..6 * entries + 24).contains(&(4 * full)), "{entries} {full}");
        }
        assert!(Table::<Bare>::default().is_full(0), "a table without slots has no room");
    }

    #[test]
    fn entries_of_a_full_group_are_found_in_the_next_and_beyond_the_last() {
        let table = Table::<Bare>::for_entries(12);
        let at_the_end: Vec<_> = (0..18).map(|number| u64::MAX - number).collect();
        for fingerprint in &at_the_end {
            assert_eq!(table.with(*fingerprint).count(), 0);
            table.add(*fingerprint, |_| {});
        }
        for fingerprint in &at_the_end {
            assert!(table.may_hold(*fingerprint));
            assert_eq!(table.with(*fingerprint).count(), 1);
        }
        assert_eq!(table.filled().count(), 18);
    }

    proptest! {
        #[test]
        fn the_lowest_mark_is_the_first_equal_byte(tags in prop::array::uniform8(0_u8..4), tag in 0_u8..4) {
            let marks = equal(u64::from_le_bytes(tags), tag);
            let first = tags.iter().position(|found| *found == tag);
            prop_assert_eq!(first, (marks != 0).then_some((marks.trailing_zeros() / 8) as usize));
            for (number, found) in tags.iter().enumerate() {
                prop_assert!(*found != tag || marks >> (number * 8) & 0x80 != 0, "all of them are marked");
            }
        }
    }
}
