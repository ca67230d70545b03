//! The reference store keeps the contract.

use countersign_core::store::{MemoryStore, Stores};
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
