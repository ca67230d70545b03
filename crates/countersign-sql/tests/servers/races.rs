//! What happens when steps, logins and ends meet, with each held up at the very point where it could go wrong.

use countersign_core::model::{
    Acknowledgement, EndReason, Entry, OneTimeSecret, OutboxMail, OutboxState, Outcome, Purpose,
    SecretDigest, Target, ThrottlePolicy, Tried, User,
};
use countersign_core::store::*;
use countersign_jwt::{Epoch, Generation, Timestamp, UserId};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::*;

pub(crate) async fn no_step_that_waited_for_an_end_outlives_it<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let store = database.open().await;
    let (mut blocker, mut watcher) = (database.program().await, database.program().await);
    for number in 0..2 {
        store.insert_session(&session(1, number)).await.unwrap();
        blocker.lock("session").await;
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
        watcher.until_waiting("the end waits", 1).await;
        let mut steps = JoinSet::new();
        for _ in 0..4 {
            let store = store.clone();
            steps.spawn(async move { store.advance(&key(1, number), &advance(0)).await.unwrap() });
        }
        watcher.until_waiting("the steps wait", 5).await;
        blocker.rollback().await;
        ending.await.unwrap();
        assert_eq!(store.advance(&key(1, number), &advance(0)).await.unwrap(), None, "after the end");
        assert!(steps.join_all().await.iter().all(Option::is_none), "queued behind the end");
        let found = store.session(&key(1, number)).await.unwrap().unwrap();
        assert!(found.session.ended.is_some() && found.session.generation == Generation::FIRST);
    }
    watcher.until_waiting("nobody waits any more", 0).await;
}

pub(crate) async fn an_end_that_waited_for_a_step_ends_what_the_step_has_left<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let store = database.open().await;
    store.insert_session(&session(1, 1)).await.unwrap();
    let (mut blocker, mut watcher) = (database.program().await, database.program().await);
    blocker.run("BEGIN").await;
    let step = format!("UPDATE {} SET generation = 1, issued_at = issued_at + 1", S::table("session"));
    blocker.run(&step).await;
    let ending = {
        let store = store.clone();
        tokio::spawn(async move { store.end_session(&key(1, 1), &end()).await.unwrap() })
    };
    watcher.until_waiting("the end waits", 1).await;
    blocker.run("COMMIT").await;
    assert_eq!(ending.await.unwrap(), SessionEnded::Now);
    let found = store.session(&key(1, 1)).await.unwrap().unwrap();
    assert!(found.log.ended && found.session.ended.is_some());
    assert_eq!(found.session.generation, Generation::new(1));
    assert_eq!(store.advance(&key(1, 1), &advance(1)).await.unwrap(), None);
}

pub(crate) async fn a_login_that_was_being_inserted_while_the_epoch_was_raised_is_taken_back<
    S: ServerUnderTest,
>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let store = database.open().await;
    // The login waits for somebody who inserts the same key.
    let (mut blocker, mut watcher) = (database.program().await, database.program().await);
    let copy = format!(
        "INSERT INTO {} (user_id, id, epoch, generation, issued_at, heals, healed_run, seed, \
         created_at, last_seen_at, idle_until, absolute_until) \
         VALUES ('{}', '{}', 0, 0, 0, 0, 0, '', 0, 0, 0, 0)",
        S::table("session"),
        user_id(1),
        session_id(1)
    );
    blocker.run("BEGIN").await;
    blocker.run(&copy).await;
    let login = {
        let store = store.clone();
        tokio::spawn(async move { store.insert_session(&session(1, 1)).await.unwrap() })
    };
    watcher.until_waiting("the login waits", 1).await;
    store.raise_epoch(&user_id(1), &raise(None)).await.unwrap();
    blocker.rollback().await;
    assert_eq!(login.await.unwrap(), SessionInserted::EpochRaised);
    assert_eq!(store.session(&key(1, 1)).await.unwrap(), None);
}

