//! Strict JSON for texts that arrive inside tokens and keys.
//!
//! General JSON readers keep the last of two members with the same name and accept any depth. Two readers of one token
//! may then see different claims. Here a repeated name is therefore an error, as are texts that are too deep or too
//! wide (SEC-004, SEC-005, SEC-007).

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The deepest nesting of objects and arrays; the outermost object counts as one.
pub(crate) const MAX_DEPTH: usize = 32;
/// The most members that all objects of one text may have together.
pub(crate) const MAX_MEMBERS: usize = 256;
/// The most elements that all arrays of one text may have together. A value in memory is much larger than its two bytes
/// of text, so the length of the text alone does not bound the memory.
pub(crate) const MAX_ELEMENTS: usize = 1024;

/// The reason why a text is not acceptable JSON.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The bytes are not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// The text is not one JSON object and nothing else.
    #[error("not a JSON object")]
    Syntax,
    /// An object has two members with the same name.
    #[error("duplicate member name")]
    DuplicateMember,
    /// The text is nested deeper than 32 levels, or has more than 256 members or more than 1,024 array elements.
    #[error("too deep or too many members")]
    TooLarge,
}

/// Parses one JSON object. No member's name may occur twice, at any depth. The object may have at most 32 levels, 256
/// members and 1,024 elements of arrays.
///
/// ```
/// use countersign_jwt::json::{self, JsonError};
///
/// assert_eq!(json::object(br#"{"sub": "ada"}"#)?["sub"], "ada");
/// // Two readers of this text could see two different users.
/// assert_eq!(json::object(br#"{"sub": "ada", "sub": "root"}"#), Err(JsonError::DuplicateMember));
/// # Ok::<(), JsonError>(())
/// ```
///
/// # Errors
/// [`JsonError`] if the text is not such an object.
pub fn object(text: &[u8]) -> Result<Map<String, Value>, JsonError> {
    let reading = Reading::default();
    reading.parse(text, Object(&reading)).map_err(|problem| match problem {
        Problem::Json(error) => error,
        Problem::Missing(_) | Problem::Invalid(_) | Problem::Refused(_) => JsonError::Syntax,
    })
}

/// Whether [`object`] would accept an object with these members and `others` more.
#[must_use]
pub fn within_limits(members: &Map<String, Value>, others: usize) -> bool {
    fn spend(value: &Value, depth: usize, members: &mut usize, elements: &mut usize) -> bool {
        match value {
            Value::Object(map) => {
                *members += map.len();
                depth < MAX_DEPTH && map.values().all(|inner| spend(inner, depth + 1, members, elements))
            }
            Value::Array(list) => {
                *elements += list.len();
                depth < MAX_DEPTH && list.iter().all(|inner| spend(inner, depth + 1, members, elements))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        }
    }

    let (mut count, mut elements) = (members.len() + others, 0);
    members.values().all(|value| spend(value, 1, &mut count, &mut elements))
        && count <= MAX_MEMBERS
        && elements <= MAX_ELEMENTS
}

/// The fault of a text that is read into a type of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Problem {
    Json(JsonError),
    /// A required member is absent.
    Missing(&'static str),
    /// A member's value has the wrong type or is out of range.
    Invalid(&'static str),
    /// A member is present that must not be.
    Refused(&'static str),
}

/// One pass over one text: what may still be read, and what went wrong.
///
/// The cause travels beside serde's error, because serde's error quotes the input, which may not reach a log.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    members: Cell<usize>,
    elements: Cell<usize>,
    by_length: bool,
    member: Cell<Option<&'static str>>,
    problem: Cell<Option<Problem>>,
}

impl Reading {
    /// A reading that continues after so many members.
    pub(crate) fn after(members: usize) -> Self {
        Self { members: Cell::new(members), ..Self::default() }
    }

    /// A reading that counts nothing. It serves texts of a bounded length of which only known members are kept, so that
    /// the time and memory for the other members are bounded by their length.
    pub(crate) fn bounded_by_length() -> Self {
        Self { by_length: true, ..Self::default() }
    }

    /// Reads `text` with `seed`, to its end.
    pub(crate) fn parse<'de, S: DeserializeSeed<'de>>(
        &self,
        text: &'de [u8],
        seed: S,
    ) -> Result<S::Value, Problem> {
        let text = str::from_utf8(text).map_err(|_| Problem::Json(JsonError::NotUtf8))?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let parsed = seed.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
        parsed.map_err(|error| match (self.problem.get(), self.member.get()) {
            (Some(problem), _) => problem,
            (None, Some(name)) if error.is_data() => Problem::Invalid(name),
            (None, _) => Problem::Json(JsonError::Syntax),
        })
    }

    /// Notes that the value of the member `name` is read next, so that a wrong type is attributed to it.
    pub(crate) fn entering(&self, name: &'static str) {
        self.member.set(Some(name));
    }

    /// Notes that the value was read to its end.
    pub(crate) fn left(&self) {
        self.member.set(None);
    }

    /// Counts a member.
    pub(crate) fn count_member<E: Error>(&self) -> Result<(), E> {
        let members = self.members.get() + 1;
        if members > MAX_MEMBERS && !self.by_length {
            return Err(self.fail(Problem::Json(JsonError::TooLarge)));
        }
        self.members.set(members);
        Ok(())
    }

    /// Notes what went wrong and makes the error that ends the reading.
    pub(crate) fn fail<E: Error>(&self, problem: Problem) -> E {
        self.problem.set(Some(problem));
        E::custom("refused")
    }

    pub(crate) fn duplicate<E: Error>(&self) -> E {
        self.fail(Problem::Json(JsonError::DuplicateMember))
    }

    pub(crate) fn count_element<E: Error>(&self) -> Result<(), E> {
        let elements = self.elements.get() + 1;
        if elements > MAX_ELEMENTS && !self.by_length {
            return Err(self.fail(Problem::Json(JsonError::TooLarge)));
        }
        self.elements.set(elements);
        Ok(())
    }
}

/// The seed for the outermost object.
struct Object<'a>(&'a Reading);

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        members(self.0, 1, map)
    }
}

