//! Passwords as people type them, and the rules for new ones.

mod common;
mod rules;

use std::fmt;

use aws_lc_rs::digest;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

pub use self::rules::{MinimumLength, OwnNames, PasswordRules, UnsafeMinimumLength, WeakPassword};
use crate::model::name::fold;

/// A password exactly as it was sent: not trimmed, folded, normalised or cut (SEC-115).
///
/// The memory of a password is wiped when it is dropped, and `Debug` does not show it. `Password` has no `==`, because
/// passwords are compared by hashing them.
///
/// ```
/// use countersign_core::model::{Password, PasswordError};
///
/// let short = Password::new_for_registration("secret".to_owned());
/// assert!(matches!(short, Err(PasswordError::TooShort { minimum: 8 })));
/// // An account may be older than the minimum, so a login takes what it is given.
/// assert!(Password::new_for_login("secret".to_owned()).is_ok());
/// ```
pub struct Password(SecretString);

/// The reason why a text cannot be a password. The messages may be displayed to the person who typed it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// The password has fewer code points than the minimum.
    #[error("use at least {minimum} characters")]
    TooShort {
        /// The fewest code points that are accepted.
        minimum: u16,
    },
    /// The password has more than [`Password::MAX_BYTES`].
    #[error("use at most 1024 bytes; a character takes 1 to 4")]
    TooLong,
}

impl Password {
    /// The most bytes that a password may have. The limit is long enough for any passphrase and short enough that
    /// hashing such a password costs what hashing a short one does.
    pub const MAX_BYTES: usize = 1024;

    /// Takes a new password of at least 8 code points ([`MinimumLength::FLOOR`]).
    /// [`PasswordRules::admit`] takes one by the rules of the site.
    ///
    /// # Errors
    /// [`PasswordError`] if it is too short or too long.
    pub fn new_for_registration(text: String) -> Result<Self, PasswordError> {
        let password = Self::new_for_login(text)?;
        let minimum = MinimumLength::default();
        if !minimum.admits(&password) {
            return Err(PasswordError::TooShort { minimum: minimum.get() });
        }
        Ok(password)
    }

    /// Takes a password that is to be compared with a stored one. Only the upper limit holds, because the account may
    /// be older than the minimum.
    ///
    /// # Errors
    /// [`PasswordError::TooLong`] if the password has more than [`Password::MAX_BYTES`].
    pub fn new_for_login(text: String) -> Result<Self, PasswordError> {
        // Turning a `String` into a boxed text may move it and leave the old copy behind. The copy is therefore made
        // here and the original wiped, whether it is accepted or not.
        let text = Zeroizing::new(text);
        if text.len() > Self::MAX_BYTES {
            return Err(PasswordError::TooLong);
        }
        Ok(Self(SecretString::new(text.as_str().into())))
    }

    /// The password as text, for a program that has it checked elsewhere. It belongs into no log.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The bytes of the password, which are hashed.
    pub(crate) fn expose_bytes(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }

    /// The SHA-1 digest by which published lists of breached passwords name it.
    pub(crate) fn sha1(&self) -> [u8; digest::SHA1_OUTPUT_LEN] {
        let mut sha1 = [0; digest::SHA1_OUTPUT_LEN];
        sha1.copy_from_slice(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, self.expose_bytes()).as_ref());
        sha1
    }

    fn code_points(&self) -> usize {
        self.0.expose_secret().chars().count()
    }

    /// The password without differences of case, for comparing it with words that it must not be.
    fn folded(&self) -> Zeroizing<String> {
        Zeroizing::new(fold(self.0.expose_secret()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn registered(text: &str) -> Result<Password, PasswordError> {
        Password::new_for_registration(text.to_owned())
    }

    #[test]
    fn sec_112_length_is_counted_in_code_points_and_capped_in_bytes() {
        for (case, text, outcome) in [
            ("7", "a".repeat(7), Err(PasswordError::TooShort { minimum: 8 })),
            ("8", "a".repeat(8), Ok(())),
            ("64", "a".repeat(64), Ok(())),
            ("1024", "a".repeat(1024), Ok(())),
            ("1025", "a".repeat(1025), Err(PasswordError::TooLong)),
            ("empty", String::new(), Err(PasswordError::TooShort { minimum: 8 })),
            ("7 code points in 28 bytes", "😀".repeat(7), Err(PasswordError::TooShort { minimum: 8 })),
            ("8 code points in 32 bytes", "😀".repeat(8), Ok(())),
            ("256 code points in 1024 bytes", "😀".repeat(256), Ok(())),
            ("257 code points in 1028 bytes", "😀".repeat(257), Err(PasswordError::TooLong)),
        ] {
            assert_eq!(registered(&text).map(|_| ()), outcome, "{case}");
        }
    }

    #[test]
    fn sec_112_login_accepts_passwords_older_than_the_minimum() {
        for (length, accepted) in [(0, true), (7, true), (1024, true), (1025, false)] {
            assert_eq!(Password::new_for_login("a".repeat(length)).is_ok(), accepted, "{length}");
        }
    }

    #[test]
    fn sec_115_a_password_is_kept_exactly_as_sent() {
        for text in
            ["  leading", "trailing ", "CaseKept", "nul\0inside", "caf\u{e9} noir", "cafe\u{301} noir"]
        {
            assert_eq!(registered(text).unwrap().expose_bytes(), text.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn debug_output_holds_no_password() {
        assert_eq!(format!("{:?}", registered("correct horse").unwrap()), "Password(…)");
    }

    proptest! {
        #[test]
        fn sec_136_any_text_is_taken_whole_or_refused(text in ".{0,300}") {
            match registered(&text) {
                Ok(password) => prop_assert_eq!(password.expose_bytes(), text.as_bytes()),
                Err(_) => prop_assert!(text.chars().count() < 8 || text.len() > 1024),
            }
        }
    }
}
