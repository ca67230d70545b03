//! The engines under measurement: a fresh database on each, gone afterwards.
#![allow(
    dead_code,
    unused_imports,
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark, each of which uses a part of this"
)]

mod bare;
mod fill;

use std::env;
use std::sync::Arc;

use countersign_core::store::Stores;
use countersign_http::OsRandom;
use countersign_mongodb::{MongodbOptions, MongodbStore};
use countersign_redis::{RedisOptions, RedisStore};
use countersign_sql::mysql::{MySqlOptions, MySqlStore};
use countersign_sql::postgres::{PostgresOptions, PostgresStore};
use countersign_sql::sqlite::{SqliteOptions, SqliteStore};
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection, PgConnection};
use tempfile::TempDir;

pub(crate) use bare::{CONNECTIONS, updaters};
pub(crate) use fill::{revocations, sessions};

/// Which engine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
    Mysql,
    Redis,
    Mongodb,
}

impl Engine {
    pub(crate) const ALL: [Self; 5] = [Self::Sqlite, Self::Postgres, Self::Mysql, Self::Redis, Self::Mongodb];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Redis => "redis",
            Self::Mongodb => "mongodb",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.name() == name)
    }

    /// Where the URL of a running server is; none for SQLite, which needs no server.
    fn variable(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some("TEST_POSTGRES_URL"),
            Self::Mysql => Some("TEST_MYSQL_URL"),
            Self::Redis => Some("TEST_REDIS_URL"),
            Self::Mongodb => Some("TEST_MONGODB_URL"),
        }
    }

    /// An empty database. `None` if there is no server, which is said.
    pub(crate) async fn fresh(self) -> Option<Database> {
        let name = format!("bench_{}", countersign_jwt::random::uuid(&OsRandom).unwrap().simple());
        let Some(variable) = self.variable() else {
            // Not in /tmp, which may be memory.
            let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            let url = folder.path().join(&name).to_str().unwrap().to_owned();
            return Some(Database { engine: self, server: url.clone(), url, name, _folder: Some(folder) });
        };
        let server = env::var(variable).ok().filter(|url| url != "none");
        let Some(server) = server else {
            println!("LEFT OUT: {}, because {variable} names no server", self.name());
            return None;
        };
        let mut url = url::Url::parse(&server).unwrap();
        match self {
            Self::Redis => {
                url.query_pairs_mut().append_pair("prefix", &name);
            }
            _ => url.set_path(&name),
        }
        let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        match self {
            Self::Postgres => {
                let mut connection = PgConnection::connect(&server).await.unwrap();
                sqlx::raw_sql(create).execute(&mut connection).await.unwrap();
            }
            Self::Mysql => {
                let mut connection = MySqlConnection::connect(&server).await.unwrap();
                sqlx::raw_sql(create).execute(&mut connection).await.unwrap();
            }
            _ => {}
        }
        Some(Database { engine: self, server, url: url.into(), name, _folder: None })
    }
}

/// A database, or a prefix, that nobody else uses. Removed when it is dropped, also by a panic.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) engine: Engine,
    server: String,
    /// For SQLite a path.
    url: String,
    name: String,
    _folder: Option<TempDir>,
}

impl Database {
    /// Stores with connections of their own, with the defaults of the engine.
    pub(crate) async fn open(&self) -> Stores {
        let url = &self.url;
        match self.engine {
            Engine::Sqlite => SqliteStore::open(&SqliteOptions::new(url)).await.unwrap().into(),
            Engine::Postgres => {
                PostgresStore::open(&PostgresOptions::from_url(url).unwrap()).await.unwrap().into()
            }
            Engine::Mysql => MySqlStore::open(&MySqlOptions::from_url(url).unwrap()).await.unwrap().into(),
            Engine::Redis => RedisStore::open(&RedisOptions::from_url(url).unwrap()).await.unwrap().into(),
            Engine::Mongodb => {
                let options = MongodbOptions::from_url(url).unwrap();
                Arc::new(MongodbStore::open(&options).await.unwrap()).into()
            }
        }
    }

    async fn remove(&self) {
        match self.engine {
            Engine::Sqlite => {}
            Engine::Postgres => {
                let mut connection = PgConnection::connect(&self.server).await.unwrap();
                let drop = AssertSqlSafe(format!("DROP DATABASE {} WITH (FORCE)", self.name));
                sqlx::raw_sql(drop).execute(&mut connection).await.unwrap();
            }
            Engine::Mysql => {
                let mut connection = MySqlConnection::connect(&self.server).await.unwrap();
                let drop = AssertSqlSafe(format!("DROP DATABASE {}", self.name));
                sqlx::raw_sql(drop).execute(&mut connection).await.unwrap();
            }
            Engine::Redis => self.remove_keys().await,
            Engine::Mongodb => {
                let client = mongodb::Client::with_uri_str(&self.url).await.unwrap();
                client.database(&self.name).drop().await.unwrap();
            }
        }
    }

    async fn remove_keys(&self) {
        let client = redis::Client::open(self.server.as_str()).unwrap();
        // Its default deadline is half a second.
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{}*", self.name)).arg("COUNT").arg(10_000);
            let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut connection).await.unwrap();
            if !keys.is_empty() {
                let () = redis::cmd("UNLINK").arg(keys).query_async(&mut connection).await.unwrap();
            }
            cursor = next;
            if cursor == 0 {
                return;
            }
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        std::thread::scope(|scope| {
            let removing = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(self.remove());
            });
            // Its own panic would hide another one.
            let _removed = removing.join();
        });
    }
}
