//! Databases on the server under test, gone with the test.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy takes only functions with #[test] for tests")]

use countersign_mongodb::{MongodbOptions, MongodbStore};
#[allow(unused_imports, reason = "each test program uses a part of it")]
pub(crate) use countersign_testkit::rows::{NOW, seconds, session, session_id, user, user_id};
use countersign_testkit::server_url;
use mongodb::bson::oid::ObjectId;
use mongodb::{Client, Database};

/// A database of this name alone, dropped with this value.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) url: String,
    pub(crate) name: String,
}

impl Fresh {
    /// `None` where the tests on a server are to be left out.
    pub(crate) fn new() -> Option<Self> {
        Self::on("TEST_MONGODB_URL")
    }

    /// On a server that has change streams for certain.
    pub(crate) fn with_change_streams() -> Option<Self> {
        Self::on("TEST_MONGODB_STREAMS_URL")
    }

    fn on(variable: &str) -> Option<Self> {
        let url = server_url(variable)?;
        Some(Self { url, name: format!("countersign_test_{}", ObjectId::new()) })
    }

    pub(crate) fn options(&self) -> MongodbOptions {
        MongodbOptions::from_url(&self.url).unwrap().database(&self.name)
    }

    pub(crate) async fn open(&self) -> MongodbStore {
        MongodbStore::open(&self.options()).await.unwrap()
    }

    /// Another program that uses the database.
    pub(crate) async fn other_program(&self) -> Database {
        Client::with_uri_str(&self.url).await.unwrap().database(&self.name)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let (url, name) = (self.url.clone(), self.name.clone());
        // The test's own runtime may be the one that panics.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = Client::with_uri_str(&url).await.unwrap();
                client.database(&name).drop().await.unwrap();
            });
        });
        let dropped = dropping.join();
        if !std::thread::panicking() {
            dropped.unwrap();
        }
    }
}
