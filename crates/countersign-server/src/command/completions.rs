//! `countersign completions`: what a shell needs to complete this program's commands and flags.

use std::error::Error;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::CommandLine;
use crate::telemetry::say;

#[derive(Args, Debug)]
pub(crate) struct CompletionsCommand {
    /// The shell that reads them
    shell: Shell,
}

pub(crate) fn run(CompletionsCommand { shell }: &CompletionsCommand) -> Result<(), Box<dyn Error>> {
    let mut script = Vec::new();
    clap_complete::generate(*shell, &mut CommandLine::command(), "countersign", &mut script);
    say(String::from_utf8(script)?.trim_end());
    Ok(())
}
