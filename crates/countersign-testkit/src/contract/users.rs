//! The promises of [`UserStore`](countersign_core::store::UserStore).

use countersign_core::model::{EmailAddress, PasswordHash, User, Username};
use countersign_core::store::{NameKey, Stores, UserInserted};
use countersign_jwt::UserId;

use super::fixture::{Fixture, NOW, at_once, secs};

/// Runs every check of accounts.
pub async fn run(stores: &Stores, rounds: usize) {
    a_user_reads_back_as_inserted(stores).await;
    names_are_unique_and_claimed_all_or_none(stores).await;
    sec_156_of_parallel_registrations_one_wins(stores, rounds).await;
    a_password_hash_is_replaced_only_if_it_is_still_the_old_one(stores, rounds).await;
    accounts_are_disabled_and_enabled(stores).await;
}

pub(super) fn account(fixture: &Fixture, email: &str, username: Option<&str>) -> User {
    User {
        id: fixture.user(),
        email: EmailAddress::parse(email).expect("an e-mail address"),
        username: username.map(|name| Username::parse(name).expect("a username")),
        password_hash: Some(hash("one")),
        created_at: NOW,
        disabled_at: None,
    }
}

pub(super) fn hash(text: &str) -> PasswordHash {
    PasswordHash::from_stored(format!("$argon2id$v=19$m=19456,t=2,p=1${text}$c29tZSBoYXNo"))
}

/// All fields of a user in a form that can be compared.
pub(super) fn shown(user: &User) -> String {
    let hash = user.password_hash.as_ref().map(PasswordHash::expose);
    let name = user.username.as_ref().map(|name| (name.as_str(), name.key()));
    let User { id, email, created_at, disabled_at, .. } = user;
    let email = (email.as_str(), email.key());
    format!("{id} {email:?} {name:?} {hash:?} {created_at:?} {disabled_at:?}")
}

async fn insert(stores: &Stores, user: &User) -> UserInserted {
    stores.users().insert_user(user).await.expect("the store answers")
}

async fn by_id(stores: &Stores, id: &UserId) -> Option<User> {
    stores.users().user(id).await.expect("the store answers")
}

async fn by_name(stores: &Stores, name: NameKey<'_>) -> Option<User> {
    stores.users().user_by_name(name).await.expect("the store answers")
}

/// Every field is read back as it was, and id, e-mail address and username all lead to the same account.
pub async fn a_user_reads_back_as_inserted(stores: &Stores) {
    let fixture = Fixture::new("a_user_reads_back_as_inserted");
    let full = account(&fixture, "Ada.Full@Example.ORG", Some("Ada_Full"));
    let bare = User { password_hash: None, ..account(&fixture, "ada.bare@example.org", None) };
    let disabled =
        User { disabled_at: Some(NOW + secs(7)), ..account(&fixture, "ada.off@example.org", None) };
    for user in [&full, &bare, &disabled] {
        assert_eq!(insert(stores, user).await, UserInserted::Yes);
        let found = by_id(stores, &user.id).await.expect("the user is there");
        assert_eq!(shown(&found), shown(user), "by id");
        let found = by_name(stores, NameKey::Email(user.email.key())).await.expect("the user is there");
        assert_eq!(shown(&found), shown(user), "by e-mail address");
    }
    let username = full.username.as_ref().expect("a username");
    let found = by_name(stores, NameKey::Username(username.key())).await.expect("the user is there");
    assert_eq!(shown(&found), shown(&full), "by username");

    assert!(by_id(stores, &fixture.user()).await.is_none(), "unknown id");
    for name in [
        NameKey::Email("nobody@example.org"),
        NameKey::Email(""),
        NameKey::Username(""),
        NameKey::Username("nobody"),
        NameKey::Username(full.email.key()),
        NameKey::Email(username.key()),
    ] {
        assert!(by_name(stores, name).await.is_none(), "{name:?} is nobody's");
    }
}

/// A taken name refuses the whole account, and leaves the account's other name free.
pub async fn names_are_unique_and_claimed_all_or_none(stores: &Stores) {
    let fixture = Fixture::new("names_are_unique_and_claimed_all_or_none");
    let first = account(&fixture, "first@unique.example", Some("unique_first"));
    assert_eq!(insert(stores, &first).await, UserInserted::Yes);

    let same_email = account(&fixture, "FIRST@unique.example", Some("unique_second"));
    assert_eq!(insert(stores, &same_email).await, UserInserted::EmailTaken);
    assert!(by_id(stores, &same_email.id).await.is_none(), "a refused account is not there");
    assert!(by_name(stores, NameKey::Username("unique_second")).await.is_none(), "nor is its username taken");

    let same_username = account(&fixture, "second@unique.example", Some("Unique_First"));
    assert_eq!(insert(stores, &same_username).await, UserInserted::UsernameTaken);
    assert!(by_id(stores, &same_username.id).await.is_none(), "a refused account is not there");
    let email = NameKey::Email("second@unique.example");
    assert!(by_name(stores, email).await.is_none(), "nor is its e-mail address taken");

    let both = account(&fixture, "first@unique.example", Some("unique_first"));
    assert_ne!(insert(stores, &both).await, UserInserted::Yes);
    let second = account(&fixture, "second@unique.example", Some("unique_second"));
    assert_eq!(insert(stores, &second).await, UserInserted::Yes, "both names were left free");
    let found = by_name(stores, NameKey::Email("first@unique.example")).await.expect("the first is there");
    assert_eq!(shown(&found), shown(&first), "and the first account is as it was");
}

