//! Sealed keys, the store's own identity, and the settings that its programs agreed on.

use async_trait::async_trait;
use countersign_core::model::StoredKey;
use countersign_core::store::{KeyStore, StoreError};
use countersign_jwt::Timestamp;
use countersign_jwt::key::KeyId;
use uuid::Uuid;

use super::MySqlStore;
use super::engine::{Statement, malformed, only, values};
use crate::column::parsed;
use crate::record::KeyRecord;

/// Of first calls at once one inserts; the others wait for its commit, and then find the row there.
const INSERT_ID: &str = "INSERT INTO countersign_store (only_row, id) VALUES (1, ?)";

const FIND_ID: &str = "SELECT CONVERT(id USING utf8mb4) AS id FROM countersign_store";

const INSERT: &str = "
    INSERT INTO countersign_sealed_key
        (purpose, number, key_id, algorithm, sealed, created_at, active_at, removed_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)";

const RESEAL: &str = "UPDATE countersign_sealed_key SET sealed = ? WHERE key_id = ? AND sealed = ?";

const REMOVE: &str = "
    UPDATE countersign_sealed_key SET removed_at = ?, sealed = '' WHERE key_id = ? AND removed_at IS NULL";

const FIND_ALL: &str = "
    SELECT CONVERT(purpose USING utf8mb4) AS purpose, number, CONVERT(key_id USING utf8mb4) AS key_id,
        CONVERT(algorithm USING utf8mb4) AS algorithm, sealed, created_at, active_at, removed_at
    FROM countersign_sealed_key";

const FIND_SETTINGS: &str =
    "SELECT CONVERT(settings USING utf8mb4) AS settings FROM countersign_agreed_settings";

const INSERT_SETTINGS: &str = "INSERT INTO countersign_agreed_settings (only_row, settings) VALUES (1, ?)";

const REPLACE_SETTINGS: &str = "UPDATE countersign_agreed_settings SET settings = ? WHERE settings = ?";

#[async_trait]
impl KeyStore for MySqlStore {
    async fn store_id(&self, candidate: Uuid) -> Result<Uuid, StoreError> {
        const ACTION: &str = "read the store's id";
        let steps = async {
            let find = || self.work.read::<(String,)>(ACTION, Statement::new(FIND_ID));
            let mut found = find().await?;
            if found.is_empty() {
                let candidate = candidate.hyphenated().to_string();
                self.work.insert(ACTION, Statement::new(INSERT_ID).text(candidate.as_str())).await?;
                found = find().await?;
            }
            let (id,) = only(ACTION, found)?;
            parsed("id", &id, Uuid::try_parse).map_err(malformed(ACTION))
        };
        self.work.series(ACTION, steps).await
    }

    async fn insert_key(&self, key: &StoredKey) -> Result<bool, StoreError> {
        let statement = Statement::new(INSERT)
            .text(key.purpose.name())
            .number(i64::from(key.number))
            .text(key.key_id.as_str())
            .text(key.algorithm.name())
            .bytes(key.sealed.as_slice())
            .number(key.created_at.as_millis())
            .number(key.active_at.as_millis())
            .number(key.removed_at.map(Timestamp::as_millis));
        self.work.insert("insert the key", statement).await
    }

    async fn reseal_key(&self, id: &KeyId, old: &[u8], new: &[u8]) -> Result<bool, StoreError> {
        let statement = Statement::new(RESEAL).bytes(new).text(id.as_str()).bytes(old);
        Ok(self.work.write("reseal the key", statement).await?.rows > 0)
    }

    async fn remove_key(&self, id: &KeyId, at: Timestamp) -> Result<bool, StoreError> {
        let statement = Statement::new(REMOVE).number(at.as_millis()).text(id.as_str());
        Ok(self.work.write("remove the key", statement).await?.rows > 0)
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
        const ACTION: &str = "write the settings";
        match old {
            None => self.work.insert(ACTION, Statement::new(INSERT_SETTINGS).text(new)).await,
            Some(old) => {
                let replace = Statement::new(REPLACE_SETTINGS).text(new).text(old);
                Ok(self.work.write(ACTION, replace).await?.rows > 0)
            }
        }
    }
}
