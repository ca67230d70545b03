//! One-time secrets, kept in PostgreSQL.

use async_trait::async_trait;
use countersign_core::model::{OneTimeSecret, Purpose, SecretDigest, Tried};
use countersign_core::store::{OneTimeStore, StoreError};
use countersign_jwt::{Timestamp, UserId};

use super::{PostgresStore, Statement};
use crate::column::limit;
use crate::record::OneTimeRecord;

/// Writes a secret, in place of the one before.
fn put(secret: &OneTimeSecret) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO countersign.one_time_secret (",
        one_time_columns!(names),
        ")
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (user_id, purpose) DO UPDATE SET (",
        one_time_columns!(names),
        ") = ($1, $2, $3, $4, $5, $6, $7)"
    ))
    .bind_record(OneTimeRecord::from(secret))
}

fn find(user_id: &UserId, purpose: Purpose) -> Statement<OneTimeSecret> {
    Statement::new(concat!(
        "
    SELECT ",
        one_time_columns!(names),
        " FROM countersign.one_time_secret WHERE user_id = $1 AND purpose = $2"
    ))
    .bind(user_id)
    .bind(purpose.name())
}

/// Reads a secret, and waits until nobody else tries it. A caller that waited for the one that deleted the secret finds
/// none.
fn find_locked(user_id: &UserId, purpose: Purpose) -> Statement<OneTimeSecret> {
    Statement::new(concat!(
        "
    SELECT ",
        one_time_columns!(names),
        " FROM countersign.one_time_secret WHERE user_id = $1 AND purpose = $2 FOR UPDATE"
    ))
    .bind(user_id)
    .bind(purpose.name())
}

/// Notes how many tries are left.
fn note_tries(secret: &OneTimeSecret) -> Statement {
    Statement::new(
        "
    UPDATE countersign.one_time_secret SET tries_left = $3 WHERE user_id = $1 AND purpose = $2",
    )
    .bind(&secret.user_id)
    .bind(secret.purpose.name())
    .bind(secret.tries_left)
}

fn delete(user_id: &UserId, purpose: Purpose) -> Statement {
    Statement::new("DELETE FROM countersign.one_time_secret WHERE user_id = $1 AND purpose = $2")
        .bind(user_id)
        .bind(purpose.name())
}

/// Deletes all of a user's secrets.
pub(super) fn delete_all(user_id: &UserId) -> Statement {
    Statement::new("DELETE FROM countersign.one_time_secret WHERE user_id = $1").bind(user_id)
}

/// Deletes old secrets. A row that another node is deleting is left to that node.
fn purge(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    WITH old AS MATERIALIZED (
        SELECT user_id, purpose FROM countersign.one_time_secret WHERE expires_at < $1 ORDER BY expires_at LIMIT $2
        FOR UPDATE SKIP LOCKED)
    DELETE FROM countersign.one_time_secret AS secret USING old
    WHERE secret.user_id = old.user_id AND secret.purpose = old.purpose",
    )
    .bind(before)
    .bind(limit(at_most))
}

#[async_trait]
impl OneTimeStore for PostgresStore {
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

#[cfg(test)]
mod tests {
    use super::super::plans::Filled;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        let Some(mut filled) = Filled::open().await else { return };
        let (ada, purpose) = (&UserId::new("user 5").unwrap(), Purpose::SignIn);
        let at = Timestamp::from_millis;
        let secret = OneTimeSecret {
            user_id: ada.clone(),
            purpose,
            digests: vec![SecretDigest::of("5")],
            bound_to: String::new(),
            tries_left: 5,
            created_at: at(5),
            expires_at: at(5),
        };
        const KEY: &str = "one_time_secret_pkey";
        filled.uses(put(&secret), KEY).await;
        filled.uses(find(ada, purpose), KEY).await;
        filled.uses(find_locked(ada, purpose), KEY).await;
        filled.uses(note_tries(&secret), KEY).await;
        filled.uses(delete(ada, purpose), KEY).await;
        filled.uses(delete_all(ada), KEY).await;
        filled.uses(purge(at(100), 10), "one_time_secret_expires_at").await;
    }
}
