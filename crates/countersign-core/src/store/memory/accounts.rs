//! The half of accounts, in memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use countersign_jwt::id::UserId;
use countersign_jwt::time::Timestamp;
use uuid::Uuid;

use super::MemoryStore;
use crate::model::{
    AdminKey, AuditPosition, AuditRecord, KnownDevice, OneTimeSecret, PasswordHash, Purpose, SecretDigest,
    Tried, User,
};
use crate::store::{
    AdminKeyStore, AuditPage, AuditStore, DeviceStore, NameKey, OneTimeStore, StoreError, UserInserted,
    UserPage, UserPosition, UserReplaced, UserStore,
};

#[derive(Debug, Default)]
pub(super) struct Accounts {
    users: HashMap<UserId, User>,
    emails: HashMap<String, UserId>,
    usernames: HashMap<String, UserId>,
    last_number: u64,
    secrets: BTreeMap<(UserId, Purpose), OneTimeSecret>,
    devices: BTreeMap<UserId, Vec<KnownDevice>>,
    admin_keys: HashMap<Uuid, AdminKey>,
    audit: BTreeMap<Reverse<AuditPosition>, AuditRecord>,
}

impl Accounts {
    /// Whether another account has one of these names.
    fn taken(&self, user: &User) -> Option<UserInserted> {
        let is_others = |owner: Option<&UserId>| owner.is_some_and(|owner| *owner != user.id);
        if user.email.as_ref().is_some_and(|email| is_others(self.emails.get(email.key()))) {
            return Some(UserInserted::EmailTaken);
        }
        if user.username.as_ref().is_some_and(|name| is_others(self.usernames.get(name.key()))) {
            return Some(UserInserted::UsernameTaken);
        }
        None
    }

    fn claim(&mut self, user: User) {
        if let Some(email) = &user.email {
            self.emails.insert(email.key().to_owned(), user.id.clone());
        }
        if let Some(username) = &user.username {
            self.usernames.insert(username.key().to_owned(), user.id.clone());
        }
        self.users.insert(user.id.clone(), user);
    }

    fn free(&mut self, id: &UserId) -> Option<User> {
        let user = self.users.remove(id)?;
        if let Some(email) = &user.email {
            self.emails.remove(email.key());
        }
        if let Some(username) = &user.username {
            self.usernames.remove(username.key());
        }
        Some(user)
    }
}

#[async_trait]
impl UserStore for MemoryStore {
    async fn insert_user(&self, user: &User) -> Result<UserInserted, StoreError> {
        let accounts = &mut self.state().accounts;
        if accounts.users.contains_key(&user.id) {
            return Ok(UserInserted::IdTaken);
        }
        if let Some(taken) = accounts.taken(user) {
            return Ok(taken);
        }
        accounts.claim(user.clone());
        Ok(UserInserted::Yes)
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        Ok(self.state().accounts.users.get(id).cloned())
    }

    async fn user_by_name(&self, name: NameKey<'_>) -> Result<Option<User>, StoreError> {
        let accounts = &self.state().accounts;
        let id = match name {
            NameKey::Email(key) => accounts.emails.get(key),
            NameKey::Username(key) => accounts.usernames.get(key),
        };
        Ok(id.and_then(|id| accounts.users.get(id)).cloned())
    }

    async fn replace_user(&self, old: &User, new: &User) -> Result<UserReplaced, StoreError> {
        let accounts = &mut self.state().accounts;
        let Some(user) = accounts.users.get(&old.id).filter(|user| user.revision == old.revision) else {
            return Ok(UserReplaced::Changed);
        };
        let new = User {
            id: user.id.clone(),
            created_at: user.created_at,
            revision: user.revision.saturating_add(1),
            ..new.clone()
        };
        match accounts.taken(&new) {
            Some(UserInserted::EmailTaken) => return Ok(UserReplaced::EmailTaken),
            Some(_) => return Ok(UserReplaced::UsernameTaken),
            None => {}
        }
        accounts.free(&new.id);
        accounts.claim(new);
        Ok(UserReplaced::Yes)
    }

