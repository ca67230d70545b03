//! The reference store, which keeps everything in memory under one lock and is gone with the process.

mod accounts;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use countersign_jwt::id::{Epoch, SessionId, UserId};
use countersign_jwt::key::KeyId;
use countersign_jwt::time::Timestamp;
use uuid::Uuid;

use self::accounts::Accounts;
use super::{
    ChangeSignal, Changes, DeadLetterPosition, End, EpochRaise, FoundSession, KeyStore, MailFailure,
    OutboxSize, OutboxStore, RevocationStore, SessionEnded, SessionInserted, SessionPage, SessionPosition,
    SessionStore, StoreError, ThrottleStore, TokenRevocation, TokensRevoked,
};
use crate::model::{
    Acknowledgement, Advance, Attempts, EndReason, Ended, Entry, EntryKey, Heal, KeyPurpose, LogVerdict,
    OutboxMail, OutboxState, Outcome, Refused, Session, StoredKey, Target, ThrottlePolicy, UserSession,
};

/// A store that keeps everything in memory, for tests, examples and trying things out. Nothing survives the process.
///
/// ```
/// use countersign_core::store::{MemoryStore, SessionPage, Stores};
/// # use countersign_jwt::{Timestamp, UserId};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let stores = Stores::from(MemoryStore::new());
/// let user = stores.users().user(&UserId::new("ada")?).await?;
/// assert!(user.is_none(), "a new store is empty");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    changed: ChangeSignal,
}

#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<UserSession, Session>,
    log: BTreeMap<EntryKey, Entry>,
    accounts: Accounts,
    attempts: HashMap<String, (Attempts, Timestamp)>,
    keys: BTreeMap<(KeyPurpose, u32), StoredKey>,
    store_id: Option<Uuid>,
    settings: Option<String>,
    outbox: HashMap<Uuid, OutboxMail>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No method panics between two writes that belong together, so the state of a poisoned lock is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The user's entries of one kind (as [`EntryKey`] names it) in the log.
    fn user_log(&self, user_id: &UserId, kind: &'static str) -> impl Iterator<Item = &Entry> {
        let first =
            EntryKey { user_id: user_id.as_str().to_owned(), kind, reference: String::new(), number: 0 };
        let user_id = user_id.clone();
        self.log
            .range(first..)
            .take_while(move |(key, _)| key.user_id == user_id.as_str() && key.kind == kind)
            .map(|(_, entry)| entry)
    }

    fn epoch(&self, user_id: &UserId) -> Epoch {
        self.user_log(user_id, "user").filter_map(|entry| epoch_for(entry, None)).max().unwrap_or_default()
    }

    fn raised_at(&self, user_id: &UserId) -> Option<Timestamp> {
        self.user_log(user_id, "user").map(|entry| entry.at).max()
    }

    /// Deletes the user's old `user` entries that decide nothing beside the highest one, which this raise has written.
    fn forget_outdone(&mut self, user_id: &UserId, highest: Epoch, raise: &EpochRaise) {
        let decides_for_excepted = raise.except.and_then(|excepted| {
            let lower = self.user_log(user_id, "user").filter_map(|entry| epoch_for(entry, Some(excepted)));
            lower.filter(|epoch| *epoch < highest).max()
        });
        self.log.retain(|key, entry| {
            let epoch = Epoch::new(key.number);
            key.user_id != user_id.as_str()
                || key.kind != "user"
                || epoch >= highest
                || entry.at >= raise.forgets_before()
                || Some(epoch) == decides_for_excepted
        });
    }

    fn standing(&self, key: &UserSession) -> LogVerdict {
        let end = Target::Session { user_id: key.user_id.clone(), id: key.id };
        let raises = self.user_log(&key.user_id, "user");
        LogVerdict {
            ended: self.log.contains_key(&end.key()),
            epoch: raises.filter_map(|entry| epoch_for(entry, Some(key.id))).max().unwrap_or_default(),
        }
    }

    fn merge(&mut self, entry: &Entry) {
        let known = self.log.entry(entry.key()).or_insert_with(|| entry.clone());
        known.at = known.at.max(entry.at);
        known.until = known.until.max(entry.until);
    }
}

