//! The Redis store keeps the contract of every store (SEC-157), on a server that keeps everything and on one that keeps
//! nothing over its restart.
#![allow(clippy::unwrap_used, reason = "clippy takes only functions with #[test] for tests")]

mod support;

use std::sync::Mutex;

use async_trait::async_trait;
use countersign_core::store::Stores;
use countersign_redis::{RedisOptions, RedisStore};
use countersign_testkit::contract::{self, Backend};
use countersign_testkit::server_url;
use support::Place;

/// Places that are there as long as the test.
#[derive(Debug)]
struct Redis {
    url: String,
    is_volatile: bool,
    places: Mutex<Vec<Place>>,
}

impl Redis {
    fn durable() -> Option<Self> {
        let url = server_url("TEST_REDIS_URL")?;
        Some(Self { url, is_volatile: false, places: Mutex::default() })
    }

    fn volatile() -> Option<Self> {
        let url = server_url("TEST_REDIS_VOLATILE_URL")?;
        Some(Self { url, is_volatile: true, places: Mutex::default() })
    }

    async fn open(&self) -> Stores {
        let options = self.options();
        RedisStore::open(&options).await.unwrap().into()
    }

    fn options(&self) -> RedisOptions {
        let options = self.places.lock().unwrap().last().unwrap().options();
        if self.is_volatile { options.allow_volatile() } else { options }
    }
}

#[async_trait]
impl Backend for Redis {
    async fn fresh(&self) -> Stores {
        self.places.lock().unwrap().push(Place::new(&self.url));
        self.open().await
    }

    async fn reopen(&self, stores: Stores) -> Option<Stores> {
        drop(stores);
        Some(self.open().await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_157_the_contract_is_kept() {
    let Some(redis) = Redis::durable() else { return };
    contract::run(&redis, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_157_the_contract_is_kept_without_a_disk() {
    let Some(redis) = Redis::volatile() else { return };
    contract::run(&redis, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while; run with --ignored"]
async fn slow_sec_092_the_contract_is_kept_over_200_rounds_of_each_race() {
    let Some(redis) = Redis::durable() else { return };
    contract::run(&redis, contract::ROUNDS).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while; run with --ignored"]
async fn slow_sec_088_a_million_revocations_over_three_lifetimes() {
    let Some(redis) = Redis::durable() else { return };
    contract::revocations::sec_088_the_log_holds_what_lives_and_no_more(&redis.fresh().await, 1_000_000)
        .await;
}