/// The seed for any value, `depth` levels below the outermost object.
#[derive(Clone, Copy)]
pub(crate) struct AnyValue<'a> {
    pub(crate) reading: &'a Reading,
    pub(crate) depth: usize,
}

impl AnyValue<'_> {
    pub(crate) fn nested<E: Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(self.reading.fail(Problem::Json(JsonError::TooLarge)));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for AnyValue<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let element = self.nested()?;
        let mut list = Vec::new();
        while let Some(value) = seq.next_element_seed(element)? {
            self.reading.count_element()?;
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        let inner = self.nested()?;
        members(self.reading, inner.depth, map).map(Value::Object)
    }
}

/// The seed for any value that is checked as [`AnyValue`] checks it but not kept, so that a value that nobody reads
/// takes no memory. A value in memory can be a hundred times as large as its text, and headers are read before anything
/// is proven (SEC-025).
#[derive(Clone, Copy)]
pub(crate) struct Skipped<'a>(pub(crate) AnyValue<'a>);

impl<'de> DeserializeSeed<'de> for Skipped<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Skipped<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let element = Self(self.0.nested()?);
        while seq.next_element_seed(element)?.is_some() {
            element.0.reading.count_element()?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let member = Self(self.0.nested()?);
        let mut names = HashSet::new();
        while let Some(Text(name)) = map.next_key()? {
            member.0.reading.count_member()?;
            if !names.insert(name) {
                return Err(member.0.reading.duplicate());
            }
            map.next_value_seed(member)?;
        }
        Ok(())
    }
}

/// The members of an object that lies `depth` levels deep.
fn members<'de, A: MapAccess<'de>>(
    reading: &Reading,
    depth: usize,
    mut map: A,
) -> Result<Map<String, Value>, A::Error> {
    let mut members = Map::new();
    while let Some(name) = map.next_key::<String>()? {
        reading.count_member()?;
        if members.contains_key(&name) {
            return Err(reading.duplicate());
        }
        let value = map.next_value_seed(AnyValue { reading, depth })?;
        members.insert(name, value);
    }
    Ok(members)
}

