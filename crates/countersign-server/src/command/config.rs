//! `countersign config`: checks and shows the settings, and prints their reference.

use std::error::Error;

use clap::{Args, Subcommand};
use serde_json::json;

use super::ServeFlags;
use super::table::{or_dash, say_table, shown};
use crate::metrics;
use crate::serve;
use crate::settings::{self, Declared, Secrecy, Setting, Settings, Sources};
use crate::telemetry::{say, warn};

#[derive(Args, Debug)]
pub(crate) struct ConfigCommand {
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, Subcommand)]
enum Work {
    /// Say everything that is wrong with the settings and the files that they name. The database is not opened.
    Check(ServeFlags),
    /// Show the settings that are set, and where each was. Secrets are not shown.
    Show(Show),
    /// Print the reference of all settings, as Markdown.
    Reference {
        /// Print the JSON schema of the settings file in its place
        #[arg(long)]
        schema: bool,
        /// Print the list of all metrics in its place
        #[arg(long, conflicts_with = "schema")]
        metrics: bool,
    },
}

#[derive(Args, Debug)]
struct Show {
    #[command(flatten)]
    flags: ServeFlags,
    /// Also the settings that are not set, with their defaults
    #[arg(long)]
    all: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(command: ConfigCommand) -> Result<(), Box<dyn Error>> {
    match command.work {
        Work::Check(flags) => check(flags),
        Work::Show(show) => self::show(show),
        Work::Reference { metrics: true, .. } => {
            say(metrics::page().trim_end());
            Ok(())
        }
        Work::Reference { schema: false, .. } => {
            say(settings::page().trim_end());
            Ok(())
        }
        Work::Reference { schema: true, .. } => {
            say(&serde_json::to_string_pretty(&settings::schema())?);
            Ok(())
        }
    }
}

fn check(flags: ServeFlags) -> Result<(), Box<dyn Error>> {
    let sources = Sources::read(flags.into())?;
    let settings = Settings::read(&sources)?;
    for warning in settings.warnings().iter().chain(&settings.cautions) {
        warn(warning);
    }
    let problems = serve::refusals(&settings);
    if !problems.is_empty() {
        return Err(problems.join("\n  ").into());
    }
    say("the settings are good");
    Ok(())
}

/// Shows the settings, also where some of them are wrong.
fn show(Show { flags, all, json }: Show) -> Result<(), Box<dyn Error>> {
    let sources = Sources::read(flags.into())?;
    let settings: Vec<_> = sources.all().filter(|(_, setting)| all || setting.is_some()).collect();
    if json {
        let list: Vec<_> = settings.iter().map(|(declared, setting)| as_json(declared, *setting)).collect();
        say(&serde_json::to_string_pretty(&list)?);
        return Ok(());
    }
    let rows: Vec<_> = settings.iter().map(|(declared, setting)| row(declared, *setting, &sources)).collect();
    if rows.is_empty() {
        say("no setting is set; --all shows the defaults");
    }
    say_table(&rows);
    Ok(())
}

fn row(declared: &Declared, setting: Option<&Setting>, sources: &Sources) -> [String; 3] {
    let Some(setting) = setting else {
        return [
            declared.variable(),
            or_dash(Some(declared.default.to_owned()).filter(|text| !text.is_empty())),
            "default".to_owned(),
        ];
    };
    let value = shown(&settings::shown(declared, &setting.text));
    [declared.variable(), value, place(setting, sources)]
}

/// Where a setting was set.
fn place(setting: &Setting, sources: &Sources) -> String {
    match (&sources.file, setting.source.as_str()) {
        (Some(path), "file") => path.display().to_string(),
        (_, "command line") => setting.name.clone(),
        (_, source) if setting.name.ends_with("_FILE") || setting.name.ends_with("_file") => {
            format!("{source} ({})", setting.name)
        }
        (_, source) => source.to_owned(),
    }
}

fn as_json(declared: &Declared, setting: Option<&Setting>) -> serde_json::Value {
    json!({
        "name": declared.name,
        "value": setting.map(|setting| settings::shown(declared, &setting.text)),
        "source": setting.map_or("default", |setting| &setting.source),
        "default": Some(declared.default).filter(|default| !default.is_empty()),
        "secret": declared.secrecy == Secrecy::Secret,
    })
}
