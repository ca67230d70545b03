//! The devices on which users have logged in: one document for each user, which has at most [`KnownDevice::MAX`] of
//! them. It is written on the condition that its version is the one that was read.

use std::cmp::Reverse;

use async_trait::async_trait;
use countersign_core::model::{KnownDevice, SecretDigest};
use countersign_core::store::{DeviceStore, StoreError};
use countersign_jwt::{Timestamp, UserId};
use mongodb::bson::{Document, RawDocument, doc};

use crate::call::{Failure, pause};
use crate::field::{binary, bytes, date, documents, number, parsed, time};
use crate::locks::Turn;
use crate::record;
use crate::records::Query;
use crate::store::MongodbStore;

/// The number of users whose devices one step of a purge looks at.
const PURGE_STEP: usize = 100;

/// A user's devices, as they were read.
#[derive(Clone, Debug)]
struct Known {
    user_id: UserId,
    /// `None` if there is no document yet.
    version: Option<i64>,
    devices: Vec<KnownDevice>,
}

#[async_trait]
impl DeviceStore for MongodbStore {
    async fn remember_device(&self, device: &KnownDevice) -> Result<bool, StoreError> {
        self.answer("remember the device", Turn::IfWeak(device.user_id.as_str()), async {
            let mut tries = 0;
            loop {
                let mut known = self.known_devices(&device.user_id).await?;
                let had_devices = !known.devices.is_empty();
                let same = known.devices.iter_mut().find(|known| known.digest == device.digest);
                let is_new = same.is_none();
                match same {
                    Some(same) => same.until = same.until.max(device.until),
                    None => known.devices.push(device.clone()),
                }
                // Of several that would be forgotten first, the one that is used now stays.
                known.devices.sort_by_key(|known| Reverse((known.until, known.digest == device.digest)));
                known.devices.truncate(KnownDevice::MAX);
                if self.write_devices(&known).await? {
                    return Ok(had_devices && is_new);
                }
                tries += 1;
                pause(tries).await;
            }
        })
        .await
    }

    async fn knows_device(
        &self,
        user_id: &UserId,
        digest: &SecretDigest,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.answer("look for the device", Turn::Any, async {
            let known = self.known_devices(user_id).await?;
            Ok(known.devices.iter().any(|device| device.digest == *digest && now < device.until))
        })
        .await
    }

    async fn forget_devices(&self, user_id: &UserId) -> Result<u64, StoreError> {
        self.answer("forget the devices", Turn::IfWeak(user_id.as_str()), async {
            let mut tries = 0;
            loop {
                let mut known = self.known_devices(user_id).await?;
                let count = known.devices.len() as u64;
                known.devices.clear();
                if known.version.is_none() || self.write_devices(&known).await? {
                    return Ok(count);
                }
                tries += 1;
                pause(tries).await;
            }
        })
        .await
    }

    async fn purge_devices(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        let mut purged = 0;
        while purged < at_most {
            let step = async {
                let query = Query {
                    filter: doc! { "first_until": { "$lt": before.as_millis() } },
                    sort: doc! { "first_until": 1 },
                    limit: Some((at_most - purged).min(PURGE_STEP)),
                    ..Query::default()
                };
                let mut gone = 0;
                for mut known in record::all(&self.devices.find(query).await?, Known::read)? {
                    let mut left = at_most - purged - gone;
                    let count = known.devices.len();
                    known.devices.retain(|device| {
                        let is_over = left > 0 && device.until < before;
                        left -= usize::from(is_over);
                        !is_over
                    });
                    // A user who has logged in meanwhile is looked at again by the next purge.
                    if self.write_devices(&known).await? {
                        gone += count - known.devices.len();
                    }
                }
                Ok(gone)
            };
            match self.answer("purge devices", Turn::OfAllIfWeak, step).await? {
                0 => break,
                gone => purged += gone,
            }
        }
        Ok(purged as u64)
    }
}

impl MongodbStore {
    async fn known_devices(&self, user_id: &UserId) -> Result<Known, Failure> {
        match self.devices.find_one(doc! { "_id": user_id.as_str() }).await? {
            Some(document) => Known::read(&document),
            None => Ok(Known { user_id: user_id.clone(), version: None, devices: Vec::new() }),
        }
    }

    /// Writes a user's devices, if they have not changed since they were read; returns whether it did.
    async fn write_devices(&self, known: &Known) -> Result<bool, Failure> {
        let version = known.version.unwrap_or(0);
        let mut filter = doc! { "_id": known.user_id.as_str() };
        if known.version.is_some() {
            filter.insert("version", version);
        }
        let times = known.devices.iter().map(|device| device.until);
        let (Some(first), Some(last)) = (times.clone().min(), times.max()) else {
            return Ok(self.devices.delete_many(filter).await? > 0);
        };
        let next = doc! {
            "version": version.wrapping_add(1),
            "devices": known.devices.iter().map(of_device).collect::<Vec<_>>(),
            "first_until": first.as_millis(),
            "gone_at": date(self.not_before_opening(last)),
        };
        if known.version.is_some() {
            self.devices.update_one(filter, doc! { "$set": next }).await
        } else {
            filter.extend(next);
            self.devices.insert(&filter).await
        }
    }
}

impl Known {
    fn read(document: &RawDocument) -> Result<Self, Failure> {
        let user_id = parsed(document, "_id", UserId::new)?;
        let device = |device: &RawDocument| {
            let digest = record::digest("digest", bytes(device, "digest")?)?;
            Ok(KnownDevice { user_id: user_id.clone(), digest, until: time(device, "until")? })
        };
        let devices: Result<_, Failure> = documents(document, "devices")?.into_iter().map(device).collect();
        let devices = devices?;
        Ok(Self { version: Some(number(document, "version")?), devices, user_id })
    }
}

fn of_device(device: &KnownDevice) -> Document {
    doc! { "digest": binary(device.digest.as_bytes()), "until": device.until.as_millis() }
}
