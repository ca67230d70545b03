//! Keys at rest: made once, opened by the right secret only.

use std::sync::Arc;

use countersign_core::flow::{Keychain, KeychainError};
use countersign_core::store::{MemoryStore, Stores};
use countersign_jwt::{Algorithm, Clock as _, Secret, Secrets};
use countersign_testkit::{FixedClock, Instrumented, Point, SeededRandom};

fn secrets(seed: u8) -> Secrets {
    let bytes = (0..32_u8).map(|n| n.wrapping_mul(37).wrapping_add(seed)).collect();
    Secrets::new(vec![Secret::new(bytes).expect("a good secret")]).expect("one secret")
}

async fn open(stores: &Stores, secrets: &Secrets, seed: u64) -> Result<Keychain, KeychainError> {
    Keychain::open(&**stores.keys(), secrets, &FixedClock::default(), &SeededRandom::new(seed)).await
}

#[tokio::test]
async fn of_two_first_starts_with_different_secrets_one_fails_and_adds_nothing() {
    let watched = Instrumented::new(MemoryStore::new());
    let mut gate = watched.hold(Point::Before("insert_key"));
    let stores = watched.stores();
    let late = tokio::spawn({
        let stores = stores.clone();
        async move { open(&stores, &secrets(2), 2).await }
    });
    gate.arrived().await;
    let first = open(&stores, &secrets(1), 1).await.unwrap();
    gate.open();
    let refused = late.await.unwrap();
    assert!(matches!(refused, Err(KeychainError::WrongSecret { .. })), "{refused:?}");
    let keys = stores.keys().keys().await.unwrap();
    assert_eq!(keys.len(), 2);
    let again = open(&stores, &secrets(1), 3).await.unwrap();
    assert_eq!(again.access.signing.key_id(), first.access.signing.key_id());
    assert_eq!(again.refresh.signing.key_id(), first.refresh.signing.key_id());
}

#[tokio::test]
async fn a_wrong_secret_never_leads_to_new_keys() {
    let stores: Stores = Arc::new(MemoryStore::new()).into();
    open(&stores, &secrets(1), 1).await.unwrap();
    let before = stores.keys().keys().await.unwrap();
    assert!(matches!(open(&stores, &secrets(2), 2).await, Err(KeychainError::WrongSecret { .. })));
    assert_eq!(stores.keys().keys().await.unwrap(), before);
    assert!(before.iter().all(|key| key.created_at == FixedClock::default().now()));
}

#[tokio::test]
async fn sec_023_a_fresh_installation_signs_with_ed25519() {
    let keys = open(&Stores::from(MemoryStore::new()), &secrets(1), 2).await.unwrap();
    assert_eq!(keys.access.signing.algorithm(), Algorithm::EdDsa, "others verify without a secret");
    assert_eq!(keys.refresh.signing.algorithm(), Algorithm::Hs256, "nobody else verifies these");
}
