//! Documents, and the values that they stand for.

use std::fmt;
use std::net::IpAddr;

use countersign_core::model::{
    AgentHash, Attempts, Device, EmailAddress, EndReason, Ended, Entry, KeyPurpose, Language, PasswordHash,
    Roles, SecretDigest, Session, SessionSeed, StoredKey, Target, User, Username,
};
use countersign_core::store::BoxError;
use countersign_jwt::key::{Algorithm, KeyId};
use countersign_jwt::{Epoch, Generation, SessionId, Timestamp, TokenId, UserId};
use mongodb::bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};
use uuid::Uuid;

use crate::call::Failure;
use crate::document_id;
use crate::field::{
    binary, bytes, date, integer, is_set, number, optional_parsed, optional_text, optional_time, parsed,
    text, time,
};

/// The values of all these documents, or the error of the first invalid one.
pub(crate) fn all<T>(
    documents: &[RawDocumentBuf],
    value: impl Fn(&RawDocument) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    documents.iter().map(|document| value(document)).collect()
}

/// A time as a number, or null.
pub(crate) fn optional_millis(time: Option<Timestamp>) -> Bson {
    time.map_or(Bson::Null, |time| Bson::Int64(time.as_millis()))
}

/// A session's document. After `gone_at` no flow needs the session, whatever clock the flows use.
pub(crate) fn of_session(session: &Session, gone_at: Timestamp) -> Result<Document, Failure> {
    let mut document = doc! {
        "_id": document_id::session(&session.key()),
        "user_id": session.user_id.as_str(),
        "id": session.id.to_string(),
        "epoch": integer(session.epoch.as_u64())?,
        "seed": binary(session.seed.as_bytes()),
        "created_at": session.created_at.as_millis(),
        "absolute_until": session.absolute_until.as_millis(),
        "ended_at": optional_millis(session.ended.map(|ended| ended.at)),
        "end_reason": session.ended.map(|ended| ended.reason.name()),
        "gone_at": date(gone_at),
    };
    document.extend(changing(session));
    Ok(document)
}

/// The fields of a session that a refresh changes. The other fields stay, except for the mark of its end.
pub(crate) fn changing(session: &Session) -> Document {
    doc! {
        "generation": i64::from(session.generation.as_u32()),
        "issued_at": session.issued_at.as_millis(),
        "acknowledged_at": optional_millis(session.acknowledged_at),
        "heals": i64::from(session.heals),
        "healed_run": i64::from(session.healed_run),
        "last_seen_at": session.last_seen_at.as_millis(),
        "idle_until": session.idle_until.as_millis(),
        "user_agent": session.device.user_agent.as_deref(),
        "agent_hash": session.device.agent_hash.map(|hash| hash.to_string()),
        "ip": session.device.ip.map(|ip| ip.to_string()),
    }
}

/// The session in a document.
pub(crate) fn session(document: &RawDocument) -> Result<Session, Failure> {
    let seed: [u8; 32] = bytes(document, "seed")?
        .try_into()
        .map_err(|error: std::array::TryFromSliceError| Failure::malformed("seed", error))?;
    Ok(Session {
        user_id: parsed(document, "user_id", UserId::new)?,
        id: parsed(document, "id", str::parse::<SessionId>)?,
        epoch: Epoch::new(number(document, "epoch")?),
        generation: Generation::new(number(document, "generation")?),
        issued_at: time(document, "issued_at")?,
        acknowledged_at: optional_time(document, "acknowledged_at")?,
        heals: number(document, "heals")?,
        healed_run: number(document, "healed_run")?,
        seed: SessionSeed::new(seed),
        created_at: time(document, "created_at")?,
        last_seen_at: time(document, "last_seen_at")?,
        idle_until: time(document, "idle_until")?,
        absolute_until: time(document, "absolute_until")?,
        device: Device {
            user_agent: optional_text(document, "user_agent")?.map(str::to_owned),
            agent_hash: optional_parsed(document, "agent_hash", str::parse::<AgentHash>)?,
            ip: optional_parsed(document, "ip", str::parse::<IpAddr>)?,
        },
        ended: ended(document)?,
    })
}

fn ended(document: &RawDocument) -> Result<Option<Ended>, Failure> {
    match (optional_time(document, "ended_at")?, optional_reason(document, "end_reason")?) {
        (Some(at), Some(reason)) => Ok(Some(Ended { at, reason })),
        (None, None) => Ok(None),
        _ => Err(Failure::malformed("end_reason", "a reason without a time, or the reverse")),
    }
}

