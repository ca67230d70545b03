//! Logins and registrations under attack: callers that hang up, epochs raised under way, names of one account, probing.

use std::num::NonZeroUsize;
use std::time::Duration;

use countersign_core::flow::{
    Background, BeginError, HashError, LoginError, RegisterError, SignedIn, TELL_EVERY, purge,
};
use countersign_core::model::{Attempts, Device, EndReason, Event, Outcome, PasswordHash, ThrottlePolicy};
use countersign_core::store::{KEEP_NAME_COUNTERS, MemoryStore, NameKey, SessionPage, Stores};
use countersign_jwt::{Clock as _, UserId};
use countersign_testkit::{BedConfig, Gate, Instrumented, Point, SeededRandom, TestBed};
use tokio::runtime::Handle;
use tokio::task::{JoinSet, yield_now};

const WRONG: &str = "incorrect donkey battery staple";
const RIGHT: &str = TestBed::PASSWORD;

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

async fn bed() -> (Instrumented, TestBed) {
    bed_with(BedConfig::default()).await
}

async fn bed_with(config: BedConfig) -> (Instrumented, TestBed) {
    let watched = Instrumented::new(MemoryStore::new());
    let bed = TestBed::with(watched.stores(), config).await;
    (watched, bed)
}

/// One hash at a time, and `queue` that wait.
fn narrow(queue: usize) -> BedConfig {
    BedConfig { hash_permits: NonZeroUsize::MIN, hash_queue: queue, ..BedConfig::default() }
}

fn hashes(bed: &TestBed) -> u64 {
    bed.accounts.hasher().hashes_started()
}

fn free_places(bed: &TestBed) -> usize {
    bed.accounts.hasher().free_places()
}

/// Lets what runs detached go as far as it can: on the one thread of a test it runs whenever the test yields.
async fn settle() {
    for _ in 0..200 {
        yield_now().await;
    }
}

/// Deletes all counters of login attempts; returns how many there were.
async fn counters(stores: &Stores) -> u64 {
    stores.throttles().thin_attempts("".."\u{10ffff}", 0, 1_000_000).await.expect("the store answers")
}

async fn of_account(bed: &TestBed, id: &UserId) -> Option<Attempts> {
    bed.stores.throttles().attempts(&format!("user:{id}")).await.expect("the store answers")
}

type Login = tokio::task::JoinHandle<Result<SignedIn, LoginError>>;

fn spawn_login(bed: &TestBed, name: &str, password: &'static str) -> Login {
    let (bed, name) = (bed.clone(), name.to_owned());
    tokio::spawn(async move { bed.login(&name, password).await })
}

/// What a stranger sees of a failed login: refused for so many seconds, or wrong.
async fn seen(bed: &TestBed, name: &str) -> Option<u64> {
    match bed.login(name, WRONG).await {
        Err(LoginError::TooManyAttempts { retry_after }) => Some(retry_after.as_secs()),
        Err(LoginError::InvalidCredentials) => None,
        other => unreachable!("{other:?}"),
    }
}

// Places in the queue.

#[tokio::test]
async fn sec_219_what_a_full_queue_turns_away_costs_the_store_nothing() {
    let (watched, bed) = bed_with(narrow(1)).await;
    let places = [bed.accounts.hasher().place().unwrap(), bed.accounts.hasher().place().unwrap()];
    watched.reset_calls();
    for name in ["ada", "nobody@example.org", "\u{202e}@"] {
        let answer = bed.login(name, WRONG).await;
        assert!(matches!(answer, Err(LoginError::Hash(HashError::Overloaded))), "{answer:?}");
    }
    let answer = bed.register("bob").await;
    assert!(matches!(answer, Err(RegisterError::Hash(HashError::Overloaded))), "{answer:?}");
    assert_eq!(watched.total_calls(), 0);
    drop(places);
    bed.register("bob").await.unwrap();
    bed.login("bob", RIGHT).await.unwrap();
    assert_eq!(counters(&bed.stores).await, 0, "success leaves no row");
}

