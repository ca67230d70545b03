//! Guessing from many places at once, and the owner who signs in meanwhile: limits by device, account, block, address
//! and in all (SEC-125 … 132, 197 … 200).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of tests are tests too"
)]

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_core::flow::{
    Arrival, Credentials, HashError, Letter, LoginError, Presentation, Profile, SignedIn, purge,
};
use countersign_core::model::{
    Attempts, Device, DeviceToken, EmailAddress, Event, LoginLimits, Outcome, Password, ThrottlePolicy,
};
use countersign_core::store::{
    KEEP_ADDRESS_COUNTERS, KEEP_BLOCK_COUNTERS, KEEP_NAME_COUNTERS, MemoryStore, Stores,
};
use countersign_jwt::{Clock as _, UserId};
use countersign_testkit::{BedConfig, Instrumented, RecordedLetters, SeededRandom, TestBed};
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;

const WRONG: &str = "incorrect donkey battery staple";
const RIGHT: &str = TestBed::PASSWORD;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

async fn bed() -> TestBed {
    TestBed::over(MemoryStore::new()).await
}

/// An arrival from this address.
fn from(address: &str) -> Arrival {
    at(address.parse().unwrap())
}

fn at(address: IpAddr) -> Arrival {
    Arrival::new(Presentation::Explicit, Device::new(None, Some(address)))
}

/// An arrival on the device of this token.
fn on(token: &Option<DeviceToken>, address: &str) -> Arrival {
    Arrival { known_device: token.clone(), ..from(address) }
}

fn token(seed: u64) -> Option<DeviceToken> {
    Some(DeviceToken::new(&SeededRandom::new(seed)).unwrap())
}

/// The answer to a wrong password: refused for so many seconds, or wrong.
async fn guess(bed: &TestBed, name: &str, arrival: Arrival) -> Option<u64> {
    refused_for(bed.login_as(name, WRONG, arrival).await)
}

fn refused_for(answer: Result<SignedIn, LoginError>) -> Option<u64> {
    match answer {
        Err(LoginError::TooManyAttempts { retry_after }) => Some(retry_after.as_secs()),
        Err(LoginError::InvalidCredentials) => None,
        other => panic!("{other:?}"),
    }
}

fn hashes(bed: &TestBed) -> u64 {
    bed.accounts.hasher().hashes_started()
}

fn free_places(bed: &TestBed) -> usize {
    bed.accounts.hasher().free_places()
}

async fn attempts(bed: &TestBed, key: &str) -> Option<Attempts> {
    bed.stores.throttles().attempts(key).await.unwrap()
}

/// Deletes all counters of login attempts; returns how many there were.
async fn counters(stores: &Stores) -> u64 {
    stores.throttles().thin_attempts("".."\u{10ffff}", 0, 10_000_000).await.unwrap()
}

async fn settle() {
    for _ in 0..200 {
        yield_now().await;
    }
}

/// The number of guesses at this user's password that were checked, of those in the events so far.
fn checked(bed: &TestBed, user_id: &UserId) -> usize {
    let of_user =
        |event: &&Event| matches!(event, Event::LoginFailed { user_id: Some(id), .. } if id == user_id);
    bed.events.take().iter().filter(of_user).count()
}

/// Polls once.
async fn polled<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context))).await
}

// The owner under attack.

#[tokio::test]
async fn sec_121_strangers_leave_an_eighth_of_the_hash_pool_to_known_devices() {
    let config = BedConfig { hash_permits: NonZeroUsize::MIN, hash_queue: 7, ..BedConfig::default() };
    let bed = TestBed::with(MemoryStore::new(), config).await;
    let known = bed.register("ada").await.unwrap().device_token;
    // From as many addresses as guesses; the last ones with tokens of devices that they have made up.
    let mut flood: Vec<_> = (0..40_u64)
        .map(|number| {
            let bed = &bed;
            let made_up = if number < 20 { None } else { token(number) };
            let arrival = on(&made_up, &format!("192.0.2.{number}"));
            Box::pin(async move { bed.login_as(&format!("user{number}"), WRONG, arrival).await })
        })
        .collect();
    let mut waiting = Vec::new();
    for (number, guess) in flood.iter_mut().enumerate() {
        match polled(guess).await {
            Poll::Pending => waiting.push(number),
            Poll::Ready(answer) => {
                assert!(matches!(answer, Err(LoginError::Hash(HashError::Overloaded))), "{answer:?}");
            }
        }
    }
    // A made-up token has a place only until it has been looked up.
    assert_eq!(waiting, [0, 1, 2, 3, 4, 5, 6, 20]);
    let _ = flood.remove(20).await;
    bed.login_as("ada", RIGHT, on(&known, "192.0.2.200")).await.expect("a place is kept for it");
}

