//! Countersign's stores on Redis: for sessions beside another database, or for everything.
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
//! Redis 6.2 or newer, or Valkey; one primary that takes all writes, at an address that always leads to it. Where
//! Sentinel manages the primary, give the address of a proxy or a name that follows it: Sentinel itself is not asked.
//!
//! Redis is a store only as far as it keeps what it has answered. Opening reads the server's settings, and refuses those
//! that would lose it, unless an option accepts the loss by name:
//!
//! | setting | must be | else |
//! |---|---|---|
//! | `appendonly` | `yes` | [`RedisOptions::allow_volatile`] |
//! | `appendfsync` | `always` | [`RedisOptions::allow_everysec`] |
//! | `no-appendfsync-on-rewrite` | `no` | either |
//! | `maxmemory-policy` | `noeviction`, unless `maxmemory` is 0 | refused |
//!
//! What is accepted all the same, or could not be checked, is logged as a warning and listed by
//! [`RedisStore::weaknesses`].
//!
//! A replica that takes over may lack what the primary answered last: Redis replicates afterwards.
//! [`RedisOptions::wait_replicas`] makes a write wait for it.
//!
//! # Why not a cluster
//!
//! Everything about one user is in keys that a cluster keeps together. But an entry of the revocation log must be there
//! for all nodes in the moment in which its user's session ends, and the log of all users is in other keys, which a
//! cluster may keep elsewhere: no step reaches both. Opening a cluster is an error.
//!
//! # How it works
//!
//! Every write is a Lua script that looks at everything its condition names, and changes everything, in one atomic step.
//! Nothing is written by plain commands, and nothing is repeated when a connection is lost after sending: such a write
//! may have been made, and is reported as an error.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod convert;
mod durability;
mod failure;
mod keys;
mod layout;
mod link;
mod open_store;
mod options;
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
