//! Reading tokens: the libraries' checks, in the libraries' order, on strict encodings.

use std::fmt;

use aws_lc_rs::constant_time;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::{FlaskClaims, FlaskTokenError, Segment, Verified, algorithm_by_name, digest};
use countersign_jwt::claims::TokenType;
use countersign_jwt::json;
use countersign_jwt::json::JsonError;
use countersign_jwt::jws;
use countersign_jwt::jws::Limits;
use countersign_jwt::key::{Algorithm, KeyError, VerifyingKey};
use countersign_jwt::time::Timestamp;

/// The tolerated difference between the clocks of issuer and verifier, in milliseconds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Leeway(i64);

impl Leeway {
    /// A leeway of this many milliseconds.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }
}

/// A token as its own text states it, before anything is proven. It serves to choose the key that verifies it.
pub struct UnverifiedToken<'a> {
    header: Map<String, Value>,
    payload: Vec<u8>,
    signature: Vec<u8>,
    signed: &'a str,
}

impl fmt::Debug for UnverifiedToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnverifiedToken")
    }
}

impl<'a> UnverifiedToken<'a> {
    /// Takes a token apart. It is split at the first and the last dot; then header, payload and signature are decoded,
    /// in this order.
    ///
    /// # Errors
    /// [`FlaskTokenError`] for a text that is not in compact form.
    pub fn parse(token: &'a str) -> Result<Self, FlaskTokenError> {
        Self::parse_with(token, |text| jws::decode(text).ok())
    }

