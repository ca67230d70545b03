//! One-time secrets, kept in SQLite.

use async_trait::async_trait;
use countersign_core::model::{OneTimeSecret, Purpose, SecretDigest, Tried};
use countersign_core::store::{OneTimeStore, StoreError};
use countersign_jwt::{Timestamp, UserId};

use super::{SqliteStore, Statement, Undo};
use crate::column::limit;
use crate::purge::in_steps;
use crate::record::OneTimeRecord;

/// Writes a secret, in place of the one before.
fn put(secret: &OneTimeSecret) -> Statement {
    Statement::new(concat!(
        "
    INSERT OR REPLACE INTO one_time_secret (",
        one_time_columns!(names),
        ")
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
    ))
    .bind_record(OneTimeRecord::from(secret))
}

fn find(user_id: &UserId, purpose: Purpose) -> Statement<OneTimeSecret> {
    Statement::new(concat!(
        "SELECT ",
        one_time_columns!(names),
        " FROM one_time_secret WHERE user_id = ?1 AND purpose = ?2"
    ))
    .bind(user_id)
    .bind(purpose.name())
}

/// Notes how many tries are left.
fn note_tries(secret: &OneTimeSecret) -> Statement {
    Statement::new("UPDATE one_time_secret SET tries_left = ?3 WHERE user_id = ?1 AND purpose = ?2")
        .bind(&secret.user_id)
        .bind(secret.purpose.name())
        .bind(secret.tries_left)
}

fn delete(user_id: &UserId, purpose: Purpose) -> Statement {
    Statement::new("DELETE FROM one_time_secret WHERE user_id = ?1 AND purpose = ?2")
        .bind(user_id)
        .bind(purpose.name())
}

/// Deletes all of a user's secrets.
pub(super) fn delete_all(user_id: &UserId) -> Statement {
    Statement::new("DELETE FROM one_time_secret WHERE user_id = ?1").bind(user_id)
}

fn purge(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    DELETE FROM one_time_secret WHERE (user_id, purpose) IN
        (SELECT user_id, purpose FROM one_time_secret WHERE expires_at < ?1 ORDER BY expires_at LIMIT ?2)",
    )
    .bind(before)
    .bind(limit(at_most))
}

#[async_trait]
impl OneTimeStore for SqliteStore {
    async fn put_secret(&self, secret: &OneTimeSecret) -> Result<(), StoreError> {
        self.write("keep the one-time secret", put(secret)).await.map(drop)
    }

    async fn secret(&self, user_id: &UserId, purpose: Purpose) -> Result<Option<OneTimeSecret>, StoreError> {
        self.first("read the one-time secret", &self.readers, find(user_id, purpose)).await
    }

    async fn try_secret(
        &self,
        user_id: &UserId,
        purpose: Purpose,
        digest: &SecretDigest,
        now: Timestamp,
    ) -> Result<Option<(Tried, OneTimeSecret)>, StoreError> {
        let (find, delete, digest) = (find(user_id, purpose), delete(user_id, purpose), *digest);
        self.writes("try the one-time secret", Undo::Statement, move |connection| {
            Box::pin(async move {
                let Some(before) = find.all(connection).await?.pop() else { return Ok(None) };
                let mut secret = before.clone();
                let tried = secret.try_digest(&digest, now);
                let write = if tried == Tried::Wrong { note_tries(&secret) } else { delete };
                write.changes(connection).await?;
                Ok(Some((tried, before)))
            })
        })
        .await
    }

    async fn remove_secret(&self, user_id: &UserId, purpose: Purpose) -> Result<bool, StoreError> {
        Ok(self.write("delete the one-time secret", delete(user_id, purpose)).await? > 0)
    }

    async fn purge_secrets(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        in_steps(limit, |step| self.write("purge one-time secrets", purge(before, step))).await
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::plan;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        let (ada, at, purpose) = (&UserId::from(Uuid::from_u128(1)), Timestamp::MIN, Purpose::SignIn);
        let secret = OneTimeSecret {
            user_id: ada.clone(),
            purpose,
            digests: vec![SecretDigest::of("1")],
            bound_to: String::new(),
            tries_left: 5,
            created_at: at,
            expires_at: at,
        };
        for (sql, plan) in [
            plan(put(&secret)).await,
            plan(find(ada, purpose)).await,
            plan(note_tries(&secret)).await,
            plan(delete(ada, purpose)).await,
            plan(delete_all(ada)).await,
            plan(purge(at, 5)).await,
        ] {
            assert!(!plan.contains("SCAN"), "{sql}: {plan}");
            assert!(!plan.contains("ORDER BY"), "{sql}: {plan}");
        }
    }
}
