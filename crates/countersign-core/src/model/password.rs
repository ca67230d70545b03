//! Passwords as people type them.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

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

/// The fewest code points that a new password may have. Default 8.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MinimumLength(u16);

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

/// A minimum length that would accept weak passwords, or refuse long ones.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the minimum password length is 8 to 64 code points")]
pub struct UnsafeMinimumLength;

impl Password {
    /// The most bytes that a password may have. The limit is long enough for any passphrase and short enough that
    /// hashing such a password costs what hashing a short one does.
    pub const MAX_BYTES: usize = 1024;

    /// Takes a new password of at least 8 code points.
    ///
    /// # Errors
    /// [`PasswordError`] if it is too short or too long.
    pub fn new_for_registration(text: String) -> Result<Self, PasswordError> {
        Self::new_for_registration_with(text, MinimumLength::default())
    }

    /// Takes a new password of at least `minimum` code points.
    ///
    /// # Errors
    /// [`PasswordError`] if it is too short or too long.
    pub fn new_for_registration_with(text: String, minimum: MinimumLength) -> Result<Self, PasswordError> {
        let password = Self::new_for_login(text)?;
        if password.0.expose_secret().chars().count() < usize::from(minimum.0) {
            return Err(PasswordError::TooShort { minimum: minimum.0 });
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

    /// The bytes of the password, which are hashed.
    pub(crate) fn expose_bytes(&self) -> &[u8] {
        self.0.expose_secret().as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl MinimumLength {
    /// The lowest minimum length that can be set (NIST SP 800-63B §3.1.1.2).
    pub const FLOOR: u16 = 8;
    /// The highest minimum length that can be set. A password of 64 code points is always accepted.
    pub const CEILING: u16 = 64;

    /// Sets the minimum length to this many code points.
    ///
    /// # Errors
    /// [`UnsafeMinimumLength`] outside [`MinimumLength::FLOOR`] and [`MinimumLength::CEILING`].
    pub fn new(code_points: u16) -> Result<Self, UnsafeMinimumLength> {
        if (Self::FLOOR..=Self::CEILING).contains(&code_points) {
            Ok(Self(code_points))
        } else {
            Err(UnsafeMinimumLength)
        }
    }
}

impl Default for MinimumLength {
    fn default() -> Self {
        Self(Self::FLOOR)
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
    fn sec_112_the_minimum_can_be_raised_but_never_below_eight() {
        assert_eq!(MinimumLength::new(7), Err(UnsafeMinimumLength));
        assert_eq!(MinimumLength::new(65), Err(UnsafeMinimumLength));
        let fifteen = MinimumLength::new(15).unwrap();
        let short = Password::new_for_registration_with("a".repeat(14), fifteen);
        assert_eq!(short.unwrap_err(), PasswordError::TooShort { minimum: 15 });
        assert!(Password::new_for_registration_with("a".repeat(15), fifteen).is_ok());
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
