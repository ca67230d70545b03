//! A user's own sessions: seen, ended one by one, ended together, logged out of.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use countersign_axum::{AuthLayer, account_routes};
use countersign_core::model::SessionPolicy;
use countersign_jwt::{Clock as _, Timestamp};
use serde_json::{Value, json};

use crate::app::{Account, PASSWORD, TestApp};
use crate::client::{ACCESS, CSRF, Client, REFRESH, payload};

async fn list(app: &TestApp, token: &str) -> Vec<Value> {
    let reply = app.client().bearer(token).get("/v1/auth/sessions").await;
    assert_eq!(reply.status(), 200);
    reply.json()["sessions"].as_array().unwrap().clone()
}

fn sid(account: &Account) -> String {
    payload(&account.access_token)["sid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn sec_081_logout_ends_the_session_at_once_and_for_good() {
    let app = TestApp::new().await;
    for by in ["access_token", "refresh_token", "header", "refresh header"] {
        let account = app.register(&by.replace([' ', '_'], "-")).await;
        let next = Account::of(&app.refresh(&account.refresh_token).await);
        let logout = || async {
            match by {
                "header" => app.client().bearer(&account.access_token).post_nothing("/v1/auth/logout").await,
                "refresh header" => {
                    app.client().bearer(&account.refresh_token).post_nothing("/v1/auth/logout").await
                }
                "access_token" => {
                    app.client().post("/v1/auth/logout", &json!({ by: account.access_token })).await
                }
                _ => app.client().post("/v1/auth/logout", &json!({ by: account.refresh_token })).await,
            }
        };
        let reply = logout().await;
        assert_eq!((reply.status(), reply.body.len()), (204, 0), "{by}");
        for account in [&account, &next] {
            assert_eq!(app.hello(&account.access_token).await, 401, "{by}");
            assert_eq!(
                app.refresh(&account.refresh_token).await.outcome(),
                (401, "invalid_token".to_owned()),
                "{by}"
            );
        }
        assert_eq!(logout().await.status(), 204, "{by}: twice");
        assert_eq!(
            app.client()
                .post("/v1/auth/logout", &json!({ "access_token": next.access_token }))
                .await
                .status(),
            204
        );
        assert!(app.live_sessions(&account.user_id).await.is_empty(), "{by}");
    }
}

#[tokio::test]
async fn sec_081_logout_works_with_expired_tokens_until_the_session_is_gone() {
    const DAY: u64 = 86_400;
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let by_access = json!({ "access_token": account.access_token });
    let by_refresh = json!({ "refresh_token": account.refresh_token });
    app.wait(DAY);
    assert_eq!(app.hello(&account.access_token).await, 401, "expired");
    let next = Account::of(&app.refresh(&account.refresh_token).await);
    assert_eq!(app.client().post("/v1/auth/logout", &by_access).await.status(), 204, "expired access token");
    assert_eq!(app.refresh(&next.refresh_token).await.status(), 401);
    app.wait(20 * DAY);
    assert_eq!(
        app.client().post("/v1/auth/logout", &by_refresh).await.status(),
        204,
        "expired refresh token"
    );
    app.wait(9 * DAY - 1);
    assert_eq!(
        app.client().post("/v1/auth/logout", &by_access).await.status(),
        204,
        "a second before the end"
    );
    app.wait(2 + 60);
    let stores = app.store.stores();
    countersign_core::flow::purge(&stores, &*app.clock, std::time::Duration::from_secs(10)).await.unwrap();
    for body in [by_access, by_refresh] {
        let reply = app.client().post("/v1/auth/logout", &body).await;
        assert_eq!(reply.outcome(), (401, "invalid_token".to_owned()), "after its absolute expiry");
    }
}

#[tokio::test]
async fn sec_081_an_ended_sessions_tokens_stay_refused_when_the_log_has_forgotten_them() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let logout = json!({ "access_token": account.access_token });
    assert_eq!(app.client().post("/v1/auth/logout", &logout).await.status(), 204);
    for _ in 0..4 {
        app.wait(3600);
        app.auth.sessions().view().poll().await.unwrap();
        let stores = app.store.stores();
        countersign_core::flow::purge(&stores, &*app.clock, std::time::Duration::from_secs(10))
            .await
            .unwrap();
        assert_eq!(app.refresh(&account.refresh_token).await.status(), 401);
        assert_eq!(app.hello(&account.access_token).await, 401);
        let mut client = app.client().bearer(&account.refresh_token);
        assert_eq!(client.get("/refresh-token").await.status(), 401, "also as `RefreshToken`");
    }
}

