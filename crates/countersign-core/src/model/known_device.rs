//! Devices on which a user has logged in before. They have a budget of failed logins of their own, so that strangers
//! who guess a user's password cannot keep the user out.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_jwt::id::UserId;
use countersign_jwt::random::{self, Random, RandomError};
use countersign_jwt::time::Timestamp;

use crate::model::one_time::SecretDigest;

/// The record of a device on which a user has logged in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownDevice {
    /// The user who logged in.
    pub user_id: UserId,
    /// The digest of the device's token.
    pub digest: SecretDigest,
    /// The time until which the device is known, unless the user logs in on it again.
    pub until: Timestamp,
}

impl KnownDevice {
    /// How long a device is known after a login.
    pub const KNOWN_FOR: Duration = Duration::from_secs(90 * 86_400);
    /// The most devices of a user that are known. One more replaces the one that would be forgotten first.
    pub const MAX: usize = 32;
}

/// The token by which a device is recognised: 256 random bits. It says nothing about the user, and lets nobody in.
#[derive(Clone, Eq, PartialEq)]
pub struct DeviceToken(String);

impl DeviceToken {
    /// A new token.
    ///
    /// # Errors
    /// [`RandomError`] when the source of randomness fails.
    pub fn new(random: &dyn Random) -> Result<Self, RandomError> {
        let secret: [u8; 32] = random::bytes(random)?;
        Ok(Self(URL_SAFE_NO_PAD.encode(secret)))
    }

    /// Parses a token as a client has sent it; `None` if the text is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_token = text.len() == 43 && URL_SAFE_NO_PAD.decode(text).is_ok();
        is_token.then(|| Self(text.to_owned()))
    }

    /// The digest by which the store knows the device.
    #[must_use]
    pub fn digest(&self) -> SecretDigest {
        SecretDigest::of(&self.0)
    }

    /// The token as text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DeviceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceToken")
    }
}
