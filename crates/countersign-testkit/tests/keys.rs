//! The life of the keys, on one node and on several over one store.

use std::time::Duration;

use countersign_core::background::Background;
use countersign_core::claims::decode_unverified;
use countersign_core::keychain::{self, KeyState};
use countersign_core::session::{AccessError, Device, KeyLifeError, Pair};
use countersign_core::store::{KeyPurpose, MemoryStore};
use countersign_core::{Algorithm, Clock as _, KeyId, UserId, VerifyError};
use countersign_testkit::{Instrumented, TestBed};
use tokio::runtime::Handle;

/// The default bound on a view's age.
const BOUND: Duration = Duration::from_secs(5);

async fn begin(bed: &TestBed) -> Pair {
    bed.begin(&UserId::new("ada").expect("a user id"), Device::default()).await
}

fn key_id(token: &str) -> KeyId {
    let token = decode_unverified(token).expect("a token");
    let id = token.header().get("kid").and_then(|id| id.as_str()).expect("a key id");
    KeyId::new(id).expect("a key id")
}

async fn states(bed: &TestBed, purpose: KeyPurpose) -> Vec<KeyState> {
    let keys = bed.stores.keys.keys().await.expect("the store answers");
    let overlap = bed.config().policy.key_overlap(purpose);
    let own = keys.iter().filter(|key| key.purpose == purpose);
    own.map(|key| keychain::state(key, &keys, bed.clock.now(), overlap)).collect()
}

fn refused(outcome: Result<countersign_core::Claims, AccessError>) -> bool {
    matches!(outcome, Err(AccessError::Invalid(VerifyError::UnknownKey)))
}

#[tokio::test]
async fn sec_040_a_key_is_next_then_active_then_retiring_then_gone() {
    use KeyState::{Active, Gone, Next, Retiring};

    let bed = TestBed::over(MemoryStore::new()).await;
    let old = begin(&bed).await;
    let new = bed.sessions.rotate_key(KeyPurpose::Access, Some(Algorithm::Es256), false).await.unwrap();
    assert_eq!(states(&bed, KeyPurpose::Access).await, [Active, Next]);
    assert!(bed.sessions.public_keys().contains(new.key_id.as_str()), "published before it signs");
    assert_eq!(key_id(&begin(&bed).await.access_token), key_id(&old.access_token));
    let again = bed.sessions.rotate_key(KeyPurpose::Access, None, false).await;
    assert!(matches!(again, Err(KeyLifeError::UnderWay(id)) if id == new.key_id));

    bed.clock.advance(BOUND);
    bed.sessions.poll().await.unwrap();
    assert_eq!(states(&bed, KeyPurpose::Access).await, [Retiring, Active]);
    let young = begin(&bed).await;
    assert_eq!(key_id(&young.access_token), new.key_id);
    for pair in [&old, &young] {
        assert!(bed.authenticate(&pair.access_token).await.is_ok());
    }
    assert!(bed.sessions.public_keys().contains(key_id(&old.access_token).as_str()));

    // As long as one of its tokens may live, and a second more.
    let overlap = bed.config().policy.key_overlap(KeyPurpose::Access);
    assert!(overlap >= bed.config().policy.access_lifetime + Duration::from_secs(600));
    bed.clock.advance(overlap - Duration::from_secs(1));
    bed.sessions.poll().await.unwrap();
    assert_eq!(states(&bed, KeyPurpose::Access).await, [Retiring, Active]);
    bed.clock.advance(Duration::from_secs(1));
    bed.sessions.poll().await.unwrap();
    assert_eq!(states(&bed, KeyPurpose::Access).await, [Gone, Active]);
    assert!(!bed.sessions.public_keys().contains(key_id(&old.access_token).as_str()));
    assert_eq!(states(&bed, KeyPurpose::Refresh).await, [Active]);
}

#[tokio::test]
async fn sec_040_twenty_rotations_fail_no_valid_token_on_any_node() {
    let bed = TestBed::over(MemoryStore::new()).await;
    let other = bed.another_node().await;
    let mut pairs = vec![begin(&bed).await];
    for round in 0..20 {
        let node = if round % 2 == 0 { &bed } else { &other };
        node.sessions.rotate_key(KeyPurpose::Access, None, false).await.unwrap();
        // Within the bound every node polls, one after the other.
        bed.clock.advance(BOUND / 2);
        bed.sessions.poll().await.unwrap();
        pairs.push(begin(&bed).await);
        bed.clock.advance(BOUND / 2);
        other.sessions.poll().await.unwrap();
        // This one has taken the new key into use, the first has not yet.
        pairs.extend([begin(&other).await, begin(&bed).await]);
        for pair in &pairs {
            for node in [&bed, &other] {
                node.authenticate(&pair.access_token).await.unwrap();
            }
        }
    }
    let used: std::collections::BTreeSet<_> = pairs.iter().map(|pair| key_id(&pair.access_token)).collect();
    assert_eq!(used.len(), 21);
}

