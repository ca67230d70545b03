//! Servers that hang, vanish or restart: every caller is answered in time, and afterwards everything goes on.

use std::sync::Arc;
use std::time::Duration;

use countersign_core::account::ThrottlePolicy;
use countersign_core::revocation::{Entry, Target};
use countersign_core::session::Acknowledgement;
use countersign_core::store::*;
use countersign_core::{Generation, Timestamp};
use countersign_sql::OpenError;
use countersign_sql::postgres::{PostgresOptions, PostgresStore};
use countersign_testkit::Proxy;
use sqlx::Connection;
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use crate::support::*;

/// A busy machine does everything within this.
const DEADLINE: Duration = Duration::from_secs(2);
/// Within this, everybody has an answer; without a deadline it would be far more.
const ANSWERED: Duration = Duration::from_secs(10);

/// Runs one of every operation, each of which must be answered soon; how many failed.
async fn everything(store: &Arc<PostgresStore>, round: u128) -> usize {
    let policy = ThrottlePolicy::default();
    let mut work = JoinSet::new();
    macro_rules! operation {
        ($($call:tt)*) => {{
            let store = store.clone();
            work.spawn(async move {
                let answer = timeout(ANSWERED, async { store.$($call)* }).await;
                answer.expect("answered by the deadline").is_err()
            });
        }};
    }
    for number in round * 10..round * 10 + 3 {
        operation!(insert_session(&session(9, number)).await);
        operation!(session(&key(9, number)).await);
        operation!(advance(&key(1, 1), &advance(5)).await);
        operation!(end_session(&key(9, number), &end()).await);
        operation!(live_sessions(&user_id(9), NOW, SessionPage::first(1_000)).await);
        operation!(raise_epoch(&user_id(number), &raise(None)).await);
        operation!(epoch(&user_id(9)).await);
        operation!(insert_entry(&token_entry(9, number, NOW)).await);
        operation!(entries(Timestamp::MIN, None, 10).await);
        operation!(time().await);
        operation!(user(&user_id(9)).await);
        operation!(begin_attempt(&number.to_string(), NOW, &policy).await);
        operation!(keys().await);
        operation!(has_keys().await);
        operation!(purge_sessions(NOW, 10).await);
    }
    let ada = user(100 + round, &format!("{round}@example.org"), None);
    operation!(insert_user(&ada).await);
    let tokens = TokenRevocation { ids: vec![token_id(round)], at: NOW, until: NOW, limit: 10 };
    operation!(revoke_tokens(&user_id(9), &tokens).await);
    let seen =
        [Acknowledgement { user_id: user_id(1), session_id: session_id(1), generation: Generation::FIRST }];
    operation!(acknowledge(&seen, NOW).await);
    work.join_all().await.into_iter().filter(|failed| *failed).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_087_a_server_that_hangs_fails_every_operation_by_the_deadline() {
    let Some(database) = Database::fresh().await else { return };
    let proxy = Proxy::to_server_of(&database.url()).await;
    let options = PostgresOptions::from_url(&proxy.url(&database.url())).unwrap();
    let options = options.deadline(DEADLINE).connections(4);
    let store = Arc::new(PostgresStore::open(&options).await.unwrap());
    assert_eq!(everything(&store, 0).await, 0, "before");
    proxy.block();
    for round in 1..3 {
        assert_eq!(everything(&store, round).await, 48, "round {round}");
    }
    let opening = timeout(ANSWERED, PostgresStore::open(&options)).await.expect("answered by the deadline");
    assert!(matches!(opening, Err(OpenError::Deadline)), "{opening:?}");
    proxy.unblock();
    assert_eq!(everything(&store, 3).await, 0, "when bytes flow again");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_swallowed_for_good_are_replaced() {
    let Some(database) = Database::fresh().await else { return };
    let proxy = Proxy::to_server_of(&database.url()).await;
    let options = PostgresOptions::from_url(&proxy.url(&database.url())).unwrap();
    let store = Arc::new(PostgresStore::open(&options.deadline(DEADLINE).connections(4)).await.unwrap());
    assert_eq!(everything(&store, 0).await, 0, "before");
    proxy.swallow();
    everything(&store, 1).await;
    assert_eq!(everything(&store, 2).await, 0, "new connections work");
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_in_turn_do_not_find_out_one_by_one_that_all_connections_are_dead() {
    let Some(database) = Database::fresh().await else { return };
    let proxy = Proxy::to_server_of(&database.url()).await;
    let options = PostgresOptions::from_url(&proxy.url(&database.url())).unwrap();
    let store = Arc::new(PostgresStore::open(&options.deadline(DEADLINE).connections(12)).await.unwrap());
    assert_eq!(everything(&store, 0).await, 0, "so that there are many connections");
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()";
    assert!(count(&mut database.connect().await, connections).await >= 12);
    proxy.swallow();
    let mut failed = 0;
    while store.user(&user_id(9)).await.is_err() {
        failed += 1;
    }
    assert!((1..5).contains(&failed), "{failed} callers waited in vain");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_server_reads_notice_nothing() {
    let Some(database) = Database::fresh().await else { return };
    let store = Arc::new(database.open().await);
    assert_eq!(everything(&store, 0).await, 0, "so that there are connections");
    let mut other = database.connect().await;
    run(
        &mut other,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await;
    assert!(store.session(&key(9, 1)).await.unwrap().is_some());
    assert!(store.time().await.is_ok());
    assert_eq!(everything(&store, 1).await, 0, "one was dead, so the other idle ones were closed too");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tail_does_not_wait_behind_other_work() {
    let Some(database) = Database::fresh().await else { return };
    let store =
        Arc::new(PostgresStore::open(&database.options().deadline(DEADLINE).connections(1)).await.unwrap());
    store.insert_session(&session(1, 1)).await.unwrap();
    let mut other = database.connect().await;
    let mut lock = other.begin().await.unwrap();
    run(&mut lock, "SELECT 1 FROM countersign.session FOR UPDATE").await;
    let stuck = {
        let store = store.clone();
        tokio::spawn(async move { store.advance(&key(1, 1), &advance(0)).await })
    };
    until("the only connection waits", async || waiting(&mut database.connect().await).await == 1).await;
    let heartbeat = Entry { target: Target::Node { id: Uuid::from_u128(1) }, until: NOW, at: NOW };
    store.insert_entry(&heartbeat).await.unwrap();
    assert_eq!(store.entries(NOW, None, 10).await.unwrap(), [heartbeat]);
    assert!(store.time().await.unwrap().is_some());
    assert!(stuck.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_gave_up_the_server_gives_up_too() {
    let Some(database) = Database::fresh().await else { return };
    let mut ways = vec![database.url()];
    ways.extend(database.pooler_url());
    for url in ways {
        let options = PostgresOptions::from_url(&url).unwrap().deadline(DEADLINE);
        let store = PostgresStore::open(&options).await.unwrap();
        // There is one from the way before.
        store.insert_session(&session(1, 1)).await.unwrap();
        let mut other = database.connect().await;
        let mut lock = other.begin().await.unwrap();
        run(&mut lock, "SELECT 1 FROM countersign.session FOR UPDATE").await;
        assert!(store.advance(&key(1, 1), &advance(0)).await.is_err());
        until("nobody waits", async || waiting(&mut database.connect().await).await == 0).await;
        lock.rollback().await.unwrap();
        let found = store.session(&key(1, 1)).await.unwrap().unwrap();
        assert_eq!(found.session.generation, Generation::FIRST, "it was not done after all");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_go_away_leave_no_connection_in_a_state() {
    let Some(database) = Database::fresh().await else { return };
    let mut ways = vec![database.url()];
    ways.extend(database.pooler_url());
    for (round, url) in (0..).zip(ways) {
        let options = patient(&url).connections(2);
        let store = Arc::new(PostgresStore::open(&options).await.unwrap());
        for number in 0..60 {
            let store = store.clone();
            let tokens = TokenRevocation { ids: vec![token_id(number)], at: NOW, until: NOW, limit: 1_000 };
            let revoking = tokio::spawn(async move { store.revoke_tokens(&user_id(1), &tokens).await });
            for _ in 0..number {
                tokio::task::yield_now().await;
            }
            revoking.abort();
            let _gone = revoking.await;
        }
        assert_eq!(everything(&store, round).await, 0);
        let idle = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
        let none_is_open = async || count(&mut database.connect().await, idle).await == 0;
        until("no transaction is left open", none_is_open).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_no_longer_fit_are_prepared_anew() {
    let Some(database) = Database::fresh().await else { return };
    let store = database.open().await;
    store.insert_session(&session(1, 1)).await.unwrap();
    assert!(store.session(&key(1, 1)).await.unwrap().is_some());
    // What a node of the next version may do while this one runs.
    let mut other = database.connect().await;
    run(&mut other, "ALTER TABLE countersign.session ADD COLUMN of_tomorrow TEXT").await;
    assert!(store.session(&key(1, 1)).await.unwrap().is_some());
    assert!(store.advance(&key(1, 1), &advance(0)).await.unwrap().is_some());
    run(&mut other, "ALTER TABLE countersign.session ADD COLUMN of_the_day_after TEXT").await;
    assert!(store.advance(&key(1, 1), &advance(1)).await.unwrap().is_some());
}
