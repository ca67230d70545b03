//! New files of the command line: what exists is not written over, and nobody else may read them.

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::telemetry::say;

/// Creates a file that only its owner may read.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if there is one.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Lets `write` fill a new file, and says how many of `what` it has written. If that fails, the file is gone again.
pub(super) async fn export(
    path: &Path,
    what: &str,
    write: impl AsyncFnOnce(&mut File) -> Result<u64, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let cannot = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("{} exists already and is not overwritten; name another file", path.display())
        }
        _ => format!("cannot write {}: {error}", path.display()),
    };
    let mut created = create(path).map_err(cannot)?;
    let written = match write(&mut created).await {
        Ok(written) => created.sync_all().map(|()| written).map_err(|error| cannot(error).into()),
        Err(error) => Err(error),
    };
    match written {
        Ok(written) => {
            say(&format!("{what}: {written} written to {}", path.display()));
            Ok(())
        }
        Err(error) => {
            // Half an export is worse than none.
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

/// Whether nobody reads the output any more, as with `head -1`.
pub(super) fn is_closed(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
