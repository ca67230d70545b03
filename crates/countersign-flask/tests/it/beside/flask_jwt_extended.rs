//! Flask-JWT-Extended, with tokens in the header.

use countersign_flask::FlaskJwtExtended;
use countersign_flask::flask_jwt_extended::NewAccess;
use countersign_testkit::Point;
use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    Beside, DAY, PROTECTED, assert_says, changed, extended, header, key_pairs, minutes, names, other_rsa_key,
    seconds, signed,
};
use crate::app::{Account, PASSWORD, TestApp, credentials};
use crate::client::payload;
use crate::log;

#[tokio::test]
async fn tokens_say_what_flasks_say_and_name_their_session() {
    let beside = Beside::new().await;
    let account = beside.app.register("ada").await;
    let now = seconds(&beside.app);
    for (token, kind, fresh, lifetime) in [
        (&account.access_token, "access", true, 900),
        (&account.refresh_token, "refresh", false, 30 * 86_400),
    ] {
        assert_eq!(header(token), json!({ "alg": "HS256", "typ": "JWT" }), "{kind}");
        let claims = payload(token);
        let expected = ["csrf", "epoch", "exp", "fresh", "gen", "iat", "jti", "nbf", "sid", "sub", "type"];
        assert_eq!(names(&claims), expected, "{kind}");
        assert_eq!(claims["sub"], account.user_id.as_str(), "{kind}");
        assert_eq!((&claims["type"], &claims["fresh"]), (&json!(kind), &json!(fresh)));
        assert_eq!((&claims["iat"], &claims["nbf"]), (&json!(now), &json!(now)), "{kind}");
        assert_eq!(claims["exp"], now + lifetime, "{kind}");
        let decoded = beside.flask.decode_token(token, None, false).await.unwrap();
        assert_eq!(decoded.identity(), account.user_id.as_str(), "Flask takes the {kind} token");
    }
    assert_eq!(payload(&account.access_token)["sid"], payload(&account.refresh_token)["sid"]);
}

#[tokio::test]
async fn the_options_decide_what_tokens_say() {
    let options = json!({
        "JWT_ALGORITHM": "HS384",
        "JWT_IDENTITY_CLAIM": "identity",
        "JWT_ENCODE_NBF": false,
        "JWT_ENCODE_ISSUER": "flask",
        "JWT_DECODE_ISSUER": "flask",
        "JWT_ENCODE_AUDIENCE": ["web"],
        "JWT_DECODE_AUDIENCE": "web",
        "JWT_COOKIE_CSRF_PROTECT": false,
        "JWT_ACCESS_TOKEN_EXPIRES": 60,
        "JWT_REFRESH_TOKEN_EXPIRES": 600,
    });
    let beside = Beside::with(options).await;
    let account = beside.app.register("ada").await;
    for (token, lifetime) in [(&account.access_token, 60), (&account.refresh_token, 600)] {
        assert_eq!(header(token), json!({ "alg": "HS384", "typ": "JWT" }));
        let claims = payload(token);
        let expected =
            ["aud", "epoch", "exp", "fresh", "gen", "iat", "identity", "iss", "jti", "sid", "type"];
        assert_eq!(names(&claims), expected);
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!("flask"), &json!(["web"])));
        assert_eq!(claims["identity"], account.user_id.as_str());
        assert_eq!(claims["exp"], seconds(&beside.app) + lifetime);
    }
    assert_eq!(beside.me(&account.access_token).await.status(), 200);
    let foreign = beside.access(account.user_id.as_str()).await;
    assert_eq!(beside.me(&foreign).await.status(), 200);
    let refreshed = beside.app.refresh(&account.refresh_token).await;
    assert_eq!(refreshed.status(), 200, "{refreshed:?}");
    beside.app.wait(61);
    assert_says("a minute later", &beside.me(&account.access_token).await, 401, "Token has expired");
    let listed = beside.me(refreshed.json()["access_token"].as_str().unwrap()).await;
    assert_says("as is the other", &listed, 401, "Token has expired");
}

