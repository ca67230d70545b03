//! The templates and texts that this crate comes with.

use countersign_text::BuiltIn;

use crate::Language;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../templates/", $name)))),*]
    };
}

/// The templates and texts.
pub(super) const BUILT_IN: BuiltIn = BuiltIn { what: "mail template", files: FILES, texts: TEXTS };

/// The templates, by name.
const FILES: &[(&str, &str)] = files![
    "layout.txt",
    "layout.html",
    "button.html",
    "verify_address.txt",
    "verify_address.html",
    "reset_password.txt",
    "reset_password.html",
    "sign_in_code.txt",
    "sign_in_code.html",
    "account_exists.txt",
    "account_exists.html",
    "password_changed.txt",
    "password_changed.html",
    "email_changed.txt",
    "email_changed.html",
    "new_device.txt",
    "new_device.html",
    "account_deleted.txt",
    "account_deleted.html",
    "invite.txt",
    "invite.html",
];

/// The texts, by language.
const TEXTS: &[(Language, &str)] = &[
    (Language::English, include_str!("../../texts/en.toml")),
    (Language::German, include_str!("../../texts/de.toml")),
    (Language::French, include_str!("../../texts/fr.toml")),
];
