//! Keys as a store holds them, and where each of them is in its life.

mod schedule;

pub use schedule::{Schedule, Step};

pub(crate) use schedule::waiting;

use std::fmt;
use std::time::Duration;

use countersign_jwt::key::{Algorithm, KeyId};
use countersign_jwt::time::Timestamp;

/// What a stored key is for. Every purpose has keys of its own (SEC-045).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum KeyPurpose {
    /// Signs access tokens.
    Access,
    /// Authenticates refresh tokens.
    Refresh,
}

impl KeyPurpose {
    /// The name under which stores keep it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Refresh => "refresh",
        }
    }

    /// What the first key of this purpose signs with. Ed25519 for access tokens: verifiers elsewhere then need no
    /// secret (SEC-023).
    #[must_use]
    pub const fn first_algorithm(self) -> Algorithm {
        match self {
            Self::Access => Algorithm::EdDsa,
            Self::Refresh => Algorithm::Hs256,
        }
    }

    /// The purpose with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Access, Self::Refresh].into_iter().find(|purpose| purpose.name() == name)
    }
}

/// A key as the store holds it: sealed with the server's secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredKey {
    /// What it is for.
    pub purpose: KeyPurpose,
    /// Its number among the keys of its purpose, from 1; together they are unique.
    pub number: u32,
    /// The key's id, unique too.
    pub key_id: KeyId,
    /// Its one algorithm.
    pub algorithm: Algorithm,
    /// The sealed secret.
    pub sealed: Vec<u8>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it signs, until another one does.
    pub active_at: Timestamp,
    /// When it was removed. Its sealed secret is empty then.
    pub removed_at: Option<Timestamp>,
}

/// Where a key is in its life. Two times that the store keeps say it, so that all nodes agree without telling each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyState {
    /// Published, so that everybody knows it before it signs.
    Next,
    /// Signs.
    Active,
    /// Another one signs; what it has signed is accepted until it expires.
    Retiring,
    /// Accepted no more.
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

/// The state of one of the store's keys at `now`. `overlap` is for how long keys of its purpose verify after they were
/// replaced.
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
    // Also by one that was removed since, if it ever signed.
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

/// The key that signs: of those whose time has come the last one. If that was removed, the next one, before its time;
/// where there is none, whichever there is, because without a key nothing works.
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

/// Whether it signs, or has; not if it was removed while it waited.
fn has_had_its_turn(key: &StoredKey, now: Timestamp) -> bool {
    key.active_at <= now && key.removed_at.is_none_or(|removed| removed >= key.active_at)
}

/// The order in which keys sign.
fn turn(key: &StoredKey) -> (Timestamp, u32) {
    (key.active_at, key.number)
}
