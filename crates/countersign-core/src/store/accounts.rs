//! The traits of the half of accounts: users, and what belongs to them.

use std::fmt;

use async_trait::async_trait;
use countersign_jwt::id::UserId;
use countersign_jwt::time::Timestamp;
use uuid::Uuid;

use super::StoreError;
use crate::model::{
    AdminKey, AuditPosition, AuditRecord, EmailAddress, KnownDevice, OneTimeSecret, PasswordHash, Purpose,
    SecretDigest, Tried, User, without_blanks,
};

/// The name that a user is looked up by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NameKey<'a> {
    /// The key of an e-mail address.
    Email(&'a str),
    /// The key of a username.
    Username(&'a str),
}

/// The result of inserting a user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UserInserted {
    /// The account was inserted.
    Yes,
    /// Another account has the e-mail address. Nothing was inserted.
    EmailTaken,
    /// Another account has the username. Nothing was inserted.
    UsernameTaken,
    /// Another account has the id. Nothing was inserted.
    IdTaken,
}

/// The result of replacing a user.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UserReplaced {
    /// The account is as the new value says, with its revision raised by one.
    Yes,
    /// The account was changed or deleted since it was read. Nothing changed.
    Changed,
    /// Another account has the new e-mail address. Nothing changed.
    EmailTaken,
    /// Another account has the new username. Nothing changed.
    UsernameTaken,
}

/// A user's place in a list. The newest account comes first, and of accounts of one moment the one with the highest id,
/// by its bytes.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct UserPosition {
    /// The time at which the account was registered.
    pub created_at: Timestamp,
    /// The account's id.
    pub id: UserId,
}

impl From<&User> for UserPosition {
    fn from(user: &User) -> Self {
        Self { created_at: user.created_at, id: user.id.clone() }
    }
}

/// The part of the list of users that is to be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UserPage<'a> {
    /// A text that the key of the e-mail address or of the username contains, or that the id is; `None` for all users.
    /// It is compared byte by byte, so it is to be in lower case, as keys are.
    pub query: Option<&'a str>,
    /// The last user of the page before, which need not exist any more. `None` reads from the newest account on.
    pub after: Option<UserPosition>,
    /// The most users to return.
    pub limit: usize,
}

impl UserPage<'_> {
    /// The text to search for, in the form of keys, of what an operator has typed; `None` for blanks, which ask for all
    /// users. A whole e-mail address is taken in the form of its key, so that it is found in any spelling.
    #[must_use]
    pub fn search_text(typed: &str) -> Option<String> {
        let typed = without_blanks(typed);
        if typed.is_empty() {
            return None;
        }
        Some(EmailAddress::parse(typed).map_or_else(|_| typed.to_lowercase(), |email| email.key().to_owned()))
    }

    /// Whether the query asks for this user.
    #[must_use]
    pub fn asks_for(&self, user: &User) -> bool {
        let Some(query) = self.query else { return true };
        user.id.as_str() == query
            || user.email.as_ref().is_some_and(|email| email.key().contains(query))
            || user.username.as_ref().is_some_and(|username| username.key().contains(query))
    }
}

/// The part of the audit trail that is to be read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AuditPage<'a> {
    /// The user whom the events concern; `None` for all.
    pub user_id: Option<&'a UserId>,
    /// The name of the events; `None` for all.
    pub name: Option<&'a str>,
    /// The last record of the page before, which need not exist any more. `None` reads from the newest record on.
    pub after: Option<AuditPosition>,
    /// The most records to return.
    pub limit: usize,
}

