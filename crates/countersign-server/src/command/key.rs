//! `countersign key …`: the store's keys.

use std::error::Error;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use countersign_core::keychain::{self, Keychain};
use countersign_core::random;
use countersign_core::store::{KeyStore as _, StoredKey};
use countersign_http::{OsRandom, SystemClock, rfc3339};
use countersign_sql::sqlite::{SqliteOptions, SqliteStore};

use crate::serve;
use crate::settings::{Flags, Settings, Sources};
use crate::telemetry::say;

#[derive(Args, Debug)]
pub(crate) struct KeyCommand {
    #[command(subcommand)]
    command: KeySubcommand,
}

#[derive(Debug, Subcommand)]
enum KeySubcommand {
    /// Print a new secret for COUNTERSIGN_SECRET: 32 random bytes, in base64.
    Secret,
    /// List the keys in the store: id, purpose, algorithm, state, when made. Needs no secret and shows none.
    ///
    /// States: an active key signs; a retiring one only verifies what it has signed.
    List,
    /// Print the public keys of access tokens, as GET /.well-known/jwks.json does: a JWK set (RFC 7517).
    ExportJwks,
    /// Seal all keys in the store with the first of the secrets.
    ///
    /// To change the secret: put a new one (countersign key secret) in front of the old one in COUNTERSIGN_SECRET or the
    /// secret's file, separated by a comma; restart all servers; run this; take the old one away. Sessions go on, and
    /// the servers need not stop.
    Reseal,
}

/// `countersign key …`
pub(crate) fn run(key: &KeyCommand, flags: Flags) -> Result<(), Box<dyn Error>> {
    if let KeySubcommand::Secret = key.command {
        let secret: [u8; 32] = random::bytes(&OsRandom)?;
        say(&STANDARD.encode(secret));
        return Ok(());
    }
    let settings = Settings::read(&Sources::read(flags)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match key.command {
            KeySubcommand::Secret => {}
            KeySubcommand::List => {
                let options = SqliteOptions::from_url(&settings.database_url)?.create(false);
                list(&SqliteStore::open(&options).await?.keys().await?);
            }
            KeySubcommand::ExportJwks => {
                let (store, secrets) = serve::open_existing(&settings).await?;
                let keys = Keychain::open(&store, &secrets, &SystemClock::new(), &OsRandom).await?;
                say(&keys.access.ring.load().to_jwk_set());
            }
            KeySubcommand::Reseal => {
                let (store, secrets) = serve::open_existing(&settings).await?;
                let (sealed, all) = keychain::reseal(&store, &secrets, &OsRandom).await?;
                if sealed < all {
                    return Err(format!(
                        "{sealed} of {all} keys were sealed anew; somebody else changed the others meanwhile: try again"
                    )
                    .into());
                }
                say(&format!("{sealed} keys are sealed with the first secret; the others are no longer needed"));
            }
        }
        Ok(())
    })
}

fn list(keys: &[StoredKey]) {
    let mut rows = vec![["KID", "PURPOSE", "ALGORITHM", "STATE", "CREATED"].map(str::to_owned)];
    for key in keys {
        let newest = keys.iter().filter(|other| other.purpose == key.purpose).map(|other| other.number).max();
        rows.push([
            // Ids of imported keys are text of others.
            key.key_id.as_str().escape_debug().to_string(),
            key.purpose.name().to_owned(),
            key.algorithm.name().to_owned(),
            if newest == Some(key.number) { "active" } else { "retiring" }.to_owned(),
            rfc3339(key.created_at),
        ]);
    }
    for line in columns(&rows) {
        say(&line);
    }
}

/// Lines whose cells stand below each other.
fn columns<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
