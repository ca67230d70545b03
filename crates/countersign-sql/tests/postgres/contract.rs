//! The PostgreSQL store keeps the contract of every store (SEC-157), straight and through a pooler.

use std::sync::Mutex;

use async_trait::async_trait;
use countersign_core::store::Stores;
use countersign_sql::postgres::{PostgresOptions, PostgresStore};
use countersign_testkit::contract::{self, Backend};
use countersign_testkit::server_url;

use crate::support::{Database, patient};

/// Databases that are there as long as the test.
#[derive(Debug)]
struct Postgres {
    through_pooler: bool,
    databases: Mutex<Vec<Database>>,
}

impl Postgres {
    fn straight() -> Self {
        Self { through_pooler: false, databases: Mutex::default() }
    }

    fn through_a_pooler() -> Self {
        Self { through_pooler: true, ..Self::straight() }
    }

    fn latest(&self) -> PostgresOptions {
        let databases = self.databases.lock().unwrap();
        let database = databases.last().unwrap();
        let url = if self.through_pooler { database.pooler_url().unwrap() } else { database.url() };
        patient(&url)
    }
}

#[async_trait]
impl Backend for Postgres {
    async fn fresh(&self) -> Stores {
        let database = Database::fresh().await.unwrap();
        self.databases.lock().unwrap().push(database);
        PostgresStore::open(&self.latest()).await.unwrap().into()
    }

    async fn reopen(&self, stores: Stores) -> Option<Stores> {
        drop(stores);
        Some(PostgresStore::open(&self.latest()).await.unwrap().into())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_157_the_contract_is_kept() {
    if server_url("TEST_POSTGRES_URL").is_some() {
        contract::run(&Postgres::straight(), 20).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_157_the_contract_is_kept_through_a_pooler_in_transaction_mode() {
    if server_url("TEST_POSTGRES_URL").and(server_url("TEST_PGBOUNCER_URL")).is_some() {
        contract::run(&Postgres::through_a_pooler(), 20).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while; run with --ignored"]
async fn slow_sec_092_the_contract_is_kept_over_200_rounds_of_each_race() {
    if server_url("TEST_POSTGRES_URL").is_some() {
        contract::run(&Postgres::straight(), contract::ROUNDS).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while; run with --ignored"]
async fn slow_sec_088_a_million_revocations_over_three_lifetimes() {
    if server_url("TEST_POSTGRES_URL").is_some() {
        let postgres = Postgres::straight();
        contract::revocations::sec_088_the_log_holds_what_lives_and_no_more(
            &postgres.fresh().await,
            1_000_000,
        )
        .await;
    }
}
