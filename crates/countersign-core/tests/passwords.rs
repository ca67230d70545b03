//! Passwords at register and login: hashes of other systems, peppers, the rules for new passwords, the login floor.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy takes only functions with #[test] for tests"
)]

use std::time::Duration;

use countersign_core::flow::{
    Arrival, BreachedPasswords, HashRecipe, LoginError, PasswordPolicy, Presentation, RegisterError,
    Registration,
};
use countersign_core::model::{
    Device, EmailAddress, Event, MinimumLength, Password, PasswordHash, PasswordRules, Peppers, UnusableHash,
    User, Username, WeakPassword,
};
use countersign_core::store::{MemoryStore, Stores, UserInserted};
use countersign_jwt::{Clock as _, UserId};
use countersign_testkit::{BedConfig, Instrumented, TestBed};
use tokio::time::timeout;
use uuid::Uuid;

/// What werkzeug made of [`TestBed::PASSWORD`].
const WERKZEUG: &str = "scrypt:1024:8:1$JfWK15VVOqtHVgx7$99b2c2e4f4021a4f142f292f7f8d967b5aa5d4fb99d4ee53b3bca8a645405d77327b4face5cff02648b6c7b0c50294143d392f32a00891635c8cbae086f07bbe";
const PEPPER: &str = "2026:q2Wc9Rt4Yb7Nm1Kp6Lz8Xv3Js5Hd0GfAeUoIiQyTrEw=";

/// Brings the user `ada` over, with this hash.
async fn bring(bed: &TestBed, hash: &str) -> UserId {
    let user = User {
        email: Some(EmailAddress::parse("ada@example.org").unwrap()),
        username: Some(Username::parse("ada").unwrap()),
        password_hash: Some(PasswordHash::from_stored(hash.to_owned())),
        ..User::new(UserId::from(Uuid::from_u128(1)), bed.clock.now())
    };
    assert_eq!(bed.stores.users().insert_user(&user).await.unwrap(), UserInserted::Yes);
    user.id
}

async fn hash_of(stores: &Stores, id: &UserId) -> String {
    let user = stores.users().user(id).await.unwrap().unwrap();
    user.password_hash.unwrap().expose().to_owned()
}

fn hashes(bed: &TestBed) -> u64 {
    bed.accounts.hasher().hashes_started()
}

async fn register(bed: &TestBed, name: &str, password: &str) -> Result<(), RegisterError> {
    let registration = Registration {
        email: Some(EmailAddress::parse(&format!("{name}@example.org")).unwrap()),
        username: Some(Username::parse(name).unwrap()),
        password: Password::new_for_login(password.to_owned()).unwrap(),
        language: None,
    };
    let arrival = Arrival::new(Presentation::Explicit, Device::default());
    bed.accounts.register(registration, arrival).await.map(|_| ())
}

