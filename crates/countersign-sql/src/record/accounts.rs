//! The rows of the half of accounts: users and what belongs to them, admin keys, the audit trail and the outbox.

use std::borrow::Cow;
use std::net::IpAddr;

use countersign_core::model::{
    AdminKey, AdminScope, AuditRecord, EmailAddress, Language, OneTimeSecret, OutboxMail, OutboxState,
    PasswordHash, Purpose, Roles, SecretDigest, User, Username,
};
use countersign_jwt::{SessionId, Timestamp, UserId};
use uuid::Uuid;

use super::{Reader, Record};
use crate::column::{malformed, number, optional_parsed, optional_time, parsed, time};
use crate::statement::{Columns, Driver, FromColumns, Statement};

record! {
    /// The columns of `account` that may change: all but the id and the time of registration.
    UserChange<'r>, user_change_columns {
        "email" email: optional_text,
        "email_verified_at" email_verified_at: optional_number,
        "username" username: optional_text,
        "password_hash" password_hash: optional_text,
        "roles" roles: text,
        "language" language: optional_text,
        "disabled_at" disabled_at: optional_number,
        "deleted_at" deleted_at: optional_number,
        "revision" revision: count,
    }
}

/// All columns of `account`: those that never change, and then the others.
macro_rules! user_columns {
    ($form:ident) => { concat!($form!("id" text, "created_at" number), ", ", user_change_columns!($form)) };
}

/// A row of `account`.
pub(crate) struct UserRecord<'r> {
    id: Cow<'r, str>,
    created_at: i64,
    change: UserChange<'r>,
}

impl<'r> UserRecord<'r> {
    fn take(row: &mut Reader<'r, impl Columns>) -> Result<Self, sqlx::Error> {
        let (id, created_at) = (row.text("id")?, row.number("created_at")?);
        Ok(Self { id, created_at, change: UserChange::take(row)? })
    }
}

impl Record for UserRecord<'_> {
    fn bind_to<D: Driver, Y>(self, statement: Statement<D, Y>) -> Statement<D, Y> {
        statement.bind(self.id).bind(self.created_at).bind_record(self.change)
    }
}

impl<'r> UserChange<'r> {
    /// The columns that make an account what `user` says, with this revision.
    pub(crate) fn new(user: &'r User, revision: u64) -> Self {
        Self {
            email: user.email.as_ref().map(|email| email.as_str().into()),
            email_verified_at: user.email_verified_at.map(Timestamp::as_millis),
            username: user.username.as_ref().map(|username| username.as_str().into()),
            password_hash: user.password_hash.as_ref().map(|hash| hash.expose().into()),
            roles: user.roles.to_string().into(),
            language: user.language.as_ref().map(|language| language.as_str().into()),
            disabled_at: user.disabled_at.map(Timestamp::as_millis),
            deleted_at: user.deleted_at.map(Timestamp::as_millis),
            revision,
        }
    }
}

impl<'r> From<&'r User> for UserRecord<'r> {
    fn from(user: &'r User) -> Self {
        Self {
            id: user.id.as_str().into(),
            created_at: user.created_at.as_millis(),
            change: UserChange::new(user, user.revision),
        }
    }
}

impl FromColumns for User {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
        let UserRecord { id, created_at, change } = UserRecord::take(&mut Reader::of(row))?;
        Ok(Self {
            id: parsed("id", &id, UserId::new)?,
            email: optional_parsed("email", change.email.as_deref(), EmailAddress::parse)?,
            email_verified_at: optional_time("email_verified_at", change.email_verified_at)?,
            username: optional_parsed("username", change.username.as_deref(), Username::parse)?,
            password_hash: change.password_hash.map(|hash| PasswordHash::from_stored(hash.into_owned())),
            roles: parsed("roles", &change.roles, Roles::parse)?,
            language: optional_parsed("language", change.language.as_deref(), Language::parse)?,
            created_at: time("created_at", created_at)?,
            disabled_at: optional_time("disabled_at", change.disabled_at)?,
            deleted_at: optional_time("deleted_at", change.deleted_at)?,
            revision: change.revision,
        })
    }
}

