//! Accounts and the names that they have claimed, kept in SQLite.

use async_trait::async_trait;
use countersign_core::model::{PasswordHash, User};
use countersign_core::store::{NameKey, StoreError, UserInserted, UserPage, UserReplaced, UserStore};
use countersign_jwt::{Timestamp, UserId};

use super::{SqliteStore, Statement, Undo, devices, one_time};
use crate::column::{before, limit};
use crate::names;
use crate::record::{UserChange, UserRecord};

fn claim(name: NameKey<'_>, user_id: &UserId) -> Statement {
    let (kind, key) = names::columns(name);
    Statement::new("INSERT INTO account_name (kind, key, user_id) VALUES (?1, ?2, ?3)")
        .bind(kind)
        .bind(key)
        .bind(user_id)
}

/// Frees a user's name.
fn free(name: NameKey<'_>, user_id: &UserId) -> Statement {
    let (kind, key) = names::columns(name);
    Statement::new("DELETE FROM account_name WHERE kind = ?1 AND key = ?2 AND user_id = ?3")
        .bind(kind)
        .bind(key)
        .bind(user_id)
}

/// Frees all names of a user.
fn free_all(user_id: &UserId) -> Statement {
    Statement::new("DELETE FROM account_name WHERE user_id = ?1").bind(user_id)
}

/// Whether somebody has the name.
fn claimed(name: NameKey<'_>) -> Statement<(i64,)> {
    let (kind, key) = names::columns(name);
    Statement::new("SELECT 1 FROM account_name WHERE kind = ?1 AND key = ?2").bind(kind).bind(key)
}

fn insert(user: &User) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO account (",
        user_columns!(names),
        ")
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
    ))
    .bind_record(UserRecord::from(user))
}

/// Whether the id is taken.
fn taken(id: &UserId) -> Statement<(i64,)> {
    Statement::new("SELECT 1 FROM account WHERE id = ?1").bind(id)
}

fn find(id: &UserId) -> Statement<User> {
    Statement::new(concat!("SELECT ", user_columns!(names), " FROM account WHERE id = ?1")).bind(id)
}

