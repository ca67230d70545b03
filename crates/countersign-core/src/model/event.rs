//! What happens to accounts, sessions and keys, for logs, alarms and audit trails.

use std::fmt;

use countersign_jwt::id::{Generation, SessionId, TokenId, UserId};
use countersign_jwt::key::KeyId;
use countersign_jwt::time::Timestamp;

use crate::model::{Device, EndReason};

/// Something that somebody may want to know about later, or be woken up for. Each is told once, by the node on which it
/// happened, after the store has confirmed it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// An account was registered.
    Registered {
        /// The user.
        user_id: UserId,
    },
    /// Registrations were refused because an e-mail address or a username is taken: one event a minute, on each node.
    /// Many of them are somebody who finds out which addresses have accounts.
    RegistrationsRefused {
        /// How many.
        count: u64,
        /// When the first of them was.
        since: Timestamp,
        /// Who came last.
        last: Device,
    },
    /// A login failed: wrong password, or an account that is disabled or has none.
    LoginFailed {
        /// The user; `None` where nobody has that name.
        user_id: Option<UserId>,
        /// Who tried.
        device: Device,
    },
    /// A login was refused unchecked, after too many that failed: by this name, or by another one of the same account.
    LoginThrottled {
        /// The user; `None` where nobody has that name.
        user_id: Option<UserId>,
        /// Who tried.
        device: Device,
    },
    /// A session began: somebody logged in.
    SessionBegan {
        /// The user.
        user_id: UserId,
        /// The session.
        session_id: SessionId,
        /// Who logged in.
        device: Device,
    },
    /// A session was ended.
    SessionEnded {
        /// The user.
        user_id: UserId,
        /// The session.
        session_id: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// All of a user's sessions were ended.
    AllSessionsEnded {
        /// The user.
        user_id: UserId,
        /// The one that lives on.
        except: Option<SessionId>,
        /// Why.
        reason: EndReason,
    },
    /// Single tokens were revoked.
    TokensRevoked {
        /// The user.
        user_id: UserId,
        /// Their `jti`s.
        ids: Vec<TokenId>,
    },
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
    /// An account was disabled.
    UserDisabled {
        /// The user.
        user_id: UserId,
    },
    /// An account was enabled again.
    UserEnabled {
        /// The user.
        user_id: UserId,
    },
    /// A key was removed: others may have it.
    KeyRemoved {
        /// The key.
        key_id: KeyId,
    },
}

impl Event {
    /// From this many refused registrations in a minute on they are an alarm.
    pub const MANY_REFUSED_REGISTRATIONS: u64 = 20;

    /// Whether it may be an attack: worth waking somebody up for.
    #[must_use]
    pub const fn is_alarm(&self) -> bool {
        match self {
            Self::RefreshReused { .. }
            | Self::RefreshShared { .. }
            | Self::LoginThrottled { .. }
            | Self::KeyRemoved { .. } => true,
            Self::RegistrationsRefused { count, .. } => *count >= Self::MANY_REFUSED_REGISTRATIONS,
            _ => false,
        }
    }

    /// The event's name in logs: lower case, words joined by underscores. Never changes.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Registered { .. } => "registered",
            Self::RegistrationsRefused { .. } => "registrations_refused",
            Self::LoginFailed { .. } => "login_failed",
            Self::LoginThrottled { .. } => "login_throttled",
            Self::SessionBegan { .. } => "session_began",
            Self::SessionEnded { .. } => "session_ended",
            Self::AllSessionsEnded { .. } => "all_sessions_ended",
            Self::TokensRevoked { .. } => "tokens_revoked",
            Self::RefreshReused { .. } => "refresh_reused",
            Self::RefreshShared { .. } => "refresh_shared",
            Self::UserDisabled { .. } => "user_disabled",
            Self::UserEnabled { .. } => "user_enabled",
            Self::KeyRemoved { .. } => "key_removed",
        }
    }
}

/// Where events go. Must not block.
pub trait Events: fmt::Debug + Send + Sync + 'static {
    /// Takes note of an event.
    fn emit(&self, event: &Event);
}

/// Writes events to the log, through `tracing`, target `countersign::event`: as warnings what may be an attack, as
/// information the rest.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogEvents;

impl Events for LogEvents {
    fn emit(&self, event: &Event) {
        use tracing::field::display;

        macro_rules! log {
            ($level:ident, $what:literal $(, $($field:tt)*)?) => {
                tracing::$level!(target: "countersign::event", event = event.name(), $($($field)*,)? $what)
            };
        }
        let ip = |device: &Device| device.ip.map(display);
        match event {
            Event::Registered { user_id } => log!(info, "an account was registered", %user_id),
            Event::RegistrationsRefused { count, since, last } => {
                let (since, ip) = (since.as_secs(), ip(last));
                if event.is_alarm() {
                    log!(warn, "registrations were refused because names are taken", count, since, ip = ip);
                } else {
                    log!(info, "registrations were refused because names are taken", count, since, ip = ip);
                }
            }
            Event::LoginFailed { user_id, device } => {
                log!(info, "a login failed", user_id = user_id.as_ref().map(display), ip = ip(device));
            }
            Event::LoginThrottled { user_id, device } => log!(
                warn,
                "a login was refused after too many that failed",
                user_id = user_id.as_ref().map(display),
                ip = ip(device)
            ),
            Event::SessionBegan { user_id, session_id, device } => {
                log!(info, "a session began", %user_id, %session_id, ip = ip(device));
            }
            Event::SessionEnded { user_id, session_id, reason } => {
                log!(info, "a session was ended", %user_id, %session_id, reason = reason.name());
            }
            Event::AllSessionsEnded { user_id, except, reason } => log!(
                info,
                "all of a user's sessions were ended",
                %user_id,
                except = except.as_ref().map(display),
                reason = reason.name()
            ),
            Event::TokensRevoked { user_id, ids } => {
                log!(info, "tokens were revoked", %user_id, count = ids.len());
            }
            Event::RefreshReused { user_id, session_id, presented, current, device } => log!(
                warn,
                "an old refresh token was presented; the session was ended",
                %user_id,
                %session_id,
                presented = presented.as_u32(),
                current = current.as_u32(),
                ip = ip(device)
            ),
            Event::RefreshShared { user_id, session_id, generation, device } => log!(
                warn,
                "two different clients use the same refresh token",
                %user_id,
                %session_id,
                generation = generation.as_u32(),
                ip = ip(device)
            ),
            Event::UserDisabled { user_id } => log!(info, "an account was disabled", %user_id),
            Event::UserEnabled { user_id } => log!(info, "an account was enabled", %user_id),
            Event::KeyRemoved { key_id } => log!(warn, "a key was removed", %key_id),
        }
    }
}