pub(crate) async fn of_parallel_ends_one_wins_although_they_waited_for_each_other<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let store = database.open().await;
    store.insert_session(&session(1, 1)).await.unwrap();
    let (mut blocker, mut watcher) = (database.program().await, database.program().await);
    blocker.lock("session").await;
    let mut ends = JoinSet::new();
    for _ in 0..5 {
        let store = store.clone();
        ends.spawn(async move { store.end_session(&key(1, 1), &end()).await.unwrap() });
    }
    watcher.until_waiting("all wait", 5).await;
    blocker.rollback().await;
    let ends = ends.join_all().await;
    assert_eq!(ends.iter().filter(|ended| **ended == SessionEnded::Now).count(), 1, "{ends:?}");
    assert_eq!(ends.iter().filter(|ended| **ended == SessionEnded::Before).count(), 4, "{ends:?}");
}

pub(crate) async fn an_entry_that_was_there_first_ends_nothing_anew<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
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

pub(crate) async fn what_the_server_undid_for_others_is_done_again<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let store = database.open().await;
    let mut other = database.program().await;
    S::fail_inserts(&mut other).await;
    let ada = user(1, "ada@example.org", Some("ada"));
    assert_eq!(store.insert_user(&ada).await.unwrap(), UserInserted::Yes, "a transaction");
    S::fail_inserts_again(&mut other).await;
    assert_eq!(store.insert_session(&session(1, 1)).await.unwrap(), SessionInserted::Yes, "a statement");
    assert_eq!(other.rows("account_name").await, 2);
    S::fail_inserts_for_ever(&mut other).await;
    assert!(store.insert_session(&session(1, 2)).await.is_err(), "not for ever");
}

pub(crate) async fn steps_and_notes_and_ends_of_many_sessions_never_block_each_other_for_good<
    S: ServerUnderTest,
>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let store = database.open().await;
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

pub(crate) async fn tokens_named_twice_in_a_call_are_revoked_once<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let store = database.open().await;
    let ids = vec![token_id(1), token_id(2), token_id(1)];
    let tokens = TokenRevocation { ids, at: NOW, until: NOW + seconds(900), limit: 2 };
    assert_eq!(store.revoke_tokens(&user_id(1), &tokens).await.unwrap(), TokensRevoked::Yes);
    let expected = [token_entry(1, 1, NOW), token_entry(1, 2, NOW)];
    assert_eq!(store.entries(Timestamp::MIN, None, 10).await.unwrap(), expected);
}

pub(crate) async fn a_refused_attempt_writes_nothing<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let store = database.open().await;
    let mut other = database.program().await;
    let policy = ThrottlePolicy::default();
    for _ in 0..policy.limit {
        store.begin_attempt("ada", NOW, &policy).await.unwrap().unwrap();
        store.finish_attempt("ada", Outcome::Failed, NOW, &policy).await.unwrap();
    }
    store.begin_attempt("ada", NOW, &policy).await.unwrap().unwrap_err();
    // With its row locked, anything that wrote would wait.
    other.lock("throttle").await;
    for _ in 0..50 {
        store.begin_attempt("ada", NOW, &policy).await.unwrap().unwrap_err();
    }
}

pub(crate) async fn sec_088_entries_that_stay_do_not_keep_others_from_being_purged<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let store = database.open().await;
    let mut other = database.program().await;
    // 5 000 users whose highest entry stays, and last, by `until`, one whose lower entries go.
    let stay = (1..=5_000).map(|n| format!("('user {n}', 'user', '', 1, {n}, 0)"));
    let go = (1..=2_500).map(|n| format!("('zoe', 'user', '', {n}, {}, 0)", 10_000 + n));
    let rows: Vec<_> = stay.chain(go).collect();
    let insert = format!("INSERT INTO {} (user_id, kind, ref, n, until, at) VALUES ", S::table("revocation"));
    other.run(&format!("{insert}{}", rows.join(", "))).await;
    let mut purged = Vec::new();
    for _ in 0..4 {
        purged.push(store.purge_entries(NOW, 1_000).await.unwrap());
    }
    assert_eq!(purged, [1_000, 1_000, 499, 0]);
    assert_eq!(other.rows("revocation").await, 5_001);
    assert_eq!(store.epoch(&UserId::new("zoe").unwrap()).await.unwrap(), Epoch::new(2_500));
}

pub(crate) async fn a_session_that_is_open_was_not_ended_before_although_the_first_read_lags<
    S: ServerUnderTest,
