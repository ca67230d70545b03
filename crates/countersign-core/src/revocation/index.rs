//! The in-memory index of the revocation log: one hash lookup, by user, answers for token, session and epoch.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::entry::{Entry, Target};
use crate::id::{Epoch, SessionId, TokenId, UserId};
use crate::key::KeyId;
use crate::time::Timestamp;

/// Which entry revokes a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RevokedBy {
    /// The token itself was revoked.
    #[error("the token was revoked")]
    Token,
    /// Its session was ended.
    #[error("the token's session was ended")]
    Session,
    /// All the user's sessions of its epoch were ended.
    #[error("all sessions of the token's epoch were ended")]
    Epoch,
}

/// What of a token an epoch is compared with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It presents this session, which began in this epoch.
    Session(SessionId, Epoch),
    /// It presents none; it was issued then. Every later raise of the user's epoch ends it.
    IssuedAt(Timestamp),
}

/// The log's entries that still matter, by user.
///
/// Reads take a shared lock of one of [`Index::SHARDS`] parts; inserting is idempotent and commutative, so the
/// tail may read an entry as often and in whatever order it likes.
#[derive(Debug)]
pub struct Index {
    hasher: RandomState,
    users: Box<[RwLock<Users>]>,
    /// A bit for each part of `users` that holds anything, set and cleared under its lock. Mostly none does.
    occupied: AtomicU64,
    keys: RwLock<HashMap<KeyId, Timestamp>>,
}

type Users = HashMap<UserId, UserEntries>;

impl Index {
    /// Into how many separately locked parts the users are divided.
    pub const SHARDS: usize = u64::BITS as usize;

    /// An empty index.
    #[must_use]
    pub fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            users: (0..Self::SHARDS).map(|_| RwLock::default()).collect(),
            occupied: AtomicU64::new(0),
            keys: RwLock::default(),
        }
    }

    /// Takes an entry in. Repeats and any order are fine.
    pub fn insert(&self, entry: &Entry) {
        match &entry.target {
            Target::Key { id } => later(&mut write(&self.keys), id.clone(), entry.until),
            Target::Node { .. } => {}
            Target::Session { user_id, id } => {
                self.change(user_id, |entries| later(&mut entries.sessions, *id, entry.until));
            }
            Target::Token { user_id, id } => {
                self.change(user_id, |entries| later(&mut entries.tokens, *id, entry.until));
            }
            Target::User { user_id, epoch, except } => {
                self.change(user_id, |entries| entries.epochs.insert(*epoch, *except, entry));
            }
        }
    }

    /// Whether the log revokes a token of this user.
    ///
    /// # Errors
    /// [`RevokedBy`] says which kind of entry does.
    pub fn check(&self, user_id: &UserId, token: TokenId, standing: Standing) -> Result<(), RevokedBy> {
        let Some(users) = self.read_shard(user_id) else { return Ok(()) };
        let Some(entries) = users.get(user_id) else { return Ok(()) };
        if entries.tokens.contains_key(&token) {
            return Err(RevokedBy::Token);
        }
        match standing {
            Standing::Session(session, _) if entries.sessions.contains_key(&session) => {
                Err(RevokedBy::Session)
            }
            Standing::Session(session, epoch) if entries.epochs.for_session(session) > epoch => {
                Err(RevokedBy::Epoch)
            }
            Standing::IssuedAt(at) if entries.epochs.raised_at.is_some_and(|raised_at| at <= raised_at) => {
                Err(RevokedBy::Epoch)
            }
            Standing::Session(..) | Standing::IssuedAt(_) => Ok(()),
        }
    }

    /// Whether this token of the user is itself in the log.
    #[must_use]
    pub fn is_token_revoked(&self, user_id: &UserId, token: TokenId) -> bool {
        self.read_shard(user_id).is_some_and(|users| {
            users.get(user_id).is_some_and(|entries| entries.tokens.contains_key(&token))
        })
    }

    /// Whether the key was removed.
    #[must_use]
    pub fn is_key_revoked(&self, key: &KeyId) -> bool {
        read(&self.keys).contains_key(key)
    }

    /// Forgets what no longer matters at `now`.
    pub fn prune(&self, now: Timestamp) {
        for (number, shard) in self.users.iter().enumerate() {
            let mut users = write(shard);
            users.retain(|_, entries| {
                entries.tokens.retain(|_, until| *until > now);
                entries.sessions.retain(|_, until| *until > now);
                if entries.epochs.until <= now {
                    entries.epochs = Epochs::default();
                }
                !entries.is_empty()
            });
            if users.is_empty() {
                self.occupied.fetch_and(!bit(number), Ordering::Release);
            }
        }
        write(&self.keys).retain(|_, until| *until > now);
    }

    /// How many entries it holds; of a user's epochs only the ones that decide.
    #[must_use]
    pub fn len(&self) -> usize {
        let users: usize =
            self.users.iter().map(|shard| read(shard).values().map(UserEntries::len).sum::<usize>()).sum();
        users + read(&self.keys).len()
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, user_id: &UserId) -> usize {
        usize::try_from(self.hasher.hash_one(user_id) % Self::SHARDS as u64).unwrap_or(0)
    }

    /// The user's part, unless it is empty.
    fn read_shard(&self, user_id: &UserId) -> Option<RwLockReadGuard<'_, Users>> {
        let occupied = self.occupied.load(Ordering::Acquire);
        if occupied == 0 {
            return None;
        }
        let number = self.shard(user_id);
        if occupied & bit(number) == 0 {
            return None;
        }
        self.users.get(number).map(read)
    }

    fn change(&self, user_id: &UserId, change: impl FnOnce(&mut UserEntries)) {
        let number = self.shard(user_id);
        #[expect(clippy::indexing_slicing, reason = "a remainder of the number of shards is a shard")]
        let mut users = write(&self.users[number]);
        change(users.entry(user_id.clone()).or_default());
        self.occupied.fetch_or(bit(number), Ordering::Release);
    }
}

