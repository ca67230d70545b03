//! The traits of a store. They are small, one for each kind of record, and their methods are the domain's atomic steps:
//! a race between two requests is settled inside the store, by a condition.
//!
//! The doc comments are the promises that every store keeps. `countersign-testkit` has a suite that checks them on any
//! implementation; [`MemoryStore`] is the reference.

mod accounts;
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
    Acknowledgement, Advance, AttemptChange, AttemptStep, Attempts, EndReason, Entry, Heal, LogVerdict,
    OVERLAP, OutboxMail, OutboxState, Outcome, Refused, Session, StoredKey, ThrottlePolicy, UserSession,
};

pub use accounts::{
    AdminKeyStore, AuditPage, AuditStore, DeviceStore, NameKey, OneTimeStore, UserInserted, UserPage,
    UserPosition, UserReplaced, UserStore,
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
    /// An error of the engine `store` (such as "sqlite"); `action` completes "could not …".
    pub fn new(store: &'static str, action: &'static str, source: impl Into<BoxError>) -> Self {
        Self { store, action, source: source.into() }
    }

    /// The name of the engine.
    #[must_use]
    pub const fn store(&self) -> &'static str {
        self.store
    }
}

/// A session as found in the store, with what the log says about it. Both are read in one consistent step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FoundSession {
    /// The session's row.
    pub session: Session,
    /// The facts of the log that concern the session.
    pub log: LogVerdict,
}

/// The result of inserting a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionInserted {
    /// The session was inserted.
    Yes,
    /// The user's epoch is no longer the session's, because all sessions were ended while the login was under way.
    /// Nothing was inserted.
    EpochRaised,
    /// A session with this key exists already, ended or not. Nothing changed.
    Taken,
}

/// The result of ending a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionEnded {
    /// The session was live until this call ended it.
    Now,
    /// The session had been ended before. Nothing changed.
    Before,
    /// No session has this key.
    Unknown,
}

/// The times and the reason with which a session is ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct End {
    /// The reason for the end.
    pub reason: EndReason,
    /// The time of the end.
    pub at: Timestamp,
    /// The time until which the log's entry matters.
    pub until: Timestamp,
}

/// A session's place in a list. The newest session comes first, and of sessions of one moment the one with the highest
/// id.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SessionPosition {
    /// The time at which the session began.
    pub created_at: Timestamp,
    /// The session's id.
    pub id: SessionId,
}

impl From<&Session> for SessionPosition {
    fn from(session: &Session) -> Self {
        Self { created_at: session.created_at, id: session.id }
    }
}

/// The part of a list of sessions that is to be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SessionPage {
    /// The last session of the page before, which need not exist any more. `None` reads from the newest session on.
    pub after: Option<SessionPosition>,
    /// The number of sessions to skip.
    pub skip: usize,
    /// The most sessions to return.
    pub limit: usize,
}

impl SessionPage {
    /// The newest sessions.
    #[must_use]
    pub const fn first(limit: usize) -> Self {
        Self { after: None, skip: 0, limit }
    }

    /// The sessions after this position.
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

/// The store of sessions.
///
/// Ending a session writes the log first ([`RevocationStore`]) and marks the row second, or both in one transaction.
#[async_trait]
pub trait SessionStore: fmt::Debug + Send + Sync + 'static {
    /// Inserts a session if no session has its key and the user's epoch in the log is exactly the session's. If both
    /// conditions fail, either result may be returned.
    async fn insert_session(&self, session: &Session) -> Result<SessionInserted, StoreError>;

    /// Returns a session and what the log says about it. Ended and expired sessions are found too.
    async fn session(&self, key: &UserSession) -> Result<Option<FoundSession>, StoreError>;

    /// Advances a live session to another generation as one atomic step, if [`Advance::applies`] to the row and the log
    /// as they are then. Returns the row as the step has left it. Of concurrent calls with the same `from` at most one
    /// gets a row; the others get `None` and change nothing.
    async fn advance(&self, key: &UserSession, step: &Advance) -> Result<Option<Session>, StoreError>;

    /// Issues a live session's generation again as one atomic step, if [`Heal::applies`]; otherwise changes nothing.
    /// Returns whether it did.
    async fn heal(&self, key: &UserSession, step: &Heal) -> Result<bool, StoreError>;

    /// Notes that these generations are in use, each one if [`Acknowledgement::applies`]. Unknown sessions are skipped.
    async fn acknowledge(&self, seen: &[Acknowledgement], at: Timestamp) -> Result<(), StoreError>;