    fn parse_with(token: &'a str, decode: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Self, FlaskTokenError> {
        let limits = Limits::default();
        if token.len() > limits.token_bytes {
            return Err(FlaskTokenError::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(FlaskTokenError::NotEnoughSegments)?;
        let (header, payload) = signed.split_once('.').ok_or(FlaskTokenError::NotEnoughSegments)?;
        if header.len() > limits.header_bytes {
            return Err(FlaskTokenError::TooLong);
        }
        let decode = |text, segment| decode(text).ok_or(FlaskTokenError::Encoding(segment));
        let header = object(&decode(header, Segment::Header)?, Segment::Header)?;
        let payload = decode(payload, Segment::Payload)?;
        let signature = decode(signature, Segment::Signature)?;
        // A key that the token brings itself proves nothing (RFC 7515 §4.1.2 to 4.1.6).
        if let Some(name) = BROUGHT_KEYS.into_iter().find(|name| header.contains_key(*name)) {
            return Err(FlaskTokenError::RefusedHeader(name));
        }
        Ok(Self { header, payload, signature, signed })
    }

    /// The header, unproven.
    #[must_use]
    pub fn header(&self) -> &Map<String, Value> {
        &self.header
    }

    /// The claims, unproven.
    ///
    /// # Errors
    /// [`FlaskTokenError`] if the payload is not a strict JSON object.
    pub fn claims(&self) -> Result<Map<String, Value>, FlaskTokenError> {
        object(&self.payload, Segment::Payload)
    }

    /// Checks the members of the header that must be looked at before the key is chosen.
    ///
    /// # Errors
    /// [`FlaskTokenError`] for a `kid` that is no text, and for critical extensions. The only known extension is `b64`,
    /// and only with its default value.
    pub fn check_header(&self) -> Result<(), FlaskTokenError> {
        if self.header.get("kid").is_some_and(|id| !id.is_string()) {
            return Err(FlaskTokenError::KeyIdType);
        }
        if let Some(critical) = self.header.get("crit") {
            let list = critical.as_array().filter(|list| !list.is_empty());
            for name in list.ok_or(FlaskTokenError::CriticalShape)? {
                let name = name.as_str().ok_or(FlaskTokenError::CriticalType)?;
                if name != "b64" {
                    return Err(FlaskTokenError::CriticalUnknown(name.to_owned()));
                }
                if !self.header.contains_key(name) {
                    return Err(FlaskTokenError::CriticalAbsent(name.to_owned()));
                }
            }
        }
        // A `b64` that is no boolean and is not declared critical must be ignored, as an unknown member is (RFC 7515
        // §4).
        let is_critical = self.header.contains_key("crit");
        match self.header.get("b64") {
            Some(Value::Bool(false)) => return Err(FlaskTokenError::DetachedPayload),
            Some(encoded) if is_critical && !encoded.is_boolean() => {
                return Err(FlaskTokenError::DetachedPayload);
            }
            _ => {}
        }
        Ok(())
    }

    /// The token's algorithm, if its name is among the allowed ones.
    fn algorithm(&self, allowed: &[String]) -> Result<Algorithm, FlaskTokenError> {
        let name = self.header.get("alg").ok_or(FlaskTokenError::NoAlgorithm)?;
        let name = name.as_str().filter(|name| allowed.iter().any(|allowed| allowed == name));
        algorithm_by_name(name.ok_or(FlaskTokenError::AlgorithmNotAllowed)?)
            .ok_or(FlaskTokenError::AlgorithmUnknown)
    }

    fn check_signature(&self, key: &VerifyingKey) -> Result<(), FlaskTokenError> {
        if key.accepts(self.signed.as_bytes(), &self.signature) {
            Ok(())
        } else {
            Err(FlaskTokenError::Signature)
        }
    }
}

/// The configured checks of a token under Flask-JWT-Extended's rules.
#[derive(Clone, Debug, Default)]
pub struct FlaskJwtExtendedChecks {
    /// The accepted names of `alg`.
    pub algorithms: Vec<String>,
    /// The audiences of which `aud` must name one; `None` if `aud` is not checked.
    pub audience: Option<Vec<String>>,
    /// The issuers of which `iss` must be one; `None` if `iss` is not checked.
    pub issuer: Option<Vec<String>>,
    /// The leeway for `exp`, `nbf` and `iat`.
    pub leeway: Leeway,
    /// Whether `sub` must be text.
    pub subject_is_text: bool,
    /// The claim that names the user.
    pub identity_claim: String,
    /// Whether access tokens may be without `exp`.
    pub access_without_expiry: bool,
    /// Whether refresh tokens may be without `exp`.
    pub refresh_without_expiry: bool,
}

impl FlaskJwtExtendedChecks {
    /// Verifies a token. `key` gives the key for an algorithm, after the header and the claims were read.
    ///
    /// # Errors
    /// [`FlaskTokenError`]. [`FlaskTokenError::Expired`] is returned only where nothing else is wrong.
    pub fn verify(
        &self,
        token: &UnverifiedToken<'_>,
        claims: Map<String, Value>,
        key: impl FnOnce(Algorithm) -> Result<VerifyingKey, KeyError>,
        now: Timestamp,
    ) -> Result<FlaskClaims, FlaskTokenError> {
        let key = key(token.algorithm(&self.algorithms)?).map_err(FlaskTokenError::Key)?;
        token.check_signature(&key)?;
        let end = self.check_times(&claims, now)?;
        self.check_parties(&claims)?;
        let mut claims = claims;
        claims.entry("type").or_insert_with(|| "access".into());
        claims.entry("fresh").or_insert(false.into());
        claims.entry("jti").or_insert(Value::Null);
        let verified = FlaskClaims(
            Verified {
                header: token.header.clone(),
                claims,
                identity_claim: self.identity_claim.clone(),
                digest: digest(&token.payload),
            }
            .into(),
        );
        match end {
            End::Ahead => Ok(verified),
            End::Passed => Err(FlaskTokenError::Expired(verified.into())),
            End::Missing => Err(FlaskTokenError::NoExpiry(verified.into())),
        }
    }

    /// Checks `iat` and `nbf`, and returns what `exp` tells about the token's end.
    fn check_times(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<End, FlaskTokenError> {
        let latest = i128::from(now.as_millis()) + i128::from(self.leeway.0);
        for name in ["iat", "nbf"] {
            if time(claims, name)?.is_some_and(|time| time > latest) {
                return Err(FlaskTokenError::NotYetValid(name));
            }
        }
        match time(claims, "exp")? {
            Some(end) if end <= i128::from(now.as_millis()) - i128::from(self.leeway.0) => Ok(End::Passed),
            Some(_) => Ok(End::Ahead),
            None => {
                let is_refresh =
                    claims.get("type").and_then(Value::as_str) == Some(TokenType::Refresh.as_str());
                let may = if is_refresh { self.refresh_without_expiry } else { self.access_without_expiry };
                Ok(if may { End::Ahead } else { End::Missing })
            }
        }
    }

    fn check_parties(&self, claims: &Map<String, Value>) -> Result<(), FlaskTokenError> {
        if let Some(expected) = &self.issuer {
            let issuer = claims.get("iss").ok_or_else(|| FlaskTokenError::MissingClaim("iss".to_owned()))?;
            let issuer = issuer.as_str().ok_or(FlaskTokenError::IssuerType)?;
            if !expected.iter().any(|expected| expected == issuer) {
                return Err(FlaskTokenError::Issuer);
            }
        }
        if let Some(expected) = &self.audience {
            let stated = claims.get("aud").filter(|audience| !is_falsy(audience));
            let stated = stated.ok_or_else(|| FlaskTokenError::MissingClaim("aud".to_owned()))?;
            if !audiences(stated)?.any(|audience| expected.iter().any(|expected| expected == audience)) {
                return Err(FlaskTokenError::Audience);
            }
        }
        if self.subject_is_text && claims.get("sub").is_some_and(|subject| !subject.is_string()) {
            return Err(FlaskTokenError::SubjectType);
        }
        if claims.get("jti").is_some_and(|id| !id.is_string()) {
            return Err(FlaskTokenError::TokenIdType);
        }
        if !claims.contains_key(&self.identity_claim) {
            return Err(FlaskTokenError::MissingIdentity(self.identity_claim.clone()));
        }
        // The library itself does not check `type`, so this error comes last.
        if claims.get("type").is_some_and(|token_type| !token_type.is_string()) {
            return Err(FlaskTokenError::TokenTypeType);
        }
        Ok(())
    }
}

/// What a token tells about its end.
enum End {
    /// The end is in the future, or the token may be without one.
    Ahead,
    /// The end has passed.
    Passed,
    /// The token tells no end, although it must.
    Missing,
}

/// The configured checks of a token under Flask-JWT's rules.
#[derive(Clone, Debug)]
pub struct FlaskJwtChecks {
    /// The one accepted name of `alg`.
    pub algorithm: String,
    /// The leeway for `exp`, `nbf` and `iat`, in whole seconds.
    pub leeway: Leeway,
    /// The claims among `exp`, `iat` and `nbf` that must be present.
    pub required: Vec<String>,
    /// The claim that names the user.
    pub identity_claim: String,
}

impl FlaskJwtChecks {
    /// Verifies a token. `key` gives the key for an algorithm.
    ///
    /// # Errors
    /// [`FlaskTokenError`].
    pub fn verify(
        &self,
        token: &UnverifiedToken<'_>,
        key: impl FnOnce(Algorithm) -> Result<VerifyingKey, KeyError>,
        now: Timestamp,
    ) -> Result<FlaskClaims, FlaskTokenError> {
        // Flask-JWT reports an absent algorithm in the same way as a wrong one.
        let algorithm =
            token.algorithm(std::slice::from_ref(&self.algorithm)).map_err(|error| match error {
                FlaskTokenError::NoAlgorithm => FlaskTokenError::AlgorithmNotAllowed,
                error => error,
            })?;
        token.check_signature(&key(algorithm).map_err(FlaskTokenError::Key)?)?;
        let claims = token.claims()?;
        for name in ["exp", "iat", "nbf"] {
            let is_absent = claims.get(name).is_none_or(Value::is_null);
            if is_absent && self.required.iter().any(|required| required == name) {
                return Err(FlaskTokenError::MissingClaim(name.to_owned()));
            }
        }
        let now = i128::from(now.as_secs()) * 1000;
        let latest = now + i128::from(self.leeway.0);
        for name in ["iat", "nbf"] {
            if time(&claims, name)?.is_some_and(|time| time > latest) {
                return Err(FlaskTokenError::NotYetValid(name));
            }
        }
        let expired = time(&claims, "exp")?.is_some_and(|end| end < now - i128::from(self.leeway.0));
        let verified = Verified {
            header: token.header.clone(),
            identity_claim: self.identity_claim.clone(),
            digest: digest(&token.payload),
            claims,
        };
        let claims = &verified.claims;
        if expired {
            return Err(FlaskTokenError::Expired(FlaskClaims(verified.into()).into()));
        }
        if let Some(audience) = claims.get("aud").filter(|_| !is_own_refresh(claims)) {
            // Flask-JWT can be configured with no audience, so any audience in a token means another service.
            return Err(match audiences(audience) {
                Ok(_) => FlaskTokenError::Audience,
                Err(error) => error,
            });
        }
        Ok(FlaskClaims(verified.into()))
    }
}

/// The `aud` of the refresh tokens that Countersign adds to Flask-JWT.
///
/// Flask-JWT itself has no refresh tokens and does not check `type`, so it would take a refresh token for an access
/// token that lives for weeks. It refuses every token that names an audience, so refresh tokens name this one.
/// lives for weeks. It refuses every token that names an audience, so these name one.
pub const FLASK_JWT_REFRESH_AUDIENCE: &str = "countersign-refresh";

fn is_own_refresh(claims: &Map<String, Value>) -> bool {
    let says = |name: &str, text: &str| claims.get(name).and_then(Value::as_str) == Some(text);
    says("type", TokenType::Refresh.as_str()) && says("aud", FLASK_JWT_REFRESH_AUDIENCE)
}

impl FlaskJwtChecks {
    /// The error that Flask-JWT's clients expect for a token that was `refused` for not being strict base64url.
    /// Flask-JWT drops foreign characters and goes on to the error that comes next; if none comes, the error is the
    /// encoding after all. Use the result for messages only: the token stays refused, and the claims in
    /// [`FlaskTokenError::Expired`] prove nothing.
    pub fn explain(
        &self,
        token: &str,
        refused: FlaskTokenError,
        key: impl FnOnce(Algorithm) -> Result<VerifyingKey, KeyError>,
        now: Timestamp,
    ) -> FlaskTokenError {
        let FlaskTokenError::Encoding(_) = refused else { return refused };
        let next = UnverifiedToken::parse_with(token, decode_loosely)
            .and_then(|token| self.verify(&token, key, now));
        next.err().unwrap_or(refused)
    }
}

/// Decodes base64 as Python does: the text is padded as if it held no foreign character, and those are then dropped.
fn decode_loosely(text: &str) -> Option<Vec<u8>> {
    let filling = text.len().next_multiple_of(4) - text.len();
    let (mut bytes, mut bits, mut quad, mut padding) = (Vec::new(), 0_u32, 0_u32, 0_u32);
    for byte in text.bytes().chain(std::iter::repeat_n(b'=', filling)) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b'=' if quad >= 2 && quad + padding + 1 >= 4 => return Some(bytes),
            b'=' if quad >= 2 => {
                padding += 1;
                continue;
            }
            _ => continue,
        };
        padding = 0;
        bits = (bits << 6 | u32::from(value)) & 0xff_ffff;
        if quad > 0 {
            let [.., byte] = (bits >> (6 - 2 * quad)).to_be_bytes();
            bytes.push(byte);
        }
        quad = (quad + 1) % 4;
    }
    (quad == 0).then_some(bytes)
}

/// Compares a presented value with the one that a token is bound to, in constant time.
pub(super) fn same(presented: &[u8], expected: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(presented, expected).is_ok()
}

impl FlaskClaims {
    /// Whether `presented` is the CSRF value that the token is bound to, compared in constant time. An empty value
    /// never matches.
    #[must_use]
    pub fn csrf_matches(&self, presented: &[u8]) -> bool {
        self.csrf().is_some_and(|expected| !expected.is_empty() && same(presented, expected.as_bytes()))
    }
}

/// Reads a strict JSON object.
fn object(text: &[u8], segment: Segment) -> Result<Map<String, Value>, FlaskTokenError> {
    json::object(text).map_err(|error| match error {
        JsonError::Syntax if serde_json::from_slice::<IgnoredAny>(text).is_ok() => {
            FlaskTokenError::NotAnObject(segment)
        }
        error => FlaskTokenError::Json(segment, error),
    })
}

/// A time claim in milliseconds, truncated to whole seconds.
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<i128>, FlaskTokenError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    match seconds(value) {
        Some(seconds) => Ok(Some(i128::from(seconds) * 1000)),
        None => Err(FlaskTokenError::NotANumber(name)),
    }
}

