//! What is particular to SQLite: shared commits, locks, several programs on one file, restarts.
#![cfg(feature = "sqlite")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy takes only functions with #[test] for tests"
)]

mod support;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::model::{
    AdminKey, AdminScope, Advance, AdvanceCondition, Attempts, Device, EndReason, Ended, Entry, KeyPurpose,
    OneTimeSecret, Outcome, PasswordHash, Purpose, SecretDigest, StoredKey, Target, ThrottlePolicy,
};
use countersign_core::store::*;
use countersign_jwt::key::{Algorithm, KeyId};
use countersign_jwt::{Epoch, Generation, Timestamp, TokenId, UserId};
use countersign_sql::OpenError;
use countersign_sql::sqlite::{SqliteOptions, SqliteStore, migrate};
use sqlx::{Connection, SqliteConnection};
use support::*;
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

fn advance(from: u32) -> Advance {
    Advance {
        from: Generation::new(from),
        to: Generation::new(from + 1),
        guard: AdvanceCondition::Generation,
        now: NOW + seconds(60),
        idle_until: NOW + seconds(86_460),
        device: Device::default(),
    }
}

fn raise(except: Option<u128>) -> EpochRaise {
    EpochRaise {
        except: except.map(session_id),
        reason: EndReason::AllEnded,
        at: NOW,
        until: NOW + seconds(900),
    }
}

