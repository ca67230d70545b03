//! The in-memory index of the revocation log. It answers, on every request, whether a token, its session or its user's
//! epoch was revoked.
//!
//! The index is divided by user into parts ([`shard`]). A part has a table of revoked tokens and ended sessions
//! ([`points`]) and one of raised epochs ([`epochs`]), which hold keyed hashes instead of ids ([`fingerprint`]).
//! Readers take no lock: they read the tables while others write.

mod epochs;
mod fingerprint;
#[cfg(test)]
mod model;
mod occupied;
mod points;
mod seconds;
mod shard;
mod table;

use std::collections::HashMap;
use std::fmt;
use std::hash::RandomState;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use countersign_jwt::id::{Epoch, SessionId, TokenId, UserId};
use countersign_jwt::key::KeyId;
use countersign_jwt::time::Timestamp;

use crate::model::entry::{Entry, Target};
use crate::model::index::epochs::{Excepted, Raise};
use crate::model::index::fingerprint::{Point, Subject};
use crate::model::index::occupied::Occupied;
use crate::model::index::shard::{Shard, Tables, Writer};

/// The kind of entry that revokes a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RevokedBy {
    /// The token itself was revoked.
    #[error("the token was revoked")]
    Token,
    /// The token's session was ended.
    #[error("the token's session was ended")]
    Session,
    /// All the user's sessions of the token's epoch were ended.
    #[error("the user's sessions were all ended after this token's login")]
    Epoch,
}

/// The property of a token that is compared with the user's epoch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenEpoch {
    /// The token names this session, which began in this epoch.
    Session(SessionId, Epoch),
    /// The token names no session and was issued at this time. Every later raise of the user's epoch ends it, and so
    /// does a raise in the same second, because only whole seconds are compared.
    IssuedAt(Timestamp),
}

/// The entries of the revocation log that still matter, by user.
///
/// [`Index::check`] never waits, and sees every entry whose [`Index::insert`] has returned. Inserting is idempotent and
/// commutative, so the tail may read an entry repeatedly and in any order. A token or a session takes 23 to 34 bytes. A
/// user whose epoch was raised takes 44 to 66 bytes for each entry that decides.
pub struct Index {
    hash_key: RandomState,
    shards: Box<[Shard]>,
    occupied: Occupied,
    keys: ArcSwap<HashMap<KeyId, Timestamp>>,
}

impl Index {
    /// An empty index.
    #[must_use]
    pub fn new() -> Self {
        Self {
            hash_key: RandomState::new(),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            occupied: Occupied::default(),
            keys: ArcSwap::default(),
        }
    }

    /// Takes an entry into the index. Entries may be repeated and come in any order. When this call returns, every
    /// later check sees the entry.
    pub fn insert(&self, entry: &Entry) {
        let until = seconds::ceil(entry.until);
        match &entry.target {
            Target::Key { id } => self.insert_key(id, entry.until),
            // A heartbeat concerns no token.
            Target::Node { .. } => {}
            Target::Session { user_id, id } => {
                self.change(user_id, |user, shard| shard.insert_point(&user.session(*id), until));
            }
            Target::Token { user_id, id } => {
                self.change(user_id, |user, shard| shard.insert_point(&user.token(*id), until));
            }
            Target::User { user_id, epoch, except } => self.change(user_id, |user, shard| {
                let except = except.map_or(Excepted::NONE, |id| Excepted::session(&user.session(id)));
                let at = seconds::floor(entry.at);
                shard.insert_epoch(user, &Raise { epoch: *epoch, except, at, until });
            }),
        }
    }

