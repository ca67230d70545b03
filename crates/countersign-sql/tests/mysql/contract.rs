//! The MySQL store keeps the contract of every store (SEC-157).

use std::sync::Mutex;

use async_trait::async_trait;
use countersign_core::store::Stores;
use countersign_testkit::contract::{self, Backend};
use countersign_testkit::server_url;

use crate::support::Database;

/// Databases that are there as long as the test.
#[derive(Debug, Default)]
struct MySql {
    databases: Mutex<Vec<Database>>,
}

#[async_trait]
impl Backend for MySql {
    async fn fresh(&self) -> Stores {
        let database = Database::fresh().await.unwrap();
        let store = database.open().await;
        self.databases.lock().unwrap().push(database);
        store.into()
    }

    async fn reopen(&self, stores: Stores) -> Option<Stores> {
        drop(stores);
        let options = self.databases.lock().unwrap().last().unwrap().options();
        Some(countersign_sql::mysql::MySqlStore::open(&options).await.unwrap().into())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_157_the_contract_is_kept() {
    if server_url("TEST_MYSQL_URL").is_some() {
        contract::run(&MySql::default(), 20).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while; run with --ignored"]
async fn slow_sec_092_the_contract_is_kept_over_200_rounds_of_each_race() {
    if server_url("TEST_MYSQL_URL").is_some() {
        contract::run(&MySql::default(), contract::ROUNDS).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while; run with --ignored"]
async fn slow_sec_088_a_million_revocations_over_three_lifetimes() {
    if server_url("TEST_MYSQL_URL").is_some() {
        let mysql = MySql::default();
        contract::revocations::sec_088_the_log_holds_what_lives_and_no_more(&mysql.fresh().await, 1_000_000)
            .await;
    }
}