fn token_entry(user: u128, token: u128, until: Timestamp) -> Entry {
    let target = Target::Token { user_id: user_id(user), id: TokenId::new(Uuid::from_u128(token)) };
    Entry { target, until, at: NOW }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answered_write_is_seen_by_another_program() {
    let folder = Folder::new();
    let store = Arc::new(folder.open().await);
    let mut writes = JoinSet::new();
    for number in 0..50 {
        let (store, path) = (store.clone(), folder.database());
        writes.spawn(async move {
            let mut other = connect(&path).await;
            assert_eq!(store.insert_session(&session(1, number)).await.unwrap(), SessionInserted::Yes);
            let id = session_id(number).to_string();
            let found = sqlx::query("SELECT 1 FROM session WHERE id = ?1").bind(id);
            assert!(found.fetch_optional(&mut other).await.unwrap().is_some());
        });
    }
    writes.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_conflicts_leaves_the_others_of_its_commit_alone() {
    let folder = Folder::new();
    let store = folder.open().await;
    store.insert_session(&session(1, 0)).await.unwrap();
    store.insert_user(&user(1, "ada@example.com", None)).await.unwrap();

    let mut other = folder.other_program().await;
    let refuse =
        "CREATE TRIGGER refuse BEFORE INSERT ON account_name BEGIN SELECT RAISE(ABORT, 'refused'); END";
    sqlx::raw_sql(refuse).execute(&mut other).await.unwrap();
    // While another program writes, all of these pile up, and go into one commit or two.
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let store = Arc::new(store);
    let mut writes = JoinSet::new();
    for number in 0..30_u128 {
        let store = store.clone();
        writes.spawn(async move {
            match number % 3 {
                // The id is taken, which is no error.
                0 => {
                    let inserted = store.insert_session(&session(1, 0)).await.unwrap();
                    assert_eq!(inserted, SessionInserted::Taken);
                }
                // The account is inserted and its name is refused: an error of this write's own, half-way.
                1 => {
                    let refused = user(number + 1, &format!("{number}@example.com"), None);
                    assert!(store.insert_user(&refused).await.is_err());
                }
                _ => {
                    let inserted = store.insert_session(&session(1, number)).await.unwrap();
                    assert_eq!(inserted, SessionInserted::Yes);
                }
            }
        });
    }
    tokio::task::yield_now().await;
    lock.rollback().await.unwrap();
    writes.join_all().await;
    assert_eq!(count(&mut other, "SELECT count(*) FROM session").await, 11);
    assert_eq!(count(&mut other, "SELECT count(*) FROM account").await, 1);
    assert_eq!(count(&mut other, "SELECT count(*) FROM account_name").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_087_a_held_lock_fails_writes_by_the_deadline_and_nothing_is_half_done() {
    let folder = Folder::new();
    let options = folder.options().deadline(Duration::from_millis(200));
    let store = Arc::new(SqliteStore::open(&options).await.unwrap());
    store.insert_session(&session(1, 0)).await.unwrap();

    let mut other = folder.other_program().await;
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let mut writes = JoinSet::new();
    for number in 1..40 {
        let store = store.clone();
        writes.spawn(async move {
            match number % 2 {
                0 => store.insert_session(&session(1, number)).await.map(drop),
                _ => store.insert_user(&user(number, &format!("{number}@example.com"), None)).await.map(drop),
            }
        });
    }
    let answers = timeout(seconds(10), writes.join_all()).await.unwrap();
    for answer in answers {
        assert_eq!(answer.unwrap_err().store(), "sqlite");
    }
    // Readers do not need the lock.
    assert!(store.session(&key(1, 0)).await.unwrap().is_some());

    lock.rollback().await.unwrap();
    assert_eq!(store.insert_session(&session(1, 100)).await.unwrap(), SessionInserted::Yes);
    assert_eq!(count(&mut other, "SELECT count(*) FROM session").await, 2);
    assert_eq!(count(&mut other, "SELECT count(*) FROM account").await, 0);
    assert_eq!(count(&mut other, "SELECT count(*) FROM account_name").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_undoes_nothing() {
    let folder = Folder::new();
    let store = folder.open().await;
    let mut other = folder.other_program().await;
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    // Polled once, it has handed the write in.
    let of_gone_caller = session(1, 1);
    let gone = store.insert_session(&of_gone_caller);
    assert!(timeout(Duration::ZERO, gone).await.is_err());
    lock.rollback().await.unwrap();
    store.insert_session(&session(1, 2)).await.unwrap();
    assert_eq!(count(&mut other, "SELECT count(*) FROM session").await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_092_of_parallel_advances_through_two_stores_one_succeeds() {
    let folder = Folder::new();
    let stores = [Arc::new(folder.open().await), Arc::new(folder.open().await)];
    stores[0].insert_session(&session(1, 1)).await.unwrap();
    for round in 0..20 {
        let mut racers = JoinSet::new();
        for racer in 0..64 {
            let store = stores[racer % 2].clone();
            racers.spawn(async move { store.advance(&key(1, 1), &advance(round)).await.unwrap() });
        }
        let winners = racers.join_all().await.into_iter().flatten().count();
        assert_eq!(winners, 1, "round {round}");
    }
    let found = stores[1].session(&key(1, 1)).await.unwrap().unwrap();
    assert_eq!(found.session.generation, Generation::new(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_raises_through_two_stores_raise_by_one_each() {
    let folder = Folder::new();
    let stores = [Arc::new(folder.open().await), Arc::new(folder.open().await)];
    let mut raises = JoinSet::new();
    for number in 0..40 {
        let store = stores[number % 2].clone();
        raises.spawn(async move { store.raise_epoch(&user_id(1), &raise(None)).await.unwrap().key().number });
    }
    let mut epochs = raises.join_all().await;
    epochs.sort_unstable();
    assert_eq!(epochs, (1..=40).collect::<Vec<_>>());
    assert_eq!(stores[0].epoch(&user_id(1)).await.unwrap(), Epoch::new(40));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_a_restart() {
    let folder = Folder::new();
    let ada = user(1, "Ada@example.com", Some("Ada"));
    let mut ended = session(1, 2);
    ended.generation = Generation::new(u32::MAX);
    (ended.heals, ended.healed_run) = (u8::MAX, u8::MAX);
    ended.acknowledged_at = Some(Timestamp::MAX);
    ended.ended = Some(Ended { at: NOW, reason: EndReason::Replayed });
    let stored_key = StoredKey {
        purpose: KeyPurpose::Refresh,
        number: 7,
        key_id: KeyId::new("k").unwrap(),
        algorithm: Algorithm::Hs256,
        sealed: vec![0, 1, 255],
        created_at: NOW,
        active_at: NOW + Duration::from_secs(5),
        removed_at: None,
    };
    let policy = ThrottlePolicy::default();
    let id = Uuid::from_u128(9);
    for start in 0..3 {
        let store = folder.open().await;
        if start == 0 {
            assert!(!store.has_keys().await.unwrap());
            store.insert_user(&ada).await.unwrap();
            store.insert_session(&session(1, 1)).await.unwrap();
            store.insert_session(&ended).await.unwrap();
            store.insert_entry(&token_entry(1, 5, NOW)).await.unwrap();
            assert!(store.insert_key(&stored_key).await.unwrap());
            assert_eq!(store.store_id(id).await.unwrap(), id);
            store.begin_attempt("ada", NOW, &policy).await.unwrap().unwrap();
            store.finish_attempt("ada", Outcome::Failed, NOW, &policy).await.unwrap();
        }
        assert!(!store.insert_key(&stored_key).await.unwrap());
        assert!(store.has_keys().await.unwrap());
        assert_eq!(store.keys().await.unwrap(), std::slice::from_ref(&stored_key));
        assert_eq!(parts(&store.user(&ada.id).await.unwrap().unwrap()), parts(&ada));
        let by_name = store.user_by_name(NameKey::Username("ada")).await.unwrap();
        assert_eq!(by_name.as_ref().map(parts), Some(parts(&ada)));
        assert_eq!(store.session(&key(1, 1)).await.unwrap().unwrap().session, session(1, 1));
        assert_eq!(store.session(&key(1, 2)).await.unwrap().unwrap().session, ended);
        let entries = store.entries(Timestamp::MIN, None, 10).await.unwrap();
        assert_eq!(entries, [token_entry(1, 5, NOW)]);
        assert_eq!(store.store_id(Uuid::from_u128(start)).await.unwrap(), id);
        let attempts = store.attempts("ada").await.unwrap().unwrap();
        assert_eq!(attempts, Attempts { failures: 1, last_failure: Some(NOW), running: 0, ..attempts });
        // A program may also end without closing.
        if start == 1 {
            drop(store);
        } else {
            store.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_start_at_once_on_a_new_file_do_not_disturb_each_other() {
    for _ in 0..5 {
        let folder = Folder::new();
        let mut starts = JoinSet::new();
        for candidate in 0..5 {
            let options = folder.options();
            starts.spawn(async move {
                let store = SqliteStore::open(&options).await.unwrap();
                store.store_id(Uuid::from_u128(candidate)).await.unwrap()
            });
        }
        let ids = starts.join_all().await;
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        let mut other = folder.other_program().await;
        assert_eq!(count(&mut other, "SELECT max(version) FROM _sqlx_migrations").await, 5);
    }
}

#[tokio::test]
async fn migrations_are_run_only_if_wanted() {
    let folder = Folder::new();
    let careful = folder.options().run_migrations(false);
    let missing = SqliteStore::open(&careful.clone().create(false)).await.unwrap_err();
    assert!(matches!(missing, OpenError::Missing { .. }), "{missing}");
    let empty = SqliteStore::open(&careful).await.unwrap_err();
    assert!(matches!(empty, OpenError::NotMigrated), "{empty}");
    migrate(&careful).await.unwrap();
    migrate(&careful).await.unwrap();
    SqliteStore::open(&careful).await.unwrap().close().await;

    // Tables of a version that this program does not know.
    let mut other = folder.other_program().await;
    sqlx::raw_sql("UPDATE _sqlx_migrations SET version = 9000 WHERE version = 2")
        .execute(&mut other)
        .await
        .unwrap();
    let newer = SqliteStore::open(&folder.options()).await.unwrap_err();
    assert!(matches!(newer, OpenError::Migrate(_)), "{newer}");
}

#[cfg(unix)]
#[tokio::test]
async fn sec_046_a_database_that_every_user_may_read_or_change_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = Folder::new();
    folder.open().await.close().await;
    for (mode, accepted) in [
        (0o644, false),
        (0o604, false),
        (0o602, false),
        (0o666, false),
        (0o660, true),
        (0o640, true),
        (0o600, true),
    ] {
        std::fs::set_permissions(folder.database(), std::fs::Permissions::from_mode(mode)).unwrap();
        let outcomes =
            [SqliteStore::open(&folder.options()).await.map(drop), migrate(&folder.options()).await];
        for outcome in outcomes {
            match outcome {
                Ok(()) => assert!(accepted, "{mode:o}"),
                Err(OpenError::OpenToOthers { mode: found, .. }) => {
                    assert!(!accepted && found == mode, "{mode:o}")
                }
                Err(error) => panic!("{mode:o}: {error}"),
            }
        }
    }
}

#[tokio::test]
async fn memory_and_what_is_no_database_are_refused() {
    let folder = Folder::new();
    let memory = SqliteStore::open(&SqliteOptions::new(":memory:")).await.unwrap_err();
    assert!(matches!(memory, OpenError::InMemory), "{memory}");
    std::fs::write(folder.database(), "no database, but long enough to look at".repeat(100)).unwrap();
    owners_alone(&folder.database());
    let garbage = SqliteStore::open(&folder.options()).await.unwrap_err();
    assert!(matches!(garbage, OpenError::Engine(_)), "{garbage}");
}

#[cfg(unix)]
#[tokio::test]
async fn the_files_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new();
    let store = folder.open().await;
    store.insert_session(&session(1, 1)).await.unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let mut path = folder.database().into_os_string();
        path.push(suffix);
        let mode = std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{suffix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_156_of_50_parallel_registrations_of_one_name_one_gets_it() {
    let folder = Folder::new();
    let store = Arc::new(folder.open().await);
    let emails = ["ada@example.com", "ADA@example.com", "Ada@EXAMPLE.com", "ada@ExAmPlE.CoM"];
    let mut registrations = JoinSet::new();
    for number in 0..50_u128 {
        let store = store.clone();
        let email = emails[usize::try_from(number).unwrap() % emails.len()];
        registrations.spawn(async move { store.insert_user(&user(number, email, None)).await.unwrap() });
    }
    let answers = registrations.join_all().await;
    assert_eq!(answers.iter().filter(|answer| **answer == UserInserted::Yes).count(), 1);
    assert!(answers.iter().all(|answer| matches!(answer, UserInserted::Yes | UserInserted::EmailTaken)));

    let mut registrations = JoinSet::new();
    for number in 100..150_u128 {
        let store = store.clone();
        let username = ["grace", "GRACE", "ｇｒａｃｅ"][usize::try_from(number).unwrap() % 3];
        let grace = user(number, &format!("{number}@example.com"), Some(username));
        registrations.spawn(async move { store.insert_user(&grace).await.unwrap() });
    }
    let answers = registrations.join_all().await;
    assert_eq!(answers.iter().filter(|answer| **answer == UserInserted::Yes).count(), 1);
    assert!(answers.iter().all(|answer| matches!(answer, UserInserted::Yes | UserInserted::UsernameTaken)));

    // Of those that lost nothing is left: their e-mail addresses are free.
    let mut other = folder.other_program().await;
    assert_eq!(count(&mut other, "SELECT count(*) FROM account").await, 2);
    assert_eq!(count(&mut other, "SELECT count(*) FROM account_name").await, 3);
}

fn hostile_texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "\0",
        "a\0b",
        "a",
        "'; DROP TABLE session; --",
        "\"quoted\"",
        "%_\\?1 :a @b $c",
        "line\nbreak\r\t",
        "\u{202e}\u{feff}\u{10ffff}é e\u{301}",
        "{\"$ne\":\"\"}",
        " ",
        "",
    ]
    .map(str::to_owned)
    .into();
    texts.push("x".repeat(1_000_000));
    texts
}

#[tokio::test]
async fn sec_136_sec_155_hostile_texts_come_back_as_they_were() {
    let folder = Folder::new();
    let store = folder.open().await;
    let policy = ThrottlePolicy::default();
    for (number, text) in (1..).zip(hostile_texts()) {
        store.begin_attempt(&text, NOW + seconds(number), &policy).await.unwrap().unwrap();

        let mut session = session(1, number.into());
        session.device = Device { user_agent: Some(text.clone()), ..Device::default() };
        store.insert_session(&session).await.unwrap();
        assert_eq!(store.session(&session.key()).await.unwrap().unwrap().session, session, "{number}");

        let mut user = user(number.into(), &format!("{number}@example.com"), None);
        user.password_hash = Some(PasswordHash::from_stored(text.clone()));
        store.insert_user(&user).await.unwrap();
        assert_eq!(parts(&store.user(&user.id).await.unwrap().unwrap()), parts(&user), "{number}");
        let other = PasswordHash::from_stored(format!("{text}\0"));
        assert!(!store.replace_password_hash(&user.id, Some(&other), &other).await.unwrap());
        assert!(store.replace_password_hash(&user.id, user.password_hash.as_ref(), &other).await.unwrap());

        assert!(store.user_by_name(NameKey::Email(&text)).await.unwrap().is_none());
        assert!(store.user_by_name(NameKey::Username(&text)).await.unwrap().is_none());
        if let Ok(user_id) = UserId::new(&text) {
            let entry = Entry {
                target: Target::User { user_id: user_id.clone(), epoch: Epoch::new(number), except: None },
                until: NOW,
                at: NOW,
            };
            store.insert_entry(&entry).await.unwrap();
            assert_eq!(store.epoch(&user_id).await.unwrap(), Epoch::new(number));
        }
    }
    for (number, text) in (1..).zip(hostile_texts()) {
        // Each has a counter of its own: none was cut at a NUL or compared carelessly.
        let attempts = store.attempts(&text).await.unwrap().unwrap();
        assert_eq!(attempts.running, 1, "{number}");
        assert_eq!(attempts.running_until, NOW + seconds(number + 60), "{number}");
    }
    for ip in ["192.0.2.1", "::1", "::ffff:192.0.2.1", "2001:db8::"] {
        let mut session = session(2, 1);
        session.id = session_id(ip.len() as u128);
        session.device.ip = Some(ip.parse::<IpAddr>().unwrap());
        store.insert_session(&session).await.unwrap();
        assert_eq!(store.session(&session.key()).await.unwrap().unwrap().session, session, "{ip}");
    }
}

#[tokio::test]
async fn what_sqlite_cannot_hold_is_an_error() {
    let folder = Folder::new();
    let store = folder.open().await;
    let beyond = Epoch::new(u64::MAX);
    let entry = |epoch| Entry {
        target: Target::User { user_id: user_id(1), epoch, except: None },
        until: NOW,
        at: NOW,
    };
    assert!(store.insert_entry(&entry(beyond)).await.is_err());
    let mut session = session(2, 1);
    session.epoch = beyond;
    assert!(store.insert_session(&session).await.is_err());
    assert!(store.entries(Timestamp::MIN, Some(&entry(beyond)), 1).await.is_err());

    // The last epoch that fits cannot be raised, and the attempt ends no session.
    let last = Epoch::new(i64::MAX.unsigned_abs());
    store.insert_entry(&entry(last)).await.unwrap();
    let mut session = support::session(1, 1);
    session.epoch = last;
    assert_eq!(store.insert_session(&session).await.unwrap(), SessionInserted::Yes);
    assert!(store.raise_epoch(&user_id(1), &raise(None)).await.is_err());
    assert_eq!(store.session(&session.key()).await.unwrap().unwrap().session, session);
    assert_eq!(store.epoch(&user_id(1)).await.unwrap(), last);
}

#[tokio::test]
async fn a_row_that_holds_no_session_is_an_error() {
    let folder = Folder::new();
    let store = folder.open().await;
    store.insert_session(&session(1, 1)).await.unwrap();
    let mut other = folder.other_program().await;
    for damage in [
        "UPDATE session SET heals = 256",
        "UPDATE session SET heals = 0, generation = -1",
        "UPDATE session SET generation = 4294967296",
        "UPDATE session SET generation = 0, issued_at = -1",
        "UPDATE session SET issued_at = 9007199254740993",
        "UPDATE session SET issued_at = 0, ip = '1.2.3'",
        "UPDATE session SET ip = NULL, ended_at = 1, end_reason = 'because'",
    ] {
        sqlx::raw_sql(damage).execute(&mut other).await.unwrap();
        assert!(store.session(&key(1, 1)).await.is_err(), "{damage}");
    }
}

#[tokio::test]
async fn rows_that_hold_nothing_of_their_kind_are_errors() {
    let folder = Folder::new();
    let store = folder.open().await;
    let ada = user(1, "ada@example.org", Some("ada"));
    store.insert_user(&ada).await.unwrap();
    let purpose = Purpose::SignIn;
    let secret = OneTimeSecret {
        user_id: ada.id.clone(),
        purpose,
        digests: vec![SecretDigest::of("1")],
        bound_to: String::new(),
        tries_left: 5,
        created_at: NOW,
        expires_at: NOW + seconds(600),
    };
    store.put_secret(&secret).await.unwrap();
    let key = AdminKey {
        id: Uuid::from_u128(1),
        name: "ops".to_owned(),
        digest: SecretDigest::of("1"),
        scopes: vec![AdminScope::UsersRead],
        created_at: NOW,
        expires_at: None,
    };
    assert!(store.insert_admin_key(&key).await.unwrap());
    let mut other = folder.other_program().await;
    for damage in [
        "UPDATE account SET email = 'nobody'",
        "UPDATE account SET email = NULL, roles = 'a \"b\"'",
        "UPDATE account SET roles = '', language = 'deutsch'",
        "UPDATE account SET language = NULL, revision = -1",
        "UPDATE one_time_secret SET digests = x'00'",
        "UPDATE one_time_secret SET digests = x'', tries_left = -1",
        "UPDATE admin_key SET scopes = 'users:read users:everything'",
    ] {
        sqlx::raw_sql(damage).execute(&mut other).await.unwrap();
        let is_error = match damage.split(' ').nth(1) {
            Some("account") => store.user(&ada.id).await.is_err(),
            Some("admin_key") => store.admin_keys().await.is_err(),
            _ => store.secret(&ada.id, purpose).await.is_err(),
        };
        assert!(is_error, "{damage}");
    }
}

/// `tokens` entries that are over, the permanent ones of `users`, and a session's whose row was never marked.
async fn fill_log(folder: &Folder, tokens: i64, users: i64) {
    let mut other = folder.other_program().await;
    let mut transaction = other.begin().await.unwrap();
    for (sql, rows) in [
        (
            "WITH RECURSIVE i (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < ?1)
             INSERT INTO revocation SELECT 'u' || (x % 1000), 'token', 't' || x, 0, NULL, x, x FROM i",
            tokens,
        ),
        (
            "WITH RECURSIVE i (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM i WHERE x < ?1)
             INSERT INTO revocation SELECT 'u' || (x / 2), 'user', '', x, NULL, 1, x FROM i",
            users,
        ),
    ] {
        sqlx::query(sql).bind(rows).execute(&mut *transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

async fn purge_is_bounded(tokens: i64) {
    let folder = Folder::new();
    let store = Arc::new(folder.open().await);
    let users = tokens / 10;
    fill_log(&folder, tokens, users).await;
    // A session's entry whose row is not marked yet: it must not go.
    store.insert_session(&session(1, 1)).await.unwrap();
    let target = Target::Session { user_id: user_id(1), id: session_id(1) };
    store.insert_entry(&Entry { target, until: Timestamp::MIN, at: NOW }).await.unwrap();
    let before = NOW;

    assert_eq!(store.purge_entries(before, 0).await.unwrap(), 0);
    assert_eq!(store.purge_entries(before, 7).await.unwrap(), 7);
    assert_eq!(store.purge_entries(before, 1_500).await.unwrap(), 1_500);

    // One long purge; other writes get their turn within it.
    let purge = {
        let store = store.clone();
        tokio::spawn(async move { store.purge_entries(before, usize::MAX).await.unwrap() })
    };
    let mut others = 0;
    while !purge.is_finished() {
        others += 1;
        assert_eq!(store.insert_session(&session(2, others)).await.unwrap(), SessionInserted::Yes);
    }
    assert!(others > 10, "{others} writes during the purge");

    // u0 had entry 1 alone, all others two each, of which the higher stays.
    let gone = u64::try_from(tokens + users / 2 - 1).unwrap();
    assert_eq!(purge.await.unwrap() + 1_507, gone);
    assert_eq!(store.purge_entries(before, usize::MAX).await.unwrap(), 0);
    let mut other = folder.other_program().await;
    assert_eq!(count(&mut other, "SELECT count(*) FROM revocation WHERE kind = 'token'").await, 0);
    assert_eq!(count(&mut other, "SELECT count(*) FROM revocation WHERE kind = 'session'").await, 1);
    assert_eq!(
        count(&mut other, "SELECT count(*) FROM revocation WHERE kind = 'user'").await,
        users - users / 2 + 1
    );

    let end = End { reason: EndReason::LoggedOut, at: NOW, until: Timestamp::MIN };
    assert_eq!(store.end_session(&key(1, 1), &end).await.unwrap(), SessionEnded::Before);
    assert_eq!(store.purge_entries(before, usize::MAX).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_088_a_purge_of_100_000_entries_is_incremental_and_bounded() {
    purge_is_bounded(100_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while; run with --ignored"]
async fn slow_sec_088_a_purge_of_a_million_entries_is_incremental_and_bounded() {
    purge_is_bounded(1_000_000).await;
}

#[tokio::test]
async fn the_log_is_read_in_pages_in_the_order_of_its_keys() {
    let folder = Folder::new();
    let (store, memory) = (folder.open().await, MemoryStore::new());
    let mut all = Vec::new();
    for number in 0..40_u128 {
        let user_id =
            UserId::new(["a", "A", "é", "z\u{10000}", "z\u{ffff}", "b c"][(number % 6) as usize]).unwrap();
        let target = match number % 4 {
            0 => Target::Session { user_id, id: session_id(number) },
            1 => Target::User { user_id, epoch: Epoch::new(number as u64), except: Some(session_id(1)) },
            2 => Target::Token { user_id, id: TokenId::new(Uuid::from_u128(number << 100)) },
            _ => Target::Key { id: KeyId::new(&format!("key {number}")).unwrap() },
        };
        all.push(Entry { target, until: NOW, at: NOW + seconds(number as u64) });
    }
    for entry in &all {
        store.insert_entry(entry).await.unwrap();
        memory.insert_entry(entry).await.unwrap();
    }
    for since in [Timestamp::MIN, Timestamp::from_millis(1), NOW + seconds(20), NOW + seconds(40)] {
        let mut after: Option<Entry> = None;
        loop {
            let page = store.entries(since, after.as_ref(), 7).await.unwrap();
            assert_eq!(page, memory.entries(since, after.as_ref(), 7).await.unwrap());
            match page.last() {
                Some(last) => after = Some(last.clone()),
                None => break,
            }
        }
    }
}

/// What another program does to the files of a store that is open.
#[cfg(unix)]
#[derive(Clone, Copy, Debug)]
enum Mischief {
    Moved(&'static str),
    Removed(&'static str),
    Replaced(&'static str),
    FolderMoved,
}

#[cfg(unix)]
impl Mischief {
    fn happen(self, folder: &std::path::Path) {
        use std::fs;

        let (file, aside) = (|name: &str| folder.join(name), folder.with_extension("aside"));
        match self {
            Self::Moved(name) => fs::rename(file(name), file("aside")).unwrap(),
            Self::Removed(name) => fs::remove_file(file(name)).unwrap(),
            Self::Replaced(name) => {
                fs::rename(file(name), file("aside")).unwrap();
                fs::copy(file("aside"), file(name)).unwrap();
            }
            Self::FolderMoved => fs::rename(folder, aside).unwrap(),
        }
    }

    /// Puts the same files back, where that is possible.
    fn undo(self, folder: &std::path::Path) -> bool {
        use std::fs;

        match self {
            Self::Moved(name) | Self::Replaced(name) => {
                fs::rename(folder.join("aside"), folder.join(name)).unwrap();
            }
            Self::Removed(_) => return false,
            Self::FolderMoved => fs::rename(folder.with_extension("aside"), folder).unwrap(),
        }
        true
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn while_its_files_are_not_where_they_were_a_store_answers_nothing_but_errors() {
    use Mischief::{FolderMoved, Moved, Removed, Replaced};

    let database = "countersign.db";
    let long_ago = Timestamp::from_millis(0);
    for mischief in [
        Moved(database),
        Removed(database),
        Replaced(database),
        Moved("countersign.db-wal"),
        Removed("countersign.db-wal"),
        Replaced("countersign.db-wal"),
        Removed("countersign.db-shm"),
        Replaced("countersign.db-shm"),
        FolderMoved,
    ] {
        let parent = tempfile::TempDir::new().unwrap();
        let folder = parent.path().join("store");
        std::fs::create_dir(&folder).unwrap();
        let options = SqliteOptions::new(folder.join(database));
        let store = open(&options).await;
        let entry = |token| token_entry(1, token, NOW);
        store.insert_entry(&entry(1)).await.unwrap();
        mischief.happen(&folder);

        let refused = |error: StoreError| {
            let reason = std::error::Error::source(&error).unwrap().to_string();
            assert!(reason.contains("while the database is open"), "{mischief:?}: {reason}");
        };
        refused(store.insert_entry(&entry(2)).await.unwrap_err());
        refused(store.epoch(&user_id(1)).await.unwrap_err());
        refused(store.entries(long_ago, None, 10).await.unwrap_err());
        refused(store.keys().await.unwrap_err());
        refused(store.insert_entry(&entry(3)).await.unwrap_err());
        // What was answered before is saved from a log that was removed, and nothing is written anywhere else.
        let saved = matches!(mischief, Moved("countersign.db-wal") | Removed("countersign.db-wal"));
        assert_eq!(store.checkpoint().await.is_ok(), saved, "{mischief:?}");
        if saved {
            let mut database = connect(&folder.join(database)).await;
            assert_eq!(count(&mut database, "SELECT count(*) FROM revocation").await, 1, "{mischief:?}");
            continue;
        }

        if mischief.undo(&folder) {
            let known = store.entries(long_ago, None, 10).await.unwrap();
            assert_eq!(known.len(), 1, "{mischief:?}: refused means not written");
            store.insert_entry(&entry(2)).await.unwrap();
            store.close().await;
            let again = open(&options).await;
            assert_eq!(again.entries(long_ago, None, 10).await.unwrap().len(), 2, "{mischief:?}");
        }
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_took_the_place_of_the_database_is_left_alone() {
    let folder = Folder::new();
    let store = folder.open().await;
    store.insert_entry(&token_entry(1, 1, NOW)).await.unwrap();
    // Another application's database, which is in SQLite's older mode.
    let other = folder.database().with_file_name("other.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&other).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql("CREATE TABLE t (x)").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    std::fs::rename(other, store.path()).unwrap();
    let before = std::fs::read(store.path()).unwrap();
    for _ in 0..3 {
        assert!(store.insert_entry(&token_entry(1, 2, NOW)).await.is_err());
        assert!(store.keys().await.is_err());
    }
    let path = store.path().to_owned();
    store.close().await;
    assert_eq!(std::fs::read(path).unwrap(), before);
}
