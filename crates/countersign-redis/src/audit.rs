//! The audit trail: a hash of all records, and sets of their ids in the order of time: of all records, of those of each
//! name, and of those of each user.

use async_trait::async_trait;
use countersign_core::model::AuditRecord;
use countersign_core::store::{AuditPage, AuditStore, StoreError};
use countersign_jwt::{Timestamp, UserId};
use uuid::Uuid;

use crate::answer;
use crate::failure::Failure;
use crate::layout::{NONE, id_of_member, page_from, time_member};
use crate::script::{AUDIT, INSERT_AUDIT, PURGE_AUDIT};
use crate::store::RedisStore;
use crate::text::{number, parsed, time};

const WHAT: &str = "audit record";
const FIELDS: usize = 8;
/// The number of records that one script inserts, reads or deletes, about a millisecond of work.
const STEP: usize = 200;

#[async_trait]
impl AuditStore for RedisStore {
    async fn insert_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        let op = self.op("insert audit records");
        op.all(async {
            for records in records.chunks(STEP) {
                let mut call = INSERT_AUDIT.on([self.names.audit(), self.names.audit_by_time()]);
                for record in records {
                    let [of_name, of_user] = self.audit_sets(Some(&record.name), record.user_id.as_ref());
                    call = call
                        .key(of_name)
                        .key(of_user)
                        .number(record.id.simple())
                        .arg(member(record.at, record.id))
                        .arg(write(record));
                }
                op.write(&call).await?;
            }
            Ok(())
        })
        .await
    }

    async fn audit(&self, page: &AuditPage<'_>) -> Result<Vec<AuditRecord>, StoreError> {
        let set = match (page.user_id, page.name) {
            (Some(user_id), _) => self.names.audit_of_user(user_id.as_str()),
            (None, Some(name)) => self.names.audit_of_name(name),
            (None, None) => self.names.audit_by_time(),
        };
        // A user's records are not kept by name. Users have few of them.
        let is_sieved = page.user_id.is_some() && page.name.is_some();
        let mut after = page.after.map(|after| member(after.at, after.id));
        let mut listed = Vec::new();
        while listed.len() < page.limit {
            // A list may be read in many steps, so each of them has a deadline of its own.
            let op = self.op("read the audit trail");
            let wanted = if is_sieved { STEP } else { (page.limit - listed.len()).min(STEP) };
            let call =
                AUDIT.on([set.clone(), self.names.audit()]).arg(page_from(after.as_deref())).number(wanted);
            let mut found = op.value(answer::list(op.read(&call).await?))?.into_iter();
            let mut looked_at = 0;
            while let (Some(member), Some(text)) = (found.next(), found.next()) {
                looked_at += 1;
                let member = op.value(answer::text(member))?;
                let record = op.value(answer::text(text).and_then(|text| read(&member, &text)))?;
                if page.name.is_none_or(|name| record.name == name) {
                    listed.push(record);
                }
                after = Some(member);
            }
            if looked_at < wanted {
                break;
            }
        }
        listed.truncate(page.limit);
        Ok(listed)
    }

    async fn purge_audit(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let op = self.op("purge audit records");
        op.all(async {
            let (mut purged, mut left) = (0_u64, limit);
            while left > 0 {
                let at_most = left.min(STEP);
                let mut command = redis::cmd("ZRANGEBYLEX");
                command.arg(self.names.audit_by_time()).arg("-").arg(format!("({}", time_member(before, "")));
                command.arg("LIMIT").arg(0).arg(at_most);
                let members = op.value(answer::texts(op.query(&command).await?))?;
                if members.is_empty() {
                    break;
                }
                let mut command = redis::cmd("HMGET");
                command.arg(self.names.audit());
                for member in &members {
                    command.arg(op.value(id_of_member(member))?);
                }
                let texts = op.value(answer::list(op.query(&command).await?))?;
                let mut call = PURGE_AUDIT.on([self.names.audit(), self.names.audit_by_time()]);
                for (member, text) in members.iter().zip(texts) {
                    // Another node may have purged it at this moment.
                    let text = op.value(answer::optional_text(text))?;
                    let record = op.value(text.map(|text| read(member, &text)).transpose())?;
                    let name = record.as_ref().map(|record| record.name.as_str());
                    let user_id = record.as_ref().and_then(|record| record.user_id.as_ref());
                    let [of_name, of_user] = self.audit_sets(name, user_id);
                    call = call.key(of_name).key(of_user).arg(member.as_str());
                }
                let gone = op.write(&call).await?;
                purged = purged.saturating_add(op.value(answer::count(&gone))?);
                left -= at_most;
                if members.len() < at_most {
                    break;
                }
            }
            Ok(purged)
        })
        .await
    }
}

