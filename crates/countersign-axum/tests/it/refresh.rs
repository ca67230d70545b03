//! Refreshing: one step for any number of requests, no way back, no way past the session's end.

use std::time::Duration;

use countersign_core::model::{Event, SessionPolicy};
use serde_json::{Value, json};

use crate::app::{Account, PASSWORD, TestApp};
use crate::client::{ACCESS, CSRF, REFRESH, payload};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sec_092_parallel_refreshes_get_one_successor() {
    let app = TestApp::new().await;
    let mut account = app.register("ada").await;
    for round in 1..=10 {
        let requests: Vec<_> = (0..64)
            .map(|_| {
                let (app, token) = (app.clone(), account.refresh_token.clone());
                tokio::spawn(async move { app.refresh(&token).await })
            })
            .collect();
        let mut pairs = Vec::new();
        for request in requests {
            let reply = request.await.unwrap();
            assert_eq!(reply.status(), 200, "round {round}");
            pairs.push((reply.json()["access_token"].clone(), reply.json()["refresh_token"].clone()));
            account = Account::of(&reply);
        }
        assert!(pairs.iter().all(|pair| *pair == pairs[0]), "round {round}");
        assert_eq!(payload(&account.refresh_token)["gen"], round);
        app.wait(60);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sec_092_parallel_refreshes_by_cookie_leave_all_tabs_signed_in() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await.csrf();
    let requests: Vec<_> = (0..16)
        .map(|_| {
            let mut tab = browser.clone();
            tokio::spawn(async move { (tab.post_nothing("/v1/auth/refresh").await.status(), tab) })
        })
        .collect();
    let mut tabs = Vec::new();
    for request in requests {
        let (status, tab) = request.await.unwrap();
        assert_eq!(status, 200);
        tabs.push(tab);
    }
    for tab in &mut tabs {
        assert_ne!(tab.cookie(REFRESH), browser.cookie(REFRESH));
        assert_eq!(tab.get("/v1/auth/me").await.status(), 200);
        assert_eq!(tab.post_nothing("/v1/auth/refresh").await.status(), 200, "the same CSRF value");
    }
    let tokens: std::collections::BTreeSet<_> =
        tabs.iter().map(|tab| tab.cookie(REFRESH).to_owned()).collect();
    assert_eq!(tokens.len(), 1);
}

#[tokio::test]
async fn sec_093_an_older_token_ends_the_session() {
    let app = TestApp::new().await;
    for (case, steps, wait) in
        [("two steps old", 2, 40), ("one step old, after the grace", 1, 40), ("ten steps old", 10, 40)]
    {
        let account = app.register(&format!("n{steps}")).await;
        let mut current = account.clone();
        for _ in 0..steps {
            app.wait(wait);
            current = Account::of(&app.refresh(&current.refresh_token).await);
            // Its successor is in use, so the old token is not one whose successor got lost.
            assert_eq!(app.hello(&current.access_token).await, 200);
            app.auth.sessions().verification().flush_acknowledgements().await.unwrap();
        }
        app.wait(wait);
        let _ = app.events.take_alarms();
        let reply = app.refresh(&account.refresh_token).await;
        assert_eq!(reply.outcome(), (401, "invalid_token".to_owned()), "{case}");
        assert!(matches!(app.events.take_alarms()[..], [Event::RefreshReused { .. }]), "{case}");
        assert_eq!(
            app.refresh(&current.refresh_token).await.status(),
            401,
            "{case}: the thief's successor too"
        );
        assert_eq!(app.hello(&current.access_token).await, 401, "{case}");
        assert!(app.live_sessions(&account.user_id).await.is_empty(), "{case}");
    }
}

#[tokio::test]
async fn sec_094_within_the_grace_the_predecessor_gets_the_same_pair_again() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let first = app.refresh(&account.refresh_token).await;
    assert_eq!(first.json()["expires_in"], 900);
    for (wait, left) in [(0, 900), (1, 899), (28, 871)] {
        app.wait(wait);
        for token in [&account.refresh_token, &Account::of(&first).refresh_token] {
            let again = app.refresh(token).await.json();
            for name in ["access_token", "refresh_token", "user"] {
                assert_eq!(again[name], first.json()[name], "{name}");
            }
            assert_eq!(again["expires_in"], left);
        }
    }
    app.wait(1);
    let next = Account::of(&app.refresh(&Account::of(&first).refresh_token).await);
    assert_eq!(payload(&next.refresh_token)["gen"], 2, "after the grace it steps on");
}

