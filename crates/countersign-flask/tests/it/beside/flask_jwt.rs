//! Flask-JWT, with its login endpoint.

use std::num::NonZeroUsize;

use countersign_flask::FlaskJwt;
use countersign_flask::axum::login_routes;
use countersign_flask::flask_jwt::Identity;
use countersign_testkit::Point;
use http::Method;
use serde_json::{Value, json};

use super::{BesidePlain, DAY, PROTECTED, changed, header, names, plain, seconds};
use crate::app::{PASSWORD, TestApp, credentials};
use crate::client::{Response, payload};
use crate::log;

#[track_caller]
fn assert_says(case: &str, reply: &Response, error: &str, description: &str) {
    let body = json!({ "status_code": 401, "error": error, "description": description });
    assert_eq!((reply.status(), reply.json()), (401, body), "{case}");
    let challenge = (error == "Authorization Required").then_some("JWT realm=\"Login Required\"");
    assert_eq!(reply.header("www-authenticate"), challenge, "{case}");
}

/// A login at Flask-JWT's endpoint.
async fn auth(beside: &BesidePlain, username: &str, password: &str) -> Response {
    beside.app.client().post("/auth", &json!({ "username": username, "password": password })).await
}

#[tokio::test]
async fn tokens_say_what_flask_jwts_say_and_name_their_session() {
    let beside = BesidePlain::new().await;
    let account = beside.app.register("ada").await;
    let now = seconds(&beside.app);
    let reply = auth(&beside, "ada", PASSWORD).await;
    assert_eq!((reply.status(), names(&reply.json())), (200, vec!["access_token"]), "{reply:?}");
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let by_endpoint = reply.json()["access_token"].as_str().unwrap().to_owned();
    for token in [&account.access_token, &by_endpoint] {
        assert_eq!(header(token), json!({ "alg": "HS256", "typ": "JWT" }));
        let claims = payload(token);
        let expected = ["epoch", "exp", "fresh", "gen", "iat", "identity", "jti", "nbf", "sid", "type"];
        assert_eq!(names(&claims), expected);
        assert_eq!((&claims["iat"], &claims["nbf"]), (&json!(now), &json!(now)));
        assert_eq!(claims["exp"], now + 300);
        assert_eq!(claims["identity"], account.user_id.as_str());
        assert_eq!(claims["type"], "access");
        assert_eq!(beside.flask.decode_token(token).unwrap().identity(), account.user_id.as_str());
        assert_eq!(beside.me(token).await.status(), 200);
    }
    // Which Flask-JWT must not take for an access token, as it looks at no type.
    assert!(payload(&account.refresh_token)["aud"].is_string());
    let foreign = beside.token(account.user_id.as_str()).await;
    assert_eq!(names(&payload(&foreign)), ["exp", "iat", "identity", "nbf"]);
    assert_eq!(beside.me(&foreign).await.status(), 200);
}

