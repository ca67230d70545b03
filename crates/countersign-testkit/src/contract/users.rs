//! The promises of [`UserStore`](countersign_core::store::UserStore).

#![expect(clippy::indexing_slicing, reason = "the bounds are those of the check's own rows")]

use countersign_core::model::{EmailAddress, Language, PasswordHash, Roles, User, Username};
use countersign_core::store::{NameKey, Stores, UserInserted, UserPage, UserPosition, UserReplaced};
use countersign_jwt::UserId;

use super::fixture::{Fixture, NOW, at_once, secs};

/// Runs every check of accounts.
pub async fn run(stores: &Stores, rounds: usize) {
    a_user_reads_back_as_inserted(stores).await;
    names_are_unique_and_claimed_all_or_none(stores).await;
    sec_156_of_parallel_registrations_one_wins(stores, rounds).await;
    a_password_hash_is_replaced_only_if_it_is_still_the_old_one(stores, rounds).await;
    accounts_are_disabled_and_enabled(stores).await;
    an_account_may_lack_either_name(stores).await;
    an_id_is_taken_once(stores).await;
    a_user_is_replaced_only_if_nobody_changed_it(stores, rounds).await;
    names_move_with_their_user(stores, rounds).await;
    a_deleted_user_leaves_nothing(stores).await;
    user_numbers_grow(stores, rounds).await;
}

pub(super) fn account(fixture: &Fixture, email: &str, username: Option<&str>) -> User {
    User {
        email: Some(self::email(email)),
        username: username.map(|name| Username::parse(name).expect("a username")),
        password_hash: Some(hash("one")),
        ..User::new(fixture.user(), NOW)
    }
}

fn email(text: &str) -> EmailAddress {
    EmailAddress::parse(text).expect("an e-mail address")
}

pub(super) fn hash(text: &str) -> PasswordHash {
    PasswordHash::from_stored(format!("$argon2id$v=19$m=19456,t=2,p=1${text}$c29tZSBoYXNo"))
}

