//! Payloads of any bytes, signed by the right key: nothing but the claims decides.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use countersign_jwt::claims::REGISTERED;
use countersign_jwt::jws::SignError;
use countersign_jwt::{
    Algorithm, Claims, Freshness, Issuer, NewClaims, Timestamp, TokenType, UserId, Verifier, VerifyError,
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::json::{self, fault};
use crate::keys::{Key, RING, key_of};
use crate::memory::{TREE, bounded};
use crate::token::NOW;

/// The first byte chooses the verifier, the second one the time, the others are the claims.
pub fn claims(input: &[u8]) {
    let [choice, moment, payload @ ..] = input else { return };
    let expected = Expected::chosen(*choice, *moment);
    let kind = expected.kind.header_typ();
    let header = json!({"alg": "HS256", "kid": KEY.id(), "typ": kind}).to_string();
    let token = KEY.token(header, payload);
    if token.len() > 8_192 {
        return;
    }
    let verifier = expected.verifier();
    let verdict = bounded(token.len(), TREE, || verifier.verify(&token, expected.now));
    assert_eq!(verifier.verify(&token, expected.now), verdict, "seen before");
    let faults = expected.faults(payload);
    match &verdict {
        Ok(claims) => {
            assert!(faults.is_empty(), "accepted in spite of {faults:?}");
            check_values(claims, &json::faults(payload).1);
            check_theirs(&token, &expected);
            check_round_trip(claims, &expected);
        }
        Err(error) => assert!(json::explains(&faults, &reason(*error)), "{error}, but {faults:?}"),
    }
    match verifier.verify_expired_ok(&token) {
        Ok(claims) => {
            let late: [&str; 4] = ["expired", "not yet", "from the future", "no exp"];
            assert!(faults.iter().all(|fault| late.iter().any(|late| late == fault)), "{faults:?}");
            assert!(verdict.is_err() || verdict == Ok(claims));
        }
        Err(error) => {
            assert!(verdict.is_err() && json::explains(&faults, &reason(error)), "{error}, but {faults:?}")
        }
    }
}

/// What a verifier is set to.
struct Expected {
    kind: TokenType,
    issuer: Option<&'static str>,
    audience: Option<&'static str>,
    leeway: i64,
    now: Timestamp,
}

impl Expected {
    fn chosen(choice: u8, moment: u8) -> Self {
        let bit = |bit: u8| choice >> bit & 1 == 1;
        let offset = i64::from(moment.cast_signed());
        Self {
            kind: if bit(0) { TokenType::Refresh } else { TokenType::Access },
            issuer: bit(1).then_some("https://auth.example"),
            audience: bit(2).then_some("https://api.example"),
            leeway: if bit(3) { 30 } else { 0 },
            now: match choice >> 4 {
                1 => Timestamp::MIN,
                2 => Timestamp::MAX,
                3 => Timestamp::from_secs((1 << 31) + offset),
                _ => Timestamp::from_secs(NOW + offset),
            },
        }
    }

    fn verifier(&self) -> Verifier {
        let leeway = Duration::from_secs(self.leeway.unsigned_abs());
        let mut verifier = Verifier::with_fixed_keys(self.kind, RING.clone()).with_cache(4);
        verifier = verifier.with_leeway(leeway).expect("a short one");
        if let Some(issuer) = self.issuer {
            verifier = verifier.with_issuer(issuer);
        }
        match self.audience {
            Some(audience) => verifier.with_audience(audience),
            None => verifier,
        }
    }

    /// Every reason to refuse these claims, from a tree of them.
    fn faults(&self, payload: &[u8]) -> BTreeSet<String> {
        let (faults, claims) = json::faults(payload);
        let mut faults: BTreeSet<_> = faults.into_iter().map(str::to_owned).collect();
        for name in REGISTERED {
            if claims.get(name).is_some_and(|value| !is_valid(name, value)) {
                faults.insert(format!("invalid {name}"));
            }
        }
        for name in ["sub", "jti", "type"] {
            if !claims.contains_key(name) {
                faults.insert(format!("no {name}"));
            }
        }
        let session = ["sid", "gen", "epoch"];
        for name in session {
            if !claims.contains_key(name) && session.iter().any(|other| claims.contains_key(*other)) {
                faults.insert(format!("no {name}"));
            }
        }
        if claims.get("type").is_some_and(|kind| kind != self.kind.as_str()) {
            faults.insert("other kind".to_owned());
        }
        let fault = |condition: bool, name: &str| condition.then(|| name.to_owned());
        faults.extend(fault(
            self.issuer.is_some_and(|issuer| claims.get("iss") != Some(&json!(issuer))),
            "issuer",
        ));
        let audience: Vec<_> = match claims.get("aud") {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let meant = self.audience.map_or(audience.is_empty(), |ours| audience.contains(&ours));
        faults.extend(fault(!meant, "audience"));
        self.time_faults(&claims, &mut faults);
        faults
    }

    fn time_faults(&self, claims: &Map<String, Value>, faults: &mut BTreeSet<String>) {
        // In milliseconds, where the largest time ends.
        let time = |name: &str, round: fn(f64) -> f64| {
            let seconds = claims.get(name).and_then(Value::as_f64)?;
            Some((round(seconds * 1000.0) as i64).clamp(0, Timestamp::MAX.as_millis()))
        };
        let add = |time: i64| (time + self.leeway * 1000).min(Timestamp::MAX.as_millis());
        let now = self.now.as_millis();
        match time("exp", f64::floor) {
            None => drop(faults.insert("no exp".to_owned())),
            Some(exp) if now >= add(exp) => drop(faults.insert("expired".to_owned())),
            Some(_) => {}
        }
        if self.kind == TokenType::Access {
            if time("nbf", f64::ceil).is_some_and(|nbf| nbf > add(now)) {
                faults.insert("not yet".to_owned());
            }
            if time("iat", f64::floor).is_some_and(|iat| iat > add(now)) {
                faults.insert("from the future".to_owned());
            }
        }
    }
}

/// Whether a registered claim is of its type and in its range.
fn is_valid(name: &str, value: &Value) -> bool {
    let is_time = |value: &Value| match value.as_u64() {
        Some(seconds) => seconds <= 1 << 53,
        None => value.as_f64().is_some_and(|seconds| (0.0..=9_007_199_254_740_992.0).contains(&seconds)),
    };
    let text = value.as_str();
    match name {
        "iss" | "csrf" => text.is_some(),
        "sub" => text.is_some_and(|text| UserId::new(text).is_ok()),
        "aud" => {
            let list = value.as_array();
            text.is_some()
                || list
                    .is_some_and(|list| (1..=64).contains(&list.len()) && list.iter().all(Value::is_string))
        }
        "iat" | "nbf" | "exp" => is_time(value),
        "jti" | "sid" => text.is_some_and(|text| {
            Uuid::try_parse(text).is_ok_and(|id| text.eq_ignore_ascii_case(&id.to_string()))
        }),
        "type" => matches!(text, Some("access" | "refresh")),
        "fresh" => value.is_boolean() || is_time(value),
        "gen" => value.as_u64().is_some_and(|number| u32::try_from(number).is_ok()),
        "epoch" => value.as_u64().is_some(),
        other => panic!("{other} is registered"),
    }
}

/// What an error says, in the words of [`Expected::faults`].
fn reason(error: VerifyError) -> String {
    match error {
        VerifyError::Claims(error) => fault(error).to_owned(),
        VerifyError::MissingClaim(name) => format!("no {name}"),
        VerifyError::InvalidClaim(name) => format!("invalid {name}"),
        VerifyError::TokenType { .. } => "other kind".to_owned(),
        VerifyError::Expired => "expired".to_owned(),
        VerifyError::NotYetValid => "not yet".to_owned(),
        VerifyError::IssuedInFuture => "from the future".to_owned(),
        VerifyError::Issuer => "issuer".to_owned(),
        VerifyError::Audience => "audience".to_owned(),
        error => panic!("not about claims: {error}"),
    }
}

/// What was read is what is written there.
fn check_values(claims: &Claims, written: &Map<String, Value>) {
    assert_eq!(claims.subject().as_str(), written["sub"]);
    assert_eq!(claims.issuer(), written.get("iss").and_then(Value::as_str));
    assert_eq!(claims.csrf(), written.get("csrf").and_then(Value::as_str));
    assert_eq!(claims.token_type().as_str(), written["type"]);
    assert!(claims.token_id().to_string().eq_ignore_ascii_case(written["jti"].as_str().expect("a text")));
    let generation = claims.session().map(|session| session.generation.as_u32().into());
    assert_eq!(generation, written.get("gen").and_then(Value::as_u64));
    let epoch = claims.session().map(|session| session.epoch.as_u64());
    assert_eq!(epoch, written.get("epoch").and_then(Value::as_u64));
    match written.get("fresh") {
        None | Some(Value::Bool(false)) => assert_eq!(claims.freshness(), Freshness::Stale),
        Some(Value::Bool(true)) => assert_eq!(claims.freshness(), Freshness::Fresh),
        Some(_) => assert!(matches!(claims.freshness(), Freshness::Until(_))),
    }
    let mut others = written.clone();
    REGISTERED.iter().for_each(|name| drop(others.remove(*name)));
    assert_eq!(claims.others(), &others);
    for name in REGISTERED {
        assert_eq!(claims.get::<Value>(name), Ok(None), "a registered claim is none of the application's");
    }
}

/// What is accepted here, `jsonwebtoken` accepts, too, but for the times, which it takes from the system's clock.
fn check_theirs(token: &str, expected: &Expected) {
    let (algorithm, theirs) = KEY.theirs.as_ref().expect("they know HS256");
    let mut validation = jsonwebtoken::Validation::new(*algorithm);
    validation.set_required_spec_claims(&["exp", "sub"]);
    validation.validate_exp = false;
    if let Some(issuer) = expected.issuer {
        validation.set_issuer(&[issuer]);
        validation.required_spec_claims.insert("iss".to_owned());
    }
    if let Some(audience) = expected.audience {
        validation.set_audience(&[audience]);
        validation.required_spec_claims.insert("aud".to_owned());
    }
    let verdict = jsonwebtoken::decode::<Value>(token, theirs, &validation);
    assert!(verdict.is_ok(), "they refuse it: {:?}", verdict.err());
}

/// Issued again, the claims come back as they were. Times are written in whole seconds.
fn check_round_trip(claims: &Claims, expected: &Expected) {
    let whole = |time: Option<Timestamp>| time.is_none_or(|time| time.as_millis() % 1000 == 0);
    let fresh = match claims.freshness() {
        Freshness::Until(end) => Some(end),
        Freshness::Stale | Freshness::Fresh => None,
    };
    let times = [claims.issued_at(), claims.not_before(), claims.expires_at(), fresh];
    let (Some(issued_at), Some(expires_at)) = (claims.issued_at(), claims.expires_at()) else { return };
    if !times.into_iter().all(whole)
        || claims.audience().len() > 1
        || claims.others().values().any(has_fraction)
    {
        return;
    }
    let (subject, id) = (claims.subject().clone(), claims.token_id());
    let mut new = NewClaims::new(claims.token_type(), subject, id, issued_at, expires_at)
        .with_freshness(claims.freshness());
    if let Some(not_before) = claims.not_before() {
        new = new.with_not_before(not_before);
    }
    if let Some(session) = claims.session() {
        new = new.with_session(session);
    }
    if let Some(csrf) = claims.csrf() {
        new = new.with_csrf(csrf);
    }
    for (name, value) in claims.others() {
        new = new.with_claim(name, value).expect("not registered");
    }
    let mut issuer = Issuer::new(KEY.signing.clone());
    if let Some(name) = claims.issuer() {
        issuer = issuer.with_issuer(name);
    }
    if let [audience] = claims.audience() {
        issuer = issuer.with_audience(audience);
    }
    match issuer.issue(&new) {
        Ok(token) => assert_eq!(expected.verifier().verify(&token, expected.now).as_ref(), Ok(claims)),
        // Control characters take six bytes, and all registered names are counted.
        Err(error) => assert!(matches!(error, SignError::TooLong | SignError::TooManyClaims), "{error}"),
    }
}

/// Whether a number may be read as the one beside it.
fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(list) => list.iter().any(has_fraction),
        Value::Object(map) => map.values().any(has_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

static KEY: LazyLock<&Key> = LazyLock::new(|| key_of(Algorithm::Hs256));
