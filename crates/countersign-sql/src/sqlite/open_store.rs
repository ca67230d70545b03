//! The SQLite store for programs that choose their engine when they start.

use std::sync::Arc;

use async_trait::async_trait;
use countersign_core::store::{OpenStore, StoreError, Stores, Weakness};

use super::SqliteStore;

#[async_trait]
impl OpenStore for SqliteStore {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn stores(self: Arc<Self>) -> Stores {
        self.into()
    }

    async fn has_keys(&self) -> Result<bool, StoreError> {
        self.has_keys().await
    }

    fn weaknesses(&self) -> Vec<Weakness> {
        Vec::new()
    }

    async fn settle(&self) -> Result<(), StoreError> {
        // The database file is then complete without its log.
        self.checkpoint().await
    }
}
