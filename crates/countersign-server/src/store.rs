//! Which engines keep the server's data, and how they are opened.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use countersign_core::store::{OpenStore, StoreError, Stores, Weakness};
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

/// A checked address of one engine.
#[derive(Clone, Debug)]
pub(crate) enum StoreLocation {
    Sqlite(SqliteOptions),
    Postgres(Box<PostgresOptions>),
    Mysql(Box<MySqlOptions>),
    Mongodb(Box<MongodbOptions>),
    Redis(Box<RedisOptions>),
}

/// Everything that the server keeps, in one engine or two.
#[derive(Debug)]
pub(crate) struct Database {
    accounts: Arc<dyn OpenStore>,
    sessions: Option<Arc<dyn OpenStore>>,
}

/// The URLs that the server accepts.
pub(crate) const URLS: &str = "sqlite:// and the path of a file, such as sqlite:///var/lib/countersign/countersign.db, or \
     postgres://, mysql://, mongodb:// or redis:// with user, password, host and database";

impl StoreLocation {
    /// Reads the URL of an engine.
    ///
    /// # Errors
    /// What is wrong with the URL, without repeating it, because it may hold a password. `None` if no engine has such
    /// URLs.
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

    async fn open(&self) -> Result<Arc<dyn OpenStore>, Unusable> {
        Ok(match self {
            Self::Sqlite(options) => Arc::new(self.used(SqliteStore::open(options).await)?),
            Self::Postgres(options) => Arc::new(self.used(PostgresStore::open(options).await)?),
            Self::Mysql(options) => Arc::new(self.used(MySqlStore::open(options).await)?),
            Self::Mongodb(options) => Arc::new(self.used(MongodbStore::open(options).await)?),
            Self::Redis(options) => Arc::new(self.used(RedisStore::open(options).await)?),
        })
    }

    fn used<T>(&self, used: Result<T, impl Error + 'static>) -> Result<T, Unusable> {
        used.map_err(|error| Unusable { place: self.to_string(), source: error.into() })
    }

    /// The same location, except that it is opened only if it is there and up to date, and then as it is.
    fn unchanged(self) -> Self {
        match self {
            Self::Sqlite(options) => Self::Sqlite(options.create(false).run_migrations(false)),
            Self::Postgres(options) => Self::Postgres(Box::new(options.run_migrations(false))),
            Self::Mysql(options) => Self::Mysql(Box::new(options.run_migrations(false))),
            Self::Mongodb(options) => Self::Mongodb(Box::new(options.run_migrations(false))),
            Self::Redis(options) => Self::Redis(Box::new(options.run_migrations(false))),
        }
    }

    /// The same location, except that a missing SQLite file is not created.
    fn existing(self) -> Self {
        match self {
            Self::Sqlite(options) => Self::Sqlite(options.create(false)),
            other => other,
        }
    }

    /// Creates the engine's tables or brings them up to date.
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

/// Shows where the engine is, and nothing secret.
impl fmt::Display for StoreLocation {
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

/// An engine that cannot be used in its present state.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {place}")]
pub(crate) struct Unusable {
    place: String,
    source: Box<dyn Error>,
}

impl Unusable {
    /// Whether the engine answers, but its tables are those of an earlier version, or are not there yet.
    pub(crate) fn is_outdated(&self) -> bool {
        let cause = &*self.source;
        matches!(cause.downcast_ref(), Some(countersign_sql::OpenError::NotMigrated))
            || matches!(cause.downcast_ref(), Some(countersign_mongodb::OpenError::NotMigrated))
            || matches!(cause.downcast_ref(), Some(countersign_redis::OpenError::NotMigrated { .. }))
    }
}

/// An engine on which two servers may both make a step that only one of them may make.
#[derive(Debug, thiserror::Error)]
#[error(
    "updates under a condition are not atomic there: when several servers get a refresh token at the same time, more than \
     one may exchange it, and then nobody notices that it was stolen. Use MongoDB itself or another engine, keep the \
     sessions in another engine (--sessions), or accept it with --accept-weak-store or COUNTERSIGN_ACCEPT_WEAK_STORE=yes; \
     one server alone is exact (docs/stores.md)"
)]
struct UnsettledRaces;

