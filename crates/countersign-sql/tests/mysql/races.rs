//! What happens when steps, logins and ends meet, with each held up at the very point where it could go wrong.

use std::sync::Arc;

use countersign_core::model::{Acknowledgement, EndReason, Entry, Heal, Outcome, Target, ThrottlePolicy};
use countersign_core::store::*;
use countersign_jwt::{Epoch, Generation, Timestamp, UserId};
use sqlx::Connection;
use tokio::task::JoinSet;

use crate::support::*;

const LOCK: &str = "SELECT 1 FROM countersign_session FOR UPDATE";

#[tokio::test(flavor = "multi_thread")]
async fn no_step_that_waited_for_an_end_outlives_it() {
    let Some(database) = Database::fresh().await else { return };
    let store = database.open_patient().await;
    let (mut blocker, mut watcher) = (database.connect().await, database.connect().await);
    for number in 0..2 {
        store.insert_session(&session(1, number)).await.unwrap();
        let mut lock = blocker.begin().await.unwrap();
        run(&mut lock, LOCK).await;
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
        until("the end waits", async || waiting(&mut watcher).await == 1).await;
        let mut steps = JoinSet::new();
        for _ in 0..4 {
            let store = store.clone();
            steps.spawn(async move { store.advance(&key(1, number), &advance(0)).await.unwrap() });
        }
        until("the steps wait", async || waiting(&mut watcher).await == 5).await;
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
async fn a_step_that_waits_sees_an_entry_that_comes_meanwhile_without_a_mark() {
    let Some(database) = Database::fresh().await else { return };
    let store = database.open_patient().await;
    let (mut blocker, mut watcher) = (database.connect().await, database.connect().await);
    for number in 0..4 {
        store.insert_session(&session(1, number)).await.unwrap();
        let mut lock = blocker.begin().await.unwrap();
        run(&mut lock, LOCK).await;
        let step = {
            let store = store.clone();
            tokio::spawn(async move {
                if number % 2 == 0 {
                    store.advance(&key(1, number), &advance(0)).await.unwrap().is_some()
                } else {
                    let heal = Heal {
                        generation: Generation::FIRST,
                        issued_at: NOW,
                        heals: 0,
                        now: NOW + seconds(60),
                        idle_until: NOW + seconds(90),
                    };
                    store.heal(&key(1, number), &heal).await.unwrap()
                }
            })
        };
        until("the step waits", async || waiting(&mut watcher).await == 1).await;
        let user_id = user_id(1);
        let target = if number < 2 {
            Target::Session { user_id, id: session_id(number) }
        } else {
            Target::User { user_id, epoch: Epoch::new(u64::try_from(number).unwrap()), except: None }
        };
        store.insert_entry(&entry(target, NOW)).await.unwrap();
        lock.rollback().await.unwrap();
        assert!(!step.await.unwrap(), "{number}: the entry was there before the row was the step's");
        // The next one's login needs the epoch as it was.
        run(&mut watcher, "DELETE FROM countersign_revocation WHERE kind = 'user'").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_waited_for_a_step_ends_what_the_step_has_left() {
    let Some(database) = Database::fresh().await else { return };
    let store = database.open_patient().await;
    store.insert_session(&session(1, 1)).await.unwrap();
    let (mut blocker, mut watcher) = (database.connect().await, database.connect().await);
    let mut step = blocker.begin().await.unwrap();
    run(&mut step, "UPDATE countersign_session SET generation = 1, issued_at = issued_at + 1").await;
    let ending = {
        let store = store.clone();
        tokio::spawn(async move { store.end_session(&key(1, 1), &end()).await.unwrap() })
    };
    until("the end waits", async || waiting(&mut watcher).await == 1).await;
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
    let store = database.open_patient().await;
    // The login waits for somebody who inserts the same key.
    let (mut blocker, mut watcher) = (database.connect().await, database.connect().await);
    let mut same = blocker.begin().await.unwrap();
    let copy = format!(
        "INSERT INTO countersign_session (user_id, id, epoch, generation, issued_at, heals, healed_run, seed, \
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
    until("the login waits", async || waiting(&mut watcher).await == 1).await;
    store.raise_epoch(&user_id(1), &raise(None)).await.unwrap();
    same.rollback().await.unwrap();
    assert_eq!(login.await.unwrap(), SessionInserted::EpochRaised);
    assert_eq!(store.session(&key(1, 1)).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_committed_after_the_raise_has_looked_is_marked_all_the_same() {
    let Some(database) = Database::fresh().await else { return };
    let store = database.open_patient().await;
    store.insert_session(&session(1, 1)).await.unwrap();
    let (mut blocker, mut watcher) = (database.connect().await, database.connect().await);
    let mut lock = blocker.begin().await.unwrap();
    run(&mut lock, LOCK).await;
    let raising = {
        let store = store.clone();
        tokio::spawn(async move { store.raise_epoch(&user_id(1), &raise(None)).await.unwrap() })
    };
    until("the raise waits at the first row", async || waiting(&mut watcher).await == 1).await;
    // Before that row in the order of keys: the raise has passed it already.
    assert_eq!(store.insert_session(&session(1, 0)).await.unwrap(), SessionInserted::Yes);
    lock.rollback().await.unwrap();
    raising.await.unwrap();
    for number in 0..2 {
        let found = store.session(&key(1, number)).await.unwrap().unwrap();
        assert!(found.session.ended.is_some(), "{number} is marked");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_parallel_ends_one_wins_although_they_waited_for_each_other() {
    let Some(database) = Database::fresh().await else { return };
    let store = database.open_patient().await;
    store.insert_session(&session(1, 1)).await.unwrap();
    let (mut blocker, mut watcher) = (database.connect().await, database.connect().await);
    let mut lock = blocker.begin().await.unwrap();
    run(&mut lock, LOCK).await;
    let mut ends = JoinSet::new();
    for _ in 0..5 {
        let store = store.clone();
        ends.spawn(async move { store.end_session(&key(1, 1), &end()).await.unwrap() });
    }
    until("all wait", async || waiting(&mut watcher).await == 5).await;
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
    let reason = found.session.ended.map(|ended| ended.reason);
    assert_eq!(reason, Some(EndReason::LoggedOut), "the row is marked");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_undid_for_others_is_done_again() {
    let Some(database) = Database::fresh().await else { return };
    let store = database.open().await;
    let mut other = database.connect().await;
    // The first inserts fail, as in a deadlock, after waiting for long, and as in a cluster.
    run(&mut other, "CREATE TABLE tries (n INT) ENGINE = MyISAM").await;
    run(&mut other, "INSERT INTO tries VALUES (0)").await;
    let fail = "BEGIN
            UPDATE tries SET n = n + 1;
            CASE (SELECT n FROM tries)
                WHEN 1 THEN SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213;
                WHEN 2 THEN SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1205;
                WHEN 3 THEN SIGNAL SQLSTATE '40000' SET MYSQL_ERRNO = 3101;
                ELSE BEGIN END;
            END CASE;
        END";
    for table in ["account", "session"] {
        let trigger =
            format!("CREATE TRIGGER fail_{table} BEFORE INSERT ON countersign_{table} FOR EACH ROW {fail}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(trigger)).execute(&mut other).await.unwrap();
    }
    let ada = user(1, "ada@example.org");
    assert_eq!(store.insert_user(&ada).await.unwrap(), UserInserted::Yes, "a transaction");
    run(&mut other, "UPDATE tries SET n = 0").await;
    assert_eq!(store.insert_session(&session(1, 1)).await.unwrap(), SessionInserted::Yes, "a statement");
    assert_eq!(count(&mut other, "SELECT COUNT(*) FROM countersign_account_name").await, 1);
    run(&mut other, "UPDATE tries SET n = -1000").await;
    run(&mut other, "DROP TRIGGER fail_session").await;
    let always = "CREATE TRIGGER fail_session BEFORE INSERT ON countersign_session FOR EACH ROW
        SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213";
    run(&mut other, always).await;
    assert!(store.insert_session(&session(1, 2)).await.is_err(), "not for ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_and_notes_and_ends_of_many_sessions_never_block_each_other_for_good() {
    let Some(database) = Database::fresh().await else { return };
    let store = Arc::new(database.open().await);
    for number in 0..40 {
        store.insert_session(&session(1, number)).await.unwrap();
    }
    let mut work = JoinSet::new();
    for caller in 0..24_u128 {
        let store = store.clone();
        work.spawn(async move {
            for round in 0..10 {
                match caller % 4 {
                    0 => {
                        // In an order of its own.
                        let mut seen: Vec<_> = (0..40)
                            .map(|number| Acknowledgement {
                                user_id: user_id(1),
                                session_id: session_id((number * 7 + caller) % 40),
                                generation: Generation::FIRST,
                            })
                            .collect();
                        seen.rotate_left(round);
                        store.acknowledge(&seen, NOW).await.unwrap();
                    }
                    1 => {
                        store.raise_epoch(&user_id(1), &raise(Some(caller))).await.unwrap();
                    }
                    2 => {
                        store.end_session(&key(1, caller + round as u128), &end()).await.unwrap();
                    }
                    _ => {
                        store.advance(&key(1, caller), &advance(0)).await.unwrap();
                    }
                }
            }
        });
    }
    work.join_all().await;
    assert_eq!(store.epoch(&user_id(1)).await.unwrap(), Epoch::new(60));
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
    run(&mut lock, "SELECT 1 FROM countersign_throttle FOR UPDATE").await;
    for _ in 0..50 {
        store.begin_attempt("ada", NOW, &policy).await.unwrap().unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_is_an_error_and_never_cut() {
    let Some(database) = Database::fresh().await else { return };
    let store = database.open().await;
    let mut long = session(1, 1);
    long.device.user_agent = Some("x".repeat(1_025));
    assert!(store.insert_session(&long).await.is_err());
    assert_eq!(store.session(&key(1, 1)).await.unwrap(), None);
    store.insert_session(&session(1, 1)).await.unwrap();
    let mut step = advance(0);
    step.device = long.device;
    assert!(store.advance(&key(1, 1), &step).await.is_err());
    assert_eq!(store.session(&key(1, 1)).await.unwrap().unwrap().session, session(1, 1));
    let policy = ThrottlePolicy::default();
    assert!(store.begin_attempt(&"x".repeat(513), NOW, &policy).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_088_entries_that_stay_do_not_keep_others_from_being_purged() {
    let Some(database) = Database::fresh().await else { return };
    let store = database.open().await;
    let mut other = database.connect().await;
    // 5 000 users whose highest entry stays, and last, by `until`, one whose lower entries go.
    let mut insert = async |rows: Vec<String>| {
        let insert = "INSERT INTO countersign_revocation (user_id, kind, ref, n, until, at) VALUES ";
        let insert = format!("{insert}{}", rows.join(", "));
        sqlx::raw_sql(sqlx::AssertSqlSafe(insert)).execute(&mut other).await.unwrap();
    };
    insert((1..=5_000).map(|n| format!("('user {n}', 'user', '', 1, {n}, 0)")).collect()).await;
    insert((1..=2_500).map(|n| format!("('zoe', 'user', '', {n}, {}, 0)", 10_000 + n)).collect()).await;
    let mut purged = Vec::new();
    for _ in 0..4 {
        purged.push(store.purge_entries(NOW, 1_000).await.unwrap());
    }
    assert_eq!(purged, [1_000, 1_000, 499, 0]);
    assert_eq!(count(&mut other, "SELECT COUNT(*) FROM countersign_revocation").await, 5_001);
    assert_eq!(store.epoch(&UserId::new("zoe").unwrap()).await.unwrap(), Epoch::new(2_500));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_open_was_not_ended_before_although_the_first_read_lags() {
    let Some(database) = Database::fresh().await else { return };
    let store = database.open().await;
    store.insert_session(&session(1, 1)).await.unwrap();
    let mut connection = database.connect().await;
    if count(&mut connection, "SELECT VERSION() LIKE '%MariaDB%'").await == 0 {
        // The lag below takes a sequence, which MySQL does not have.
        return;
    }
    // As at a node of a cluster that has not been told of the login yet: who looks for the row first does not find it.
    run(&mut connection, "RENAME TABLE countersign_session TO countersign_session_elsewhere").await;
    run(&mut connection, "CREATE SEQUENCE lag").await;
    run(
        &mut connection,
        "CREATE VIEW countersign_session AS SELECT * FROM countersign_session_elsewhere WHERE NEXTVAL(lag) > 1",
    )
    .await;
    assert_eq!(store.end_session(&key(1, 1), &end()).await.unwrap(), SessionEnded::Now);
    const ENTRIES: &str = "SELECT COUNT(*) FROM countersign_revocation WHERE kind = 'session'";
    assert_eq!(count(&mut connection, ENTRIES).await, 1, "the end is in the log");
    assert_eq!(store.end_session(&key(1, 1), &end()).await.unwrap(), SessionEnded::Before);
}