#[tokio::test]
async fn sec_081_logout_tries_every_place_and_ends_every_session_it_finds() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await.csrf();
    let [body, header] = [app.login("ada").await, app.login("ada").await];
    let user_id = body.user_id.clone();
    assert_eq!(app.live_sessions(&user_id).await.len(), 3);
    let mut client = browser.clone().bearer(&header.access_token);
    let reply = client.post("/v1/auth/logout", &json!({ "refresh_token": body.refresh_token })).await;
    assert_eq!(reply.status(), 204);
    assert_eq!(reply.set_cookies().len(), 3);
    assert!(app.live_sessions(&user_id).await.is_empty());

    // A refused one does not hide a good one, nor does a good one vouch for the cookies.
    let mut browser = app.browser();
    let login = json!({ "username": "ada", "password": PASSWORD, "cookies": true });
    assert_eq!(browser.post("/v1/auth/login", &login).await.status(), 200);
    let other = app.login("ada").await;
    let reply = browser
        .clone()
        .bearer("junk")
        .post("/v1/auth/logout", &json!({ "access_token": other.access_token }))
        .await;
    assert_eq!((reply.status(), reply.set_cookies().len()), (204, 0), "no CSRF value, so the cookies stay");
    assert_eq!(app.hello(&other.access_token).await, 401);
    assert_eq!(browser.get("/v1/auth/me").await.status(), 200);
}

#[tokio::test]
async fn sec_063_logout_clears_all_cookies_even_of_an_ended_session() {
    let app = TestApp::new().await;
    let browser = app.signed_in_browser("ada").await.csrf();
    for (case, mut client) in [
        ("both", browser.clone()),
        ("again", browser.clone()),
        ("refresh alone", browser.clone().drop_cookie(ACCESS)),
        ("access alone", browser.clone().drop_cookie(REFRESH)),
        ("an unreadable one", browser.clone().set_cookie(ACCESS, "x")),
    ] {
        let reply = client.post_nothing("/v1/auth/logout").await;
        assert_eq!(reply.status(), 204, "{case}");
        let mut names: Vec<_> = reply.set_cookies().into_iter().map(|cookie| cookie.name).collect();
        names.sort_unstable();
        assert_eq!(names, [ACCESS, CSRF, REFRESH], "{case}");
        assert!(client.is_signed_out(), "{case}");
    }
}

