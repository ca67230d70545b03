//! Sealed keys, the store's own identity, and the settings that its programs agreed on.

use async_trait::async_trait;
use countersign_core::model::StoredKey;
use countersign_core::store::{KeyStore, StoreError};
use countersign_jwt::Timestamp;
use countersign_jwt::key::KeyId;
use uuid::Uuid;

use super::{MySqlStore, Statement};
use crate::record::KeyRecord;

/// Inserts the store's id unless it has one. Of concurrent first calls one inserts; the others wait for its commit and
/// then find the row.
fn insert_id(candidate: Uuid) -> Statement {
    Statement::new("INSERT INTO countersign_store (only_row, id) VALUES (1, ?)")
        .bind(candidate.hyphenated().to_string())
}

fn find_id() -> Statement<Uuid> {
    Statement::new("SELECT CONVERT(id USING utf8mb4) FROM countersign_store")
}

fn insert(key: &StoredKey) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO countersign_sealed_key
        (",
        key_columns!(names),
        ")
    VALUES (",
        key_columns!(marks),
        ")"
    ))
    .bind_record(KeyRecord::from(key))
}

fn reseal(id: &KeyId, old: &[u8], new: &[u8]) -> Statement {
    Statement::new("UPDATE countersign_sealed_key SET sealed = ? WHERE key_id = ? AND sealed = ?")
        .bind(new)
        .bind(id.as_str())
        .bind(old)
}

fn remove(id: &KeyId, at: Timestamp) -> Statement {
    Statement::new(
        "
    UPDATE countersign_sealed_key SET removed_at = ?, sealed = '' WHERE key_id = ? AND removed_at IS NULL",
    )
    .bind(at)
    .bind(id.as_str())
}

fn find_all() -> Statement<StoredKey> {
    Statement::new(concat!(
        "
    SELECT ",
        key_columns!(converted),
        "
    FROM countersign_sealed_key"
    ))
}

fn find_settings() -> Statement<(String,)> {
    Statement::new("SELECT CONVERT(settings USING utf8mb4) FROM countersign_agreed_settings")
}

fn insert_settings(settings: &str) -> Statement {
    Statement::new("INSERT INTO countersign_agreed_settings (only_row, settings) VALUES (1, ?)")
        .bind(settings)
}

fn replace_settings(old: &str, new: &str) -> Statement {
    Statement::new("UPDATE countersign_agreed_settings SET settings = ? WHERE settings = ?")
        .bind(new)
        .bind(old)
}

/// Whether the store has keys.
pub(super) fn has_keys() -> Statement<(bool,)> {
    Statement::new("SELECT EXISTS (SELECT 1 FROM countersign_sealed_key)")
}

#[async_trait]
impl KeyStore for MySqlStore {
    async fn store_id(&self, candidate: Uuid) -> Result<Uuid, StoreError> {
        const ACTION: &str = "read the store's id";
        let work = &self.lanes.work;
        let steps = async {
            if let Some(id) = work.first(ACTION, find_id()).await? {
                return Ok(id);
            }
            work.insert(ACTION, insert_id(candidate)).await?;
            work.only(ACTION, find_id()).await
        };
        work.series(ACTION, steps).await
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
