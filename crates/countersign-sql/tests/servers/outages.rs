//! Servers that hang, vanish or restart: every caller is answered in time, and afterwards everything goes on.

use std::sync::Arc;
use std::time::Duration;

use countersign_core::model::{Acknowledgement, Target, ThrottlePolicy};
use countersign_core::store::*;
use countersign_jwt::{Generation, Timestamp};
use countersign_sql::OpenError;
use countersign_testkit::Proxy;
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use crate::support::*;

/// A busy machine does everything within this.
const DEADLINE: Duration = Duration::from_secs(2);
/// Within this, everybody has an answer; without a deadline it would be far more.
const ANSWERED: Duration = Duration::from_secs(10);

/// Runs one of every operation, each of which must be answered soon; how many failed.
async fn everything<S: ServerUnderTest>(store: &Arc<S::Store>, round: u128) -> usize {
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
        let has_keys = store.clone();
        work.spawn(async move {
            let answer = timeout(ANSWERED, S::has_keys(&has_keys)).await;
            answer.expect("answered by the deadline").is_err()
        });
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

/// Options of a store that answers by [`DEADLINE`].
fn hasty<S: ServerUnderTest>(url: &str, connections: u32) -> S::Options {
    S::connections(S::deadline(S::options(url), DEADLINE), connections)
}

pub(crate) async fn sec_087_a_server_that_hangs_fails_every_operation_by_the_deadline<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let proxy = Proxy::to_server_of(&database.url()).await;
    let options = hasty::<S>(&proxy.url(&database.url()), 4);
    let store = open::<S>(&options).await;
    assert_eq!(everything::<S>(&store, 0).await, 0, "before");
    proxy.block();
    for round in 1..3 {
        assert_eq!(everything::<S>(&store, round).await, 48, "round {round}");
    }
    let opening = timeout(ANSWERED, S::open(&options)).await.expect("answered by the deadline");
    let refused = opening.expect_err("nobody answers");
    assert!(matches!(refused, OpenError::Deadline), "{refused:?}");
    proxy.unblock();
    assert_eq!(everything::<S>(&store, 3).await, 0, "when bytes flow again");
}

pub(crate) async fn connections_that_are_swallowed_for_good_are_replaced<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let proxy = Proxy::to_server_of(&database.url()).await;
    let store = open::<S>(&hasty::<S>(&proxy.url(&database.url()), 4)).await;
    assert_eq!(everything::<S>(&store, 0).await, 0, "before");
    proxy.swallow();
    everything::<S>(&store, 1).await;
    assert_eq!(everything::<S>(&store, 2).await, 0, "new connections work");
}

pub(crate) async fn callers_in_turn_do_not_find_out_one_by_one_that_all_connections_are_dead<
    S: ServerUnderTest,
>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let proxy = Proxy::to_server_of(&database.url()).await;
    let store = open::<S>(&hasty::<S>(&proxy.url(&database.url()), 12)).await;
    assert_eq!(everything::<S>(&store, 0).await, 0, "so that there are many connections");
    assert!(database.program().await.count(S::OTHERS).await >= 11);
    proxy.swallow();
    let mut failed = 0;
    while store.user(&user_id(9)).await.is_err() {
        failed += 1;
    }
    assert!((1..5).contains(&failed), "{failed} callers waited in vain");
}

pub(crate) async fn after_a_restart_of_the_server_reads_notice_nothing<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let store = database.open().await;
    assert_eq!(everything::<S>(&store, 0).await, 0, "so that there are connections");
    S::kill_others(&mut database.program().await).await;
    assert!(store.session(&key(9, 1)).await.unwrap().is_some());
    assert!(store.time().await.is_ok());
    assert_eq!(everything::<S>(&store, 1).await, 0, "one was dead, so the other idle ones were closed too");
}

pub(crate) async fn the_tail_does_not_wait_behind_other_work<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let store = open::<S>(&hasty::<S>(&database.url(), 1)).await;
    store.insert_session(&session(1, 1)).await.unwrap();
    let (mut blocker, mut watcher) = (database.program().await, database.program().await);
    blocker.lock("session").await;
    let stuck = {
        let store = store.clone();
        tokio::spawn(async move { store.advance(&key(1, 1), &advance(0)).await })
    };
    watcher.until_waiting("the only connection waits", 1).await;
    let heartbeat = entry(Target::Node { id: Uuid::from_u128(1) }, NOW);
    store.insert_entry(&heartbeat).await.unwrap();
    assert_eq!(store.entries(NOW, None, 10).await.unwrap(), [heartbeat]);
    assert!(store.time().await.unwrap().is_some());
    assert!(stuck.await.unwrap().is_err());
}

pub(crate) async fn what_a_caller_gave_up_the_server_gives_up_too<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    for way in S::ways(&database) {
        let store = open::<S>(&S::deadline(S::options(&way), DEADLINE)).await;
        // There is one from the way before.
        store.insert_session(&session(1, 1)).await.unwrap();
        let (mut blocker, mut watcher) = (database.program().await, database.program().await);
        blocker.lock("session").await;
        assert!(store.advance(&key(1, 1), &advance(0)).await.is_err());
        watcher.until_waiting("nobody waits", 0).await;
        blocker.rollback().await;
        let found = store.session(&key(1, 1)).await.unwrap().unwrap();
        assert_eq!(found.session.generation, Generation::FIRST, "it was not done after all");
    }
}

pub(crate) async fn callers_that_go_away_leave_no_connection_in_a_state<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    for (round, way) in (0..).zip(S::ways(&database)) {
        let store = open::<S>(&S::connections(patient::<S>(&way), 2)).await;
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
        assert_eq!(everything::<S>(&store, round).await, 0);
        let mut watcher = database.program().await;
        let none_is_open = async || {
            tokio::time::sleep(S::NOTICED).await;
            watcher.count(S::LEFT_OPEN).await == 0
        };
        until("no transaction is left open", none_is_open).await;
    }
}

pub(crate) async fn statements_that_no_longer_fit_are_prepared_anew<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let store = database.open().await;
    store.insert_session(&session(1, 1)).await.unwrap();
    assert!(store.session(&key(1, 1)).await.unwrap().is_some());
    let mut other = database.program().await;
    let [tomorrow, the_day_after] = S::OF_TOMORROW;
    other.run(tomorrow).await;
    assert!(store.session(&key(1, 1)).await.unwrap().is_some());
    assert!(store.advance(&key(1, 1), &advance(0)).await.unwrap().is_some());
    other.run(the_day_after).await;
    assert!(store.advance(&key(1, 1), &advance(1)).await.unwrap().is_some());
}
