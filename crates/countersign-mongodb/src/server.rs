//! The kind of server, and where it is weaker than the store's promises.

use countersign_jwt::Timestamp;
use futures_util::future::join_all;
use mongodb::Database;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Document, doc};

use crate::call::{Failure, Lane};
use crate::records::Records;

/// What a server reports about itself.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) time: Timestamp,
    /// Whether the server stands alone, without another one that could take its place.
    pub(crate) is_standalone: bool,
}

/// Asks the primary what kind of server it is.
pub(crate) async fn hello(database: &Database, connections: &Lane) -> Result<Server, Failure> {
    let answer = match command(database, connections, doc! { "hello": 1 }).await {
        // The command's older name.
        Err(error) if error.is_not_implemented() => {
            command(database, connections, doc! { "isMaster": 1 }).await?
        }
        answer => answer?,
    };
    let time = answer.get_datetime("localTime").map_err(|error| Failure::malformed("localTime", error))?;
    let is_member = answer.contains_key("setName");
    let is_router =
        answer.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") || answer.contains_key("serviceId");
    Ok(Server {
        time: Timestamp::from_millis(time.timestamp_millis()),
        is_standalone: !is_member && !is_router,
    })
}

/// Whether the server's data is lost when it stops; `None` where the server does not tell.
pub(crate) async fn is_volatile(database: &Database, connections: &Lane) -> Result<Option<bool>, Failure> {
    match command(database, connections, doc! { "serverStatus": 1 }).await {
        Ok(answer) => {
            let engine = answer.get_document("storageEngine");
            Ok(engine.and_then(|engine| engine.get_bool("persistent")).ok().map(|persistent| !persistent))
        }
        // The user may have no right to ask.
        Err(Failure::Server { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn command(database: &Database, connections: &Lane, command: Document) -> Result<Document, Failure> {
    let database = database.clone();
    connections.run(async move { database.run_command(command).await }).await
}

/// Whether exactly one of concurrent updates succeeds, under a condition that the first one makes untrue.
///
/// Some relatives of MongoDB look for the document first and write it afterwards, whatever it has become: on FerretDB
/// 1.24, two of 16 such updates can both win. The race shows only at times, so several rounds are run.
pub(crate) async fn updates_are_atomic(store: &Records) -> Result<bool, Failure> {
    let probe = doc! { "_id": format!("probe {}", ObjectId::new()) };
    let mut document = probe.clone();
    document.insert("round", 0_i64);
    store.insert(&document).await?;
    let mut atomic = true;
    for round in 0..PROBE_ROUNDS {
        let updates = (0..PROBE_CALLERS).map(|caller| {
            let mut filter = probe.clone();
            filter.insert("round", round);
            store.update_one(filter, doc! { "$set": { "round": round + 1, "by": caller } })
        });
        let mut winners = 0;
        for won in join_all(updates).await {
            winners += u32::from(won?);
        }
        atomic &= winners == 1;
        if !atomic {
            break;
        }
    }
    store.delete_many(probe).await?;
    Ok(atomic)
}

const PROBE_ROUNDS: i64 = 8;
const PROBE_CALLERS: i64 = 16;
