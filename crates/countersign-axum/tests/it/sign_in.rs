//! Registering and logging in: where tokens go, how cookies look, what becomes of the session before.

use serde_json::{Value, json};
use url::Url;

use crate::app::{PASSWORD, TestApp, credentials};
use crate::client::{ACCESS, CSRF, DEVICE, REFRESH, SetCookie, payload};

#[tokio::test]
async fn sec_055_tokens_go_into_the_body_or_into_cookies() {
    let app = TestApp::new().await;
    let by_body = app.client().post("/v1/auth/register", &credentials("ada")).await;
    assert!(by_body.set_cookies().is_empty());
    assert_eq!(
        (&by_body.json()["token_type"], &by_body.json()["expires_in"]),
        (&json!("Bearer"), &json!(900))
    );
    assert_eq!(payload(by_body.json()["access_token"].as_str().unwrap()).get("csrf"), None);

    let mut browser = app.browser();
    let login = json!({ "email": "ada@example.org", "password": PASSWORD, "cookies": true });
    let by_cookie = browser.post("/v1/auth/login", &login).await;
    browser = browser.csrf();
    let refreshed = browser.post_nothing("/v1/auth/refresh").await;
    for reply in [by_cookie, refreshed] {
        assert_eq!(
            (&reply.json()["access_token"], &reply.json()["refresh_token"]),
            (&Value::Null, &Value::Null)
        );
        assert!(!String::from_utf8_lossy(&reply.body).contains("eyJ"));
        assert_eq!(reply.json()["user"]["username"], "ada");
        let cookies: Vec<_> =
            reply.set_cookies().into_iter().filter(|cookie| cookie.name != DEVICE).collect();
        assert_eq!(cookies.len(), 3);
        for cookie in cookies {
            if cookie.name != CSRF {
                assert_eq!(payload(&cookie.value)["csrf"], browser.cookie(CSRF), "bound to the session");
            }
        }
    }
}

/// Names and sorted attributes.
fn attributes(cookies: &[SetCookie]) -> Vec<(&str, Vec<String>)> {
    let sorted = |attributes: &[String]| -> Vec<String> {
        let mut attributes = attributes.to_vec();
        attributes.sort_unstable();
        attributes
    };
    cookies.iter().map(|cookie| (cookie.name.as_str(), sorted(&cookie.attributes))).collect()
}

#[tokio::test]
async fn sec_056_sec_057_sec_059_sec_063_cookies_have_their_attributes() {
    for (url, prefix, secure) in [
        ("https://app.example.com", "__Host-", &["Secure"][..]),
        ("http://127.0.0.1:8080", "", &[]),
        ("http://localhost:8080", "", &[]),
        ("http://[::1]:8080", "", &[]),
    ] {
        let app = TestApp::with(|builder| builder.public_url(Url::parse(url).unwrap())).await;
        let mut browser = app.browser();
        let mut body = credentials("ada");
        body["cookies"] = json!(true);
        let set = browser.post("/v1/auth/register", &body).await.set_cookies();
        let names = ["access", "refresh", "csrf"].map(|name| format!("{prefix}countersign_{name}"));
        let [access, refresh, csrf] = names.each_ref().map(String::as_str);
        let expected = |access_age, refresh_age| {
            let with = |own: &[&'static str]| {
                let mut all: Vec<&str> = own.iter().chain(secure).copied().chain(["Path=/"]).collect();
                all.sort_unstable();
                all.into_iter().map(str::to_owned).collect::<Vec<_>>()
            };
            [
                (access, with(&["HttpOnly", "SameSite=Lax", access_age])),
                (refresh, with(&["HttpOnly", "SameSite=Strict", refresh_age])),
                (csrf, with(&["SameSite=Lax", refresh_age])),
            ]
        };
        let (device, set): (Vec<_>, Vec<_>) =
            set.into_iter().partition(|cookie| cookie.name.ends_with("countersign_device"));
        let mut own = vec![
            "HttpOnly".to_owned(),
            "Max-Age=7776000".to_owned(),
            "Path=/".to_owned(),
            "SameSite=Lax".to_owned(),
        ];
        own.extend(secure.iter().map(|text| (*text).to_owned()));
        assert_eq!(attributes(&device), [(format!("{prefix}countersign_device").as_str(), own)], "{url}");
        assert_eq!(attributes(&set), expected("Max-Age=900", "Max-Age=1209600"), "{url}");
        assert!(set.iter().all(|cookie| !cookie.value.is_empty()));

        // Deleting repeats name, path and Secure.
        let csrf_value = browser.cookie(csrf).to_owned();
        browser = browser.with("x-csrf-token", &csrf_value);
        let cleared = browser.post_nothing("/v1/auth/logout").await.set_cookies();
        assert_eq!(attributes(&cleared), expected("Max-Age=0", "Max-Age=0"), "{url}");
        assert!(cleared.iter().all(|cookie| cookie.value.is_empty()));
        assert!(browser.is_signed_out(), "{url}");
    }
}

