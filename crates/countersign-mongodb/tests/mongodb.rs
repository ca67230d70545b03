//! What is particular to MongoDB and its relatives: several nodes on one database, what crashes leave behind, servers
//! that hang, weak settings.
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
    Advance, AdvanceCondition, EndReason, Entry, PasswordHash, Target, ThrottlePolicy, UserSession,
};
use countersign_core::store::*;
use countersign_jwt::{Epoch, Generation, SessionId, Timestamp, TokenId, UserId};
use countersign_mongodb::{MongodbOptions, MongodbStore, OpenError, migrate};
use countersign_testkit::Proxy;
use mongodb::bson::{Bson, DateTime, Document, doc};
use support::*;
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

fn key(user: u128, number: u128) -> UserSession {
    UserSession { user_id: user_id(user), id: session_id(number) }
}

fn advance(from: u32) -> Advance {
    Advance {
        from: Generation::new(from),
        to: Generation::new(from + 1),
        guard: AdvanceCondition::Generation,
        now: NOW + seconds(60),
        idle_until: NOW + seconds(86_460),
        device: Default::default(),
    }
}

fn end(at: Timestamp) -> End {
    End { reason: EndReason::LoggedOut, at, until: at + seconds(900) }
}

fn raise(except: Option<SessionId>, at: Timestamp) -> EpochRaise {
    EpochRaise { except, reason: EndReason::AllEnded, at, until: at + seconds(900) }
}

fn tokens(ids: &[u128], limit: usize) -> TokenRevocation {
    let ids = ids.iter().map(|id| TokenId::new(Uuid::from_u128(*id))).collect();
    TokenRevocation { ids, at: NOW, until: NOW + seconds(900), limit }
}

/// Several nodes on one database.
async fn nodes(database: &Fresh, count: usize) -> Vec<Arc<MongodbStore>> {
    let mut opening = JoinSet::new();
    for _ in 0..count {
        let options = database.options();
        opening.spawn(async move { Arc::new(MongodbStore::open(&options).await.unwrap()) });
    }
    opening.join_all().await
}

fn is_exact(store: &MongodbStore) -> bool {
    !OpenStore::weaknesses(store).contains(&Weakness::UnsettledRaces)
}

