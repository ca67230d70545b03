//! The promises of [`KeyStore`](countersign_core::store::KeyStore).

use std::time::Duration;

use countersign_core::model::{KeyPurpose, StoredKey};
use countersign_core::store::Stores;
use countersign_jwt::{Algorithm, KeyId};

use super::fixture::{Fixture, NOW, at_once};

fn key(purpose: KeyPurpose, number: u32, id: &str) -> StoredKey {
    StoredKey {
        purpose,
        number,
        key_id: KeyId::new(id).expect("a key id"),
        algorithm: Algorithm::EdDsa,
        sealed: (0..=255).chain(id.bytes()).collect(),
        created_at: NOW,
        active_at: NOW + Duration::from_secs(5),
        removed_at: None,
    }
}

async fn insert(stores: &Stores, key: &StoredKey) -> bool {
    stores.keys().insert_key(key).await.expect("the store answers")
}

/// Keys are unique by purpose and number and by id; losers of a race read the winner's. Needs an empty database.
pub async fn run(stores: &Stores) {
    let all = || async { stores.keys().keys().await.expect("the store answers") };
    assert_eq!(all().await, [], "no keys at first");

    let candidates: Vec<_> =
        (0..32).map(|node| key(KeyPurpose::Access, 1, &format!("node {node}"))).collect();
    let answers =
        at_once(
            candidates.iter().cloned().map(|key| {
                let stores = stores.clone();
                async move {
                    (insert(&stores, &key).await, stores.keys().keys().await.expect("the store answers"))
                }
            }),
        )
        .await;
    let winners: Vec<_> = candidates.iter().zip(&answers).filter(|(_, (won, _))| *won).collect();
    let [(winner, _)] = winners.as_slice() else {
        panic!("of 32 first keys one wins, not {}", winners.len())
    };
    for (_, seen) in &answers {
        assert_eq!(seen.as_slice(), std::slice::from_ref(*winner), "every node then reads the winner's");
    }

    let (first, second) = (key(KeyPurpose::Access, 2, "second"), key(KeyPurpose::Access, 10, "tenth"));
    let refresh = StoredKey { algorithm: Algorithm::Hs256, ..key(KeyPurpose::Refresh, 1, "refresh") };
    for new in [&second, &refresh, &first] {
        assert!(insert(stores, new).await, "another number, or another purpose");
        assert!(!insert(stores, new).await, "once");
    }
    let same_id = StoredKey { number: 3, ..first.clone() };
    assert!(!insert(stores, &same_id).await, "an id is taken for every number");
    let same_id = StoredKey { purpose: KeyPurpose::Refresh, number: 2, ..first.clone() };
    assert!(!insert(stores, &same_id).await, "and for every purpose");
    let expected = [(*winner).clone(), first, second, refresh];
    assert_eq!(all().await, expected, "as inserted, by purpose and number");

    resealing(stores, expected).await;
    removing(stores).await;
}

/// Exactly one of the concurrent calls that reseal a key does so, and no other key changes.
async fn resealing(stores: &Stores, mut keys: [StoredKey; 4]) {
    let [_, key, ..] = &mut keys;
    let unknown = KeyId::new("unknown").expect("a key id");
    let reseal = async |id: &KeyId, old: &[u8], new: &[u8]| {
        stores.keys().reseal_key(id, old, new).await.expect("the store answers")
    };
    assert!(!reseal(&unknown, &key.sealed, b"new").await, "an unknown key");
    assert!(!reseal(&key.key_id, b"other", b"new").await, "another seal than the one that was read");
    let candidates: Vec<_> = (0..16_u8).map(|node| vec![node; 40]).collect();
    let answers = at_once(candidates.iter().cloned().map(|new| {
        let (stores, id, old) = (stores.clone(), key.key_id.clone(), key.sealed.clone());
        async move { stores.keys().reseal_key(&id, &old, &new).await.expect("the store answers") }
    }))
    .await;
    let mut winners = candidates.into_iter().zip(&answers).filter(|(_, won)| **won).map(|(new, _)| new);
    key.sealed = winners.next().expect("one wins");
    assert_eq!(winners.next(), None, "only one wins");
    assert_eq!(
        stores.keys().keys().await.expect("the store answers"),
        keys,
        "its seal is there, and no other changed"
    );
}

