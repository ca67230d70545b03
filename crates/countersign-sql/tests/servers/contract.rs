//! The stores keep the contract of every store (SEC-157).

use std::sync::Mutex;

use async_trait::async_trait;
use countersign_core::store::Stores;
use countersign_testkit::contract::{self, Backend};
use countersign_testkit::server_url;

use crate::support::{Database, ServerUnderTest, open, patient};

/// Databases that are there as long as the test.
#[derive(Debug)]
pub(crate) struct Databases<S: ServerUnderTest> {
    /// Another way to them than their own server's URL.
    way: Option<String>,
    databases: Mutex<Vec<Database<S>>>,
}

impl<S: ServerUnderTest> Databases<S> {
    /// `None` to leave the test out.
    pub(crate) fn new(way: Option<String>) -> Option<Self> {
        server_url(S::URL).map(|_| Self { way, databases: Mutex::default() })
    }

    fn latest(&self) -> S::Options {
        let databases = self.databases.lock().unwrap();
        let database = databases.last().unwrap();
        patient::<S>(&self.way.as_ref().map_or_else(|| database.url(), |way| database.url_at(way)))
    }
}

#[async_trait]
impl<S: ServerUnderTest> Backend for Databases<S> {
    async fn fresh(&self) -> Stores {
        let database = Database::fresh().await.unwrap();
        self.databases.lock().unwrap().push(database);
        open::<S>(&self.latest()).await.into()
    }

    async fn reopen(&self, stores: Stores) -> Option<Stores> {
        drop(stores);
        Some(open::<S>(&self.latest()).await.into())
    }
}

pub(crate) async fn sec_157_the_contract_is_kept<S: ServerUnderTest>() {
    let Some(databases) = Databases::<S>::new(None) else { return };
    contract::run(&databases, 20).await;
}

pub(crate) async fn slow_sec_092_the_contract_is_kept_over_200_rounds_of_each_race<S: ServerUnderTest>() {
    let Some(databases) = Databases::<S>::new(None) else { return };
    contract::run(&databases, contract::ROUNDS).await;
}

pub(crate) async fn slow_sec_088_a_million_revocations_over_three_lifetimes<S: ServerUnderTest>() {
    let Some(databases) = Databases::<S>::new(None) else { return };
    let stores = databases.fresh().await;
    contract::revocations::sec_088_the_log_holds_what_lives_and_no_more(&stores, 1_000_000).await;
}
