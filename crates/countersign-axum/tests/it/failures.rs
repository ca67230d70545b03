//! A store that fails, and clients that hang up.

use std::num::NonZeroUsize;
use std::sync::Arc;

use countersign_core::model::{EndReason, KeyPurpose};
use countersign_testkit::{Point, SeededRandom};
use http::Method;
use serde_json::json;

use crate::app::{Account, PASSWORD, TestApp, credentials};
use crate::client::{ACCESS, REFRESH, payload};

#[tokio::test]
async fn sec_087_a_store_that_fails_is_a_503_that_touches_no_cookie() {
    let app = TestApp::new().await;
    let mut browser = app.signed_in_browser("ada").await.csrf();
    let login = json!({ "username": "ada", "password": PASSWORD, "cookies": true });
    let revoke = json!({ "tokens": ["00000000-0000-4000-8000-000000000000"] });
    for (method, path, body) in [
        (Method::POST, "/v1/auth/register", credentials("bob")),
        (Method::POST, "/v1/auth/login", login),
        (Method::POST, "/v1/auth/refresh", json!({})),
        (Method::POST, "/v1/auth/logout", json!({})),
        (Method::GET, "/v1/auth/me", json!({})),
        (Method::GET, "/v1/auth/sessions", json!({})),
        (Method::DELETE, "/v1/auth/sessions", json!({})),
        (Method::DELETE, "/v1/auth/sessions/{own}", json!({})),
        (Method::DELETE, "/v1/auth/revoke-tokens", revoke),
    ] {
        // Whichever of the route's store calls it is that fails.
        for after in 0..3 {
            let own = payload(browser.cookie(ACCESS))["sid"].as_str().unwrap().to_owned();
            let path = &path.replace("{own}", &own);
            if after > 0 {
                app.store.fail_once_after(after);
            } else {
                app.store.fail(true);
            }
            let reply = browser.send_json(method.clone(), path, &body).await;
            app.store.fail(false);
            app.store.fail_once_after(u64::MAX);
            if after > 0 && reply.status() < 300 {
                // It makes fewer calls. Start again from a signed-in browser.
                let login = json!({ "username": "ada", "password": PASSWORD, "cookies": true });
                browser = app.browser();
                assert_eq!(browser.post("/v1/auth/login", &login).await.status(), 200);
                browser = browser.csrf();
                break;
            }
            assert_eq!(reply.outcome(), (503, "unavailable".to_owned()), "{path} {after}");
            assert_eq!(reply.header("retry-after"), Some("1"), "{path} {after}");
            assert!(reply.set_cookies().is_empty(), "{path} {after}");
        }
    }
}

#[tokio::test]
async fn sec_087_a_view_that_cannot_be_renewed_answers_503_and_recovers() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    app.wait(6);
    app.store.fail(true);
    for path in ["/hello", "/maybe", "/v1/auth/me", "/v1/auth/sessions"] {
        let reply = app.client().bearer(&account.access_token).get(path).await;
        assert_eq!(reply.outcome(), (503, "unavailable".to_owned()), "{path}");
        assert!(reply.header("retry-after").is_some(), "{path}");
    }
    assert_eq!(app.client().get("/maybe").await.status(), 200, "who shows nothing needs no view");
    assert_eq!(app.hello("garbage").await, 401, "garbage is garbage");
    app.store.fail(false);
    assert_eq!(app.hello(&account.access_token).await, 200);
}

#[tokio::test]
async fn sec_103_a_refresh_whose_reply_from_the_store_was_lost_is_good_on_retry() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    app.store.lose_reply_of("advance");
    assert_eq!(app.refresh(&account.refresh_token).await.status(), 503);
    let next = Account::of(&app.refresh(&account.refresh_token).await);
    assert_eq!(payload(&next.refresh_token)["gen"], 1, "the step that was made already");
    assert_eq!(app.hello(&next.access_token).await, 200);
}

