//! The devices on which users have logged in, kept in PostgreSQL.

use async_trait::async_trait;
use countersign_core::model::{KnownDevice, SecretDigest};
use countersign_core::store::{DeviceStore, StoreError};
use countersign_jwt::{Timestamp, UserId};

use super::{PostgresStore, Statement};
use crate::column::limit;

/// Moves the time until which a device is known forward, if the device is known.
fn renew(device: &KnownDevice) -> Statement {
    Statement::new(
        "
    UPDATE countersign.known_device SET until = greatest(until, $3) WHERE user_id = $1 AND digest = $2",
    )
    .bind(&device.user_id)
    .bind(&device.digest)
    .bind(device.until)
}

fn insert(device: &KnownDevice) -> Statement {
    Statement::new(
        "
    INSERT INTO countersign.known_device (user_id, digest, until) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind(&device.user_id)
    .bind(&device.digest)
    .bind(device.until)
}

fn count(user_id: &UserId) -> Statement<(i64,)> {
    Statement::new("SELECT count(*) FROM countersign.known_device WHERE user_id = $1").bind(user_id)
}

/// Deletes the devices beyond those that are known longest. Of devices that are known equally long, this one stays.
fn trim(device: &KnownDevice) -> Statement {
    Statement::new(
        "
    DELETE FROM countersign.known_device WHERE user_id = $1 AND digest IN (
        SELECT digest FROM countersign.known_device WHERE user_id = $1
        ORDER BY until DESC, digest = $2 DESC, digest OFFSET $3)",
    )
    .bind(&device.user_id)
    .bind(&device.digest)
    .bind(limit(KnownDevice::MAX))
}

fn knows(user_id: &UserId, digest: &SecretDigest, now: Timestamp) -> Statement<(bool,)> {
    Statement::new(
        "
    SELECT EXISTS (SELECT 1 FROM countersign.known_device
        WHERE user_id = $1 AND digest = $2 AND until > $3)::int::bigint",
    )
    .bind(user_id)
    .bind(digest)
    .bind(now)
}

/// Deletes all of a user's devices.
pub(super) fn forget(user_id: &UserId) -> Statement {
    Statement::new("DELETE FROM countersign.known_device WHERE user_id = $1").bind(user_id)
}

/// Deletes devices whose time is over. A row that another node is deleting is left to that node.
fn purge(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    WITH old AS MATERIALIZED (
        SELECT user_id, digest FROM countersign.known_device WHERE until < $1 ORDER BY until LIMIT $2
        FOR UPDATE SKIP LOCKED)
    DELETE FROM countersign.known_device AS device USING old
    WHERE device.user_id = old.user_id AND device.digest = old.digest",
    )
    .bind(before)
    .bind(limit(at_most))
}

#[async_trait]
impl DeviceStore for PostgresStore {
    async fn remember_device(&self, device: &KnownDevice) -> Result<bool, StoreError> {
        let (renew, insert) = (|| renew(device), || insert(device));
        self.lanes.work.remember_device(renew, insert, count(&device.user_id), trim(device)).await
    }

    async fn knows_device(
        &self,
        user_id: &UserId,
        digest: &SecretDigest,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let found = self.lanes.work.only("look for the device", knows(user_id, digest, now)).await;
        found.map(|(known,)| known)
    }

    async fn forget_devices(&self, user_id: &UserId) -> Result<u64, StoreError> {
        self.lanes.work.write("forget the user's devices", forget(user_id)).await
    }

    async fn purge_devices(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.lanes.work.purge("purge known devices", limit, |step| purge(before, step)).await
    }
}

#[cfg(test)]
mod tests {
    use super::super::plans::Filled;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        let Some(mut filled) = Filled::open().await else { return };
        let (ada, at) = (UserId::new("user 5").unwrap(), Timestamp::from_millis);
        let device = KnownDevice { user_id: ada.clone(), digest: SecretDigest::of("5"), until: at(5) };
        const KEY: &str = "known_device_pkey";
        filled.uses(renew(&device), KEY).await;
        filled.uses(count(&ada), KEY).await;
        filled.uses(trim(&device), KEY).await;
        filled.uses(knows(&ada, &device.digest, at(5)), KEY).await;
        filled.uses(forget(&ada), KEY).await;
        filled.uses(purge(at(100), 10), "known_device_until").await;
    }
}
