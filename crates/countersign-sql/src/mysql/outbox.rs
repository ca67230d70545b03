//! The outbox, kept in MySQL or MariaDB.

use async_trait::async_trait;
use countersign_core::model::OutboxMail;
use countersign_core::store::{DeadLetterPosition, MailFailure, OutboxSize, OutboxStore, StoreError};
use countersign_jwt::Timestamp;
use uuid::Uuid;

use super::{MySqlStore, Statement};
use crate::column::{before, limit};
use crate::record::{MailRecord, claimed, mail_state};

pub(super) fn insert(mail: &OutboxMail) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO countersign_outbox (",
        mail_columns!(names),
        ")
    VALUES (",
        mail_columns!(marks),
        ")"
    ))
    .bind_record(MailRecord::from(mail))
}

/// Reads and locks the mails that are due. A mail that another node is claiming is left to that node.
pub(super) fn due(now: Timestamp, at_most: usize) -> Statement<OutboxMail> {
    Statement::new(concat!(
        "SELECT ",
        mail_columns!(converted),
        " FROM countersign_outbox AS mail FORCE INDEX (next_at)
    WHERE mail.next_at <= ? ORDER BY mail.next_at, mail.id LIMIT ? FOR UPDATE SKIP LOCKED"
    ))
    .bind(now)
    .bind(limit(at_most))
}

/// Claims mails that are due. The middle part of the text is repeated for each.
pub(super) fn claim(mails: &[OutboxMail], lease_until: Timestamp) -> Statement {
    const PARTS: [&str; 3] = [
        "UPDATE countersign_outbox SET attempts = LEAST(attempts + 1, 4294967295), next_at = ? WHERE id IN (",
        "?",
        ")",
    ];
    // Rounded up as in `acknowledge`, so that there are few different statements.
    let length = mails.len().next_power_of_two();
    let statement = Statement::repeating(PARTS, ", ", length).bind(lease_until);
    mails.iter().cycle().take(length).fold(statement, |statement, mail| statement.bind(mail.id))
}

pub(super) fn delete(id: Uuid) -> Statement {
    Statement::new("DELETE FROM countersign_outbox WHERE id = ?").bind(id)
}

/// Notes a failure, if the mail's claim is still the one that failed.
pub(super) fn fail(failure: &MailFailure) -> Statement {
    let (next_at, dead_since) = mail_state(failure.then);
    Statement::new(
        "
    UPDATE countersign_outbox SET next_at = ?, dead_since = ?, last_error = ?
    WHERE id = ? AND attempts = ? AND next_at IS NOT NULL",
    )
    .bind(next_at)
    .bind(dead_since)
    .bind(&failure.error)
    .bind(failure.id)
    .bind(failure.attempts)
}

/// A page of the dead letters, found in the index `dead_since`, from its end.
pub(super) fn dead(after: Option<DeadLetterPosition>, at_most: usize) -> Statement<OutboxMail> {
    let (since, id) = before(after.as_ref());
    Statement::new(concat!(
        "SELECT ",
        mail_columns!(converted),
        " FROM countersign_outbox AS mail FORCE INDEX (dead_since)
    WHERE mail.dead_since <= ? AND (mail.dead_since < ? OR mail.id < ?)
    ORDER BY mail.dead_since DESC, mail.id DESC LIMIT ?"
    ))
    .bind(since)
    .bind(since)
    .bind(id)
    .bind(limit(at_most))
}

/// How much is in the outbox. The counts are read from the indexes alone.
pub(super) fn size() -> Statement<OutboxSize> {
    Statement::new(
        "
    SELECT (SELECT count(*) FROM countersign_outbox WHERE next_at IS NOT NULL),
        (SELECT count(*) FROM countersign_outbox WHERE dead_since IS NOT NULL),
        (SELECT min(next_at) FROM countersign_outbox WHERE next_at IS NOT NULL)",
    )
}

pub(super) fn retry(id: Uuid, now: Timestamp) -> Statement {
    Statement::new(
        "
    UPDATE countersign_outbox SET next_at = ?, dead_since = NULL, attempts = 0
    WHERE id = ? AND dead_since IS NOT NULL",
    )
    .bind(now)
    .bind(id)
}

pub(super) fn purge(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    DELETE FROM countersign_outbox WHERE dead_since < ? ORDER BY dead_since LIMIT ?",
    )
    .bind(before)
    .bind(limit(at_most))
}

#[async_trait]
impl OutboxStore for MySqlStore {
    async fn enqueue_mail(&self, mail: &OutboxMail) -> Result<bool, StoreError> {
        self.lanes.work.insert("put the mail into the outbox", insert(mail)).await
    }

    async fn claim_mail(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<OutboxMail>, StoreError> {
        let due = &due(now, limit);
        let claimed = self.lanes.work.transaction("claim mails", |mut transaction| async move {
            let mails = transaction.read(due).await?;
            if mails.is_empty() {
                transaction.undo().await?;
                return Ok(mails);
            }
            transaction.write(&claim(&mails, lease_until)).await?;
            transaction.commit().await?;
            Ok(mails.into_iter().map(|mail| claimed(mail, lease_until)).collect())
        });
        claimed.await
    }

    async fn remove_mail(&self, id: Uuid) -> Result<bool, StoreError> {
        Ok(self.lanes.work.write("remove the mail", delete(id)).await? > 0)
    }

    async fn fail_mail(&self, failure: &MailFailure) -> Result<bool, StoreError> {
        Ok(self.lanes.work.write("note that the mail was not sent", fail(failure)).await? > 0)
    }

    async fn dead_letters(
        &self,
        after: Option<DeadLetterPosition>,
        limit: usize,
    ) -> Result<Vec<OutboxMail>, StoreError> {
        self.lanes.lists.read("list the dead letters", dead(after, limit)).await
    }

    async fn outbox_size(&self) -> Result<OutboxSize, StoreError> {
        self.lanes.lists.only("count the mails", size()).await
    }

    async fn retry_mail(&self, id: Uuid, now: Timestamp) -> Result<bool, StoreError> {
        Ok(self.lanes.work.write("make the mail wait again", retry(id, now)).await? > 0)
    }

    async fn purge_dead_letters(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.lanes.work.purge("purge dead letters", limit, |step| purge(before, step)).await
    }
}
