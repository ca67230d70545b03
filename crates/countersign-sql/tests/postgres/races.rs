//! What happens when steps, logins and ends meet, with each held up at the very point where it could go wrong.

use std::sync::Arc;

use countersign_core::model::{Acknowledgement, EndReason, Entry, Outcome, Target, ThrottlePolicy};
use countersign_core::store::*;
use countersign_jwt::{Epoch, Generation, Timestamp};
use sqlx::Connection;
use tokio::task::JoinSet;

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn no_step_that_waited_for_an_end_outlives_it() {
    let Some(database) = Database::fresh().await else { return };
    let store = Arc::new(database.open().await);
    let (mut blocker, mut watcher) = (database.connect().await, database.connect().await);
    for number in 0..2 {
        store.insert_session(&session(1, number)).await.unwrap();
        let mut lock = blocker.begin().await.unwrap();
        run(&mut lock, "SELECT 1 FROM countersign.session FOR UPDATE").await;
        // First the end queues at the row, then steps that all began before it was done.
        let ending = {
            let store = store.clone();
            tokio::spawn(async move {
                if number == 0 {
                    assert_eq!(store.end_session(&key(1, number), &end()).await.unwrap(), SessionEnded::Now);
                } else {
                    store.raise_epoch(&user_id(1), &raise(None)).await.unwrap();
                }
            })
        };
        until("the end waits", async || waiting(&mut database.connect().await).await == 1).await;
        let mut steps = JoinSet::new();
        for _ in 0..4 {
            let store = store.clone();
            steps.spawn(async move { store.advance(&key(1, number), &advance(0)).await.unwrap() });
        }
        until("the steps wait", async || waiting(&mut database.connect().await).await == 5).await;
        lock.rollback().await.unwrap();
        ending.await.unwrap();
        assert_eq!(store.advance(&key(1, number), &advance(0)).await.unwrap(), None, "after the end");
        assert!(steps.join_all().await.iter().all(Option::is_none), "queued behind the end");
        let found = store.session(&key(1, number)).await.unwrap().unwrap();
        assert!(found.session.ended.is_some() && found.session.generation == Generation::FIRST);
    }
    assert_eq!(waiting(&mut watcher).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_waited_for_a_step_ends_what_the_step_has_left() {
    let Some(database) = Database::fresh().await else { return };
    let store = Arc::new(database.open().await);
    store.insert_session(&session(1, 1)).await.unwrap();
    let mut blocker = database.connect().await;
    let mut step = blocker.begin().await.unwrap();
    run(&mut step, "UPDATE countersign.session SET generation = 1, issued_at = issued_at + 1").await;
    let ending = {
        let store = store.clone();
        tokio::spawn(async move { store.end_session(&key(1, 1), &end()).await.unwrap() })
    };
    until("the end waits", async || waiting(&mut database.connect().await).await == 1).await;
    step.commit().await.unwrap();
    assert_eq!(ending.await.unwrap(), SessionEnded::Now);
    let found = store.session(&key(1, 1)).await.unwrap().unwrap();
    assert!(found.log.ended && found.session.ended.is_some());
    assert_eq!(found.session.generation, Generation::new(1));
    assert_eq!(store.advance(&key(1, 1), &advance(1)).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_was_being_inserted_while_the_epoch_was_raised_is_taken_back() {
    let Some(database) = Database::fresh().await else { return };
    let store = Arc::new(database.open().await);
    // The login waits for somebody who inserts the same key, with the log before its eyes as it is now.
    let mut blocker = database.connect().await;
    let mut same = blocker.begin().await.unwrap();
    let copy = format!(
        "INSERT INTO countersign.session (user_id, id, epoch, generation, issued_at, heals, healed_run, seed, \
         created_at, last_seen_at, idle_until, absolute_until) \
         VALUES ('{}', '{}', 0, 0, 0, 0, 0, '', 0, 0, 0, 0)",
        user_id(1),
        session_id(1)
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(copy)).execute(&mut *same).await.unwrap();
    let login = {
        let store = store.clone();
        tokio::spawn(async move { store.insert_session(&session(1, 1)).await.unwrap() })
    };
    until("the login waits", async || waiting(&mut database.connect().await).await == 1).await;
    store.raise_epoch(&user_id(1), &raise(None)).await.unwrap();
    same.rollback().await.unwrap();
    assert_eq!(login.await.unwrap(), SessionInserted::EpochRaised);
    assert_eq!(store.session(&key(1, 1)).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_parallel_ends_one_wins_although_they_waited_for_each_other() {
    let Some(database) = Database::fresh().await else { return };
    let store = Arc::new(database.open().await);
    store.insert_session(&session(1, 1)).await.unwrap();
    let mut blocker = database.connect().await;
    let mut lock = blocker.begin().await.unwrap();
    run(&mut lock, "SELECT 1 FROM countersign.session FOR UPDATE").await;
    let mut ends = JoinSet::new();
    for _ in 0..5 {
        let store = store.clone();
        ends.spawn(async move { store.end_session(&key(1, 1), &end()).await.unwrap() });
    }
    until("all wait", async || waiting(&mut database.connect().await).await == 5).await;
    lock.rollback().await.unwrap();
    let ends = ends.join_all().await;
    assert_eq!(ends.iter().filter(|ended| **ended == SessionEnded::Now).count(), 1, "{ends:?}");
    assert_eq!(ends.iter().filter(|ended| **ended == SessionEnded::Before).count(), 4, "{ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_was_there_first_ends_nothing_anew() {
    let Some(database) = Database::fresh().await else { return };
    let store = database.open().await;
    store.insert_session(&session(1, 1)).await.unwrap();
    let target = Target::Session { user_id: user_id(1), id: session_id(1) };
    let entry = Entry { target, until: NOW + seconds(50), at: NOW + seconds(5) };
    store.insert_entry(&entry).await.unwrap();
    assert_eq!(store.advance(&key(1, 1), &advance(0)).await.unwrap(), None);
    assert_eq!(store.end_session(&key(1, 1), &end()).await.unwrap(), SessionEnded::Before);
    assert_eq!(store.entries(Timestamp::MIN, None, 10).await.unwrap(), [entry], "the entry stays as it was");
    let found = store.session(&key(1, 1)).await.unwrap().unwrap();
    assert_eq!(
        found.session.ended.map(|ended| ended.reason),
        Some(EndReason::LoggedOut),
        "the row is marked"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_undid_for_others_is_done_again() {
    let Some(database) = Database::fresh().await else { return };
    let store = database.open().await;
    let mut other = database.connect().await;
    // The first three inserts fail, as in a deadlock and as on a server with stricter isolation.
    run(
        &mut other,
        "CREATE SEQUENCE tries;
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            CASE nextval('tries')
                WHEN 1, 3 THEN RAISE EXCEPTION 'could not serialize' USING ERRCODE = '40001';
                WHEN 2 THEN RAISE EXCEPTION 'deadlock' USING ERRCODE = '40P01';
                ELSE RETURN NEW;
            END CASE;
        END $$;
        CREATE TRIGGER fail BEFORE INSERT ON countersign.account FOR EACH ROW EXECUTE FUNCTION fail();
        CREATE TRIGGER fail BEFORE INSERT ON countersign.session FOR EACH ROW EXECUTE FUNCTION fail();",
    )
    .await;
    let ada = user(1, "ada@example.org", Some("ada"));
    assert_eq!(store.insert_user(&ada).await.unwrap(), UserInserted::Yes, "a transaction");
    run(&mut other, "ALTER SEQUENCE tries RESTART").await;
    assert_eq!(store.insert_session(&session(1, 1)).await.unwrap(), SessionInserted::Yes, "a statement");
    assert_eq!(count(&mut other, "SELECT count(*) FROM countersign.account_name").await, 2);
    run(&mut other, "ALTER SEQUENCE tries RESTART MAXVALUE 3 CYCLE").await;
    assert!(store.insert_session(&session(1, 2)).await.is_err(), "not for ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_touches_many_sessions_takes_them_in_the_same_order() {
    let Some(database) = Database::fresh().await else { return };
    let store = Arc::new(database.open().await);
    let mut blocker = database.connect().await;
    // So many others that each row is looked up by its key, in the order in which it was asked for.
    run(
        &mut blocker,
        "INSERT INTO countersign.session (user_id, id, epoch, generation, issued_at, heals, healed_run, seed,
            created_at, last_seen_at, idle_until, absolute_until)
        SELECT 'other ' || number, 'x', 0, 0, 0, 0, 0, '', 0, 0, 0, 0 FROM generate_series(1, 50000) AS number;
        ANALYZE countersign.session",
    )
    .await;
    for user in 0..10 {
        for number in 0..10 {
            store.insert_session(&session(user, number)).await.unwrap();
        }
        // All are held up at the first session that they want, and set free together.
        let mut lock = blocker.begin().await.unwrap();
        run(&mut lock, "SELECT 1 FROM countersign.session WHERE id <> 'x' FOR UPDATE").await;
        let mut work = JoinSet::new();
        for caller in 0..4 {
            let store = store.clone();
            let mut numbers: Vec<_> = (0..10).collect();
            if caller % 2 == 0 {
                numbers.reverse();
            }
            work.spawn(async move {
                let seen: Vec<_> = numbers
                    .into_iter()
                    .map(|number| Acknowledgement {
                        user_id: user_id(user),
                        session_id: session_id(number),
                        generation: Generation::FIRST,
                    })
                    .collect();
                store.acknowledge(&seen, NOW).await.unwrap();
            });
        }
        let ending = store.clone();
        work.spawn(async move {
            ending.raise_epoch(&user_id(user), &raise(None)).await.unwrap();
        });
        until("all wait", async || waiting(&mut database.connect().await).await == 5).await;
        lock.rollback().await.unwrap();
        work.join_all().await;
        assert_eq!(store.live_sessions(&user_id(user), NOW, SessionPage::first(1_000)).await.unwrap(), []);
    }
    // A connection that ends tells what it has counted.
    Arc::into_inner(store).unwrap().close().await;
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(count(&mut database.connect().await, deadlocks).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_named_twice_in_a_call_are_revoked_once() {
    let Some(database) = Database::fresh().await else { return };
    let store = database.open().await;
    let ids = vec![token_id(1), token_id(2), token_id(1)];
    let tokens = TokenRevocation { ids, at: NOW, until: NOW + seconds(900), limit: 2 };
    assert_eq!(store.revoke_tokens(&user_id(1), &tokens).await.unwrap(), TokensRevoked::Yes);
    let expected = [token_entry(1, 1, NOW), token_entry(1, 2, NOW)];
    assert_eq!(store.entries(Timestamp::MIN, None, 10).await.unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_attempt_writes_nothing() {
    let Some(database) = Database::fresh().await else { return };
    let store = database.open().await;
    let mut other = database.connect().await;
    let policy = ThrottlePolicy::default();
    for _ in 0..policy.limit {
        store.begin_attempt("ada", NOW, &policy).await.unwrap().unwrap();
        store.finish_attempt("ada", Outcome::Failed, NOW, &policy).await.unwrap();
    }
    store.begin_attempt("ada", NOW, &policy).await.unwrap().unwrap_err();
    // With its row locked, anything that wrote would wait.
    let mut lock = other.begin().await.unwrap();
    run(&mut lock, "SELECT 1 FROM countersign.throttle FOR UPDATE").await;
    for _ in 0..50 {
        store.begin_attempt("ada", NOW, &policy).await.unwrap().unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_088_entries_that_stay_do_not_keep_others_from_being_purged() {
    let Some(database) = Database::fresh().await else { return };
    let store = database.open().await;
    let mut other = database.connect().await;
    // 5 000 users whose highest entry stays, and last, by `until`, one whose lower entries go.
    run(
        &mut other,
        "INSERT INTO countersign.revocation (user_id, kind, ref, n, until, at)
        SELECT 'user ' || number, 'user', '', 1, number, 0 FROM generate_series(1, 5000) AS number;
        INSERT INTO countersign.revocation (user_id, kind, ref, n, until, at)
        SELECT 'zoe', 'user', '', number, 10000 + number, 0 FROM generate_series(1, 2500) AS number",
    )
    .await;
    let mut purged = Vec::new();
    for _ in 0..4 {
        purged.push(store.purge_entries(NOW, 1_000).await.unwrap());
    }
    assert_eq!(purged, [1_000, 1_000, 499, 0]);
    assert_eq!(count(&mut other, "SELECT count(*) FROM countersign.revocation").await, 5_001);
    assert_eq!(store.epoch(&countersign_jwt::UserId::new("zoe").unwrap()).await.unwrap(), Epoch::new(2_500));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_open_was_not_ended_before_although_the_first_read_lags() {
    let Some(database) = Database::fresh().await else { return };
    let store = database.open().await;
    store.insert_session(&session(1, 1)).await.unwrap();
    let mut connection = database.connect().await;
    // Who looks for the row first does not find it.
    run(&mut connection, "ALTER TABLE countersign.session RENAME TO session_elsewhere").await;
    run(&mut connection, "CREATE SEQUENCE countersign.reads").await;
    run(
        &mut connection,
        "CREATE VIEW countersign.session AS
            SELECT * FROM countersign.session_elsewhere WHERE nextval('countersign.reads') > 1",
    )
    .await;
    assert_eq!(store.end_session(&key(1, 1), &end()).await.unwrap(), SessionEnded::Now);
    const ENTRIES: &str = "SELECT count(*) FROM countersign.revocation WHERE kind = 'session'";
    assert_eq!(count(&mut connection, ENTRIES).await, 1, "the end is in the log");
    assert_eq!(store.end_session(&key(1, 1), &end()).await.unwrap(), SessionEnded::Before);
}
