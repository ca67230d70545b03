//! The rules by which the replayer of `parity` compares, each shown to be able to fail; and the replayer itself,
//! against a subject that repeats what was recorded.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

#[path = "parity/compare.rs"]
mod compare;
#[expect(dead_code, reason = "the applications under test need the rest")]
#[path = "parity/hooks.rs"]
mod hooks;
#[path = "parity/jar.rs"]
mod jar;
#[path = "parity/placeholder.rs"]
mod placeholder;
#[expect(dead_code, reason = "the applications under test need the rest")]
#[path = "parity/recording.rs"]
mod recording;
#[path = "parity/replay.rs"]
mod replay;
#[expect(dead_code, reason = "the program alone looks after panics")]
#[path = "parity/report.rs"]
mod report;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use crate::compare::{Answer, Differences};
use crate::jar::{Jar, SetCookie};
use crate::placeholder::{Token, Tokens};
use crate::recording::{Application, Mint, MintRecorded, Recording, RequestRecorded};
use crate::replay::{NotBuilt, Subject, World};
use crate::report::Report;

const JTI: &str = "d6f947ce-c385-4836-a822-063ef4d7c2cc";
const OTHER_JTI: &str = "00000000-0000-4000-8000-000000000000";

fn token(header: &Value, claims: &Value) -> String {
    let segment = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", segment(header), segment(claims))
}

#[test]
fn json_is_equal_by_value_and_true_is_not_one() {
    let equal = [
        (json!(5), json!(5.0)),
        (json!({"a": 1, "b": [2]}), json!({"b": [2.0], "a": 1})),
        (json!(u64::MAX), json!(u64::MAX)),
    ];
    for (want, have) in equal {
        assert!(compare::same(&want, &have), "{want} {have}");
    }
    let different = [
        (json!(true), json!(1)),
        (json!(0), json!(false)),
        (json!(null), json!(false)),
        (json!("1"), json!(1)),
        (json!([1, 2]), json!([2, 1])),
        (json!([1]), json!([1, 1])),
        (json!({"a": 1}), json!({"a": 1, "b": 2})),
        (json!({"a": 1, "b": 2}), json!({"a": 1})),
        (json!(u64::MAX), json!(u64::MAX - 1)),
        (json!(9_007_199_254_740_993_u64), json!(9_007_199_254_740_992_u64)),
        (json!(5), json!(5.5)),
    ];
    for (want, have) in different {
        assert!(!compare::same(&want, &have), "{want} {have}");
    }
}

fn minted(change: impl FnOnce(&mut Value, &mut Value)) -> Differences {
    let (mut header, mut claims) =
        (json!({"alg": "HS256", "typ": "JWT"}), json!({"sub": "alice", "iat": 1, "jti": JTI}));
    let recorded = json!({
        "now": 1, "token": token(&header, &claims), "header": header, "claims": claims, "random": ["jti"],
    });
    let recorded: MintRecorded = serde_json::from_value(recorded).unwrap();
    claims["jti"] = OTHER_JTI.into();
    change(&mut header, &mut claims);
    compare::mint(&recorded, &Ok(Token::read(&token(&header, &claims))))
}

#[test]
fn a_minted_token_has_the_recorded_members_and_a_uuid_of_its_own() {
    assert_eq!(minted(|_, _| {}), [""; 0]);
    assert_eq!(minted(|_, claims| claims["iat"] = json!(1.0)), [""; 0]);
    type Change = fn(&mut Value, &mut Value);
    let changes: [(&str, Change); 8] = [
        ("a header of its own", |header, _| header["kid"] = "k".into()),
        ("another algorithm", |header, _| header["alg"] = "HS512".into()),
        ("another claim", |_, claims| claims["sid"] = "s".into()),
        ("a claim less", |_, claims| drop(claims.as_object_mut().unwrap().remove("sub"))),
        ("another value", |_, claims| claims["iat"] = 2.into()),
        ("no jti", |_, claims| drop(claims.as_object_mut().unwrap().remove("jti"))),
        ("upper case", |_, claims| claims["jti"] = JTI.to_uppercase().into()),
        ("version 1", |_, claims| claims["jti"] = "d6f947ce-c385-1836-a822-063ef4d7c2cc".into()),
    ];
    for (change, apply) in changes {
        assert_eq!(minted(apply).len(), 1, "{change}");
    }
}

