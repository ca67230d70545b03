//! Entries of the revocation log.

use std::time::Duration;

use countersign_jwt::id::{Epoch, SessionId, TokenId, UserId};
use countersign_jwt::key::KeyId;
use countersign_jwt::time::Timestamp;
use uuid::Uuid;

/// For how long an entry may stay invisible to readers after its `at`, because its commit is late: readers go back that
/// far with every look, and a writer whose insert took longer than half of it dates the entry anew.
pub const OVERLAP: Duration = Duration::from_secs(15);

/// What an entry revokes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Target {
    /// One session.
    Session {
        /// Its user.
        user_id: UserId,
        /// The session.
        id: SessionId,
    },
    /// All of a user's sessions of an earlier epoch.
    User {
        /// The user.
        user_id: UserId,
        /// The user's epoch from now on.
        epoch: Epoch,
        /// A session of an earlier epoch that lives on: the one that asked.
        except: Option<SessionId>,
    },
    /// One token. It counts only together with its owner, so that nobody revokes somebody else's.
    Token {
        /// The owner.
        user_id: UserId,
        /// The token's `jti`.
        id: TokenId,
    },
    /// A signing key that was removed.
    Key {
        /// The key.
        id: KeyId,
    },
    /// Nothing: a node's heartbeat. A node that reads it back in the log has read everything that was written before
    /// it, however the engine behind replicates.
    Node {
        /// The node: one run of one process.
        id: Uuid,
    },
}

/// One line of the revocation log. Entries merge by union and maximum: their order and repetition never matter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// What is revoked.
    pub target: Target,
    /// Until when it matters: no token that it concerns is accepted after that.
    pub until: Timestamp,
    /// When it was written, by the store's clock. Readers ask for the entries since their last look.
    pub at: Timestamp,
}

/// What makes an entry unique in the log, and the order in which pages of it are read.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EntryKey {
    /// The user; empty for keys and nodes.
    pub user_id: String,
    /// `key`, `node`, `session`, `token` or `user`.
    pub kind: &'static str,
    /// The session's, token's, key's or node's id; empty for users.
    pub reference: String,
    /// The epoch for users, else 0.
    pub number: u64,
}

impl Entry {
    /// The entry's key in the log.
    #[must_use]
    pub fn key(&self) -> EntryKey {
        self.target.key()
    }

    /// The user it concerns; removed keys and nodes concern none in particular.
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
    /// The key in the log of the entry that revokes this.
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
