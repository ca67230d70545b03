//! The promises of [`OneTimeStore`](countersign_core::store::OneTimeStore) and
//! [`DeviceStore`](countersign_core::store::DeviceStore): what belongs to a user.

use countersign_core::model::{KnownDevice, OneTimeSecret, Purpose, SecretDigest, Tried};
use countersign_core::store::{Stores, UserInserted};
use countersign_jwt::{Timestamp, UserId};

use super::fixture::{Fixture, NOW, at_once, secs};
use super::users::account;

/// Runs every check of one-time secrets and of known devices.
pub async fn run(stores: &Stores, rounds: usize) {
    a_secret_reads_back_and_is_replaced_by_the_next(stores).await;
    a_secret_is_tried_as_the_model_says(stores).await;
    sec_138_of_parallel_uses_one_wins(stores, rounds).await;
    parallel_guesses_use_up_the_tries(stores, rounds).await;
    devices_are_known_until_they_are_forgotten(stores).await;
    a_user_has_a_bounded_number_of_devices(stores).await;
    a_deleted_user_takes_secrets_and_devices_along(stores).await;
}

fn digest(text: &str) -> SecretDigest {
    SecretDigest::of(text)
}

fn secret(user_id: &UserId, purpose: Purpose, text: &str) -> OneTimeSecret {
    OneTimeSecret {
        user_id: user_id.clone(),
        purpose,
        digests: vec![digest(text)],
        bound_to: "ada@example.org".to_owned(),
        tries_left: 5,
        created_at: NOW,
        expires_at: NOW + secs(600),
    }
}

async fn put(stores: &Stores, secret: &OneTimeSecret) {
    stores.one_time().put_secret(secret).await.expect("the store answers");
}

async fn read(stores: &Stores, user_id: &UserId, purpose: Purpose) -> Option<OneTimeSecret> {
    stores.one_time().secret(user_id, purpose).await.expect("the store answers")
}

/// The result of trying this text as the user's secret.
async fn tried(
    stores: &Stores,
    user_id: &UserId,
    purpose: Purpose,
    text: &str,
    now: Timestamp,
) -> Option<Tried> {
    let tried = stores.one_time().try_secret(user_id, purpose, &digest(text), now).await;
    tried.expect("the store answers").map(|(tried, _)| tried)
}

/// Every field reads back; another secret for the same purpose replaces the first, and other purposes and users keep
/// theirs.
pub async fn a_secret_reads_back_and_is_replaced_by_the_next(stores: &Stores) {
    let fixture = Fixture::new("a_secret_reads_back_and_is_replaced_by_the_next");
    let (ada, bob) = (fixture.user(), fixture.user());
    let both = OneTimeSecret {
        digests: vec![digest("link"), digest("123456")],
        bound_to: "o'neil \"50%\" 😀 \u{5d0}".to_owned(),
        ..secret(&ada, Purpose::SignIn, "")
    };
    let others = Purpose::ALL.map(|purpose| secret(&bob, purpose, purpose.name()));
    for secret in others.iter().chain([&both]) {
        put(stores, secret).await;
        assert_eq!(read(stores, &secret.user_id, secret.purpose).await.as_ref(), Some(secret));
    }
    assert_eq!(read(stores, &ada, Purpose::VerifyEmail).await, None);
    let next =
        OneTimeSecret { bound_to: String::new(), tries_left: 1, ..secret(&ada, Purpose::SignIn, "next") };
    put(stores, &next).await;
    assert_eq!(read(stores, &ada, Purpose::SignIn).await, Some(next));
    assert_eq!(tried(stores, &ada, Purpose::SignIn, "next", NOW).await, Some(Tried::Right));
    for secret in &others {
        assert_eq!(read(stores, &bob, secret.purpose).await.as_ref(), Some(secret), "others keep theirs");
    }
    for expected in [true, false] {
        let removed =
            stores.one_time().remove_secret(&bob, Purpose::Invite).await.expect("the store answers");
        assert_eq!(removed, expected);
    }
    assert_eq!(read(stores, &bob, Purpose::Invite).await, None);
}

