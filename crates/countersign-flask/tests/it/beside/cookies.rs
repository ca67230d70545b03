//! Flask-JWT-Extended, with tokens in cookies.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use countersign_flask::FlaskJwtExtended;
use countersign_flask::tokens::KeySource;
use http::Method;
use serde_json::{Value, json};

use super::{Beside, SECRET, assert_says, extended, names};
use crate::app::{PASSWORD, TestApp, credentials};
use crate::client::{Client, Response, payload};

const ACCESS: &str = "access_token_cookie";
const REFRESH: &str = "refresh_token_cookie";
const CSRF: &str = "csrf_access_token";
const CSRF_REFRESH: &str = "csrf_refresh_token";

fn locations() -> Value {
    json!({ "JWT_TOKEN_LOCATION": ["headers", "cookies"] })
}

/// A browser in which a new user is signed in.
async fn signed_in(app: &TestApp, name: &str) -> (Client, Response) {
    let mut body = credentials(name);
    body["cookies"] = json!(true);
    let mut browser = app.browser();
    let reply = browser.post("/v1/auth/register", &body).await;
    assert_eq!(reply.status(), 201, "{reply:?}");
    (browser, reply)
}

/// Sends the value of this CSRF cookie.
fn csrf(browser: &Client, name: &str) -> Client {
    let value = browser.cookie(name).to_owned();
    browser.clone().without("x-csrf-token").with("x-csrf-token", &value)
}

fn shape(reply: &Response) -> Vec<(String, Vec<String>)> {
    let cookies = reply.set_cookies().into_iter();
    cookies.map(|cookie| (cookie.name, cookie.attributes)).collect()
}

