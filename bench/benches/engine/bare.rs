//! What an engine does without any of our code: durable updates of single rows, by their primary key, through the same
//! driver.

use std::str::FromStr;
use std::time::Duration;

use countersign_core::model::UserSession;
use mongodb::bson::{Document, doc};
use mongodb::options::{Acknowledgment, ClientOptions, WriteConcern};
use mongodb::{Client, Collection};
use redis::aio::MultiplexedConnection;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, MySqlConnection, PgConnection, SqliteConnection};

use super::{Database, Engine};
use crate::node::Worker;

/// How many connections update at once where a connection does one thing at a time.
pub(crate) const CONNECTIONS: usize = 32;

/// Updates one row after the other.
pub(crate) struct Updater {
    connection: Connection,
    keys: Vec<UserSession>,
    next: usize,
}

enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    Mysql(MySqlConnection),
    Redis(MultiplexedConnection, String),
    Mongodb(Collection<Document>),
}

/// That many who update, each its own rows, as far as they do not share a connection.
pub(crate) async fn updaters(database: &Database, mut count: usize, keys: &[UserSession]) -> Vec<Updater> {
    if matches!(database.engine, Engine::Sqlite | Engine::Postgres | Engine::Mysql) {
        count = count.min(CONNECTIONS);
    }
    let first = Connection::open(database, count).await;
    let mut updaters = Vec::with_capacity(count);
    for keys in keys.chunks(keys.len().div_ceil(count)) {
        let connection = match &first {
            Connection::Redis(connection, prefix) => Connection::Redis(connection.clone(), prefix.clone()),
            Connection::Mongodb(collection) => Connection::Mongodb(collection.clone()),
            _ => Connection::open(database, count).await,
        };
        updaters.push(Updater { connection, keys: keys.to_vec(), next: 0 });
    }
    updaters
}

impl Connection {
    async fn open(database: &Database, count: usize) -> Self {
        let url = &database.url;
        match database.engine {
            Engine::Sqlite => {
                let options = SqliteConnectOptions::new().filename(url).journal_mode(SqliteJournalMode::Wal);
                let options = options.synchronous(SqliteSynchronous::Full);
                let options = options.busy_timeout(Duration::from_secs(60)).disable_statement_logging();
                Self::Sqlite(options.connect().await.unwrap())
            }
            Engine::Postgres => {
                let options = PgConnectOptions::from_str(url).unwrap().disable_statement_logging();
                Self::Postgres(options.connect().await.unwrap())
            }
            Engine::Mysql => {
                let options = MySqlConnectOptions::from_str(url).unwrap().disable_statement_logging();
                Self::Mysql(options.connect().await.unwrap())
            }
            Engine::Redis => {
                let client = redis::Client::open(database.server.as_str()).unwrap();
                let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
                let connection = client.get_multiplexed_async_connection_with_config(&config).await;
                Self::Redis(connection.unwrap(), database.name.clone())
            }
            Engine::Mongodb => {
                let mut options = ClientOptions::parse(url).await.unwrap();
                options.max_pool_size = Some(u32::try_from(count).unwrap());
                let mut concern = WriteConcern::default();
                concern.w = Some(Acknowledgment::Majority);
                concern.journal = Some(true);
                options.write_concern = Some(concern);
                let client = Client::with_options(options).unwrap();
                Self::Mongodb(client.database(&database.name).collection("session"))
            }
        }
    }
}

impl Worker for Updater {
    /// Nothing that a refresh asks for is touched, so that refreshes may follow.
    async fn step(&mut self) {
        let key = self.keys.get(self.next % self.keys.len()).unwrap();
        self.next += 1;
        let (user_id, id) = (key.user_id.as_str(), key.id.to_string());
        match &mut self.connection {
            Connection::Sqlite(connection) => {
                let update =
                    "UPDATE session SET last_seen_at = last_seen_at + 1 WHERE user_id = ?1 AND id = ?2";
                let updated = sqlx::query(update).bind(user_id).bind(&id).execute(connection).await.unwrap();
                assert_eq!(updated.rows_affected(), 1);
            }
            Connection::Postgres(connection) => {
                let update = "UPDATE countersign.session SET last_seen_at = last_seen_at + 1
                    WHERE user_id = $1 AND id = $2";
                let updated = sqlx::query(update).bind(user_id).bind(&id).execute(connection).await.unwrap();
                assert_eq!(updated.rows_affected(), 1);
            }
            Connection::Mysql(connection) => {
                let update = "UPDATE countersign_session SET last_seen_at = last_seen_at + 1
                    WHERE user_id = ? AND id = ?";
                let update = sqlx::query(update).bind(user_id.as_bytes()).bind(id.as_bytes());
                assert_eq!(update.execute(connection).await.unwrap().rows_affected(), 1);
            }
            Connection::Redis(connection, prefix) => {
                let mut set = redis::cmd("SET");
                set.arg(format!("{prefix}:bare:{id}")).arg(ROW);
                let () = set.query_async(connection).await.unwrap();
            }
            Connection::Mongodb(sessions) => {
                let filter = doc! { "_id": format!("{user_id}\t{id}") };
                let updated = sessions.update_one(filter, doc! { "$inc": { "last_seen_at": 1_i64 } }).await;
                assert_eq!(updated.unwrap().matched_count, 1);
            }
        }
    }
}

/// As long as a session in Redis.
const ROW: &[u8] = &[b'7'; 220];
