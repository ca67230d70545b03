//! Stores that measure how long their calls take, and count those that fail.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use countersign_core::model::{
    Acknowledgement, AdminKey, Advance, AttemptChange, Attempts, AuditRecord, Entry, Heal, KnownDevice,
    OneTimeSecret, OutboxMail, Outcome, PasswordHash, Purpose, Refused, SecretDigest, Session, StoredKey,
    ThrottlePolicy, Tried, User, UserSession,
};
use countersign_core::store::{
    AdminKeyStore, AuditPage, AuditStore, Changes, DeadLetterPosition, DeviceStore, End, EpochRaise,
    FoundSession, KeyStore, MailFailure, NameKey, OneTimeStore, OutboxSize, OutboxStore, RevocationStore,
    SessionEnded, SessionInserted, SessionPage, SessionStore, StoreError, Stores, ThrottleStore,
    TokenRevocation, TokensRevoked, UserInserted, UserPage, UserReplaced, UserStore,
};
use countersign_http::SystemClock;
use countersign_jwt::key::KeyId;
use countersign_jwt::{Clock as _, Epoch, Timestamp, UserId};
use metrics::{Counter, Histogram};
use uuid::Uuid;

use super::declared::{STORE_ERRORS, STORE_SECONDS};

/// The methods of the store's traits.
#[rustfmt::skip]
pub(super) const OPERATIONS: [&str; 63] = [
    "acknowledge",
    "admin_key",
    "admin_keys",
    "advance",
    "attempts",
    "audit",
    "begin_attempt",
    "change_attempts",
    "claim_mail",
    "dead_letters",
    "delete_user",
    "end_session",
    "enqueue_mail",
    "entries",
    "epoch",
    "epoch_raised_at",
    "fail_mail",
    "finish_attempt",
    "forget_devices",
    "heal",
    "insert_admin_key",
    "insert_audit",
    "insert_entry",
    "insert_key",
    "insert_session",
    "insert_user",
    "keys",
    "knows_device",
    "live_sessions",
    "next_user_number",
    "outbox_size",
    "purge_attempts",
    "purge_audit",
    "purge_dead_letters",
    "purge_devices",
    "purge_entries",
    "purge_secrets",
    "purge_sessions",
    "put_secret",
    "raise_epoch",
    "remember_device",
    "remove_admin_key",
    "remove_key",
    "remove_mail",
    "remove_secret",
    "replace_password_hash",
    "replace_settings",
    "replace_user",
    "reseal_key",
    "retry_mail",
    "revoke_tokens",
    "secret",
    "session",
    "set_disabled",
    "settings",
    "store_id",
    "thin_attempts",
    "time",
    "try_secret",
    "user",
    "user_by_name",
    "users",
    "users_to_delete",
];

/// Any stores, measured. A call costs two looks at the clock and one at a table more than without.
#[derive(Debug)]
pub(crate) struct MeasuredStores {
    inner: Stores,
    clock: SystemClock,
    operations: HashMap<&'static str, Operation>,
}

#[derive(Debug)]
struct Operation {
    seconds: Histogram,
    errors: Counter,
}

impl MeasuredStores {
    /// The same stores, measured from now on.
    pub(crate) fn of(inner: Stores) -> Stores {
        let operation = |name| {
            let labels = [("operation", name)];
            (
                name,
                Operation {
                    seconds: STORE_SECONDS.histogram(&labels),
                    errors: STORE_ERRORS.counter(&labels),
                },
            )
        };
        let operations = OPERATIONS.into_iter().map(operation).collect();
        Arc::new(Self { inner, clock: SystemClock::new(), operations }).into()
    }

    async fn measured<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let began = self.clock.monotonic();
        let answer = call.await;
        if let Some(operation) = self.operations.get(name) {
            operation.seconds.record(self.clock.monotonic().saturating_sub(began).as_secs_f64());
            if answer.is_err() {
                operation.errors.increment(1);
            }
        }
        answer
    }
}

#[async_trait]
impl SessionStore for MeasuredStores {
    async fn insert_session(&self, session: &Session) -> Result<SessionInserted, StoreError> {
        self.measured("insert_session", self.inner.sessions().insert_session(session)).await
    }

