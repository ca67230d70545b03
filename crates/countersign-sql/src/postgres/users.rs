//! Accounts and the names that they have claimed, kept in PostgreSQL.

use async_trait::async_trait;
use countersign_core::model::{PasswordHash, User};
use countersign_core::store::{NameKey, StoreError, UserInserted, UserPage, UserReplaced, UserStore};
use countersign_jwt::{Timestamp, UserId};

use super::{PostgresStore, Statement, devices, one_time};
use crate::column::{before, limit};
use crate::names;
use crate::record::{UserChange, UserRecord};

/// Inserts an account unless its id is taken.
fn insert(user: &User) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO countersign.account (",
        user_columns!(names),
        ")
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    ON CONFLICT DO NOTHING"
    ))
    .bind_record(UserRecord::from(user))
}

/// Claims a name for a user. Of concurrent claims one inserts; the others wait for it and insert nothing.
fn claim(name: NameKey<'_>, user_id: &UserId) -> Statement {
    let (kind, key) = names::columns(name);
    Statement::new(
        "
    INSERT INTO countersign.account_name (kind, key, user_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(kind)
    .bind(key)
    .bind(user_id)
}

/// Frees a user's name.
fn free(name: NameKey<'_>, user_id: &UserId) -> Statement {
    let (kind, key) = names::columns(name);
    Statement::new("DELETE FROM countersign.account_name WHERE kind = $1 AND key = $2 AND user_id = $3")
        .bind(kind)
        .bind(key)
        .bind(user_id)
}

fn find(id: &UserId) -> Statement<User> {
    Statement::new(concat!("SELECT ", user_columns!(names), " FROM countersign.account WHERE id = $1"))
        .bind(id)
}

/// Reads an account, and waits until nobody else changes it.
fn find_locked(id: &UserId) -> Statement<User> {
    Statement::new(concat!(
        "SELECT ",
        user_columns!(names),
        " FROM countersign.account WHERE id = $1 FOR UPDATE"
    ))
    .bind(id)
}

fn find_by_name(name: NameKey<'_>) -> Statement<User> {
    let (kind, key) = names::columns(name);
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

/// Replaces all of an account that may change, if its revision is still that of `old`.
fn replace(old: &User, new: &User) -> Statement {
    Statement::new(concat!(
        "
    UPDATE countersign.account SET (",
        user_change_columns!(names),
        ") = ($3, $4, $5, $6, $7, $8, $9, $10, $11)
    WHERE id = $1 AND revision = $2"
    ))
    .bind(&old.id)
    .bind(old.revision)
    .bind_record(UserChange::new(new, old.revision.saturating_add(1)))
}

fn delete(id: &UserId) -> Statement {
    Statement::new("DELETE FROM countersign.account WHERE id = $1").bind(id)
}

/// A page of the accounts, found in the index `account_created_at`, from its end.
fn list(page: &UserPage<'_>) -> Statement<User> {
    let (created_at, id) = before(page.after.as_ref());
    Statement::new(concat!(
        "
    SELECT ",
        user_columns!(names),
        " FROM countersign.account
    WHERE (created_at, id) < ($1, $2) ORDER BY created_at DESC, id DESC LIMIT $3"
    ))
    .bind(created_at)
    .bind(id)
    .bind(limit(page.limit))
}

/// A page of the accounts that a text is the id or a part of a name of. The text is looked for in all names.
fn search(query: &str, page: &UserPage<'_>) -> Statement<User> {
    let (created_at, id) = before(page.after.as_ref());
    Statement::new(concat!(
        "
    SELECT ",
        user_columns!(names),
        " FROM (
        SELECT user_id FROM countersign.account_name WHERE position($4 IN key) > 0
        UNION SELECT id FROM countersign.account WHERE id = $4) AS found
        JOIN countersign.account ON account.id = found.user_id
    WHERE (created_at, id) < ($1, $2) ORDER BY created_at DESC, id DESC LIMIT $3"
    ))
    .bind(created_at)
    .bind(id)
    .bind(limit(page.limit))
    .bind(query)
}

fn to_delete(before: Timestamp, at_most: usize) -> Statement<User> {
    Statement::new(concat!(
        "
    SELECT ",
        user_columns!(names),
        " FROM countersign.account WHERE deleted_at < $1 ORDER BY deleted_at, id LIMIT $2"
    ))
    .bind(before)
    .bind(limit(at_most))
}

/// Counts users' numbers on. Concurrent callers run one after the other, because they change the same row.
fn next_number(at_least: u64) -> Statement<(u64,)> {
    Statement::new(
        "
    INSERT INTO countersign.user_number AS known (only_row, last_number) VALUES (1, greatest($1, 1))
    ON CONFLICT (only_row) DO UPDATE SET last_number = greatest(known.last_number + 1, $1)
    RETURNING last_number",
    )
    .bind(at_least)
}

/// Replaces an account's password hash if it is still the old one. `IS NOT DISTINCT FROM` also finds an account that
/// has no hash.
fn replace_hash(id: &UserId, old: Option<&PasswordHash>, new: &PasswordHash) -> Statement {
    Statement::new(
        "
    UPDATE countersign.account SET password_hash = $3, revision = revision + 1
    WHERE id = $1 AND password_hash IS NOT DISTINCT FROM $2",
    )
    .bind(id)
    .bind(old.map(PasswordHash::expose))
    .bind(new.expose())
}

fn set_disabled(id: &UserId, disabled: Option<Timestamp>) -> Statement {
    Statement::new("UPDATE countersign.account SET disabled_at = $2, revision = revision + 1 WHERE id = $1")
        .bind(id)
        .bind(disabled)
}

#[async_trait]
impl UserStore for PostgresStore {
    async fn insert_user(&self, user: &User) -> Result<UserInserted, StoreError> {
        self.lanes.work.insert_user(user, insert(user), claim).await
    }

    async fn user(&self, id: &UserId) -> Result<Option<User>, StoreError> {
        self.lanes.work.first("read the account", find(id)).await
    }

    async fn user_by_name(&self, name: NameKey<'_>) -> Result<Option<User>, StoreError> {
        self.lanes.work.first("find the account by its name", find_by_name(name)).await
    }

    async fn replace_user(&self, old: &User, new: &User) -> Result<UserReplaced, StoreError> {
        self.lanes.work.replace_user(old, new, replace(old, new), claim, free).await
    }

    async fn delete_user(&self, id: &UserId) -> Result<bool, StoreError> {
        let delete = [one_time::delete_all(id), devices::forget(id), delete(id)];
        self.lanes.work.delete_user(find_locked(id), free, delete).await
    }

    async fn users(&self, page: &UserPage<'_>) -> Result<Vec<User>, StoreError> {
        const ACTION: &str = "list the accounts";
        match page.query {
            Some(query) => self.lanes.lists.read(ACTION, search(query, page)).await,
            None => self.lanes.lists.read(ACTION, list(page)).await,
        }
    }

    async fn users_to_delete(&self, before: Timestamp, limit: usize) -> Result<Vec<User>, StoreError> {
        self.lanes.work.read("look for accounts to delete", to_delete(before, limit)).await
    }

    async fn next_user_number(&self, at_least: u64) -> Result<u64, StoreError> {
        const ACTION: &str = "count the users' numbers on";
        self.lanes.work.write_returning_only(ACTION, next_number(at_least)).await.map(|(number,)| number)
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
    use countersign_core::model::EmailAddress;
    use countersign_core::store::UserPosition;

    use super::super::plans::Filled;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        let Some(mut filled) = Filled::open().await else { return };
        let at = Timestamp::from_millis;
        let ada = &User {
            email: EmailAddress::parse("5@example.org").ok(),
            ..User::new(UserId::new("user 5").unwrap(), at(10_000))
        };
        let name = names::of(ada).next().unwrap();
        let hash = |text: &str| PasswordHash::from_stored(text.to_owned());
        filled.uses(find(&ada.id), "account_pkey").await;
        filled.uses(find_locked(&ada.id), "account_pkey").await;
        filled.uses(find_by_name(name), "account_name_pkey").await;
        filled.uses(replace(ada, ada), "account_pkey").await;
        filled.uses(free(name, &ada.id), "account_name").await;
        filled.uses(delete(&ada.id), "account_pkey").await;
        for after in [None, Some(UserPosition::from(ada))] {
            let page = UserPage { query: None, after, limit: 100 };
            filled.uses(list(&page), "account_created_at").await;
        }
        filled.uses(to_delete(at(100), 10), "account_deleted_at").await;
        filled.uses(replace_hash(&ada.id, Some(&hash("old")), &hash("new")), "account_pkey").await;
        filled.uses(set_disabled(&ada.id, Some(at(5))), "account_pkey").await;
    }
}
