//! Files that hold the value of a secret setting and nothing else.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use countersign_sql::open_to_others;
use zeroize::Zeroizing;

/// Why the text of such a file is not read.
#[derive(Debug)]
pub(super) enum SecretTextError {
    Unread(io::Error),
    /// Other users than its owner may read or change it, by these permission bits.
    Open {
        mode: u32,
    },
}

/// The text of a file that is closed to others: its first 64 KiB.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, SecretTextError> {
    const MAX_BYTES: u64 = 64 * 1024;
    let file = File::open(path).map_err(SecretTextError::Unread)?;
    // The open file is asked, so that nobody can exchange it between the check and the reading.
    if let Some(mode) = open_to_others(&file.metadata().map_err(SecretTextError::Unread)?) {
        return Err(SecretTextError::Open { mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(SecretTextError::Unread)?;
    Ok(text)
}
