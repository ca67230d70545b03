//! The secret that seals a store's keys, kept in a file of its own, so that a copy of the database alone opens
//! nothing.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_PAD_INDIFFERENT, URL_SAFE_PAD_INDIFFERENT};
use countersign_core::random;
use countersign_core::seal::{InvalidSecret, Secret, Secrets};
use countersign_core::{Random, RandomError};
use secrecy::zeroize::Zeroizing;

/// A file with the server's secret: base64 text, readable by its owner only.
///
/// It may hold several secrets, separated by commas or white space: the first one seals, all of them open.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SecretFile {
    path: PathBuf,
}

/// Why there is no secret. None of these leads to a new one: that would end every session.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretFileError {
    /// The store has keys, and the secret that sealed them is not there.
    #[error(
        "the secret file {} is missing, but the store has keys that were sealed with it; restore it from a backup, \
         or set COUNTERSIGN_SECRET to its content", path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner may read or change it (SEC-046).
    #[error("the secret file {0} is open to other users (mode {mode:03o}); run: chmod 600 {0}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// What it holds is no secret.
    #[error("the secret file {} holds no secret", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: InvalidSecretText,
    },
    /// It could not be read.
    #[error("could not read the secret file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It could not be made.
    #[error("could not create the secret file {}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No randomness to make a secret of.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// A text that is no list of secrets.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSecretText {
    /// Not base64.
    #[error("not base64")]
    NotBase64,
    /// Base64 of bytes that will not do.
    #[error(transparent)]
    Secret(#[from] InvalidSecret),
}

/// Reads secrets from text: base64 (standard or URL-safe, with or without padding) of at least 32 bytes, or
/// several of them, separated by commas or white space. The first one seals, all of them open.
///
/// # Errors
/// [`InvalidSecretText`] if there is none or one of them will not do. The message never holds the text.
pub fn parse_secrets(text: &str) -> Result<Secrets, InvalidSecretText> {
    let secrets = text
        .split(|c: char| c == ',' || c.is_ascii_whitespace())
        .filter(|part| !part.is_empty())
        .map(|part| {
            let alphabet =
                if part.contains(['-', '_']) { &URL_SAFE_PAD_INDIFFERENT } else { &STANDARD_PAD_INDIFFERENT };
            let bytes = alphabet.decode(part).map_err(|_| InvalidSecretText::NotBase64)?;
            Ok(Secret::new(bytes)?)
        })
        .collect::<Result<Vec<_>, InvalidSecretText>>()?;
    Ok(Secrets::new(secrets)?)
}

impl SecretFile {
    /// A file at this path.
    pub fn at(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned() }
    }

    /// The file beside a database: its name with `.secret` after it.
    pub fn beside(database: impl AsRef<Path>) -> Self {
        let mut path = OsString::from(database.as_ref());
        path.push(".secret");
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`SecretFileError`] if it is missing, open to others, or holds no secret.
    pub fn load(&self) -> Result<Secrets, SecretFileError> {
        self.try_load()?.ok_or_else(|| SecretFileError::Missing { path: self.path.clone() })
    }

    /// Reads it; where it is missing beside an empty store, makes one of 32 random bytes. Of several first starts
    /// one wins, and all return the winner's secret.
    ///
    /// # Errors
    /// [`SecretFileError::Missing`] if it is missing and the store is not empty; the others as they say.
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
        self.load()
    }

    fn try_load(&self) -> Result<Option<Secrets>, SecretFileError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.unreadable(source)),
        };
        // Asked of the open file, so that nobody can exchange it between the check and the reading.
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;

            let mode = file.metadata().map_err(|error| self.unreadable(error))?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(SecretFileError::Open { path: self.path.clone(), mode });
            }
        }
        let mut text = Zeroizing::new(String::new());
        match file.take(MAX_BYTES + 1).read_to_string(&mut text) {
            // Never a part of the text: it might be a secret, but another one.
            Ok(bytes) if bytes as u64 > MAX_BYTES => return Err(self.no_secret(InvalidSecretText::NotBase64)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(self.no_secret(InvalidSecretText::NotBase64));
            }
            Err(source) => return Err(self.unreadable(source)),
        }
        parse_secrets(&text).map(Some).map_err(|source| self.no_secret(source))
    }

    /// Makes the file as a whole: under its name there is never a part of it.
    fn create(&self, random: &dyn Random) -> Result<(), SecretFileError> {
        let bytes = Zeroizing::new(random::bytes::<32>(random)?);
        let mut text = Zeroizing::new(STANDARD.encode(*bytes));
        text.push('\n');

        let mut temporary = OsString::from(&self.path);
        temporary.push(format!(".{}.new", random::uuid(random)?.simple()));
        let temporary = PathBuf::from(temporary);

        let written = write_new(&temporary, text.as_bytes()).and_then(|()| {
            // Unlike a rename, a link does not replace what another start has put there.
            match fs::hard_link(&temporary, &self.path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                outcome => outcome,
            }
        });
        // If it stays behind, it is one more file that only its owner can read.
        let _left_behind = fs::remove_file(&temporary);
        written
            // Before any key is sealed with it, its name must be on disk too.
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

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Elsewhere than on Unix a folder cannot be opened, and its file system has a journal of its own.
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

/// No list of secrets is longer.
const MAX_BYTES: u64 = 16 * 1024;
