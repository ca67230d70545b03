//! One-time secrets, kept in MySQL or MariaDB.

use async_trait::async_trait;
use countersign_core::model::{OneTimeSecret, Purpose, SecretDigest, Tried};
use countersign_core::store::{OneTimeStore, StoreError};
use countersign_jwt::{Timestamp, UserId};

use super::{MySqlStore, Statement};
use crate::column::limit;
use crate::record::OneTimeRecord;

/// Writes a secret, in place of the one before.
pub(super) fn put(secret: &OneTimeSecret) -> Statement {
    Statement::new(concat!(
        "
    REPLACE INTO countersign_one_time_secret (",
        one_time_columns!(names),
        ")
    VALUES (",
        one_time_columns!(marks),
        ")"
    ))
    .bind_record(OneTimeRecord::from(secret))
}

pub(super) fn find(user_id: &UserId, purpose: Purpose) -> Statement<OneTimeSecret> {
    Statement::new(concat!(
        "SELECT ",
        one_time_columns!(converted),
        " FROM countersign_one_time_secret AS secret WHERE secret.user_id = ? AND secret.purpose = ?"
    ))
    .bind(user_id)
    .bind(purpose.name())
}

/// Reads a secret, and waits until nobody else tries it. A caller that waited for the one that deleted the secret finds
/// none.
pub(super) fn find_locked(user_id: &UserId, purpose: Purpose) -> Statement<OneTimeSecret> {
    Statement::new(concat!(
        "SELECT ",
        one_time_columns!(converted),
        " FROM countersign_one_time_secret AS secret WHERE secret.user_id = ? AND secret.purpose = ? FOR UPDATE"
    ))
    .bind(user_id)
    .bind(purpose.name())
}

/// Notes how many tries are left.
pub(super) fn note_tries(secret: &OneTimeSecret) -> Statement {
    Statement::new(
        "
    UPDATE countersign_one_time_secret SET tries_left = ? WHERE user_id = ? AND purpose = ?",
    )
    .bind(secret.tries_left)
    .bind(&secret.user_id)
    .bind(secret.purpose.name())
}

pub(super) fn delete(user_id: &UserId, purpose: Purpose) -> Statement {
    Statement::new("DELETE FROM countersign_one_time_secret WHERE user_id = ? AND purpose = ?")
        .bind(user_id)
        .bind(purpose.name())
}

/// Deletes all of a user's secrets.
pub(super) fn delete_all(user_id: &UserId) -> Statement {
    Statement::new("DELETE FROM countersign_one_time_secret WHERE user_id = ?").bind(user_id)
}

pub(super) fn purge(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    DELETE FROM countersign_one_time_secret WHERE expires_at < ? ORDER BY expires_at LIMIT ?",
    )
    .bind(before)
    .bind(limit(at_most))
}

#[async_trait]
impl OneTimeStore for MySqlStore {
    async fn put_secret(&self, secret: &OneTimeSecret) -> Result<(), StoreError> {
        self.lanes.work.write("keep the one-time secret", put(secret)).await.map(drop)
    }

    async fn secret(&self, user_id: &UserId, purpose: Purpose) -> Result<Option<OneTimeSecret>, StoreError> {
        self.lanes.work.first("read the one-time secret", find(user_id, purpose)).await
    }

    async fn try_secret(
        &self,
        user_id: &UserId,
        purpose: Purpose,
        digest: &SecretDigest,
        now: Timestamp,
    ) -> Result<Option<(Tried, OneTimeSecret)>, StoreError> {
        let (find, delete) = (find_locked(user_id, purpose), delete(user_id, purpose));
        self.lanes.work.try_secret(find, note_tries, delete, digest, now).await
    }

    async fn remove_secret(&self, user_id: &UserId, purpose: Purpose) -> Result<bool, StoreError> {
        Ok(self.lanes.work.write("delete the one-time secret", delete(user_id, purpose)).await? > 0)
    }

    async fn purge_secrets(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.lanes.work.purge("purge one-time secrets", limit, |step| purge(before, step)).await
    }
}