    /// Ends a session: writes a `session` entry to the log, then marks the row. Ending an ended session changes neither
    /// row nor log. When this call has returned, no later [`SessionStore::advance`] or [`SessionStore::heal`] of the
    /// session succeeds.
    ///
    /// [`SessionEnded::Before`] is returned only for a session whose row is marked or whose end is in the log. A read
    /// that lags behind, which finds the row open after a write that did not find it, does not prove that.
    async fn end_session(&self, key: &UserSession, end: &End) -> Result<SessionEnded, StoreError>;

    /// Returns a page of the user's sessions that are neither ended (by row or log) nor expired at `now`, newest first.
    ///
    /// No statement reads more of the user's sessions than the page takes, so that a user with very many of them slows
    /// nobody else down.
    async fn live_sessions(
        &self,
        user_id: &UserId,
        now: Timestamp,
        page: SessionPage,
    ) -> Result<Vec<Session>, StoreError>;

    /// Deletes at most `limit` sessions whose absolute expiry was before `before`; returns how many.
    async fn purge_sessions(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;
}

/// The order to end all of a user's sessions at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EpochRaise {
    /// The session that lives on, if there is one.
    pub except: Option<SessionId>,
    /// The reason why the others end.
    pub reason: EndReason,
    /// The time of the raise.
    pub at: Timestamp,
    /// The time until which the log's entry matters.
    pub until: Timestamp,
}

impl EpochRaise {
    /// The time before which a user's entries are forgotten if they decide nothing beside the new one. No raise that
    /// began before this time is still under way.
    #[must_use]
    pub fn forgets_before(&self) -> Timestamp {
        self.at - OVERLAP
    }
}

/// The order to revoke tokens of one user one by one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenRevocation {
    /// The `jti`s of the tokens.
    pub ids: Vec<TokenId>,
    /// The time of the revocation.
    pub at: Timestamp,
    /// The time until which the entries matter.
    pub until: Timestamp,
    /// The most live token entries that the user may have afterwards.
    pub limit: usize,
}

/// The result of revoking tokens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokensRevoked {
    /// All tokens are in the log.
    Yes,
    /// The user would have too many live entries. Nothing was written.
    TooMany {
        /// The time at which the first of the user's entries stops mattering.
        free_at: Timestamp,
    },
}

