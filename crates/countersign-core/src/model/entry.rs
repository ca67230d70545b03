//! Entries of the revocation log.

use std::time::Duration;

use countersign_jwt::id::{Epoch, SessionId, TokenId, UserId};
use countersign_jwt::key::KeyId;
use countersign_jwt::time::Timestamp;
use uuid::Uuid;

/// The time for which an entry may stay invisible to readers after its `at`, because its commit is late. Readers go
/// back that far with every read, and a writer whose insert took longer than half of it dates the entry anew.
pub const OVERLAP: Duration = Duration::from_secs(15);

/// The subject of an entry of the revocation log: what the entry revokes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// One session is ended.
    Session {
        /// The user of the session.
        user_id: UserId,
        /// The session's id.
        id: SessionId,
    },
    /// All of a user's sessions of an earlier epoch are ended.
    User {
        /// The user whose sessions are ended.
        user_id: UserId,
        /// The user's epoch from now on.
        epoch: Epoch,
        /// A session of an earlier epoch that lives on, which is the one that asked.
        except: Option<SessionId>,
    },
    /// One token is revoked. The entry applies only together with the token's owner, so that nobody revokes another
    /// user's token.
    Token {
        /// The owner of the token.
        user_id: UserId,
        /// The token's `jti`.
        id: TokenId,
    },
    /// A signing key was removed.
    Key {
        /// The key's id.
        id: KeyId,
    },
    /// Nothing is revoked: the entry is a node's heartbeat. A node that reads its own heartbeat back has read
    /// everything that was written before it, however the engine replicates.
    Node {
        /// The node, which is one run of one process.
        id: Uuid,
    },
}

/// One line of the revocation log. Entries merge by union and maximum, so their order and repetition never matter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The subject of the revocation.
    pub target: Target,
    /// The time until which the entry matters. No token that the entry concerns is accepted after it.
    pub until: Timestamp,
    /// The time at which the entry was written, by the store's clock. Readers ask for the entries since their last
    /// read.
    pub at: Timestamp,
}

/// The part of an entry that is unique in the log. Stores may order pages by it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EntryKey {
    /// The user's id; empty for keys and nodes.
    pub user_id: String,
    /// The kind of the entry: `key`, `node`, `session`, `token` or `user`.
    pub kind: &'static str,
    /// The id of the session, token, key or node; empty for users.
    pub reference: String,
    /// The epoch for users, else 0.
    pub number: u64,
}

impl Entry {
    /// The key of this entry in the log.
    #[must_use]
    pub fn key(&self) -> EntryKey {
        self.target.key()
    }

    /// The user that the entry concerns; `None` for removed keys and nodes.
    #[must_use]
    pub fn user_id(&self) -> Option<&UserId> {
        match &self.target {
            Target::Session { user_id, .. }
            | Target::User { user_id, .. }
            | Target::Token { user_id, .. } => Some(user_id),
            Target::Key { .. } | Target::Node { .. } => None,
        }
    }
}

impl Target {
    /// The key in the log of the entry that revokes this target.
    #[must_use]
    pub fn key(&self) -> EntryKey {
        let (user_id, kind, reference, number) = match self {
            Self::Session { user_id, id } => (user_id.as_str(), "session", id.to_string(), 0),
            Self::User { user_id, epoch, .. } => (user_id.as_str(), "user", String::new(), epoch.as_u64()),
            Self::Token { user_id, id } => (user_id.as_str(), "token", id.to_string(), 0),
            Self::Key { id } => ("", "key", id.to_string(), 0),
            Self::Node { id } => ("", "node", id.hyphenated().to_string(), 0),
        };
        EntryKey { user_id: user_id.to_owned(), kind, reference, number }
    }
}
