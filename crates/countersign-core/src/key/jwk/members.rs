//! The members of a JWK's JSON object.

use serde_json::{Map, Value};
use zeroize::{Zeroize, Zeroizing};

use super::JwkError;
use crate::base64url;

/// A JWK's members, wiped when dropped, because some may be secret.
pub(super) struct Members(Map<String, Value>);

impl Members {
    pub(super) fn new(members: Map<String, Value>) -> Self {
        Self(members)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn text(&self, name: &'static str) -> Result<Option<&str>, JwkError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(JwkError::Invalid(name)),
        }
    }

    /// A list of texts, none of them twice (RFC 7517 §4.3).
    pub(super) fn texts(&self, name: &'static str) -> Result<Option<Vec<&str>>, JwkError> {
        let list = match self.0.get(name) {
            None => return Ok(None),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(JwkError::Invalid(name)),
        };
        let mut texts: Vec<&str> = Vec::with_capacity(list.len());
        for value in list {
            match value {
                Value::String(text) if !texts.contains(&text.as_str()) => texts.push(text),
                _ => return Err(JwkError::Invalid(name)),
            }
        }
        Ok(Some(texts))
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

    /// A number as big-endian bytes, none of them a leading zero (RFC 7518 §2, `Base64urlUInt`).
    pub(super) fn number(&self, name: &'static str) -> Result<Zeroizing<Vec<u8>>, JwkError> {
        let bytes = self.required_bytes(name)?;
        match bytes.first() {
            None | Some(0) => Err(JwkError::Invalid(name)),
            Some(_) => Ok(bytes),
        }
    }

    pub(super) fn insert(&mut self, name: &str, bytes: &[u8]) {
        self.0.insert(name.to_owned(), base64url::encode(bytes).into());
    }

    pub(super) fn to_json(&self) -> Option<Zeroizing<String>> {
        serde_json::to_string(&self.0).ok().map(Zeroizing::new)
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(list) => list.iter_mut().for_each(wipe),
        Value::Object(map) => map.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