#[tokio::test]
async fn sec_082_a_user_sees_and_ends_their_own_sessions() {
    let app = TestApp::new().await;
    let first = app.register("ada").await;
    app.wait(1);
    let login = json!({ "username": "ada", "password": PASSWORD });
    let mut phone = app.client().with("user-agent", "phone/1");
    let second = Account::of(&phone.post("/v1/auth/login", &login).await);
    app.wait(1);
    let third = app.login("ada").await;

    let sessions = list(&app, &second.access_token).await;
    let ids: Vec<_> = sessions.iter().map(|session| session["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, [sid(&third), sid(&second), sid(&first)], "newest first");
    let current: Vec<_> = sessions.iter().map(|session| session["current"].as_bool().unwrap()).collect();
    assert_eq!(current, [false, true, false]);
    assert_eq!(sessions[1]["created_at"], "2026-01-31T12:00:01Z");
    assert_eq!(sessions[1]["expires_at"], "2026-02-14T12:00:01Z");

    // One.
    let mut client = app.client().bearer(&second.access_token);
    assert_eq!(client.delete(&format!("/v1/auth/sessions/{}", sid(&first))).await.status(), 204);
    assert_eq!(app.hello(&first.access_token).await, 401);
    assert_eq!(app.refresh(&first.refresh_token).await.status(), 401);
    assert_eq!(app.hello(&third.access_token).await, 200);
    // The others.
    let fourth = app.login("ada").await;
    assert_eq!(client.delete("/v1/auth/sessions").await.status(), 204);
    for ended in [&third, &fourth] {
        assert_eq!(app.hello(&ended.access_token).await, 401);
        assert_eq!(app.refresh(&ended.refresh_token).await.status(), 401);
    }
    assert_eq!(app.hello(&second.access_token).await, 200);
    assert_eq!(list(&app, &second.access_token).await.len(), 1);
    let second = Account::of(&app.refresh(&second.refresh_token).await);
    assert_eq!(app.hello(&second.access_token).await, 200);
    let later = app.login("ada").await;
    assert_eq!(app.hello(&later.access_token).await, 200, "logins since then are none of the others");
    // The current one.
    let mut client = app.client().bearer(&second.access_token);
    assert_eq!(client.delete(&format!("/v1/auth/sessions/{}", sid(&second))).await.status(), 204);
    assert_eq!(app.hello(&second.access_token).await, 401);
}

#[tokio::test]
async fn sec_082_last_seen_moves_at_refresh_and_acknowledgement() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    app.wait(60);
    let next = Account::of(&app.refresh(&account.refresh_token).await);
    assert_eq!(list(&app, &next.access_token).await[0]["last_seen_at"], "2026-01-31T12:01:00Z");
    app.wait(60);
    app.auth.sessions().verification().flush_acknowledgements().await.unwrap();
    assert_eq!(list(&app, &next.access_token).await[0]["last_seen_at"], "2026-01-31T12:02:00Z");
}

#[tokio::test]
async fn sec_082_ids_that_are_not_ones_own_live_sessions_are_not_found() {
    let app = TestApp::new().await;
    let ada = app.register("ada").await;
    let bob = app.register("bob").await;
    let ended = app.login("ada").await;
    let logout = json!({ "access_token": ended.access_token });
    assert_eq!(app.client().post("/v1/auth/logout", &logout).await.status(), 204);
    let mut replies = Vec::new();
    for (case, id) in [
        ("another user's", sid(&bob)),
        ("ended", sid(&ended)),
        ("unknown", "00000000-0000-4000-8000-000000000000".to_owned()),
        ("malformed", "x".to_owned()),
        ("a token id", payload(&ada.access_token)["jti"].as_str().unwrap().to_owned()),
        ("several", format!("{},{}", sid(&ada), sid(&bob))),
        ("wildcard", "*".to_owned()),
        ("not text", "%FF%FE".to_owned()),
        ("NUL", format!("{}%00", sid(&ada))),
        ("a path", "..%2F..%2Fme".to_owned()),
    ] {
        let reply = app.client().bearer(&ada.access_token).delete(&format!("/v1/auth/sessions/{id}")).await;
        assert_eq!(reply.outcome(), (404, "not_found".to_owned()), "{case}");
        replies.push((reply.headers.clone(), reply.body.clone()));
    }
    assert!(replies.iter().all(|reply| *reply == replies[0]), "nobody learns which");
    assert_eq!(app.hello(&bob.access_token).await, 200);
    assert_eq!(app.hello(&ada.access_token).await, 200);
    app.wait(14 * 86_400);
    let fresh = app.login("ada").await;
    let mut client = app.client().bearer(&fresh.access_token);
    assert_eq!(client.delete(&format!("/v1/auth/sessions/{}", sid(&ada))).await.status(), 404, "expired");
}

/// A page of the caller's sessions: their ids and where the next page begins.
async fn page(client: &mut Client, query: &str) -> (Vec<String>, Option<String>) {
    let reply = client.get(&format!("/v1/auth/sessions{query}")).await;
    assert_eq!(reply.status(), 200, "{query}");
    let body = reply.json();
    let ids =
        body["sessions"].as_array().unwrap().iter().map(|session| session["id"].as_str().unwrap().to_owned());
    (ids.collect(), body["next"].as_str().map(str::to_owned))
}

#[tokio::test]
async fn sessions_are_listed_page_by_page() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    for _ in 0..6 {
        // Two of each moment.
        app.login("ada").await;
        if app.live_sessions(&account.user_id).await.len() % 2 == 0 {
            app.wait(1);
        }
    }
    let mut client = app.client().bearer(&app.login("ada").await.access_token);
    let all: Vec<_> = app.live_sessions(&account.user_id).await.iter().map(ToString::to_string).collect();
    assert_eq!(all.len(), 8);
    assert_eq!(page(&mut client, "").await, (all.clone(), None), "all, where they fit");
    assert_eq!(page(&mut client, "?limit=8").await, (all.clone(), None), "exactly");
    for limit in [1, 3, 7] {
        let (mut listed, mut next) = page(&mut client, &format!("?limit={limit}")).await;
        while let Some(from) = next {
            assert!(listed.len().is_multiple_of(limit), "every page but the last is full");
            let (ids, after) = page(&mut client, &format!("?limit={limit}&next={from}")).await;
            assert!(!ids.is_empty(), "a page that was announced is not empty");
            listed.extend(ids);
            next = after;
        }
        assert_eq!(listed, all, "in pages of {limit}");
    }
    for query in ["?limit=0", "?limit=101", "?limit=two", "?next=x", "?limit=1&limit=1"] {
        let reply = client.get(&format!("/v1/auth/sessions{query}")).await;
        assert_eq!(reply.outcome(), (400, "invalid_request".to_owned()), "{query}");
    }
}

