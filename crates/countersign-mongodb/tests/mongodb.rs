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
    Advance, AdvanceCondition, AuditRecord, EmailAddress, EndReason, Entry, KnownDevice, OneTimeSecret,
    OutboxMail, OutboxState, PasswordHash, Purpose, SecretDigest, Target, ThrottlePolicy, Tried, User,
    UserSession, Username,
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

fn record(number: u128) -> AuditRecord {
    AuditRecord {
        id: Uuid::from_u128(number),
        at: NOW,
        name: "event".to_owned(),
        user_id: Some(user_id(number)),
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
        sealed: b"sealed".to_vec(),
        created_at: NOW,
        useless_after: None,
        attempts: 0,
        state: OutboxState::Waiting { next_at: NOW },
        last_error: None,
    }
}

/// The user with another e-mail address.
fn at(user: &User, email: &str) -> User {
    User { email: EmailAddress::parse(email).ok(), ..user.clone() }
}

async fn owner(store: &MongodbStore, email: &str) -> Option<UserId> {
    store.user_by_name(NameKey::Email(email)).await.unwrap().map(|user| user.id)
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
    let same_id = store.insert_user(&user(12, "other@x.example", None)).await.unwrap();
    assert_eq!(same_id, UserInserted::IdTaken);
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
async fn a_replacement_that_was_cut_off_leaves_no_name_that_leads_astray_or_is_lost() {
    let Some(database) = Fresh::new() else { return };
    let store = database.open().await;
    let other = database.other_program().await;
    let (accounts, names) =
        (other.collection::<Document>("account"), other.collection::<Document>("account_name"));
    let claim = async |name: &str, holder: u128, operation: Option<&str>| {
        let claim = doc! { "_id": name, "user_id": user_id(holder).as_str(), "operation": operation };
        names.insert_one(claim).await.unwrap();
    };
    let note = async |holder: u128, since: Timestamp, name: &str| {
        let since = DateTime::from_millis(since.as_millis());
        let note = doc! { "operation": "cut off", "claiming_since": since, "claims": [name] };
        let account = doc! { "_id": user_id(holder).as_str() };
        accounts.update_one(account, doc! { "$set": note }).await.unwrap();
    };
    let now = store.time().await.unwrap().unwrap();
    for number in 1..=5 {
        let user = user(number, &format!("{number}@x.example"), None);
        assert_eq!(store.insert_user(&user).await.unwrap(), UserInserted::Yes);
    }
    // 1 was cut off after it had claimed a name, long ago; 2 at this moment.
    for (number, since, name) in [(1, now - seconds(3_600), "long"), (2, now, "now")] {
        let name = format!("email\t{name}@x.example");
        note(number, since, &name).await;
        claim(&name, number, Some("cut off")).await;
    }
    // 3 has given a name up, and was cut off before it deleted the claim; an older program had written the claim.
    claim("email\tbefore@x.example", 3, None).await;

    for email in ["long@x.example", "now@x.example", "before@x.example"] {
        assert_eq!(owner(&store, email).await, None, "{email} leads nowhere");
    }
    for (number, email, expected) in [
        (11, "long@x.example", UserInserted::Yes),
        (12, "now@x.example", UserInserted::EmailTaken),
        (13, "before@x.example", UserInserted::Yes),
    ] {
        assert_eq!(store.insert_user(&user(number, email, None)).await.unwrap(), expected, "{email}");
    }
    let noted = accounts.find_one(doc! { "_id": user_id(1).as_str() }).await.unwrap().unwrap();
    assert!(!noted.contains_key("operation"), "it cannot commit any more: {noted:?}");
    // The account itself takes its own claim up again, whatever is noted.
    let two = store.user(&user_id(2)).await.unwrap().unwrap();
    assert_eq!(store.replace_user(&two, &at(&two, "now@x.example")).await.unwrap(), UserReplaced::Yes);
    // A replacement takes over what others have left, as a registration does.
    claim("email\tleft@x.example", 3, Some("cut off")).await;
    let four = store.user(&user_id(4)).await.unwrap().unwrap();
    assert_eq!(store.replace_user(&four, &at(&four, "left@x.example")).await.unwrap(), UserReplaced::Yes);
    for (email, holder) in [
        ("long@x.example", Some(11)),
        ("now@x.example", Some(2)),
        ("before@x.example", Some(13)),
        ("left@x.example", Some(4)),
        ("1@x.example", Some(1)),
        ("2@x.example", None),
        ("4@x.example", None),
    ] {
        assert_eq!(owner(&store, email).await, holder.map(user_id), "{email}");
    }
    let claims = names.count_documents(doc! { "user_id": user_id(2).as_str() }).await.unwrap();
    assert_eq!(claims, 1, "the claim of the name before is deleted");

    // The account takes up again a name whose claim it has left behind.
    let five = store.user(&user_id(5)).await.unwrap().unwrap();
    assert_eq!(store.replace_user(&five, &at(&five, "away@x.example")).await.unwrap(), UserReplaced::Yes);
    claim("email\t5@x.example", 5, Some("cut off")).await;
    let five = store.user(&user_id(5)).await.unwrap().unwrap();
    assert_eq!(store.replace_user(&five, &at(&five, "5@x.example")).await.unwrap(), UserReplaced::Yes);
    assert_eq!(owner(&store, "5@x.example").await, Some(user_id(5)));
    let taken = store.insert_user(&user(15, "5@x.example", None)).await.unwrap();
    assert_eq!(taken, UserInserted::EmailTaken);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_cut_off_is_finished() {
    let Some(database) = Fresh::new() else { return };
    let store = database.open().await;
    let other = database.other_program().await;
    let accounts = other.collection::<Document>("account");
    for number in 1..=2 {
        let user = user(number, &format!("{number}@x.example"), Some(&format!("x_{number}")));
        assert_eq!(store.insert_user(&user).await.unwrap(), UserInserted::Yes);
        store.put_secret(&secret(number)).await.unwrap();
        store.remember_device(&device(number)).await.unwrap();
        // As if the process had died right after the commit, some hours ago.
        let since = store.time().await.unwrap().unwrap() - seconds(5 * 3_600);
        let deleting = doc! { "pending_at": DateTime::from_millis(since.as_millis()), "deleting": true };
        let account = doc! { "_id": user_id(number).as_str() };
        accounts.update_one(account, doc! { "$set": deleting }).await.unwrap();
        assert!(store.user(&user_id(number)).await.unwrap().is_none());
    }
    let page = UserPage { query: None, after: None, limit: 10 };
    assert_eq!(store.users(&page).await.unwrap().len(), 0);
    assert!(!store.delete_user(&user_id(1)).await.unwrap(), "it is deleted already");
    // The names are free at once.
    assert_eq!(store.insert_user(&user(11, "1@x.example", None)).await.unwrap(), UserInserted::Yes);
    store.purge_entries(NOW, 10).await.unwrap();
    for (collection, left) in
        [("account", 1), ("account_name", 1), ("one_time_secret", 0), ("known_devices", 0)]
    {
        let count = other.collection::<Document>(collection).count_documents(doc! {}).await.unwrap();
        assert_eq!(count, left, "{collection}");
    }
    assert_eq!(owner(&store, "1@x.example").await, Some(user_id(11)));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_stay_unique_when_accounts_of_several_nodes_swap_them() {
    let Some(database) = Fresh::new() else { return };
    let nodes = nodes(&database, 4).await;
    if !is_exact(&nodes[0]) {
        return;
    }
    for number in 0..6 {
        let user = user(number, &format!("{number}@swap.example"), None);
        assert_eq!(nodes[0].insert_user(&user).await.unwrap(), UserInserted::Yes);
    }
    for round in 0..20_u128 {
        let mut callers = JoinSet::new();
        for caller in 0..12_u128 {
            let node = nodes[usize::try_from(caller % 4).unwrap()].clone();
            callers.spawn(async move {
                let user = node.user(&user_id(caller % 6)).await.unwrap().unwrap();
                let wanted = format!("{}@swap.example", (caller + round) % 8);
                node.replace_user(&user, &at(&user, &wanted)).await.unwrap()
            });
        }
        callers.join_all().await;
        // Every account is found by the address that it has, and no other address leads to it.
        let mut owners = 0;
        for number in 0..8 {
            owners += usize::from(owner(&nodes[0], &format!("{number}@swap.example")).await.is_some());
        }
        assert_eq!(owners, 6, "round {round}: six accounts, each with an address of its own");
    }
    let names = database.other_program().await.collection::<Document>("account_name");
    assert_eq!(names.count_documents(doc! {}).await.unwrap(), 6, "and no claim is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_given_up_and_taken_up_at_once_stay_with_their_account() {
    let Some(database) = Fresh::new() else { return };
    let nodes = nodes(&database, 4).await;
    if !is_exact(&nodes[0]) {
        return;
    }
    for number in 0..2 {
        let user = user(number, &format!("{number}@once.example"), None);
        assert_eq!(nodes[0].insert_user(&user).await.unwrap(), UserInserted::Yes);
    }
    for round in 0..60 {
        let mut callers = JoinSet::new();
        for caller in 0..8_u128 {
            let node = nodes[usize::try_from(caller % 4).unwrap()].clone();
            callers.spawn(async move {
                for step in 0..3 {
                    let user = node.user(&user_id(caller % 2)).await.unwrap().unwrap();
                    let wanted = format!("{}@once.example", (caller + step + round) % 3);
                    node.replace_user(&user, &at(&user, &wanted)).await.unwrap();
                }
            });
        }
        callers.join_all().await;
        for number in 0..2 {
            let user = nodes[0].user(&user_id(number)).await.unwrap().unwrap();
            let email = user.email.unwrap().key().to_owned();
            let found = owner(&nodes[0], &email).await;
            assert_eq!(found, Some(user_id(number)), "round {round}: {email} leads to its account");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_an_older_program_has_written_are_read_listed_searched_and_changed() {
    let Some(database) = Fresh::new() else { return };
    let store = database.open().await;
    let other = database.other_program().await;
    for number in 0..3_u128 {
        let (id, name) = (user_id(number), format!("Old_{number}"));
        let account = doc! {
            "_id": id.as_str(), "email": format!("{name}@Example.com"), "username": &name,
            "password_hash": "a hash", "created_at": NOW.as_millis(), "disabled_at": Bson::Null,
        };
        other.collection::<Document>("account").insert_one(account).await.unwrap();
        for key in [format!("email\told_{number}@example.com"), format!("username\told_{number}")] {
            let claim = doc! { "_id": key, "user_id": id.as_str() };
            other.collection::<Document>("account_name").insert_one(claim).await.unwrap();
        }
    }
    store.insert_user(&user(9, "new@example.com", None)).await.unwrap();
    for (query, expected) in
        [(None, 4), (Some("old_"), 3), (Some("old_1"), 1), (Some("Old"), 0), (Some("new"), 1)]
    {
        let page = UserPage { query, after: None, limit: 10 };
        assert_eq!(store.users(&page).await.unwrap().len(), expected, "{query:?}");
    }
    let one = store.user_by_name(NameKey::Username("old_1")).await.unwrap().unwrap();
    assert!(one.revision == 0 && one.roles.is_empty() && one.language.is_none());
    assert!(store.set_disabled(&one.id, Some(NOW)).await.unwrap());
    assert_eq!(store.replace_user(&one, &one).await.unwrap(), UserReplaced::Changed);
    let one = store.user(&one.id).await.unwrap().unwrap();
    assert_eq!(one.revision, 1);
    let renamed = User { username: Username::parse("renamed").ok(), email: None, ..one.clone() };
    assert_eq!(store.replace_user(&one, &renamed).await.unwrap(), UserReplaced::Yes);
    assert!(owner(&store, "old_1@example.com").await.is_none());
    let two = store.user(&user_id(2)).await.unwrap().unwrap();
    assert_eq!(store.replace_user(&two, &at(&two, "old_1@example.com")).await.unwrap(), UserReplaced::Yes);
    assert_eq!(owner(&store, "old_1@example.com").await, Some(user_id(2)));
    assert!(store.delete_user(&user_id(2)).await.unwrap());
    let claims = other.collection::<Document>("account_name");
    let left = claims.count_documents(doc! { "user_id": user_id(2).as_str() }).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_mails_numbers_and_devices_are_exact_between_nodes() {
    let Some(database) = Fresh::new() else { return };
    let nodes = nodes(&database, 4).await;
    if !is_exact(&nodes[0]) {
        return;
    }
    for round in 0..5_u128 {
        nodes[0].put_secret(&secret(round)).await.unwrap();
        for number in 0..8 {
            nodes[0].enqueue_mail(&mail(100 * round + number)).await.unwrap();
        }
        let mut callers = JoinSet::new();
        for caller in 0..16 {
            let node = nodes[caller % 4].clone();
            callers.spawn(async move {
                let right = SecretDigest::of("right");
                let tried = node.try_secret(&user_id(round), Purpose::Invite, &right, NOW).await.unwrap();
                let claimed = node.claim_mail(NOW, NOW + seconds(60), 3).await.unwrap();
                let digest = SecretDigest::of(&caller.to_string());
                node.remember_device(&KnownDevice { digest, ..device(round) }).await.unwrap();
                let number = node.next_user_number(1).await.unwrap();
                let ids: Vec<_> = claimed.iter().map(|mail| mail.id).collect();
                (matches!(tried, Some((Tried::Right, _))), ids, number)
            });
        }
        let answers = callers.join_all().await;
        assert_eq!(
            answers.iter().filter(|(used, ..)| *used).count(),
            1,
            "round {round}: one uses the secret"
        );
        let mut claimed: Vec<_> = answers.iter().flat_map(|(_, ids, _)| ids.clone()).collect();
        claimed.sort_unstable();
        let all: Vec<_> = (0..8).map(|number| Uuid::from_u128(100 * round + number)).collect();
        assert_eq!(claimed, all, "round {round}: every mail is claimed once");
        let mut numbers: Vec<_> = answers.iter().map(|(.., number)| *number).collect();
        numbers.sort_unstable();
        let first = u64::try_from(16 * round).unwrap();
        assert_eq!(numbers, (first + 1..=first + 16).collect::<Vec<_>>(), "round {round}");
        assert_eq!(nodes[0].forget_devices(&user_id(round)).await.unwrap(), 16, "round {round}");
    }
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
    store.insert_audit(&[record(1)]).await.unwrap();
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
        let page = UserPage { query: Some(text), after: None, limit: 10 };
        assert_eq!(store.users(&page).await.unwrap().len(), 0, "{text}");
        let page = AuditPage { name: Some(text), limit: 10, ..AuditPage::default() };
        assert_eq!(store.audit(&page).await.unwrap(), []);
        assert!(!store.delete_user(&id).await.unwrap());
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
    store.put_secret(&secret(1)).await.unwrap();
    store.remember_device(&device(1)).await.unwrap();
    let now = store.time().await.unwrap().unwrap();
    let other = database.other_program().await;
    for (collection, field, lives) in [
        ("session", "gone_at", seconds(10 * 86_400)),
        ("throttle", "gone_at", seconds(30 * 86_400)),
        ("token_batch", "touched_at", Duration::ZERO),
        ("one_time_secret", "gone_at", seconds(60)),
        ("known_devices", "gone_at", Duration::ZERO),
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
    let other = user(9_000, "nobody@hang.example", None);
    let user = user(1_000 + number, &format!("{number}@hang.example"), None);
    let (secret, device, records) = (secret(number), device(number), [record(number)]);
    let page = UserPage { query: Some("hang"), after: None, limit: 1 };
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
        replacing,
        listing,
        keeping,
        remembering,
        claiming,
        recording,
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
        store.replace_user(&other, &other),
        store.users(&page),
        store.put_secret(&secret),
        store.remember_device(&device),
        store.claim_mail(NOW, NOW, 1),
        store.insert_audit(&records),
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
        replacing.map(drop),
        listing.map(drop),
        keeping,
        remembering.map(drop),
        claiming.map(drop),
        recording,
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
