//! The source of the users that log in: Countersign's accounts, or a program's own users.
//!
//! A login is the same for both: its counters, its place in the hash pool, the order of its steps. The source tells who
//! has a name, what the password is compared with, and whether the user is still the same when the session begins.

use countersign_jwt::id::UserId;
use countersign_jwt::time::Timestamp;
use uuid::Uuid;

use super::{Accounts, LoginError, LoginName, PasswordVerdict};
use crate::flow::BeginError;
use crate::model::user::User;
use crate::model::{Device, Password, PasswordHash};
use crate::store::{NameKey, StoreError};

/// A user as the source knows it at the moment of the check.
#[derive(Debug)]
pub(super) struct Candidate<U> {
    pub(super) user: U,
    pub(super) password_hash: Option<PasswordHash>,
    pub(super) is_enabled: bool,
}

/// A source of users, during one login.
pub(super) trait UserSource: Send + Sync + 'static {
    /// The type of the users.
    type User: Send + Sync + 'static;

    /// The id of a user.
    fn id<'u>(&self, user: &'u Self::User) -> &'u UserId;

    /// The id of the user with this name.
    fn find(&self, name: &LoginName) -> impl Future<Output = Result<Option<UserId>, LoginError>> + Send;

    /// The user that was found by name, if it has this id. It asks for a user that does not exist as for one that does.
    fn read(
        &self,
        id: Option<&UserId>,
    ) -> impl Future<Output = Result<Option<Candidate<Self::User>>, LoginError>> + Send;

    /// What the source itself says of a password.
    fn decide(
        &self,
        _user: &Self::User,
        _password: &Password,
    ) -> impl Future<Output = Result<PasswordVerdict, LoginError>> + Send {
        std::future::ready(Ok(PasswordVerdict::ByHash))
    }

    /// Replaces the user's hash by `upgrade`, if it is still the one that the password was checked against. A failure
    /// does not concern the login.
    fn upgrade(&self, user: &mut Self::User, upgrade: PasswordHash) -> impl Future<Output = ()> + Send;

    /// Whether the user's e-mail address is proven, where that matters.
    fn has_proven_address(&self, user: &Self::User) -> bool;

    /// The user as it is now, if it may still log in and its password is the one that was checked.
    fn unchanged(
        &self,
        user: Self::User,
    ) -> impl Future<Output = Result<Option<Self::User>, BeginError>> + Send;

    /// Tells the user of a login on a device that was unknown.
    fn tell_of_device(
        &self,
        user: &Self::User,
        device: Device,
        at: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Countersign's accounts.
impl UserSource for Accounts {
    type User = User;

    fn id<'u>(&self, user: &'u User) -> &'u UserId {
        &user.id
    }

    async fn find(&self, name: &LoginName) -> Result<Option<UserId>, LoginError> {
        // A name that no account can have is looked up like the others, by an empty key, which no account has.
        let key = name.key().unwrap_or(NameKey::Email(""));
        Ok(self.shared.users.user_by_name(key).await?.map(|user| user.id))
    }

    async fn read(&self, id: Option<&UserId>) -> Result<Option<Candidate<User>>, LoginError> {
        let users = &self.shared.users;
        let user = match id {
            Some(id) => users.user(id).await?,
            None => users.user(&UserId::from(Uuid::nil())).await?,
        };
        Ok(user.map(|user| Candidate {
            password_hash: user.password_hash.clone(),
            is_enabled: user.is_enabled(),
            user,
        }))
    }

    async fn upgrade(&self, user: &mut User, upgrade: PasswordHash) {
        self.upgrade_hash(user, upgrade).await;
    }

    fn has_proven_address(&self, user: &User) -> bool {
        user.has_verified_email()
    }

    async fn unchanged(&self, user: User) -> Result<Option<User>, BeginError> {
        let now = self.shared.users.user(&user.id).await?;
        let is_same = |now: &User| now.is_enabled() && text(&now.password_hash) == text(&user.password_hash);
        Ok(now.filter(is_same))
    }

    async fn tell_of_device(&self, user: &User, device: Device, at: Timestamp) -> Result<(), StoreError> {
        self.tell_of_new_device(user, device, at).await
    }
}

fn text(hash: &Option<PasswordHash>) -> Option<&str> {
    hash.as_ref().map(PasswordHash::expose)
}
