//! Replays recorded conversations with other libraries against their rules here.
//!
//! Every recording in the folders below `parity/` is played, or below the directory that the environment variable
//! `PARITY_DIR` names. Recordings are data: nothing here knows one by its name.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test with a report of its own"
)]

mod compare;
mod hooks;
mod jar;
mod placeholder;
mod recording;
mod replay;
mod report;
mod subject;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::report::Report;

fn main() -> ExitCode {
    match Run::asked_for(std::env::args().skip(1)) {
        Run::All => {}
        Run::List => {
            println!("parity: test");
            return ExitCode::SUCCESS;
        }
        Run::Nothing => return ExitCode::SUCCESS,
    }
    report::keep_places_of_panics();
    match Report::of(&directory(), subject::build, &mut io::stdout().lock()) {
        Ok(report) if report.is_success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the report cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Where the recordings are. A relative `PARITY_DIR` counts from this crate, where `cargo test` starts programs, or from
/// the workspace.
fn directory() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    match std::env::var_os("PARITY_DIR").filter(|named| !named.is_empty()).map(PathBuf::from) {
        None => package.join("parity"),
        Some(named) if named.exists() => named,
        Some(named) => package.join("../..").join(named),
    }
}

/// What `cargo test` wants of this program, which has no other tests and writes its own report.
enum Run {
    All,
    List,
    Nothing,
}

impl Run {
    fn asked_for(mut arguments: impl Iterator<Item = String>) -> Self {
        let (mut run, mut filters) = (Self::All, Vec::new());
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => run = Self::List,
                "--ignored" => return Self::Nothing,
                "--test-threads" | "--color" | "--format" | "--logfile" | "-Z" | "--shuffle-seed" => {
                    let _value = arguments.next();
                }
                "--skip" if arguments.next().is_some_and(|name| "parity".contains(&name)) => {
                    return Self::Nothing;
                }
                option if option.starts_with('-') => {}
                filter => filters.push(filter.to_owned()),
            }
        }
        if filters.is_empty() || filters.iter().any(|filter| "parity".contains(filter.as_str())) {
            run
        } else {
            Self::Nothing
        }
    }
}
