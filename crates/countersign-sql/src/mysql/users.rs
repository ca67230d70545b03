//! Accounts and the names that they have claimed, kept in MySQL or MariaDB.

use async_trait::async_trait;
use countersign_core::model::{PasswordHash, User};
use countersign_core::store::{NameKey, StoreError, UserInserted, UserStore};
use countersign_jwt::{Timestamp, UserId};

use super::{MySqlStore, Statement};
use crate::record::UserRecord;

pub(super) fn insert(user: &User) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO countersign_account (",
        user_columns!(names),
        ")
    VALUES (",
        user_columns!(marks),
        ")"
    ))
    .bind_record(UserRecord::from(user))
}

/// Claims a name for a user. Of concurrent claims one inserts; the others wait for its commit and then find the name
/// taken.
pub(super) fn claim(kind: &str, name: &str, user_id: &UserId) -> Statement {
    Statement::new(
        "
    INSERT INTO countersign_account_name (kind, name, user_id) VALUES (?, ?, ?)",
    )
    .bind(kind)
    .bind(name)
    .bind(user_id)
}

pub(super) fn find(id: &UserId) -> Statement<User> {
    Statement::new(concat!(
        "SELECT ",
        user_columns!(converted),
        " FROM countersign_account AS account WHERE account.id = ?"
    ))
    .bind(id)
}

pub(super) fn find_by_name(kind: &str, name: &str) -> Statement<User> {
    Statement::new(concat!(
    "SELECT ",
    user_columns!(converted),
    " FROM countersign_account_name AS claim JOIN countersign_account AS account ON account.id = claim.user_id
    WHERE claim.kind = ? AND claim.name = ?"
))
    .bind(kind)
    .bind(name)
}

/// Replaces an account's password hash if it is still the old one. `<=>` also finds an account that has no hash.
pub(super) fn replace_hash(id: &UserId, old: Option<&PasswordHash>, new: &PasswordHash) -> Statement {
    Statement::new(
        "
    UPDATE countersign_account SET password_hash = ? WHERE id = ? AND password_hash <=> ?",
    )
    .bind(new.expose())
    .bind(id)
    .bind(old.map(PasswordHash::expose))
}

pub(super) fn set_disabled(id: &UserId, disabled: Option<Timestamp>) -> Statement {
    Statement::new("UPDATE countersign_account SET disabled_at = ? WHERE id = ?").bind(disabled).bind(id)
}

const EMAIL: &str = "email";
const USERNAME: &str = "username";

#[async_trait]
impl UserStore for MySqlStore {
    async fn insert_user(&self, user: &User) -> Result<UserInserted, StoreError> {
        let insert = &insert(user);
        let claim = |kind, key: &str| claim(kind, key, &user.id);
        let claim_email = &claim(EMAIL, user.email.key());
        let claim_username = &user.username.as_ref().map(|username| claim(USERNAME, username.key()));
        let inserted = self.lanes.work.transaction("insert the account", |mut transaction| async move {
            transaction.write(insert).await?;
            // Every registration claims the address first, so no two registrations wait for each other.
            if !transaction.insert(claim_email).await? {
                transaction.undo().await?;
                return Ok(UserInserted::EmailTaken);
            }
            if let Some(claim_username) = claim_username
                && !transaction.insert(claim_username).await?
            {
                transaction.undo().await?;
                return Ok(UserInserted::UsernameTaken);
            }
            transaction.commit().await?;
            Ok(UserInserted::Yes)
        });
        inserted.await
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        self.lanes.work.first("read the account", find(id)).await
    }

    async fn user_by_name(&self, name: NameKey<'_>) -> Result<Option<User>, StoreError> {
        let (kind, key) = match name {
            NameKey::Email(key) => (EMAIL, key),
            NameKey::Username(key) => (USERNAME, key),
        };
        self.lanes.work.first("find the account by its name", find_by_name(kind, key)).await
    }

    async fn replace_password_hash(
        &self,
        id: &UserId,
        old: Option<&PasswordHash>,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        Ok(self.lanes.work.write("replace the password hash", replace_hash(id, old, new)).await? > 0)
    }

    async fn set_disabled(&self, id: &UserId, disabled: Option<Timestamp>) -> Result<bool, StoreError> {
        Ok(self.lanes.work.write("disable or enable the account", set_disabled(id, disabled)).await? > 0)
    }
}