    /// Checks whether the log revokes a token of this user.
    ///
    /// # Errors
    /// [`RevokedBy`] names the kind of entry that revokes the token.
    pub fn check(&self, user_id: &UserId, token: TokenId, standing: TokenEpoch) -> Result<(), RevokedBy> {
        let Some((user, tables)) = self.find(user_id) else { return Ok(()) };
        let Tables { points, epochs } = &**tables;
        let token = user.token(token);
        let standing = match standing {
            TokenEpoch::Session(id, epoch) => Hashed::Session(user.session(id), epoch),
            TokenEpoch::IssuedAt(at) => Hashed::IssuedAt(seconds::floor(at)),
        };
        // All three are looked up before any answer is used, so that the memory accesses overlap. A negative answer,
        // which is the usual one, is never wrong.
        let maybe_token = points.may_contain(&token);
        let maybe_session = match &standing {
            Hashed::Session(session, _) => points.may_contain(session),
            Hashed::IssuedAt(_) => false,
        };
        let maybe_user = epochs.may_contain(&user);
        if maybe_token && points.contains(&token) {
            return Err(RevokedBy::Token);
        }
        match &standing {
            Hashed::Session(session, _) if maybe_session && points.contains(session) => {
                Err(RevokedBy::Session)
            }
            Hashed::Session(session, epoch) if maybe_user && epochs.for_session(&user, session) > *epoch => {
                Err(RevokedBy::Epoch)
            }
            Hashed::IssuedAt(at) if maybe_user && Some(*at) <= epochs.raised_at(&user) => {
                Err(RevokedBy::Epoch)
            }
            Hashed::Session(..) | Hashed::IssuedAt(_) => Ok(()),
        }
    }

    /// Whether this token of the user is itself revoked in the log.
    #[must_use]
    pub fn is_token_revoked(&self, user_id: &UserId, token: TokenId) -> bool {
        self.find(user_id).is_some_and(|(user, tables)| tables.points.contains(&user.token(token)))
    }

    /// Whether the key was removed.
    #[must_use]
    pub fn is_key_revoked(&self, key: &KeyId) -> bool {
        self.keys.load().contains_key(key)
    }

    /// Forgets the entries that no longer matter at `now`, part by part. Only inserts into the part at hand wait.
    ///
    /// Up to an eighth of the entries may stay longer. They revoke only tokens that have expired.
    pub fn prune(&self, now: Timestamp) {
        for (number, shard) in self.shards.iter().enumerate() {
            self.prune_shard(number, shard, now);
        }
        self.prune_keys(now);
    }

    /// Forgets the entries that [`Index::prune`] forgets, a turn with every step of the iterator. Other work can be
    /// done between two steps: ten million entries take a third of a second.
    pub fn prune_in_turns(&self, now: Timestamp) -> impl Iterator<Item = ()> + '_ {
        let mut shards = self.shards.iter().enumerate();
        let mut is_done = false;
        std::iter::from_fn(move || {
            if is_done {
                return None;
            }
            let mut entries = 0;
            for (number, shard) in shards.by_ref() {
                entries += shard.len();
                self.prune_shard(number, shard, now);
                if entries >= PRUNED_IN_A_TURN {
                    return Some(());
                }
            }
            self.prune_keys(now);
            is_done = true;
            Some(())
        })
    }

    fn prune_shard(&self, number: usize, shard: &Shard, now: Timestamp) {
        let mut writer = shard.writer();
        writer.prune(now);
        if writer.is_empty() {
            // The part is marked as empty while nobody can insert.
            self.occupied.remove(number);
        }
    }

    fn prune_keys(&self, now: Timestamp) {
        if self.keys.load().values().any(|until| *until <= now) {
            self.keys.rcu(|keys| {
                let mut keys = HashMap::clone(keys);
                keys.retain(|_, until| *until > now);
                keys
            });
        }
    }

    /// The number of entries in the index. Of a user's epochs only the deciding ones count.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(Shard::len).sum::<usize>() + self.keys.load().len()
    }

    /// Whether the index holds no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The user and the part of the index that it belongs to; `None` if that part is empty.
    fn find(&self, user_id: &UserId) -> Option<(Subject<'_>, Guard<Arc<Tables>>)> {
        // Usually nothing is revoked, and then no hash is needed.
        if self.occupied.is_empty() {
            return None;
        }
        let user = Subject::new(&self.hash_key, user_id);
        let number = shard_of(&user);
        let shard = self.shards.get(number).filter(|_| self.occupied.contains(number))?;
        Some((user, shard.tables()))
    }

    fn change(&self, user_id: &UserId, change: impl FnOnce(&Subject<'_>, &mut Writer<'_>)) {
        let user = Subject::new(&self.hash_key, user_id);
        let number = shard_of(&user);
        #[expect(clippy::indexing_slicing, reason = "a remainder of the number of shards is a shard")]
        let mut writer = self.shards[number].writer();
        change(&user, &mut writer);
        self.occupied.add(number);
    }

    fn insert_key(&self, id: &KeyId, until: Timestamp) {
        // The tail reads the same few keys repeatedly.
        if self.keys.load().get(id).is_some_and(|known| *known >= until) {
            return;
        }
        self.keys.rcu(|keys| {
            let mut keys = HashMap::clone(keys);
            let known = keys.entry(id.clone()).or_insert(until);
            *known = (*known).max(until);
            keys
        });
    }
}

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A [`TokenEpoch`] in the form of the tables.
enum Hashed<'k> {
    Session(Point<'k>, Epoch),
    IssuedAt(u32),
}

