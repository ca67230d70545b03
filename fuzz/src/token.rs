//! What has to become of a token, found a second way, and what `jsonwebtoken` says of it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use countersign_jwt::claims::decode_unverified;
use countersign_jwt::jws;
use countersign_jwt::jws::Verified;
use countersign_jwt::{Algorithm, KeyId, Timestamp, TokenType, Verifier, VerifyError, VerifyErrorKind};
use serde_json::{Map, Value};

use crate::json::{self, decode};
use crate::keys::{KEYS, Key, RING};
use crate::memory::{LITTLE, TREE, bounded};

/// Judges a token by [`RING`] and checks that the verdict is right: what is accepted has one spelling, a header that
/// says what it should and a signature that others accept; what is refused is refused for a reason that is there.
pub(crate) fn judge(token: &str) -> Result<Verified, VerifyError> {
    LazyLock::force(&RING);
    let verdict = bounded(token.len(), LITTLE, || jws::verify(token, &RING));
    match &verdict {
        Ok(verified) => check_accepted(token, verified),
        Err(error) => {
            check_refused(token, *error);
            check_stricter(token, *error);
        }
    }
    check_verifiers(token, verdict.is_ok());
    check_decoded(token);
    verdict
}

fn check_accepted(token: &str, verified: &Verified) {
    assert!(token.len() <= 8_192);
    let [header, payload, signature] = segments(token).expect("three segments");
    assert!(header.len() <= 2_048);
    let (head, body) = (decode(header).expect("base64url"), decode(payload).expect("base64url"));
    assert!(decode(signature).is_some(), "the signature is canonical");
    assert_eq!(body, verified.payload, "what was signed is what is read");
    let (faults, named) = header_faults(&head);
    assert!(faults.is_empty(), "accepted in spite of {faults:?}");
    let key = named.expect("a good header names a key");
    assert_eq!(verified.header.algorithm(), key.signing.algorithm());
    let (_, members) = json::faults(&head);
    assert_eq!(verified.header.key_id().map(KeyId::as_str), members.get("kid").and_then(Value::as_str));
    assert_eq!(verified.header.typ(), members.get("typ").and_then(Value::as_str));
    if let Some((algorithm, theirs)) = &key.theirs {
        let (input, _) = token.rsplit_once('.').expect("three segments");
        let verdict = jsonwebtoken::crypto::verify(signature, input.as_bytes(), theirs, *algorithm);
        assert_eq!(verdict.ok(), Some(true), "they refuse the signature");
        // They read the members that nobody needs, too, and refuse those that are no texts.
        let unread = ["x5t", "x5t#S256", "url", "nonce"];
        if unread.iter().all(|name| members.get(*name).is_none_or(Value::is_string)) {
            let header = jsonwebtoken::decode_header(token).expect("they read the header");
            assert_eq!(header.alg, *algorithm);
            assert_eq!(header.kid.as_deref(), members.get("kid").and_then(Value::as_str));
            assert_eq!(header.typ.as_deref(), members.get("typ").and_then(Value::as_str));
        }
    }
}

fn check_refused(token: &str, error: VerifyError) {
    let segments = segments(token);
    let decoded = segments.map(|segments| segments.map(decode));
    match error {
        VerifyError::TooLong => {
            let header = token.split('.').next().unwrap_or_default();
            assert!(token.len() > 8_192 || header.len() > 2_048);
        }
        VerifyError::NotCompact => {
            assert!(segments.is_none());
        }
        VerifyError::Encoding => {
            assert!(decoded.expect("three segments").iter().any(Option::is_none));
        }
        VerifyError::Signature => {
            let [header, _, signature] = segments.expect("three segments");
            let (faults, key) = header_faults(&decode(header).expect("base64url"));
            assert!(faults.is_empty(), "signature is checked after the header: {faults:?}");
            let (input, _) = token.rsplit_once('.').expect("three segments");
            if let Some((algorithm, theirs)) = &key.expect("named by a good header").theirs {
                let verdict = jsonwebtoken::crypto::verify(signature, input.as_bytes(), theirs, *algorithm);
                assert!(!verdict.is_ok_and(|holds| holds), "they accept the signature");
            }
        }
        error => {
            assert!(matches!(error.kind(), VerifyErrorKind::Malformed | VerifyErrorKind::Key), "{error}");
            let [header, ..] = decoded.expect("three segments");
            let (faults, _) = header_faults(&header.expect("base64url"));
            assert!(json::explains(&faults, header_fault(error)), "{error}, but {faults:?}");
        }
    }
}

/// What `jsonwebtoken` accepts and we do not is refused by one of the rules that are stricter on purpose.
fn check_stricter(token: &str, error: VerifyError) {
    let Ok(header) = jsonwebtoken::decode_header(token) else { return };
    let fits = |key: &&Key| key.theirs.as_ref().is_some_and(|(algorithm, _)| *algorithm == header.alg);
    let mut fitting =
        KEYS.iter().filter(fits).filter(|key| header.kid.as_deref().is_none_or(|id| id == key.id()));
    let (Some(key), None) = (fitting.next(), fitting.next()) else { return };
    let (Some((algorithm, theirs)), Some((input, signature))) = (&key.theirs, token.rsplit_once('.')) else {
        return;
    };
    let holds = jsonwebtoken::crypto::verify(signature, input.as_bytes(), theirs, *algorithm);
    let readable = input.rsplit_once('.').is_some_and(|(_, payload)| decode(payload).is_some());
    if holds.is_ok_and(|holds| holds) && readable {
        assert!(
            matches!(
                error,
                VerifyError::TooLong
                    | VerifyError::Header(_)
                    | VerifyError::InvalidHeader(_)
                    | VerifyError::RefusedHeader(_)
            ),
            "they accept it; {error}"
        );
    }
}

