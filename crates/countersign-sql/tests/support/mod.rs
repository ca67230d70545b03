//! Rows and connections for the tests of the SQLite store.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "clippy takes only functions with #[test] for tests")]

use std::path::{Path, PathBuf};

use countersign_core::model::User;
use countersign_jwt::Timestamp;
use countersign_sql::sqlite::{SqliteOptions, SqliteStore};
#[allow(unused_imports, reason = "each test program uses a part of it")]
pub(crate) use countersign_testkit::rows::{NOW, key, seconds, session, session_id, user, user_id};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};
use tempfile::TempDir;

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

/// All of an account, to compare: password hashes are not comparable.
pub(crate) fn parts(
    user: &User,
) -> (String, Option<String>, Option<String>, Option<String>, Timestamp, Option<Timestamp>) {
    (
        user.id.to_string(),
        user.email.as_ref().map(|email| email.as_str().to_owned()),
        user.username.as_ref().map(|name| name.as_str().to_owned()),
        user.password_hash.as_ref().map(|hash| hash.expose().to_owned()),
        user.created_at,
        user.disabled_at,
    )
}
