//! The Countersign server: registration, login, tokens and sessions for applications in any language, over HTTP.

mod admin;
mod api_page;
mod app;
mod audit;
mod command;
mod doctor;
mod edge;
mod fixed;
mod hashing;
mod home;
mod host;
mod mail;
mod metrics;
mod notify;
mod openapi;
mod operator;
mod readiness;
mod reload;
mod serve;
mod settings;
mod shown;
mod store;
mod telemetry;
mod traces;
mod whoami;

use std::process::ExitCode;

use clap::Parser as _;

use command::{Command, CommandLine};

fn main() -> ExitCode {
    let CommandLine { command, serve } = CommandLine::parse();
    let done = match command.unwrap_or(Command::Serve(serve)) {
        Command::Serve(flags) => serve::run(flags.into()),
        Command::Migrate(flags) => command::migrate(flags),
        Command::Config(config) => command::config::run(config),
        Command::Doctor(doctor) => return command::doctor::run(doctor),
        Command::Health(flags) => command::health::run(flags),
        Command::Key(key) => command::key::run(key),
        Command::Token(token) => command::token::run(token),
        Command::Jws(jws) => command::jws::run(&jws),
        #[cfg(feature = "flask")]
        Command::Import(import) => command::import::run(import),
        Command::User(user) => command::user::run(user),
        Command::AdminKey(admin_key) => command::admin_key::run(admin_key),
        Command::Audit(audit) => command::audit::run(audit),
        Command::Client(client) => command::client::run(client),
        Command::Mail(mail) => command::mail::run(mail),
        Command::Backup(backup) => command::backup::run(backup),
        Command::Restore(restore) => command::restore::run(restore),
        Command::RevokeAll(revoke_all) => command::revoke_all::run(revoke_all),
        Command::Completions(completions) => command::completions::run(&completions),
        Command::Man(man) => command::man::run(&man),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::complain(&*error);
            ExitCode::FAILURE
        }
    }
}
