//! `countersign client …`: the programs that may ask about tokens or revoke them, by the endpoints of RFC 7662 and RFC
//! 7009.

use std::error::Error;

use clap::{Args, Subcommand, ValueEnum};
use countersign_core::model::{AdminKey, AdminScope, ClientSecret, ConfidentialClient};
use countersign_http::{OsRandom, SystemClock, rfc3339};
use countersign_jwt::Clock as _;
use countersign_jwt::random::uuid;
use serde_json::json;
use uuid::Uuid;

use super::admin_key::{Expiry, check_name_is_free, expiry, name, remove_if};
use super::table::{or_dash, say_table, shown};
use super::{StoreFlags, help, note, with_settings};
use crate::store::Database;
use crate::telemetry::say;

#[derive(Args, Debug)]
pub(crate) struct ClientCommand {
    #[command(subcommand)]
    command: ClientSubcommand,
}

#[derive(Debug, Subcommand)]
enum ClientSubcommand {
    /// Make a client and print its id and secret, once: the store keeps only the secret's digest.
    ///
    /// A client is a program of yours, such as an API that asks whether a token is good. It presents its id and secret
    /// by HTTP Basic or as members of the form.
    #[command(after_help = help::CLIENT)]
    Add {
        /// The client's name. The audit trail names it as the actor
        #[arg(value_name = "NAME", value_parser = name)]
        name: String,
        /// What the client may do, separated by commas
        #[arg(long, value_name = "WHAT", value_enum, value_delimiter = ',', default_value = "introspect")]
        may: Vec<May>,
        /// How long the secret is good, such as 90d, or never
        #[arg(long, value_name = "DURATION", default_value = "365d", value_parser = expiry)]
        expires: Expiry,
        /// Write JSON, for programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// List the clients, without their secrets.
    List {
        /// Write JSON, for programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Remove a client: it is refused from now on.
    Remove {
        /// The client's id, as `client list` shows it
        id: Uuid,
        #[command(flatten)]
        store: StoreFlags,
    },
}

/// What a client may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum May {
    /// Ask about tokens
    Introspect,
    /// Revoke tokens, whoever's they are
    Revoke,
}

impl May {
    const ALL: [Self; 2] = [Self::Introspect, Self::Revoke];

    const fn name(self) -> &'static str {
        match self {
            Self::Introspect => "introspect",
            Self::Revoke => "revoke",
        }
    }

    const fn scope(self) -> AdminScope {
        match self {
            Self::Introspect => AdminScope::TokensIntrospect,
            Self::Revoke => AdminScope::TokensRevoke,
        }
    }
}

/// `countersign client …`
pub(crate) fn run(command: ClientCommand) -> Result<(), Box<dyn Error>> {
    match command.command {
        ClientSubcommand::Add { name, may, expires, json, store } => with_settings(store, async |settings| {
            let stores = Database::open_without_secret(settings).await?.stores();
            check_name_is_free(&stores, &name).await?;
            let secret = ClientSecret::new(&OsRandom)?;
            let now = SystemClock::new().now();
            let client = AdminKey {
                id: uuid(&OsRandom)?,
                name,
                digest: secret.digest(),
                scopes: May::ALL.into_iter().filter(|what| may.contains(what)).map(May::scope).collect(),
                created_at: now,
                expires_at: expires.after(now),
            };
            if !stores.admin_keys().insert_admin_key(&client).await? {
                return Err("the client's id is taken; try again".into());
            }
            note(&stores, "client_added", format!("{} {}", client.id, client.name)).await?;
            let (id, secret) = (client.id.to_string(), secret.expose());
            if json {
                say(&json!({ "client_id": id, "client_secret": secret }).to_string());
            } else {
                say(&format!("client_id: {id}\nclient_secret: {secret}"));
            }
            Ok(())
        }),
        ClientSubcommand::List { json, store } => with_settings(store, async |settings| {
            let stores = Database::open_without_secret(settings).await?.stores();
            let records = stores.admin_keys().admin_keys().await?;
            list(&records.into_iter().filter_map(ConfidentialClient::of).collect::<Vec<_>>(), json);
            Ok(())
        }),
        ClientSubcommand::Remove { id, store } => with_settings(store, async |settings| {
            let stores = Database::open_without_secret(settings).await?.stores();
            if !remove_if(&stores, id, AdminKey::is_of_client).await? {
                return Err(format!("there is no client {id}; countersign client list shows all").into());
            }
            note(&stores, "client_removed", id.to_string()).await?;
            say(&format!("the client {id} is removed and refused"));
            Ok(())
        }),
    }
}

fn list(clients: &[ConfidentialClient], json: bool) {
    let may = |client: &ConfidentialClient| {
        May::ALL.into_iter().filter(|what| client.may(what.scope())).map(May::name).collect::<Vec<_>>()
    };
    if json {
        let clients: Vec<_> = clients
            .iter()
            .map(|client| {
                let record = client.record();
                json!({
                    "client_id": client.id().to_string(), "name": client.name(), "may": may(client),
                    "created_at": rfc3339(record.created_at), "expires_at": record.expires_at.map(rfc3339),
                })
            })
            .collect();
        return say(&json!({ "clients": clients }).to_string());
    }
    let mut rows = vec![["CLIENT ID", "NAME", "MAY", "CREATED", "EXPIRES"].map(str::to_owned)];
    for client in clients {
        let record = client.record();
        let (created, expires) = (rfc3339(record.created_at), or_dash(record.expires_at.map(rfc3339)));
        rows.push([client.id().to_string(), shown(client.name()), may(client).join(","), created, expires]);
    }
    say_table(&rows);
}