#[test]
fn a_mint_fails_where_the_recorded_one_did() {
    let failed: MintRecorded = serde_json::from_value(json!({"now": 1, "error": "TypeError"})).unwrap();
    let made = Ok(Token::read(&token(&json!({}), &json!({}))));
    assert_eq!(compare::mint(&failed, &Err("no".to_owned())), [""; 0]);
    assert_eq!(compare::mint(&failed, &made).len(), 1);
}

/// The differences between a recorded answer and one of status 200 with these fields and body.
fn compared(recorded: Value, fields: &[(&str, &str)], body: &str) -> Differences {
    let mut recorded = recorded;
    recorded["now"] = json!(1_700_000_000);
    recorded["status"] = json!(200);
    let recorded: RequestRecorded = serde_json::from_value(recorded).unwrap();
    let answer = Answer { status: 200, headers: headers(fields), body: body.as_bytes().to_vec() };
    compare::request(&recorded, &answer, &BTreeMap::from([("t".to_owned(), "token".to_owned())]), None)
}

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    fields.iter().map(pair).collect()
}

#[test]
fn status_and_body_are_as_recorded() {
    let empty: RequestRecorded = serde_json::from_value(json!({"now": 1, "status": 200})).unwrap();
    let answer = Answer { status: 204, headers: HeaderMap::new(), body: Vec::new() };
    assert_eq!(compare::request(&empty, &answer, &BTreeMap::new(), None), ["status: expected 200, got 204"]);

    let json = json!({"content_type": "application/json", "json": {"msg": "no"}});
    let text = json!({"content_type": "text/plain; charset=utf-8", "text": "no"});
    let prefix = json!({
        "content_type": "application/json", "json": {"msg": "bad: x", "n": 1}, "prefix_only": {"msg": "bad: "},
    });
    let (as_json, as_text) = (("content-type", "Application/JSON; a=b"), ("content-type", "text/plain"));
    for (case, recorded, fields, body, differences) in [
        ("equal", &json, &[as_json][..], "{ \"msg\": \"no\" }", 0),
        ("a text", &json, &[as_json], "{\"msg\": \"nO\"}", 1),
        ("no JSON", &json, &[as_json], "no", 1),
        ("no body", &json, &[as_json], "", 1),
        ("a type", &json, &[as_text], "{\"msg\": \"no\"}", 1),
        ("no type", &json, &[], "{\"msg\": \"no\"}", 1),
        ("equal", &text, &[as_text], "no", 0),
        ("text is exact", &text, &[as_text], "no\n", 1),
        ("a type", &text, &[as_json], "no", 1),
        ("equal", &json!({}), &[as_json], "", 0),
        ("a body", &json!({}), &[], "{}", 1),
        ("a page", &json!({"page": true}), &[], "whatever", 0),
        ("another rest", &prefix, &[as_json], "{\"msg\": \"bad: y\", \"n\": 1}", 0),
        ("another prefix", &prefix, &[as_json], "{\"msg\": \"worse: y\", \"n\": 1}", 1),
        ("another member", &prefix, &[as_json], "{\"msg\": \"bad: y\", \"n\": 2}", 1),
    ] {
        let found = compared(recorded.clone(), fields, body);
        assert_eq!(found.len(), differences, "{case}: {recorded} {body:?}: {found:?}");
    }
}