#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_open_an_empty_database_at_once() {
    let Some(database) = Fresh::new() else { return };
    let nodes = nodes(&database, 5).await;
    for (number, node) in (0..).zip(&nodes) {
        assert_eq!(node.insert_session(&session(1, number)).await.unwrap(), SessionInserted::Yes);
    }
    for node in &nodes {
        assert_eq!(node.live_sessions(&user_id(1), NOW, SessionPage::first(1_000)).await.unwrap().len(), 5);
    }
    let mut naming = JoinSet::new();
    for (number, node) in (1..).zip(nodes) {
        naming.spawn(async move { node.store_id(Uuid::from_u128(number)).await.unwrap() });
    }
    let names = naming.join_all().await;
    assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_are_made_only_if_that_is_wanted_and_a_newer_version_is_refused() {
    let Some(database) = Fresh::new() else { return };
    let careful = database.options().run_migrations(false);
    assert!(matches!(MongodbStore::open(&careful).await, Err(OpenError::NotMigrated)));
    migrate(&database.options()).await.unwrap();
    let store = MongodbStore::open(&careful).await.unwrap();
    assert!(!store.has_keys().await.unwrap());
    store.close().await;

    let other = database.other_program().await.collection::<Document>("store");
    other.update_one(doc! { "_id": "schema" }, doc! { "$set": { "version": 99_i64 } }).await.unwrap();
    match MongodbStore::open(&database.options()).await {
        Err(OpenError::Newer { found: 99, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_one_node_is_pushed_to_the_others() {
    let Some(database) = Fresh::new() else { return };
    is_pushed(&database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_stream_pushes_an_entry_to_the_others() {
    let Some(database) = Fresh::with_change_streams() else { return };
    is_pushed(&database).await;
    let other = database.other_program().await;
    let store = other.collection::<Document>("store");
    assert!(store.find_one(doc! { "_id": "schema" }).await.unwrap().is_some());
    assert_eq!(store.find_one(doc! { "_id": "bell" }).await.unwrap(), None, "nobody had to look");
}

async fn is_pushed(database: &Fresh) {
    let nodes = nodes(database, 2).await;
    let (writer, reader) = (&nodes[0], &nodes[1]);
    let mut changes = reader.changes().unwrap();
    // The first one may be heard because the reader has begun to listen; the others can not.
    for number in 0..5 {
        match number {
            0 => drop(writer.raise_epoch(&user_id(1), &raise(None, NOW)).await.unwrap()),
            1 => drop(writer.revoke_tokens(&user_id(1), &tokens(&[1], 10)).await.unwrap()),
            2 => {
                let target = Target::Session { user_id: user_id(1), id: session_id(9) };
                writer.insert_entry(&Entry { target, until: NOW, at: NOW }).await.unwrap();
            }
            _ => {
                writer.insert_session(&session(2, number)).await.unwrap();
                writer.end_session(&key(2, number), &end(NOW)).await.unwrap();
            }
        }
        let heard = timeout(seconds(10), changes.next()).await;
        assert!(heard.expect("the reader hears of it"), "{number}");
        let read = reader.entries(Timestamp::MIN, None, 100).await.unwrap();
        assert_eq!(read.len() as u128, number + 1, "what was pushed is there");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_changes_is_told_when_the_store_is_gone() {
    let Some(database) = Fresh::new() else { return };
    let store = database.open().await;
    let mut changes = store.changes().unwrap();
    drop(store);
    timeout(seconds(10), async { while changes.next().await {} }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_092_of_advances_on_several_nodes_one_wins() {
    let Some(database) = Fresh::new() else { return };
    let nodes = nodes(&database, 4).await;
    if !is_exact(&nodes[0]) {
        return;
    }
    nodes[0].insert_session(&session(1, 1)).await.unwrap();
    for generation in 0..20 {
        let mut callers = JoinSet::new();
        for caller in 0..64 {
            let node = nodes[caller % 4].clone();
            callers.spawn(async move { node.advance(&key(1, 1), &advance(generation)).await.unwrap() });
        }
        let winners: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "generation {generation}");
        assert_eq!(winners[0].generation, Generation::new(generation + 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_126_of_attempts_on_several_nodes_the_limit_begins() {
    let Some(database) = Fresh::new() else { return };
    let nodes = nodes(&database, 4).await;
    if !is_exact(&nodes[0]) {
        return;
    }
    for round in 0..5 {
        let mut callers = JoinSet::new();
        for caller in 0..100 {
            let node = nodes[caller % 4].clone();
            callers.spawn(async move {
                let policy = ThrottlePolicy::default();
                node.begin_attempt(&format!("user:{round}"), NOW, &policy).await.unwrap().is_ok()
            });
        }
        let begun = callers.join_all().await.into_iter().filter(|begun| *begun).count();
        assert_eq!(begun, 5, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revocations_of_tokens_on_several_nodes_keep_the_limit() {
    let Some(database) = Fresh::new() else { return };
    let nodes = nodes(&database, 4).await;
    if !is_exact(&nodes[0]) {
        return;
    }
    for round in 0..5 {
        let mut callers = JoinSet::new();
        for caller in 0..12_u128 {
            let node = nodes[usize::try_from(caller % 4).unwrap()].clone();
            let ids: Vec<_> = (0..4).map(|id| 1_000 * round + 10 * caller + id).collect();
            callers
                .spawn(async move { node.revoke_tokens(&user_id(round), &tokens(&ids, 10)).await.unwrap() });
        }
        let answers = callers.join_all().await;
        let written = answers.iter().filter(|answer| **answer == TokensRevoked::Yes).count();
        assert_eq!(written, 2, "round {round}: two times four are within ten");
        let mut read = nodes[0].entries(Timestamp::MIN, None, 1_000).await.unwrap();
        read.retain(|entry| entry.user_id() == Some(&user_id(round)));
        assert_eq!(read.len(), 8, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_stay_unique_between_nodes_whatever_else_is_weak() {
    let Some(database) = Fresh::new() else { return };
    let nodes = nodes(&database, 4).await;
    for round in 0..5 {
        let mut callers = JoinSet::new();
        for caller in 0..16_u128 {
            let node = nodes[usize::try_from(caller % 4).unwrap()].clone();
            let user =
                user(100 * round + caller, &format!("{round}@race.example"), Some(&format!("race_{round}")));
            callers.spawn(async move { node.insert_user(&user).await.unwrap() });
        }
        let answers = callers.join_all().await;
        let winners = answers.iter().filter(|answer| **answer == UserInserted::Yes).count();
        assert_eq!(winners, 1, "round {round}: {answers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_a_raised_epoch_overtook_leaves_no_session() {
    let Some(database) = Fresh::new() else { return };
    let store = database.open().await;
    store.raise_epoch(&user_id(1), &raise(None, NOW)).await.unwrap();
    assert_eq!(store.insert_session(&session(1, 1)).await.unwrap(), SessionInserted::EpochRaised);
    let rows = database.other_program().await.collection::<Document>("session");
    assert_eq!(rows.count_documents(doc! {}).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_cut_off_after_its_entry_is_finished_by_the_next_one() {
    let Some(database) = Fresh::new() else { return };
    let store = database.open().await;
    store.insert_session(&session(1, 1)).await.unwrap();
    store.end_session(&key(1, 1), &end(NOW)).await.unwrap();
    let rows = database.other_program().await.collection::<Document>("session");
    let unmark = doc! { "$set": { "ended_at": Bson::Null, "end_reason": Bson::Null } };
    rows.update_one(doc! {}, unmark).await.unwrap();

    assert_eq!(store.advance(&key(1, 1), &advance(0)).await.unwrap(), None);
    assert_eq!(store.live_sessions(&user_id(1), NOW, SessionPage::first(1_000)).await.unwrap(), []);
    let later = End { reason: EndReason::EndedByUser, ..end(NOW + seconds(60)) };
    assert_eq!(store.end_session(&key(1, 1), &later).await.unwrap(), SessionEnded::Before);
    let ended = store.session(&key(1, 1)).await.unwrap().unwrap().session.ended.unwrap();
    assert_eq!((ended.at, ended.reason), (NOW, EndReason::LoggedOut), "as the first end meant it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_was_cut_off_gives_its_names_back() {
    let Some(database) = Fresh::new() else { return };
    let store = database.open().await;
    let other = database.other_program().await;
    let (accounts, names) =
        (other.collection::<Document>("account"), other.collection::<Document>("account_name"));
    let claim = async |name: &str, holder: u128| {
        names.insert_one(doc! { "_id": name, "user_id": user_id(holder).as_str() }).await.unwrap();
    };
    let pending = async |holder: u128, since: DateTime| {
        let account = doc! { "_id": user_id(holder).as_str(), "email": "x@x.example", "pending_at": since };
        accounts.insert_one(account).await.unwrap();
    };
    let now = store.time().await.unwrap().unwrap();
    let date = |time: Timestamp| DateTime::from_millis(time.as_millis());

    // Nothing but the claim is left.
    claim("email\tgone@x.example", 1).await;
    // The account was never finished, long ago.
    claim("email\tlong@x.example", 2).await;
    pending(2, date(now - seconds(3_600))).await;
    // It is being finished this moment.
    claim("email\tnow@x.example", 3).await;
    pending(3, date(now)).await;
    assert!(store.user(&user_id(3)).await.unwrap().is_none(), "a pending account is not there");
    assert!(store.user_by_name(NameKey::Email("now@x.example")).await.unwrap().is_none());
    assert!(!store.set_disabled(&user_id(3), None).await.unwrap());

    for (number, email, expected) in [
        (11, "gone@x.example", UserInserted::Yes),
        (12, "long@x.example", UserInserted::Yes),
        (13, "now@x.example", UserInserted::EmailTaken),
    ] {
        assert_eq!(store.insert_user(&user(number, email, None)).await.unwrap(), expected, "{email}");
        let found = store.user_by_name(NameKey::Email(email)).await.unwrap();
        let there = expected == UserInserted::Yes;
        assert_eq!(found.map(|user| user.id), there.then(|| user_id(number)), "{email}");
    }
    assert!(store.insert_user(&user(12, "other@x.example", None)).await.is_err(), "the id is taken");
    assert!(store.user_by_name(NameKey::Email("other@x.example")).await.unwrap().is_none());

    // What nobody asks for again is purged.
    pending(4, date(now - seconds(3 * 86_400))).await;
    store.purge_entries(NOW, 10).await.unwrap();
    let left = accounts.count_documents(doc! { "_id": user_id(4).as_str() }).await.unwrap();
    assert_eq!(left, 0);
    let kept = accounts.count_documents(doc! { "_id": user_id(3).as_str() }).await.unwrap();
    assert_eq!(kept, 1, "it may still be finished");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_tokens_that_was_cut_off_is_counted_and_finished() {
    let Some(database) = Fresh::new() else { return };
    let store = database.open().await;
    store.revoke_tokens(&user_id(1), &tokens(&[1, 2], 5)).await.unwrap();
    // As if the process had died between the batch and the log.
    let other = database.other_program().await;
    other.collection::<Document>("revocation").delete_many(doc! { "kind": "token" }).await.unwrap();
    assert_eq!(
        store.revoke_tokens(&user_id(1), &tokens(&[3, 4, 5, 6], 5)).await.unwrap(),
        TokensRevoked::TooMany { free_at: NOW + seconds(900) }
    );
    assert_eq!(store.revoke_tokens(&user_id(1), &tokens(&[3], 5)).await.unwrap(), TokensRevoked::Yes);
    let read = store.entries(Timestamp::MIN, None, 100).await.unwrap();
    let ids: Vec<_> = read.into_iter().map(|entry| entry.key().reference).collect();
    assert_eq!(ids, [1, 2, 3].map(|id| Uuid::from_u128(id).to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn purging_keeps_the_user_entry_that_decides_for_the_excepted_session() {
    let Some(database) = Fresh::new() else { return };
    let store = database.open().await;
    let (first, second) = (session_id(1), session_id(2));
    for (number, except) in [(1, None), (2, Some(first)), (3, Some(second)), (4, Some(second))] {
        let target = Target::User { user_id: user_id(1), epoch: Epoch::new(number), except };
        store.insert_entry(&Entry { target, until: NOW, at: NOW }).await.unwrap();
    }
    assert_eq!(store.purge_entries(NOW + seconds(1), 10).await.unwrap(), 2);
    let numbers = async || {
        let read = store.entries(Timestamp::MIN, None, 100).await.unwrap();
        read.into_iter().map(|entry| entry.key().number).collect::<Vec<_>>()
    };
    assert_eq!(numbers().await, [2, 4], "4 for all but the second session, 2 for that one");
    store.raise_epoch(&user_id(1), &raise(None, NOW)).await.unwrap();
    assert_eq!(store.purge_entries(NOW + seconds(10_000), 10).await.unwrap(), 2);
    assert_eq!(numbers().await, [5], "5 for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn purging_goes_on_behind_what_stays() {
    let Some(database) = Fresh::new() else { return };
    let store = database.open().await;
    let log = database.other_program().await.collection::<Document>("revocation");
    // More users than one step looks at, each with one entry that stays, all of the same age; and two that go.
    let entries = (0..2_500_u128).map(|number| {
        let user = user_id(number);
        doc! {
            "_id": format!("{user}\tuser\t\t{:020}", 2), "user_id": user.as_str(), "kind": "user", "ref": "",
            "n": 2_i64, "except": Bson::Null, "until": 5_i64, "at": 5_i64,
        }
    });
    log.insert_many(entries).await.unwrap();
    for number in [1, 2_499] {
        let target = Target::User { user_id: user_id(number), epoch: Epoch::new(1), except: None };
        let until = Timestamp::from_millis(if number == 1 { 5 } else { 6 });
        store.insert_entry(&Entry { target, until, at: until }).await.unwrap();
    }
    assert_eq!(store.purge_entries(NOW, 10_000).await.unwrap(), 2);
    assert_eq!(log.count_documents(doc! {}).await.unwrap(), 2_500);
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_155_texts_that_look_like_operators_are_texts() {
    let Some(database) = Fresh::new() else { return };
    let store = database.open().await;
    store.insert_session(&session(1, 1)).await.unwrap();
    store.insert_user(&user(1, "ada@example.com", Some("ada"))).await.unwrap();
    for text in [r#"{"$ne":""}"#, r#"{"$gt": ""}"#, "$where", "$user_id", ".*", "a.b"] {
        let id = UserId::new(text).unwrap();
        assert_eq!(store.live_sessions(&id, NOW, SessionPage::first(1_000)).await.unwrap(), []);
        assert_eq!(
            store
                .advance(&UserSession { user_id: id.clone(), id: session_id(1) }, &advance(0))
                .await
                .unwrap(),
            None
        );
        store.raise_epoch(&id, &raise(None, NOW)).await.unwrap();
        assert!(store.user(&id).await.unwrap().is_none());
        assert!(store.user_by_name(NameKey::Username(text)).await.unwrap().is_none());
        let hash = PasswordHash::from_stored(text.to_owned());
        assert!(!store.replace_password_hash(&user_id(1), Some(&hash), &hash).await.unwrap());
        assert!(store.attempts(text).await.unwrap().is_none());
    }
    assert_eq!(store.epoch(&user_id(1)).await.unwrap(), Epoch::FIRST);
    assert!(store.session(&key(1, 1)).await.unwrap().unwrap().session.ended.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn weak_settings_and_servers_are_told() {
    let Some(database) = Fresh::new() else { return };
    let separator = if database.url.contains('?') { '&' } else { '?' };
    let path = if database.url.matches('/').count() < 3 { "/" } else { "" };
    let url = format!("{}{path}{separator}w=1&journal=false&readConcernLevel=local", database.url);
    let options = MongodbOptions::from_url(&url).unwrap().database(&database.name);
    let weak = MongodbStore::open(&options).await.unwrap();
    for expected in ["w is 1", "journal is false", "readConcernLevel is local"] {
        let told = weak.weaknesses().iter().any(|weakness| weakness.starts_with(expected));
        assert!(told, "{expected}: {:?}", weak.weaknesses());
    }
    let strong = database.open().await;
    let answer = database.other_program().await.run_command(doc! { "isMaster": 1 }).await.unwrap();
    let standalone = !answer.contains_key("setName") && !answer.contains_key("msg");
    let told = strong.weaknesses().iter().any(|weakness| weakness.contains("no member of a replica set"));
    assert_eq!(told, standalone, "{:?}", strong.weaknesses());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_may_delete_by_itself_is_dated_by_its_own_clock() {
    let Some(database) = Fresh::new() else { return };
    let store = database.open().await;
    // By the callers' clock, all of this was over years ago.
    store.insert_session(&session(1, 1)).await.unwrap();
    store.insert_user(&user(1, "ada@example.com", Some("ada"))).await.unwrap();
    store.begin_attempt("user:1", NOW, &ThrottlePolicy::default()).await.unwrap().unwrap();
    store.revoke_tokens(&user_id(1), &tokens(&[1], 10)).await.unwrap();
    let now = store.time().await.unwrap().unwrap();
    let other = database.other_program().await;
    for (collection, field, lives) in [
        ("session", "gone_at", seconds(10 * 86_400)),
        ("throttle", "gone_at", seconds(30 * 86_400)),
        ("token_batch", "touched_at", Duration::ZERO),
    ] {
        let document = other.collection::<Document>(collection).find_one(doc! {}).await.unwrap().unwrap();
        let date = Timestamp::from_millis(document.get_datetime(field).unwrap().timestamp_millis());
        assert!(date + seconds(60) > now + lives, "{collection}: {date:?}");
    }
    let account = other.collection::<Document>("account").find_one(doc! {}).await.unwrap().unwrap();
    assert!(!account.contains_key("pending_at") && !account.contains_key("claims"), "{account:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_time_is_told() {
    let Some(database) = Fresh::new() else { return };
    let store = database.open().await;
    let time = store.time().await.unwrap().unwrap();
    assert!(time > Timestamp::from_secs(1_750_000_000), "{time:?}");
    assert!(store.time().await.unwrap().unwrap() >= time);
    assert!(!store.is_one_copy());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_errors_or_debug_texts() {
    let Some(database) = Fresh::new() else { return };
    let servers = database.options().servers().to_owned();
    let url = format!("mongodb://ada:s3cret@{servers}/{}", database.name);
    let options = MongodbOptions::from_url(&url).unwrap().deadline(seconds(1));
    let error = MongodbStore::open(&options).await.unwrap_err();
    assert!(!format!("{error:?} {error} {options:?}").contains("s3cret"), "{error:?}");
    let store = database.open().await;
    // A document that is no account: the message names the field, and not what is in it.
    let accounts = database.other_program().await.collection::<Document>("account");
    let account = doc! { "_id": user_id(1).as_str(), "email": "s3cret", "password_hash": "s3cret", "created_at": 1_i64 };
    accounts.insert_one(account).await.unwrap();
    let error = store.user(&user_id(1)).await.unwrap_err();
    assert!(!format!("{error:?} {error}").contains("s3cret"), "{error:?}");
}

/// Everything that a request may wait for.
async fn use_everything(store: Arc<MongodbStore>, number: u128) -> Vec<Result<(), StoreError>> {
    let policy = ThrottlePolicy::default();
    let user_id = user_id(number % 5);
    let entry = Entry { target: Target::Node { id: Uuid::from_u128(number) }, until: NOW, at: NOW };
    let key = key(number % 5, number);
    let (session, revoked) = (session(number % 5, number), tokens(&[number], 1_000));
    let (advance, end, raise) = (advance(0), end(NOW), raise(None, NOW));
    let user = user(1_000 + number, &format!("{number}@hang.example"), None);
    let (
        insert_session,
        read,
        step,
        ending,
        raising,
        revoking,
        beating,
        reading,
        asking,
        registering,
        trying,
    ) = tokio::join!(
        store.insert_session(&session),
        store.session(&key),
        store.advance(&key, &advance),
        store.end_session(&key, &end),
        store.raise_epoch(&user_id, &raise),
        store.revoke_tokens(&user_id, &revoked),
        store.insert_entry(&entry),
        store.entries(NOW, None, 10),
        store.time(),
        store.insert_user(&user),
        store.begin_attempt("user:x", NOW, &policy),
    );
    vec![
        insert_session.map(drop),
        read.map(drop),
        step.map(drop),
        ending.map(drop),
        raising.map(drop),
        revoking.map(drop),
        beating,
        reading.map(drop),
        asking.map(drop),
        registering.map(drop),
        trying.map(drop),
    ]
}

/// Blocks the way to the server, and opens it again in this way.
async fn hang(reopen: fn(&Proxy)) {
    let Some(database) = Fresh::new() else { return };
    let servers = database.options().servers().to_owned();
    let proxy = Proxy::to(&servers).await;
    let (before, after) = database.url.split_once(&servers).unwrap();
    let query = after.strip_prefix('/').unwrap_or(after);
    let (_, parameters) = query.split_once('?').unwrap_or((query, ""));
    // Else the driver would learn of the replica set's own addresses, and go there.
    let url = format!("{before}{}/?directConnection=true&{parameters}", proxy.address());
    let deadline = Duration::from_millis(600);
    let options = MongodbOptions::from_url(url.trim_end_matches('&')).unwrap().database(&database.name);
    migrate(&options).await.unwrap();
    let options = options.deadline(deadline);
    let store = Arc::new(MongodbStore::open(&options).await.unwrap());
    for answer in use_everything(store.clone(), 0).await {
        answer.unwrap();
    }

    proxy.block();
    // More than there are connections, several times over: later ones find all of them taken.
    for wave in 0..3 {
        let mut waiting = JoinSet::new();
        for number in 1..30 {
            waiting.spawn(use_everything(store.clone(), 100 * wave + number));
        }
        // Twice the deadline is for the machine, which has other work.
        let answers = timeout(deadline * 3, waiting.join_all()).await.expect("nothing waits longer");
        for answer in answers.into_iter().flatten() {
            assert_eq!(answer.unwrap_err().store(), "mongodb");
        }
    }
    let opening = MongodbStore::open(&options);
    assert!(timeout(deadline * 3, opening).await.expect("opening waits no longer").is_err());

    reopen(&proxy);
    let answers = async {
        for number in 1_000_u128.. {
            if use_everything(store.clone(), number).await.into_iter().all(|answer| answer.is_ok()) {
                return;
            }
        }
    };
    timeout(seconds(30), answers).await.expect("it recovers");
    let mut changes = store.changes().unwrap();
    let other = database.open().await;
    let pushed = async {
        // The listener may still be waiting for its next try to connect.
        loop {
            other.raise_epoch(&user_id(7), &raise(None, NOW)).await.unwrap();
            if timeout(seconds(1), changes.next()).await.is_ok() {
                return;
            }
        }
    };
    timeout(seconds(30), pushed).await.expect("so does what is pushed");
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_087_a_server_that_hangs_fails_everything_by_the_deadline_and_recovers() {
    hang(Proxy::unblock).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_087_connections_that_die_without_a_word_are_replaced() {
    hang(|proxy| {
        proxy.swallow();
        proxy.unblock();
    })
    .await;
}