/// The fields of the mark of a session's end.
pub(crate) fn of_ended(ended: Ended) -> Document {
    doc! { "ended_at": ended.at.as_millis(), "end_reason": ended.reason.name() }
}

/// The reason for an end; `None` if the field is absent.
pub(crate) fn optional_reason(
    document: &RawDocument,
    field: &'static str,
) -> Result<Option<EndReason>, Failure> {
    optional_parsed(document, field, |name| EndReason::from_name(name).ok_or("an unknown reason"))
}

/// The fields of an entry that its key stands for, and the session that it excepts.
pub(crate) fn of_entry(entry: &Entry) -> Result<Document, Failure> {
    let key = entry.key();
    let except = match &entry.target {
        Target::User { except, .. } => except.map(|id| id.to_string()),
        _ => None,
    };
    Ok(doc! {
        "_id": document_id::entry(&key),
        "user_id": &key.user_id,
        "kind": key.kind,
        "ref": &key.reference,
        "n": integer(key.number)?,
        "except": except,
    })
}

/// The entry in a document.
pub(crate) fn entry(document: &RawDocument) -> Result<Entry, Failure> {
    let user_id = || parsed(document, "user_id", UserId::new);
    let target = match text(document, "kind")? {
        "session" => {
            Target::Session { user_id: user_id()?, id: parsed(document, "ref", str::parse::<SessionId>)? }
        }
        "user" => Target::User {
            user_id: user_id()?,
            epoch: Epoch::new(number(document, "n")?),
            except: optional_parsed(document, "except", str::parse::<SessionId>)?,
        },
        "token" => Target::Token { user_id: user_id()?, id: parsed(document, "ref", str::parse::<TokenId>)? },
        "key" => Target::Key { id: parsed(document, "ref", KeyId::new)? },
        "node" => Target::Node { id: parsed(document, "ref", Uuid::try_parse)? },
        _ => return Err(Failure::malformed("kind", "an unknown kind")),
    };
    Ok(Entry { target, until: time(document, "until")?, at: time(document, "at")? })
}

/// An account's document.
pub(crate) fn of_user(user: &User) -> Result<Document, Failure> {
    let mut document = doc! { "_id": user.id.as_str(), "created_at": user.created_at.as_millis() };
    document.extend(changing_user(user)?);
    Ok(document)
}

/// The fields of an account that a replacement changes.
pub(crate) fn changing_user(user: &User) -> Result<Document, Failure> {
    Ok(doc! {
        "email": user.email.as_ref().map(EmailAddress::as_str),
        "email_verified_at": optional_millis(user.email_verified_at),
        "username": user.username.as_ref().map(Username::as_str),
        "name_keys": NameKeys::of(user).to_string(),
        "password_hash": user.password_hash.as_ref().map(PasswordHash::expose),
        "roles": user.roles.to_string(),
        "language": user.language.as_ref().map(Language::as_str),
        "disabled_at": optional_millis(user.disabled_at),
        "deleted_at": optional_millis(user.deleted_at),
        "revision": integer(user.revision)?,
    })
}

/// The account in a document. Documents that an older program has written lack some of the fields.
pub(crate) fn user(document: &RawDocument) -> Result<User, Failure> {
    let hash = optional_text(document, "password_hash")?;
    Ok(User {
        id: parsed(document, "_id", UserId::new)?,
        email: optional_parsed(document, "email", EmailAddress::parse)?,
        email_verified_at: optional_time(document, "email_verified_at")?,
        username: optional_parsed(document, "username", Username::parse)?,
        password_hash: hash.map(|hash| PasswordHash::from_stored(hash.to_owned())),
        roles: optional_parsed(document, "roles", Roles::parse)?.unwrap_or_default(),
        language: optional_parsed(document, "language", Language::parse)?,
        created_at: time(document, "created_at")?,
        disabled_at: optional_time(document, "disabled_at")?,
        deleted_at: optional_time(document, "deleted_at")?,
        revision: if is_set(document, "revision")? { number(document, "revision")? } else { 0 },
    })
}

/// The keys of an account's names, as its document carries them: one field, which a search looks into.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct NameKeys {
    pub(crate) email: Option<String>,
    pub(crate) username: Option<String>,
}