#[tokio::test]
async fn sec_041_a_removed_keys_tokens_fail_at_once_here_and_within_the_bound_elsewhere() {
    let bed = TestBed::over(MemoryStore::new()).await;
    let other = bed.another_node().await;
    let pair = begin(&bed).await;
    let stolen = key_id(&pair.access_token);
    assert!(other.authenticate(&pair.access_token).await.is_ok());

    let successor = bed.sessions.remove_key(&stolen).await.unwrap().unwrap();
    assert!(refused(bed.authenticate(&pair.access_token).await), "at once");
    assert!(!bed.sessions.public_keys().contains(stolen.as_str()));
    // The other node has not polled; when its view is older than the bound it does before it answers.
    bed.clock.advance(BOUND + Duration::from_millis(1));
    assert!(refused(other.authenticate(&pair.access_token).await), "within the bound");
    assert!(!other.sessions.public_keys().contains(stolen.as_str()));

    // The session goes on with the key that took its place, and the other node learns it from the token.
    let refreshed = bed.refresh(&pair.refresh_token, Device::default()).await.unwrap().pair;
    assert_eq!(key_id(&refreshed.access_token), successor);
    assert!(other.authenticate(&refreshed.access_token).await.is_ok());
    assert!(matches!(bed.sessions.remove_key(&stolen).await, Err(KeyLifeError::Unknown)));

    // For good: not after a restart either, nor when the log's entry is gone.
    bed.clock.advance(Duration::from_secs(40 * 86_400));
    for node in [&bed, &bed.another_node().await] {
        node.sessions.poll().await.unwrap();
        assert!(!node.sessions.public_keys().contains(stolen.as_str()));
    }
    let keys = bed.stores.keys.keys().await.unwrap();
    let row = keys.iter().find(|key| key.key_id == stolen).unwrap();
    assert!(row.sealed.is_empty(), "its secret is wiped");
}

#[tokio::test]
async fn sec_041_the_background_takes_a_removed_key_out() {
    let bed = TestBed::over(MemoryStore::new()).await;
    let other = bed.another_node().await;
    let pair = begin(&bed).await;
    let _running = Background::start(&Handle::current(), &other.sessions, &other.stores);
    bed.sessions.remove_key(&key_id(&pair.access_token)).await.unwrap();
    while other.authenticate(&pair.access_token).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(refused(other.authenticate(&pair.access_token).await));
}

#[tokio::test]
async fn sec_041_a_removed_refresh_key_ends_refreshing() {
    let bed = TestBed::over(MemoryStore::new()).await;
    let pair = begin(&bed).await;
    bed.sessions.remove_key(&key_id(&pair.refresh_token)).await.unwrap().unwrap();
    assert!(bed.refresh(&pair.refresh_token, Device::default()).await.is_err());
    assert!(bed.authenticate(&pair.access_token).await.is_ok());
    let new = begin(&bed).await;
    bed.refresh(&new.refresh_token, Device::default()).await.unwrap();
}

#[tokio::test]
async fn removing_the_active_key_does_not_disturb_the_one_that_waits() {
    use KeyState::{Active, Gone, Next, Retiring};

    let bed = TestBed::over(MemoryStore::new()).await;
    let first = begin(&bed).await;
    let second = bed.sessions.rotate_key(KeyPurpose::Access, None, true).await.unwrap().key_id;
    let waiting = bed.sessions.rotate_key(KeyPurpose::Access, None, false).await.unwrap().key_id;
    assert_eq!(states(&bed, KeyPurpose::Access).await, [Retiring, Active, Next]);
    let successor = bed.sessions.remove_key(&second).await.unwrap();
    assert_eq!(states(&bed, KeyPurpose::Access).await, [Retiring, Gone, Next, Active]);
    let pair = begin(&bed).await;
    assert_eq!(Some(key_id(&pair.access_token)), successor);
    bed.clock.advance(BOUND);
    bed.sessions.poll().await.unwrap();
    let latest = begin(&bed).await;
    assert_eq!(key_id(&latest.access_token), waiting);
    for pair in [&first, &pair, &latest] {
        assert!(bed.authenticate(&pair.access_token).await.is_ok());
    }
    // One that only waits, or retires, needs no successor.
    let next = bed.sessions.rotate_key(KeyPurpose::Access, None, false).await.unwrap().key_id;
    assert_eq!(bed.sessions.remove_key(&next).await.unwrap(), None);
    assert_eq!(bed.sessions.remove_key(&key_id(&first.access_token)).await.unwrap(), None);
    assert!(refused(bed.authenticate(&first.access_token).await));
    assert!(bed.authenticate(&latest.access_token).await.is_ok());
}

#[tokio::test]
async fn sec_038_unknown_keys_cost_at_most_one_reload_a_second() {
    let watched = Instrumented::new(MemoryStore::new());
    let bed = TestBed::over(watched.stores()).await;
    let foreign = begin(&TestBed::over(MemoryStore::new()).await).await.access_token;
    let (header, rest) = foreign.split_once('.').unwrap();
    assert!(!header.is_empty());
    // The test beds make the same keys: another name makes it unknown.
    let header = "eyJhbGciOiJFZERTQSIsImtpZCI6InVua25vd24iLCJ0eXAiOiJhdCtqd3QifQ";
    let unknown = format!("{header}.{rest}");
    let before = watched.calls("keys");
    for _ in 0..1_000 {
        assert!(refused(bed.authenticate(&unknown).await));
    }
    assert_eq!(watched.calls("keys"), before + 1);
    bed.clock.advance(Duration::from_secs(1));
    for _ in 0..10 {
        assert!(refused(bed.authenticate(&unknown).await));
    }
    assert_eq!(watched.calls("keys"), before + 2);

    // A key that another node let sign at once.
    bed.clock.advance(Duration::from_secs(1));
    let other = bed.another_node().await;
    other.sessions.rotate_key(KeyPurpose::Access, None, true).await.unwrap();
    let pair = begin(&other).await;
    assert!(bed.authenticate(&pair.access_token).await.is_ok());
}
