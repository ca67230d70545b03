//! The secret that seals a store's keys. It is kept in a file of its own, so that a copy of the database alone opens
//! nothing.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use countersign_jwt::seal::{InvalidSecretText, Secrets};
use countersign_jwt::{Random, RandomError, random};
use secrecy::zeroize::Zeroizing;

/// A file with the server's secret: base64 text, readable by its owner only.
///
/// The file may hold several secrets, separated by commas or white space: the first one seals, all of them open.
///
/// ```
/// use countersign_sql::{SecretFile, SecretFileError};
///
/// # let folder = tempfile::tempdir()?;
/// # let database = folder.path().join("app.db");
/// # let random = countersign_testkit::SeededRandom::default();
/// let file = SecretFile::beside(&database);
/// assert!(file.path().ends_with("app.db.secret"));
///
/// // A new secret would end every session of a store that has keys, so none is made for it.
/// let lost = file.load_or_create(&random, false);
/// assert!(matches!(lost, Err(SecretFileError::Missing { .. })));
/// assert!(file.load_or_create(&random, true).is_ok());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretFile {
    path: PathBuf,
}

/// Why a secret file yields no secret. No new secret is made then, because that would end every session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretFileError {
    /// The store has keys, and the file with the secret that sealed them is missing.
    #[error(
        "the secret file {} is missing, but the store has keys that were sealed with it; restore it from a backup, \
         or set COUNTERSIGN_SECRET to its content", path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file that was named does not exist.
    #[error(
        "there is no secret file {0}; make one with: (umask 077; countersign key secret > {0})", path.display()
    )]
    NotFound {
        /// The file.
        path: PathBuf,
    },
    /// Other users than the owner may read or change the file (SEC-046).
    #[error(
        "the secret file {0} is open to other users (mode {mode:03o}); where it is mounted, let it be root's and readable by \
         the server's group alone (Kubernetes: defaultMode: 0440); else run: chmod 600 {0}", path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// The file's permission bits.
        mode: u32,
    },
    /// The file's content is not a secret.
    #[error("the secret file {} holds no secret", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with the content.
        source: InvalidSecretText,
    },
    /// The file could not be read.
    #[error("could not read the secret file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file could not be created.
    #[error("could not create the secret file {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The system gave no random bytes to make a secret of.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl SecretFile {
    /// The secret file at this path.
    pub fn at(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned() }
    }

    /// The secret file beside a database: the database's file name with `.secret` after it.
    pub fn beside(database: impl AsRef<Path>) -> Self {
        let mut path = OsString::from(database.as_ref());
        path.push(".secret");
        Self { path: path.into() }
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the secrets in the file. `store_is_empty` decides which advice the error gives when the file is missing.
    ///
    /// # Errors
    /// [`SecretFileError`] if the file is missing, is open to other users, or holds no secret.
    pub fn load(&self, store_is_empty: bool) -> Result<Secrets, SecretFileError> {
        let path = || self.path.clone();
        self.try_load()?.ok_or_else(|| {
            if store_is_empty {
                SecretFileError::NotFound { path: path() }
            } else {
                SecretFileError::Missing { path: path() }
            }
        })
    }

    /// Reads the secrets in the file; if it is missing and the store is empty, creates it with a secret of 32 random
    /// bytes. Of several first starts at the same time one creates the file, and all return its secret.
    ///
    /// # Errors
    /// [`SecretFileError::Missing`] if the file is missing and the store is not empty. The other variants say what they
    /// stand for.
    pub fn load_or_create(
        &self,
        random: &dyn Random,
        store_is_empty: bool,
    ) -> Result<Secrets, SecretFileError> {
        if let Some(secrets) = self.try_load()? {
            return Ok(secrets);
        }
        if !store_is_empty {
            return Err(SecretFileError::Missing { path: self.path.clone() });
        }
        self.create(random)?;
        self.load(true)
    }

    fn try_load(&self) -> Result<Option<Secrets>, SecretFileError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.unreadable(source)),
        };
        // The open file is asked, so that nobody can exchange it between the check and the reading.
        if let Some(mode) = open_to_others(&file.metadata().map_err(|error| self.unreadable(error))?) {
            return Err(SecretFileError::Open { path: self.path.clone(), mode });
        }
        let mut text = Zeroizing::new(String::new());
        match file.take(MAX_BYTES + 1).read_to_string(&mut text) {
            // Part of the text is never used: it might be a secret, but another one.
            Ok(bytes) if bytes as u64 > MAX_BYTES => return Err(self.no_secret(InvalidSecretText::NotBase64)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(self.no_secret(InvalidSecretText::NotBase64));
            }
            Err(source) => return Err(self.unreadable(source)),
        }
        Secrets::parse(&text).map(Some).map_err(|source| self.no_secret(source))
    }

    /// Creates the file as a whole: an incomplete file never has its name.
    fn create(&self, random: &dyn Random) -> Result<(), SecretFileError> {
        let bytes = Zeroizing::new(random::bytes::<32>(random)?);
        let mut text = Zeroizing::new(STANDARD.encode(*bytes));
        text.push('\n');

        let mut temporary = OsString::from(&self.path);
        temporary.push(format!(".{}.new", random::uuid(random)?.simple()));
        let temporary = PathBuf::from(temporary);

        let written = write_new(&temporary, text.as_bytes()).and_then(|()| {
            // A link, unlike a rename, does not replace the file that another start has put there.
            match fs::hard_link(&temporary, &self.path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                outcome => outcome,
            }
        });
        // A temporary file that stays behind is one more file that only its owner can read.
        let _left_behind = fs::remove_file(&temporary);
        written
            // Before any key is sealed with the secret, the file's name must be on disk too.
            .and_then(|()| sync_folder(&self.path))
            .map_err(|source| SecretFileError::Create { path: self.path.clone(), source })
    }

    fn unreadable(&self, source: io::Error) -> SecretFileError {
        SecretFileError::Read { path: self.path.clone(), source }
    }

    fn no_secret(&self, source: InvalidSecretText) -> SecretFileError {
        SecretFileError::Content { path: self.path.clone(), source }
    }
}