impl NameKeys {
    /// The keys of a user's names.
    pub(crate) fn of(user: &User) -> Self {
        Self {
            email: user.email.as_ref().map(|email| email.key().to_owned()),
            username: user.username.as_ref().map(|username| username.key().to_owned()),
        }
    }

    /// The keys that an account's document carries, or those of its names, if an older program has written it.
    pub(crate) fn read(document: &RawDocument) -> Result<Self, Failure> {
        let read = |text: &str| {
            let (email, username) = text.split_once('\t').ok_or("no keys of names")?;
            let key = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            Ok::<_, BoxError>(Self { email: key(email), username: key(username) })
        };
        match optional_parsed(document, "name_keys", read)? {
            Some(keys) => Ok(keys),
            None => Ok(Self {
                email: optional_parsed(document, "email", EmailAddress::parse)?
                    .map(|email| email.key().to_owned()),
                username: optional_parsed(document, "username", Username::parse)?
                    .map(|username| username.key().to_owned()),
            }),
        }
    }
}

/// The key of the e-mail address, a tab, which no key holds, and the key of the username.
impl fmt::Display for NameKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = |key: &'_ Option<String>| key.clone().unwrap_or_default();
        write!(f, "{}\t{}", key(&self.email), key(&self.username))
    }
}

/// The digest that these bytes are.
pub(crate) fn digest(field: &'static str, bytes: &[u8]) -> Result<SecretDigest, Failure> {
    let bytes =
        bytes.try_into().map_err(|error: std::array::TryFromSliceError| Failure::malformed(field, error))?;
    Ok(SecretDigest::from_bytes(bytes))
}

/// The fields of a counter, which are its whole value.
pub(crate) fn of_attempts(attempts: &Attempts) -> Document {
    doc! {
        "failures": i64::from(attempts.failures),
        "last_failure": optional_millis(attempts.last_failure),
        "running": i64::from(attempts.running),
        "running_until": attempts.running_until.as_millis(),
    }
}

/// The counter in a document.
pub(crate) fn attempts(document: &RawDocument) -> Result<Attempts, Failure> {
    Ok(Attempts {
        failures: number(document, "failures")?,
        last_failure: optional_time(document, "last_failure")?,
        running: number(document, "running")?,
        running_until: time(document, "running_until")?,
    })
}

/// A key's document.
pub(crate) fn of_key(key: &StoredKey) -> Document {
    doc! {
        "_id": format!("{} {}", key.purpose.name(), key.number),
        "purpose": key.purpose.name(),
        "number": i64::from(key.number),
        "key_id": key.key_id.as_str(),
        "algorithm": key.algorithm.name(),
        "sealed": binary(&key.sealed),
        "created_at": key.created_at.as_millis(),
        "active_at": key.active_at.as_millis(),
        "removed_at": optional_millis(key.removed_at),
    }
}

/// The key in a document.
pub(crate) fn key(document: &RawDocument) -> Result<StoredKey, Failure> {
    Ok(StoredKey {
        purpose: parsed(document, "purpose", |name| KeyPurpose::from_name(name).ok_or("an unknown purpose"))?,
        number: number(document, "number")?,
        key_id: parsed(document, "key_id", KeyId::new)?,
        algorithm: parsed(document, "algorithm", str::parse::<Algorithm>)?,
        sealed: bytes(document, "sealed")?.to_vec(),
        created_at: time(document, "created_at")?,
        active_at: time(document, "active_at")?,
        removed_at: optional_time(document, "removed_at")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_carries_the_keys_of_its_names() {
        let email = EmailAddress::parse("Ada@Example.org").ok();
        let username = Username::parse("Ada_L").ok();
        for (email, username, kept) in [
            (None, None, "\t"),
            (email.clone(), None, "ada@example.org\t"),
            (None, username.clone(), "\tada_l"),
            (email, username, "ada@example.org\tada_l"),
        ] {
            let user = User { email, username, ..User::new(UserId::new("1").unwrap(), Timestamp::MIN) };
            assert_eq!(NameKeys::of(&user).to_string(), kept);
            let mut document = of_user(&user).unwrap();
            let read =
                |document: &Document| NameKeys::read(&RawDocumentBuf::try_from(document).unwrap()).unwrap();
            assert_eq!(read(&document), NameKeys::of(&user));
            document.remove("name_keys");
            assert_eq!(read(&document), NameKeys::of(&user), "as an older program has written it");
        }
    }
}
