//! The outbox, kept in SQLite.

use async_trait::async_trait;
use countersign_core::model::OutboxMail;
use countersign_core::store::{DeadLetterPosition, MailFailure, OutboxSize, OutboxStore, StoreError};
use countersign_jwt::Timestamp;
use uuid::Uuid;

use super::{SqliteStore, Statement, Undo};
use crate::column::{before, limit};
use crate::purge::in_steps;
use crate::record::{MailRecord, claimed, mail_state};

fn insert(mail: &OutboxMail) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO outbox (",
        mail_columns!(names),
        ")
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
    ON CONFLICT DO NOTHING"
    ))
    .bind_record(MailRecord::from(mail))
}

/// The mails that are due.
fn due(now: Timestamp, at_most: usize) -> Statement<OutboxMail> {
    Statement::new(concat!(
        "
    SELECT ",
        mail_columns!(names),
        " FROM outbox WHERE next_at <= ?1 ORDER BY next_at, id LIMIT ?2"
    ))
    .bind(now)
    .bind(limit(at_most))
}

fn claim(id: Uuid, lease_until: Timestamp) -> Statement {
    Statement::new("UPDATE outbox SET attempts = min(attempts + 1, 4294967295), next_at = ?2 WHERE id = ?1")
        .bind(id)
        .bind(lease_until)
}

fn delete(id: Uuid) -> Statement {
    Statement::new("DELETE FROM outbox WHERE id = ?1").bind(id)
}

/// Notes a failure, if the mail's claim is still the one that failed.
fn fail(failure: &MailFailure) -> Statement {
    let (next_at, dead_since) = mail_state(failure.then);
    Statement::new(
        "
    UPDATE outbox SET next_at = ?3, dead_since = ?4, last_error = ?5
    WHERE id = ?1 AND attempts = ?2 AND next_at IS NOT NULL",
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
        " FROM outbox
    WHERE (dead_since, id) < (?1, ?2) AND dead_since IS NOT NULL ORDER BY dead_since DESC, id DESC LIMIT ?3"
    ))
    .bind(since)
    .bind(id)
    .bind(limit(at_most))
}

/// How much is in the outbox. The counts are read from the indexes alone.
fn size() -> Statement<OutboxSize> {
    Statement::new(
        "
    SELECT (SELECT count(*) FROM outbox WHERE next_at IS NOT NULL),
        (SELECT count(*) FROM outbox WHERE dead_since IS NOT NULL),
        (SELECT min(next_at) FROM outbox WHERE next_at IS NOT NULL)",
    )
}

fn retry(id: Uuid, now: Timestamp) -> Statement {
    Statement::new(
        "
    UPDATE outbox SET next_at = ?2, dead_since = NULL, attempts = 0
    WHERE id = ?1 AND dead_since IS NOT NULL",
    )
    .bind(id)
    .bind(now)
}

fn purge(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    DELETE FROM outbox WHERE id IN
        (SELECT id FROM outbox WHERE dead_since < ?1 ORDER BY dead_since LIMIT ?2)",
    )
    .bind(before)
    .bind(limit(at_most))
}

#[async_trait]
impl OutboxStore for SqliteStore {
    async fn enqueue_mail(&self, mail: &OutboxMail) -> Result<bool, StoreError> {
        Ok(self.write("put the mail into the outbox", insert(mail)).await? > 0)
    }

    async fn claim_mail(
        &self,
        now: Timestamp,
        lease_until: Timestamp,
        limit: usize,
    ) -> Result<Vec<OutboxMail>, StoreError> {
        let due = due(now, limit);
        self.writes("claim mails", Undo::Savepoint, move |connection| {
            Box::pin(async move {
                let mails = due.all(connection).await?;
                for mail in &mails {
                    claim(mail.id, lease_until).changes(connection).await?;
                }
                Ok(mails.into_iter().map(|mail| claimed(mail, lease_until)).collect())
            })
        })
        .await
    }

    async fn remove_mail(&self, id: Uuid) -> Result<bool, StoreError> {
        Ok(self.write("remove the mail", delete(id)).await? > 0)
    }

    async fn fail_mail(&self, failure: &MailFailure) -> Result<bool, StoreError> {
        Ok(self.write("note that the mail was not sent", fail(failure)).await? > 0)
    }

    async fn dead_letters(
        &self,
        after: Option<DeadLetterPosition>,
        limit: usize,
    ) -> Result<Vec<OutboxMail>, StoreError> {
        self.read("list the dead letters", &self.lists, dead(after, limit)).await
    }

    async fn outbox_size(&self) -> Result<OutboxSize, StoreError> {
        self.only("count the mails", &self.lists, size()).await
    }

    async fn retry_mail(&self, id: Uuid, now: Timestamp) -> Result<bool, StoreError> {
        Ok(self.write("make the mail wait again", retry(id, now)).await? > 0)
    }

    async fn purge_dead_letters(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        in_steps(limit, |step| self.write("purge dead letters", purge(before, step))).await
    }
}

#[cfg(test)]
mod tests {
    use countersign_core::model::OutboxState;

    use super::super::plan;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        let (id, at) = (Uuid::from_u128(1), Timestamp::MIN);
        let then = OutboxState::Dead { since: at };
        let failure = MailFailure { id, attempts: 1, then, error: String::new() };
        for (sql, plan) in [
            plan(due(at, 5)).await,
            plan(claim(id, at)).await,
            plan(delete(id)).await,
            plan(fail(&failure)).await,
            plan(dead(None, 5)).await,
            plan(retry(id, at)).await,
            plan(purge(at, 5)).await,
        ] {
            assert!(!plan.contains("SCAN"), "{sql}: {plan}");
            assert!(!plan.contains("ORDER BY"), "{sql}: {plan}");
        }
    }
}
