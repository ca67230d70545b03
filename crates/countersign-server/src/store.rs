//! Which engines keep what, and opening them.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use countersign_core::store::{StoreError, Stores};
use countersign_http::OsRandom;
use countersign_jwt::Secrets;
use countersign_jwt::random::uuid;
use countersign_mongodb::{MongodbOptions, MongodbStore};
use countersign_redis::{RedisOptions, RedisStore};
use countersign_sql::mysql::{MySqlOptions, MySqlStore};
use countersign_sql::postgres::{PostgresOptions, PostgresStore};
use countersign_sql::sqlite::{self, SqliteOptions, SqliteStore, open_with_secret};
use countersign_sql::{SecretFile, mysql, postgres};

use crate::settings::{SecretSource, Settings};

/// How to reach one engine, checked.
#[derive(Clone, Debug)]
pub(crate) enum Location {
    Sqlite(SqliteOptions),
    Postgres(Box<PostgresOptions>),
    Mysql(Box<MySqlOptions>),
    Mongodb(Box<MongodbOptions>),
    Redis(Box<RedisOptions>),
}

/// An engine, opened.
#[derive(Clone, Debug)]
enum Engine {
    Sqlite(Arc<SqliteStore>),
    Postgres(Arc<PostgresStore>),
    Mysql(Arc<MySqlStore>),
    Mongodb(Arc<MongodbStore>),
    Redis(Arc<RedisStore>),
}

/// Everything the server keeps, in one engine or two.
#[derive(Debug)]
pub(crate) struct Database {
    accounts: Engine,
    sessions: Option<Engine>,
}

/// What a URL may look like.
pub(crate) const URLS: &str = "sqlite:// and the path of a file, such as sqlite:///var/lib/countersign/countersign.db, or \
     postgres://, mysql://, mongodb:// or redis:// with user, password, host and database";

impl Location {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, without repeating it: it may hold a password. `None` if no engine has such URLs.
    pub(crate) fn parse(url: &str) -> Result<Self, Option<Box<dyn Error>>> {
        fn some(error: impl Error + 'static) -> Option<Box<dyn Error>> {
            Some(error.into())
        }
        match url.split(':').next().unwrap_or_default() {
            "sqlite" => SqliteOptions::from_url(url).map(Self::Sqlite).map_err(some),
            "postgres" | "postgresql" => {
                PostgresOptions::from_url(url).map(|options| Self::Postgres(options.into())).map_err(some)
            }
            "mysql" | "mariadb" => {
                MySqlOptions::from_url(url).map(|options| Self::Mysql(options.into())).map_err(some)
            }
            "mongodb" | "mongodb+srv" => {
                MongodbOptions::from_url(url).map(|options| Self::Mongodb(options.into())).map_err(some)
            }
            "redis" | "rediss" => {
                RedisOptions::from_url(url).map(|options| Self::Redis(options.into())).map_err(some)
            }
            _ => Err(None),
        }
    }

    /// Which engine it is.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
            Self::Mysql(_) => "mysql",
            Self::Mongodb(_) => "mongodb",
            Self::Redis(_) => "redis",
        }
    }

    async fn open(&self) -> Result<Engine, Unusable> {
        Ok(match self {
            Self::Sqlite(options) => Engine::Sqlite(Arc::new(self.used(SqliteStore::open(options).await)?)),
            Self::Postgres(options) => {
                Engine::Postgres(Arc::new(self.used(PostgresStore::open(options).await)?))
            }
            Self::Mysql(options) => Engine::Mysql(Arc::new(self.used(MySqlStore::open(options).await)?)),
            Self::Mongodb(options) => {
                Engine::Mongodb(Arc::new(self.used(MongodbStore::open(options).await)?))
            }
            Self::Redis(options) => Engine::Redis(Arc::new(self.used(RedisStore::open(options).await)?)),
        })
    }

    fn used<T>(&self, used: Result<T, impl Error + 'static>) -> Result<T, Unusable> {
        used.map_err(|error| Unusable { place: self.to_string(), source: error.into() })
    }

    /// The same, but a SQLite file that is missing is not made.
    fn existing(self) -> Self {
        match self {
            Self::Sqlite(options) => Self::Sqlite(options.create(false)),
            other => other,
        }
    }

    /// Creates its tables or brings them up to date.
    async fn migrate(&self) -> Result<(), Unusable> {
        match self {
            Self::Sqlite(options) => self.used(sqlite::migrate(options).await),
            Self::Postgres(options) => self.used(postgres::migrate(options).await),
            Self::Mysql(options) => self.used(mysql::migrate(options).await),
            Self::Mongodb(options) => self.used(countersign_mongodb::migrate(options).await),
            Self::Redis(options) => self.used(countersign_redis::migrate(options).await),
        }
    }
}

/// Where it is, and nothing secret.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(options) => options.fmt(f),
            Self::Postgres(options) => options.fmt(f),
            Self::Mysql(options) => options.fmt(f),
            Self::Mongodb(options) => options.fmt(f),
            Self::Redis(options) => options.fmt(f),
        }
    }
}