/// The store of the revocation log. Entries are inserted, merged and purged, and never changed otherwise.
///
/// An insert whose key is taken sets `at` and `until` to the later ones of both entries.
#[async_trait]
pub trait RevocationStore: fmt::Debug + Send + Sync + 'static {
    /// Whether the log has one copy, such as one file or one process, so that every reader reads everything that was
    /// written before. Otherwise every node writes a heartbeat ([`Target::Node`](crate::model::Target)) into the log,
    /// and trusts a read only if the heartbeat was in it.
    fn is_one_copy(&self) -> bool;

    /// Announces entries that other nodes have written, as soon as they have; `None` if the engine cannot. It promises
    /// nothing, so a node polls nevertheless.
    fn changes(&self) -> Option<Changes>;

    /// Returns the store's own time, which all nodes use; `None` where the machine's own clock is the store's.
    async fn time(&self) -> Result<Option<Timestamp>, StoreError>;

    /// Returns the user's epoch, which is the highest of the log's `user` entries.
    async fn epoch(&self, user_id: &UserId) -> Result<Epoch, StoreError>;

    /// Returns the time at which the user's epoch was last raised, which is the latest `at` of the log's `user`
    /// entries.
    async fn epoch_raised_at(&self, user_id: &UserId) -> Result<Option<Timestamp>, StoreError>;

    /// Raises the user's epoch by one and marks the rows of the sessions that this ends, many of them in batches.
    /// Concurrent calls raise it by one each. Returns the entry as written; its `at` is never before the time of an
    /// earlier raise.
    ///
    /// Then the call deletes the user's entries that decide nothing any more and are older than
    /// [`EpochRaise::forgets_before`]. Of a user's `user` entries only two decide: the highest and, if that excepts a
    /// session, the highest that does not except the same one. A user who raises the epoch repeatedly therefore has few
    /// entries in the log. Younger entries stay until a later raise, because a raise under way may still take their
    /// numbers for free ones.
    async fn raise_epoch(&self, user_id: &UserId, raise: &EpochRaise) -> Result<Entry, StoreError>;

    /// Inserts an entry for each token, either all or none.
    async fn revoke_tokens(
        &self,
        user_id: &UserId,
        tokens: &TokenRevocation,
    ) -> Result<TokensRevoked, StoreError>;

    /// Inserts the entry, whatever it revokes. If its key is taken, `at` and `until` become the later ones. A writer
    /// whose insert took long calls this again with a later `at`, so that no reader's window has passed the entry.
    async fn insert_entry(&self, entry: &Entry) -> Result<(), StoreError>;

    /// Returns a page of at most `limit` entries with `at` ≥ `since`: the first page, or the one after `after`, which
    /// was the last entry of the page before.
    ///
    /// The order is the store's own, best the one that it reads at the least cost. An entry may move forward in the
    /// order when it is written again, but never back, so that a reader of all pages has read every entry that was
    /// there when it began.
    async fn entries(
        &self,
        since: Timestamp,
        after: Option<&Entry>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError>;

    /// Deletes at most `limit` entries with `until` before `before`; returns how many. A `session` entry stays until
    /// its row is marked or gone, and a user's highest `user` entry stays for ever.
    async fn purge_entries(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;
}

/// The store of the counters of login attempts, by account, name, device and address. Each call is one atomic step of [`Attempts`].
///
/// A counter that has come back to [`Attempts::default`] is deleted in the same step, so attempts that were given up or
/// succeeded leave no row.
#[async_trait]
pub trait ThrottleStore: fmt::Debug + Send + Sync + 'static {
    /// Applies [`Attempts::begin`] to the counter of this key.
    async fn begin_attempt(
        &self,
        key: &str,
        now: Timestamp,
        policy: &ThrottlePolicy,
    ) -> Result<Result<(), Refused>, StoreError>;

    /// Applies [`Attempts::finish`] to the counter of this key.
    async fn finish_attempt(
        &self,
        key: &str,
        outcome: Outcome,
        now: Timestamp,
        policy: &ThrottlePolicy,
    ) -> Result<(), StoreError>;

    /// Applies these changes in their order, until one that begins an attempt is refused. Returns what came of each that
    /// was applied; the refused beginning is the last one.
    ///
    /// Each change is one atomic step, all of them together need not be. After an error some may have been applied: what
    /// was begun is then given up, or forgotten when its lease ends.
    ///
    /// A login changes several counters. This method does it one by one; an engine that can, does it at the cost of few
    /// statements.
    async fn change_attempts(
        &self,
        changes: &[AttemptChange<'_>],
        now: Timestamp,
    ) -> Result<Vec<Result<(), Refused>>, StoreError> {
        let mut answers = Vec::with_capacity(changes.len());
        let mut begun: Vec<&AttemptChange<'_>> = Vec::new();
        let mut failed = None;
        for change in changes {
            let AttemptChange { key, policy, step } = change;
            let answer = match step {
                AttemptStep::Finish(outcome) => {
                    self.finish_attempt(key, *outcome, now, policy).await.map(|()| Ok(()))
                }
                AttemptStep::Begin => self.begin_attempt(key, now, policy).await,
                AttemptStep::Fail => match self.begin_attempt(key, now, policy).await {
                    Ok(Ok(())) => {
                        self.finish_attempt(key, Outcome::Failed, now, policy).await.map(|()| Ok(()))
                    }
                    refused => refused,
                },
            };
            match answer {
                Ok(answer) => {
                    answers.push(answer);
                    if *step == AttemptStep::Begin {
                        if answer.is_err() {
                            break;
                        }
                        begun.push(change);
                    }
                }
                Err(error) => {
                    failed.get_or_insert(error);
                    if *step == AttemptStep::Begin {
                        break;
                    }
                }
            }
        }
        let Some(error) = failed else { return Ok(answers) };
        for AttemptChange { key, policy, .. } in begun {
            // If this fails too, the attempt is given up when its lease ends.
            let _ = self.finish_attempt(key, Outcome::Abandoned, now, policy).await;
        }
        Err(error)
    }

    /// Returns the counter of this key as it is, for tests and operators.
    async fn attempts(&self, key: &str) -> Result<Option<Attempts>, StoreError>;

    /// Deletes at most `limit` counters that last changed before `before`; returns how many. A refused attempt changes
    /// nothing, and need not cost a write.
    async fn purge_attempts(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;

    /// Deletes at most `limit` of the counters whose keys are in this range, by their bytes, as long as there are more
    /// than `keep` of them; returns how many. Those that changed longest ago are deleted first.
    async fn thin_attempts(&self, keys: Range<&str>, keep: u64, limit: usize) -> Result<u64, StoreError>;
}

/// The store of the keys, the store's own id, and the settings that its programs have agreed on.
#[async_trait]
pub trait KeyStore: fmt::Debug + Send + Sync + 'static {
    /// Returns the store's id, which becomes `candidate` if there was none. Of concurrent first calls one wins, and all
    /// return the winner's id.
    async fn store_id(&self, candidate: Uuid) -> Result<Uuid, StoreError>;

    /// Inserts a key unless its purpose and number, or its id, are taken; returns whether it did.
    async fn insert_key(&self, key: &StoredKey) -> Result<bool, StoreError>;

    /// Replaces a key's sealed secret by `new`, if it is still `old`; returns whether it was.
    async fn reseal_key(&self, id: &KeyId, old: &[u8], new: &[u8]) -> Result<bool, StoreError>;

    /// Marks a key as removed and wipes its sealed secret; returns whether it existed and had not been removed before.
    /// Its number and its id stay taken.
    async fn remove_key(&self, id: &KeyId, at: Timestamp) -> Result<bool, StoreError>;

    /// Returns all keys, removed ones too, by purpose and number.
    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError>;

    /// Returns the record of the settings that the store's programs have agreed on, as it was written last; `None`
    /// before the first program has written it. The record is at most 64 KiB of text, which only
    /// [`AgreedSettings`](crate::model::AgreedSettings) interprets and never the store.
    async fn settings(&self) -> Result<Option<String>, StoreError>;

    /// Replaces the record of settings by `new`, if it is still `old` to the byte, or still absent if `old` is `None`;
    /// returns whether it was. Of concurrent calls with the same `old` exactly one succeeds, and what it wrote is what
    /// every later [`KeyStore::settings`] returns.
    async fn replace_settings(&self, old: Option<&str>, new: &str) -> Result<bool, StoreError>;
}

/// The order to note that an attempt to send a mail has failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MailFailure {
    /// The id of the mail.
    pub id: Uuid,
    /// The mail's number of attempts as it was claimed, which tells this claim from later ones.
    pub attempts: u32,
    /// The state that the mail has from now on.
    pub then: OutboxState,
    /// The reason for the failure: at most [`OutboxMail::MAX_ERROR_CHARS`] characters in one line.
    pub error: String,
}