/// A right secret works once, a wrong one uses up a try, and the last wrong try and the expiry delete the record.
pub async fn a_secret_is_tried_as_the_model_says(stores: &Stores) {
    let fixture = Fixture::new("a_secret_is_tried_as_the_model_says");
    let purpose = Purpose::ResetPassword;
    for tries in [
        &[("right", 599, Some(Tried::Right)), ("right", 599, None)][..],
        &[("right", 600, Some(Tried::Expired)), ("right", 0, None)],
        &[
            ("a", 0, Some(Tried::Wrong)),
            ("b", 0, Some(Tried::Wrong)),
            ("c", 0, Some(Tried::Wrong)),
            ("d", 0, Some(Tried::Wrong)),
            ("right", 0, Some(Tried::Right)),
        ],
        &[
            ("a", 0, Some(Tried::Wrong)),
            ("a", 0, Some(Tried::Wrong)),
            ("a", 0, Some(Tried::Wrong)),
            ("a", 0, Some(Tried::Wrong)),
            ("a", 0, Some(Tried::Exhausted)),
            ("right", 0, None),
        ],
    ] {
        let user = fixture.user();
        put(stores, &secret(&user, purpose, "right")).await;
        for (text, after, expected) in tries {
            let answer = tried(stores, &user, purpose, text, NOW + secs(*after)).await;
            assert_eq!(answer, *expected, "{text} after {after} s in {tries:?}");
        }
    }
    let user = fixture.user();
    let before = secret(&user, purpose, "right");
    put(stores, &before).await;
    let answer = stores.one_time().try_secret(&user, purpose, &digest("wrong"), NOW).await;
    assert_eq!(answer.expect("the store answers"), Some((Tried::Wrong, before.clone())), "as it was before");
    let after = OneTimeSecret { tries_left: 4, ..before };
    assert_eq!(read(stores, &user, purpose).await, Some(after), "and one try fewer is left");
}

/// SEC-138: exactly one of 50 concurrent uses of a secret succeeds.
pub async fn sec_138_of_parallel_uses_one_wins(stores: &Stores, rounds: usize) {
    let fixture = Fixture::new("sec_138_of_parallel_uses_one_wins");
    for round in 0..rounds.div_ceil(8) {
        let user = fixture.user();
        put(stores, &secret(&user, Purpose::ResetPassword, "right")).await;
        let answers = at_once((0..50).map(|_| {
            let (stores, user) = (stores.clone(), user.clone());
            async move { tried(&stores, &user, Purpose::ResetPassword, "right", NOW).await }
        }))
        .await;
        let right = answers.iter().filter(|answer| **answer == Some(Tried::Right)).count();
        let none = answers.iter().filter(|answer| answer.is_none()).count();
        assert_eq!((right, none), (1, 49), "round {round}: one of 50 uses wins");
    }
}

/// SEC-197: of concurrent guesses no more are compared than there are tries.
pub async fn parallel_guesses_use_up_the_tries(stores: &Stores, rounds: usize) {
    let fixture = Fixture::new("parallel_guesses_use_up_the_tries");
    for round in 0..rounds.div_ceil(8) {
        let user = fixture.user();
        put(stores, &secret(&user, Purpose::SignIn, "right")).await;
        let answers = at_once((0..30).map(|guess| {
            let (stores, user) = (stores.clone(), user.clone());
            async move { tried(&stores, &user, Purpose::SignIn, &guess.to_string(), NOW).await }
        }))
        .await;
        let counted = |expected| answers.iter().filter(|answer| **answer == expected).count();
        let counts = (counted(Some(Tried::Wrong)), counted(Some(Tried::Exhausted)), counted(None));
        assert_eq!(counts, (4, 1, 25), "round {round}: five guesses of 30 are compared");
    }
}

fn device(user_id: &UserId, number: usize, until: Timestamp) -> KnownDevice {
    KnownDevice { user_id: user_id.clone(), digest: digest(&format!("device {number}")), until }
}

async fn remember(stores: &Stores, device: &KnownDevice) -> bool {
    stores.devices().remember_device(device).await.expect("the store answers")
}

async fn knows(stores: &Stores, device: &KnownDevice, now: Timestamp) -> bool {
    let known = stores.devices().knows_device(&device.user_id, &device.digest, now).await;
    known.expect("the store answers")
}

