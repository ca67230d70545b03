//! The collections, their indexes, and their changes over time.

use std::time::Duration;

use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::options::IndexOptions;
use mongodb::{Collection, Database, IndexModel};

use crate::call::{Failure, Lane, pause, within};
use crate::field::number;
use crate::options::{MongodbOptions, OpenError};
use crate::records::Records;

pub(crate) const SESSIONS: &str = "session";
pub(crate) const LOG: &str = "revocation";
/// The collection of each user's last call of `revoke_tokens`, with the tokens that it was about to write.
pub(crate) const TOKEN_BATCHES: &str = "token_batch";
pub(crate) const ACCOUNTS: &str = "account";
pub(crate) const NAMES: &str = "account_name";
pub(crate) const SECRETS: &str = "one_time_secret";
/// The collection of the devices that each user has logged in on, one document for each user.
pub(crate) const DEVICES: &str = "known_devices";
pub(crate) const ADMIN_KEYS: &str = "admin_key";
pub(crate) const AUDIT: &str = "audit";
pub(crate) const OUTBOX: &str = "outbox";
pub(crate) const THROTTLES: &str = "throttle";
pub(crate) const KEYS: &str = "sealed_key";
/// The collection of single documents: the schema's version, the store's id, the settings, the number of the last user,
/// the bell.
pub(crate) const STORE: &str = "store";

/// The newest version of the collections that this program knows.
const VERSION: i64 = 3;

/// The `_id` of the document with the version.
const SCHEMA: &str = "schema";

/// The time after which a session or a counter that nobody purged is deleted. It is far longer than any clock is wrong.
const KEEP_FORGOTTEN: Duration = Duration::from_secs(30 * 86_400);

/// The time after which leftovers of a crash are deleted. It is far longer than any operation runs.
pub(crate) const KEEP_UNFINISHED: Duration = Duration::from_secs(86_400);

/// The longest time for making an index. Only an index of a later version, on a filled collection, would take long.
const INDEX_DEADLINE: Duration = Duration::from_secs(60);

/// The number of tries: several nodes may make the same collection at the same moment, which not every engine supports.
const TRIES: u32 = 20;

struct Index {
    collection: &'static str,
    keys: Document,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Plain,
    Unique,
    /// The server deletes a document this long after the time in the field.
    Ttl(Duration),
}

/// The indexes beside each collection's `_id`. That is the only unique index that all collections but the one of keys
/// need, so they can be sharded: any other unique index would have to begin with the shard key.
///
/// TTL indexes are on fields of their own, made from the server's clock or the store's, whichever is later. The log has
/// none, because no server could know when an entry may go: a `session` entry goes only after its row is marked, and a
/// user's highest entry never. The audit trail and the outbox have none, because how long their documents are kept is
/// the operator's choice.
fn indexes() -> Vec<Index> {
    let index = |collection, keys, kind| Index { collection, keys, kind };
    vec![
        // `{user_id: 1}` as a shard key needs this index as well.
        index(SESSIONS, doc! { "user_id": 1 }, Kind::Plain),
        // The order in which sessions are listed; a refresh changes none of these fields.
        index(SESSIONS, doc! { "user_id": 1, "ended_at": 1, "created_at": -1, "id": -1 }, Kind::Plain),
        index(SESSIONS, doc! { "absolute_until": 1 }, Kind::Plain),
        index(SESSIONS, doc! { "gone_at": 1 }, Kind::Ttl(KEEP_FORGOTTEN)),
        index(LOG, doc! { "user_id": 1, "kind": 1, "ref": 1, "n": 1 }, Kind::Plain),
        index(LOG, doc! { "at": 1 }, Kind::Plain),
        index(LOG, doc! { "kind": 1, "until": 1 }, Kind::Plain),
        index(TOKEN_BATCHES, doc! { "touched_at": 1 }, Kind::Ttl(KEEP_UNFINISHED)),
        index(ACCOUNTS, doc! { "pending_at": 1 }, Kind::Ttl(KEEP_UNFINISHED)),
        // The order in which accounts are listed.
        index(ACCOUNTS, doc! { "created_at": -1, "_id": -1 }, Kind::Plain),
        index(ACCOUNTS, doc! { "deleted_at": 1 }, Kind::Plain),
        index(SECRETS, doc! { "expires_at": 1 }, Kind::Plain),
        index(SECRETS, doc! { "gone_at": 1 }, Kind::Ttl(KEEP_FORGOTTEN)),
        index(DEVICES, doc! { "first_until": 1 }, Kind::Plain),
        index(DEVICES, doc! { "gone_at": 1 }, Kind::Ttl(KEEP_FORGOTTEN)),
        // The order in which the audit trail is read: all of it, of one user, of one name.
        index(AUDIT, doc! { "at": -1, "_id": -1 }, Kind::Plain),
        index(AUDIT, doc! { "user_id": 1, "at": -1, "_id": -1 }, Kind::Plain),
        index(AUDIT, doc! { "name": 1, "at": -1, "_id": -1 }, Kind::Plain),
        index(OUTBOX, doc! { "next_at": 1, "_id": 1 }, Kind::Plain),
        index(OUTBOX, doc! { "dead_since": -1, "_id": -1 }, Kind::Plain),
        index(THROTTLES, doc! { "touched_at": 1 }, Kind::Plain),
        index(THROTTLES, doc! { "gone_at": 1 }, Kind::Ttl(KEEP_FORGOTTEN)),
        index(KEYS, doc! { "key_id": 1 }, Kind::Unique),
    ]
}

