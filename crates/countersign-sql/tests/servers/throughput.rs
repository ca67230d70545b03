//! How many refreshes a second, and how soon another node hears of a revocation: figures for whoever changes a hot
//! statement. `cargo test --release -- --ignored --nocapture`
#![allow(clippy::print_stdout, reason = "figures are for whoever asked for them")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_core::model::{Device, SessionPolicy};
use countersign_core::store::{RevocationStore as _, SessionStore as _, Stores, UserStore as _};
use countersign_testkit::{BedConfig, TestBed};
use tokio::task::JoinSet;

use crate::support::{
    Database, ServerUnderTest, advance, key, open, patient, session, token_entry, user, user_id,
};

const CLIENTS: u128 = 64;
const REFRESHES: u128 = 300;

pub(crate) async fn slow_refreshes_of_64_clients_at_once<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    for (way, url) in S::ways(&database).iter().enumerate() {
        let way = if way == 0 { "straight" } else { "through a pooler" };
        let store = open::<S>(&patient::<S>(url)).await;
        let measured = advance_all::<S>(&store).await;
        println!("{way}: {measured:.0} advances a second");
        let measured = refresh_all::<S>(store).await;
        println!("{way}: {measured:.0} refreshes a second");
    }
}

/// The statement alone.
async fn advance_all<S: ServerUnderTest>(store: &Arc<S::Store>) -> f64 {
    let mut clients = JoinSet::new();
    let began = now();
    for client in 0..CLIENTS {
        let store = store.clone();
        clients.spawn(async move {
            store.insert_session(&session(1000 + client, client)).await.unwrap();
            for from in 0..u32::try_from(REFRESHES).unwrap() {
                store.advance(&key(1000 + client, client), &advance(from)).await.unwrap();
            }
        });
    }
    clients.join_all().await;
    rate(began.elapsed())
}

/// All that a refresh is: the user is read, and the session steps.
async fn refresh_all<S: ServerUnderTest>(store: Arc<S::Store>) -> f64 {
    // Without grace every refresh is a step, though the clock stands still.
    let policy = SessionPolicy { grace: Duration::ZERO, ..SessionPolicy::default() };
    let config = BedConfig { policy, ..BedConfig::default() };
    let bed = TestBed::with(Stores::from(store.clone()), config).await;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        // Made once, found again the second way.
        let _ = store.insert_user(&user(client, &format!("{client}@example.org"), None)).await;
        let mut pair = bed.begin(&user_id(client), Device::default()).await;
        let (bed, store) = (bed.clone(), store.clone());
        clients.spawn(async move {
            for _ in 0..REFRESHES {
                assert!(store.user(&user_id(client)).await.unwrap().is_some());
                pair = bed.refresh(&pair.refresh_token, Device::default()).await.unwrap().pair;
            }
        });
    }
    let began = now();
    clients.join_all().await;
    rate(began.elapsed())
}

fn rate(took: Duration) -> f64 {
    f64::from(u32::try_from(CLIENTS * REFRESHES).unwrap()) / took.as_secs_f64()
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn now() -> Instant {
    Instant::now()
}

pub(crate) async fn slow_how_soon_another_node_is_told<S: ServerUnderTest>() {
    let Some(database) = Database::<S>::fresh().await else { return };
    let (writer, reader) = (database.open().await, database.open().await);
    let mut changes = reader.changes().unwrap();
    changes.next().await;
    let mut took = Vec::new();
    for number in 0..200 {
        let at = writer.time().await.unwrap().unwrap();
        let began = now();
        writer.insert_entry(&token_entry(1, number, at)).await.unwrap();
        changes.next().await;
        took.push(began.elapsed());
        // So that the looks do not fall into step with the writes.
        tokio::time::sleep(Duration::from_millis(u64::try_from(number % 25).unwrap())).await;
    }
    took.sort_unstable();
    println!("told after {:?} (median), {:?} (95 %), {:?} (longest)", took[100], took[190], took[199]);
}