    async fn delete_user(&self, id: &UserId) -> Result<bool, StoreError> {
        let accounts = &mut self.state().accounts;
        accounts.secrets.retain(|(user_id, _), _| user_id != id);
        accounts.devices.remove(id);
        Ok(accounts.free(id).is_some())
    }

    async fn users(&self, page: &UserPage<'_>) -> Result<Vec<User>, StoreError> {
        let state = self.state();
        let is_on_page = |user: &&User| {
            page.asks_for(user) && page.after.as_ref().is_none_or(|after| UserPosition::from(*user) < *after)
        };
        let mut found: Vec<_> = state.accounts.users.values().filter(is_on_page).cloned().collect();
        found.sort_by_key(|user| Reverse(UserPosition::from(user)));
        found.truncate(page.limit);
        Ok(found)
    }

    async fn users_to_delete(&self, before: Timestamp, limit: usize) -> Result<Vec<User>, StoreError> {
        let state = self.state();
        let is_due = |user: &&User| user.deleted_at.is_some_and(|deleted_at| deleted_at < before);
        Ok(state.accounts.users.values().filter(is_due).take(limit).cloned().collect())
    }

    async fn next_user_number(&self, at_least: u64) -> Result<u64, StoreError> {
        let accounts = &mut self.state().accounts;
        accounts.last_number = accounts.last_number.saturating_add(1).max(at_least);
        Ok(accounts.last_number)
    }

