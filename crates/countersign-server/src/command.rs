//! The command line.

pub(crate) mod jws;
pub(crate) mod key;
pub(crate) mod token;

use std::error::Error;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use countersign_sql::sqlite::{self, SqliteOptions};

use crate::settings::{Flags, Settings, Sources};
use crate::telemetry::say;

/// Authentication for web applications in any language.
///
/// Settings come from flags, then COUNTERSIGN_… variables of the environment, then .env in the working folder, then
/// the file that --config names. docs/api.md lists them all.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, about)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) flags: SharedFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the API (the default).
    Serve,
    /// Create the database or bring its tables up to date, and stop.
    Migrate,
    /// Work with the store's keys.
    Key(key::KeyCommand),
    /// Look at this server's tokens.
    Token(token::TokenCommand),
    /// Verify anybody's signed tokens with keys from a file.
    Jws(jws::JwsCommand),
}

#[derive(Args, Debug)]
pub(crate) struct SharedFlags {
    /// A TOML file with settings (also COUNTERSIGN_CONFIG).
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address and port to listen on; port 0 takes a free one [default: 127.0.0.1:8080].
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<String>,
    /// The database [default: sqlite://countersign.db].
    #[arg(long, global = true, value_name = "URL")]
    database: Option<String>,
}

impl From<SharedFlags> for Flags {
    fn from(flags: SharedFlags) -> Self {
        Self { config: flags.config, listen: flags.listen, database: flags.database }
    }
}

/// `countersign migrate`
pub(crate) fn migrate(flags: Flags) -> Result<(), Box<dyn Error>> {
    let settings = Settings::read(&Sources::read(flags)?)?;
    let options = SqliteOptions::from_url(&settings.database_url)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(sqlite::migrate(&options))?;
    say(&format!("{} is up to date", options.path().display()));
    Ok(())
}
