//! Tokens that the Flask application issued: they have no session until they are shown here.

use countersign_flask::flask_jwt_extended::NewRefresh;
use http::Method;
use serde_json::{Value, json};

use super::{Beside, DAY, assert_says, changed, minutes};
use crate::app::Account;
use crate::client::payload;

fn jti(token: &str) -> String {
    payload(token)["jti"].as_str().unwrap().to_owned()
}

async fn sessions(beside: &Beside, access: &str) -> Vec<Value> {
    let reply = beside.bearer(access).get("/v1/auth/sessions").await;
    assert_eq!(reply.status(), 200, "{reply:?}");
    reply.json()["sessions"].as_array().unwrap().clone()
}

/// Whoever comes back every day for a month with a token that was ended hears the same every time.
async fn assert_dead_until_it_expires(case: &str, beside: &Beside, refresh: &str) {
    for day in 0..29 {
        let reply = beside.app.refresh(refresh).await;
        assert_says(&format!("{case}, day {day}"), &reply, 401, "Token has been revoked");
        beside.app.wait(DAY);
        beside.app.forget_what_is_over().await;
    }
    beside.app.wait(2 * DAY);
    assert_says(case, &beside.app.refresh(refresh).await, 401, "Token has expired");
}

#[tokio::test]
async fn a_refresh_token_of_flask_gets_a_session_that_is_listed_under_its_jti() {
    let beside = Beside::new().await;
    let account = beside.app.register("ada").await;
    beside.app.wait(60);
    let foreign = beside.refresh(account.user_id.as_str()).await;
    let access = beside.access(account.user_id.as_str()).await;
    assert_eq!(sessions(&beside, &account.access_token).await.len(), 1, "it was not shown yet");
    beside.app.wait(60);
    let mut tab = beside.app.client().with("user-agent", "Tab/1.0");
    let reply = tab.post("/v1/auth/refresh", &json!({ "refresh_token": foreign })).await;
    let renewed = reply.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(payload(&renewed)["sid"], jti(&foreign));

    let listed = sessions(&beside, &renewed).await;
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["id"], jti(&foreign), "the newest first");
    assert_eq!((&listed[0]["user_agent"], &listed[0]["current"]), (&json!("Tab/1.0"), &json!(true)));
    assert_ne!(listed[0]["created_at"], listed[0]["last_seen_at"]);
    assert_eq!(listed[1]["current"], false);
    // An access token of Flask's is of no session.
    assert!(sessions(&beside, &access).await.iter().all(|session| session["current"] == false));
}

#[tokio::test]
async fn ending_its_session_ends_a_refresh_token_of_flask_for_good() {
    for way in
        ["delete", "logout", "logout by header", "revoke", "revoke before it is shown", "logout before"]
    {
        let beside = Beside::new().await;
        let account = beside.app.register("ada").await;
        let foreign = beside.refresh(account.user_id.as_str()).await;
        let mut renewed = None;
        if !way.contains("before") {
            let reply = beside.app.refresh(&foreign).await.json();
            renewed = Some(reply["access_token"].as_str().unwrap().to_owned());
        }
        let mut by_owner = beside.bearer(&account.access_token);
        let revoke = json!({ "tokens": [jti(&foreign)] });
        let reply = match way {
            "delete" => by_owner.delete(&format!("/v1/auth/sessions/{}", jti(&foreign))).await,
            "logout by header" => beside.bearer(&foreign).post_nothing("/v1/auth/logout").await,
            "logout" | "logout before" => {
                let body = json!({ "refresh_token": foreign });
                beside.app.client().post("/v1/auth/logout", &body).await
            }
            _ => by_owner.send_json(Method::DELETE, "/v1/auth/revoke-tokens", &revoke).await,
        };
        assert!([200, 204].contains(&reply.status()), "{way}: {reply:?}");
        if let Some(renewed) = renewed {
            assert_says(way, &beside.me(&renewed).await, 401, "Token has been revoked");
        }
        assert_eq!(beside.me(&account.access_token).await.status(), 200, "{way}: the other session lives");
        assert_eq!(sessions(&beside, &account.access_token).await.len(), 1, "{way}");
        assert_dead_until_it_expires(way, &beside, &foreign).await;
    }
}

#[tokio::test]
async fn log_out_everywhere_ends_what_flask_issued_before() {
    let beside = Beside::new().await;
    let account = beside.app.register("ada").await;
    let bob = beside.app.register("bob").await;
    let id = account.user_id.as_str();
    let (access, unseen, adopted) =
        (beside.access(id).await, beside.refresh(id).await, beside.refresh(id).await);
    let others = (beside.access(bob.user_id.as_str()).await, beside.refresh(bob.user_id.as_str()).await);
    let renewed = beside.app.refresh(&adopted).await.json()["access_token"].as_str().unwrap().to_owned();
    beside.app.wait(10);
    let reply = beside.bearer(&account.access_token).delete("/v1/auth/sessions").await;
    assert_eq!(reply.status(), 204);
    let same_second = (beside.access(id).await, beside.refresh(id).await);

    assert_eq!(beside.me(&account.access_token).await.status(), 200, "the current session stays");
    assert_eq!(beside.app.refresh(&account.refresh_token).await.status(), 200);
    for token in [&access, &renewed, &same_second.0] {
        assert_says("access", &beside.me(token).await, 401, "Token has been revoked");
    }
    for token in [&unseen, &adopted, &same_second.1] {
        assert_says("refresh", &beside.app.refresh(token).await, 401, "Token has been revoked");
    }
    assert_eq!(beside.me(&others.0).await.status(), 200, "nobody else is concerned");
    assert_eq!(beside.app.refresh(&others.1).await.status(), 200);
    beside.app.wait(1);
    assert_eq!(beside.me(&beside.access(id).await).await.status(), 200);
    assert_eq!(beside.app.refresh(&beside.refresh(id).await).await.status(), 200);
    assert_dead_until_it_expires("unseen", &beside, &unseen).await;
}

