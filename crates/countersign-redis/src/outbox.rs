//! The outbox: a hash for each mail, a set of those that wait, by when they are due, and a set of the dead letters.

use std::collections::HashMap;

use async_trait::async_trait;
use countersign_core::model::{EmailAddress, OutboxMail, OutboxState};
use countersign_core::store::{DeadLetterPosition, MailFailure, OutboxSize, OutboxStore, StoreError};
use countersign_jwt::{Timestamp, UserId};
use redis::Value;
use uuid::Uuid;

use crate::answer;
use crate::failure::Failure;
use crate::layout::{id_of_member, page_from, time_member};
use crate::script::{
    CLAIM_MAIL, Call, ENQUEUE_MAIL, FAIL_MAIL, MAILS, PURGE_MAIL, REMOVE_MAIL, RETRY_MAIL, Script,
};
use crate::store::RedisStore;
use crate::text::{number, parsed, time};

const WHAT: &str = "mail";
/// The number of mails that one script claims or reads. A mail may have some hundred kilobytes.
const STEP: usize = 50;
/// The number of mails that one script deletes.
const PURGE_STEP: usize = 200;

#[async_trait]
impl OutboxStore for RedisStore {
    async fn enqueue_mail(&self, mail: &OutboxMail) -> Result<bool, StoreError> {
        let op = self.op("put the mail into the outbox");
        let mut call = with_state(self.on_mail(&ENQUEUE_MAIL, mail.id), mail.state)
            .arg("to")
            .arg(mail.to.as_str())
            .arg("kind")
            .arg(mail.kind.as_str())
            .arg("sealed")
            .arg(mail.sealed.as_slice())
            .arg("created_at")
            .number(mail.created_at.as_millis())
            .arg("attempts")
            .number(mail.attempts);
        if let Some(user_id) = &mail.user_id {
            call = call.arg("user_id").arg(user_id.as_str());
        }
        if let Some(useless_after) = mail.useless_after {
            call = call.arg("useless_after").number(useless_after.as_millis());
        }
        if let Some(error) = &mail.last_error {
            call = call.arg("last_error").arg(error.as_str());
        }
        let inserted = op.write(&call).await?;
        op.value(answer::yes(&inserted))
    }

