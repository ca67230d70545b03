//! The rules for new passwords: how long they are, and which ones are refused because others would guess them first.
//!
//! There are no rules of composition, hints, secret questions or expiry, because they make passwords worse (SEC-113; NIST
//! SP 800-63B §3.1.1.2). What a password must not be is compared with the whole password, so a good passphrase may
//! contain any word.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::name::{EmailAddress, Username, fold};
use crate::model::password::common::is_common;
use crate::model::password::{Password, PasswordError};

/// The rules for new passwords. Default: at least 8 code points, and none of the most common passwords.
#[derive(Clone, Debug, Default)]
pub struct PasswordRules {
    minimum: MinimumLength,
    words: Arc<BTreeSet<String>>,
}

/// The fewest code points that a new password may have. Default 8.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MinimumLength(u16);

/// The names of the account that a password is for.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnNames<'n> {
    /// The e-mail address.
    pub email: Option<&'n EmailAddress>,
    /// The username.
    pub username: Option<&'n Username>,
}

/// The reason why a new password is refused. The messages may be displayed to the person who typed it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WeakPassword {
    /// The password has fewer code points than the minimum.
    #[error("use at least {minimum} characters")]
    TooShort {
        /// The fewest code points that are accepted.
        minimum: u16,
    },
    /// The password has more than [`Password::MAX_BYTES`].
    #[error("use at most 1024 bytes; a character takes 1 to 4")]
    TooLong,
    /// The password is one of the most common ones, in whatever case.
    #[error("this is one of the most common passwords; use another one")]
    Common,
    /// The password is a word that belongs to the site, in whatever case.
    #[error("this password is easy to guess for this site; use another one")]
    SiteWord,
    /// The password is the e-mail address, what stands before its `@`, or the username, in whatever case.
    #[error("your password must not be your e-mail address or your username")]
    OwnName,
    /// The password is in the list of breached passwords.
    #[error("this password has been found in data stolen from other sites; use another one")]
    Breached,
}

/// A minimum length that would accept weak passwords, or refuse long ones.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the minimum password length is 8 to 64 code points")]
pub struct UnsafeMinimumLength;

impl PasswordRules {
    /// Rules with this minimum length.
    #[must_use]
    pub fn new(minimum: MinimumLength) -> Self {
        Self { minimum, ..Self::default() }
    }

    /// These rules, with words that no password may be: the names of the site and of whoever runs it. White space around
    /// a word does not count.
    #[must_use]
    pub fn with_words<'w>(self, words: impl IntoIterator<Item = &'w str>) -> Self {
        let words = words.into_iter().map(str::trim).filter(|word| !word.is_empty()).map(fold);
        Self { words: Arc::new(self.words.iter().cloned().chain(words).collect()), ..self }
    }

    /// The minimum length.
    #[must_use]
    pub fn minimum(&self) -> MinimumLength {
        self.minimum
    }

    /// Takes a new password for the account with these names.
    ///
    /// # Errors
    /// [`WeakPassword`] says what to change. It is never [`WeakPassword::Breached`]: the list of breached passwords is a
    /// file, and these rules read none.
    pub fn admit(&self, text: String, names: OwnNames<'_>) -> Result<Password, WeakPassword> {
        let password = Password::new_for_login(text)?;
        self.check(&password, names)?;
        Ok(password)
    }

    /// Checks a new password for the account with these names.
    ///
    /// # Errors
    /// Those of [`PasswordRules::admit`].
    pub fn check(&self, password: &Password, names: OwnNames<'_>) -> Result<(), WeakPassword> {
        if !self.minimum.admits(password) {
            return Err(WeakPassword::TooShort { minimum: self.minimum.0 });
        }
        let folded = password.folded();
        if names.include(&folded) {
            return Err(WeakPassword::OwnName);
        }
        if self.words.contains(folded.as_str()) {
            return Err(WeakPassword::SiteWord);
        }
        if is_common(&folded) {
            return Err(WeakPassword::Common);
        }
        Ok(())
    }
}

impl OwnNames<'_> {
    /// Whether this folded text is one of the names.
    fn include(&self, folded: &str) -> bool {
        let of_email = self.email.is_some_and(|email| {
            // The keys are folded, and their domains are in ASCII, which people do not type.
            let given = fold(email.as_str());
            [email.key(), &given].into_iter().any(|address| {
                let local_part = address.split_once('@').map(|(local_part, _)| local_part);
                folded == address || local_part == Some(folded)
            })
        });
        let of_username = self
            .username
            .is_some_and(|name| [fold(name.key()), fold(name.as_str())].iter().any(|name| name == folded));
        of_email || of_username
    }
}

impl From<PasswordError> for WeakPassword {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::TooShort { minimum } => Self::TooShort { minimum },
            PasswordError::TooLong => Self::TooLong,
        }
    }
}

