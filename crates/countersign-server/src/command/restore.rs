//! `countersign restore`: a copy in the place of the SQLite database.

use std::error::Error;
use std::path::PathBuf;

use clap::Args;
use countersign_sql::sqlite;

use super::backup::OWN_TOOLS;
use super::revoke_all::replace_all_keys;
use super::{StoreFlags, auth_over, with_settings};
use crate::store::{Database, StoreLocation};
use crate::telemetry::{say, warn};

#[derive(Args, Debug)]
pub(crate) struct Restore {
    /// The copy, as countersign backup makes it
    file: PathBuf,
    /// Leave tokens good that were issued before: also those of sessions that were ended after the copy was made
    #[arg(long)]
    keep_tokens: bool,
    #[command(flatten)]
    store: StoreFlags,
}

pub(crate) fn run(Restore { file, keep_tokens, store }: Restore) -> Result<(), Box<dyn Error>> {
    with_settings(store, async |settings| {
        let StoreLocation::Sqlite(options) = &settings.database else {
            return Err(format!("{}: {OWN_TOOLS}", settings.database).into());
        };
        let restored = sqlite::restore(&file, options).await?;
        let (database, secrets) = Database::open_copy(settings, restored.options()).await?;
        // All is done before the copy is in its place, so that no server ever works with the old keys.
        let (auth, stores) = auth_over(&database, secrets, settings).await?;
        if settings.profile.is_native() && !keep_tokens {
            replace_all_keys(auth.sessions(), &stores).await?;
        }
        database.settle().await?;
        drop((auth, stores, database));
        restored.put_in_place()?;
        say(&format!("{options} is what {} was", file.display()));
        if !settings.profile.is_native() {
            warn(
                "tokens are signed with the application's own key: change JWT_SECRET_KEY (or JWT_PRIVATE_KEY and \
                 JWT_PUBLIC_KEY), because the copy does not know which were revoked after it was made",
            );
        } else if keep_tokens {
            warn("sessions that were ended after the copy was made are alive again");
        } else {
            say("every token that was issued before is refused; everybody signs in again");
        }
        Ok(())
    })
}