#[tokio::test]
async fn sec_103_a_logout_whose_reply_was_lost_is_good_on_retry() {
    let app = TestApp::new().await;
    let mut browser = app.signed_in_browser("ada").await.csrf();
    app.store.lose_reply_of("end_session");
    assert_eq!(browser.post_nothing("/v1/auth/logout").await.status(), 503);
    assert_eq!(browser.post_nothing("/v1/auth/logout").await.status(), 204);
    assert!(browser.is_signed_out());
}

#[tokio::test]
async fn sec_121_a_full_hash_pool_is_overloaded_and_counts_no_failure() {
    let app = TestApp::with(|builder| builder.hash_permits(NonZeroUsize::MIN).hash_queue(0)).await;
    app.register("ada").await;
    // Many different accounts at once: only one hash fits.
    let attempts: Vec<_> = (0..8)
        .map(|i| {
            let app = app.clone();
            let body = json!({ "username": if i == 7 { "ada".to_owned() } else { format!("n{i}") }, "password": PASSWORD });
            tokio::spawn(async move { app.client().post("/v1/auth/login", &body).await })
        })
        .collect();
    let mut overloaded = 0;
    for attempt in attempts {
        let reply = attempt.await.unwrap();
        if reply.status() == 503 {
            overloaded += 1;
            assert_eq!(reply.code(), "overloaded");
            assert_eq!(reply.header("retry-after"), Some("1"));
        }
    }
    assert_eq!(overloaded, 7);
    for _ in 0..10 {
        let login = json!({ "username": "ada", "password": PASSWORD });
        assert_eq!(app.client().post("/v1/auth/login", &login).await.status(), 200);
    }
}

/// Sends a request, hangs up once the store call has reached the point, and lets the call go on.
async fn hang_up_at(app: &TestApp, point: Point, request: impl Future<Output = ()> + Send + 'static) {
    let mut gate = app.store.hold(point);
    let connection = tokio::spawn(request);
    gate.arrived().await;
    connection.abort();
    assert!(connection.await.unwrap_err().is_cancelled());
    gate.open();
    settle().await;
}

