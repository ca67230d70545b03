//! Sealed keys, the store's own identity, and the settings that its programs agreed on.

use async_trait::async_trait;
use countersign_core::model::StoredKey;
use countersign_core::store::{KeyStore, StoreError};
use countersign_jwt::Timestamp;
use countersign_jwt::key::KeyId;
use uuid::Uuid;

use super::{PostgresStore, Statement};
use crate::record::KeyRecord;

/// Inserts the store's id unless it has one. Of concurrent first calls one inserts; the others wait for it and insert
/// nothing.
fn insert_id(candidate: Uuid) -> Statement {
    Statement::new("INSERT INTO countersign.store (only_row, id) VALUES (1, $1) ON CONFLICT DO NOTHING")
        .bind(candidate.hyphenated().to_string())
}

fn find_id() -> Statement<Uuid> {
    Statement::new("SELECT id FROM countersign.store")
}

fn insert(key: &StoredKey) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO countersign.sealed_key (",
        key_columns!(names),
        ")
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT DO NOTHING"
    ))
    .bind_record(KeyRecord::from(key))
}

fn reseal(id: &KeyId, old: &[u8], new: &[u8]) -> Statement {
    Statement::new("UPDATE countersign.sealed_key SET sealed = $1 WHERE key_id = $2 AND sealed = $3")
        .bind(new)
        .bind(id.as_str())
        .bind(old)
}

fn remove(id: &KeyId, at: Timestamp) -> Statement {
    Statement::new(
        "
    UPDATE countersign.sealed_key SET removed_at = $1, sealed = '' WHERE key_id = $2 AND removed_at IS NULL",
    )
    .bind(at)
    .bind(id.as_str())
}

fn find_all() -> Statement<StoredKey> {
    Statement::new(concat!("SELECT ", key_columns!(names), " FROM countersign.sealed_key"))
}

fn find_settings() -> Statement<(String,)> {
    Statement::new("SELECT settings FROM countersign.agreed_settings")
}

/// Inserts the agreed settings unless there are some. Of concurrent first calls one inserts; the others wait for it and
/// insert nothing.
fn insert_settings(settings: &str) -> Statement {
    Statement::new(
        "INSERT INTO countersign.agreed_settings (only_row, settings) VALUES (1, $1) ON CONFLICT DO NOTHING",
    )
    .bind(settings)
}

fn replace_settings(old: &str, new: &str) -> Statement {
    Statement::new("UPDATE countersign.agreed_settings SET settings = $1 WHERE settings = $2")
        .bind(new)
        .bind(old)
}

/// Whether the store has keys.
pub(super) fn has_keys() -> Statement<(bool,)> {
    Statement::new("SELECT EXISTS (SELECT 1 FROM countersign.sealed_key)::int::bigint")
}

#[async_trait]
impl KeyStore for PostgresStore {
    async fn store_id(&self, candidate: Uuid) -> Result<Uuid, StoreError> {
        const ACTION: &str = "read the store's id";
        self.lanes.work.insert(ACTION, insert_id(candidate)).await?;
        self.lanes.work.only(ACTION, find_id()).await
    }

    async fn insert_key(&self, key: &StoredKey) -> Result<bool, StoreError> {
        self.lanes.work.insert("insert the key", insert(key)).await
    }

    async fn reseal_key(&self, id: &KeyId, old: &[u8], new: &[u8]) -> Result<bool, StoreError> {
        Ok(self.lanes.work.write("reseal the key", reseal(id, old, new)).await? > 0)
    }

    async fn remove_key(&self, id: &KeyId, at: Timestamp) -> Result<bool, StoreError> {
        Ok(self.lanes.work.write("remove the key", remove(id, at)).await? > 0)
    }

    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        let mut keys = self.lanes.work.read("read the keys", find_all()).await?;
        keys.sort_by_key(|key: &StoredKey| (key.purpose, key.number));
        Ok(keys)
    }

    async fn settings(&self) -> Result<Option<String>, StoreError> {
        let found = self.lanes.work.first("read the settings", find_settings()).await?;
        Ok(found.map(|(settings,)| settings))
    }

    async fn replace_settings(&self, old: Option<&str>, new: &str) -> Result<bool, StoreError> {
        const ACTION: &str = "write the settings";
        match old {
            None => self.lanes.work.insert(ACTION, insert_settings(new)).await,
            Some(old) => Ok(self.lanes.work.write(ACTION, replace_settings(old, new)).await? > 0),
        }
    }
}
