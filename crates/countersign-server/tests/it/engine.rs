//! The engines on which the server is tested: a fresh database on each of the servers that `./test` has started.

use std::sync::atomic::{AtomicU32, Ordering};

use countersign_testkit::{Proxy, server_url};
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection, PgConnection};

use crate::server::{Folder, Server};

/// Seals the keys of every test's database.
const SECRET: &str = "3q2+7wAAAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBk=";

/// Which engine.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
    Mysql,
    Mongodb,
    Redis,
    /// Accounts in PostgreSQL, sessions in Redis.
    PostgresAndRedis,
}

impl Kind {
    fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Sqlite => &[],
            Self::Postgres => &["TEST_POSTGRES_URL"],
            Self::Mysql => &["TEST_MYSQL_URL"],
            Self::Mongodb => &["TEST_MONGODB_URL"],
            Self::Redis => &["TEST_REDIS_URL"],
            Self::PostgresAndRedis => &["TEST_POSTGRES_URL", "TEST_REDIS_URL"],
        }
    }
}

/// Makes a test on each engine of `async fn name(engine: &Engine)`.
macro_rules! on_every_engine {
    ($($name:ident)*) => {
        on_every_engine!(@ sqlite Sqlite: $($name)*);
        on_every_engine!(@ postgres Postgres: $($name)*);
        on_every_engine!(@ mysql Mysql: $($name)*);
        on_every_engine!(@ mongodb Mongodb: $($name)*);
        on_every_engine!(@ redis Redis: $($name)*);
        on_every_engine!(@ postgres_and_redis PostgresAndRedis: $($name)*);
    };
    (@ $module:ident $kind:ident: $($name:ident)*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    let Some(engine) = $crate::engine::Engine::new($crate::engine::Kind::$kind).await else { return };
                    super::$name(&engine).await;
                    engine.drop().await;
                }
            )*
        }
    };
}
pub(crate) use on_every_engine;

/// A database of its own on one engine, or on two, gone with the test.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) kind: Kind,
    pub(crate) folder: Folder,
    /// Accounts and keys.
    pub(crate) database: String,
    /// Sessions, where they are somewhere else.
    sessions: Option<String>,
}

impl Engine {
    /// An empty database; `None` if the engine is left out on purpose.
    pub(crate) async fn new(kind: Kind) -> Option<Self> {
        let mut urls = Vec::new();
        for variable in kind.variables() {
            let Some(url) = server_url(variable) else {
                println!("LEFT OUT: {variable} is none");
                return None;
            };
            urls.push(url);
        }
        let folder = Folder::new();
        let mut databases = Vec::new();
        for url in urls {
            databases.push(create(&url).await);
        }
        let mut databases = databases.into_iter();
        let database = databases.next().unwrap_or_else(|| "sqlite://countersign.db".to_owned());
        Some(Self { kind, folder, database, sessions: databases.next() })
    }

    /// The settings with which a server uses this database.
    pub(crate) fn settings(&self) -> Vec<(&str, &str)> {
        let mut settings =
            vec![("COUNTERSIGN_DATABASE_URL", self.database.as_str()), ("COUNTERSIGN_SECRET", SECRET)];
        if let Some(sessions) = &self.sessions {
            settings.push(("COUNTERSIGN_SESSIONS_URL", sessions));
        }
        if self.kind == Kind::Mongodb {
            // What stands in for MongoDB may be a relative that is refused without it.
            settings.push(("COUNTERSIGN_ACCEPT_WEAK_STORE", "yes"));
        }
        settings
    }

    pub(crate) async fn serve(&self) -> Server {
        self.serve_with(&[]).await
    }

    pub(crate) async fn serve_with(&self, more: &[(&str, &str)]) -> Server {
        self.folder.serve_with(&[&self.settings(), more].concat()).await
    }

    /// A server that reaches the engine of its sessions only through a proxy.
    pub(crate) async fn serve_behind_a_proxy(&self) -> (Server, Proxy) {
        let url = self.sessions.as_ref().unwrap_or(&self.database);
        let proxy = Proxy::to_server_of(url).await;
        let name =
            if self.sessions.is_some() { "COUNTERSIGN_SESSIONS_URL" } else { "COUNTERSIGN_DATABASE_URL" };
        let server = self.serve_with(&[(name, &proxy.url(url))]).await;
        (server, proxy)
    }

    pub(crate) async fn nodes(&self, count: usize) -> Vec<Server> {
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(self.serve().await);
        }
        nodes
    }

    /// Removes the database.
    pub(crate) async fn drop(self) {
        for url in [Some(&self.database), self.sessions.as_ref()].into_iter().flatten() {
            remove(url).await;
        }
    }
}

/// A name that no other test uses, in this process or another.
fn unique() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!(
        "countersign_test_{}_{}_{number}",
        std::process::id(),
        countersign_jwt::random::uuid(&countersign_http::OsRandom).unwrap().simple()
    )
}

/// Creates a database on this server; returns its URL.
async fn create(server: &str) -> String {
    let name = unique();
    let mut url = url::Url::parse(server).unwrap();
    match url.scheme() {
        "postgres" => {
            let mut connection = PgConnection::connect(server).await.unwrap();
            let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
            sqlx::raw_sql(create).execute(&mut connection).await.unwrap();
            url.set_path(&name);
        }
        "mysql" => {
            let mut connection = MySqlConnection::connect(server).await.unwrap();
            let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
            sqlx::raw_sql(create).execute(&mut connection).await.unwrap();
            url.set_path(&name);
        }
        "mongodb" => url.set_path(&name),
        "redis" => {
            url.query_pairs_mut().append_pair("prefix", &name);
        }
        scheme => panic!("no engine has URLs of {scheme}"),
    }
    url.into()
}

/// Removes what [`create`] made.
async fn remove(database: &str) {
    let url = url::Url::parse(database).unwrap();
    let name = url.path().trim_start_matches('/').to_owned();
    match url.scheme() {
        "postgres" => {
            let server = std::env::var("TEST_POSTGRES_URL").unwrap();
            let mut connection = PgConnection::connect(&server).await.unwrap();
            let drop = AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"));
            sqlx::raw_sql(drop).execute(&mut connection).await.unwrap();
        }
        "mysql" => {
            let server = std::env::var("TEST_MYSQL_URL").unwrap();
            let mut connection = MySqlConnection::connect(&server).await.unwrap();
            let drop = AssertSqlSafe(format!("DROP DATABASE {name}"));
            sqlx::raw_sql(drop).execute(&mut connection).await.unwrap();
        }
        "mongodb" => {
            let client = mongodb::Client::with_uri_str(database).await.unwrap();
            client.database(&name).drop().await.unwrap();
        }
        "redis" => {
            let prefix = url.query_pairs().find(|(key, _)| key == "prefix").unwrap().1.into_owned();
            let server = std::env::var("TEST_REDIS_URL").unwrap();
            let client = redis::Client::open(server).unwrap();
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            let keys: Vec<Vec<u8>> =
                redis::cmd("KEYS").arg(format!("{prefix}*")).query_async(&mut connection).await.unwrap();
            for keys in keys.chunks(1_000) {
                let () = redis::cmd("UNLINK").arg(keys).query_async(&mut connection).await.unwrap();
            }
        }
        _ => {}
    }
}