    async fn session(&self, key: &UserSession) -> Result<Option<FoundSession>, StoreError> {
        self.measured("session", self.inner.sessions().session(key)).await
    }

    async fn advance(&self, key: &UserSession, step: &Advance) -> Result<Option<Session>, StoreError> {
        self.measured("advance", self.inner.sessions().advance(key, step)).await
    }

    async fn heal(&self, key: &UserSession, step: &Heal) -> Result<bool, StoreError> {
        self.measured("heal", self.inner.sessions().heal(key, step)).await
    }

    async fn acknowledge(&self, seen: &[Acknowledgement], at: Timestamp) -> Result<(), StoreError> {
        self.measured("acknowledge", self.inner.sessions().acknowledge(seen, at)).await
    }

    async fn end_session(&self, key: &UserSession, end: &End) -> Result<SessionEnded, StoreError> {
        self.measured("end_session", self.inner.sessions().end_session(key, end)).await
    }

    async fn live_sessions(
        &self,
        user_id: &UserId,
        now: Timestamp,
        page: SessionPage,
    ) -> Result<Vec<Session>, StoreError> {
        self.measured("live_sessions", self.inner.sessions().live_sessions(user_id, now, page)).await
    }

    async fn purge_sessions(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.measured("purge_sessions", self.inner.sessions().purge_sessions(before, limit)).await
    }
}

#[async_trait]
impl RevocationStore for MeasuredStores {
    fn is_one_copy(&self) -> bool {
        self.inner.revocations().is_one_copy()
    }

    fn changes(&self) -> Option<Changes> {
        self.inner.revocations().changes()
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        self.measured("time", self.inner.revocations().time()).await
    }

    async fn epoch(&self, user_id: &UserId) -> Result<Epoch, StoreError> {
        self.measured("epoch", self.inner.revocations().epoch(user_id)).await
    }

    async fn epoch_raised_at(&self, user_id: &UserId) -> Result<Option<Timestamp>, StoreError> {
        self.measured("epoch_raised_at", self.inner.revocations().epoch_raised_at(user_id)).await
    }

    async fn raise_epoch(&self, user_id: &UserId, raise: &EpochRaise) -> Result<Entry, StoreError> {
        self.measured("raise_epoch", self.inner.revocations().raise_epoch(user_id, raise)).await
    }

    async fn revoke_tokens(
        &self,
        user_id: &UserId,
        tokens: &TokenRevocation,
    ) -> Result<TokensRevoked, StoreError> {
        self.measured("revoke_tokens", self.inner.revocations().revoke_tokens(user_id, tokens)).await
    }

    async fn insert_entry(&self, entry: &Entry) -> Result<(), StoreError> {
        self.measured("insert_entry", self.inner.revocations().insert_entry(entry)).await
    }

    async fn entries(
        &self,
        since: Timestamp,
        after: Option<&Entry>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.measured("entries", self.inner.revocations().entries(since, after, limit)).await
    }

    async fn purge_entries(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.measured("purge_entries", self.inner.revocations().purge_entries(before, limit)).await
    }
}

#[async_trait]
impl ThrottleStore for MeasuredStores {
    async fn begin_attempt(
        &self,
        key: &str,
        now: Timestamp,
        policy: &ThrottlePolicy,
    ) -> Result<Result<(), Refused>, StoreError> {
        self.measured("begin_attempt", self.inner.throttles().begin_attempt(key, now, policy)).await
    }

    async fn finish_attempt(
        &self,
        key: &str,
        outcome: Outcome,
        now: Timestamp,
        policy: &ThrottlePolicy,
    ) -> Result<(), StoreError> {
        self.measured("finish_attempt", self.inner.throttles().finish_attempt(key, outcome, now, policy))
            .await
    }

