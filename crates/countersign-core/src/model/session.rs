//! A session: one login, kept as the row that lists, limits and ends it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use aws_lc_rs::digest;
use countersign_jwt::id::{Epoch, Generation, SessionId, UserId};
use countersign_jwt::time::Timestamp;
use zeroize::Zeroize;

/// The key of a session in every store. Every statement about a session names the user too, so that any engine can
/// shard by user.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UserSession {
    /// The user who logged in.
    pub user_id: UserId,
    /// The session's id.
    pub id: SessionId,
}

/// The 32 random bytes of a session from which the ids of its tokens and its CSRF value are derived.
///
/// The seed alone cannot make a token, because tokens also need a key that the store does not hold (SEC-096).
#[derive(Clone, Eq, PartialEq)]
pub struct SessionSeed([u8; 32]);

impl SessionSeed {
    /// A seed of these 32 random bytes.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the seed, for storing them.
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

/// The first 128 bits of the SHA-256 of a whole `User-Agent` header, written as 32 hexadecimal digits. The hash
/// distinguishes two clients whose headers are equal in the part that is displayed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct AgentHash(u128);

impl AgentHash {
    /// The hash of a header's value, exactly as the client sent it.
    #[must_use]
    pub fn of(header: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, header);
        let first = digest.as_ref().iter().take(16);
        Self(first.fold(0, |hash, byte| (hash << 8) | u128::from(*byte)))
    }
}

impl fmt::Display for AgentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A text that is not an [`AgentHash`].
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the hash of a user agent is 32 hexadecimal digits")]
pub struct InvalidAgentHash;

impl FromStr for AgentHash {
    type Err = InvalidAgentHash;

    fn from_str(text: &str) -> Result<Self, InvalidAgentHash> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| is_hex);
        number.map(Self).ok_or(InvalidAgentHash)
    }
}

/// A client as it describes itself. The text is untrusted and for the user's eyes only.
///
/// ```
/// use countersign_core::model::Device;
///
/// let laptop = Device::from_header(Some(b"Mozilla/5.0 (X11; Linux x86_64)"), Some("192.0.2.7".parse()?));
/// let on_the_way = Device { ip: Some("198.51.100.23".parse()?), ..laptop.clone() };
/// assert!(laptop.is_same_client(&on_the_way), "addresses change with the network");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Device {
    /// The `User-Agent` header, at most [`Device::MAX_AGENT_CHARS`] characters.
    pub user_agent: Option<String>,
    /// The hash of the whole `User-Agent` header. `None` if the request had no such header, and for sessions from
    /// before the hash was kept.
    pub agent_hash: Option<AgentHash>,
    /// The IP address that the request came from.
    pub ip: Option<IpAddr>,
}

impl Device {
    /// The length in characters at which longer `User-Agent` headers are cut.
    pub const MAX_AGENT_CHARS: usize = 256;

    /// A device with this `User-Agent` text, cut and without control characters, and this address.
    #[must_use]
    pub fn new(user_agent: Option<&str>, ip: Option<IpAddr>) -> Self {
        Self::from_header(user_agent.map(str::as_bytes), ip)
    }

    /// A device with this `User-Agent` header, exactly as the client sent it, and this address. Bytes that are not
    /// UTF-8 are displayed as U+FFFD.
    #[must_use]
    pub fn from_header(user_agent: Option<&[u8]>, ip: Option<IpAddr>) -> Self {
        let user_agent = user_agent.filter(|agent| !agent.is_empty());
        let shown = user_agent.map(String::from_utf8_lossy).map(|agent| {
            agent.chars().filter(|c| !c.is_control()).take(Self::MAX_AGENT_CHARS).collect::<String>()
        });
        Self {
            user_agent: shown.filter(|agent| !agent.is_empty()),
            agent_hash: user_agent.map(AgentHash::of),
            ip,
        }
    }

    /// Whether both devices identify themselves as the same client. The whole `User-Agent` header is compared or, for a
    /// session from before its hash was kept, the part that is displayed. Addresses are not compared, because they
    /// change with the network.
    #[must_use]
    pub fn is_same_client(&self, other: &Self) -> bool {
        match (self.agent_hash, other.agent_hash) {
            (Some(one), Some(other)) => one == other,
            _ => self.user_agent == other.user_agent,
        }
    }
}

/// The reason why a session ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum EndReason {
    /// The user logged out of the session.
    LoggedOut,
    /// The user ended the session from another one.
    EndedByUser,
    /// All the user's sessions were ended at once.
    AllEnded,
    /// A login from the same browser replaced the session.
    Replaced,
    /// An old refresh token was presented, so somebody holds a copy (RFC 9700 §4.14.2).
    Replayed,
    /// The user's account was disabled.
    Disabled,
    /// A newer login replaced the session, because the user had as many sessions as are allowed.
    Evicted,
    /// The user's password or e-mail address changed.
    CredentialsChanged,
    /// The user's account was deleted.
    Deleted,
    /// An operator ended the session, or all of the user's sessions.
    EndedByOperator,
}

impl EndReason {
    /// Every reason, for tables and tests.
    pub const ALL: [Self; 10] = [
        Self::LoggedOut,
        Self::EndedByUser,
        Self::AllEnded,
        Self::Replaced,
        Self::Replayed,
        Self::Disabled,
        Self::Evicted,
        Self::CredentialsChanged,
        Self::Deleted,
        Self::EndedByOperator,
    ];

