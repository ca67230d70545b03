//! Many rows, fast, past our code where that would take minutes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign_core::model::{Device, Entry, Session, SessionSeed, Target};
use countersign_core::store::Stores;
use countersign_http::OsRandom;
use countersign_jwt::random::{bytes, uuid};
use countersign_jwt::{Epoch, Generation, SessionId, Timestamp, TokenId, UserId};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, doc};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, MySqlConnection, PgConnection};
use tokio::task::JoinSet;

use super::{Database, Engine};

/// How many writers there are where rows go through the store. They share commits.
const WRITERS: usize = 256;
/// How many rows a statement inserts.
const ROWS: usize = 10_000;

const DAY: Duration = Duration::from_secs(86_400);
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0";

/// As many sessions of as many users, none of whom has an account.
pub(crate) async fn sessions(database: &Database, stores: &Stores, count: usize, now: Timestamp) {
    let (at, idle, absolute) = (now.as_millis(), (now + 14 * DAY).as_millis(), (now + 90 * DAY).as_millis());
    let columns = "(user_id, id, epoch, generation, issued_at, acknowledged_at, heals, healed_run, seed, \
        created_at, last_seen_at, idle_until, absolute_until, user_agent, ip, ended_at, end_reason)";
    let row = |uuid: &str, seed: &str| {
        format!(
            "{uuid}, {uuid}, 0, 0, {at}, NULL, 0, 0, {seed}, {at}, {at}, {idle}, {absolute}, '{AGENT}', \
             '192.0.2.7', NULL, NULL"
        )
    };
    match database.engine {
        Engine::Sqlite => {
            let row = row(SQLITE_UUID, "randomblob(32)");
            let insert = |_, rows| format!("INSERT INTO session {columns} {}", sqlite_rows(&row, rows));
            run(database, count, insert).await;
        }
        Engine::Postgres => {
            let row = row(POSTGRES_UUID, "decode(repeat('07', 32), 'hex')");
            let insert =
                |_, rows| format!("INSERT INTO countersign.session {columns} {}", postgres_rows(&row, rows));
            run(database, count, insert).await;
        }
        Engine::Mysql => {
            let row = row(MYSQL_UUID, "RANDOM_BYTES(32)");
            let insert =
                |_, rows| format!("INSERT INTO countersign_session {columns} {}", mysql_rows(&row, rows));
            run(database, count, insert).await;
        }
        Engine::Redis => {
            through_the_store(count, stores, move |stores, _| async move {
                stores.sessions().insert_session(&session(at)).await.unwrap();
            })
            .await;
        }
        Engine::Mongodb => {
            let document = |_| {
                let session = session(at);
                let (user_id, id) = (session.user_id.as_str(), session.id.to_string());
                doc! {
                    "_id": format!("{user_id}\t{id}"),
                    "user_id": user_id,
                    "id": id,
                    "epoch": 0_i64,
                    "seed": Binary { subtype: BinarySubtype::Generic, bytes: session.seed.as_bytes().to_vec() },
                    "created_at": at,
                    "absolute_until": absolute,
                    "ended_at": Bson::Null,
                    "end_reason": Bson::Null,
                    "gone_at": DateTime::from_millis(absolute),
                    "generation": 0_i64,
                    "issued_at": at,
                    "acknowledged_at": Bson::Null,
                    "heals": 0_i64,
                    "healed_run": 0_i64,
                    "last_seen_at": at,
                    "idle_until": idle,
                    "user_agent": AGENT,
                    "ip": "192.0.2.7",
                }
            };
            insert_documents(database, "session", count, document).await;
        }
    }
}

/// As many entries of the log, written one after the other in the last quarter of an hour, all of them live: 45 % tokens, 45 % sessions, 10 % users.
pub(crate) async fn revocations(database: &Database, stores: &Stores, count: usize, now: Timestamp) {
    let columns = "(user_id, kind, ref, n, except_session, until, at)";
    let uuid = match database.engine {
        Engine::Sqlite => SQLITE_UUID,
        Engine::Postgres => POSTGRES_UUID,
        Engine::Mysql => MYSQL_UUID,
        Engine::Redis => {
            return through_the_store(count, stores, move |stores, number| async move {
                let entry = entry(number, written_at(number, count, now));
                stores.revocations().insert_entry(&entry).await.unwrap();
            })
            .await;
        }
        Engine::Mongodb => {
            let document = |number| {
                let entry = entry(number, written_at(number, count, now));
                let key = entry.key();
                let n = i64::try_from(key.number).unwrap();
                doc! {
                    "_id": format!("{}\t{}\t{}\t{n:020}", key.user_id, key.kind, key.reference),
                    "user_id": key.user_id,
                    "kind": key.kind,
                    "ref": key.reference,
                    "n": n,
                    "except": Bson::Null,
                    "until": entry.until.as_millis(),
                    "at": entry.at.as_millis(),
                }
            };
            return insert_documents(database, "revocation", count, document).await;
        }
    };
    let mut before = 0;
    for (kind, of_kind) in [("token", count * 45 / 100), ("session", count * 45 / 100), ("user", count / 10)]
    {
        let insert = |done, rows| {
            let at = written_at(before + done, count, now);
            let (at, until) = (at.as_millis(), (at + DAY).as_millis());
            let row = match kind {
                "user" => format!("{uuid}, 'user', '', 1, NULL, {until}, {at}"),
                kind => format!("{uuid}, '{kind}', {uuid}, 0, NULL, {until}, {at}"),
            };
            let (table, rows) = match database.engine {
                Engine::Sqlite => ("revocation", sqlite_rows(&row, rows)),
                Engine::Postgres => ("countersign.revocation", postgres_rows(&row, rows)),
                _ => ("countersign_revocation", mysql_rows(&row, rows)),
            };
            format!("INSERT INTO {table} {columns} {rows}")
        };
        run(database, of_kind, insert).await;
        before += of_kind;
    }
}

