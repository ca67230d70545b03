//! Claims: what must hold before a token is valid here and now.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign_jwt::claims::{ClaimError, REGISTERED, decode_unverified};
use countersign_jwt::jws::SignError;
use countersign_jwt::{
    Algorithm, Freshness, Issuer, JsonError, KeyRing, NewClaims, Random, RandomError, Timestamp, TokenId,
    TokenType, UserId, Verifier, VerifyError, VerifyErrorKind, random,
};
use serde::Deserialize;
use serde_json::{Value, json};
use support::{
    ALL, NOW, Seeded, at, decode, header, issued, key, new_claims, payload, ring, signed, verifier, with,
};

const KEY: Algorithm = Algorithm::Hs256;

/// Verifies an access token with changed claims, one second after it was issued, without leeway.
fn verdict_on(changes: Value) -> Result<(), VerifyError> {
    verdict_on_raw(&with(payload(), changes))
}

fn verdict_on_raw(payload: &str) -> Result<(), VerifyError> {
    let key = key(KEY);
    let token = signed(&key, header(&key).to_string(), payload);
    verifier(&key, TokenType::Access).verify(&token, at(1)).map(drop)
}

#[test]
fn what_is_issued_comes_back() {
    for algorithm in ALL {
        for kind in TokenType::ALL {
            let key = key(algorithm);
            let claims = new_claims(kind)
                .with_csrf("c5rf")
                .with_not_before(at(0))
                .with_claim("roles", ["reader", "writer"])
                .unwrap();
            let token =
                Issuer::new(key.clone()).with_issuer("me").with_audience("you").issue(&claims).unwrap();
            let verifier = verifier(&key, kind).with_issuer("me").with_audience("you");
            let read = verifier.verify(&token, at(1)).unwrap();
            assert_eq!(read.issuer(), Some("me"));
            assert_eq!(read.subject().as_str(), "ada");
            assert_eq!(read.audience(), ["you"]);
            assert_eq!(read.issued_at(), Some(at(0)));
            assert_eq!(read.not_before(), Some(at(0)));
            assert_eq!(read.expires_at(), Some(at(900)));
            assert_eq!(read.token_id(), claims.token_id());
            assert_eq!(read.token_type(), kind);
            assert_eq!(read.freshness(), Freshness::Fresh);
            assert_eq!(read.session().unwrap().generation.as_u32(), 3);
            assert_eq!(read.csrf(), Some("c5rf"));
            assert_eq!(read.get("roles"), Ok(Some(vec!["reader".to_owned(), "writer".to_owned()])));
            assert_eq!(read.get::<String>("absent"), Ok(None));
            assert_eq!(read.get::<String>("roles"), Err(ClaimError::OtherType("roles".to_owned())));
        }
    }
}

#[test]
fn own_claims_are_read_as_one_struct() {
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Own {
        plan: String,
        seats: u32,
        #[serde(default)]
        beta: bool,
    }

    let key = key(Algorithm::EdDsa);
    let read = |claims: NewClaims| {
        let token = Issuer::new(key.clone()).issue(&claims).unwrap();
        verifier(&key, TokenType::Access).verify(&token, at(0)).unwrap()
    };
    let claims = new_claims(TokenType::Access).with_claim("plan", "team").unwrap();
    let both = read(claims.clone().with_claim("seats", 12).unwrap());
    assert_eq!(both.extra(), Ok(Own { plan: "team".to_owned(), seats: 12, beta: false }));
    assert_eq!(both.extra::<HashMap<String, Value>>().unwrap().len(), 2, "no registered claim among them");
    assert_eq!(both.extra::<HashMap<String, u32>>(), Err(ClaimError::NotExtra));
    assert_eq!(read(claims).extra::<Own>(), Err(ClaimError::NotExtra), "seats are missing");
}

