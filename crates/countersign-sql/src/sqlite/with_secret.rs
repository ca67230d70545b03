//! A database together with the secret beside it, from which a program on one machine starts.

use std::error::Error as _;
use std::fmt;

use countersign_core::store::StoreError;
use countersign_jwt::{Random, Secrets};

use super::{SqliteOptions, SqliteStore};
use crate::OpenError;
use crate::secret_file::{SecretFile, SecretFileError};

/// Why a database and its secret could not be opened.
///
/// The `Debug` form is the error's text and its causes, because a `main` that returns the error prints that form.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum OpenWithSecretError {
    /// The database could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The secret could not be read or created.
    #[error(transparent)]
    Secret(#[from] SecretFileError),
    /// The database is open, but does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl fmt::Debug for OpenWithSecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Opens a database and the secret in the file beside it (`app.db`, `app.db.secret`); creates both if neither exists.
/// The secret seals the keys in the database. Back up both, apart from each other.
///
/// ```
/// use countersign_sql::sqlite::{SqliteOptions, open_with_secret};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("app.db");
/// # let random = countersign_testkit::SeededRandom::default();
/// let (store, secrets) = open_with_secret(&SqliteOptions::new(&path), &random).await?;
/// assert!(folder.path().join("app.db.secret").exists());
/// assert_eq!(secrets.iter().count(), 1);
/// # store.close().await;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`OpenWithSecretError`] says what could not be opened. A secret that is missing beside a filled database is never
/// replaced by a new one.
pub async fn open_with_secret(
    options: &SqliteOptions,
    random: &dyn Random,
) -> Result<(SqliteStore, Secrets), OpenWithSecretError> {
    let store = SqliteStore::open(options).await?;
    let is_empty = !store.has_keys().await?;
    let file = SecretFile::beside(options.path());
    if is_empty && file.path().exists() {
        tracing::warn!(
            database = %options.path().display(),
            "the database is empty, but there is a secret beside it: is this a backup without its -wal file?"
        );
    }
    let secrets = file.load_or_create(random, is_empty)?;
    Ok((store, secrets))
}
