//! Opening this store, for programs that choose their engine when they start.

use std::sync::Arc;

use async_trait::async_trait;
use countersign_core::store::{OpenStore, StoreError, Stores, Weakness};

use crate::STORE_NAME;
use crate::store::{MongodbStore, NOT_ATOMIC};

#[async_trait]
impl OpenStore for MongodbStore {
    fn name(&self) -> &'static str {
        STORE_NAME
    }

    fn stores(self: Arc<Self>) -> Stores {
        self.into()
    }

    async fn has_keys(&self) -> Result<bool, StoreError> {
        self.has_keys().await
    }

    fn weaknesses(&self) -> Vec<Weakness> {
        let losses = self.weaknesses().iter().filter(|told| *told != NOT_ATOMIC);
        let races = (!self.updates_are_atomic()).then_some(Weakness::UnsettledRaces);
        losses.cloned().map(Weakness::MayLose).chain(races).collect()
    }

    async fn settle(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