#[tokio::test]
async fn a_logout_with_an_access_token_of_flask_ends_that_token() {
    let beside = Beside::new().await;
    let account = beside.app.register("ada").await;
    let (shown, other) =
        (beside.access(account.user_id.as_str()).await, beside.access(account.user_id.as_str()).await);
    let mut client = beside.bearer(&shown);
    assert_eq!(client.post_nothing("/v1/auth/logout").await.status(), 204);
    assert_says("shown", &client.get("/v1/auth/me").await, 401, "Token has been revoked");
    assert_eq!(beside.me(&other).await.status(), 200);
    let body = json!({ "tokens": [jti(&other)] });
    let mut owner = beside.bearer(&account.access_token);
    let reply = owner.send_json(Method::DELETE, "/v1/auth/revoke-tokens", &body).await;
    assert_eq!(reply.json(), json!({ "revoked": 1 }));
    assert_says("other", &beside.me(&other).await, 401, "Token has been revoked");
}

#[tokio::test]
async fn nobody_ends_the_tokens_of_another() {
    let beside = Beside::new().await;
    let (ada, eve) = (beside.app.register("ada").await, beside.app.register("eve").await);
    let (access, refresh) =
        (beside.access(ada.user_id.as_str()).await, beside.refresh(ada.user_id.as_str()).await);
    assert_eq!(beside.app.refresh(&refresh).await.status(), 200);
    let body = json!({ "tokens": [jti(&access), jti(&refresh)] });
    let mut thief = beside.bearer(&eve.access_token);
    let reply = thief.send_json(Method::DELETE, "/v1/auth/revoke-tokens", &body).await;
    assert_eq!(reply.json(), json!({ "revoked": 2 }), "the answer does not tell");
    let reply = thief.delete(&format!("/v1/auth/sessions/{}", jti(&refresh))).await;
    assert_eq!(reply.outcome(), (404, "not_found".to_owned()));
    // A token of eve's with the id of ada's is another session.
    let same_id = changed(&refresh, |claims| drop(claims.insert("sub".into(), eve.user_id.as_str().into())));
    let logout = json!({ "refresh_token": same_id });
    assert_eq!(beside.app.client().post("/v1/auth/logout", &logout).await.status(), 204);
    assert_eq!(beside.me(&access).await.status(), 200);
    assert_eq!(beside.app.refresh(&refresh).await.status(), 200);
}

#[tokio::test]
async fn a_refresh_token_of_flask_is_good_as_long_as_the_options_say() {
    let beside = Beside::with(json!({ "JWT_REFRESH_TOKEN_EXPIRES": 3600 })).await;
    let account = beside.app.register("ada").await;
    let id = account.user_id.as_str();
    let arguments = NewRefresh::default().expires_in(minutes(60 * 24));
    let shown = beside.flask.create_refresh_token(id, arguments.clone()).await.unwrap();
    let unseen = beside.flask.create_refresh_token(id, arguments).await.unwrap();
    assert_eq!(beside.app.refresh(&shown).await.status(), 200);
    let listed = &sessions(&beside, &account.access_token).await;
    assert_eq!(listed[0]["expires_at"], "2026-01-31T13:00:00Z", "and not a day later: {listed:?}");
    beside.app.wait(3700);
    for token in [&shown, &unseen] {
        assert_says("old", &beside.app.refresh(token).await, 401, "Token has been revoked");
    }
    let without_jti = changed(&beside.refresh(id).await, |claims| drop(claims.remove("jti")));
    let first = beside.app.refresh(&without_jti).await.json();
    let first = payload(first["access_token"].as_str().unwrap());
    let again = beside.app.refresh(&without_jti).await.json();
    let again = payload(again["access_token"].as_str().unwrap());
    assert_eq!(first["sid"], again["sid"], "the same token is the same session");
}

#[tokio::test]
async fn tokens_of_one_login_end_together() {
    let beside = Beside::new().await;
    let account = beside.app.register("ada").await;
    let second = beside.app.login("ada").await;
    let third = Account { ..second.clone() };
    let sid = payload(&second.access_token)["sid"].as_str().unwrap().to_owned();
    let reply = beside.bearer(&account.access_token).delete(&format!("/v1/auth/sessions/{sid}")).await;
    assert_eq!(reply.status(), 204);
    assert_says("access", &beside.me(&third.access_token).await, 401, "Token has been revoked");
    assert_says("refresh", &beside.app.refresh(&third.refresh_token).await, 401, "Token has been revoked");
    let gone = beside.bearer(&account.access_token).delete(&format!("/v1/auth/sessions/{sid}")).await;
    assert_eq!(gone.outcome(), (404, "not_found".to_owned()));
}
