//! An account.

use countersign_jwt::id::UserId;
use countersign_jwt::time::Timestamp;

use crate::model::PasswordHash;
use crate::model::name::{EmailAddress, Username};

/// An account of Countersign's own. Applications with their own user table don't need it.
#[derive(Clone, Debug)]
pub struct User {
    /// The account's id, a UUID.
    pub id: UserId,
    /// The e-mail address, as given; unique by its key.
    pub email: EmailAddress,
    /// The username, as given; unique by its key.
    pub username: Option<Username>,
    /// The password's hash; `None` where one cannot log in by password.
    pub password_hash: Option<PasswordHash>,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Set while the account is disabled.
    pub disabled_at: Option<Timestamp>,
}

impl User {
    /// Whether one may log in and refresh.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.disabled_at.is_none()
    }
}