/// A dead letter's place in a list. The letter that died last comes first, and of letters of one moment the one with the
/// highest id.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct DeadLetterPosition {
    /// The time since which the letter is dead.
    pub since: Timestamp,
    /// The id of the mail.
    pub id: Uuid,
}

impl DeadLetterPosition {
    /// The place of a mail among the dead letters; `None` if it still waits.
    #[must_use]
    pub fn of(mail: &OutboxMail) -> Option<Self> {
        match mail.state {
            OutboxState::Dead { since } => Some(Self { since, id: mail.id }),
            OutboxState::Waiting { .. } => None,
        }
    }
}

/// How much is in the outbox.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct OutboxSize {
    /// The mails that wait, whether they are due, claimed, or to be tried again later.
    pub waiting: u64,
    /// The dead letters.
    pub dead: u64,
    /// The time at which the first of the waiting mails is due; `None` if none waits. The longer ago that is, the longer
    /// nobody has carried any mail.
    pub first_due: Option<Timestamp>,
}

/// The outbox: mails that wait to be sent, by any node, and the dead letters among them.
///
/// Mails are sent at least once. A mail is in the outbox from [`OutboxStore::enqueue_mail`] until
/// [`OutboxStore::remove_mail`], so that neither a dead mail server nor the crash of a node loses it.
#[async_trait]
pub trait OutboxStore: fmt::Debug + Send + Sync + 'static {
    /// Inserts a mail unless its id is taken; returns whether it did.
    async fn enqueue_mail(&self, mail: &OutboxMail) -> Result<bool, StoreError>;

    /// Claims at most `limit` of the waiting mails that are due at `now`, the longest due first and by their ids then,
    /// and returns them as they are afterwards. The claim raises [`OutboxMail::attempts`] by one and moves `next_at` to
    /// `lease_until`.
    ///
    /// Of concurrent calls at most one claims a mail. A mail whose node crashed is due again at `lease_until`.
    async fn claim_mail(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<OutboxMail>, StoreError>;

    /// Deletes a mail, waiting or dead, because it was sent or has become useless; returns whether it was there.
    async fn remove_mail(&self, id: Uuid) -> Result<bool, StoreError>;

    /// Notes that an attempt has failed, if the mail waits and its attempts are still those of the failure; returns
    /// whether it did. A node whose lease is over therefore does not touch another node's claim.
    async fn fail_mail(&self, failure: &MailFailure) -> Result<bool, StoreError>;

    /// Returns a page of at most `limit` dead letters: the first page, or the one after the place `after`, whose letter
    /// need not exist any more.
    async fn dead_letters(
        &self,
        after: Option<DeadLetterPosition>,
        limit: usize,
    ) -> Result<Vec<OutboxMail>, StoreError>;

    /// Returns how much is in the outbox. It is for telemetry, and may read an index of the whole outbox.
    async fn outbox_size(&self) -> Result<OutboxSize, StoreError>;

    /// Makes a dead letter wait again: it is due at `now` and has no attempts. Returns whether it was a dead letter.
    async fn retry_mail(&self, id: Uuid, now: Timestamp) -> Result<bool, StoreError>;

    /// Deletes at most `limit` letters that have been dead since a time before `before`; returns how many.
    async fn purge_dead_letters(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;
}

/// The stores that Countersign works with, in two halves, each of which is one engine. The half of sessions has the
/// revocation log and the login attempts too, because ends, epochs and advances are decided over sessions and log
/// together. The half of accounts has users with their one-time secrets and known devices, keys, admin keys, the audit
/// trail and the outbox. Usually one engine is both halves.
///
/// ```
/// use std::sync::Arc;
/// use countersign_core::store::{MemoryStore, Stores};
///
/// let one_engine = Stores::from(MemoryStore::new());
/// let two_engines = Stores::new(Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
///
/// let accounts_of_two = two_engines.with_sessions_of(&one_engine);
/// assert!(Arc::ptr_eq(accounts_of_two.sessions(), one_engine.sessions()));
/// ```
///
/// The log of one engine beside the sessions of another, which nobody would read, does not compile: the parts are
/// private, and `Stores::new` takes sessions, log and throttle as one value.
///
/// ```compile_fail,E0451
/// use countersign_core::store::{MemoryStore, Stores};
///
/// let (one, other) = (Stores::from(MemoryStore::new()), Stores::from(MemoryStore::new()));
/// let wrong = Stores { revocations: other.revocations, ..one };
/// ```
///
/// ```compile_fail,E0277
/// use std::sync::Arc;
/// use countersign_core::store::{MemoryStore, SessionStore, Stores};
///
/// fn with_sessions_alone(sessions: Arc<dyn SessionStore>, accounts: MemoryStore) -> Stores {
///     Stores::new(Arc::new(sessions), Arc::new(accounts))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Stores {
    sessions: Arc<dyn SessionStore>,
    revocations: Arc<dyn RevocationStore>,
    throttles: Arc<dyn ThrottleStore>,
    users: Arc<dyn UserStore>,
    one_time: Arc<dyn OneTimeStore>,
    devices: Arc<dyn DeviceStore>,
    admin_keys: Arc<dyn AdminKeyStore>,
    audit: Arc<dyn AuditStore>,
    outbox: Arc<dyn OutboxStore>,
    keys: Arc<dyn KeyStore>,
}

