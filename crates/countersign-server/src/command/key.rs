//! `countersign key …`: works with the store's keys, and makes new ones.

use std::error::Error;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use countersign_core::model::{KeyPurpose, SessionPolicy, StoredKey};
use countersign_http::{OsRandom, SystemClock, rfc3339};
use countersign_jwt::{Algorithm, Clock as _, KeyId, Timestamp, random};

use super::key_file::{self, Format};
use super::table::say_table;
use super::{StoreFlags, auth, note, with_settings};
use crate::store::Database;
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
    /// Print a new private key for use elsewhere, or for `key import`. The store is not touched.
    ///
    /// The key is NOT encrypted: anybody who reads it can sign. Its id is the thumbprint of its public key (RFC 7638).
    Generate {
        /// The algorithm that it signs with: EdDSA, ES256, ES384, ES512, ES256K, RS256, PS256, HS256, …
        #[arg(long, value_name = "ALG", default_value = "EdDSA", value_parser = super::algorithm)]
        algorithm: Algorithm,
        /// The form in which it is written [default: pem, for HS256, HS384 and HS512 jwk]
        #[arg(long, value_name = "FORMAT")]
        format: Option<Format>,
        /// The size of an RSA key: 2048, 3072 or 4096 [default: 2048]
        #[arg(long, value_name = "BITS", value_parser = rsa_bits)]
        rsa_bits: Option<u16>,
        /// Write it to this new file, which only its owner can read, and print its id instead
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// List the keys in the store: id, purpose, algorithm, state and when each was made. Needs no secret and shows
    /// none.
    ///
    /// States: a next key is published and will sign soon, the active key signs, a retiring key only verifies what it
    /// has signed, and a key that is gone is not accepted.
    List {
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Print the public keys of access tokens, as GET /.well-known/jwks.json does: a JWK set (RFC 7517).
    ExportJwks {
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Make a new key, which replaces the one that signs.
    ///
    /// The new key is published at once. It signs as soon as every server has read it, which is after
    /// COUNTERSIGN_REVOCATION_BOUND. Tokens of the old key are accepted until they expire. Servers need no restart. The
    /// server does the same by itself every COUNTERSIGN_KEY_ROTATION.
    Rotate {
        /// The purpose of the key to replace: access or refresh
        #[arg(long, value_name = "PURPOSE", default_value = "access", value_parser = purpose)]
        purpose: KeyPurpose,
        /// The algorithm that the new key signs with [env: COUNTERSIGN_KEY_ALGORITHM] [default: as the old one]
        #[arg(long, value_name = "ALG", value_parser = super::algorithm)]
        algorithm: Option<Algorithm>,
        /// Let the key sign at once. Only for a store with one server: other servers would refuse its tokens until they
        /// have read it
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Take a private key that was made elsewhere as the next one that signs access tokens.
    ///
    /// The key is PEM (PKCS#8, SEC 1 or PKCS#1, not encrypted) or a JWK. Weak keys are refused, and so are keys that
    /// this store once removed. An imported key then replaces the one that signs in the same way as after `key rotate`.
    Import {
        /// The file, readable by its owner only; - for standard input
        file: PathBuf,
        /// The algorithm that it signs with, if the key does not name it: RSA keys in PEM, JWKs without alg
        #[arg(long, value_name = "ALG", value_parser = super::algorithm)]
        algorithm: Option<Algorithm>,
        /// Let the key sign at once. Only for a store with one server: other servers would refuse its tokens until they
        /// have read it
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Remove a key in an emergency: if somebody else may have it.
    ///
    /// All servers refuse every token that it has signed within COUNTERSIGN_REVOCATION_BOUND. Services that verify by
    /// themselves follow when they fetch the published keys again. If the key is the one that signs, a new one takes
    /// its place. After the removal of an access key users refresh; after that of a refresh key they sign in again.
    Retire {
        /// The key's id, as `key list` shows it
        #[arg(allow_hyphen_values = true)]
        kid: String,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Seal all keys in the store with the first of the secrets.
    ///
    /// To change the secret: put a new one (countersign key secret) in front of the old one in COUNTERSIGN_SECRET or
    /// the secret's file, separated by a comma; restart all servers; run this; remove the old one. Sessions continue,
    /// and the servers need not stop at the same time.
    Reseal {
        #[command(flatten)]
        store: StoreFlags,
    },
}

/// `countersign key …`
pub(crate) fn run(key: KeyCommand) -> Result<(), Box<dyn Error>> {
    match key.command {
        KeySubcommand::Secret => {
            let secret: [u8; 32] = random::bytes(&OsRandom)?;
            say(&STANDARD.encode(secret));
            Ok(())
        }
        KeySubcommand::Generate { algorithm, format, rsa_bits, out } => {
            let key = key_file::generate(algorithm, rsa_bits)?;
            let text = key_file::write(&key, format)?;
            match out {
                None => say(text.trim_end()),
                Some(path) => {
                    key_file::write_new(&path, &text)?;
                    say(&format!("{} holds the key {} ({algorithm})", path.display(), key.key_id()));
                }
            }
            Ok(())
        }
        KeySubcommand::List { store } => with_settings(store, async |settings| {
            let keys = Database::open_without_secret(settings).await?.stores().keys().keys().await?;
            list(&keys, SystemClock::new().now(), &settings.policy);
            Ok(())
        }),
        KeySubcommand::ExportJwks { store } => with_settings(store, async |settings| {
            say(&auth(settings).await?.0.sessions().keys().public_keys());
            Ok(())
        }),
        KeySubcommand::Rotate { purpose, algorithm, now, store } => with_settings(store, async |settings| {
            let (auth, stores) = auth(settings).await?;
            let key = auth.sessions().keys().rotate(purpose, algorithm, now).await?;
            note(&stores, "admin_signing_key_made", of_key(&key)).await?;
            say_when_it_signs(&key);
            Ok(())
        }),
        KeySubcommand::Import { file, algorithm, now, store } => with_settings(store, async |settings| {
            let key = key_file::read(&file, algorithm)?;
            let (auth, stores) = auth(settings).await?;
            let key = auth.sessions().keys().import(&key, now).await?;
            note(&stores, "admin_signing_key_imported", of_key(&key)).await?;
            say_when_it_signs(&key);
            Ok(())
        }),
        KeySubcommand::Retire { kid, store } => with_settings(store, async |settings| {
            let id = KeyId::new(&kid)?;
            let (auth, stores) = auth(settings).await?;
            let successor = auth.sessions().keys().remove(&id).await?;
            note(&stores, "admin_signing_key_removed", id.to_string()).await?;
            say(&format!("the key {id} is removed; its tokens are refused"));
            if let Some(successor) = successor {
                say(&format!("the key {successor} signs now"));
            }
            Ok(())
        }),
        KeySubcommand::Reseal { store } => with_settings(store, async |settings| {
            let (database, secrets) = Database::open_existing(settings).await?;
            let (sealed, all) =
                countersign_core::flow::reseal(&**database.stores().keys(), &secrets, &OsRandom).await?;
            if sealed < all {
                return Err(format!(
                    "{sealed} of {all} keys were sealed anew; somebody else changed the others meanwhile: try again"
                )
                .into());
            }
            say(&format!("{sealed} keys are sealed with the first secret; the others are no longer needed"));
            Ok(())
        }),
    }
}

/// What the audit trail says of a key.
fn of_key(key: &StoredKey) -> String {
    format!("{} {}", key.purpose.name(), key.key_id)
}

fn say_when_it_signs(key: &StoredKey) {
    let (id, from) = (&key.key_id, rfc3339(key.active_at));
    say(&format!("the key {id} ({}, {}) signs from {from} on", key.purpose.name(), key.algorithm));
}

fn purpose(name: &str) -> Result<KeyPurpose, &'static str> {
    KeyPurpose::from_name(name).ok_or("must be access or refresh")
}

fn rsa_bits(text: &str) -> Result<u16, &'static str> {
    text.parse().ok().filter(|bits| [2048, 3072, 4096].contains(bits)).ok_or("must be 2048, 3072 or 4096")
}

fn list(keys: &[StoredKey], now: Timestamp, policy: &SessionPolicy) {
    let mut rows = vec![["KID", "PURPOSE", "ALGORITHM", "STATE", "CREATED"].map(str::to_owned)];
    for key in keys {
        let state = countersign_core::model::key_state(key, keys, now, policy.key_overlap(key.purpose));
        rows.push([
            // The ids of imported keys are text that others chose, so they are escaped.
            key.key_id.as_str().escape_debug().to_string(),
            key.purpose.name().to_owned(),
            key.algorithm.name().to_owned(),
            state.to_string(),
            rfc3339(key.created_at),
        ]);
    }
    say_table(&rows);
}
