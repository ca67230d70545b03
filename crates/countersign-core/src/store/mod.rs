//! Where everything is kept. The traits are small, one for each kind of record, and their verbs are the domain's
//! atomic steps: a race between two requests is settled inside the store, by a condition.
//!
//! The doc comments are the promises. `countersign-testkit` has a suite that checks them on any implementation;
//! [`MemoryStore`] is the reference.

mod changes;
mod memory;
mod open_store;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use countersign_jwt::id::{Epoch, SessionId, TokenId, UserId};
use countersign_jwt::key::KeyId;
use countersign_jwt::time::Timestamp;
use uuid::Uuid;

use crate::model::{
    Acknowledgement, Advance, Attempts, EndReason, Entry, Heal, LogVerdict, OVERLAP, Outcome, PasswordHash,
    Refused, Session, StoredKey, ThrottlePolicy, User, UserSession,
};

pub use changes::{ChangeSignal, Changes};
pub use memory::MemoryStore;
pub use open_store::{OpenStore, Weakness};

/// The cause of a [`StoreError`].
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A store could not answer. "Not found" is not an error: lookups return `Option`.
#[derive(Debug, thiserror::Error)]
#[error("the {store} store could not {action}")]
pub struct StoreError {
    store: &'static str,
    action: &'static str,
    #[source]
    source: BoxError,
}

impl StoreError {
    /// `store` names the engine ("sqlite"), `action` completes "could not …".
    pub fn new(store: &'static str, action: &'static str, source: impl Into<BoxError>) -> Self {
        Self { store, action, source: source.into() }
    }

    /// The engine.
    #[must_use]
    pub const fn store(&self) -> &'static str {
        self.store
    }
}

/// A session as found, with what the log says about it, both read in one consistent step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FoundSession {
    /// The row.
    pub session: Session,
    /// The log's entries that concern it.
    pub log: LogVerdict,
}

/// What came of inserting a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionInserted {
    /// It is there.
    Yes,
    /// The user's epoch is no longer the session's: all sessions were ended while the login was under way.
    /// Nothing was inserted.
    EpochRaised,
    /// There is such a session already, ended or not. Nothing changed.
    Taken,
}

/// What came of ending a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionEnded {
    /// It lived until now.
    Now,
    /// It had been ended before; nothing changed.
    Before,
    /// There is no such session.
    Unknown,
}

/// The times and the reason with which a session is ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// When.
    pub at: Timestamp,
    /// Until when the log's entry matters.
    pub until: Timestamp,
}

/// A session's place in a list: newest first, and among those of one moment the highest id first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SessionPosition {
    /// When the session began.
    pub created_at: Timestamp,
    /// The session.
    pub id: SessionId,
}

impl From<&Session> for SessionPosition {
    fn from(session: &Session) -> Self {
        Self { created_at: session.created_at, id: session.id }
    }
}

/// Which part of a list of sessions to read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SessionPage {
    /// The last session of the page before, which need not exist any more. `None` reads from the newest.
    pub after: Option<SessionPosition>,
    /// How many sessions to pass over.
    pub skip: usize,
    /// How many sessions to return at most.
    pub limit: usize,
}

impl SessionPage {
    /// The newest sessions.
    #[must_use]
    pub const fn first(limit: usize) -> Self {
        Self { after: None, skip: 0, limit }
    }

    /// The sessions after that one.
    #[must_use]
    pub const fn after(position: SessionPosition, limit: usize) -> Self {
        Self { after: Some(position), skip: 0, limit }
    }

    /// The sessions beyond the newest `keep`.
    #[must_use]
    pub const fn beyond(keep: usize, limit: usize) -> Self {
        Self { after: None, skip: keep, limit }
    }
}