/// The epoch that a `user` entry sets for a session, or for any session.
fn epoch_for(entry: &Entry, session: Option<SessionId>) -> Option<Epoch> {
    match &entry.target {
        Target::User { epoch, except, .. } if session.is_none() || *except != session => Some(*epoch),
        _ => None,
    }
}

#[async_trait]
impl SessionStore for MemoryStore {
    async fn insert_session(&self, session: &Session) -> Result<SessionInserted, StoreError> {
        let mut state = self.state();
        if state.epoch(&session.user_id) != session.epoch {
            return Ok(SessionInserted::EpochRaised);
        }
        if state.sessions.contains_key(&session.key()) {
            return Ok(SessionInserted::Taken);
        }
        state.sessions.insert(session.key(), session.clone());
        Ok(SessionInserted::Yes)
    }

    async fn session(&self, key: &UserSession) -> Result<Option<FoundSession>, StoreError> {
        let state = self.state();
        Ok(state
            .sessions
            .get(key)
            .map(|session| FoundSession { session: session.clone(), log: state.standing(key) }))
    }

    async fn advance(&self, key: &UserSession, step: &Advance) -> Result<Option<Session>, StoreError> {
        let mut state = self.state();
        let log = state.standing(key);
        Ok(state.sessions.get_mut(key).filter(|session| step.applies(session, log)).map(|session| {
            step.apply(session);
            session.clone()
        }))
    }