#[tokio::test]
async fn a_login_sets_flasks_cookies_and_a_logout_removes_them() {
    let beside = Beside::with(locations()).await;
    let (mut browser, reply) = signed_in(&beside.app, "ada").await;
    let (body, found) = (reply.json(), |name: &str, attributes: &[&str]| {
        (name.to_owned(), attributes.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    });
    assert_eq!((&body["access_token"], &body["refresh_token"]), (&json!(null), &json!(null)));
    let expected = [
        found(ACCESS, &["HttpOnly", "Path=/"]),
        found(CSRF, &["Path=/"]),
        found(REFRESH, &["HttpOnly", "Path=/"]),
        found(CSRF_REFRESH, &["Path=/"]),
    ];
    assert_eq!(shape(&reply), expected);
    for (token, csrf) in [(ACCESS, CSRF), (REFRESH, CSRF_REFRESH)] {
        assert_eq!(payload(browser.cookie(token))["csrf"], browser.cookie(csrf));
    }
    assert_eq!(browser.get("/v1/auth/me").await.status(), 200);

    let reply = csrf(&browser, CSRF).post_nothing("/v1/auth/logout").await;
    assert_eq!(reply.status(), 204, "{reply:?}");
    let mut removed: Vec<_> = reply.set_cookies();
    assert!(removed.iter().all(|cookie| cookie.value.is_empty() && cookie.is_removal()), "{reply:?}");
    removed.sort_by(|a, b| a.name.cmp(&b.name));
    let removed: Vec<_> = removed.iter().map(|cookie| cookie.name.as_str()).collect();
    assert_eq!(removed, [ACCESS, CSRF, CSRF_REFRESH, REFRESH]);
    assert_says("ended", &browser.get("/v1/auth/me").await, 401, "Token has been revoked");
}

#[tokio::test]
async fn the_options_decide_names_and_attributes() {
    let beside = Beside::with(json!({
        "JWT_TOKEN_LOCATION": "cookies",
        "JWT_ACCESS_COOKIE_NAME": "a",
        "JWT_ACCESS_COOKIE_PATH": "/api",
        "JWT_REFRESH_COOKIE_NAME": "r",
        "JWT_REFRESH_COOKIE_PATH": "/v1/auth/refresh",
        "JWT_ACCESS_CSRF_COOKIE_NAME": "ca",
        "JWT_REFRESH_CSRF_COOKIE_NAME": "cr",
        "JWT_ACCESS_CSRF_HEADER_NAME": "X-Own",
        "JWT_COOKIE_SECURE": true,
        "JWT_COOKIE_SAMESITE": "Lax",
        "JWT_COOKIE_DOMAIN": "example.com",
        "JWT_SESSION_COOKIE": false,
    }))
    .await;
    let (browser, reply) = signed_in(&beside.app, "ada").await;
    let cookies = reply.set_cookies();
    let names: Vec<_> = cookies.iter().map(|cookie| cookie.name.as_str()).collect();
    assert_eq!(names, ["a", "ca", "r", "cr"]);
    for (cookie, path) in cookies.iter().zip(["/api", "/", "/v1/auth/refresh", "/"]) {
        let path = format!("Path={path}");
        for attribute in ["Secure", "SameSite=Lax", "Domain=example.com", "Max-Age=31540000", &path] {
            assert!(
                cookie.attributes.contains(&attribute.to_owned()),
                "{attribute}: {:?}",
                cookie.attributes
            );
        }
    }
    let mut sending = browser.clone().with("x-own", browser.cookie("ca"));
    assert_eq!(sending.post_nothing("/hello").await.status(), 200);
    let mut other = browser.clone().with("x-csrf-token", browser.cookie("ca"));
    assert_says("other header", &other.post_nothing("/hello").await, 401, "Missing CSRF token");
    let unset = sending.post_nothing("/v1/auth/logout").await;
    assert_eq!(unset.status(), 204, "{unset:?}");
    for cookie in unset.set_cookies() {
        assert!(cookie.attributes.contains(&"Domain=example.com".to_owned()), "{:?}", cookie.attributes);
    }
}

#[tokio::test]
async fn a_request_by_cookie_needs_its_csrf_value_as_in_flask() {
    let beside = Beside::with(locations()).await;
    let (browser, _) = signed_in(&beside.app, "ada").await;
    let forged = browser.clone().with("x-csrf-token", "x");
    for (method, path) in [
        (Method::POST, "/hello"),
        (Method::PUT, "/hello"),
        (Method::PATCH, "/hello"),
        (Method::DELETE, "/hello"),
        (Method::DELETE, "/v1/auth/sessions"),
        (Method::DELETE, "/v1/auth/revoke-tokens"),
        (Method::POST, "/v1/auth/refresh"),
        (Method::POST, "/v1/auth/logout"),
    ] {
        let body = json!({ "tokens": ["00000000-0000-4000-8000-000000000000"] });
        let missing = browser.clone().send_json(method.clone(), path, &body).await;
        assert_says(path, &missing, 401, "Missing CSRF token");
        let wrong = forged.clone().send_json(method, path, &body).await;
        assert_says(path, &wrong, 401, "CSRF double submit tokens do not match");
    }
    assert_eq!(csrf(&browser, CSRF).post_nothing("/hello").await.status(), 200);
    assert_eq!(browser.clone().get("/hello").await.status(), 200);
    // By header none is needed, whatever cookies there are.
    let access = browser.cookie(ACCESS).to_owned();
    assert_eq!(browser.clone().bearer(&access).post_nothing("/hello").await.status(), 200);
    let mut nobody = beside.app.browser();
    let message = "Missing JWT in headers or cookies (Missing Authorization Header; Missing cookie \"access_token_cookie\")";
    assert_says("nothing", &nobody.get("/v1/auth/me").await, 401, message);
    // A header that is no token ends the search.
    assert_says("header", &browser.bearer("x").get("/hello").await, 422, "Not enough segments");
}

#[tokio::test]
async fn a_refresh_by_cookie_answers_by_cookies_and_keeps_the_refresh_cookie() {
    let beside = Beside::with(locations()).await;
    let (browser, first) = signed_in(&beside.app, "ada").await;
    let mut refreshing = csrf(&browser, CSRF_REFRESH);
    for _ in 0..3 {
        beside.app.wait(600);
        let reply = refreshing.post_nothing("/v1/auth/refresh").await;
        assert_eq!(reply.status(), 200, "{reply:?}");
        assert_eq!(reply.json(), json!({ "access_token": null }));
        let names: Vec<_> = reply.set_cookies().into_iter().map(|cookie| cookie.name).collect();
        assert_eq!(names, [ACCESS, CSRF]);
        assert_eq!(payload(refreshing.cookie(ACCESS))["csrf"], refreshing.cookie(CSRF));
        assert_eq!(refreshing.get("/v1/auth/me").await.status(), 200);
        assert_eq!(csrf(&refreshing, CSRF).post_nothing("/hello").await.status(), 200);
    }
    assert_eq!(refreshing.cookie(REFRESH), first.set_cookies()[2].value, "it stays as it was");
}

#[tokio::test]
async fn a_browser_that_flask_signed_in_is_signed_in_here() {
    let beside = Beside::with(locations()).await;
    let account = beside.app.register("ada").await;
    let id = account.user_id.as_str();
    let (access, refresh) = (beside.access(id).await, beside.refresh(id).await);
    let value = |token: &str| payload(token)["csrf"].as_str().unwrap().to_owned();
    let browser = beside
        .app
        .browser()
        .set_cookie(ACCESS, &access)
        .set_cookie(REFRESH, &refresh)
        .set_cookie(CSRF, &value(&access))
        .set_cookie(CSRF_REFRESH, &value(&refresh));
    assert_eq!(csrf(&browser, CSRF).post_nothing("/hello").await.status(), 200);
    let mut refreshing = csrf(&browser, CSRF_REFRESH);
    let reply = refreshing.post_nothing("/v1/auth/refresh").await;
    assert_eq!(reply.status(), 200, "{reply:?}");
    assert_eq!(payload(refreshing.cookie(ACCESS))["sid"], payload(&refresh)["jti"]);
    assert_eq!(csrf(&refreshing, CSRF).post_nothing("/hello").await.status(), 200);
    // Each cookie has a value of its own: a page of ours sends that of the access token.
    let reply = csrf(&refreshing, CSRF_REFRESH).post_nothing("/v1/auth/logout").await;
    assert_eq!(reply.status(), 204, "{reply:?}");
    assert_says("ended", &beside.app.refresh(&refresh).await, 401, "Token has been revoked");
}

#[tokio::test]
async fn either_csrf_value_logs_a_browser_that_flask_signed_in_out_of_both_tokens() {
    for name in [CSRF, CSRF_REFRESH] {
        let beside = Beside::with(locations()).await;
        let account = beside.app.register("ada").await;
        let id = account.user_id.as_str();
        let (access, refresh) = (beside.access(id).await, beside.refresh(id).await);
        let value = |token: &str| payload(token)["csrf"].as_str().unwrap().to_owned();
        let browser = beside
            .app
            .browser()
            .set_cookie(ACCESS, &access)
            .set_cookie(REFRESH, &refresh)
            .set_cookie(CSRF, &value(&access))
            .set_cookie(CSRF_REFRESH, &value(&refresh));
        let refused = browser.clone().without("x-csrf-token").post_nothing("/v1/auth/logout").await;
        assert_says(name, &refused, 401, "Missing CSRF token");
        let wrong = browser.clone().without("x-csrf-token").with("x-csrf-token", "guess");
        let refused = wrong.clone().post_nothing("/v1/auth/logout").await;
        assert_says(name, &refused, 401, "CSRF double submit tokens do not match");
        assert!(refused.set_cookies().is_empty());

        let reply = csrf(&browser, name).post_nothing("/v1/auth/logout").await;
        assert_eq!(reply.status(), 204, "{name}: {reply:?}");
        assert_eq!(reply.set_cookies().len(), 4, "{name}");
        assert_says(name, &beside.app.refresh(&refresh).await, 401, "Token has been revoked");
        let me = beside.app.client().set_cookie(ACCESS, &access).get("/v1/auth/me").await;
        assert_says(name, &me, 401, "Token has been revoked");
    }
}

#[tokio::test]
async fn sec_063_a_junk_cookie_does_not_keep_a_logout_from_removing_the_cookies() {
    let beside = Beside::with(locations()).await;
    let (browser, _) = signed_in(&beside.app, "ada").await;
    let refresh = browser.cookie(REFRESH).to_owned();
    let reply =
        csrf(&browser, CSRF_REFRESH).set_cookie(ACCESS, "a.b.c").post_nothing("/v1/auth/logout").await;
    assert_eq!(reply.status(), 204, "{reply:?}");
    assert_eq!(reply.set_cookies().len(), 4);
    assert_says("ended", &beside.app.refresh(&refresh).await, 401, "Token has been revoked");
}

#[tokio::test]
async fn sec_079_a_login_by_cookie_ends_the_session_that_the_browser_carries() {
    let beside = Beside::with(locations()).await;
    let login = json!({ "username": "ada", "password": PASSWORD, "cookies": true });
    let (mut browser, _) = signed_in(&beside.app, "ada").await;
    let before = browser.cookie(REFRESH).to_owned();
    assert_eq!(browser.post("/v1/auth/login", &login).await.status(), 200);
    assert_says("before", &beside.app.refresh(&before).await, 401, "Token has been revoked");

    // No browser's headers: the CSRF value decides, any one of those that the cookies have.
    let user: countersign_jwt::UserId =
        payload(browser.cookie(ACCESS))["sub"].as_str().unwrap().parse().unwrap();
    let id = user.as_str();
    let (access, refresh) = (beside.access(id).await, beside.refresh(id).await);
    let foreign = beside.app.client().set_cookie(ACCESS, &access).set_cookie(REFRESH, &refresh);
    let refused = foreign.clone().post("/v1/auth/login", &login).await;
    assert_eq!(refused.outcome(), (403, "csrf_failed".to_owned()));
    for token in [&access, &refresh] {
        let value = payload(token)["csrf"].as_str().unwrap().to_owned();
        let mut proven = foreign.clone().with("x-csrf-token", &value);
        assert_eq!(proven.post("/v1/auth/login", &login).await.status(), 200);
    }
    assert_says("replaced", &beside.app.refresh(&refresh).await, 401, "Token has been revoked");
}

#[tokio::test]
async fn sec_079_a_login_by_cookie_is_503_while_the_hook_for_keys_fails() {
    let is_down = Arc::new(AtomicBool::new(false));
    let rules = FlaskJwtExtended::builder(extended(&locations())).verifying_key({
        let is_down = is_down.clone();
        move |_, _| {
            let found =
                if is_down.load(Ordering::Relaxed) { Err("down") } else { Ok(KeySource::new(SECRET)) };
            async move { found }
        }
    });
    let app = TestApp::with(|builder| builder.rules(rules)).await;
    let (mut browser, _) = signed_in(&app, "ada").await;
    let login = json!({ "username": "ada", "password": PASSWORD, "cookies": true });
    is_down.store(true, Ordering::Relaxed);
    assert_eq!(browser.post("/v1/auth/login", &login).await.status(), 503);
    is_down.store(false, Ordering::Relaxed);
    assert_eq!(browser.post("/v1/auth/login", &login).await.status(), 200);
}

#[tokio::test]
async fn sec_068_another_site_gets_nothing_done_by_cookie() {
    let beside = Beside::with(locations()).await;
    let (browser, _) = signed_in(&beside.app, "ada").await;
    let evil = csrf(&browser, CSRF).without("sec-fetch-site").with("origin", "https://evil.example");
    for path in ["/hello", "/v1/auth/refresh", "/v1/auth/logout"] {
        let reply = evil.clone().post_nothing(path).await;
        assert_eq!(reply.outcome(), (403, "cross_site".to_owned()), "{path}");
    }
    let login = json!({ "username": "ada", "password": PASSWORD, "cookies": true });
    let mut stranger = beside.app.client().with("origin", "https://evil.example");
    assert_eq!(stranger.post("/v1/auth/login", &login).await.outcome(), (403, "cross_site".to_owned()));
}

#[tokio::test]
async fn without_csrf_protection_tokens_have_no_value_and_requests_need_none() {
    let mut options = locations();
    options["JWT_COOKIE_CSRF_PROTECT"] = json!(false);
    let beside = Beside::with(options).await;
    let (mut browser, reply) = signed_in(&beside.app, "ada").await;
    let set: Vec<_> = reply.set_cookies().into_iter().map(|cookie| cookie.name).collect();
    assert_eq!(set, [ACCESS, REFRESH]);
    assert_eq!(browser.post_nothing("/hello").await.status(), 200);
    let reply = browser.post_nothing("/v1/auth/refresh").await;
    assert_eq!(reply.status(), 200, "{reply:?}");
    assert_eq!(names(&reply.json()), ["access_token"]);
    assert_eq!(browser.post_nothing("/hello").await.status(), 200);
    let mut evil = browser.clone().without("sec-fetch-site").with("origin", "https://evil.example");
    assert_eq!(
        evil.post_nothing("/hello").await.outcome(),
        (403, "cross_site".to_owned()),
        "where ours is stricter"
    );
    let login = json!({ "username": "ada", "password": PASSWORD, "cookies": true });
    let mut program = browser.clone().without("sec-fetch-site");
    assert_eq!(program.post("/v1/auth/login", &login).await.status(), 200);
    assert_eq!(program.post_nothing("/v1/auth/logout").await.status(), 204);
}

/// What a browser sends where an old cookie was set for this host alone, and the new one for the domain.
fn with_another(browser: &Client, name: &str) -> Client {
    browser.clone().with("cookie", &format!("{name}=old"))
}

/// What is removed where: the cookies' names, those for the domain first.
fn removed(reply: &Response) -> [Vec<String>; 2] {
    assert!(reply.set_cookies().iter().all(|cookie| cookie.is_removal() && cookie.value.is_empty()));
    let is_of_domain =
        |attributes: &[String]| attributes.iter().any(|attribute| attribute.starts_with("Domain="));
    let (domain, host): (Vec<_>, Vec<_>) =
        reply.set_cookies().into_iter().partition(|cookie| is_of_domain(&cookie.attributes));
    [domain, host].map(|cookies| {
        let mut names: Vec<_> = cookies.into_iter().map(|cookie| cookie.name).collect();
        names.sort();
        names
    })
}

#[tokio::test]
async fn sec_062_a_repeated_cookie_is_refused_and_forgotten_in_both_scopes() {
    let tokens = [ACCESS.to_owned(), REFRESH.to_owned()];
    let all = [ACCESS, CSRF, CSRF_REFRESH, REFRESH].map(str::to_owned);
    for (domain, expected) in
        [(None, [Vec::new(), tokens.to_vec()]), (Some("app.example.com"), [tokens.to_vec(), all.to_vec()])]
    {
        let mut options = locations();
        options["JWT_COOKIE_DOMAIN"] = json!(domain);
        let beside = Beside::with(options).await;
        let (browser, _) = signed_in(&beside.app, "ada").await;
        for (name, path, proof) in [
            (ACCESS, "/hello", CSRF),
            (REFRESH, "/v1/auth/refresh", CSRF_REFRESH),
            (ACCESS, "/v1/auth/logout", ""),
        ] {
            let mut sending = with_another(&browser, name);
            if path == "/v1/auth/logout" {
                sending = sending.drop_cookie(REFRESH);
            } else {
                sending = csrf(&sending, proof);
            }
            let reply = sending.post_nothing(path).await;
            let message = json!({ "msg": format!("Cookie \"{name}\" is repeated") });
            assert_eq!((reply.status(), reply.json()), (422, message), "{path}");
            assert_eq!(removed(&reply), expected, "{path} {domain:?}");
            assert_eq!(reply.header("cache-control"), Some("no-store"), "{path}");
        }
    }
}

#[tokio::test]
async fn a_repeated_cookie_is_forgotten_whatever_the_application_answers() {
    use countersign_flask::FlaskJwtExtended;
    use countersign_flask::flask_jwt_extended::RefusalKind;
    use countersign_http::Answer;

    let jwt = FlaskJwtExtended::builder(super::extended(&locations()))
        .answer(RefusalKind::InvalidToken, async |_| Answer::empty(http::StatusCode::IM_A_TEAPOT));
    let app = TestApp::with(|auth| auth.rules(jwt)).await;
    let (browser, _) = signed_in(&app, "ada").await;
    let reply = with_another(&browser, ACCESS).get("/hello").await;
    assert_eq!(reply.status(), 418);
    assert_eq!(removed(&reply)[1], [ACCESS, REFRESH]);
}

#[tokio::test]
async fn sec_062_a_logout_forgets_the_copy_of_another_scope_too() {
    let mut options = locations();
    options["JWT_COOKIE_DOMAIN"] = json!("app.example.com");
    let beside = Beside::with(options).await;
    let (browser, _) = signed_in(&beside.app, "ada").await;
    let reply = csrf(&with_another(&browser, ACCESS), CSRF_REFRESH).post_nothing("/v1/auth/logout").await;
    assert_eq!(reply.status(), 204, "{reply:?}");
    let all = [ACCESS, CSRF, CSRF_REFRESH, REFRESH].map(str::to_owned);
    assert_eq!(removed(&reply), [all.to_vec(), all.to_vec()]);
}

/// As Flask-JWT-Extended 4.7.4 on Werkzeug 3.1.9 answers the same fields, but for the last two.
#[tokio::test]
async fn a_cookie_that_werkzeug_drops_is_missing() {
    let beside = Beside::with(locations()).await;
    let account = beside.app.register("ada").await;
    let missing = "Missing JWT in headers or cookies (Missing Authorization Header; Missing cookie \"access_token_cookie\")";
    let token = account.access_token.as_str();
    for (value, status, message) in [
        ("a b", 401, missing),
        ("a\tb", 401, missing),
        ("T x", 401, missing),
        (" a b", 401, missing),
        ("a\"b", 401, missing),
        ("\"a", 401, missing),
        ("\"a\"b", 401, missing),
        ("\"a\" b", 401, missing),
        ("\"a\\\"", 401, missing),
        ("", 401, missing),
        ("a", 422, "Not enough segments"),
        ("\"a b\"", 422, "Not enough segments"),
        ("\"a\\\"b\"", 422, "Not enough segments"),
        ("T", 200, ""),
        ("  T  ", 200, ""),
        ("a b; access_token_cookie=T", 200, ""),
        // There the first of two counts.
        ("a; access_token_cookie=T", 422, "Cookie \"access_token_cookie\" is repeated"),
        // There quotes are taken off.
        ("\"T\"", 422, "Invalid header padding"),
    ] {
        let field = format!("access_token_cookie={}", value.replace('T', token));
        let reply = beside.app.client().with("cookie", &field).get("/v1/auth/me").await;
        assert_eq!(reply.status(), status, "{value:?}");
        if status != 200 {
            assert_eq!(reply.json()["msg"], message, "{value:?}");
        }
    }
    // At logout, too.
    let dropped = beside.app.client().with("cookie", "access_token_cookie=a b; refresh_token_cookie=a b");
    let dropped = dropped.with("x-csrf-token", "x").post_nothing("/v1/auth/logout").await;
    assert_says("logout", &dropped, 401, missing);
}

#[tokio::test]
async fn whether_a_cookie_needs_its_csrf_value_is_said_in_one_place() {
    let native = TestApp::with(|auth| auth.csrf_also_for([Method::GET])).await;
    let mut options = locations();
    options["JWT_CSRF_METHODS"] = json!(["PUT"]);
    let flask = Beside::with(options.clone()).await.app;
    options["JWT_COOKIE_CSRF_PROTECT"] = json!(false);
    let unprotected = Beside::with(options).await.app;
    for (method, expected) in [
        (Method::GET, [true, false, false]),
        (Method::HEAD, [false, false, false]),
        (Method::POST, [true, false, false]),
        (Method::PUT, [true, true, false]),
    ] {
        let said = [&native, &flask, &unprotected]
            .map(|app| app.auth.rules().cookies().needs_csrf(app.auth.engine(), &method));
        assert_eq!(said, expected, "{method}");
    }
}

#[tokio::test]
async fn the_body_and_the_query_are_looked_at_where_the_options_say_so() {
    let beside = Beside::with(json!({
        "JWT_TOKEN_LOCATION": ["json", "query_string"],
        "JWT_JSON_KEY": "token",
        "JWT_REFRESH_JSON_KEY": "long",
        "JWT_QUERY_STRING_NAME": "t",
    }))
    .await;
    let account = beside.app.register("ada").await;
    let mut client = beside.app.client();
    let reply = client.get(&format!("/hello?t={}", account.access_token)).await;
    assert_eq!(reply.status(), 200, "{reply:?}");
    assert_eq!(reply.header("referrer-policy"), Some("no-referrer"), "the URL is a secret");
    assert!(client.get("/hello").await.header("referrer-policy").is_none());
    let body = json!({ "token": account.access_token });
    assert_eq!(client.post("/hello", &body).await.status(), 200);
    let body = json!({ "token": account.access_token, "tokens": ["00000000-0000-4000-8000-000000000000"] });
    let reply = client.send_json(Method::DELETE, "/v1/auth/revoke-tokens", &body).await;
    assert_eq!(reply.json(), json!({ "revoked": 1 }), "the route still has its body");
    for name in ["long", "refresh_token"] {
        let reply = client.post("/v1/auth/refresh", &json!({ name: account.refresh_token })).await;
        assert_eq!(reply.status(), 200, "{name}: {reply:?}");
    }
    assert_eq!(beside.bearer(&account.access_token).get("/v1/auth/me").await.status(), 401, "not the header");
    assert_eq!(client.post("/v1/auth/logout", &json!({ "long": account.refresh_token })).await.status(), 204);
    assert_says("ended", &beside.app.refresh(&account.refresh_token).await, 401, "Token has been revoked");
}

#[tokio::test]
async fn a_proxy_asks_about_cookies_by_the_method_of_the_request_behind() {
    let beside = Beside::with(locations()).await;
    let (browser, _) = signed_in(&beside.app, "ada").await;
    for (method, status) in [(None, 401), (Some("POST"), 401), (Some("GET"), 200)] {
        let mut proxy = browser.clone();
        if let Some(method) = method {
            proxy = proxy.with("x-forwarded-method", method);
        }
        let reply = proxy.get("/v1/auth/verify").await;
        assert_eq!(reply.status(), status, "{method:?}: {reply:?}");
        if status == 401 {
            assert_says("no value", &reply, 401, "Missing CSRF token");
            assert_eq!(csrf(&proxy, CSRF).get("/v1/auth/verify").await.status(), 200);
        }
    }
}

#[tokio::test]
async fn the_csrf_value_may_come_in_a_form_where_the_options_say_so() {
    for allowed in [true, false] {
        let mut options = locations();
        options["JWT_CSRF_CHECK_FORM"] = json!(allowed);
        options["JWT_ACCESS_CSRF_FIELD_NAME"] = json!("proof");
        let beside = Beside::with(options).await;
        let (mut browser, _) = signed_in(&beside.app, "ada").await;
        let form = format!("text=hello&proof={}", browser.cookie(CSRF)).into_bytes();
        let kind = Some("application/x-www-form-urlencoded");
        let reply = browser.send_bytes(Method::POST, "/hello", kind, form).await;
        if allowed {
            assert_eq!(reply.status(), 200, "{reply:?}");
        } else {
            assert_says("header alone", &reply, 401, "Missing CSRF token");
        }
    }
}
