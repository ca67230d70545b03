//! The outbox, kept in PostgreSQL.

use async_trait::async_trait;
use countersign_core::model::OutboxMail;
use countersign_core::store::{DeadLetterPosition, MailFailure, OutboxSize, OutboxStore, StoreError};
use countersign_jwt::Timestamp;
use uuid::Uuid;

use super::{PostgresStore, Statement};
use crate::column::{before, limit};
use crate::record::{MailRecord, mail_state};

fn insert(mail: &OutboxMail) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO countersign.outbox (",
        mail_columns!(names),
        ")
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
    ON CONFLICT DO NOTHING"
    ))
    .bind_record(MailRecord::from(mail))
}

/// Claims the mails that are due. A mail that another node is claiming is left to that node.
fn claim(now: Timestamp, lease_until: Timestamp, at_most: usize) -> Statement<OutboxMail> {
    Statement::new(concat!(
        "
    WITH due AS MATERIALIZED (
        SELECT id AS due_id, next_at AS due_at FROM countersign.outbox WHERE next_at <= $1
        ORDER BY next_at, id LIMIT $3 FOR UPDATE SKIP LOCKED),
    claimed AS (
        UPDATE countersign.outbox SET attempts = least(attempts + 1, 4294967295), next_at = $2 FROM due
        WHERE id = due_id
        RETURNING due_at, ",
        mail_columns!(names),
        ")
    SELECT ",
        mail_columns!(names),
        " FROM claimed ORDER BY due_at, id"
    ))
    .bind(now)
    .bind(lease_until)
    .bind(limit(at_most))
}

fn delete(id: Uuid) -> Statement {
    Statement::new("DELETE FROM countersign.outbox WHERE id = $1").bind(id)
}

/// Notes a failure, if the mail's claim is still the one that failed.
fn fail(failure: &MailFailure) -> Statement {
    let (next_at, dead_since) = mail_state(failure.then);
    Statement::new(
        "
    UPDATE countersign.outbox SET next_at = $3, dead_since = $4, last_error = $5
    WHERE id = $1 AND attempts = $2 AND next_at IS NOT NULL",
    )
    .bind(failure.id)
    .bind(failure.attempts)
    .bind(next_at)
    .bind(dead_since)
    .bind(&failure.error)
}

/// A page of the dead letters, found in the index `outbox_dead_since`, from its end.
fn dead(after: Option<DeadLetterPosition>, at_most: usize) -> Statement<OutboxMail> {
    let (since, id) = before(after.as_ref());
    Statement::new(concat!(
        "
    SELECT ",
        mail_columns!(names),
        " FROM countersign.outbox
    WHERE (dead_since, id) < ($1, $2) AND dead_since IS NOT NULL ORDER BY dead_since DESC, id DESC LIMIT $3"
    ))
    .bind(since)
    .bind(id)
    .bind(limit(at_most))
}

/// How much is in the outbox. The counts are read from the indexes alone.
fn size() -> Statement<OutboxSize> {
    Statement::new(
        "
    SELECT (SELECT count(*) FROM countersign.outbox WHERE next_at IS NOT NULL),
        (SELECT count(*) FROM countersign.outbox WHERE dead_since IS NOT NULL),
        (SELECT min(next_at) FROM countersign.outbox WHERE next_at IS NOT NULL)",
    )
}

fn retry(id: Uuid, now: Timestamp) -> Statement {
    Statement::new(
        "
    UPDATE countersign.outbox SET next_at = $2, dead_since = NULL, attempts = 0
    WHERE id = $1 AND dead_since IS NOT NULL",
    )
    .bind(id)
    .bind(now)
}

/// Deletes old dead letters. A row that another node is deleting is left to that node.
fn purge(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    WITH old AS MATERIALIZED (
        SELECT id FROM countersign.outbox WHERE dead_since < $1 ORDER BY dead_since LIMIT $2
        FOR UPDATE SKIP LOCKED)
    DELETE FROM countersign.outbox USING old WHERE outbox.id = old.id",
    )
    .bind(before)
    .bind(limit(at_most))
}

#[async_trait]
impl OutboxStore for PostgresStore {
    async fn enqueue_mail(&self, mail: &OutboxMail) -> Result<bool, StoreError> {
        self.lanes.work.insert("put the mail into the outbox", insert(mail)).await
    }

    async fn claim_mail(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<OutboxMail>, StoreError> {
        self.lanes.work.write_returning("claim mails", claim(now, lease_until, limit)).await
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

#[cfg(test)]
mod tests {
    use countersign_core::model::OutboxState;

    use super::super::plans::Filled;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        let Some(mut filled) = Filled::open().await else { return };
        let (id, at) = (Uuid::from_u128(5), Timestamp::from_millis);
        let then = OutboxState::Dead { since: at(5) };
        let failure = MailFailure { id, attempts: 1, then, error: String::new() };
        filled.uses(claim(at(100), at(200), 10), "outbox_next_at").await;
        filled.uses(delete(id), "outbox_pkey").await;
        filled.uses(fail(&failure), "outbox_pkey").await;
        for after in [None, Some(DeadLetterPosition { since: at(10_000), id })] {
            filled.uses(dead(after, 100), "outbox_dead_since").await;
        }
        filled.uses(retry(id, at(5)), "outbox_pkey").await;
        filled.uses(purge(at(100), 10), "outbox_dead_since").await;
    }
}
