//! The ring of keys that tokens may be signed with.

use std::fmt;

use super::{Algorithm, KeyError, KeyId, VerifyingKey};
use crate::verify::VerifyError;

/// The keys that a verifier accepts, found by key id.
///
/// The ring is in memory as a whole, so no key id from a token ever reaches a file, a query or a URL (SEC-038).
///
/// ```
/// use countersign_jwt::{Algorithm, KeyRing, SigningKey, VerifyError, jws};
///
/// # let random = countersign_testkit::SeededRandom::default();
/// let key = SigningKey::generate(Algorithm::EdDsa, &random)?;
/// let token = jws::sign(&key, "example", b"{}")?;
///
/// let mut ring = KeyRing::new();
/// ring.insert(key.verifying_key())?;
/// assert!(jws::verify(&token, &ring).is_ok());
///
/// ring.remove(key.key_id());
/// assert_eq!(jws::verify(&token, &ring).unwrap_err(), VerifyError::UnknownKey);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct KeyRing {
    // A ring holds the keys of a few rotations, so a scan beats hashing.
    keys: Vec<VerifyingKey>,
}

impl KeyRing {
    /// An empty ring, which accepts nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key.
    ///
    /// # Errors
    /// [`KeyError::DuplicateKeyId`] if the ring has a key with the same id; the ring stays as it was.
    pub fn insert(&mut self, key: VerifyingKey) -> Result<(), KeyError> {
        if self.get(key.key_id().as_str()).is_some() {
            return Err(KeyError::DuplicateKeyId(key.key_id().clone()));
        }
        self.keys.push(key);
        Ok(())
    }

    /// Adds a key of a set that somebody else publishes, in which keys of one id are distinguished by their algorithms
    /// (RFC 7517 §4.5). In a ring of our own ([`insert`](Self::insert)) an id belongs to one key.
    pub(super) fn insert_of_set(&mut self, key: VerifyingKey) -> Result<(), KeyError> {
        let is_same = |own: &VerifyingKey| {
            own.key_id() == key.key_id()
                // A verifier that uses one kind of key may not be led to the other kind.
                && (own.algorithm() == key.algorithm()
                    || own.algorithm().is_symmetric() != key.algorithm().is_symmetric())
        };
        if self.keys.iter().any(is_same) {
            return Err(KeyError::DuplicateKeyId(key.key_id().clone()));
        }
        self.keys.push(key);
        Ok(())
    }

    /// Removes a key. From then on its tokens are refused.
    pub fn remove(&mut self, id: &KeyId) -> Option<VerifyingKey> {
        let position = self.keys.iter().position(|key| key.key_id() == id)?;
        Some(self.keys.remove(position))
    }

    /// The key with exactly this id. In the ring of a [`JwkSet`](super::JwkSet), where several keys may share an id, it
    /// is the first.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&VerifyingKey> {
        self.keys.iter().find(|key| key.key_id().as_str() == id)
    }

    /// The keys, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &VerifyingKey> {
        self.keys.iter()
    }

    /// The number of keys in the ring.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether the ring has no keys.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key for a token that names this id and algorithm.
    pub(crate) fn choose(&self, id: &str, algorithm: Algorithm) -> Result<&VerifyingKey, VerifyError> {
        let mut named = self.keys.iter().filter(|key| key.key_id().as_str() == id).peekable();
        named.peek().ok_or(VerifyError::UnknownKey)?;
        named.find(|key| key.algorithm() == algorithm).ok_or(VerifyError::Algorithm)
    }

    /// The key for a token that names no key: the only one of its algorithm (SEC-039).
    pub(crate) fn only(&self, algorithm: Algorithm) -> Option<&VerifyingKey> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithm() == algorithm);
        let only = fitting.next()?;
        fitting.next().is_none().then_some(only)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.keys).finish()
    }
}