    async fn heal(&self, key: &UserSession, step: &Heal) -> Result<bool, StoreError> {
        let mut state = self.state();
        let log = state.standing(key);
        match state.sessions.get_mut(key) {
            Some(session) if step.applies(session, log) => {
                step.apply(session);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    async fn acknowledge(&self, seen: &[Acknowledgement], at: Timestamp) -> Result<(), StoreError> {
        let mut state = self.state();
        for seen in seen {
            let key = UserSession { user_id: seen.user_id.clone(), id: seen.session_id };
            if let Some(session) = state.sessions.get_mut(&key).filter(|session| seen.applies(session)) {
                seen.apply(session, at);
            }
        }
        Ok(())
    }

    async fn end_session(&self, key: &UserSession, end: &End) -> Result<SessionEnded, StoreError> {
        let mut state = self.state();
        let ended_in_log = state.standing(key).ended;
        let Some(session) = state.sessions.get_mut(key) else { return Ok(SessionEnded::Unknown) };
        if session.ended.is_some() {
            return Ok(SessionEnded::Before);
        }
        session.ended = Some(Ended { at: end.at, reason: end.reason });
        if ended_in_log {
            return Ok(SessionEnded::Before);
        }
        let target = Target::Session { user_id: key.user_id.clone(), id: key.id };
        state.merge(&Entry { target, until: end.until, at: end.at });
        self.changed.raise();
        Ok(SessionEnded::Now)
    }

    async fn live_sessions(
        &self,
        user_id: &UserId,
        now: Timestamp,
        page: SessionPage,
    ) -> Result<Vec<Session>, StoreError> {
        let state = self.state();
        let first = UserSession { user_id: user_id.clone(), id: SessionId::new(Uuid::nil()) };
        let mut live: Vec<_> = state
            .sessions
            .range(first..)
            .take_while(|(key, _)| key.user_id == *user_id)
            // The row's mark is looked at first, so that a user's ended sessions do not cost a walk through the log
            // each.
            .filter(|(_, session)| session.ended.is_none())
            .filter(|(_, session)| page.after.is_none_or(|after| SessionPosition::from(*session) < after))
            .filter(|(key, session)| state.standing(key).allows(session, now))
            .map(|(_, session)| session.clone())
            .collect();
        live.sort_by_key(|session| std::cmp::Reverse(SessionPosition::from(session)));
        Ok(live.into_iter().skip(page.skip).take(page.limit).collect())
    }

    async fn purge_sessions(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let mut state = self.state();
        let gone: Vec<_> = state
            .sessions
            .values()
            .filter(|session| session.absolute_until < before)
            .map(Session::key)
            .take(limit)
            .collect();
        for key in &gone {
            state.sessions.remove(key);
        }
        Ok(gone.len() as u64)
    }
}

#[async_trait]
impl RevocationStore for MemoryStore {
    fn is_one_copy(&self) -> bool {
        true
    }

    fn changes(&self) -> Option<Changes> {
        Some(self.changed.subscribe())
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    async fn epoch(&self, user_id: &UserId) -> Result<Epoch, StoreError> {
        Ok(self.state().epoch(user_id))
    }

    async fn epoch_raised_at(&self, user_id: &UserId) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.state().raised_at(user_id))
    }

    async fn raise_epoch(&self, user_id: &UserId, raise: &EpochRaise) -> Result<Entry, StoreError> {
        let mut state = self.state();
        let epoch = state.epoch(user_id).next();
        let at = state.raised_at(user_id).map_or(raise.at, |raised_at| raised_at.max(raise.at));
        let target = Target::User { user_id: user_id.clone(), epoch, except: raise.except };
        let entry = Entry { target, until: raise.until, at };
        state.merge(&entry);
        state.forget_outdone(user_id, epoch, raise);
        self.changed.raise();
        for session in state.sessions.values_mut() {
            if session.user_id == *user_id
                && Some(session.id) != raise.except
                && session.epoch < epoch
                && session.ended.is_none()
            {
                session.ended = Some(Ended { at: raise.at, reason: raise.reason });
            }
        }
        Ok(entry)
    }

    async fn revoke_tokens(
        &self,
        user_id: &UserId,
        tokens: &TokenRevocation,
    ) -> Result<TokensRevoked, StoreError> {
        let mut state = self.state();
        let entries: Vec<_> = tokens
            .ids
            .iter()
            .map(|id| Entry {
                target: Target::Token { user_id: user_id.clone(), id: *id },
                until: tokens.until,
                at: tokens.at,
            })
            .collect();
        let live: Vec<_> = state.user_log(user_id, "token").filter(|entry| entry.until > tokens.at).collect();
        let new = entries.iter().filter(|entry| !live.iter().any(|known| known.target == entry.target));
        if live.len() + new.count() > tokens.limit {
            let free_at = live.iter().map(|entry| entry.until).min().unwrap_or(tokens.until);
            return Ok(TokensRevoked::TooMany { free_at });
        }
        for entry in &entries {
            state.merge(entry);
        }
        self.changed.raise();
        Ok(TokensRevoked::Yes)
    }

    async fn insert_entry(&self, entry: &Entry) -> Result<(), StoreError> {
        self.state().merge(entry);
        self.changed.raise();
        Ok(())
    }

    async fn entries(
        &self,
        since: Timestamp,
        after: Option<&Entry>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let (state, after) = (self.state(), after.map(Entry::key));
        Ok(state
            .log
            .iter()
            .filter(|(key, entry)| entry.at >= since && after.as_ref().is_none_or(|after| *key > after))
            .map(|(_, entry)| entry.clone())
            .take(limit)
            .collect())
    }

    async fn purge_entries(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let mut state = self.state();
        let gone: Vec<_> = state
            .log
            .iter()
            .filter(|(_, entry)| entry.until < before)
            .filter(|(_, entry)| match &entry.target {
                Target::Session { user_id, id } => state
                    .sessions
                    .get(&UserSession { user_id: user_id.clone(), id: *id })
                    .is_none_or(|session| session.ended.is_some()),
                Target::User { user_id, epoch, .. } => *epoch < state.epoch(user_id),
                Target::Token { .. } | Target::Key { .. } | Target::Node { .. } => true,
            })
            .map(|(key, _)| key.clone())
            .take(limit)
            .collect();
        for key in &gone {
            state.log.remove(key);
        }
        Ok(gone.len() as u64)
    }
}

#[async_trait]
impl ThrottleStore for MemoryStore {
    async fn begin_attempt(
        &self,
        key: &str,
        now: Timestamp,
        policy: &ThrottlePolicy,
    ) -> Result<Result<(), Refused>, StoreError> {
        Ok(self.step(key, now, |attempts| attempts.begin(now, policy)))
    }

    async fn finish_attempt(
        &self,
        key: &str,
        outcome: Outcome,
        now: Timestamp,
        policy: &ThrottlePolicy,
    ) -> Result<(), StoreError> {
        self.step(key, now, |attempts| attempts.finish(outcome, now, policy));
        Ok(())
    }

    async fn attempts(&self, key: &str) -> Result<Option<Attempts>, StoreError> {
        Ok(self.state().attempts.get(key).map(|(attempts, _)| *attempts))
    }

    async fn purge_attempts(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let mut state = self.state();
        let gone: Vec<_> = state
            .attempts
            .iter()
            .filter(|(_, (_, changed_at))| *changed_at < before)
            .map(|(key, _)| key.clone())
            .take(limit)
            .collect();
        for key in &gone {
            state.attempts.remove(key);
        }
        Ok(gone.len() as u64)
    }

    async fn thin_attempts(&self, keys: Range<&str>, keep: u64, limit: usize) -> Result<u64, StoreError> {
        let mut state = self.state();
        let mut found: Vec<_> = state
            .attempts
            .iter()
            .filter(|(key, _)| keys.contains(&key.as_str()))
            .map(|(key, (_, changed_at))| (*changed_at, key.clone()))
            .collect();
        let too_many = found.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
        found.sort_unstable();
        found.truncate(too_many.min(limit));
        for (_, key) in &found {
            state.attempts.remove(key);
        }
        Ok(found.len() as u64)
    }
}

#[async_trait]
impl KeyStore for MemoryStore {
    async fn store_id(&self, candidate: Uuid) -> Result<Uuid, StoreError> {
        Ok(*self.state().store_id.get_or_insert(candidate))
    }

    async fn insert_key(&self, key: &StoredKey) -> Result<bool, StoreError> {
        let mut state = self.state();
        let taken = state.keys.contains_key(&(key.purpose, key.number))
            || state.keys.values().any(|known| known.key_id == key.key_id);
        if !taken {
            state.keys.insert((key.purpose, key.number), key.clone());
        }
        Ok(!taken)
    }

    async fn reseal_key(&self, id: &KeyId, old: &[u8], new: &[u8]) -> Result<bool, StoreError> {
        let mut state = self.state();
        match state.keys.values_mut().find(|key| key.key_id == *id && key.sealed == old) {
            Some(key) => {
                key.sealed = new.to_vec();
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn remove_key(&self, id: &KeyId, at: Timestamp) -> Result<bool, StoreError> {
        let mut state = self.state();
        match state.keys.values_mut().find(|key| key.key_id == *id && key.removed_at.is_none()) {
            Some(key) => {
                key.removed_at = Some(at);
                key.sealed.clear();
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        Ok(self.state().keys.values().cloned().collect())
    }

    async fn settings(&self) -> Result<Option<String>, StoreError> {
        Ok(self.state().settings.clone())
    }

    async fn replace_settings(&self, old: Option<&str>, new: &str) -> Result<bool, StoreError> {
        let mut state = self.state();
        let is_old = state.settings.as_deref() == old;
        if is_old {
            state.settings = Some(new.to_owned());
        }
        Ok(is_old)
    }
}

#[async_trait]
impl OutboxStore for MemoryStore {
    async fn enqueue_mail(&self, mail: &OutboxMail) -> Result<bool, StoreError> {
        let mut state = self.state();
        let taken = state.outbox.contains_key(&mail.id);
        if !taken {
            state.outbox.insert(mail.id, mail.clone());
        }
        Ok(!taken)
    }

    async fn claim_mail(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<OutboxMail>, StoreError> {
        let mut state = self.state();
        let mut due: Vec<_> = state
            .outbox
            .values()
            .filter_map(|mail| match mail.state {
                OutboxState::Waiting { next_at } if next_at <= now => Some((next_at, mail.id)),
                _ => None,
            })
            .collect();
        due.sort_unstable();
        due.truncate(limit);
        let mut claimed = Vec::new();
        for (_, id) in due {
            if let Some(mail) = state.outbox.get_mut(&id) {
                mail.attempts = mail.attempts.saturating_add(1);
                mail.state = OutboxState::Waiting { next_at: lease_until };
                claimed.push(mail.clone());
            }
        }
        Ok(claimed)
    }

    async fn remove_mail(&self, id: Uuid) -> Result<bool, StoreError> {
        Ok(self.state().outbox.remove(&id).is_some())
    }

    async fn fail_mail(&self, failure: &MailFailure) -> Result<bool, StoreError> {
        let mut state = self.state();
        let is_claimed = |mail: &&mut OutboxMail| {
            mail.attempts == failure.attempts && matches!(mail.state, OutboxState::Waiting { .. })
        };
        match state.outbox.get_mut(&failure.id).filter(is_claimed) {
            Some(mail) => {
                mail.state = failure.then;
                mail.last_error = Some(failure.error.clone());
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn dead_letters(
        &self,
        after: Option<DeadLetterPosition>,
        limit: usize,
    ) -> Result<Vec<OutboxMail>, StoreError> {
        let state = self.state();
        let mut dead: Vec<_> = state
            .outbox
            .values()
            .filter_map(|mail| Some((DeadLetterPosition::of(mail)?, mail)))
            .filter(|(position, _)| after.is_none_or(|after| *position < after))
            .collect();
        dead.sort_by_key(|(position, _)| std::cmp::Reverse(*position));
        Ok(dead.into_iter().map(|(_, mail)| mail.clone()).take(limit).collect())
    }

    async fn outbox_size(&self) -> Result<OutboxSize, StoreError> {
        let mut size = OutboxSize::default();
        for mail in self.state().outbox.values() {
            match mail.state {
                OutboxState::Waiting { next_at } => {
                    size.waiting += 1;
                    size.first_due = Some(size.first_due.map_or(next_at, |first| first.min(next_at)));
                }
                OutboxState::Dead { .. } => size.dead += 1,
            }
        }
        Ok(size)
    }

    async fn retry_mail(&self, id: Uuid, now: Timestamp) -> Result<bool, StoreError> {
        let mut state = self.state();
        let is_dead = |mail: &&mut OutboxMail| matches!(mail.state, OutboxState::Dead { .. });
        match state.outbox.get_mut(&id).filter(is_dead) {
            Some(mail) => {
                (mail.state, mail.attempts) = (OutboxState::Waiting { next_at: now }, 0);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn purge_dead_letters(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let mut state = self.state();
        let gone: Vec<_> = state
            .outbox
            .values()
            .filter_map(DeadLetterPosition::of)
            .filter(|position| position.since < before)
            .map(|position| position.id)
            .take(limit)
            .collect();
        for id in &gone {
            state.outbox.remove(id);
        }
        Ok(gone.len() as u64)
    }
}

impl MemoryStore {
    fn step<T>(&self, key: &str, now: Timestamp, step: impl FnOnce(&mut Attempts) -> T) -> T {
        let mut state = self.state();
        let before = state.attempts.get(key).map(|(attempts, _)| *attempts).unwrap_or_default();
        let mut attempts = before;
        let answer = step(&mut attempts);
        if attempts == Attempts::default() {
            state.attempts.remove(key);
        } else if attempts != before {
            state.attempts.insert(key.to_owned(), (attempts, now));
        }
        answer
    }

    /// Removes the mark of a session's end from the row, as a crash between the log's entry and the mark would leave
    /// it. It serves tests of the rule that the log alone decides.
    #[doc(hidden)]
    pub fn forget_end_mark(&self, key: &UserSession) -> Option<EndReason> {
        self.state().sessions.get_mut(key)?.ended.take().map(|ended| ended.reason)
    }
}
