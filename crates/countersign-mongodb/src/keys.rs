//! Sealed keys, the store's own identity, and the settings that its programs agreed on.

use async_trait::async_trait;
use countersign_core::model::StoredKey;
use countersign_core::store::{KeyStore, StoreError};
use countersign_jwt::Timestamp;
use countersign_jwt::key::KeyId;
use mongodb::bson::{Bson, doc};
use uuid::Uuid;

use crate::field::{binary, parsed, text};
use crate::locks::Turn;
use crate::record;
use crate::records::Query;
use crate::store::MongodbStore;

/// The `_id` of the document with the store's id.
const ID: &str = "id";

/// The `_id` of the document with the settings.
const SETTINGS: &str = "settings";

#[async_trait]
impl KeyStore for MongodbStore {
    async fn store_id(&self, candidate: Uuid) -> Result<Uuid, StoreError> {
        self.answer("read the store's id", Turn::Any, async {
            loop {
                if let Some(document) = self.store.find_one(doc! { "_id": ID }).await? {
                    return parsed(&document, "id", Uuid::try_parse);
                }
                let document = doc! { "_id": ID, "id": candidate.hyphenated().to_string() };
                if self.store.insert(&document).await? {
                    return Ok(candidate);
                }
            }
        })
        .await
    }

    async fn insert_key(&self, key: &StoredKey) -> Result<bool, StoreError> {
        let insert = async { self.keys.insert(&record::of_key(key)).await };
        self.answer("insert the key", Turn::Any, insert).await
    }

    async fn reseal_key(&self, id: &KeyId, old: &[u8], new: &[u8]) -> Result<bool, StoreError> {
        self.answer("reseal the key", Turn::IfWeak(id.as_str()), async {
            let filter = doc! { "key_id": id.as_str(), "sealed": binary(old) };
            self.keys.update_one(filter, doc! { "$set": { "sealed": binary(new) } }).await
        })
        .await
    }

    async fn remove_key(&self, id: &KeyId, at: Timestamp) -> Result<bool, StoreError> {
        self.answer("remove the key", Turn::IfWeak(id.as_str()), async {
            let filter = doc! { "key_id": id.as_str(), "removed_at": Bson::Null };
            let removed = doc! { "removed_at": at.as_millis(), "sealed": binary(&[]) };
            self.keys.update_one(filter, doc! { "$set": removed }).await
        })
        .await
    }

    async fn keys(&self) -> Result<Vec<StoredKey>, StoreError> {
        self.answer("read the keys", Turn::Any, async {
            let mut keys = record::all(&self.keys.find(Query::default()).await?, record::key)?;
            keys.sort_by_key(|key| (key.purpose, key.number));
            Ok(keys)
        })
        .await
    }

    async fn settings(&self) -> Result<Option<String>, StoreError> {
        self.answer("read the settings", Turn::Any, async {
            let found = self.store.find_one(doc! { "_id": SETTINGS }).await?;
            found.map(|document| text(&document, "settings").map(str::to_owned)).transpose()
        })
        .await
    }

    async fn replace_settings(&self, old: Option<&str>, new: &str) -> Result<bool, StoreError> {
        self.answer("write the settings", Turn::IfWeak(SETTINGS), async {
            match old {
                None => self.store.insert(&doc! { "_id": SETTINGS, "settings": new }).await,
                Some(old) => {
                    let filter = doc! { "_id": SETTINGS, "settings": old };
                    self.store.update_one(filter, doc! { "$set": { "settings": new } }).await
                }
            }
        })
        .await
    }
}
