//! Keys as a store holds them, and the states of a key's life.

mod schedule;

pub use schedule::{Schedule, Step};

pub(crate) use schedule::waiting;

use std::fmt;
use std::time::Duration;

use countersign_jwt::key::{Algorithm, KeyId};
use countersign_jwt::time::Timestamp;

/// The purpose of a stored key. Every purpose has keys of its own (SEC-045).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum KeyPurpose {
    /// The key signs access tokens.
    Access,
    /// The key authenticates refresh tokens.
    Refresh,
}

impl KeyPurpose {
    /// The name of the purpose in stores.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Refresh => "refresh",
        }
    }

    /// The algorithm of the first key of this purpose. For access tokens it is Ed25519, because verifiers elsewhere
    /// then need no secret (SEC-023).
    #[must_use]
    pub const fn first_algorithm(self) -> Algorithm {
        match self {
            Self::Access => Algorithm::EdDsa,
            Self::Refresh => Algorithm::Hs256,
        }
    }

    /// The purpose that has this name in stores.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Access, Self::Refresh].into_iter().find(|purpose| purpose.name() == name)
    }
}

/// A key as the store holds it, sealed with the server's secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredKey {
    /// The purpose of the key.
    pub purpose: KeyPurpose,
    /// The key's number among the keys of its purpose, from 1. Purpose and number together are unique.
    pub number: u32,
    /// The key's id, which is unique.
    pub key_id: KeyId,
    /// The one algorithm that the key is for.
    pub algorithm: Algorithm,
    /// The key's secret, sealed.
    pub sealed: Vec<u8>,
    /// The time at which the key was made.
    pub created_at: Timestamp,
    /// The time from which on the key signs, until another one does.
    pub active_at: Timestamp,
    /// The time at which the key was removed; `None` if it was not. The sealed secret of a removed key is empty.
    pub removed_at: Option<Timestamp>,
}

/// The stage of a key's life. Two times in the store determine it, so that all nodes agree without telling each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyState {
    /// The key is published and does not sign yet, so that every verifier knows it before it signs.
    Next,
    /// The key signs.
    Active,
    /// Another key signs. The tokens that this key has signed are accepted until they expire.
    Retiring,
    /// The key is no longer accepted.
    Gone,
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Next => "next",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Gone => "gone",
        })
    }
}

/// The state of one of the store's keys at `now`. `overlap` is the time for which keys of its purpose verify after they
/// were replaced.
#[must_use]
pub fn key_state(key: &StoredKey, stored: &[StoredKey], now: Timestamp, overlap: Duration) -> KeyState {
    if key.removed_at.is_some() {
        return KeyState::Gone;
    }
    if active(stored, key.purpose, now).is_some_and(|active| active.key_id == key.key_id) {
        return KeyState::Active;
    }
    if key.active_at > now {
        return KeyState::Next;
    }
    // A key that was removed since then counts too, if it ever signed.
    let replaced_at = stored
        .iter()
        .filter(|other| other.purpose == key.purpose && turn(other) > turn(key))
        .filter(|other| has_had_its_turn(other, now))
        .map(|other| other.active_at)
        .min();
    match replaced_at {
        Some(replaced_at) if now >= replaced_at + overlap => KeyState::Gone,
        _ => KeyState::Retiring,
    }
}

/// The key that signs: the last one of those whose time has come. If that key was removed, the next one signs before
/// its time. If there is none, any key signs, because nothing works without a key.
pub(crate) fn active(stored: &[StoredKey], purpose: KeyPurpose, now: Timestamp) -> Option<&StoredKey> {
    let of_purpose = || stored.iter().filter(|key| key.purpose == purpose);
    let usable = || of_purpose().filter(|key| key.removed_at.is_none());
    let last = of_purpose().filter(|key| has_had_its_turn(key, now)).max_by_key(|key| turn(key));
    if let Some(last) = last.filter(|last| last.removed_at.is_none()) {
        return Some(last);
    }
    let is_next = |key: &&StoredKey| last.is_none_or(|last| turn(key) > turn(last));
    let next = usable().filter(is_next).min_by_key(|key| turn(key));
    next.or_else(|| usable().max_by_key(|key| turn(key)))
}

/// Whether the key signs or has signed. A key that was removed while it waited has not.
fn has_had_its_turn(key: &StoredKey, now: Timestamp) -> bool {
    key.active_at <= now && key.removed_at.is_none_or(|removed| removed >= key.active_at)
}

/// The order in which keys sign.
fn turn(key: &StoredKey) -> (Timestamp, u32) {
    (key.active_at, key.number)
}