#[tokio::test]
async fn sec_219_a_caller_that_leaves_before_its_hash_gives_back_its_place_and_leaves_no_row() {
    // Each store call of a login before the hash; the counters are two, the name's and the account's.
    let points = [
        (Point::Before("user_by_name"), 0),
        (Point::After("user_by_name"), 0),
        (Point::Before("begin_attempt"), 0),
        (Point::After("begin_attempt"), 0),
        (Point::Before("begin_attempt"), 1),
        (Point::After("begin_attempt"), 1),
        (Point::Before("epoch"), 0),
        (Point::After("epoch"), 0),
        (Point::Before("user"), 0),
        (Point::After("user"), 0),
    ];
    for name in ["ada", "nobody"] {
        for (point, earlier) in points {
            let case = format!("{name}, {point:?} {earlier}");
            let (watched, bed) = bed_with(narrow(2)).await;
            let user = bed.register("ada").await.unwrap().user;
            let before = hashes(&bed);
            // Somebody's hash runs on and on.
            let busy = bed.accounts.hasher().place().unwrap().turn().await.unwrap();
            let mut gates: Vec<Gate> = (0..=earlier).map(|_| watched.hold(point)).collect();
            let login = spawn_login(&bed, name, WRONG);
            let mut last = gates.pop().unwrap();
            for mut gate in gates {
                gate.arrived().await;
                gate.open();
            }
            last.arrived().await;
            assert_eq!(free_places(&bed), 1, "{case}: it has a place");
            login.abort();
            assert!(login.await.unwrap_err().is_cancelled());
            settle().await;
            assert_eq!(
                free_places(&bed),
                1,
                "{case}: whoever hangs up has no more work under way than others"
            );
            last.open();
            settle().await;
            assert_eq!(free_places(&bed), 2, "{case}: given back without waiting for its turn");
            assert_eq!(hashes(&bed), before, "{case}: nothing is hashed for nobody");
            assert_eq!(of_account(&bed, &user.id).await, None, "{case}");
            assert_eq!(counters(&bed.stores).await, 0, "{case}: no row is left");
            drop(busy);
            bed.login("ada", RIGHT).await.unwrap();
        }
    }
}