#[test]
fn header_fields_are_as_recorded() {
    let challenge = json!({"www_authenticate": "JWT realm=\"a\""});
    let location = json!({"location": "/login?next=%2Fa%20b&x="});
    let extra = json!({"headers": {"x-reason": "r"}});
    for (case, recorded, fields, differences) in [
        ("equal", &challenge, &[("www-authenticate", "JWT realm=\"a\"")][..], 0),
        ("another", &challenge, &[("www-authenticate", "JWT realm=\"b\"")], 1),
        ("missing", &challenge, &[], 1),
        ("not recorded", &json!({}), &[("www-authenticate", "Bearer")], 1),
        ("other escapes", &location, &[("location", "/login?next=/a+b&x=")], 0),
        ("another pair", &location, &[("location", "/login?next=/a+b")], 1),
        ("another order", &location, &[("location", "/login?x=&next=/a+b")], 1),
        ("another path", &location, &[("location", "/?next=/a+b&x=")], 1),
        ("not recorded", &json!({}), &[("location", "/")], 1),
        ("equal, and more", &extra, &[("X-Reason", "r"), ("x-more", "m"), ("vary", "Cookie")], 0),
        ("another value", &extra, &[("x-reason", "R")], 1),
        ("missing", &extra, &[], 1),
    ] {
        let found = compared(recorded.clone(), fields, "");
        assert_eq!(found.len(), differences, "{case}: {recorded} {fields:?}: {found:?}");
    }
}

#[test]
fn cookies_of_login_sessions_are_compared_by_what_they_are_for() {
    let cookie = |role: &str, action: &str, lifetime: Value, attributes: Value| json!({"role": role, "name": "x", "action": action, "lifetime": lifetime, "attributes": attributes});
    let path = || json!({"path": "/", "httponly": true});
    let set = cookie("session", "set", json!(null), path());
    let clear = cookie("session", "clear", json!(null), json!({"path": "/"}));
    let remember = cookie("remember", "set", json!(60), path());
    let (kept, gone) = ("session=1; Path=/; HttpOnly; SameSite=Lax", "session=; Path=/; Max-Age=0");
    let rotated = "remember_token=2; Path=/; HttpOnly; Max-Age=60";
    let (none, session, both) = ([None, None], [Some(None), None], [Some(None), Some(Some(1_700_000_060.0))]);
    for (case, recorded, status, carried, lines, differences) in [
        ("equal", vec![&set], 200, none, vec![kept], 0),
        ("the last one counts", vec![&set], 200, none, vec![gone, kept], 0),
        ("not set", vec![&set], 200, none, vec![], 1),
        ("set", vec![], 200, none, vec![kept], 1),
        ("another cookie", vec![], 200, none, vec!["theme=dark"], 0),
        ("cleared in vain", vec![], 200, none, vec![gone], 0),
        ("not cleared in vain", vec![&clear], 200, none, vec![], 0),
        ("set again", vec![], 200, session, vec![kept], 0),
        ("not set again", vec![&set], 200, session, vec![], 0),
        ("not cleared", vec![&clear], 200, session, vec![], 1),
        ("cleared", vec![], 200, session, vec![gone], 1),
        ("cleared for nobody", vec![], 401, session, vec![gone], 0),
        ("cleared instead of set", vec![&set], 200, session, vec![gone], 1),
        ("rotated", vec![], 200, both, vec![rotated], 0),
        ("moved", vec![], 200, both, vec!["remember_token=2; Path=/; Max-Age=61"], 1),
        (
            "another end",
            vec![&remember],
            200,
            none,
            vec!["remember_token=2; Path=/; HttpOnly; Max-Age=61"],
            1,
        ),
        ("no end", vec![&remember], 200, none, vec!["remember_token=2; Path=/; HttpOnly"], 1),
        ("another path", vec![&set], 200, none, vec!["session=1; Path=/x; HttpOnly"], 1),
        ("a domain", vec![&set], 200, none, vec!["session=1; Path=/; HttpOnly; Domain=example.com"], 1),
        ("readable", vec![&set], 200, none, vec!["session=1; Path=/"], 1),
        ("stricter", vec![&set], 200, none, vec!["session=1; Path=/; HttpOnly; Secure"], 0),
        (
            "not as configured",
            vec![&remember],
            200,
            none,
            vec!["remember_token=2; Path=/; HttpOnly; Max-Age=60; Secure"],
            1,
        ),
        ("cleared elsewhere", vec![&clear], 200, session, vec!["session=; Path=/x; Max-Age=0"], 1),
    ] {
        let recorded = json!({"now": 1_700_000_000, "status": status, "page": true, "set_cookies": recorded});
        let recorded: RequestRecorded = serde_json::from_value(recorded).unwrap();
        let fields: Vec<_> = lines.iter().map(|line| ("set-cookie", *line)).collect();
        let answer = Answer { status, headers: headers(&fields), body: Vec::new() };
        let roles = compare::Roles {
            names: [vec!["session".to_owned()], vec!["remember_token".to_owned()]],
            carried,
            configured: vec!["REMEMBER_COOKIE_SECURE".to_owned()],
        };
        let found = compare::request(&recorded, &answer, &BTreeMap::new(), Some(&roles));
        assert_eq!(found.len(), differences, "{case}: {found:?}");
    }
}

