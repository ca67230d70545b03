//! Accounts and the names that they have claimed, kept in PostgreSQL.

use async_trait::async_trait;
use countersign_core::model::{PasswordHash, User};
use countersign_core::store::{NameKey, StoreError, UserInserted, UserStore};
use countersign_jwt::{Timestamp, UserId};

use super::{PostgresStore, Statement};
use crate::record::UserRecord;

fn insert(user: &User) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO countersign.account (",
        user_columns!(names),
        ")
    VALUES ($1, $2, $3, $4, $5, $6)"
    ))
    .bind_record(UserRecord::from(user))
}

/// Claims a name for a user. Of concurrent claims one inserts; the others wait for it and insert nothing.
fn claim(kind: &str, key: &str, user_id: &UserId) -> Statement {
    Statement::new(
        "
    INSERT INTO countersign.account_name (kind, key, user_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(kind)
    .bind(key)
    .bind(user_id)
}

fn find(id: &UserId) -> Statement<User> {
    Statement::new(concat!("SELECT ", user_columns!(names), " FROM countersign.account WHERE id = $1"))
        .bind(id)
}

fn find_by_name(kind: &str, key: &str) -> Statement<User> {
    Statement::new(concat!(
        "
    SELECT ",
        user_columns!(names),
        " FROM countersign.account_name JOIN countersign.account ON account.id = account_name.user_id
    WHERE account_name.kind = $1 AND account_name.key = $2"
    ))
    .bind(kind)
    .bind(key)
}

/// Replaces an account's password hash if it is still the old one. `IS NOT DISTINCT FROM` also finds an account that
/// has no hash.
fn replace_hash(id: &UserId, old: Option<&PasswordHash>, new: &PasswordHash) -> Statement {
    Statement::new("
    UPDATE countersign.account SET password_hash = $3 WHERE id = $1 AND password_hash IS NOT DISTINCT FROM $2")
        .bind(id)
        .bind(old.map(PasswordHash::expose))
        .bind(new.expose())
}

fn set_disabled(id: &UserId, disabled: Option<Timestamp>) -> Statement {
    Statement::new("UPDATE countersign.account SET disabled_at = $2 WHERE id = $1").bind(id).bind(disabled)
}

const EMAIL: &str = "email";
const USERNAME: &str = "username";

#[async_trait]
impl UserStore for PostgresStore {
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

#[cfg(test)]
mod tests {
    use super::super::plans::Filled;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        let Some(mut filled) = Filled::open().await else { return };
        let ada = UserId::new("user 5").unwrap();
        let hash = |text: &str| PasswordHash::from_stored(text.to_owned());
        filled.uses(find(&ada), "account_pkey").await;
        filled.uses(find_by_name("email", "5@example.org"), "account_name_pkey").await;
        filled.uses(replace_hash(&ada, Some(&hash("old")), &hash("new")), "account_pkey").await;
        filled.uses(set_disabled(&ada, Some(Timestamp::from_millis(5))), "account_pkey").await;
    }
}