>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let store = database.open().await;
    store.insert_session(&session(1, 1)).await.unwrap();
    let mut other = database.program().await;
    // As at a node of a cluster that has not been told of the login yet: who looks for the row first does not find it.
    if !S::hide_sessions_once(&mut other).await {
        return;
    }
    assert_eq!(store.end_session(&key(1, 1), &end()).await.unwrap(), SessionEnded::Now);
    let entries = format!("SELECT count(*) FROM {} WHERE kind = 'session'", S::table("revocation"));
    assert_eq!(other.count(&entries).await, 1, "the end is in the log");
    assert_eq!(store.end_session(&key(1, 1), &end()).await.unwrap(), SessionEnded::Before);
}

pub(crate) async fn sec_138_of_those_who_waited_to_try_a_secret_one_finds_it<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let store = database.open().await;
    let secret = OneTimeSecret {
        user_id: user_id(1),
        purpose: Purpose::ResetPassword,
        digests: vec![SecretDigest::of("right")],
        bound_to: String::new(),
        tries_left: 5,
        created_at: NOW,
        expires_at: NOW + seconds(600),
    };
    store.put_secret(&secret).await.unwrap();
    let (mut blocker, mut watcher) = (database.program().await, database.program().await);
    blocker.lock("one_time_secret").await;
    let mut tries = JoinSet::new();
    for _ in 0..5 {
        let store = store.clone();
        tries.spawn(async move {
            let digest = SecretDigest::of("right");
            let tried = store.try_secret(&user_id(1), Purpose::ResetPassword, &digest, NOW).await;
            tried.unwrap().map(|(tried, _)| tried)
        });
    }
    watcher.until_waiting("all wait", 5).await;
    blocker.rollback().await;
    let tried = tries.join_all().await;
    assert_eq!(tried.iter().filter(|tried| **tried == Some(Tried::Right)).count(), 1, "{tried:?}");
    assert_eq!(tried.iter().filter(|tried| tried.is_none()).count(), 4, "{tried:?}");
}

pub(crate) async fn a_mail_that_another_node_is_claiming_is_left_to_it<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let store = database.open().await;
    for number in 1..=3 {
        let mail = OutboxMail {
            id: Uuid::from_u128(number),
            to: user(1, "ada@example.org", None).email.unwrap(),
            kind: "reset_password".to_owned(),
            user_id: None,
            sealed: Vec::new(),
            created_at: NOW,
            useless_after: None,
            attempts: 0,
            state: OutboxState::Waiting { next_at: NOW },
            last_error: None,
        };
        assert!(store.enqueue_mail(&mail).await.unwrap());
    }
    let mut blocker = database.program().await;
    blocker.run("BEGIN").await;
    let two = format!("SELECT 1 FROM {} WHERE id < '{}' FOR UPDATE", S::table("outbox"), Uuid::from_u128(3));
    blocker.run(&two).await;
    let claim = async || {
        let claimed = store.claim_mail(NOW, NOW + seconds(60), 3).await.unwrap();
        claimed.iter().map(|mail| mail.id.as_u128()).collect::<Vec<_>>()
    };
    assert_eq!(claim().await, [3], "nobody waits");
    blocker.rollback().await;
    assert_eq!(claim().await, [1, 2], "that node did not claim them after all");
}

pub(crate) async fn of_users_who_want_each_others_names_none_waits_for_good<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let store = database.open().await;
    let users = [user(1, "ada@example.org", Some("ada")), user(2, "bob@example.org", Some("bob"))];
    for user in &users {
        assert_eq!(store.insert_user(user).await.unwrap(), UserInserted::Yes);
    }
    for _ in 0..20 {
        let mut changes = JoinSet::new();
        for caller in 0..8 {
            let (store, [ada, bob]) = (store.clone(), users.clone());
            let (old, other) = if caller % 2 == 0 { (ada, bob) } else { (bob, ada) };
            let new = User { email: other.email, username: other.username, ..old.clone() };
            changes.spawn(async move { store.replace_user(&old, &new).await.unwrap() });
        }
        let answers = changes.join_all().await;
        assert!(answers.iter().all(|answer| *answer == UserReplaced::EmailTaken), "{answers:?}");
    }
}
