//! Copies of a database: made while programs use it, and put in place of one that is gone.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use countersign_core::store::BoxError;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use super::connection::{Connector, Role};
use super::{SqliteOptions, absolute, migrations};
use crate::OpenError;

/// Why a copy was not made, or not put in place. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The database that is to be copied could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is something under the name of the copy, or of the database that is to be restored.
    #[error("{} exists already, and nothing is written over it; name another, or move it away", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file could not be written or read.
    #[error("could not {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// SQLite could not make the copy, or read it.
    #[error("SQLite could not {action} {}", path.display())]
    Engine {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: BoxError,
    },
    /// The file is not whole.
    #[error("{} is damaged ({problem}); take another copy", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        problem: String,
    },
    /// A part of the database is in a write-ahead log, which has to be read with it.
    #[error(
        "{0} was copied while a program used it, and a part of it is in {0}-wal; open it once with sqlite3 beside that \
         file, and close it again (PRAGMA wal_checkpoint(TRUNCATE);)", path.display()
    )]
    HasLog {
        /// The file.
        path: PathBuf,
    },
    /// The file is a database, but none of this program's.
    #[error("{} has no tables of this program", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

/// Writes a copy of a database, as it is at one moment, to a new file that only its owner may read. Programs may use the
/// database meanwhile, and wait for nothing. The copy is read once to see that it is whole, and is on disk when this
/// returns. The secret is not in it: without that, the copy opens no keys.
///
/// ```
/// use countersign_sql::sqlite::{self, SqliteOptions, SqliteStore};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let options = SqliteOptions::new(folder.path().join("app.db"));
/// let store = SqliteStore::open(&options).await?;
///
/// sqlite::backup(&options, folder.path().join("monday.db")).await?;
/// assert!(folder.path().join("monday.db").exists());
/// # store.close().await;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`BackupError`] says what went wrong. There is no copy then, not even a part of one.
pub async fn backup(options: &SqliteOptions, to: impl AsRef<Path>) -> Result<(), BackupError> {
    let path = absolute(&options.path)?;
    if !path.exists() {
        return Err(OpenError::Missing { path }.into());
    }
    let to = to.as_ref();
    let part = Unfinished::create(&beside(to, ".part"), to)?;
    // The name is taken now, so that of two copies to one name only one goes on.
    let name = Unfinished::create(to, to)?;
    let failed = |action, source: sqlx::Error| BackupError::Engine {
        action,
        path: part.path.clone(),
        source: source.into(),
    };
    let mut connection = Connector::new(&path, options.deadline).connect(Role::Writer).await?;
    let copied = sqlx::query("VACUUM INTO ?1").bind(part.path.to_string_lossy().into_owned());
    copied.execute(&mut connection).await.map_err(|error| failed("write the copy", error))?;
    connection.close().await.map_err(|error| failed("close the database after", error))?;
    check(&part.path).await?;
    part.move_to(name)
}

/// A copy that was checked and stands beside its place: nothing is in that place before [`Restored::put_in_place`].
#[derive(Debug)]
#[must_use = "the database is not in its place yet"]
pub struct Restored {
    part: Unfinished,
    place: PathBuf,
    options: SqliteOptions,
}

impl Restored {
    /// How the copy is opened where it stands.
    #[must_use]
    pub fn options(&self) -> &SqliteOptions {
        &self.options
    }

    /// Moves the copy to its place. Whoever has opened it has closed it before, and has written its log into it
    /// ([`SqliteStore::checkpoint`](super::SqliteStore::checkpoint)).
    ///
    /// # Errors
    /// [`BackupError::HasLog`] if it is still in use, [`BackupError::Exists`] if something has come into its place, and
    /// [`BackupError::File`] if it cannot be moved.
    pub fn put_in_place(self) -> Result<(), BackupError> {
        let Self { part, place, .. } = self;
        if has_content(&beside(&part.path, "-wal")) {
            return Err(BackupError::HasLog { path: part.path.clone() });
        }
        part.sync()?;
        // A second name, because renaming would write over what is there. The first one goes with `part`.
        match fs::hard_link(&part.path, &place) {
            Ok(()) => sync_folder_of(&place),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(BackupError::Exists { path: place })
            }
            Err(source) => Err(BackupError::File { action: "write", path: place, source }),
        }
    }
}

