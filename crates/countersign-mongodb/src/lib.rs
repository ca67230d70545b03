//! Countersign's stores on MongoDB and on other servers that speak its wire protocol.
//!
//! ```no_run
//! use countersign_core::store::Stores;
//! use countersign_mongodb::{MongodbOptions, MongodbStore, OpenError};
//!
//! # async fn open() -> Result<(), OpenError> {
//! let options = MongodbOptions::from_url("mongodb://localhost/countersign?replicaSet=rs0")?;
//! let stores = Stores::from(MongodbStore::open(&options).await?);
//! # Ok(())
//! # }
//! ```
//!
//! A session is one document, and ending it is an insert into the revocation log, so the store needs no transactions.
//! It needs nothing else that only some of MongoDB's relatives have: `_id`s and plain unique indexes, `insert`, `find`
//! (with `$regex` for searches), `update` with a condition, and `delete` are enough. Further abilities of a server (TTL
//! indexes, change streams) are used where it has them. Where a server, or the URL, is weaker than the store's
//! promises, [`MongodbStore::weaknesses`] and the log tell.
//!
//! An answered write is in the journals of a majority of the replica set. For a sharded cluster, `session` and
//! `revocation` are sharded by `user_id`, the other large collections by `_id`.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod admin_keys;
mod audit;
mod call;
mod devices;
mod document_id;
mod field;
mod keys;
mod locks;
mod names;
mod one_time;
mod open_store;
mod options;
mod outbox;
mod push;
mod record;
mod records;
mod revocations;
mod schema;
mod server;
mod sessions;
mod store;
mod throttles;
mod users;

pub use options::{MongodbOptions, OpenError};
pub use store::{MongodbStore, migrate};

/// The name of this engine in errors.
const STORE_NAME: &str = "mongodb";
