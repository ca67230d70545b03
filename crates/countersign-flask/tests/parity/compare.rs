//! What counts as equal.

use std::collections::BTreeMap;

use http::header::{CONTENT_TYPE, LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName};
use jiff::fmt::rfc2822;
use serde_json::{Map, Number, Value};
use uuid::{Uuid, Variant};

use crate::jar::SetCookie;
use crate::placeholder::Token;
use crate::recording::{Attribute, CapturedToken, Expect, MintRecorded, RecordedCookie, RequestRecorded};

/// What the library under test answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// Differences, each as a sentence.
pub(crate) type Differences = Vec<String>;

/// A minted token, or why there is none, against the recorded one.
pub(crate) fn mint(recorded: &MintRecorded, got: &Result<Token, String>) -> Differences {
    let mut differences = Vec::new();
    let got = match (got, &recorded.error) {
        (Err(_), Some(_)) => return differences,
        (Ok(_), Some(error)) => return vec![format!("a token was made, the peer failed with {error}")],
        (Err(error), None) => return vec![format!("no token was made: {error}")],
        (Ok(token), None) => token,
    };
    let (mut want, mut have) = (recorded.claims.clone(), got.claims.clone());
    for name in &recorded.random {
        if let Some(want) = &mut want {
            want.remove(name);
        }
        let value = have.as_mut().and_then(|have| have.remove(name)).unwrap_or_default();
        if !is_uuid4(&value) {
            differences.push(format!("claim {name} is not a version 4 UUID in lower case: {value}"));
        }
    }
    objects("header", &recorded.header, &got.header, &mut differences);
    objects("claims", &want, &have, &mut differences);
    differences
}

/// An answer against the recorded one, in which our own tokens already have the place of recorded ones. Members in
/// `captured` hold tokens: alias to name.
pub(crate) fn request(
    recorded: &RequestRecorded,
    got: &Answer,
    captured: &BTreeMap<String, String>,
) -> Differences {
    let mut differences = Vec::new();
    if recorded.status != got.status {
        differences.push(format!("status: expected {}, got {}", recorded.status, got.status));
    }
    body(recorded, got, captured, &mut differences);
    let www_authenticate = field(&got.headers, &WWW_AUTHENTICATE);
    if recorded.www_authenticate != www_authenticate {
        differences.push(unequal("www_authenticate", &recorded.www_authenticate, &www_authenticate));
    }
    let location = field(&got.headers, &LOCATION);
    if location_parts(recorded.location.as_deref()) != location_parts(location.as_deref()) {
        differences.push(unequal("location", &recorded.location, &location));
    }
    for (name, want) in &recorded.headers {
        let have = HeaderName::try_from(name).ok().and_then(|name| field(&got.headers, &name));
        if have.as_ref() != Some(want) {
            differences.push(unequal(name, want, &have));
        }
    }
    set_cookies(recorded, got, &mut differences);
    differences
}

/// What a step came to against what is asked for where the peer is no model. A step has a token or a status.
pub(crate) fn expectation(
    expect: &Expect,
    minted: Option<&Result<Token, String>>,
    status: Option<u16>,
) -> Differences {
    let mut differences = Vec::new();
    if let Some(Ok(token)) = minted {
        let exp = token.claims.as_ref().and_then(|claims| claims.get("exp"));
        if expect.mint.is_some() {
            differences.push("a token was made, expected a refusal".to_owned());
        }
        if expect.exp.is_some() && !exp.is_some_and(Value::is_number) {
            differences.push("the token never expires".to_owned());
        }
    }
    if let Some(status) = status {
        if expect.status.is_some_and(|want| want != status) {
            differences.push(format!("status: expected {}, got {status}", expect.status.unwrap_or_default()));
        }
        if expect.status_class.is_some_and(|want| want != status / 100) {
            differences.push(format!(
                "status: expected {}xx, got {status}",
                expect.status_class.unwrap_or_default()
            ));
        }
    }
    differences
}

