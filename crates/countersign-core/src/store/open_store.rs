//! An opened store on any engine, with what a program asks of it beside its records.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{StoreError, Stores};

/// A store that is open, on any engine, for programs that choose the engine when they start. It is shared as `Arc<dyn
/// OpenStore>`.
///
/// A program that is written for one engine needs only its [`Stores`].
#[async_trait]
pub trait OpenStore: fmt::Debug + Send + Sync + 'static {
    /// The engine's name in errors and in settings that programs agree on, such as `postgres`. It never changes.
    fn name(&self) -> &'static str;

    /// The store, divided by its kinds of record.
    fn stores(self: Arc<Self>) -> Stores;

    /// Whether there are keys in the store. If so, they were sealed with a secret that must still be available.
    ///
    /// # Errors
    /// [`StoreError`] when the engine does not answer.
    async fn has_keys(&self) -> Result<bool, StoreError>;

    /// The promises of the store traits that the engine, as it was found when the store was opened, does not keep. The
    /// list is empty where it keeps them all. Weaknesses have been logged.
    fn weaknesses(&self) -> Vec<Weakness>;

    /// Tidies what is stored, as a program should do when it stops. Nothing is lost without this call. An engine for
    /// which there is nothing to do does nothing.
    ///
    /// # Errors
    /// [`StoreError`] when the engine does not answer.
    async fn settle(&self) -> Result<(), StoreError>;
}

/// A promise of the store traits that an engine does not keep.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Weakness {
    /// Updates under a condition are not atomic. Of concurrent calls on different nodes, more than one may be told that
    /// it made a step that only one may make, such as [`SessionStore::advance`](super::SessionStore::advance). A
    /// refresh token that was stolen may therefore go unnoticed.
    UnsettledRaces,
    /// Writes that were answered may be lost, or it could not be checked that they are not. The text is a sentence that
    /// names the setting and the loss.
    MayLose(String),
}
