//! Who may change the files that the server trusts, and the disk that they are on.

use std::path::Path;

use super::{About, Report};
use crate::settings::Settings;
use crate::store::StoreLocation;

pub(super) fn examine(file: Option<&Path>, settings: &Settings, report: &mut Report) {
    if let Some(path) = file {
        own(path, "the settings file", report);
        others(path, "the settings file", report);
    }
    if let StoreLocation::Sqlite(options) = &settings.database
        && options.path().exists()
    {
        own(options.path(), "the database", report);
        let folder = options.path().parent().filter(|folder| *folder != Path::new(""));
        let folder = folder.unwrap_or(Path::new("."));
        others(folder, "the database's folder", report);
        disk(folder, report);
        report.good_if_nothing_else(About::Files, "nobody else may change them, and the disk has room");
    }
}

/// Whoever owns a file can change it, whatever its mode says.
#[cfg(unix)]
fn own(path: &Path, what: &str, report: &mut Report) {
    use std::os::unix::fs::MetadataExt as _;

    let me = rustix::process::geteuid().as_raw();
    let Ok(owner) = path.metadata().map(|metadata| metadata.uid()) else { return };
    if owner != me && owner != 0 && me != 0 {
        report.warning(
            About::Files,
            format!("{what} {} belongs to another user (id {owner}), who can change it", path.display()),
            format!("run: chown {me} {}", path.display()),
        );
    }
}

/// A file that others may change, or a folder in which they may replace files.
#[cfg(unix)]
fn others(path: &Path, what: &str, report: &mut Report) {
    use std::os::unix::fs::MetadataExt as _;

    const WRITABLE_BY_ALL: u32 = 0o002;
    const WRITABLE_BY_GROUP: u32 = 0o020;
    /// In such a folder, as /tmp is one, nobody removes the files of others.
    const STICKY: u32 = 0o1000;
    let Ok(metadata) = path.metadata() else { return };
    let mode = metadata.mode();
    if mode & WRITABLE_BY_ALL != 0 && mode & STICKY == 0 {
        report.error(
            About::Files,
            format!(
                "every user of this machine may change {what} {} (mode {:03o})",
                path.display(),
                mode & 0o777
            ),
            format!("run: chmod o-w {}", path.display()),
        );
    } else if metadata.is_file() && mode & WRITABLE_BY_GROUP != 0 {
        report.warning(
            About::Files,
            format!("its group may change {what} {} (mode {:03o})", path.display(), mode & 0o777),
            format!("run: chmod g-w {}", path.display()),
        );
    }
}

#[cfg(not(unix))]
fn own(_: &Path, _: &str, _: &mut Report) {}

#[cfg(not(unix))]
fn others(_: &Path, _: &str, _: &mut Report) {}

#[cfg(unix)]
fn disk(folder: &Path, report: &mut Report) {
    const LITTLE: u64 = 200 * 1024 * 1024;

    if let Ok(disk) = rustix::fs::statvfs(folder) {
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < LITTLE {
            report.error(
                About::Files,
                format!("the disk of {} has only {} MiB left", folder.display(), free / (1024 * 1024)),
                "make room: without it the database takes no more writes, and nobody can sign in",
            );
        }
    }
    #[cfg(target_os = "linux")]
    if let Ok(disk) = rustix::fs::statfs(folder)
        && let Some(name) = network_disk(disk.f_type)
    {
        report.error(
            About::Files,
            format!("{} is on a network disk ({name}), where SQLite's locks do not work", folder.display()),
            "put the database on a local disk, or use a server such as PostgreSQL (docs/stores.md)",
        );
    }
}

#[cfg(not(unix))]
fn disk(_: &Path, _: &mut Report) {}

/// The name of a file system that is on another machine, by its number (statfs(2)).
#[cfg(target_os = "linux")]
fn network_disk(number: impl TryInto<i64>) -> Option<&'static str> {
    match number.try_into().ok()? {
        0x6969 => Some("NFS"),
        0x517B | 0xFF53_4D42 | 0xFE53_4D42 => Some("SMB"),
        0x0102_1997 => Some("9P"),
        0x00C3_6400 => Some("Ceph"),
        0x7461_636F => Some("OCFS2"),
        _ => None,
    }
}
