//! Databases that are there as long as a test, and values for them.

use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use countersign_core::model::{
    Advance, AdvanceCondition, Device, EmailAddress, EndReason, Entry, PasswordHash, Session, SessionSeed,
    Target, User, UserSession, Username,
};
use countersign_core::store::{End, EpochRaise};
use countersign_jwt::{Epoch, Generation, SessionId, Timestamp, TokenId, UserId};
use countersign_sql::postgres::{PostgresOptions, PostgresStore};
use countersign_testkit::server_url;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection};
use uuid::Uuid;

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A database of its own, deleted at the end, also of a test that fails.
#[derive(Debug)]
pub(crate) struct Database {
    server: String,
    pub(crate) name: String,
}

impl Database {
    /// A new, empty one; `None` to leave the test out.
    pub(crate) async fn fresh() -> Option<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let server = server_url("TEST_POSTGRES_URL")?;
        let random = RandomState::new().hash_one(NUMBER.fetch_add(1, Ordering::Relaxed));
        let database = Self { name: format!("countersign_test_{random:016x}"), server };
        database.run_on_server(format!("CREATE DATABASE {}", database.name)).await;
        Some(database)
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        self.url_at(&self.server)
    }

    /// Its URL through PgBouncer; `None` to leave the test out.
    pub(crate) fn pooler_url(&self) -> Option<String> {
        Some(self.url_at(&server_url("TEST_PGBOUNCER_URL")?))
    }

    fn url_at(&self, server: &str) -> String {
        let (address, parameters) = server.split_once('?').unwrap_or((server, ""));
        let (authority, _) = address.rsplit_once('/').unwrap();
        format!("{authority}/{}?{parameters}", self.name)
    }

    pub(crate) fn options(&self) -> PostgresOptions {
        patient(&self.url())
    }

    pub(crate) async fn open(&self) -> PostgresStore {
        PostgresStore::open(&self.options()).await.unwrap()
    }

    /// As another program would.
    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnectOptions::from_str(&self.url()).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn run_on_server(&self, sql: String) {
        let options = PgConnectOptions::from_str(&self.server).unwrap();
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        std::thread::scope(|scope| {
            let dropping = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(self.run_on_server(sql));
            });
            // Its own panic would hide the test's.
            let _ = dropping.join();
        });
    }
}

/// Options with a deadline that no busy machine misses, for tests that are about something else.
pub(crate) fn patient(url: &str) -> PostgresOptions {
    PostgresOptions::from_url(url).unwrap().deadline(Duration::from_secs(30))
}

/// Waits until something is so, for ten seconds at most.
pub(crate) async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), waiting).await.is_ok(), "{what}");
}

pub(crate) async fn run(connection: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

pub(crate) async fn count(connection: &mut PgConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
}

/// How many statements of others wait for a lock in this database.
pub(crate) async fn waiting(connection: &mut PgConnection) -> i64 {
    const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    count(connection, WAITING).await
}

pub(crate) fn seconds(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn user_id(number: u128) -> UserId {
    Uuid::from_u128(number).into()
}

pub(crate) fn session_id(number: u128) -> SessionId {
    SessionId::new(Uuid::from_u128(number))
}

pub(crate) fn token_id(number: u128) -> TokenId {
    TokenId::new(Uuid::from_u128(number))
}

pub(crate) fn key(user: u128, session: u128) -> UserSession {
    UserSession { user_id: user_id(user), id: session_id(session) }
}

pub(crate) fn session(user: u128, number: u128) -> Session {
    Session {
        user_id: user_id(user),
        id: session_id(number),
        epoch: Epoch::FIRST,
        generation: Generation::FIRST,
        issued_at: NOW,
        acknowledged_at: None,
        heals: 0,
        healed_run: 0,
        seed: SessionSeed::new([7; 32]),
        created_at: NOW,
        last_seen_at: NOW,
        idle_until: NOW + seconds(86_400),
        absolute_until: NOW + seconds(10 * 86_400),
        device: Device::new(Some("Firefox"), Some("2001:db8::1".parse().unwrap())),
        ended: None,
    }
}

pub(crate) fn user(number: u128, email: &str, username: Option<&str>) -> User {
    User {
        id: user_id(number),
        email: EmailAddress::parse(email).unwrap(),
        username: username.map(|name| Username::parse(name).unwrap()),
        password_hash: Some(PasswordHash::from_stored("$argon2id$s3cret".to_owned())),
        created_at: NOW,
        disabled_at: None,
    }
}

pub(crate) fn advance(from: u32) -> Advance {
    Advance {
        from: Generation::new(from),
        to: Generation::new(from + 1),
        guard: AdvanceCondition::Generation,
        now: NOW + seconds(60),
        idle_until: NOW + seconds(86_460),
        device: Device::default(),
    }
}

pub(crate) fn end() -> End {
    End { reason: EndReason::LoggedOut, at: NOW, until: NOW + seconds(900) }
}

pub(crate) fn raise(except: Option<u128>) -> EpochRaise {
    EpochRaise {
        except: except.map(session_id),
        reason: EndReason::AllEnded,
        at: NOW,
        until: NOW + seconds(900),
    }
}

pub(crate) fn token_entry(user: u128, token: u128, at: Timestamp) -> Entry {
    Entry {
        target: Target::Token { user_id: user_id(user), id: token_id(token) },
        until: at + seconds(900),
        at,
    }
}