    async fn claim_mail(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<OutboxMail>, StoreError> {
        let op = self.op("claim mails");
        op.all(async {
            let [due, _] = self.names.outbox();
            let mut claimed: Vec<OutboxMail> = Vec::new();
            while claimed.len() < limit {
                let wanted = (limit - claimed.len()).min(STEP);
                let mut command = redis::cmd("ZRANGEBYSCORE");
                command.arg(&due).arg("-inf").arg(now.as_millis()).arg("LIMIT").arg(0).arg(wanted);
                let ids = op.value(answer::texts(op.query(&command).await?))?;
                let ids = ids.iter().map(|id| parsed(WHAT, Uuid::try_parse(id)));
                let ids = op.value(ids.collect::<Result<Vec<_>, _>>())?;
                let mut call = CLAIM_MAIL
                    .on(self.names.outbox())
                    .number(now.as_millis())
                    .number(lease_until.as_millis());
                for id in &ids {
                    call = call.key(self.names.mail(*id)).number(id.simple());
                }
                if !ids.is_empty() {
                    let found = op.write(&call).await?;
                    claimed.extend(op.value(read_claimed(found))?);
                }
                // Where another node was quicker, others may be due behind those that it has claimed.
                if ids.len() < wanted {
                    break;
                }
            }
            Ok(claimed)
        })
        .await
    }

    async fn remove_mail(&self, id: Uuid) -> Result<bool, StoreError> {
        let op = self.op("remove the mail");
        let removed = op.write(&self.on_mail(&REMOVE_MAIL, id)).await?;
        op.value(answer::yes(&removed))
    }

    async fn fail_mail(&self, failure: &MailFailure) -> Result<bool, StoreError> {
        let op = self.op("note the mail's failure");
        let call = self.on_mail(&FAIL_MAIL, failure.id).number(failure.attempts);
        let failed = op.write(&with_state(call, failure.then).arg(failure.error.as_str())).await?;
        op.value(answer::yes(&failed))
    }

    async fn dead_letters(
        &self,
        after: Option<DeadLetterPosition>,
        limit: usize,
    ) -> Result<Vec<OutboxMail>, StoreError> {
        let op = self.op("list the dead letters");
        op.all(async {
            let [_, dead] = self.names.outbox();
            let mut after = after.map(|after| member(after.since, after.id));
            let mut listed = Vec::new();
            while listed.len() < limit {
                let wanted = (limit - listed.len()).min(STEP);
                let mut command = redis::cmd("ZREVRANGEBYLEX");
                command.arg(&dead).arg(page_from(after.as_deref())).arg("-");
                command.arg("LIMIT").arg(0).arg(wanted);
                let members = op.value(answer::texts(op.query(&command).await?))?;
                let ids = members.iter().map(|member| mail_of_member(member));
                let ids = op.value(ids.collect::<Result<Vec<_>, _>>())?;
                if !ids.is_empty() {
                    let mails = ids.iter().map(|id| self.names.mail(*id));
                    let found = op.read(&MAILS.on(mails)).await?;
                    for (id, fields) in ids.iter().zip(op.value(answer::list(found))?) {
                        let mail = op.value(answer::fields(fields).and_then(|fields| read(*id, fields)))?;
                        // It may have been removed or retried since its id was read.
                        listed.extend(mail.filter(|mail| matches!(mail.state, OutboxState::Dead { .. })));
                    }
                }
                if members.len() < wanted {
                    break;
                }
                after = members.into_iter().next_back();
            }
            Ok(listed)
        })
        .await
    }

    async fn outbox_size(&self) -> Result<OutboxSize, StoreError> {
        let op = self.op("count the mails");
        op.all(async {
            let [due, dead] = self.names.outbox();
            let count = async |set: &str| {
                let count = op.query(redis::cmd("ZCARD").arg(set)).await?;
                op.value(answer::count(&count))
            };
            let mut first = redis::cmd("ZRANGEBYSCORE");
            first.arg(&due).arg("-inf").arg("+inf").arg("LIMIT").arg(0).arg(1);
            let first = op.value(answer::texts(op.query(&first).await?))?;
            let first_due = match first.first() {
                // It may have been removed since.
                Some(id) => {
                    let mail = self.names.mail(op.value(parsed(WHAT, Uuid::try_parse(id)))?);
                    let due = op.query(redis::cmd("HGET").arg(mail).arg("next_at")).await?;
                    op.value(answer::optional_text(due))?
                }
                None => None,
            };
            Ok(OutboxSize {
                waiting: count(&due).await?,
                dead: count(&dead).await?,
                first_due: op.value(first_due.map(|due| time(WHAT, &due)).transpose())?,
            })
        })
        .await
    }

    async fn retry_mail(&self, id: Uuid, now: Timestamp) -> Result<bool, StoreError> {
        let op = self.op("retry the mail");
        let retried = op.write(&self.on_mail(&RETRY_MAIL, id).number(now.as_millis())).await?;
        op.value(answer::yes(&retried))
    }

    async fn purge_dead_letters(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let op = self.op("purge dead letters");
        op.all(async {
            let [_, dead] = self.names.outbox();
            let (mut purged, mut left) = (0_u64, limit);
            while left > 0 {
                let at_most = left.min(PURGE_STEP);
                let mut command = redis::cmd("ZRANGEBYLEX");
                command.arg(&dead).arg("-").arg(format!("({}", time_member(before, "")));
                command.arg("LIMIT").arg(0).arg(at_most);
                let members = op.value(answer::texts(op.query(&command).await?))?;
                let mut call = PURGE_MAIL.on(self.names.outbox());
                for member in &members {
                    let id = op.value(mail_of_member(member))?;
                    call = call.key(self.names.mail(id)).arg(member.as_str());
                }
                if !members.is_empty() {
                    let gone = op.write(&call).await?;
                    purged = purged.saturating_add(op.value(answer::count(&gone))?);
                }
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
    /// A script on one mail, with the mail's id as its first argument.
    fn on_mail(&self, script: &'static Script, id: Uuid) -> Call {
        script.on(self.names.outbox()).key(self.names.mail(id)).number(id.simple())
    }
}

/// The script with a state as its next two arguments.
fn with_state(call: Call, state: OutboxState) -> Call {
    match state {
        OutboxState::Waiting { next_at } => call.arg("waiting").number(next_at.as_millis()),
        OutboxState::Dead { since } => call.arg("dead").number(since.as_millis()),
    }
}

/// A mail's member among the dead letters; the scripts make it too (`lua/mail.lua`).
fn member(since: Timestamp, id: Uuid) -> String {
    time_member(since, &id.simple().to_string())
}

fn mail_of_member(member: &str) -> Result<Uuid, Failure> {
    parsed(WHAT, Uuid::try_parse(id_of_member(member)?))
}

fn read_claimed(found: Value) -> Result<Vec<OutboxMail>, Failure> {
    let mut mails = Vec::new();
    for (id, fields) in answer::pairs(found)? {
        let id = parsed(WHAT, Uuid::try_parse(&id))?;
        mails.extend(read(id, answer::fields(fields)?)?);
    }
    Ok(mails)
}

/// The mail in a hash with these fields; `None` if there is no such hash.
fn read(id: Uuid, mut fields: HashMap<String, Value>) -> Result<Option<OutboxMail>, Failure> {
    if fields.is_empty() {
        return Ok(None);
    }
    let malformed = || Failure::Malformed(WHAT);
    let sealed = fields.remove("sealed").map_or(Ok(None), answer::bytes)?.ok_or_else(malformed)?;
    let mut take = |field| fields.remove(field).map_or(Ok(None), answer::optional_text);
    let next_at = take("next_at")?.map(|text| time(WHAT, &text)).transpose()?;
    let dead_since = take("dead_since")?.map(|text| time(WHAT, &text)).transpose()?;
    Ok(Some(OutboxMail {
        id,
        to: parsed(WHAT, EmailAddress::parse(&take("to")?.ok_or_else(malformed)?))?,
        kind: take("kind")?.ok_or_else(malformed)?,
        user_id: take("user_id")?.map(|text| parsed(WHAT, UserId::new(&text))).transpose()?,
        sealed,
        created_at: time(WHAT, &take("created_at")?.ok_or_else(malformed)?)?,
        useless_after: take("useless_after")?.map(|text| time(WHAT, &text)).transpose()?,
        attempts: number(WHAT, &take("attempts")?.ok_or_else(malformed)?)?,
        state: match (next_at, dead_since) {
            (Some(next_at), None) => OutboxState::Waiting { next_at },
            (None, Some(since)) => OutboxState::Dead { since },
            _ => return Err(malformed()),
        },
        last_error: take("last_error")?,
    }))
}
