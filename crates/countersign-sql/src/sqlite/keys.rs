//! Sealed keys, the store's own identity, and the settings that its programs agreed on.

use async_trait::async_trait;
use countersign_core::model::StoredKey;
use countersign_core::store::{KeyStore, StoreError};
use countersign_jwt::Timestamp;
use countersign_jwt::key::KeyId;
use uuid::Uuid;

use super::{SqliteStore, Statement, Undo};
use crate::record::KeyRecord;

fn insert_id(candidate: Uuid) -> Statement {
    Statement::new("INSERT INTO store (only_row, id) VALUES (1, ?1) ON CONFLICT (only_row) DO NOTHING")
        .bind(candidate.hyphenated().to_string())
}

fn find_id() -> Statement<Uuid> {
    Statement::new("SELECT id FROM store")
}

fn insert(key: &StoredKey) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO sealed_key (",
        key_columns!(names),
        ")
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
    ON CONFLICT DO NOTHING"
    ))
    .bind_record(KeyRecord::from(key))
}

fn reseal(id: &KeyId, old: &[u8], new: &[u8]) -> Statement {
    Statement::new("UPDATE sealed_key SET sealed = ?1 WHERE key_id = ?2 AND sealed = ?3")
        .bind(new)
        .bind(id.as_str())
        .bind(old)
}

fn remove(id: &KeyId, at: Timestamp) -> Statement {
    Statement::new(
        "UPDATE sealed_key SET removed_at = ?1, sealed = x'' WHERE key_id = ?2 AND removed_at IS NULL",
    )
    .bind(at)
    .bind(id.as_str())
}

fn find_all() -> Statement<StoredKey> {
    Statement::new(concat!("SELECT ", key_columns!(names), " FROM sealed_key"))
}

fn find_settings() -> Statement<(String,)> {
    Statement::new("SELECT settings FROM agreed_settings")
}

fn insert_settings(settings: &str) -> Statement {
    Statement::new(
        "INSERT INTO agreed_settings (only_row, settings) VALUES (1, ?1) ON CONFLICT (only_row) DO NOTHING",
    )
    .bind(settings)
}

fn replace_settings(old: &str, new: &str) -> Statement {
    Statement::new("UPDATE agreed_settings SET settings = ?1 WHERE settings = ?2").bind(new).bind(old)
}

/// Whether the store has keys.
pub(super) fn has_keys() -> Statement<(bool,)> {
    Statement::new("SELECT EXISTS (SELECT 1 FROM sealed_key)")
}

#[async_trait]
impl KeyStore for SqliteStore {
    async fn store_id(&self, candidate: Uuid) -> Result<Uuid, StoreError> {
        self.writes("read the store's id", Undo::Savepoint, move |connection| {
            Box::pin(async move {
                insert_id(candidate).changes(connection).await?;
                find_id().all(connection).await?.pop().ok_or(sqlx::Error::RowNotFound)
            })
        })
        .await
    }

    async fn insert_key(&self, key: &StoredKey) -> Result<bool, StoreError> {
        Ok(self.write("insert the key", insert(key)).await? > 0)
    }

    async fn reseal_key(&self, id: &KeyId, old: &[u8], new: &[u8]) -> Result<bool, StoreError> {
        Ok(self.write("reseal the key", reseal(id, old, new)).await? > 0)
    }

    async fn remove_key(&self, id: &KeyId, at: Timestamp) -> Result<bool, StoreError> {
        Ok(self.write("remove the key", remove(id, at)).await? > 0)
    }

    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        let mut keys = self.read("read the keys", &self.readers, find_all()).await?;
        keys.sort_by_key(|key: &StoredKey| (key.purpose, key.number));
        Ok(keys)
    }

    async fn settings(&self) -> Result<Option<String>, StoreError> {
        let found = self.first("read the settings", &self.readers, find_settings()).await?;
        Ok(found.map(|(settings,)| settings))
    }

    async fn replace_settings(&self, old: Option<&str>, new: &str) -> Result<bool, StoreError> {
        const ACTION: &str = "write the settings";
        match old {
            None => Ok(self.write(ACTION, insert_settings(new)).await? > 0),
            Some(old) => Ok(self.write(ACTION, replace_settings(old, new)).await? > 0),
        }
    }
}