/// How an engine for sessions is treated on which two servers may both make the same step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Races {
    /// The engine is refused, because several servers may work on it.
    MustBeSettled,
    /// The engine is used.
    MayBeUnsettled,
}

impl Races {
    /// The treatment of such an engine when the server serves.
    fn of(settings: &Settings) -> Self {
        if settings.accept_weak_store { Self::MayBeUnsettled } else { Self::MustBeSettled }
    }

    fn check(self, location: &StoreLocation, store: &dyn OpenStore) -> Result<(), Unusable> {
        let is_weak = store.weaknesses().contains(&Weakness::UnsettledRaces);
        location.used(if is_weak && self == Self::MustBeSettled { Err(UnsettledRaces) } else { Ok(()) })
    }
}

/// The error for a shared database without a secret.
pub(crate) const NO_SHARED_SECRET: &str = "a database that machines share needs a secret that they share, which seals the keys in it: \
     countersign key secret makes one; set COUNTERSIGN_SECRET to it, or COUNTERSIGN_SECRET_FILE to \
     the path of a file with it, the same for every server";

/// The secret that has sealed the keys of an existing database: the one that the settings name, or the one beside the
/// SQLite file.
///
/// # Errors
/// What is wrong with it, or that it is missing. None is made.
pub(crate) fn existing_secrets(settings: &Settings) -> Result<Secrets, Box<dyn Error>> {
    Ok(match (&settings.secret, &settings.database) {
        (SecretSource::Beside, StoreLocation::Sqlite(options)) => {
            SecretFile::beside(options.path()).load(false)?
        }
        (SecretSource::Beside, _) => return Err(NO_SHARED_SECRET.into()),
        (SecretSource::Given(text), _) => given_secrets(text)?,
        (SecretSource::File(path), _) => SecretFile::at(path).load(false)?,
    })
}

fn given_secrets(text: &str) -> Result<Secrets, String> {
    Secrets::parse(text).map_err(|error| format!("COUNTERSIGN_SECRET: {error}"))
}

impl Database {
    /// Opens the engines that the settings name, for serving, and the secret that seals the keys. Creates what is
    /// missing.
    pub(crate) async fn open(settings: &Settings) -> Result<(Self, Secrets), Box<dyn Error>> {
        Self::open_at(settings, settings.database.clone(), Races::of(settings)).await
    }

    /// Opens the engines and the secret as the server does, but only a database that exists. It is for an operator's
    /// commands, which exchange no tokens.
    pub(crate) async fn open_existing(settings: &Settings) -> Result<(Self, Secrets), Box<dyn Error>> {
        Self::open_at(settings, settings.database.clone().existing(), Races::MayBeUnsettled).await
    }

    /// Opens a copy of the SQLite database with the secret of the settings, which must be there.
    pub(crate) async fn open_copy(
        settings: &Settings,
        copy: &SqliteOptions,
    ) -> Result<(Self, Secrets), Box<dyn Error>> {
        let secrets = existing_secrets(settings)?;
        let accounts = StoreLocation::Sqlite(copy.clone()).open().await?;
        let sessions = match &settings.sessions {
            Some(location) => Some(location.open().await?),
            None => None,
        };
        Ok((Self { accounts, sessions }, secrets))
    }

    /// Opens the engine of accounts and keys, but neither the secret nor the engine of sessions. It must exist, as for
    /// [`Database::open_existing`]. It is for looking at keys.
    pub(crate) async fn open_without_secret(settings: &Settings) -> Result<Self, Box<dyn Error>> {
        let accounts = settings.database.clone().existing().open().await?;
        Ok(Self { accounts, sessions: None })
    }

