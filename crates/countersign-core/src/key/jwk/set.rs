//! Sets of keys as JSON (RFC 7517 §5).

use serde_json::{Value, json};

use super::{Jwk, JwkError, Members};
use crate::json;
use crate::key::{ImportRules, KeyError, KeyRing};

/// The keys of a JWK set that sign or verify.
///
/// Keys of other types, for other algorithms and for other uses, such as encryption, are left out (RFC 7517 §5). A set
/// with anything else wrong in it is refused as a whole: half of somebody's keys is not what they published.
#[derive(Clone, Debug)]
pub struct JwkSet(Vec<Jwk>);

impl JwkSet {
    /// Reads a set.
    ///
    /// # Errors
    /// [`JwkError`] for the first key that is not acceptable, [`JwkError::DuplicateKeyId`] if two keys share one
    /// `kid`, [`JwkError::Mixed`] if it has shared secrets beside public keys.
    pub fn parse(text: &[u8]) -> Result<Self, JwkError> {
        if text.len() > Jwk::MAX_BYTES {
            return Err(JwkError::TooLong);
        }
        let mut set = json::object(text).map_err(JwkError::Json)?;
        let members: Vec<_> = match set.remove("keys") {
            Some(Value::Array(list)) => list
                .into_iter()
                .map(|key| match key {
                    Value::Object(members) => Ok(Members::new(members)),
                    _ => Err(JwkError::Invalid("keys")),
                })
                .collect::<Result<_, _>>()?,
            Some(_) => return Err(JwkError::Invalid("keys")),
            None => return Err(JwkError::Missing("keys")),
        };
        let mut keys: Vec<Jwk> = Vec::with_capacity(members.len());
        for key in &members {
            let key = match Jwk::read(key) {
                Ok(key) => key,
                Err(JwkError::UnknownKeyType | JwkError::UnknownAlgorithm | JwkError::OtherUse) => continue,
                Err(error) => return Err(error),
            };
            if key.key_id().is_some() && keys.iter().any(|other| other.key_id() == key.key_id()) {
                return Err(JwkError::DuplicateKeyId);
            }
            if keys.iter().any(|other| other.is_symmetric() != key.is_symmetric()) {
                return Err(JwkError::Mixed);
            }
            keys.push(key);
        }
        Ok(Self(keys))
    }

    /// The keys, in their order.
    #[must_use]
    pub fn keys(&self) -> &[Jwk] {
        &self.0
    }

    /// A ring of the keys that may verify.
    ///
    /// # Errors
    /// As for [`Jwk::verifying_key`]; [`JwkError::DuplicateKeyId`] also if the same key is in the set twice.
    pub fn to_ring(&self) -> Result<KeyRing, JwkError> {
        self.to_ring_with(ImportRules::strict())
    }

    /// As [`JwkSet::to_ring`], under other rules.
    ///
    /// # Errors
    /// The same, but for what the rules accept.
    pub fn to_ring_with(&self, rules: ImportRules) -> Result<KeyRing, JwkError> {
        let mut ring = KeyRing::new();
        for key in self.0.iter().filter(|key| key.may_verify) {
            ring.insert(key.verifying_key_with(rules)?).map_err(|error| match error {
                KeyError::DuplicateKeyId(_) => JwkError::DuplicateKeyId,
                error => JwkError::Key(error),
            })?;
        }
        Ok(ring)
    }
}

impl FromIterator<Jwk> for JwkSet {
    fn from_iter<I: IntoIterator<Item = Jwk>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

impl KeyRing {
    /// The public keys as a JWK set, to be published. Shared secrets are left out.
    #[must_use]
    pub fn to_jwk_set(&self) -> String {
        let keys: Vec<_> = self.iter().filter_map(|key| key.public_members().map(Value::Object)).collect();
        json!({ "keys": keys }).to_string()
    }
}