/// A number, truncated to whole seconds.
pub(super) fn seconds(value: &Value) -> Option<i64> {
    let Value::Number(number) = value else { return None };
    #[expect(clippy::cast_possible_truncation, reason = "a cast from a float saturates")]
    number.as_i64().or_else(|| number.as_f64().filter(|float| float.is_finite()).map(|float| float as i64))
}

fn audiences(value: &Value) -> Result<impl Iterator<Item = &str>, FlaskTokenError> {
    let list = match value {
        Value::String(_) => std::slice::from_ref(value),
        Value::Array(list) => list.as_slice(),
        _ => return Err(FlaskTokenError::AudienceType),
    };
    if !list.iter().all(Value::is_string) {
        return Err(FlaskTokenError::AudienceType);
    }
    Ok(list.iter().filter_map(Value::as_str))
}

/// Whether Python, in which Flask's libraries are written, treats the value as false: `null`, `false`, zero, or
/// anything empty.
#[must_use]
pub fn is_falsy(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

const BROUGHT_KEYS: [&str; 4] = ["jwk", "jku", "x5u", "x5c"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use countersign_jwt::key::ImportRules;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn key() -> VerifyingKey {
        let secret = b"k3-Vq8Zt7_Wm4Kc9Ru6Jd3Fs0Hv2Lp5Go8";
        VerifyingKey::hmac_with(ImportRules::strict(), Algorithm::Hs256, secret).unwrap()
    }

    #[test]
    fn base64_is_decoded_loosely_as_python_does() {
        let table: [(&str, Option<&[u8]>); 12] = [
            ("", Some(b"")),
            ("YQ", Some(b"a")),
            ("YQ==", Some(b"a")),
            ("YR", Some(b"a")),
            ("!", Some(b"")),
            ("=", Some(b"")),
            ("Y", None),
            // The text is padded as if it had three characters, with one `=` where two are needed.
            ("YQ!", None),
            ("Y!W!J!j!", Some(b"abc")),
            ("-_+/", Some(&[0xfb, 0xff, 0xbf])),
            ("YQ==YWJj", Some(b"a")),
            ("YW=Jj", Some(b"abc")),
        ];
        for (text, bytes) in table {
            assert_eq!(decode_loosely(text).as_deref(), bytes, "{text:?}");
        }
    }

    #[test]
    fn a_loosely_encoded_token_is_refused_whatever_else_holds() {
        let rules = FlaskJwtChecks {
            algorithm: "HS256".to_owned(),
            leeway: Leeway::default(),
            required: Vec::new(),
            identity_claim: "identity".to_owned(),
        };
        let explained = |token: &str| {
            let refused = UnverifiedToken::parse(token).map(|_| ()).unwrap_err();
            rules.explain(token, refused, |_| Ok(key()), NOW)
        };
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
        // The signature covers the star, which is dropped before the payload is read.
        let signed = format!("{header}.eyJpZGVudGl0eSI6MX0*");
        let signature = aws_lc_rs::hmac::sign(
            &aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"k3-Vq8Zt7_Wm4Kc9Ru6Jd3Fs0Hv2Lp5Go8"),
            signed.as_bytes(),
        );
        let good = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        assert_eq!(explained(&good), FlaskTokenError::Encoding(Segment::Payload));
        assert_eq!(explained(&format!("{header}.e30.xyz")), FlaskTokenError::Signature);
        assert!(matches!(explained("not.a.token"), FlaskTokenError::Json(Segment::Header, _)));
        assert_eq!(explained("a.b"), FlaskTokenError::NotEnoughSegments);
    }

    #[test]
    fn b64_matters_where_it_is_a_boolean_or_critical() {
        for (header, refused) in [
            (json!({"b64": false}), true),
            (json!({"b64": true}), false),
            (json!({"b64": 0}), false),
            (json!({"b64": null, "crit": ["b64"]}), true),
            (json!({"b64": true, "crit": ["b64"]}), false),
        ] {
            let token = format!("{}.e30.", URL_SAFE_NO_PAD.encode(header.to_string()));
            let checked = UnverifiedToken::parse(&token).unwrap().check_header();
            assert_eq!(checked.is_err(), refused, "{header}");
        }
    }
}
