//! The audit trail, kept in SQLite.

use async_trait::async_trait;
use countersign_core::model::AuditRecord;
use countersign_core::store::{AuditPage, AuditStore, StoreError};
use countersign_jwt::Timestamp;

use super::{SqliteStore, Statement, Undo};
use crate::column::{before, limit};
use crate::purge::in_steps;
use crate::record::AuditRow;

/// Inserts a record unless its id is taken.
fn insert(record: &AuditRecord) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO audit (",
        audit_columns!(names),
        ")
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
    ON CONFLICT DO NOTHING"
    ))
    .bind_record(AuditRow::from(record))
}

/// A page of the trail under one more condition.
macro_rules! page {
    ($condition:literal) => {
        concat!(
            "
    SELECT ",
            audit_columns!(names),
            " FROM audit
    WHERE (at, id) < (?1, ?2)",
            $condition,
            " ORDER BY at DESC, id DESC LIMIT ?3"
        )
    };
}

/// A page of the trail, found in the primary key, or in the index of the user's or the name's records, from its end.
fn list(page: &AuditPage<'_>) -> Statement<AuditRecord> {
    let (at, id) = before(page.after.as_ref());
    let list = |sql| Statement::new(sql).bind(at).bind(id).bind(limit(page.limit));
    match (page.user_id, page.name) {
        (None, None) => list(page!("")),
        (Some(user_id), None) => list(page!(" AND user_id = ?4")).bind(user_id),
        (None, Some(name)) => list(page!(" AND name = ?4")).bind(name),
        (Some(user_id), Some(name)) => {
            list(page!(" AND user_id = ?4 AND name = ?5")).bind(user_id).bind(name)
        }
    }
}

/// Deletes the oldest records.
fn purge(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    DELETE FROM audit WHERE (at, id) IN (SELECT at, id FROM audit WHERE at < ?1 ORDER BY at, id LIMIT ?2)",
    )
    .bind(before)
    .bind(limit(at_most))
}

/// How many records one write inserts, so that it does not delay the others.
const INSERT_STEP: usize = 100;

#[async_trait]
impl AuditStore for SqliteStore {
    async fn insert_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        for records in records.chunks(INSERT_STEP) {
            let statements: Vec<_> = records.iter().map(insert).collect();
            // Each record stands for itself, so those inserted before a failure may stay.
            self.writes("insert into the audit trail", Undo::Statement, move |connection| {
                Box::pin(async move {
                    for statement in statements {
                        statement.changes(connection).await?;
                    }
                    Ok(())
                })
            })
            .await?;
        }
        Ok(())
    }

    async fn audit(&self, page: &AuditPage<'_>) -> Result<Vec<AuditRecord>, StoreError> {
        self.read("read the audit trail", &self.lists, list(page)).await
    }

    async fn purge_audit(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        in_steps(limit, |step| self.write("purge the audit trail", purge(before, step))).await
    }
}

#[cfg(test)]
mod tests {
    use countersign_jwt::UserId;
    use uuid::Uuid;

    use super::super::plan;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        let (ada, at) = (&UserId::from(Uuid::from_u128(1)), Timestamp::MIN);
        let page = |user_id, name| AuditPage { user_id, name, after: None, limit: 5 };
        for (sql, plan) in [
            plan(list(&page(None, None))).await,
            plan(list(&page(Some(ada), None))).await,
            plan(list(&page(None, Some("login_failed")))).await,
            plan(list(&page(Some(ada), Some("login_failed")))).await,
            plan(purge(at, 5)).await,
        ] {
            assert!(!plan.contains("SCAN"), "{sql}: {plan}");
            assert!(!plan.contains("ORDER BY"), "{sql}: {plan}");
        }
    }
}