#[tokio::test]
async fn sec_121_one_address_fills_half_of_the_hash_pool_at_most() {
    let config = BedConfig { hash_permits: NonZeroUsize::MIN, hash_queue: 7, ..BedConfig::default() };
    let bed = TestBed::with(MemoryStore::new(), config).await;
    bed.register("ada").await.unwrap();
    // Guesses at as many names, so that nothing but the pool is in their way.
    let mut flood: Vec<_> = (0..50)
        .map(|number| {
            let bed = &bed;
            Box::pin(async move { bed.login_as(&format!("user{number}"), WRONG, from("192.0.2.1")).await })
        })
        .collect();
    let mut refused = 0;
    for guess in &mut flood {
        if let Poll::Ready(answer) = polled(guess).await {
            assert!(matches!(answer, Err(LoginError::TooManyAttempts { .. })), "{answer:?}");
            refused += 1;
        }
    }
    assert_eq!((refused, free_places(&bed)), (46, 4));
    bed.login_as("ada", RIGHT, from("192.0.2.2")).await.expect("others find a place");
    for guess in flood.into_iter().take(4) {
        assert!(matches!(guess.await, Err(LoginError::InvalidCredentials)));
    }
    bed.login_as("ada", RIGHT, from("192.0.2.1")).await.expect("a place is free again");
}

#[tokio::test]
async fn sec_125_the_owner_signs_in_while_20_guesses_a_second_come_from_everywhere() {
    const BLOCKS: u64 = 40;
    for names in [&["ada"][..], &["ada", "ada@example.org"]] {
        let bed = bed().await;
        let ada = bed.register("ada").await.unwrap();
        let known = ada.device_token;
        let random = SeededRandom::new(125);
        let mut new_networks = 0;
        let mut guessed = 0;
        for tick in 0..60 * 20 {
            bed.clock.advance(Duration::from_millis(50));
            let address = format!("{}.0.2.{}", 20 + random.below(BLOCKS), random.below(10));
            let _ = guess(&bed, random.pick(names), from(&address)).await;
            if random.chance(1) {
                guessed += checked(&bed, &ada.user.id);
                let name = random.pick(names);
                let answer = bed.login_as(name, RIGHT, on(&known, "20.0.2.1")).await;
                assert!(answer.is_ok(), "tick {tick}, by {name}, on the known device: {answer:?}");

                new_networks += 1;
                let elsewhere = format!("2a{new_networks:02x}:db8::7");
                for _ in 0..2 {
                    assert_eq!(guess(&bed, name, from(&elsewhere)).await, None, "tick {tick}, by {name}");
                }
                let answer = bed.login_as(name, RIGHT, from(&elsewhere)).await;
                assert!(answer.is_ok(), "tick {tick}, by {name}, the third try elsewhere: {answer:?}");
                let _ = bed.events.take();
            }
        }
        guessed += checked(&bed, &ada.user.id);
        assert!(new_networks > 5, "{new_networks}");
        // Three by each block; by the account itself five and one after each pause, which a success of the owner may
        // begin anew.
        let bound = 3 * usize::try_from(BLOCKS).unwrap() + 11 * (1 + new_networks);
        assert!(guessed <= bound, "{guessed} guesses of 1,200 were checked, at most {bound} should be");
        assert!(guessed >= 3 * 40, "the attack was one: {guessed}");
    }
}

