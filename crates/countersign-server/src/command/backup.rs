//! `countersign backup`: a copy of the SQLite database, made while servers use it.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;
use countersign_sql::{SecretFile, sqlite};

use super::{StoreFlags, with_settings};
use crate::settings::SecretSource;
use crate::store::StoreLocation;
use crate::telemetry::say;

#[derive(Args, Debug)]
pub(crate) struct Backup {
    /// The copy: a new file. Nothing is written over one that exists
    file: PathBuf,
    #[command(flatten)]
    store: StoreFlags,
}

pub(crate) fn run(Backup { file, store }: Backup) -> Result<(), Box<dyn Error>> {
    with_settings(store, async |settings| {
        let StoreLocation::Sqlite(options) = &settings.database else {
            return Err(format!("{}: {OWN_TOOLS}", settings.database).into());
        };
        sqlite::backup(options, &file).await?;
        say(&format!("{} is a copy of {options}", file.display()));
        let secret = match &settings.secret {
            SecretSource::Beside => SecretFile::beside(options.path()).path().display().to_string(),
            SecretSource::File(path) => path.display().to_string(),
            SecretSource::Given(_) => "COUNTERSIGN_SECRET".to_owned(),
        };
        say(&format!("without the secret it opens no keys: keep {secret} too, in another place"));
        if let Some(sessions) = &settings.sessions {
            say(&format!("sessions are in {sessions}, and not in the copy"));
        }
        Ok(())
    })
}

/// The error for engines that are servers.
pub(super) const OWN_TOOLS: &str =
    "this engine has tools of its own for copies, such as pg_dump; docs/backup.md shows them for each engine";
