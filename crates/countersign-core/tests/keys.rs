//! The life of the keys, on one node and on several over one store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use countersign_core::flow::{Background, CheckError, KeyLifeError, Pair};
use countersign_core::model::key_state;
use countersign_core::model::{Device, KeyPurpose, KeyState, SessionPolicy, Target};
use countersign_core::store::MemoryStore;
use countersign_jwt::claims::decode_unverified;
use countersign_jwt::key::JwkSet;
use countersign_jwt::{Algorithm, Clock as _, KeyId, SigningKey, Timestamp, UserId, VerifyError, jws};
use countersign_testkit::{BedConfig, Instrumented, Point, SeededRandom, TestBed};
use tokio::runtime::Handle;

/// The default bound on a view's age.
const BOUND: Duration = Duration::from_secs(5);

async fn begin(bed: &TestBed) -> Pair {
    bed.begin(&UserId::new("ada").expect("a user id"), Device::default()).await
}

fn key_id(token: &str) -> KeyId {
    let token = decode_unverified(token).expect("a token");
    let id = token.header().get("kid").and_then(|id| id.as_str()).expect("a key id");
    KeyId::new(id).expect("a key id")
}

async fn states(bed: &TestBed, purpose: KeyPurpose) -> Vec<KeyState> {
    let keys = bed.stores.keys().keys().await.expect("the store answers");
    let overlap = bed.config().policy.key_overlap(purpose);
    let own = keys.iter().filter(|key| key.purpose == purpose);
    own.map(|key| key_state(key, &keys, bed.clock.now(), overlap)).collect()
}

fn refused(outcome: Result<countersign_jwt::Claims, CheckError>) -> bool {
    matches!(outcome, Err(CheckError::Invalid(VerifyError::UnknownKey)))
}

#[tokio::test]
async fn sec_040_a_key_is_next_then_active_then_retiring_then_gone() {
    use KeyState::{Active, Gone, Next, Retiring};

    let bed = TestBed::over(MemoryStore::new()).await;
    let old = begin(&bed).await;
    let new = bed.sessions.keys().rotate(KeyPurpose::Access, Some(Algorithm::Es256), false).await.unwrap();
    assert_eq!(states(&bed, KeyPurpose::Access).await, [Active, Next]);
    assert!(bed.sessions.keys().public_keys().contains(new.key_id.as_str()), "published before it signs");
    assert_eq!(key_id(&begin(&bed).await.access_token), key_id(&old.access_token));
    let again = bed.sessions.keys().rotate(KeyPurpose::Access, None, false).await;
    assert!(matches!(again, Err(KeyLifeError::UnderWay(id)) if id == new.key_id));

    bed.clock.advance(BOUND);
    bed.sessions.keys().poll().await.unwrap();
    assert_eq!(states(&bed, KeyPurpose::Access).await, [Retiring, Active]);
    let young = begin(&bed).await;
    assert_eq!(key_id(&young.access_token), new.key_id);
    for pair in [&old, &young] {
        assert!(bed.authenticate(&pair.access_token).await.is_ok());
    }
    assert!(bed.sessions.keys().public_keys().contains(key_id(&old.access_token).as_str()));

    // As long as one of its tokens may live, and a second more.
    let overlap = bed.config().policy.key_overlap(KeyPurpose::Access);
    assert!(overlap >= bed.config().policy.access_lifetime + Duration::from_secs(600));
    bed.clock.advance(overlap - Duration::from_secs(1));
    bed.sessions.keys().poll().await.unwrap();
    assert_eq!(states(&bed, KeyPurpose::Access).await, [Retiring, Active]);
    bed.clock.advance(Duration::from_secs(1));
    bed.sessions.keys().poll().await.unwrap();
    assert_eq!(states(&bed, KeyPurpose::Access).await, [Gone, Active]);
    assert!(!bed.sessions.keys().public_keys().contains(key_id(&old.access_token).as_str()));
    assert_eq!(states(&bed, KeyPurpose::Refresh).await, [Active]);
}