/// Sessions at rest.
///
/// Ending writes the log first ([`RevocationStore`]) and marks the row second, or both in one transaction.
#[async_trait]
pub trait SessionStore: fmt::Debug + Send + Sync + 'static {
    /// Inserts a session if there is none with its key, while the user's epoch in the log is exactly the session's.
    /// Where both speak against it, either may be said.
    async fn insert_session(&self, session: &Session) -> Result<SessionInserted, StoreError>;

    /// The session and what the log says about it, ended and expired ones included.
    async fn session(&self, key: &UserSession) -> Result<Option<FoundSession>, StoreError>;

    /// Moves a live session to another generation as one atomic step, if [`Advance::applies`] to the row and the
    /// log as they are then; returns the row as the step has left it. Of concurrent calls with the same `from` at most
    /// one gets a row; the others get `None` and change nothing.
    async fn advance(&self, key: &UserSession, step: &Advance) -> Result<Option<Session>, StoreError>;

    /// Issues a live session's generation again as one atomic step, if [`Heal::applies`]; else changes nothing.
    async fn heal(&self, key: &UserSession, step: &Heal) -> Result<bool, StoreError>;

    /// Notes that these generations are in use, each if [`Acknowledgement::applies`]. Unknown ones are skipped.
    async fn acknowledge(&self, seen: &[Acknowledgement], at: Timestamp) -> Result<(), StoreError>;

    /// Ends a session: a `session` entry in the log, then the row's mark. Ending an ended session changes
    /// neither row nor log. When this has returned, no later [`SessionStore::advance`] or heal of it succeeds.
    ///
    /// [`SessionEnded::Before`] is said only of a session whose row is marked or whose end is in the log. A read that
    /// lags behind, which finds the row open after a write that did not find it, is no such proof.
    async fn end_session(&self, key: &UserSession, end: &End) -> Result<SessionEnded, StoreError>;

    /// A page of the user's sessions that are neither ended (by row or log) nor expired at `now`, newest first.
    ///
    /// No statement reads more of the user's sessions than the page takes, so that a user with very many of them
    /// slows nobody else down.
    async fn live_sessions(
        &self,
        user_id: &UserId,
        now: Timestamp,
        page: SessionPage,
    ) -> Result<Vec<Session>, StoreError>;

    /// Deletes at most `limit` sessions whose absolute expiry was before `before`; returns how many.
    async fn purge_sessions(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;
}

/// All of a user's sessions to be ended at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EpochRaise {
    /// A session that lives on.
    pub except: Option<SessionId>,
    /// Why the others end.
    pub reason: EndReason,
    /// When.
    pub at: Timestamp,
    /// Until when the log's entry matters.
    pub until: Timestamp,
}

impl EpochRaise {
    /// Entries from before this time are forgotten if they decide nothing beside the new one. No raise that began before
    /// is still under way.
    #[must_use]
    pub fn forgets_before(&self) -> Timestamp {
        self.at - OVERLAP
    }
}

/// Tokens of one user to be revoked one by one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenRevocation {
    /// Their `jti`s.
    pub ids: Vec<TokenId>,
    /// When.
    pub at: Timestamp,
    /// Until when the entries matter.
    pub until: Timestamp,
    /// How many live token entries the user may have afterwards.
    pub limit: usize,
}

/// What came of revoking tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokensRevoked {
    /// All are in the log.
    Yes,
    /// The user would have too many live entries; nothing was written.
    TooMany {
        /// When the first of the user's entries stops mattering.
        free_at: Timestamp,
    },
}

