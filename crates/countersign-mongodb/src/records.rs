//! A collection, and the few operations that every relative of MongoDB has.

use futures_util::TryStreamExt as _;
use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::options::WriteConcern;
use mongodb::{Collection, Database};

use crate::call::{Failure, Lane, is_duplicate, pause};
use crate::field::number;

/// One collection, through the connections of one lane.
#[derive(Clone)]
pub(crate) struct Records {
    collection: Collection<RawDocumentBuf>,
    database: Database,
    lane: Lane,
}

/// A query: which documents to find, and in which order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) filter: Document,
    pub(crate) sort: Document,
    /// The largest number of documents; all of them, if there is none.
    pub(crate) limit: Option<usize>,
    /// The fields to return; all of them, if empty.
    pub(crate) fields: Document,
}

/// One statement of an `update` command.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) filter: Document,
    pub(crate) update: Document,
    pub(crate) upsert: bool,
}

impl Records {
    pub(crate) fn new(database: &Database, name: &str, lane: &Lane) -> Self {
        Self { collection: database.collection(name), database: database.clone(), lane: lane.clone() }
    }

    /// This collection, used through the connections of another lane.
    pub(crate) fn through(&self, database: &Database, lane: &Lane) -> Self {
        Self::new(database, self.collection.name(), lane)
    }

    pub(crate) async fn find_one(&self, filter: Document) -> Result<Option<RawDocumentBuf>, Failure> {
        let collection = self.collection.clone();
        self.lane.run(async move { collection.find_one(filter).await }).await
    }

    pub(crate) async fn find(&self, query: Query) -> Result<Vec<RawDocumentBuf>, Failure> {
        let Query { filter, sort, limit, fields } = query;
        // A limit of 0 would mean no limit to the server.
        if limit == Some(0) {
            return Ok(Vec::new());
        }
        let collection = self.collection.clone();
        self.lane
            .run(async move {
                let mut find = collection.find(filter);
                if !sort.is_empty() {
                    find = find.sort(sort);
                }
                if let Some(limit) = limit {
                    find = find.limit(i64::try_from(limit).unwrap_or(i64::MAX));
                    // The documents come in one answer, as far as they fit into one.
                    find = find.batch_size(u32::try_from(limit).unwrap_or(u32::MAX).min(MAX_BATCH));
                }
                if !fields.is_empty() {
                    find = find.projection(fields);
                }
                find.await?.try_collect().await
            })
            .await
    }

    /// The number of documents that match. It uses the old command, because the driver's own method uses an
    /// aggregation.
    pub(crate) async fn count(&self, filter: Document) -> Result<u64, Failure> {
        let command = doc! { "count": self.collection.name(), "query": filter };
        let database = self.database.clone();
        let count = async move { Ok(RawDocumentBuf::try_from(&database.run_command(command).await?)?) };
        number(&self.lane.run(count).await?, "n")
    }

