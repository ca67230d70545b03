//! The command line.

pub(crate) mod admin_key;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod client;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod health;
mod help;
#[cfg(feature = "flask")]
pub(crate) mod import;
pub(crate) mod jws;
pub(crate) mod key;
mod key_file;
pub(crate) mod mail;
pub(crate) mod man;
mod new_file;
pub(crate) mod restore;
pub(crate) mod revoke_all;
mod table;
pub(crate) mod token;
pub(crate) mod user;
mod user_export;
mod user_import;
mod user_number;
mod user_rows;

use std::error::Error;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use countersign_core::model::AuditRecord;
use countersign_core::store::Stores;
use countersign_http::Auth;
use countersign_jwt::Secrets;

use crate::operator::Actor;
use crate::serve;
use crate::settings::{Flags, Settings, Sources, algorithm, help_of_flag};
use crate::store::Database;
use crate::telemetry::say;

/// Authentication for web applications in any language.
///
/// Without a command it serves: `countersign --listen 127.0.0.1:9000` is `countersign serve --listen 127.0.0.1:9000`.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, args_conflicts_with_subcommands = true)]
#[command(after_long_help = help::long(), after_help = help::short())]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: ServeFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the API (the default).
    #[command(after_long_help = help::long(), after_help = help::short())]
    Serve(ServeFlags),
    /// Create the database or bring its tables up to date, and stop.
    Migrate(StoreFlags),
    /// Check and show the settings, and print their reference.
    Config(config::ConfigCommand),
    /// Look at settings, files, database, keys, mail and the public address, and say what is wrong and what to do.
    ///
    /// Nothing is changed. The status is 0 if all is good, 1 if something needs attention, and 2 if something is wrong.
    Doctor(doctor::Doctor),
    /// Ask the running server of these settings whether it is ready: 0 if it is, and 1 if not.
    ///
    /// It asks for /readyz where COUNTERSIGN_LISTEN says that the server listens. It is for images that have no other
    /// program to ask with: HEALTHCHECK in a Dockerfile, healthcheck in a compose file.
    Health(ServeFlags),
    /// Find, make and change users; reset passwords; end sessions.
    #[command(after_help = help::USER)]
    User(user::UserCommand),
    /// Make, list and remove the keys of the admin API.
    AdminKey(admin_key::AdminKeyCommand),
    /// Make, list and remove the clients that may ask about tokens or revoke them.
    Client(client::ClientCommand),
    /// Look at mails that could not be sent, and send them again.
    Mail(mail::MailCommand),
    /// Read the audit trail: what happened to accounts, sessions and keys, and who did it.
    #[command(after_help = help::AUDIT)]
    Audit(audit::AuditCommand),
    /// Work with keys: the store's, and new ones for use elsewhere.
    Key(key::KeyCommand),
    /// Explain, verify or make tokens of this server.
    Token(token::TokenCommand),
    /// Verify anybody's signed tokens with keys from a file.
    Jws(jws::JwsCommand),
    /// Bring users, sessions and revoked tokens from another application's database.
    #[cfg(feature = "flask")]
    Import(import::ImportCommand),
    /// Copy the SQLite database to a new file, while servers use it. The secret is not copied.
    ///
    /// The other engines have tools of their own for that: docs/backup.md shows them.
    Backup(backup::Backup),
    /// Put a copy in the place of the SQLite database, and refuse every token that was issued before.
    ///
    /// Stop the servers and move the database away first, with its files -wal and -shm. The secret must be there. The
    /// copy does not know which sessions were ended after it was made, so everybody has to sign in again.
    Restore(restore::Restore),
    /// Refuse every token that was ever issued: after a backup was restored, or if keys may be in wrong hands.
    ///
    /// A restored store does not know the logouts since the backup. So this removes all keys and makes new ones. Every
    /// server refuses every older token within COUNTERSIGN_REVOCATION_BOUND. Services that verify tokens by themselves
    /// refuse them when they fetch the published keys again. Everybody has to sign in again.
    ///
    /// Run it before the servers start again, if possible. Running servers need no restart, but a server that does not
    /// know of the removal yet may still exchange a refresh token for a new pair, which is then valid. The sessions
    /// stay in users' lists until they expire, although none of their tokens is accepted any more.
    RevokeAll(revoke_all::RevokeAll),
    /// Print what a shell needs to complete commands and flags.
    Completions(completions::CompletionsCommand),
    /// Print the manual page, or write those of all commands into a folder.
    Man(man::ManCommand),
}

