//! A second opinion on strict JSON: `serde_json` says what it is, and a count of what it dropped what it is not.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_jwt::JsonError;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Why a strict reader may refuse a text; empty if it has to take it.
pub(crate) fn faults(text: &[u8]) -> (BTreeSet<&'static str>, Map<String, Value>) {
    let mut faults = BTreeSet::new();
    if std::str::from_utf8(text).is_err() {
        faults.insert("not UTF-8");
    }
    let object = match serde_json::from_slice(text) {
        Ok(Value::Object(object)) => object,
        _ => {
            faults.insert("syntax");
            Map::new()
        }
    };
    if let Ok(written) = serde_json::from_slice::<Size>(text) {
        let mut kept = Size::default();
        object.values().for_each(|value| kept.add(&Size::of(value)));
        if !object.is_empty() {
            kept.members += object.len();
            kept.depth += 1;
        }
        if written.members > kept.members {
            faults.insert("duplicate member");
        }
        if written.depth > 32 || written.members > 256 || written.elements > 1024 {
            faults.insert("too large");
        }
    }
    (faults, object)
}

/// Whether a refusal names a reason that is there. What reads from front to back may stop before it comes to the end
/// of what is no JSON, or to the second one of two members.
pub(crate) fn explains<T: Borrow<str> + Ord>(faults: &BTreeSet<T>, reason: &str) -> bool {
    faults.contains(reason)
        || reason != "not UTF-8" && (faults.contains("syntax") || faults.contains("duplicate member"))
}

/// What an error says about a text, in the words of [`faults`].
pub(crate) fn fault(error: JsonError) -> &'static str {
    match error {
        JsonError::NotUtf8 => "not UTF-8",
        JsonError::Syntax => "syntax",
        JsonError::DuplicateMember => "duplicate member",
        JsonError::TooLarge => "too large",
        other => panic!("unknown error {other}"),
    }
}

/// Strict base64url by the crate's portable code; `None` for everything but the one spelling.
pub(crate) fn decode(segment: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(segment).ok()?;
    assert_eq!(URL_SAFE_NO_PAD.encode(&bytes), segment, "one spelling for the same bytes");
    Some(bytes)
}

pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// How large a text is as it is written, members that a map would drop included.
#[derive(Default)]
struct Size {
    depth: usize,
    members: usize,
    elements: usize,
}

impl Size {
    fn of(value: &Value) -> Self {
        let mut size = Self::default();
        match value {
            Value::Array(list) => {
                size.elements = list.len();
                list.iter().for_each(|inner| size.add(&Self::of(inner)));
                size.depth += 1;
            }
            Value::Object(map) => {
                size.members = map.len();
                map.values().for_each(|inner| size.add(&Self::of(inner)));
                size.depth += 1;
            }
            _ => {}
        }
        size
    }

    fn add(&mut self, inner: &Self) {
        self.depth = self.depth.max(inner.depth);
        self.members += inner.members;
        self.elements += inner.elements;
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Count;

        impl<'de> Visitor<'de> for Count {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_bool<E>(self, _: bool) -> Result<Size, E> {
                Ok(Size::default())
            }

            fn visit_i64<E>(self, _: i64) -> Result<Size, E> {
                Ok(Size::default())
            }

            fn visit_u64<E>(self, _: u64) -> Result<Size, E> {
                Ok(Size::default())
            }

            fn visit_f64<E>(self, _: f64) -> Result<Size, E> {
                Ok(Size::default())
            }

            fn visit_str<E>(self, _: &str) -> Result<Size, E> {
                Ok(Size::default())
            }

            fn visit_unit<E>(self) -> Result<Size, E> {
                Ok(Size::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Size, A::Error> {
                let mut size = Size::default();
                while let Some(inner) = list.next_element::<Size>()? {
                    size.elements += 1;
                    size.add(&inner);
                }
                size.depth += 1;
                Ok(size)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Size, A::Error> {
                let mut size = Size::default();
                while let Some((_, inner)) = map.next_entry::<String, Size>()? {
                    size.members += 1;
                    size.add(&inner);
                }
                size.depth += 1;
                Ok(size)
            }
        }

        deserializer.deserialize_any(Count)
    }
}
