//! The members of a JWK's JSON object.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use zeroize::{Zeroize, Zeroizing};

use super::JwkError;
use crate::base64url;
use crate::json::{AnyValue, JsonError, Problem, Reading, Skipped, Text};

/// The members of a JWK that are known here, as they were read. Values that may be secret are wiped when they are
/// dropped.
///
/// Unknown members are parsed, because a repeated name is an error wherever it stands (SEC-007), and not kept. A key
/// may therefore have any number of them: its length alone bounds what they cost.
pub(crate) struct Members(BTreeMap<&'static str, Member>);

enum Member {
    Text(Zeroizing<String>),
    Texts(Vec<String>),
    Other,
}

/// The members of all kinds of keys that are read here.
const KNOWN: [&str; 17] =
    ["kty", "alg", "kid", "use", "key_ops", "crv", "x", "y", "n", "e", "k", "d", "p", "q", "dp", "dq", "qi"];
/// The further primes of an RSA key (RFC 7518 §6.3.2.7). Only their presence is noted.
const OTHER_PRIMES: &str = "oth";

impl Members {
    /// Parses one JSON object.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, JwkError> {
        let reading = Reading::bounded_by_length();
        reading.parse(text, MembersSeed(&reading)).map_err(|problem| match problem {
            Problem::Json(error) => JwkError::Json(error),
            Problem::Missing(_) | Problem::Invalid(_) | Problem::Refused(_) => {
                JwkError::Json(JsonError::Syntax)
            }
        })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn text(&self, name: &'static str) -> Result<Option<&str>, JwkError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Member::Text(text)) => Ok(Some(text)),
            Some(_) => Err(JwkError::Invalid(name)),
        }
    }

    /// A list of texts, none of them twice (RFC 7517 §4.3).
    pub(super) fn texts(&self, name: &'static str) -> Result<Option<&[String]>, JwkError> {
        let list = match self.0.get(name) {
            None => return Ok(None),
            Some(Member::Texts(list)) => list,
            Some(_) => return Err(JwkError::Invalid(name)),
        };
        let different: HashSet<_> = list.iter().collect();
        if different.len() == list.len() { Ok(Some(list)) } else { Err(JwkError::Invalid(name)) }
    }

    pub(super) fn bytes(&self, name: &'static str) -> Result<Option<Zeroizing<Vec<u8>>>, JwkError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let bytes = base64url::decode(text).map_err(|_| JwkError::Invalid(name))?;
        Ok(Some(Zeroizing::new(bytes)))
    }

    pub(super) fn required_bytes(&self, name: &'static str) -> Result<Zeroizing<Vec<u8>>, JwkError> {
        self.bytes(name)?.ok_or(JwkError::Missing(name))
    }

    pub(super) fn optional_sized(
        &self,
        name: &'static str,
        length: usize,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, JwkError> {
        match self.bytes(name)? {
            Some(bytes) if bytes.len() != length => Err(JwkError::Invalid(name)),
            bytes => Ok(bytes),
        }
    }

    pub(super) fn sized(&self, name: &'static str, length: usize) -> Result<Zeroizing<Vec<u8>>, JwkError> {
        self.optional_sized(name, length)?.ok_or(JwkError::Missing(name))
    }

    /// A number as big-endian bytes without leading zeros (RFC 7518 §2, `Base64urlUInt`).
    pub(super) fn number(&self, name: &'static str) -> Result<Zeroizing<Vec<u8>>, JwkError> {
        let bytes = self.required_bytes(name)?;
        match bytes.first() {
            None | Some(0) => Err(JwkError::Invalid(name)),
            Some(_) => Ok(bytes),
        }
    }
}

/// A JWK's members as they will be written, wiped when dropped, because some may be secret.
pub(super) struct Written(Map<String, Value>);

impl Written {
    pub(super) fn new(members: Map<String, Value>) -> Self {
        Self(members)
    }

    pub(super) fn insert(&mut self, name: &str, bytes: &[u8]) {
        self.0.insert(name.to_owned(), base64url::encode(bytes).into());
    }

    pub(super) fn to_json(&self) -> Option<Zeroizing<String>> {
        serde_json::to_string(&self.0).ok().map(Zeroizing::new)
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        for value in self.0.values_mut() {
            if let Value::String(text) = value {
                text.zeroize();
            }
        }
    }
}

struct MembersSeed<'a>(&'a Reading);

impl<'de> DeserializeSeed<'de> for MembersSeed<'_> {
    type Value = Members;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Members, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MembersSeed<'_> {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let reading = self.0;
        let mut members = BTreeMap::new();
        let mut others: HashSet<Cow<'de, str>> = HashSet::new();
        while let Some(Text(name)) = map.next_key()? {
            reading.count_member()?;
            let known = KNOWN.into_iter().chain([OTHER_PRIMES]).find(|known| *known == name);
            let is_new = match known {
                Some(known) => {
                    let value = map.next_value_seed(MemberSeed(below(reading)))?;
                    members.insert(known, value).is_none()
                }
                None => {
                    map.next_value_seed(Skipped(below(reading)))?;
                    others.insert(name)
                }
            };
            if !is_new {
                return Err(reading.duplicate());
            }
        }
        Ok(Members(members))
    }
}

/// A value of the outermost object.
fn below(reading: &Reading) -> AnyValue<'_> {
    AnyValue { reading, depth: 1 }
}

/// The seed for a text or a list of texts. Any other value is not kept.
struct MemberSeed<'a>(AnyValue<'a>);

impl<'de> DeserializeSeed<'de> for MemberSeed<'_> {
    type Value = Member;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Member, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MemberSeed<'_> {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_unit<E>(self) -> Result<Member, E> {
        Ok(Member::Other)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Member, E> {
        Ok(Member::Text(Zeroizing::new(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Member, A::Error> {
        let mut texts = Some(Vec::new());
        while let Some(element) = seq.next_element_seed(MemberSeed(self.0.nested()?))? {
            self.0.reading.count_element()?;
            texts = match (texts, element) {
                (Some(mut texts), Member::Text(text)) => {
                    texts.push(text.as_str().to_owned());
                    Some(texts)
                }
                _ => None,
            };
        }
        Ok(texts.map_or(Member::Other, Member::Texts))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Member, A::Error> {
        Skipped(self.0).visit_map(map).map(|()| Member::Other)
    }
}