/// Copies a backup to beside the place of a database that is gone, and checks that it is whole and this program's. It
/// can be opened there, by [`Restored::options`], and is put in its place then.
///
/// ```
/// use countersign_sql::sqlite::{self, SqliteOptions, SqliteStore};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let options = SqliteOptions::new(folder.path().join("app.db"));
/// # SqliteStore::open(&options).await?.close().await;
/// # sqlite::backup(&options, folder.path().join("monday.db")).await?;
/// # for end in ["", "-wal", "-shm"] {
/// #     let _ = std::fs::remove_file(folder.path().join(format!("app.db{end}")));
/// # }
/// let restored = sqlite::restore(folder.path().join("monday.db"), &options).await?;
/// assert!(SqliteStore::open(&options.clone().create(false)).await.is_err());
/// restored.put_in_place()?;
/// assert!(SqliteStore::open(&options.create(false)).await.is_ok());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`BackupError::Exists`] if there is a database, or a log of one, in the place. The other variants say what they stand
/// for.
pub async fn restore(from: impl AsRef<Path>, options: &SqliteOptions) -> Result<Restored, BackupError> {
    let from = from.as_ref();
    let place = absolute(&options.path)?;
    for end in ["", "-wal", "-shm", "-journal"] {
        let path = beside(&place, end);
        if path.exists() {
            return Err(BackupError::Exists { path });
        }
    }
    if has_content(&beside(from, "-wal")) {
        return Err(BackupError::HasLog { path: from.to_owned() });
    }
    let part = beside(&place, ".restoring");
    // What is there was left by a restoration that was interrupted.
    remove(&part);
    let mut part = Unfinished::create(&part, &place)?;
    part.is_database = true;
    copy(from, &part.path)?;
    check(&part.path).await?;
    let options = SqliteOptions { path: part.path.clone(), create: false, ..options.clone() };
    Ok(Restored { part, place, options })
}

/// Copies the content alone: the mode is that of the file that is there.
fn copy(from: &Path, to: &Path) -> Result<(), BackupError> {
    let mut read = File::open(from).map_err(failed("read", from))?;
    let mut written = File::options().write(true).open(to).map_err(failed("write", to))?;
    io::copy(&mut read, &mut written).map_err(failed("copy", from))?;
    Ok(())
}

/// Reads a whole database, and looks for the tables of this program.
async fn check(path: &Path) -> Result<(), BackupError> {
    let engine = |source: sqlx::Error| BackupError::Engine {
        action: "read",
        path: path.to_owned(),
        source: source.into(),
    };
    // Nobody else has the file, and nothing is to be written beside it.
    let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(true);
    let options =
        options.pragma("trusted_schema", "OFF").pragma("cell_size_check", "ON").disable_statement_logging();
    let mut connection = options.connect().await.map_err(engine)?;
    let problem: String =
        sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut connection).await.map_err(engine)?;
    if problem != "ok" {
        return Err(BackupError::Damaged { path: path.to_owned(), problem });
    }
    if !migrations::has_begun(&mut connection).await? {
        return Err(BackupError::Foreign { path: path.to_owned() });
    }
    connection.close().await.map_err(engine)
}

/// A file that is removed again unless it is finished.
#[derive(Debug)]
struct Unfinished {
    path: PathBuf,
    /// Whether SQLite may have put files beside it.
    is_database: bool,
    is_finished: bool,
}

impl Unfinished {
    /// Creates an empty file that only its owner may read. `wanted` is named if that is impossible.
    fn create(path: &Path, wanted: &Path) -> Result<Self, BackupError> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(path) {
            Ok(_) => Ok(Self { path: path.to_owned(), is_database: false, is_finished: false }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(BackupError::Exists { path: path.to_owned() })
            }
            Err(source) => Err(BackupError::File { action: "write", path: wanted.to_owned(), source }),
        }
    }

    /// Gives this file the name that the other one has kept free. Both are on disk then.
    fn move_to(mut self, mut name: Self) -> Result<(), BackupError> {
        self.sync()?;
        fs::rename(&self.path, &name.path).map_err(failed("write", &name.path))?;
        (self.is_finished, name.is_finished) = (true, true);
        sync_folder_of(&name.path)
    }

    fn sync(&self) -> Result<(), BackupError> {
        File::open(&self.path).and_then(|file| file.sync_all()).map_err(failed("write", &self.path))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        match self {
            Self { is_finished: true, .. } => {}
            Self { is_database: true, path, .. } => remove(path),
            Self { path, .. } => {
                let _best_effort = fs::remove_file(path);
            }
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    move |source| BackupError::File { action, path: path.to_owned(), source }
}

/// Waits until the name of a file is on disk.
#[cfg(unix)]
fn sync_folder_of(path: &Path) -> Result<(), BackupError> {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("write", folder))
}

