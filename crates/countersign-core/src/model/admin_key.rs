//! The keys with which programs and people operate the admin API.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_jwt::random::{self, Random, RandomError};
use countersign_jwt::time::Timestamp;
use uuid::Uuid;

use crate::model::one_time::SecretDigest;

/// What a key allows. Each scope allows one thing; none includes another.
///
/// A key is an operator's, for the admin API, or a [client's](crate::model::ConfidentialClient), for the endpoints of
/// tokens. The scopes of the two are apart, and no key has both.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum AdminScope {
    /// Reads and searches accounts.
    UsersRead,
    /// Creates, changes, disables and deletes accounts, and sends resets and invitations.
    UsersWrite,
    /// Lists users' sessions.
    SessionsRead,
    /// Ends users' sessions.
    SessionsWrite,
    /// Reads the audit events.
    EventsRead,
    /// Asks about tokens (RFC 7662). A client's.
    TokensIntrospect,
    /// Revokes tokens (RFC 7009). A client's.
    TokensRevoke,
}

impl AdminScope {
    /// All scopes.
    pub const ALL: [Self; 7] = [
        Self::UsersRead,
        Self::UsersWrite,
        Self::SessionsRead,
        Self::SessionsWrite,
        Self::EventsRead,
        Self::TokensIntrospect,
        Self::TokensRevoke,
    ];
    /// The scopes of the admin API.
    pub const OF_OPERATORS: [Self; 5] =
        [Self::UsersRead, Self::UsersWrite, Self::SessionsRead, Self::SessionsWrite, Self::EventsRead];
    /// The scopes of the endpoints of tokens.
    pub const OF_CLIENTS: [Self; 2] = [Self::TokensIntrospect, Self::TokensRevoke];

    /// The scope's name, such as `users:read`. It never changes, because stores keep it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UsersRead => "users:read",
            Self::UsersWrite => "users:write",
            Self::SessionsRead => "sessions:read",
            Self::SessionsWrite => "sessions:write",
            Self::EventsRead => "events:read",
            Self::TokensIntrospect => "tokens:introspect",
            Self::TokensRevoke => "tokens:revoke",
        }
    }

    /// The scope with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }
}

/// The record of an admin key or of a [client](crate::model::ConfidentialClient). It holds a digest, so that whoever
/// reads the store cannot use the key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdminKey {
    /// The key's id, by which it is listed and removed.
    pub id: Uuid,
    /// The name that the operator gave it.
    pub name: String,
    /// The digest of the key's secret.
    pub digest: SecretDigest,
    /// What the key allows, in order and each once.
    pub scopes: Vec<AdminScope>,
    /// The time at which the key was made.
    pub created_at: Timestamp,
    /// The time from which on the key is refused; `None` for a key that does not expire.
    pub expires_at: Option<Timestamp>,
}

impl AdminKey {
    /// Whether the record is a client's: all its scopes are.
    #[must_use]
    pub fn is_of_client(&self) -> bool {
        !self.scopes.is_empty() && self.scopes.iter().all(|scope| AdminScope::OF_CLIENTS.contains(scope))
    }

    /// Whether this text is the key's, compared in constant time.
    #[must_use]
    pub fn is_proven_by(&self, text: &AdminKeyText) -> bool {
        !self.is_of_client() && self.id == text.id() && self.digest.is(&text.digest())
    }

    /// Whether the key allows this at `now`.
    #[must_use]
    pub fn allows(&self, scope: AdminScope, now: Timestamp) -> bool {
        !self.has_expired(now) && self.scopes.contains(&scope)
    }

    /// Whether the key has expired.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires_at| now >= expires_at)
    }
}

/// An admin key as its holder presents it: `csk_`, the key's id and 256 random bits.
#[derive(Clone, Eq, PartialEq)]
pub struct AdminKeyText {
    id: Uuid,
    secret: String,
}

impl AdminKeyText {
    /// The beginning of every key, by which scanners of leaked secrets find it.
    pub const PREFIX: &'static str = "csk_";

    /// A new key with this id.
    ///
    /// # Errors
    /// [`RandomError`] when the source of randomness fails.
    pub fn new(id: Uuid, random: &dyn Random) -> Result<Self, RandomError> {
        let secret: [u8; 32] = random::bytes(random)?;
        Ok(Self { id, secret: URL_SAFE_NO_PAD.encode(secret) })
    }

    /// Parses a key as it is presented; `None` if the text is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(Self::PREFIX)?.split_once('_')?;
        let is_secret = secret.len() == 43 && URL_SAFE_NO_PAD.decode(secret).is_ok();
        // Only the form in which ids are written is accepted, so that a key has one text.
        let id = (id.len() == 32 && !id.bytes().any(|byte| byte.is_ascii_uppercase())).then_some(id)?;
        let id = Uuid::try_parse(id).ok()?;
        is_secret.then(|| Self { id, secret: secret.to_owned() })
    }

    /// The id of the key's record.
    #[must_use]
    pub const fn id(&self) -> Uuid {
        self.id
    }

    /// The digest by which the store knows the key.
    #[must_use]
    pub fn digest(&self) -> SecretDigest {
        SecretDigest::of(&self.secret)
    }

    /// The key as text, which is shown once.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{}{}_{}", Self::PREFIX, self.id.simple(), self.secret)
    }
}

impl fmt::Debug for AdminKeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminKeyText").field("id", &self.id).finish_non_exhaustive()
    }
}
