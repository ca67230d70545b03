//! Accounts and the names they have claimed.

use async_trait::async_trait;
use countersign_core::model::{PasswordHash, User, Username};
use countersign_core::store::{NameKey, StoreError, UserInserted, UserStore};
use countersign_jwt::{Timestamp, UserId};
use sqlx::SqliteConnection;

use super::{STORE, SqliteStore, Undo};
use crate::record::UserRecord;

const CLAIM: &str = "
    INSERT INTO account_name (kind, key, user_id) VALUES (?1, ?2, ?3)";

const INSERT: &str = "
    INSERT INTO account (id, email, username, password_hash, created_at, disabled_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

const IS_CLAIMED: &str = "SELECT 1 FROM account_name WHERE kind = ?1 AND key = ?2";

const FIND: &str = "SELECT * FROM account WHERE id = ?1";

const FIND_BY_NAME: &str = "
    SELECT account.* FROM account_name JOIN account ON account.id = account_name.user_id
    WHERE account_name.kind = ?1 AND account_name.key = ?2";

/// `IS` also finds the account that has no hash.
const REPLACE_HASH: &str = "UPDATE account SET password_hash = ?3 WHERE id = ?1 AND password_hash IS ?2";

const SET_DISABLED: &str = "UPDATE account SET disabled_at = ?2 WHERE id = ?1";

const EMAIL: &str = "email";
const USERNAME: &str = "username";

#[async_trait]
impl UserStore for SqliteStore {
    async fn insert_user(&self, user: &User) -> Result<UserInserted, StoreError> {
        let user = user.clone();
        self.write("insert the account", Undo::Savepoint, move |connection| {
            Box::pin(async move {
                // Nobody can claim a name in between: the transaction holds the write lock.
                if is_claimed(connection, EMAIL, user.email.key()).await? {
                    return Ok(UserInserted::EmailTaken);
                }
                if let Some(username) = &user.username
                    && is_claimed(connection, USERNAME, username.key()).await?
                {
                    return Ok(UserInserted::UsernameTaken);
                }
                sqlx::query(INSERT)
                    .bind(user.id.as_str())
                    .bind(user.email.as_str())
                    .bind(user.username.as_ref().map(Username::as_str))
                    .bind(user.password_hash.as_ref().map(PasswordHash::expose))
                    .bind(user.created_at.as_millis())
                    .bind(user.disabled_at.map(Timestamp::as_millis))
                    .execute(&mut *connection)
                    .await?;
                claim(connection, EMAIL, user.email.key(), &user.id).await?;
                if let Some(username) = &user.username {
                    claim(connection, USERNAME, username.key(), &user.id).await?;
                }
                Ok(UserInserted::Yes)
            })
        })
        .await
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        let action = "read the account";
        let query = sqlx::query_as::<_, UserRecord>(FIND).bind(id.as_str());
        let row = self.read(action, query.fetch_optional(&self.readers)).await?;
        row.map(User::try_from).transpose().map_err(|error| StoreError::new(STORE, action, error))
    }

    async fn user_by_name(&self, name: NameKey<'_>) -> Result<Option<User>, StoreError> {
        let action = "find the account by its name";
        let (kind, key) = match name {
            NameKey::Email(key) => (EMAIL, key),
            NameKey::Username(key) => (USERNAME, key),
        };
        let query = sqlx::query_as::<_, UserRecord>(FIND_BY_NAME).bind(kind).bind(key);
        let row = self.read(action, query.fetch_optional(&self.readers)).await?;
        row.map(User::try_from).transpose().map_err(|error| StoreError::new(STORE, action, error))
    }

    async fn replace_password_hash(
        &self,
        id: &UserId,
        old: Option<&PasswordHash>,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        let (id, old, new) = (id.clone(), old.cloned(), new.clone());
        self.write("replace the password hash", Undo::Statement, move |connection| {
            Box::pin(async move {
                let query = sqlx::query(REPLACE_HASH)
                    .bind(id.as_str())
                    .bind(old.as_ref().map(PasswordHash::expose))
                    .bind(new.expose());
                Ok(query.execute(connection).await?.rows_affected() > 0)
            })
        })
        .await
    }

    async fn set_disabled(&self, id: &UserId, disabled: Option<Timestamp>) -> Result<bool, StoreError> {
        let id = id.clone();
        self.write("disable or enable the account", Undo::Statement, move |connection| {
            Box::pin(async move {
                let query =
                    sqlx::query(SET_DISABLED).bind(id.as_str()).bind(disabled.map(Timestamp::as_millis));
                Ok(query.execute(connection).await?.rows_affected() > 0)
            })
        })
        .await
    }
}

async fn is_claimed(
    connection: &mut SqliteConnection,
    kind: &'static str,
    key: &str,
) -> Result<bool, sqlx::Error> {
    let query = sqlx::query(IS_CLAIMED).bind(kind).bind(key);
    Ok(query.fetch_optional(connection).await?.is_some())
}

async fn claim(
    connection: &mut SqliteConnection,
    kind: &'static str,
    key: &str,
    id: &UserId,
) -> Result<(), sqlx::Error> {
    sqlx::query(CLAIM).bind(kind).bind(key).bind(id.as_str()).execute(connection).await?;
    Ok(())
}
