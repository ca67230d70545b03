//! What happens to accounts and sessions, for logs, alarms and audit trails.

use std::fmt;

use crate::id::{Generation, SessionId, UserId};
use crate::session::Device;

/// Something that somebody may want to know about later, or be woken up for.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// An old refresh token was presented; its session was ended. Somebody holds a copy of it.
    RefreshReused {
        /// The user.
        user_id: UserId,
        /// The session that was ended.
        session_id: SessionId,
        /// The generation that was presented.
        presented: Generation,
        /// The generation that the session had.
        current: Generation,
        /// Who presented it.
        device: Device,
    },
    /// Two clients that call themselves differently use the same generation within the grace. Two tabs don't
    /// look like that; a thief who refreshes inside every grace window may.
    RefreshShared {
        /// The user.
        user_id: UserId,
        /// The session.
        session_id: SessionId,
        /// The generation.
        generation: Generation,
        /// Who presented it last.
        device: Device,
    },
}

/// Where events go. Must not block.
pub trait Events: fmt::Debug + Send + Sync + 'static {
    /// Takes note of an event.
    fn emit(&self, event: &Event);
}

/// Writes events to the log, through `tracing`, target `countersign::event`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogEvents;

impl Events for LogEvents {
    fn emit(&self, event: &Event) {
        match event {
            Event::RefreshReused { user_id, session_id, presented, current, device } => tracing::warn!(
                target: "countersign::event",
                event = "refresh_reused",
                %user_id,
                %session_id,
                presented = presented.as_u32(),
                current = current.as_u32(),
                ip = device.ip.map(tracing::field::display),
                "an old refresh token was presented; the session was ended"
            ),
            Event::RefreshShared { user_id, session_id, generation, device } => tracing::warn!(
                target: "countersign::event",
                event = "refresh_shared",
                %user_id,
                %session_id,
                generation = generation.as_u32(),
                ip = device.ip.map(tracing::field::display),
                "two different clients use the same refresh token"
            ),
        }
    }
}
