//! Identifiers of users, sessions and tokens.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

/// The id of a user, which is the `sub` of every token (RFC 7519 §4.1.2).
///
/// Countersign's own accounts use a UUID. An application with its own user table may use any text of 1 to 255 bytes
/// without control characters, such as a number.
///
/// ```
/// use countersign_jwt::UserId;
///
/// let member = UserId::new("17")?;
/// assert_eq!(member.as_str(), "17");
/// assert_eq!(member, UserId::from(17));
/// assert_eq!(member.to_integer(), Some(17));
/// assert!(UserId::new("").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UserId(Arc<str>);

/// A text that cannot be a user id.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a user id is 1 to 255 bytes of text without control characters")]
pub struct InvalidUserId;

impl UserId {
    /// The most bytes that a user id may have.
    pub const MAX_BYTES: usize = 255;

    /// Parses a text as a user id.
    ///
    /// # Errors
    /// [`InvalidUserId`] if the text is empty, longer than 255 bytes, or has a control character.
    pub fn new(text: &str) -> Result<Self, InvalidUserId> {
        // Every token's `sub` is parsed here, so the usual case, ASCII, is checked by bytes.
        let has_control = if text.is_ascii() {
            text.bytes().any(|byte| byte.is_ascii_control())
        } else {
            text.chars().any(char::is_control)
        };
        if text.is_empty() || text.len() > Self::MAX_BYTES || has_control {
            return Err(InvalidUserId);
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as a whole number, if it is one as [`From<i64>`](Self#impl-From<i64>-for-UserId) writes it: `17`, not
    /// `017` or `+17`.
    #[must_use]
    pub fn to_integer(&self) -> Option<i64> {
        let number = self.0.parse::<i64>().ok()?;
        (number.to_string() == *self.0).then_some(number)
    }
}

impl From<i64> for UserId {
    fn from(id: i64) -> Self {
        Self(id.to_string().into())
    }
}

impl From<Uuid> for UserId {
    fn from(id: Uuid) -> Self {
        Self(id.hyphenated().to_string().into())
    }
}

impl FromStr for UserId {
    type Err = InvalidUserId;

    fn from_str(text: &str) -> Result<Self, InvalidUserId> {
        Self::new(text)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(Uuid);

        impl $name {
            /// The id with this UUID.
            #[must_use]
            pub const fn new(id: Uuid) -> Self {
                Self(id)
            }

            /// The id as a UUID.
            #[must_use]
            pub const fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            /// Parses only the usual form, 36 characters with hyphens, so that one id has one text.
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                let usual = if text.len() == uuid::fmt::Hyphenated::LENGTH { text } else { "" };
                Uuid::try_parse(usual).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

uuid_id! {
    /// The id of a session, which is the `sid` of its tokens.
    SessionId
}

uuid_id! {
    /// The id of one token, which is its `jti` (RFC 7519 §4.1.7).
    TokenId
}

/// The number of times that a session has been refreshed, which is the `gen` of its tokens. The session's row holds the
/// current one.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Generation(u32);

impl Generation {
    /// The generation that a login issues.
    pub const FIRST: Self = Self(0);

    /// The generation with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number of the generation.
    #[must_use]
    pub const fn as_u32(self) -> u32 {
        self.0
    }

    /// The generation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// The number of times that all of a user's sessions have been ended at once, which is the `epoch` of the tokens issued
/// since.
///
/// The epoch is a counter and not a time, so that a login in the same instant as "log out everywhere" falls clearly on
/// one side (SEC-089).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of a user whose sessions were never ended at once.
    pub const FIRST: Self = Self(0);

    /// The epoch with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of the epoch.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_form() {
        for (text, accepted) in [
            ("6f2e7f60-3d0b-4f5f-9d55-9f6b7b1f7a11", true),
            ("6f2e7f603d0b4f5f9d559f6b7b1f7a11", false),
            ("{6f2e7f60-3d0b-4f5f-9d55-9f6b7b1f7a11}", false),
            ("urn:uuid:6f2e7f60-3d0b-4f5f-9d55-9f6b7b1f7a11", false),
            ("6f2e7f60-3d0b-4f5f-9d55-9f6b7b1f7a1g", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<SessionId>().is_ok(), accepted, "{text}");
            assert_eq!(text.parse::<TokenId>().is_ok(), accepted, "{text}");
        }
    }

    #[test]
    fn user_ids_are_short_printable_text() {
        for (text, accepted) in [
            ("1", true),
            ("ada", true),
            ("6f2e7f60-3d0b-4f5f-9d55-9f6b7b1f7a11", true),
            ("", false),
            ("a\0b", false),
            ("a\nb", false),
            ("a\u{7f}b", false),
            ("é\u{85}", false),
            ("é", true),
            (&"x".repeat(255), true),
            (&"x".repeat(256), false),
        ] {
            assert_eq!(UserId::new(text).is_ok(), accepted, "{text:?}");
        }
    }
}
