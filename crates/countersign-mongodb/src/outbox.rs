//! The outbox: one document for each mail. Exactly one of `next_at` and `dead_since` is a time, the other is null.

use async_trait::async_trait;
use countersign_core::model::{EmailAddress, OutboxMail, OutboxState};
use countersign_core::store::{DeadLetterPosition, MailFailure, OutboxSize, OutboxStore, StoreError};
use countersign_jwt::{Timestamp, UserId};
use mongodb::bson::{Bson, Document, RawDocument, doc};
use uuid::Uuid;

use crate::call::Failure;
use crate::field::{
    binary, bytes, number, optional_parsed, optional_text, optional_time, parsed, text, time,
};
use crate::locks::Turn;
use crate::record::{self, optional_millis};
use crate::records::Query;
use crate::store::MongodbStore;

/// The number of mails that one command reads. A mail may have some hundred kilobytes.
const STEP: usize = 50;

/// The turn of operations that change mails under a condition.
const OUTBOX: &str = "outbox";

#[async_trait]
impl OutboxStore for MongodbStore {
    async fn enqueue_mail(&self, mail: &OutboxMail) -> Result<bool, StoreError> {
        self.answer("put the mail into the outbox", Turn::Any, self.outbox.insert(&of_mail(mail))).await
    }

