//! Rows, written as they are read: one record for each kind of row, and one list of columns for each record.
//!
//! [`record!`] makes three things of a list of columns: the record, the order in which its columns are read and bound,
//! and a macro that puts their names into an SQL text (`session_columns!(names)`). So a column that is added to the
//! list is added to every statement that reads or writes such rows whole, and the compiler asks for its value in both
//! directions.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::IpAddr;

use countersign_core::model::{
    AgentHash, Attempts, Device, EndReason, Ended, Entry, KeyPurpose, LogVerdict, Session, SessionSeed,
    StoredKey, Target,
};
use countersign_core::store::{FoundSession, OutboxSize, TokenRevocation, TokensRevoked};
use countersign_jwt::key::{Algorithm, KeyId};
use countersign_jwt::{Epoch, Generation, SessionId, Timestamp, TokenId, UserId};
use uuid::Uuid;

use crate::column::{malformed, number, optional_parsed, optional_time, parsed, there, time};
use crate::statement::{Columns, Driver, FromColumns, Statement};

/// Names of columns for an SQL text: `a, b, c`.
macro_rules! names {
    ($first:literal $_first:ident $(, $name:literal $_kind:ident)*) => {
        concat!($first $(, ", ", $name)*)
    };
}

/// Defines a record by its list of columns, in which each column has its name, its field and its kind. Also defines a
/// macro of the given name that hands the list to another macro, such as [`names!`].
macro_rules! record {
    // A record whose values are borrowed from a row, or from the value that is written.
    ($(#[$about:meta])* $record:ident<$r:lifetime>, $columns:ident {
        $($name:literal $field:ident: $kind:ident,)+
    }) => {
        $(#[$about])*
        pub(crate) struct $record<$r> {
            $(pub(crate) $field: of_kind!($r $kind),)+
        }

        impl<$r> $record<$r> {
            /// Takes the next columns of a row.
            fn take(row: &mut Reader<$r, impl Columns>) -> Result<Self, sqlx::Error> {
                Ok(Self { $($field: row.$kind($name)?,)+ })
            }
        }

        impl Record for $record<'_> {
            fn bind_to<D: Driver, Y>(self, statement: Statement<D, Y>) -> Statement<D, Y> {
                statement$(.bind(self.$field))+
            }
        }

        macro_rules! $columns {
            ($form:ident) => { $form!($($name $kind),+) };
        }
    };
    // A record that holds numbers alone.
    ($(#[$about:meta])* $record:ident, $columns:ident { $($name:literal $field:ident: $kind:ident,)+ }) => {
        $(#[$about])*
        pub(crate) struct $record {
            $(pub(crate) $field: of_kind!('static $kind),)+
        }

        impl $record {
            /// Takes the next columns of a row.
            fn take(row: &mut Reader<'_, impl Columns>) -> Result<Self, sqlx::Error> {
                Ok(Self { $($field: row.$kind($name)?,)+ })
            }
        }

        impl Record for $record {
            fn bind_to<D: Driver, Y>(self, statement: Statement<D, Y>) -> Statement<D, Y> {
                statement$(.bind(self.$field))+
            }
        }

        macro_rules! $columns {
            ($form:ident) => { $form!($($name $kind),+) };
        }
    };
}

/// The type of a kind of column's values, which live as long as the driver or the value that they are read from.
macro_rules! of_kind {
    ($r:lifetime number) => { i64 };
    ($r:lifetime count) => { u64 };
    ($r:lifetime optional_number) => { Option<i64> };
    ($r:lifetime text) => { Cow<$r, str> };
    ($r:lifetime optional_text) => { Option<Cow<$r, str>> };
    ($r:lifetime bytes) => { Cow<$r, [u8]> };
}

/// Takes the columns of a row one after the other. Their names are for errors.
struct Reader<'r, R> {
    row: &'r R,
    next: usize,
}

impl<'r, R: Columns> Reader<'r, R> {
    fn of(row: &'r R) -> Self {
        Self { row, next: 0 }
    }

    fn column(&mut self) -> usize {
        let column = self.next;
        self.next = column.saturating_add(1);
        column
    }

    fn optional_number(&mut self, _: &str) -> Result<Option<i64>, sqlx::Error> {
        let column = self.column();
        self.row.number(column)
    }

    fn number(&mut self, name: &str) -> Result<i64, sqlx::Error> {
        there(name, self.optional_number(name)?)
    }

    fn count(&mut self, name: &str) -> Result<u64, sqlx::Error> {
        number(name, self.number(name)?)
    }

    fn optional_text(&mut self, _: &str) -> Result<Option<Cow<'r, str>>, sqlx::Error> {
        let column = self.column();
        Ok(self.row.text(column)?.map(Cow::Borrowed))
    }

    fn text(&mut self, name: &str) -> Result<Cow<'r, str>, sqlx::Error> {
        there(name, self.optional_text(name)?)
    }

    fn bytes(&mut self, name: &str) -> Result<Cow<'r, [u8]>, sqlx::Error> {
        let column = self.column();
        there(name, self.row.bytes(column)?).map(Cow::Borrowed)
    }
}