/// The store of accounts. Names are claimed in records of their own, so that they stay unique where users are sharded.
#[async_trait]
pub trait UserStore: fmt::Debug + Send + Sync + 'static {
    /// Inserts a user and claims its names, either all or nothing. Of concurrent claims of one name one wins.
    async fn insert_user(&self, user: &User) -> Result<UserInserted, StoreError>;

    /// Returns the user with this id.
    async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError>;

    /// Returns the user with this name.
    async fn user_by_name(&self, name: NameKey<'_>) -> Result<Option<User>, StoreError>;

    /// Replaces a user as one atomic step, if its revision is still that of `old`, and claims and frees the names that
    /// differ. The id and the time of registration never change; the revision becomes that of `old` plus one, whatever
    /// `new` says. Of concurrent calls with the same `old` at most one gets [`UserReplaced::Yes`]; the others change
    /// nothing.
    async fn replace_user(&self, old: &User, new: &User) -> Result<UserReplaced, StoreError>;

    /// Deletes a user with its one-time secrets and its known devices, and frees its names; returns whether it existed.
    async fn delete_user(&self, id: &UserId) -> Result<bool, StoreError>;

    /// Returns a page of the users, newest first. A search may read the whole table; it serves operators.
    async fn users(&self, page: &UserPage<'_>) -> Result<Vec<User>, StoreError>;

    /// Returns at most `limit` users whose deletion was asked for before `before`.
    async fn users_to_delete(&self, before: Timestamp, limit: usize) -> Result<Vec<User>, StoreError>;

    /// Returns a number for a new user's id: at least `at_least`, greater than every number that was returned before.
    /// Concurrent calls get different numbers.
    async fn next_user_number(&self, at_least: u64) -> Result<u64, StoreError>;

    /// Replaces the password hash if it is still `old`, and raises the revision; returns whether it was.
    async fn replace_password_hash(
        &self,
        id: &UserId,
        old: Option<&PasswordHash>,
        new: &PasswordHash,
    ) -> Result<bool, StoreError>;

    /// Disables (`Some(since)`) or enables (`None`) an account, and raises its revision; returns whether it exists.
    async fn set_disabled(&self, id: &UserId, disabled: Option<Timestamp>) -> Result<bool, StoreError>;
}

/// The store of one-time secrets. A user has at most one for each purpose.
#[async_trait]
pub trait OneTimeStore: fmt::Debug + Send + Sync + 'static {
    /// Keeps a secret, in place of the one before for this user and purpose.
    async fn put_secret(&self, secret: &OneTimeSecret) -> Result<(), StoreError>;

    /// Returns the user's secret for this purpose, expired or not.
    async fn secret(&self, user_id: &UserId, purpose: Purpose) -> Result<Option<OneTimeSecret>, StoreError>;

    /// Applies [`OneTimeSecret::try_digest`] to the user's secret for this purpose as one atomic step: the record is
    /// written back after [`Tried::Wrong`] and deleted after everything else. Returns the record as it was before the
    /// step; `None` if there is none. Of concurrent calls with the right digest exactly one gets [`Tried::Right`].
    async fn try_secret(
        &self,
        user_id: &UserId,
        purpose: Purpose,
        digest: &SecretDigest,
        now: Timestamp,
    ) -> Result<Option<(Tried, OneTimeSecret)>, StoreError>;

    /// Deletes the user's secret for this purpose; returns whether there was one.
    async fn remove_secret(&self, user_id: &UserId, purpose: Purpose) -> Result<bool, StoreError>;

    /// Deletes at most `limit` secrets that expired before `before`; returns how many.
    async fn purge_secrets(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;
}

/// The store of the devices on which users have logged in.
#[async_trait]
pub trait DeviceStore: fmt::Debug + Send + Sync + 'static {
    /// Keeps a device; if it is known, its `until` becomes the later one. If the user then has more than
    /// [`KnownDevice::MAX`] devices, those that would be forgotten first are deleted. Returns whether the user had known
    /// devices before, but not this one.
    async fn remember_device(&self, device: &KnownDevice) -> Result<bool, StoreError>;

    /// Whether the user has logged in on this device, and it is not forgotten at `now`.
    async fn knows_device(
        &self,
        user_id: &UserId,
        digest: &SecretDigest,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Forgets all of a user's devices; returns how many there were.
    async fn forget_devices(&self, user_id: &UserId) -> Result<u64, StoreError>;

    /// Deletes at most `limit` devices whose `until` was before `before`; returns how many.
    async fn purge_devices(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;
}

/// The store of admin keys, and of the clients of the endpoints of tokens, whose records are alike. There are few of
/// them.
#[async_trait]
pub trait AdminKeyStore: fmt::Debug + Send + Sync + 'static {
    /// Inserts a key unless its id is taken; returns whether it did.
    async fn insert_admin_key(&self, key: &AdminKey) -> Result<bool, StoreError>;

    /// Returns the key with this id.
    async fn admin_key(&self, id: Uuid) -> Result<Option<AdminKey>, StoreError>;

    /// Returns all keys, the oldest first.
    async fn admin_keys(&self) -> Result<Vec<AdminKey>, StoreError>;

    /// Deletes a key; returns whether it existed.
    async fn remove_admin_key(&self, id: Uuid) -> Result<bool, StoreError>;
}

/// The store of the audit trail.
#[async_trait]
pub trait AuditStore: fmt::Debug + Send + Sync + 'static {
    /// Inserts records. A record whose id is taken is left out, so that repeating the call is safe.
    async fn insert_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError>;

    /// Returns a page of the trail, newest first.
    async fn audit(&self, page: &AuditPage<'_>) -> Result<Vec<AuditRecord>, StoreError>;

    /// Deletes at most `limit` records from before `before`; returns how many.
    async fn purge_audit(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;
}