/// The number of parts that the users are divided into. Larger tables replace full ones one part at a time, so with
/// more parts this takes less memory and less time.
const SHARDS: usize = 256;

/// The number of entries that one turn of pruning looks at, which takes a few milliseconds.
const PRUNED_IN_A_TURN: usize = 65_536;

fn shard_of(user: &Subject<'_>) -> usize {
    usize::try_from(user.fingerprint() % SHARDS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const LATER: Timestamp = Timestamp::from_secs(1_000);
    const SECOND: std::time::Duration = std::time::Duration::from_secs(1);
    const NEW: TokenEpoch = TokenEpoch::IssuedAt(Timestamp::MAX);

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

    #[test]
    fn a_check_does_not_wait_for_a_writer() {
        let index = Index::new();
        index.insert(&entry(Target::Token { user_id: user("ada"), id: token(1) }));
        let writers: Vec<_> = index.shards.iter().map(Shard::writer).collect();
        assert_eq!(index.check(&user("ada"), token(1), NEW), Err(RevokedBy::Token));
        assert_eq!(index.check(&user("ada"), token(2), NEW), Ok(()));
        drop(writers);
    }

    #[test]
    fn tokens_without_a_session_are_compared_by_whole_seconds() {
        let index = Index::new();
        let at = Timestamp::from_millis(5_500);
        let target = Target::User { user_id: user("ada"), epoch: Epoch::new(1), except: Some(session(1)) };
        index.insert(&Entry { target, until: LATER, at });
        for (issued_at, revoked) in [(4_999, true), (5_000, true), (5_999, true), (6_000, false)] {
            let standing = TokenEpoch::IssuedAt(Timestamp::from_millis(issued_at));
            assert_eq!(index.check(&user("ada"), token(1), standing).is_err(), revoked, "{issued_at}");
        }
    }

    #[test]
    fn a_removed_key_is_forgotten_at_the_latest_time_that_it_came_with() {
        let (index, key) = (Index::new(), KeyId::new("2026-01").unwrap());
        for until in [LATER - SECOND, LATER, LATER - SECOND] {
            index.insert(&Entry { until, ..entry(Target::Key { id: key.clone() }) });
        }
        index.prune(LATER - SECOND);
        assert!(index.is_key_revoked(&key) && index.len() == 1);
        index.prune(LATER);
        assert!(!index.is_key_revoked(&key) && index.is_empty());
    }

    #[test]
    fn pruning_many_entries_lets_others_run_in_between() {
        let index = Index::new();
        for number in 0..PRUNED_IN_A_TURN as u128 {
            let user_id = UserId::from(Uuid::from_u128(number % 1_000));
            let target = Target::Token { user_id, id: TokenId::new(Uuid::from_u128(number)) };
            index.insert(&entry(target));
        }
        let mut pruning = index.prune_in_turns(LATER);
        assert_eq!(pruning.next(), Some(()), "a turn ends before all is done");
        assert!(pruning.next().is_some() && pruning.next().is_none());
        assert!(index.is_empty());
    }

    #[test]
    fn what_has_expired_goes_when_it_is_an_eighth_of_its_part() {
        for (expired, kept) in [(9, 80), (10, 70)] {
            let index = Index::new();
            for number in 0..80 {
                let until = if number < expired { LATER - SECOND } else { LATER };
                let target = Target::Token { user_id: user("ada"), id: token(number) };
                index.insert(&Entry { until, ..entry(target) });
            }
            index.prune(LATER - SECOND);
            assert_eq!(index.len(), kept, "{expired}");
        }
    }

    /// The epoch of a session by its definition, over the whole log: the highest epoch of the entries that do not
    /// except it.
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
                    let verdict = index.check(&user("ada"), token(0), TokenEpoch::Session(session(asked), Epoch::new(epoch)));
                    prop_assert_eq!(verdict.is_err(), expected > epoch);
                }
            }
        }
    }
}
