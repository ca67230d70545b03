//! The names that users claim in `account_name`.

use countersign_core::model::User;
use countersign_core::store::{NameKey, UserInserted, UserReplaced};

/// A name as `account_name` has it: its kind and its key.
pub(crate) const fn columns(name: NameKey<'_>) -> (&'static str, &str) {
    match name {
        NameKey::Email(key) => ("email", key),
        NameKey::Username(key) => ("username", key),
    }
}

/// The names that a user has, always in this order: everybody who claims names claims the address first, so that no two
/// callers wait for each other.
pub(crate) fn of(user: &User) -> impl Iterator<Item = NameKey<'_>> {
    let email = user.email.as_ref().map(|email| NameKey::Email(email.key()));
    let username = user.username.as_ref().map(|username| NameKey::Username(username.key()));
    email.into_iter().chain(username)
}

/// The names that `user` has and `other` has not.
pub(crate) fn beyond<'u>(user: &'u User, other: &User) -> impl Iterator<Item = NameKey<'u>> {
    of(user).filter(|name| !of(other).any(|known| known == *name))
}

/// The answer to an insert whose name another account has.
pub(crate) const fn insert_refused(taken: NameKey<'_>) -> UserInserted {
    match taken {
        NameKey::Email(_) => UserInserted::EmailTaken,
        NameKey::Username(_) => UserInserted::UsernameTaken,
    }
}

/// The answer to a change whose new name another account has.
pub(crate) const fn change_refused(taken: NameKey<'_>) -> UserReplaced {
    match taken {
        NameKey::Email(_) => UserReplaced::EmailTaken,
        NameKey::Username(_) => UserReplaced::UsernameTaken,
    }
}