/// The revocation log: inserted into, merged, purged; never changed otherwise.
///
/// An insert whose key is taken makes `at` and `until` the later ones of both.
#[async_trait]
pub trait RevocationStore: fmt::Debug + Send + Sync + 'static {
    /// Whether there is one copy of the log, so that whoever reads it reads everything that was written before: one
    /// file, or one process. Otherwise every node writes a heartbeat ([`Target::Node`](crate::model::Target)) into
    /// the log, and trusts what it read only if that was in it.
    fn is_one_copy(&self) -> bool;

    /// Tells of entries that other nodes have written, as soon as they have; `None` if the engine cannot. Nothing is
    /// promised by it: a node polls all the same.
    fn changes(&self) -> Option<Changes>;

    /// The store's own time, by which all nodes go; `None` where the machine's own clock is the store's.
    async fn time(&self) -> Result<Option<Timestamp>, StoreError>;

    /// The user's epoch: the highest of the log's `user` entries.
    async fn epoch(&self, user_id: &UserId) -> Result<Epoch, StoreError>;

    /// When the user's epoch was last raised: the latest `at` of the log's `user` entries.
    async fn epoch_raised_at(&self, user_id: &UserId) -> Result<Option<Timestamp>, StoreError>;

    /// Raises the user's epoch by one and marks the rows of the sessions that this ends, many of them in batches.
    /// Concurrent calls raise it by one each. Returns the entry as written; its `at` is never before the time of an
    /// earlier raise.
    ///
    /// Then it deletes the user's entries that decide nothing any more and are older than [`EpochRaise::forgets_before`]:
    /// of a user's `user` entries only two decide, the highest and, if that excepts a session, the highest that does not
    /// except the same one. So a user who raises the epoch again and again has few of them in the log. Younger ones stay
    /// until a later raise: a raise under way may still take their numbers for free ones.
    async fn raise_epoch(&self, user_id: &UserId, raise: &EpochRaise) -> Result<Entry, StoreError>;

    /// Inserts an entry for each token, all or none.
    async fn revoke_tokens(
        &self,
        user_id: &UserId,
        tokens: &TokenRevocation,
    ) -> Result<TokensRevoked, StoreError>;

    /// Inserts the entry, whatever it revokes; if its key is taken, `at` and `until` become the later ones. A writer
    /// whose insert took long calls it again with a later `at`, so that no reader's window has passed it.
    async fn insert_entry(&self, entry: &Entry) -> Result<(), StoreError>;

    /// A page of at most `limit` entries with `at` ≥ `since`: the first one, or the one that comes after `after`, which was
    /// the last entry of the page before.
    ///
    /// The order is the store's own, best the one that it reads at the least cost. An entry may move on in it when it
    /// is written again, but never back, so that who reads all pages has read every entry that was there when it began.
    async fn entries(
        &self,
        since: Timestamp,
        after: Option<&Entry>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError>;

    /// Deletes at most `limit` entries with `until` before `before`; returns how many. A `session` entry stays
    /// until its row is marked or gone, a user's highest `user` entry for ever.
    async fn purge_entries(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;
}

/// Which name a user is looked up by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NameKey<'a> {
    /// An e-mail address's key.
    Email(&'a str),
    /// A username's key.
    Username(&'a str),
}

/// What came of inserting a user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UserInserted {
    /// The account is there.
    Yes,
    /// Another account has the e-mail address; nothing was inserted.
    EmailTaken,
    /// Another account has the username; nothing was inserted.
    UsernameTaken,
}

/// Accounts at rest. Names are claimed in records of their own, so that they stay unique where users are sharded.
#[async_trait]
pub trait UserStore: fmt::Debug + Send + Sync + 'static {
    /// Inserts a user and claims its names, all or nothing. Of concurrent claims of one name one wins.
    async fn insert_user(&self, user: &User) -> Result<UserInserted, StoreError>;

    /// The user with this id.
    async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError>;

    /// The user with this name.
    async fn user_by_name(&self, name: NameKey<'_>) -> Result<Option<User>, StoreError>;

    /// Replaces the password hash if it is still `old`; returns whether it was.
    async fn replace_password_hash(
        &self,
        id: &UserId,
        old: Option<&PasswordHash>,
        new: &PasswordHash,
    ) -> Result<bool, StoreError>;

    /// Disables (`Some(since)`) or enables (`None`) an account; returns whether it exists.
    async fn set_disabled(&self, id: &UserId, disabled: Option<Timestamp>) -> Result<bool, StoreError>;
}

/// Counters of login attempts, by account and by name. Each call is one atomic step of [`Attempts`].
///
/// A counter that has come back to [`Attempts::default`] is deleted in the same step: attempts that were given up, and
/// those that succeeded, leave no row.
#[async_trait]
pub trait ThrottleStore: fmt::Debug + Send + Sync + 'static {
    /// [`Attempts::begin`] on the counter of this key.
    async fn begin_attempt(
        &self,
        key: &str,
        now: Timestamp,
        policy: &ThrottlePolicy,
    ) -> Result<Result<(), Refused>, StoreError>;

    /// [`Attempts::finish`] on the counter of this key.
    async fn finish_attempt(
        &self,
        key: &str,
        outcome: Outcome,
        now: Timestamp,
        policy: &ThrottlePolicy,
    ) -> Result<(), StoreError>;

    /// The counter of this key, as it is; for tests and operators.
    async fn attempts(&self, key: &str) -> Result<Option<Attempts>, StoreError>;

    /// Deletes at most `limit` counters that last changed before `before`; returns how many. A refused attempt changes
    /// nothing, and need not cost a write.
    async fn purge_attempts(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;

    /// Deletes at most `limit` of the counters whose keys are in this range, by their bytes, as long as there are more
    /// than `keep` of them, and first those that changed longest ago; returns how many.
    async fn thin_attempts(&self, keys: Range<&str>, keep: u64, limit: usize) -> Result<u64, StoreError>;
}

/// Keys, the store's own identity, and the settings that its programs have agreed on.
#[async_trait]
pub trait KeyStore: fmt::Debug + Send + Sync + 'static {
    /// The store's id: `candidate` if it had none. Of concurrent first calls one wins and all learn the winner's.
    async fn store_id(&self, candidate: Uuid) -> Result<Uuid, StoreError>;

    /// Inserts a key unless its purpose and number, or its id, are taken; returns whether it did.
    async fn insert_key(&self, key: &StoredKey) -> Result<bool, StoreError>;

    /// Puts `new` in the place of a key's sealed secret, if that is still `old`; returns whether it was.
    async fn reseal_key(&self, id: &KeyId, old: &[u8], new: &[u8]) -> Result<bool, StoreError>;

    /// Marks a key as removed and wipes its sealed secret; returns whether it was there and not removed before. Its
    /// number and its id stay taken.
    async fn remove_key(&self, id: &KeyId, at: Timestamp) -> Result<bool, StoreError>;

    /// All keys, removed ones too, by purpose and number.
    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError>;

    /// The record of the settings that the store's programs have agreed on, as it was written last; `None` before the
    /// first one has written it. What is in it is [`AgreedSettings`](crate::model::AgreedSettings)' business, not the
    /// store's: at most 64 KiB of text.
    async fn settings(&self) -> Result<Option<String>, StoreError>;

    /// Puts `new` in the place of that record, if it is still `old` to the byte, or still absent where `old` is `None`;
    /// returns whether it was. Of concurrent calls with the same `old` exactly one succeeds, and what it wrote is what
    /// every later [`KeyStore::settings`] reads.
    async fn replace_settings(&self, old: Option<&str>, new: &str) -> Result<bool, StoreError>;
}

