//! The MySQL store for programs that choose their engine when they start.

use std::sync::Arc;

use async_trait::async_trait;
use countersign_core::store::{OpenStore, StoreError, Stores, Weakness};

use super::MySqlStore;

#[async_trait]
impl OpenStore for MySqlStore {
    fn name(&self) -> &'static str {
        "mysql"
    }

    fn stores(self: Arc<Self>) -> Stores {
        self.into()
    }

    async fn has_keys(&self) -> Result<bool, StoreError> {
        self.has_keys().await
    }

    fn weaknesses(&self) -> Vec<Weakness> {
        self.weaknesses().iter().cloned().map(Weakness::MayLose).collect()
    }

    async fn settle(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
