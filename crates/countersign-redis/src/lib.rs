//! Countersign's stores on Redis, for sessions beside another database or for all of Countersign's data.
//!
//! ```
//! use countersign_core::store::Stores;
//! use countersign_redis::{OpenError, RedisOptions, RedisStore};
//!
//! # async fn open() -> Result<(), OpenError> {
//! let options = RedisOptions::from_url("redis://:password@127.0.0.1:6379/0")?;
//! let store = RedisStore::open(&options).await?;
//! let stores = Stores::from(store);
//! # Ok(())
//! # }
//! ```
//!
//! # What it needs
//!
//! The store needs Redis 6.2 or newer, or Valkey, with one primary that takes all writes, at an address that always
//! leads to it. Where Sentinel manages the primary, give the address of a proxy or a name that follows the primary,
//! because this store does not ask Sentinel.
//!
//! Redis can serve as a store only if it keeps what it has answered. Opening reads the server's settings and refuses
//! those that could lose it, unless an option accepts the loss by name:
//!
//! | setting | must be | else |
//! |---|---|---|
//! | `appendonly` | `yes` | [`RedisOptions::allow_volatile`] |
//! | `appendfsync` | `always` | [`RedisOptions::allow_everysec`] |
//! | `no-appendfsync-on-rewrite` | `no` | either |
//! | `maxmemory-policy` | `noeviction`, unless `maxmemory` is 0 | refused |
//!
//! Weaknesses that were accepted or could not be checked are logged as warnings and listed by
//! [`RedisStore::weaknesses`].
//!
//! A replica that takes over may lack what the primary answered last, because Redis replicates after it has answered.
//! [`RedisOptions::wait_replicas`] makes a write wait for replicas.
//!
//! # Why not a cluster
//!
//! A cluster keeps the keys of one user together. But when a session ends, its entry in the revocation log must be
//! visible to all nodes at the same moment. The log of all users is in other keys, which a cluster may keep elsewhere,
//! and no single step reaches both. Opening a cluster is therefore an error.
//!
//! # How it works
//!
//! Every write is a Lua script that checks everything its condition names and changes everything in one atomic step.
//! Plain commands write nothing. A write is not repeated when a connection is lost after sending: it may have been
//! made, and is reported as an error.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod account;
mod admin_keys;
mod answer;
mod audit;
mod convert;
mod devices;
mod durability;
mod failure;
mod keys;
mod layout;
mod link;
mod one_time;
mod open_store;
mod options;
mod outbox;
mod revocations;
mod row;
mod script;
mod sessions;
mod store;
mod text;
mod throttles;
mod users;
mod watch;

pub use options::{OpenError, RedisOptions};
pub use store::{RedisStore, migrate};