/// All entries of the log.
async fn log(app: &TestApp) -> usize {
    let log = app.store.inner().revocations().entries(Timestamp::MIN, None, 100_000).await.unwrap();
    log.iter().filter(|entry| entry.user_id().is_some()).count()
}

#[tokio::test]
async fn sec_216_ending_sessions_where_there_are_none_writes_nothing() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let mut client = app.client().bearer(&account.access_token);
    app.store.reset_calls();
    for _ in 0..100 {
        assert_eq!(client.delete("/v1/auth/sessions").await.status(), 204);
    }
    assert_eq!((app.store.calls("raise_epoch"), log(&app).await), (0, 0));
    assert_eq!(app.hello(&account.access_token).await, 200);

    let other = app.login("ada").await;
    for _ in 0..3 {
        assert_eq!(client.delete("/v1/auth/sessions").await.status(), 204);
        assert_eq!(app.hello(&other.access_token).await, 401);
    }
    assert_eq!(app.store.calls("raise_epoch"), 1, "once, for the one that there was");
}

#[tokio::test]
async fn sec_216_of_calls_at_once_that_end_all_sessions_one_writes() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let other = app.login("ada").await;
    app.store.reset_calls();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let mut client = app.client().bearer(&account.access_token);
        calls.spawn(async move { client.delete("/v1/auth/sessions").await.status() });
    }
    assert!(calls.join_all().await.iter().all(|status| *status == 204));
    assert_eq!(app.store.calls("raise_epoch"), 1);
    assert_eq!(app.hello(&other.access_token).await, 401);
}

#[tokio::test]
async fn sec_216_ending_all_sessions_again_and_again_leaves_two_entries_in_the_log() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let mut client = app.client().bearer(&account.access_token);
    let mut others = Vec::new();
    for _ in 0..30 {
        app.wait(20);
        others.push(app.login("ada").await);
        assert_eq!(client.delete("/v1/auth/sessions").await.status(), 204);
    }
    assert_eq!(log(&app).await, 1, "each one outdoes the one before");
    for other in &others {
        assert_eq!(app.hello(&other.access_token).await, 401);
    }
    // From another session, which then is the one that is left.
    app.wait(20);
    let last = app.login("ada").await;
    assert_eq!(app.client().bearer(&last.access_token).delete("/v1/auth/sessions").await.status(), 204);
    assert_eq!(log(&app).await, 2, "the first one still decides about the session that it excepted");
    assert_eq!((app.hello(&account.access_token).await, app.hello(&last.access_token).await), (401, 200));
}

#[tokio::test]
async fn a_session_that_only_has_a_running_access_token_left_is_ended_with_the_others() {
    // Idle for less time than an access token lives.
    let policy = SessionPolicy {
        idle: Duration::from_secs(60),
        grace: Duration::from_secs(10),
        ..SessionPolicy::default()
    };
    let app = TestApp::with(|builder| builder.policy(policy)).await;
    let old = app.register("ada").await;
    app.wait(120);
    let new = app.login("ada").await;
    assert_eq!(app.live_sessions(&old.user_id).await.len(), 1, "the old one no longer refreshes");
    assert_eq!(app.hello(&old.access_token).await, 200, "but its access token is good");
    assert_eq!(app.client().bearer(&new.access_token).delete("/v1/auth/sessions").await.status(), 204);
    assert_eq!(app.hello(&old.access_token).await, 401);
}

#[tokio::test]
async fn sec_216_a_user_has_at_most_100_sessions_and_the_oldest_end() {
    let app = TestApp::new().await;
    let first = app.register("ada").await;
    app.wait(1);
    let second = app.login("ada").await;
    app.wait(1);
    for _ in 0..98 {
        app.login("ada").await;
    }
    assert_eq!(app.live_sessions(&first.user_id).await.len(), 100);
    assert_eq!(app.hello(&first.access_token).await, 200);
    app.wait(1);
    let last = app.login("ada").await;
    assert_eq!(app.live_sessions(&first.user_id).await.len(), 100);
    assert_eq!(app.hello(&first.access_token).await, 401, "the oldest");
    assert_eq!((app.hello(&second.access_token).await, app.hello(&last.access_token).await), (200, 200));
}

