//! `countersign user …`: accounts, by the operator.

use std::error::Error;

use clap::{Args, Subcommand};

use super::{user_export, user_import};

#[derive(Args, Debug)]
pub(crate) struct UserCommand {
    #[command(subcommand)]
    command: UserSubcommand,
}

#[derive(Debug, Subcommand)]
enum UserSubcommand {
    Import(user_import::UserImport),
    Export(user_export::UserExport),
}

/// `countersign user …`
pub(crate) fn run(user: UserCommand) -> Result<(), Box<dyn Error>> {
    match user.command {
        UserSubcommand::Import(import) => user_import::run(import),
        UserSubcommand::Export(export) => user_export::run(export),
    }
}
