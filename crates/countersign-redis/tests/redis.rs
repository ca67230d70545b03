//! What is particular to Redis: connections that break, servers that forget, nodes that tell each other.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy takes only functions with #[test] for tests"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use countersign_core::model::{
    Acknowledgement, AdminKey, AdminScope, AuditRecord, EmailAddress, Entry, Heal, KeyPurpose, KnownDevice,
    OneTimeSecret, OutboxMail, OutboxState, PasswordHash, Purpose, SecretDigest, Session, StoredKey, Target,
    ThrottlePolicy, User, Username,
};
use countersign_core::store::*;
use countersign_jwt::key::{Algorithm, KeyId};
use countersign_jwt::{Epoch, Generation, Timestamp, TokenId, UserId};
use countersign_redis::{OpenError, RedisOptions, RedisStore, migrate};
use countersign_testkit::{Proxy, server_url};
use support::*;
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

/// Far more than anything here takes.
const LONG: Duration = Duration::from_secs(20);

fn token(number: u128, at: Timestamp) -> Entry {
    let target = Target::Token { user_id: user_id(1), id: TokenId::new(Uuid::from_u128(number)) };
    Entry { target, until: at + seconds(900), at }
}

fn user(number: u128, email: &str) -> User {
    User {
        email: Some(EmailAddress::parse(email).unwrap()),
        password_hash: Some(PasswordHash::from_stored("a hash".to_owned())),
        ..User::new(user_id(number), NOW)
    }
}

fn secret(number: u128) -> OneTimeSecret {
    OneTimeSecret {
        user_id: user_id(number),
        purpose: Purpose::Invite,
        digests: vec![SecretDigest::of("right")],
        bound_to: "ada@example.com".to_owned(),
        tries_left: 3,
        created_at: NOW,
        expires_at: NOW + seconds(60),
    }
}

fn device(number: u128) -> KnownDevice {
    KnownDevice { user_id: user_id(number), digest: SecretDigest::of("device"), until: NOW + seconds(60) }
}

fn admin_key() -> AdminKey {
    AdminKey {
        id: Uuid::nil(),
        name: "ops".to_owned(),
        digest: SecretDigest::of("key"),
        scopes: vec![AdminScope::UsersRead],
        created_at: NOW,
        expires_at: None,
    }
}

fn record(number: u128) -> AuditRecord {
    AuditRecord {
        id: Uuid::from_u128(number),
        at: NOW,
        name: format!("event {}", number % 3),
        user_id: number.is_multiple_of(2).then(|| user_id(number)),
        session_id: None,
        ip: None,
        actor: None,
        detail: None,
    }
}

fn mail(number: u128) -> OutboxMail {
    OutboxMail {
        id: Uuid::from_u128(number),
        to: EmailAddress::parse("ada@example.com").unwrap(),
        kind: "invite".to_owned(),
        user_id: None,
        sealed: b"\0 sealed".to_vec(),
        created_at: NOW,
        useless_after: None,
        attempts: 0,
        state: OutboxState::Waiting { next_at: NOW },
        last_error: None,
    }
}

fn stored_key() -> StoredKey {
    StoredKey {
        purpose: KeyPurpose::Refresh,
        number: 1,
        key_id: KeyId::new("k").unwrap(),
        algorithm: Algorithm::Hs256,
        sealed: b" \0\xff ".to_vec(),
        created_at: NOW,
        active_at: NOW,
        removed_at: None,
    }
}