#[tokio::test]
async fn a_pair_that_is_served_again_may_have_no_time_left() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let next = Account::of(&app.refresh(&account.refresh_token).await);
    // The successor is first seen in use when it is about to expire; from then on the grace counts again.
    app.wait(899);
    assert_eq!(app.hello(&next.access_token).await, 200);
    app.auth.sessions().verification().flush_acknowledgements().await.unwrap();
    app.wait(20);
    let again = app.refresh(&account.refresh_token).await;
    assert_eq!((again.status(), &again.json()["expires_in"]), (200, &json!(0)));
    assert_eq!(app.hello(again.json()["access_token"].as_str().unwrap()).await, 401);
    let fresh = app.refresh(again.json()["refresh_token"].as_str().unwrap()).await;
    assert_eq!((fresh.status(), &fresh.json()["expires_in"]), (200, &json!(900)), "refresh again");
}

#[tokio::test]
async fn a_cookie_pair_without_time_left_is_an_answer_too() {
    let app = TestApp::new().await;
    let old = app.signed_in_browser("ada").await.csrf();
    let mut tab = old.clone();
    assert_eq!(tab.post_nothing("/v1/auth/refresh").await.status(), 200);
    app.wait(899);
    assert_eq!(tab.get("/hello").await.status(), 200);
    app.auth.sessions().verification().flush_acknowledgements().await.unwrap();
    app.wait(20);
    let mut tab = old;
    let reply = tab.post_nothing("/v1/auth/refresh").await;
    assert_eq!((reply.status(), &reply.json()["expires_in"]), (200, &json!(0)));
    assert_eq!(tab.cookie(ACCESS), "", "the browser drops it at once");
    assert_eq!(tab.post_nothing("/v1/auth/refresh").await.status(), 200);
    assert_eq!(tab.get("/v1/auth/me").await.status(), 200);
}

#[tokio::test]
async fn sec_095_a_lost_reply_heals() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    assert_eq!(app.refresh(&account.refresh_token).await.status(), 200);
    app.wait(3600);
    let healed = app.refresh(&account.refresh_token).await;
    assert_eq!((healed.status(), &healed.json()["expires_in"]), (200, &json!(900)));
    assert_eq!(app.hello(healed.json()["access_token"].as_str().unwrap()).await, 200);
}

#[tokio::test]
async fn a_grace_of_zero_is_strict_single_use() {
    let policy = SessionPolicy { grace: Duration::ZERO, ..SessionPolicy::default() };
    let app = TestApp::with(|builder| builder.policy(policy)).await;
    let account = app.register("ada").await;
    let next = Account::of(&app.refresh(&account.refresh_token).await);
    assert_eq!(app.refresh(&account.refresh_token).await.status(), 401);
    assert_eq!(app.refresh(&next.refresh_token).await.status(), 401, "and the session ends");
}

#[tokio::test]
async fn sec_036_a_refresh_never_yields_a_fresh_token() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    assert_eq!(app.client().bearer(&account.access_token).post_nothing("/fresh").await.status(), 200);
    let mut token = account.refresh_token.clone();
    for _ in 0..3 {
        let pair = Account::of(&app.refresh(&token).await);
        let reply = app.client().bearer(&pair.access_token).post_nothing("/fresh").await;
        assert_eq!(reply.outcome(), (401, "fresh_token_required".to_owned()));
        assert_eq!(payload(&pair.access_token)["fresh"], false);
        token = pair.refresh_token;
        app.wait(60);
    }
}

#[tokio::test]
async fn sec_097_garbage_costs_no_store_call() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let (head, signature) = account.refresh_token.rsplit_once('.').unwrap();
    let mut forged = signature.to_owned();
    forged.replace_range(0..1, if signature.starts_with('A') { "B" } else { "A" });
    app.store.reset_calls();
    for token in [
        "x".to_owned(),
        "a.b.c".to_owned(),
        "x".repeat(30_000),
        "\0".to_owned(),
        format!("{head}."),
        format!("{head}.{forged}"),
        format!("{head}.{signature}x"),
        account.access_token.clone(),
    ] {
        assert_eq!(app.refresh(&token).await.outcome(), (401, "invalid_token".to_owned()));
        if token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let mut client = app.client().bearer(&token);
            assert_eq!(client.post_nothing("/v1/auth/refresh").await.status(), 401);
        }
        if token != account.access_token {
            let logout = json!({ "refresh_token": token, "access_token": token });
            assert_eq!(app.client().post("/v1/auth/logout", &logout).await.status(), 401);
            assert!([400, 401].contains(&app.hello(&token.replace('\0', "x")).await));
        }
    }
    assert_eq!(app.store.total_calls(), 0);
}

#[tokio::test]
async fn a_good_request_to_a_protected_route_costs_no_store_call_either() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    app.store.reset_calls();
    for _ in 0..10 {
        assert_eq!(app.hello(&account.access_token).await, 200);
    }
    assert_eq!(app.store.total_calls(), 0);
}

