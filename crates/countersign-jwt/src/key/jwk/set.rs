//! Sets of keys as JSON (RFC 7517 §5).

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Jwk, JwkError, Members};
use crate::json::{AnyValue, JsonError, Problem, Reading, Skipped, Text};
use crate::key::{Algorithm, ImportRules, KeyId, KeyRing};

/// The usable keys of a JWK set.
///
/// Other keys are [left out](Self::left_out), each with its reason, and the rest works (RFC 7517 §5). Keys of unknown
/// types, for unknown algorithms or for other uses are left out, and so are keys that are malformed or weak. In a set
/// with public keys, shared secrets are left out too, because somebody who may see the public keys may not see the
/// secrets.
///
/// A set has at most [`Jwk::MAX_BYTES`] bytes; the number of its keys and members is not limited otherwise.
///
/// ```
/// use countersign_jwt::key::JwkSet;
///
/// let set = JwkSet::parse(br#"{"keys": [
///     {"kty": "OKP", "crv": "Ed25519", "kid": "2026-01", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
///     {"kty": "OKP", "crv": "X25519", "use": "enc", "x": "3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08"}
/// ]}"#)?;
/// let ring = set.to_ring()?;
/// assert!(ring.get("2026-01").is_some());
/// assert_eq!(set.left_out().for_something_else(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct JwkSet {
    keys: Vec<Jwk>,
    /// The place of each key in the set.
    positions: Vec<usize>,
    left_out: LeftOut,
    /// The public parts of private keys that could not be read as a whole.
    exposed: Vec<Vec<u8>>,
    /// The ids of shared secrets that could not be read.
    spoilt: Vec<KeyId>,
}

/// The keys of a set that were left out: how many, and the reasons for the first few. It contains nothing of a key, so
/// it can go to a log.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LeftOut {
    faulty: Reasons,
    elsewhere: Reasons,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Reasons {
    /// The first reasons, at most [`MOST_REASONS`], each with the key's place in the set.
    first: Vec<(usize, JwkError)>,
    count: usize,
}

/// The keys of a set that a verifier can use.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UsableKeys {
    /// The usable keys. Keys that share an id have different algorithms, and a token chooses by both.
    pub ring: KeyRing,
    /// The keys that were left out.
    pub left_out: LeftOut,
}

/// The reason why a key is left out.
enum NotTaken {
    /// The key should be good and is not.
    Faulty(JwkError),
    /// The key is good for something else.
    Elsewhere(JwkError),
}

impl From<JwkError> for NotTaken {
    fn from(error: JwkError) -> Self {
        match error {
            JwkError::UnknownKeyType | JwkError::UnknownAlgorithm | JwkError::OtherUse => {
                Self::Elsewhere(error)
            }
            error => Self::Faulty(error),
        }
    }
}

impl JwkSet {
    /// Parses a JWK set.
    ///
    /// # Errors
    /// [`JwkError`] if the text is not a set: not strict JSON, longer than 64 KiB, or without a list `keys`. A fault of
    /// one key is not an error of the set.
    pub fn parse(text: &[u8]) -> Result<Self, JwkError> {
        if text.len() > Jwk::MAX_BYTES {
            return Err(JwkError::TooLong);
        }
        let mut set = Self::from_iter([]);
        read_keys(text, |position, key| set.take(position, key))?;
        set.separate();
        Ok(set)
    }

    /// The keys that could be read, in their order. Whether they are strong enough shows when they are used.
    #[must_use]
    pub fn keys(&self) -> &[Jwk] {
        &self.keys
    }

    /// The keys that could not be read, or are for something else.
    #[must_use]
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// A ring of the keys that may verify.
    ///
    /// # Errors
    /// The fault of the first key, if no key is left. A set in which all keys are for something else gives an empty
    /// ring.
    pub fn to_ring(&self) -> Result<KeyRing, JwkError> {
        self.to_ring_with(ImportRules::strict())
    }

    /// A ring of the keys that may verify, as [`JwkSet::to_ring`] makes it, under other rules for their strength.
    ///
    /// # Errors
    /// Those of [`JwkSet::to_ring`], except for what the rules accept.
    pub fn to_ring_with(&self, rules: ImportRules) -> Result<KeyRing, JwkError> {
        self.usable(rules, None).into_ring()
    }

    /// The keys that may verify under these rules. With `only`, these are the keys of that algorithm, which is also
    /// taken for keys that do not name theirs.
    #[must_use]
    pub fn usable(&self, rules: ImportRules, only: Option<Algorithm>) -> UsableKeys {
        self.select(rules, |key| match only {
            None => Ok(key.clone()),
            Some(only) => key.clone().with_algorithm(only).map_err(NotTaken::Elsewhere),
        })
    }

