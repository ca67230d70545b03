//! The MongoDB store keeps the contract of every store (SEC-157).
#![allow(clippy::unwrap_used, reason = "clippy takes only functions with #[test] for tests")]

mod support;

use std::sync::Mutex;

use async_trait::async_trait;
use countersign_core::store::Stores;
use countersign_testkit::contract::{self, Backend};
use support::Fresh;

/// Databases that are there as long as the test.
#[derive(Debug, Default)]
struct Mongodb {
    databases: Mutex<Vec<Fresh>>,
}

#[async_trait]
impl Backend for Mongodb {
    async fn fresh(&self) -> Stores {
        let database = Fresh::new().unwrap();
        let stores = database.open().await.into();
        self.databases.lock().unwrap().push(database);
        stores
    }

    async fn reopen(&self, stores: Stores) -> Option<Stores> {
        drop(stores);
        let options = self.databases.lock().unwrap().last().unwrap().options();
        Some(countersign_mongodb::MongodbStore::open(&options).await.unwrap().into())
    }
}

async fn keeps_the_contract(rounds: usize) {
    if Fresh::new().is_some() {
        contract::run(&Mongodb::default(), rounds).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_157_the_contract_is_kept() {
    keeps_the_contract(20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while; run with --ignored"]
async fn slow_sec_092_the_contract_is_kept_over_200_rounds_of_each_race() {
    keeps_the_contract(contract::ROUNDS).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while; run with --ignored"]
async fn slow_sec_088_50_000_revocations_over_three_lifetimes() {
    if Fresh::new().is_some() {
        let mongodb = Mongodb::default();
        contract::revocations::sec_088_the_log_holds_what_lives_and_no_more(&mongodb.fresh().await, 50_000)
            .await;
    }
}
