//! Random numbers that repeat in every run, and a random source that fails.

use std::sync::atomic::{AtomicU64, Ordering};

use countersign_jwt::{Random, RandomError};

/// A random source that gives the same bytes in every run for the same seed. Anybody can predict them, so it is for
/// tests only.
///
/// ```
/// use countersign_jwt::random;
/// use countersign_testkit::SeededRandom;
///
/// let first = random::uuid(&SeededRandom::new(7))?;
/// assert_eq!(first, random::uuid(&SeededRandom::new(7))?);
/// assert_ne!(first, random::uuid(&SeededRandom::new(8))?);
/// # Ok::<(), countersign_jwt::RandomError>(())
/// ```
#[derive(Debug)]
pub struct SeededRandom {
    state: AtomicU64,
}

impl SeededRandom {
    /// A generator that starts from this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed) }
    }

    /// The next number. Threads that share the generator never get the same number of the sequence.
    pub fn number(&self) -> u64 {
        // A Weyl sequence, scrambled: every step is one atomic addition.
        let weyl = self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (weyl ^ (weyl >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        self.number().checked_rem(bound).unwrap_or(0)
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these values.
    ///
    /// # Panics
    /// If there are no values.
    pub fn pick<T: Copy>(&self, from: &[T]) -> T {
        let index = usize::try_from(self.below(from.len() as u64)).unwrap_or(0);
        *from.get(index).expect("something to pick from")
    }
}

impl Default for SeededRandom {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Random for SeededRandom {
    fn fill(&self, dest: &mut [u8]) -> Result<(), RandomError> {
        for chunk in dest.chunks_mut(8) {
            for (byte, random) in chunk.iter_mut().zip(self.number().to_le_bytes()) {
                *byte = random;
            }
        }
        Ok(())
    }
}

/// A random source that fails after a number of calls, or at once.
///
/// ```
/// use countersign_jwt::random;
/// use countersign_testkit::FailingRandom;
///
/// let random = FailingRandom::after(1);
/// assert!(random::uuid(&random).is_ok());
/// assert!(random::uuid(&random).is_err());
/// ```
#[derive(Debug, Default)]
pub struct FailingRandom {
    good: AtomicU64,
    source: SeededRandom,
}

impl FailingRandom {
    /// A source that answers `good` calls, then fails for ever.
    #[must_use]
    pub fn after(good: u64) -> Self {
        Self { good: AtomicU64::new(good), source: SeededRandom::default() }
    }

    /// Lets the source answer `good` more calls from now on.
    pub fn allow(&self, good: u64) {
        self.good.store(good, Ordering::Relaxed);
    }
}

impl Random for FailingRandom {
    fn fill(&self, dest: &mut [u8]) -> Result<(), RandomError> {
        let left = self.good.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |good| good.checked_sub(1));
        match left {
            Ok(_) => self.source.fill(dest),
            Err(_) => Err(RandomError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
        let bytes = |seed| countersign_jwt::random::bytes::<20>(&SeededRandom::new(seed)).unwrap();
        assert_eq!(bytes(7), bytes(7));
        assert_ne!(bytes(7), bytes(8));
    }

    #[test]
    fn failing_randomness_fails_when_told_to() {
        let random = FailingRandom::after(2);
        let mut byte = [0];
        let answers = [(); 3].map(|()| random.fill(&mut byte).is_ok());
        assert_eq!(answers, [true, true, false]);
    }
}