/// Lets what runs detached come to its end: on this one thread it runs whenever the test yields.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_cannot_half_do_a_refresh() {
    let app = TestApp::new().await;
    let mut account = app.register("ada").await;
    let points = [Point::Before("advance"), Point::After("advance")];
    for (step, point) in (1..).zip(points) {
        app.wait(60);
        let (sender, token) = (app.clone(), account.refresh_token.clone());
        hang_up_at(&app, point, async move {
            sender.refresh(&token).await;
        })
        .await;
        let next = Account::of(&app.refresh(&account.refresh_token).await);
        assert_eq!(payload(&next.refresh_token)["gen"], step, "{point:?}: the pair of the one step");
        assert_eq!(app.hello(&next.access_token).await, 200, "{point:?}");
        account = next;
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_cannot_half_do_a_logout() {
    let app = TestApp::new().await;
    for point in [Point::Before("end_session"), Point::After("end_session")] {
        let name = format!("ada-{}", matches!(point, Point::After(_)));
        let [first, second] = [app.register(&name).await, app.login(&name).await];
        let sender = app.clone();
        let (token, body) = (first.access_token.clone(), json!({ "refresh_token": second.refresh_token }));
        hang_up_at(&app, point, async move {
            sender.client().bearer(&token).post("/v1/auth/logout", &body).await;
        })
        .await;
        assert!(
            app.live_sessions(&first.user_id).await.is_empty(),
            "{point:?}: both sessions, not one of them"
        );
        for account in [&first, &second] {
            assert_eq!(app.hello(&account.access_token).await, 401, "{point:?}");
        }
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_cannot_half_do_a_revocation() {
    let app = TestApp::new().await;
    let caller = app.register("ada").await;
    let points = [
        Point::Before("revoke_tokens"),
        Point::After("revoke_tokens"),
        Point::Before("live_sessions"),
        Point::Before("end_session"),
    ];
    for point in points {
        let [access, refresh] = [app.login("ada").await, app.login("ada").await];
        let ids = json!([payload(&access.access_token)["jti"], payload(&refresh.refresh_token)["jti"]]);
        let (sender, token) = (app.clone(), caller.access_token.clone());
        hang_up_at(&app, point, async move {
            let mut client = sender.client().bearer(&token);
            client.send_json(Method::DELETE, "/v1/auth/revoke-tokens", &json!({ "tokens": ids })).await;
        })
        .await;
        assert_eq!(app.hello(&access.access_token).await, 401, "{point:?}");
        assert_eq!(app.hello(&refresh.access_token).await, 401, "{point:?}");
        assert_eq!(app.refresh(&refresh.refresh_token).await.status(), 401, "{point:?}");
    }
}

#[tokio::test]
async fn a_client_that_hangs_up_at_ending_the_others_ends_them() {
    let app = TestApp::new().await;
    let [caller, other] = [app.register("ada").await, app.login("ada").await];
    let (sender, token) = (app.clone(), caller.access_token.clone());
    hang_up_at(&app, Point::After("raise_epoch"), async move {
        sender.client().bearer(&token).delete("/v1/auth/sessions").await;
    })
    .await;
    assert_eq!(app.hello(&other.access_token).await, 401);
    assert_eq!(app.hello(&caller.access_token).await, 200);
}

#[tokio::test]
async fn sec_219_a_client_that_hangs_up_leaves_no_attempt_and_keeps_no_place() {
    let app = TestApp::with(|builder| builder.hash_permits(NonZeroUsize::MIN).hash_queue(0)).await;
    app.register("ada").await;
    let hashes = app.hashes();
    for point in [Point::Before("begin_attempt"), Point::After("begin_attempt"), Point::After("user")] {
        for _ in 0..8 {
            let sender = app.clone();
            hang_up_at(&app, point, async move {
                let login = json!({ "username": "ada", "password": PASSWORD });
                sender.client().post("/v1/auth/login", &login).await;
            })
            .await;
        }
    }
    assert_eq!(app.hashes(), hashes);
    let throttles = app.store.stores().throttles().clone();
    assert_eq!(throttles.thin_attempts("".."\u{10ffff}", 0, 100).await.unwrap(), 0, "no counter is left");
    let login = json!({ "username": "ada", "password": PASSWORD });
    assert_eq!(app.client().post("/v1/auth/login", &login).await.status(), 200);
}

#[tokio::test]
async fn a_refresh_that_races_a_logout_yields_nothing_that_lives() {
    let app = TestApp::new().await;
    let points = [Point::Before("advance"), Point::After("advance")];
    for (i, point) in points.into_iter().enumerate() {
        let account = app.register(&format!("ada-{i}")).await;
        let mut gate = app.store.hold(point);
        let refreshing = tokio::spawn({
            let (app, token) = (app.clone(), account.refresh_token.clone());
            async move { app.refresh(&token).await }
        });
        gate.arrived().await;
        let logout = json!({ "access_token": account.access_token });
        assert_eq!(app.client().post("/v1/auth/logout", &logout).await.status(), 204, "{point:?}");
        gate.open();
        let reply = refreshing.await.unwrap();
        assert_eq!(reply.status(), if point == Point::After("advance") { 200 } else { 401 }, "{point:?}");
        if reply.status() == 200 {
            let dead = Account::of(&reply);
            assert_eq!(app.hello(&dead.access_token).await, 401, "{point:?}");
            assert_eq!(app.refresh(&dead.refresh_token).await.status(), 401, "{point:?}");
        }
    }
}

#[tokio::test]
async fn sec_218_a_login_that_races_the_end_of_all_sessions_begins_after_it() {
    let app = TestApp::new().await;
    for point in [Point::After("epoch"), Point::After("user"), Point::Before("insert_session")] {
        let name = format!("ada-{point:?}").replace(|c: char| !c.is_alphanumeric(), "-");
        let caller = app.register(&name).await;
        // Another one, so that there is something to end.
        app.login(&name).await;
        let mut gate = app.store.hold(point);
        let logging_in = tokio::spawn({
            let (app, body) = (app.clone(), json!({ "username": name, "password": PASSWORD }));
            async move { app.client().post("/v1/auth/login", &body).await }
        });
        gate.arrived().await;
        let ended = app.client().bearer(&caller.access_token).delete("/v1/auth/sessions").await;
        assert_eq!(ended.status(), 204, "{point:?}");
        gate.open();
        let reply = logging_in.await.unwrap();
        assert_eq!(reply.status(), 200, "{point:?}: {reply:?}");
        assert_eq!(app.hello(&Account::of(&reply).access_token).await, 200, "{point:?}");
        assert_eq!(app.live_sessions(&caller.user_id).await.len(), 2, "{point:?}");
    }
}

#[tokio::test]
async fn sec_218_a_login_whose_epoch_is_raised_at_every_try_is_a_503_and_not_a_wrong_password() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let mut gate = app.store.hold(Point::Before("insert_session"));
    let mut logging_in = tokio::spawn({
        let (app, body) = (app.clone(), json!({ "username": "ada", "password": PASSWORD }));
        async move { app.client().post("/v1/auth/login", &body).await }
    });
    let reply = loop {
        tokio::select! {
            reply = &mut logging_in => break reply.unwrap(),
            () = gate.arrived() => {
                let all = app.auth.sessions().end_all(account.user_id.clone(), None, EndReason::AllEnded);
                all.await.unwrap();
                let next = app.store.hold(Point::Before("insert_session"));
                std::mem::replace(&mut gate, next).open();
            }
        }
    };
    assert_eq!(reply.outcome(), (503, "unavailable".to_owned()));
    assert!(reply.header("retry-after").is_some());
}

#[tokio::test]
async fn sec_099_a_refresh_that_races_a_disabling_yields_nothing() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let mut gate = app.store.hold(Point::Before("advance"));
    let refreshing = tokio::spawn({
        let (app, token) = (app.clone(), account.refresh_token.clone());
        async move { app.refresh(&token).await.outcome() }
    });
    gate.arrived().await;
    assert!(app.auth.accounts().disable(&account.user_id).await.unwrap());
    gate.open();
    assert_eq!(refreshing.await.unwrap(), (401, "invalid_token".to_owned()));
}

#[tokio::test]
async fn sec_079_a_cookie_login_is_503_while_nobody_knows_whose_cookies_it_carries() {
    let app = TestApp::new().await;
    let other = app.beside(|builder| builder.random(Arc::new(SeededRandom::new(79)))).await.unwrap();
    for purpose in [KeyPurpose::Access, KeyPurpose::Refresh] {
        other.auth.sessions().keys().rotate(purpose, None, false).await.unwrap();
    }
    app.wait(6);
    other.auth.sessions().keys().poll().await.unwrap();
    let planted = other.signed_in_browser("ada").await;
    let user_id = payload(planted.cookie(ACCESS))["sub"].as_str().unwrap().parse().unwrap();
    let cookies = [ACCESS, REFRESH].map(|name| format!("{name}={}", planted.cookie(name))).join("; ");
    let login = json!({ "username": "ada", "password": PASSWORD, "cookies": true });
    // The keys that signed these cookies are new here, and the store does not answer just now.
    app.store.fail_once_after(0);
    let reply = app.browser().with("cookie", &cookies).post("/v1/auth/login", &login).await;
    assert_eq!(reply.outcome(), (503, "unavailable".to_owned()));
    assert_eq!(app.live_sessions(&user_id).await.len(), 1, "no session has begun or ended");
    let reply = app.browser().with("cookie", &cookies).post("/v1/auth/login", &login).await;
    assert_eq!(reply.status(), 200);
    assert_eq!(app.live_sessions(&user_id).await.len(), 1, "the session of the cookies was replaced");
}