#[tokio::test]
async fn sec_040_twenty_rotations_fail_no_valid_token_on_any_node() {
    let bed = TestBed::over(MemoryStore::new()).await;
    let other = bed.another_node().await;
    let mut pairs = vec![begin(&bed).await];
    for round in 0..20 {
        let node = if round % 2 == 0 { &bed } else { &other };
        node.sessions.keys().rotate(KeyPurpose::Access, None, false).await.unwrap();
        // Within the bound every node polls, one after the other.
        bed.clock.advance(BOUND / 2);
        bed.sessions.keys().poll().await.unwrap();
        pairs.push(begin(&bed).await);
        bed.clock.advance(BOUND / 2);
        other.sessions.keys().poll().await.unwrap();
        // This one has taken the new key into use, the first has not yet.
        pairs.extend([begin(&other).await, begin(&bed).await]);
        for pair in &pairs {
            for node in [&bed, &other] {
                node.authenticate(&pair.access_token).await.unwrap();
            }
        }
    }
    let used: std::collections::BTreeSet<_> = pairs.iter().map(|pair| key_id(&pair.access_token)).collect();
    assert_eq!(used.len(), 21);
}

const DAY: Duration = Duration::from_secs(86_400);

/// A service elsewhere that verifies with the published keys, and fetches them anew only when its copy is as old as
/// caches may make it.
struct Elsewhere {
    keys: countersign_jwt::KeyRing,
    fetched_at: Timestamp,
}

impl Elsewhere {
    /// The longest that caches may keep the set (SEC-042).
    const KEEPS: Duration = Duration::from_secs(600);

    fn fetch(bed: &TestBed) -> Self {
        let keys = JwkSet::parse(bed.sessions.keys().public_keys().as_bytes()).and_then(|set| set.to_ring());
        let keys = keys.expect("a set of good keys");
        Self { keys, fetched_at: bed.clock.now() }
    }

    fn accepts(&mut self, bed: &TestBed, token: &str) -> bool {
        if bed.clock.now().since(self.fetched_at) >= Self::KEEPS {
            *self = Self::fetch(bed);
        }
        jws::verify(token, &self.keys).is_ok()
    }
}