/// A value that is written into the columns of a row.
pub(crate) trait Record: Sized {
    /// Binds the columns of the record, in the order of their list.
    fn bind_to<D: Driver, Y>(self, statement: Statement<D, Y>) -> Statement<D, Y>;
}

#[macro_use]
mod accounts;

#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub(crate) use accounts::claimed;
pub(crate) use accounts::{
    AdminKeyRecord, AuditRow, MailRecord, OneTimeRecord, UserChange, UserRecord, mail_state,
};

record! {
    /// A row of `session`.
    SessionRecord<'r>, session_columns {
        "user_id" user_id: text,
        "id" id: text,
        "epoch" epoch: count,
        "generation" generation: number,
        "issued_at" issued_at: number,
        "acknowledged_at" acknowledged_at: optional_number,
        "heals" heals: number,
        "healed_run" healed_run: number,
        "seed" seed: bytes,
        "created_at" created_at: number,
        "last_seen_at" last_seen_at: number,
        "idle_until" idle_until: number,
        "absolute_until" absolute_until: number,
        "user_agent" user_agent: optional_text,
        "agent_hash" agent_hash: optional_text,
        "ip" ip: optional_text,
        "ended_at" ended_at: optional_number,
        "end_reason" end_reason: optional_text,
    }
}

impl<'r> From<&'r Session> for SessionRecord<'r> {
    fn from(session: &'r Session) -> Self {
        Self {
            user_id: session.user_id.as_str().into(),
            id: session.id.to_string().into(),
            epoch: session.epoch.as_u64(),
            generation: session.generation.as_u32().into(),
            issued_at: session.issued_at.as_millis(),
            acknowledged_at: session.acknowledged_at.map(Timestamp::as_millis),
            heals: session.heals.into(),
            healed_run: session.healed_run.into(),
            seed: session.seed.as_bytes().as_slice().into(),
            created_at: session.created_at.as_millis(),
            last_seen_at: session.last_seen_at.as_millis(),
            idle_until: session.idle_until.as_millis(),
            absolute_until: session.absolute_until.as_millis(),
            user_agent: session.device.user_agent.as_deref().map(Into::into),
            agent_hash: session.device.agent_hash.map(|hash| hash.to_string().into()),
            ip: session.device.ip.map(|ip| ip.to_string().into()),
            ended_at: session.ended.map(|ended| ended.at.as_millis()),
            end_reason: session.ended.map(|ended| ended.reason.name().into()),
        }
    }
}

impl TryFrom<SessionRecord<'_>> for Session {
    type Error = sqlx::Error;

    fn try_from(row: SessionRecord<'_>) -> Result<Self, sqlx::Error> {
        let seed = row.seed.as_ref().try_into();
        let seed = seed.map_err(|error: std::array::TryFromSliceError| malformed("seed", error))?;
        let reason = optional_parsed("end_reason", row.end_reason.as_deref(), |name| {
            EndReason::from_name(name).ok_or("an unknown reason")
        })?;
        let ended = match (optional_time("ended_at", row.ended_at)?, reason) {
            (Some(at), Some(reason)) => Some(Ended { at, reason }),
            (None, None) => None,
            _ => return Err(malformed("end_reason", "a reason without a time, or the reverse")),
        };
        Ok(Self {
            user_id: parsed("user_id", &row.user_id, UserId::new)?,
            id: parsed("id", &row.id, str::parse::<SessionId>)?,
            epoch: Epoch::new(row.epoch),
            generation: Generation::new(number("generation", row.generation)?),
            issued_at: time("issued_at", row.issued_at)?,
            acknowledged_at: optional_time("acknowledged_at", row.acknowledged_at)?,
            heals: number("heals", row.heals)?,
            healed_run: number("healed_run", row.healed_run)?,
            seed: SessionSeed::new(seed),
            created_at: time("created_at", row.created_at)?,
            last_seen_at: time("last_seen_at", row.last_seen_at)?,
            idle_until: time("idle_until", row.idle_until)?,
            absolute_until: time("absolute_until", row.absolute_until)?,
            device: Device {
                user_agent: row.user_agent.map(Cow::into_owned),
                agent_hash: optional_parsed(
                    "agent_hash",
                    row.agent_hash.as_deref(),
                    str::parse::<AgentHash>,
                )?,
                ip: optional_parsed("ip", row.ip.as_deref(), str::parse::<IpAddr>)?,
            },
            ended,
        })
    }
}