    /// Inserts a document. Returns whether it did; the `_id` or another unique field may be taken.
    pub(crate) async fn insert(&self, document: &Document) -> Result<bool, Failure> {
        let collection = self.collection.clone_with_type::<Document>();
        let insert = || {
            let (collection, document) = (collection.clone(), document.clone());
            async move { collection.insert_one(document).await }
        };
        match self.lane.run_again(insert).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_duplicate() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Updates the document that matches. Returns whether there was one.
    pub(crate) async fn update_one(&self, filter: Document, update: Document) -> Result<bool, Failure> {
        let update = || {
            let (collection, filter, update) = (self.collection.clone(), filter.clone(), update.clone());
            async move { collection.update_one(filter, update).await }
        };
        Ok(self.lane.run_again(update).await?.matched_count > 0)
    }

    /// Updates the document that matches, or inserts it.
    pub(crate) async fn upsert(&self, filter: Document, update: Document) -> Result<(), Failure> {
        let mut tries = 0;
        loop {
            let upsert = || {
                let (collection, filter, update) = (self.collection.clone(), filter.clone(), update.clone());
                async move { collection.update_one(filter, update).upsert(true).await }
            };
            match self.lane.run_again(upsert).await {
                // Another operation inserted it at the same moment, so now there is a document to update.
                Err(error) if error.is_duplicate() && tries < UPSERT_TRIES => tries += 1,
                answer => return answer.map(|_| ()),
            }
            pause(tries).await;
        }
    }

    pub(crate) async fn update_many(&self, filter: Document, update: Document) -> Result<(), Failure> {
        let update = || {
            let (collection, filter, update) = (self.collection.clone(), filter.clone(), update.clone());
            async move { collection.update_many(filter, update).await }
        };
        self.lane.run_again(update).await.map(|_| ())
    }

    /// Deletes the documents that match. Returns their number.
    pub(crate) async fn delete_many(&self, filter: Document) -> Result<u64, Failure> {
        let delete = || {
            let (collection, filter) = (self.collection.clone(), filter.clone());
            async move { collection.delete_many(filter).await }
        };
        Ok(self.lane.run_again(delete).await?.deleted_count)
    }

    /// Makes these changes, in no particular order. Each is independent of the others, and may be made twice.
    pub(crate) async fn change_all(&self, changes: &[Change]) -> Result<(), Failure> {
        for changes in changes.chunks(CHANGES_AT_ONCE) {
            let mut tries = 0;
            loop {
                match self.change_some(changes).await {
                    Err(error) if error.is_duplicate() && tries < UPSERT_TRIES => tries += 1,
                    answer => break answer?,
                }
                pause(tries).await;
            }
        }
        Ok(())
    }

    /// Sends one `update` command with many statements. The `bulkWrite` command, for which the driver has a method,
    /// exists only in MongoDB 8.
    async fn change_some(&self, changes: &[Change]) -> Result<(), Failure> {
        let statements: Vec<_> = changes
            .iter()
            .map(|change| doc! { "q": &change.filter, "u": &change.update, "upsert": change.upsert })
            .collect();
        let mut command = doc! { "update": self.collection.name(), "ordered": false, "updates": statements };
        // `run_command` adds no write concern by itself.
        if let Some(concern) = self.collection.write_concern() {
            command.insert("writeConcern", write_concern(concern));
        }
        let database = self.database.clone();
        let answer = self.lane.run(async move { database.run_command(command).await }).await?;
        let errors = answer.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default();
        let mut duplicate = None;
        for error in errors.iter().filter_map(|error| error.as_document()) {
            let code = error.get_i32("code").unwrap_or_default();
            if !is_duplicate(code) {
                return Err(Failure::server(code, error.get_str("codeName").unwrap_or_default()));
            }
            duplicate = Some(Failure::server(code, "DuplicateKey"));
        }
        if let Some(duplicate) = duplicate {
            return Err(duplicate);
        }
        match answer.get_document("writeConcernError") {
            Ok(error) => Err(Failure::NotConfirmed {
                code: error.get_i32("code").unwrap_or_default(),
                name: error.get_str("codeName").unwrap_or_default().to_owned(),
            }),
            Err(_) => Ok(()),
        }
    }
}

fn write_concern(concern: &WriteConcern) -> Document {
    use mongodb::options::Acknowledgment;

    let mut document = Document::new();
    match &concern.w {
        Some(Acknowledgment::Nodes(nodes)) => {
            document.insert("w", i64::from(*nodes));
        }
        Some(Acknowledgment::Custom(tag)) => {
            document.insert("w", tag);
        }
        Some(_) => {
            document.insert("w", "majority");
        }
        None => {}
    }
    if let Some(journal) = concern.journal {
        document.insert("j", journal);
    }
    if let Some(timeout) = concern.w_timeout {
        document.insert("wtimeout", i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX));
    }
    document
}

/// The largest number of documents in one answer of a cursor.
const MAX_BATCH: u32 = 10_000;
/// The number of statements in one command, some hundred kilobytes.
const CHANGES_AT_ONCE: usize = 1_000;
const UPSERT_TRIES: u32 = 20;
