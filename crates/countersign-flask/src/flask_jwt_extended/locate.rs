//! Finding a request's token by Flask-JWT-Extended's rules. The messages are those of the library, spelling mistakes
//! included.

use std::borrow::Cow;

use countersign_http::reading::{FormField, find_cookie_by, form_field, is_handshake_from_nowhere, trim};
use countersign_http::{BufferedBody, CookieLookup, Location};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method};
use serde_json::Value;
use url::form_urlencoded;

use super::answers::ExtendedRefusal;
use super::config::{CookieNames, FlaskJwtExtendedConfig, location_name};
use crate::json_body::is_json;
use crate::tokens::is_falsy;

/// The content of a place where a token may be.
pub(super) enum Found<'r> {
    /// Nothing, for this reason; the search goes on.
    Absent(String),
    /// Something that ends the search.
    Stop(ExtendedRefusal),
    Token(Presented<'r>),
}

/// A token as it was sent, and the CSRF value beside it where one is needed.
pub(super) struct Presented<'r> {
    pub(super) token: Cow<'r, str>,
    pub(super) csrf: Option<Vec<u8>>,
}

impl FlaskJwtExtendedConfig {
    pub(super) fn look<'r>(&self, location: Location, parts: &'r Parts, is_refresh: bool) -> Found<'r> {
        let cookies = if is_refresh { &self.refresh } else { &self.access };
        match location {
            Location::Header => self.in_header(&parts.headers),
            Location::Cookie => self.in_cookie(parts, cookies),
            Location::Query => self.in_query(parts),
            Location::Body => {
                in_json(parts, if is_refresh { &self.refresh_json_key } else { &self.json_key })
            }
            // The library does not know this place.
            _ => Found::Absent("Missing JWT".to_owned()),
        }
    }

    fn in_header<'r>(&self, headers: &'r HeaderMap) -> Found<'r> {
        let name = &self.header_name;
        let joined = joined(headers, name);
        let value = joined.trim_matches(is_blank).trim_matches(',');
        if value.is_empty() {
            return Found::Absent(format!("Missing {name} Header"));
        }
        let Some(kind) = self.header_type.as_deref().filter(|kind| !kind.is_empty()) else {
            return match only(words(value)) {
                Some(token) => found(token.to_owned()),
                None => invalid(format!("Bad {name} header. Expected '{name}: <JWT>'")),
            };
        };
        let bad = || invalid(format!("Bad {name} header. Expected '{name}: {kind} <JWT>'"));
        // Flask-JWT-Extended fails with a 500 if the first part consists of blanks.
        if value.split(',').next().is_some_and(|part| !part.is_empty() && words(part).next().is_none()) {
            return bad();
        }
        let of_kind = value.split(',').filter(|part| words(part).next() == Some(kind));
        let Some(part) = only(of_kind) else {
            return Found::Absent(format!(
                "Missing '{kind}' type in '{name}' header. Expected '{name}: {kind} <JWT>'"
            ));
        };
        match only(words(part).skip(1)) {
            Some(token) => found(token.to_owned()),
            None => bad(),
        }
    }

    fn in_cookie<'r>(&self, parts: &'r Parts, names: &CookieNames) -> Found<'r> {
        let name = &names.name;
        let token = match cookie(&parts.headers, name) {
            CookieLookup::Absent | CookieLookup::One("") => {
                return Found::Absent(format!("Missing cookie \"{name}\""));
            }
            CookieLookup::One(token) => token,
            CookieLookup::Unreadable => return invalid(format!("Cookie \"{name}\" is not a token")),
            CookieLookup::Repeated => return Found::Stop(repeated(name)),
        };
        let needs_csrf = self.needs_csrf(&parts.method)
            || (self.cookie_csrf_protect && is_handshake_from_nowhere(&parts.method, &parts.headers));
        let csrf = if needs_csrf {
            match self.csrf_value(parts, names) {
                Some(value) => Some(value),
                None => return Found::Stop(ExtendedRefusal::Unauthorized("Missing CSRF token".to_owned())),
            }
        } else {
            None
        };
        Found::Token(Presented { token: Cow::Borrowed(token), csrf })
    }

    /// Whether a cookie in a request with this method needs its CSRF value.
    pub(super) fn needs_csrf(&self, method: &Method) -> bool {
        self.cookie_csrf_protect && self.csrf_methods.contains(method)
    }

    /// The CSRF value in the header, or in the form field where forms count and the header is empty.
    pub(super) fn csrf_value(&self, parts: &Parts, names: &CookieNames) -> Option<Vec<u8>> {
        let by_header = header_bytes(&parts.headers, &names.csrf_header);
        if !by_header.is_empty() {
            return Some(by_header);
        }
        if !self.csrf_check_form {
            return None;
        }
        match form_field(parts, &names.csrf_field) {
            FormField::One(value) | FormField::Repeated(value) => {
                Some(value.into_owned()).filter(|value| !value.is_empty())
            }
            FormField::Absent => None,
        }
    }

    fn in_query<'r>(&self, parts: &'r Parts) -> Found<'r> {
        let (name, prefix) = (&self.query_string_name, &self.query_string_value_prefix);
        let query = parts.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(query.as_bytes());
        let mut values = pairs.filter_map(|(found, value)| (found == *name).then_some(value));
        let Some(value) = values.next().filter(|value| !value.is_empty()) else {
            return Found::Absent(format!("Missing '{name}' query paramater"));
        };
        // Programs that log, filter or sign URLs may look at the other value.
        if values.next().is_some() {
            return invalid(format!("Query parameter '{name}' is repeated"));
        }
        match value.strip_prefix(prefix.as_str()) {
            Some(token) => found(token.to_owned()),
            None => invalid(format!(
                "Invalid value for query parameter '{name}'. Expected the value to start with '{prefix}'"
            )),
        }
    }
}

