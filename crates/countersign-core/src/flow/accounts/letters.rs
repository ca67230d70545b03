//! What users are told by mail, and the interface to whoever writes and sends it.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use countersign_jwt::time::Timestamp;

use crate::model::{Device, EmailAddress, Language, LinkToken};
use crate::store::BoxError;
use countersign_jwt::id::UserId;

/// A letter's content.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Letter {
    /// A link that proves that the user reads this address.
    VerifyEmail {
        /// The token of the link.
        token: LinkToken,
        /// How long the token is good.
        expires_in: Duration,
    },
    /// A link by which a new password is set.
    ResetPassword {
        /// The token of the link.
        token: LinkToken,
        /// How long the token is good.
        expires_in: Duration,
    },
    /// A code and a link, each of which signs the user in once.
    SignInCode {
        /// The six digits.
        code: SecretCode,
        /// The token of the link.
        token: LinkToken,
        /// How long both are good.
        expires_in: Duration,
    },
    /// Somebody tried to register with the address of an account that exists.
    AccountExists,
    /// The password was changed.
    PasswordChanged {
        /// The time of the change.
        at: Timestamp,
    },
    /// The account's address was changed. This letter goes to the address before.
    EmailChanged {
        /// The address from now on.
        new: EmailAddress,
        /// The time of the change.
        at: Timestamp,
    },
    /// Somebody signed in on a device that the account did not know.
    NewDevice {
        /// The device.
        device: Device,
        /// The time of the login.
        at: Timestamp,
    },
    /// The account was deleted.
    AccountDeleted {
        /// The time of the deletion.
        at: Timestamp,
    },
    /// An invitation to choose a password for an account that an operator has made.
    Invite {
        /// The token of the link.
        token: LinkToken,
        /// How long the token is good.
        expires_in: Duration,
    },
}

impl Letter {
    /// What the letter is about, in counters of letters.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::VerifyEmail { .. } => "verify",
            Self::ResetPassword { .. } => "reset",
            Self::SignInCode { .. } => "code",
            Self::AccountExists => "exists",
            Self::PasswordChanged { .. } => "password",
            Self::EmailChanged { .. } => "email",
            Self::NewDevice { .. } => "device",
            Self::AccountDeleted { .. } => "deleted",
            Self::Invite { .. } => "invite",
        }
    }
}

/// A code of six digits that a mail carries. `Debug` does not show it.
#[derive(Clone, Eq, PartialEq)]
pub struct SecretCode(String);

impl SecretCode {
    /// The code of these digits; `None` unless there are six.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_code = text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_code.then(|| Self(text.to_owned()))
    }

    /// The code of this number, below one million.
    pub(super) fn of(number: u32) -> Self {
        Self(format!("{:06}", number % 1_000_000))
    }

    /// The six digits.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretCode")
    }
}

/// A letter and its reader.
#[derive(Clone, Debug)]
pub struct Addressed {
    /// The address that the letter goes to.
    pub to: EmailAddress,
    /// The user whom the letter concerns.
    pub user_id: Option<UserId>,
    /// The language that the letter should be written in; `None` if it is not known.
    pub language: Option<Language>,
    /// What the letter says.
    pub letter: Letter,
}

/// A letter could not be put into the outbox.
#[derive(Debug, thiserror::Error)]
#[error("a mail could not be written or put into the outbox")]
pub struct LetterError(#[source] pub BoxError);

/// Writes letters and puts them into the outbox, from where they are sent. Shared as `Arc<dyn Letters>`.
#[async_trait]
pub trait Letters: fmt::Debug + Send + Sync + 'static {
    /// Writes a letter and puts it into the outbox. When the call has returned, the letter is not lost any more.
    async fn post(&self, letter: Addressed, now: Timestamp) -> Result<(), LetterError>;
}
