//! The devices on which users have logged in: a hash for each user, which has at most [`KnownDevice::MAX`] fields.

use async_trait::async_trait;
use countersign_core::model::{KnownDevice, SecretDigest};
use countersign_core::store::{DeviceStore, StoreError};
use countersign_jwt::{Timestamp, UserId};

use crate::answer;
use crate::layout::field_of_member;
use crate::script::{FORGET_DEVICES, PURGE_FIELDS, REMEMBER_DEVICE};
use crate::store::{Op, RedisStore};
use crate::text::{digest_text, time};

/// The number of records that one script purges, about a millisecond of work.
const PURGE_STEP: usize = 200;

#[async_trait]
impl DeviceStore for RedisStore {
    async fn remember_device(&self, device: &KnownDevice) -> Result<bool, StoreError> {
        let op = self.op("remember the device");
        let call = REMEMBER_DEVICE
            .on(self.devices_of(&device.user_id))
            .arg(digest_text(&device.digest))
            .number(device.until.as_millis())
            .number(KnownDevice::MAX)
            .arg(device.user_id.as_str());
        let is_new = op.write(&call).await?;
        op.value(answer::yes(&is_new))
    }

    async fn knows_device(
        &self,
        user_id: &UserId,
        digest: &SecretDigest,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let op = self.op("look for the device");
        let mut command = redis::cmd("HGET");
        command.arg(self.names.devices(user_id.as_str())).arg(digest_text(digest));
        let until = op.query(&command).await?;
        let until = op.value(answer::optional_text(until))?;
        let until = op.value(until.map(|until| time("device", &until)).transpose())?;
        Ok(until.is_some_and(|until| now < until))
    }

    async fn forget_devices(&self, user_id: &UserId) -> Result<u64, StoreError> {
        let op = self.op("forget the devices");
        let forgotten = op.write(&FORGET_DEVICES.on(self.devices_of(user_id)).arg(user_id.as_str())).await?;
        op.value(answer::count(&forgotten))
    }

    async fn purge_devices(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let op = self.op("purge devices");
        self.purge_fields(op, &self.names.devices_by_until(), |user| self.names.devices(user), before, limit)
            .await
    }
}

impl RedisStore {
    fn devices_of(&self, user_id: &UserId) -> [String; 2] {
        [self.names.devices(user_id.as_str()), self.names.devices_by_until()]
    }

    /// Deletes records that ended before `before`. Each is a field of a hash of its user, and all of the kind are in a
    /// set by their ends.
    pub(crate) async fn purge_fields(
        &self,
        op: Op<'_>,
        by_end: &str,
        hash_of: impl Fn(&str) -> String + Send + Sync,
        before: Timestamp,
        limit: usize,
    ) -> Result<u64, StoreError> {
        op.all(async {
            let (mut purged, mut left) = (0_u64, limit);
            while left > 0 {
                let at_most = left.min(PURGE_STEP);
                let mut command = redis::cmd("ZRANGEBYSCORE");
                command.arg(by_end).arg("-inf").arg(format!("({}", before.as_millis()));
                command.arg("LIMIT").arg(0).arg(at_most);
                let over = op.value(answer::texts(op.query(&command).await?))?;
                let mut call = PURGE_FIELDS.on([by_end.to_owned()]).number(before.as_millis());
                for member in &over {
                    let (user_id, field) = op.value(field_of_member(member))?;
                    call = call.key(hash_of(user_id)).arg(member.as_str()).arg(field);
                }
                if !over.is_empty() {
                    let gone = op.write(&call).await?;
                    purged = purged.saturating_add(op.value(answer::count(&gone))?);
                }
                left -= at_most;
                if over.len() < at_most {
                    break;
                }
            }
            Ok(purged)
        })
        .await
    }
}