    async fn change_attempts(
        &self,
        changes: &[AttemptChange<'_>],
        now: Timestamp,
    ) -> Result<Vec<Result<(), Refused>>, StoreError> {
        self.measured("change_attempts", self.inner.throttles().change_attempts(changes, now)).await
    }

    async fn attempts(&self, key: &str) -> Result<Option<Attempts>, StoreError> {
        self.measured("attempts", self.inner.throttles().attempts(key)).await
    }

    async fn purge_attempts(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.measured("purge_attempts", self.inner.throttles().purge_attempts(before, limit)).await
    }

    async fn thin_attempts(&self, keys: Range<&str>, keep: u64, limit: usize) -> Result<u64, StoreError> {
        self.measured("thin_attempts", self.inner.throttles().thin_attempts(keys, keep, limit)).await
    }
}

#[async_trait]
impl UserStore for MeasuredStores {
    async fn insert_user(&self, user: &User) -> Result<UserInserted, StoreError> {
        self.measured("insert_user", self.inner.users().insert_user(user)).await
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        self.measured("user", self.inner.users().user(id)).await
    }

    async fn user_by_name(&self, name: NameKey<'_>) -> Result<Option<User>, StoreError> {
        self.measured("user_by_name", self.inner.users().user_by_name(name)).await
    }

    async fn replace_user(&self, old: &User, new: &User) -> Result<UserReplaced, StoreError> {
        self.measured("replace_user", self.inner.users().replace_user(old, new)).await
    }

    async fn delete_user(&self, id: &UserId) -> Result<bool, StoreError> {
        self.measured("delete_user", self.inner.users().delete_user(id)).await
    }

    async fn users(&self, page: &UserPage<'_>) -> Result<Vec<User>, StoreError> {
        self.measured("users", self.inner.users().users(page)).await
    }

    async fn users_to_delete(&self, before: Timestamp, limit: usize) -> Result<Vec<User>, StoreError> {
        self.measured("users_to_delete", self.inner.users().users_to_delete(before, limit)).await
    }

    async fn next_user_number(&self, at_least: u64) -> Result<u64, StoreError> {
        self.measured("next_user_number", self.inner.users().next_user_number(at_least)).await
    }

    async fn replace_password_hash(
        &self,
        id: &UserId,
        old: Option<&PasswordHash>,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        self.measured("replace_password_hash", self.inner.users().replace_password_hash(id, old, new)).await
    }

    async fn set_disabled(&self, id: &UserId, disabled: Option<Timestamp>) -> Result<bool, StoreError> {
        self.measured("set_disabled", self.inner.users().set_disabled(id, disabled)).await
    }
}

#[async_trait]
impl OneTimeStore for MeasuredStores {
    async fn put_secret(&self, secret: &OneTimeSecret) -> Result<(), StoreError> {
        self.measured("put_secret", self.inner.one_time().put_secret(secret)).await
    }

    async fn secret(&self, user_id: &UserId, purpose: Purpose) -> Result<Option<OneTimeSecret>, StoreError> {
        self.measured("secret", self.inner.one_time().secret(user_id, purpose)).await
    }

    async fn try_secret(
        &self,
        user_id: &UserId,
        purpose: Purpose,
        digest: &SecretDigest,
        now: Timestamp,
    ) -> Result<Option<(Tried, OneTimeSecret)>, StoreError> {
        self.measured("try_secret", self.inner.one_time().try_secret(user_id, purpose, digest, now)).await
    }

    async fn remove_secret(&self, user_id: &UserId, purpose: Purpose) -> Result<bool, StoreError> {
        self.measured("remove_secret", self.inner.one_time().remove_secret(user_id, purpose)).await
    }

    async fn purge_secrets(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.measured("purge_secrets", self.inner.one_time().purge_secrets(before, limit)).await
    }
}

#[async_trait]
impl DeviceStore for MeasuredStores {
    async fn remember_device(&self, device: &KnownDevice) -> Result<bool, StoreError> {
        self.measured("remember_device", self.inner.devices().remember_device(device)).await
    }

    async fn knows_device(
        &self,
        user_id: &UserId,
        digest: &SecretDigest,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.measured("knows_device", self.inner.devices().knows_device(user_id, digest, now)).await
    }

    async fn forget_devices(&self, user_id: &UserId) -> Result<u64, StoreError> {
        self.measured("forget_devices", self.inner.devices().forget_devices(user_id)).await
    }

    async fn purge_devices(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.measured("purge_devices", self.inner.devices().purge_devices(before, limit)).await
    }
}

#[async_trait]
impl AdminKeyStore for MeasuredStores {
    async fn insert_admin_key(&self, key: &AdminKey) -> Result<bool, StoreError> {
        self.measured("insert_admin_key", self.inner.admin_keys().insert_admin_key(key)).await
    }

