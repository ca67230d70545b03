//! An account of Countersign's own.

use std::fmt;

use countersign_jwt::id::UserId;
use countersign_jwt::time::Timestamp;

use crate::model::PasswordHash;
use crate::model::name::{EmailAddress, Username};

/// An account of Countersign's own. Applications with their own user table don't need this type.
///
/// Every account has an e-mail address, a username or both, so that somebody can log in to it.
#[derive(Clone, Debug)]
pub struct User {
    /// The account's id: a UUID, or a whole number where the store is told so.
    pub id: UserId,
    /// The e-mail address as given, unique by its key; `None` for an account that has a username alone.
    pub email: Option<EmailAddress>,
    /// The time at which the user proved to read mail sent to `email`; `None` if that is not proven.
    pub email_verified_at: Option<Timestamp>,
    /// The username as given, unique by its key.
    pub username: Option<Username>,
    /// The hash of the password; `None` if the account has no password to log in with.
    pub password_hash: Option<PasswordHash>,
    /// The account's roles, which its access tokens carry as `roles`.
    pub roles: Roles,
    /// The language in which the user is written to, as a tag such as `de` (RFC 5646); `None` if it is not known.
    pub language: Option<Language>,
    /// The time at which the account was registered.
    pub created_at: Timestamp,
    /// The time since which the account is disabled; `None` if it is enabled.
    pub disabled_at: Option<Timestamp>,
    /// The time at which the account's deletion was asked for; `None` if it was not. Such an account is disabled. It is
    /// removed, and its names are free again, when the revocation log needs it no longer.
    pub deleted_at: Option<Timestamp>,
    /// The number of times that the account has changed. A change is written only if nobody has changed the account
    /// since it was read.
    pub revision: u64,
}

impl User {
    /// What a page calls the user: the username, else the e-mail address, else the id.
    ///
    /// ```
    /// use countersign_core::model::{EmailAddress, User};
    /// use countersign_jwt::{Timestamp, UserId};
    ///
    /// let ada = User {
    ///     email: Some(EmailAddress::parse("ada@example.org")?),
    ///     ..User::new(UserId::new("17")?, Timestamp::from_secs(0))
    /// };
    /// assert_eq!(ada.display_name(), "ada@example.org");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn display_name(&self) -> &str {
        let username = self.username.as_ref().map(Username::as_str);
        let email = || self.email.as_ref().map(EmailAddress::as_str);
        username.or_else(email).unwrap_or(self.id.as_str())
    }

    /// An account with this id and no names, no password and no roles. Whoever inserts it gives it a name.
    #[must_use]
    pub fn new(id: UserId, created_at: Timestamp) -> Self {
        Self {
            id,
            email: None,
            email_verified_at: None,
            username: None,
            password_hash: None,
            roles: Roles::default(),
            language: None,
            created_at,
            disabled_at: None,
            deleted_at: None,
            revision: 0,
        }
    }

    /// Whether the account is enabled, so that its user may log in and refresh.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.disabled_at.is_none()
    }

    /// Whether the user has proven to read mail sent to the account's address.
    #[must_use]
    pub fn has_verified_email(&self) -> bool {
        self.email.is_some() && self.email_verified_at.is_some()
    }
}

/// The roles of an account, in order and each once. A role is a scope token (RFC 6749 §3.3): printable ASCII without
/// spaces, quotes and backslashes.
///
/// ```
/// use countersign_core::model::Roles;
///
/// let roles = Roles::parse("editor admin editor")?;
/// assert_eq!(roles.to_string(), "admin editor");
/// assert!(roles.contains("admin"));
/// assert!(Roles::parse("say \"hi\"").is_err());
/// # Ok::<(), countersign_core::model::RoleError>(())
/// ```
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Roles(Vec<Box<str>>);

/// The reason why a text is no role, or a list of roles is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RoleError {
    /// The text is empty, longer than 64 bytes, or has characters that a scope token may not have.
    #[error(
        "use 1 to 64 letters, digits and ASCII punctuation without spaces, quotes and backslashes for a role"
    )]
    Form,
    /// There are more roles than an account may have.
    #[error("use at most 32 roles")]
    TooMany,
}

impl Roles {
    /// The most roles that an account may have. They travel in every access token.
    pub const MAX: usize = 32;
    /// The most bytes that a role may have.
    pub const MAX_BYTES: usize = 64;

    /// Parses roles that are separated by white space; an empty text has none.
    ///
    /// # Errors
    /// [`RoleError`].
    pub fn parse(text: &str) -> Result<Self, RoleError> {
        Self::new(text.split_whitespace())
    }

