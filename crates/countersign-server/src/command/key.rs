//! `countersign key …`: the store's keys.

use std::error::Error;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use countersign_core::key::UnknownAlgorithm;
use countersign_core::session::SessionPolicy;
use countersign_core::store::{KeyPurpose, KeyStore as _, StoredKey};
use countersign_core::{Algorithm, Clock as _, KeyId, Timestamp, keychain, random};
use countersign_http::{Auth, OsRandom, SystemClock, rfc3339};
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
    /// States: a next key is published and will sign soon, the active one signs, a retiring one only verifies what it
    /// has signed, one that is gone does nothing.
    List,
    /// Print the public keys of access tokens, as GET /.well-known/jwks.json does: a JWK set (RFC 7517).
    ExportJwks,
    /// Make a new key, which replaces the one that signs.
    ///
    /// It is published at once and signs when every server has read it, which is after COUNTERSIGN_REVOCATION_BOUND.
    /// Tokens of the old key are accepted until they expire. Servers need no restart.
    Rotate {
        /// Which key to replace.
        #[arg(long, value_name = "PURPOSE", default_value = "access", value_parser = purpose)]
        purpose: KeyPurpose,
        /// What the new key signs with [default: as the old one].
        #[arg(long, value_name = "ALG", value_parser = algorithm)]
        algorithm: Option<Algorithm>,
        /// Let it sign at once. Only where there is one server: others would refuse its tokens until they know it.
        #[arg(long)]
        now: bool,
    },
    /// Remove a key in an emergency: somebody else may have it.
    ///
    /// Every token it has signed is refused by all servers within COUNTERSIGN_REVOCATION_BOUND; services that verify by
    /// themselves follow when they fetch the published keys again. If the key is the one that signs, a new one takes its
    /// place. Without the access key users refresh; without the refresh key they sign in again.
    Retire {
        /// The key's id, as `key list` shows it.
        kid: String,
    },
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
        match &key.command {
            KeySubcommand::Secret => {}
            KeySubcommand::List => {
                let options = SqliteOptions::from_url(&settings.database_url)?.create(false);
                let keys = SqliteStore::open(&options).await?.keys().await?;
                list(&keys, SystemClock::new().now(), &settings.policy);
            }
            KeySubcommand::ExportJwks => say(&auth(&settings).await?.sessions().public_keys()),
            KeySubcommand::Rotate { purpose, algorithm, now } => {
                let key = auth(&settings).await?.sessions().rotate_key(*purpose, *algorithm, *now).await?;
                let (id, from) = (key.key_id.as_str(), rfc3339(key.active_at));
                say(&format!("the key {id} ({}, {}) signs from {from} on", key.purpose.name(), key.algorithm));
            }
            KeySubcommand::Retire { kid } => {
                let id = KeyId::new(kid)?;
                let successor = auth(&settings).await?.sessions().remove_key(&id).await?;
                say(&format!("the key {id} is removed; its tokens are refused"));
                if let Some(successor) = successor {
                    say(&format!("the key {successor} signs now"));
                }
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

/// What the server has of the settings, without listening.
async fn auth(settings: &Settings) -> Result<Auth, Box<dyn Error>> {
    let (store, secrets) = serve::open_existing(settings).await?;
    Ok(serve::builder(settings, store, secrets).without_background().build().await?)
}

fn purpose(name: &str) -> Result<KeyPurpose, &'static str> {
    KeyPurpose::from_name(name).ok_or("must be access or refresh")
}

fn algorithm(name: &str) -> Result<Algorithm, UnknownAlgorithm> {
    name.parse()
}

fn list(keys: &[StoredKey], now: Timestamp, policy: &SessionPolicy) {
    let mut rows = vec![["KID", "PURPOSE", "ALGORITHM", "STATE", "CREATED"].map(str::to_owned)];
    for key in keys {
        let state = keychain::state(key, keys, now, policy.key_overlap(key.purpose));
        rows.push([
            // Ids of imported keys are text of others.
            key.key_id.as_str().escape_debug().to_string(),
            key.purpose.name().to_owned(),
            key.algorithm.name().to_owned(),
            state.to_string(),
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
