//! Checks that the open files are still where they were.
//!
//! SQLite continues with a file that somebody has moved, removed or replaced: the file is open, and its name is not
//! needed. What SQLite writes then is lost at a restart, and what others write into the file of that name it does not
//! see. The write-ahead log (`-wal`) and its index (`-shm`) have the same problem. So before each answer the names are
//! looked up, which takes some microseconds. While one of them leads elsewhere, nothing is read, and no write is
//! answered as done.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, io};

/// The database file and the files beside it, as they were when they were opened.
#[derive(Debug)]
pub(super) struct Files {
    known: Vec<(PathBuf, Identity)>,
    /// What was last written to the program's log.
    are_gone: AtomicBool,
}

/// The identity of a file, whatever its name is.
#[cfg(unix)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Identity {
    device: u64,
    inode: u64,
}

/// Nothing: outside Unix open files cannot be moved, so there is nothing to tell apart.
#[cfg(not(unix))]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Identity;

/// A file is no longer where it was.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} {what} while the database is open, so what is written would be lost; put the same files back, or restart with \
     the right ones",
    path.display()
)]
pub(super) struct Gone {
    path: PathBuf,
    what: &'static str,
}

impl Files {
    /// Notes which files these are. The database must be open, because SQLite creates the files beside it when it
    /// reads.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let mut known = vec![(path.to_owned(), Identity::of(path)?)];
        // SQLite resolves symbolic links before it adds to the name.
        let real = fs::canonicalize(path)?.into_os_string();
        for suffix in ["-wal", "-shm"] {
            let mut beside = real.clone();
            beside.push(suffix);
            let beside = PathBuf::from(beside);
            if let Ok(identity) = Identity::of(&beside) {
                known.push((beside, identity));
            }
        }
        Ok(Self { known, are_gone: AtomicBool::new(false) })
    }

    /// Whether the write-ahead log was removed, and nothing else was changed: the database is where it was, and nobody
    /// has opened it since, which would have created another log.
    pub(super) fn is_log_alone_gone(&self) -> bool {
        let is_gone =
            |path: &Path| Identity::of(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        match self.known.as_slice() {
            [(database, known), (log, _), rest @ ..] => {
                Identity::of(database).is_ok_and(|found| found == *known)
                    && is_gone(log)
                    && rest.iter().all(|(path, known)| {
                        is_gone(path) || Identity::of(path).is_ok_and(|found| found == *known)
                    })
            }
            _ => false,
        }
    }

    /// Checks that each name still leads to the open file. Writes to the program's log when that changes.
    pub(super) fn check(&self) -> Result<(), Gone> {
        let gone = self.known.iter().find_map(|(path, known)| {
            let what = match Identity::of(path) {
                Ok(found) if found == *known => return None,
                Ok(_) => "was replaced",
                Err(error) if error.kind() == io::ErrorKind::NotFound => "was moved or removed",
                Err(_) => "cannot be looked at",
            };
            Some(Gone { path: path.clone(), what })
        });
        let were_gone = self.are_gone.swap(gone.is_some(), Ordering::AcqRel);
        match (were_gone, gone) {
            (false, Some(gone)) => {
                tracing::error!(error = &gone as &dyn std::error::Error, "the store cannot be used");
                Err(gone)
            }
            (true, None) => {
                tracing::warn!("the files of the store are back, the same as before; it can be used again");
                Ok(())
            }
            (_, Some(gone)) => Err(gone),
            (false, None) => Ok(()),
        }
    }
}

impl Identity {
    #[cfg(unix)]
    fn of(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::MetadataExt as _;

        let metadata = fs::metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }

    #[cfg(not(unix))]
    fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|_| Self)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_file_is_known_by_what_it_is_and_not_by_its_name() {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["a.db", "a.db-wal", "a.db-shm", "other"] {
            fs::write(path(name), name).unwrap();
        }
        std::os::unix::fs::symlink(path("a.db"), path("link.db")).unwrap();
        for opened in ["a.db", "link.db"] {
            let files = Files::of(&path(opened)).unwrap();
            files.check().unwrap();
            for name in ["a.db", "a.db-wal", "a.db-shm"] {
                fs::write(path(name), "longer than before").unwrap();
                files.check().unwrap();
                fs::rename(path(name), path("moved")).unwrap();
                assert!(files.check().unwrap_err().to_string().contains("was moved or removed"));
                fs::copy(path("moved"), path(name)).unwrap();
                assert!(files.check().unwrap_err().to_string().contains("was replaced"));
                assert!(files.check().is_err(), "and stays so");
                fs::rename(path("moved"), path(name)).unwrap();
                files.check().unwrap();
            }
        }
        let files = Files::of(&path("link.db")).unwrap();
        fs::remove_file(path("link.db")).unwrap();
        std::os::unix::fs::symlink(path("other"), path("link.db")).unwrap();
        assert!(files.check().is_err(), "the link leads elsewhere");
        assert!(Files::of(&path("missing.db")).is_err());
    }
}
