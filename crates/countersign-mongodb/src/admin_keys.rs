//! Admin keys.

use async_trait::async_trait;
use countersign_core::model::{AdminKey, AdminScope};
use countersign_core::store::{AdminKeyStore, StoreError};
use mongodb::bson::{Document, RawDocument, doc};
use uuid::Uuid;

use crate::call::Failure;
use crate::field::{binary, bytes, optional_time, parsed, text, time};
use crate::locks::Turn;
use crate::record;
use crate::records::Query;
use crate::store::MongodbStore;

#[async_trait]
impl AdminKeyStore for MongodbStore {
    async fn insert_admin_key(&self, key: &AdminKey) -> Result<bool, StoreError> {
        self.answer("insert the admin key", Turn::Any, self.admin_keys.insert(&of_key(key))).await
    }

    async fn admin_key(&self, id: Uuid) -> Result<Option<AdminKey>, StoreError> {
        self.answer("read the admin key", Turn::Any, async {
            self.admin_keys.find_one(doc! { "_id": id.to_string() }).await?.as_deref().map(key).transpose()
        })
        .await
    }

    async fn admin_keys(&self) -> Result<Vec<AdminKey>, StoreError> {
        self.answer("read the admin keys", Turn::Any, async {
            let mut keys = record::all(&self.admin_keys.find(Query::default()).await?, key)?;
            keys.sort_by_key(|key| (key.created_at, key.id));
            Ok(keys)
        })
        .await
    }

    async fn remove_admin_key(&self, id: Uuid) -> Result<bool, StoreError> {
        let id = id.to_string();
        self.answer("remove the admin key", Turn::IfWeak(&id), async {
            Ok(self.admin_keys.delete_many(doc! { "_id": &id }).await? > 0)
        })
        .await
    }
}

/// The key's document. Its scopes are one text, separated by spaces.
fn of_key(key: &AdminKey) -> Document {
    let scopes: Vec<_> = key.scopes.iter().map(|scope| scope.name()).collect();
    doc! {
        "_id": key.id.to_string(),
        "name": &key.name,
        "digest": binary(key.digest.as_bytes()),
        "scopes": scopes.join(" "),
        "created_at": key.created_at.as_millis(),
        "expires_at": record::optional_millis(key.expires_at),
    }
}

fn key(document: &RawDocument) -> Result<AdminKey, Failure> {
    let scopes = |text: &str| {
        let scope = |name| AdminScope::from_name(name).ok_or("an unknown scope");
        text.split_whitespace().map(scope).collect::<Result<_, _>>()
    };
    Ok(AdminKey {
        id: parsed(document, "_id", Uuid::try_parse)?,
        name: text(document, "name")?.to_owned(),
        digest: record::digest("digest", bytes(document, "digest")?)?,
        scopes: parsed(document, "scopes", scopes)?,
        created_at: time(document, "created_at")?,
        expires_at: optional_time(document, "expires_at")?,
    })
}