    /// Opens the engines without making or changing anything, and without the secret. It is for looking at them.
    pub(crate) async fn open_as_it_is(settings: &Settings) -> Result<Self, Unusable> {
        let accounts = settings.database.clone().unchanged().open().await?;
        let sessions = match &settings.sessions {
            Some(location) => Some(location.clone().unchanged().open().await?),
            None => None,
        };
        Ok(Self { accounts, sessions })
    }

    /// Whether there are keys, which a secret has sealed.
    pub(crate) async fn has_keys(&self) -> Result<bool, StoreError> {
        self.accounts.has_keys().await
    }

    /// The promises that the engines do not keep.
    pub(crate) fn weaknesses(&self) -> Vec<Weakness> {
        let sessions = self.sessions.as_ref().unwrap_or(&self.accounts).weaknesses();
        let races = |weakness: &Weakness| *weakness != Weakness::UnsettledRaces;
        // Races are settled where the sessions are.
        let accounts = self.sessions.as_ref().map(|_| self.accounts.weaknesses()).unwrap_or_default();
        sessions.into_iter().chain(accounts.into_iter().filter(races)).collect()
    }

    async fn open_at(
        settings: &Settings,
        location: StoreLocation,
        races: Races,
    ) -> Result<(Self, Secrets), Box<dyn Error>> {
        // The engine is opened before a secret is made for it.
        let open_accounts = async || {
            let store = location.open().await?;
            if settings.sessions.is_none() {
                races.check(&location, &*store)?;
            }
            Ok::<_, Unusable>(store)
        };
        let (accounts, secrets): (Arc<dyn OpenStore>, _) = match (&settings.secret, &location) {
            (SecretSource::Beside, StoreLocation::Sqlite(options)) => {
                let (store, secrets) = location.used(open_with_secret(options, &OsRandom).await)?;
                (Arc::new(store), secrets)
            }
            (SecretSource::Beside, _) => return Err(NO_SHARED_SECRET.into()),
            (SecretSource::Given(text), _) => {
                let secrets = given_secrets(text)?;
                (open_accounts().await?, secrets)
            }
            (SecretSource::File(path), _) => {
                let store = open_accounts().await?;
                let secrets = SecretFile::at(Path::new(path)).load(!store.has_keys().await?)?;
                (store, secrets)
            }
        };
        let sessions = match &settings.sessions {
            Some(location) => {
                let store = location.open().await?;
                races.check(location, &*store)?;
                Some(store)
            }
            None => None,
        };
        Ok((Self { accounts, sessions }, secrets))
    }

    /// Creates the tables or brings them up to date, in both engines if there are two. Returns the engines' names.
    pub(crate) async fn migrate(settings: &Settings) -> Result<Vec<String>, Box<dyn Error>> {
        let mut names = Vec::new();
        for location in [Some(&settings.database), settings.sessions.as_ref()].into_iter().flatten() {
            location.migrate().await?;
            names.push(location.to_string());
        }
        Ok(names)
    }

    /// The stores that the library works with. Accounts and keys are in one engine; sessions, revocations and throttles
    /// are in the other, if there are two.
    pub(crate) fn stores(&self) -> Stores {
        let accounts = self.accounts.clone().stores();
        match &self.sessions {
            None => accounts,
            Some(sessions) => accounts.with_sessions_of(&sessions.clone().stores()),
        }
    }

