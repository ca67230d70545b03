//! Password hashes at rest.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

/// A password hash at rest, as text in the PHC string format (`$argon2id$v=19$m=…`).
///
/// Any text can be a `PasswordHash`. Text from a store is not trusted, and is checked when a password is (SEC-119). The
/// text is wiped from memory when it is dropped, and `Debug` does not show it.
#[derive(Clone)]
pub struct PasswordHash(SecretString);

impl PasswordHash {
    /// Takes the text of a stored hash.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text.into())
    }

    /// The text to store. It must stay out of logs and answers, because passwords can be guessed against it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}
