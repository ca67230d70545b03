//! Rows as every engine returns them, in the columns' own types, and the values that they stand for.
//!
//! Booleans are numbers here, because not every engine has them: 0 is false.

use std::collections::HashSet;
use std::net::IpAddr;

use countersign_core::model::{
    AgentHash, Attempts, Device, EmailAddress, EndReason, Ended, Entry, KeyPurpose, LogVerdict, PasswordHash,
    Session, SessionSeed, StoredKey, Target, User, Username,
};
use countersign_core::store::{FoundSession, TokenRevocation, TokensRevoked};
use countersign_jwt::key::{Algorithm, KeyId};
use countersign_jwt::{Epoch, Generation, SessionId, Timestamp, TokenId, UserId};
use sqlx::FromRow;

#[cfg(any(feature = "postgres", feature = "mysql"))]
use sqlx::{ColumnIndex, Decode, Row, Type};
use uuid::Uuid;

use crate::column::{malformed, number, optional_parsed, optional_time, parsed, time};

/// A row of `session`.
#[derive(FromRow)]
pub(crate) struct SessionRecord {
    user_id: String,
    id: String,
    epoch: i64,
    generation: i64,
    issued_at: i64,
    acknowledged_at: Option<i64>,
    heals: i64,
    healed_run: i64,
    seed: Vec<u8>,
    created_at: i64,
    last_seen_at: i64,
    idle_until: i64,
    absolute_until: i64,
    user_agent: Option<String>,
    agent_hash: Option<String>,
    ip: Option<String>,
    ended_at: Option<i64>,
    end_reason: Option<String>,
}

impl TryFrom<SessionRecord> for Session {
    type Error = sqlx::Error;

    fn try_from(row: SessionRecord) -> Result<Self, sqlx::Error> {
        let seed = row.seed.as_slice().try_into();
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
            epoch: Epoch::new(number("epoch", row.epoch)?),
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
                user_agent: row.user_agent,
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

/// A row of `session` with what the log says about it.
#[derive(FromRow)]
pub(crate) struct FoundRecord {
    #[sqlx(flatten)]
    session: SessionRecord,
    log_ended: i64,
    log_epoch: i64,
}

impl TryFrom<FoundRecord> for FoundSession {
    type Error = sqlx::Error;

    fn try_from(row: FoundRecord) -> Result<Self, sqlx::Error> {
        let log =
            LogVerdict { ended: row.log_ended != 0, epoch: Epoch::new(number("log_epoch", row.log_epoch)?) };
        Ok(Self { session: row.session.try_into()?, log })
    }
}

/// Whether a session was ended, by its row and by the log.
#[cfg(feature = "sqlite")]
#[derive(Clone, Copy, Debug, FromRow)]
pub(crate) struct EndedRecord {
    row_ended: i64,
    log_ended: i64,
}

#[cfg(feature = "sqlite")]
impl EndedRecord {
    pub(crate) fn in_row(self) -> bool {
        self.row_ended != 0
    }

    pub(crate) fn in_log(self) -> bool {
        self.log_ended != 0
    }
}

/// A row of `revocation`, as long as the driver holds it: a node that starts reads a million of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EntryRecord<'r> {
    pub(crate) user_id: &'r str,
    pub(crate) kind: &'r str,
    pub(crate) reference: &'r str,
    pub(crate) n: i64,
    pub(crate) except_session: Option<&'r str>,
    pub(crate) until: i64,
    pub(crate) at: i64,
}

impl TryFrom<EntryRecord<'_>> for Entry {
    type Error = sqlx::Error;

    fn try_from(row: EntryRecord<'_>) -> Result<Self, sqlx::Error> {
        let user_id = || parsed("user_id", row.user_id, UserId::new);
        let target = match row.kind {
            "session" => Target::Session {
                user_id: user_id()?,
                id: parsed("ref", row.reference, str::parse::<SessionId>)?,
            },
            "user" => Target::User {
                user_id: user_id()?,
                epoch: Epoch::new(number("n", row.n)?),
                except: optional_parsed("except_session", row.except_session, str::parse::<SessionId>)?,
            },
            "token" => Target::Token {
                user_id: user_id()?,
                id: parsed("ref", row.reference, str::parse::<TokenId>)?,
            },
            "key" => Target::Key { id: parsed("ref", row.reference, KeyId::new)? },
            "node" => Target::Node { id: parsed("ref", row.reference, Uuid::try_parse)? },
            _ => return Err(malformed("kind", "an unknown kind")),
        };
        Ok(Self { target, until: time("until", row.until)?, at: time("at", row.at)? })
    }
}

