//! Sealed keys, the store's own identity, and the settings that its programs agreed on.

use async_trait::async_trait;
use countersign_core::model::{KeyPurpose, StoredKey};
use countersign_core::store::{KeyStore, StoreError};
use countersign_jwt::Timestamp;
use countersign_jwt::key::{Algorithm, KeyId};
use redis::Value;
use uuid::Uuid;

use crate::answer;
use crate::failure::Failure;
use crate::script::{INSERT_KEY, REMOVE_KEY, REPLACE_SETTINGS, RESEAL_KEY, STORE_ID};
use crate::store::RedisStore;
use crate::text::{number, optional_time, parsed, time, time_text};

const WHAT: &str = "key";
const FIELDS: usize = 7;

#[async_trait]
impl KeyStore for RedisStore {
    async fn store_id(&self, candidate: Uuid) -> Result<Uuid, StoreError> {
        let op = self.op("read the store's id");
        let id = op.write(&STORE_ID.on([self.names.meta()]).number(candidate.hyphenated())).await?;
        op.value(answer::text(id).and_then(|id| parsed("id", Uuid::try_parse(&id))))
    }

    async fn insert_key(&self, key: &StoredKey) -> Result<bool, StoreError> {
        let op = self.op("insert the key");
        let call = INSERT_KEY
            .on([self.names.keys()])
            .arg(id_field(&key.key_id))
            .arg(format!("n{}:{}", key.purpose.name(), key.number))
            .arg(write(key));
        let inserted = op.write(&call).await?;
        op.value(answer::yes(&inserted))
    }

    async fn reseal_key(&self, id: &KeyId, old: &[u8], new: &[u8]) -> Result<bool, StoreError> {
        let op = self.op("reseal the key");
        let call = RESEAL_KEY.on([self.names.keys()]).arg(id_field(id)).arg(old).arg(new);
        let resealed = op.write(&call).await?;
        op.value(answer::yes(&resealed))
    }

    async fn remove_key(&self, id: &KeyId, at: Timestamp) -> Result<bool, StoreError> {
        let op = self.op("remove the key");
        let call = REMOVE_KEY.on([self.names.keys()]).arg(id_field(id)).number(at.as_millis());
        let removed = op.write(&call).await?;
        op.value(answer::yes(&removed))
    }

    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        let op = self.op("read the keys");
        let mut command = redis::cmd("HGETALL");
        command.arg(self.names.keys());
        let found = op.query(&command).await?;
        op.value(read_all(found))
    }

    async fn settings(&self) -> Result<Option<String>, StoreError> {
        let op = self.op("read the settings");
        let mut command = redis::cmd("HGET");
        command.arg(self.names.meta()).arg("settings");
        let found = op.query(&command).await?;
        op.value(answer::bytes(found).and_then(|found| {
            found.map(|bytes| parsed("record of settings", String::from_utf8(bytes))).transpose()
        }))
    }

    async fn replace_settings(&self, old: Option<&str>, new: &str) -> Result<bool, StoreError> {
        let op = self.op("write the settings");
        // The empty text stands for an absent record, because a record is never empty.
        let call = REPLACE_SETTINGS.on([self.names.meta()]).arg(old.unwrap_or_default()).arg(new);
        let replaced = op.write(&call).await?;
        op.value(answer::yes(&replaced))
    }
}

fn id_field(id: &KeyId) -> String {
    format!("i{}", id.as_str())
}

/// The key as text: `purpose number algorithm created_at active_at removed_at`, a space, and the sealed secret.
fn write(key: &StoredKey) -> Vec<u8> {
    let mut text = format!(
        "{} {} {} {} {} {} ",
        key.purpose.name(),
        key.number,
        key.algorithm.name(),
        key.created_at.as_millis(),
        key.active_at.as_millis(),
        time_text(key.removed_at),
    )
    .into_bytes();
    text.extend_from_slice(&key.sealed);
    text
}

fn read_all(found: Value) -> Result<Vec<StoredKey>, Failure> {
    let mut keys = Vec::new();
    for (field, value) in answer::pairs(found)? {
        if let Some(id) = field.strip_prefix('i') {
            let bytes = answer::bytes(value)?.ok_or(Failure::Malformed(WHAT))?;
            keys.push(read(parsed(WHAT, KeyId::new(id))?, &bytes)?);
        }
    }
    keys.sort_by_key(|key| (key.purpose, key.number));
    Ok(keys)
}

fn read(key_id: KeyId, bytes: &[u8]) -> Result<StoredKey, Failure> {
    let parts: Vec<_> = bytes.splitn(FIELDS, |byte| *byte == b' ').collect();
    let Ok([purpose, key_number, algorithm, created_at, active_at, removed_at, sealed]) =
        <[&[u8]; FIELDS]>::try_from(parts)
    else {
        return Err(Failure::Malformed(WHAT));
    };
    let text = |bytes| parsed(WHAT, std::str::from_utf8(bytes));
    Ok(StoredKey {
        purpose: KeyPurpose::from_name(text(purpose)?).ok_or(Failure::Malformed(WHAT))?,
        number: number(WHAT, text(key_number)?)?,
        key_id,
        algorithm: parsed(WHAT, text(algorithm)?.parse::<Algorithm>())?,
        sealed: sealed.to_vec(),
        created_at: time(WHAT, text(created_at)?)?,
        active_at: time(WHAT, text(active_at)?)?,
        removed_at: optional_time(WHAT, text(removed_at)?)?,
    })
}
