//! Accounts and the names they have claimed.

use async_trait::async_trait;
use countersign_core::model::{PasswordHash, User, Username};
use countersign_core::store::{NameKey, StoreError, UserInserted, UserStore};
use countersign_jwt::{Timestamp, UserId};

use super::PostgresStore;
use super::engine::{Statement, Transaction, values};
use crate::record::UserRecord;

const INSERT: &str = "
    INSERT INTO countersign.account (id, email, username, password_hash, created_at, disabled_at)
    VALUES ($1, $2, $3, $4, $5, $6)";

/// Of claims at once, one inserts; the others wait for it, and insert nothing.
const CLAIM: &str = "
    INSERT INTO countersign.account_name (kind, key, user_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";

const FIND: &str = "SELECT * FROM countersign.account WHERE id = $1";

const FIND_BY_NAME: &str = "
    SELECT account.* FROM countersign.account_name JOIN countersign.account ON account.id = account_name.user_id
    WHERE account_name.kind = $1 AND account_name.key = $2";

/// `IS NOT DISTINCT FROM` also finds the account that has no hash.
const REPLACE_HASH: &str = "
    UPDATE countersign.account SET password_hash = $3 WHERE id = $1 AND password_hash IS NOT DISTINCT FROM $2";

const SET_DISABLED: &str = "UPDATE countersign.account SET disabled_at = $2 WHERE id = $1";

const EMAIL: &str = "email";
const USERNAME: &str = "username";

#[async_trait]
impl UserStore for PostgresStore {
    async fn insert_user(&self, user: &User) -> Result<UserInserted, StoreError> {
        let insert = Statement::new(INSERT)
            .bind(user.id.as_str())
            .bind(user.email.as_str())
            .bind(user.username.as_ref().map(Username::as_str))
            .bind(user.password_hash.as_ref().map(PasswordHash::expose))
            .bind(user.created_at.as_millis())
            .bind(user.disabled_at.map(Timestamp::as_millis));
        let claim = |kind, key: &str| Statement::new(CLAIM).bind(kind).bind(key).bind(user.id.as_str());
        // Everybody claims the address first, so nobody waits for somebody who waits for him.
        let mut claims = vec![(claim(EMAIL, user.email.key()), UserInserted::EmailTaken)];
        if let Some(username) = &user.username {
            claims.push((claim(USERNAME, username.key()), UserInserted::UsernameTaken));
        }
        let (insert, claims) = (&insert, &claims);
        let work = |mut transaction: Transaction| async move {
            transaction.write(insert).await?;
            for (claim, taken) in claims {
                if transaction.write(claim).await? == 0 {
                    transaction.undo().await?;
                    return Ok(*taken);
                }
            }
            transaction.commit().await?;
            Ok(UserInserted::Yes)
        };
        self.work.transaction("insert the account", work).await
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        const ACTION: &str = "read the account";
        let statement = Statement::new(FIND).bind(id.as_str());
        Ok(values(ACTION, self.work.read::<UserRecord>(ACTION, statement).await?)?.pop())
    }

    async fn user_by_name(&self, name: NameKey<'_>) -> Result<Option<User>, StoreError> {
        const ACTION: &str = "find the account by its name";
        let (kind, key) = match name {
            NameKey::Email(key) => (EMAIL, key),
            NameKey::Username(key) => (USERNAME, key),
        };
        let statement = Statement::new(FIND_BY_NAME).bind(kind).bind(key);
        Ok(values(ACTION, self.work.read::<UserRecord>(ACTION, statement).await?)?.pop())
    }

    async fn replace_password_hash(
        &self,
        id: &UserId,
        old: Option<&PasswordHash>,
        new: &PasswordHash,
    ) -> Result<bool, StoreError> {
        let statement = Statement::new(REPLACE_HASH)
            .bind(id.as_str())
            .bind(old.map(PasswordHash::expose))
            .bind(new.expose());
        Ok(self.work.write("replace the password hash", statement).await? > 0)
    }

    async fn set_disabled(&self, id: &UserId, disabled: Option<Timestamp>) -> Result<bool, StoreError> {
        let statement =
            Statement::new(SET_DISABLED).bind(id.as_str()).bind(disabled.map(Timestamp::as_millis));
        Ok(self.work.write("disable or enable the account", statement).await? > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::plans::Filled;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        let Some(mut filled) = Filled::open().await else { return };
        for (statement, index) in [
            (Statement::new(FIND).bind("user 5"), "account_pkey"),
            (Statement::new(FIND_BY_NAME).bind("email").bind("5@example.org"), "account_name_pkey"),
            (Statement::new(REPLACE_HASH).bind("user 5").bind("old").bind("new"), "account_pkey"),
            (Statement::new(SET_DISABLED).bind("user 5").bind(5_i64), "account_pkey"),
        ] {
            let plan = filled.plan(&statement).await;
            assert!(!plan.contains("Seq Scan") && plan.contains(index), "{}: {plan}", statement.sql());
        }
    }
}