record! {
    /// A row of `one_time_secret`. The digests stand one after the other.
    OneTimeRecord<'r>, one_time_columns {
        "user_id" user_id: text,
        "purpose" purpose: text,
        "digests" digests: bytes,
        "bound_to" bound_to: text,
        "tries_left" tries_left: number,
        "created_at" created_at: number,
        "expires_at" expires_at: number,
    }
}

impl<'r> From<&'r OneTimeSecret> for OneTimeRecord<'r> {
    fn from(secret: &'r OneTimeSecret) -> Self {
        let digests: Vec<u8> = secret.digests.iter().flat_map(|digest| *digest.as_bytes()).collect();
        Self {
            user_id: secret.user_id.as_str().into(),
            purpose: secret.purpose.name().into(),
            digests: digests.into(),
            bound_to: secret.bound_to.as_str().into(),
            tries_left: secret.tries_left.into(),
            created_at: secret.created_at.as_millis(),
            expires_at: secret.expires_at.as_millis(),
        }
    }
}

impl FromColumns for OneTimeSecret {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
        let row = OneTimeRecord::take(&mut Reader::of(row))?;
        let (digests, []) = row.digests.as_chunks() else {
            return Err(malformed("digests", "a digest without its end"));
        };
        Ok(Self {
            user_id: parsed("user_id", &row.user_id, UserId::new)?,
            purpose: parsed("purpose", &row.purpose, |name| {
                Purpose::from_name(name).ok_or("an unknown purpose")
            })?,
            digests: digests.iter().copied().map(SecretDigest::from_bytes).collect(),
            bound_to: row.bound_to.into_owned(),
            tries_left: number("tries_left", row.tries_left)?,
            created_at: time("created_at", row.created_at)?,
            expires_at: time("expires_at", row.expires_at)?,
        })
    }
}

record! {
    /// A row of `admin_key`. The names of the scopes are separated by spaces.
    AdminKeyRecord<'r>, admin_key_columns {
        "id" id: text,
        "name" name: text,
        "digest" digest: bytes,
        "scopes" scopes: text,
        "created_at" created_at: number,
        "expires_at" expires_at: optional_number,
    }
}

impl<'r> From<&'r AdminKey> for AdminKeyRecord<'r> {
    fn from(key: &'r AdminKey) -> Self {
        let scopes: Vec<_> = key.scopes.iter().map(|scope| scope.name()).collect();
        Self {
            id: key.id.hyphenated().to_string().into(),
            name: key.name.as_str().into(),
            digest: key.digest.as_bytes().as_slice().into(),
            scopes: scopes.join(" ").into(),
            created_at: key.created_at.as_millis(),
            expires_at: key.expires_at.map(Timestamp::as_millis),
        }
    }
}

impl FromColumns for AdminKey {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
        let row = AdminKeyRecord::take(&mut Reader::of(row))?;
        let digest = row.digest.as_ref().try_into();
        let digest = digest.map_err(|error: std::array::TryFromSliceError| malformed("digest", error))?;
        Ok(Self {
            id: parsed("id", &row.id, Uuid::try_parse)?,
            name: row.name.into_owned(),
            digest: SecretDigest::from_bytes(digest),
            scopes: parsed("scopes", &row.scopes, |names| {
                let scopes = names.split_whitespace().map(AdminScope::from_name);
                scopes.collect::<Option<_>>().ok_or("an unknown scope")
            })?,
            created_at: time("created_at", row.created_at)?,
            expires_at: optional_time("expires_at", row.expires_at)?,
        })
    }
}

record! {
    /// A row of `audit`.
    AuditRow<'r>, audit_columns {
        "id" id: text,
        "at" at: number,
        "name" name: text,
        "user_id" user_id: optional_text,
        "session_id" session_id: optional_text,
        "ip" ip: optional_text,
        "actor" actor: optional_text,
        "detail" detail: optional_text,
    }
}

impl<'r> From<&'r AuditRecord> for AuditRow<'r> {
    fn from(record: &'r AuditRecord) -> Self {
        Self {
            id: record.id.hyphenated().to_string().into(),
            at: record.at.as_millis(),
            name: record.name.as_str().into(),
            user_id: record.user_id.as_ref().map(|id| id.as_str().into()),
            session_id: record.session_id.map(|id| id.to_string().into()),
            ip: record.ip.map(|ip| ip.to_string().into()),
            actor: record.actor.as_deref().map(Into::into),
            detail: record.detail.as_deref().map(Into::into),
        }
    }
}

