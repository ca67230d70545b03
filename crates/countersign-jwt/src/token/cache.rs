//! A cache of tokens that were verified before, so that the next presentation costs a lookup and not a signature.
//!
//! The cache remembers that a signature held and what was signed, never that a token is valid. Times, issuer and
//! audience are checked on every presentation, and so is that the very key that verified the token is still in the
//! ring.
//!
//! The cache is a table of small sets without locks. Its size never changes; a new token replaces an older one of its
//! set. Only verified tokens get in, so nobody fills it with tokens of their own making.
//!
//! Remembering a token costs about as much as verifying a MAC. A token with a MAC is therefore remembered when it comes
//! for the second time while its set still has its tag. Tokens that come once then cost nothing and replace no other.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwapOption;
use zeroize::Zeroizing;

use crate::claims::Claims;
use crate::key::{KeyRing, VerifyingKey};

pub(super) struct TokenCache {
    sets: OnceLock<Box<[Set]>>,
    capacity: usize,
    seed: RandomState,
    turn: AtomicUsize,
}

/// The tokens whose tags agree in their low bits.
#[derive(Default)]
struct Set {
    /// Hints which entry to look at; the entry decides.
    tags: [AtomicU64; WAYS],
    /// Tags of tokens that were verified lately and are not remembered.
    seen: [AtomicU64; WAYS],
    entries: [ArcSwapOption<Entry>; WAYS],
}

struct Entry {
    /// The whole token, because another token could have the same hash.
    token: Zeroizing<String>,
    key: VerifyingKey,
    claims: Claims,
    /// Copies of the claims, so that threads that see one token all the time do not compete for the counter of one
    /// `Arc`, which costs four times as much as all the rest. Each copy is made when its first thread comes.
    copies: [OnceLock<Claims>; STRIPES],
}

impl TokenCache {
    /// A cache of about that many tokens. It takes no memory before the first token.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            sets: OnceLock::new(),
            capacity: capacity.clamp(WAYS, MAX_CAPACITY),
            seed: RandomState::new(),
            turn: AtomicUsize::new(0),
        }
    }

    /// An empty cache of the same size.
    pub(super) fn emptied(&self) -> Self {
        Self::new(self.capacity)
    }

    /// The claims of a token that was verified with a key that is still in `ring`.
    pub(super) fn get(&self, token: &str, ring: &KeyRing) -> Option<Claims> {
        let (set, tag) = self.find(self.sets.get()?, token)?;
        for (hint, slot) in set.tags.iter().zip(&set.entries) {
            if hint.load(Ordering::Relaxed) != tag {
                continue;
            }
            let entry = slot.load();
            // Tags of equal signatures are equal, and nobody can choose a signature's end to match a tag. The duration
            // of this comparison therefore tells nothing about other people's tokens.
            if let Some(entry) = entry.as_ref().filter(|entry| *entry.token == *token) {
                if ring.iter().any(|key| key.is_same_key(&entry.key)) {
                    return Some(entry.claims());
                }
                // The key has left the ring, so its tokens are forgotten.
                slot.store(None);
            }
        }
        None
    }

    /// Remembers a token that `key` verified. The token has to name the key, because for a token that names none, the
    /// other keys of the ring decide which key verifies it.
    pub(super) fn insert(&self, token: &str, key: &VerifyingKey, claims: &Claims) {
        if token.len() > MAX_TOKEN_BYTES {
            return;
        }
        let sets = self.sets.get_or_init(|| {
            (0..(self.capacity / WAYS).next_power_of_two()).map(|_| Set::default()).collect()
        });
        let Some((set, tag)) = self.find(sets, token) else { return };
        if key.algorithm().is_symmetric() && !set.was_seen(tag) {
            return;
        }
        let free = || set.entries.iter().position(|slot| slot.load().is_none());
        let same = set.tags.iter().position(|hint| hint.load(Ordering::Relaxed) == tag);
        let way = same.or_else(free).unwrap_or_else(|| self.turn.fetch_add(1, Ordering::Relaxed) % WAYS);
        if let (Some(hint), Some(slot)) = (set.tags.get(way), set.entries.get(way)) {
            slot.store(Some(Entry::new(token, key, claims).into()));
            hint.store(tag, Ordering::Relaxed);
        }
    }

    /// The set for a token, and the token's tag in that set.
    fn find<'s>(&self, sets: &'s [Set], token: &str) -> Option<(&'s Set, u64)> {
        // The end of a signature is as good as random; the rest of a token is much the same in all tokens.
        let end: &[u8; 16] = token.as_bytes().last_chunk()?;
        let tag = self.seed.hash_one(end);
        // The number of sets is a power of two.
        let index = usize::try_from(tag).unwrap_or(usize::MAX) & sets.len().wrapping_sub(1);
        sets.get(index).map(|set| (set, tag))
    }
}

impl Set {
    /// Whether a token with this tag was verified lately; notes that one was. A tag that two tokens share only makes
    /// one of them be remembered early.
    fn was_seen(&self, tag: u64) -> bool {
        let was_seen = self.seen.iter().any(|seen| seen.load(Ordering::Relaxed) == tag);
        if !was_seen {
            // The tag is random, and these of its bits have not chosen the set.
            let way = usize::try_from(tag >> 32).unwrap_or_default() % WAYS;
            if let Some(seen) = self.seen.get(way) {
                seen.store(tag, Ordering::Relaxed);
            }
        }
        was_seen
    }
}

impl Entry {
    fn new(token: &str, key: &VerifyingKey, claims: &Claims) -> Self {
        Self {
            token: Zeroizing::new(token.to_owned()),
            key: key.clone(),
            claims: claims.clone(),
            copies: Default::default(),
        }
    }

    fn claims(&self) -> Claims {
        match self.copies.get(STRIPE.with(|stripe| *stripe)) {
            Some(copy) => copy.get_or_init(|| Claims::vouched(self.claims.fields().clone())).clone(),
            None => self.claims.clone(),
        }
    }
}

thread_local! {
    /// The copy that a thread uses.
    static STRIPE: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Ordering::Relaxed) % STRIPES
    };
}

/// The number of threads that may use one token at once without waiting for each other.
const STRIPES: usize = 8;

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

/// The number of tokens with the same low bits of their tags that are remembered together.
const WAYS: usize = 4;

/// The length above which tokens are verified each time. Few tokens are longer, and the bound for each token bounds the
/// whole cache.
const MAX_TOKEN_BYTES: usize = 2 * 1024;

/// The most tokens that are remembered, whatever capacity is asked for.
const MAX_CAPACITY: usize = 1 << 20;