#[cfg(not(unix))]
fn sync_folder_of(_: &Path) -> Result<(), BackupError> {
    Ok(())
}

/// Removes a database that nobody has a use for, with the files that SQLite puts beside it.
fn remove(path: &Path) {
    for path in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")] {
        let _is_gone = fs::remove_file(path);
    }
}

fn has_content(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.len() > 0)
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::SqliteStore;

    async fn database(folder: &Path) -> SqliteOptions {
        let options = SqliteOptions::new(folder.join("a.db"));
        SqliteStore::open(&options).await.unwrap().close().await;
        options
    }

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_copy_that_cannot_be_made_leaves_nothing_and_writes_over_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let options = database(folder.path()).await;
        let to = folder.path().join("copy.db");
        fs::write(&to, "mine").unwrap();
        assert!(matches!(backup(&options, &to).await, Err(BackupError::Exists { .. })));
        assert_eq!(fs::read_to_string(&to).unwrap(), "mine");
        assert!(matches!(restore(&to, &options).await, Err(BackupError::Exists { .. })));
        let missing = SqliteOptions::new(folder.path().join("missing.db"));
        assert!(matches!(backup(&missing, folder.path().join("x")).await, Err(BackupError::Open(_))));
        let nowhere = folder.path().join("nowhere/copy.db");
        assert!(matches!(backup(&options, &nowhere).await, Err(BackupError::File { .. })));
        assert_eq!(names(folder.path()), ["a.db", "copy.db"]);
    }

    #[tokio::test]
    async fn only_a_whole_database_of_this_program_is_restored() {
        let folder = tempfile::tempdir().unwrap();
        let options = database(folder.path()).await;
        let good = folder.path().join("good.db");
        backup(&options, &good).await.unwrap();
        let place = SqliteOptions::new(folder.path().join("b.db"));
        let bad = folder.path().join("bad.db");

        let mut bytes = fs::read(&good).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 3000].fill(0xFF);
        fs::write(&bad, &bytes).unwrap();
        let refused = restore(&bad, &place).await.unwrap_err();
        assert!(matches!(refused, BackupError::Damaged { .. } | BackupError::Engine { .. }), "{refused:?}");
        fs::write(&bad, "no database").unwrap();
        assert!(matches!(restore(&bad, &place).await, Err(BackupError::Engine { .. })));
        fs::write(&bad, "").unwrap();
        assert!(matches!(restore(&bad, &place).await, Err(BackupError::Foreign { .. })));
        fs::write(beside(&good, "-wal"), "x").unwrap();
        assert!(matches!(restore(&good, &place).await, Err(BackupError::HasLog { .. })));
        fs::remove_file(beside(&good, "-wal")).unwrap();
        for end in ["-wal", "-shm", "-journal"] {
            fs::write(beside(place.path(), end), "").unwrap();
            assert!(matches!(restore(&good, &place).await, Err(BackupError::Exists { .. })), "{end}");
            fs::remove_file(beside(place.path(), end)).unwrap();
        }
        let restored = restore(&good, &place).await.unwrap();
        fs::write(place.path(), "of another").unwrap();
        assert!(matches!(restored.put_in_place(), Err(BackupError::Exists { .. })), "it came meanwhile");
        assert_eq!(fs::read_to_string(place.path()).unwrap(), "of another");
        fs::remove_file(place.path()).unwrap();
        drop(restore(&good, &place).await.unwrap());
        assert_eq!(names(folder.path()), ["a.db", "bad.db", "good.db"], "what is dropped is gone");

        restore(&good, &place).await.unwrap().put_in_place().unwrap();
        assert_eq!(names(folder.path()), ["a.db", "b.db", "bad.db", "good.db"]);
        SqliteStore::open(&place.create(false)).await.unwrap().close().await;
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn sec_046_a_copy_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let options = database(folder.path()).await;
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let copy = folder.path().join("copy.db");
        backup(&options, &copy).await.unwrap();
        assert_eq!(mode(&copy), 0o600);
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o644)).unwrap();
        let place = SqliteOptions::new(folder.path().join("b.db"));
        restore(&copy, &place).await.unwrap().put_in_place().unwrap();
        assert_eq!(mode(place.path()), 0o600);
    }
}
