//! What is wrong with a field, as the key of a text.

use countersign_core::model::{NameError, WeakPassword};

/// The text for what is wrong with an e-mail address or a username.
pub(crate) fn of_name(error: NameError, is_email: bool) -> &'static str {
    match error {
        NameError::EmailLength => "problem.email_length",
        NameError::EmailDomain => "problem.email_domain",
        NameError::UsernameLength => "problem.username_length",
        NameError::UsernameAtSign | NameError::UsernameCharacter => "problem.username_characters",
        _ if is_email => "problem.email_form",
        _ => "problem.username_characters",
    }
}

/// The text for what is wrong with a new password.
pub(crate) fn of_password(error: &WeakPassword) -> &'static str {
    match error {
        WeakPassword::TooShort { .. } => "problem.password_short",
        WeakPassword::TooLong => "problem.password_long",
        WeakPassword::OwnName => "problem.password_own",
        WeakPassword::SiteWord => "problem.password_site",
        WeakPassword::Breached => "problem.password_breached",
        // A reason that this crate does not know yet asks for another password as well.
        _ => "problem.password_common",
    }
}