/// A text, such as a member's name, borrowed from the input unless it has escapes.
pub(crate) struct Text<'de>(pub(crate) Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(TextVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_004_only_one_utf8_object_is_json() {
        for (case, text, expected) in [
            ("empty", &b""[..], JsonError::Syntax),
            ("array", b"[]", JsonError::Syntax),
            ("string", b"\"a\"", JsonError::Syntax),
            ("null", b"null", JsonError::Syntax),
            ("byte order mark", b"\xEF\xBB\xBF{}", JsonError::Syntax),
            ("UTF-16", b"\xFF\xFE{\0}\0", JsonError::NotUtf8),
            ("UTF-16 without mark", b"{\0}\0", JsonError::Syntax),
            ("invalid UTF-8", b"{\"a\":\"\xC3\x28\"}", JsonError::NotUtf8),
            ("lone surrogate in a value", br#"{"a":"\uD800"}"#, JsonError::Syntax),
            ("lone low surrogate", br#"{"a":"\uDC00"}"#, JsonError::Syntax),
            ("lone surrogate in a name", br#"{"\uD800":1}"#, JsonError::Syntax),
            ("trailing garbage", b"{} x", JsonError::Syntax),
            ("second object", b"{}{}", JsonError::Syntax),
            ("trailing comma", br#"{"a":1,}"#, JsonError::Syntax),
            ("comment", b"{/**/}", JsonError::Syntax),
            ("number beyond a double", br#"{"a":1e400}"#, JsonError::Syntax),
            ("NaN", br#"{"a":NaN}"#, JsonError::Syntax),
            ("raw control character", b"{\"a\":\"\n\"}", JsonError::Syntax),
        ] {
            assert_eq!(object(text), Err(expected), "{case}");
        }
        assert!(object(b" {\"a\" : \"\\uD83D\\uDE00\"}\n").is_ok());
    }

    #[test]
    fn sec_005_depth_and_members_are_bounded() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert!(object(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(object(nested(MAX_DEPTH + 1).as_bytes()), Err(JsonError::TooLarge));
        assert_eq!(object(nested(3_000).as_bytes()), Err(JsonError::TooLarge));

        let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert!(object(objects(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(object(objects(MAX_DEPTH + 1).as_bytes()), Err(JsonError::TooLarge));

        let wide = |members: usize| {
            let members: Vec<_> = (0..members).map(|n| format!("\"{n}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert!(object(wide(MAX_MEMBERS).as_bytes()).is_ok());
        assert_eq!(object(wide(MAX_MEMBERS + 1).as_bytes()), Err(JsonError::TooLarge));
        let spread = format!("{{\"a\":{},\"b\":{}}}", wide(127), wide(128));
        assert_eq!(object(spread.as_bytes()), Err(JsonError::TooLarge), "members count in total");

        let list = |elements: usize| format!("{{\"a\":[{}]}}", vec!["0"; elements].join(","));
        assert!(object(list(MAX_ELEMENTS).as_bytes()).is_ok());
        assert_eq!(object(list(MAX_ELEMENTS + 1).as_bytes()), Err(JsonError::TooLarge));
    }

    #[test]
    fn sec_005_the_parser_fits_a_small_stack() {
        let parser = std::thread::Builder::new().stack_size(256 * 1024).spawn(|| {
            let deep = format!("{}1{}", "{\"a\":[".repeat(5_000), "]}".repeat(5_000));
            object(deep.as_bytes())
        });
        assert_eq!(parser.unwrap().join().unwrap(), Err(JsonError::TooLarge));
    }

    #[test]
    fn sec_007_duplicate_members_are_refused_at_any_depth_after_unescaping() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"sub":1,"\u0073ub":2}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[{"a":1},{"b":1,"\u0062":2}]}"#,
        ] {
            assert_eq!(object(text.as_bytes()), Err(JsonError::DuplicateMember), "{text}");
        }
        assert!(object(br#"{"a":1,"A":1,"x":{"a":1}}"#).is_ok());
    }

    #[test]
    fn limits_for_issuing_agree_with_limits_for_reading() {
        for (depth, members) in [(32, 256), (33, 40), (5, 257), (5, 256), (32, 257)] {
            let mut value = Value::Number(1.into());
            for _ in 1..depth {
                value = Value::Object(Map::from_iter([("n".to_owned(), value)]));
            }
            let mut map = Map::from_iter([("deep".to_owned(), value)]);
            while map.len() < members - depth + 1 {
                map.insert(format!("m{}", map.len()), Value::Null);
            }
            let text = serde_json::to_vec(&map).unwrap();
            assert_eq!(within_limits(&map, 0), object(&text).is_ok(), "{depth} deep, {members} members");
        }
    }
}
