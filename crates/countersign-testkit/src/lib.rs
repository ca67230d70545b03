//! Tools for tests of Countersign: time that stands still, randomness that repeats itself, stores that can be made to
//! fail or wait, and the contract that every store keeps.
//!
//! One call checks a store of your own:
//!
//! ```
//! use countersign_core::store::{MemoryStore, Stores};
//! use countersign_testkit::contract::{self, Backend};
//!
//! #[derive(Debug)]
//! struct Memory;
//!
//! #[async_trait::async_trait]
//! impl Backend for Memory {
//!     async fn fresh(&self) -> Stores {
//!         MemoryStore::new().into()
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_multi_thread().build().unwrap().block_on(async {
//! contract::run(&Memory, 5).await;
//! # });
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod agreement;
mod bed;
mod clock;
pub mod contract;
mod instrumented;
mod letters;
mod random;
pub mod rows;
mod server;

pub use bed::{BedConfig, RecordedEvents, TestBed};
pub use clock::FixedClock;
pub use instrumented::{Gate, Instrumented, Point};
pub use letters::RecordedLetters;
pub use random::{FailingRandom, SeededRandom};
pub use server::{Proxy, server_url};
