//! Sealed keys, the store's own identity, and the settings that its programs agreed on.

use async_trait::async_trait;
use countersign_core::model::StoredKey;
use countersign_core::store::{KeyStore, StoreError};
use countersign_jwt::Timestamp;
use countersign_jwt::key::KeyId;
use uuid::Uuid;

use super::{STORE, SqliteStore, Undo};
use crate::column::malformed;
use crate::record::{KeyRecord, all};

const INSERT_ID: &str = "INSERT INTO store (only_row, id) VALUES (1, ?1) ON CONFLICT (only_row) DO NOTHING";

const FIND_ID: &str = "SELECT id FROM store";

const INSERT: &str = "
    INSERT INTO sealed_key (purpose, number, key_id, algorithm, sealed, created_at, active_at, removed_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
    ON CONFLICT DO NOTHING";

const RESEAL: &str = "UPDATE sealed_key SET sealed = ?1 WHERE key_id = ?2 AND sealed = ?3";

const REMOVE: &str =
    "UPDATE sealed_key SET removed_at = ?1, sealed = x'' WHERE key_id = ?2 AND removed_at IS NULL";

const FIND_ALL: &str = "SELECT * FROM sealed_key";

const FIND_SETTINGS: &str = "SELECT settings FROM agreed_settings";

const INSERT_SETTINGS: &str =
    "INSERT INTO agreed_settings (only_row, settings) VALUES (1, ?1) ON CONFLICT (only_row) DO NOTHING";

const REPLACE_SETTINGS: &str = "UPDATE agreed_settings SET settings = ?1 WHERE settings = ?2";

#[async_trait]
impl KeyStore for SqliteStore {
    async fn store_id(&self, candidate: Uuid) -> Result<Uuid, StoreError> {
        self.write("read the store's id", Undo::Savepoint, move |connection| {
            Box::pin(async move {
                let candidate = candidate.hyphenated().to_string();
                sqlx::query(INSERT_ID).bind(candidate).execute(&mut *connection).await?;
                let id: String = sqlx::query_scalar(FIND_ID).fetch_one(&mut *connection).await?;
                Uuid::try_parse(&id).map_err(|error| malformed("id", error))
            })
        })
        .await
    }

    async fn insert_key(&self, key: &StoredKey) -> Result<bool, StoreError> {
        let key = key.clone();
        self.write("insert the key", Undo::Statement, move |connection| {
            Box::pin(async move {
                let query = sqlx::query(INSERT)
                    .bind(key.purpose.name())
                    .bind(i64::from(key.number))
                    .bind(key.key_id.as_str())
                    .bind(key.algorithm.name())
                    .bind(key.sealed)
                    .bind(key.created_at.as_millis())
                    .bind(key.active_at.as_millis())
                    .bind(key.removed_at.map(Timestamp::as_millis));
                Ok(query.execute(connection).await?.rows_affected() > 0)
            })
        })
        .await
    }

    async fn reseal_key(&self, id: &KeyId, old: &[u8], new: &[u8]) -> Result<bool, StoreError> {
        let (id, old, new) = (id.clone(), old.to_vec(), new.to_vec());
        self.write("reseal the key", Undo::Statement, move |connection| {
            Box::pin(async move {
                let query = sqlx::query(RESEAL).bind(new).bind(id.as_str()).bind(old);
                Ok(query.execute(connection).await?.rows_affected() > 0)
            })
        })
        .await
    }

    async fn remove_key(&self, id: &KeyId, at: Timestamp) -> Result<bool, StoreError> {
        let id = id.clone();
        self.write("remove the key", Undo::Statement, move |connection| {
            Box::pin(async move {
                let query = sqlx::query(REMOVE).bind(at.as_millis()).bind(id.as_str());
                Ok(query.execute(connection).await?.rows_affected() > 0)
            })
        })
        .await
    }

    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        let action = "read the keys";
        let query = sqlx::query_as::<_, KeyRecord>(FIND_ALL);
        let rows = self.read(action, query.fetch_all(&self.readers)).await?;
        let mut keys: Vec<StoredKey> = all(rows).map_err(|error| StoreError::new(STORE, action, error))?;
        keys.sort_by_key(|key| (key.purpose, key.number));
        Ok(keys)
    }

    async fn settings(&self) -> Result<Option<String>, StoreError> {
        let query = sqlx::query_scalar(FIND_SETTINGS);
        self.read("read the settings", query.fetch_optional(&self.readers)).await
    }

    async fn replace_settings(&self, old: Option<&str>, new: &str) -> Result<bool, StoreError> {
        let (old, new) = (old.map(str::to_owned), new.to_owned());
        self.write("write the settings", Undo::Statement, move |connection| {
            Box::pin(async move {
                let query = match old {
                    None => sqlx::query(INSERT_SETTINGS).bind(new),
                    Some(old) => sqlx::query(REPLACE_SETTINGS).bind(new).bind(old),
                };
                Ok(query.execute(connection).await?.rows_affected() > 0)
            })
        })
        .await
    }
}