    async fn admin_key(&self, id: Uuid) -> Result<Option<AdminKey>, StoreError> {
        self.measured("admin_key", self.inner.admin_keys().admin_key(id)).await
    }

    async fn admin_keys(&self) -> Result<Vec<AdminKey>, StoreError> {
        self.measured("admin_keys", self.inner.admin_keys().admin_keys()).await
    }

    async fn remove_admin_key(&self, id: Uuid) -> Result<bool, StoreError> {
        self.measured("remove_admin_key", self.inner.admin_keys().remove_admin_key(id)).await
    }
}

#[async_trait]
impl AuditStore for MeasuredStores {
    async fn insert_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        self.measured("insert_audit", self.inner.audit().insert_audit(records)).await
    }

    async fn audit(&self, page: &AuditPage<'_>) -> Result<Vec<AuditRecord>, StoreError> {
        self.measured("audit", self.inner.audit().audit(page)).await
    }

    async fn purge_audit(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.measured("purge_audit", self.inner.audit().purge_audit(before, limit)).await
    }
}

#[async_trait]
impl OutboxStore for MeasuredStores {
    async fn enqueue_mail(&self, mail: &OutboxMail) -> Result<bool, StoreError> {
        self.measured("enqueue_mail", self.inner.outbox().enqueue_mail(mail)).await
    }

    async fn claim_mail(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<OutboxMail>, StoreError> {
        self.measured("claim_mail", self.inner.outbox().claim_mail(now, lease_until, limit)).await
    }

    async fn remove_mail(&self, id: Uuid) -> Result<bool, StoreError> {
        self.measured("remove_mail", self.inner.outbox().remove_mail(id)).await
    }

    async fn fail_mail(&self, failure: &MailFailure) -> Result<bool, StoreError> {
        self.measured("fail_mail", self.inner.outbox().fail_mail(failure)).await
    }

    async fn dead_letters(
        &self,
        after: Option<DeadLetterPosition>,
        limit: usize,
    ) -> Result<Vec<OutboxMail>, StoreError> {
        self.measured("dead_letters", self.inner.outbox().dead_letters(after, limit)).await
    }

    async fn outbox_size(&self) -> Result<OutboxSize, StoreError> {
        self.measured("outbox_size", self.inner.outbox().outbox_size()).await
    }

    async fn retry_mail(&self, id: Uuid, now: Timestamp) -> Result<bool, StoreError> {
        self.measured("retry_mail", self.inner.outbox().retry_mail(id, now)).await
    }

    async fn purge_dead_letters(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.measured("purge_dead_letters", self.inner.outbox().purge_dead_letters(before, limit)).await
    }
}

#[async_trait]
impl KeyStore for MeasuredStores {
    async fn store_id(&self, candidate: Uuid) -> Result<Uuid, StoreError> {
        self.measured("store_id", self.inner.keys().store_id(candidate)).await
    }

    async fn insert_key(&self, key: &StoredKey) -> Result<bool, StoreError> {
        self.measured("insert_key", self.inner.keys().insert_key(key)).await
    }

    async fn reseal_key(&self, id: &KeyId, old: &[u8], new: &[u8]) -> Result<bool, StoreError> {
        self.measured("reseal_key", self.inner.keys().reseal_key(id, old, new)).await
    }

    async fn remove_key(&self, id: &KeyId, at: Timestamp) -> Result<bool, StoreError> {
        self.measured("remove_key", self.inner.keys().remove_key(id, at)).await
    }

    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        self.measured("keys", self.inner.keys().keys()).await
    }

    async fn settings(&self) -> Result<Option<String>, StoreError> {
        self.measured("settings", self.inner.keys().settings()).await
    }

    async fn replace_settings(&self, old: Option<&str>, new: &str) -> Result<bool, StoreError> {
        self.measured("replace_settings", self.inner.keys().replace_settings(old, new)).await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_method_is_in_the_table() {
        let source = include_str!("stores.rs");
        let names = source.split("self.measured(\"").skip(1).filter_map(|rest| rest.split('"').next());
        let names: BTreeSet<_> = names.collect();
        assert!(names.iter().eq(&OPERATIONS), "{names:?}");
    }
}
