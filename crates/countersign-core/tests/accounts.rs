//! Accounts through the real flow: guessing, races between logins and what ends them, and failures.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::flow::{
    Arrival, BeginError, Check, HashError, HashPool, Keychain, KeychainError, LoginError, Presentation,
    RefreshError, RegisterError,
};
use countersign_core::model::{
    Argon2Params, Device, DeviceToken, EmailAddress, EndReason, PasswordHash, Refusal, User, csrf_value,
};
use countersign_core::store::{MemoryStore, NameKey, SessionPage, UserInserted};
use countersign_jwt::{Clock, UserId};
use countersign_testkit::{BedConfig, FailingRandom, FixedClock, Instrumented, Point, SeededRandom, TestBed};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use uuid::Uuid;

const WRONG: &str = "incorrect donkey battery staple";

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

async fn bed() -> (Instrumented, TestBed) {
    let watched = Instrumented::new(MemoryStore::new());
    let bed = TestBed::over(watched.stores()).await;
    (watched, bed)
}

fn hashes(bed: &TestBed) -> u64 {
    bed.accounts.hasher().hashes_started()
}

async fn throttled(bed: &TestBed, name: &str, password: &str) -> Option<u64> {
    match bed.login(name, password).await {
        Err(LoginError::TooManyAttempts { retry_after }) => Some(retry_after.as_secs()),
        Err(LoginError::InvalidCredentials) => None,
        other => unreachable!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn sec_126_of_200_parallel_logins_at_most_five_are_hashed() {
    let (_, bed) = bed().await;
    bed.register("ada").await.unwrap();
    for name in ["ada@example.org", "nobody@example.org"] {
        let before = hashes(&bed);
        let mut logins = JoinSet::new();
        for _ in 0..200 {
            let bed = bed.clone();
            logins.spawn(async move { throttled(&bed, name, WRONG).await });
        }
        let answers = logins.join_all().await;
        let checked = answers.iter().filter(|answer| answer.is_none()).count();
        assert_eq!((hashes(&bed) - before, checked), (5, 5), "{name}");
    }
}

#[tokio::test]
async fn sec_130_every_failure_costs_one_hash_and_the_same_store_calls() {
    // A device that no account knows, somewhere and with a token.
    for (ip, token, begun, known) in [(false, false, 4, 0), (true, false, 7, 0), (true, true, 7, 1)] {
        let (watched, bed) = bed().await;
        bed.register("ada").await.unwrap();
        let disabled = bed.register("bob").await.unwrap().user;
        bed.accounts.disable(&disabled.id).await.unwrap();
        let passwordless = User {
            email: Some(EmailAddress::parse("eve@example.org").unwrap()),
            ..User::new(UserId::from(Uuid::from_u128(1)), bed.clock.now())
        };
        assert_eq!(bed.stores.users().insert_user(&passwordless).await.unwrap(), UserInserted::Yes);
        let broken = User {
            id: UserId::from(Uuid::from_u128(2)),
            email: Some(EmailAddress::parse("mal@example.org").unwrap()),
            password_hash: Some(PasswordHash::from_stored(
                "$argon2id$v=19$m=4194304,t=99,p=1$c2FsdA$aGFzaA".into(),
            )),
            ..passwordless.clone()
        };
        assert_eq!(bed.stores.users().insert_user(&broken).await.unwrap(), UserInserted::Yes);
        let right = TestBed::PASSWORD;
        let cases = [
            ("wrong password", "ada@example.org", WRONG),
            ("wrong password, by username", "ada", WRONG),
            ("unknown address", "nobody@example.org", right),
            ("unknown username", "nobody", right),
            ("no possible name", "\u{202e}@", right),
            ("no name", "", right),
            ("disabled", "bob@example.org", right),
            ("no password", "eve@example.org", right),
            ("unusable hash", "mal@example.org", right),
            ("empty password", "ada@example.org", ""),
        ];
        for (number, (case, name, password)) in (1_u8..).zip(cases) {
            let device = Device::new(None, ip.then_some([192, 0, 2, number].into()));
            let known_device = token.then(|| DeviceToken::new(&SeededRandom::new(number.into())).unwrap());
            let arrival = Arrival { known_device, ..Arrival::new(Presentation::Explicit, device) };
            let before = hashes(&bed);
            watched.reset_calls();
            let answer = bed.login_as(name, password, arrival).await;
            assert!(matches!(answer, Err(LoginError::InvalidCredentials)), "{case}: {answer:?}");
            assert_eq!(hashes(&bed) - before, 1, "{case}: hashes");
            let calls = ["user_by_name", "knows_device", "begin_attempt", "epoch", "user", "finish_attempt"];
            let expected = [1, known, begun, 1, 1, begun];
            assert_eq!(calls.map(|call| watched.calls(call)), expected, "{case}: store calls");
            assert_eq!(watched.total_calls(), expected.iter().sum::<u64>(), "{case}: store calls");
        }
    }
}

#[tokio::test]
async fn the_brake_holds_known_and_unknown_accounts_alike_and_lets_go() {
    let (_, bed) = bed().await;
    bed.register("ada").await.unwrap();
    bed.register("bob").await.unwrap();
    let names = ["ada@example.org", "nobody@example.org", "nobody", "\u{202e}@"];
    for _ in 0..5 {
        for name in names {
            assert_eq!(throttled(&bed, name, WRONG).await, None, "{name}: five are free");
        }
    }
    let before = hashes(&bed);
    for name in names {
        assert_eq!(throttled(&bed, name, WRONG).await, Some(1), "{name}: then a pause");
    }
    assert_eq!(
        throttled(&bed, "ada@example.org", TestBed::PASSWORD).await,
        Some(1),
        "the right password, too"
    );
    assert_eq!(throttled(&bed, "ADA@Example.ORG", WRONG).await, Some(1), "however it is written");
    assert_eq!(hashes(&bed), before, "a refused attempt is not hashed");
    assert_eq!(
        throttled(&bed, "ada", TestBed::PASSWORD).await,
        None,
        "by the account's other name it is wrong, and nothing tells that the names are one account's"
    );
    assert!(bed.login("bob", TestBed::PASSWORD).await.is_ok(), "nobody else is held up");

    bed.clock.advance(secs(1));
    for name in names {
        assert_eq!(throttled(&bed, name, WRONG).await, None, "{name}: one more after the pause");
        assert_eq!(throttled(&bed, name, WRONG).await, Some(2), "{name}: and a longer one");
    }
    bed.clock.advance(secs(2));
    assert!(bed.login("ada@example.org", TestBed::PASSWORD).await.is_ok());
    assert_eq!(throttled(&bed, "ada@example.org", WRONG).await, None, "a success forgets the failures");
    bed.clock.advance(secs(29 * 86_400));
    assert_eq!(throttled(&bed, "nobody", WRONG).await, None);
    assert_eq!(throttled(&bed, "nobody", WRONG).await, Some(4), "no pause does");
    bed.clock.advance(secs(30 * 86_400));
    for _ in 0..2 {
        assert_eq!(throttled(&bed, "nobody", WRONG).await, None, "but one of 30 days");
    }
}

/// What ends a login that is under way.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    AllEnded,
    Disabled,
    PasswordChanged,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_in_flight_does_not_survive_a_change_of_its_account() {
    for point in [
        Point::After("user_by_name"),
        Point::Before("epoch"),
        Point::After("epoch"),
        Point::After("user"),
        Point::Before("insert_session"),
    ] {
        for meanwhile in [Meanwhile::AllEnded, Meanwhile::Disabled, Meanwhile::PasswordChanged] {
            let case = format!("{meanwhile:?} at {point:?}");
            let (watched, bed) = bed().await;
            let user = bed.register("ada").await.unwrap().user;
            let mut gate = watched.hold(point);
            let login = tokio::spawn({
                let bed = bed.clone();
                async move { bed.login("ada", TestBed::PASSWORD).await }
            });
            gate.arrived().await;
            let users = &watched.inner().users();
            match meanwhile {
                Meanwhile::AllEnded => {}
                Meanwhile::Disabled => {
                    assert!(users.set_disabled(&user.id, Some(bed.clock.now())).await.unwrap())
                }
                Meanwhile::PasswordChanged => {
                    let new = PasswordHash::from_stored("another".into());
                    let replaced = users.replace_password_hash(&user.id, user.password_hash.as_ref(), &new);
                    assert!(replaced.await.unwrap());
                }
            }
            bed.sessions.end_all(user.id.clone(), None, EndReason::AllEnded).await.unwrap();
            gate.open();
            let answer = login.await.unwrap();
            // Who only ends all sessions does not mean somebody who knows the password just now (SEC-218).
            if matches!(meanwhile, Meanwhile::AllEnded) {
                assert!(answer.is_ok(), "{case}: {answer:?}");
                assert_eq!(
                    bed.sessions.list(&user.id, SessionPage::first(100)).await.unwrap().len(),
                    1,
                    "{case}"
                );
            } else {
                assert!(matches!(answer, Err(LoginError::InvalidCredentials)), "{case}: {answer:?}");
                assert!(
                    bed.sessions.list(&user.id, SessionPage::first(1_000)).await.unwrap().is_empty(),
                    "{case}"
                );
            }
        }
    }
}

#[tokio::test]
async fn sec_083_disabling_a_user_ends_everything() {
    let (_, bed) = bed().await;
    let signed_in = bed.register("ada").await.unwrap();
    let other = bed.another_node().await;
    assert!(bed.accounts.disable(&signed_in.user.id).await.unwrap());
    let answer = bed.authenticate(&signed_in.pair.access_token).await;
    assert!(answer.is_err(), "the access token, here at once");
    other.sessions.view().poll().await.unwrap();
    assert!(other.authenticate(&signed_in.pair.access_token).await.is_err(), "and elsewhere");
    let claims = bed
        .sessions
        .verification()
        .verify(&signed_in.pair.refresh_token, Check::REFRESH.even_if_revoked())
        .await
        .unwrap();
    let refused = bed.accounts.refresh(&claims, Device::default()).await;
    assert!(matches!(refused, Err(RefreshError::Refused(_))), "{refused:?}");
    assert!(bed.login("ada", TestBed::PASSWORD).await.is_err());
    assert!(bed.accounts.enabled_user(&signed_in.user.id).await.unwrap().is_none());

    assert!(bed.accounts.enable(&signed_in.user.id).await.unwrap());
    let refused = bed.accounts.refresh(&claims, Device::default()).await;
    assert!(
        matches!(refused, Err(RefreshError::Refused(Refusal::Ended))),
        "old sessions stay ended: {refused:?}"
    );
    assert!(bed.login("ada", TestBed::PASSWORD).await.is_ok(), "a new one begins");
    assert!(!bed.accounts.disable(&UserId::from(Uuid::nil())).await.unwrap(), "nobody");
}

#[tokio::test]
async fn sec_083_a_refresh_of_a_disabled_user_is_refused_though_no_session_was_ended() {
    let (watched, bed) = bed().await;
    let signed_in = bed.register("ada").await.unwrap();
    // A crash between the two steps of disabling.
    let users = &watched.inner().users();
    assert!(users.set_disabled(&signed_in.user.id, Some(bed.clock.now())).await.unwrap());
    let claims = bed
        .sessions
        .verification()
        .verify(&signed_in.pair.refresh_token, Check::REFRESH.even_if_revoked())
        .await
        .unwrap();
    let refused = bed.accounts.refresh(&claims, Device::default()).await;
    assert!(matches!(refused, Err(RefreshError::Refused(Refusal::User))), "{refused:?}");
}

#[tokio::test]
async fn sec_079_every_login_begins_a_session_with_ids_of_its_own() {
    let (_, bed) = bed().await;
    let mut pairs = vec![bed.register("ada").await.unwrap().pair];
    for _ in 0..3 {
        pairs.push(bed.login("ada", TestBed::PASSWORD).await.unwrap().pair);
    }
    let mut ids = HashSet::new();
    for pair in &pairs {
        let session = bed.row(pair).await.session;
        assert_eq!(session.id.as_uuid().get_version_num(), 4, "122 random bits, and a seed of 256");
        let access = bed.authenticate(&pair.access_token).await.unwrap().token_id().as_uuid();
        let refresh = bed
            .sessions
            .verification()
            .verify(&pair.refresh_token, Check::REFRESH.even_if_revoked())
            .await
            .unwrap()
            .token_id()
            .as_uuid();
        for id in
            [session.id.as_uuid().to_string(), access.to_string(), refresh.to_string(), csrf_value(&session)]
        {
            assert!(ids.insert(id), "no two logins share an id");
        }
        assert!(ids.insert(format!("{:?}", session.seed.as_bytes())));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn sec_156_of_parallel_registrations_one_makes_an_account() {
    let (_, bed) = bed().await;
    let mut registrations = JoinSet::new();
    for _ in 0..12 {
        let bed = bed.clone();
        registrations.spawn(async move { bed.register("ada").await });
    }
    let mut accounts = Vec::new();
    for answer in registrations.join_all().await {
        match answer {
            Ok(signed_in) => accounts.push(signed_in),
            Err(RegisterError::EmailTaken | RegisterError::UsernameTaken) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(accounts.len(), 1);
    let user = bed.login("ada", TestBed::PASSWORD).await.unwrap().user;
    assert_eq!(user.id, accounts[0].user.id);
    let before = hashes(&bed);
    assert!(matches!(bed.register("ada").await, Err(RegisterError::EmailTaken)));
    assert_eq!(hashes(&bed), before, "a name that is known to be taken costs no hash");
}

#[tokio::test]
async fn sec_160_without_randomness_nothing_is_issued_or_stored() {
    let clock = FixedClock::default();
    for good in 0..6 {
        let keys = MemoryStore::new();
        let random = FailingRandom::after(good);
        let opened = Keychain::open(&keys, &TestBed::secrets(), &clock, &random).await;
        assert!(
            matches!(opened, Err(KeychainError::Random(_) | KeychainError::Make(_) | KeychainError::Seal(_))),
            "after {good} good calls: {opened:?}"
        );
    }
    let pool = HashPool::new(
        Handle::current(),
        NonZeroUsize::MIN,
        0,
        Argon2Params::default(),
        Arc::new(FailingRandom::default()),
    );
    assert!(pool.is_err());

    let good = Arc::new(FailingRandom::after(u64::MAX));
    let config = BedConfig { random: good.clone(), ..BedConfig::default() };
    let watched = Instrumented::new(MemoryStore::new());
    let bed = TestBed::with(watched.stores(), config).await;
    let signed_in = bed.register("ada").await.unwrap();
    good.allow(0);
    watched.reset_calls();
    let begun = bed
        .sessions
        .begin(
            signed_in.user.id.clone(),
            signed_in.pair.session.epoch,
            Presentation::Explicit,
            Device::default(),
        )
        .await;
    assert!(matches!(begun, Err(BeginError::Random(_))), "{begun:?}");
    let login = bed.login("ada", TestBed::PASSWORD).await;
    assert!(matches!(login, Err(LoginError::Begin(BeginError::Random(_)))), "{login:?}");
    let registered = bed.register("bob").await;
    assert!(matches!(registered, Err(RegisterError::Random(_) | RegisterError::Hash(HashError::Random(_)))));
    assert_eq!((watched.calls("insert_session"), watched.calls("insert_user")), (0, 0));
    let bob = bed.stores.users().user_by_name(NameKey::Username("bob")).await.unwrap();
    assert!(bob.is_none());
    // What needs no randomness goes on.
    assert!(bed.refresh(&signed_in.pair.refresh_token, Device::default()).await.is_ok());
}

#[tokio::test]
async fn sec_160_a_registration_that_fails_half_way_says_so_and_leaves_no_session() {
    // One call each for the user's id, the salt, the session's id and its seed.
    for good in 0..4 {
        let limited = Arc::new(FailingRandom::after(u64::MAX));
        let config = BedConfig { random: limited.clone(), ..BedConfig::default() };
        let watched = Instrumented::new(MemoryStore::new());
        let bed = TestBed::with(watched.stores(), config).await;
        limited.allow(good);
        let answer = bed.register("ada").await;
        assert!(answer.is_err(), "after {good} good calls");
        let there = bed.stores.users().user_by_name(NameKey::Username("ada")).await.unwrap();
        let began = matches!(answer, Err(RegisterError::Begin(_)));
        assert_eq!(there.is_some(), began, "the account exists only after that error");
        assert_eq!(watched.calls("insert_session"), 0, "after {good} good calls");
    }
}

#[tokio::test]
async fn sec_121_a_full_pool_turns_logins_away_and_counts_no_failure() {
    let watched = Instrumented::new(MemoryStore::new());
    let config = BedConfig { hash_permits: NonZeroUsize::MIN, hash_queue: 1, ..BedConfig::default() };
    let bed = TestBed::with(watched.stores(), config).await;
    let mut users = Vec::new();
    for number in 0..12 {
        let user = User {
            email: Some(EmailAddress::parse(&format!("user{number}@example.org")).unwrap()),
            ..User::new(UserId::from(Uuid::from_u128(number + 1)), bed.clock.now())
        };
        bed.stores.users().insert_user(&user).await.unwrap();
        users.push(user);
    }
    let mut logins = JoinSet::new();
    for user in users {
        let bed = bed.clone();
        logins.spawn(async move {
            let answer = bed.login(user.email.as_ref().unwrap().as_str(), WRONG).await;
            let key = format!("user:{}", user.id);
            (answer, bed.stores.throttles().attempts(&key).await.unwrap())
        });
    }
    let mut turned_away = 0;
    for (answer, attempts) in logins.join_all().await {
        match answer {
            Err(LoginError::Hash(HashError::Overloaded)) => {
                turned_away += 1;
                assert_eq!(attempts, None, "nobody is punished for a busy server");
            }
            Err(LoginError::InvalidCredentials) => {
                let attempts = attempts.unwrap();
                assert_eq!((attempts.failures, attempts.running), (1, 0), "every attempt is settled");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(turned_away + hashes(&bed), 12);
    assert!(turned_away > 0, "one runs, one waits, the others are turned away");
}

#[tokio::test]
async fn a_failing_store_is_an_error_and_never_an_answer_about_the_password() {
    let (watched, bed) = bed().await;
    bed.register("ada").await.unwrap();
    watched.reset_calls();
    bed.login("ada", TestBed::PASSWORD).await.unwrap();
    // The device is remembered last; a login does not fail for it.
    let last = watched.total_calls() - 1;
    for after in 0..last {
        watched.fail_once_after(after);
        let answer = bed.login("ada", TestBed::PASSWORD).await;
        assert!(
            matches!(answer, Err(LoginError::Store(_) | LoginError::Begin(BeginError::Store(_)))),
            "call {after}: {answer:?}"
        );
        // Attempts whose end could not be written are given up after a while.
        bed.clock.advance(secs(60));
    }
    assert!(bed.login("ada", TestBed::PASSWORD).await.is_ok());
    watched.fail_once_after(last);
    assert!(bed.login("ada", TestBed::PASSWORD).await.unwrap().device_token.is_none());
}
