//! Accounts and the names that they have claimed, kept in MySQL or MariaDB.

use async_trait::async_trait;
use countersign_core::model::{PasswordHash, User};
use countersign_core::store::{NameKey, StoreError, UserInserted, UserPage, UserReplaced, UserStore};
use countersign_jwt::{Timestamp, UserId};

use super::{MySqlStore, Statement, devices, one_time};
use crate::column::{before, limit};
use crate::names;
use crate::record::{UserChange, UserRecord};

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
pub(super) fn claim(name: NameKey<'_>, user_id: &UserId) -> Statement {
    let (kind, key) = names::columns(name);
    Statement::new(
        "
    INSERT INTO countersign_account_name (kind, name, user_id) VALUES (?, ?, ?)",
    )
    .bind(kind)
    .bind(key)
    .bind(user_id)
}

/// Frees a user's name.
pub(super) fn free(name: NameKey<'_>, user_id: &UserId) -> Statement {
    let (kind, key) = names::columns(name);
    Statement::new("DELETE FROM countersign_account_name WHERE kind = ? AND name = ? AND user_id = ?")
        .bind(kind)
        .bind(key)
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

/// Reads an account, and waits until nobody else changes it.
pub(super) fn find_locked(id: &UserId) -> Statement<User> {
    Statement::new(concat!(
        "SELECT ",
        user_columns!(converted),
        " FROM countersign_account AS account WHERE account.id = ? FOR UPDATE"
    ))
    .bind(id)
}

pub(super) fn find_by_name(name: NameKey<'_>) -> Statement<User> {
    let (kind, key) = names::columns(name);
    Statement::new(concat!(
        "SELECT ",
        user_columns!(converted),
        " FROM countersign_account_name AS claim JOIN countersign_account AS account ON account.id = claim.user_id
    WHERE claim.kind = ? AND claim.name = ?"
    ))
    .bind(kind)
    .bind(key)
}

/// Replaces all of an account that may change, if its revision is still that of `old`.
pub(super) fn replace(old: &User, new: &User) -> Statement {
    Statement::new(concat!(
        "
    UPDATE countersign_account SET ",
        user_change_columns!(assignments),
        " WHERE id = ? AND revision = ?"
    ))
    .bind_record(UserChange::new(new, old.revision.saturating_add(1)))
    .bind(&old.id)
    .bind(old.revision)
}

pub(super) fn delete(id: &UserId) -> Statement {
    Statement::new("DELETE FROM countersign_account WHERE id = ?").bind(id)
}

/// A page of the accounts, found in the index `created_at`, from its end. The condition for the place that the page
/// comes after is written out, because the servers find no range for a comparison of rows.
pub(super) fn list(page: &UserPage<'_>) -> Statement<User> {
    let (created_at, id) = before(page.after.as_ref());
    Statement::new(concat!(
        "SELECT ",
        user_columns!(converted),
        " FROM countersign_account AS account FORCE INDEX (created_at)
    WHERE account.created_at <= ? AND (account.created_at < ? OR account.id < ?)
    ORDER BY account.created_at DESC, account.id DESC LIMIT ?"
    ))
    .bind(created_at)
    .bind(created_at)
    .bind(id)
    .bind(limit(page.limit))
}

/// A page of the accounts that a text is the id or a part of a name of. The text is looked for in all names.
pub(super) fn search(query: &str, page: &UserPage<'_>) -> Statement<User> {
    let (created_at, id) = before(page.after.as_ref());
    Statement::new(concat!(
        "SELECT ",
        user_columns!(converted),
        " FROM (
        SELECT user_id FROM countersign_account_name WHERE LOCATE(?, name) > 0
        UNION SELECT id FROM countersign_account WHERE id = ?) AS found
        JOIN countersign_account AS account ON account.id = found.user_id
    WHERE account.created_at <= ? AND (account.created_at < ? OR account.id < ?)
    ORDER BY account.created_at DESC, account.id DESC LIMIT ?"
    ))
    .bind(query)
    .bind(query)
    .bind(created_at)
    .bind(created_at)
    .bind(id)
    .bind(limit(page.limit))
}

pub(super) fn to_delete(before: Timestamp, at_most: usize) -> Statement<User> {
    Statement::new(concat!(
        "SELECT ",
        user_columns!(converted),
        " FROM countersign_account AS account FORCE INDEX (deleted_at)
    WHERE account.deleted_at < ? ORDER BY account.deleted_at, account.id LIMIT ?"
    ))
    .bind(before)
    .bind(limit(at_most))
}

/// Counts users' numbers on. `LAST_INSERT_ID` notes the number. Concurrent callers run one after the other, because
/// they change the same row.
pub(super) fn next_number(at_least: u64) -> Statement {
    Statement::new(
        "
    INSERT INTO countersign_user_number (only_row, last_number) VALUES (1, LAST_INSERT_ID(GREATEST(?, 1)))
    ON DUPLICATE KEY UPDATE last_number = LAST_INSERT_ID(GREATEST(last_number + 1, ?))",
    )
    .bind(at_least)
    .bind(at_least)
}

/// Replaces an account's password hash if it is still the old one. `<=>` also finds an account that has no hash.
pub(super) fn replace_hash(id: &UserId, old: Option<&PasswordHash>, new: &PasswordHash) -> Statement {
    Statement::new(
        "
    UPDATE countersign_account SET password_hash = ?, revision = revision + 1
    WHERE id = ? AND password_hash <=> ?",
    )
    .bind(new.expose())
    .bind(id)
    .bind(old.map(PasswordHash::expose))
}

pub(super) fn set_disabled(id: &UserId, disabled: Option<Timestamp>) -> Statement {
    Statement::new("UPDATE countersign_account SET disabled_at = ?, revision = revision + 1 WHERE id = ?")
        .bind(disabled)
        .bind(id)
}

#[async_trait]
impl UserStore for MySqlStore {
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
        self.lanes.work.execute(ACTION, next_number(at_least)).await.map(|done| done.last_insert_id())
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
