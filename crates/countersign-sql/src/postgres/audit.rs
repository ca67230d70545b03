//! The audit trail, kept in PostgreSQL.

use async_trait::async_trait;
use countersign_core::model::AuditRecord;
use countersign_core::store::{AuditPage, AuditStore, StoreError};
use countersign_jwt::Timestamp;

use super::{PostgresStore, Statement};
use crate::column::{before, limit};
use crate::record::AuditRow;

/// Inserts many records at once, without those whose ids are taken.
fn insert(records: &[AuditRecord]) -> Statement {
    let rows: Vec<_> = records.iter().map(AuditRow::from).collect();
    Statement::new(concat!(
        "
    INSERT INTO countersign.audit (",
        audit_columns!(names),
        ")
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
    ON CONFLICT DO NOTHING"
    ))
    .bind_list(rows.iter().map(|row| row.id.to_string()))
    .bind_list(rows.iter().map(|row| row.at))
    .bind_list(rows.iter().map(|row| row.name.to_string()))
    .bind_list(rows.iter().map(|row| row.user_id.as_deref().map(str::to_owned)))
    .bind_list(rows.iter().map(|row| row.session_id.as_deref().map(str::to_owned)))
    .bind_list(rows.iter().map(|row| row.ip.as_deref().map(str::to_owned)))
    .bind_list(rows.iter().map(|row| row.actor.as_deref().map(str::to_owned)))
    .bind_list(rows.iter().map(|row| row.detail.as_deref().map(str::to_owned)))
}

/// A page of the trail under one more condition.
macro_rules! page {
    ($condition:literal) => {
        concat!(
            "
    SELECT ",
            audit_columns!(names),
            " FROM countersign.audit
    WHERE (at, id) < ($1, $2)",
            $condition,
            " ORDER BY at DESC, id DESC LIMIT $3"
        )
    };
}

/// A page of the trail, found in the primary key, or in the index of the user's or the name's records, from its end.
fn list(page: &AuditPage<'_>) -> Statement<AuditRecord> {
    let (at, id) = before(page.after.as_ref());
    let list = |sql| Statement::new(sql).bind(at).bind(id).bind(limit(page.limit));
    match (page.user_id, page.name) {
        (None, None) => list(page!("")),
        (Some(user_id), None) => list(page!(" AND user_id = $4")).bind(user_id),
        (None, Some(name)) => list(page!(" AND name = $4")).bind(name),
        (Some(user_id), Some(name)) => {
            list(page!(" AND user_id = $4 AND name = $5")).bind(user_id).bind(name)
        }
    }
}

/// Deletes the oldest records. A row that another node is deleting is left to that node.
fn purge(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    WITH old AS MATERIALIZED (
        SELECT at, id FROM countersign.audit WHERE at < $1 ORDER BY at, id LIMIT $2 FOR UPDATE SKIP LOCKED)
    DELETE FROM countersign.audit USING old WHERE audit.at = old.at AND audit.id = old.id",
    )
    .bind(before)
    .bind(limit(at_most))
}

/// How many records one statement inserts.
const INSERT_STEP: usize = 1_000;

#[async_trait]
impl AuditStore for PostgresStore {
    async fn insert_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        for records in records.chunks(INSERT_STEP) {
            self.lanes.work.write("insert into the audit trail", insert(records)).await?;
        }
        Ok(())
    }

    async fn audit(&self, page: &AuditPage<'_>) -> Result<Vec<AuditRecord>, StoreError> {
        self.lanes.lists.read("read the audit trail", list(page)).await
    }

    async fn purge_audit(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.lanes.work.purge("purge the audit trail", limit, |step| purge(before, step)).await
    }
}

#[cfg(test)]
mod tests {
    use countersign_core::model::AuditPosition;
    use countersign_jwt::UserId;
    use uuid::Uuid;

    use super::super::plans::Filled;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        let Some(mut filled) = Filled::open().await else { return };
        let (ada, at) = (&UserId::new("user 5").unwrap(), Timestamp::from_millis);
        for after in [None, Some(AuditPosition { at: at(10_000), id: Uuid::from_u128(5) })] {
            let page = |user_id, name| AuditPage { user_id, name, after, limit: 100 };
            filled.uses(list(&page(None, None)), "audit_pkey").await;
            filled.uses(list(&page(Some(ada), None)), "audit_of_user").await;
            filled.uses(list(&page(None, Some("event 5"))), "audit_of_name").await;
            filled.uses(list(&page(Some(ada), Some("event 5"))), "audit_of_user").await;
        }
        filled.uses(purge(at(100), 10), "audit_pkey").await;
    }
}