/// Every operation once.
fn every_operation(store: &Arc<RedisStore>) -> JoinSet<(&'static str, Result<(), StoreError>)> {
    let mut calls = JoinSet::new();
    macro_rules! call {
        ($name:literal, |$store:ident| $call:expr) => {
            let $store = store.clone();
            calls.spawn(async move { ($name, $call.await.map(drop)) });
        };
    }
    let heal = Heal {
        generation: Generation::FIRST,
        issued_at: NOW,
        heals: 0,
        now: NOW,
        idle_until: NOW + seconds(60),
    };
    let seen =
        Acknowledgement { user_id: user_id(1), session_id: session_id(1), generation: Generation::FIRST };
    let tokens = TokenRevocation { ids: vec![], at: NOW, until: NOW, limit: 10 };
    let policy = ThrottlePolicy::default();
    let node = Entry { target: Target::Node { id: Uuid::nil() }, until: NOW, at: NOW };
    call!("insert_session", |store| store.insert_session(&session(2, 2)));
    call!("session", |store| store.session(&key(1, 1)));
    call!("advance", |store| store.advance(&key(1, 1), &advance(9)));
    call!("heal", |store| store.heal(&key(1, 1), &heal));
    call!("acknowledge", |store| store.acknowledge(std::slice::from_ref(&seen), NOW));
    call!("end_session", |store| store.end_session(&key(1, 9), &end()));
    call!("live_sessions", |store| store.live_sessions(&user_id(1), NOW, SessionPage::first(1_000)));
    call!("purge_sessions", |store| store.purge_sessions(Timestamp::MIN, 10));
    call!("time", |store| store.time());
    call!("epoch", |store| store.epoch(&user_id(1)));
    call!("epoch_raised_at", |store| store.epoch_raised_at(&user_id(1)));
    call!("raise_epoch", |store| store.raise_epoch(&user_id(3), &raise()));
    call!("revoke_tokens", |store| store.revoke_tokens(&user_id(1), &tokens));
    call!("insert_entry", |store| store.insert_entry(&token(1, NOW)));
    call!("heartbeat", |store| store.insert_entry(&node));
    call!("entries", |store| store.entries(Timestamp::MIN, None, 10));
    call!("young entries", |store| store.entries(NOW, None, 10));
    call!("purge_entries", |store| store.purge_entries(Timestamp::MIN, 10));
    call!("insert_user", |store| store.insert_user(&user(4, "ada@example.com")));
    call!("user", |store| store.user(&user_id(4)));
    call!("user_by_name", |store| store.user_by_name(NameKey::Email("ada@example.com")));
    call!("replace_password_hash", |store| store.replace_password_hash(
        &user_id(9),
        None,
        &PasswordHash::from_stored(String::new())
    ));
    call!("set_disabled", |store| store.set_disabled(&user_id(9), None));
    let unknown = user(9, "nobody@example.com");
    call!("replace_user", |store| store.replace_user(&unknown, &unknown));
    call!("delete_user", |store| store.delete_user(&user_id(9)));
    call!("users", |store| store.users(&UserPage { query: Some("ada"), after: None, limit: 10 }));
    call!("users_to_delete", |store| store.users_to_delete(NOW, 10));
    call!("next_user_number", |store| store.next_user_number(1));
    call!("put_secret", |store| store.put_secret(&secret(5)));
    call!("secret", |store| store.secret(&user_id(5), Purpose::Invite));
    let wrong = SecretDigest::of("wrong");
    call!("try_secret", |store| store.try_secret(&user_id(6), Purpose::Invite, &wrong, NOW));
    call!("remove_secret", |store| store.remove_secret(&user_id(9), Purpose::Invite));
    call!("purge_secrets", |store| store.purge_secrets(Timestamp::MIN, 10));
    call!("remember_device", |store| store.remember_device(&device(5)));
    call!("knows_device", |store| store.knows_device(&user_id(5), &wrong, NOW));
    call!("forget_devices", |store| store.forget_devices(&user_id(9)));
    call!("purge_devices", |store| store.purge_devices(Timestamp::MIN, 10));
    call!("insert_admin_key", |store| store.insert_admin_key(&admin_key()));
    call!("admin_key", |store| store.admin_key(Uuid::nil()));
    call!("admin_keys", |store| store.admin_keys());
    call!("remove_admin_key", |store| store.remove_admin_key(Uuid::max()));
    call!("insert_audit", |store| store.insert_audit(&[record(1)]));
    call!("audit", |store| store.audit(&AuditPage { limit: 10, ..AuditPage::default() }));
    call!("purge_audit", |store| store.purge_audit(Timestamp::MIN, 10));
    call!("enqueue_mail", |store| store.enqueue_mail(&mail(1)));
    call!("claim_mail", |store| store.claim_mail(NOW, NOW, 10));
    call!("remove_mail", |store| store.remove_mail(Uuid::max()));
    let failure =
        MailFailure { id: Uuid::max(), attempts: 1, then: mail(1).state, error: "refused".to_owned() };
    call!("fail_mail", |store| store.fail_mail(&failure));
    call!("dead_letters", |store| store.dead_letters(None, 10));
    call!("outbox_size", |store| store.outbox_size());
    call!("retry_mail", |store| store.retry_mail(Uuid::max(), NOW));
    call!("purge_dead_letters", |store| store.purge_dead_letters(Timestamp::MIN, 10));
    call!("begin_attempt", |store| store.begin_attempt("ada", NOW, &policy));
    call!("attempts", |store| store.attempts("ada"));
    call!("purge_attempts", |store| store.purge_attempts(Timestamp::MIN, 10));
    call!("store_id", |store| store.store_id(Uuid::nil()));
    call!("insert_key", |store| store.insert_key(&stored_key()));
    call!("reseal_key", |store| store.reseal_key(&stored_key().key_id, b"x", b"y"));
    call!("remove_key", |store| store.remove_key(&KeyId::new("other").unwrap(), NOW));
    call!("keys", |store| store.keys());
    call!("settings", |store| store.settings());
    call!("replace_settings", |store| store.replace_settings(Some("unknown"), "{}"));
    call!("has_keys", |store| store.has_keys());
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_that_open_an_empty_store_at_once_open_the_same_one() {
    let Some(place) = Place::durable() else { return };
    let mut opens = JoinSet::new();
    for candidate in 0..5 {
        let options = place.options();
        opens.spawn(async move {
            let store = RedisStore::open(&options).await.unwrap();
            store.store_id(Uuid::from_u128(candidate)).await.unwrap()
        });
    }
    let ids = opens.join_all().await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test]
async fn a_store_is_set_up_only_if_wanted() {
    let Some(place) = Place::durable() else { return };
    let careful = place.options().run_migrations(false);
    let missing = RedisStore::open(&careful).await.unwrap_err();
    assert!(matches!(missing, OpenError::NotMigrated { .. }), "{missing}");
    assert_eq!(place.keys(), Vec::<String>::new(), "looking changes nothing");
    migrate(&careful).await.unwrap();
    migrate(&careful).await.unwrap();
    let store = RedisStore::open(&careful).await.unwrap();
    assert!(!store.has_keys().await.unwrap());
    assert!(store.insert_key(&stored_key()).await.unwrap());
    assert!(store.has_keys().await.unwrap());
    store.close().await;

    redis::cmd("HSET").arg(place.key("meta")).arg("layout").arg("99").exec(&mut place.connect()).unwrap();
    let newer = RedisStore::open(&place.options()).await.unwrap_err();
    assert!(matches!(newer, OpenError::Newer { .. }), "{newer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_writes_another_is_told_at_once() {
    let Some(place) = Place::durable() else { return };
    let (writer, reader) = (place.open().await, place.open().await);
    let (mut own, mut heard) = (writer.changes().unwrap(), reader.changes().unwrap());
    place.is_listened_to_by(2).await;

    writer.insert_session(&session(1, 1)).await.unwrap();
    let tokens = TokenRevocation { ids: vec![TokenId::new(Uuid::nil())], at: NOW, until: NOW, limit: 10 };
    writer.end_session(&key(1, 1), &end()).await.unwrap();
    assert!(timeout(LONG, heard.next()).await.unwrap(), "the end of a session");
    writer.raise_epoch(&user_id(1), &raise()).await.unwrap();
    assert!(timeout(LONG, heard.next()).await.unwrap(), "a raised epoch");
    writer.revoke_tokens(&user_id(1), &tokens).await.unwrap();
    assert!(timeout(LONG, heard.next()).await.unwrap(), "revoked tokens");
    writer.insert_entry(&token(1, NOW)).await.unwrap();
    assert!(timeout(LONG, heard.next()).await.unwrap(), "an entry");

    // Heartbeats are written every second by every node: nobody is told. What the other one writes next is heard first
    // by who wrote the heartbeat.
    let node = Entry { target: Target::Node { id: Uuid::nil() }, until: NOW, at: NOW };
    writer.insert_entry(&node).await.unwrap();
    reader.insert_entry(&token(2, NOW)).await.unwrap();
    assert!(timeout(LONG, own.next()).await.unwrap(), "what another node has written");
    assert!(timeout(Duration::ZERO, own.next()).await.is_err(), "its own writes it knows");
    assert!(timeout(Duration::ZERO, heard.next()).await.is_err(), "a heartbeat is no news");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_push_comes_back_after_the_connection_was_lost() {
    let Some(place) = Place::durable() else { return };
    let proxy = Proxy::to(place.server()).await;
    let store = RedisStore::open(&place.through(&proxy)).await.unwrap();
    let mut changes = store.changes().unwrap();
    place.is_listened_to_by(1).await;
    place.tell();
    assert!(timeout(LONG, changes.next()).await.unwrap(), "it listens");
    proxy.cut();
    assert!(timeout(LONG, changes.next()).await.unwrap(), "told to look after listening again");
    drop(store);
    assert!(!timeout(LONG, changes.next()).await.unwrap(), "no store, no changes");
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_087_when_redis_hangs_every_operation_fails_by_the_deadline_and_all_work_again_afterwards() {
    let Some(place) = Place::durable() else { return };
    let proxy = Proxy::to(place.server()).await;
    let deadline = Duration::from_secs(1);
    let options = place.through(&proxy).deadline(deadline);
    let store = Arc::new(RedisStore::open(&options).await.unwrap());
    for (name, outcome) in every_operation(&store).join_all().await {
        outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for round in 0..2 {
        proxy.block();
        // The second time there is no connection to begin with.
        let calls = async {
            let mut calls = every_operation(&store);
            while let Some(call) = calls.join_next().await {
                let (name, outcome) = call.unwrap();
                let error = outcome.expect_err(name);
                assert_eq!(error.store(), "redis", "round {round}: {name}");
            }
        };
        // Every one by its deadline, so all of them by little more.
        timeout(deadline * 4, calls).await.unwrap();
    }
    let opening = timeout(deadline * 4, RedisStore::open(&options)).await.unwrap();
    assert!(opening.is_err(), "opening has a deadline too");

    proxy.unblock();
    for (name, outcome) in every_operation(&store).join_all().await {
        outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_an_error_and_the_next_call_makes_another() {
    let Some(place) = Place::durable() else { return };
    let proxy = Proxy::to(place.server()).await;
    let store = Arc::new(RedisStore::open(&place.through(&proxy)).await.unwrap());
    store.insert_session(&session(1, 1)).await.unwrap();
    proxy.block();
    let under_way = {
        let store = store.clone();
        tokio::spawn(async move { store.advance(&key(1, 1), &advance(0)).await })
    };
    tokio::task::yield_now().await;
    proxy.cut();
    let outcome = timeout(LONG, under_way).await.unwrap().unwrap();
    assert!(outcome.is_err(), "whether it was done is not known");
    proxy.unblock();
    // Some may still meet a connection of which nobody has noticed that it was cut.
    every_operation(&store).join_all().await;
    for (name, outcome) in every_operation(&store).join_all().await {
        outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_server_closed_while_idle_fail_no_call() {
    let Some(place) = Place::durable() else { return };
    let proxy = Proxy::to(place.server()).await;
    let store = Arc::new(RedisStore::open(&place.through(&proxy)).await.unwrap());
    let mut changes = store.changes().unwrap();
    place.is_listened_to_by(1).await;
    place.tell();
    assert!(timeout(LONG, changes.next()).await.unwrap(), "it listens");
    for _ in 0..3 {
        for (name, outcome) in every_operation(&store).join_all().await {
            outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        proxy.cut();
        // By the time the push listens again, the other connections have been found closed too.
        assert!(timeout(LONG, changes.next()).await.unwrap());
    }
}

#[tokio::test]
async fn a_server_that_keeps_nothing_is_refused_unless_that_is_accepted_by_name() {
    let Some(url) = server_url("TEST_REDIS_VOLATILE_URL") else { return };
    let place = Place::new(&url);
    for options in [place.options(), place.options().allow_everysec()] {
        let refused = RedisStore::open(&options).await.unwrap_err();
        assert!(matches!(&refused, OpenError::Setting { setting: "appendonly", .. }), "{refused}");
        let told = refused.to_string();
        for word in ["appendonly", "appendfsync", "durability=volatile"] {
            assert!(told.contains(word), "{told}");
        }
        assert!(migrate(&options).await.is_err(), "nor is it set up");
    }
    assert_eq!(place.keys(), Vec::<String>::new());
    let store = RedisStore::open(&place.options().allow_volatile()).await.unwrap();
    assert!(store.weaknesses().iter().any(|weakness| weakness.starts_with("appendonly is no")));
}

#[tokio::test]
async fn a_server_that_keeps_everything_has_no_weakness_on_disk() {
    let Some(place) = Place::durable() else { return };
    let store = place.open().await;
    let on_disk = |weakness: &&String| weakness.starts_with("append") || weakness.starts_with("maxmemory");
    assert_eq!(store.weaknesses().iter().find(on_disk), None);
}

#[tokio::test]
async fn data_that_are_gone_are_noticed_and_the_store_goes_on() {
    let Some(place) = Place::durable() else { return };
    let store = place.open().await;
    store.insert_session(&session(1, 1)).await.unwrap();
    store.time().await.unwrap();
    place.clear();
    store.time().await.unwrap();
    // It is a store again, for nodes that only look too.
    RedisStore::open(&place.options().run_migrations(false)).await.unwrap();
    assert_eq!(store.session(&key(1, 1)).await.unwrap(), None);
    store.insert_session(&session(1, 1)).await.unwrap();
}

#[tokio::test]
async fn the_time_is_the_servers() {
    let Some(place) = Place::durable() else { return };
    let store = place.open().await;
    let asked = || -> (i64, i64) { redis::cmd("TIME").query(&mut place.connect()).unwrap() };
    let millis = |(secs, micros): (i64, i64)| secs * 1_000 + micros / 1_000;
    let before = millis(asked());
    let time = store.time().await.unwrap().unwrap().as_millis();
    assert!((before..=millis(asked())).contains(&time));
}

#[tokio::test]
async fn secrets_are_in_no_debug_form_and_no_error() {
    let Some(place) = Place::durable() else { return };
    let password = "open sesame";
    let wrong = format!("redis://:open%20sesame@{}", place.server());
    let options = RedisOptions::from_url(&wrong).unwrap();
    let refused = RedisStore::open(&options).await;
    let mut shown = vec![format!("{options:?}")];
    if let Err(refused) = refused {
        let mut cause: Option<&dyn std::error::Error> = Some(&refused);
        while let Some(error) = cause {
            shown.push(format!("{error} {error:?}"));
            cause = error.source();
        }
    }
    let store = place.open().await;
    shown.push(format!("{store:?}"));
    // An error within a script, whose text and arguments the server might repeat.
    let sessions = place.keys();
    assert!(!sessions.is_empty());
    store.insert_session(&session(1, 1)).await.unwrap();
    let rows = place.keys().into_iter().find(|key| key.ends_with("}:sessions")).unwrap();
    redis::cmd("HSET")
        .arg(&rows)
        .arg(session_id(1).to_string())
        .arg("open sesame")
        .exec(&mut place.connect())
        .unwrap();
    for error in [
        store.session(&key(1, 1)).await.map(drop).unwrap_err(),
        store.advance(&key(1, 1), &advance(0)).await.map(drop).unwrap_err(),
        store.end_session(&key(1, 1), &end()).await.map(drop).unwrap_err(),
        store.raise_epoch(&user_id(1), &raise()).await.map(drop).unwrap_err(),
    ] {
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            shown.push(format!("{error} {error:?}"));
            cause = error.source();
        }
    }
    let id = user_id(1).to_string();
    for text in shown {
        for secret in [password, "open%20sesame", "sesame", "redis.call", "local function", id.as_str()] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[tokio::test]
async fn sec_155_keys_have_a_fixed_form_whatever_the_texts() {
    let Some(place) = Place::durable() else { return };
    let store = place.open().await;
    let policy = ThrottlePolicy::default();
    store.insert_admin_key(&admin_key()).await.unwrap();
    let texts = ["{", "}", "{}:log", "a:b", "*", "\u{202e}é😀", "' OR 1=1", "{\"$ne\":\"\"}", "a b"];
    for (number, text) in (0..).zip(texts) {
        let user_id = UserId::new(text).unwrap();
        let mut session = session(1, 1);
        session.user_id = user_id.clone();
        store.insert_session(&session).await.unwrap();
        store.raise_epoch(&user_id, &raise()).await.unwrap();
        store.begin_attempt(&format!("{text}\n\0"), NOW, &policy).await.unwrap().unwrap();
        let key = StoredKey { key_id: KeyId::new(text).unwrap(), ..stored_key() };
        store.insert_key(&key).await.unwrap();
        assert!(store.user_by_name(NameKey::Email(&format!("{text}\n"))).await.unwrap().is_none());
        store.put_secret(&OneTimeSecret { user_id: user_id.clone(), ..secret(1) }).await.unwrap();
        store.remember_device(&KnownDevice { user_id: user_id.clone(), ..device(1) }).await.unwrap();
        let record = AuditRecord { name: format!("{text}\n"), user_id: Some(user_id), ..record(number) };
        store.insert_audit(&[record]).await.unwrap();
        store.enqueue_mail(&mail(number)).await.unwrap();
    }
    let keys = place.keys();
    assert!(keys.len() > 60);
    for key in &keys {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b":.{}".contains(&byte);
        assert!(key.bytes().all(fits), "{key}");
        let ttl: i64 = redis::cmd("PTTL").arg(key).query(&mut place.connect()).unwrap();
        assert_eq!(ttl, -1, "nothing goes by itself: {key}");
    }
}

#[tokio::test]
async fn epochs_are_exact_up_to_the_last() {
    let Some(place) = Place::durable() else { return };
    let store = place.open().await;
    let last = u64::MAX;
    for (number, epoch, next) in [
        (1_u128, 1_u64 << 53, (1 << 53) + 1),
        (2, (1 << 53) + 1, (1 << 53) + 2),
        (3, 9_999_999_999, 10_000_000_000),
        (4, 99_999_999_999_999_999, 100_000_000_000_000_000),
        (5, last - 1, last),
        (6, last, last),
    ] {
        let user_id = user_id(number);
        let target = Target::User { user_id: user_id.clone(), epoch: Epoch::new(epoch), except: None };
        store.insert_entry(&Entry { target, until: NOW, at: NOW }).await.unwrap();
        assert_eq!(store.epoch(&user_id).await.unwrap(), Epoch::new(epoch));
        let mut session = session(number, 1);
        session.epoch = Epoch::new(epoch - 1);
        assert_eq!(store.insert_session(&session).await.unwrap(), SessionInserted::EpochRaised);
        session.epoch = Epoch::new(epoch);
        assert_eq!(store.insert_session(&session).await.unwrap(), SessionInserted::Yes);
        assert!(store.advance(&session.key(), &advance(0)).await.unwrap().is_some());
        let raised = store.raise_epoch(&user_id, &raise()).await.unwrap();
        assert_eq!(raised.key().number, next, "after {epoch}");
        assert_eq!(store.epoch(&user_id).await.unwrap(), Epoch::new(next));
        // There is no epoch after the last, so nothing ends there.
        let advanced = store.advance(&session.key(), &advance(1)).await.unwrap();
        assert_eq!(advanced.is_some(), epoch == last, "after {epoch}");
    }
    let entries = store.entries(Timestamp::MIN, None, 100).await.unwrap();
    assert_eq!(entries.len(), 11);
    assert!(entries.is_sorted_by_key(Entry::key));
}

#[tokio::test]
async fn a_tail_with_many_young_entries_is_read_in_pages_too() {
    let Some(place) = Place::durable() else { return };
    let store = place.open().await;
    let mut written = Vec::new();
    for number in 0..40 {
        // Every third one is too old.
        let entry = token(number, if number % 3 == 0 { NOW - seconds(1) } else { NOW });
        store.insert_entry(&entry).await.unwrap();
        written.push(entry);
    }
    written.retain(|entry| entry.at >= NOW);
    written.sort_by_key(Entry::key);
    for page in [1, 5, 13, 14, 26, 27, 100] {
        let mut read: Vec<Entry> = Vec::new();
        loop {
            let entries = store.entries(NOW, read.last(), page).await.unwrap();
            assert!(entries.len() <= page);
            let is_last = entries.len() < page;
            read.extend(entries);
            if is_last {
                break;
            }
        }
        assert_eq!(read, written, "pages of {page}");
    }
}

#[tokio::test]
async fn a_highest_epoch_is_not_looked_at_by_the_purge_until_it_is_outdone() {
    let Some(place) = Place::durable() else { return };
    let store = place.open().await;
    let purgeable =
        || -> u64 { redis::cmd("ZCARD").arg(place.key("log:until")).query(&mut place.connect()).unwrap() };
    for raised in 0..3 {
        store.raise_epoch(&user_id(1), &raise()).await.unwrap();
        assert_eq!(purgeable(), raised);
    }
    let later = NOW + seconds(100_000);
    assert_eq!(store.purge_entries(later, 100).await.unwrap(), 2);
    assert_eq!(store.purge_entries(later, 100).await.unwrap(), 0);
    assert_eq!(store.epoch(&user_id(1)).await.unwrap(), Epoch::new(3));
    assert_eq!(purgeable(), 0);
}

#[tokio::test]
async fn what_is_purged_leaves_nothing_behind() {
    let Some(place) = Place::durable() else { return };
    let store = place.open().await;
    let before = place.keys();
    for number in 0..450 {
        store.insert_session(&session(number % 7, number)).await.unwrap();
        store.end_session(&key(number % 7, number), &end()).await.unwrap();
        store.insert_entry(&token(number, NOW)).await.unwrap();
        store.begin_attempt(&number.to_string(), NOW, &ThrottlePolicy::default()).await.unwrap().unwrap();
        store.put_secret(&secret(number)).await.unwrap();
        store.remember_device(&device(number)).await.unwrap();
        store.insert_audit(&[record(number)]).await.unwrap();
        let since = NOW + seconds(u64::try_from(number).unwrap() / 3);
        let dead = OutboxMail { state: OutboxState::Dead { since }, ..mail(number) };
        store.enqueue_mail(&dead).await.unwrap();
        store.insert_user(&user(number, &format!("{number}@example.com"))).await.unwrap();
    }
    let later = NOW + seconds(100 * 86_400);
    // More than one step of the lists.
    let all = AuditPage { limit: 1_000, ..AuditPage::default() };
    assert_eq!(store.audit(&all).await.unwrap().len(), 450);
    assert_eq!(store.dead_letters(None, 1_000).await.unwrap().len(), 450);
    let all = UserPage { query: None, after: None, limit: 1_000 };
    assert_eq!(store.users(&all).await.unwrap().len(), 450);
    for user in store.users(&UserPage { query: Some("@example"), ..all }).await.unwrap() {
        assert!(store.delete_user(&user.id).await.unwrap());
    }
    assert_eq!(store.purge_audit(later, 1_000).await.unwrap(), 450);
    assert_eq!(store.purge_dead_letters(later, 1_000).await.unwrap(), 450);
    assert_eq!(store.purge_sessions(later, 1_000).await.unwrap(), 450);
    assert_eq!(store.purge_entries(later, 1_000).await.unwrap(), 900);
    assert_eq!(store.purge_attempts(later, 1_000).await.unwrap(), 450);
    let (mut before, mut after) = (before, place.keys());
    before.sort();
    after.sort();
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_name_never_leads_to_an_account_that_has_given_it_up() {
    let Some(place) = Place::durable() else { return };
    let store = place.open().await;
    let one = user(1, "one@example.com");
    assert_eq!(store.insert_user(&one).await.unwrap(), UserInserted::Yes);
    // As a lookup finds it that has read the name's owner just before the account gave the name up.
    let renamed = User { email: None, username: Username::parse("one").ok(), ..one.clone() };
    assert_eq!(store.replace_user(&one, &renamed).await.unwrap(), UserReplaced::Yes);
    let old_name = place.keys().into_iter().find(|key| key.contains(":username:")).unwrap();
    let old_name =
        old_name.replace("username:6f6e65", &format!("email:{}", "6f6e65406578616d706c652e636f6d"));
    redis::cmd("SET").arg(old_name).arg(one.id.as_str()).exec(&mut place.connect()).unwrap();
    assert!(store.user_by_name(NameKey::Email("one@example.com")).await.unwrap().is_none());
    assert!(store.user_by_name(NameKey::Username("one")).await.unwrap().is_some());
}

#[tokio::test]
async fn user_numbers_are_exact_beyond_2_to_the_53() {
    let Some(place) = Place::durable() else { return };
    let store = place.open().await;
    let high = (1_u64 << 53) + 1;
    for (at_least, number) in [(1, 1), (9, 9), (10, 10), (high, high), (high, high + 1), (1, high + 2)] {
        assert_eq!(store.next_user_number(at_least).await.unwrap(), number, "at least {at_least}");
    }
    assert!(store.next_user_number(u64::MAX).await.is_err(), "more than Redis counts");
    assert_eq!(store.next_user_number(0).await.unwrap(), high + 3);
}

/// A node starts by reading all of it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a while, and a gigabyte; run with --ignored"]
async fn slow_a_million_entries_are_read_in_pages() {
    const USERS: u128 = 1_000;
    const EACH: u128 = 1_000;
    let Some(place) = Place::durable() else { return };
    let store = Arc::new(place.open().await);
    let mut writes = JoinSet::new();
    for number in 0..USERS {
        let store = store.clone();
        writes.spawn(async move {
            for part in 0..EACH / 100 {
                let first = number * EACH + part * 100;
                let ids = (first..first + 100).map(|id| TokenId::new(Uuid::from_u128(id))).collect();
                let tokens = TokenRevocation { ids, at: NOW, until: NOW + seconds(900), limit: 10_000 };
                assert_eq!(store.revoke_tokens(&user_id(number), &tokens).await.unwrap(), TokensRevoked::Yes);
            }
        });
        if writes.len() >= 32 {
            writes.join_next().await.unwrap().unwrap();
        }
    }
    writes.join_all().await;
    let (mut count, mut after) = (0, None);
    loop {
        let page = store.entries(Timestamp::MIN, after.as_ref(), 5_000).await.unwrap();
        count += page.len() as u128;
        after = page.last().cloned();
        if after.is_none() {
            break;
        }
    }
    assert_eq!(count, USERS * EACH);
}

/// Makes the data look as the layout before had them.
fn lay_out_as_before(place: &Place) {
    let mut connection = place.connect();
    for key in place.keys() {
        if let Some(user) = key.strip_suffix("epochs") {
            let epochs: Vec<String> = redis::cmd("HGETALL").arg(&key).query(&mut connection).unwrap();
            redis::cmd("HSET").arg(format!("{user}log")).arg(epochs).exec(&mut connection).unwrap();
        }
        if ["epochs", "live", "tokens"].iter().any(|new| key.ends_with(&format!("}}:{new}"))) {
            redis::cmd("DEL").arg(&key).exec(&mut connection).unwrap();
        }
    }
    lay_out_as_in_2(place);
    redis::cmd("HSET").arg(place.key("meta")).arg("layout").arg("1").exec(&mut connection).unwrap();
}

/// Makes the accounts look as layout 2 had them.
fn lay_out_as_in_2(place: &Place) {
    let mut connection = place.connect();
    for account in place.keys().iter().filter(|key| key.ends_with("}:account")) {
        let newer = ["email_key", "username_key", "revision"];
        redis::cmd("HDEL").arg(account).arg(&newer).exec(&mut connection).unwrap();
    }
    redis::cmd("DEL").arg(place.key("accounts")).exec(&mut connection).unwrap();
    redis::cmd("HSET").arg(place.key("meta")).arg("layout").arg("2").exec(&mut connection).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_of_the_layout_before_are_listed_searched_and_changed() {
    let Some(place) = Place::durable() else { return };
    let store = place.open().await;
    // More than one step of the conversion takes.
    for number in 0..700 {
        let username = Username::parse(&format!("Old_{number}")).ok();
        let user = User { username, ..user(number, &format!("Old{number}@example.com")) };
        assert_eq!(store.insert_user(&user).await.unwrap(), UserInserted::Yes);
    }
    store.close().await;
    lay_out_as_in_2(&place);
    let untouched = RedisStore::open(&place.options().run_migrations(false)).await;
    assert!(matches!(untouched.unwrap_err(), OpenError::NotMigrated { .. }));

    // Several programs convert at once.
    let mut opening = JoinSet::new();
    for _ in 0..3 {
        let options = place.options();
        opening.spawn(async move { RedisStore::open(&options).await.unwrap() });
    }
    let mut stores = opening.join_all().await;
    let store = stores.pop().unwrap();
    let page = |query, limit| UserPage { query, after: None, limit };
    let all = store.users(&page(None, 1_000)).await.unwrap();
    assert_eq!(all.len(), 700);
    for (query, expected) in [("old69", 11), ("ld_7", 11), ("Old", 0), ("@example", 700)] {
        assert_eq!(store.users(&page(Some(query), 1_000)).await.unwrap().len(), expected, "{query}");
    }
    let one = store.user_by_name(NameKey::Username("old_7")).await.unwrap().unwrap();
    assert_eq!(one.revision, 0);
    assert!(store.set_disabled(&one.id, Some(NOW)).await.unwrap());
    assert_eq!(store.replace_user(&one, &one).await.unwrap(), UserReplaced::Changed);
    let one = store.user(&one.id).await.unwrap().unwrap();
    let renamed = User { username: None, email: EmailAddress::parse("new@example.com").ok(), ..one.clone() };
    assert_eq!(store.replace_user(&one, &renamed).await.unwrap(), UserReplaced::Yes);
    for old in [NameKey::Username("old_7"), NameKey::Email("old7@example.com")] {
        assert!(store.user_by_name(old).await.unwrap().is_none());
    }
    assert!(store.delete_user(&one.id).await.unwrap());
    assert_eq!(store.users(&page(None, 1_000)).await.unwrap().len(), 699);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_in_the_layout_before_are_converted_when_the_store_is_opened() {
    let Some(place) = Place::durable() else { return };
    let store = place.open().await;
    // More than one step of the conversion takes.
    for number in 0..700 {
        store.insert_session(&session(1, number)).await.unwrap();
    }
    store.end_session(&key(1, 5), &end()).await.unwrap();
    store.insert_session(&session(2, 1)).await.unwrap();
    store.raise_epoch(&user_id(2), &raise()).await.unwrap();
    store.insert_session(&Session { epoch: Epoch::new(1), ..session(2, 2) }).await.unwrap();
    let tokens = |limit| TokenRevocation {
        ids: (0..3).map(|number| TokenId::new(Uuid::from_u128(number))).collect(),
        at: NOW,
        until: NOW + seconds(900),
        limit,
    };
    store.revoke_tokens(&user_id(1), &tokens(3)).await.unwrap();
    let all = SessionPage::first(1_000);
    let before = [
        store.live_sessions(&user_id(1), NOW, all).await.unwrap(),
        store.live_sessions(&user_id(2), NOW, all).await.unwrap(),
    ];
    assert_eq!(before.each_ref().map(Vec::len), [699, 1]);
    let log = store.entries(Timestamp::MIN, None, 1_000).await.unwrap();
    store.close().await;

    lay_out_as_before(&place);
    let untouched = RedisStore::open(&place.options().run_migrations(false)).await;
    assert!(matches!(untouched.unwrap_err(), OpenError::NotMigrated { .. }));
    let store = place.open().await;
    let after = [
        store.live_sessions(&user_id(1), NOW, all).await.unwrap(),
        store.live_sessions(&user_id(2), NOW, all).await.unwrap(),
    ];
    assert_eq!(after, before);
    assert_eq!(store.entries(Timestamp::MIN, None, 1_000).await.unwrap(), log);
    assert_eq!(store.epoch(&user_id(2)).await.unwrap(), Epoch::new(1));
    assert_eq!(store.epoch_raised_at(&user_id(2)).await.unwrap(), Some(raise().at));
    let more = TokenRevocation { ids: vec![TokenId::new(Uuid::from_u128(9))], ..tokens(3) };
    let refused = store.revoke_tokens(&user_id(1), &more).await.unwrap();
    assert_eq!(refused, TokensRevoked::TooMany { free_at: NOW + seconds(900) }, "three are counted");
    // A second time there is nothing to do.
    store.close().await;
    assert_eq!(place.open().await.epoch(&user_id(2)).await.unwrap(), Epoch::new(1));
}
