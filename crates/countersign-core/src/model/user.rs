//! An account of Countersign's own.

use countersign_jwt::id::UserId;
use countersign_jwt::time::Timestamp;

use crate::model::PasswordHash;
use crate::model::name::{EmailAddress, Username};

/// An account of Countersign's own. Applications with their own user table don't need this type.
#[derive(Clone, Debug)]
pub struct User {
    /// The account's id, a UUID.
    pub id: UserId,
    /// The e-mail address as given, unique by its key.
    pub email: EmailAddress,
    /// The username as given, unique by its key.
    pub username: Option<Username>,
    /// The hash of the password; `None` if the account has no password to log in with.
    pub password_hash: Option<PasswordHash>,
    /// The time at which the account was registered.
    pub created_at: Timestamp,
    /// The time since which the account is disabled; `None` if it is enabled.
    pub disabled_at: Option<Timestamp>,
}

impl User {
    /// Whether the account is enabled, so that its user may log in and refresh.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.disabled_at.is_none()
    }
}