impl FromColumns for Session {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
        SessionRecord::take(&mut Reader::of(row))?.try_into()
    }
}

/// Reads the columns of a session, then whether the log has ended it, then the highest epoch in the log that concerns
/// it.
impl FromColumns for FoundSession {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
        let mut row = Reader::of(row);
        let session = SessionRecord::take(&mut row)?.try_into()?;
        let (ended, epoch) = (row.number("log_ended")? != 0, Epoch::new(row.count("log_epoch")?));
        Ok(Self { session, log: LogVerdict { ended, epoch } })
    }
}

record! {
    /// A row of `revocation`. A node that starts reads a million of them.
    EntryRecord<'r>, entry_columns {
        "user_id" user_id: text,
        "kind" kind: text,
        "ref" reference: text,
        "n" n: count,
        "except_session" except_session: optional_text,
        "until" until: number,
        "at" at: number,
    }
}

impl From<&Entry> for EntryRecord<'_> {
    fn from(entry: &Entry) -> Self {
        let key = entry.key();
        let except = match &entry.target {
            Target::User { except, .. } => except.map(|id| id.to_string().into()),
            _ => None,
        };
        Self {
            user_id: key.user_id.into(),
            kind: key.kind.into(),
            reference: key.reference.into(),
            n: key.number,
            except_session: except,
            until: entry.until.as_millis(),
            at: entry.at.as_millis(),
        }
    }
}

impl TryFrom<EntryRecord<'_>> for Entry {
    type Error = sqlx::Error;

    fn try_from(row: EntryRecord<'_>) -> Result<Self, sqlx::Error> {
        let user_id = || parsed("user_id", &row.user_id, UserId::new);
        let target = match row.kind.as_ref() {
            "session" => Target::Session {
                user_id: user_id()?,
                id: parsed("ref", &row.reference, str::parse::<SessionId>)?,
            },
            "user" => Target::User {
                user_id: user_id()?,
                epoch: Epoch::new(row.n),
                except: optional_parsed(
                    "except_session",
                    row.except_session.as_deref(),
                    str::parse::<SessionId>,
                )?,
            },
            "token" => Target::Token {
                user_id: user_id()?,
                id: parsed("ref", &row.reference, str::parse::<TokenId>)?,
            },
            "key" => Target::Key { id: parsed("ref", &row.reference, KeyId::new)? },
            "node" => Target::Node { id: parsed("ref", &row.reference, Uuid::try_parse)? },
            _ => return Err(malformed("kind", "an unknown kind")),
        };
        Ok(Self { target, until: time("until", row.until)?, at: time("at", row.at)? })
    }
}

impl FromColumns for Entry {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
        EntryRecord::take(&mut Reader::of(row))?.try_into()
    }
}

/// A live `token` entry of a user: its columns `ref` and `until`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LiveToken {
    id: TokenId,
    until: Timestamp,
}

impl FromColumns for LiveToken {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
        let mut row = Reader::of(row);
        let id = parsed("ref", &row.text("ref")?, str::parse::<TokenId>)?;
        Ok(Self { id, until: time("until", row.number("until")?)? })
    }
}

/// The number of mails that wait, the number of dead letters, and when the first mail is due.
impl FromColumns for OutboxSize {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
        let mut row = Reader::of(row);
        Ok(Self {
            waiting: row.count("waiting")?,
            dead: row.count("dead")?,
            first_due: optional_time("next_at", row.optional_number("next_at")?)?,
        })
    }
}

/// Whether these tokens may be revoked beside those that are revoked already.
pub(crate) fn room_beside(live: &[LiveToken], tokens: &TokenRevocation) -> TokensRevoked {
    let ids: HashSet<_> = live.iter().map(|live| &live.id).chain(&tokens.ids).collect();
    if ids.len() > tokens.limit {
        let free_at = live.iter().map(|live| live.until).min().unwrap_or(tokens.until);
        TokensRevoked::TooMany { free_at }
    } else {
        TokensRevoked::Yes
    }
}

