//! The tail of the revocation log, and being told that it has grown.

use std::sync::Arc;

use countersign_core::flow::{RevocationView, StoreClock};
use countersign_core::model::Target;
use countersign_core::store::{
    Changes, End, EpochRaise, RevocationStore, SessionStore, StoreError, TokenRevocation,
};
use countersign_jwt::{Clock, Timestamp};
use countersign_sql::mysql::{MySqlOptions, MySqlStore};
use countersign_testkit::FixedClock;
use sqlx::Connection;
use tokio::runtime::Handle;
use tokio::time::timeout;
use uuid::Uuid;

use crate::support::*;

async fn is_told(changes: &mut Changes) {
    assert!(timeout(seconds(10), changes.next()).await.expect("told within ten seconds"));
}

/// A store that has begun to look.
async fn looking(options: &MySqlOptions) -> (MySqlStore, Changes) {
    let store = MySqlStore::open(options).await.unwrap();
    let mut changes = store.changes().expect("a store that looks");
    // Whoever begins looks whether he has missed something.
    is_told(&mut changes).await;
    (store, changes)
}

async fn now(store: &MySqlStore) -> Timestamp {
    store.time().await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_becomes_visible_10_seconds_late_is_still_read() {
    let Some(database) = Database::fresh().await else { return };
    let store = Arc::new(database.open().await);
    let machine = Arc::new(FixedClock::default());
    let clock = Arc::new(StoreClock::new(machine.clone()));
    let bound = seconds(5);
    let view =
        RevocationView::new(store.clone(), clock.clone(), Handle::current(), bound, Uuid::from_u128(7));
    view.poll().await.unwrap();

    let entry = token_entry(1, 1, clock.now());
    let Target::Token { user_id, id } = &entry.target else { unreachable!() };
    let mut other = database.connect().await;
    let mut slow = other.begin().await.unwrap();
    let insert = "INSERT INTO countersign_revocation (user_id, kind, ref, n, until, at)
        VALUES (?, 'token', ?, 0, ?, ?)";
    let insert = sqlx::query(insert).bind(user_id.as_str()).bind(id.to_string());
    let insert = insert.bind(entry.until.as_millis()).bind(entry.at.as_millis());
    insert.execute(&mut *slow).await.unwrap();
    for _ in 0..10 {
        machine.advance(seconds(1));
        view.poll().await.unwrap();
        assert!(view.is_fresh() && !view.index().is_token_revoked(user_id, *id));
    }
    slow.commit().await.unwrap();
    view.poll().await.unwrap();
    assert!(view.index().is_token_revoked(user_id, *id));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_revocation_is_told_to_other_nodes() {
    let Some(database) = Database::fresh().await else { return };
    let writer = MySqlStore::open(&database.options().watch(false)).await.unwrap();
    assert!(writer.changes().is_none());
    let (reader, mut changes) = looking(&database.options()).await;
    writer.insert_session(&session(1, 1)).await.unwrap();

    let at = now(&writer).await;
    let until = at + seconds(900);
    writer.end_session(&key(1, 1), &End { at, until, ..end() }).await.unwrap();
    is_told(&mut changes).await;
    let raising = EpochRaise { at: now(&writer).await, until, ..raise(None) };
    writer.raise_epoch(&user_id(1), &raising).await.unwrap();
    is_told(&mut changes).await;
    let tokens = TokenRevocation { ids: vec![token_id(1)], at: now(&writer).await, until, limit: 5 };
    writer.revoke_tokens(&user_id(1), &tokens).await.unwrap();
    is_told(&mut changes).await;
    let entry = token_entry(1, 2, now(&writer).await);
    writer.insert_entry(&entry).await.unwrap();
    is_told(&mut changes).await;
    // The same again, with a later time: the other node may not have heard of the first.
    writer.insert_entry(&token_entry(1, 2, entry.at + seconds(1))).await.unwrap();
    is_told(&mut changes).await;
    assert_eq!(reader.entries(at, None, 10).await.unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes some seconds of the server's time; run with --ignored"]
async fn slow_what_is_revoked_later_is_told_too_and_a_heartbeat_is_no_news() {
    let Some(database) = Database::fresh().await else { return };
    let writer = MySqlStore::open(&database.options().watch(false)).await.unwrap();
    let (_reader, mut changes) = looking(&database.options()).await;
    writer.insert_entry(&token_entry(1, 1, now(&writer).await)).await.unwrap();
    is_told(&mut changes).await;
    // Meanwhile the window has moved on, more than once.
    let silence = async {
        for beat in 0..13_u64 {
            let node = Target::Node { id: Uuid::from_u128(1) };
            writer.insert_entry(&entry(node, now(&writer).await + seconds(beat))).await?;
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
        Ok::<_, StoreError>(())
    };
    tokio::select! {
        silence = silence => silence.unwrap(),
        _ = changes.next() => panic!("nothing has happened"),
    }
    writer.insert_entry(&token_entry(1, 2, now(&writer).await)).await.unwrap();
    is_told(&mut changes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_cut_off_looks_again_for_what_was_missed() {
    let Some(database) = Database::fresh().await else { return };
    let (reader, mut changes) = looking(&database.options()).await;
    let mut other = database.connect().await;
    kill_others(&mut other).await;
    // Of the reconnection itself.
    is_told(&mut changes).await;
    reader.insert_entry(&token_entry(1, 1, now(&reader).await)).await.unwrap();
    is_told(&mut changes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_ends_with_the_store() {
    let Some(database) = Database::fresh().await else { return };
    let (store, mut changes) = looking(&database.options()).await;
    store.close().await;
    assert!(!timeout(seconds(10), changes.next()).await.unwrap(), "nobody is left to tell");
    let mut other = database.connect().await;
    until("all connections are closed", async || others(&mut other).await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_is_the_servers() {
    let Some(database) = Database::fresh().await else { return };
    let store = database.open().await;
    let mut other = database.connect().await;
    const TIME: &str = "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)";
    let before = count(&mut other, TIME).await;
    let told = now(&store).await.as_millis();
    let after = count(&mut other, TIME).await;
    assert!((before - 1..=after).contains(&told), "{before} <= {told} <= {after}");
}
