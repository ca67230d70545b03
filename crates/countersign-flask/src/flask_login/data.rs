//! Data that the application keeps in a browser, as Flask keeps it in its session cookie.

use std::fmt;

use aws_lc_rs::hmac;
use countersign_http::{CookieLookup, find_cookie};
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value};

use super::FlaskLogin;

/// The application's own data in a browser: signed, and readable by its user. It is in a cookie beside that of the
/// session, and outlives a logout.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SessionData(pub Map<String, Value>);

impl SessionData {
    /// The data that a request brings; none if its signature does not hold.
    #[must_use]
    pub fn of(login: &FlaskLogin, headers: &HeaderMap) -> Self {
        let CookieLookup::One(value) = find_cookie(headers, &login.data_name()) else {
            return Self::default();
        };
        let opened = || {
            let (data, tag) = value.split_once('.')?;
            hmac::verify(&login.data_key(), data.as_bytes(), &unhex(tag)?).ok()?;
            serde_json::from_slice(&unhex(data)?).ok()
        };
        Self(opened().unwrap_or_default())
    }

    /// The `Set-Cookie` field that keeps the data until the browser is closed.
    #[must_use]
    pub fn set(&self, login: &FlaskLogin) -> Option<HeaderValue> {
        let data = hex(&serde_json::to_vec(&self.0).ok()?);
        let tag = hmac::sign(&login.data_key(), data.as_bytes());
        let value = format!("{data}.{}", hex(tag.as_ref()));
        if value.len() > MOST_BYTES {
            return None;
        }
        login.config().session.field(&login.data_name(), &value, None)
    }
}

/// What browsers keep of a cookie, and some room for its name.
const MOST_BYTES: usize = 4_000;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let pairs = (0..text.len()).step_by(2).map(|at| text.get(at..at + 2));
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect()
}

impl fmt::Display for SessionData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} members", self.0.len())
    }
}
