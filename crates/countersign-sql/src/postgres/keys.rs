//! Sealed keys, the store's own identity, and the settings that its programs agreed on.

use async_trait::async_trait;
use countersign_core::model::StoredKey;
use countersign_core::store::{KeyStore, StoreError};
use countersign_jwt::Timestamp;
use countersign_jwt::key::KeyId;
use uuid::Uuid;

use super::engine::{Statement, only, values};
use super::{PostgresStore, STORE};
use crate::record::KeyRecord;

/// Of first calls at once one inserts; the others wait for it, and insert nothing.
const INSERT_ID: &str = "INSERT INTO countersign.store (only_row, id) VALUES (1, $1) ON CONFLICT DO NOTHING";

const FIND_ID: &str = "SELECT id FROM countersign.store";

const INSERT: &str = "
    INSERT INTO countersign.sealed_key (purpose, number, key_id, algorithm, sealed, created_at, active_at, removed_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
    ON CONFLICT DO NOTHING";

const RESEAL: &str = "UPDATE countersign.sealed_key SET sealed = $1 WHERE key_id = $2 AND sealed = $3";

const REMOVE: &str = "
    UPDATE countersign.sealed_key SET removed_at = $1, sealed = '' WHERE key_id = $2 AND removed_at IS NULL";

const FIND_ALL: &str = "SELECT * FROM countersign.sealed_key";

const FIND_SETTINGS: &str = "SELECT settings FROM countersign.agreed_settings";

/// Of first calls at once one inserts; the others wait for it, and insert nothing.
const INSERT_SETTINGS: &str =
    "INSERT INTO countersign.agreed_settings (only_row, settings) VALUES (1, $1) ON CONFLICT DO NOTHING";

const REPLACE_SETTINGS: &str = "UPDATE countersign.agreed_settings SET settings = $1 WHERE settings = $2";

#[async_trait]
impl KeyStore for PostgresStore {
    async fn store_id(&self, candidate: Uuid) -> Result<Uuid, StoreError> {
        const ACTION: &str = "read the store's id";
        let insert = Statement::new(INSERT_ID).bind(candidate.hyphenated().to_string());
        self.work.write(ACTION, insert).await?;
        let (id,) = only(ACTION, self.work.read::<(String,)>(ACTION, Statement::new(FIND_ID)).await?)?;
        Uuid::try_parse(&id).map_err(|error| StoreError::new(STORE, ACTION, error))
    }

    async fn insert_key(&self, key: &StoredKey) -> Result<bool, StoreError> {
        let statement = Statement::new(INSERT)
            .bind(key.purpose.name())
            .bind(i64::from(key.number))
            .bind(key.key_id.as_str())
            .bind(key.algorithm.name())
            .bind(key.sealed.as_slice())
            .bind(key.created_at.as_millis())
            .bind(key.active_at.as_millis())
            .bind(key.removed_at.map(Timestamp::as_millis));
        Ok(self.work.write("insert the key", statement).await? > 0)
    }

    async fn reseal_key(&self, id: &KeyId, old: &[u8], new: &[u8]) -> Result<bool, StoreError> {
        let statement = Statement::new(RESEAL).bind(new).bind(id.as_str()).bind(old);
        Ok(self.work.write("reseal the key", statement).await? > 0)
    }

    async fn remove_key(&self, id: &KeyId, at: Timestamp) -> Result<bool, StoreError> {
        let statement = Statement::new(REMOVE).bind(at.as_millis()).bind(id.as_str());
        Ok(self.work.write("remove the key", statement).await? > 0)
    }

    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        const ACTION: &str = "read the keys";
        let rows = self.work.read::<KeyRecord>(ACTION, Statement::new(FIND_ALL)).await?;
        let mut keys: Vec<StoredKey> = values(ACTION, rows)?;
        keys.sort_by_key(|key| (key.purpose, key.number));
        Ok(keys)
    }

    async fn settings(&self) -> Result<Option<String>, StoreError> {
        let rows = self.work.read::<(String,)>("read the settings", Statement::new(FIND_SETTINGS)).await?;
        Ok(rows.into_iter().next().map(|(settings,)| settings))
    }

    async fn replace_settings(&self, old: Option<&str>, new: &str) -> Result<bool, StoreError> {
        let statement = match old {
            None => Statement::new(INSERT_SETTINGS).bind(new),
            Some(old) => Statement::new(REPLACE_SETTINGS).bind(new).bind(old),
        };
        Ok(self.work.write("write the settings", statement).await? > 0)
    }
}
