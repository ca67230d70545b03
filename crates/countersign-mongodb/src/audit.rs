//! The audit trail: one document for each record, which never changes.

use std::net::IpAddr;

use async_trait::async_trait;
use countersign_core::model::AuditRecord;
use countersign_core::store::{AuditPage, AuditStore, StoreError};
use countersign_jwt::{SessionId, Timestamp, UserId};
use mongodb::bson::{Document, RawDocument, doc};
use uuid::Uuid;

use crate::call::Failure;
use crate::field::{optional_parsed, optional_text, parsed, text, time};
use crate::locks::Turn;
use crate::record;
use crate::records::{Change, Query};
use crate::store::MongodbStore;

/// The number of records that one command inserts or reads.
const STEP: usize = 500;

#[async_trait]
impl AuditStore for MongodbStore {
    async fn insert_audit(&self, records: &[AuditRecord]) -> Result<(), StoreError> {
        for records in records.chunks(STEP) {
            // A record whose id is taken finds its document, and changes nothing in it.
            let inserts: Vec<_> = records
                .iter()
                .map(|record| Change {
                    filter: doc! { "_id": record.id.to_string() },
                    update: doc! { "$setOnInsert": of_record(record) },
                    upsert: true,
                })
                .collect();
            self.answer("insert audit records", Turn::Any, self.audit.change_all(&inserts)).await?;
        }
        Ok(())
    }

    async fn audit(&self, page: &AuditPage<'_>) -> Result<Vec<AuditRecord>, StoreError> {
        let mut after = page.after;
        let mut listed: Vec<AuditRecord> = Vec::new();
        while listed.len() < page.limit {
            let wanted = (page.limit - listed.len()).min(STEP);
            let mut filter = Document::new();
            if let Some(user_id) = page.user_id {
                filter.insert("user_id", user_id.as_str());
            }
            if let Some(name) = page.name {
                filter.insert("name", name);
            }
            if let Some(after) = after {
                let at = after.at.as_millis();
                let later = vec![
                    doc! { "at": { "$lt": at } },
                    doc! { "at": at, "_id": { "$lt": after.id.to_string() } },
                ];
                filter.insert("$or", later);
            }
            let sort = doc! { "at": -1, "_id": -1 };
            let query = Query { filter, sort, limit: Some(wanted), ..Query::default() };
            let records = self
                .answer("read the audit trail", Turn::Any, async {
                    record::all(&self.audit.find(query).await?, record_in)
                })
                .await?;
            let is_last = records.len() < wanted;
            after = records.last().map(AuditRecord::position);
            listed.extend(records);
            if is_last {
                break;
            }
        }
        Ok(listed)
    }

    async fn purge_audit(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        let old = doc! { "at": { "$lt": before.as_millis() } };
        self.purge("purge audit records", &self.audit, old, doc! { "at": 1, "_id": 1 }, at_most).await
    }
}

/// The fields of a record's document, without its `_id`.
fn of_record(record: &AuditRecord) -> Document {
    doc! {
        "at": record.at.as_millis(),
        "name": &record.name,
        "user_id": record.user_id.as_ref().map(UserId::as_str),
        "session_id": record.session_id.map(|id| id.to_string()),
        "ip": record.ip.map(|ip| ip.to_string()),
        "actor": record.actor.as_deref(),
        "detail": record.detail.as_deref(),
    }
}

fn record_in(document: &RawDocument) -> Result<AuditRecord, Failure> {
    Ok(AuditRecord {
        id: parsed(document, "_id", Uuid::try_parse)?,
        at: time(document, "at")?,
        name: text(document, "name")?.to_owned(),
        user_id: optional_parsed(document, "user_id", UserId::new)?,
        session_id: optional_parsed(document, "session_id", str::parse::<SessionId>)?,
        ip: optional_parsed(document, "ip", str::parse::<IpAddr>)?,
        actor: optional_text(document, "actor")?.map(str::to_owned),
        detail: optional_text(document, "detail")?.map(str::to_owned),
    })
}
