//! A caller who may hang up before its password's turn to be hashed has come, and the work that is done for it
//! meanwhile.
//!
//! A login writes down that it is under way before the password is hashed, so it cannot simply be dropped: what was
//! written has to be taken back. The work therefore runs in a task of its own. When the task asks for its turn, it
//! learns whether the caller's future was dropped. Until then the task keeps the place in the hash pool, also while it
//! takes back what it wrote. Callers that hang up, as fast as they can, therefore never have more work under way in the
//! store than there are places.

use std::convert::Infallible;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::flow::hasher::{HashError, HashPlace, HashTurn};

/// The part that the caller's future holds.
#[derive(Debug)]
pub(super) struct Caller {
    _here: oneshot::Sender<Infallible>,
}

/// The part that the task for this caller holds.
#[derive(Debug)]
pub(super) struct Waiting {
    place: Option<HashPlace>,
    gone: oneshot::Receiver<Infallible>,
}

impl Caller {
    /// A caller with a place, and the part for its task.
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

    /// Waits until the caller has left. It is not called again after that, and neither is [`turn`](Self::turn).
    pub(super) async fn left(&mut self) {
        let _ = (&mut self.gone).await;
    }

    /// Waits for the caller's turn; returns `None` if the caller left before, and the place is still taken then. From
    /// its turn on, the caller's leaving changes nothing.
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