/// A device is known to its user alone, until its time is over; logging in again moves that time forward and never
/// back. The answer tells a new device from the first one and from a known one.
pub async fn devices_are_known_until_they_are_forgotten(stores: &Stores) {
    let fixture = Fixture::new("devices_are_known_until_they_are_forgotten");
    let (ada, bob) = (fixture.user(), fixture.user());
    let first = device(&ada, 1, NOW + secs(100));
    assert!(!knows(stores, &first, NOW).await);
    assert!(!remember(stores, &first).await, "the first device is nothing to tell about");
    assert!(!remember(stores, &first).await, "a known device neither");
    assert!(remember(stores, &device(&ada, 2, NOW + secs(100))).await, "another device is");
    assert!(knows(stores, &first, NOW + secs(99)).await);
    assert!(!knows(stores, &first, NOW + secs(100)).await);
    assert!(
        !knows(stores, &KnownDevice { user_id: bob.clone(), ..first.clone() }, NOW).await,
        "not to others"
    );
    for (until, known) in [(200, true), (50, true)] {
        remember(stores, &KnownDevice { until: NOW + secs(until), ..first.clone() }).await;
        assert_eq!(knows(stores, &first, NOW + secs(199)).await, known, "after a login until {until}");
    }
    remember(stores, &device(&bob, 1, NOW + secs(100))).await;
    let forgotten = stores.devices().forget_devices(&ada).await.expect("the store answers");
    assert_eq!(forgotten, 2);
    assert!(!knows(stores, &first, NOW).await);
    assert!(knows(stores, &device(&bob, 1, NOW), NOW).await, "other users' devices stay known");
}

/// Of too many devices those are forgotten whose time would be over first.
pub async fn a_user_has_a_bounded_number_of_devices(stores: &Stores) {
    let fixture = Fixture::new("a_user_has_a_bounded_number_of_devices");
    let ada = fixture.user();
    let devices: Vec<_> =
        (1..=KnownDevice::MAX + 3).map(|number| device(&ada, number, NOW + secs(number as u64))).collect();
    for device in &devices {
        remember(stores, device).await;
    }
    for (number, device) in devices.iter().enumerate() {
        assert_eq!(knows(stores, device, NOW).await, number >= 3, "device {number}");
    }
}

/// Deleting a user deletes its secrets and devices, and nobody else's.
pub async fn a_deleted_user_takes_secrets_and_devices_along(stores: &Stores) {
    let fixture = Fixture::new("a_deleted_user_takes_secrets_and_devices_along");
    let users = [
        account(&fixture, "gone@belongings.example", None),
        account(&fixture, "kept@belongings.example", None),
    ];
    for user in &users {
        let inserted = stores.users().insert_user(user).await.expect("the store answers");
        assert_eq!(inserted, UserInserted::Yes);
        put(stores, &secret(&user.id, Purpose::VerifyEmail, "right")).await;
        put(stores, &secret(&user.id, Purpose::SignIn, "right")).await;
        remember(stores, &device(&user.id, 1, NOW + secs(100))).await;
    }
    assert!(stores.users().delete_user(&users[0].id).await.expect("the store answers"));
    for (user, kept) in users.iter().zip([false, true]) {
        for purpose in [Purpose::VerifyEmail, Purpose::SignIn] {
            assert_eq!(read(stores, &user.id, purpose).await.is_some(), kept);
        }
        assert_eq!(knows(stores, &device(&user.id, 1, NOW), NOW).await, kept);
    }
}

/// Purging deletes what is over, at most as many as it is told. It needs a database of its own.
pub async fn purging_takes_what_is_over(stores: &Stores) {
    let fixture = Fixture::new("purging_takes_what_is_over");
    for number in 1..=5 {
        let user = fixture.user();
        let until = NOW + secs(number);
        put(stores, &OneTimeSecret { expires_at: until, ..secret(&user, Purpose::SignIn, "x") }).await;
        remember(stores, &device(&user, 1, until)).await;
    }
    for (before, limit, expected) in [(1, 10, 0), (4, 2, 2), (4, 10, 1), (100, 10, 2), (100, 10, 0)] {
        let secrets = stores.one_time().purge_secrets(NOW + secs(before), limit).await;
        assert_eq!(secrets.expect("the store answers"), expected, "secrets before {before}, at most {limit}");
        let devices = stores.devices().purge_devices(NOW + secs(before), limit).await;
        assert_eq!(devices.expect("the store answers"), expected, "devices before {before}, at most {limit}");
    }
}