#[tokio::test]
async fn every_protected_route_refuses_as_flask_does() {
    let beside = Beside::new().await;
    let account = beside.app.register("ada").await;
    let ended = beside.app.login("ada").await;
    let logout = json!({ "refresh_token": ended.refresh_token });
    assert_eq!(beside.app.client().post("/v1/auth/logout", &logout).await.status(), 204);
    let id = account.user_id.as_str();
    let short = NewAccess::new().expires_in(minutes(1));
    let expired = beside.flask.create_access_token(id, short).await.unwrap();
    beside.app.wait(61);
    let forged = format!("{}x", account.access_token.rsplit_once('.').unwrap().0) + ".AAAA";
    let other = changed(&account.access_token, |claims| drop(claims.insert("sub".into(), 5.into())));
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    for (case, field, status, message) in [
        ("nothing", None, 401, "Missing Authorization Header".to_owned()),
        ("an empty one", Some(String::new()), 401, "Missing Authorization Header".to_owned()),
        ("garbage", bearer("x"), 422, "Not enough segments".to_owned()),
        (
            "another scheme",
            Some("Basic eDp5".to_owned()),
            401,
            "Missing 'Bearer' type in 'Authorization' header. Expected 'Authorization: Bearer <JWT>'"
                .to_owned(),
        ),
        (
            "words",
            Some("Bearer a b".to_owned()),
            422,
            "Bad Authorization header. Expected 'Authorization: Bearer <JWT>'".to_owned(),
        ),
        ("a forged one", bearer(&forged), 422, "Invalid payload padding".to_owned()),
        (
            "a refresh token",
            bearer(&account.refresh_token),
            422,
            "Only non-refresh tokens are allowed".to_owned(),
        ),
        ("a number for a user", bearer(&other), 422, "Subject must be a string".to_owned()),
        ("an expired one", bearer(&expired), 401, "Token has expired".to_owned()),
        ("a revoked one", bearer(&ended.access_token), 401, "Token has been revoked".to_owned()),
    ] {
        for (method, path) in PROTECTED {
            let mut client = beside.app.client();
            if let Some(field) = &field {
                client = client.with("authorization", field);
            }
            let body = json!({ "tokens": ["00000000-0000-4000-8000-000000000000"] });
            let reply = client.send_json(method.clone(), path, &body).await;
            assert_says(&format!("{case}: {method} {path}"), &reply, status, &message);
        }
    }
    // A signature that does not hold, of a token that is one otherwise.
    let (signed, signature) = account.access_token.rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let flipped = format!("{signed}.{flipped}{}", &signature[1..]);
    assert_says("flipped", &beside.me(&flipped).await, 422, "Signature verification failed");
    assert_eq!(beside.me(&account.access_token).await.status(), 200);
}

#[tokio::test]
async fn only_a_login_is_fresh() {
    let beside = Beside::new().await;
    let account = beside.app.register("ada").await;
    assert_eq!(beside.bearer(&account.access_token).post_nothing("/fresh").await.status(), 200);
    let refreshed = beside.app.refresh(&account.refresh_token).await.json();
    let refreshed = refreshed["access_token"].as_str().unwrap();
    for token in [refreshed, &beside.access(account.user_id.as_str()).await] {
        let reply = beside.bearer(token).post_nothing("/fresh").await;
        assert_says("not fresh", &reply, 401, "Fresh token required");
    }
    let login = beside.flask.create_access_token(account.user_id.as_str(), NewAccess::fresh()).await.unwrap();
    assert_eq!(beside.bearer(&login).post_nothing("/fresh").await.status(), 200, "Flask says it is");
}

#[tokio::test]
async fn the_error_message_key_is_the_options() {
    let beside = Beside::with(json!({ "JWT_ERROR_MESSAGE_KEY": "message" })).await;
    let account = beside.app.register("ada").await;
    for (reply, message) in [
        (beside.app.client().get("/v1/auth/me").await, "Missing Authorization Header"),
        (beside.app.client().post_nothing("/v1/auth/refresh").await, "Missing Authorization Header"),
        (beside.app.client().post_nothing("/v1/auth/logout").await, "Missing Authorization Header"),
        (beside.app.refresh(&account.access_token).await, "Only refresh tokens are allowed"),
        (beside.me(&beside.access("nobody").await).await, "Error loading the user nobody"),
    ] {
        assert_eq!(reply.json(), json!({ "message": message }));
    }
}

