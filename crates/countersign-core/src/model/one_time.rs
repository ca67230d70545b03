//! Secrets that are good for one use: a mailed link, a mailed code, an invitation.

use std::fmt;

use aws_lc_rs::{constant_time, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_jwt::id::UserId;
use countersign_jwt::random::{self, Random, RandomError};
use countersign_jwt::time::Timestamp;

/// What a one-time secret is for. A secret for one purpose is worth nothing for another.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Purpose {
    /// Proves that a user reads mail sent to an address.
    VerifyEmail,
    /// Sets a new password.
    ResetPassword,
    /// Logs in without a password, by a code that was mailed.
    SignIn,
    /// Logs in without a password, by the link that was mailed beside a code.
    SignInLink,
    /// Lets somebody who was invited choose a password.
    Invite,
}

impl Purpose {
    /// All purposes.
    pub const ALL: [Self; 5] =
        [Self::VerifyEmail, Self::ResetPassword, Self::SignIn, Self::SignInLink, Self::Invite];

    /// The purposes whose secrets are worth nothing any more when the password or the address changes.
    pub const ENDED_BY_CHANGE: [Self; 4] =
        [Self::ResetPassword, Self::SignIn, Self::SignInLink, Self::Invite];

    /// The purpose's name in stores. It never changes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
            Self::SignIn => "sign_in",
            Self::SignInLink => "sign_in_link",
            Self::Invite => "invite",
        }
    }

    /// The purpose with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.name() == name)
    }
}

/// The record of a one-time secret. A user has at most one for each purpose: another one replaces it.
///
/// The record holds digests, so that whoever reads the store can use no secret (SEC-138).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OneTimeSecret {
    /// The user whom the secret is for.
    pub user_id: UserId,
    /// What the secret is for.
    pub purpose: Purpose,
    /// The digests of the secrets that are accepted, usually one.
    pub digests: Vec<SecretDigest>,
    /// What the secret is bound to, such as the address that it proves. Its meaning is the purpose's.
    pub bound_to: String,
    /// The number of wrong secrets that may still be presented. The last one deletes the record.
    pub tries_left: u32,
    /// The time at which the secret was made.
    pub created_at: Timestamp,
    /// The time from which on the secret is refused.
    pub expires_at: Timestamp,
}

/// The digest of a one-time secret: SHA-256 or HMAC-SHA-256.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct SecretDigest([u8; 32]);

/// The result of presenting a one-time secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tried {
    /// The secret is right. The record is deleted.
    Right,
    /// The secret is wrong, and more tries are left.
    Wrong,
    /// The secret is wrong, and it was the last try: the record is deleted.
    Exhausted,
    /// The record has expired: it is deleted.
    Expired,
}

impl OneTimeSecret {
    /// Presents the digest of a secret. After anything but [`Tried::Wrong`] the record is to be deleted;
    /// otherwise it is to be written back.
    pub fn try_digest(&mut self, presented: &SecretDigest, now: Timestamp) -> Tried {
        if now >= self.expires_at {
            return Tried::Expired;
        }
        // Every digest is compared, in constant time, whether or not an earlier one was equal.
        let is_right = self.digests.iter().fold(false, |right, digest| right | digest.is(presented));
        if is_right {
            return Tried::Right;
        }
        self.tries_left = self.tries_left.saturating_sub(1);
        if self.tries_left == 0 { Tried::Exhausted } else { Tried::Wrong }
    }
}

impl SecretDigest {
    /// The digest with these bytes, as a store has kept them.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The SHA-256 of a secret that nobody can guess.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref());
        Self(bytes)
    }

    /// The digest's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether both digests are the same, compared in constant time.
    pub(crate) fn is(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest")
    }
}

/// A token that a link carries: the user whom it is for, and a secret of 256 random bits, as text that needs no
/// escaping in a URL.
#[derive(Clone, Eq, PartialEq)]
pub struct LinkToken {
    user_id: UserId,
    secret: String,
}

impl LinkToken {
    /// A new token for this user.
    ///
    /// # Errors
    /// [`RandomError`] when the source of randomness fails.
    pub fn new(user_id: UserId, random: &dyn Random) -> Result<Self, RandomError> {
        let secret: [u8; 32] = random::bytes(random)?;
        Ok(Self { user_id, secret: URL_SAFE_NO_PAD.encode(secret) })
    }

    /// Parses a token as a client has sent it; `None` if the text is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (user_id, secret) = text.split_once('.')?;
        let user_id = String::from_utf8(URL_SAFE_NO_PAD.decode(user_id).ok()?).ok()?;
        let is_secret = secret.len() == 43 && URL_SAFE_NO_PAD.decode(secret).is_ok();
        let user_id = UserId::new(&user_id).ok()?;
        is_secret.then(|| Self { user_id, secret: secret.to_owned() })
    }

    /// The user whom the token is for.
    #[must_use]
    pub fn user_id(&self) -> &UserId {
        &self.user_id
    }

    /// The digest by which the store knows the secret.
    #[must_use]
    pub fn digest(&self) -> SecretDigest {
        SecretDigest::of(&self.secret)
    }

    /// The token as text, for the link.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{}.{}", URL_SAFE_NO_PAD.encode(self.user_id.as_str()), self.secret)
    }
}

impl fmt::Debug for LinkToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkToken").field("user_id", &self.user_id).finish_non_exhaustive()
    }
}
