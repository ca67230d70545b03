//! The two request fields that credentials come in.

use countersign_http::{CookieConfig, CookieKind, CookieLookup, LocateError, Location, Locator, find_cookie};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::memory::{LITTLE, bounded};

/// Each line is a `Cookie` field.
pub fn cookie_header(input: &[u8]) {
    let Some(headers) = fields(header::COOKIE, input) else { return };
    let config = CookieConfig::for_public_url(None).expect("the default");
    for kind in [CookieKind::Access, CookieKind::Refresh] {
        let name = config.name(kind);
        let found = bounded(input.len(), LITTLE, || find_cookie(&headers, name));
        // Slowly and simply: every piece that is the name, an equals sign and a value.
        let prefix = format!("{name}=").into_bytes();
        let values: Vec<&[u8]> = headers
            .get_all(header::COOKIE)
            .iter()
            .flat_map(|field| field.as_bytes().split(|byte| *byte == b';'))
            .filter_map(|piece| trimmed(piece).strip_prefix(prefix.as_slice()))
            .collect();
        match (found, values.as_slice()) {
            (CookieLookup::Absent, []) | (CookieLookup::Repeated, [_, _, ..]) => {}
            (CookieLookup::One(value), [only]) => assert_eq!(value.as_bytes(), *only),
            (CookieLookup::Unreadable, [only]) => assert!(std::str::from_utf8(only).is_err()),
            (found, values) => panic!("{found:?} among {} cookies", values.len()),
        }
    }
    let located = Locator::access(&config).locate(&headers, None);
    let found = find_cookie(&headers, config.name(CookieKind::Access));
    match located {
        Ok(Some(located)) => {
            assert_eq!(located.location, Location::Cookie);
            assert_eq!(found, CookieLookup::One(located.token));
            assert!(!located.token.is_empty());
        }
        Ok(None) => assert!(matches!(found, CookieLookup::Absent | CookieLookup::One(""))),
        Err(LocateError::RepeatedCookie) => assert_eq!(found, CookieLookup::Repeated),
        Err(LocateError::NotAToken(Location::Cookie)) => assert_eq!(found, CookieLookup::Unreadable),
        Err(error) => panic!("{error}"),
    }
}

/// Each line is an `Authorization` field.
pub fn authorization(input: &[u8]) {
    let Some(headers) = fields(header::AUTHORIZATION, input) else { return };
    let config = CookieConfig::for_public_url(None).expect("the default");
    let locator = Locator::access(&config);
    let located = bounded(input.len(), LITTLE, || locator.locate(&headers, None));
    let lines: Vec<_> = headers.get_all(header::AUTHORIZATION).iter().map(HeaderValue::as_bytes).collect();
    match located {
        Ok(Some(located)) => {
            let [field] = lines.as_slice() else { panic!("a credential out of {} fields", lines.len()) };
            assert_eq!(located.location, Location::Header);
            let field = std::str::from_utf8(field).expect("ASCII");
            assert!(field.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer ")));
            assert_eq!(field[7..].trim_start_matches(' '), located.token);
            let body = located.token.trim_end_matches('=');
            let is_token68 = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
            assert!(!body.is_empty() && body.bytes().all(is_token68));
        }
        Ok(None) => assert!(lines.len() <= 1, "two fields say nothing clear"),
        Err(LocateError::MalformedAuthorization) => {
            assert!(lines.len() > 1 || lines.iter().any(|field| field.contains(&b',')));
        }
        Err(LocateError::NotAToken(Location::Header)) => assert_eq!(lines.len(), 1),
        Err(error) => panic!("{error}"),
    }
    // A bearer token in the field never lets a cookie decide.
    let mut both = headers.clone();
    let cookie = format!("{}=a.b.c", config.name(CookieKind::Access));
    both.insert(header::COOKIE, HeaderValue::from_str(&cookie).expect("a good field"));
    let alone = locator.locate(&headers, None);
    match locator.locate(&both, None) {
        Ok(Some(found)) if found.location == Location::Cookie => assert_eq!(alone, Ok(None)),
        verdict => assert_eq!(verdict, alone),
    }
}

fn fields(name: HeaderName, input: &[u8]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        headers.append(name.clone(), HeaderValue::from_bytes(line).ok()?);
    }
    Some(headers)
}

fn trimmed(piece: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = piece.iter().position(|byte| !is_space(byte)).unwrap_or(piece.len());
    let end = piece.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &piece[start..end]
}
