//! The promises of every store, as checks that any implementation can run: one function for each promise of the traits
//! in [`countersign_core::store`], and [`run`] for all of them.
//!
//! A check panics with the promise that was broken. The checks need tokio's multi-threaded runtime, because their races
//! have to be real. They take no time from a clock and never sleep.

#![expect(clippy::panic, reason = "a check fails by panicking with the promise that was broken")]

mod fixture;
pub mod flow;
pub mod hostile;
pub mod keys;
pub mod outbox;
pub mod restart;
pub mod revocations;
pub mod sessions;
pub mod steps;
pub mod throttles;
pub mod users;

use std::fmt;

use async_trait::async_trait;
use countersign_core::store::Stores;

pub(crate) use fixture::NOW;

/// A kind of store under test.
#[async_trait]
pub trait Backend: fmt::Debug + Sync {
    /// Stores on a new, empty database that nothing else uses.
    async fn fresh(&self) -> Stores;

    /// The same database opened again, as after a restart, when all handles of `stores` are gone. `None`, the default,
    /// is for stores that keep nothing over a restart.
    async fn reopen(&self, stores: Stores) -> Option<Stores> {
        drop(stores);
        None
    }
}

/// The number of rounds of each race that a store should pass before it is trusted (SEC-092).
pub const ROUNDS: usize = 200;

/// Runs every check. `rounds` is the number of times that each race is run, and of random steps that are tried.
///
/// # Panics
/// With the promise that the store broke.
pub async fn run(backend: &dyn Backend, rounds: usize) {
    let stores = backend.fresh().await;
    sessions::run(&stores, rounds).await;
    steps::conditional_steps_agree(&stores, rounds).await;
    revocations::run(&stores, rounds).await;
    users::run(&stores, rounds).await;
    throttles::run(&stores, rounds).await;
    hostile::run(&stores).await;

    // These checks look at everything in the database, so each needs a database of its own.
    sessions::purging_takes_what_has_expired(&backend.fresh().await).await;
    revocations::entries_are_read_in_pages(&backend.fresh().await).await;
    revocations::purging_keeps_what_still_decides(&backend.fresh().await).await;
    revocations::sec_088_the_log_holds_what_lives_and_no_more(&backend.fresh().await, 3_600).await;
    throttles::purging_takes_what_is_idle(&backend.fresh().await).await;
    throttles::thinning_takes_the_oldest_of_a_range(&backend.fresh().await).await;
    keys::run(&backend.fresh().await).await;
    flow::run(&backend.fresh().await, rounds).await;
    keys::one_store_id_wins(&backend.fresh().await).await;
    keys::one_record_of_settings_wins(&backend.fresh().await, rounds).await;
    restart::everything_survives(backend).await;
}
