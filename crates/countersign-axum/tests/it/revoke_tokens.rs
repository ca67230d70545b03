//! Revoking tokens by their ids.

use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::{Account, TestApp};
use crate::client::{Response, payload};

async fn revoke(app: &TestApp, caller: &Account, tokens: Value) -> Response {
    let mut client = app.client().bearer(&caller.access_token);
    client.send_json(Method::DELETE, "/v1/auth/revoke-tokens", &json!({ "tokens": tokens })).await
}

fn jti(token: &str) -> String {
    payload(token)["jti"].as_str().unwrap().to_owned()
}

/// Ids of nobody's tokens.
fn strange(count: u128, offset: u128) -> Vec<String> {
    (0..count).map(|i| Uuid::from_u128((0x4000 << 64) + offset + i).to_string()).collect()
}

#[tokio::test]
async fn a_revoked_access_token_is_refused_and_nothing_else() {
    let app = TestApp::new().await;
    let caller = app.register("ada").await;
    let other = app.login("ada").await;
    let reply = revoke(&app, &caller, json!([jti(&other.access_token)])).await;
    assert_eq!((reply.status(), reply.json()), (200, json!({ "revoked": 1 })));
    assert_eq!(app.hello(&other.access_token).await, 401);
    assert_eq!(app.hello(&caller.access_token).await, 200);
    let next = Account::of(&app.refresh(&other.refresh_token).await);
    assert_eq!(app.hello(&next.access_token).await, 200, "its session lives on");
}

#[tokio::test]
async fn a_revoked_access_token_is_not_served_again_within_the_grace() {
    let app = TestApp::new().await;
    let account = app.register("ada").await;
    let next = Account::of(&app.refresh(&account.refresh_token).await);
    assert_eq!(revoke(&app, &account, json!([jti(&next.access_token)])).await.status(), 200);
    let after = Account::of(&app.refresh(&next.refresh_token).await);
    assert_ne!(after.access_token, next.access_token);
    assert_eq!(app.hello(&after.access_token).await, 200);
}

#[tokio::test]
async fn ids_of_others_have_no_effect_and_look_the_same() {
    let app = TestApp::new().await;
    let ada = app.register("ada").await;
    let bob = app.register("bob").await;
    let own = app.login("ada").await;
    let replies = [
        revoke(&app, &ada, json!([jti(&bob.access_token)])).await,
        revoke(&app, &ada, json!([jti(&bob.refresh_token)])).await,
        revoke(&app, &ada, json!([strange(1, 0)[0]])).await,
        revoke(&app, &ada, json!([payload(&bob.access_token)["sid"]])).await,
        revoke(&app, &ada, json!([jti(&own.access_token)])).await,
        revoke(&app, &ada, json!([jti(&own.refresh_token)])).await,
        revoke(&app, &ada, json!([jti(&own.refresh_token)])).await,
    ];
    assert!(replies.iter().all(|reply| *reply == replies[0]), "the answer does not tell whose an id is");
    assert_eq!(app.hello(&bob.access_token).await, 200);
    assert_eq!(app.refresh(&bob.refresh_token).await.status(), 200);
    assert_eq!(app.hello(&own.access_token).await, 401);
}

#[tokio::test]
async fn the_id_of_a_current_refresh_token_ends_its_session_and_an_older_one_does_nothing() {
    let app = TestApp::new().await;
    let caller = app.register("ada").await;
    let old = app.login("ada").await;
    let current = Account::of(&app.refresh(&old.refresh_token).await);
    assert_eq!(revoke(&app, &caller, json!([jti(&old.refresh_token)])).await.status(), 200);
    assert_eq!(app.hello(&current.access_token).await, 200);
    assert_eq!(app.refresh(&current.refresh_token).await.status(), 200);
    assert_eq!(app.live_sessions(&caller.user_id).await.len(), 2);

    assert_eq!(revoke(&app, &caller, json!([jti(&current.refresh_token)])).await.status(), 200);
    assert_eq!(app.hello(&old.access_token).await, 401);
    assert_eq!(app.hello(&current.access_token).await, 401);
    assert_eq!(app.refresh(&current.refresh_token).await.status(), 401);
    assert_eq!(app.live_sessions(&caller.user_id).await.len(), 1);

    // One's own.
    assert_eq!(revoke(&app, &caller, json!([jti(&caller.refresh_token)])).await.status(), 200);
    assert_eq!(revoke(&app, &caller, json!([strange(1, 0)[0]])).await.status(), 401);
    assert!(app.live_sessions(&caller.user_id).await.is_empty());
}

#[tokio::test]
async fn distinct_well_formed_ids_are_counted() {
    let app = TestApp::new().await;
    let caller = app.register("ada").await;
    let id = strange(1, 0xabcdef)[0].clone();
    let hundred = strange(100, 0);
    for (tokens, revoked) in [
        (json!([id]), 1),
        (json!([id, id]), 1),
        (json!([id, id.to_uppercase()]), 1),
        (json!([id, "x", "", "\0", "00000000-0000-4000-8000-00000000000"]), 1),
        (json!(["x"]), 0),
        (json!(hundred), 100),
    ] {
        let reply = revoke(&app, &caller, tokens).await;
        assert_eq!((reply.status(), reply.json()), (200, json!({ "revoked": revoked })));
    }
    for tokens in
        [json!([]), json!(strange(101, 0)), json!(id), json!([1]), json!([null]), json!(null), json!({})]
    {
        let reply = revoke(&app, &caller, tokens).await;
        assert_eq!(reply.outcome(), (422, "invalid_fields".to_owned()));
        assert!(reply.json()["fields"]["tokens"].is_string());
    }
    let mut client = app.client().bearer(&caller.access_token);
    assert_eq!(client.delete("/v1/auth/revoke-tokens").await.status(), 422, "an empty body");
}

#[tokio::test]
async fn at_most_1000_live_entries_then_come_later() {
    let app = TestApp::new().await;
    let ada = app.register("ada").await;
    let bob = app.register("bob").await;
    for batch in 0..10 {
        assert_eq!(revoke(&app, &ada, json!(strange(100, batch * 100))).await.status(), 200);
    }
    let full = revoke(&app, &ada, json!([jti(&ada.refresh_token)])).await;
    assert_eq!(full.outcome(), (429, "too_many_attempts".to_owned()));
    assert_eq!(
        full.header("retry-after"),
        Some("1215"),
        "access lifetime, the longest leeway and the overlap of the tail"
    );
    assert_eq!(app.hello(&ada.access_token).await, 200, "nothing was revoked");
    assert_eq!(revoke(&app, &ada, json!(strange(100, 0))).await.status(), 200, "known ones cost nothing");
    assert_eq!(revoke(&app, &bob, json!(strange(1, 0))).await.status(), 200, "another user has their own");
    app.wait(500);
    let full = revoke(&app, &ada, json!(strange(1, 5000))).await;
    assert_eq!((full.status(), full.header("retry-after")), (429, Some("715")));
    app.wait(716);
    let again = Account::of(&app.refresh(&ada.refresh_token).await);
    assert_eq!(revoke(&app, &again, json!(strange(1, 5000))).await.status(), 200);
}