    /// The keys that may verify, of a set that everybody can read. A key that does not name its algorithm is for the
    /// first of `algorithms` that fits it.
    ///
    /// Shared secrets are left out. Private keys are left out too, with every public key that belongs to one, because
    /// everybody can sign with it.
    #[must_use]
    pub fn published(&self, algorithms: &[Algorithm]) -> UsableKeys {
        let private = self.keys.iter().filter(|key| key.is_private()).filter_map(Jwk::public_bytes);
        let exposed: Vec<&[u8]> = private.chain(self.exposed.iter().map(Vec::as_slice)).collect();
        self.select(ImportRules::strict(), |key| {
            let Some(public) = key.public_bytes() else { return Err(JwkError::Secret.into()) };
            if exposed.contains(&public) {
                return Err(JwkError::Private.into());
            }
            let fitting = algorithms.iter().find_map(|algorithm| key.clone().with_algorithm(*algorithm).ok());
            fitting.ok_or(NotTaken::Elsewhere(JwkError::OtherAlgorithm))
        })
    }

    fn select(&self, rules: ImportRules, choose: impl Fn(&Jwk) -> Result<Jwk, NotTaken>) -> UsableKeys {
        let (mut ring, mut left_out) = (KeyRing::new(), self.left_out.clone());
        let mut good = Vec::with_capacity(self.keys.len());
        for (key, position) in self.keys.iter().zip(&self.positions) {
            match choose(key).and_then(|key| Ok(key.verifying_key_with(rules)?)) {
                Ok(key) => good.push((*position, key)),
                Err(reason) => left_out.add(*position, reason),
            }
        }
        for (position, key) in &good {
            // Of two different keys with one id, neither is the one that a token names. One key that is listed twice
            // is.
            let is_ambiguous = good.iter().any(|(_, other)| {
                other.key_id() == key.key_id()
                    && other.algorithm() == key.algorithm()
                    && !other.is_same_key(key)
                    && (key.public_key().is_none() || other.public_key() != key.public_key())
            });
            // A secret is known by nothing but its id, so another secret with that id spoils it even if it is
            // malformed.
            let is_spoilt = key.public_key().is_none() && self.spoilt.contains(key.key_id());
            if is_ambiguous || is_spoilt || ring.insert_of_set(key.clone()).is_err() {
                left_out.add(*position, JwkError::DuplicateKeyId.into());
            }
        }
        UsableKeys { ring, left_out }
    }

    /// Takes the next key, or notes why it is left out.
    fn take(&mut self, position: usize, text: &str) {
        let read = Members::parse(text.as_bytes()).and_then(|members| {
            Jwk::read(&members).inspect_err(|_| {
                self.exposed.extend(Jwk::exposed_by(&members));
                if let (Ok(Some("oct")), Ok(Some(id))) = (members.text("kty"), members.text("kid")) {
                    self.spoilt.extend(KeyId::new(id));
                }
            })
        });
        match read {
            Ok(key) => {
                self.keys.push(key);
                self.positions.push(position);
            }
            Err(reason) => self.left_out.add(position, reason.into()),
        }
    }

    /// Leaves shared secrets out of a set with public keys.
    fn separate(&mut self) {
        if self.keys.iter().all(Jwk::is_symmetric) || !self.keys.iter().any(Jwk::is_symmetric) {
            return;
        }
        let (keys, positions) = (std::mem::take(&mut self.keys), std::mem::take(&mut self.positions));
        for (key, position) in keys.into_iter().zip(positions) {
            if key.is_symmetric() {
                self.left_out.add(position, JwkError::Mixed.into());
            } else {
                self.keys.push(key);
                self.positions.push(position);
            }
        }
    }
}

impl UsableKeys {
    /// The ring, or the fault of the first key if no key of the set is left.
    ///
    /// # Errors
    /// Those of [`JwkSet::to_ring`].
    pub fn into_ring(self) -> Result<KeyRing, JwkError> {
        match self.left_out.faulty.first.into_iter().next() {
            Some((_, reason)) if self.ring.is_empty() => Err(reason),
            _ => Ok(self.ring),
        }
    }
}

impl LeftOut {
    /// The number of keys that should be good and are not: malformed, weak, ambiguous, or not to be published.
    #[must_use]
    pub fn faulty(&self) -> usize {
        self.faulty.count
    }

    /// The number of keys for something else: encryption, unknown types of keys, algorithms that are not accepted.
    #[must_use]
    pub fn for_something_else(&self) -> usize {
        self.elsewhere.count
    }

