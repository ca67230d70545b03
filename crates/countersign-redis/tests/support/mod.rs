//! Stores under prefixes of their own, a server that can be made to hang, and values to write.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes only functions with #[test] for tests, and not every test file uses everything"
)]

use std::sync::atomic::{AtomicU32, Ordering};

use countersign_core::model::{Advance, AdvanceCondition, Device, EndReason, Session};
use countersign_core::store::{End, EpochRaise};
use countersign_jwt::{Generation, Timestamp};
use countersign_redis::{RedisOptions, RedisStore};
#[allow(unused_imports, reason = "each test program uses a part of it")]
pub(crate) use countersign_testkit::rows::{key, seconds, session_id, user_id};
use countersign_testkit::{Proxy, rows, server_url};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_769_860_800_123);

/// A part of a Redis that nobody else uses, and that is empty again when it is dropped, even by a panic.
#[derive(Debug)]
pub(crate) struct Place {
    url: String,
    prefix: String,
}

impl Place {
    pub(crate) fn new(url: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
        let (secs, micros): (u64, u32) = redis::cmd("TIME").query(&mut connection).unwrap();
        // No two runs of any tests meet, wherever they run.
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let prefix = format!("test:{secs}.{micros:06}:{process}:{count}");
        Self { url: url.to_owned(), prefix }
    }

    pub(crate) fn durable() -> Option<Self> {
        server_url("TEST_REDIS_URL").map(|url| Self::new(&url))
    }

    pub(crate) fn options(&self) -> RedisOptions {
        RedisOptions::from_url(&self.url).unwrap().prefix(&self.prefix).unwrap()
    }

    /// The options for the same place through a proxy.
    pub(crate) fn through(&self, proxy: &Proxy) -> RedisOptions {
        RedisOptions::from_url(&proxy.url(&self.url)).unwrap().prefix(&self.prefix).unwrap()
    }

    pub(crate) async fn open(&self) -> RedisStore {
        RedisStore::open(&self.options()).await.unwrap()
    }

    /// The URL with another scheme and another server.
    pub(crate) fn url_at(&self, scheme: &str, server: &str) -> String {
        let url = self.url.replacen(authority(&self.url), server, 1);
        let rest = url.split_once("://").unwrap().1;
        format!("{scheme}://{}", rest.split('?').next().unwrap())
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn server(&self) -> &str {
        authority(&self.url)
    }

    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }

    pub(crate) fn connect(&self) -> redis::Connection {
        redis::Client::open(self.url.as_str()).unwrap().get_connection().unwrap()
    }

    /// Waits until so many stores listen for changes.
    pub(crate) async fn is_listened_to_by(&self, stores: u64) {
        let mut connection = self.connect();
        let channel = self.key("changed");
        let counting = async {
            loop {
                let mut count = redis::cmd("PUBSUB");
                count.arg("NUMSUB").arg(&channel);
                let (_, listening): (String, u64) = count.query(&mut connection).unwrap();
                if listening == stores {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(seconds(20), counting).await.unwrap();
    }

    /// What a node does that has written.
    pub(crate) fn tell(&self) {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(self.key("changed")).arg("another node").exec(&mut self.connect()).unwrap();
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        let mut connection = self.connect();
        let mut keys = Vec::new();
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(self.key("*")).arg("COUNT").arg(10_000);
            let (next, found): (u64, Vec<String>) = scan.query(&mut connection).unwrap();
            keys.extend(found);
            cursor = next;
            if cursor == 0 {
                return keys;
            }
        }
    }

    pub(crate) fn clear(&self) {
        let mut connection = self.connect();
        for keys in self.keys().chunks(1_000) {
            redis::cmd("UNLINK").arg(keys).exec(&mut connection).unwrap();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Host and port of a URL.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").unwrap().1;
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap()
}

pub(crate) fn session(user: u128, id: u128) -> Session {
    Session {
        issued_at: NOW,
        created_at: NOW,
        last_seen_at: NOW,
        idle_until: NOW + seconds(86_400),
        absolute_until: NOW + seconds(30 * 86_400),
        device: Device::new(Some("Test/1.0"), "192.0.2.1".parse().ok()),
        ..rows::session(user, id)
    }
}

pub(crate) fn advance(from: u32) -> Advance {
    Advance {
        from: Generation::new(from),
        to: Generation::new(from + 1),
        guard: AdvanceCondition::Generation,
        now: NOW + seconds(60),
        idle_until: NOW + seconds(86_460),
        device: Device::default(),
    }
}

pub(crate) fn end() -> End {
    End { reason: EndReason::LoggedOut, at: NOW, until: NOW + seconds(900) }
}

pub(crate) fn raise() -> EpochRaise {
    EpochRaise { except: None, reason: EndReason::AllEnded, at: NOW, until: NOW + seconds(900) }
}