#[test]
fn claims_are_written_in_a_fixed_order() {
    let claims = new_claims(TokenType::Access)
        .with_not_before(at(0))
        .with_freshness(Freshness::Until(at(60)))
        .with_csrf("c")
        .with_claim("a_first", 1)
        .unwrap();
    let token = Issuer::new(key(KEY)).with_issuer("me").with_audience("you").issue(&claims).unwrap();
    let json = String::from_utf8(decode(token.split('.').nth(1).unwrap())).unwrap();
    let session = decode_unverified(&token).unwrap().get::<String>("sid").unwrap().unwrap();
    assert_eq!(
        json,
        format!(
            r#"{{"iss":"me","sub":"ada","aud":"you","iat":1800000000,"nbf":1800000000,"exp":1800000900,"jti":"{}","type":"access","fresh":1800000060,"sid":"{session}","gen":3,"epoch":2,"csrf":"c","a_first":1}}"#,
            claims.token_id()
        )
    );
}

#[test]
fn sec_004_claims_are_one_utf8_json_object() {
    let key = key(KEY);
    let good = payload().to_string();
    for (case, payload, expected) in [
        ("mark", format!("\u{feff}{good}").into_bytes(), JsonError::Syntax),
        ("array", format!("[{good}]").into_bytes(), JsonError::Syntax),
        ("garbage", format!("{good}{{}}").into_bytes(), JsonError::Syntax),
        ("empty", Vec::new(), JsonError::Syntax),
        ("Latin-1", b"{\"sub\":\"\xe9\"}".to_vec(), JsonError::NotUtf8),
        ("UTF-16", good.bytes().flat_map(|byte| [0, byte]).collect(), JsonError::Syntax),
    ] {
        let token = signed(&key, header(&key).to_string(), payload);
        let verdict = verifier(&key, TokenType::Access).verify(&token, at(1)).map(drop);
        assert_eq!(verdict, Err(VerifyError::Claims(expected)), "{case}");
    }
    for surrogate in [r#""sub":"\ud800""#, r#""x":"\udfff""#, r#""\ud800":1"#] {
        let verdict = verdict_on_raw(&format!("{{{surrogate},{}", &good[1..]));
        assert!(matches!(verdict, Err(VerifyError::Claims(JsonError::Syntax))), "{surrogate}");
    }
}

