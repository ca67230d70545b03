//! The meaning of the texts in another application's columns.

use std::net::IpAddr;

use countersign_jwt::{Timestamp, TokenId};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use uuid::Uuid;

/// A column of one row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cell {
    /// The column is null.
    Null,
    /// A text.
    Text(String),
    /// Bytes that are not text.
    Bytes,
}

/// The value of a switch: a boolean, or the time since when it is on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Switch {
    Off,
    On(Option<Timestamp>),
    /// A value that is neither a boolean nor a time.
    Unclear,
}

/// The form in which a password is kept.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum HashForm {
    /// Argon2.
    Argon2,
    /// Werkzeug's scrypt, its default since 2.3.
    WerkzeugScrypt,
    /// Werkzeug's PBKDF2, its default before 2.3.
    WerkzeugPbkdf2,
    /// bcrypt, from Flask-Bcrypt or other libraries.
    Bcrypt,
    /// Another hash, which names its own form.
    Other,
}

/// A time: ISO 8601, in UTC where it has no zone, or Unix seconds.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Some(seconds) = unix_seconds(text) {
        return Some(seconds);
    }
    let time = match text.parse::<jiff::Timestamp>() {
        Ok(time) => time,
        Err(_) => TimeZone::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok()?,
    };
    (time.as_second() >= 0).then(|| Timestamp::from_millis(time.as_millisecond()))
}

/// Unix seconds, with or without a fraction, up to the year 9999. Larger numbers are not taken for seconds.
fn unix_seconds(text: &str) -> Option<Timestamp> {
    const LAST: i64 = 253_402_300_799;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    // A number of four digits is a year, not one of the first hours of 1970.
    if whole.len() < 5 || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    whole.parse().ok().filter(|seconds| *seconds <= LAST).map(Timestamp::from_secs)
}

/// A boolean in the spellings that the databases use.
pub(super) fn boolean(text: &str) -> Option<bool> {
    let is = |words: [&str; 3]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(["t", "1", "true"]) {
        Some(true)
    } else if is(["f", "0", "false"]) {
        Some(false)
    } else {
        None
    }
}

/// The value of a column that is a boolean in some applications and a time in others. Null and the empty text are off,
/// as in Python.
pub(super) fn switch(cell: &Cell) -> Switch {
    match cell {
        Cell::Null => Switch::Off,
        Cell::Bytes => Switch::Unclear,
        Cell::Text(text) => match (text.trim(), boolean(text.trim())) {
            ("", _) | (_, Some(false)) => Switch::Off,
            (_, Some(true)) => Switch::On(None),
            (text, None) => time(text).map_or(Switch::Unclear, |at| Switch::On(Some(at))),
        },
    }
}

/// The id of a token: a UUID with hyphens, or without, as SQLAlchemy keeps it where the database has no UUID type.
pub(super) fn token_id(text: &str) -> Option<TokenId> {
    uuid(text.trim()).map(TokenId::new)
}

/// The UUID that 32 hexadecimal digits without hyphens write.
#[must_use]
pub fn unhyphenated(text: &str) -> Option<Uuid> {
    uuid(text).filter(|_| text.len() == uuid::fmt::Simple::LENGTH)
}

fn uuid(text: &str) -> Option<Uuid> {
    let usual = matches!(text.len(), uuid::fmt::Hyphenated::LENGTH | uuid::fmt::Simple::LENGTH);
    usual.then(|| Uuid::try_parse(text).ok()).flatten()
}

/// An IP address, without the size of its network, which PostgreSQL appends.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    text.trim().split('/').next()?.parse().ok()
}