fn find_by_name(name: NameKey<'_>) -> Statement<User> {
    let (kind, key) = names::columns(name);
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

/// Replaces all of an account that may change, if its revision is still that of `old`.
fn replace(old: &User, new: &User) -> Statement {
    Statement::new(concat!(
        "
    UPDATE account SET (",
        user_change_columns!(names),
        ") = (?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
    WHERE id = ?1 AND revision = ?2"
    ))
    .bind(&old.id)
    .bind(old.revision)
    .bind_record(UserChange::new(new, old.revision.saturating_add(1)))
}

/// Whether the account is still as it was when `old` was read.
fn unchanged(old: &User) -> Statement<(i64,)> {
    Statement::new("SELECT 1 FROM account WHERE id = ?1 AND revision = ?2").bind(&old.id).bind(old.revision)
}

fn delete(id: &UserId) -> Statement {
    Statement::new("DELETE FROM account WHERE id = ?1").bind(id)
}

/// A page of the accounts, found in the index `account_created_at`, from its end.
fn list(page: &UserPage<'_>) -> Statement<User> {
    let (created_at, id) = before(page.after.as_ref());
    Statement::new(concat!(
        "
    SELECT ",
        user_columns!(names),
        " FROM account
    WHERE (created_at, id) < (?1, ?2) ORDER BY created_at DESC, id DESC LIMIT ?3"
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
        SELECT user_id FROM account_name WHERE instr(key, ?4) > 0
        UNION SELECT id FROM account WHERE id = ?4) AS found
        JOIN account ON account.id = found.user_id
    WHERE (created_at, id) < (?1, ?2) ORDER BY created_at DESC, id DESC LIMIT ?3"
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
        " FROM account WHERE deleted_at < ?1 ORDER BY deleted_at, id LIMIT ?2"
    ))
    .bind(before)
    .bind(limit(at_most))
}

/// Counts users' numbers on.
fn next_number(at_least: u64) -> Statement<(u64,)> {
    Statement::new(
        "
    INSERT INTO user_number (only_row, last_number) VALUES (1, max(?1, 1))
    ON CONFLICT (only_row) DO UPDATE SET last_number = max(last_number + 1, ?1)
    RETURNING last_number",
    )
    .bind(at_least)
}

/// Replaces an account's password hash if it is still the old one. `IS` also finds an account that has no hash.
fn replace_hash(id: &UserId, old: Option<&PasswordHash>, new: &PasswordHash) -> Statement {
    Statement::new(
        "
    UPDATE account SET password_hash = ?3, revision = revision + 1 WHERE id = ?1 AND password_hash IS ?2",
    )
    .bind(id)
    .bind(old.map(PasswordHash::expose))
    .bind(new.expose())
}

fn set_disabled(id: &UserId, disabled: Option<Timestamp>) -> Statement {
    Statement::new("UPDATE account SET disabled_at = ?2, revision = revision + 1 WHERE id = ?1")
        .bind(id)
        .bind(disabled)
}

#[async_trait]
impl UserStore for SqliteStore {
    async fn insert_user(&self, user: &User) -> Result<UserInserted, StoreError> {
        let user = user.clone();
        self.writes("insert the account", Undo::Savepoint, move |connection| {
            Box::pin(async move {
                // Nobody can take the id or claim a name in between: the transaction holds the write lock.
                if !taken(&user.id).all(connection).await?.is_empty() {
                    return Ok(UserInserted::IdTaken);
                }
                for name in names::of(&user) {
                    if !claimed(name).all(connection).await?.is_empty() {
                        return Ok(names::insert_refused(name));
                    }
                }
                insert(&user).changes(connection).await?;
                for name in names::of(&user) {
                    claim(name, &user.id).changes(connection).await?;
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
        self.first("find the account by its name", &self.readers, find_by_name(name)).await
    }

    async fn replace_user(&self, old: &User, new: &User) -> Result<UserReplaced, StoreError> {
        let (old, new) = (old.clone(), new.clone());
        self.writes("replace the account", Undo::Savepoint, move |connection| {
            Box::pin(async move {
                if unchanged(&old).all(connection).await?.is_empty() {
                    return Ok(UserReplaced::Changed);
                }
                for name in names::beyond(&new, &old) {
                    if !claimed(name).all(connection).await?.is_empty() {
                        return Ok(names::change_refused(name));
                    }
                }
                replace(&old, &new).changes(connection).await?;
                for name in names::beyond(&old, &new) {
                    free(name, &old.id).changes(connection).await?;
                }
                for name in names::beyond(&new, &old) {
                    claim(name, &old.id).changes(connection).await?;
                }
                Ok(UserReplaced::Yes)
            })
        })
        .await
    }

    async fn delete_user(&self, id: &UserId) -> Result<bool, StoreError> {
        let belongings = [one_time::delete_all(id), devices::forget(id), free_all(id)];
        let account = delete(id);
        self.writes("delete the account", Undo::Savepoint, move |connection| {
            Box::pin(async move {
                for statement in belongings {
                    statement.changes(connection).await?;
                }
                Ok(account.changes(connection).await? > 0)
            })
        })
        .await
    }

    async fn users(&self, page: &UserPage<'_>) -> Result<Vec<User>, StoreError> {
        const ACTION: &str = "list the accounts";
        match page.query {
            Some(query) => self.read(ACTION, &self.lists, search(query, page)).await,
            None => self.read(ACTION, &self.lists, list(page)).await,
        }
    }

    async fn users_to_delete(&self, before: Timestamp, limit: usize) -> Result<Vec<User>, StoreError> {
        self.read("look for accounts to delete", &self.readers, to_delete(before, limit)).await
    }

    async fn next_user_number(&self, at_least: u64) -> Result<u64, StoreError> {
        const ACTION: &str = "count the users' numbers on";
        self.write_returning_only(ACTION, next_number(at_least)).await.map(|(number,)| number)
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

#[cfg(test)]
mod tests {
    use countersign_core::model::EmailAddress;
    use uuid::Uuid;

    use super::super::plan;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        let at = Timestamp::MIN;
        let ada = &User {
            email: EmailAddress::parse("ada@example.org").ok(),
            ..User::new(Uuid::from_u128(1).into(), at)
        };
        let (id, name) = (&ada.id, names::of(ada).next().unwrap());
        let hash = PasswordHash::from_stored("hash".to_owned());
        let page = UserPage { query: None, after: None, limit: 5 };
        for (sql, plan) in [
            plan(claim(name, id)).await,
            plan(free(name, id)).await,
            plan(free_all(id)).await,
            plan(claimed(name)).await,
            plan(insert(ada)).await,
            plan(taken(id)).await,
            plan(find(id)).await,
            plan(find_by_name(name)).await,
            plan(replace(ada, ada)).await,
            plan(unchanged(ada)).await,
            plan(delete(id)).await,
            plan(list(&page)).await,
            plan(to_delete(at, 5)).await,
            plan(next_number(1)).await,
            plan(replace_hash(id, Some(&hash), &hash)).await,
            plan(set_disabled(id, Some(at))).await,
        ] {
            assert!(!plan.contains("SCAN"), "{sql}: {plan}");
            assert!(!plan.contains("ORDER BY"), "{sql}: {plan}");
        }
    }
}
