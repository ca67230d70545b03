//! Rows and connections for the tests of the SQLite store.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "clippy takes only functions with #[test] for tests")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_core::model::{
    Device, EmailAddress, PasswordHash, Session, SessionSeed, User, UserSession, Username,
};
use countersign_jwt::{Epoch, Generation, SessionId, Timestamp, UserId};
use countersign_sql::sqlite::{SqliteOptions, SqliteStore};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

/// A folder with a database in it, gone with this value.
#[derive(Debug)]
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.0.path().join("countersign.db")
    }

    pub(crate) fn options(&self) -> SqliteOptions {
        SqliteOptions::new(self.database())
    }

    pub(crate) async fn open(&self) -> SqliteStore {
        open(&self.options()).await
    }

    /// Another program that uses the file.
    pub(crate) async fn other_program(&self) -> SqliteConnection {
        connect(&self.database()).await
    }
}

/// What another program made, as an administrator leaves it: SQLite itself makes files that everybody may read.
pub(crate) fn owners_alone(path: &Path) {
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let _elsewhere = path;
}

pub(crate) async fn open(options: &SqliteOptions) -> SqliteStore {
    SqliteStore::open(options).await.unwrap()
}

pub(crate) async fn connect(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

pub(crate) async fn count(connection: &mut SqliteConnection, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
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
        password_hash: Some(PasswordHash::from_stored("$argon2id$…".to_owned())),
        created_at: NOW,
        disabled_at: None,
    }
}

/// All of an account, to compare: password hashes are not comparable.
pub(crate) fn parts(
    user: &User,
) -> (String, String, Option<String>, Option<String>, Timestamp, Option<Timestamp>) {
    (
        user.id.to_string(),
        user.email.as_str().to_owned(),
        user.username.as_ref().map(|name| name.as_str().to_owned()),
        user.password_hash.as_ref().map(|hash| hash.expose().to_owned()),
        user.created_at,
        user.disabled_at,
    )
}
