//! `countersign doctor`

use std::process::ExitCode;

use clap::Args;
use countersign_http::SystemClock;
use serde_json::json;

use super::ServeFlags;
use crate::doctor::{self, Finding, Report, Severity};
use crate::telemetry::{complain, say};

#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// Ask no other machine: neither the mail server nor the public URL
    #[arg(long)]
    offline: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ServeFlags,
}

pub(crate) fn run(Doctor { offline, json, flags }: Doctor) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::from(2);
        }
    };
    let report = runtime.block_on(doctor::examine(flags.into(), !offline, &SystemClock::new()));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    if json {
        say(&json!({ "worst": report.worst(), "findings": report.findings }).to_string())
    } else {
        tell(&report)
    }
    match report.worst() {
        Severity::Good | Severity::Note => ExitCode::SUCCESS,
        Severity::Warning => ExitCode::from(1),
        Severity::Error => ExitCode::from(2),
    }
}

/// Writes the report for people: a line for each finding, and below it what to do.
fn tell(report: &Report) {
    for Finding { about, severity, found, remedy } in &report.findings {
        let word = match severity {
            Severity::Good => "good",
            Severity::Note => "note",
            Severity::Warning => "WARNING",
            Severity::Error => "ERROR",
        };
        let found = found.replace('\n', "\n                      ");
        say(&format!("{:<11}  {word:<7}  {found}", about.name()));
        if let Some(remedy) = remedy {
            say(&format!("                      → {remedy}"));
        }
    }
}