#[test]
fn cookies_are_as_recorded() {
    let kept = json!({"set_cookies": [
        {"name": "a", "value": "1", "attributes": {"Max-Age": "60", "Expires": "Tue, 14 Nov 2023 22:14:20 GMT",
            "HttpOnly": true, "Path": "/"}},
        {"name": "b", "value": "2", "attributes": {"Path": "/"}},
    ]});
    let gone = json!({"set_cookies": [
        {"name": "a", "value": "", "attributes": {"Expires": "Thu, 01 Jan 1970 00:00:00 GMT", "Path": "/"}},
    ]});
    let a = "a=1; path=/; httponly; max-age=60; expires=Tue, 14 Nov 2023 22:14:20 GMT";
    let b = "b=2; Path=/";
    for (case, recorded, lines, differences) in [
        ("equal", &kept, &[a, b][..], 0),
        ("another order", &kept, &[b, a], 1),
        ("one less", &kept, &[a], 1),
        ("one more", &kept, &[a, b, b], 1),
        ("another value", &kept, &[a, "b=3; Path=/"], 1),
        ("another name", &kept, &[a, "B=2; Path=/"], 1),
        ("another path", &kept, &[a, "b=2; Path=/x"], 1),
        ("one attribute more", &kept, &[a, "b=2; Path=/; Secure"], 1),
        ("one attribute less", &kept, &[a, "b=2"], 1),
        ("another instant", &kept, &[&a.replace("14:20", "14:21"), b], 1),
        ("another age", &kept, &[&a.replace("60", "61"), b], 1),
        ("not recorded", &json!({}), &[b], 1),
        ("deleted by date", &gone, &["a=; Path=/; Expires=Tue, 14 Nov 2023 22:13:20 GMT"], 0),
        ("deleted by age", &gone, &["a=; Path=/; Max-Age=0"], 0),
        ("deleted both ways", &gone, &["a=; Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], 0),
        ("kept", &gone, &["a=; Path=/; Max-Age=1"], 1),
        ("kept for a second", &gone, &["a=; Path=/; Expires=Tue, 14 Nov 2023 22:13:21 GMT"], 1),
        ("until the end", &gone, &["a=; Path=/"], 1),
    ] {
        let fields: Vec<_> = lines.iter().map(|line| ("set-cookie", *line)).collect();
        let found = compared(recorded.clone(), &fields, "");
        assert_eq!(found.len(), differences, "{case}: {lines:?}: {found:?}");
    }
}

#[test]
fn captured_tokens_are_compared_by_what_they_say() {
    let (header, claims) = (json!({"alg": "HS256"}), json!({"identity": 1}));
    let recorded = json!({
        "content_type": "application/json", "json": {"token": "a.b.c", "n": 1},
        "captured": {"t": {"token": "a.b.c", "header": header, "claims": claims}},
    });
    let body = |token: &str| json!({"token": token, "n": 1}).to_string();
    let found = |body: &str| compared(recorded.clone(), &[("content-type", "application/json")], body).len();
    assert_eq!(found(&body(&token(&header, &claims))), 0);
    assert_eq!(found(&body(&token(&header, &json!({"identity": 2})))), 1);
    assert_eq!(found(&body(&token(&json!({"alg": "HS512"}), &claims))), 1);
    assert_eq!(found("{\"n\": 1}"), 1);
}

#[test]
fn expectations_are_checked() {
    let expect = |value: Value| serde_json::from_value(value).unwrap();
    for (asked, status, differences) in [
        (json!({"status": 401}), 401, 0),
        (json!({"status": 401}), 403, 1),
        (json!({"status_class": 4}), 422, 0),
        (json!({"status_class": 4}), 200, 1),
        (json!({"status_class": 4}), 500, 1),
    ] {
        let found = compare::expectation(&expect(asked.clone()), None, Some(status));
        assert_eq!(found.len(), differences, "{asked} {status}");
    }
    let with = |claims: &Value| Ok(Token::read(&token(&json!({}), claims)));
    for (asked, minted, differences) in [
        (json!({"mint": "refused"}), Err("no".to_owned()), 0),
        (json!({"mint": "refused"}), with(&json!({})), 1),
        (json!({"exp": "required"}), Err("no".to_owned()), 0),
        (json!({"exp": "required"}), with(&json!({"exp": 5})), 0),
        (json!({"exp": "required"}), with(&json!({"exp": true})), 1),
        (json!({"exp": "required"}), with(&json!({})), 1),
    ] {
        let found = compare::expectation(&expect(asked.clone()), Some(&minted), None);
        assert_eq!(found.len(), differences, "{asked} {minted:?}");
    }
}

#[test]
fn placeholders_stand_for_tokens_and_their_claims() {
    let mut tokens = Tokens::default();
    let text = token(&json!({}), &json!({"jti": JTI}));
    tokens.insert("a1", &text);
    assert_eq!(tokens.resolve("x {{a1}} {{a1.jti}}}").unwrap(), format!("x {text} {JTI}}}"));
    for wrong in ["{{a2}}", "{{a1.csrf}}", "{{a1.sub}}", "{{a1"] {
        tokens.resolve(wrong).unwrap_err();
    }
}

#[test]
fn a_jar_keeps_cookies_by_name_and_path_until_they_end() {
    let mut jar = Jar::default();
    let mut store = |line: &'static str, now| {
        jar.store(&SetCookie::parse(&HeaderValue::from_static(line)).unwrap(), now).unwrap();
        jar.clone()
    };
    store("a=1; Path=/", 0.0);
    store("a=2; Path=/x; Max-Age=10", 0.0);
    let kept = store("b=3; Expires=Thu, 01 Jan 1970 00:00:05 GMT", 0.0);
    let sent = |jar: &Jar, path, now| {
        let pairs = jar.matching(path, now).into_iter();
        pairs.map(|(name, value)| name + "=" + &value).collect::<Vec<_>>()
    };
    assert_eq!(sent(&kept, "/x/y", 4.0), ["a=2", "a=1", "b=3"]);
    assert_eq!(sent(&kept, "/xy", 4.0), ["a=1", "b=3"]);
    assert_eq!(sent(&kept, "/x", 10.0), ["a=1"]);
    let mut jar = store("a=; Path=/x; Max-Age=0", 0.0);
    assert_eq!(sent(&jar, "/x", 0.0), ["a=1", "b=3"]);
    jar.tamper("a");
    jar.drop("b");
    assert_eq!(sent(&jar, "/x", 0.0), ["a=0"]);
}

#[test]
fn hooks_say_what_the_recording_gives_them() {
    let hooks: hooks::FlaskJwtExtendedHooks = serde_json::from_value(json!({
        "additional_claims": {"by_identity": {"{\"id\":\"\\u00fc\"}": {"n": 1}}, "default": {"n": 2}},
        "decode_key": {"claim": "tenant", "table": {"t": {"hex": "00ff"}}, "default": "text"},
        "blocklist": {"jtis": ["known"], "without_jti": true},
        "token_verification": {"claim": "ok", "equals": null},
    }))
    .unwrap();
    let claims = hooks.additional_claims.unwrap();
    assert_eq!(claims.pick(&json!({"id": "ü"}))["n"], 1);
    assert_eq!(claims.pick(&json!("ü"))["n"], 2);
    let map = |value: Value| -> Map<String, Value> { serde_json::from_value(value).unwrap() };
    let key = hooks.decode_key.unwrap();
    assert_eq!(key.pick(&Map::new(), &map(json!({"tenant": "t"}))).bytes(), [0x00, 0xff]);
    assert_eq!(key.pick(&map(json!({"tenant": "t"})), &Map::new()).bytes(), b"text");
    let (blocklist, by_steps) = (hooks.blocklist.unwrap(), [JTI.to_owned()].into());
    for (jti, revoked) in
        [(json!("known"), true), (json!(JTI), true), (json!("x"), false), (json!(null), true)]
    {
        assert_eq!(blocklist.is_revoked(&map(json!({"jti": jti})), &by_steps), revoked, "{jti}");
    }
    let verification = hooks.token_verification.unwrap();
    assert!(verification.passes(&Map::new(), &map(json!({"ok": null}))));
    assert!(!verification.passes(&Map::new(), &Map::new()), "an absent member equals nothing");
    let facts = json!({"claims": {"sub": "alice"}, "n": 5});
    assert_eq!(
        hooks::fill(&json!(["$claims.sub", {"n": "$n"}, "a $n"]), &facts),
        json!(["alice", {"n": 5}, "a $n"])
    );
}

/// A recording with one access token that `/me` repeats, and changes to it.
fn recorded(change: impl FnOnce(&mut Value)) -> Value {
    let text = token(&json!({"alg": "none"}), &json!({"jti": JTI}));
    let mut recording = json!({
        "format": 1, "profile": "fje", "name": "echo", "area": "a", "about": "b", "config": {},
        "routes": [{"path": "/me", "methods": ["GET"], "guard": null, "view": "ok"}],
        "steps": [
            {"do": "mint", "as": "a1", "kind": "access", "identity": "alice", "recorded": {"now": 1_700_000_000,
                "token": text, "header": {"alg": "none"}, "claims": {"jti": JTI}, "random": ["jti"]}},
            {"do": "advance", "seconds": 0.5, "recorded": {"now": 1_700_000_000.5}},
            {"do": "request", "method": "GET", "path": "/me", "query": "t={{a1}}&j={{a1.jti}}",
                "recorded": {"now": 1_700_000_000.5, "status": 200, "content_type": "text/plain",
                    "text": format!("t={text}&j={JTI}")}},
        ],
    });
    change(&mut recording);
    recording
}

/// Mints tokens that say what is recorded, with a `jti` of its own, and answers with the query.
struct Echo;

#[async_trait]
impl Subject for Echo {
    async fn mint(&self, mint: &Mint) -> Result<String, String> {
        match mint.identity.as_str() {
            Some("nobody") => panic!("nobody can have\na token"),
            _ => Ok(token(&json!({"alg": "none"}), &json!({"jti": OTHER_JTI}))),
        }
    }

    async fn send(&self, request: http::Request<Body>) -> Answer {
        let body = request.uri().query().unwrap_or_default().as_bytes().to_vec();
        Answer { status: 200, headers: headers(&[("content-type", "text/plain")]), body }
    }
}

fn echo(application: &Application, _: &Arc<World>) -> Result<Box<dyn Subject>, NotBuilt> {
    match application {
        Application::FlaskJwtExtended { config, .. } if config.is_empty() => Ok(Box::new(Echo)),
        Application::FlaskJwtExtended { .. } => Err(NotBuilt::Refused("no".to_owned())),
        Application::FlaskJwt { .. } | Application::FlaskLogin { .. } => {
            Err(NotBuilt::Unknown("what is that?".to_owned()))
        }
    }
}

/// What the report says of recordings, by folder and name.
fn report(files: &[(&str, &Value)]) -> (Report, String) {
    let directory = tempfile::tempdir().unwrap();
    for (name, recording) in files {
        let path = directory.path().join(name).with_extension("json");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, recording.to_string()).unwrap();
    }
    let mut out = Vec::new();
    let report = Report::of(directory.path(), echo, &mut out).unwrap();
    (report, String::from_utf8(out).unwrap())
}

