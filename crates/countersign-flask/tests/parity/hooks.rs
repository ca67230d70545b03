//! What the application plugs in, as data, and what it says.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::compare::same;

/// The hooks of a `fje` recording.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FlaskJwtExtendedHooks {
    pub(crate) user_identity: Option<UserIdentity>,
    pub(crate) additional_claims: Option<Pick<Map<String, Value>>>,
    pub(crate) additional_headers: Option<Pick<Map<String, Value>>>,
    pub(crate) encode_key: Option<Pick<Key>>,
    pub(crate) decode_key: Option<DecodeKey>,
    pub(crate) blocklist: Option<Blocklist>,
    pub(crate) token_verification: Option<TokenVerification>,
    pub(crate) user_lookup: Option<UserLookup>,
    pub(crate) responses: Responses,
}

/// The hooks of a `flask_jwt` recording.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FlaskJwtHooks {
    pub(crate) users: BTreeMap<String, Value>,
    pub(crate) payload: Option<Map<String, Value>>,
    pub(crate) headers: Option<Map<String, Value>>,
    pub(crate) auth_response: Option<Response>,
    pub(crate) error: Option<Response>,
    pub(crate) request: Option<TokenSource>,
}

/// The hooks of a `flask_login` recording.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FlaskLoginHooks {
    pub(crate) users: BTreeMap<String, Value>,
    pub(crate) request_loader: Option<RequestLoader>,
    pub(crate) unauthorized: Option<Response>,
    pub(crate) needs_refresh: Option<Response>,
}

/// Finds users by tokens in requests.
#[derive(Clone, Debug)]
pub(crate) struct RequestLoader {
    pub(crate) source: LoaderSource,
    pub(crate) tokens: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
pub(crate) enum LoaderSource {
    Header(String),
    Scheme(String),
    Json(String),
}

impl<'de> Deserialize<'de> for RequestLoader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// `stateless` changes nothing: no answer to a request with a token sets a cookie here.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            header: Option<String>,
            scheme: Option<String>,
            json: Option<String>,
            tokens: BTreeMap<String, String>,
            #[serde(rename = "stateless")]
            _stateless: Option<bool>,
        }
        let Raw { header, scheme, json, tokens, .. } = Raw::deserialize(deserializer)?;
        let source = match (header, scheme, json) {
            (Some(name), None, None) => LoaderSource::Header(name),
            (None, Some(word), None) => LoaderSource::Scheme(word),
            (None, None, Some(member)) => LoaderSource::Json(member),
            _ => return Err(serde::de::Error::custom("a request loader looks in one place")),
        };
        Ok(Self { source, tokens })
    }
}

/// A row of `users`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    #[serde(rename = "id")]
    _id: Value,
    #[serde(rename = "username")]
    _username: Value,
    #[serde(rename = "password")]
    _password: Value,
}