/// The permission bits of a file with a secret, if other users than its owner may read or change it (SEC-046).
///
/// A file that root owns may also be read by its group. Secrets are mounted that way for a server that does not run as
/// root (Kubernetes' `defaultMode: 0440` with `fsGroup`, systemd's credentials), and only root can have put the server
/// into that group. A file of any other owner must be closed to everybody else.
#[must_use]
pub fn open_to_others(metadata: &fs::Metadata) -> Option<u32> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;

        let mode = metadata.mode() & 0o777;
        is_open(metadata.uid(), mode).then_some(mode)
    }
    #[cfg(not(unix))]
    {
        let _has_no_such_bits = metadata;
        None
    }
}

#[cfg(any(unix, test))]
const fn is_open(owner: u32, mode: u32) -> bool {
    const ROOT: u32 = 0;
    let others = if owner == ROOT { 0o037 } else { 0o077 };
    mode & others != 0
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Does nothing: outside Unix a folder cannot be opened, and its file system has a journal of its own.
fn sync_folder(file: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let folder = match file.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// The largest size of a secret file. No list of secrets is longer.
const MAX_BYTES: u64 = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use tempfile::TempDir;

    use super::*;

    /// Gives different bytes each time, which are not random.
    #[derive(Debug, Default)]
    struct Counter(AtomicU64);

    impl Random for Counter {
        fn fill(&self, dest: &mut [u8]) -> Result<(), RandomError> {
            let mut state = self.0.fetch_add(1, Ordering::Relaxed) + 1;
            for byte in dest {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = state.to_be_bytes()[0];
            }
            Ok(())
        }
    }

    #[derive(Debug)]
    struct NoRandom;

    impl Random for NoRandom {
        fn fill(&self, _: &mut [u8]) -> Result<(), RandomError> {
            Err(RandomError)
        }
    }

    /// A value derived from the secret, to compare secrets by.
    fn derived(secrets: &Secrets) -> Vec<u8> {
        secrets.derive("test").to_vec()
    }

    fn names(folder: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn put(path: &Path, content: &[u8], mode: u32) {
        fs::write(path, content).unwrap();
        #[cfg(unix)]
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let _unused_elsewhere = mode;
    }

    #[test]
    fn the_first_start_makes_it_and_later_ones_read_it() {
        let folder = TempDir::new().unwrap();
        let file = SecretFile::beside(folder.path().join("a.db"));
        assert_eq!(file.path(), folder.path().join("a.db.secret"));
        let made = file.load_or_create(&Counter::default(), true).unwrap();
        for store_is_empty in [true, false] {
            let read = file.load_or_create(&NoRandom, store_is_empty).unwrap();
            assert_eq!(derived(&read), derived(&made));
        }
        let text = fs::read_to_string(file.path()).unwrap();
        assert_eq!(text.len(), 45, "base64 of 32 bytes and a line break");
        assert_eq!(names(&folder), ["a.db.secret"]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;

            assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn of_16_first_starts_at_once_one_wins_and_all_have_its_secret() {
        for _ in 0..20 {
            let folder = TempDir::new().unwrap();
            let file = SecretFile::beside(folder.path().join("a.db"));
            let (random, barrier) = (Counter::default(), Barrier::new(16));
            let secrets: Vec<_> = thread::scope(|scope| {
                let starts: Vec<_> = (0..16)
                    .map(|_| {
                        scope.spawn(|| {
                            barrier.wait();
                            derived(&file.load_or_create(&random, true).unwrap())
                        })
                    })
                    .collect();
                starts.into_iter().map(|start| start.join().unwrap()).collect()
            });
            assert!(secrets.iter().all(|secret| *secret == secrets[0]));
            assert_eq!(names(&folder), ["a.db.secret"]);
        }
    }

    #[test]
    fn a_missing_file_beside_a_filled_store_never_leads_to_a_new_one() {
        let folder = TempDir::new().unwrap();
        let file = SecretFile::beside(folder.path().join("a.db"));
        let missing = file.load_or_create(&Counter::default(), false).unwrap_err();
        assert!(matches!(missing, SecretFileError::Missing { .. }), "{missing}");
        assert!(matches!(file.load(false), Err(SecretFileError::Missing { .. })));
        assert!(matches!(file.load(true), Err(SecretFileError::NotFound { .. })));
        assert!(names(&folder).is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn sec_046_a_file_that_others_can_open_is_refused() {
        let folder = TempDir::new().unwrap();
        let file = SecretFile::at(folder.path().join("secret"));
        file.load_or_create(&Counter::default(), true).unwrap();
        let content = fs::read(file.path()).unwrap();
        for (mode, accepted) in [(0o600, true), (0o400, true), (0o604, false), (0o644, false), (0o620, false)]
        {
            put(file.path(), &content, 0o600);
            put(file.path(), &content, mode);
            match file.load_or_create(&NoRandom, true) {
                Ok(_) => assert!(accepted, "{mode:o}"),
                Err(error) => {
                    assert!(!accepted, "{mode:o}: {error}");
                    let command = format!("chmod 600 {}", file.path().display());
                    assert!(error.to_string().ends_with(&command), "{error}");
                }
            }
            fs::remove_file(file.path()).unwrap();
        }
    }

    #[test]
    fn sec_046_the_group_may_read_what_is_roots_and_strangers_may_read_nothing() {
        const ADA: u32 = 1000;
        for (owner, mode, open) in [
            (0, 0o600, false),
            (0, 0o400, false),
            // Kubernetes mounts a secret like this for a server that does not run as root.
            (0, 0o440, false),
            (0, 0o640, false),
            (0, 0o660, true),
            (0, 0o620, true),
            (0, 0o450, true),
            (0, 0o444, true),
            (0, 0o644, true),
            (0, 0o604, true),
            (0, 0o602, true),
            (ADA, 0o600, false),
            (ADA, 0o400, false),
            (ADA, 0o440, true),
            (ADA, 0o640, true),
            (ADA, 0o644, true),
        ] {
            assert_eq!(is_open(owner, mode), open, "{mode:o} of {owner}");
        }
    }

    #[test]
    fn wrong_content_is_an_error_that_does_not_repeat_it() {
        let folder = TempDir::new().unwrap();
        let file = SecretFile::at(folder.path().join("secret"));
        let long = format!("{}\n", "A".repeat(43)).repeat(10_000);
        for (case, content) in [
            ("empty", b"".as_slice()),
            ("a line break", b"\n"),
            ("31 bytes", b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg=="),
            ("one byte 32 times", b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            ("not base64", b"swordfish swordfish swordfish!"),
            ("not UTF-8", b"\xff\xfe"),
            ("too long", long.as_bytes()),
        ] {
            put(file.path(), content, 0o600);
            let error = file.load_or_create(&Counter::default(), true).unwrap_err();
            assert!(matches!(error, SecretFileError::Content { .. }), "{case}: {error}");
            let told = format!("{error} {error:?}");
            assert!(!told.contains("swordfish") && !told.contains("AAEC"), "{case}: {told}");
            assert_eq!(fs::read(file.path()).unwrap(), content, "{case}: it was replaced");
            fs::remove_file(file.path()).unwrap();
        }
    }

    #[test]
    fn what_is_no_file_is_an_error() {
        let folder = TempDir::new().unwrap();
        let error = SecretFile::at(folder.path()).load(true).unwrap_err();
        assert!(!matches!(error, SecretFileError::Missing { .. }), "{error}");
        let nowhere = SecretFile::at(folder.path().join("none/secret"));
        let error = nowhere.load_or_create(&Counter::default(), true).unwrap_err();
        assert!(matches!(error, SecretFileError::Create { .. }), "{error}");
    }

    #[test]
    fn without_randomness_there_is_no_secret() {
        let folder = TempDir::new().unwrap();
        let file = SecretFile::at(folder.path().join("secret"));
        let error = file.load_or_create(&NoRandom, true).unwrap_err();
        assert!(matches!(error, SecretFileError::Random(_)), "{error}");
        assert!(names(&folder).is_empty());
    }
}