/// The entry that a row is, whose columns come in the order of [`EntryRecord`].
#[cfg(any(feature = "postgres", feature = "mysql"))]
#[derive(Debug)]
pub(crate) struct EntryRow(Entry);

#[cfg(any(feature = "postgres", feature = "mysql"))]
impl From<EntryRow> for Entry {
    fn from(row: EntryRow) -> Self {
        row.0
    }
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
impl<'r, R> FromRow<'r, R> for EntryRow
where
    R: Row,
    usize: ColumnIndex<R>,
    &'r str: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let row = EntryRecord {
            user_id: row.try_get(0)?,
            kind: row.try_get(1)?,
            reference: row.try_get(2)?,
            n: row.try_get(3)?,
            except_session: row.try_get(4)?,
            until: row.try_get(5)?,
            at: row.try_get(6)?,
        };
        row.try_into().map(Self)
    }
}

/// A live `token` entry of a user.
#[derive(FromRow)]
pub(crate) struct LiveTokenRecord {
    #[sqlx(rename = "ref")]
    reference: String,
    until: i64,
}

/// Whether these tokens may be revoked beside those that already are.
pub(crate) fn room_beside(
    live: &[LiveTokenRecord],
    tokens: &TokenRevocation,
) -> Result<TokensRevoked, sqlx::Error> {
    let mut ids = HashSet::with_capacity(live.len().saturating_add(tokens.ids.len()));
    let mut free_at: Option<Timestamp> = None;
    for row in live {
        ids.insert(parsed("ref", &row.reference, str::parse::<TokenId>)?);
        let until = time("until", row.until)?;
        free_at = Some(free_at.map_or(until, |earliest| earliest.min(until)));
    }
    ids.extend(&tokens.ids);
    Ok(if ids.len() > tokens.limit {
        TokensRevoked::TooMany { free_at: free_at.unwrap_or(tokens.until) }
    } else {
        TokensRevoked::Yes
    })
}

/// A row of `account`.
#[derive(FromRow)]
pub(crate) struct UserRecord {
    id: String,
    email: String,
    username: Option<String>,
    password_hash: Option<String>,
    created_at: i64,
    disabled_at: Option<i64>,
}

impl TryFrom<UserRecord> for User {
    type Error = sqlx::Error;

    fn try_from(row: UserRecord) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: parsed("id", &row.id, UserId::new)?,
            email: parsed("email", &row.email, EmailAddress::parse)?,
            username: optional_parsed("username", row.username.as_deref(), Username::parse)?,
            password_hash: row.password_hash.map(PasswordHash::from_stored),
            created_at: time("created_at", row.created_at)?,
            disabled_at: optional_time("disabled_at", row.disabled_at)?,
        })
    }
}

/// A row of `throttle`.
#[derive(FromRow)]
pub(crate) struct AttemptsRecord {
    failures: i64,
    last_failure: Option<i64>,
    running: i64,
    running_until: i64,
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

/// A row of `sealed_key`.
#[derive(FromRow)]
pub(crate) struct KeyRecord {
    purpose: String,
    number: i64,
    key_id: String,
    algorithm: String,
    sealed: Vec<u8>,
    created_at: i64,
    active_at: i64,
    removed_at: Option<i64>,
}

impl TryFrom<KeyRecord> for StoredKey {
    type Error = sqlx::Error;

    fn try_from(row: KeyRecord) -> Result<Self, sqlx::Error> {
        Ok(Self {
            purpose: parsed("purpose", &row.purpose, |name| {
                KeyPurpose::from_name(name).ok_or("an unknown purpose")
            })?,
            number: number("number", row.number)?,
            key_id: parsed("key_id", &row.key_id, KeyId::new)?,
            algorithm: parsed("algorithm", &row.algorithm, str::parse::<Algorithm>)?,
            sealed: row.sealed,
            created_at: time("created_at", row.created_at)?,
            active_at: time("active_at", row.active_at)?,
            removed_at: optional_time("removed_at", row.removed_at)?,
        })
    }
}

/// All of these rows as values, or the first that is none.
pub(crate) fn all<R, T>(rows: Vec<R>) -> Result<Vec<T>, sqlx::Error>
where
    T: TryFrom<R, Error = sqlx::Error>,
{
    rows.into_iter().map(T::try_from).collect()
}
