//! The pepper: a key outside of the database that password hashes are made with, so that a copy of the database alone
//! verifies no password (SEC-122).
//!
//! The output of Argon2id goes through HMAC-SHA-256 under the pepper's key, and the result is what is stored. The id of
//! the pepper stands before the hash: `hmac-sha256:2026$argon2id$v=19$m=19456,t=2,p=1$salt$tag`. It is not a `keyid`
//! parameter of the hash, because that names a key that Argon2 itself takes.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use countersign_jwt::seal::{InvalidSecretText, Secrets};

/// The id of a pepper, which is stored with every hash that the pepper made: 1 to 32 of `A`–`Z`, `a`–`z`, `0`–`9`, `-`,
/// `_` and `.`.
#[derive(Clone, Eq, Ord, PartialEq, PartialOrd)]
pub struct PepperId(Box<str>);

/// The peppers of a program. The first one is part of new hashes; hashes that were made with any of them are verified.
/// Default: none, and new hashes have none.
#[derive(Clone, Default)]
pub struct Peppers {
    current: Option<Pepper>,
    all: Arc<[Pepper]>,
}

/// The reason why a text is not a list of peppers.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPeppers {
    /// A pepper has no id, or one with other characters, or a long one.
    #[error(
        "number {0} is not an id of 1 to 32 letters, digits, `-`, `_` or `.`, a colon, and base64, such as 2026:1PfH…"
    )]
    NoId(usize),
    /// A pepper's key is not good.
    #[error("pepper {0}: {1}")]
    Key(PepperId, InvalidSecretText),
    /// Two peppers have the same id.
    #[error("two peppers have the id {0}; every pepper needs its own, and an id must never get another key")]
    SameId(PepperId),
    /// The list has no pepper.
    #[error("there is no pepper in it")]
    Absent,
}

/// One pepper.
#[derive(Clone)]
pub(crate) struct Pepper {
    id: PepperId,
    key: Arc<hmac::Key>,
}

/// What stands before the id of a pepper in a stored hash.
pub(super) const PREFIX: &str = "hmac-sha256:";

impl Peppers {
    /// Parses peppers as `COUNTERSIGN_PASSWORD_PEPPER` has them, separated by commas or white space: each an id, a colon,
    /// and base64 of at least 32 bytes, as `countersign key secret` makes them. If the first word is `none`, new hashes
    /// get no pepper and those that have one of the others are still verified.
    ///
    /// # Errors
    /// [`InvalidPeppers`], which contains nothing of a key.
    pub fn parse(text: &str) -> Result<Self, InvalidPeppers> {
        let words =
            || text.split(|c: char| c == ',' || c.is_ascii_whitespace()).filter(|word| !word.is_empty());
        let skipped = usize::from(words().next() == Some("none"));
        let mut all: Vec<Pepper> = Vec::new();
        for (index, word) in words().enumerate().skip(skipped) {
            let (id, key) = word.split_once(':').ok_or(InvalidPeppers::NoId(index + 1))?;
            let id = PepperId::new(id).ok_or(InvalidPeppers::NoId(index + 1))?;
            if all.iter().any(|other| other.id == id) {
                return Err(InvalidPeppers::SameId(id));
            }
            let key = match Secrets::parse(key) {
                Ok(secret) => secret.derive("password-pepper"),
                Err(error) => return Err(InvalidPeppers::Key(id, error)),
            };
            all.push(Pepper { id, key: hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()).into() });
        }
        let first = all.first().ok_or(InvalidPeppers::Absent)?;
        let current = (skipped == 0).then(|| first.clone());
        Ok(Self { current, all: all.into() })
    }

    /// The pepper of new hashes.
    pub(crate) fn current(&self) -> Option<&Pepper> {
        self.current.as_ref()
    }

    pub(super) fn key(&self, id: &PepperId) -> Option<Pepper> {
        self.all.iter().find(|pepper| pepper.id == *id).cloned()
    }
}

impl Pepper {
    /// The number of bytes that [`Pepper::apply`] yields.
    pub(crate) const BYTES: usize = 32;

    /// What is stored for this output of a hash function.
    pub(crate) fn apply(&self, output: &[u8]) -> [u8; Self::BYTES] {
        let mut tag = [0; Self::BYTES];
        tag.copy_from_slice(hmac::sign(&self.key, output).as_ref());
        tag
    }

    /// The text of a hash with this pepper, from that of the hash function.
    pub(crate) fn text(&self, hash: &str) -> String {
        format!("{PREFIX}{}{hash}", self.id)
    }

    /// Whether these are the same pepper, or both none.
    pub(crate) fn are_same(one: Option<&Self>, other: Option<&Self>) -> bool {
        one.map(|pepper| &pepper.id) == other.map(|pepper| &pepper.id)
    }
}

impl PepperId {
    const MAX_BYTES: usize = 32;

    fn new(text: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_id = (1..=Self::MAX_BYTES).contains(&text.len()) && text.bytes().all(is_plain);
        is_id.then(|| Self(text.into()))
    }
}

/// The id of the pepper and the hash, of what follows the [`PREFIX`].
pub(super) fn split(text: &str) -> Option<(PepperId, &str)> {
    let (id, hash) = text.split_at_checked(text.find('$')?)?;
    Some((PepperId::new(id)?, hash))
}

impl fmt::Display for PepperId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PepperId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pepper({})", self.id)
    }
}

impl fmt::Debug for Peppers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peppers").field("current", &self.current).field("all", &self.all).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "1PfHtT3yVwzLk6dQ8mJr5sBn0cXe2aGhUiOp7YqRZKM=";
    const NEW: &str = "q2Wc9Rt4Yb7Nm1Kp6Lz8Xv3Js5Hd0GfAeUoIiQyTrEw=";

    #[test]
    fn sec_122_the_first_pepper_is_that_of_new_hashes_and_all_are_known() {
        let peppers = Peppers::parse(&format!("2026:{NEW}, 2025:{OLD}\n")).unwrap();
        assert_eq!(peppers.current().unwrap().id.to_string(), "2026");
        let ids: Vec<_> = peppers.all.iter().map(|pepper| pepper.id.to_string()).collect();
        assert_eq!(ids, ["2026", "2025"]);
        let leaving = Peppers::parse(&format!("none,2026:{NEW}")).unwrap();
        assert!(leaving.current().is_none());
        assert!(leaving.key(&PepperId::new("2026").unwrap()).is_some());
    }

    #[test]
    fn sec_122_a_text_that_is_no_list_of_peppers_is_refused_without_repeating_it() {
        let long = format!("{}:{NEW}", "x".repeat(33));
        let twice = format!("a:{NEW},a:{OLD}");
        for (text, expected) in [
            ("", "there is no pepper"),
            ("none", "there is no pepper"),
            (NEW, "number 1 is not an id"),
            (&format!("a:{NEW},{OLD}"), "number 2 is not an id"),
            (&format!(":{NEW}"), "number 1 is not an id"),
            (&format!("a$b:{NEW}"), "number 1 is not an id"),
            (&long, "number 1 is not an id"),
            (&twice, "two peppers have the id a"),
            ("a:c2hvcnQ=", "pepper a: secret is 5 bytes long, 32 are needed"),
            ("a:???", "pepper a: not base64"),
            ("a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "pepper a: secret is guessable"),
        ] {
            let error = Peppers::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("c2hvcnQ") && !error.contains(NEW), "{error}");
        }
        let peppers = Peppers::parse(&format!("a:{NEW}")).unwrap();
        assert_eq!(format!("{peppers:?}"), "Peppers { current: Some(Pepper(a)), all: [Pepper(a)] }");
    }
}
