//! One login: the row that lists, limits and ends it.

use std::fmt;
use std::net::IpAddr;

use zeroize::Zeroize;

use crate::id::{Epoch, Generation, SessionId, UserId};
use crate::time::Timestamp;

/// Where a session lives: every statement about it names the user too, so that any engine can shard by user.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionKey {
    /// The user who logged in.
    pub user_id: UserId,
    /// The session.
    pub id: SessionId,
}

/// The 32 random bytes of a session from which the ids of its tokens and its CSRF value are derived.
///
/// They mint nothing by themselves: tokens also need a key that the store does not hold (SEC-096).
#[derive(Clone, Eq, PartialEq)]
pub struct SessionSeed([u8; 32]);

impl SessionSeed {
    /// Takes 32 random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for storing them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SessionSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSeed(…)")
    }
}

impl Drop for SessionSeed {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// What a client said and showed of itself. Untrusted text, for the user's eyes only.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Device {
    /// The `User-Agent` header, at most [`Device::MAX_AGENT_CHARS`] characters.
    pub user_agent: Option<String>,
    /// The address the request came from.
    pub ip: Option<IpAddr>,
}

impl Device {
    /// Longer agents are cut here.
    pub const MAX_AGENT_CHARS: usize = 256;

    /// A device with this agent text (cut, control characters removed) and address.
    #[must_use]
    pub fn new(user_agent: Option<&str>, ip: Option<IpAddr>) -> Self {
        let user_agent = user_agent.map(|agent| {
            agent.chars().filter(|c| !c.is_control()).take(Self::MAX_AGENT_CHARS).collect::<String>()
        });
        Self { user_agent: user_agent.filter(|agent| !agent.is_empty()), ip }
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum EndReason {
    /// The user logged out of it.
    LoggedOut,
    /// The user ended it from another session.
    EndedByUser,
    /// All the user's sessions were ended at once.
    AllEnded,
    /// A login from the same browser took its place.
    Replaced,
    /// An old refresh token was presented: somebody holds a copy (RFC 9700 §4.14.2).
    Replayed,
    /// The account was disabled.
    Disabled,
    /// A newer login took its place: the user had as many sessions as are allowed.
    Evicted,
}

impl EndReason {
    /// Every reason, for tables and tests.
    pub const ALL: [Self; 7] = [
        Self::LoggedOut,
        Self::EndedByUser,
        Self::AllEnded,
        Self::Replaced,
        Self::Replayed,
        Self::Disabled,
        Self::Evicted,
    ];

    /// The name under which stores keep it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LoggedOut => "logged_out",
            Self::EndedByUser => "ended_by_user",
            Self::AllEnded => "all_ended",
            Self::Replaced => "replaced",
            Self::Replayed => "replayed",
            Self::Disabled => "disabled",
            Self::Evicted => "evicted",
        }
    }

    /// The reason with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// When and why a session ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: EndReason,
}

/// A login, as the store holds it. The row stays until its absolute expiry, ended or not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Session {
    /// The user who logged in.
    pub user_id: UserId,
    /// The session's id, the `sid` of its tokens.
    pub id: SessionId,
    /// The user's epoch when the login began. Never changes.
    pub epoch: Epoch,
    /// The current generation.
    pub generation: Generation,
    /// When the current generation's tokens were issued (again, if it was healed).
    pub issued_at: Timestamp,
    /// When it was learned that a client holds the current generation's tokens.
    pub acknowledged_at: Option<Timestamp>,
    /// How many times the current generation was issued again to a client that never got it.
    pub heals: u8,
    /// How many generations in a row, up to the current one, were healed.
    pub healed_run: u8,
    /// What the ids of its tokens are derived from.
    pub seed: SessionSeed,
    /// When the login happened.
    pub created_at: Timestamp,
    /// When it was last refreshed or acknowledged.
    pub last_seen_at: Timestamp,
    /// Without a refresh it ends here.
    pub idle_until: Timestamp,
    /// It ends here in any case.
    pub absolute_until: Timestamp,
    /// The client that logged in or refreshed last.
    pub device: Device,
    /// Set once it was ended.
    pub ended: Option<Ended>,
}

impl Session {
    /// Where it lives.
    #[must_use]
    pub fn key(&self) -> SessionKey {
        SessionKey { user_id: self.user_id.clone(), id: self.id }
    }

    /// The earlier of idle and absolute expiry.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.idle_until.min(self.absolute_until)
    }

    /// Neither ended nor expired, as far as the row knows.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.ended.is_none() && now < self.expires_at()
    }
}
