//! What a program asks of a store that it has opened, beside the records in it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{StoreError, Stores};

/// A store that is open, on whatever engine: for programs that choose the engine when they start. Shared as
/// `Arc<dyn OpenStore>`.
///
/// A program that is written for one engine needs only its [`Stores`].
#[async_trait]
pub trait OpenStore: fmt::Debug + Send + Sync + 'static {
    /// The engine's name in errors and in settings that programs agree on, such as `postgres`. It never changes.
    fn name(&self) -> &'static str;

    /// The store by its kinds of record.
    fn stores(self: Arc<Self>) -> Stores;

    /// Whether there are keys in the store. If so, they were sealed with a secret that must still be there.
    ///
    /// # Errors
    /// [`StoreError`] when the engine does not answer.
    async fn has_keys(&self) -> Result<bool, StoreError>;

    /// In what the engine, as it was found when the store was opened, is weaker than the promises of the store traits.
    /// Empty where it keeps them all. The log has told them.
    fn weaknesses(&self) -> Vec<Weakness>;

    /// Brings what is stored into the order in which a program should leave it when it stops. Nothing is lost without
    /// it. An engine for which there is nothing to do does nothing.
    ///
    /// # Errors
    /// [`StoreError`] when the engine does not answer.
    async fn settle(&self) -> Result<(), StoreError>;
}

/// A promise of the store traits that an engine does not keep.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Weakness {
    /// Updates under a condition are not atomic: of calls at the same time on different nodes, more than one may be told
    /// that it made a step that only one may make, such as [`SessionStore::advance`](super::SessionStore::advance). So a
    /// refresh token that was stolen may go unnoticed.
    UnsettledRaces,
    /// What was answered may be lost, or it could not be checked that it is not: a sentence that names the setting and
    /// the loss.
    MayLose(String),
}
