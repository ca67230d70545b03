//! A caller who may hang up before its password's turn has come, and the work that is done for it meanwhile.
//!
//! A login writes down that it is under way before it is hashed, so it cannot simply be dropped: what was written has to
//! be taken back. The work therefore runs in a task of its own, which learns that the caller's future was dropped when it
//! asks for its turn. Until then the task has the place in the hash pool, also while it takes back what it wrote: so
//! callers that hang up, as fast as they can, never have more work under way in the store than there are places.

use std::convert::Infallible;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::flow::hasher::{HashError, HashPlace, HashTurn};

/// What the caller's future holds on to.
#[derive(Debug)]
pub(super) struct Caller {
    _here: oneshot::Sender<Infallible>,
}

/// What the task for this caller holds on to.
#[derive(Debug)]
pub(super) struct Waiting {
    place: Option<HashPlace>,
    gone: oneshot::Receiver<Infallible>,
}

impl Caller {
    /// A caller with a place, and what its task gets.
    pub(super) fn with(place: HashPlace) -> (Self, Waiting) {
        let (here, gone) = oneshot::channel();
        (Self { _here: here }, Waiting { place: Some(place), gone })
    }
}

impl Waiting {
    /// Whether the caller has left.
    pub(super) fn is_alone(&mut self) -> bool {
        matches!(self.gone.try_recv(), Err(TryRecvError::Closed))
    }

    /// Waits for the caller's turn; `None` if it left before, and the place is still taken. From its turn on its leaving
    /// changes nothing.
    pub(super) async fn turn(&mut self) -> Result<Option<HashTurn>, HashError> {
        let Some(place) = &self.place else { return Ok(None) };
        let permit = tokio::select! {
            biased;
            _ = &mut self.gone => return Ok(None),
            permit = place.permit() => permit?,
        };
        Ok(self.place.take().map(|place| place.with(permit)))
    }
}