/// JSON equality in which `1` and `1.0` are the same, but `true` and `1` are not.
pub(crate) fn same(want: &Value, have: &Value) -> bool {
    match (want, have) {
        (Value::Number(want), Value::Number(have)) => same_number(want, have),
        (Value::Array(want), Value::Array(have)) => {
            want.len() == have.len() && want.iter().zip(have).all(|(want, have)| same(want, have))
        }
        (Value::Object(want), Value::Object(have)) => same_object(want, have),
        _ => want == have,
    }
}

fn same_object(want: &Map<String, Value>, have: &Map<String, Value>) -> bool {
    want.len() == have.len()
        && want.iter().all(|(name, want)| have.get(name).is_some_and(|have| same(want, have)))
}

fn same_number(want: &Number, have: &Number) -> bool {
    match (want.as_i128(), have.as_i128()) {
        (Some(want), Some(have)) => want == have,
        // One of them has a fraction or an exponent.
        _ => want.as_f64() == have.as_f64(),
    }
}

fn is_uuid4(value: &Value) -> bool {
    let uuid = value.as_str().and_then(|text| Some((Uuid::try_parse(text).ok()?, text)));
    uuid.is_some_and(|(uuid, text)| {
        uuid.hyphenated().to_string() == text
            && uuid.get_version_num() == 4
            && uuid.get_variant() == Variant::RFC4122
    })
}

fn body(
    recorded: &RequestRecorded,
    got: &Answer,
    captured: &BTreeMap<String, String>,
    differences: &mut Differences,
) {
    if recorded.page {
        return;
    }
    let shown = || String::from_utf8_lossy(&got.body).into_owned();
    if recorded.json.is_none() && recorded.text.is_none() {
        if !got.body.is_empty() {
            differences.push(format!("body: expected none, got {}", shown()));
        }
        return;
    }
    let (want, have) = (media_type(recorded.content_type.as_deref()), field(&got.headers, &CONTENT_TYPE));
    if want != media_type(have.as_deref()) {
        differences.push(unequal("content_type", &recorded.content_type, &have));
    }
    if let Some(want) = &recorded.text {
        if want.as_bytes() != got.body {
            differences.push(unequal("body", want, &shown()));
        }
        return;
    }
    let Some(want) = &recorded.json else { return };
    let Ok(mut have) = serde_json::from_slice::<Value>(&got.body) else {
        differences.push(format!("body: expected {want}, got no JSON: {:?}", shown()));
        return;
    };
    let mut want = want.clone();
    for (alias, name) in captured {
        if let Some(token) = recorded.captured.get(alias) {
            captured_token(name, token, remove(&mut have, name).as_ref(), differences);
        }
        remove(&mut want, name);
    }
    for (name, prefix) in &recorded.prefix_only {
        let text = remove(&mut have, name);
        if !text.as_ref().and_then(Value::as_str).is_some_and(|text| text.starts_with(prefix)) {
            let shown = text.unwrap_or_default();
            differences.push(format!("body: {name} does not start with {prefix:?}: {shown}"));
        }
        remove(&mut want, name);
    }
    if !same(&want, &have) {
        differences.push(format!("body: expected {want}, got {have}"));
    }
}

fn captured_token(name: &str, want: &CapturedToken, have: Option<&Value>, differences: &mut Differences) {
    let Some(token) = have.and_then(Value::as_str) else {
        differences.push(format!("body: {name} is no token"));
        return;
    };
    let token = Token::read(token);
    objects("header", &Some(want.header.clone()), &token.header, differences);
    objects("claims", &Some(want.claims.clone()), &token.claims, differences);
}

fn objects(
    name: &str,
    want: &Option<Map<String, Value>>,
    have: &Option<Map<String, Value>>,
    differences: &mut Differences,
) {
    let equal = match (want, have) {
        (Some(want), Some(have)) => same_object(want, have),
        _ => false,
    };
    if !equal {
        differences.push(unequal(name, want, have));
    }
}