impl MinimumLength {
    /// The lowest minimum length that can be set (NIST SP 800-63B §3.1.1.2).
    pub const FLOOR: u16 = 8;
    /// The highest minimum length that can be set. A password of 64 code points is always accepted.
    pub const CEILING: u16 = 64;
    /// 15 code points: the minimum of NIST SP 800-63B-4 §3.1.1.2 where the password is the only factor.
    pub const NIST: Self = Self(15);

    /// Sets the minimum length to this many code points.
    ///
    /// # Errors
    /// [`UnsafeMinimumLength`] outside [`MinimumLength::FLOOR`] and [`MinimumLength::CEILING`].
    pub fn new(code_points: u16) -> Result<Self, UnsafeMinimumLength> {
        if (Self::FLOOR..=Self::CEILING).contains(&code_points) {
            Ok(Self(code_points))
        } else {
            Err(UnsafeMinimumLength)
        }
    }

    /// The number of code points.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }

    pub(super) fn admits(self, password: &Password) -> bool {
        password.code_points() >= usize::from(self.0)
    }
}

impl Default for MinimumLength {
    fn default() -> Self {
        Self(Self::FLOOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(rules: &PasswordRules, text: &str) -> Result<(), WeakPassword> {
        let email = EmailAddress::parse("Ada.Lovelace@Bücher.example").unwrap();
        let username = Username::parse("AdaLovelaceÄ").unwrap();
        let names = OwnNames { email: Some(&email), username: Some(&username) };
        rules.admit(text.to_owned(), names).map(|_| ())
    }

    #[test]
    fn sec_112_the_minimum_can_be_raised_but_never_below_eight() {
        assert_eq!(MinimumLength::new(7), Err(UnsafeMinimumLength));
        assert_eq!(MinimumLength::new(65), Err(UnsafeMinimumLength));
        let nist = PasswordRules::new(MinimumLength::NIST);
        for (case, text, outcome) in [
            ("14", "aé".repeat(7), Err(WeakPassword::TooShort { minimum: 15 })),
            ("15", "aé日".repeat(5), Ok(())),
            ("64", "aé".repeat(32), Ok(())),
            ("1024 bytes", "aé日".repeat(170) + "abcd", Ok(())),
            ("1025 bytes", "aé日".repeat(170) + "abcde", Err(WeakPassword::TooLong)),
        ] {
            assert_eq!(judged(&nist, &text), outcome, "{case}");
        }
        let seven = judged(&PasswordRules::default(), "aé日aé日a");
        assert_eq!(seven, Err(WeakPassword::TooShort { minimum: 8 }));
    }

    #[test]
    fn sec_113_there_are_no_rules_of_composition() {
        for text in
            ["zzzzzzzzzzzzzzzzzzzzzzzz", "trees are green", "         .", "84615937", "日本語日本語日本"]
        {
            assert_eq!(judged(&PasswordRules::default(), text), Ok(()), "{text:?}");
        }
    }

    #[test]
    fn sec_114_common_passwords_names_and_words_of_the_site_are_refused_and_the_reason_is_told() {
        use WeakPassword::{Common, OwnName, SiteWord};

        let rules = PasswordRules::default().with_words(["Countersign", " Straße 12 ", ""]);
        for (text, outcome) in [
            ("password", Err(Common)),
            ("PassWord", Err(Common)),
            ("1234567890", Err(Common)),
            ("qwertyuiop", Err(Common)),
            ("iloveyou1", Err(Common)),
            ("password of a passphrase", Ok(())),
            ("countersign", Err(SiteWord)),
            ("COUNTERSIGN", Err(SiteWord)),
            ("STRASSE 12", Err(SiteWord)),
            ("countersign!", Ok(())),
            ("ada.lovelace", Err(OwnName)),
            ("ADA.LOVELACE", Err(OwnName)),
            ("ada.lovelace@bücher.example", Err(OwnName)),
            ("ada.lovelace@xn--bcher-kva.example", Err(OwnName)),
            ("adalovelaceä", Err(OwnName)),
            ("ADALOVELACEA\u{308}", Err(OwnName)),
            ("ada.lovelace 1815", Ok(())),
            ("correct horse battery staple", Ok(())),
        ] {
            assert_eq!(judged(&rules, text), outcome, "{text:?}");
        }
    }

    #[test]
    fn sec_114_without_names_only_the_other_rules_hold() {
        let rules = PasswordRules::default();
        assert!(rules.admit("ada.lovelace".to_owned(), OwnNames::default()).is_ok());
        let common = rules.admit("12345678".to_owned(), OwnNames::default());
        assert_eq!(common.unwrap_err(), WeakPassword::Common);
    }
}