/// Reads a cookie as Werkzeug does: blanks around the value are not part of it, and a cookie with blanks or quotes
/// within its value is dropped. A value that is quoted as a whole is kept, quotes included.
pub(super) fn cookie<'r>(headers: &'r HeaderMap, name: &str) -> CookieLookup<'r> {
    find_cookie_by(headers, name, |value| {
        let value = trim(value);
        let is_kept = match value {
            [b'"', quoted @ ..] => is_quoted(quoted),
            value => !value.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'"')),
        };
        is_kept.then_some(value)
    })
}

/// Whether a text after an opening quote ends with the closing one.
fn is_quoted(mut text: &[u8]) -> bool {
    loop {
        text = match text {
            [b'\\', _, rest @ ..] => rest,
            [b'"', rest @ ..] => return rest.is_empty(),
            [b'\\'] | [] => return false,
            [_, rest @ ..] => rest,
        };
    }
}

/// Somebody else has set one of them, or this application under another domain, and which one is anybody's guess.
pub(super) fn repeated(name: &str) -> ExtendedRefusal {
    ExtendedRefusal::RepeatedCookie(format!("Cookie \"{name}\" is repeated"))
}

fn in_json<'r>(parts: &'r Parts, key: &str) -> Found<'r> {
    if !is_json(&parts.headers) {
        return Found::Absent("Invalid content-type. Must be application/json.".to_owned());
    }
    let missing = || Found::Absent(format!("Missing \"{key}\" key in json data."));
    let Some(BufferedBody(body)) = parts.extensions.get::<BufferedBody>() else { return missing() };
    match serde_json::from_slice(body) {
        Err(_) => missing(),
        Ok(Value::Object(mut members)) => match members.remove(key) {
            None => missing(),
            Some(value) if is_falsy(&value) => missing(),
            Some(Value::String(token)) => found(token),
            Some(_) => invalid("Invalid token type. Token must be a <class 'bytes'>".to_owned()),
        },
        Ok(value) if is_falsy(&value) => missing(),
        Ok(_) => invalid("The json data must be an object".to_owned()),
    }
}

/// The message if no place held a token.
pub(super) fn absent_message(places: &[Location], messages: &[String]) -> String {
    let names: Vec<_> = places.iter().map(|place| location_name(*place)).collect();
    match (names.as_slice(), messages) {
        ([_], [message]) => message.clone(),
        ([others @ .., last], messages) => {
            format!("Missing JWT in {} or {last} ({})", others.join(", "), messages.join("; "))
        }
        ([], _) => "Missing JWT".to_owned(),
    }
}

/// All fields with a name joined into one, as servers in Python present them.
fn joined(headers: &HeaderMap, name: &str) -> String {
    let fields = headers.get_all(name).iter();
    let texts = fields.map(|field| field.as_bytes().iter().map(|byte| char::from(*byte)).collect::<String>());
    texts.collect::<Vec<_>>().join(",")
}