#[test]
fn own_tokens_have_the_place_of_recorded_ones() {
    assert_eq!(
        report(&[("fje/echo", &recorded(|_| {}))]),
        (Report { passed: 1, failed: 0 }, "1 passed, 0 failed\n".into())
    );
}

#[test]
fn every_failure_is_reported_in_a_line_and_stops_no_other() {
    let other_name = |name: &'static str| recorded(move |recording| recording["name"] = name.into());
    let panics = recorded(|recording| {
        recording["name"] = "a_panic".into();
        recording["steps"][0]["identity"] = "nobody".into();
    });
    let wrong = recorded(|recording| {
        recording["name"] = "b_wrong".into();
        recording["steps"][2]["recorded"]["status"] = 401.into();
    });
    let mut flask_jwt = other_name("unknown");
    flask_jwt["profile"] = "flask_jwt".into();
    flask_jwt["steps"] = json!([]);
    let mut flask_login = other_name("later");
    flask_login["profile"] = "flask_login".into();
    let (report, text) = report(&[
        ("fje/echo", &other_name("echo")),
        ("fje/a_panic", &panics),
        ("fje/b_wrong", &wrong),
        ("flask_jwt/unknown", &flask_jwt),
        ("flask_login/later", &flask_login),
    ]);
    assert_eq!(report, Report { passed: 1, failed: 4 });
    let lines: Vec<_> = text.lines().rev().take(5).collect();
    assert_eq!(lines[0], "1 passed, 4 failed");
    assert!(lines[1].starts_with("FAIL flask_login/later "), "{text}");
    assert_eq!(lines[2], "FAIL flask_jwt/unknown building: what is that?");
    assert_eq!(lines[3], "FAIL fje/b_wrong step 3: status: expected 401, got 200");
    assert!(lines[4].starts_with("FAIL fje/a_panic step 1: panicked: nobody can have a token"), "{text}");
}

