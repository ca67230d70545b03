//! What counts as equal.

use std::collections::BTreeMap;

use http::header::{CONTENT_TYPE, LOCATION, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName};
use jiff::fmt::rfc2822;
use serde_json::{Map, Number, Value};
use uuid::{Uuid, Variant};

use crate::jar::SetCookie;
use crate::placeholder::Token;
use crate::recording::{
    Attribute, CapturedToken, CookieAction, ExactCookie, Expect, MintRecorded, RecordedCookie,
    RequestRecorded, Role, RoleCookie,
};

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
    roles: Option<&Roles>,
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
    if roles.is_none() {
        set_cookies(recorded, got, &mut differences);
    }
    if let Some(roles) = roles {
        cookies_of_roles(recorded, got, roles, &mut differences);
    }
    differences
}

/// What must be known to compare cookies by what they are for.
pub(crate) struct Roles {
    /// The names of the cookies of each role, in the order of [`Role::ALL`].
    pub(crate) names: [Vec<String>; 2],
    /// Whether the request carried a cookie of the role, and when that one ends.
    pub(crate) carried: [Option<Option<f64>>; 2],
    /// The names of the options in the configuration.
    pub(crate) configured: Vec<String>,
}

/// Values are not compared; the numbers are those of the format's description.
fn cookies_of_roles(recorded: &RequestRecorded, got: &Answer, roles: &Roles, differences: &mut Differences) {
    let is_signed_out = recorded.status == 401
        || recorded.json.as_ref().is_some_and(|json| json.get("anonymous") == Some(&Value::Bool(true)));
    for (index, role) in Role::ALL.into_iter().enumerate() {
        let (names, carried) = (&roles.names[index], roles.carried[index]);
        // 1
        let mut ours = None;
        for line in got.headers.get_all(SET_COOKIE) {
            match SetCookie::parse(line).and_then(|cookie| Cookie::new(&cookie, recorded.now)) {
                Ok(cookie) if names.contains(&cookie.name) => ours = Some(cookie),
                Ok(_) => {}
                Err(error) => return differences.push(format!("set_cookies: {error}")),
            }
        }
        let theirs = recorded.set_cookies.iter().rev().find_map(|cookie| match cookie {
            RecordedCookie::Role(cookie) if cookie.role == role => Some(cookie.clone()),
            _ => None,
        });
        let ours = ours.filter(|ours| carried.is_some() || !ours.deletes);
        let theirs = theirs.filter(|theirs| carried.is_some() || theirs.action == CookieAction::Set);
        let clears = theirs.as_ref().is_some_and(|theirs| theirs.action == CookieAction::Clear);
        let wrong = match (&theirs, &ours) {
            (None, None) => None,
            (Some(theirs), Some(ours)) if (theirs.action == CookieAction::Clear) == ours.deletes => {
                different_cookie(theirs, ours, roles, recorded.now)
            }
            // 4
            (_, Some(ours)) if ours.deletes && carried.is_some() && !clears && is_signed_out => None,
            // 2
            (_, None) if role == Role::Session && carried.is_some() && !clears => None,
            (None, Some(ours)) if role == Role::Session && carried.is_some() && !ours.deletes => None,
            // 3
            (None, Some(ours)) if role == Role::Remember && !ours.deletes && carried.is_some() => {
                let (before, now) = (carried.flatten(), ours.ends(recorded.now));
                (before != now).then(|| format!("its end moved from {before:?} to {now:?}"))
            }
            (theirs, ours) => Some(format!("expected {theirs:?}, got {ours:?}")),
        };
        if let Some(wrong) = wrong {
            differences.push(format!("set_cookies: {}: {wrong}", role.name()));
        }
    }
}

/// 5
fn different_cookie(theirs: &RoleCookie, ours: &Cookie, roles: &Roles, now: f64) -> Option<String> {
    let prefix = match theirs.role {
        Role::Session => "SESSION_COOKIE_",
        Role::Remember => "REMEMBER_COOKIE_",
    };
    let mut compared = vec!["path", "domain"];
    if theirs.action == CookieAction::Set {
        #[expect(clippy::cast_precision_loss, reason = "seconds of this millennium are exact")]
        let ends = theirs.lifetime.map(|lifetime| now + lifetime as f64);
        if ends != ours.ends(now) {
            return Some(format!("it should end at {ends:?}, and ends at {:?}", ours.ends(now)));
        }
        compared.push("httponly");
        for (attribute, option) in [("secure", "SECURE"), ("samesite", "SAMESITE")] {
            if roles.configured.contains(&format!("{prefix}{option}")) {
                compared.push(attribute);
            }
        }
    }
    compared.into_iter().find_map(|name| {
        let (theirs, ours) = (theirs.attributes.get(name), ours.attributes.get(name));
        (theirs != ours).then(|| format!("{name}: expected {theirs:?}, got {ours:?}"))
    })
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
    let exact = recorded.set_cookies.iter().filter_map(|cookie| match cookie {
        RecordedCookie::Exact(cookie) => Some(cookie),
        RecordedCookie::Role(_) => None,
    });
    if exact.clone().count() < recorded.set_cookies.len() {
        return differences.push("set_cookies: in the recording: there are cookies by role".to_owned());
    }
    let want: Result<Vec<_>, _> = exact
        .map(|ExactCookie { name, value, attributes }| SetCookie {
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
    /// When it ends, in Unix seconds; `None` when the browser is closed.
    #[expect(clippy::cast_precision_loss, reason = "seconds of this millennium are exact")]
    fn ends(&self, now: f64) -> Option<f64> {
        let max_age = match self.attributes.get("max-age") {
            Some(Attribute::Text(secs)) => secs.parse::<i64>().ok(),
            _ => None,
        };
        max_age.map(|secs| now + secs as f64).or(self.expires.map(|at| at as f64))
    }

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
