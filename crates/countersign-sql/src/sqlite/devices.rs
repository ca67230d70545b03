//! The devices on which users have logged in, kept in SQLite.

use async_trait::async_trait;
use countersign_core::model::{KnownDevice, SecretDigest};
use countersign_core::store::{DeviceStore, StoreError};
use countersign_jwt::{Timestamp, UserId};
use sqlx::Connection as _;

use super::{SqliteStore, Statement, Undo};
use crate::column::limit;
use crate::purge::in_steps;

/// Moves the time until which a device is known forward, if the device is known.
fn renew(device: &KnownDevice) -> Statement {
    Statement::new("UPDATE known_device SET until = max(until, ?3) WHERE user_id = ?1 AND digest = ?2")
        .bind(&device.user_id)
        .bind(&device.digest)
        .bind(device.until)
}

fn insert(device: &KnownDevice) -> Statement {
    Statement::new("INSERT INTO known_device (user_id, digest, until) VALUES (?1, ?2, ?3)")
        .bind(&device.user_id)
        .bind(&device.digest)
        .bind(device.until)
}

/// Whether the device is known, and how many devices the user has.
fn known(device: &KnownDevice) -> Statement<(bool, i64)> {
    Statement::new(
        "
    SELECT EXISTS (SELECT 1 FROM known_device WHERE user_id = ?1 AND digest = ?2),
        (SELECT count(*) FROM known_device WHERE user_id = ?1)",
    )
    .bind(&device.user_id)
    .bind(&device.digest)
}

/// Deletes the devices beyond those that are known longest. Of devices that are known equally long, this one stays.
fn trim(device: &KnownDevice) -> Statement {
    Statement::new(
        "
    DELETE FROM known_device WHERE user_id = ?1 AND digest IN (
        SELECT digest FROM known_device WHERE user_id = ?1
        ORDER BY until DESC, digest = ?2 DESC, digest LIMIT -1 OFFSET ?3)",
    )
    .bind(&device.user_id)
    .bind(&device.digest)
    .bind(limit(KnownDevice::MAX))
}

fn knows(user_id: &UserId, digest: &SecretDigest, now: Timestamp) -> Statement<(bool,)> {
    Statement::new(
        "
    SELECT EXISTS (SELECT 1 FROM known_device WHERE user_id = ?1 AND digest = ?2 AND until > ?3)",
    )
    .bind(user_id)
    .bind(digest)
    .bind(now)
}

/// Deletes all of a user's devices.
pub(super) fn forget(user_id: &UserId) -> Statement {
    Statement::new("DELETE FROM known_device WHERE user_id = ?1").bind(user_id)
}

fn purge(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    DELETE FROM known_device WHERE (user_id, digest) IN
        (SELECT user_id, digest FROM known_device WHERE until < ?1 ORDER BY until LIMIT ?2)",
    )
    .bind(before)
    .bind(limit(at_most))
}

#[async_trait]
impl DeviceStore for SqliteStore {
    async fn remember_device(&self, device: &KnownDevice) -> Result<bool, StoreError> {
        let (known, renew, insert, trim) = (known(device), renew(device), insert(device), trim(device));
        self.writes("remember the device", Undo::Statement, move |connection| {
            Box::pin(async move {
                let (is_known, count) = known.all(connection).await?.pop().unwrap_or_default();
                if is_known {
                    renew.changes(connection).await?;
                } else if count < limit(KnownDevice::MAX) {
                    insert.changes(connection).await?;
                } else {
                    let mut both = connection.begin().await?;
                    insert.changes(&mut both).await?;
                    trim.changes(&mut both).await?;
                    both.commit().await?;
                }
                Ok(!is_known && count > 0)
            })
        })
        .await
    }

    async fn knows_device(
        &self,
        user_id: &UserId,
        digest: &SecretDigest,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let found = self.only("look for the device", &self.readers, knows(user_id, digest, now)).await;
        found.map(|(known,)| known)
    }

    async fn forget_devices(&self, user_id: &UserId) -> Result<u64, StoreError> {
        self.write("forget the user's devices", forget(user_id)).await
    }

    async fn purge_devices(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        in_steps(limit, |step| self.write("purge known devices", purge(before, step))).await
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::plan;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        let (ada, at) = (UserId::from(Uuid::from_u128(1)), Timestamp::MIN);
        let device = KnownDevice { user_id: ada.clone(), digest: SecretDigest::of("1"), until: at };
        for (sql, plan) in [
            plan(renew(&device)).await,
            plan(insert(&device)).await,
            plan(known(&device)).await,
            plan(knows(&ada, &device.digest, at)).await,
            plan(forget(&ada)).await,
            plan(purge(at, 5)).await,
        ] {
            assert!(!plan.contains("SCAN"), "{sql}: {plan}");
            assert!(!plan.contains("ORDER BY"), "{sql}: {plan}");
        }
        // The devices of one user are few enough to be sorted.
        let (sql, plan) = plan(trim(&device)).await;
        assert!(!plan.contains("SCAN"), "{sql}: {plan}");
    }
}