    /// The name of the reason in stores.
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
            Self::CredentialsChanged => "credentials_changed",
            Self::Deleted => "deleted",
            Self::EndedByOperator => "ended_by_operator",
        }
    }

    /// The reason that has this name in stores.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// The time and the reason of a session's end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ended {
    /// The time at which the session ended.
    pub at: Timestamp,
    /// The reason why the session ended.
    pub reason: EndReason,
}

/// A session as the store holds it. The row stays until its absolute expiry, ended or not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Session {
    /// The user who logged in.
    pub user_id: UserId,
    /// The session's id, the `sid` of its tokens.
    pub id: SessionId,
    /// The user's epoch when the login began. Never changes.
    pub epoch: Epoch,
    /// The current generation of the session.
    pub generation: Generation,
    /// The time at which the current generation's tokens were issued, or issued again if it was healed.
    pub issued_at: Timestamp,
    /// The time at which it was learned that a client holds the current generation's tokens.
    pub acknowledged_at: Option<Timestamp>,
    /// The number of times that the current generation was issued again to a client that never got it.
    pub heals: u8,
    /// The number of generations in a row, up to the current one, that were healed.
    pub healed_run: u8,
    /// The seed that the ids of the session's tokens are derived from.
    pub seed: SessionSeed,
    /// The time of the login.
    pub created_at: Timestamp,
    /// The time at which the session was last refreshed or acknowledged.
    pub last_seen_at: Timestamp,
    /// The time at which the session ends if it is not refreshed.
    pub idle_until: Timestamp,
    /// The time at which the session ends in any case.
    pub absolute_until: Timestamp,
    /// The device that logged in or refreshed last.
    pub device: Device,
    /// The end of the session, once it was ended.
    pub ended: Option<Ended>,
}

/// The values that a session begins with.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// The user who logs in.
    pub user_id: UserId,
    /// The session's id, which no other session has.
    pub id: SessionId,
    /// The user's epoch, read before the user's identity was proven.
    pub epoch: Epoch,
    /// 32 fresh random bytes.
    pub seed: SessionSeed,
    /// The device of the client.
    pub device: Device,
    /// The time of the login. It is `now`, except for a session whose token another library has issued.
    pub created_at: Timestamp,
    /// The present time.
    pub now: Timestamp,
    /// The time at which the session ends if it is not refreshed; never later than `absolute_until`.
    pub idle_until: Timestamp,
    /// The time at which the session ends in any case.
    pub absolute_until: Timestamp,
}

impl From<NewSession> for Session {
    /// A live session in its first generation, which nobody has used yet.
    fn from(new: NewSession) -> Self {
        Self {
            user_id: new.user_id,
            id: new.id,
            epoch: new.epoch,
            generation: Generation::FIRST,
            issued_at: new.now,
            acknowledged_at: None,
            heals: 0,
            healed_run: 0,
            seed: new.seed,
            created_at: new.created_at,
            last_seen_at: new.now,
            idle_until: new.idle_until.min(new.absolute_until),
            absolute_until: new.absolute_until,
            device: new.device,
            ended: None,
        }
    }
}

impl Session {
    /// The key of the session in every store.
    #[must_use]
    pub fn key(&self) -> UserSession {
        UserSession { user_id: self.user_id.clone(), id: self.id }
    }

    /// The time at which the session expires: the earlier of its idle and absolute expiry.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.idle_until.min(self.absolute_until)
    }

    /// Whether the session is neither ended nor expired, as far as the row knows.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.ended.is_none() && now < self.expires_at()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_apart_by_their_whole_user_agent() {
        let long = "x".repeat(Device::MAX_AGENT_CHARS);
        for (one, other, same) in [
            ("Firefox/143.0", "Firefox/143.0", true),
            ("Firefox/143.0", "Firefox/144.0", false),
            (&*format!("{long}a"), &*format!("{long}b"), false),
            ("Börse/1.0", "Bürse/1.0", false),
            ("a\u{7f}", "a", false),
        ] {
            let device = |agent: &str| Device::from_header(Some(agent.as_bytes()), None);
            assert_eq!(device(one).is_same_client(&device(other)), same, "{one} and {other}");
        }
        let latin1 = Device::from_header(Some(b"B\xf6rse"), None);
        assert!(!latin1.is_same_client(&Device::from_header(Some(b"B\xfcrse"), None)), "not UTF-8");
        assert_eq!(latin1.user_agent.as_deref(), Some("B\u{fffd}rse"), "it is shown all the same");
        let nobody = Device::from_header(None, None);
        assert!(!nobody.is_same_client(&latin1));
        assert!(nobody.is_same_client(&Device::from_header(Some(b""), None)));
    }

    #[test]
    fn a_session_from_before_the_hash_was_kept_is_compared_by_what_it_shows() {
        let kept = Device { user_agent: Some("Firefox".to_owned()), agent_hash: None, ip: None };
        assert!(Device::new(Some("Firefox"), None).is_same_client(&kept));
        assert!(!Device::new(Some("Chrome"), None).is_same_client(&kept));
    }

    #[test]
    fn an_agent_hash_is_32_hexadecimal_digits() {
        let hash = AgentHash::of(b"abc");
        assert_eq!(hash.to_string(), "ba7816bf8f01cfea414140de5dae2223", "FIPS 180-4, the first half");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for text in ["", "ba78", "+a7816bf8f01cfea414140de5dae2223", "ba7816bf8f01cfea414140de5dae2223b0"] {
            assert_eq!(text.parse::<AgentHash>(), Err(InvalidAgentHash), "{text}");
        }
    }
}