/// All fields of a user in a form that can be compared.
pub(super) fn shown(user: &User) -> String {
    let hash = user.password_hash.as_ref().map(PasswordHash::expose);
    let name = user.username.as_ref().map(|name| (name.as_str(), name.key()));
    let email = user.email.as_ref().map(|email| (email.as_str(), email.key()));
    let User {
        id, email_verified_at, roles, language, created_at, disabled_at, deleted_at, revision, ..
    } = user;
    format!(
        "{id} {email:?} {email_verified_at:?} {name:?} {hash:?} {roles:?} {language:?} {created_at:?} \
         {disabled_at:?} {deleted_at:?} {revision}"
    )
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
    let full = User {
        email_verified_at: Some(NOW + secs(3)),
        roles: Roles::parse("editor admin:all").expect("roles"),
        language: Some(Language::parse("pt-BR").expect("a language")),
        deleted_at: Some(NOW + secs(9)),
        revision: 41,
        ..full
    };
    let bare = User { password_hash: None, ..account(&fixture, "ada.bare@example.org", None) };
    let disabled =
        User { disabled_at: Some(NOW + secs(7)), ..account(&fixture, "ada.off@example.org", None) };
    for user in [&full, &bare, &disabled] {
        assert_eq!(insert(stores, user).await, UserInserted::Yes);
        let found = by_id(stores, &user.id).await.expect("the user is there");
        assert_eq!(shown(&found), shown(user), "by id");
        let found = by_name(stores, NameKey::Email(user.email.as_ref().expect("an address").key()))
            .await
            .expect("the user is there");
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
        NameKey::Username(full.email.as_ref().expect("an address").key()),
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
    let mut revision = user.revision;
    for disabled in [Some(NOW), Some(NOW + secs(1)), None, None, Some(NOW)] {
        let known = stores.users().set_disabled(&user.id, disabled).await.expect("the store answers");
        assert!(known, "the account exists, even if nothing changes");
        let expected = User { disabled_at: disabled, ..user.clone() };
        let found = by_name(stores, NameKey::Username("disable_ada")).await.expect("the user is there");
        assert!(found.revision > revision, "the revision has been raised");
        revision = found.revision;
        assert_eq!(shown(&found), shown(&User { revision, ..expected }));
    }
    let known = stores.users().set_disabled(&fixture.user(), Some(NOW)).await.expect("the store answers");
    assert!(!known, "an unknown account");
}

/// An account has an e-mail address, a username or both, and is found by what it has.
pub async fn an_account_may_lack_either_name(stores: &Stores) {
    let fixture = Fixture::new("an_account_may_lack_either_name");
    let username = |name: &str| Some(Username::parse(name).expect("a username"));
    let by_username = User { username: username("lacks_email"), ..User::new(fixture.user(), NOW) };
    let another = User { username: username("lacks_email_too"), ..User::new(fixture.user(), NOW) };
    let by_email = User { email: Some(email("lacks@name.example")), ..User::new(fixture.user(), NOW) };
    for user in [&by_username, &another, &by_email] {
        assert_eq!(insert(stores, user).await, UserInserted::Yes);
        assert_eq!(by_id(stores, &user.id).await.as_ref().map(shown), Some(shown(user)));
    }
    let found = by_name(stores, NameKey::Username("lacks_email")).await;
    assert_eq!(found.as_ref().map(shown), Some(shown(&by_username)));
    assert!(by_name(stores, NameKey::Email("")).await.is_none(), "an absent address is nobody's name");
}

/// An id that is taken refuses the account and leaves its names free.
pub async fn an_id_is_taken_once(stores: &Stores) {
    let fixture = Fixture::new("an_id_is_taken_once");
    let first = account(&fixture, "first@ids.example", Some("ids_first"));
    assert_eq!(insert(stores, &first).await, UserInserted::Yes);
    let second = User { id: first.id.clone(), ..account(&fixture, "second@ids.example", Some("ids_second")) };
    assert_eq!(insert(stores, &second).await, UserInserted::IdTaken);
    assert_eq!(by_id(stores, &first.id).await.as_ref().map(shown), Some(shown(&first)));
    for name in [NameKey::Email("second@ids.example"), NameKey::Username("ids_second")] {
        assert!(by_name(stores, name).await.is_none(), "{name:?} is free");
    }
    let third = User { id: fixture.user(), ..second };
    assert_eq!(insert(stores, &third).await, UserInserted::Yes, "both names were left free");
}

async fn replace(stores: &Stores, old: &User, new: &User) -> UserReplaced {
    stores.users().replace_user(old, new).await.expect("the store answers")
}

/// Every field but the id and the time of registration is replaced, on condition of the revision. Of concurrent callers
/// that have read the same account exactly one wins.
pub async fn a_user_is_replaced_only_if_nobody_changed_it(stores: &Stores, rounds: usize) {
    let fixture = Fixture::new("a_user_is_replaced_only_if_nobody_changed_it");
    let old = account(&fixture, "old@replaced.example", Some("replaced_old"));
    assert_eq!(insert(stores, &old).await, UserInserted::Yes);
    let new = User {
        id: fixture.user(),
        email: Some(email("new@replaced.example")),
        email_verified_at: Some(NOW + secs(5)),
        username: Some(Username::parse("replaced_new").expect("a username")),
        password_hash: Some(hash("two")),
        roles: Roles::parse("admin").expect("a role"),
        language: Some(Language::parse("de").expect("a language")),
        created_at: NOW + secs(1_000),
        disabled_at: Some(NOW + secs(6)),
        deleted_at: Some(NOW + secs(7)),
        revision: 999,
    };
    assert_eq!(replace(stores, &old, &new).await, UserReplaced::Yes);
    let expected =
        User { id: old.id.clone(), created_at: old.created_at, revision: old.revision + 1, ..new.clone() };
    let found = by_id(stores, &old.id).await.expect("the user is there");
    assert_eq!(shown(&found), shown(&expected), "all is replaced but id, registration and revision");
    assert_eq!(
        replace(stores, &old, &old).await,
        UserReplaced::Changed,
        "the old one was read before the change"
    );
    let nobody = account(&fixture, "nobody@replaced.example", None);
    assert_eq!(replace(stores, &nobody, &nobody).await, UserReplaced::Changed, "there is no such account");
    assert!(by_name(stores, NameKey::Email("nobody@replaced.example")).await.is_none());
    let bare = User { username: found.username.clone(), ..User::new(old.id.clone(), NOW) };
    assert_eq!(replace(stores, &found, &bare).await, UserReplaced::Yes);
    let mut current = by_id(stores, &old.id).await.expect("the user is there");
    assert_eq!(shown(&current), shown(&User { revision: 2, ..bare }), "fields become absent again");
    assert!(
        by_name(stores, NameKey::Email("new@replaced.example")).await.is_none(),
        "the address is free again"
    );

    // Other writes count as changes too.
    let hashed = stores.users().replace_password_hash(&old.id, None, &hash("three")).await;
    assert!(hashed.expect("the store answers"));
    assert_eq!(replace(stores, &current, &current).await, UserReplaced::Changed);
    current = by_id(stores, &old.id).await.expect("the user is there");

    for round in 0..rounds.div_ceil(8) {
        let candidates: Vec<_> = (0..16)
            .map(|caller| User { password_hash: Some(hash(&format!("{round}-{caller}"))), ..current.clone() })
            .collect();
        let answers = at_once(candidates.iter().cloned().map(|new| {
            let (stores, old) = (stores.clone(), current.clone());
            async move { replace(&stores, &old, &new).await }
        }))
        .await;
        let winners: Vec<_> =
            candidates.iter().zip(answers).filter(|(_, answer)| *answer == UserReplaced::Yes).collect();
        let [(winner, _)] = winners.as_slice() else {
            panic!("round {round}: one of 16 replaces the account")
        };
        current = by_id(stores, &old.id).await.expect("the user is there");
        let kept = current.password_hash.as_ref().map(PasswordHash::expose);
        assert_eq!(kept, winner.password_hash.as_ref().map(PasswordHash::expose));
    }
}

/// A name that a user gives up is free, a name that another account has refuses the whole change, and of concurrent
/// changes to one name exactly one wins.
pub async fn names_move_with_their_user(stores: &Stores, rounds: usize) {
    let fixture = Fixture::new("names_move_with_their_user");
    let one = account(&fixture, "one@moves.example", Some("moves_one"));
    let two = account(&fixture, "two@moves.example", Some("moves_two"));
    for user in [&one, &two] {
        assert_eq!(insert(stores, user).await, UserInserted::Yes);
    }
    for (email_of, name_of, answer) in
        [(&two, &one, UserReplaced::EmailTaken), (&one, &two, UserReplaced::UsernameTaken)]
    {
        let new = User { email: email_of.email.clone(), username: name_of.username.clone(), ..one.clone() };
        assert_eq!(replace(stores, &one, &new).await, answer);
        assert_eq!(
            by_id(stores, &one.id).await.as_ref().map(shown),
            Some(shown(&one)),
            "nothing has changed"
        );
    }
    // A taken username leaves the free address free.
    let new =
        User { email: Some(email("free@moves.example")), username: two.username.clone(), ..one.clone() };
    assert_eq!(replace(stores, &one, &new).await, UserReplaced::UsernameTaken);
    assert!(by_name(stores, NameKey::Email("free@moves.example")).await.is_none());

    // The same name in other letters stays the user's own.
    let new = User { email: Some(email("ONE@Moves.example")), ..one.clone() };
    assert_eq!(replace(stores, &one, &new).await, UserReplaced::Yes);
    let found = by_name(stores, NameKey::Email("one@moves.example")).await.expect("the user is there");
    assert_eq!(found.email.as_ref().map(EmailAddress::as_str), Some("ONE@Moves.example"));

    let new = User { email: Some(email("elsewhere@moves.example")), ..found.clone() };
    assert_eq!(replace(stores, &found, &new).await, UserReplaced::Yes);
    assert!(by_name(stores, NameKey::Email("one@moves.example")).await.is_none(), "the old address is free");
    let successor = account(&fixture, "one@moves.example", None);
    assert_eq!(insert(stores, &successor).await, UserInserted::Yes);

    for round in 0..rounds.div_ceil(8) {
        let wanted = format!("race-{round}@moves.example");
        let mut users = Vec::new();
        for caller in 0..12 {
            let user = account(&fixture, &format!("from-{round}-{caller}@moves.example"), None);
            // Half of them register with the address, the others change theirs to it.
            if caller % 2 == 0 {
                assert_eq!(insert(stores, &user).await, UserInserted::Yes);
            }
            users.push(user);
        }
        let answers = at_once(users.iter().cloned().enumerate().map(|(caller, user)| {
            let (stores, new) = (stores.clone(), User { email: Some(email(&wanted)), ..user.clone() });
            async move {
                if caller % 2 == 0 {
                    replace(&stores, &user, &new).await == UserReplaced::Yes
                } else {
                    insert(&stores, &new).await == UserInserted::Yes
                }
            }
        }))
        .await;
        assert_eq!(answers.iter().filter(|won| **won).count(), 1, "round {round}: one gets the address");
        let owner = by_name(stores, NameKey::Email(&wanted)).await.expect("the address has an owner");
        let winner = users.iter().zip(&answers).find(|(_, won)| **won).map(|(user, _)| &user.id);
        assert_eq!(Some(&owner.id), winner, "round {round}: the address leads to the winner");
    }
}

/// A deleted user is not found by id or name, and its names can be claimed.
pub async fn a_deleted_user_leaves_nothing(stores: &Stores) {
    let fixture = Fixture::new("a_deleted_user_leaves_nothing");
    let user = account(&fixture, "gone@deleted.example", Some("deleted_gone"));
    let other = account(&fixture, "kept@deleted.example", Some("deleted_kept"));
    for user in [&user, &other] {
        assert_eq!(insert(stores, user).await, UserInserted::Yes);
    }
    for expected in [true, false] {
        let deleted = stores.users().delete_user(&user.id).await.expect("the store answers");
        assert_eq!(deleted, expected);
    }
    assert!(by_id(stores, &user.id).await.is_none());
    for name in [NameKey::Email("gone@deleted.example"), NameKey::Username("deleted_gone")] {
        assert!(by_name(stores, name).await.is_none(), "{name:?} is free");
    }
    let successor = account(&fixture, "gone@deleted.example", Some("deleted_gone"));
    assert_eq!(insert(stores, &successor).await, UserInserted::Yes);
    assert_eq!(by_id(stores, &other.id).await.as_ref().map(shown), Some(shown(&other)));
}

/// Numbers for ids grow, are at least what was asked for, and are given out once.
pub async fn user_numbers_grow(stores: &Stores, rounds: usize) {
    let next = async |at_least| stores.users().next_user_number(at_least).await.expect("the store answers");
    let first = next(1).await;
    assert!(first >= 1);
    let high = first + 1_000;
    assert_eq!(next(high).await, high, "counting goes on from what is asked for");
    assert_eq!(next(1).await, high + 1);
    for _ in 0..rounds.div_ceil(20) {
        let calls = (0..16).map(|_| {
            let users = stores.users().clone();
            async move { users.next_user_number(1).await.expect("the store answers") }
        });
        let mut numbers = at_once(calls).await;
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 16, "concurrent calls get different numbers");
    }
}