#[tokio::test]
async fn sec_040_keys_replace_themselves_for_days_and_no_valid_token_fails_here_or_elsewhere() {
    let policy = SessionPolicy { key_rotation: Some(DAY), ..SessionPolicy::default() };
    let config = BedConfig { policy, ..BedConfig::default() };
    let bed = TestBed::with(MemoryStore::new(), config).await;
    let other = bed.another_node().await;
    let nodes = [&bed, &other];
    // Services that fetched at different times, from different nodes.
    let mut elsewhere = Vec::new();
    let mut pairs: Vec<Pair> = Vec::new();
    let mut used = std::collections::BTreeSet::new();
    let life = bed.config().policy.access_lifetime;
    let (mut checked, mut failed) = (0_u32, 0_u32);
    // Ten days in steps of a bit less than five minutes.
    for round in 0..3_000_usize {
        bed.clock.advance(Duration::from_secs(289));
        for node in nodes {
            node.sessions.keys().poll().await.unwrap();
        }
        let node = nodes[round % 2];
        for key in node.sessions.keys().rotate_due().await.unwrap() {
            assert!(key.active_at.since(bed.clock.now()) >= Elsewhere::KEEPS, "published before it signs");
        }
        if elsewhere.len() < 4 {
            elsewhere.push(Elsewhere::fetch(node));
        }
        let now = bed.clock.now();
        pairs.retain(|pair| now < pair.access_expires_at);
        let new = [begin(&bed).await, begin(&other).await];
        used.extend(new.iter().map(|pair| key_id(&pair.access_token)));
        pairs.extend(new);
        assert!(pairs.len() as u64 <= 2 * (life.as_secs() / 289 + 1));
        for pair in &pairs {
            for node in nodes {
                failed += u32::from(node.authenticate(&pair.access_token).await.is_err());
            }
            for (number, verifier) in elsewhere.iter_mut().enumerate() {
                failed += u32::from(!verifier.accepts(nodes[number % 2], &pair.access_token));
            }
            checked += 6;
        }
    }
    assert_eq!((failed, used.len()), (0, 11), "{checked} checks");
    assert!(checked > 100_000, "{checked}");
    let keys = states(&bed, KeyPurpose::Access).await;
    assert_eq!(keys.iter().filter(|state| **state == KeyState::Active).count(), 1);
    assert!(
        keys.iter().filter(|state| **state == KeyState::Gone).count() >= 9,
        "old ones are gone: {keys:?}"
    );
    // A session from before is refreshed all the same: its key retires for as long as a session may live.
    assert!(states(&bed, KeyPurpose::Refresh).await.iter().all(|state| *state != KeyState::Gone));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sec_040_twenty_scheduled_rotations_under_load_fail_no_valid_token() {
    let policy = SessionPolicy { key_rotation: Some(DAY), ..SessionPolicy::default() };
    let bed = TestBed::with(MemoryStore::new(), BedConfig { policy, ..BedConfig::default() }).await;
    let other = bed.another_node().await;
    let stop = Arc::new(AtomicBool::new(false));
    let checked = Arc::new(AtomicU64::new(0));
    let users = (0..4).map(|user| {
        let (nodes, stop, checked) = ([bed.clone(), other.clone()], stop.clone(), checked.clone());
        tokio::spawn(async move {
            let user = UserId::new(&format!("user-{user}")).unwrap();
            let mut failures = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let pair = nodes[0].begin(&user, Device::default()).await;
                let refreshed = nodes[1].refresh(&pair.refresh_token, Device::default()).await;
                let refreshed = match refreshed {
                    Ok(refreshed) => refreshed.pair,
                    Err(error) => {
                        failures.push(error.to_string());
                        continue;
                    }
                };
                for node in &nodes {
                    for pair in [&pair, &refreshed] {
                        let outcome = loop {
                            match node.authenticate(&pair.access_token).await {
                                // The clock jumped while the log was read.
                                Err(CheckError::ViewTooOld(_)) => {}
                                outcome => break outcome,
                            }
                        };
                        match outcome {
                            Ok(_) => {}
                            // The clock was moved while this round was under way: not a valid token any more.
                            Err(_) if nodes[0].clock.now() >= pair.access_expires_at => {}
                            Err(error) => failures.push(error.to_string()),
                        }
                        checked.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            failures
        })
    });
    let users: Vec<_> = users.collect();
    let mut used = std::collections::BTreeSet::new();
    while used.len() < 21 {
        // Almost a day at once while no key waits; minute by minute until the waiting one has taken over.
        let keys = bed.stores.keys().keys().await.unwrap();
        let last = keys.iter().filter(|key| key.purpose == KeyPurpose::Access).map(|key| key.active_at);
        let ahead = Duration::from_secs(660);
        let until_due = (last.max().unwrap() + DAY - ahead).since(bed.clock.now());
        let minute = Duration::from_secs(60);
        bed.clock.advance(if until_due < DAY - ahead { until_due.max(minute) } else { minute });
        let before = checked.load(Ordering::Relaxed);
        let (one, two) = tokio::join!(bed.sessions.keys().rotate_due(), other.sessions.keys().rotate_due());
        one.unwrap();
        two.unwrap();
        for node in [&bed, &other] {
            node.sessions.keys().poll().await.unwrap();
        }
        used.insert(key_id(&begin(&bed).await.access_token));
        while checked.load(Ordering::Relaxed) < before + 8 {
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for user in users {
        assert_eq!(user.await.unwrap(), Vec::<String>::new());
    }
    assert!(checked.load(Ordering::Relaxed) > 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_nodes_that_rotate_at_once_make_one_key() {
    let bed = TestBed::over(MemoryStore::new()).await;
    let mut nodes = vec![bed.clone()];
    for _ in 0..7 {
        nodes.push(bed.another_node().await);
    }
    for round in 1..=5 {
        bed.clock.advance(90 * DAY);
        let racing = nodes
            .iter()
            .cloned()
            .map(|node| tokio::spawn(async move { node.sessions.keys().rotate_due().await.unwrap().len() }));
        let mut made = 0;
        for racer in racing.collect::<Vec<_>>() {
            made += racer.await.unwrap();
        }
        assert_eq!(made, 2, "one for access, one for refresh tokens");
        for node in &nodes {
            assert!(node.sessions.keys().rotate_due().await.unwrap().is_empty());
        }
        assert_eq!(states(&bed, KeyPurpose::Access).await.len(), 1 + round);
        bed.clock.advance(DAY);
        let racing = nodes.iter().map(|node| node.sessions.keys().poll());
        for polled in racing {
            polled.await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_schedule_can_be_switched_off_and_follows_the_algorithm_that_is_asked_for() {
    let policy = SessionPolicy { key_rotation: None, ..SessionPolicy::default() };
    let bed = TestBed::with(MemoryStore::new(), BedConfig { policy, ..BedConfig::default() }).await;
    bed.clock.advance(4_000 * DAY);
    assert!(bed.sessions.keys().rotate_due().await.unwrap().is_empty());

    let policy = SessionPolicy { key_algorithm: Some(Algorithm::Es384), ..SessionPolicy::default() };
    let bed = TestBed::with(bed.stores.clone(), BedConfig { policy, ..BedConfig::default() }).await;
    bed.clock.advance(4_000 * DAY);
    let made = bed.sessions.keys().rotate_due().await.unwrap();
    let algorithms: Vec<_> = made.iter().map(|key| (key.purpose, key.algorithm)).collect();
    assert_eq!(algorithms, [(KeyPurpose::Access, Algorithm::Es384), (KeyPurpose::Refresh, Algorithm::Hs256)]);
    let by_hand = bed.sessions.keys().rotate(KeyPurpose::Access, None, false).await;
    assert!(matches!(by_hand, Err(KeyLifeError::UnderWay(_))));
}

#[tokio::test]
async fn the_background_replaces_keys_that_are_due() {
    let bed = TestBed::over(MemoryStore::new()).await;
    bed.clock.advance(90 * DAY);
    let _running = Background::start(&Handle::current(), &bed.sessions, &bed.stores);
    while states(&bed, KeyPurpose::Access).await.len() < 2
        || states(&bed, KeyPurpose::Refresh).await.len() < 2
    {
        tokio::task::yield_now().await;
    }
    assert_eq!(states(&bed, KeyPurpose::Access).await, [KeyState::Active, KeyState::Next]);
}

#[tokio::test]
async fn a_key_from_elsewhere_becomes_the_next_one_and_never_comes_back_once_removed() {
    let bed = TestBed::over(MemoryStore::new()).await;
    let first = begin(&bed).await;
    let imported = SigningKey::generate(Algorithm::Rs256, &SeededRandom::new(7)).unwrap();
    let named = imported.clone().with_key_id(KeyId::new("from-elsewhere").unwrap());
    let row = bed.sessions.keys().import(&named, false).await.unwrap();
    assert_eq!((row.key_id.as_str(), row.algorithm), ("from-elsewhere", Algorithm::Rs256));
    assert!(bed.sessions.keys().public_keys().contains("from-elsewhere"));
    bed.clock.advance(BOUND);
    bed.sessions.keys().poll().await.unwrap();
    let pair = begin(&bed).await;
    assert_eq!(key_id(&pair.access_token).as_str(), "from-elsewhere");
    for pair in [&first, &pair] {
        bed.authenticate(&pair.access_token).await.unwrap();
    }
    let known = |outcome| matches!(outcome, Err(KeyLifeError::Known(_)));
    assert!(known(bed.sessions.keys().import(&named, true).await));

    let other = SigningKey::generate(Algorithm::Es256, &SeededRandom::new(8)).unwrap();
    bed.sessions.keys().import(&other, true).await.unwrap();
    bed.sessions.keys().remove(other.key_id()).await.unwrap();
    let renamed = other.clone().with_key_id(KeyId::new("another-name").unwrap());
    for key in [&other, &renamed] {
        assert!(known(bed.sessions.keys().import(key, true).await), "a removed key under any name");
    }
}

#[tokio::test]
async fn sec_041_a_removed_keys_tokens_fail_at_once_here_and_within_the_bound_elsewhere() {
    let bed = TestBed::over(MemoryStore::new()).await;
    let other = bed.another_node().await;
    let pair = begin(&bed).await;
    let stolen = key_id(&pair.access_token);
    assert!(other.authenticate(&pair.access_token).await.is_ok());

    let successor = bed.sessions.keys().remove(&stolen).await.unwrap().unwrap();
    assert!(refused(bed.authenticate(&pair.access_token).await), "at once");
    assert!(!bed.sessions.keys().public_keys().contains(stolen.as_str()));
    // The other node has not polled; when its view is older than the bound it does before it answers.
    bed.clock.advance(BOUND + Duration::from_millis(1));
    assert!(refused(other.authenticate(&pair.access_token).await), "within the bound");
    assert!(!other.sessions.keys().public_keys().contains(stolen.as_str()));

    // The session goes on with the key that took its place, and the other node learns it from the token.
    let refreshed = bed.refresh(&pair.refresh_token, Device::default()).await.unwrap().pair;
    assert_eq!(key_id(&refreshed.access_token), successor);
    assert!(other.authenticate(&refreshed.access_token).await.is_ok());
    assert!(matches!(bed.sessions.keys().remove(&stolen).await, Err(KeyLifeError::Unknown)));

    // For good: not after a restart either, nor when the log's entry is gone.
    bed.clock.advance(Duration::from_secs(40 * 86_400));
    for node in [&bed, &bed.another_node().await] {
        node.sessions.keys().poll().await.unwrap();
        assert!(!node.sessions.keys().public_keys().contains(stolen.as_str()));
    }
    let keys = bed.stores.keys().keys().await.unwrap();
    let row = keys.iter().find(|key| key.key_id == stolen).unwrap();
    assert!(row.sealed.is_empty(), "its secret is wiped");
}

#[tokio::test]
async fn sec_041_the_background_takes_a_removed_key_out() {
    let bed = TestBed::over(MemoryStore::new()).await;
    let other = bed.another_node().await;
    let pair = begin(&bed).await;
    let _running = Background::start(&Handle::current(), &other.sessions, &other.stores);
    bed.sessions.keys().remove(&key_id(&pair.access_token)).await.unwrap();
    while other.authenticate(&pair.access_token).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(refused(other.authenticate(&pair.access_token).await));
}

#[tokio::test]
async fn sec_041_a_removed_refresh_key_ends_refreshing() {
    let bed = TestBed::over(MemoryStore::new()).await;
    let pair = begin(&bed).await;
    bed.sessions.keys().remove(&key_id(&pair.refresh_token)).await.unwrap().unwrap();
    assert!(bed.refresh(&pair.refresh_token, Device::default()).await.is_err());
    assert!(bed.authenticate(&pair.access_token).await.is_ok());
    let new = begin(&bed).await;
    bed.refresh(&new.refresh_token, Device::default()).await.unwrap();
}

#[tokio::test]
async fn when_the_active_key_is_removed_the_next_one_signs_at_once() {
    use KeyState::{Active, Gone, Next, Retiring};

    let bed = TestBed::over(MemoryStore::new()).await;
    let signs = async || key_id(&begin(&bed).await.access_token);
    let first = signs().await;
    let second = bed.sessions.keys().rotate(KeyPurpose::Access, None, true).await.unwrap().key_id;
    // Nobody waits: one is made. An older one does not sign again.
    let third = bed.sessions.keys().remove(&second).await.unwrap().unwrap();
    assert_eq!(states(&bed, KeyPurpose::Access).await, [Retiring, Gone, Active]);
    assert_eq!(signs().await, third);
    bed.clock.advance(BOUND);
    bed.sessions.keys().poll().await.unwrap();
    assert_eq!(states(&bed, KeyPurpose::Access).await, [Retiring, Gone, Active]);

    // One was about to sign anyhow.
    let fourth = bed.sessions.keys().rotate(KeyPurpose::Access, None, false).await.unwrap().key_id;
    assert_eq!(bed.sessions.keys().remove(&third).await.unwrap(), Some(fourth.clone()));
    assert_eq!(states(&bed, KeyPurpose::Access).await, [Retiring, Gone, Gone, Active]);
    assert_eq!(signs().await, fourth);

    // One that only waits, or retires, needs no successor.
    bed.clock.advance(BOUND);
    let next = bed.sessions.keys().rotate(KeyPurpose::Access, None, false).await.unwrap().key_id;
    assert_eq!(bed.sessions.keys().remove(&next).await.unwrap(), None);
    assert_eq!(bed.sessions.keys().remove(&first).await.unwrap(), None);
    assert_eq!(states(&bed, KeyPurpose::Access).await, [Gone, Gone, Gone, Active, Gone]);
    assert_eq!(signs().await, fourth);

    // One waits, but for minutes: until its time comes another one signs.
    let schedule = bed.sessions.policy().key_schedule().unwrap();
    bed.clock.advance(schedule.every - schedule.ahead);
    let scheduled = bed.sessions.keys().rotate_due().await.unwrap();
    let scheduled = scheduled.iter().find(|key| key.purpose == KeyPurpose::Access).unwrap();
    let seventh = bed.sessions.keys().remove(&fourth).await.unwrap().unwrap();
    assert_eq!(states(&bed, KeyPurpose::Access).await[3..], [Gone, Gone, Next, Active]);
    assert_eq!(signs().await, seventh);
    bed.clock.advance(schedule.ahead);
    bed.sessions.keys().poll().await.unwrap();
    assert_eq!(states(&bed, KeyPurpose::Access).await[3..], [Gone, Gone, Active, Retiring]);
    assert_eq!(signs().await, scheduled.key_id);
}

#[tokio::test]
async fn sec_041_no_node_exchanges_a_removed_keys_token_for_one_of_its_successor() {
    // Held between the steps of the removal, whatever a node has read of it.
    for point in [Point::After("insert_key"), Point::Before("remove_key"), Point::After("remove_key")] {
        for purpose in [KeyPurpose::Access, KeyPurpose::Refresh] {
            let watched = Instrumented::new(MemoryStore::new());
            let bed = TestBed::over(watched.stores()).await;
            let other = bed.another_node().await;
            let stolen = begin(&bed).await;
            let token =
                if purpose == KeyPurpose::Access { &stolen.access_token } else { &stolen.refresh_token };
            let mut gate = watched.hold(point);
            let removing = tokio::spawn({
                let (sessions, id) = (bed.sessions.clone(), key_id(token));
                async move { sessions.keys().remove(&id).await }
            });
            gate.arrived().await;
            other.sessions.keys().reload().await.unwrap();
            let exchanged = other.refresh(&stolen.refresh_token, Device::default()).await;
            gate.open();
            removing.await.unwrap().unwrap();
            if purpose == KeyPurpose::Refresh {
                other.sessions.keys().poll().await.unwrap();
                for pair in exchanged.ok().map(|refreshed| refreshed.pair).iter().chain([&stolen]) {
                    let refreshed = other.refresh(&pair.refresh_token, Device::default()).await;
                    assert!(
                        refreshed.is_err(),
                        "{point:?}: a token of the removed key has become a good one"
                    );
                }
            } else {
                assert!(exchanged.is_ok(), "{point:?}: the refresh token is none of the removed key");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_038_tokens_by_unknown_keys_wait_for_one_reload_together() {
    let watched = Instrumented::new(MemoryStore::new());
    let bed = TestBed::over(watched.stores()).await;
    let config = BedConfig { random: Arc::new(SeededRandom::new(38)), ..BedConfig::default() };
    let unknown = TestBed::with(MemoryStore::new(), config).await;
    let token = begin(&unknown).await.access_token;
    bed.clock.advance(Duration::from_secs(2));
    watched.reset_calls();
    let mut gate = watched.hold(Point::Before("keys"));
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let (bed, token) = (bed.clone(), token.clone());
            tokio::spawn(async move { refused(bed.authenticate(&token).await) })
        })
        .collect();
    gate.arrived().await;
    // The keys take longer than the pause between two reloads.
    bed.clock.advance(Duration::from_secs(3));
    gate.open();
    for asked in asking {
        assert!(asked.await.unwrap());
    }
    assert_eq!(watched.calls("keys"), 1);
}

#[tokio::test]
async fn sec_041_a_removal_that_could_not_be_told_is_finished_by_asking_again() {
    let watched = Instrumented::new(MemoryStore::new());
    let bed = TestBed::over(watched.stores()).await;
    let pair = begin(&bed).await;
    let stolen = key_id(&pair.access_token);
    watched.lose_reply_of("remove_key");
    assert!(bed.sessions.keys().remove(&stolen).await.is_err(), "nobody knows whether it was removed");
    let entries = async || {
        let entries = bed.stores.revocations().entries(Timestamp::MIN, None, 100).await.unwrap();
        entries.iter().filter(|entry| entry.target == Target::Key { id: stolen.clone() }).count()
    };
    assert_eq!(entries().await, 0);
    bed.sessions.keys().remove(&stolen).await.unwrap();
    assert!(refused(bed.authenticate(&pair.access_token).await));
    assert_eq!(entries().await, 1, "the other nodes are told");
    assert!(matches!(bed.sessions.keys().remove(&stolen).await, Err(KeyLifeError::Unknown)));
}