#[tokio::test]
async fn sec_200_ten_thousand_failures_lock_nobody_out() {
    let bed = bed().await;
    let known = bed.register("ada").await.unwrap().device_token;
    let before = hashes(&bed);
    for number in 0..10_000_u32 {
        let address = IpAddr::from([66, 0, (number >> 8) as u8, (number & 255) as u8]);
        let _ = guess(&bed, "ada", at(address)).await;
        bed.clock.advance(Duration::from_millis(10));
    }
    assert!(hashes(&bed) - before <= 12, "{} guesses", hashes(&bed) - before);
    let throttles = bed.stores.throttles();
    let id = bed.login_as("ada", RIGHT, on(&known, "66.0.0.1")).await.expect("the device is known").user.id;

    // Even if all of them had been checked, over days.
    let mut failures = Attempts { failures: 10_000, ..Attempts::default() };
    failures.last_failure = Some(bed.clock.now());
    let policy = ThrottlePolicy { limit: u32::MAX, ..ThrottlePolicy::default() };
    while attempts(&bed, &format!("user:{id}")).await.unwrap().failures < failures.failures {
        let key = format!("user:{id}");
        throttles.begin_attempt(&key, bed.clock.now(), &policy).await.unwrap().unwrap();
        throttles.finish_attempt(&key, Outcome::Failed, bed.clock.now(), &policy).await.unwrap();
    }
    bed.login_as("ada", RIGHT, on(&known, "66.0.0.1")).await.expect("the device is known");
    bed.login_as("ada@example.org", RIGHT, on(&known, "66.0.0.1")).await.expect("by either name");
    bed.login_as("ada", RIGHT, from("77.0.0.1")).await.expect("and so does another network");
    let failures = attempts(&bed, &format!("user:{id}")).await.unwrap().failures;
    assert_eq!(failures, 10_000, "strangers gain nothing by the owner's success");
}

#[tokio::test]
async fn sec_125_a_known_device_has_a_limit_of_its_own() {
    let bed = bed().await;
    let ada = bed.register("ada").await.unwrap();
    let known = &ada.device_token;
    for number in 0..5 {
        let name = if number % 2 == 0 { "ada" } else { "ada@example.org" };
        assert_eq!(guess(&bed, name, on(known, "192.0.2.1")).await, None);
    }
    assert_eq!(guess(&bed, "ada", on(known, "192.0.2.1")).await, Some(1));
    assert_eq!(guess(&bed, "ada", on(known, "198.51.100.1")).await, Some(1), "wherever it is");
    assert_eq!(guess(&bed, "ada@example.org", on(known, "192.0.2.1")).await, Some(1), "by either name");
    bed.login_as("ada", RIGHT, from("192.0.2.1")).await.expect("others are not concerned");
    bed.clock.advance(secs(1));
    bed.login_as("ada", RIGHT, on(known, "192.0.2.1")).await.unwrap();
    assert_eq!(guess(&bed, "ada", on(known, "192.0.2.1")).await, None, "a success forgets the failures");

    // What is known of one account says nothing about another one.
    bed.register("bob").await.unwrap();
    for _ in 0..5 {
        assert_eq!(guess(&bed, "bob", on(known, "192.0.2.1")).await, None);
    }
    assert_eq!(guess(&bed, "bob", on(known, "192.0.2.1")).await, Some(1));
    assert_eq!(guess(&bed, "bob", on(&None, "192.0.2.1")).await, Some(1), "it is a stranger's");
    bed.clock.advance(secs(91 * 86_400));
    for _ in 0..5 {
        assert_eq!(guess(&bed, "ada", from("192.0.2.1")).await, None);
    }
    assert_eq!(guess(&bed, "ada", on(known, "192.0.2.1")).await, Some(1), "it was forgotten after 90 days");
}