impl RedisStore {
    /// The sets of a record's name and user, beside the set of all. The set of all takes the place of one that there is
    /// not.
    fn audit_sets(&self, name: Option<&str>, user_id: Option<&UserId>) -> [String; 2] {
        let all = || self.names.audit_by_time();
        [
            name.map_or_else(all, |name| self.names.audit_of_name(name)),
            user_id.map_or_else(all, |user_id| self.names.audit_of_user(user_id.as_str())),
        ]
    }
}

fn member(at: Timestamp, id: Uuid) -> String {
    time_member(at, &id.simple().to_string())
}

/// The record as text: `at session_id ip`, then the numbers of bytes of name, user id, actor and detail, then a space
/// and these four texts, which may hold any character. What is absent is `-`.
fn write(record: &AuditRecord) -> String {
    let optional = |text: Option<String>| text.unwrap_or_else(|| NONE.to_owned());
    let texts = [
        Some(record.name.as_str()),
        record.user_id.as_ref().map(UserId::as_str),
        record.actor.as_deref(),
        record.detail.as_deref(),
    ];
    let [name, user_id, actor, detail] = texts.map(|text| optional(text.map(|text| text.len().to_string())));
    format!(
        "{} {} {} {name} {user_id} {actor} {detail} {}",
        record.at.as_millis(),
        optional(record.session_id.map(|id| id.to_string())),
        optional(record.ip.map(|ip| ip.to_string())),
        texts.into_iter().flatten().collect::<String>(),
    )
}

/// The record with this member and text.
fn read(member: &str, text: &str) -> Result<AuditRecord, Failure> {
    let malformed = || Failure::Malformed(WHAT);
    let fields: Vec<_> = text.splitn(FIELDS, ' ').collect();
    let Ok([at, session_id, ip, name, user_id, actor, detail, texts]) = <[&str; FIELDS]>::try_from(fields)
    else {
        return Err(malformed());
    };
    let mut rest = texts;
    let mut take = |length: &str| {
        if length == NONE {
            return Ok(None);
        }
        let (text, after) = rest.split_at_checked(number(WHAT, length)?).ok_or_else(malformed)?;
        rest = after;
        Ok(Some(text.to_owned()))
    };
    let (name, user_id, actor, detail) = (take(name)?, take(user_id)?, take(actor)?, take(detail)?);
    if !rest.is_empty() {
        return Err(malformed());
    }
    let present = |text| Some(text).filter(|text| *text != NONE);
    Ok(AuditRecord {
        id: parsed(WHAT, Uuid::try_parse(id_of_member(member)?))?,
        at: time(WHAT, at)?,
        name: name.ok_or_else(malformed)?,
        user_id: user_id.map(|user_id| parsed(WHAT, UserId::new(&user_id))).transpose()?,
        session_id: present(session_id).map(|id| parsed(WHAT, id.parse())).transpose()?,
        ip: present(ip).map(|ip| parsed(WHAT, ip.parse())).transpose()?,
        actor,
        detail,
    })
}

#[cfg(test)]
mod tests {
    use countersign_jwt::SessionId;

    use super::*;

    #[test]
    fn a_record_reads_back_as_written() {
        let bare = AuditRecord {
            id: Uuid::max(),
            at: Timestamp::MAX,
            name: String::new(),
            user_id: None,
            session_id: None,
            ip: None,
            actor: None,
            detail: None,
        };
        let full = AuditRecord {
            name: "a b".to_owned(),
            user_id: UserId::new("ada - 1").ok(),
            session_id: Some(SessionId::new(Uuid::nil())),
            ip: "2001:db8::1".parse().ok(),
            actor: Some(String::new()),
            detail: Some(" \0 é😀".to_owned()),
            ..bare.clone()
        };
        for record in [bare, full] {
            let (member, text) = (member(record.at, record.id), write(&record));
            assert_eq!(read(&member, &text).unwrap(), record);
            assert!(read(&member, &format!("{text}x")).is_err());
            for end in text.char_indices().map(|(end, _)| end) {
                assert!(read(&member, &text[..end]).is_err(), "{end}");
            }
            assert!(read("", &text).is_err());
        }
    }
}