/// They were written one after the other, in the last quarter of an hour.
fn written_at(number: usize, count: usize, now: Timestamp) -> Timestamp {
    const TAKEN: Duration = Duration::from_secs(900);
    now - TAKEN + TAKEN.mul_f64(number as f64 / count as f64)
}

fn new_uuid() -> uuid::Uuid {
    uuid(&OsRandom).unwrap()
}

fn session(at: i64) -> Session {
    let at = Timestamp::from_millis(at);
    Session {
        user_id: new_uuid().into(),
        id: SessionId::new(new_uuid()),
        epoch: Epoch::FIRST,
        generation: Generation::FIRST,
        issued_at: at,
        acknowledged_at: None,
        heals: 0,
        healed_run: 0,
        seed: SessionSeed::new(bytes(&OsRandom).unwrap()),
        created_at: at,
        last_seen_at: at,
        idle_until: at + 14 * DAY,
        absolute_until: at + 90 * DAY,
        device: Device::new(Some(AGENT), Some("192.0.2.7".parse().unwrap())),
        ended: None,
    }
}

fn entry(number: usize, at: Timestamp) -> Entry {
    let user_id: UserId = new_uuid().into();
    let target = match number % 20 {
        0..9 => Target::Token { user_id, id: TokenId::new(new_uuid()) },
        9..18 => Target::Session { user_id, id: SessionId::new(new_uuid()) },
        _ => Target::User { user_id, epoch: Epoch::new(1), except: None },
    };
    Entry { target, until: at + DAY, at }
}

const SQLITE_UUID: &str = "lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-' || hex(randomblob(2)) || '-' || \
    hex(randomblob(2)) || '-' || hex(randomblob(6)))";
const POSTGRES_UUID: &str = "gen_random_uuid()::text";
const MYSQL_UUID: &str = "LOWER(CONCAT_WS('-', HEX(RANDOM_BYTES(4)), HEX(RANDOM_BYTES(2)), HEX(RANDOM_BYTES(2)), \
    HEX(RANDOM_BYTES(2)), HEX(RANDOM_BYTES(6))))";

fn sqlite_rows(row: &str, rows: usize) -> String {
    format!(
        "WITH RECURSIVE number (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM number WHERE i < {rows})
         SELECT {row} FROM number"
    )
}

fn postgres_rows(row: &str, rows: usize) -> String {
    format!("SELECT {row} FROM generate_series(1, {rows})")
}

/// Without recursion, whose limit MySQL and MariaDB set in different ways.
fn mysql_rows(row: &str, rows: usize) -> String {
    let digits = (0..10).map(|digit| format!("SELECT {digit}")).collect::<Vec<_>>().join(" UNION ALL ");
    format!(
        "WITH digit AS ({digits}) SELECT {row} FROM digit a, digit b, digit c, digit d LIMIT {}",
        rows.min(ROWS)
    )
}

/// Runs statements that insert, and leaves the engine as it would be some time later.
async fn run(database: &Database, count: usize, insert: impl Fn(usize, usize) -> String) {
    let steps = (0..count).step_by(ROWS);
    let steps = steps.map(|done| AssertSqlSafe(insert(done, ROWS.min(count - done))));
    match database.engine {
        Engine::Sqlite => {
            let options = SqliteConnectOptions::new().filename(&database.url);
            let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Off);
            let options = options.busy_timeout(Duration::from_secs(60)).disable_statement_logging();
            let mut connection = options.connect().await.unwrap();
            for step in steps {
                sqlx::raw_sql(step).execute(&mut connection).await.unwrap();
            }
            sqlx::raw_sql("PRAGMA wal_checkpoint(PASSIVE)").execute(&mut connection).await.unwrap();
        }
        Engine::Postgres => {
            let mut connection = PgConnection::connect(&database.url).await.unwrap();
            sqlx::raw_sql("SET synchronous_commit = off").execute(&mut connection).await.unwrap();
            for step in steps {
                sqlx::raw_sql(step).execute(&mut connection).await.unwrap();
            }
            sqlx::raw_sql("ANALYZE").execute(&mut connection).await.unwrap();
        }
        Engine::Mysql => {
            let mut connection = MySqlConnection::connect(&database.url).await.unwrap();
            for step in steps {
                sqlx::raw_sql(step).execute(&mut connection).await.unwrap();
            }
        }
        Engine::Redis | Engine::Mongodb => {}
    }
}

async fn through_the_store<F>(
    count: usize,
    stores: &Stores,
    insert: impl Fn(Stores, usize) -> F + Clone + Send + 'static,
) where
    F: Future<Output = ()> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (stores, next, insert) = (stores.clone(), next.clone(), insert.clone());
        writers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return;
                }
                insert(stores.clone(), number).await;
            }
        });
    }
    writers.join_all().await;
}

async fn insert_documents(
    database: &Database,
    collection: &str,
    count: usize,
    document: impl Fn(usize) -> Document,
) {
    let client = mongodb::Client::with_uri_str(&database.url).await.unwrap();
    let collection = client.database(&database.name).collection::<Document>(collection);
    for done in (0..count).step_by(ROWS) {
        let documents = (done..count.min(done + ROWS)).map(&document);
        collection.insert_many(documents).await.unwrap();
    }
}