/// Verifiers accept nothing that is not signed, and the same at each presentation.
fn check_verifiers(token: &str, signed: bool) {
    for verifier in VERIFIERS.iter() {
        let first = bounded(token.len(), TREE, || verifier.verify(token, now()));
        assert_eq!(verifier.verify(token, now()), first, "seen before");
        let at_any_time = verifier.verify_expired_ok(token);
        match first {
            Ok(claims) => {
                assert!(signed, "accepted without a signature");
                assert_eq!(at_any_time.as_ref(), Ok(&claims));
                let said = decode_unverified(token).expect("what is accepted can be read");
                assert_eq!(said.claims()["sub"], claims.subject().as_str());
            }
            Err(error) => {
                let about_claims = matches!(
                    error,
                    VerifyError::Claims(_)
                        | VerifyError::Typ { .. }
                        | VerifyError::TokenType { .. }
                        | VerifyError::MissingClaim(_)
                        | VerifyError::InvalidClaim(_)
                        | VerifyError::Expired
                        | VerifyError::NotYetValid
                        | VerifyError::IssuedInFuture
                        | VerifyError::Issuer
                        | VerifyError::Audience
                );
                assert!(signed || !about_claims, "no claim is read before the signature holds: {error}");
            }
        }
    }
}

/// Looking in needs no signature, and is as strict about everything else.
fn check_decoded(token: &str) {
    let decoded = bounded(token.len(), TREE, || decode_unverified(token));
    let parts = segments(token).filter(|[header, ..]| token.len() <= 8_192 && header.len() <= 2_048);
    let faults = parts.map(|[header, payload, _]| {
        let (head, body) = (decode(header)?, decode(payload)?);
        let (mut faults, header) = json::faults(&head);
        let (others, claims) = json::faults(&body);
        faults.extend(others);
        Some((faults, header, claims))
    });
    match (decoded, faults.flatten()) {
        (Ok(decoded), Some((faults, header, claims))) => {
            assert!(faults.is_empty(), "decoded in spite of {faults:?}");
            assert_eq!((decoded.header(), decoded.claims()), (&header, &claims));
        }
        (Ok(_), None) => panic!("decoded, but not compact"),
        (Err(error), Some((faults, ..))) => assert!(!faults.is_empty(), "not decoded: {error}"),
        (Err(_), None) => {}
    }
}

/// Why a header must be refused; the key that it names where it need not.
pub(crate) fn header_faults(text: &[u8]) -> (BTreeSet<&'static str>, Option<&'static Key>) {
    let (mut faults, members) = json::faults(text);
    for name in ["jwk", "jku", "x5u", "x5c", "crit", "b64", "enc", "zip"] {
        if members.contains_key(name) {
            faults.insert("refused member");
        }
    }
    for name in ["alg", "kid", "typ", "cty"] {
        if members.get(name).is_some_and(|value| !value.is_string()) {
            faults.insert("invalid member");
        }
    }
    if let Some(content) = members.get("cty").and_then(Value::as_str) {
        let content = content.to_ascii_lowercase();
        if matches!(content.as_str(), "jwt" | "application/jwt") {
            faults.insert("refused member");
        }
    }
    let Some(name) = members.get("alg").and_then(Value::as_str) else {
        faults.insert("invalid member");
        return (faults, None);
    };
    // Ed25519 has two names (RFC 9864 §2.2).
    let name = if name == "Ed25519" { "EdDSA" } else { name };
    let algorithm = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name);
    let key = match kid(&members) {
        Some(id) if id.len() > 128 => {
            faults.insert("invalid member");
            None
        }
        Some(id) => KEYS.iter().find(|key| key.id() == id).or_else(|| {
            faults.insert("unknown key");
            None
        }),
        None => {
            let mut fitting = KEYS.iter().filter(|key| Some(key.signing.algorithm()) == algorithm);
            match (fitting.next(), fitting.next()) {
                (Some(only), None) => Some(only),
                _ => {
                    faults.insert("no key named");
                    None
                }
            }
        }
    };
    if key.is_none_or(|key| Some(key.signing.algorithm()) != algorithm) {
        faults.insert("other algorithm");
    }
    (faults, key)
}

fn kid(members: &Map<String, Value>) -> Option<&str> {
    members.get("kid").and_then(Value::as_str)
}

fn header_fault(error: VerifyError) -> &'static str {
    match error {
        VerifyError::Header(error) => json::fault(error),
        VerifyError::InvalidHeader(_) => "invalid member",
        VerifyError::RefusedHeader(_) => "refused member",
        VerifyError::UnknownKey => "unknown key",
        VerifyError::NoKeyNamed => "no key named",
        VerifyError::Algorithm => "other algorithm",
        error => panic!("not about a header: {error}"),
    }
}

fn is_compact(token: &str) -> bool {
    let clean = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    token.bytes().all(clean) && token.bytes().filter(|byte| *byte == b'.').count() == 2
}

fn segments(token: &str) -> Option<[&str; 3]> {
    let segments: Vec<_> = token.split('.').collect();
    if is_compact(token) { segments.try_into().ok() } else { None }
}

/// One for each kind of token, remembering what it saw.
static VERIFIERS: LazyLock<Vec<Verifier>> = LazyLock::new(|| {
    let verifier = |kind| Verifier::with_fixed_keys(kind, RING.clone()).with_cache(16);
    TokenType::ALL.map(verifier).into()
});

pub(crate) fn now() -> Timestamp {
    Timestamp::from_secs(NOW)
}

pub(crate) const NOW: i64 = 1_800_000_000;