#[test]
fn no_recording_at_all_is_a_failure() {
    let (report, text) = report(&[]);
    assert!(!report.is_success());
    assert!(text.ends_with("\n0 passed, 1 failed\n"), "{text}");
}

#[test]
fn refusals_to_build_are_judged_by_what_is_expected() {
    let built = |build: &str, refused: bool| {
        let recording = recorded(|recording| {
            recording["build"] = build.into();
            if build == "must_refuse" {
                recording["peer_defect"] = "why".into();
            }
            if refused {
                recording["config"] = json!({"A": 1});
            }
        });
        report(&[("fje/echo", &recording)]).0.is_success()
    };
    assert!(built("must_refuse", true));
    assert!(!built("must_refuse", false));
    assert!(built("may_refuse", true));
    assert!(built("may_refuse", false));
    let refused = recorded(|recording| recording["config"] = json!({"A": 1}));
    assert!(!report(&[("fje/echo", &refused)]).0.is_success());
}

#[test]
fn what_is_not_known_fails_the_recording() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 13] = [
        ("a format", |recording| recording["format"] = 2.into()),
        ("a member", |recording| recording["more"] = 1.into()),
        ("a profile", |recording| recording["profile"] = "other".into()),
        ("a view", |recording| recording["routes"][0]["view"] = "other".into()),
        ("a guard", |recording| recording["routes"][0]["guard"] = json!({"other": true})),
        ("a hook", |recording| recording["hooks"] = json!({"other": {}})),
        ("a response", |recording| {
            recording["hooks"] = json!({"responses": {"other": {"status": 1, "text": ""}}})
        }),
        ("a step", |recording| recording["steps"][1]["do"] = "other".into()),
        ("a member of a step", |recording| recording["steps"][0]["other"] = 1.into()),
        ("a member of an answer", |recording| recording["steps"][2]["recorded"]["other"] = 1.into()),
        ("an expectation", |recording| {
            recording["steps"][2]["peer_defect"] = "why".into();
            recording["steps"][2]["expect"] = json!({"other": 1});
        }),
        ("a placeholder", |recording| recording["steps"][2]["query"] = "{{a2}}".into()),
        ("a time", |recording| recording["steps"][2]["recorded"]["now"] = 5.into()),
    ];
    for (change, apply) in changes {
        let recording = recorded(apply);
        assert!(
            Recording::parse(&recording.to_string(), "echo", "fje").is_err() || {
                !report(&[("fje/echo", &recording)]).0.is_success()
            },
            "{change}"
        );
    }
}
