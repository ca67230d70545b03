//! Events as a store keeps them, for operators who ask later what happened.

use std::net::IpAddr;

use countersign_jwt::id::{SessionId, UserId};
use countersign_jwt::time::Timestamp;
use uuid::Uuid;

/// An event in the audit trail. Records are inserted and purged, and never changed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuditRecord {
    /// The record's id, random.
    pub id: Uuid,
    /// The time of the event.
    pub at: Timestamp,
    /// The event's name, such as `session_began`, or the admin action's, such as `admin_user_disabled`.
    pub name: String,
    /// The user whom the event concerns.
    pub user_id: Option<UserId>,
    /// The session that the event concerns.
    pub session_id: Option<SessionId>,
    /// The address from which the event was caused.
    pub ip: Option<IpAddr>,
    /// Who caused it, if that is not the user: the name of an admin key, or `command line`.
    pub actor: Option<String>,
    /// Further facts, as a short text without secrets, such as the reason why a session ended.
    pub detail: Option<String>,
}

impl AuditRecord {
    /// The record's place in a list, newest first.
    #[must_use]
    pub const fn position(&self) -> AuditPosition {
        AuditPosition { at: self.at, id: self.id }
    }
}

/// A record's place in the audit trail. The newest record comes first, and of records of one moment the one with the
/// highest id.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct AuditPosition {
    /// The time of the event.
    pub at: Timestamp,
    /// The record's id.
    pub id: Uuid,
}
