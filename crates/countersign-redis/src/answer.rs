//! Reading Redis's answers as values.

use std::collections::HashMap;

use redis::Value;

use crate::failure::Failure;

const WHAT: &str = "an answer";

/// A whole number.
pub(crate) fn int(value: &Value) -> Result<i64, Failure> {
    match value {
        Value::Int(number) => Ok(*number),
        _ => Err(Failure::Malformed(WHAT)),
    }
}

/// The number of changes that a script reports.
pub(crate) fn count(value: &Value) -> Result<u64, Failure> {
    u64::try_from(int(value)?).map_err(|_| Failure::Malformed(WHAT))
}

/// A script's answer of 1 for yes or 0 for no.
pub(crate) fn yes(value: &Value) -> Result<bool, Failure> {
    Ok(int(value)? != 0)
}

/// Bytes; `None` for nil.
pub(crate) fn bytes(value: Value) -> Result<Option<Vec<u8>>, Failure> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(Some(text.into_bytes())),
        Value::Okay => Ok(Some(b"OK".to_vec())),
        _ => Err(Failure::Malformed(WHAT)),
    }
}

/// Text; `None` for nil.
pub(crate) fn optional_text(value: Value) -> Result<Option<String>, Failure> {
    let text = bytes(value)?.map(String::from_utf8).transpose();
    text.map_err(|_| Failure::Malformed(WHAT))
}

/// Text.
pub(crate) fn text(value: Value) -> Result<String, Failure> {
    optional_text(value)?.ok_or(Failure::Malformed(WHAT))
}

/// A list. A map becomes a list of keys and values in turn.
pub(crate) fn list(value: Value) -> Result<Vec<Value>, Failure> {
    match value {
        Value::Array(values) | Value::Set(values) => Ok(values),
        Value::Map(pairs) => Ok(pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()),
        _ => Err(Failure::Malformed(WHAT)),
    }
}

/// A list of exactly `N` values.
pub(crate) fn exactly<const N: usize>(value: Value) -> Result<[Value; N], Failure> {
    list(value)?.try_into().map_err(|_| Failure::Malformed(WHAT))
}

/// A map as pairs of a name and a value.
pub(crate) fn pairs(value: Value) -> Result<Vec<(String, Value)>, Failure> {
    let mut values = list(value)?.into_iter();
    let mut pairs = Vec::with_capacity(values.len() / 2);
    while let (Some(name), Some(value)) = (values.next(), values.next()) {
        pairs.push((text(name)?, value));
    }
    Ok(pairs)
}

/// The fields of a hash; none if there is no such hash.
pub(crate) fn fields(value: Value) -> Result<HashMap<String, Value>, Failure> {
    Ok(pairs(value)?.into_iter().collect())
}

/// A list of texts.
pub(crate) fn texts(value: Value) -> Result<Vec<String>, Failure> {
    list(value)?.into_iter().map(text).collect()
}