    /// Parses roles as other systems write them into one text: a JSON array of texts, an array of PostgreSQL (`{a,b}`),
    /// or a list that is separated by commas or, if there is none, by white space.
    ///
    /// ```
    /// use countersign_core::model::Roles;
    ///
    /// for text in ["editor admin", "editor, admin,", r#"["editor", "admin"]"#, r#"{editor,"admin"}"#] {
    ///     assert_eq!(Roles::parse_foreign(text)?.to_string(), "admin editor");
    /// }
    /// # Ok::<(), countersign_core::model::RoleError>(())
    /// ```
    ///
    /// # Errors
    /// [`RoleError`].
    pub fn parse_foreign(text: &str) -> Result<Self, RoleError> {
        let text = text.trim();
        if text.starts_with('[') {
            return Self::new(serde_json::from_str::<Vec<String>>(text).map_err(|_| RoleError::Form)?);
        }
        let array = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
        if array.is_none() && !text.contains(',') {
            return Self::parse(text);
        }
        let unquoted = |name: &str| match name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) {
            Some(name) if array.is_some() => name.to_owned(),
            _ => name.to_owned(),
        };
        let names = array.unwrap_or(text).split(',').map(|name| unquoted(name.trim()));
        Self::new(names.filter(|name| !name.is_empty()))
    }

    /// The roles with these names.
    ///
    /// # Errors
    /// [`RoleError`].
    pub fn new<R: AsRef<str>>(names: impl IntoIterator<Item = R>) -> Result<Self, RoleError> {
        let mut roles = Vec::new();
        for name in names {
            let name = name.as_ref();
            let is_char = |byte: u8| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~');
            if name.is_empty() || name.len() > Self::MAX_BYTES || !name.bytes().all(is_char) {
                return Err(RoleError::Form);
            }
            roles.push(Box::from(name));
        }
        roles.sort_unstable();
        roles.dedup();
        if roles.len() > Self::MAX {
            return Err(RoleError::TooMany);
        }
        Ok(Self(roles))
    }

    /// Whether there are no roles.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this role is among them.
    #[must_use]
    pub fn contains(&self, role: &str) -> bool {
        self.0.iter().any(|known| **known == *role)
    }

    /// The roles in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(AsRef::as_ref)
    }
}

/// Writes the roles in order, separated by spaces, as [`Roles::parse`] reads them.
impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, role) in self.iter().enumerate() {
            if number > 0 {
                f.write_str(" ")?;
            }
            f.write_str(role)?;
        }
        Ok(())
    }
}

/// The language of a user, as a tag in lower case: two or three letters, and subtags after hyphens (RFC 5646 §2.1).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Language(Box<str>);

/// The text is not a language tag.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("write a language tag such as `de` or `pt-br`")]
pub struct InvalidLanguage;

impl Language {
    /// Parses a language tag of at most 35 bytes.
    ///
    /// # Errors
    /// [`InvalidLanguage`].
    pub fn parse(text: &str) -> Result<Self, InvalidLanguage> {
        let mut subtags = text.split('-');
        let primary = subtags.next().unwrap_or_default();
        let is_primary =
            matches!(primary.len(), 2 | 3) && primary.bytes().all(|byte| byte.is_ascii_alphabetic());
        let is_subtag = |subtag: &str| {
            matches!(subtag.len(), 1..=8) && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        if !is_primary || text.len() > 35 || !subtags.all(is_subtag) {
            return Err(InvalidLanguage);
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The tag in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_scope_tokens_in_order_and_each_once() {
        for (text, roles) in [("", Some("")), ("b a\tb", Some("a b")), ("a:read", Some("a:read"))] {
            assert_eq!(Roles::parse(text).ok().map(|roles| roles.to_string()).as_deref(), roles, "{text:?}");
        }
        let at_most = vec!["x".repeat(64)];
        assert!(Roles::new(&at_most).is_ok());
        for refused in ["", "a b", "a\"", "a\\", "caf\u{e9}", "nul\0", &"x".repeat(65)] {
            assert_eq!(Roles::new([refused]), Err(RoleError::Form), "{refused:?}");
        }
        let many: Vec<String> = (0..33).map(|number| number.to_string()).collect();
        assert_eq!(Roles::new(&many), Err(RoleError::TooMany));
        assert!(Roles::new(many.iter().skip(1)).is_ok());
    }

    #[test]
    fn foreign_lists_of_roles_are_read_whole_or_not_at_all() {
        for (text, roles) in [
            ("", Some("")),
            (" admin ", Some("admin")),
            ("b a", Some("a b")),
            ("b,a", Some("a b")),
            ("b, a ,", Some("a b")),
            ("[]", Some("")),
            ("[\"b\", \"a\"]", Some("a b")),
            ("{}", Some("")),
            ("{b,\"a\"}", Some("a b")),
            ("Super Admin,editor", None),
            ("[\"Super Admin\"]", None),
            ("[1]", None),
            ("[\"a\"", None),
            ("\"a\",b", None),
            ("{\"a\": true}", None),
        ] {
            let found = Roles::parse_foreign(text).ok().map(|roles| roles.to_string());
            assert_eq!(found.as_deref(), roles, "{text:?}");
        }
    }

    #[test]
    fn languages_are_tags_in_lower_case() {
        for (text, tag) in [("de", Some("de")), ("pt-BR", Some("pt-br")), ("gsw", Some("gsw"))] {
            assert_eq!(Language::parse(text).ok().as_ref().map(Language::as_str), tag);
        }
        for refused in
            ["", "d", "deutsch", "de-", "de_AT", "de-\u{e4}", "de;q=1", &format!("de{}", "-ab".repeat(12))]
        {
            assert_eq!(Language::parse(refused), Err(InvalidLanguage), "{refused:?}");
        }
    }
}