impl HashForm {
    /// The form of a hash; `None` if the text does not name one. The text may then be the password itself.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        const OTHERS: [&str; 13] = [
            "$scrypt$",
            "$pbkdf2",
            "$5$",
            "$6$",
            "$7$",
            "$y$",
            "pbkdf2_",
            "bcrypt$",
            "bcrypt_sha256$",
            "scrypt$",
            "argon2$",
            "$bcrypt",
            "bcrypt-sha256-hex$",
        ];
        let begins = |with: &[&str]| with.iter().any(|with| text.starts_with(with));
        if begins(&["$argon2id$", "$argon2i$", "$argon2d$"]) {
            Some(Self::Argon2)
        } else if begins(&["scrypt:"]) {
            Some(Self::WerkzeugScrypt)
        } else if begins(&["pbkdf2:"]) {
            Some(Self::WerkzeugPbkdf2)
        } else if begins(&["$2a$", "$2b$", "$2x$", "$2y$"]) {
            Some(Self::Bcrypt)
        } else if begins(&OTHERS) {
            Some(Self::Other)
        } else {
            None
        }
    }

    /// The name of the form.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Argon2 => "Argon2",
            Self::WerkzeugScrypt => "werkzeug scrypt",
            Self::WerkzeugPbkdf2 => "werkzeug pbkdf2",
            Self::Bcrypt => "bcrypt",
            Self::Other => "another form",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_iso_or_unix_seconds() {
        let noon = Some(Timestamp::from_secs(1_769_860_800));
        for (text, expected) in [
            ("2026-01-31T12:00:00Z", noon),
            ("2026-01-31T12:00:00", noon),
            ("2026-01-31 12:00:00", noon),
            (" 2026-01-31 12:00:00.000000 ", noon),
            ("2026-01-31 12:00:00+00", noon),
            ("2026-01-31 12:00:00.000+00:00", noon),
            ("2026-01-31T14:00:00+02:00", noon),
            ("1769860800", noon),
            ("1769860800.5", noon),
            ("2026-01-31", Some(Timestamp::from_secs(1_769_817_600))),
            ("1769860800000", None),
            ("2026", None),
            ("-1769860800", None),
            ("1.7698608e9", None),
            ("1950-01-01 00:00:00", None),
            ("0000-00-00 00:00:00", None),
            ("2026-02-30 12:00:00", None),
            ("infinity", None),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(time(text), expected, "{text:?}");
        }
    }

    #[test]
    fn switches_are_booleans_or_times() {
        let text = |text: &str| switch(&Cell::Text(text.to_owned()));
        for off in ["", " ", "0", "f", "false", "False", "FALSE"] {
            assert_eq!(text(off), Switch::Off, "{off:?}");
        }
        for on in ["1", "t", "true", "True"] {
            assert_eq!(text(on), Switch::On(None), "{on:?}");
        }
        assert_eq!(text("1769860800"), Switch::On(Some(Timestamp::from_secs(1_769_860_800))));
        for unclear in ["maybe", "2", "0000-00-00 00:00:00"] {
            assert_eq!(text(unclear), Switch::Unclear, "{unclear:?}");
        }
        assert_eq!(switch(&Cell::Null), Switch::Off);
        assert_eq!(switch(&Cell::Bytes), Switch::Unclear);
    }

    #[test]
    fn token_ids_are_uuids_of_the_two_usual_forms() {
        let id = "6f2e7f60-3d0b-4f5f-9d55-9f6b7b1f7a11";
        for text in [id, "6f2e7f603d0b4f5f9d559f6b7b1f7a11", "6F2E7F60-3D0B-4F5F-9D55-9F6B7B1F7A11"] {
            assert_eq!(token_id(text).map(|id| id.to_string()).as_deref(), Some(id), "{text}");
        }
        for text in ["", "1", "{6f2e7f60-3d0b-4f5f-9d55-9f6b7b1f7a11}", "6f2e7f603d0b4f5f9d559f6b7b1f7a1g"] {
            assert_eq!(token_id(text), None, "{text}");
        }
        assert!(unhyphenated(id).is_none() && unhyphenated("6f2e7f603d0b4f5f9d559f6b7b1f7a11").is_some());
    }

    #[test]
    fn a_text_that_does_not_say_that_it_is_a_hash_may_be_the_password() {
        for (text, form) in [
            ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA", Some(HashForm::Argon2)),
            ("scrypt:32768:8:1$salt$00ff", Some(HashForm::WerkzeugScrypt)),
            ("pbkdf2:sha256:600000$salt$00ff", Some(HashForm::WerkzeugPbkdf2)),
            ("$2b$12$abcdefghijklmnopqrstuv", Some(HashForm::Bcrypt)),
            ("pbkdf2_sha256$600000$salt$hash", Some(HashForm::Other)),
            ("$6$salt$hash", Some(HashForm::Other)),
            ("plain$secret", None),
            ("hunter2", None),
            ("pa$$word", None),
            ("5f4dcc3b5aa765d61d8327deb882cf99", None),
            ("", None),
        ] {
            assert_eq!(HashForm::of(text), form, "{text}");
        }
    }
}
