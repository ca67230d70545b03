//! Letters that a test reads instead of the users.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use countersign_core::flow::{Addressed, LetterError, Letters};
use countersign_jwt::Timestamp;
use tokio::sync::Notify;

/// A writer of letters that keeps them in memory, in the order in which they were posted. Cheap to clone; all clones
/// keep the same letters.
#[derive(Clone, Debug, Default)]
pub struct RecordedLetters {
    posted: Arc<Mutex<Vec<Addressed>>>,
    arrived: Arc<Notify>,
}

impl RecordedLetters {
    /// The letters so far.
    #[must_use]
    pub fn all(&self) -> Vec<Addressed> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until there are this many letters, and returns them. Letters whose callers must not notice them are
    /// written in the background.
    pub async fn wait_for(&self, count: usize) -> Vec<Addressed> {
        loop {
            let arrived = self.arrived.notified();
            let all = self.all();
            if all.len() >= count {
                return all;
            }
            arrived.await;
        }
    }
}

#[async_trait]
impl Letters for RecordedLetters {
    async fn post(&self, letter: Addressed, _: Timestamp) -> Result<(), LetterError> {
        self.posted.lock().unwrap_or_else(PoisonError::into_inner).push(letter);
        self.arrived.notify_waiters();
        Ok(())
    }
}