#[tokio::test]
async fn sec_117_the_first_right_login_replaces_an_imported_hash_once() {
    let watched = Instrumented::new(MemoryStore::new());
    let bed = TestBed::over(watched.stores()).await;
    let id = bring(&bed, WERKZEUG).await;

    let wrong = bed.login("ada", "not the password").await;
    assert!(matches!(wrong, Err(LoginError::InvalidCredentials)), "{wrong:?}");
    assert_eq!(hash_of(watched.inner(), &id).await, WERKZEUG);

    let before = hashes(&bed);
    bed.login("ada", TestBed::PASSWORD).await.unwrap();
    assert_eq!(hashes(&bed) - before, 2);
    assert_eq!(watched.calls("replace_password_hash"), 1);
    let upgraded = hash_of(watched.inner(), &id).await;
    assert!(upgraded.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{upgraded}");

    let before = hashes(&bed);
    bed.login("ada", TestBed::PASSWORD).await.unwrap();
    assert_eq!(hashes(&bed) - before, 1);
    assert_eq!(watched.calls("replace_password_hash"), 1);
    assert_eq!(hash_of(watched.inner(), &id).await, upgraded);
    let wrong = bed.login("ada", "not the password").await;
    assert!(matches!(wrong, Err(LoginError::InvalidCredentials)), "{wrong:?}");
}

#[tokio::test]
async fn sec_117_parallel_first_logins_all_succeed_and_one_replaces_the_hash() {
    let watched = Instrumented::new(MemoryStore::new());
    let bed = TestBed::over(watched.stores()).await;
    let id = bring(&bed, WERKZEUG).await;
    let logins = (0..3).map(|_| {
        let bed = bed.clone();
        tokio::spawn(async move { bed.login("ada", TestBed::PASSWORD).await.map(|_| ()) })
    });
    for login in logins.collect::<Vec<_>>() {
        login.await.unwrap().unwrap();
    }
    let upgraded = hash_of(watched.inner(), &id).await;
    assert!(upgraded.starts_with("$argon2id$"), "{upgraded}");
    bed.login("ada", TestBed::PASSWORD).await.unwrap();
    assert_eq!(hash_of(watched.inner(), &id).await, upgraded);
}

#[tokio::test]
async fn sec_117_a_hash_that_cannot_be_replaced_does_not_fail_the_login() {
    let watched = Instrumented::new(MemoryStore::new());
    let bed = TestBed::over(watched.stores()).await;
    let id = bring(&bed, WERKZEUG).await;
    watched.fail_next("replace_password_hash");
    bed.login("ada", TestBed::PASSWORD).await.unwrap();
    assert_eq!(watched.calls("replace_password_hash"), 1);
    assert_eq!(hash_of(watched.inner(), &id).await, WERKZEUG);
    bed.login("ada", TestBed::PASSWORD).await.unwrap();
    assert_ne!(hash_of(watched.inner(), &id).await, WERKZEUG);
}

#[tokio::test]
async fn sec_117_a_changed_password_is_not_overwritten_by_a_login_in_flight() {
    let watched = Instrumented::new(MemoryStore::new());
    let bed = TestBed::over(watched.stores()).await;
    let id = bring(&bed, WERKZEUG).await;
    let mut gate = watched.hold(countersign_testkit::Point::Before("replace_password_hash"));
    let login = tokio::spawn({
        let bed = bed.clone();
        async move { bed.login("ada", TestBed::PASSWORD).await }
    });
    gate.arrived().await;
    let (old, new) =
        (PasswordHash::from_stored(WERKZEUG.to_owned()), PasswordHash::from_stored("new".to_owned()));
    assert!(watched.inner().users().replace_password_hash(&id, Some(&old), &new).await.unwrap());
    gate.open();
    let _ = login.await.unwrap();
    assert_eq!(hash_of(watched.inner(), &id).await, "new");
}

#[tokio::test]
async fn sec_130_a_disabled_account_with_an_old_hash_costs_one_hash() {
    let bed = TestBed::over(MemoryStore::new()).await;
    let id = bring(&bed, WERKZEUG).await;
    bed.accounts.disable(&id).await.unwrap();
    let before = hashes(&bed);
    let answer = bed.login("ada", TestBed::PASSWORD).await;
    assert!(matches!(answer, Err(LoginError::InvalidCredentials)), "{answer:?}");
    assert_eq!(hashes(&bed) - before, 1);
    assert_eq!(hash_of(&bed.stores, &id).await, WERKZEUG);
}

#[tokio::test]
async fn sec_119_a_hash_of_unknown_form_matches_nothing_and_is_an_event() {
    let bed = TestBed::over(MemoryStore::new()).await;
    let id = bring(&bed, "md5$salt$5f4dcc3b5aa765d61d8327deb882cf99").await;
    let _ = bed.events.take();
    let answer = bed.login("ada", "password").await;
    assert!(matches!(answer, Err(LoginError::InvalidCredentials)), "{answer:?}");
    let told = Event::PasswordHashUnusable { user_id: id, reason: UnusableHash::Form };
    assert!(told.is_alarm());
    assert_eq!(bed.events.take().first(), Some(&told));
}

#[tokio::test]
async fn sec_122_without_its_pepper_a_hash_matches_nothing_and_is_an_event() {
    let stores: Stores = MemoryStore::new().into();
    let recipe = HashRecipe { peppers: Peppers::parse(PEPPER).unwrap(), ..HashRecipe::default() };
    let with = BedConfig { recipe, ..BedConfig::default() };
    let peppered = TestBed::with(stores.clone(), with).await;
    peppered.register("ada").await.unwrap();
    let user = peppered.login("ada", TestBed::PASSWORD).await.unwrap().user;
    assert!(hash_of(&stores, &user.id).await.starts_with("hmac-sha256:2026$argon2id$"));

    let without = TestBed::over(stores).await;
    let answer = without.login("ada", TestBed::PASSWORD).await;
    assert!(matches!(answer, Err(LoginError::InvalidCredentials)), "{answer:?}");
    let told = without.events.take();
    assert!(
        matches!(
            &told[..],
            [
                Event::PasswordHashUnusable { reason: UnusableHash::NoPepper(id), .. },
                Event::LoginFailed { .. }
            ] if id.to_string() == "2026"
        ),
        "{told:?}"
    );
}

#[tokio::test]
async fn sec_114_a_weak_password_registers_nobody_and_costs_no_hash() {
    let rules = PasswordRules::new(MinimumLength::NIST).with_words(["Example Organisation"]);
    let passwords = PasswordPolicy { rules, breached: None };
    let bed = TestBed::with(MemoryStore::new(), BedConfig { passwords, ..BedConfig::default() }).await;
    for (password, expected) in [
        ("fourteen chars", WeakPassword::TooShort { minimum: 15 }),
        ("example organisation", WeakPassword::SiteWord),
        ("ADA.LOVELACE.1815@example.org", WeakPassword::OwnName),
        ("ada.lovelace.1815", WeakPassword::OwnName),
        ("1234567890123456", WeakPassword::Common),
    ] {
        let answer = register(&bed, "ada.lovelace.1815", password).await;
        assert!(
            matches!(&answer, Err(RegisterError::WeakPassword(reason)) if *reason == expected),
            "{answer:?}"
        );
    }
    assert_eq!(hashes(&bed), 0);
    register(&bed, "ada.lovelace.1815", "fifteen charact").await.unwrap();
}

#[tokio::test]
async fn sec_114_a_breached_password_is_refused_while_its_file_can_be_read() {
    let path = std::env::temp_dir().join(format!("countersign-breached-{}", std::process::id()));
    // The digest of "trees are green", and two others.
    let list = "0000000000000000000000000000000000000000:3\r\n384A2653ABE5ECDFE652E8C5756A4C184BD1E165:12\r\nFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF:1\r\n";
    std::fs::write(&path, list).unwrap();
    let breached = Some(BreachedPasswords::open(&path).unwrap());
    let passwords = PasswordPolicy { breached, ..PasswordPolicy::default() };
    let bed = TestBed::with(MemoryStore::new(), BedConfig { passwords, ..BedConfig::default() }).await;
    let answer = register(&bed, "ada", "trees are green").await;
    assert!(matches!(answer, Err(RegisterError::WeakPassword(WeakPassword::Breached))), "{answer:?}");
    let registration = Registration {
        email: Some(EmailAddress::parse("bob@example.org").unwrap()),
        username: None,
        password: Password::new_for_registration("trees are green".to_owned()).unwrap(),
        language: None,
    };
    let answer = bed.accounts.register_unseen(registration, Device::default()).await;
    assert!(matches!(answer, Err(RegisterError::WeakPassword(WeakPassword::Breached))), "{answer:?}");
    register(&bed, "ada", "trees are blue").await.unwrap();

    std::fs::remove_file(&path).unwrap();
    register(&bed, "eve", "trees are green").await.unwrap();
    let common = register(&bed, "mal", "password").await;
    assert!(
        matches!(common, Err(RegisterError::WeakPassword(WeakPassword::Common))),
        "the other rules decide"
    );
}

#[tokio::test(start_paused = true)]
async fn sec_130_no_answer_to_a_login_comes_before_the_floor() {
    let floor = Duration::from_secs(2);
    let config = BedConfig { login_floor: Some(floor), ..BedConfig::default() };
    let bed = TestBed::with(MemoryStore::new(), config).await;
    bed.register("ada").await.unwrap();
    for (case, name, password) in [
        ("right", "ada", TestBed::PASSWORD),
        ("wrong", "ada", "not the password"),
        ("unknown", "nobody", TestBed::PASSWORD),
    ] {
        let mut login = Box::pin(bed.login(name, password));
        let too_early = timeout(floor - Duration::from_millis(1), &mut login).await;
        assert!(too_early.is_err(), "{case}: {too_early:?}");
        let answer = login.await;
        assert_eq!(answer.is_ok(), case == "right", "{case}: {answer:?}");
    }
    assert_eq!(bed.accounts.hasher().free_places(), 4 + 64, "who waits for the floor keeps no place");
}
