//! Events of accounts, sessions and keys, for logs, alarms and audit trails.

use std::fmt;

use countersign_jwt::id::{Generation, SessionId, TokenId, UserId};
use countersign_jwt::key::KeyId;
use countersign_jwt::time::Timestamp;

use crate::model::{Device, EndReason, KeyPurpose, UnusableHash};

/// Something that happened to an account, a session or a key. Each event is emitted once, by the node on which it
/// happened, after the store has confirmed it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// An account was registered.
    Registered {
        /// The user who registered.
        user_id: UserId,
    },
    /// Registrations were refused because an e-mail address or a username is taken. There is one event a minute on each
    /// node. Many refusals come from somebody who finds out which addresses have accounts.
    RegistrationsRefused {
        /// The number of refused registrations.
        count: u64,
        /// The time of the first of them.
        since: Timestamp,
        /// The device that the last of them came from.
        last: Device,
    },
    /// A login failed: the password was wrong, or the account is disabled or has none.
    LoginFailed {
        /// The user; `None` if no account has the name.
        user_id: Option<UserId>,
        /// The device that the login came from.
        device: Device,
    },
    /// Logins failed because the password was wrong, over all accounts. There is one event a minute on each node with
    /// such failures.
    LoginsFailed {
        /// The number of failed logins.
        count: u64,
        /// The time of the first of them.
        since: Timestamp,
        /// The device that the last of them came from.
        last: Device,
    },
    /// A login was refused unchecked, after too many failed logins by this name, by another name of the same account,
    /// from the same address or on the same device.
    LoginThrottled {
        /// The user; `None` if no account has the name.
        user_id: Option<UserId>,
        /// The device that the login came from.
        device: Device,
    },
    /// A login failed, because the account's password hash is not used. Its owner cannot log in until the hash is
    /// replaced.
    PasswordHashUnusable {
        /// The user whose hash it is.
        user_id: UserId,
        /// The reason why it is not used.
        reason: UnusableHash,
    },
    /// A session began, because a user logged in.
    SessionBegan {
        /// The user of the session.
        user_id: UserId,
        /// The session that began.
        session_id: SessionId,
        /// The device that the user logged in from.
        device: Device,
    },
    /// A session was ended.
    SessionEnded {
        /// The user of the session.
        user_id: UserId,
        /// The session that was ended.
        session_id: SessionId,
        /// The reason why it was ended.
        reason: EndReason,
    },
    /// All of a user's sessions were ended.
    AllSessionsEnded {
        /// The user of the sessions.
        user_id: UserId,
        /// The session that lives on, if there is one.
        except: Option<SessionId>,
        /// The reason why the sessions were ended.
        reason: EndReason,
    },
    /// Single tokens were revoked.
    TokensRevoked {
        /// The owner of the tokens.
        user_id: UserId,
        /// The `jti`s of the tokens.
        ids: Vec<TokenId>,
    },
    /// A client revoked a token of a live session, which was ended.
    ClientRevoked {
        /// The user of the session.
        user_id: UserId,
        /// The session that was ended.
        session_id: SessionId,
        /// The name of the client.
        client: String,
    },
    /// An old refresh token was presented, so somebody holds a copy of it; its session was ended.
    RefreshReused {
        /// The user of the session.
        user_id: UserId,
        /// The session that was ended.
        session_id: SessionId,
        /// The generation that was presented.
        presented: Generation,
        /// The generation that the session had.
        current: Generation,
        /// The device that presented the token.
        device: Device,
    },
    /// Two clients that identify themselves differently used the same generation within the grace. Two tabs of one
    /// browser don't look like that; a thief who refreshes inside every grace window may.
    RefreshShared {
        /// The user of the session.
        user_id: UserId,
        /// The session that both clients use.
        session_id: SessionId,
        /// The generation that both clients presented.
        generation: Generation,
        /// The device that presented it last.
        device: Device,
    },
    /// An account was disabled.
    UserDisabled {
        /// The user whose account was disabled.
        user_id: UserId,
    },
    /// An account was enabled again.
    UserEnabled {
        /// The user whose account was enabled.
        user_id: UserId,
    },
    /// A user's password was changed, by the user or by a mailed link.
    PasswordChanged {
        /// The user of the account.
        user_id: UserId,
    },
    /// A user's e-mail address was changed.
    EmailChanged {
        /// The user of the account.
        user_id: UserId,
    },
    /// A user has proven to read mail sent to the account's address.
    EmailVerified {
        /// The user of the account.
        user_id: UserId,
    },
    /// A user's roles were changed.
    RolesChanged {
        /// The user of the account.
        user_id: UserId,
    },
    /// A user asked for the deletion of the account, or an operator did. All its sessions were ended.
    UserDeleted {
        /// The user of the account.
        user_id: UserId,
    },
    /// A signed-in user gave a wrong password where the current one was asked for.
    ReauthenticationFailed {
        /// The user of the account.
        user_id: UserId,
    },
    /// A key was made by the schedule, in place of one that has signed for long enough.
    KeyMade {
        /// The id of the new key.
        key_id: KeyId,
        /// The purpose of the new key.
        purpose: KeyPurpose,
    },
    /// A key was removed, because others may have it.
    KeyRemoved {
        /// The id of the removed key.
        key_id: KeyId,
    },
}