fn header_bytes(headers: &HeaderMap, name: &HeaderName) -> Vec<u8> {
    headers.get_all(name).iter().map(|field| field.as_bytes()).collect::<Vec<_>>().join(&b',')
}

fn is_blank(char: char) -> bool {
    char.is_ascii_whitespace() || matches!(char, '\u{b}')
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_blank).filter(|word| !word.is_empty())
}

fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    match (items.next(), items.next()) {
        (Some(item), None) => Some(item),
        _ => None,
    }
}

fn found<'r>(token: String) -> Found<'r> {
    Found::Token(Presented { token: Cow::Owned(token), csrf: None })
}

fn invalid<'r>(message: String) -> Found<'r> {
    Found::Stop(ExtendedRefusal::Invalid(message))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderValue, Method};

    use super::*;
    use crate::testing::get;

    fn config(options: &Value) -> FlaskJwtExtendedConfig {
        FlaskJwtExtendedConfig::from_options(options.as_object().unwrap().clone()).unwrap()
    }

    /// The token with its CSRF value, or the message of the result after its kind.
    fn shown(found: Found<'_>) -> String {
        match found {
            Found::Absent(message) => format!("absent: {message}"),
            Found::Stop(ExtendedRefusal::Invalid(message) | ExtendedRefusal::RepeatedCookie(message)) => {
                format!("422: {message}")
            }
            Found::Stop(refusal) => format!("401: {}", refusal.message()),
            Found::Token(Presented { token, csrf: None }) => format!("token {token}"),
            Found::Token(Presented { token, csrf: Some(csrf) }) => {
                format!("token {token} with {}", String::from_utf8_lossy(&csrf))
            }
        }
    }

    #[test]
    fn headers_are_read_as_flask_jwt_extended_reads_them() {
        let other_scheme =
            "absent: Missing 'Bearer' type in 'Authorization' header. Expected 'Authorization: Bearer <JWT>'";
        let bad = "422: Bad Authorization header. Expected 'Authorization: Bearer <JWT>'";
        for (value, expected) in [
            ("Bearer T", "token T"),
            ("Basic x, Bearer T", "token T"),
            ("Bearer T,Basic x", "token T"),
            ("Bearer T,", "token T"),
            (",Bearer T", "token T"),
            ("  Bearer   T  ", "token T"),
            ("Bearer\tT", "token T"),
            ("Basic x,,Bearer T", "token T"),
            ("Bearer", bad),
            ("Bearer a b", bad),
            ("Bearer T x, Basic y", bad),
            ("Bearer,T", bad),
            (", ,", bad),
            (", , Bearer T", bad),
            ("bearer T", other_scheme),
            ("Basic x", other_scheme),
            ("T", other_scheme),
            ("Bearer T, Bearer T", other_scheme),
            ("", "absent: Missing Authorization Header"),
            (",,", "absent: Missing Authorization Header"),
        ] {
            let parts = get("/", &[("authorization", value)]);
            let config = FlaskJwtExtendedConfig::default();
            assert_eq!(shown(config.look(Location::Header, &parts, false)), expected, "{value:?}");
        }
    }

    #[test]
    fn a_header_without_a_type_holds_the_token_alone() {
        let config = config(&serde_json::json!({"JWT_HEADER_NAME": "X-Auth", "JWT_HEADER_TYPE": null}));
        let bad = "422: Bad X-Auth header. Expected 'X-Auth: <JWT>'";
        for (value, expected) in [
            ("T", "token T"),
            (" T ", "token T"),
            ("Bearer T", bad),
            (", ,", bad),
            ("", "absent: Missing X-Auth Header"),
        ] {
            let parts = get("/", &[("x-auth", value)]);
            assert_eq!(shown(config.look(Location::Header, &parts, false)), expected, "{value:?}");
        }
    }

    #[test]
    fn sec_048_repeated_header_lines_are_one_list() {
        let mut parts = get("/", &[("authorization", "Bearer T")]);
        parts.headers.append("authorization", HeaderValue::from_static("Bearer U"));
        let found = shown(FlaskJwtExtendedConfig::default().look(Location::Header, &parts, false));
        assert!(found.starts_with("absent: Missing 'Bearer' type"), "{found}");
    }

    #[test]
    fn cookies_need_their_csrf_value_where_the_method_does() {
        let config = FlaskJwtExtendedConfig::default();
        let look = |method: Method, fields: &[(&str, &str)], is_refresh| {
            let mut parts = get("/", fields);
            parts.method = method;
            shown(config.look(Location::Cookie, &parts, is_refresh))
        };
        let cookie = ("cookie", "access_token_cookie=T; refresh_token_cookie=R");
        assert_eq!(look(Method::GET, &[cookie], false), "token T");
        assert_eq!(look(Method::GET, &[cookie], true), "token R");
        assert_eq!(look(Method::POST, &[cookie], false), "401: Missing CSRF token");
        assert_eq!(look(Method::POST, &[cookie, ("x-csrf-token", "")], false), "401: Missing CSRF token");
        assert_eq!(look(Method::POST, &[cookie, ("x-csrf-token", "v")], true), "token R with v");
        assert_eq!(look(Method::GET, &[], false), "absent: Missing cookie \"access_token_cookie\"");
        let empty = ("cookie", "refresh_token_cookie=");
        assert_eq!(look(Method::GET, &[empty], true), "absent: Missing cookie \"refresh_token_cookie\"");
        let twice = ("cookie", "access_token_cookie=T; access_token_cookie=U");
        assert_eq!(look(Method::GET, &[twice], false), "422: Cookie \"access_token_cookie\" is repeated");
    }

    #[test]
    fn the_query_parameter_is_read_with_its_prefix() {
        let config = config(&serde_json::json!({"JWT_QUERY_STRING_VALUE_PREFIX": "Bearer "}));
        let wrong =
            "422: Invalid value for query parameter 'jwt'. Expected the value to start with 'Bearer '";
        for (uri, expected) in [
            ("/?jwt=Bearer%20T", "token T"),
            ("/?a=b&jwt=Bearer+T", "token T"),
            ("/?jwt=T", wrong),
            ("/?jwt=", "absent: Missing 'jwt' query paramater"),
            ("/?JWT=Bearer+T", "absent: Missing 'jwt' query paramater"),
            ("/", "absent: Missing 'jwt' query paramater"),
            ("/?jwt=Bearer+T&jwt=Bearer+U", "422: Query parameter 'jwt' is repeated"),
        ] {
            assert_eq!(shown(config.look(Location::Query, &get(uri, &[]), false)), expected, "{uri}");
        }
    }

    #[test]
    fn a_json_body_holds_the_token_under_its_key() {
        let missing = "absent: Missing \"access_token\" key in json data.";
        let not_json = "absent: Invalid content-type. Must be application/json.";
        let not_text = "422: Invalid token type. Token must be a <class 'bytes'>";
        for (content_type, body, expected) in [
            ("application/json", r#"{"access_token": "T"}"#, "token T"),
            ("Application/vnd.api+JSON; charset=utf-8", r#"{"access_token": "T"}"#, "token T"),
            ("text/json", r#"{"access_token": "T"}"#, not_json),
            ("application/json", r#"{"refresh_token": "T"}"#, missing),
            ("application/json", r#"{"access_token": 0}"#, missing),
            ("application/json", r#"{"access_token": 5}"#, not_text),
            ("application/json", r#"{"access_token": ["T"]}"#, not_text),
            ("application/json", "{", missing),
            ("application/json", "", missing),
            ("application/json", "[]", missing),
            ("application/json", "[1]", "422: The json data must be an object"),
        ] {
            let mut parts = get("/", &[("content-type", content_type)]);
            parts.extensions.insert(BufferedBody(Bytes::from_static(body.as_bytes())));
            let found = FlaskJwtExtendedConfig::default().look(Location::Body, &parts, false);
            assert_eq!(shown(found), expected, "{content_type} {body}");
        }
    }

    #[test]
    fn several_places_without_a_token_are_named_in_order() {
        let messages = ["a", "b", "c"].map(str::to_owned);
        let message = |places: &[Location]| absent_message(places, &messages[..places.len()]);
        assert_eq!(message(&[Location::Query]), "a");
        assert_eq!(
            message(&[Location::Header, Location::Cookie]),
            "Missing JWT in headers or cookies (a; b)"
        );
        assert_eq!(
            message(&[Location::Body, Location::Query, Location::Header]),
            "Missing JWT in json, query_string or headers (a; b; c)"
        );
    }
}