/// The flags of serving.
#[derive(Args, Debug)]
pub(crate) struct ServeFlags {
    #[arg(long, value_name = "ADDRESS", help = help_of_flag("listen"))]
    listen: Option<String>,
    #[arg(long, help = help_of_flag("plain_http"))]
    plain_http: bool,
    #[arg(long, help = help_of_flag("accept_weak_store"))]
    accept_weak_store: bool,
    #[command(flatten)]
    store: StoreFlags,
}

/// The flags of every command that works on the store. The secret is not a flag, because other users of the machine can
/// see the flags of a running program.
#[derive(Args, Debug)]
#[command(after_help = help::STORE)]
pub(crate) struct StoreFlags {
    #[arg(long, value_name = "FILE", help = help_of_flag("config"))]
    config: Option<PathBuf>,
    #[arg(long, value_name = "URL", help = help_of_flag("database_url"))]
    database: Option<String>,
    #[arg(long, value_name = "URL", help = help_of_flag("sessions_url"))]
    sessions: Option<String>,
}

impl From<ServeFlags> for Flags {
    fn from(flags: ServeFlags) -> Self {
        Self {
            listen: flags.listen,
            plain_http: flags.plain_http,
            accept_weak_store: flags.accept_weak_store,
            ..flags.store.into()
        }
    }
}

impl From<StoreFlags> for Flags {
    fn from(flags: StoreFlags) -> Self {
        Self {
            config: flags.config,
            listen: None,
            plain_http: false,
            accept_weak_store: false,
            database: flags.database,
            sessions: flags.sessions,
        }
    }
}

/// Reads the server's settings and runs work with them.
fn with_settings(
    flags: StoreFlags,
    work: impl AsyncFnOnce(&Settings) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let settings = Settings::read(&Sources::read(flags.into())?)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work(&settings))
}

/// The authentication and stores that a server with these settings has, without listening.
pub(crate) async fn auth(settings: &Settings) -> Result<(Auth, Stores), Box<dyn Error>> {
    let (database, secrets) = Database::open_existing(settings).await?;
    auth_over(&database, secrets, settings).await
}

/// The authentication and stores of a database that is open.
pub(crate) async fn auth_over(
    database: &Database,
    secrets: Secrets,
    settings: &Settings,
) -> Result<(Auth, Stores), Box<dyn Error>> {
    let stores = database.stores();
    // The settings that the servers have agreed on hold, whatever the environment of this command says.
    let place = database.place_of_sessions(settings).await?;
    let builder = serve::builder(settings, stores.clone(), secrets, &place);
    let builder = builder.without_background().follow_settings();
    let auth = serve::build(builder, &settings.profile).await?;
    Ok((auth, stores))
}

/// Writes a record of what was done at the command line.
async fn note(stores: &Stores, name: &str, detail: String) -> Result<(), Box<dyn Error>> {
    if let Some(record) = Actor::command_line().record(name) {
        stores.audit().insert_audit(&[AuditRecord { detail: Some(detail), ..record }]).await?;
    }
    Ok(())
}

/// `countersign migrate`
pub(crate) fn migrate(flags: StoreFlags) -> Result<(), Box<dyn Error>> {
    with_settings(flags, async |settings| {
        for name in Database::migrate(settings).await? {
            say(&format!("{name} is up to date"));
        }
        Ok(())
    })
}
