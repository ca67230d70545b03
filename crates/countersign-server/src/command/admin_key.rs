//! `countersign admin-key …`: the keys with which programs and people use the admin API.

use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;

use clap::{Args, Subcommand};
use countersign_core::model::{AdminKey, AdminKeyText, AdminScope};
use countersign_core::store::Stores;
use countersign_http::{OsRandom, SystemClock, rfc3339};
use countersign_jwt::random::uuid;
use countersign_jwt::{Clock as _, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::table::{or_dash, say_table, shown};
use super::{StoreFlags, help, note, with_settings};
use crate::operator::Actor;
use crate::settings::duration;
use crate::store::Database;
use crate::telemetry::say;

#[derive(Args, Debug)]
pub(crate) struct AdminKeyCommand {
    #[command(subcommand)]
    command: AdminKeySubcommand,
}

#[derive(Debug, Subcommand)]
enum AdminKeySubcommand {
    /// Make a key and print it, once: the store keeps only its digest.
    ///
    /// The admin API listens on COUNTERSIGN_ADMIN_LISTEN. A request presents the key as Authorization: Bearer csk_….
    #[command(after_help = help::ADMIN_KEY)]
    Create {
        /// What the key is for. The audit trail names it as the actor
        #[arg(long, value_name = "NAME", value_parser = name)]
        name: String,
        /// What the key allows: users:read, users:write, sessions:read, sessions:write or events:read; repeatable. No
        /// scope includes another
        #[arg(long, value_name = "SCOPE", required = true, value_parser = scope)]
        scope: Vec<AdminScope>,
        /// How long the key is good, such as 90d, or never
        #[arg(long, value_name = "DURATION", default_value = "365d", value_parser = expiry)]
        expires: Expiry,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// List the keys, without their secrets.
    List {
        /// Write JSON, for programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Remove a key: it is refused from now on.
    Remove {
        /// The key's id, as `admin-key list` shows it
        id: Uuid,
        #[command(flatten)]
        store: StoreFlags,
    },
}

/// How long a key is good.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expiry {
    Never,
    After(Duration),
}

impl Expiry {
    /// The time from which on a key that was made at `now` is refused.
    pub(super) fn after(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Never => None,
            Self::After(duration) => Some(now + duration),
        }
    }
}

/// `countersign admin-key …`
pub(crate) fn run(command: AdminKeyCommand) -> Result<(), Box<dyn Error>> {
    match command.command {
        AdminKeySubcommand::Create { name, scope, expires, store } => {
            with_settings(store, async |settings| {
                let stores = Database::open_without_secret(settings).await?.stores();
                let text = AdminKeyText::new(uuid(&OsRandom)?, &OsRandom)?;
                let now = SystemClock::new().now();
                let key = AdminKey {
                    id: text.id(),
                    name,
                    digest: text.digest(),
                    scopes: scope.into_iter().collect::<BTreeSet<_>>().into_iter().collect(),
                    created_at: now,
                    expires_at: expires.after(now),
                };
                check_name_is_free(&stores, &key.name).await?;
                if !stores.admin_keys().insert_admin_key(&key).await? {
                    return Err("the key's id is taken; try again".into());
                }
                note(&stores, "admin_key_created", format!("{} {}", key.id, key.name)).await?;
                say(&text.expose());
                Ok(())
            })
        }
        AdminKeySubcommand::List { json, store } => with_settings(store, async |settings| {
            let stores = Database::open_without_secret(settings).await?.stores();
            let keys = stores.admin_keys().admin_keys().await?;
            list(&keys.into_iter().filter(|key| !key.is_of_client()).collect::<Vec<_>>(), json);
            Ok(())
        }),
        AdminKeySubcommand::Remove { id, store } => with_settings(store, async |settings| {
            let stores = Database::open_without_secret(settings).await?.stores();
            if !remove_if(&stores, id, |key| !key.is_of_client()).await? {
                return Err(
                    format!("there is no admin key {id}; countersign admin-key list shows all").into()
                );
            }
            note(&stores, "admin_key_removed", id.to_string()).await?;
            say(&format!("the admin key {id} is removed and refused"));
            Ok(())
        }),
    }
}

/// Refuses a name that a key or a client has, because the audit trail names both by their names.
pub(super) async fn check_name_is_free(stores: &Stores, name: &str) -> Result<(), Box<dyn Error>> {
    let known = stores.admin_keys().admin_keys().await?.into_iter().find(|known| known.name == name);
    let Some(known) = known else { return Ok(()) };
    let (what, command) =
        if known.is_of_client() { ("a client", "client") } else { ("an admin key", "admin-key") };
    Err(format!(
        "there is {what} with the name {}; choose another name, or remove it: countersign {command} list shows its id",
        shown(name)
    )
    .into())
}

/// Removes the record of a key or a client if it is of the right kind; returns whether there was one.
pub(super) async fn remove_if(
    stores: &Stores,
    id: Uuid,
    is_of_kind: impl FnOnce(&AdminKey) -> bool,
) -> Result<bool, Box<dyn Error>> {
    let is_there = stores.admin_keys().admin_key(id).await?.is_some_and(|record| is_of_kind(&record));
    Ok(is_there && stores.admin_keys().remove_admin_key(id).await?)
}

fn list(keys: &[AdminKey], json: bool) {
    let scopes = |key: &AdminKey| key.scopes.iter().map(|scope| scope.name()).collect::<Vec<_>>();
    if json {
        let keys: Vec<_> = keys
            .iter()
            .map(|key| {
                json!({
                    "id": key.id.to_string(), "name": key.name, "scopes": scopes(key),
                    "created_at": rfc3339(key.created_at), "expires_at": key.expires_at.map(rfc3339),
                })
            })
            .collect();
        return say(&json!({ "admin_keys": keys }).to_string());
    }
    let mut rows = vec![["ID", "NAME", "SCOPES", "CREATED", "EXPIRES"].map(str::to_owned)];
    for key in keys {
        let (created, expires) = (rfc3339(key.created_at), or_dash(key.expires_at.map(rfc3339)));
        rows.push([key.id.to_string(), shown(&key.name), scopes(key).join(","), created, expires]);
    }
    say_table(&rows);
}

pub(super) fn name(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "must be 1 to 64 characters without control characters, and not \"command line\"";
    let is_name = (1..=64).contains(&text.chars().count())
        && !text.chars().any(char::is_control)
        && text.trim() == text
        && text != Actor::COMMAND_LINE;
    if is_name { Ok(text.to_owned()) } else { Err(WRONG) }
}

fn scope(text: &str) -> Result<AdminScope, String> {
    let operators = AdminScope::OF_OPERATORS;
    let found = operators.into_iter().find(|scope| scope.name() == text);
    found.ok_or_else(|| format!("must be one of {}", operators.map(AdminScope::name).join(", ")))
}

pub(super) fn expiry(text: &str) -> Result<Expiry, &'static str> {
    match text {
        "never" => Ok(Expiry::Never),
        _ => match duration(text).filter(|duration| !duration.is_zero()) {
            Some(duration) => Ok(Expiry::After(duration)),
            None => Err("must be a duration such as 90d, or never"),
        },
    }
}
