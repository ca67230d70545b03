//! The SQLite store keeps the contract of every store (SEC-157).
#![cfg(feature = "sqlite")]
#![allow(clippy::unwrap_used, reason = "clippy takes only functions with #[test] for tests")]

mod support;

use std::sync::Mutex;

use async_trait::async_trait;
use countersign_core::store::Stores;
use countersign_sql::sqlite::SqliteOptions;
use countersign_testkit::contract::{self, Backend};
use support::Folder;

/// Databases in folders that are there as long as the test.
#[derive(Debug, Default)]
struct Sqlite {
    folders: Mutex<Vec<Folder>>,
}

impl Sqlite {
    fn latest(&self) -> SqliteOptions {
        self.folders.lock().unwrap().last().unwrap().options()
    }
}

#[async_trait]
impl Backend for Sqlite {
    async fn fresh(&self) -> Stores {
        self.folders.lock().unwrap().push(Folder::new());
        support::open(&self.latest()).await.into()
    }

    async fn reopen(&self, stores: Stores) -> Option<Stores> {
        drop(stores);
        Some(support::open(&self.latest()).await.into())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_157_the_contract_is_kept() {
    contract::run(&Sqlite::default(), 20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while; run with --ignored"]
async fn slow_sec_092_the_contract_is_kept_over_200_rounds_of_each_race() {
    contract::run(&Sqlite::default(), contract::ROUNDS).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while; run with --ignored"]
async fn slow_sec_088_a_million_revocations_over_three_lifetimes() {
    let sqlite = Sqlite::default();
    contract::revocations::sec_088_the_log_holds_what_lives_and_no_more(&sqlite.fresh().await, 1_000_000)
        .await;
}
