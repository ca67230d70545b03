//! Ids as the tables keep them: keyed hashes, which take less room than the ids and spread evenly whatever the ids are.
//!
//! Users choose ids (`POST revoke-tokens` takes any), so the hash, the standard library's `SipHash`, has a secret key:
//! nobody can choose ids that meet in one place of a table. The user's text is hashed once, to a number that goes into
//! the hashes of its tokens and sessions.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use countersign_jwt::id::{SessionId, TokenId, UserId};
use uuid::Uuid;

/// The fingerprint of a slot that holds nothing.
pub(super) const EMPTY: u64 = 0;

// A hash is over a user's number, an id, and one of these bytes.
const USER: u8 = 0;
const TOKEN: u8 = 1;
const SESSION: u8 = 2;
/// The bit that, beside one of the other bytes, makes another hash of the same id.
const MORE: u8 = 0x80;

/// A user in hashed form.
#[derive(Clone, Copy)]
pub(super) struct Subject<'k> {
    key: &'k RandomState,
    number: u64,
}

/// A user's token or session in hashed form.
#[derive(Clone, Copy)]
pub(super) struct Point<'k> {
    user: Subject<'k>,
    kind: u8,
    id: Uuid,
    fingerprint: u64,
}

impl<'k> Subject<'k> {
    pub(super) fn new(key: &'k RandomState, user_id: &UserId) -> Self {
        let mut hasher = key.build_hasher();
        hasher.write(user_id.as_str().as_bytes());
        Self { key, number: filled(hasher.finish()) }
    }

    /// The user's fingerprint. Its low bits decide in which part of the index the user is, its high bits where in the
    /// table.
    pub(super) fn fingerprint(&self) -> u64 {
        self.number
    }

    /// 16 further bits, which do not depend on the fingerprint. They are needed only where the fingerprint was found.
    ///
    /// If a million users have an epoch in the log and there are a hundred million others, two of them are taken for
    /// each other with a probability of 10^14 / 2^80, 1 in 10 billion. The other user's sessions would then be refused
    /// as if they had been ended.
    #[expect(clippy::cast_possible_truncation, reason = "a part of it is wanted")]
    pub(super) fn more(&self) -> u16 {
        self.hash(USER | MORE, Uuid::nil()) as u16
    }

    pub(super) fn token(&self, id: TokenId) -> Point<'k> {
        self.point(TOKEN, id.as_uuid())
    }

    pub(super) fn session(&self, id: SessionId) -> Point<'k> {
        self.point(SESSION, id.as_uuid())
    }

    fn point(&self, kind: u8, id: Uuid) -> Point<'k> {
        Point { user: *self, kind, id, fingerprint: filled(self.hash(kind, id)) }
    }

    #[inline]
    fn hash(&self, kind: u8, id: Uuid) -> u64 {
        let mut hasher = self.key.build_hasher();
        hasher.write_u64(self.number);
        hasher.write_u128(id.as_u128());
        hasher.write_u8(kind);
        hasher.finish()
    }
}

impl Point<'_> {
    pub(super) fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// 32 further bits, which do not depend on the fingerprint. They are needed only where the fingerprint was found.
    ///
    /// With 10 million entries, 39,000 in each of 256 parts, a live token is taken for a revoked one with a probability
    /// of 39,000 / 2^96: after a million checks a second for a century, 1 in 600 million.
    #[expect(clippy::cast_possible_truncation, reason = "half of it is wanted")]
    pub(super) fn more(&self) -> u32 {
        self.user.hash(self.kind | MORE, self.id) as u32
    }
}

/// Turns a hash into a fingerprint that a filled slot may have.
fn filled(hash: u64) -> u64 {
    hash.max(EMPTY + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_kinds_and_ids_have_fingerprints_of_their_own() {
        let key = RandomState::new();
        let subject = |name: &str| Subject::new(&key, &UserId::new(name).unwrap());
        let mut seen = std::collections::HashSet::new();
        for user in ["ada", "bob"].map(subject) {
            assert!(seen.insert(user.fingerprint()) && seen.insert(user.more().into()));
            for number in [0, 1, u128::MAX] {
                let id = Uuid::from_u128(number);
                for point in [user.token(TokenId::new(id)), user.session(SessionId::new(id))] {
                    assert!(seen.insert(point.fingerprint()) && seen.insert(point.more().into()));
                }
            }
        }
        let again = subject("ada").token(TokenId::new(Uuid::nil()));
        assert!(seen.contains(&again.fingerprint()) && seen.contains(&again.more().into()));
        assert_ne!(filled(EMPTY), EMPTY);
    }
}
