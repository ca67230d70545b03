//! Accounts and the names they have claimed.

use async_trait::async_trait;
use countersign_core::model::{PasswordHash, User, Username};
use countersign_core::store::{NameKey, StoreError, UserInserted, UserStore};
use countersign_jwt::{Timestamp, UserId};

use super::MySqlStore;
use super::engine::{Statement, values};
use crate::record::UserRecord;

pub(super) const INSERT: &str = "
    INSERT INTO countersign_account (id, email, username, password_hash, created_at, disabled_at)
    VALUES (?, ?, ?, ?, ?, ?)";

/// Of claims at once, one inserts; the others wait for its commit, and then find the name taken.
pub(super) const CLAIM: &str = "
    INSERT INTO countersign_account_name (kind, name, user_id) VALUES (?, ?, ?)";

/// What [`UserRecord`] reads.
macro_rules! user_columns {
    () => {
        "CONVERT(account.id USING utf8mb4) AS id, CONVERT(account.email USING utf8mb4) AS email,
        CONVERT(account.username USING utf8mb4) AS username,
        CONVERT(account.password_hash USING utf8mb4) AS password_hash, account.created_at, account.disabled_at"
    };
}

pub(super) const FIND: &str =
    concat!("SELECT ", user_columns!(), " FROM countersign_account AS account WHERE account.id = ?");

pub(super) const FIND_BY_NAME: &str = concat!(
    "SELECT ",
    user_columns!(),
    " FROM countersign_account_name AS claim JOIN countersign_account AS account ON account.id = claim.user_id
    WHERE claim.kind = ? AND claim.name = ?"
);

/// `<=>` also finds the account that has no hash.
pub(super) const REPLACE_HASH: &str = "
    UPDATE countersign_account SET password_hash = ? WHERE id = ? AND password_hash <=> ?";

pub(super) const SET_DISABLED: &str = "UPDATE countersign_account SET disabled_at = ? WHERE id = ?";

const EMAIL: &str = "email";
const USERNAME: &str = "username";

#[async_trait]
impl UserStore for MySqlStore {
    async fn insert_user(&self, user: &User) -> Result<UserInserted, StoreError> {
        let insert = Statement::new(INSERT)
            .text(user.id.as_str())
            .text(user.email.as_str())
            .text(user.username.as_ref().map(Username::as_str))
            .text(user.password_hash.as_ref().map(PasswordHash::expose))
            .number(user.created_at.as_millis())
            .number(user.disabled_at.map(Timestamp::as_millis));
        let claim = |kind, key| Statement::new(CLAIM).text(kind).text(key).text(user.id.as_str());
        let claim_email = claim(EMAIL, user.email.key());
        let claim_username = user.username.as_ref().map(|username| claim(USERNAME, username.key()));
        let inserted = self.work.transaction("insert the account", |mut transaction| async {
            transaction.write(&insert).await?;
            // Everybody claims the address first, so nobody waits for somebody who waits for him.
            if !transaction.insert(&claim_email).await? {
                transaction.undo().await?;
                return Ok(UserInserted::EmailTaken);
            }
            if let Some(claim_username) = &claim_username
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
        const ACTION: &str = "read the account";
        let rows = self.work.read::<UserRecord>(ACTION, Statement::new(FIND).text(id.as_str())).await?;
        Ok(values(ACTION, rows)?.pop())
    }

    async fn user_by_name(&self, name: NameKey<'_>) -> Result<Option<User>, StoreError> {
        const ACTION: &str = "find the account by its name";
        let (kind, key) = match name {
            NameKey::Email(key) => (EMAIL, key),
            NameKey::Username(key) => (USERNAME, key),
        };
        let statement = Statement::new(FIND_BY_NAME).text(kind).text(key);
        Ok(values(ACTION, self.work.read::<UserRecord>(ACTION, statement).await?)?.pop())
    }

    async fn replace_password_hash(
        &self,
        id: &UserId,
        old: Option<&PasswordHash>,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        let statement = Statement::new(REPLACE_HASH).text(new.expose()).text(id.as_str());
        let statement = statement.text(old.map(PasswordHash::expose));
        Ok(self.work.write("replace the password hash", statement).await?.rows > 0)
    }

    async fn set_disabled(&self, id: &UserId, disabled: Option<Timestamp>) -> Result<bool, StoreError> {
        let statement = Statement::new(SET_DISABLED).number(disabled.map(Timestamp::as_millis));
        let statement = statement.text(id.as_str());
        Ok(self.work.write("disable or enable the account", statement).await?.rows > 0)
    }
}