/// SEC-156: exactly one of 50 concurrent registrations of one name makes an account.
pub async fn sec_156_of_parallel_registrations_one_wins(stores: &Stores, rounds: usize) {
    let fixture = Fixture::new("sec_156_of_parallel_registrations_one_wins");
    for round in 0..rounds.div_ceil(8) {
        // The accounts share the e-mail address, the username, or both crosswise.
        for kind in 0..3 {
            let users: Vec<_> = (0..50)
                .map(|caller| {
                    let shared = format!("race_{round}_{kind}");
                    let own = format!("race_{round}_{kind}_{caller}");
                    match kind {
                        0 => account(&fixture, &format!("{shared}@race.example"), Some(&own)),
                        1 => account(&fixture, &format!("{own}@race.example"), Some(&shared)),
                        _ => account(&fixture, &format!("{shared}@race.example"), Some(&shared)),
                    }
                })
                .collect();
            let answers = at_once(users.iter().cloned().map(|user| {
                let stores = stores.clone();
                async move { insert(&stores, &user).await }
            }))
            .await;
            let mut winners = Vec::new();
            for (user, answer) in users.iter().zip(answers) {
                let there = by_id(stores, &user.id).await.is_some();
                assert_eq!(there, answer == UserInserted::Yes, "round {round}: an account or a refusal");
                if there {
                    winners.push(user);
                }
            }
            assert_eq!(winners.len(), 1, "round {round}: one of 50 registrations wins");
        }
    }
}

/// The hash is replaced if it is still the old one. Of concurrent callers that replace the same hash exactly one wins.
pub async fn a_password_hash_is_replaced_only_if_it_is_still_the_old_one(stores: &Stores, rounds: usize) {
    let fixture = Fixture::new("a_password_hash_is_replaced_only_if_it_is_still_the_old_one");
    let user = account(&fixture, "hash@replace.example", None);
    assert_eq!(insert(stores, &user).await, UserInserted::Yes);
    let none = User { password_hash: None, ..account(&fixture, "none@replace.example", None) };
    assert_eq!(insert(stores, &none).await, UserInserted::Yes);
    let (one, two, three) = (hash("one"), hash("two"), hash("three"));
    let nobody = fixture.user();
    for (case, id, old, new, expected) in [
        ("another one", &user.id, Some(&two), &three, false),
        ("none where there is one", &user.id, None, &three, false),
        ("the current one", &user.id, Some(&one), &two, true),
        ("the one before", &user.id, Some(&one), &three, false),
        ("one where there is none", &none.id, Some(&one), &two, false),
        ("none where there is none", &none.id, None, &two, true),
        ("an unknown user's", &nobody, None, &two, false),
    ] {
        let replaced = stores.users().replace_password_hash(id, old, new).await.expect("the store answers");
        assert_eq!(replaced, expected, "{case}");
    }
    for id in [&user.id, &none.id] {
        let found = by_id(stores, id).await.expect("the user is there");
        let kept = found.password_hash.as_ref().map(PasswordHash::expose);
        assert_eq!(kept, Some(two.expose()), "what was replaced last");
    }
    let mut current = two;
    for round in 0..rounds.div_ceil(8) {
        let candidates: Vec<_> = (0..16).map(|caller| hash(&format!("{round}-{caller}"))).collect();
        let answers =
            at_once(
                candidates.iter().cloned().map(|new| {
                    let (users, id, old) = (stores.users().clone(), user.id.clone(), current.clone());
                    async move {
                        users.replace_password_hash(&id, Some(&old), &new).await.expect("the store answers")
                    }
                }),
            )
            .await;
        let winners: Vec<_> = candidates.iter().zip(answers).filter(|(_, won)| *won).collect();
        let [(winner, _)] = winners.as_slice() else { panic!("round {round}: one of 16 replaces the hash") };
        let found = by_id(stores, &user.id).await.expect("the user is there");
        assert_eq!(found.password_hash.as_ref().map(PasswordHash::expose), Some(winner.expose()));
        current = (*winner).clone();
    }
}

/// Accounts can be disabled and enabled any number of times.
pub async fn accounts_are_disabled_and_enabled(stores: &Stores) {
    let fixture = Fixture::new("accounts_are_disabled_and_enabled");
    let user = account(&fixture, "ada@disable.example", Some("disable_ada"));
    assert_eq!(insert(stores, &user).await, UserInserted::Yes);
    for disabled in [Some(NOW), Some(NOW + secs(1)), None, None, Some(NOW)] {
        let known = stores.users().set_disabled(&user.id, disabled).await.expect("the store answers");
        assert!(known, "the account exists, even if nothing changes");
        let expected = User { disabled_at: disabled, ..user.clone() };
        let found = by_name(stores, NameKey::Username("disable_ada")).await.expect("the user is there");
        assert_eq!(shown(&found), shown(&expected));
    }
    let known = stores.users().set_disabled(&fixture.user(), Some(NOW)).await.expect("the store answers");
    assert!(!known, "an unknown account");
}