impl Event {
    /// The number of refused registrations in a minute from which on they are an alarm.
    pub const MANY_REFUSED_REGISTRATIONS: u64 = 20;
    /// The number of failed logins in a minute from which on they are an alarm.
    pub const MANY_FAILED_LOGINS: u64 = 200;

    /// Whether the event may be an attack, so that somebody should be alarmed.
    #[must_use]
    pub const fn is_alarm(&self) -> bool {
        match self {
            Self::RefreshReused { .. }
            | Self::RefreshShared { .. }
            | Self::LoginThrottled { .. }
            | Self::PasswordHashUnusable { .. }
            | Self::KeyRemoved { .. } => true,
            Self::RegistrationsRefused { count, .. } => *count >= Self::MANY_REFUSED_REGISTRATIONS,
            Self::LoginsFailed { count, .. } => *count >= Self::MANY_FAILED_LOGINS,
            _ => false,
        }
    }

    /// The event's name in logs, in lower case with words joined by underscores. A name never changes.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Registered { .. } => "registered",
            Self::RegistrationsRefused { .. } => "registrations_refused",
            Self::LoginFailed { .. } => "login_failed",
            Self::LoginsFailed { .. } => "logins_failed",
            Self::LoginThrottled { .. } => "login_throttled",
            Self::PasswordHashUnusable { .. } => "password_hash_unusable",
            Self::SessionBegan { .. } => "session_began",
            Self::SessionEnded { .. } => "session_ended",
            Self::AllSessionsEnded { .. } => "all_sessions_ended",
            Self::TokensRevoked { .. } => "tokens_revoked",
            Self::ClientRevoked { .. } => "client_revoked",
            Self::RefreshReused { .. } => "refresh_reused",
            Self::RefreshShared { .. } => "refresh_shared",
            Self::UserDisabled { .. } => "user_disabled",
            Self::UserEnabled { .. } => "user_enabled",
            Self::PasswordChanged { .. } => "password_changed",
            Self::EmailChanged { .. } => "email_changed",
            Self::EmailVerified { .. } => "email_verified",
            Self::RolesChanged { .. } => "roles_changed",
            Self::UserDeleted { .. } => "user_deleted",
            Self::ReauthenticationFailed { .. } => "reauthentication_failed",
            Self::KeyMade { .. } => "key_made",
            Self::KeyRemoved { .. } => "key_removed",
        }
    }
}

/// A receiver of events. An implementation must not block.
///
/// ```
/// use std::sync::mpsc;
/// use countersign_core::model::{Event, Events};
/// # use countersign_jwt::UserId;
///
/// /// Passes on what somebody should look at; another thread sends it as mail.
/// #[derive(Debug)]
/// struct Alarms(mpsc::Sender<&'static str>);
///
/// impl Events for Alarms {
///     fn emit(&self, event: &Event) {
///         if event.is_alarm() {
///             let _ = self.0.send(event.name());
///         }
///     }
/// }
///
/// let (sender, alarms) = mpsc::channel();
/// # let user_id = UserId::new("ada")?;
/// Alarms(sender).emit(&Event::Registered { user_id });
/// assert!(alarms.try_recv().is_err(), "a registration is no alarm");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Events: fmt::Debug + Send + Sync + 'static {
    /// Receives an event.
    fn emit(&self, event: &Event);
}

/// Writes events to the log, through `tracing` with the target `countersign::event`. Events that may be an attack are
/// warnings; the others are information.
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
            Event::LoginsFailed { count, since, last } => {
                let (since, ip) = (since.as_secs(), ip(last));
                if event.is_alarm() {
                    log!(warn, "logins failed, over all accounts", count, since, ip = ip);
                } else {
                    log!(info, "logins failed, over all accounts", count, since, ip = ip);
                }
            }
            Event::LoginThrottled { user_id, device } => log!(
                warn,
                "a login was refused after too many that failed",
                user_id = user_id.as_ref().map(display),
                ip = ip(device)
            ),
            Event::PasswordHashUnusable { user_id, reason } => {
                log!(warn, "a stored password hash is not used; its owner cannot log in", %user_id, %reason);
            }
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
            Event::ClientRevoked { user_id, session_id, client } => {
                log!(info, "a client revoked a session's token", %user_id, %session_id, client);
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
            Event::PasswordChanged { user_id } => log!(info, "a password was changed", %user_id),
            Event::EmailChanged { user_id } => log!(info, "an e-mail address was changed", %user_id),
            Event::EmailVerified { user_id } => log!(info, "an e-mail address was verified", %user_id),
            Event::RolesChanged { user_id } => log!(info, "a user's roles were changed", %user_id),
            Event::UserDeleted { user_id } => log!(info, "an account was deleted", %user_id),
            Event::ReauthenticationFailed { user_id } => {
                log!(info, "a signed-in user gave a wrong password", %user_id)
            }
            Event::KeyMade { key_id, purpose } => {
                log!(info, "a key was made, as scheduled", %key_id, purpose = purpose.name());
            }
            Event::KeyRemoved { key_id } => log!(warn, "a key was removed", %key_id),
        }
    }
}