/// Everything that an engine keeps for the half of sessions.
pub trait SessionsHalf: SessionStore + RevocationStore + ThrottleStore {}

impl<S: SessionStore + RevocationStore + ThrottleStore> SessionsHalf for S {}

/// Everything that an engine keeps for the half of accounts.
pub trait AccountsHalf:
    UserStore + OneTimeStore + DeviceStore + AdminKeyStore + AuditStore + OutboxStore + KeyStore
{
}

impl<S: UserStore + OneTimeStore + DeviceStore + AdminKeyStore + AuditStore + OutboxStore + KeyStore>
    AccountsHalf for S
{
}

impl Stores {
    /// Stores with the sessions in one engine and the accounts in another.
    #[must_use]
    pub fn new<S, A>(sessions: Arc<S>, accounts: Arc<A>) -> Self
    where
        S: SessionsHalf,
        A: AccountsHalf,
    {
        Self {
            sessions: sessions.clone(),
            revocations: sessions.clone(),
            throttles: sessions,
            users: accounts.clone(),
            one_time: accounts.clone(),
            devices: accounts.clone(),
            admin_keys: accounts.clone(),
            audit: accounts.clone(),
            outbox: accounts.clone(),
            keys: accounts,
        }
    }

    /// Stores with these accounts and the sessions of `other`.
    #[must_use]
    pub fn with_sessions_of(self, other: &Self) -> Self {
        let Self { sessions, revocations, throttles, .. } = other.clone();
        Self { sessions, revocations, throttles, ..self }
    }

