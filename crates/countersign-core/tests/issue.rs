//! Access tokens that are issued without a login.

use std::time::Duration;

use countersign_core::flow::{AccessGrant, CheckError, IssueAccessError};
use countersign_core::model::{Device, EndReason, UserSession};
use countersign_core::store::{MemoryStore, SessionPage};
use countersign_jwt::claims::{ClaimError, REGISTERED};
use countersign_jwt::{Clock as _, Freshness, UserId, VerifyError};
use countersign_testkit::TestBed;
use serde_json::{Map, Value, json};

fn ada() -> UserId {
    UserId::new("ada").expect("a user id")
}

fn grant(claims: Value) -> AccessGrant {
    let Value::Object(claims) = claims else { unreachable!("claims are an object: {claims}") };
    AccessGrant { claims, ..AccessGrant::default() }
}

#[tokio::test]
async fn sec_179_extra_claims_set_none_that_has_a_meaning() {
    let bed = TestBed::over(MemoryStore::new()).await;
    for name in REGISTERED {
        for value in [json!(9_999_999_999_u64), json!("refresh"), json!(true), json!(null), json!(["admin"])]
        {
            let mut claims = Map::from_iter([("scope".to_owned(), json!("read"))]);
            claims.insert(name.to_owned(), value);
            let refused = bed.sessions.issue_access(ada(), grant(Value::Object(claims))).await;
            assert!(
                matches!(&refused, Err(IssueAccessError::Claim(ClaimError::Registered(found))) if found == name),
                "{name}: {refused:?}"
            );
        }
    }
    assert!(bed.sessions.list(&ada(), SessionPage::first(1_000)).await.unwrap().is_empty(), "nothing began");

    // Neighbours in spelling are the application's own: they change nothing.
    let near = json!({ "Exp": 1, "exp ": 1, "TYPE": "refresh", "fresh\u{0}": true, "roles": ["admin"] });
    let issued = bed.sessions.issue_access(ada(), grant(near.clone())).await.unwrap();
    let claims = bed.authenticate(&issued.token).await.unwrap();
    assert_eq!(Value::Object(claims.others().clone()), near);
    assert_eq!(claims.expires_at(), Some(issued.expires_at));
    assert_eq!(claims.freshness(), Freshness::Stale);
}

#[tokio::test]
async fn an_issued_token_is_accepted_listed_and_ended_as_any_other() {
    let bed = TestBed::over(MemoryStore::new()).await;
    let device = Device::new(Some("a test"), None);
    let fresh = AccessGrant { fresh: true, device, ..grant(json!({ "scope": "read" })) };
    let issued = bed.sessions.issue_access(ada(), fresh).await.unwrap();
    let claims = bed.authenticate(&issued.token).await.unwrap();
    assert_eq!((claims.subject(), claims.session()), (&ada(), Some(issued.session)));
    assert_eq!(claims.get::<String>("scope").unwrap().as_deref(), Some("read"));
    assert!(claims.freshness().is_fresh(bed.clock.now()));
    assert!(bed.refresh(&issued.token, Device::default()).await.is_err(), "it is no refresh token");

    let listed = bed.sessions.list(&ada(), SessionPage::first(1_000)).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].id, listed[0].device.user_agent.as_deref()), (issued.session.id, Some("a test")));
    let key = UserSession { user_id: ada(), id: issued.session.id };
    bed.sessions.end(key, EndReason::EndedByUser).await.unwrap();
    assert!(matches!(bed.authenticate(&issued.token).await, Err(CheckError::Revoked(_))));

    // By its own id, and with everything else of the user.
    let issued = bed.sessions.issue_access(ada(), AccessGrant::default()).await.unwrap();
    let id = bed.authenticate(&issued.token).await.unwrap().token_id();
    bed.sessions.revoke_tokens(ada(), vec![id]).await.unwrap();
    assert!(matches!(bed.authenticate(&issued.token).await, Err(CheckError::Revoked(_))));
    let issued = bed.sessions.issue_access(ada(), AccessGrant::default()).await.unwrap();
    bed.sessions.end_all(ada(), None, EndReason::EndedByUser).await.unwrap();
    assert!(matches!(bed.authenticate(&issued.token).await, Err(CheckError::Revoked(_))));
}

#[tokio::test]
async fn an_issued_token_lives_as_long_as_asked_and_never_longer_than_the_log_remembers() {
    let bed = TestBed::over(MemoryStore::new()).await;
    let longest = bed.config().policy.access_lifetime;
    for lifetime in [Duration::ZERO, Duration::from_millis(999), longest + Duration::from_secs(1)] {
        let grant = AccessGrant { lifetime: Some(lifetime), ..AccessGrant::default() };
        let refused = bed.sessions.issue_access(ada(), grant).await;
        assert!(matches!(refused, Err(IssueAccessError::Lifetime { longest: told, .. }) if told == longest));
    }
    let minute = Duration::from_secs(60);
    let grant = AccessGrant { lifetime: Some(minute), ..AccessGrant::default() };
    let issued = bed.sessions.issue_access(ada(), grant).await.unwrap();
    let leeway = bed.config().policy.leeway;
    bed.clock.advance(minute + leeway - Duration::from_secs(1));
    bed.authenticate(&issued.token).await.unwrap();
    assert!(
        bed.sessions.list(&ada(), SessionPage::first(1_000)).await.unwrap().is_empty(),
        "its session is over when it expires"
    );
    bed.clock.advance(Duration::from_secs(1));
    let expired = bed.authenticate(&issued.token).await;
    assert!(matches!(expired, Err(CheckError::Invalid(VerifyError::Expired))), "{expired:?}");
}
