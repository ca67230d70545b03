//! The protected header of a token.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};

use crate::json::{AnyValue, Problem, Reading, Skipped, Text};
use crate::jws;
use crate::key::{Algorithm, KeyId, KeyRing, VerifyingKey};
use crate::verify::VerifyError;

/// The protected header of a verified token (RFC 7515 §4).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    algorithm: Algorithm,
    key_id: Option<KeyId>,
    typ: Option<String>,
}

impl Header {
    pub(super) fn new(key: &VerifyingKey, names_key: bool, typ: Option<&str>) -> Self {
        Self {
            algorithm: key.algorithm(),
            key_id: names_key.then(|| key.key_id().clone()),
            typ: typ.map(str::to_owned),
        }
    }

    /// `alg`: the algorithm of the key that verified the token.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// `kid`: the id of the key that the token names, if it names one.
    #[must_use]
    pub fn key_id(&self) -> Option<&KeyId> {
        self.key_id.as_ref()
    }

    /// Whether `typ` is the media type `subtype`, such as `at+jwt`, in upper or lower case, with or without
    /// `application/` (RFC 7515 §4.1.9).
    #[must_use]
    pub fn is_type(&self, subtype: &str) -> bool {
        self.typ.as_deref().is_some_and(|typ| media_subtype(typ).eq_ignore_ascii_case(subtype))
    }

    /// `typ`: the media type that the token states, if it states one.
    #[must_use]
    pub fn typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }
}

/// The `typ` of a token whose signature holds.
pub(crate) enum Typ<'a> {
    /// The `typ` of a header that we know byte for byte.
    Known(&'a str),
    Read(Option<String>),
}

impl Typ<'_> {
    /// Whether this is the media type `subtype`, in upper or lower case, with or without `application/` (SEC-014).
    pub(crate) fn is(&self, subtype: &str) -> bool {
        match self {
            Self::Known(typ) => *typ == subtype,
            Self::Read(typ) => {
                typ.as_deref().is_some_and(|typ| media_subtype(typ).eq_ignore_ascii_case(subtype))
            }
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Known(typ) => Some(typ),
            Self::Read(typ) => typ.as_deref(),
        }
    }
}

/// A header as the token states it, before anything is proven.
#[derive(Debug)]
pub(super) struct ParsedHeader {
    algorithm: String,
    pub(super) key_id: Option<String>,
    pub(super) typ: Option<String>,
}

impl ParsedHeader {
    pub(super) fn decode(segment: &str, origin: Origin) -> Result<Self, VerifyError> {
        let text = jws::decode(segment)?;
        let reading = Reading::default();
        reading.parse(&text, HeaderSeed(&reading, origin)).map_err(|problem| match problem {
            Problem::Json(error) => VerifyError::Header(error),
            Problem::Missing(name) | Problem::Invalid(name) => VerifyError::InvalidHeader(name),
            Problem::Refused(name) => VerifyError::RefusedHeader(name),
        })
    }

    /// The one key that may verify this token. Several keys are never tried.
    pub(super) fn choose_key<'k>(&self, ring: &'k KeyRing) -> Result<&'k VerifyingKey, VerifyError> {
        let algorithm = self.algorithm.parse().map_err(|_| VerifyError::Algorithm)?;
        match &self.key_id {
            Some(id) if id.len() > KeyId::MAX_BYTES => Err(VerifyError::InvalidHeader("kid")),
            Some(id) => ring.choose(id, algorithm),
            None => ring.only(algorithm).ok_or(VerifyError::NoKeyNamed),
        }
    }
}

/// The origin of a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// The token is ours. We write none of the refused members.
    Own,
    /// The token is another issuer's, which may say where its keys are. That is ignored.
    Foreign,
}

/// Members that include a key or say where one is. A key is never taken from them (SEC-011).
const KEYS: [&str; 4] = ["jwk", "jku", "x5u", "x5c"];

/// Members whose presence is an error: extensions, none of which is implemented here, so none can be understood
/// (SEC-012, SEC-013), and encryption (SEC-015).
const REFUSED: [&str; 4] = ["crit", "b64", "enc", "zip"];

struct HeaderSeed<'a>(&'a Reading, Origin);

impl<'de> DeserializeSeed<'de> for HeaderSeed<'_> {
    type Value = ParsedHeader;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ParsedHeader, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderSeed<'_> {
    type Value = ParsedHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a header")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ParsedHeader, A::Error> {
        let Self(reading, origin) = self;
        let keys: &[&str] = match origin {
            Origin::Own => &KEYS,
            Origin::Foreign => &[],
        };
        let (mut algorithm, mut key_id, mut typ, mut content) = (None, None, None, None);
        let mut others = HashSet::new();
        while let Some(name) = map.next_key::<Text<'de>>()? {
            reading.count_member()?;
            let (slot, name) = match name.0.as_ref() {
                "alg" => (&mut algorithm, "alg"),
                "kid" => (&mut key_id, "kid"),
                "typ" => (&mut typ, "typ"),
                "cty" => (&mut content, "cty"),
                other => {
                    if let Some(refused) = REFUSED.iter().chain(keys).find(|refused| **refused == other) {
                        return Err(reading.fail(Problem::Refused(refused)));
                    }
                    if !others.insert(name.0.into_owned()) {
                        return Err(reading.duplicate());
                    }
                    map.next_value_seed(Skipped(AnyValue { reading, depth: 1 }))?;
                    continue;
                }
            };
            if slot.is_some() {
                return Err(reading.duplicate());
            }
            reading.entering(name);
            *slot = Some(map.next_value::<String>()?);
        }
        if content.is_some_and(|content| is_jwt(&content)) {
            return Err(reading.fail(Problem::Refused("cty")));
        }
        let algorithm = algorithm.ok_or_else(|| reading.fail(Problem::Missing("alg")))?;
        Ok(ParsedHeader { algorithm, key_id, typ })
    }
}

/// Whether a content type says that the payload is itself a token.
fn is_jwt(content: &str) -> bool {
    media_subtype(content).eq_ignore_ascii_case("jwt")
}

/// A media type without the `application/` that may be omitted (RFC 7515 §4.1.9).
fn media_subtype(media_type: &str) -> &str {
    const PREFIX: &str = "application/";
    match media_type.split_at_checked(PREFIX.len()) {
        Some((prefix, subtype)) if prefix.eq_ignore_ascii_case(PREFIX) => subtype,
        _ => media_type,
    }
}
