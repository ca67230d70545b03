//! Accounts, sessions and records as operators see them, in the admin API and in the JSON of commands.

use countersign_axum::{session_body, user_body};
use countersign_core::model::{AuditRecord, Session, User};
use countersign_http::rfc3339;
use serde::Serialize;
use serde_json::Value;

/// The *user* with what only operators see.
#[derive(Serialize)]
pub(crate) struct ShownUser {
    #[serde(flatten)]
    user: Value,
    language: Option<String>,
    disabled_at: Option<String>,
    deleted_at: Option<String>,
}

impl From<&User> for ShownUser {
    fn from(user: &User) -> Self {
        Self {
            user: serde_json::to_value(user_body(user)).unwrap_or_default(),
            language: user.language.as_ref().map(|language| language.as_str().to_owned()),
            disabled_at: user.disabled_at.map(rfc3339),
            deleted_at: user.deleted_at.map(rfc3339),
        }
    }
}

/// A session without the member that says whether it is the caller's own.
pub(crate) fn shown_session(session: &Session) -> Value {
    let mut shown = serde_json::to_value(session_body(session, None)).unwrap_or_default();
    if let Value::Object(members) = &mut shown {
        members.remove("current");
    }
    shown
}

/// A record of the audit trail.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Event)]
pub(crate) struct ShownEvent {
    #[schema(format = "uuid")]
    id: String,
    #[schema(format = DateTime)]
    at: String,
    name: String,
    #[schema(required)]
    user_id: Option<String>,
    #[schema(required)]
    session_id: Option<String>,
    #[schema(required)]
    ip: Option<String>,
    /// The admin key's name or `command line`, where an operator acted.
    #[schema(required)]
    actor: Option<String>,
    #[schema(required)]
    detail: Option<String>,
}

impl From<AuditRecord> for ShownEvent {
    fn from(record: AuditRecord) -> Self {
        Self {
            id: record.id.to_string(),
            at: rfc3339(record.at),
            name: record.name,
            user_id: record.user_id.map(|id| id.to_string()),
            session_id: record.session_id.map(|id| id.to_string()),
            ip: record.ip.map(|ip| ip.to_string()),
            actor: record.actor,
            detail: record.detail,
        }
    }
}
