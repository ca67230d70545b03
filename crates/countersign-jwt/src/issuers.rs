//! Issuers other than a verifier's own whose tokens are accepted for a time.

use serde::{Deserialize, Serialize};

use crate::key::VerifyingKey;
use crate::time::Timestamp;

/// An issuer of this store's tokens other than the present one.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct FormerIssuer {
    /// The `iss` of the issuer's tokens.
    pub issuer: String,
    /// The time by which the last of the issuer's tokens has expired.
    #[serde(with = "millis")]
    pub until: Timestamp,
}

/// The issuers of this store's tokens other than a program's own: the former ones, and the present one of programs that
/// were started since with another issuer. Their tokens are accepted if one of the store's own keys has signed them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KnownIssuers(Vec<FormerIssuer>);

impl KnownIssuers {
    /// Whether tokens of this issuer are accepted at `now`.
    #[must_use]
    pub fn accepts(&self, issuer: &str, now: Timestamp) -> bool {
        self.0.iter().any(|known| known.issuer == issuer && now < known.until)
    }

    /// All known issuers.
    pub fn iter(&self) -> impl Iterator<Item = &FormerIssuer> {
        self.0.iter()
    }
}

impl FromIterator<FormerIssuer> for KnownIssuers {
    fn from_iter<I: IntoIterator<Item = FormerIssuer>>(issuers: I) -> Self {
        Self(issuers.into_iter().collect())
    }
}

impl Extend<FormerIssuer> for KnownIssuers {
    fn extend<I: IntoIterator<Item = FormerIssuer>>(&mut self, issuers: I) {
        self.0.extend(issuers);
    }
}

/// Whether this key belongs to another program and not to the store.
pub(crate) fn is_foreign(key: &VerifyingKey, foreign: &[VerifyingKey]) -> bool {
    foreign.iter().any(|foreign| foreign.is_same_key(key))
}

/// The serialised form of a time, in milliseconds.
mod millis {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::time::Timestamp;

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(time.as_millis())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(deserializer).map(Timestamp::from_millis)
    }
}