#[tokio::test]
async fn errors_that_are_not_about_tokens_stay_ours() {
    let beside = Beside::new().await;
    let app = &beside.app;
    app.register("ada").await;
    let wrong = json!({ "username": "ada", "password": "not this one" });
    for (case, reply, outcome) in [
        ("wrong password", app.client().post("/v1/auth/login", &wrong).await, (401, "invalid_credentials")),
        ("no members", app.client().post_nothing("/v1/auth/login").await, (422, "invalid_fields")),
        ("taken", app.client().post("/v1/auth/register", &credentials("ada")).await, (409, "email_taken")),
        ("path", app.client().get("/v1/auth/nothing").await, (404, "not_found")),
        ("method", app.client().get("/v1/auth/login").await, (405, "method_not_allowed")),
        (
            "type",
            app.client().send_bytes(Method::POST, "/v1/auth/login", Some("text/plain"), b"x".to_vec()).await,
            (415, "unsupported_media_type"),
        ),
        (
            "syntax",
            app.client()
                .send_bytes(Method::POST, "/v1/auth/refresh", Some("application/json"), b"{".to_vec())
                .await,
            (400, "invalid_request"),
        ),
        (
            "member",
            app.client().post("/v1/auth/refresh", &json!({ "refresh_token": 5 })).await,
            (422, "invalid_fields"),
        ),
    ] {
        assert_eq!(reply.outcome(), (outcome.0, outcome.1.to_owned()), "{case}");
    }
    let mut last = app.client().post("/v1/auth/login", &wrong).await;
    for _ in 0..5 {
        last = app.client().post("/v1/auth/login", &wrong).await;
    }
    assert_eq!(last.outcome(), (429, "too_many_attempts".to_owned()));
    assert!(last.header("retry-after").is_some());
}

#[tokio::test]
async fn a_store_that_is_down_is_a_503_and_never_a_401() {
    let beside = Beside::new().await;
    let account = beside.app.register("ada").await;
    let id = account.user_id.as_str();
    let (access, refresh) = (beside.access(id).await, beside.refresh(id).await);
    beside.app.store.fail(true);
    for token in [&account.refresh_token, &refresh] {
        let body = json!({ "refresh_token": token });
        for reply in [
            beside.app.client().post("/v1/auth/refresh", &body).await,
            beside.bearer(token).post_nothing("/v1/auth/refresh").await,
            beside.app.client().post("/v1/auth/logout", &body).await,
            beside.bearer(token).post_nothing("/refresh-token").await,
        ] {
            assert_eq!(reply.outcome(), (503, "unavailable".to_owned()), "{reply:?}");
            assert!(reply.header("retry-after").is_some());
        }
    }
    for token in [&account.access_token, &access] {
        for path in ["/v1/auth/me", "/v1/auth/sessions"] {
            assert_eq!(
                beside.bearer(token).get(path).await.outcome(),
                (503, "unavailable".to_owned()),
                "{path}"
            );
        }
        assert_eq!(beside.app.hello(token).await, 200, "nothing needs the store here");
    }
    // Until the view of the log is too old to go by.
    beside.app.wait(6);
    for token in [&account.access_token, &access] {
        let reply = beside.bearer(token).get("/hello").await;
        assert_eq!(reply.outcome(), (503, "unavailable".to_owned()));
    }
    beside.app.store.fail(false);
    for token in [&account.refresh_token, &refresh] {
        assert_eq!(beside.app.refresh(token).await.status(), 200, "and nothing was lost");
    }
}