#[tokio::test]
async fn sec_219_callers_that_leave_the_queue_let_others_in() {
    let (_, bed) = bed_with(narrow(4)).await;
    let user = bed.register("ada").await.unwrap().user;
    let before = hashes(&bed);
    // Somebody's hash runs on and on.
    let busy = bed.accounts.hasher().place().unwrap().turn().await.unwrap();
    for round in 0..300 {
        let waiting: Vec<_> =
            (0..4).map(|number| spawn_login(&bed, &format!("junk-{round}-{number}"), WRONG)).collect();
        settle().await;
        assert_eq!(free_places(&bed), 0, "round {round}");
        for login in waiting {
            login.abort();
        }
        settle().await;
    }
    let login = spawn_login(&bed, "ada", RIGHT);
    settle().await;
    assert_eq!(of_account(&bed, &user.id).await.unwrap().running, 1, "it waits, among those who hung up");
    let junk: Vec<_> = (0..3).map(|number| spawn_login(&bed, &format!("junk-{number}"), WRONG)).collect();
    settle().await;
    for login in junk {
        login.abort();
    }
    settle().await;
    drop(busy);
    login.await.unwrap().unwrap();
    assert_eq!(hashes(&bed) - before, 1, "no hash was spent on those who had left");
    assert_eq!(counters(&bed.stores).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sec_126_a_guess_that_was_hashed_counts_though_its_caller_left() {
    let (_, bed) = bed().await;
    let random = SeededRandom::new(126);
    for round in 0..6 {
        let name = format!("ada-{round}");
        let user = bed.register(&name).await.unwrap().user;
        let (before, places) = (hashes(&bed), free_places(&bed));
        let logins: Vec<_> = (0..40).map(|_| spawn_login(&bed, &name, WRONG)).collect();
        for login in logins {
            for _ in 0..random.below(2_000) {
                yield_now().await;
            }
            login.abort();
        }
        let settled = loop {
            let attempts = of_account(&bed, &user.id).await.unwrap_or_default();
            if attempts.running == 0 && free_places(&bed) == places {
                break attempts;
            }
            yield_now().await;
        };
        let hashed = hashes(&bed) - before;
        assert_eq!(u64::from(settled.failures), hashed, "round {round}: every hash is a failure");
        assert!(hashed <= 5, "round {round}: {hashed} guesses");
    }
}

#[tokio::test]
async fn sec_219_a_caller_that_leaves_a_registration_before_its_hash_leaves_nothing() {
    let (watched, bed) = bed_with(narrow(1)).await;
    let busy = bed.accounts.hasher().place().unwrap().turn().await.unwrap();
    for _ in 0..100 {
        let registration = tokio::spawn({
            let bed = bed.clone();
            async move { bed.register("ada").await.map(|_| ()) }
        });
        settle().await;
        assert_eq!(free_places(&bed), 0);
        registration.abort();
        assert!(registration.await.unwrap_err().is_cancelled());
        assert_eq!(free_places(&bed), 1);
    }
    drop(busy);
    settle().await;
    assert_eq!((watched.calls("insert_user"), hashes(&bed)), (0, 0));
    bed.register("ada").await.unwrap();
}

#[tokio::test]
async fn a_registration_that_was_hashed_runs_to_its_end() {
    let (watched, bed) = bed().await;
    for (name, point) in [("ada", Point::After("insert_user")), ("bob", Point::Before("insert_session"))] {
        let mut gate = watched.hold(point);
        let registration = tokio::spawn({
            let bed = bed.clone();
            async move { bed.register(name).await.map(|_| ()) }
        });
        gate.arrived().await;
        registration.abort();
        gate.open();
        settle().await;
        let user = bed.stores.users().user_by_name(NameKey::Username(name)).await.unwrap().unwrap();
        assert_eq!(bed.sessions.list(&user.id, SessionPage::first(100)).await.unwrap().len(), 1, "{name}");
    }
}

#[tokio::test]
async fn a_counter_that_cannot_be_begun_gives_back_the_one_before_it() {
    let (watched, bed) = bed().await;
    bed.register("ada").await.unwrap();
    let mut gate = watched.hold(Point::After("begin_attempt"));
    let login = spawn_login(&bed, "ada", RIGHT);
    gate.arrived().await;
    watched.fail_once_after(0);
    gate.open();
    let answer = login.await.unwrap();
    assert!(matches!(answer, Err(LoginError::Store(_))), "{answer:?}");
    assert_eq!(counters(&bed.stores).await, 0);
}

// Epochs that are raised under way.

/// What ends all sessions of a user.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    AllEnded,
    Disabled,
    PasswordChanged,
}

impl Meanwhile {
    /// Does it, as it is done: the epoch is raised, the account changed, and the epoch raised once more.
    async fn happen(self, bed: &TestBed, watched: &Instrumented, id: &UserId) {
        let users = &watched.inner().users();
        let end_all =
            async |reason| bed.sessions.end_all(id.clone(), None, reason).await.expect("the store answers");
        match self {
            Self::AllEnded => end_all(EndReason::AllEnded).await,
            Self::Disabled => {
                end_all(EndReason::Disabled).await;
                assert!(users.set_disabled(id, Some(bed.clock.now())).await.expect("the store answers"));
                end_all(EndReason::Disabled).await;
            }
            Self::PasswordChanged => {
                end_all(EndReason::AllEnded).await;
                let old = users
                    .user(id)
                    .await
                    .expect("the store answers")
                    .expect("the account is there")
                    .password_hash;
                let new = PasswordHash::from_stored("another".into());
                assert!(
                    users.replace_password_hash(id, old.as_ref(), &new).await.expect("the store answers")
                );
                end_all(EndReason::AllEnded).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_218_the_owner_signs_in_though_all_sessions_are_ended_again_and_again() {
    for raises in 1..=8 {
        let (watched, bed) = bed().await;
        let user = bed.register("ada").await.unwrap().user;
        let mut gate = watched.hold(Point::Before("insert_session"));
        let login = spawn_login(&bed, "ada", RIGHT);
        for _ in 0..raises {
            gate.arrived().await;
            Meanwhile::AllEnded.happen(&bed, &watched, &user.id).await;
            let next = watched.hold(Point::Before("insert_session"));
            std::mem::replace(&mut gate, next).open();
        }
        gate.open();
        let answer = login.await.unwrap();
        if raises < 8 {
            let pair = answer.unwrap().pair;
            assert!(bed.authenticate(&pair.access_token).await.is_ok(), "{raises}");
            assert_eq!(
                bed.sessions.list(&user.id, SessionPage::first(100)).await.unwrap().len(),
                1,
                "{raises}"
            );
        } else {
            // The password was right, so the answer must not be that it was wrong.
            assert!(matches!(answer, Err(LoginError::Begin(BeginError::EpochRaised))), "{answer:?}");
            assert!(bed.sessions.list(&user.id, SessionPage::first(100)).await.unwrap().is_empty());
        }
        assert_eq!(counters(&bed.stores).await, 0, "no failure was counted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_218_a_changed_account_ends_a_login_that_looks_again() {
    // The calls of looking again after the first insert was refused.
    let points = [
        Point::Before("epoch"),
        Point::After("epoch"),
        Point::Before("user"),
        Point::After("user"),
        Point::Before("insert_session"),
    ];
    for point in points {
        for meanwhile in [Meanwhile::AllEnded, Meanwhile::Disabled, Meanwhile::PasswordChanged] {
            let case = format!("{meanwhile:?} at the second {point:?}");
            let (watched, bed) = bed().await;
            let user = bed.register("ada").await.unwrap().user;
            let mut first = watched.hold(Point::Before("insert_session"));
            let login = spawn_login(&bed, "ada", RIGHT);
            first.arrived().await;
            Meanwhile::AllEnded.happen(&bed, &watched, &user.id).await;
            let mut second = watched.hold(point);
            first.open();
            second.arrived().await;
            meanwhile.happen(&bed, &watched, &user.id).await;
            second.open();
            let answer = login.await.unwrap();
            let live = bed.sessions.list(&user.id, SessionPage::first(100)).await.unwrap().len();
            if matches!(meanwhile, Meanwhile::AllEnded) {
                assert!(answer.is_ok(), "{case}: {answer:?}");
                assert_eq!(live, 1, "{case}");
            } else {
                assert!(matches!(answer, Err(LoginError::InvalidCredentials)), "{case}: {answer:?}");
                assert_eq!(live, 0, "{case}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_218_a_login_between_the_two_raises_of_a_disabling_does_not_survive_it() {
    let (watched, bed) = bed().await;
    let user = bed.register("ada").await.unwrap().user;
    let mut inserting = watched.hold(Point::Before("insert_session"));
    let mut disabling = watched.hold(Point::Before("set_disabled"));
    let login = spawn_login(&bed, "ada", RIGHT);
    inserting.arrived().await;
    let disable = tokio::spawn({
        let (bed, id) = (bed.clone(), user.id.clone());
        async move { bed.accounts.disable(&id).await }
    });
    disabling.arrived().await;
    inserting.open();
    let pair = login.await.unwrap().expect("the account is not disabled yet").pair;
    disabling.open();
    assert!(disable.await.unwrap().unwrap());
    assert!(bed.authenticate(&pair.access_token).await.is_err());
    assert!(bed.sessions.list(&user.id, SessionPage::first(100)).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sec_218_a_registration_whose_epoch_is_raised_looks_again_too() {
    let (watched, bed) = bed().await;
    let mut gate = watched.hold(Point::Before("insert_session"));
    let registration = tokio::spawn({
        let bed = bed.clone();
        async move { bed.register("ada").await }
    });
    gate.arrived().await;
    let user = bed.stores.users().user_by_name(NameKey::Username("ada")).await.unwrap().unwrap();
    Meanwhile::AllEnded.happen(&bed, &watched, &user.id).await;
    gate.open();
    let pair = registration.await.unwrap().unwrap().pair;
    assert!(bed.authenticate(&pair.access_token).await.is_ok());
}

// Two names of one account.

#[tokio::test]
async fn sec_226_two_names_of_one_account_answer_like_two_accounts_that_nobody_has() {
    let (_, bed) = bed().await;
    bed.register("ada").await.unwrap();
    bed.register("eve").await.unwrap();
    bed.register("bob").await.unwrap();
    let random = SeededRandom::new(226);
    // A username and an address: of one account, of two, of nobody.
    let pairs = [["ada", "ada@example.org"], ["eve", "bob@example.org"], ["nobody", "noone@example.org"]];
    for script in 0..6 {
        for step in 0..24 {
            let (which, wait) = (usize::from(random.chance(50)), random.pick(&[0, 0, 0, 0, 1, 2, 5, 40]));
            let mut answers = Vec::new();
            for pair in pairs {
                let before = hashes(&bed);
                let answer = seen(&bed, pair[which]).await;
                answers.push((answer, hashes(&bed) - before));
            }
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{script}, step {step}: {answers:?}");
            bed.clock.advance(secs(wait));
        }
        counters(&bed.stores).await;
    }
}

#[tokio::test]
async fn sec_226_whoever_alternates_names_gets_no_more_guesses_checked() {
    let (_, bed) = bed().await;
    let user = bed.register("ada").await.unwrap().user;
    let policy = ThrottlePolicy::default();
    let random = SeededRandom::new(2_260);
    let mut by_one_name = Attempts::default();
    for step in 0..120 {
        let name = random.pick(&["ada", "ada@example.org"]);
        seen(&bed, name).await;
        // Whoever had one name would have tried at the same moments.
        if by_one_name.begin(bed.clock.now(), &policy).is_ok() {
            by_one_name.finish(Outcome::Failed, bed.clock.now(), &policy);
        }
        let checked = of_account(&bed, &user.id).await.unwrap_or_default().failures;
        assert!(checked <= by_one_name.failures, "step {step}: {checked} of {}", by_one_name.failures);
        bed.clock.advance(secs(random.pick(&[0, 0, 0, 1, 3, 20])));
    }
    assert!(by_one_name.failures > 8, "the pauses were reached");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn sec_226_of_parallel_guesses_by_both_names_the_limit_is_checked() {
    let (_, bed) = bed().await;
    let user = bed.register("ada").await.unwrap().user;
    let mut logins = JoinSet::new();
    for number in 0..200 {
        let bed = bed.clone();
        let name = if number % 2 == 0 { "ada" } else { "ada@example.org" };
        logins.spawn(async move { seen(&bed, name).await.is_none() });
    }
    let answered = logins.join_all().await.into_iter().filter(|was_wrong| *was_wrong).count();
    assert_eq!(answered, 10, "five by each name, as by two names of nobody");
    assert_eq!(of_account(&bed, &user.id).await.unwrap().failures, 5, "but five were checked");
}

#[tokio::test]
async fn sec_226_a_guess_that_the_account_does_not_admit_is_wrong_whatever_it_is() {
    let (_, bed) = bed().await;
    let user = bed.register("ada").await.unwrap().user;
    for _ in 0..5 {
        assert_eq!(seen(&bed, "ada@example.org").await, None);
    }
    let _ = bed.events.take();
    let before = hashes(&bed);
    let answer = bed.login("ada", RIGHT).await;
    assert!(matches!(answer, Err(LoginError::InvalidCredentials)), "{answer:?}");
    assert_eq!(hashes(&bed) - before, 1, "it takes as long as any other");
    let device = Device::default();
    assert_eq!(
        bed.events.take(),
        [Event::LoginThrottled { user_id: Some(user.id.clone()), device }],
        "the log says what the answer does not"
    );
    assert_eq!(of_account(&bed, &user.id).await.unwrap().failures, 5, "it does not make the pause longer");
    assert_eq!(seen(&bed, "ada@example.org").await, Some(1), "by the name that failed it is said");

    bed.clock.advance(secs(1));
    bed.login("ada", RIGHT).await.expect("the pause is over");
    assert_eq!(of_account(&bed, &user.id).await, None, "a success forgets the account's failures");
    assert_eq!(seen(&bed, "ada").await, None, "and those of the name that was used");
}

// What is kept of failures, and for how long.

#[tokio::test]
async fn sec_125_failures_outlast_a_pause_and_the_purges_in_it() {
    let (_, bed) = bed().await;
    bed.register("ada").await.unwrap();
    for name in ["ada", "nobody"] {
        for _ in 0..14 {
            while let Some(pause) = seen(&bed, name).await {
                bed.clock.advance(secs(pause));
            }
        }
    }
    let pause = |days: u64| {
        bed.clock.advance(secs(days * 86_400));
        purge(&bed.stores, &*bed.clock, bed.sessions.policy().leeway)
    };
    pause(29).await.unwrap();
    for name in ["ada", "nobody"] {
        assert_eq!(seen(&bed, name).await, None, "{name}: one more");
        assert_eq!(seen(&bed, name).await, Some(900), "{name}: and the longest pause");
    }
    pause(31).await.unwrap();
    assert_eq!(counters(&bed.stores).await, 0, "30 days after the last failure");
}

#[tokio::test]
async fn sec_219_junk_names_cannot_fill_the_store_nor_free_a_guess() {
    let (_, bed) = bed().await;
    let user = bed.register("ada").await.unwrap().user;
    for _ in 0..5 {
        assert_eq!(seen(&bed, "ada").await, None);
    }
    let throttles = bed.stores.throttles();
    let policy = ThrottlePolicy::default();
    for number in 0..KEEP_NAME_COUNTERS + 1_000 {
        bed.clock.advance(Duration::from_millis(1));
        let (key, now) = (format!("name:{number}"), bed.clock.now());
        throttles.begin_attempt(&key, now, &policy).await.unwrap().unwrap();
        throttles.finish_attempt(&key, Outcome::Failed, now, &policy).await.unwrap();
    }
    purge(&bed.stores, &*bed.clock, bed.sessions.policy().leeway).await.unwrap();
    assert_eq!(of_account(&bed, &user.id).await.unwrap().failures, 5, "the account's own is kept");
    assert_eq!(seen(&bed, "ada").await, None, "the name's is not");
    assert_eq!(of_account(&bed, &user.id).await.unwrap().failures, 6);
    let answer = bed.login("ada", RIGHT).await;
    assert!(matches!(answer, Err(LoginError::InvalidCredentials)), "the pause holds: {answer:?}");
    let left = throttles.thin_attempts("name:".."name;", 0, 1_000_000).await.unwrap();
    assert_eq!(left, KEEP_NAME_COUNTERS + 2, "the name's counter and its block's are new");
}

// Probing which names are taken.

#[tokio::test]
async fn many_registrations_that_are_refused_are_an_event_a_minute_and_cost_a_hash_each() {
    let (_, bed) = bed().await;
    bed.register("ada").await.unwrap();
    let _ = bed.events.take();
    let (since, before) = (bed.clock.now(), hashes(&bed));
    for number in 1..=70 {
        let answer = bed.register("ada").await;
        assert!(matches!(answer, Err(RegisterError::EmailTaken)), "{answer:?}");
        let expected = u64::saturating_sub(number, 60);
        assert_eq!(hashes(&bed) - before, expected, "after {number}: the first ones are quick");
    }
    bed.accounts.tell_refused_registrations();
    assert_eq!(bed.events.take(), [], "before the minute is over");
    bed.clock.advance(secs(60));
    bed.accounts.tell_refused_registrations();
    let told = Event::RegistrationsRefused { count: 70, since, last: Device::default() };
    assert!(told.is_alarm());
    assert_eq!(bed.events.take(), [told]);

    let (since, before) = (bed.clock.now(), hashes(&bed));
    assert!(bed.register("ada").await.is_err());
    assert_eq!(hashes(&bed), before, "a new minute");
    bed.clock.advance(secs(61));
    bed.accounts.tell_refused_registrations();
    let told = Event::RegistrationsRefused { count: 1, since, last: Device::default() };
    assert!(!told.is_alarm(), "somebody has forgotten that they have an account");
    assert_eq!(bed.events.take(), [told]);
    bed.accounts.tell_refused_registrations();
    assert_eq!(bed.events.take(), [], "once");
}

#[tokio::test(start_paused = true)]
async fn the_background_tasks_tell_of_refused_registrations() {
    let watched = Instrumented::new(MemoryStore::new());
    let bed = TestBed::over(watched.stores()).await;
    let running = Background::start(&Handle::current(), &bed.sessions, &bed.stores);
    let _running = running.with_accounts(&Handle::current(), &bed.accounts);
    bed.register("ada").await.unwrap();
    bed.register("ada").await.unwrap_err();
    let _ = bed.events.take();
    bed.clock.advance(secs(60));
    tokio::time::sleep(2 * TELL_EVERY).await;
    let told = bed.events.take();
    assert!(
        told.iter().any(|event| matches!(event, Event::RegistrationsRefused { count: 1, .. })),
        "{told:?}"
    );
}