fn bit(shard: usize) -> u64 {
    1 << shard
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

// No code that holds one of these locks can panic half way through a change, so a poisoned one is still whole.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn later<K: Eq + std::hash::Hash>(entries: &mut HashMap<K, Timestamp>, key: K, until: Timestamp) {
    let known = entries.entry(key).or_insert(until);
    *known = (*known).max(until);
}

#[derive(Debug, Default)]
struct UserEntries {
    tokens: HashMap<TokenId, Timestamp>,
    sessions: HashMap<SessionId, Timestamp>,
    epochs: Epochs,
}

impl UserEntries {
    fn len(&self) -> usize {
        let epochs = usize::from(self.epochs.highest.is_some()) + usize::from(self.epochs.other.is_some());
        self.tokens.len() + self.sessions.len() + epochs
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Of a user's epoch entries: the highest, and the highest that excepts another session than that one does. For
/// any session, one of the two is the highest entry that does not except it.
#[derive(Debug, Default)]
struct Epochs {
    highest: Option<EpochEntry>,
    other: Option<EpochEntry>,
    raised_at: Option<Timestamp>,
    until: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct EpochEntry {
    epoch: Epoch,
    except: Option<SessionId>,
}

impl Epochs {
    fn insert(&mut self, epoch: Epoch, except: Option<SessionId>, logged: &Entry) {
        self.until = self.until.max(logged.until);
        self.raised_at = self.raised_at.max(Some(logged.at));
        let entry = EpochEntry { epoch, except };
        match self.highest {
            None => self.highest = Some(entry),
            Some(highest) if entry.epoch > highest.epoch => {
                self.highest = Some(entry);
                if highest.except != entry.except {
                    self.other = Some(highest);
                }
            }
            Some(highest) if entry.epoch < highest.epoch && entry.except != highest.except => {
                if self.other.is_none_or(|other| other.epoch < entry.epoch) {
                    self.other = Some(entry);
                }
            }
            Some(_) => {}
        }
    }

    fn for_session(&self, session: SessionId) -> Epoch {
        let deciding = if self.highest.is_some_and(|entry| entry.except == Some(session)) {
            self.other
        } else {
            self.highest
        };
        deciding.map_or(Epoch::FIRST, |entry| entry.epoch)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const LATER: Timestamp = Timestamp::from_secs(1_000);
    const NEW: Standing = Standing::IssuedAt(Timestamp::MAX);

    fn session(number: u8) -> SessionId {
        SessionId::new(Uuid::from_u128(number.into()))
    }

    fn token(number: u8) -> TokenId {
        TokenId::new(Uuid::from_u128(number.into()))
    }

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn entry(target: Target) -> Entry {
        Entry { target, until: LATER, at: Timestamp::MIN }
    }

    #[test]
    fn a_token_is_revoked_only_together_with_its_owner() {
        let index = Index::new();
        index.insert(&entry(Target::Token { user_id: user("ada"), id: token(1) }));
        assert_eq!(index.check(&user("ada"), token(1), NEW), Err(RevokedBy::Token));
        assert_eq!(index.check(&user("ada"), token(2), NEW), Ok(()));
        assert_eq!(index.check(&user("bob"), token(1), NEW), Ok(()));
    }

    #[test]
    fn an_index_that_was_emptied_takes_entries_again() {
        let index = Index::new();
        let revoked = entry(Target::Token { user_id: user("ada"), id: token(1) });
        for _ in 0..2 {
            assert_eq!(index.check(&user("ada"), token(1), NEW), Ok(()));
            index.insert(&revoked);
            index.prune(LATER - std::time::Duration::from_millis(1));
            assert_eq!(index.check(&user("ada"), token(1), NEW), Err(RevokedBy::Token));
            index.prune(LATER);
        }
    }

    #[test]
    fn sec_088_entries_leave_the_index_when_no_token_is_left_that_they_concern() {
        let index = Index::new();
        for number in 0..50 {
            index.insert(&entry(Target::Session { user_id: user("ada"), id: session(number) }));
            index.insert(&entry(Target::Token { user_id: user("ada"), id: token(number) }));
        }
        index.insert(&entry(Target::User { user_id: user("ada"), epoch: Epoch::new(1), except: None }));
        assert_eq!(index.len(), 101);
        index.prune(LATER - std::time::Duration::from_millis(1));
        assert_eq!(index.len(), 101);
        index.prune(LATER);
        assert!(index.is_empty());
    }

    /// The definition of design §8, over the whole log.
    fn epoch_by_definition(log: &[(u64, Option<u8>)], asked: u8) -> u64 {
        log.iter().filter(|(_, except)| *except != Some(asked)).map(|(n, _)| *n).max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn epochs_in_any_order_and_with_repeats_answer_like_the_whole_log(
            excepts in proptest::collection::vec(proptest::option::of(0u8..4), 0..12),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 0..40),
        ) {
            let log: Vec<_> = excepts.iter().enumerate().map(|(i, e)| (i as u64 + 1, *e)).collect();
            let index = Index::new();
            let mut seen = Vec::new();
            if !log.is_empty() {
                for pick in &order {
                    let (n, except) = log[pick.index(log.len())];
                    seen.push((n, except));
                    index.insert(&entry(Target::User {
                        user_id: user("ada"), epoch: Epoch::new(n), except: except.map(session),
                    }));
                }
            }
            for asked in 0u8..4 {
                let expected = epoch_by_definition(&seen, asked);
                for epoch in 0..13u64 {
                    let verdict = index.check(&user("ada"), token(0), Standing::Session(session(asked), Epoch::new(epoch)));
                    prop_assert_eq!(verdict.is_err(), expected > epoch);
                }
            }
        }
    }
}
