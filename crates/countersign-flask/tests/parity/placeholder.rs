//! Tokens by the names that a recording gives them, and the placeholders that stand for them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

/// A token, and what can be read in it without a key.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) header: Option<Map<String, Value>>,
    pub(crate) claims: Option<Map<String, Value>>,
}

/// The tokens that earlier steps made.
#[derive(Debug, Default)]
pub(crate) struct Tokens(BTreeMap<String, Token>);

impl Token {
    pub(crate) fn read(text: &str) -> Self {
        let mut segments = text.split('.').map(|segment| {
            let bytes = URL_SAFE_NO_PAD.decode(segment.trim_end_matches('=')).ok()?;
            serde_json::from_slice(&bytes).ok()
        });
        let header = segments.next().flatten();
        let claims = segments.next().flatten();
        Self { text: text.to_owned(), header, claims }
    }

    fn claim(&self, name: &str) -> Option<&str> {
        self.claims.as_ref()?.get(name)?.as_str()
    }
}

impl Tokens {
    pub(crate) fn insert(&mut self, alias: &str, token: &str) {
        self.0.insert(alias.to_owned(), Token::read(token));
    }

    /// The text with each `{{a1}}`, `{{a1.jti}}` and `{{a1.csrf}}` replaced.
    pub(crate) fn resolve(&self, text: &str) -> Result<String, String> {
        let mut resolved = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, placeholder)) = rest.split_once("{{") {
            let Some((named, after)) = placeholder.split_once("}}") else {
                return Err(format!("placeholder without end in {text}"));
            };
            let (alias, part) = match named.split_once('.') {
                Some((alias, part)) => (alias, Some(part)),
                None => (named, None),
            };
            let token =
                self.0.get(alias).ok_or_else(|| format!("{{{{{named}}}}} names no token made before"))?;
            let value = match part {
                None => Some(token.text.as_str()),
                Some(part @ ("jti" | "csrf")) => token.claim(part),
                Some(_) => return Err(format!("{{{{{named}}}}} is not a known placeholder")),
            };
            resolved.push_str(before);
            resolved.push_str(
                value.ok_or_else(|| format!("{{{{{named}}}}} names a claim that the token lacks"))?,
            );
            rest = after;
        }
        resolved.push_str(rest);
        Ok(resolved)
    }

    /// The value with the placeholders in each of its texts replaced.
    pub(crate) fn resolve_value(&self, value: &Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => Value::String(self.resolve(text)?),
            Value::Array(members) => {
                members.iter().map(|member| self.resolve_value(member)).collect::<Result<_, _>>()?
            }
            Value::Object(members) => {
                let members =
                    members.iter().map(|(name, member)| Ok((name.clone(), self.resolve_value(member)?)));
                members.collect::<Result<_, String>>()?
            }
            other => other.clone(),
        })
    }
}