    async fn replace_password_hash(
        &self,
        id: &UserId,
        old: Option<&PasswordHash>,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        let accounts = &mut self.state().accounts;
        let expose = |hash: Option<&PasswordHash>| hash.map(|hash| hash.expose().to_owned());
        match accounts.users.get_mut(id).filter(|user| expose(user.password_hash.as_ref()) == expose(old)) {
            Some(user) => {
                user.password_hash = Some(new.clone());
                user.revision = user.revision.saturating_add(1);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn set_disabled(&self, id: &UserId, disabled: Option<Timestamp>) -> Result<bool, StoreError> {
        match self.state().accounts.users.get_mut(id) {
            Some(user) => {
                user.disabled_at = disabled;
                user.revision = user.revision.saturating_add(1);
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

#[async_trait]
impl OneTimeStore for MemoryStore {
    async fn put_secret(&self, secret: &OneTimeSecret) -> Result<(), StoreError> {
        let key = (secret.user_id.clone(), secret.purpose);
        self.state().accounts.secrets.insert(key, secret.clone());
        Ok(())
    }

    async fn secret(&self, user_id: &UserId, purpose: Purpose) -> Result<Option<OneTimeSecret>, StoreError> {
        Ok(self.state().accounts.secrets.get(&(user_id.clone(), purpose)).cloned())
    }

    async fn try_secret(
        &self,
        user_id: &UserId,
        purpose: Purpose,
        digest: &SecretDigest,
        now: Timestamp,
    ) -> Result<Option<(Tried, OneTimeSecret)>, StoreError> {
        let (accounts, key) = (&mut self.state().accounts, (user_id.clone(), purpose));
        let Some(secret) = accounts.secrets.get_mut(&key) else { return Ok(None) };
        let before = secret.clone();
        let tried = secret.try_digest(digest, now);
        if tried != Tried::Wrong {
            accounts.secrets.remove(&key);
        }
        Ok(Some((tried, before)))
    }

    async fn remove_secret(&self, user_id: &UserId, purpose: Purpose) -> Result<bool, StoreError> {
        Ok(self.state().accounts.secrets.remove(&(user_id.clone(), purpose)).is_some())
    }

    async fn purge_secrets(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let accounts = &mut self.state().accounts;
        let is_gone = |secret: &&OneTimeSecret| secret.expires_at < before;
        let gone: Vec<_> = accounts.secrets.values().filter(is_gone).take(limit).cloned().collect();
        for secret in &gone {
            accounts.secrets.remove(&(secret.user_id.clone(), secret.purpose));
        }
        Ok(gone.len() as u64)
    }
}

#[async_trait]
impl DeviceStore for MemoryStore {
    async fn remember_device(&self, device: &KnownDevice) -> Result<bool, StoreError> {
        let accounts = &mut self.state().accounts;
        let devices = accounts.devices.entry(device.user_id.clone()).or_default();
        let had_devices = !devices.is_empty();
        let is_new = match devices.iter_mut().find(|known| known.digest == device.digest) {
            Some(known) => {
                known.until = known.until.max(device.until);
                false
            }
            None => {
                devices.push(device.clone());
                true
            }
        };
        devices.sort_by_key(|known| Reverse((known.until, known.digest == device.digest)));
        devices.truncate(KnownDevice::MAX);
        Ok(had_devices && is_new)
    }

    async fn knows_device(
        &self,
        user_id: &UserId,
        digest: &SecretDigest,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let state = self.state();
        let mut devices = state.accounts.devices.get(user_id).into_iter().flatten();
        Ok(devices.any(|device| device.digest == *digest && now < device.until))
    }

    async fn forget_devices(&self, user_id: &UserId) -> Result<u64, StoreError> {
        let forgotten = self.state().accounts.devices.remove(user_id);
        Ok(forgotten.map_or(0, |devices| devices.len() as u64))
    }

    async fn purge_devices(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let accounts = &mut self.state().accounts;
        let mut left = limit;
        for devices in accounts.devices.values_mut() {
            devices.retain(|device| {
                let is_gone = left > 0 && device.until < before;
                left -= usize::from(is_gone);
                !is_gone
            });
        }
        accounts.devices.retain(|_, devices| !devices.is_empty());
        Ok((limit - left) as u64)
    }
}

#[async_trait]
impl AdminKeyStore for MemoryStore {
    async fn insert_admin_key(&self, key: &AdminKey) -> Result<bool, StoreError> {
        let keys = &mut self.state().accounts.admin_keys;
        let is_free = !keys.contains_key(&key.id);
        if is_free {
            keys.insert(key.id, key.clone());
        }
        Ok(is_free)
    }

    async fn admin_key(&self, id: Uuid) -> Result<Option<AdminKey>, StoreError> {
        Ok(self.state().accounts.admin_keys.get(&id).cloned())
    }

    async fn admin_keys(&self) -> Result<Vec<AdminKey>, StoreError> {
        let mut keys: Vec<_> = self.state().accounts.admin_keys.values().cloned().collect();
        keys.sort_by_key(|key| (key.created_at, key.id));
        Ok(keys)
    }

    async fn remove_admin_key(&self, id: Uuid) -> Result<bool, StoreError> {
        Ok(self.state().accounts.admin_keys.remove(&id).is_some())
    }
}

#[async_trait]
impl AuditStore for MemoryStore {
    async fn insert_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        let accounts = &mut self.state().accounts;
        for record in records {
            if !accounts.audit.values().any(|known| known.id == record.id) {
                accounts.audit.insert(Reverse(record.position()), record.clone());
            }
        }
        Ok(())
    }

    async fn audit(&self, page: &AuditPage<'_>) -> Result<Vec<AuditRecord>, StoreError> {
        let state = self.state();
        let is_on_page = |record: &&AuditRecord| {
            page.user_id.is_none_or(|user_id| record.user_id.as_ref() == Some(user_id))
                && page.name.is_none_or(|name| record.name == name)
                && page.after.is_none_or(|after| record.position() < after)
        };
        Ok(state.accounts.audit.values().filter(is_on_page).take(page.limit).cloned().collect())
    }

    async fn purge_audit(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let accounts = &mut self.state().accounts;
        let oldest = accounts.audit.keys().rev().filter(|Reverse(position)| position.at < before);
        let gone: Vec<_> = oldest.take(limit).copied().collect();
        for position in &gone {
            accounts.audit.remove(position);
        }
        Ok(gone.len() as u64)
    }
}
