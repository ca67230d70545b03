//! Events as a store keeps them, for operators who ask later what happened.

use std::net::IpAddr;

use countersign_jwt::id::{SessionId, UserId};
use countersign_jwt::time::Timestamp;
use uuid::Uuid;

use super::event::Event;
use super::session::Device;

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
    /// Who caused it, if that is not the user: the name of an admin key or a client, or `command line`.
    pub actor: Option<String>,
    /// Further facts, as a short text without secrets, such as the reason why a session ended.
    pub detail: Option<String>,
}

impl AuditRecord {
    /// The most characters of [`AuditRecord::detail`] that are kept of a text that others chose.
    pub const MAX_DETAIL_CHARS: usize = 500;

    /// A record about nobody yet.
    #[must_use]
    pub fn new(id: Uuid, at: Timestamp, name: impl Into<String>) -> Self {
        Self {
            id,
            at,
            name: name.into(),
            user_id: None,
            session_id: None,
            ip: None,
            actor: None,
            detail: None,
        }
    }

    /// The record of an event. It holds no token, password, address of mail or name of a user.
    #[must_use]
    pub fn of(event: &Event, id: Uuid, at: Timestamp) -> Self {
        let base = Self::new(id, at, event.name());
        let about = |user_id: &UserId| Self { user_id: Some(user_id.clone()), ..base.clone() };
        let ip = |device: &Device| device.ip;
        match event {
            Event::Registered { user_id }
            | Event::UserDisabled { user_id }
            | Event::UserEnabled { user_id }
            | Event::PasswordChanged { user_id }
            | Event::EmailChanged { user_id }
            | Event::EmailVerified { user_id }
            | Event::RolesChanged { user_id }
            | Event::UserDeleted { user_id }
            | Event::ReauthenticationFailed { user_id } => about(user_id),
            Event::RegistrationsRefused { count, since, last }
            | Event::LoginsFailed { count, since, last } => Self {
                ip: ip(last),
                detail: Some(format!("{count} in {} s", at.since(*since).as_secs())),
                ..base
            },
            Event::LoginFailed { user_id, device } | Event::LoginThrottled { user_id, device } => {
                Self { user_id: user_id.clone(), ip: ip(device), ..base }
            }
            Event::PasswordHashUnusable { user_id, reason } => {
                Self { detail: Some(cut(&reason.to_string())), ..about(user_id) }
            }
            Event::SessionBegan { user_id, session_id, device } => Self {
                session_id: Some(*session_id),
                ip: ip(device),
                detail: device.user_agent.as_deref().map(cut),
                ..about(user_id)
            },
            Event::SessionEnded { user_id, session_id, reason } => Self {
                session_id: Some(*session_id),
                detail: Some(reason.name().to_owned()),
                ..about(user_id)
            },
            Event::AllSessionsEnded { user_id, except, reason } => {
                let except = except.map(|id| format!(" except {id}")).unwrap_or_default();
                Self { detail: Some(format!("{}{except}", reason.name())), ..about(user_id) }
            }
            Event::TokensRevoked { user_id, ids } => {
                Self { detail: Some(format!("{} tokens", ids.len())), ..about(user_id) }
            }
            Event::ClientRevoked { user_id, session_id, client } => {
                Self { session_id: Some(*session_id), actor: Some(cut(client)), ..about(user_id) }
            }
            Event::RefreshReused { user_id, session_id, presented, current, device } => Self {
                session_id: Some(*session_id),
                ip: ip(device),
                detail: Some(format!(
                    "generation {} presented, {} current",
                    presented.as_u32(),
                    current.as_u32()
                )),
                ..about(user_id)
            },
            Event::RefreshShared { user_id, session_id, generation, device } => Self {
                session_id: Some(*session_id),
                ip: ip(device),
                detail: Some(format!("generation {}", generation.as_u32())),
                ..about(user_id)
            },
            Event::KeyMade { key_id, purpose } => {
                Self { detail: Some(cut(&format!("{} {key_id}", purpose.name()))), ..base }
            }
            Event::KeyRemoved { key_id } => Self { detail: Some(cut(key_id.as_str())), ..base },
        }
    }

    /// The record's place in a list, newest first.
    #[must_use]
    pub const fn position(&self) -> AuditPosition {
        AuditPosition { at: self.at, id: self.id }
    }
}

/// A record's place in the audit trail. The newest record comes first, and of records of one moment the one with the
/// highest id.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AuditPosition {
    /// The time of the event.
    pub at: Timestamp,
    /// The record's id.
    pub id: Uuid,
}

/// A text that others chose, cut to the length that the trail keeps.
fn cut(text: &str) -> String {
    text.chars().take(AuditRecord::MAX_DETAIL_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EndReason;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    #[test]
    fn sec_146_a_record_tells_who_where_and_why() {
        let (user_id, session_id) = (UserId::new("ada").unwrap(), SessionId::new(Uuid::from_u128(7)));
        let device = Device::new(Some("Example/1"), Some([192, 0, 2, 1].into()));
        let began = Event::SessionBegan { user_id: user_id.clone(), session_id, device };
        let record = AuditRecord::of(&began, Uuid::from_u128(1), NOW);
        assert_eq!((record.name.as_str(), record.at), ("session_began", NOW));
        assert_eq!((record.user_id.as_ref(), record.session_id), (Some(&user_id), Some(session_id)));
        assert_eq!(record.ip, Some([192, 0, 2, 1].into()));
        assert_eq!((record.detail.as_deref(), record.actor), (Some("Example/1"), None));

        let reason = EndReason::EndedByOperator;
        let ended = Event::AllSessionsEnded { user_id, except: Some(session_id), reason };
        let detail = AuditRecord::of(&ended, Uuid::from_u128(2), NOW).detail.unwrap();
        assert_eq!(detail, format!("ended_by_operator except {session_id}"));
    }

    #[test]
    fn a_text_that_others_chose_is_cut() {
        assert_eq!(cut(&"\u{e4}".repeat(600)).chars().count(), AuditRecord::MAX_DETAIL_CHARS);
    }
}