    async fn claim_mail(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<OutboxMail>, StoreError> {
        // Callers of one process take turns instead of reading the same mails and claiming them from each other.
        self.answer("claim mails", Turn::Always(OUTBOX), async {
            let mut claimed: Vec<OutboxMail> = Vec::new();
            while claimed.len() < limit {
                let wanted = (limit - claimed.len()).min(STEP);
                let query = Query {
                    filter: doc! { "next_at": { "$lte": now.as_millis() } },
                    sort: doc! { "next_at": 1, "_id": 1 },
                    limit: Some(wanted),
                    ..Query::default()
                };
                let due = record::all(&self.outbox.find(query).await?, mail)?;
                let is_last = due.len() < wanted;
                for mut mail in due {
                    // Relatives of MongoDB may answer with the document as it has become since it was found.
                    if !matches!(mail.state, OutboxState::Waiting { next_at } if next_at <= now) {
                        continue;
                    }
                    let mut as_read =
                        doc! { "_id": mail.id.to_string(), "attempts": i64::from(mail.attempts) };
                    as_read.extend(of_state(mail.state));
                    mail.attempts = mail.attempts.saturating_add(1);
                    mail.state = OutboxState::Waiting { next_at: lease_until };
                    let mut claim = of_state(mail.state);
                    claim.insert("attempts", i64::from(mail.attempts));
                    if self.outbox.update_one(as_read, doc! { "$set": claim }).await? {
                        claimed.push(mail);
                    }
                }
                // Where another node was quicker, others may be due behind those that it has claimed.
                if is_last {
                    break;
                }
            }
            Ok(claimed)
        })
        .await
    }

    async fn remove_mail(&self, id: Uuid) -> Result<bool, StoreError> {
        self.answer("remove the mail", Turn::IfWeak(OUTBOX), async {
            Ok(self.outbox.delete_many(doc! { "_id": id.to_string() }).await? > 0)
        })
        .await
    }

    async fn fail_mail(&self, failure: &MailFailure) -> Result<bool, StoreError> {
        self.answer("note the mail's failure", Turn::IfWeak(OUTBOX), async {
            let claimed = doc! {
                "_id": failure.id.to_string(),
                "attempts": i64::from(failure.attempts),
                "dead_since": Bson::Null,
            };
            let mut failed = of_state(failure.then);
            failed.insert("last_error", &failure.error);
            self.outbox.update_one(claimed, doc! { "$set": failed }).await
        })
        .await
    }

    async fn dead_letters(
        &self,
        after: Option<DeadLetterPosition>,
        limit: usize,
    ) -> Result<Vec<OutboxMail>, StoreError> {
        let mut after = after;
        let mut listed: Vec<OutboxMail> = Vec::new();
        while listed.len() < limit {
            let wanted = (limit - listed.len()).min(STEP);
            let filter = match after {
                None => doc! { "dead_since": { "$gte": Timestamp::MIN.as_millis() } },
                Some(DeadLetterPosition { since, id }) => doc! { "$or": [
                    { "dead_since": { "$lt": since.as_millis() } },
                    { "dead_since": since.as_millis(), "_id": { "$lt": id.to_string() } },
                ] },
            };
            let sort = doc! { "dead_since": -1, "_id": -1 };
            let query = Query { filter, sort, limit: Some(wanted), ..Query::default() };
            let letters = self
                .answer("list the dead letters", Turn::Any, async {
                    record::all(&self.outbox.find(query).await?, mail)
                })
                .await?;
            let is_last = letters.len() < wanted;
            after = letters.last().and_then(DeadLetterPosition::of);
            listed.extend(letters);
            if is_last {
                break;
            }
        }
        Ok(listed)
    }

    async fn outbox_size(&self) -> Result<OutboxSize, StoreError> {
        self.answer("count the mails", Turn::Any, async {
            let since = |field: &str| doc! { field: { "$gte": Timestamp::MIN.as_millis() } };
            let first = Query {
                filter: since("next_at"),
                sort: doc! { "next_at": 1, "_id": 1 },
                limit: Some(1),
                fields: doc! { "next_at": 1 },
            };
            let first = self.outbox.find(first).await?;
            Ok(OutboxSize {
                waiting: self.outbox.count(since("next_at")).await?,
                dead: self.outbox.count(since("dead_since")).await?,
                first_due: first.first().map(|mail| time(mail, "next_at")).transpose()?,
            })
        })
        .await
    }

    async fn retry_mail(&self, id: Uuid, now: Timestamp) -> Result<bool, StoreError> {
        self.answer("retry the mail", Turn::IfWeak(OUTBOX), async {
            let dead = doc! { "_id": id.to_string(), "next_at": Bson::Null };
            let mut waiting = of_state(OutboxState::Waiting { next_at: now });
            waiting.insert("attempts", 0_i64);
            self.outbox.update_one(dead, doc! { "$set": waiting }).await
        })
        .await
    }

    async fn purge_dead_letters(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        let old = doc! { "dead_since": { "$lt": before.as_millis() } };
        self.purge("purge dead letters", &self.outbox, old, doc! { "dead_since": 1 }, at_most).await
    }
}

fn of_state(state: OutboxState) -> Document {
    match state {
        OutboxState::Waiting { next_at } => doc! { "next_at": next_at.as_millis(), "dead_since": Bson::Null },
        OutboxState::Dead { since } => doc! { "next_at": Bson::Null, "dead_since": since.as_millis() },
    }
}

fn of_mail(mail: &OutboxMail) -> Document {
    let mut document = doc! {
        "_id": mail.id.to_string(),
        "to": mail.to.as_str(),
        "kind": &mail.kind,
        "user_id": mail.user_id.as_ref().map(UserId::as_str),
        "sealed": binary(&mail.sealed),
        "created_at": mail.created_at.as_millis(),
        "useless_after": optional_millis(mail.useless_after),
        "attempts": i64::from(mail.attempts),
        "last_error": mail.last_error.as_deref(),
    };
    document.extend(of_state(mail.state));
    document
}

fn mail(document: &RawDocument) -> Result<OutboxMail, Failure> {
    let times = (optional_time(document, "next_at")?, optional_time(document, "dead_since")?);
    Ok(OutboxMail {
        id: parsed(document, "_id", Uuid::try_parse)?,
        to: parsed(document, "to", EmailAddress::parse)?,
        kind: text(document, "kind")?.to_owned(),
        user_id: optional_parsed(document, "user_id", UserId::new)?,
        sealed: bytes(document, "sealed")?.to_vec(),
        created_at: time(document, "created_at")?,
        useless_after: optional_time(document, "useless_after")?,
        attempts: number(document, "attempts")?,
        state: match times {
            (Some(next_at), None) => OutboxState::Waiting { next_at },
            (None, Some(since)) => OutboxState::Dead { since },
            _ => {
                return Err(Failure::malformed(
                    "next_at",
                    "neither or both of a waiting and a dead mail's times",
                ));
            }
        },
        last_error: optional_text(document, "last_error")?.map(str::to_owned),
    })
}
