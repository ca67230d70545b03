//! The tail of the revocation log, and being told that it has grown.

use std::sync::Arc;

use countersign_core::flow::{RevocationView, StoreClock};
use countersign_core::model::{Entry, Target};
use countersign_core::store::{Changes, RevocationStore, SessionStore};
use countersign_jwt::Clock;
use countersign_sql::postgres::{PostgresOptions, PostgresStore};
use countersign_testkit::FixedClock;
use sqlx::Connection;
use sqlx::postgres::PgListener;
use tokio::runtime::Handle;
use tokio::time::timeout;
use uuid::Uuid;

use crate::support::*;

async fn is_told(changes: &mut Changes) {
    assert!(timeout(seconds(10), changes.next()).await.expect("told within ten seconds"));
}

/// A store that has begun to listen.
async fn listening(options: &PostgresOptions) -> (PostgresStore, Changes) {
    let store = PostgresStore::open(options).await.unwrap();
    let mut changes = store.changes().expect("a store that listens");
    // Whoever begins to listen looks whether he has missed something.
    is_told(&mut changes).await;
    (store, changes)
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
    let insert = "INSERT INTO countersign.revocation (user_id, kind, ref, n, until, at) VALUES ($1, 'token', $2, 0, $3, $4)";
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
    let writer = database.open().await;
    let (reader, mut changes) = listening(&database.options()).await;
    writer.insert_session(&session(1, 1)).await.unwrap();

    writer.end_session(&key(1, 1), &end()).await.unwrap();
    is_told(&mut changes).await;
    writer.raise_epoch(&user_id(1), &raise(None)).await.unwrap();
    is_told(&mut changes).await;
    let tokens = countersign_core::store::TokenRevocation {
        ids: vec![token_id(1)],
        at: NOW,
        until: NOW + seconds(900),
        limit: 5,
    };
    writer.revoke_tokens(&user_id(1), &tokens).await.unwrap();
    is_told(&mut changes).await;
    writer.insert_entry(&token_entry(1, 2, NOW)).await.unwrap();
    is_told(&mut changes).await;
    assert_eq!(reader.entries(NOW, None, 10).await.unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_wake_nobody() {
    let Some(database) = Database::fresh().await else { return };
    let store = database.open().await;
    let mut listener = PgListener::connect(&database.url()).await.unwrap();
    listener.listen("countersign_revocation").await.unwrap();
    let node = Target::Node { id: Uuid::from_u128(1) };
    store.insert_entry(&Entry { target: node, until: NOW + seconds(60), at: NOW }).await.unwrap();
    let mut other = database.connect().await;
    run(&mut other, "SELECT pg_notify('countersign_revocation', 'not a heartbeat')").await;
    let first = timeout(seconds(10), listener.recv()).await.unwrap().unwrap();
    assert_eq!(first.payload(), "not a heartbeat");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_cut_off_listens_again_and_looks_for_what_was_missed() {
    let Some(database) = Database::fresh().await else { return };
    let writer = database.open().await;
    let (_reader, mut changes) = listening(&database.options()).await;
    let mut other = database.connect().await;
    run(
        &mut other,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'LISTEN%'",
    )
    .await;
    // Of the reconnection itself.
    is_told(&mut changes).await;
    writer.insert_entry(&token_entry(1, 1, NOW)).await.unwrap();
    is_told(&mut changes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listening_ends_with_the_store() {
    let Some(database) = Database::fresh().await else { return };
    let (store, mut changes) = listening(&database.options()).await;
    store.close().await;
    assert!(!timeout(seconds(10), changes.next()).await.unwrap(), "nobody is left to tell");
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()";
    let one_is_left = async || count(&mut database.connect().await, connections).await == 1;
    until("all connections are closed", one_is_left).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_pooler_only_a_listen_url_tells() {
    let Some(database) = Database::fresh().await else { return };
    let Some(pooler) = database.pooler_url() else { return };
    let writer = PostgresStore::open(&patient(&pooler)).await.unwrap();
    assert!(writer.changes().is_none());
    let useless = patient(&pooler).listen_url(&pooler).unwrap();
    assert!(PostgresStore::open(&useless).await.unwrap().changes().is_none());
    let options = patient(&pooler).listen_url(&database.url()).unwrap();
    let (_reader, mut changes) = listening(&options).await;
    writer.insert_entry(&token_entry(1, 1, NOW)).await.unwrap();
    is_told(&mut changes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_is_the_servers() {
    let Some(database) = Database::fresh().await else { return };
    let store = database.open().await;
    let mut other = database.connect().await;
    const TIME: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    let before = count(&mut other, TIME).await;
    let told = store.time().await.unwrap().unwrap().as_millis();
    let after = count(&mut other, TIME).await;
    assert!((before - 1..=after).contains(&told), "{before} <= {told} <= {after}");
}