/// Brings the collections up to date, or finds that they are.
pub(crate) async fn prepare(
    options: &MongodbOptions,
    database: &Database,
    connections: &Lane,
) -> Result<(), OpenError> {
    let store = Records::new(database, STORE, connections);
    let failed = |failure| options.failed("look at the collections", failure);
    let found = within(options.deadline, found(&store)).await.map_err(failed)?;
    match found {
        Some(VERSION) => Ok(()),
        Some(found) if found > VERSION => Err(OpenError::Newer { found, known: VERSION }),
        _ if !options.run_migrations => Err(OpenError::NotMigrated),
        _ => migrate(database, &store).await.map_err(|failure| options.failed("make the indexes", failure)),
    }
}

async fn found(store: &Records) -> Result<Option<i64>, Failure> {
    match store.find_one(doc! { "_id": SCHEMA }).await? {
        Some(document) => number(&document, "version").map(Some),
        None => Ok(None),
    }
}

/// Migrates the collections. Every step may be done twice, or by several nodes at once; the version is written last.
async fn migrate(database: &Database, store: &Records) -> Result<(), Failure> {
    let patient = Lane::new(1, INDEX_DEADLINE);
    for index in indexes() {
        make(database, &patient, index).await?;
    }
    store.upsert(doc! { "_id": SCHEMA }, doc! { "$max": { "version": VERSION } }).await
}

async fn make(database: &Database, connections: &Lane, index: Index) -> Result<(), Failure> {
    let Index { collection, keys, kind } = index;
    let records: Collection<RawDocumentBuf> = database.collection(collection);
    let mut model = IndexModel::builder().keys(keys.clone()).build();
    let mut options = IndexOptions::default();
    match kind {
        Kind::Plain => {}
        Kind::Unique => options.unique = Some(true),
        Kind::Ttl(after) => options.expire_after = Some(after),
    }
    model.options = Some(options);
    let mut tries = 0;
    loop {
        let (records, index) = (records.clone(), model.clone());
        match connections.run(async move { records.create_index(index).await }).await {
            Ok(_) => return Ok(()),
            Err(error) if matches!(kind, Kind::Ttl(_)) && error.is_not_implemented() => {
                tracing::info!(
                    collection,
                    "the server deletes nothing by itself (no TTL indexes); purging alone does"
                );
                model = IndexModel::builder().keys(keys.clone()).build();
            }
            Err(error @ Failure::Server { .. }) => {
                tries += 1;
                if tries > TRIES {
                    return Err(error);
                }
                pause(tries).await;
            }
            Err(error) => return Err(error),
        }
    }
}
