//! An account as the hash that it is kept in. Hashes that an older program has written lack some of the fields.

use std::collections::HashMap;

use countersign_core::model::{EmailAddress, Language, PasswordHash, Roles, User, Username};
use countersign_core::store::NameKey;
use countersign_jwt::{Timestamp, UserId};
use redis::Value;

use crate::answer;
use crate::failure::Failure;
use crate::layout::Names;
use crate::text::{number, parsed, time};

const WHAT: &str = "account";
const CREATED_AT: &str = "created_at";

/// The fields that a replacement sets or deletes.
const CHANGING: [&str; 11] = [
    "email",
    "email_key",
    "email_verified_at",
    "username",
    "username_key",
    "password_hash",
    "roles",
    "language",
    "disabled_at",
    "deleted_at",
    "revision",
];

/// An account with the keys of the names that it has claimed. The keys are kept, so that a name is freed even if a
/// later program would make another key of it.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) user: User,
    email_key: Option<String>,
    username_key: Option<String>,
}

/// The claim of a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Claim {
    /// The key under which the name's owner is kept.
    pub(crate) key: String,
    /// The kind of the name, which a script answers if the name is taken.
    pub(crate) kind: &'static str,
}

impl Account {
    /// The account of a user who is about to be written.
    pub(crate) fn of(user: User) -> Self {
        let email_key = user.email.as_ref().map(|email| email.key().to_owned());
        let username_key = user.username.as_ref().map(|username| username.key().to_owned());
        Self { user, email_key, username_key }
    }

    /// The account in a hash with these fields; `None` if there is no such hash.
    pub(crate) fn read(id: &UserId, mut fields: HashMap<String, Value>) -> Result<Option<Self>, Failure> {
        let mut take = |field| fields.remove(field).map_or(Ok(None), answer::optional_text);
        let Some(created_at) = take(CREATED_AT)? else { return Ok(None) };
        let optional_time = |text: Option<String>| text.map(|text| time(WHAT, &text)).transpose();
        let email = take("email")?.map(|text| parsed(WHAT, EmailAddress::parse(&text))).transpose()?;
        let username = take("username")?.map(|text| parsed(WHAT, Username::parse(&text))).transpose()?;
        let user = User {
            email,
            email_verified_at: optional_time(take("email_verified_at")?)?,
            username,
            password_hash: take("password_hash")?.map(PasswordHash::from_stored),
            roles: parsed(WHAT, Roles::parse(&take("roles")?.unwrap_or_default()))?,
            language: take("language")?.map(|text| parsed(WHAT, Language::parse(&text))).transpose()?,
            disabled_at: optional_time(take("disabled_at")?)?,
            deleted_at: optional_time(take("deleted_at")?)?,
            revision: take("revision")?.map_or(Ok(0), |text| number(WHAT, &text))?,
            ..User::new(id.clone(), time(WHAT, &created_at)?)
        };
        let (email_key, username_key) = (take("email_key")?, take("username_key")?);
        let computed = Self::of(user);
        Ok(Some(Self {
            email_key: email_key.or(computed.email_key),
            username_key: username_key.or(computed.username_key),
            user: computed.user,
        }))
    }

    /// Whether the account has this name.
    pub(crate) fn has(&self, name: NameKey<'_>) -> bool {
        match name {
            NameKey::Email(key) => self.email_key.as_deref() == Some(key),
            NameKey::Username(key) => self.username_key.as_deref() == Some(key),
        }
    }

    pub(crate) fn email_key(&self) -> Option<&str> {
        self.email_key.as_deref()
    }

    pub(crate) fn username_key(&self) -> Option<&str> {
        self.username_key.as_deref()
    }

    /// The claims of the account's names.
    pub(crate) fn claims(&self, names: &Names) -> Vec<Claim> {
        let email = self.email_key().map(|key| Claim { key: names.email(key), kind: "email" });
        let username = self.username_key().map(|key| Claim { key: names.username(key), kind: "username" });
        email.into_iter().chain(username).collect()
    }