#[test]
fn sec_005_deep_or_wide_claims_are_refused() {
    let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let nested = |depth| format!(r#"{{"x":{},{}"#, deep(depth), &payload().to_string()[1..]);
    assert_eq!(verdict_on_raw(&nested(31)), Ok(()));
    assert_eq!(verdict_on_raw(&nested(32)), Err(VerifyError::Claims(JsonError::TooLarge)));
    let wide = |members: usize| {
        let mut payload = payload();
        let own = payload.as_object().unwrap().len();
        for n in 0..members - own {
            payload.as_object_mut().unwrap().insert(format!("x{n}"), 1.into());
        }
        payload.to_string()
    };
    assert_eq!(verdict_on_raw(&wide(256)), Ok(()));
    assert_eq!(verdict_on_raw(&wide(257)), Err(VerifyError::Claims(JsonError::TooLarge)));

    let mut deep = json!(1);
    for _ in 0..40 {
        deep = json!([deep]);
    }
    let claims = new_claims(TokenType::Access).with_claim("deep", deep).unwrap();
    assert_eq!(Issuer::new(key(KEY)).issue(&claims), Err(SignError::TooManyClaims));
}

#[test]
fn sec_007_duplicate_claims_are_refused_although_signed() {
    let rest = &payload().to_string()[1..];
    for twin in [
        r#""sub":"eve""#,
        r#""\u0073ub":"eve""#,
        r#""exp":1"#,
        r#""type":"access""#,
        r#""x":1,"x":2"#,
        r#""x":1,"\u0078":2"#,
        r#""x":{"y":1,"y":1}"#,
        r#""x":[[{"y":1,"\u0079":1}]]"#,
    ] {
        let verdict = verdict_on_raw(&format!("{{{twin},{rest}"));
        assert_eq!(verdict, Err(VerifyError::Claims(JsonError::DuplicateMember)), "{twin}");
    }
}

#[test]
fn sec_014_typ_is_checked_per_kind() {
    for (kind, good, other) in
        [(TokenType::Access, "at+jwt", "rt+jwt"), (TokenType::Refresh, "rt+jwt", "at+jwt")]
    {
        let key = key(KEY);
        let verdict = |typ: Value| {
            let claims = with(payload(), json!({"type": kind.as_str()}));
            let token = signed(&key, with(header(&key), json!({"typ": typ})), claims);
            verifier(&key, kind).verify(&token, at(1)).map(drop)
        };
        for typ in [
            good.to_owned(),
            good.to_uppercase(),
            format!("application/{good}"),
            format!("APPLICATION/{good}"),
        ] {
            assert_eq!(verdict(json!(typ)), Ok(()), "{typ}");
        }
        for typ in
            ["JWT", "jwt", other, "", "application/", "+jwt", "at", "text/at+jwt", "at+jwt ", "at+jwt;v=1"]
        {
            assert_eq!(verdict(json!(typ)), Err(VerifyError::Typ { expected: kind }), "{typ}");
        }
        assert_eq!(verdict(Value::Null), Err(VerifyError::Typ { expected: kind }), "absent");
        assert_eq!(verdict(json!(1)), Err(VerifyError::InvalidHeader("typ")));
        assert_eq!(verdict(json!([good])), Err(VerifyError::InvalidHeader("typ")));
    }
}

#[test]
fn sec_016_signature_is_the_first_check() {
    for algorithm in ALL {
        let key = key(algorithm);
        let mut token = signed(
            &key,
            with(header(&key), json!({"typ": "JWT"})),
            with(payload(), json!({"exp": 1, "type": "refresh", "sub": 5})),
        );
        token.replace_range(token.len() - 20..token.len() - 19, "_");
        let other = if token.as_bytes()[token.len() - 30] == b'A' { "B" } else { "A" };
        token.replace_range(token.len() - 30..token.len() - 29, other);
        let error = verifier(&key, TokenType::Access).verify(&token, at(0)).unwrap_err();
        assert_eq!(error, VerifyError::Signature);
        assert_eq!(error.kind(), VerifyErrorKind::Signature);
        assert_eq!(verifier(&key, TokenType::Access).verify_expired_ok(&token).unwrap_err(), error);
    }
}

#[test]
fn sec_024_extra_claims_cannot_override_registered_ones() {
    for name in REGISTERED {
        let result = new_claims(TokenType::Access).with_claim(name, "mine");
        assert_eq!(result.unwrap_err(), ClaimError::Registered(name.to_owned()));
    }
    let claims = new_claims(TokenType::Access).with_claim("Sub", "other").unwrap();
    let key = key(KEY);
    let token = Issuer::new(key.clone()).issue(&claims).unwrap();
    assert_eq!(verifier(&key, TokenType::Access).verify(&token, at(0)).unwrap().subject().as_str(), "ada");
}

#[test]
fn sec_026_exp_is_required_and_exclusive() {
    for kind in TokenType::ALL {
        let key = key(KEY);
        let token = issued(&key, kind);
        for (leeway, seconds_after_exp, accepted) in
            [(0, -1, true), (0, 0, false), (0, 1, false), (30, 29, true), (30, 30, false), (300, 299, true)]
        {
            let verifier = verifier(&key, kind).with_leeway(Duration::from_secs(leeway)).unwrap();
            let verdict = verifier.verify(&token, at(900 + seconds_after_exp)).map(drop);
            let expected = if accepted { Ok(()) } else { Err(VerifyError::Expired) };
            assert_eq!(verdict, expected, "{kind}, {seconds_after_exp} s after exp, leeway {leeway} s");
        }
    }
    assert_eq!(verdict_on(json!({"exp": null})), Err(VerifyError::MissingClaim("exp")));
}

#[test]
fn sec_027_nbf_and_iat_lie_in_the_past() {
    for (claim, error) in [("nbf", VerifyError::NotYetValid), ("iat", VerifyError::IssuedInFuture)] {
        assert_eq!(verdict_on(json!({claim: NOW})), Ok(()));
        assert_eq!(verdict_on(json!({claim: NOW + 1})), Ok(()), "now");
        assert_eq!(verdict_on(json!({claim: NOW + 2})), Err(error), "one second ahead");
        assert_eq!(verdict_on(json!({claim: null})), Ok(()), "optional");

        let key = key(KEY);
        let token = signed(&key, header(&key).to_string(), with(payload(), json!({claim: NOW + 10})));
        let verifier = verifier(&key, TokenType::Access).with_leeway(Duration::from_secs(5)).unwrap();
        assert_eq!(verifier.verify(&token, at(5)).map(drop), Ok(()));
        assert_eq!(verifier.verify(&token, at(4)).map(drop), Err(error));
    }
    assert_eq!(verdict_on(json!({"nbf": NOW as f64 + 1.5})), Err(VerifyError::NotYetValid));
}

#[test]
fn a_refresh_token_from_the_future_is_accepted() {
    let key = key(KEY);
    let claims = with(payload(), json!({"type": "refresh", "iat": NOW + 500, "nbf": NOW + 500}));
    let token = signed(&key, with(header(&key), json!({"typ": "rt+jwt"})), claims);
    assert!(verifier(&key, TokenType::Refresh).verify(&token, at(0)).is_ok());
}

#[test]
fn sec_028_times_are_finite_numbers_in_range() {
    for claim in ["exp", "nbf", "iat"] {
        for wrong in [
            "\"never\"",
            "\"1800000900\"",
            "true",
            "null",
            "[]",
            "{}",
            "-1",
            "-0.5",
            "9007199254740993",
            "1e300",
            "18446744073709551616",
        ] {
            let rest = with(payload(), json!({claim: null}));
            let verdict = verdict_on_raw(&format!("{{\"{claim}\":{wrong},{}", &rest[1..]));
            assert_eq!(verdict, Err(VerifyError::InvalidClaim(claim)), "{claim} {wrong}");
        }
        for unreadable in ["1e400", "NaN", "Infinity", "01", "+1", "0x10"] {
            let rest = with(payload(), json!({claim: null}));
            let verdict = verdict_on_raw(&format!("{{\"{claim}\":{unreadable},{}", &rest[1..]));
            assert_eq!(verdict, Err(VerifyError::Claims(JsonError::Syntax)), "{claim} {unreadable}");
        }
    }
    assert_eq!(verdict_on(json!({"iat": 1.5, "nbf": 0})), Ok(()));
    assert_eq!(verdict_on(json!({"exp": NOW as f64 + 1.5})), Ok(()));
    assert_eq!(verdict_on(json!({"exp": NOW as f64 + 0.9})), Err(VerifyError::Expired));
    assert_eq!(verdict_on(json!({"exp": 1.8e9 + 900.0})), Ok(()));
    assert_eq!(verdict_on(json!({"exp": 1_u64 << 53})), Ok(()));
    assert_eq!(verdict_on(json!({"fresh": "yes"})), Err(VerifyError::InvalidClaim("fresh")));
    assert_eq!(verdict_on(json!({"fresh": -1})), Err(VerifyError::InvalidClaim("fresh")));
}

#[test]
fn sec_029_leeway_is_at_most_300_seconds() {
    let verifier = || verifier(&key(KEY), TokenType::Access);
    assert!(verifier().with_leeway(Duration::from_secs(300)).is_ok());
    assert!(verifier().with_leeway(Duration::from_secs(301)).is_err());
    assert!(verifier().with_leeway(Duration::from_millis(300_001)).is_err());
    assert!(Verifier::DEFAULT_LEEWAY <= Duration::from_secs(60));
}

#[test]
fn sec_030_issuer_is_byte_equal() {
    let key = key(KEY);
    let verifier = verifier(&key, TokenType::Access).with_issuer("https://auth.example");
    for (issuer, accepted) in [
        (json!("https://auth.example"), true),
        (json!("https://auth.example/"), false),
        (json!("https://AUTH.example"), false),
        (json!("https://auth.example.evil"), false),
        (json!(""), false),
        (Value::Null, false),
    ] {
        let token = signed(&key, header(&key).to_string(), with(payload(), json!({"iss": issuer})));
        let expected = if accepted { Ok(()) } else { Err(VerifyError::Issuer) };
        assert_eq!(verifier.verify(&token, at(1)).map(drop), expected, "{issuer}");
    }
    for wrong in [json!(1), json!(["https://auth.example"]), json!(true)] {
        assert_eq!(verdict_on(json!({"iss": wrong})), Err(VerifyError::InvalidClaim("iss")));
    }
}

#[test]
fn sec_031_audience_matches_exactly_or_is_absent_on_both_sides() {
    let key = key(KEY);
    let ours = verifier(&key, TokenType::Access).with_audience("api").with_audience("api2");
    let nobodys = verifier(&key, TokenType::Access);
    for (audience, at_ours, at_nobodys) in [
        (json!("api"), Ok(()), Err(VerifyError::Audience)),
        (json!("api2"), Ok(()), Err(VerifyError::Audience)),
        (json!(["other", "api"]), Ok(()), Err(VerifyError::Audience)),
        (json!("other"), Err(VerifyError::Audience), Err(VerifyError::Audience)),
        (json!("ap"), Err(VerifyError::Audience), Err(VerifyError::Audience)),
        (json!("api/v1"), Err(VerifyError::Audience), Err(VerifyError::Audience)),
        (json!("API"), Err(VerifyError::Audience), Err(VerifyError::Audience)),
        (json!("*"), Err(VerifyError::Audience), Err(VerifyError::Audience)),
        (json!(""), Err(VerifyError::Audience), Err(VerifyError::Audience)),
        (Value::Null, Err(VerifyError::Audience), Ok(())),
    ] {
        let token = signed(&key, header(&key).to_string(), with(payload(), json!({"aud": audience})));
        assert_eq!(ours.verify(&token, at(1)).map(drop), at_ours, "{audience}");
        assert_eq!(nobodys.verify(&token, at(1)).map(drop), at_nobodys, "{audience}");
    }
    for wrong in [json!([]), json!([1]), json!(["api", 1]), json!({"api": 1}), json!(1), json!([["api"]])] {
        let token = signed(&key, header(&key).to_string(), with(payload(), json!({"aud": wrong})));
        assert_eq!(ours.verify(&token, at(1)).unwrap_err(), VerifyError::InvalidClaim("aud"), "{wrong}");
    }
}

#[test]
fn sec_032_subject_is_a_non_empty_text() {
    for wrong in [
        json!(0),
        json!(1),
        json!(""),
        json!(["ada"]),
        json!({}),
        json!(true),
        json!("a\0b"),
        json!("x".repeat(256)),
    ] {
        assert_eq!(verdict_on(json!({"sub": wrong})), Err(VerifyError::InvalidClaim("sub")), "{wrong}");
    }
    assert_eq!(verdict_on(json!({"sub": null})), Err(VerifyError::MissingClaim("sub")));
    assert_eq!(verdict_on(json!({"sub": "1"})), Ok(()));
}

#[test]
fn sec_033_jti_is_a_uuid_in_its_one_spelling() {
    for wrong in [
        json!(""),
        json!("1"),
        json!(1),
        json!("0b8f0a3e6f0e4f0e9a520d3a7c1f2b4d"),
        json!("{0b8f0a3e-6f0e-4f0e-9a52-0d3a7c1f2b4d}"),
        json!("urn:uuid:0b8f0a3e-6f0e-4f0e-9a52-0d3a7c1f2b4d"),
        json!("0b8f0a3e-6f0e-4f0e-9a52-0d3a7c1f2b4g"),
    ] {
        assert_eq!(verdict_on(json!({"jti": wrong})), Err(VerifyError::InvalidClaim("jti")), "{wrong}");
    }
    assert_eq!(verdict_on(json!({"jti": null})), Err(VerifyError::MissingClaim("jti")));
}

#[test]
fn sec_033_a_million_token_ids_differ_in_all_their_random_bits() {
    let random = Os::default();
    let mut seen = HashSet::with_capacity(1_000_000);
    let mut ones = [0_u32; 128];
    for _ in 0..1_000_000 {
        let id = random::uuid(&random).unwrap();
        assert!(seen.insert(id), "{id} came twice");
        let bits = id.as_u128();
        ones.iter_mut().enumerate().for_each(|(at, ones)| *ones += u32::from(bits >> at & 1 == 1));
    }
    // Version and variant take six bits (RFC 9562 §5.4); each other one is set in half of them, give or take ten
    // standard deviations of 500.
    let fixed = ones.iter().filter(|ones| matches!(**ones, 0 | 1_000_000)).count();
    let even = ones.iter().filter(|ones| (495_000..=505_000).contains(*ones)).count();
    assert_eq!((fixed, even), (6, 122));
}

/// The operating system's randomness.
#[derive(Debug, Default)]
struct Os(aws_lc_rs::rand::SystemRandom);

impl Random for Os {
    fn fill(&self, dest: &mut [u8]) -> Result<(), RandomError> {
        aws_lc_rs::rand::SecureRandom::fill(&self.0, dest).map_err(|_| RandomError)
    }
}

#[test]
fn sec_034_typ_and_type_have_to_agree_with_the_verifier() {
    let key = key(KEY);
    let typs = ["at+jwt", "rt+jwt", "JWT", "id+jwt", "logout+jwt", "reset+jwt", "secevent+jwt"];
    let types = ["access", "refresh", "id", "reset", "verify", "logout", "csrf"];
    for expected in TokenType::ALL {
        for typ in typs.into_iter().map(Some).chain([None]) {
            for kind in types.into_iter().map(Some).chain([None]) {
                let head = with(header(&key), json!({"typ": typ}));
                let token = signed(&key, head, with(payload(), json!({"type": kind})));
                let verifier = verifier(&key, expected);
                let diagonal = typ == Some(expected.header_typ()) && kind == Some(expected.as_str());
                let case = format!("{typ:?} {kind:?} at {expected}");
                assert_eq!(verifier.verify(&token, at(1)).is_ok(), diagonal, "{case}");
                assert_eq!(verifier.verify_expired_ok(&token).is_ok(), diagonal, "{case}");
            }
        }
    }
}

#[test]
fn sec_034_each_verifier_takes_one_kind() {
    for algorithm in ALL {
        let key = key(algorithm);
        for presented in TokenType::ALL {
            for expected in TokenType::ALL {
                let token = issued(&key, presented);
                let verdict = verifier(&key, expected).verify(&token, at(1)).map(drop);
                assert_eq!(verdict.is_ok(), presented == expected, "{presented} at {expected}");
            }
        }
    }
    let mismatch = VerifyError::TokenType { expected: TokenType::Access, found: TokenType::Refresh };
    assert_eq!(verdict_on(json!({"type": "refresh"})), Err(mismatch));
    assert_eq!(mismatch.to_string(), "expected access token, found refresh token");
    assert_eq!(verdict_on(json!({"type": null})), Err(VerifyError::MissingClaim("type")));
    for wrong in [json!("id"), json!("Access"), json!(1), json!(["access"])] {
        assert_eq!(verdict_on(json!({"type": wrong})), Err(VerifyError::InvalidClaim("type")));
    }
}

#[test]
fn sec_036_freshness_is_a_boolean_or_a_time() {
    let key = key(KEY);
    let freshness = |fresh: Value| {
        let token = signed(&key, header(&key).to_string(), with(payload(), json!({"fresh": fresh})));
        verifier(&key, TokenType::Access).verify(&token, at(1)).unwrap().freshness()
    };
    assert_eq!(freshness(json!(true)), Freshness::Fresh);
    assert_eq!(freshness(json!(false)), Freshness::Stale);
    assert_eq!(freshness(Value::Null), Freshness::Stale, "absent");
    let until = freshness(json!(NOW + 60));
    assert_eq!(
        (until, until.is_fresh(at(59)), until.is_fresh(at(60))),
        (Freshness::Until(at(60)), true, false)
    );
}

#[test]
fn session_is_all_of_it_or_none() {
    let whole = json!({"sid": "0b8f0a3e-6f0e-4f0e-9a52-0d3a7c1f2b4d", "gen": 0, "epoch": 0});
    assert_eq!(verdict_on(whole.clone()), Ok(()));
    for missing in ["sid", "gen", "epoch"] {
        let mut part = whole.clone();
        part[missing] = Value::Null;
        assert_eq!(verdict_on(part), Err(VerifyError::MissingClaim(missing)));
    }
    for (name, wrong) in [
        ("sid", json!("not a uuid")),
        ("gen", json!(-1)),
        ("gen", json!(1.5)),
        ("gen", json!("1")),
        ("gen", json!(1_u64 << 32)),
        ("epoch", json!(-1)),
        ("epoch", json!(1e30)),
    ] {
        let mut part = whole.clone();
        part[name] = wrong;
        assert_eq!(verdict_on(part), Err(VerifyError::InvalidClaim(name)));
    }
}

#[test]
fn logging_out_works_with_an_expired_token_of_the_same_issuer_and_kind() {
    let key = key(KEY);
    let verifier = verifier(&key, TokenType::Access).with_issuer("me");
    let issue = |issuer: &str, claims: &NewClaims| {
        Issuer::new(key.clone()).with_issuer(issuer).issue(claims).unwrap()
    };
    let token = issue("me", &new_claims(TokenType::Access));
    assert_eq!(verifier.verify(&token, at(9_999)).unwrap_err(), VerifyError::Expired);
    assert_eq!(verifier.verify_expired_ok(&token).unwrap().subject().as_str(), "ada");
    assert!(verifier.verify_expired_ok(&issue("you", &new_claims(TokenType::Access))).is_err());
    assert!(verifier.verify_expired_ok(&issue("me", &new_claims(TokenType::Refresh))).is_err());
}

#[test]
fn sec_041_a_removed_key_takes_its_tokens_with_it() {
    let key = key(Algorithm::EdDsa);
    let keys = Arc::new(ArcSwap::from_pointee(ring(&[&key])));
    let verifier = Verifier::new(TokenType::Access, Arc::clone(&keys));
    let token = issued(&key, TokenType::Access);
    assert!(verifier.verify(&token, at(1)).is_ok());
    keys.store(Arc::new(KeyRing::new()));
    assert_eq!(verifier.verify(&token, at(1)).unwrap_err(), VerifyError::UnknownKey);
}

#[test]
fn sec_009_unverified_decoding_shows_forged_claims_as_such() {
    let forged = format!("{}.{}.", support::encode(r#"{"alg":"none"}"#), support::encode(r#"{"sub":7}"#));
    let claims = decode_unverified(&forged).unwrap();
    assert_eq!(claims.get("sub"), Ok(Some(7)));
    assert_eq!(claims.header()["alg"], "none");
    assert!(!format!("{claims:?}").contains('7'));
    assert_eq!(decode_unverified("a.b").unwrap_err().kind(), VerifyErrorKind::Malformed);
    let twice = format!("{}.{}.", support::encode("{}"), support::encode(r#"{"a":1,"a":1}"#));
    assert_eq!(decode_unverified(&twice).unwrap_err(), VerifyError::Claims(JsonError::DuplicateMember));
}

#[test]
fn sec_046_debug_shows_no_csrf_value() {
    let key = key(KEY);
    let claims = new_claims(TokenType::Access).with_csrf("double-submit");
    let token = Issuer::new(key.clone()).issue(&claims).unwrap();
    let read = verifier(&key, TokenType::Access).verify(&token, at(1)).unwrap();
    assert!(!format!("{claims:?} {read:?}").contains("double-submit"));
}

#[test]
fn times_at_the_edges_neither_overflow_nor_panic() {
    let key = key(KEY);
    for kind in TokenType::ALL {
        for (token, now) in [(issued(&key, kind), Timestamp::MAX), (issued(&key, kind), Timestamp::MIN)] {
            let verifier = verifier(&key, kind).with_leeway(Verifier::MAX_LEEWAY).unwrap();
            let _ = verifier.verify(&token, now);
        }
    }
}

#[test]
fn sec_208_a_clock_that_is_off_by_minutes_or_set_back_changes_only_what_it_must() {
    let key = key(KEY);
    let lifetime = 900;
    let verdict = |kind: TokenType, leeway: u64, seconds: i64| {
        let verifier = verifier(&key, kind).with_leeway(Duration::from_secs(leeway)).unwrap();
        verifier.verify(&issued(&key, kind), at(seconds)).map(drop)
    };
    let (access, refresh) = (TokenType::Access, TokenType::Refresh);
    for (case, kind, leeway, seconds, expected) in [
        ("verifier 5 min ahead", access, 0, 300, Ok(())),
        ("verifier 5 min ahead at the end", access, 0, lifetime - 1 + 300, Err(VerifyError::Expired)),
        ("5 min ahead at the end, leeway for it", access, 300, lifetime - 1 + 300, Ok(())),
        ("5 min ahead right after it", access, 300, lifetime + 300, Err(VerifyError::Expired)),
        ("verifier 5 min behind", access, 0, -300, Err(VerifyError::IssuedInFuture)),
        ("5 min behind, leeway for it", access, 300, -300, Ok(())),
        ("a second more", access, 300, -301, Err(VerifyError::IssuedInFuture)),
        ("set back by an hour", access, 300, -3_600, Err(VerifyError::IssuedInFuture)),
        ("set back by an hour, session goes on", refresh, 0, -3_600, Ok(())),
        ("set ahead by an hour", refresh, 0, 3_600, Err(VerifyError::Expired)),
    ] {
        assert_eq!(verdict(kind, leeway, seconds), expected, "{case}");
    }

    // Seconds as 32-bit and as double-precision numbers end here; a leap second repeats one.
    for seconds in [0, (1 << 31) - 1, 1 << 31, 1 << 32, 253_402_300_799, 483_228_799, 1 << 43] {
        let moment = |offset: i64| Timestamp::from_secs(seconds + offset);
        let ids = (UserId::new("ada").unwrap(), TokenId::new(random::uuid(&Seeded::new(4)).unwrap()));
        let claims = NewClaims::new(access, ids.0, ids.1, moment(0), moment(lifetime));
        let token = Issuer::new(key.clone()).issue(&claims.with_not_before(moment(0))).unwrap();
        let verifier = verifier(&key, access);
        assert_eq!(verifier.verify(&token, moment(0)).unwrap().expires_at(), Some(moment(lifetime)));
        assert!(verifier.verify(&token, moment(lifetime - 1)).is_ok(), "{seconds}");
        assert_eq!(verifier.verify(&token, moment(lifetime)).unwrap_err(), VerifyError::Expired, "{seconds}");
        if seconds > 0 {
            assert_eq!(
                verifier.verify(&token, moment(-1)).unwrap_err(),
                VerifyError::NotYetValid,
                "{seconds}"
            );
        }
    }
    // The last second that a claim may name lies beyond the last moment that a clock may show, and never comes.
    let eternal = signed(&key, header(&key).to_string(), with(payload(), json!({"exp": 1_u64 << 53})));
    assert!(verifier(&key, access).verify(&eternal, Timestamp::from_millis((1 << 53) - 1)).is_ok());
    assert_eq!(verifier(&key, access).verify(&eternal, Timestamp::MAX).unwrap_err(), VerifyError::Expired);
}
