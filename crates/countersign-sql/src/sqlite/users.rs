//! Accounts and the names that they have claimed, kept in SQLite.

use async_trait::async_trait;
use countersign_core::model::{PasswordHash, User};
use countersign_core::store::{NameKey, StoreError, UserInserted, UserStore};
use countersign_jwt::{Timestamp, UserId};

use super::{SqliteStore, Statement, Undo};
use crate::record::UserRecord;

fn claim(kind: &str, key: &str, user_id: &UserId) -> Statement {
    Statement::new(
        "
    INSERT INTO account_name (kind, key, user_id) VALUES (?1, ?2, ?3)",
    )
    .bind(kind)
    .bind(key)
    .bind(user_id)
}

fn insert(user: &User) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO account (",
        user_columns!(names),
        ")
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
    ))
    .bind_record(UserRecord::from(user))
}

fn claimed(kind: &str, key: &str) -> Statement<(i64,)> {
    Statement::new("SELECT 1 FROM account_name WHERE kind = ?1 AND key = ?2").bind(kind).bind(key)
}

fn find(id: &UserId) -> Statement<User> {
    Statement::new(concat!("SELECT ", user_columns!(names), " FROM account WHERE id = ?1")).bind(id)
}

fn find_by_name(kind: &str, key: &str) -> Statement<User> {
    Statement::new(concat!(
        "
    SELECT ",
        user_columns!(names),
        " FROM account_name JOIN account ON account.id = account_name.user_id
    WHERE account_name.kind = ?1 AND account_name.key = ?2"
    ))
    .bind(kind)
    .bind(key)
}

/// Replaces an account's password hash if it is still the old one. `IS` also finds an account that has no hash.
fn replace_hash(id: &UserId, old: Option<&PasswordHash>, new: &PasswordHash) -> Statement {
    Statement::new("UPDATE account SET password_hash = ?3 WHERE id = ?1 AND password_hash IS ?2")
        .bind(id)
        .bind(old.map(PasswordHash::expose))
        .bind(new.expose())
}

fn set_disabled(id: &UserId, disabled: Option<Timestamp>) -> Statement {
    Statement::new("UPDATE account SET disabled_at = ?2 WHERE id = ?1").bind(id).bind(disabled)
}

const EMAIL: &str = "email";
const USERNAME: &str = "username";

#[async_trait]
impl UserStore for SqliteStore {
    async fn insert_user(&self, user: &User) -> Result<UserInserted, StoreError> {
        let user = user.clone();
        self.writes("insert the account", Undo::Savepoint, move |connection| {
            Box::pin(async move {
                let username = user.username.as_ref().map(|username| username.key());
                // Nobody can claim a name in between: the transaction holds the write lock.
                if !claimed(EMAIL, user.email.key()).all(connection).await?.is_empty() {
                    return Ok(UserInserted::EmailTaken);
                }
                if let Some(username) = username
                    && !claimed(USERNAME, username).all(connection).await?.is_empty()
                {
                    return Ok(UserInserted::UsernameTaken);
                }
                insert(&user).changes(connection).await?;
                claim(EMAIL, user.email.key(), &user.id).changes(connection).await?;
                if let Some(username) = username {
                    claim(USERNAME, username, &user.id).changes(connection).await?;
                }
                Ok(UserInserted::Yes)
            })
        })
        .await
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        self.first("read the account", &self.readers, find(id)).await
    }

    async fn user_by_name(&self, name: NameKey<'_>) -> Result<Option<User>, StoreError> {
        let (kind, key) = match name {
            NameKey::Email(key) => (EMAIL, key),
            NameKey::Username(key) => (USERNAME, key),
        };
        self.first("find the account by its name", &self.readers, find_by_name(kind, key)).await
    }

    async fn replace_password_hash(
        &self,
        id: &UserId,
        old: Option<&PasswordHash>,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        Ok(self.write("replace the password hash", replace_hash(id, old, new)).await? > 0)
    }

    async fn set_disabled(&self, id: &UserId, disabled: Option<Timestamp>) -> Result<bool, StoreError> {
        Ok(self.write("disable or enable the account", set_disabled(id, disabled)).await? > 0)
    }
}