#[tokio::test]
async fn sec_125_a_block_that_has_failed_thrice_waits_with_the_others() {
    let bed = bed().await;
    let ada = bed.register("ada").await.unwrap().user;
    for name in ["ada", "nobody"] {
        for _ in 0..5 {
            assert_eq!(guess(&bed, name, from("20.0.0.1")).await, None, "{name}");
        }
        assert_eq!(guess(&bed, name, from("20.0.0.1")).await, Some(1), "{name}");
        for number in 1..=3 {
            let address = format!("21.0.{number}.1");
            assert_eq!(guess(&bed, name, from(&address)).await, None, "{name}: {address}");
        }
        assert_eq!(guess(&bed, name, from("21.255.255.255")).await, Some(1), "{name}");
        for _ in 0..2 {
            assert_eq!(guess(&bed, name, from("2600:1::1")).await, None, "{name}");
        }
    }
    assert_eq!(attempts(&bed, &format!("user:{}", ada.id)).await.unwrap().failures, 5);
    bed.login_as("ada", RIGHT, from("2600:2::1")).await.expect("the third try is right");
    assert_eq!(guess(&bed, "ada", from("20.0.0.1")).await, Some(1), "the pause goes on for others");
    for _ in 0..2 {
        assert_eq!(guess(&bed, "ada", from("2600:1::1")).await, None, "and the block begins anew");
    }
    bed.login_as("ada", RIGHT, from("2600:2::1")).await.unwrap();

    // By the other name nothing but a wrong password is to be seen, and a block may try there too.
    assert_eq!(guess(&bed, "ada@example.org", from("20.0.0.1")).await, None);
    let answer = bed.login_as("ada@example.org", RIGHT, from("20.0.0.1")).await;
    assert!(matches!(answer, Err(LoginError::InvalidCredentials)), "{answer:?}");
    bed.login_as("ada@example.org", RIGHT, from("30.0.0.1")).await.expect("from another block");

    // After 30 days a block may try thrice again.
    bed.clock.advance(secs(30 * 86_400));
    assert_eq!(guess(&bed, "ada", from("21.0.0.1")).await, None);
}