    /// The place of the sessions, on which all servers of a store must agree: the kind of engine with its own id, which
    /// is made once and kept in it. The engine's address does not count, because servers may see it differently. A
    /// Redis that is allowed to lose everything loses its id as well, so for it the kind alone counts.
    pub(crate) async fn place_of_sessions(&self, settings: &Settings) -> Result<String, StoreError> {
        let (Some(sessions), Some(location)) = (&self.sessions, &settings.sessions) else {
            return Ok("in the database".to_owned());
        };
        if matches!(location, StoreLocation::Redis(options) if options.is_volatile()) {
            return Ok(sessions.name().to_owned());
        }
        let candidate =
            uuid(&OsRandom).map_err(|error| StoreError::new(sessions.name(), "be given an id", error))?;
        let id = sessions.clone().stores().keys().store_id(candidate).await?;
        Ok(format!("{} {id}", sessions.name()))
    }

    /// Leaves the engines in order when the server stops. SQLite files are complete by themselves afterwards.
    pub(crate) async fn settle(&self) -> Result<(), StoreError> {
        for store in [Some(&self.accounts), self.sessions.as_ref()].into_iter().flatten() {
            store.settle().await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use countersign_core::store::MemoryStore;

    use super::*;
    use crate::settings::{Flags, Sources};

    /// An engine with these weaknesses.
    #[derive(Debug)]
    struct Weak(Vec<Weakness>);

    #[async_trait]
    impl OpenStore for Weak {
        fn name(&self) -> &'static str {
            "mongodb"
        }

        fn stores(self: Arc<Self>) -> Stores {
            MemoryStore::new().into()
        }

        async fn has_keys(&self) -> Result<bool, StoreError> {
            Ok(false)
        }

        fn weaknesses(&self) -> Vec<Weakness> {
            self.0.clone()
        }

        async fn settle(&self) -> Result<(), StoreError> {
            Ok(())
        }
    }

    #[test]
    fn an_engine_that_does_not_settle_races_is_refused_with_the_reason_and_the_remedies() {
        let location = StoreLocation::parse("mongodb://ada:geheim@db.example/auth").unwrap();
        let loss = || Weakness::MayLose("its journal is the only copy".to_owned());
        for (weaknesses, races, is_refused) in [
            (vec![], Races::MustBeSettled, false),
            (vec![loss()], Races::MustBeSettled, false),
            (vec![Weakness::UnsettledRaces], Races::MustBeSettled, true),
            (vec![loss(), Weakness::UnsettledRaces], Races::MustBeSettled, true),
            (vec![loss(), Weakness::UnsettledRaces], Races::MayBeUnsettled, false),
        ] {
            let checked = races.check(&location, &Weak(weaknesses.clone()));
            assert_eq!(checked.is_err(), is_refused, "{weaknesses:?} {races:?}");
            let Err(refused) = checked else { continue };
            let told = format!("{refused} because: {}", refused.source().unwrap());
            for part in [
                "cannot use the MongoDB database auth at db.example",
                "not atomic",
                "--sessions",
                "COUNTERSIGN_ACCEPT_WEAK_STORE=yes",
            ] {
                assert!(told.contains(part), "{part}: {told}");
            }
            assert!(!told.contains("geheim"), "{told}");
        }
    }

    #[test]
    fn an_engine_that_does_not_settle_races_is_accepted_if_the_settings_say_so() {
        let flag = Flags { accept_weak_store: true, ..Flags::default() };
        for (flags, environment, file, races) in [
            (Flags::default(), None, None, Races::MustBeSettled),
            (Flags::default(), Some("no"), None, Races::MustBeSettled),
            (Flags::default(), Some("yes"), None, Races::MayBeUnsettled),
            (Flags::default(), None, Some("on"), Races::MayBeUnsettled),
            (flag, Some("no"), None, Races::MayBeUnsettled),
        ] {
            let set = |name: &str, text: Option<&str>| text.map(|text| (name.to_owned(), text.to_owned()));
            let file = set("accept_weak_store", file).into_iter().collect();
            let environment = set("COUNTERSIGN_ACCEPT_WEAK_STORE", environment);
            let sources = Sources::collect(flags, environment, None, Some(file));
            assert_eq!(Races::of(&Settings::read(&sources).unwrap()), races);
        }
    }
}