#[tokio::test]
async fn sec_100_a_refresh_leaves_the_running_access_token_alone() {
    let app = TestApp::new().await;
    let mut account = app.register("ada").await;
    let first = account.access_token.clone();
    for _ in 0..5 {
        app.wait(60);
        account = Account::of(&app.refresh(&account.refresh_token).await);
        assert_eq!(app.hello(&first).await, 200);
    }
    app.wait(900 - 300);
    assert_eq!(app.hello(&first).await, 200, "within the leeway");
    app.wait(10);
    assert_eq!(app.hello(&first).await, 401, "until it expires by itself");
}

#[tokio::test]
async fn sec_101_nothing_that_is_worth_repeating_clears_cookies_or_ends_the_session() {
    let app = TestApp::new().await;
    let mut browser = app.signed_in_browser("ada").await.csrf();
    let jar = browser.jar().clone();

    app.store.fail(true);
    let failed = browser.post_nothing("/v1/auth/refresh").await;
    app.store.fail(false);
    app.store.lose_steps(4);
    let lost_race = browser.post_nothing("/v1/auth/refresh").await;
    for (case, reply) in [("store", failed), ("lost race", lost_race)] {
        assert_eq!(reply.outcome(), (503, "unavailable".to_owned()), "{case}");
        assert!(reply.header("retry-after").is_some(), "{case}");
        assert!(reply.set_cookies().is_empty(), "{case}");
    }
    // A rate limit.
    let login = json!({ "username": "ada", "password": "wrong password", "cookies": true });
    for _ in 0..5 {
        let reply = browser.post("/v1/auth/login", &login).await;
        assert_eq!((reply.status(), reply.set_cookies().len()), (401, 0));
    }
    let limited = browser.post("/v1/auth/login", &login).await;
    assert_eq!((limited.status(), limited.set_cookies().len()), (429, 0));
    assert_eq!(*browser.jar(), jar);
    // A lost race that is won later.
    app.store.lose_steps(3);
    assert_eq!(browser.post_nothing("/v1/auth/refresh").await.status(), 200);
    assert_eq!(browser.get("/v1/auth/me").await.status(), 200);
}

#[tokio::test]
async fn sec_101_a_refused_refresh_clears_no_cookies() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await.csrf();
    assert_eq!(browser.clone().post_nothing("/v1/auth/logout").await.status(), 204);
    let mut other_tab = browser.clone();
    let reply = other_tab.post_nothing("/v1/auth/refresh").await;
    assert_eq!((reply.status(), reply.set_cookies().len()), (401, 0));
    assert_eq!(other_tab.cookie(CSRF), browser.cookie(CSRF));
}

#[tokio::test]
async fn sec_080_idle_and_absolute_lifetimes_hold() {
    const DAY: u64 = 86_400;
    let app = TestApp::new().await;
    let account = app.register("idle").await;
    app.wait(14 * DAY - 1);
    let next = Account::of(&app.refresh(&account.refresh_token).await);
    app.wait(14 * DAY);
    assert_eq!(app.refresh(&next.refresh_token).await.outcome(), (401, "invalid_token".to_owned()));
    assert!(app.live_sessions(&account.user_id).await.is_empty());
}

#[tokio::test]
async fn sec_102_the_absolute_expiry_survives_rotation() {
    const DAY: u64 = 86_400;
    let app = TestApp::new().await;
    let mut account = app.register("ada").await;
    let mut elapsed = 0;
    for step in [10, 10, 9] {
        app.wait(step * DAY);
        elapsed += step * DAY;
        account = Account::of(&app.refresh(&account.refresh_token).await);
        let exp = payload(&account.refresh_token)["exp"].as_i64().unwrap();
        let end = countersign_testkit::FixedClock::START.as_secs() + 30 * DAY as i64;
        assert!(exp <= end, "after {elapsed} s");
    }
    app.wait(DAY - 300);
    let last = app.refresh(&account.refresh_token).await;
    assert_eq!((last.status(), &last.json()["expires_in"]), (200, &json!(300)), "cut at the session's end");
    let last = Account::of(&last);
    app.wait(300);
    assert_eq!(app.refresh(&last.refresh_token).await.status(), 401);
    app.wait(10);
    assert_eq!(app.hello(&last.access_token).await, 401);
}

#[tokio::test]
async fn sec_099_a_disabled_user_is_not_refreshed() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    app.auth.accounts().disable(&account.user_id).await.unwrap();
    assert_eq!(app.refresh(&account.refresh_token).await.status(), 401);
    assert_eq!(app.hello(&account.access_token).await, 401);
    app.auth.accounts().enable(&account.user_id).await.unwrap();
    assert_eq!(app.refresh(&account.refresh_token).await.status(), 401, "old sessions stay ended");
    let login = json!({ "username": "ada", "password": PASSWORD });
    assert_ne!(app.client().post("/v1/auth/login", &login).await.json()["access_token"], Value::Null);
}
