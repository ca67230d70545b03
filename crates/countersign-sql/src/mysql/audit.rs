//! The audit trail, kept in MySQL or MariaDB.

use async_trait::async_trait;
use countersign_core::model::AuditRecord;
use countersign_core::store::{AuditPage, AuditStore, StoreError};
use countersign_jwt::Timestamp;

use super::{MySqlStore, Statement};
use crate::column::{before, limit};
use crate::record::AuditRow;

/// Inserts many records at once, without those whose ids are taken. (It is not `INSERT IGNORE`, because MySQL would
/// then also ignore that a value is too long, and cut it.) The middle part of the text is repeated for each record.
pub(super) fn insert(records: &[AuditRecord]) -> Statement {
    const PARTS: [&str; 3] = [
        concat!("INSERT INTO countersign_audit (", audit_columns!(names), ") VALUES "),
        concat!("(", audit_columns!(marks), ")"),
        " ON DUPLICATE KEY UPDATE id = id",
    ];
    // Rounded up as in `acknowledge`, so that there are few different statements.
    let length = records.len().next_power_of_two();
    let statement = Statement::repeating(PARTS, ", ", length);
    let repeated = records.iter().cycle().take(length);
    repeated.fold(statement, |statement, record| statement.bind_record(AuditRow::from(record)))
}

/// A page of the trail from an index, under one more condition. The condition for the place that the page comes after
/// is written out, because the servers find no range for a comparison of rows.
macro_rules! page {
    ($index:literal, $condition:literal) => {
        concat!(
            "SELECT ",
            audit_columns!(converted),
            " FROM countersign_audit AS record FORCE INDEX (",
            $index,
            ")
    WHERE ",
            $condition,
            "record.at <= ? AND (record.at < ? OR record.id < ?)
    ORDER BY record.at DESC, record.id DESC LIMIT ?"
        )
    };
}

/// A page of the trail, found in the primary key, or in the index of the user's or the name's records, from its end.
pub(super) fn list(page: &AuditPage<'_>) -> Statement<AuditRecord> {
    let (at, id) = before(page.after.as_ref());
    let list = match (page.user_id, page.name) {
        (None, None) => Statement::new(page!("PRIMARY", "")),
        (Some(user_id), None) => Statement::new(page!("of_user", "record.user_id = ? AND ")).bind(user_id),
        (None, Some(name)) => Statement::new(page!("of_name", "record.name = ? AND ")).bind(name),
        (Some(user_id), Some(name)) => {
            Statement::new(page!("of_user", "record.user_id = ? AND record.name = ? AND "))
                .bind(user_id)
                .bind(name)
        }
    };
    list.bind(at).bind(at).bind(id).bind(limit(page.limit))
}

pub(super) fn purge(before: Timestamp, at_most: usize) -> Statement {
    Statement::new("DELETE FROM countersign_audit WHERE at < ? ORDER BY at, id LIMIT ?")
        .bind(before)
        .bind(limit(at_most))
}

/// How many records one statement inserts.
const INSERT_STEP: usize = 128;

#[async_trait]
impl AuditStore for MySqlStore {
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
