//! The reference store keeps the contract.

use std::sync::Arc;

use countersign_core::store::{MemoryStore, OutboxStore, Stores};
use countersign_testkit::contract::{self, Backend};

#[derive(Debug)]
struct Memory;

#[async_trait::async_trait]
impl Backend for Memory {
    async fn fresh(&self) -> Stores {
        MemoryStore::new().into()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn sec_157_the_memory_store_keeps_the_contract() {
    contract::run(&Memory, contract::ROUNDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn the_memory_store_keeps_the_contract_of_the_outbox() {
    let outbox: Arc<dyn OutboxStore> = Arc::new(MemoryStore::new());
    contract::outbox::run(&outbox, contract::ROUNDS).await;
}