/// The stores that Countersign works with, in two halves, each of which is one engine: sessions (with the revocation log
/// and the login attempts, because ends, epochs and advances are decided over sessions and log together) and accounts
/// (users and keys). Usually one engine is both.
///
/// ```
/// use std::sync::Arc;
/// use countersign_core::store::{MemoryStore, Stores};
///
/// let one_engine = Stores::from(MemoryStore::new());
/// let two_engines = Stores::new(Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
/// ```
///
/// The log of one engine beside the sessions of another, which nobody would read, does not compile:
///
/// ```compile_fail
/// use countersign_core::store::{MemoryStore, Stores};
///
/// let (one, other) = (Stores::from(MemoryStore::new()), Stores::from(MemoryStore::new()));
/// let wrong = Stores { revocations: other.revocations, ..one };
/// ```
#[derive(Clone, Debug)]
pub struct Stores {
    sessions: Arc<dyn SessionStore>,
    revocations: Arc<dyn RevocationStore>,
    throttles: Arc<dyn ThrottleStore>,
    users: Arc<dyn UserStore>,
    keys: Arc<dyn KeyStore>,
}

impl Stores {
    /// Sessions in one engine, accounts in another.
    #[must_use]
    pub fn new<S, A>(sessions: Arc<S>, accounts: Arc<A>) -> Self
    where
        S: SessionStore + RevocationStore + ThrottleStore,
        A: UserStore + KeyStore,
    {
        Self {
            sessions: sessions.clone(),
            revocations: sessions.clone(),
            throttles: sessions,
            users: accounts.clone(),
            keys: accounts,
        }
    }

    /// These accounts, with the sessions of `other`.
    #[must_use]
    pub fn with_sessions_of(self, other: &Self) -> Self {
        let Self { sessions, revocations, throttles, .. } = other.clone();
        Self { sessions, revocations, throttles, ..self }
    }

    /// Sessions.
    #[must_use]
    pub fn sessions(&self) -> &Arc<dyn SessionStore> {
        &self.sessions
    }

    /// The revocation log, in the engine of the sessions.
    #[must_use]
    pub fn revocations(&self) -> &Arc<dyn RevocationStore> {
        &self.revocations
    }

    /// Login attempts, in the engine of the sessions.
    #[must_use]
    pub fn throttles(&self) -> &Arc<dyn ThrottleStore> {
        &self.throttles
    }

    /// Accounts.
    #[must_use]
    pub fn users(&self) -> &Arc<dyn UserStore> {
        &self.users
    }

    /// Keys, in the engine of the accounts.
    #[must_use]
    pub fn keys(&self) -> &Arc<dyn KeyStore> {
        &self.keys
    }
}

impl<S> From<Arc<S>> for Stores
where
    S: SessionStore + RevocationStore + UserStore + ThrottleStore + KeyStore,
{
    fn from(store: Arc<S>) -> Self {
        Self::new(store.clone(), store)
    }
}

impl<S> From<S> for Stores
where
    S: SessionStore + RevocationStore + UserStore + ThrottleStore + KeyStore,
{
    fn from(store: S) -> Self {
        Arc::new(store).into()
    }
}

/// The keys of those counters that belong to names, and not to accounts. Anybody can make up names, so there may be any
/// number of these.
pub const NAME_COUNTERS: Range<&str> = "name:".."name;";

/// How many counters of names are kept. With more, those that changed longest ago are deleted. No guess is gained by
/// that: a second counter, the account's own, limits them, and is kept.
pub const KEEP_NAME_COUNTERS: u64 = 100_000;

/// For how long entries are kept after they stopped mattering.
pub const KEEP_ENTRIES_FOR: Duration = Duration::from_secs(3600);
