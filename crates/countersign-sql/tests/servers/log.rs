//! The tail of the revocation log, and being told that it has grown.

use std::sync::Arc;

use countersign_core::flow::{RevocationView, StoreClock};
use countersign_core::model::Target;
use countersign_core::store::{Changes, End, EpochRaise, RevocationStore, SessionStore, TokenRevocation};
use countersign_jwt::{Clock, Timestamp};
use countersign_testkit::FixedClock;
use tokio::runtime::Handle;
use tokio::time::timeout;
use uuid::Uuid;

use crate::support::*;

pub(crate) async fn is_told(changes: &mut Changes) {
    assert!(timeout(seconds(10), changes.next()).await.expect("told within ten seconds"));
}

/// A store that has begun to follow what other nodes write.
pub(crate) async fn following<S: ServerUnderTest>(options: &S::Options) -> (Arc<S::Store>, Changes) {
    let store = open::<S>(options).await;
    let mut changes = store.changes().expect("a store that follows");
    // Whoever begins looks whether he has missed something.
    is_told(&mut changes).await;
    (store, changes)
}

pub(crate) async fn now(store: &impl RevocationStore) -> Timestamp {
    store.time().await.unwrap().unwrap()
}

pub(crate) async fn an_entry_that_becomes_visible_10_seconds_late_is_still_read<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let store = database.open().await;
    let machine = Arc::new(FixedClock::default());
    let clock = Arc::new(StoreClock::new(machine.clone()));
    let bound = seconds(5);
    let view =
        RevocationView::new(store.clone(), clock.clone(), Handle::current(), bound, Uuid::from_u128(7));
    view.poll().await.unwrap();

    let entry = token_entry(1, 1, clock.now());
    let Target::Token { user_id, id } = &entry.target else { unreachable!() };
    let mut slow = database.program().await;
    slow.run("BEGIN").await;
    let (until, at) = (entry.until.as_millis(), entry.at.as_millis());
    let insert = format!(
        "INSERT INTO {} (user_id, kind, ref, n, until, at) VALUES ('{user_id}', 'token', '{id}', 0, {until}, {at})",
        S::table("revocation")
    );
    slow.run(&insert).await;
    for _ in 0..10 {
        machine.advance(seconds(1));
        view.poll().await.unwrap();
        assert!(view.is_fresh() && !view.index().is_token_revoked(user_id, *id));
    }
    slow.run("COMMIT").await;
    view.poll().await.unwrap();
    assert!(view.index().is_token_revoked(user_id, *id));
}

pub(crate) async fn every_kind_of_revocation_is_told_to_other_nodes<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let writer = open::<S>(&S::deaf(database.options())).await;
    let (reader, mut changes) = following::<S>(&database.options()).await;
    writer.insert_session(&session(1, 1)).await.unwrap();

    let at = now(&*writer).await;
    let until = at + seconds(900);
    writer.end_session(&key(1, 1), &End { at, until, ..end() }).await.unwrap();
    is_told(&mut changes).await;
    let raising = EpochRaise { at: now(&*writer).await, until, ..raise(None) };
    writer.raise_epoch(&user_id(1), &raising).await.unwrap();
    is_told(&mut changes).await;
    let tokens = TokenRevocation { ids: vec![token_id(1)], at: now(&*writer).await, until, limit: 5 };
    writer.revoke_tokens(&user_id(1), &tokens).await.unwrap();
    is_told(&mut changes).await;
    let entry = token_entry(1, 2, now(&*writer).await);
    writer.insert_entry(&entry).await.unwrap();
    is_told(&mut changes).await;
    // The same again, with a later time: the other node may not have heard of the first.
    writer.insert_entry(&token_entry(1, 2, entry.at + seconds(1))).await.unwrap();
    is_told(&mut changes).await;
    assert_eq!(reader.entries(at, None, 10).await.unwrap().len(), 4);
}

pub(crate) async fn who_was_cut_off_looks_again_for_what_was_missed<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let (_reader, mut changes) = following::<S>(&database.options()).await;
    S::cut_off(&mut database.program().await).await;
    // Of the reconnection itself.
    is_told(&mut changes).await;
    let writer = open::<S>(&S::deaf(database.options())).await;
    writer.insert_entry(&token_entry(1, 1, now(&*writer).await)).await.unwrap();
    is_told(&mut changes).await;
}

pub(crate) async fn following_ends_with_the_store<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let store = S::open(&database.options()).await.unwrap();
    let mut changes = store.changes().expect("a store that follows");
    is_told(&mut changes).await;
    S::close(store).await;
    assert!(!timeout(seconds(10), changes.next()).await.unwrap(), "nobody is left to tell");
    let mut other = database.program().await;
    until("all connections are closed", async || other.count(S::OTHERS).await == 0).await;
}

pub(crate) async fn the_time_is_the_servers<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let store = database.open().await;
    let mut other = database.program().await;
    let before = other.count(S::TIME).await;
    let told = now(&*store).await.as_millis();
    let after = other.count(S::TIME).await;
    assert!((before - 1..=after).contains(&told), "{before} <= {told} <= {after}");
}