#[tokio::test]
async fn cookies_live_as_long_as_their_tokens() {
    let app = TestApp::new().await;
    let mut browser = app.signed_in_browser("ada").await.csrf();
    let ages = |reply: &crate::client::Response| {
        let cookies = reply.set_cookies();
        let age = |cookie: &SetCookie| {
            cookie.attributes.iter().find(|text| text.starts_with("Max-Age")).cloned().unwrap()
        };
        [age(&cookies[0]), age(&cookies[1]), age(&cookies[2])]
    };
    assert_eq!(browser.post_nothing("/v1/auth/refresh").await.status(), 200);
    app.wait(20);
    let again = browser.post_nothing("/v1/auth/refresh").await;
    assert_eq!(ages(&again), ["Max-Age=880", "Max-Age=1209580", "Max-Age=1209580"], "served again");
    assert_eq!(again.json()["expires_in"], 880);
    // Three days before the absolute expiry of 30 days the idle expiry of 14 days no longer counts.
    for _ in 0..3 {
        app.wait(9 * 86_400 - 10);
        assert_eq!(browser.post_nothing("/v1/auth/refresh").await.status(), 200);
    }
    app.wait(60);
    let last = browser.post_nothing("/v1/auth/refresh").await;
    let left = 30 * 86_400 - (20 + 3 * (9 * 86_400 - 10) + 60);
    assert_eq!(ages(&last), ["Max-Age=900".to_owned(), format!("Max-Age={left}"), format!("Max-Age={left}")]);
}

#[tokio::test]
async fn sec_079_a_cookie_login_ends_the_session_whose_cookies_it_carries() {
    let app = TestApp::new().await;
    // The attacker plants a session of their own, then the victim logs in.
    let planted = app.signed_in_browser("attacker").await;
    app.register("victim").await;
    let login = json!({ "username": "victim", "password": PASSWORD, "cookies": true });
    let mut register = credentials("newcomer");
    register["cookies"] = json!(true);
    for (path, body) in [("/v1/auth/login", &login), ("/v1/auth/register", &register)] {
        let attacker = json!({ "username": "attacker", "password": PASSWORD, "cookies": true });
        let mut fixed = app.browser();
        assert_eq!(fixed.post("/v1/auth/login", &attacker).await.status(), 200);
        let planted = fixed.clone();
        assert!(fixed.post(path, body).await.status() < 300);
        for name in [ACCESS, REFRESH, CSRF] {
            assert_ne!(fixed.cookie(name), planted.cookie(name), "{path} {name}");
        }
        let (old, new) = (payload(planted.cookie(ACCESS)), payload(fixed.cookie(ACCESS)));
        assert_ne!((&old["sid"], &old["sub"]), (&new["sid"], &new["sub"]), "{path}");
        assert_eq!(planted.clone().get("/v1/auth/me").await.status(), 401, "{path}");
        assert_eq!(planted.csrf().post_nothing("/v1/auth/refresh").await.status(), 401, "{path}");
        assert_eq!(fixed.get("/v1/auth/me").await.status(), 200, "{path}");
    }
    assert_eq!({ planted }.get("/v1/auth/me").await.status(), 200, "other sessions of that user live on");
}

#[tokio::test]
async fn sec_079_a_login_that_fails_or_is_not_by_cookie_ends_nothing() {
    let app = TestApp::new().await;
    let mut browser = app.signed_in_browser("ada").await;
    for (password, cookies, status) in [("wrong password", true, 401), (PASSWORD, false, 200)] {
        let login = json!({ "username": "ada", "password": password, "cookies": cookies });
        let reply = browser.post("/v1/auth/login", &login).await;
        assert_eq!(reply.status(), status);
        assert!(reply.set_cookies().is_empty());
        assert_eq!(browser.get("/v1/auth/me").await.status(), 200);
    }
}

#[tokio::test]
async fn sec_079_an_access_cookie_that_has_expired_still_names_its_session() {
    let app = TestApp::new().await;
    let mut browser = app.signed_in_browser("ada").await;
    let old = payload(browser.cookie(ACCESS));
    let user_id = old["sub"].as_str().unwrap().parse().unwrap();
    app.wait(3600);
    let login = json!({ "username": "ada", "password": PASSWORD, "cookies": true });
    assert_eq!(browser.post("/v1/auth/login", &login).await.status(), 200);
    let live = app.live_sessions(&user_id).await;
    assert_eq!(live.len(), 1);
    assert_ne!(live[0].to_string(), old["sid"]);
}

#[tokio::test]
async fn a_login_is_by_any_one_name() {
    let app = TestApp::new().await;
    app.register("ada").await;
    for (body, expected) in [
        (json!({ "email_or_username": "ada" }), (200, "")),
        (json!({ "email_or_username": "ADA@Example.ORG" }), (200, "")),
        (json!({ "email": "ada@example.org" }), (200, "")),
        (json!({ "username": "Ada", "email": null }), (200, "")),
        (json!({ "username": "ada@example.org" }), (401, "invalid_credentials")),
        (json!({ "email": "ada" }), (401, "invalid_credentials")),
        (json!({}), (422, "invalid_fields")),
        (json!({ "email": "ada@example.org", "username": "ada" }), (422, "invalid_fields")),
        (json!({ "username": "" }), (422, "invalid_fields")),
    ] {
        let mut body = body;
        body["password"] = json!(PASSWORD);
        let reply = app.client().post("/v1/auth/login", &body).await;
        assert_eq!(reply.outcome(), (expected.0, expected.1.to_owned()), "{reply:?}");
    }
}

#[tokio::test]
async fn claims_are_those_of_the_contract() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await;
    for (token, token_type) in [(browser.cookie(ACCESS), "access"), (browser.cookie(REFRESH), "refresh")] {
        let claims = payload(token);
        let mut expected =
            vec!["iss", "sub", "iat", "exp", "jti", "type", "fresh", "sid", "gen", "epoch", "csrf"];
        expected.sort_unstable();
        let mut names: Vec<_> = claims.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, expected, "{token_type}");
        assert_eq!(
            (&claims["iss"], &claims["type"]),
            (&json!("https://app.example.com"), &json!(token_type))
        );
        let header = countersign_jwt::claims::decode_unverified(token).unwrap().header().clone();
        let mut names: Vec<_> = header.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["alg", "kid", "typ"], "{token_type}");
    }
}