    /// The fields that the account has and their texts, without those that never change.
    pub(crate) fn changing(&self) -> Vec<(&'static str, String)> {
        let user = &self.user;
        let millis = |time: Option<Timestamp>| time.map(|time| time.as_millis().to_string());
        let roles = Some(user.roles.to_string()).filter(|roles| !roles.is_empty());
        let texts: [Option<String>; CHANGING.len()] = [
            user.email.as_ref().map(|email| email.as_str().to_owned()),
            self.email_key.clone(),
            millis(user.email_verified_at),
            user.username.as_ref().map(|username| username.as_str().to_owned()),
            self.username_key.clone(),
            user.password_hash.as_ref().map(|hash| hash.expose().to_owned()),
            roles,
            user.language.as_ref().map(|language| language.as_str().to_owned()),
            millis(user.disabled_at),
            millis(user.deleted_at),
            Some(user.revision.to_string()),
        ];
        CHANGING.into_iter().zip(texts).filter_map(|(field, text)| Some((field, text?))).collect()
    }

    /// The changing fields that the account does not have.
    pub(crate) fn absent(&self) -> Vec<&'static str> {
        let present = self.changing();
        CHANGING.into_iter().filter(|field| !present.iter().any(|(known, _)| known == field)).collect()
    }

    /// All fields that the account has, and their texts.
    pub(crate) fn all(&self) -> Vec<(&'static str, String)> {
        let mut fields = self.changing();
        fields.push((CREATED_AT, self.user.created_at.as_millis().to_string()));
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, String)]) -> Result<Option<Account>, Failure> {
        let value = |text: &String| Value::BulkString(text.clone().into_bytes());
        let fields = fields.iter().map(|(field, text)| ((*field).to_owned(), value(text))).collect();
        Account::read(&UserId::new("ada").unwrap(), fields)
    }

    #[test]
    fn an_account_reads_back_as_written() {
        let bare = User::new(UserId::new("ada").unwrap(), Timestamp::MIN);
        let full = User {
            email: EmailAddress::parse("Ada@Example.org").ok(),
            email_verified_at: Some(Timestamp::MAX),
            username: Username::parse("Ada_L").ok(),
            password_hash: Some(PasswordHash::from_stored(String::new())),
            roles: Roles::parse("a b").unwrap(),
            language: Language::parse("de").ok(),
            disabled_at: Some(Timestamp::MIN),
            deleted_at: Some(Timestamp::MIN),
            revision: u64::MAX,
            ..bare.clone()
        };
        for user in [bare, full] {
            let account = Account::of(user.clone());
            let fields = account.all();
            let found = read(&fields).unwrap().unwrap();
            assert_eq!(found.all(), fields);
            assert_eq!(found.user.id, user.id);
            assert_eq!(found.claims(&Names::new("p")), account.claims(&Names::new("p")));
            let present = account.changing();
            assert_eq!(account.absent().len() + present.len(), CHANGING.len());
            for number in 0..fields.len() {
                let mut malformed = fields.clone();
                let (field, text) = &mut malformed[number];
                if field.ends_with("_at") || *field == "revision" {
                    text.push('x');
                    assert!(read(&malformed).is_err(), "{malformed:?}");
                }
            }
        }
        assert!(read(&[]).unwrap().is_none());
    }

    #[test]
    fn a_hash_of_an_older_program_is_read() {
        let text = str::to_owned;
        let fields =
            [("email", text("Ada@Example.org")), ("username", text("Ada")), ("created_at", text("7"))];
        let account = read(&fields).unwrap().unwrap();
        assert_eq!(account.user.revision, 0);
        assert!(account.user.roles.is_empty() && account.user.language.is_none());
        assert!(account.has(NameKey::Email("ada@example.org")) && account.has(NameKey::Username("ada")));
        assert!(!account.has(NameKey::Email("ada")));
    }
}