impl Row {
    /// Whether a value is one.
    pub(crate) fn check(value: &Value) -> Result<(), String> {
        Self::deserialize(value).map(|_| ()).map_err(|error| error.to_string())
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UserIdentity {
    Field(String),
    Prefix(String),
}

/// The same for everybody, or one for each identity.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Pick<T> {
    Static(Static<T>),
    ByIdentity(ByIdentity<T>),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Static<T> {
    #[serde(rename = "static")]
    value: T,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ByIdentity<T> {
    by_identity: BTreeMap<String, T>,
    default: T,
}

/// A key or secret: text, or raw bytes as `{"hex"}`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Key {
    Text(String),
    Bytes(Vec<u8>),
}

#[derive(Clone, Debug)]
pub(crate) struct DecodeKey {
    by: Part,
    table: BTreeMap<String, Key>,
    default: Key,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Blocklist {
    jtis: BTreeSet<String>,
    without_jti: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct TokenVerification {
    by: Part,
    equals: Value,
}

/// A member of a token.
#[derive(Clone, Debug)]
enum Part {
    Claim(String),
    Header(String),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserLookup {
    pub(crate) table: BTreeMap<String, Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Responses {
    pub(crate) unauthorized: Option<Response>,
    pub(crate) invalid_token: Option<Response>,
    pub(crate) expired_token: Option<Response>,
    pub(crate) needs_fresh_token: Option<Response>,
    pub(crate) revoked_token: Option<Response>,
    pub(crate) token_verification_failed: Option<Response>,
    pub(crate) user_lookup_error: Option<Response>,
}

/// An answer with blanks: texts that begin with `$`.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    status: u16,
    body: Body,
    headers: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
enum Body {
    Json(Value),
    Text(String),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TokenSource {
    Query(String),
    Cookie(String),
    Header(String),
}

impl UserIdentity {
    pub(crate) fn of(&self, identity: &Value) -> Value {
        match self {
            Self::Field(name) => identity.get(name).cloned().expect("the identity has the field"),
            Self::Prefix(prefix) => {
                Value::String(prefix.clone() + identity.as_str().expect("the identity is a text"))
            }
        }
    }
}

impl<T> Pick<T> {
    pub(crate) fn pick(&self, identity: &Value) -> &T {
        match self {
            Self::Static(only) => &only.value,
            Self::ByIdentity(each) => each.by_identity.get(&key_of(identity)).unwrap_or(&each.default),
        }
    }
}

impl Key {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }

    /// A key in `config` or in a hook.
    pub(crate) fn parse(value: &Value) -> Result<Self, String> {
        let object = value.as_object();
        match (value.as_str(), object.and_then(|object| object.get("hex")).and_then(Value::as_str)) {
            (Some(text), _) => Ok(Self::Text(text.to_owned())),
            (None, Some(hex)) if object.is_some_and(|object| object.len() == 1) => {
                unhex(hex).map(Self::Bytes).ok_or_else(|| "a key's hex is malformed".to_owned())
            }
            _ => Err("a key is a text or {\"hex\"}".to_owned()),
        }
    }
}

impl DecodeKey {
    pub(crate) fn pick(&self, header: &Map<String, Value>, claims: &Map<String, Value>) -> &Key {
        let named = self.by.of(header, claims).and_then(Value::as_str);
        named.and_then(|text| self.table.get(text)).unwrap_or(&self.default)
    }
}

impl Blocklist {
    pub(crate) fn is_revoked(&self, claims: &Map<String, Value>, by_steps: &BTreeSet<String>) -> bool {
        match claims.get("jti") {
            None | Some(Value::Null) => self.without_jti,
            Some(jti) => jti.as_str().is_some_and(|jti| self.jtis.contains(jti) || by_steps.contains(jti)),
        }
    }
}

impl TokenVerification {
    pub(crate) fn passes(&self, header: &Map<String, Value>, claims: &Map<String, Value>) -> bool {
        self.by.of(header, claims).is_some_and(|value| same(value, &self.equals))
    }
}

impl Part {
    fn of<'a>(&self, header: &'a Map<String, Value>, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        match self {
            Self::Claim(name) => claims.get(name),
            Self::Header(name) => header.get(name),
        }
    }
}

impl Response {
    /// The answer with its blanks filled in.
    pub(crate) fn fill(&self, facts: &Value) -> http::Response<Vec<u8>> {
        let mut builder = http::Response::builder().status(self.status);
        let (content_type, body) = match &self.body {
            Body::Json(template) => {
                let body = serde_json::to_vec(&fill(template, facts)).expect("a value can be written");
                ("application/json", body)
            }
            Body::Text(template) => ("text/plain; charset=utf-8", filled_text(template, facts).into_bytes()),
        };
        let own_type = self.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type"));
        if !own_type {
            builder = builder.header(http::header::CONTENT_TYPE, content_type);
        }
        for (name, template) in &self.headers {
            builder = builder.header(name, filled_text(template, facts));
        }
        builder.body(body).expect("the response of a hook is well formed")
    }
}

/// Replaces each text that begins with `$` by what it names.
pub(crate) fn fill(template: &Value, facts: &Value) -> Value {
    match template {
        Value::String(text) => match text.strip_prefix('$') {
            Some(path) => path
                .split('.')
                .try_fold(facts, |value, name| value.get(name))
                .unwrap_or_else(|| panic!("a hook names {text}, which there is not"))
                .clone(),
            None => template.clone(),
        },
        Value::Array(members) => members.iter().map(|member| fill(member, facts)).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, member)| (name.clone(), fill(member, facts))).collect()
        }
        other => other.clone(),
    }
}

/// The same for each member of an object.
pub(crate) fn fill_members(template: &Map<String, Value>, facts: &Value) -> Map<String, Value> {
    template.iter().map(|(name, member)| (name.clone(), fill(member, facts))).collect()
}

fn filled_text(template: &str, facts: &Value) -> String {
    match fill(&Value::from(template), facts) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

/// The key of an identity in a table: a text itself, anything else as compact JSON with sorted members and with
/// everything outside of ASCII escaped, as the recorder writes it.
pub(crate) fn key_of(identity: &Value) -> String {
    let Value::String(text) = identity else {
        let compact = identity.to_string();
        let mut key = String::with_capacity(compact.len());
        for c in compact.chars() {
            if c.is_ascii() {
                key.push(c);
            } else {
                let mut units = [0; 2];
                key.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
            }
        }
        return key;
    };
    text.clone()
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for DecodeKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            header: Option<String>,
            claim: Option<String>,
            table: BTreeMap<String, Key>,
            default: Key,
        }
        let Raw { header, claim, table, default } = Raw::deserialize(deserializer)?;
        Ok(Self { by: part(header, claim)?, table, default })
    }
}

impl<'de> Deserialize<'de> for TokenVerification {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            header: Option<String>,
            claim: Option<String>,
            equals: Value,
        }
        let Raw { header, claim, equals } = Raw::deserialize(deserializer)?;
        Ok(Self { by: part(header, claim)?, equals })
    }
}

impl<'de> Deserialize<'de> for Response {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            status: u16,
            #[serde(default, deserialize_with = "present")]
            json: Option<Value>,
            text: Option<String>,
            #[serde(default)]
            headers: BTreeMap<String, String>,
        }
        let Raw { status, json, text, headers } = Raw::deserialize(deserializer)?;
        let body = match (json, text) {
            (Some(json), None) => Body::Json(json),
            (None, Some(text)) => Body::Text(text),
            _ => return Err(serde::de::Error::custom("a response has json or text")),
        };
        Ok(Self { status, body, headers })
    }
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn part<E: serde::de::Error>(header: Option<String>, claim: Option<String>) -> Result<Part, E> {
    match (header, claim) {
        (Some(name), None) => Ok(Part::Header(name)),
        (None, Some(name)) => Ok(Part::Claim(name)),
        _ => Err(E::custom("header or claim, one of them")),
    }
}

fn unhex(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.chars().map(|c| c.to_digit(16)).collect::<Option<Vec<_>>>()?;
    if digits.len() % 2 == 1 {
        return None;
    }
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect()
}