    fn add(&mut self, position: usize, reason: NotTaken) {
        let (reasons, reason) = match reason {
            NotTaken::Faulty(reason) => (&mut self.faulty, reason),
            NotTaken::Elsewhere(reason) => (&mut self.elsewhere, reason),
        };
        reasons.count += 1;
        // The reasons are ordered by the places of their keys, whichever was found first.
        let at = reasons.first.partition_point(|(other, _)| *other < position);
        reasons.first.insert(at, (position, reason));
        reasons.first.truncate(MOST_REASONS);
    }
}

/// Writes one line, such as `keys[2]: JWK member x is invalid; keys[5]: algorithm does not fit the type of the key; 3
/// more`.
impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.faulty.first.iter().chain(&self.elsewhere.first).take(MOST_REASONS);
        let mut more = self.faulty.count + self.elsewhere.count;
        let mut separator = "";
        for (position, reason) in shown {
            write!(f, "{separator}keys[{position}]: {reason}")?;
            (more, separator) = (more - 1, "; ");
        }
        if more > 0 { write!(f, "{separator}{more} more") } else { Ok(()) }
    }
}

impl FromIterator<Jwk> for JwkSet {
    fn from_iter<I: IntoIterator<Item = Jwk>>(keys: I) -> Self {
        let keys: Vec<_> = keys.into_iter().collect();
        let positions = (0..keys.len()).collect();
        let left_out = LeftOut::default();
        Self { keys, positions, left_out, exposed: Vec::new(), spoilt: Vec::new() }
    }
}

impl KeyRing {
    /// The public keys as a JWK set, to be published. Shared secrets are left out.
    ///
    /// ```
    /// use countersign_jwt::key::JwkSet;
    /// use countersign_jwt::{Algorithm, KeyRing, SigningKey};
    ///
    /// # let random = countersign_testkit::SeededRandom::default();
    /// let key = SigningKey::generate(Algorithm::Es256, &random)?;
    /// let mut ring = KeyRing::new();
    /// ring.insert(key.verifying_key())?;
    ///
    /// let published = JwkSet::parse(ring.to_jwk_set().as_bytes())?;
    /// assert_eq!(published.keys()[0].key_id(), Some(key.key_id()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn to_jwk_set(&self) -> String {
        let keys: Vec<_> = self.iter().filter_map(|key| key.public_members().map(Value::Object)).collect();
        json!({ "keys": keys }).to_string()
    }
}

/// Whether a text is a set, whatever its keys are.
pub(crate) fn is_set(text: &[u8]) -> bool {
    read_keys(text, |_, _| ()).is_ok()
}

/// Reads a set and passes on the text of each of its keys, which is judged by itself.
fn read_keys(text: &[u8], take: impl FnMut(usize, &str)) -> Result<(), JwkError> {
    let reading = Reading::bounded_by_length();
    reading.parse(text, SetSeed { reading: &reading, take }).map_err(|problem| match problem {
        Problem::Json(error) => JwkError::Json(error),
        Problem::Missing(name) => JwkError::Missing(name),
        Problem::Invalid(name) => JwkError::Invalid(name),
        Problem::Refused(_) => JwkError::Json(JsonError::Syntax),
    })
}

struct SetSeed<'a, F> {
    reading: &'a Reading,
    take: F,
}

impl<'de, F: FnMut(usize, &str)> DeserializeSeed<'de> for SetSeed<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(usize, &str)> Visitor<'de> for SetSeed<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a set of keys")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let reading = self.reading;
        let mut names = std::collections::HashSet::new();
        while let Some(Text(name)) = map.next_key()? {
            let is_keys = name == "keys";
            if !names.insert(name) {
                return Err(reading.duplicate());
            }
            if is_keys {
                reading.entering("keys");
                map.next_value_seed(KeysSeed(&mut self.take))?;
                reading.left();
            } else {
                map.next_value_seed(Skipped(AnyValue { reading, depth: 1 }))?;
            }
        }
        if names.contains("keys") { Ok(()) } else { Err(reading.fail(Problem::Missing("keys"))) }
    }
}

struct KeysSeed<'a, F>(&'a mut F);

impl<'de, F: FnMut(usize, &str)> DeserializeSeed<'de> for KeysSeed<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(usize, &str)> Visitor<'de> for KeysSeed<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of keys")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut position = 0;
        while let Some(key) = seq.next_element::<&RawValue>()? {
            (self.0)(position, key.get());
            position += 1;
        }
        Ok(())
    }
}

/// The number of keys whose reasons are kept: enough to find the fault, and never more than some lines in a log.
const MOST_REASONS: usize = 8;