#[tokio::test]
async fn a_compressed_login_is_refused_by_the_name_of_its_encoding() {
    let beside = BesidePlain::new().await;
    beside.app.register("ada").await;
    let mut client = beside.app.client().with("content-encoding", "gzip");
    let body = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03".to_vec();
    let reply = client.send_bytes(Method::POST, "/auth", Some("application/json"), body).await;
    assert_eq!(reply.outcome(), (415, "unsupported_media_type".to_owned()));
    assert!(reply.json()["error_description"].as_str().unwrap().contains("gzip"), "{reply:?}");
    assert_eq!(reply.header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn every_protected_route_refuses_as_flask_jwt_does() {
    let beside = BesidePlain::new().await;
    let account = beside.app.register("ada").await;
    let ended = beside.app.login("ada").await;
    let logout = json!({ "refresh_token": ended.refresh_token });
    assert_eq!(beside.app.client().post("/v1/auth/logout", &logout).await.status(), 204);
    let (signed, signature) = account.access_token.rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let flipped = format!("JWT {signed}.{flipped}{}", &signature[1..]);
    let expired = changed(&account.access_token, |claims| {
        claims.insert("exp".into(), (seconds(&beside.app) - 11).into());
    });
    let jwt = |token: &str| Some(format!("JWT {token}"));
    for (case, field, error, description) in [
        ("nothing", None, "Authorization Required", "Request does not contain an access token"),
        (
            "another scheme",
            Some("Basic eDp5".to_owned()),
            "Invalid JWT header",
            "Unsupported authorization type",
        ),
        (
            "bearer",
            Some(format!("Bearer {}", account.access_token)),
            "Invalid JWT header",
            "Unsupported authorization type",
        ),
        ("no token", Some("JWT".to_owned()), "Invalid JWT header", "Token missing"),
        ("words", Some("JWT a b".to_owned()), "Invalid JWT header", "Token contains spaces"),
        ("garbage", jwt("x"), "Invalid token", "Not enough segments"),
        ("flipped", Some(flipped), "Invalid token", "Signature verification failed"),
        ("expired", jwt(&expired), "Invalid token", "Signature has expired"),
        ("revoked", jwt(&ended.access_token), "Invalid token", "Token has been revoked"),
    ] {
        for (method, path) in PROTECTED {
            let mut client = beside.app.client();
            if let Some(field) = &field {
                client = client.with("authorization", field);
            }
            let body = json!({ "tokens": ["00000000-0000-4000-8000-000000000000"] });
            let reply = client.send_json(method.clone(), path, &body).await;
            assert_says(&format!("{case}: {method} {path}"), &reply, error, description);
        }
    }
}

#[tokio::test]
async fn sec_176_a_refresh_token_is_none_for_access_and_the_other_way_round() {
    let beside = BesidePlain::new().await;
    let account = beside.app.register("ada").await;
    let foreign = beside.token(account.user_id.as_str()).await;
    for (method, path) in PROTECTED {
        let reply = beside.bearer(&account.refresh_token).send_json(method, path, &json!({})).await;
        assert_says(path, &reply, "Invalid token", "Only access tokens are allowed");
    }
    for token in [&account.access_token, &foreign] {
        let by_header = beside.bearer(token).post_nothing("/v1/auth/refresh").await;
        assert_says("header", &by_header, "Invalid token", "Only refresh tokens are allowed");
        assert_says(
            "body",
            &beside.app.refresh(token).await,
            "Invalid token",
            "Only refresh tokens are allowed",
        );
    }
    assert!(
        beside
            .flask
            .decode_token(&account.refresh_token)
            .is_ok_and(|claims| { claims.token_type() == countersign_jwt::TokenType::Refresh })
    );
}

#[tokio::test]
async fn a_refresh_answers_an_access_token_alone_and_is_not_rotated() {
    let beside = BesidePlain::new().await;
    let account = beside.app.register("ada").await;
    for _ in 0..3 {
        beside.app.wait(DAY);
        for reply in [
            beside.app.refresh(&account.refresh_token).await,
            beside.bearer(&account.refresh_token).post_nothing("/v1/auth/refresh").await,
        ] {
            assert_eq!((reply.status(), names(&reply.json())), (200, vec!["access_token"]), "{reply:?}");
            let access = reply.json()["access_token"].as_str().unwrap().to_owned();
            assert_eq!(beside.me(&access).await.status(), 200);
            assert_eq!(payload(&access)["sid"], payload(&account.access_token)["sid"]);
        }
    }
    assert_eq!(beside.app.live_sessions(&account.user_id).await.len(), 1);
    let reply = beside.bearer(&account.refresh_token).post_nothing("/v1/auth/logout").await;
    assert_eq!(reply.status(), 204, "{reply:?}");
    let reply = beside.app.refresh(&account.refresh_token).await;
    assert_says("ended", &reply, "Invalid token", "Token has been revoked");
    let nothing = beside.app.client().post_nothing("/v1/auth/refresh").await;
    assert_says("nothing", &nothing, "Authorization Required", "Request does not contain an access token");
    let nothing = beside.app.client().post_nothing("/v1/auth/logout").await;
    assert_says("nothing", &nothing, "Authorization Required", "Request does not contain an access token");
}

#[tokio::test]
async fn log_out_everywhere_ends_what_flask_issued_before() {
    let beside = BesidePlain::new().await;
    let account = beside.app.register("ada").await;
    let foreign = beside.token(account.user_id.as_str()).await;
    let endpoint = auth(&beside, "ada", PASSWORD).await.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(beside.bearer(&account.access_token).delete("/v1/auth/sessions").await.status(), 204);
    for token in [&foreign, &endpoint] {
        assert_says("before", &beside.me(token).await, "Invalid token", "Token has been revoked");
    }
    assert_eq!(beside.me(&account.access_token).await.status(), 200);
    beside.app.wait(1);
    let later = beside.token(account.user_id.as_str()).await;
    assert_eq!(beside.me(&later).await.status(), 200);
    // Flask-JWT's tokens have no id, and end by logging out all the same.
    assert_eq!(beside.bearer(&later).post_nothing("/v1/auth/logout").await.status(), 204);
    assert_says("later", &beside.me(&later).await, "Invalid token", "Token has been revoked");
}

#[tokio::test]
async fn the_login_endpoint_takes_flask_jwts_body_and_nothing_else() {
    let beside = BesidePlain::new().await;
    let account = beside.app.register("ada").await;
    let refused = json!({ "status_code": 401, "error": "Bad Request", "description": "Invalid credentials" });
    for body in [
        json!({ "username": "ada", "password": "not this one" }),
        json!({ "username": "nobody", "password": PASSWORD }),
        json!({ "username": "ada" }),
        json!({ "password": PASSWORD }),
        json!({ "username": "", "password": PASSWORD }),
        json!({ "username": "ada", "password": null }),
        json!({ "username": "ada", "password": PASSWORD, "more": 1 }),
        json!({ "username": 5, "password": PASSWORD }),
        json!({ "username": "ada", "password": ["x"] }),
        json!({ "username": "a\u{0}da", "password": PASSWORD }),
        json!({ "username": "a".repeat(5000), "password": PASSWORD }),
        json!({ "username": "bob", "password": "x".repeat(5000) }),
    ] {
        let reply = beside.app.client().post("/auth", &body).await;
        assert_eq!((reply.status(), reply.json()), (401, refused.clone()));
        assert_eq!(reply.header("www-authenticate"), None);
    }
    for (content_type, body) in [
        (Some("text/plain"), "{}"),
        (None, "{}"),
        (Some("application/json"), "{"),
        (Some("application/json"), "[]"),
    ] {
        let reply = beside
            .app
            .client()
            .send_bytes(Method::POST, "/auth", content_type, body.as_bytes().to_vec())
            .await;
        assert_eq!((reply.status(), reply.code().as_str()), (400, "Bad Request"), "{body}");
    }
    let large = vec![b' '; 70 * 1024];
    let reply = beside.app.client().send_bytes(Method::POST, "/auth", Some("application/json"), large).await;
    assert_eq!(reply.outcome(), (413, "too_large".to_owned()));
    assert_eq!(beside.app.client().get("/auth").await.outcome(), (405, "method_not_allowed".to_owned()));
    // By address, too, as at our own login.
    assert_eq!(auth(&beside, "ada@example.org", PASSWORD).await.status(), 200);
    assert_eq!(
        auth(&beside, "\tada@example.org \n", PASSWORD).await.status(),
        200,
        "blanks are no part of a name"
    );
    assert_eq!(auth(&beside, "ada", &format!("{PASSWORD} ")).await.status(), 401, "but of a password");
    assert_eq!(beside.app.live_sessions(&account.user_id).await.len(), 3);
}

#[tokio::test]
async fn guessing_at_the_login_endpoint_is_throttled_together_with_our_own() {
    let beside = BesidePlain::new().await;
    beside.app.register("ada").await;
    for attempt in 0..5 {
        let reply = match attempt % 2 {
            0 => auth(&beside, "ada", "not this one").await,
            _ => {
                let body = json!({ "username": "ada", "password": "not this one" });
                beside.app.client().post("/v1/auth/login", &body).await
            }
        };
        assert_eq!(reply.status(), 401);
    }
    let hashes = beside.app.hashes();
    for _ in 0..3 {
        let reply = auth(&beside, "ada", PASSWORD).await;
        assert_eq!(reply.outcome(), (429, "too_many_attempts".to_owned()));
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
    assert_eq!(beside.app.hashes(), hashes, "nothing is hashed");
    beside.app.wait(2);
    assert_eq!(auth(&beside, "ada", PASSWORD).await.status(), 200);
}

#[tokio::test]
async fn a_store_that_is_down_is_a_503_and_never_a_401() {
    let beside = BesidePlain::new().await;
    let account = beside.app.register("ada").await;
    let foreign = beside.token(account.user_id.as_str()).await;
    beside.app.store.fail(true);
    for reply in [
        auth(&beside, "ada", PASSWORD).await,
        beside.app.refresh(&account.refresh_token).await,
        beside.bearer(&account.refresh_token).post_nothing("/v1/auth/logout").await,
        beside.me(&foreign).await,
    ] {
        assert_eq!(reply.outcome(), (503, "unavailable".to_owned()), "{reply:?}");
        assert!(reply.header("retry-after").is_some());
    }
    beside.app.wait(6);
    for token in [&foreign, &account.access_token] {
        let reply = beside.bearer(token).get("/hello").await;
        assert_eq!(reply.outcome(), (503, "unavailable".to_owned()));
    }
    beside.app.store.fail(false);
    assert_eq!(beside.me(&foreign).await.status(), 200);
}

#[tokio::test]
async fn a_token_of_nobody_is_told_so() {
    let beside = BesidePlain::new().await;
    for identity in [json!(5), json!("11111111-2222-4333-8444-555555555555"), json!({"id": 1})] {
        let token = beside.token(identity.clone()).await;
        assert_says("me", &beside.me(&token).await, "Invalid JWT", "User does not exist");
        let refresh = changed(&token, |claims| {
            claims.insert("type".into(), "refresh".into());
        });
        let reply = beside.app.refresh(&refresh).await;
        assert_says("refresh", &reply, "Invalid JWT", "User does not exist");
    }
    let account = beside.app.register("ada").await;
    beside.app.auth.accounts().disable(&account.user_id).await.unwrap();
    beside.app.wait(1);
    let token = beside.token(account.user_id.as_str()).await;
    assert_says("disabled", &beside.me(&token).await, "Invalid JWT", "User does not exist");
    assert_eq!(auth(&beside, "ada", PASSWORD).await.status(), 401);
}

#[tokio::test]
async fn the_options_decide_where_the_endpoint_is_and_what_its_members_are_called() {
    let beside = BesidePlain::with(json!({
        "JWT_AUTH_URL_RULE": "/api/token",
        "JWT_AUTH_USERNAME_KEY": "email",
        "JWT_AUTH_PASSWORD_KEY": "pass",
        "JWT_AUTH_HEADER_PREFIX": "Bearer",
        "JWT_EXPIRATION_DELTA": 60,
        "JWT_DEFAULT_REALM": "Here",
    }))
    .await;
    beside.app.register("ada").await;
    assert_eq!(auth(&beside, "ada", PASSWORD).await.status(), 404);
    let body = json!({ "email": "ada@example.org", "pass": PASSWORD });
    let reply = beside.app.client().post("/api/token", &body).await;
    assert_eq!(reply.status(), 200, "{reply:?}");
    let token = reply.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(payload(&token)["exp"], seconds(&beside.app) + 60);
    assert_eq!(beside.app.client().bearer(&token).get("/v1/auth/me").await.status(), 200);
    let nothing = beside.app.client().get("/v1/auth/me").await;
    assert_eq!(nothing.header("www-authenticate"), Some("JWT realm=\"Here\""));
    let none = BesidePlain::with(json!({ "JWT_AUTH_URL_RULE": null })).await;
    assert_eq!(auth(&none, "ada", PASSWORD).await.status(), 404);
}

#[tokio::test]
async fn a_session_of_the_endpoint_shows_whence_it_came() {
    let beside = BesidePlain::new().await;
    beside.app.register("ada").await;
    let body = json!({ "username": "ada", "password": PASSWORD });
    let mut tab = beside.app.client().with("user-agent", "Tab/1.0");
    let token = tab.post("/auth", &body).await.json()["access_token"].as_str().unwrap().to_owned();
    let listed = beside.bearer(&token).get("/v1/auth/sessions").await.json();
    let current: Vec<&Value> =
        listed["sessions"].as_array().unwrap().iter().filter(|session| session["current"] == true).collect();
    assert_eq!(current.len(), 1, "{listed}");
    assert_eq!(current[0]["user_agent"], "Tab/1.0");
}

#[tokio::test]
async fn a_session_is_whole_even_if_the_client_of_the_endpoint_hung_up() {
    let beside = BesidePlain::new().await;
    let account = beside.app.register("ada").await;
    let mut gate = beside.app.store.hold(Point::Before("insert_session"));
    let asking = tokio::spawn({
        let mut client = beside.app.client();
        async move { client.post("/auth", &json!({ "username": "ada", "password": PASSWORD })).await }
    });
    gate.arrived().await;
    asking.abort();
    gate.open();
    assert_eq!(auth(&beside, "ada", PASSWORD).await.status(), 200);
    assert!(beside.app.live_sessions(&account.user_id).await.len() >= 2);
}

#[tokio::test]
async fn cookies_are_not_to_be_had() {
    let app = BesidePlain::new().await.app;
    let mut body = credentials("ada");
    body["cookies"] = json!(true);
    let reply = app.client().post("/v1/auth/register", &body).await;
    assert_eq!(reply.outcome(), (422, "invalid_fields".to_owned()));
    let why = reply.json()["fields"]["cookies"].as_str().unwrap().to_owned();
    assert!(why.contains("not taken from cookies") && !why.contains("JWT_TOKEN_LOCATION"), "{why}");
}

#[tokio::test]
async fn sec_121_a_full_hash_pool_is_overloaded_at_the_endpoint_too() {
    let built =
        BesidePlain::built(json!({}), |auth| auth.hash_permits(NonZeroUsize::MIN).hash_queue(0)).await;
    let attempts: Vec<_> = (0..8)
        .map(|i| {
            let mut client = built.app.client();
            let body = json!({ "username": format!("n{i}"), "password": PASSWORD });
            tokio::spawn(async move { client.post("/auth", &body).await })
        })
        .collect();
    let mut overloaded = 0;
    for attempt in attempts {
        let reply = attempt.await.unwrap();
        if reply.status() == 503 {
            overloaded += 1;
            assert_eq!(reply.code(), "overloaded");
            assert!(reply.header("retry-after").is_some());
        } else {
            assert_eq!(reply.status(), 401);
        }
    }
    assert_eq!(overloaded, 7);
}

#[tokio::test]
async fn one_line_of_the_log_tells_why_a_request_was_refused() {
    let beside = BesidePlain::new().await;
    let account = beside.app.register("ada").await;
    let logout = json!({ "refresh_token": account.refresh_token });
    assert_eq!(beside.app.client().post("/v1/auth/logout", &logout).await.status(), 204);
    let token = beside.token("nobody-but-for-the-log").await;
    beside.me(&token).await;
    let lines = log::lines_with("nobody-but-for-the-log");
    let lines: Vec<_> = lines.iter().filter(|line| line.contains("was not let through")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[tokio::test]
async fn a_login_of_the_applications_own_stays_its_own() {
    let jwt = FlaskJwt::builder(plain(&json!({}))).authenticate(async |name, password| {
        let known = name == "joe" && password == "pass-joe";
        Ok::<_, std::io::Error>(known.then(|| Identity::new("joes-own-id", ())))
    });
    let app = TestApp::with(|auth| auth.rules(jwt)).await;
    let login = login_routes(&app.auth);
    let app = app.with_routes(login);
    let account = app.register("ada").await;
    let login = |name: &str, password: &str| json!({ "username": name, "password": password });
    let reply = app.client().post("/auth", &login("joe", "pass-joe")).await;
    assert_eq!((reply.status(), names(&reply.json())), (200, vec!["access_token"]), "{reply:?}");
    let token = reply.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(payload(&token)["identity"], "joes-own-id");
    let client = app.client().with("authorization", &format!("JWT {token}"));
    assert_eq!(client.clone().get("/v1/auth/verify").await.status(), 200);
    assert_eq!(app.client().post("/auth", &login("ada", PASSWORD)).await.status(), 401, "no second door");
    assert!(app.live_sessions(&account.user_id).await.len() == 1);
}
