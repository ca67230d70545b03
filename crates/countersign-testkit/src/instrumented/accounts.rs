//! The half of accounts, instrumented.

use async_trait::async_trait;
use countersign_core::model::{
    AdminKey, AuditRecord, KnownDevice, OneTimeSecret, OutboxMail, PasswordHash, Purpose, SecretDigest,
    Tried, User,
};
use countersign_core::store::{
    AdminKeyStore, AuditPage, AuditStore, DeadLetterPosition, DeviceStore, MailFailure, NameKey,
    OneTimeStore, OutboxSize, OutboxStore, StoreError, UserInserted, UserPage, UserReplaced, UserStore,
};
use countersign_jwt::{Timestamp, UserId};
use uuid::Uuid;

use super::Instrumented;

#[async_trait]
impl UserStore for Instrumented {
    async fn insert_user(&self, user: &User) -> Result<UserInserted, StoreError> {
        self.call("insert_user", self.inner.users().insert_user(user)).await
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        self.call("user", self.inner.users().user(id)).await
    }

    async fn user_by_name(&self, name: NameKey<'_>) -> Result<Option<User>, StoreError> {
        self.call("user_by_name", self.inner.users().user_by_name(name)).await
    }

    async fn replace_user(&self, old: &User, new: &User) -> Result<UserReplaced, StoreError> {
        self.call("replace_user", self.inner.users().replace_user(old, new)).await
    }

    async fn delete_user(&self, id: &UserId) -> Result<bool, StoreError> {
        self.call("delete_user", self.inner.users().delete_user(id)).await
    }

    async fn users(&self, page: &UserPage<'_>) -> Result<Vec<User>, StoreError> {
        self.call("users", self.inner.users().users(page)).await
    }

    async fn users_to_delete(&self, before: Timestamp, limit: usize) -> Result<Vec<User>, StoreError> {
        self.call("users_to_delete", self.inner.users().users_to_delete(before, limit)).await
    }

    async fn next_user_number(&self, at_least: u64) -> Result<u64, StoreError> {
        self.call("next_user_number", self.inner.users().next_user_number(at_least)).await
    }

    async fn replace_password_hash(
        &self,
        id: &UserId,
        old: Option<&PasswordHash>,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        self.call("replace_password_hash", self.inner.users().replace_password_hash(id, old, new)).await
    }

    async fn set_disabled(&self, id: &UserId, disabled: Option<Timestamp>) -> Result<bool, StoreError> {
        self.call("set_disabled", self.inner.users().set_disabled(id, disabled)).await
    }
}

#[async_trait]
impl OneTimeStore for Instrumented {
    async fn put_secret(&self, secret: &OneTimeSecret) -> Result<(), StoreError> {
        self.call("put_secret", self.inner.one_time().put_secret(secret)).await
    }

    async fn secret(&self, user_id: &UserId, purpose: Purpose) -> Result<Option<OneTimeSecret>, StoreError> {
        self.call("secret", self.inner.one_time().secret(user_id, purpose)).await
    }

    async fn try_secret(
        &self,
        user_id: &UserId,
        purpose: Purpose,
        digest: &SecretDigest,
        now: Timestamp,
    ) -> Result<Option<(Tried, OneTimeSecret)>, StoreError> {
        self.call("try_secret", self.inner.one_time().try_secret(user_id, purpose, digest, now)).await
    }

    async fn remove_secret(&self, user_id: &UserId, purpose: Purpose) -> Result<bool, StoreError> {
        self.call("remove_secret", self.inner.one_time().remove_secret(user_id, purpose)).await
    }

    async fn purge_secrets(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.call("purge_secrets", self.inner.one_time().purge_secrets(before, limit)).await
    }
}

#[async_trait]
impl DeviceStore for Instrumented {
    async fn remember_device(&self, device: &KnownDevice) -> Result<bool, StoreError> {
        self.call("remember_device", self.inner.devices().remember_device(device)).await
    }

    async fn knows_device(
        &self,
        user_id: &UserId,
        digest: &SecretDigest,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.call("knows_device", self.inner.devices().knows_device(user_id, digest, now)).await
    }

    async fn forget_devices(&self, user_id: &UserId) -> Result<u64, StoreError> {
        self.call("forget_devices", self.inner.devices().forget_devices(user_id)).await
    }

    async fn purge_devices(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.call("purge_devices", self.inner.devices().purge_devices(before, limit)).await
    }
}

#[async_trait]
impl AdminKeyStore for Instrumented {
    async fn insert_admin_key(&self, key: &AdminKey) -> Result<bool, StoreError> {
        self.call("insert_admin_key", self.inner.admin_keys().insert_admin_key(key)).await
    }

    async fn admin_key(&self, id: Uuid) -> Result<Option<AdminKey>, StoreError> {
        self.call("admin_key", self.inner.admin_keys().admin_key(id)).await
    }

    async fn admin_keys(&self) -> Result<Vec<AdminKey>, StoreError> {
        self.call("admin_keys", self.inner.admin_keys().admin_keys()).await
    }

    async fn remove_admin_key(&self, id: Uuid) -> Result<bool, StoreError> {
        self.call("remove_admin_key", self.inner.admin_keys().remove_admin_key(id)).await
    }
}

#[async_trait]
impl AuditStore for Instrumented {
    async fn insert_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        self.call("insert_audit", self.inner.audit().insert_audit(records)).await
    }

    async fn audit(&self, page: &AuditPage<'_>) -> Result<Vec<AuditRecord>, StoreError> {
        self.call("audit", self.inner.audit().audit(page)).await
    }

    async fn purge_audit(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.call("purge_audit", self.inner.audit().purge_audit(before, limit)).await
    }
}

#[async_trait]
impl OutboxStore for Instrumented {
    async fn enqueue_mail(&self, mail: &OutboxMail) -> Result<bool, StoreError> {
        self.call("enqueue_mail", self.inner.outbox().enqueue_mail(mail)).await
    }

    async fn claim_mail(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<OutboxMail>, StoreError> {
        self.call("claim_mail", self.inner.outbox().claim_mail(now, lease_until, limit)).await
    }

    async fn remove_mail(&self, id: Uuid) -> Result<bool, StoreError> {
        self.call("remove_mail", self.inner.outbox().remove_mail(id)).await
    }

    async fn fail_mail(&self, failure: &MailFailure) -> Result<bool, StoreError> {
        self.call("fail_mail", self.inner.outbox().fail_mail(failure)).await
    }

    async fn dead_letters(
        &self,
        after: Option<DeadLetterPosition>,
        limit: usize,
    ) -> Result<Vec<OutboxMail>, StoreError> {
        self.call("dead_letters", self.inner.outbox().dead_letters(after, limit)).await
    }

    async fn outbox_size(&self) -> Result<OutboxSize, StoreError> {
        self.call("outbox_size", self.inner.outbox().outbox_size()).await
    }

    async fn retry_mail(&self, id: Uuid, now: Timestamp) -> Result<bool, StoreError> {
        self.call("retry_mail", self.inner.outbox().retry_mail(id, now)).await
    }

    async fn purge_dead_letters(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.call("purge_dead_letters", self.inner.outbox().purge_dead_letters(before, limit)).await
    }
}