    /// The store of sessions.
    #[must_use]
    pub fn sessions(&self) -> &Arc<dyn SessionStore> {
        &self.sessions
    }

    /// The store of the revocation log, in the engine of the sessions.
    #[must_use]
    pub fn revocations(&self) -> &Arc<dyn RevocationStore> {
        &self.revocations
    }

    /// The store of login attempts, in the engine of the sessions.
    #[must_use]
    pub fn throttles(&self) -> &Arc<dyn ThrottleStore> {
        &self.throttles
    }

    /// The store of accounts.
    #[must_use]
    pub fn users(&self) -> &Arc<dyn UserStore> {
        &self.users
    }

    /// The store of one-time secrets, in the engine of the accounts.
    #[must_use]
    pub fn one_time(&self) -> &Arc<dyn OneTimeStore> {
        &self.one_time
    }

    /// The store of known devices, in the engine of the accounts.
    #[must_use]
    pub fn devices(&self) -> &Arc<dyn DeviceStore> {
        &self.devices
    }

    /// The store of admin keys, in the engine of the accounts.
    #[must_use]
    pub fn admin_keys(&self) -> &Arc<dyn AdminKeyStore> {
        &self.admin_keys
    }

    /// The store of the audit trail, in the engine of the accounts.
    #[must_use]
    pub fn audit(&self) -> &Arc<dyn AuditStore> {
        &self.audit
    }

    /// The outbox, in the engine of the accounts.
    #[must_use]
    pub fn outbox(&self) -> &Arc<dyn OutboxStore> {
        &self.outbox
    }

    /// The store of keys, in the engine of the accounts.
    #[must_use]
    pub fn keys(&self) -> &Arc<dyn KeyStore> {
        &self.keys
    }
}

impl<S> From<Arc<S>> for Stores
where
    S: SessionsHalf + AccountsHalf,
{
    fn from(store: Arc<S>) -> Self {
        Self::new(store.clone(), store)
    }
}

impl<S> From<S> for Stores
where
    S: SessionsHalf + AccountsHalf,
{
    fn from(store: S) -> Self {
        Arc::new(store).into()
    }
}

/// The range of the keys of those counters that belong to names and not to accounts. Anybody can make up names, so
/// there may be any number of these.
pub const NAME_COUNTERS: Range<&str> = "name:".."name;";

/// The most counters of names that are kept. If there are more, those that changed longest ago are deleted. No guess is
/// gained by that, because the account's own counters limit guesses too, and are kept.
pub const KEEP_NAME_COUNTERS: u64 = 100_000;

/// The range of the keys of those counters that belong to addresses. Each counts for an hour, whose number follows in
/// the key.
pub const ADDRESS_COUNTERS: Range<&str> = "hour:".."hour;";

/// The most counters of addresses that are kept. If there are more, those that changed longest ago are deleted. An
/// address gains guesses by that only if tens of thousands of other addresses have failed within the hour.
pub const KEEP_ADDRESS_COUNTERS: u64 = 200_000;

/// The range of the keys of those counters that belong to an account and a block of addresses.
pub const BLOCK_COUNTERS: Range<&str> = "block:".."block;";

/// The most counters of accounts and blocks that are kept. If there are more, those that changed longest ago are
/// deleted. Whoever wants a block's failures at an account to be forgotten must fail a million times elsewhere.
pub const KEEP_BLOCK_COUNTERS: u64 = 1_000_000;

/// The range of the keys of those counters that limit mails to an address.
pub const MAIL_COUNTERS: Range<&str> = "mail:".."mail;";

/// The most counters of mails that are kept. If there are more, those that changed longest ago are deleted.
pub const KEEP_MAIL_COUNTERS: u64 = 100_000;

/// The time for which entries are kept after they stopped mattering.
pub const KEEP_ENTRIES_FOR: Duration = Duration::from_secs(3600);

/// The time for which dead letters are kept.
pub const KEEP_DEAD_LETTERS_FOR: Duration = Duration::from_secs(30 * 86_400);