fn set_cookies(recorded: &RequestRecorded, got: &Answer, differences: &mut Differences) {
    let mut have = Vec::new();
    for line in got.headers.get_all(SET_COOKIE) {
        match SetCookie::parse(line).and_then(|cookie| Cookie::new(&cookie, recorded.now)) {
            Ok(cookie) => have.push(cookie),
            Err(error) => return differences.push(format!("set_cookies: {error}")),
        }
    }
    let want: Result<Vec<_>, _> = recorded
        .set_cookies
        .iter()
        .map(|RecordedCookie { name, value, attributes }| SetCookie {
            name: name.clone(),
            value: value.clone(),
            attributes: attributes.clone().into_iter().collect(),
        })
        .map(|cookie| Cookie::new(&cookie, recorded.now))
        .collect();
    match want {
        Ok(want) if want == have => {}
        Ok(want) => differences.push(format!("set_cookies: expected {want:?}, got {have:?}")),
        Err(error) => differences.push(format!("set_cookies: in the recording: {error}")),
    }
}

/// A `Set-Cookie` as it is compared.
#[derive(Debug, Eq, PartialEq)]
struct Cookie {
    name: String,
    value: String,
    /// Without `expires` and `max-age` in a deletion, which may say it either way.
    attributes: BTreeMap<String, Attribute>,
    expires: Option<i64>,
    deletes: bool,
}

impl Cookie {
    fn new(cookie: &SetCookie, now: f64) -> Result<Self, String> {
        let mut attributes = BTreeMap::new();
        for (name, value) in &cookie.attributes {
            if attributes.insert(name.to_ascii_lowercase(), value.clone()).is_some() {
                return Err(format!("cookie {} has {name} twice", cookie.name));
            }
        }
        let expires = cookie.expires()?;
        let max_age = cookie.max_age()?;
        attributes.remove("expires");
        #[expect(clippy::cast_precision_loss, reason = "seconds of this millennium are exact")]
        let deletes = expires.is_some_and(|at| at as f64 <= now) || max_age.is_some_and(|secs| secs <= 0);
        if deletes {
            attributes.remove("max-age");
        }
        let expires = if deletes { None } else { expires };
        let (name, value) = (cookie.name.clone(), cookie.value.clone());
        Ok(Self { name, value, attributes, expires, deletes })
    }
}

/// An HTTP date in Unix seconds.
pub(crate) fn http_date(text: &str) -> Result<i64, String> {
    let parsed = rfc2822::DateTimeParser::new().parse_timestamp(text);
    parsed.map(|at| at.as_second()).map_err(|error| format!("{text:?} is no date: {error}"))
}

/// The value of a header field; lines are joined as a proxy would.
fn field(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Vec<_> = headers.get_all(name).iter().map(|line| latin1(line.as_bytes())).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn media_type(content_type: Option<&str>) -> Option<String> {
    Some(content_type?.split(';').next()?.trim().to_ascii_lowercase())
}

/// Scheme, host and path, and the decoded pairs of the query.
fn location_parts(location: Option<&str>) -> Option<(String, Vec<(String, String)>)> {
    let location = location?.split('#').next()?;
    let (target, query) = location.split_once('?').unwrap_or((location, ""));
    Some((target.to_owned(), url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()))
}

fn remove(value: &mut Value, name: &str) -> Option<Value> {
    value.as_object_mut()?.remove(name)
}

fn unequal<W: serde::Serialize + ?Sized, H: serde::Serialize + ?Sized>(
    name: &str,
    want: &W,
    have: &H,
) -> String {
    let shown = |value: Result<String, serde_json::Error>| value.unwrap_or_default();
    format!(
        "{name}: expected {}, got {}",
        shown(serde_json::to_string(want)),
        shown(serde_json::to_string(have))
    )
}