// Many at once.

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sec_126_twenty_right_logins_of_one_user_at_once_all_succeed() {
    let first = bed().await;
    let ada = first.register("ada").await.unwrap();
    let nodes = [first.another_node().await, first.another_node().await, first.clone()];
    for (case, nodes, arrival) in [
        ("strangers, one node", &nodes[2..], from("192.0.2.1")),
        ("strangers, three nodes", &nodes[..], from("192.0.2.1")),
        ("a known device, one node", &nodes[2..], on(&ada.device_token, "192.0.2.1")),
        ("unknown addresses, one node", &nodes[2..], Arrival::new(Presentation::Explicit, Device::default())),
    ] {
        let mut logins = JoinSet::new();
        for number in 0..20 {
            let (bed, arrival) = (nodes[number % nodes.len()].clone(), arrival.clone());
            logins.spawn(async move { bed.login_as("ada", RIGHT, arrival).await.map(|_| ()) });
        }
        for answer in logins.join_all().await {
            answer.unwrap_or_else(|error| panic!("{case}: {error}"));
        }
        assert_eq!(counters(&first.stores).await, 0, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sec_197_of_200_parallel_guesses_over_three_nodes_at_most_five_are_checked() {
    let first = bed().await;
    first.register("ada").await.unwrap();
    let nodes = [first.another_node().await, first.another_node().await, first];
    let total = || nodes.iter().map(hashes).sum::<u64>();
    for name in ["ada", "nobody"] {
        let before = total();
        let mut logins = JoinSet::new();
        for number in 0..200_usize {
            let bed = nodes[number % 3].clone();
            logins.spawn(async move {
                match bed.login_as(name, WRONG, from("192.0.2.1")).await {
                    Err(LoginError::Hash(HashError::Overloaded)) => Some(1),
                    answer => refused_for(answer),
                }
            });
        }
        let answers = logins.join_all().await;
        let checked = answers.iter().filter(|answer| answer.is_none()).count();
        assert_eq!((total() - before, checked), (5, 5), "{name}");
    }
}

#[tokio::test]
async fn sec_219_a_caller_that_leaves_while_it_waits_for_others_leaves_nothing() {
    let bed = bed().await;
    bed.register("ada").await.unwrap();
    let places = free_places(&bed);
    // Somebody's hashes run on and on.
    let mut busy = Vec::new();
    for _ in 0..4 {
        busy.push(bed.accounts.hasher().place().unwrap().turn().await.unwrap());
    }
    let login = || {
        let bed = bed.clone();
        tokio::spawn(async move { bed.login_as("ada", RIGHT, from("192.0.2.1")).await.map(|_| ()) })
    };
    let running: Vec<_> = (0..5).map(|_| login()).collect();
    settle().await;
    let waiting: Vec<_> = (0..5).map(|_| login()).collect();
    settle().await;
    assert_eq!(free_places(&bed), places - 4 - 10, "those that wait keep their places");
    for login in waiting {
        login.abort();
    }
    settle().await;
    assert_eq!(free_places(&bed), places - 4 - 5, "and give them back when they leave");
    drop(busy);
    for login in running {
        login.await.unwrap().unwrap();
    }
    assert_eq!(counters(&bed.stores).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_login_does_not_wait_for_ever_for_a_node_that_has_crashed() {
    let bed = bed().await;
    let ada = bed.register("ada").await.unwrap().user;
    let policy = ThrottlePolicy::default();
    let crash = async |key: &str| {
        for _ in 0..5 {
            bed.stores.throttles().begin_attempt(key, bed.clock.now(), &policy).await.unwrap().unwrap();
        }
    };
    let known = token(1);
    let login = || bed.login_as("ada", RIGHT, on(&known, "192.0.2.1"));

    // The account's counter is not waited for, because that would tell that the account has another name.
    crash(&format!("user:{}", ada.id)).await;
    assert_eq!(refused_for(timeout(secs(1), login()).await.unwrap()), None);
    bed.clock.advance(secs(60));
    login().await.expect("the lease of the crashed node is over, and the device is known now");

    let digest = URL_SAFE_NO_PAD.encode(known.as_ref().unwrap().digest().as_bytes());
    crash(&format!("device:{digest}:{}", ada.id)).await;
    assert!(timeout(secs(9), login()).await.is_err(), "it waits");
    assert_eq!(refused_for(timeout(secs(11), login()).await.unwrap()), Some(1), "for ten seconds");
    bed.clock.advance(secs(60));
    login().await.unwrap();
}

// Sources.

#[tokio::test]
async fn sec_198_one_password_on_500_accounts_from_one_address_is_stopped() {
    let bed = bed().await;
    for number in 0..5 {
        bed.register(&format!("user{number}")).await.unwrap();
    }
    let before = hashes(&bed);
    let mut refused = 0;
    for number in 0..500 {
        match guess(&bed, &format!("user{number}"), from("192.0.2.1")).await {
            None => assert_eq!(refused, 0, "{number}: once it is stopped, it stays so"),
            Some(pause) => {
                assert_eq!(pause, 1);
                refused += 1;
            }
        }
    }
    assert_eq!((hashes(&bed) - before, refused), (20, 480));
    assert_eq!(guess(&bed, "user0", from("192.0.2.1")).await, Some(1), "known names and unknown ones alike");
    assert_eq!(guess(&bed, "user499", from("192.0.2.2")).await, None, "another address");
    let known = bed.login_as("user1", RIGHT, from("192.0.2.2")).await.unwrap().device_token;
    bed.login_as("user1", RIGHT, on(&known, "192.0.2.1")).await.expect("a known device at the same address");

    // A minute at full speed.
    let before = hashes(&bed);
    for number in 0..600 {
        bed.clock.advance(Duration::from_millis(100));
        let _ = guess(&bed, &format!("other{number}"), from("192.0.2.1")).await;
    }
    assert!(hashes(&bed) - before <= 6, "{} more", hashes(&bed) - before);
    bed.clock.advance(LoginLimits::WINDOW);
    assert_eq!(guess(&bed, "user7", from("192.0.2.1")).await, None, "an hour later");
}

#[tokio::test]
async fn sec_198_ten_thousand_addresses_with_one_guess_each_are_bounded() {
    const BLOCKS: u32 = 50;
    let bed = bed().await;
    let ada = bed.register("ada").await.unwrap().user;
    for number in 0..10_000_u32 {
        let address = [20 + (number % BLOCKS) as u8, 0, (number >> 8) as u8, (number & 255) as u8];
        let _ = guess(&bed, "ada", at(address.into())).await;
        bed.clock.advance(Duration::from_millis(10));
    }
    let checked = checked(&bed, &ada.id);
    assert!(checked <= 3 * 50 + 12, "{checked} of 10,000 guesses");
    bed.login_as("ada", RIGHT, from("200.0.0.1")).await.expect("the owner, elsewhere");
}

#[tokio::test]
async fn sec_127_an_address_has_fifty_failures_an_hour_whatever_succeeds_meanwhile() {
    let bed = bed().await;
    bed.register("eve").await.unwrap();
    let before = hashes(&bed);
    for number in 0..50 {
        let name = format!("user{}", number % 16);
        assert_eq!(guess(&bed, &name, from("192.0.2.1")).await, None, "{number}");
        if number % 10 == 0 {
            bed.login_as("eve", RIGHT, from("192.0.2.1")).await.expect("an account of the guesser's");
        }
    }
    assert_eq!(hashes(&bed) - before, 55);
    for name in ["user1", "unheard-of", "eve"] {
        assert_eq!(guess(&bed, name, from("192.0.2.1")).await, Some(1), "{name}");
    }
    assert_eq!(guess(&bed, "user1", from("192.0.3.1")).await, None, "another address");
    bed.clock.advance(secs(1));
    assert_eq!(guess(&bed, "user15", from("192.0.2.1")).await, None);
    assert_eq!(guess(&bed, "user15", from("192.0.2.1")).await, Some(2), "pauses grow");
}

#[tokio::test]
async fn sec_199_every_way_to_write_a_name_or_an_address_shares_one_limit() {
    let bed = bed().await;
    bed.register("ada").await.unwrap();
    let names = [
        "ada@example.org",
        "ADA@EXAMPLE.ORG",
        " Ada@Example.org",
        "ada@example.org\t",
        "\u{a0}ada@EXAMPLE.org ",
    ];
    for name in names {
        assert_eq!(guess(&bed, name, from("192.0.2.1")).await, None, "{name:?}");
    }
    for name in names {
        assert_eq!(guess(&bed, name, from("192.0.2.1")).await, Some(1), "{name:?}");
    }
    assert_eq!(guess(&bed, " ADA", from("192.0.2.1")).await, None, "the username has a counter of its own");

    for (case, address) in [
        ("an IPv6 /64", &(|number| format!("2001:db8:0:7:{number:x}::{number:x}")) as &dyn Fn(u64) -> String),
        ("one IPv4 address, mapped or not", &|number| {
            ["198.51.100.7", "::ffff:198.51.100.7", "64:ff9b::198.51.100.7"]
                [usize::try_from(number).unwrap() % 3]
                .to_owned()
        }),
    ] {
        for number in 0..20 {
            let answer = guess(&bed, &format!("{number}"), from(&address(number))).await;
            assert_eq!(answer, None, "{case}, {number}");
        }
        for number in 20..30 {
            let answer = guess(&bed, &format!("{number}"), from(&address(number))).await;
            assert_eq!(answer, Some(1), "{case}, {number}");
        }
    }
}

#[tokio::test]
async fn sec_129_failures_in_all_turn_strangers_away_and_are_told_each_minute() {
    let limits = LoginLimits { failures_per_second: 10, ..LoginLimits::default() };
    let bed = TestBed::with(MemoryStore::new(), BedConfig { limits, ..BedConfig::default() }).await;
    let known = bed.register("ada").await.unwrap().device_token;
    let since = bed.clock.now();
    for number in 0..10 {
        assert_eq!(guess(&bed, &format!("{number}"), from(&format!("192.0.2.{number}"))).await, None);
    }
    let answer = bed.login_as("ada", RIGHT, from("198.51.100.1")).await;
    assert!(matches!(answer, Err(LoginError::Hash(HashError::Overloaded))), "{answer:?}");
    assert_eq!(guess(&bed, "ada", on(&known, "198.51.100.1")).await, None, "known devices are heard");
    bed.login_as("ada", RIGHT, on(&known, "198.51.100.1")).await.unwrap();
    bed.clock.advance(secs(1));
    bed.login_as("ada", RIGHT, from("198.51.100.1")).await.expect("a second later");

    let told = |bed: &TestBed| {
        let events = bed.events.take().into_iter();
        events.filter(|event| matches!(event, Event::LoginsFailed { .. })).collect::<Vec<_>>()
    };
    bed.accounts.tell_failed_logins();
    assert_eq!(told(&bed), [], "before the minute is over");
    bed.clock.advance(secs(59));
    bed.accounts.tell_failed_logins();
    let last = Device::new(None, Some("198.51.100.1".parse().unwrap()));
    let event = Event::LoginsFailed { count: 11, since, last };
    assert!(!event.is_alarm(), "a minute as others");
    assert_eq!(told(&bed), [event]);
    bed.accounts.tell_failed_logins();
    assert_eq!(told(&bed), [], "once");
    let many = Event::LoginsFailed { count: 200, since, last: Device::default() };
    assert!(many.is_alarm());
}

#[tokio::test]
async fn sec_128_a_million_made_up_names_and_addresses_leave_a_bounded_number_of_rows() {
    let bed = bed().await;
    let user = bed.register("ada").await.unwrap().user;
    for _ in 0..5 {
        assert_eq!(guess(&bed, "ada", from("192.0.2.1")).await, None);
    }
    let hour = bed.clock.now().as_secs() / 3_600;
    let policy = ThrottlePolicy::default();
    let throttles = bed.stores.throttles();
    let fill = async |count: u64, key: &dyn Fn(u64) -> String| {
        for number in 0..count {
            let (key, now) = (key(number), bed.clock.now());
            throttles.begin_attempt(&key, now, &policy).await.unwrap().unwrap();
            throttles.finish_attempt(&key, Outcome::Failed, now, &policy).await.unwrap();
        }
    };
    // What a failure with a made-up name from an address of its own leaves, a million times.
    fill(1_000_000, &|number| match number % 4 {
        0 => format!("name:{number}"),
        1 => format!("name:{number}/nobody"),
        2 => format!("hour:{hour:010}:failures:{number:x}"),
        _ => format!("hour:{hour:010}:name:{number:x}:{number}"),
    })
    .await;
    // All but a thousand of each kind are deleted in one step, because in steps of the purge's size it takes a minute.
    for (keys, keep) in [("name:".."name;", KEEP_NAME_COUNTERS), ("hour:".."hour;", KEEP_ADDRESS_COUNTERS)] {
        throttles.thin_attempts(keys, keep + 1_000, 10_000_000).await.unwrap();
    }
    purge(&bed.stores, &*bed.clock, bed.sessions.policy().leeway).await.unwrap();
    let count =
        async |keys: std::ops::Range<&str>| throttles.thin_attempts(keys, 0, 10_000_000).await.unwrap();
    assert_eq!(attempts(&bed, &format!("user:{}", user.id)).await.unwrap().failures, 5);
    assert_eq!(count("name:".."name;").await, KEEP_NAME_COUNTERS);
    assert_eq!(count("hour:".."hour;").await, KEEP_ADDRESS_COUNTERS);

    assert_eq!(guess(&bed, "eve", from("192.0.2.1")).await, None);
    bed.clock.advance(2 * LoginLimits::WINDOW);
    purge(&bed.stores, &*bed.clock, bed.sessions.policy().leeway).await.unwrap();
    assert_eq!(count("hour:".."hour;").await, 0, "addresses are forgotten after their hour and one more");
    assert_eq!(count("block:".."block;").await, 1, "the account's failures are not");
    const { assert!(KEEP_BLOCK_COUNTERS >= 1_000_000) };
}

// Known devices.

#[tokio::test]
async fn a_login_on_a_new_device_is_told_by_mail() {
    let letters = RecordedLetters::default();
    let config = BedConfig { letters: Some(Arc::new(letters.clone())), ..BedConfig::default() };
    let bed = TestBed::with(MemoryStore::new(), config).await;
    let told = || {
        let all = letters.all();
        let devices = all.iter().filter_map(|letter| match &letter.letter {
            Letter::NewDevice { device, at } => {
                Some((letter.to.as_str().to_owned(), device.ip.unwrap().to_string(), *at))
            }
            _ => None,
        });
        devices.collect::<Vec<_>>()
    };
    let first = bed.register("ada").await.unwrap().device_token;
    assert!(first.is_some());
    let again = bed.login_as("ada", RIGHT, on(&first, "192.0.2.1")).await.unwrap().device_token;
    assert_eq!(again, first, "the device keeps its token");
    assert_eq!(told(), []);

    let second = bed.login_as("ada", RIGHT, from("192.0.2.2")).await.unwrap().device_token;
    assert!(second.is_some() && second != first);
    let (address, now) = ("ada@example.org".to_owned(), bed.clock.now());
    assert_eq!(told(), [(address, "192.0.2.2".to_owned(), now)]);
    bed.login_as("ada", RIGHT, on(&second, "192.0.2.3")).await.unwrap();
    assert_eq!(told().len(), 1, "it is known now, wherever it is");

    let chosen = token(7);
    let answer = bed.login_as("ada", RIGHT, on(&chosen, "192.0.2.4")).await.unwrap().device_token;
    assert_eq!(answer, chosen, "a token that another account gave the device stays");
    assert_eq!(told().len(), 2);
    for _ in 0..10 {
        bed.login_as("ada", RIGHT, from("192.0.2.5")).await.unwrap();
    }
    assert_eq!(told().len(), 3, "a program without a memory does not fill the mailbox");
}

#[tokio::test]
async fn a_code_signs_in_on_a_device_too() {
    let letters = RecordedLetters::default();
    let config = BedConfig { letters: Some(Arc::new(letters.clone())), ..BedConfig::default() };
    let bed = TestBed::with(MemoryStore::new(), config).await;
    bed.register("ada").await.unwrap();
    let credentials = Credentials::of(&bed.accounts);
    let email = EmailAddress::parse("ada@example.org").unwrap();
    let Letter::VerifyEmail { token, .. } = letters.wait_for(1).await.remove(0).letter else { panic!() };
    Profile::of(&bed.accounts).verify_email(&token).await.unwrap();
    credentials.mail_code(&email, None).await.unwrap();
    let Letter::SignInCode { code, .. } = letters.wait_for(2).await.remove(1).letter else { panic!() };
    let known = credentials.login_with_code(&email, &code, from("192.0.2.1")).await.unwrap().device_token;
    assert!(matches!(letters.all().last().unwrap().letter, Letter::NewDevice { .. }));
    for _ in 0..6 {
        let _ = guess(&bed, "ada", from("192.0.2.1")).await;
    }
    bed.login_as("ada", RIGHT, on(&known, "192.0.2.1")).await.expect("it is known");
}

#[tokio::test]
async fn a_new_password_makes_all_devices_unknown_but_the_one_it_was_changed_on() {
    let letters = RecordedLetters::default();
    let config = BedConfig { letters: Some(Arc::new(letters.clone())), ..BedConfig::default() };
    let bed = TestBed::with(MemoryStore::new(), config).await;
    let ada = bed.register("ada").await.unwrap();
    let other = bed.login_as("ada", RIGHT, from("192.0.2.2")).await.unwrap().device_token;
    let credentials = Credentials::of(&bed.accounts);
    let password = |text: &str| Password::new_for_registration(text.to_owned()).unwrap();
    let knows = async |token: &Option<DeviceToken>| {
        let digest = token.as_ref().unwrap().digest();
        bed.stores.devices().knows_device(&ada.user.id, &digest, bed.clock.now()).await.unwrap()
    };
    assert!(knows(&ada.device_token).await && knows(&other).await);
    let new = "battery horse correct staple";
    let arrival = on(&ada.device_token, "192.0.2.1");
    let changed = credentials.change_password(&ada.user.id, password(RIGHT), password(new), arrival).await;
    assert_eq!(changed.unwrap().device_token, ada.device_token);
    assert!(knows(&ada.device_token).await, "the change came from here");
    assert!(!knows(&other).await);
    let new_devices = letters.all();
    let new_devices = new_devices.iter().filter(|letter| matches!(letter.letter, Letter::NewDevice { .. }));
    assert_eq!(new_devices.count(), 1, "nothing is told of the device that changed the password");

    credentials.forgot(&EmailAddress::parse("ada@example.org").unwrap(), None).await.unwrap();
    let all = letters.wait_for(4).await;
    let Letter::ResetPassword { token, .. } = &all[3].letter else { panic!("{all:?}") };
    credentials.reset(token, password(RIGHT)).await.unwrap();
    assert!(!knows(&ada.device_token).await);
    let back = bed.login_as("ada", RIGHT, on(&ada.device_token, "192.0.2.1")).await.unwrap();
    assert_eq!(back.device_token, ada.device_token);
    assert!(knows(&ada.device_token).await);
}

#[tokio::test]
async fn a_store_of_devices_that_fails_fails_no_login() {
    let watched = Instrumented::new(MemoryStore::new());
    let bed = TestBed::with(watched.stores(), BedConfig::default()).await;
    let known = bed.register("ada").await.unwrap().device_token;
    watched.lose_reply_of("remember_device");
    let signed_in = bed.login_as("ada", RIGHT, on(&known, "192.0.2.1")).await.unwrap();
    assert_eq!(signed_in.device_token, None);
    watched.lose_reply_of("knows_device");
    let signed_in = bed.login_as("ada", RIGHT, on(&known, "192.0.2.1")).await.unwrap();
    assert_eq!(signed_in.device_token, known);
}