#[tokio::test]
async fn a_refresh_answers_an_access_token_alone_and_leaves_the_refresh_token_good() {
    let beside = Beside::new().await;
    let account = beside.app.register("ada").await;
    let foreign = beside.refresh(account.user_id.as_str()).await;
    let mut ids = Vec::new();
    for token in [&account.refresh_token, &foreign] {
        for round in 0..6 {
            let reply = match round % 3 {
                0 => beside.app.refresh(token).await,
                1 => beside.bearer(token).post_nothing("/v1/auth/refresh").await,
                // What the body says counts, whatever else is there.
                _ => {
                    let body = json!({ "refresh_token": token });
                    beside.bearer("garbage").post("/v1/auth/refresh", &body).await
                }
            };
            assert_eq!(reply.status(), 200, "{reply:?}");
            assert_eq!(names(&reply.json()), ["access_token"]);
            assert_eq!(reply.header("cache-control"), Some("no-store"));
            assert!(reply.set_cookies().is_empty());
            let body = reply.json();
            let access = body["access_token"].as_str().unwrap();
            assert_eq!(payload(access)["fresh"], false);
            assert_eq!(payload(access)["exp"], seconds(&beside.app) + 900);
            assert_eq!(beside.me(access).await.status(), 200);
            assert!(beside.flask.decode_token(access, None, false).await.is_ok(), "Flask takes it");
            ids.push(payload(access)["jti"].to_string());
            beside.app.wait(2 * DAY);
        }
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parallel_refreshes_all_succeed() {
    let beside = Beside::new().await;
    let account = beside.app.register("ada").await;
    let foreign = beside.refresh(account.user_id.as_str()).await;
    for token in [account.refresh_token, foreign] {
        let mut tasks = JoinSet::new();
        for _ in 0..32 {
            let (app, token) = (beside.app.clone(), token.clone());
            tasks.spawn(async move { app.refresh(&token).await });
        }
        let replies = tasks.join_all().await;
        let mut sessions: Vec<_> = replies
            .iter()
            .map(|reply| payload(reply.json()["access_token"].as_str().unwrap())["sid"].to_string())
            .collect();
        sessions.dedup();
        assert_eq!(sessions.len(), 1);
    }
    assert_eq!(beside.app.live_sessions(&account.user_id).await.len(), 2);
    assert!(beside.app.events.take_alarms().is_empty(), "nobody takes it for a replay");
}

#[tokio::test]
async fn refused_refreshes_answer_as_flask_does() {
    let beside = Beside::new().await;
    let account = beside.app.register("ada").await;
    let ended = beside.app.login("ada").await;
    let logout = json!({ "refresh_token": ended.refresh_token });
    assert_eq!(beside.app.client().post("/v1/auth/logout", &logout).await.status(), 204);
    let nobody = beside.refresh("nobody").await;
    let disabled = beside.app.register("disabled").await;
    beside.app.auth.accounts().disable(&disabled.user_id).await.unwrap();
    let id = disabled.user_id.as_str();
    beside.app.wait(2);
    let of_disabled = beside.refresh(id).await;
    for (case, token, status, message) in [
        ("garbage", "x", 422, "Not enough segments".to_owned()),
        ("access", &account.access_token, 422, "Only refresh tokens are allowed".to_owned()),
        ("ended", &ended.refresh_token, 401, "Token has been revoked".to_owned()),
        ("nobody", &nobody, 401, "Error loading the user nobody".to_owned()),
        ("disabled", &of_disabled, 401, format!("Error loading the user {id}")),
        ("disabled before", &disabled.refresh_token, 401, format!("Error loading the user {id}")),
    ] {
        assert_says(case, &beside.app.refresh(token).await, status, &message);
        let by_header = beside.bearer(token).post_nothing("/v1/auth/refresh").await;
        assert_says(case, &by_header, status, &message);
    }
    let nothing = beside.app.client().post_nothing("/v1/auth/refresh").await;
    assert_says("nothing", &nothing, 401, "Missing Authorization Header");
    beside.app.wait(31 * DAY);
    assert_says("late", &beside.app.refresh(&account.refresh_token).await, 401, "Token has expired");
}

#[tokio::test]
async fn sec_176_each_kind_of_token_is_good_for_its_own_routes_alone() {
    let beside = Beside::new().await;
    let account = beside.app.register("ada").await;
    let id = account.user_id.as_str();
    // As other programs may sign with the same key: for a password reset, or who somebody is.
    let special = |kind: &str| {
        let now = seconds(&beside.app);
        signed(&json!({ "sub": id, "iat": now, "exp": now + 60, "jti": "x", "type": kind }))
    };
    for (case, token, is_refresh) in [
        ("ours, access", account.access_token.clone(), false),
        ("ours, refresh", account.refresh_token.clone(), true),
        ("Flask's, access", beside.access(id).await, false),
        ("Flask's, refresh", beside.refresh(id).await, true),
    ] {
        for (method, path) in PROTECTED {
            if method == Method::DELETE {
                continue;
            }
            let reply = beside.bearer(&token).send_json(method, path, &json!({})).await;
            match is_refresh {
                true => assert_says(case, &reply, 422, "Only non-refresh tokens are allowed"),
                false => assert_eq!(reply.status(), 200, "{case} {path}"),
            }
        }
        let body = json!({ "refresh_token": token });
        for reply in [
            beside.bearer(&token).post_nothing("/v1/auth/refresh").await,
            beside.app.client().post("/v1/auth/refresh", &body).await,
            beside.bearer(&token).get("/refresh-token").await,
        ] {
            match is_refresh {
                true => assert_eq!(reply.status(), 200, "{case}"),
                false => assert_says(case, &reply, 422, "Only refresh tokens are allowed"),
            }
        }
    }
    for kind in ["reset", "id", "REFRESH"] {
        let token = special(kind);
        assert_says(kind, &beside.app.refresh(&token).await, 422, "Only refresh tokens are allowed");
    }
}

#[tokio::test]
async fn a_token_of_nobody_is_told_so() {
    let beside = Beside::with(json!({ "JWT_VERIFY_SUB": false })).await;
    let account = beside.app.register("ada").await;
    let gone = beside.access("11111111-2222-4333-8444-555555555555").await;
    let message = "Error loading the user 11111111-2222-4333-8444-555555555555";
    assert_says("gone", &beside.me(&gone).await, 401, message);
    for (identity, shown) in [
        (json!(5), "5"),
        (json!({"id": 5}), "{'id': 5}"),
        (json!(null), "None"),
        (json!(""), ""),
        (json!("x".repeat(300)), &"x".repeat(300)),
    ] {
        let token = beside.access(identity.clone()).await;
        for path in ["/v1/auth/me", "/v1/auth/sessions", "/hello"] {
            let reply = beside.bearer(&token).get(path).await;
            assert_says(path, &reply, 401, &format!("Error loading the user {shown}"));
        }
        let refresh = beside.refresh(identity).await;
        let reply = beside.app.refresh(&refresh).await;
        assert_says("refresh", &reply, 401, &format!("Error loading the user {shown}"));
    }
    // The claims of a session, but not all of them, or not as they must be: nobody could end it.
    for (name, value) in [
        ("sid", None),
        ("gen", None),
        ("epoch", None),
        ("sid", Some(json!("x"))),
        ("gen", Some(json!(-1))),
        ("epoch", Some(json!("0"))),
        ("jti", Some(json!("x"))),
    ] {
        for token in [&account.access_token, &account.refresh_token] {
            let token = changed(token, |claims| match &value {
                None => drop(claims.remove(name)),
                Some(value) => drop(claims.insert(name.to_owned(), value.clone())),
            });
            let me = beside.me(&token).await.status();
            assert!([401, 422].contains(&me), "{name} {value:?}: {me}");
            let refresh = beside.app.refresh(&token).await.status();
            assert!([401, 422].contains(&refresh), "{name} {value:?}: {refresh}");
        }
    }
}

#[tokio::test]
async fn a_token_older_than_the_log_remembers_is_refused_whatever_it_says() {
    let beside = Beside::new().await;
    let account = beside.app.register("ada").await;
    let long = NewAccess::new().expires_in(minutes(60 * 24 * 365));
    let token = beside.flask.create_access_token(account.user_id.as_str(), long).await.unwrap();
    assert_eq!(beside.me(&token).await.status(), 200);
    beside.app.wait(899);
    assert_eq!(beside.me(&token).await.status(), 200);
    beside.app.wait(60);
    assert_says("old", &beside.me(&token).await, 401, "Token has been revoked");
    let timeless = changed(&token, |claims| drop(claims.remove("iat")));
    assert_says("no iat", &beside.me(&timeless).await, 401, "Token has been revoked");
}

#[tokio::test]
async fn who_logs_out_with_an_expired_token_is_logged_out() {
    let beside = Beside::new().await;
    let account = beside.app.register("ada").await;
    beside.app.wait(3600);
    assert_says("expired", &beside.me(&account.access_token).await, 401, "Token has expired");
    let reply = beside.bearer(&account.access_token).post_nothing("/v1/auth/logout").await;
    assert_eq!(reply.status(), 204, "{reply:?}");
    assert_says("ended", &beside.app.refresh(&account.refresh_token).await, 401, "Token has been revoked");
    for (case, mut client, status, message) in [
        ("nothing", beside.app.client(), 401, "Missing Authorization Header"),
        ("garbage", beside.bearer("x"), 422, "Not enough segments"),
    ] {
        assert_says(case, &client.post_nothing("/v1/auth/logout").await, status, message);
    }
}

#[tokio::test]
async fn a_proxy_asks_as_before() {
    let beside = Beside::new().await;
    let account = beside.app.register("ada").await;
    let foreign = beside.access(account.user_id.as_str()).await;
    for token in [&account.access_token, &foreign] {
        let reply = beside.bearer(token).get("/v1/auth/verify").await;
        assert_eq!(reply.status(), 200, "{reply:?}");
        assert_eq!(reply.json()["sub"], account.user_id.as_str());
        assert_eq!(reply.json()["jti"], payload(token)["jti"]);
        let lacking = beside.bearer(token).get("/v1/auth/verify?scope=admin").await;
        assert_says("scope", &lacking, 400, "User claims verification failed");
    }
}

#[tokio::test]
async fn one_line_of_the_log_tells_why_a_request_was_refused() {
    let beside = Beside::new().await;
    let id = "a-user-for-the-log-alone";
    let token = beside.access(id).await;
    beside.me(&token).await;
    let lines = log::lines_with("was not let through");
    let lines: Vec<_> = lines.iter().filter(|line| line.contains(id)).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
}

#[tokio::test]
async fn cookies_are_not_to_be_had_where_the_options_do_not_take_them() {
    let app = Beside::new().await.app;
    let mut body = credentials("ada");
    body["cookies"] = json!(true);
    let reply = app.client().post("/v1/auth/register", &body).await;
    assert_eq!(reply.outcome(), (422, "invalid_fields".to_owned()));
    assert!(reply.json()["fields"]["cookies"].as_str().unwrap().contains("JWT_TOKEN_LOCATION"));
    app.register("ada").await;
    let login = json!({ "username": "ada", "password": PASSWORD, "cookies": true });
    assert_eq!(app.client().post("/v1/auth/login", &login).await.status(), 422);
    // Somebody else's cookies of that name mean nothing here.
    let mut browser =
        app.client().set_cookie("access_token_cookie", "x").with("origin", "https://evil.example");
    assert_eq!(browser.get("/v1/auth/me").await.status(), 401);
    let login = json!({ "username": "ada", "password": PASSWORD });
    let reply = browser.post("/v1/auth/login", &login).await;
    assert_eq!(reply.status(), 200, "{reply:?}");
    let access = Account::of(&reply).access_token;
    assert_eq!(browser.bearer(&access).post_nothing("/hello").await.status(), 200);
}

#[tokio::test]
async fn a_refresh_whose_client_hung_up_still_leaves_a_whole_session() {
    let beside = Beside::new().await;
    let account = beside.app.register("ada").await;
    let foreign = beside.refresh(account.user_id.as_str()).await;
    let mut gate = beside.app.store.hold(Point::Before("insert_session"));
    let asking = tokio::spawn({
        let (app, token) = (beside.app.clone(), foreign.clone());
        async move { app.refresh(&token).await }
    });
    gate.arrived().await;
    asking.abort();
    gate.open();
    assert_eq!(beside.app.refresh(&foreign).await.status(), 200);
    assert_eq!(beside.app.live_sessions(&account.user_id).await.len(), 2);
}

#[tokio::test]
async fn a_key_pair_signs_and_its_public_half_alone_is_published() {
    for (algorithm, private, public) in key_pairs() {
        let options = json!({
            "JWT_ALGORITHM": algorithm,
            "JWT_PRIVATE_KEY": private,
            "JWT_PUBLIC_KEY": public,
        });
        let beside = Beside::with(options).await;
        let account = beside.app.register("ada").await;
        assert_eq!(header(&account.access_token), json!({ "alg": algorithm, "typ": "JWT" }));
        assert_eq!(beside.me(&account.access_token).await.status(), 200);
        assert_eq!(beside.app.refresh(&account.refresh_token).await.status(), 200);
        let set = beside.app.auth.token_endpoints().jwks();
        let set: Value = serde_json::from_slice(set.body()).unwrap();
        let keys = set["keys"].as_array().unwrap();
        assert_eq!(keys.len(), 1, "{algorithm}: {set}");
        for secret in ["d", "p", "q", "k"] {
            assert!(keys[0].get(secret).is_none(), "{algorithm}: {set}");
        }
        assert_eq!(keys[0]["kty"], if algorithm == "RS256" { "RSA" } else { "EC" });
    }
    let shared = TestApp::with(|auth| auth.rules(FlaskJwtExtended::builder(extended(&json!({}))))).await;
    let set: Value = serde_json::from_slice(shared.auth.token_endpoints().jwks().body()).unwrap();
    assert_eq!(set, json!({ "keys": [] }), "a shared secret is nobody's business");
}

#[tokio::test]
async fn options_with_which_no_token_of_ours_would_be_good_are_an_error_at_once() {
    let [(_, private, public), (_, other, _)] = key_pairs().try_into().unwrap();
    let short = "canary-secret-16";
    let cases: [(Value, bool, &[&str]); 6] = [
        (json!({ "JWT_DECODE_ISSUER": "flask" }), false, &["Token is missing the \"iss\" claim"]),
        (
            json!({ "JWT_DECODE_AUDIENCE": ["a"], "JWT_ENCODE_AUDIENCE": "b" }),
            false,
            &["Audience doesn't match"],
        ),
        (json!({ "JWT_ALGORITHM": "RS256", "JWT_PUBLIC_KEY": public }), false, &["JWT_PRIVATE_KEY"]),
        (
            json!({ "JWT_ALGORITHM": "RS256", "JWT_PUBLIC_KEY": public, "JWT_PRIVATE_KEY": other }),
            false,
            &["JWT_PRIVATE_KEY"],
        ),
        (
            json!({ "JWT_ALGORITHM": "RS256", "JWT_PUBLIC_KEY": other_rsa_key(), "JWT_PRIVATE_KEY": private }),
            false,
            &["Signature verification failed"],
        ),
        // Verifying alone is for programs that issue nothing.
        (json!({ "JWT_SECRET_KEY": short }), true, &["JWT_SECRET_KEY"]),
    ];
    for (options, dangerous, saying) in cases {
        let mut builder = FlaskJwtExtended::builder(extended(&options));
        if dangerous {
            builder = builder.dangerous_verify_with_short_secret();
        }
        let error = TestApp::try_with(|auth| auth.rules(builder)).await.unwrap_err().to_string();
        for text in saying {
            assert!(error.contains(text), "{options}: {error}");
        }
        assert!(!error.contains("canary") && !error.contains("PRIVATE KEY-"), "{error}");
    }
}