/// Exactly one of the concurrent calls that remove a key does so. The row stays without its secret, and its number and id
/// stay taken.
async fn removing(stores: &Stores) {
    let mut expected = stores.keys().keys().await.expect("the store answers");
    let [key, ..] = expected.as_mut_slice() else { panic!("there are keys") };
    let unknown = KeyId::new("unknown").expect("a key id");
    assert!(!stores.keys().remove_key(&unknown, NOW).await.expect("the store answers"), "an unknown key");
    let answers = at_once((0..16).map(|_| {
        let (stores, id) = (stores.clone(), key.key_id.clone());
        async move { stores.keys().remove_key(&id, NOW).await.expect("the store answers") }
    }))
    .await;
    assert_eq!(answers.iter().filter(|removed| **removed).count(), 1, "one removes it");
    let before = key.clone();
    let later = NOW + Duration::from_secs(9);
    assert!(!stores.keys().remove_key(&key.key_id, later).await.expect("the store answers"), "once");
    let resealed = stores.keys().reseal_key(&key.key_id, &before.sealed, b"back").await;
    assert!(!resealed.expect("the store answers"), "what was read before brings no secret back");
    assert!(!insert(stores, &before).await, "nor does inserting it again");
    (key.removed_at, key.sealed) = (Some(NOW), Vec::new());
    assert_eq!(
        stores.keys().keys().await.expect("the store answers"),
        expected,
        "the others are as they were"
    );
}

/// Exactly one of the nodes that name an empty store at once wins, and the name stays. Needs an empty database.
pub async fn one_store_id_wins(stores: &Stores) {
    let fixture = Fixture::new("one_store_id_wins");
    let candidates: Vec<_> = (0..32).map(|_| fixture.uuid()).collect();
    let answers = at_once(candidates.iter().copied().map(|candidate| {
        let keys = stores.keys().clone();
        async move { keys.store_id(candidate).await.expect("the store answers") }
    }))
    .await;
    let winner = answers.first().copied().expect("32 answers");
    assert!(candidates.contains(&winner), "one of the candidates");
    assert!(answers.iter().all(|answer| *answer == winner), "all learn the winner's: {answers:?}");
    let again = stores.keys().store_id(fixture.uuid()).await.expect("the store answers");
    assert_eq!(again, winner, "a store keeps its id");
}

/// Only a node that knows the present record of settings replaces it. Of nodes that write the first record, or the next
/// one, at once exactly one wins, and all nodes read what it wrote. Needs an empty database.
pub async fn one_record_of_settings_wins(stores: &Stores, rounds: usize) {
    let read = async || stores.keys().settings().await.expect("the store answers");
    let replace = async |old: Option<&str>, new: &str| {
        stores.keys().replace_settings(old, new).await.expect("the store answers")
    };
    assert_eq!(read().await, None, "no record at first");
    assert!(!replace(Some("other"), "new").await, "nothing stands in the place of what is not there");
    assert_eq!(read().await, None);
    let mut known: Option<String> = None;
    for round in 0..rounds.min(20) {
        let candidates: Vec<_> =
            (0..16).map(|node| format!("{{\"round\":{round},\"node\":{node},\"é\":\" \"}} ")).collect();
        let answers = at_once(candidates.iter().cloned().map(|new| {
            let (keys, known) = (stores.keys().clone(), known.clone());
            async move {
                let won = keys.replace_settings(known.as_deref(), &new).await.expect("the store answers");
                (won, keys.settings().await.expect("the store answers"))
            }
        }))
        .await;
        let winners: Vec<_> = candidates.iter().zip(&answers).filter(|(_, (won, _))| *won).collect();
        let [(winner, _)] = winners.as_slice() else {
            panic!("of 16 records at once one is written, not {}", winners.len())
        };
        for (_, seen) in &answers {
            assert_eq!(seen.as_ref(), Some(*winner), "everybody then reads the winner's, to the byte");
        }
        assert!(!replace(known.as_deref(), "late").await, "what was replaced is not replaced again");
        known = Some((*winner).clone());
    }
    for other in ["{", "{\"ROUND\":0}", ""] {
        assert!(!replace(Some(other), "other").await, "compared byte by byte, whatever the collation");
    }
    let long = format!("{{\"long\":\"{}\"}}", "ä".repeat(8_000));
    assert!(replace(known.as_deref(), &long).await);
    assert_eq!(read().await.as_ref(), Some(&long), "long ones are kept whole");
}
