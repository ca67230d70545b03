//! The devices on which users have logged in, kept in MySQL or MariaDB.

use async_trait::async_trait;
use countersign_core::model::{KnownDevice, SecretDigest};
use countersign_core::store::{DeviceStore, StoreError};
use countersign_jwt::{Timestamp, UserId};

use super::{MySqlStore, Statement};
use crate::column::limit;

/// Moves the time until which a device is known forward, if the device is known.
pub(super) fn renew(device: &KnownDevice) -> Statement {
    Statement::new(
        "
    UPDATE countersign_known_device SET until = GREATEST(until, ?) WHERE user_id = ? AND digest = ?",
    )
    .bind(device.until)
    .bind(&device.user_id)
    .bind(&device.digest)
}

pub(super) fn insert(device: &KnownDevice) -> Statement {
    Statement::new("INSERT INTO countersign_known_device (user_id, digest, until) VALUES (?, ?, ?)")
        .bind(&device.user_id)
        .bind(&device.digest)
        .bind(device.until)
}

pub(super) fn count(user_id: &UserId) -> Statement<(i64,)> {
    Statement::new("SELECT COUNT(*) FROM countersign_known_device WHERE user_id = ?").bind(user_id)
}

/// Deletes the devices beyond those that are known longest. Of devices that are known equally long, this one stays.
pub(super) fn trim(device: &KnownDevice) -> Statement {
    Statement::new(
        "
    DELETE device FROM (
        SELECT digest FROM countersign_known_device WHERE user_id = ?
        ORDER BY until DESC, digest = ? DESC, digest LIMIT 1000 OFFSET ?) AS gone
        STRAIGHT_JOIN countersign_known_device AS device ON device.user_id = ? AND device.digest = gone.digest",
    )
    .bind(&device.user_id)
    .bind(&device.digest)
    .bind(limit(KnownDevice::MAX))
    .bind(&device.user_id)
}

pub(super) fn knows(user_id: &UserId, digest: &SecretDigest, now: Timestamp) -> Statement<(bool,)> {
    Statement::new(
        "
    SELECT EXISTS (SELECT 1 FROM countersign_known_device WHERE user_id = ? AND digest = ? AND until > ?)",
    )
    .bind(user_id)
    .bind(digest)
    .bind(now)
}

/// Deletes all of a user's devices.
pub(super) fn forget(user_id: &UserId) -> Statement {
    Statement::new("DELETE FROM countersign_known_device WHERE user_id = ?").bind(user_id)
}

pub(super) fn purge(before: Timestamp, at_most: usize) -> Statement {
    Statement::new("DELETE FROM countersign_known_device WHERE until < ? ORDER BY until LIMIT ?")
        .bind(before)
        .bind(limit(at_most))
}

#[async_trait]
impl DeviceStore for MySqlStore {
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