#[tokio::test]
async fn sec_216_no_call_reads_more_than_a_page_of_a_users_sessions() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let other = app.login("ada").await;
    let mut client = app.client().bearer(&account.access_token);
    app.store.reset_calls();
    let reply = client.delete(&format!("/v1/auth/sessions/{}", sid(&other))).await;
    assert_eq!(reply.status(), 204);
    assert_eq!(app.store.calls("live_sessions"), 0, "one session is ended by its key");
}

#[tokio::test]
async fn sec_082_ending_the_current_session_by_cookie_clears_the_cookies() {
    let app = TestApp::new().await;
    let mut browser = app.signed_in_browser("ada").await.csrf();
    let other = app.login("ada").await;
    let reply = browser.delete(&format!("/v1/auth/sessions/{}", sid(&other))).await;
    assert_eq!((reply.status(), reply.set_cookies().len()), (204, 0));
    let reply = browser.delete("/v1/auth/sessions").await;
    assert_eq!((reply.status(), reply.set_cookies().len()), (204, 0));
    let own = payload(browser.cookie(ACCESS))["sid"].as_str().unwrap().to_owned();
    let reply = browser.delete(&format!("/v1/auth/sessions/{own}")).await;
    assert_eq!((reply.status(), reply.set_cookies().len()), (204, 3));
    assert!(browser.is_signed_out());
}

#[tokio::test]
async fn sec_086_a_malleated_token_of_an_ended_session_is_still_refused() {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let logout = json!({ "access_token": account.access_token });
    assert_eq!(app.client().post("/v1/auth/logout", &logout).await.status(), 204);
    for token in [&account.access_token, &account.refresh_token] {
        let segments: Vec<_> = token.split('.').collect();
        let mut twins =
            vec![format!("{token}="), format!("{token}=="), format!("{token}."), format!("{token}A")];
        for i in 0..3 {
            let (rest, last) = segments[i].split_at(segments[i].len() - 1);
            for &letter in ALPHABET.iter().filter(|&&letter| letter != last.as_bytes()[0]) {
                let mut twin: Vec<_> = segments.iter().map(|segment| (*segment).to_owned()).collect();
                twin[i] = format!("{rest}{}", char::from(letter));
                twins.push(twin.join("."));
            }
        }
        for twin in twins {
            assert_eq!(app.hello(&twin).await, 401);
            assert_eq!(app.refresh(&twin).await.status(), 401);
            let mut client: Client = app.client().bearer(&twin);
            assert_eq!(client.get("/refresh-token").await.status(), 401);
        }
    }
}

#[tokio::test]
async fn sec_090_me_is_read_from_the_store_at_every_request() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let mut client = app.client().bearer(&account.access_token);
    app.store.reset_calls();
    assert_eq!(client.get("/v1/auth/me").await.status(), 200);
    assert_eq!(app.store.calls("user"), 1);
    // Disabled in the store, behind everybody's back.
    app.store.inner().users().set_disabled(&account.user_id, Some(app.clock.now())).await.unwrap();
    assert_eq!(client.get("/v1/auth/me").await.outcome(), (401, "invalid_token".to_owned()));
    assert_eq!(client.get("/profile").await.outcome(), (401, "invalid_token".to_owned()));
    assert_eq!(app.refresh(&account.refresh_token).await.status(), 401);
}

#[tokio::test]
async fn a_session_shows_the_agent_and_the_address_it_was_used_from() {
    let app = TestApp::new().await;
    for (address, shown) in [
        ("192.0.2.7:4711", "192.0.2.7"),
        ("[::ffff:192.0.2.7]:1", "192.0.2.7"),
        ("[2001:db8::1]:2", "2001:db8::1"),
    ] {
        let address: SocketAddr = address.parse().unwrap();
        let router = Router::new().merge(account_routes()).layer(AuthLayer::new(app.auth.clone()));
        let mut client = Client::new(router.layer(Extension(ConnectInfo(address)))).with("user-agent", "a/1");
        let body = json!({ "email": format!("n{}@example.org", address.port()), "password": PASSWORD });
        let account = Account::of(&client.post("/v1/auth/register", &body).await);
        let sessions = list(&app, &account.access_token).await;
        assert_eq!((&sessions[0]["ip"], &sessions[0]["user_agent"]), (&json!(shown), &json!("a/1")));
        let mut moved = app.client().with("user-agent", &"b".repeat(1000));
        let refresh = json!({ "refresh_token": account.refresh_token });
        let next = Account::of(&moved.post("/v1/auth/refresh", &refresh).await);
        let sessions = list(&app, &next.access_token).await;
        assert_eq!((&sessions[0]["ip"], &sessions[0]["user_agent"]), (&Value::Null, &json!("b".repeat(256))));
    }
}