/// An engine that cannot be used as it is.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {place}")]
struct Unusable {
    place: String,
    source: Box<dyn Error>,
}

impl Database {
    /// Opens what the settings name, and the secret that seals the keys. Makes what is missing.
    pub(crate) async fn open(settings: &Settings) -> Result<(Self, Secrets), Box<dyn Error>> {
        Self::open_at(settings, settings.database.clone()).await
    }

    /// As the server does, but only a database that is there.
    pub(crate) async fn open_existing(settings: &Settings) -> Result<(Self, Secrets), Box<dyn Error>> {
        Self::open_at(settings, settings.database.clone().existing()).await
    }

    /// As [`Database::open_existing`], without the secret and the engine of the sessions: for looking at keys.
    pub(crate) async fn open_without_secret(settings: &Settings) -> Result<Self, Box<dyn Error>> {
        let accounts = settings.database.clone().existing().open().await?;
        Ok(Self { accounts, sessions: None })
    }

    async fn open_at(settings: &Settings, location: Location) -> Result<(Self, Secrets), Box<dyn Error>> {
        let (accounts, secrets) = match (&settings.secret, &location) {
            (SecretSource::Beside, Location::Sqlite(options)) => {
                let (store, secrets) = location.used(open_with_secret(options, &OsRandom).await)?;
                (Engine::Sqlite(Arc::new(store)), secrets)
            }
            (SecretSource::Beside, _) => {
                return Err("a database that machines share needs a secret that they share, which seals the keys in it: \
                     countersign key secret makes one; set COUNTERSIGN_SECRET to it, or COUNTERSIGN_SECRET_FILE to \
                     the path of a file with it, the same for every server"
                    .into());
            }
            (SecretSource::Given(text), _) => {
                let secrets = Secrets::parse(text).map_err(|error| format!("COUNTERSIGN_SECRET: {error}"))?;
                (location.open().await?, secrets)
            }
            (SecretSource::File(path), _) => {
                let engine = location.open().await?;
                let secrets = SecretFile::at(Path::new(path)).load(!engine.has_keys().await?)?;
                (engine, secrets)
            }
        };
        let sessions = match &settings.sessions {
            Some(location) => Some(location.open().await?),
            None => None,
        };
        Ok((Self { accounts, sessions }, secrets))
    }

    /// Creates the tables, in both engines if there are two, or brings them up to date; returns what to call them.
    pub(crate) async fn migrate(settings: &Settings) -> Result<Vec<String>, Box<dyn Error>> {
        let mut names = Vec::new();
        for location in [Some(&settings.database), settings.sessions.as_ref()].into_iter().flatten() {
            location.migrate().await?;
            names.push(location.to_string());
        }
        Ok(names)
    }

    /// What the library works with: accounts and keys from one engine; sessions, revocations and throttles from the
    /// other, if there is one.
    pub(crate) fn stores(&self) -> Stores {
        let accounts = self.accounts.stores();
        match &self.sessions {
            None => accounts,
            Some(sessions) => {
                let Stores { sessions, revocations, throttles, .. } = sessions.stores();
                Stores { sessions, revocations, throttles, ..accounts }
            }
        }
    }

    /// Where the sessions are, as all servers of a store must have it: the engine with its own id, which is made once and
    /// kept in it. Its address does not count, because servers may see it differently. A Redis that is allowed to lose
    /// everything loses its id as well, so there the kind alone counts.
    pub(crate) async fn place_of_sessions(&self, settings: &Settings) -> Result<String, StoreError> {
        let (Some(engine), Some(location)) = (&self.sessions, &settings.sessions) else {
            return Ok("in the database".to_owned());
        };
        if matches!(location, Location::Redis(options) if options.is_volatile()) {
            return Ok(location.kind().to_owned());
        }
        let candidate =
            uuid(&OsRandom).map_err(|error| StoreError::new(location.kind(), "be given an id", error))?;
        let id = engine.stores().keys.store_id(candidate).await?;
        Ok(format!("{} {id}", location.kind()))
    }

    /// When the server stops: makes SQLite files complete by themselves.
    pub(crate) async fn settle(&self) -> Result<(), StoreError> {
        for engine in [Some(&self.accounts), self.sessions.as_ref()].into_iter().flatten() {
            if let Engine::Sqlite(store) = engine {
                store.checkpoint().await?;
            }
        }
        Ok(())
    }
}

impl Engine {
    fn stores(&self) -> Stores {
        match self.clone() {
            Self::Sqlite(store) => store.into(),
            Self::Postgres(store) => store.into(),
            Self::Mysql(store) => store.into(),
            Self::Mongodb(store) => store.into(),
            Self::Redis(store) => store.into(),
        }
    }

    async fn has_keys(&self) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(store) => store.has_keys().await,
            Self::Postgres(store) => store.has_keys().await,
            Self::Mysql(store) => store.has_keys().await,
            Self::Mongodb(store) => store.has_keys().await,
            Self::Redis(store) => store.has_keys().await,
        }
    }
}