impl FromColumns for AuditRecord {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
        let row = AuditRow::take(&mut Reader::of(row))?;
        Ok(Self {
            id: parsed("id", &row.id, Uuid::try_parse)?,
            at: time("at", row.at)?,
            name: row.name.into_owned(),
            user_id: optional_parsed("user_id", row.user_id.as_deref(), UserId::new)?,
            session_id: optional_parsed("session_id", row.session_id.as_deref(), str::parse::<SessionId>)?,
            ip: optional_parsed("ip", row.ip.as_deref(), str::parse::<IpAddr>)?,
            actor: row.actor.map(Cow::into_owned),
            detail: row.detail.map(Cow::into_owned),
        })
    }
}

record! {
    /// A row of `outbox`. A mail that waits has `next_at`, a dead letter has `dead_since`.
    MailRecord<'r>, mail_columns {
        "id" id: text,
        "recipient" recipient: text,
        "kind" kind: text,
        "user_id" user_id: optional_text,
        "sealed" sealed: bytes,
        "created_at" created_at: number,
        "useless_after" useless_after: optional_number,
        "attempts" attempts: number,
        "next_at" next_at: optional_number,
        "dead_since" dead_since: optional_number,
        "last_error" last_error: optional_text,
    }
}

impl<'r> From<&'r OutboxMail> for MailRecord<'r> {
    fn from(mail: &'r OutboxMail) -> Self {
        let (next_at, dead_since) = mail_state(mail.state);
        Self {
            id: mail.id.hyphenated().to_string().into(),
            recipient: mail.to.as_str().into(),
            kind: mail.kind.as_str().into(),
            user_id: mail.user_id.as_ref().map(|id| id.as_str().into()),
            sealed: mail.sealed.as_slice().into(),
            created_at: mail.created_at.as_millis(),
            useless_after: mail.useless_after.map(Timestamp::as_millis),
            attempts: mail.attempts.into(),
            next_at: next_at.map(Timestamp::as_millis),
            dead_since: dead_since.map(Timestamp::as_millis),
            last_error: mail.last_error.as_deref().map(Into::into),
        }
    }
}

impl FromColumns for OutboxMail {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
        let row = MailRecord::take(&mut Reader::of(row))?;
        let dead_since = optional_time("dead_since", row.dead_since)?;
        let state = match (optional_time("next_at", row.next_at)?, dead_since) {
            (Some(next_at), None) => OutboxState::Waiting { next_at },
            (None, Some(since)) => OutboxState::Dead { since },
            _ => return Err(malformed("dead_since", "a mail that both waits and is dead, or neither")),
        };
        Ok(Self {
            id: parsed("id", &row.id, Uuid::try_parse)?,
            to: parsed("recipient", &row.recipient, EmailAddress::parse)?,
            kind: row.kind.into_owned(),
            user_id: optional_parsed("user_id", row.user_id.as_deref(), UserId::new)?,
            sealed: row.sealed.into_owned(),
            created_at: time("created_at", row.created_at)?,
            useless_after: optional_time("useless_after", row.useless_after)?,
            attempts: number("attempts", row.attempts)?,
            state,
            last_error: row.last_error.map(Cow::into_owned),
        })
    }
}

/// A mail's state as its columns `next_at` and `dead_since`.
pub(crate) fn mail_state(state: OutboxState) -> (Option<Timestamp>, Option<Timestamp>) {
    match state {
        OutboxState::Waiting { next_at } => (Some(next_at), None),
        OutboxState::Dead { since } => (None, Some(since)),
    }
}

/// A mail that was due, as its claim leaves it.
#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub(crate) fn claimed(mail: OutboxMail, lease_until: Timestamp) -> OutboxMail {
    let state = OutboxState::Waiting { next_at: lease_until };
    OutboxMail { attempts: mail.attempts.saturating_add(1), state, ..mail }
}