/// Users are listed newest first, in pages without gaps or repeats, and found by parts of their names and by id. It
/// needs a database of its own.
pub async fn users_are_listed_and_searched(stores: &Stores) {
    let fixture = Fixture::new("users_are_listed_and_searched");
    let mut all = Vec::new();
    for number in 0_u64..23 {
        let user = User {
            // Several accounts are of one moment.
            created_at: NOW + secs(number / 3),
            ..account(
                &fixture,
                &format!("List{number}.50%_off@page{}.example", number % 2),
                Some(&format!("list_{number}")),
            )
        };
        assert_eq!(insert(stores, &user).await, UserInserted::Yes);
        all.push(user);
    }
    all.sort_by_key(|user| std::cmp::Reverse(UserPosition::from(user)));
    let read = async |query: Option<&str>, limit: usize| {
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let page = UserPage { query, after: after.clone(), limit };
            let users = stores.users().users(&page).await.expect("the store answers");
            assert!(users.len() <= limit);
            let Some(last) = users.last() else { return found };
            after = Some(UserPosition::from(last));
            found.extend(users.iter().map(shown));
        }
    };
    for query in [
        None,
        Some("page1"),
        Some("list1"),
        Some("50%_off"),
        Some("_"),
        Some("%"),
        Some("st_7"),
        Some(all[4].id.as_str()),
    ] {
        let page = UserPage { query, after: None, limit: 1 };
        let expected: Vec<_> = all.iter().filter(|user| page.asks_for(user)).map(shown).collect();
        assert!(!expected.is_empty(), "{query:?} finds somebody");
        for limit in [1, 4, 100] {
            assert_eq!(read(query, limit).await, expected, "{query:?}, {limit} a page");
        }
    }
    for query in ["list1%", "x%", "nobody", "' OR 1=1 --", "LIST", "list_*", &all[4].id.as_str()[1..]] {
        assert!(read(Some(query), 10).await.is_empty(), "{query:?} finds nobody");
    }
    let [one, two, ..] = all.as_slice() else { panic!("there are many") };
    for (user, at) in [(one, NOW + secs(50)), (two, NOW + secs(60))] {
        let asked = User { deleted_at: Some(at), ..user.clone() };
        assert_eq!(replace(stores, user, &asked).await, UserReplaced::Yes);
    }
    for (before, limit, expected) in [(50, 10, 0), (51, 10, 1), (61, 10, 2), (61, 1, 1)] {
        let due = stores.users().users_to_delete(NOW + secs(before), limit).await.expect("the store answers");
        assert_eq!(due.len(), expected, "before {before}, at most {limit}");
    }
}