record! {
    /// The counter that a row of `throttle` holds for its key.
    AttemptsRecord, attempts_columns {
        "failures" failures: number,
        "last_failure" last_failure: optional_number,
        "running" running: number,
        "running_until" running_until: number,
    }
}

impl From<&Attempts> for AttemptsRecord {
    fn from(attempts: &Attempts) -> Self {
        Self {
            failures: attempts.failures.into(),
            last_failure: attempts.last_failure.map(Timestamp::as_millis),
            running: attempts.running.into(),
            running_until: attempts.running_until.as_millis(),
        }
    }
}

impl TryFrom<AttemptsRecord> for Attempts {
    type Error = sqlx::Error;

    fn try_from(row: AttemptsRecord) -> Result<Self, sqlx::Error> {
        Ok(Self {
            failures: number("failures", row.failures)?,
            last_failure: optional_time("last_failure", row.last_failure)?,
            running: number("running", row.running)?,
            running_until: time("running_until", row.running_until)?,
        })
    }
}

impl FromColumns for Attempts {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
        AttemptsRecord::take(&mut Reader::of(row))?.try_into()
    }
}

/// A counter, and before it its key.
#[cfg(feature = "sqlite")]
pub(crate) struct KeyedAttempts {
    pub(crate) key: String,
    pub(crate) attempts: Attempts,
}

#[cfg(feature = "sqlite")]
impl FromColumns for KeyedAttempts {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
        let mut row = Reader::of(row);
        let key = row.text("key")?.into_owned();
        Ok(Self { key, attempts: AttemptsRecord::take(&mut row)?.try_into()? })
    }
}

record! {
    /// A row of `sealed_key`.
    KeyRecord<'r>, key_columns {
        "purpose" purpose: text,
        "number" number: number,
        "key_id" key_id: text,
        "algorithm" algorithm: text,
        "sealed" sealed: bytes,
        "created_at" created_at: number,
        "active_at" active_at: number,
        "removed_at" removed_at: optional_number,
    }
}

impl<'r> From<&'r StoredKey> for KeyRecord<'r> {
    fn from(key: &'r StoredKey) -> Self {
        Self {
            purpose: key.purpose.name().into(),
            number: key.number.into(),
            key_id: key.key_id.as_str().into(),
            algorithm: key.algorithm.name().into(),
            sealed: key.sealed.as_slice().into(),
            created_at: key.created_at.as_millis(),
            active_at: key.active_at.as_millis(),
            removed_at: key.removed_at.map(Timestamp::as_millis),
        }
    }
}

impl FromColumns for StoredKey {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
        let row = KeyRecord::take(&mut Reader::of(row))?;
        Ok(Self {
            purpose: parsed("purpose", &row.purpose, |name| {
                KeyPurpose::from_name(name).ok_or("an unknown purpose")
            })?,
            number: number("number", row.number)?,
            key_id: parsed("key_id", &row.key_id, KeyId::new)?,
            algorithm: parsed("algorithm", &row.algorithm, str::parse::<Algorithm>)?,
            sealed: row.sealed.into_owned(),
            created_at: time("created_at", row.created_at)?,
            active_at: time("active_at", row.active_at)?,
            removed_at: optional_time("removed_at", row.removed_at)?,
        })
    }
}

/// A user's epoch and when it was last raised: the user's highest number in the log, 0 if there is none, and the latest
/// `at`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raised {
    pub(crate) epoch: Epoch,
    pub(crate) at: Option<Timestamp>,
}

impl FromColumns for Raised {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
        let mut row = Reader::of(row);
        let epoch = Epoch::new(row.count("n")?);
        Ok(Self { epoch, at: optional_time("at", row.optional_number("at")?)? })
    }
}

impl FromColumns for Epoch {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
        Reader::of(row).count("n").map(Self::new)
    }
}

impl FromColumns for Timestamp {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
        time("time", Reader::of(row).number("time")?)
    }
}

impl FromColumns for Option<Timestamp> {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
        optional_time("time", Reader::of(row).optional_number("time")?)
    }
}

impl FromColumns for Uuid {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
        parsed("id", &Reader::of(row).text("id")?, Self::try_parse)
    }
}

impl FromColumns for SessionId {
    fn from_columns(row: &impl Columns) -> Result<Self, sqlx::Error> {
        parsed("id", &Reader::of(row).text("id")?, str::parse::<Self>)
    }
}
