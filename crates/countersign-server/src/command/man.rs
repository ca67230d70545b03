//! `countersign man`: the manual pages. What the command line and the settings declare of themselves stands in them.

use std::error::Error;
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{CommandLine, help};
use crate::settings;
use crate::telemetry::say;

#[derive(Args, Debug)]
pub(crate) struct ManCommand {
    /// Write the pages of all commands into this folder, each into a file such as countersign-user-list.1
    #[arg(long, value_name = "FOLDER")]
    directory: Option<PathBuf>,
}

pub(crate) fn run(ManCommand { directory }: &ManCommand) -> Result<(), Box<dyn Error>> {
    let pages = pages()?;
    let Some(directory) = directory else {
        if let Some((_, page)) = pages.first() {
            say(page.trim_end());
        }
        return Ok(());
    };
    for (name, page) in pages {
        let path = directory.join(name);
        std::fs::write(&path, page).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

/// The page of every command, by the name of its file; that of the program first.
fn pages() -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let mut program = CommandLine::command().disable_help_subcommand(true);
    program.build();
    let mut pages = vec![page(&program, true)?];
    let mut commands: Vec<&Command> = program.get_subcommands().collect();
    while let Some(command) = commands.pop() {
        pages.push(page(command, false)?);
        commands.extend(command.get_subcommands());
    }
    Ok(pages)
}

fn page(command: &Command, is_program: bool) -> Result<(String, String), Box<dyn Error>> {
    let source = format!("countersign {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).source(source).manual("Countersign");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(&mut page)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut rest = Roff::new();
    if is_program {
        section(&mut rest, "EXAMPLES", help::EXAMPLES);
        environment(&mut rest);
        section(&mut rest, "FILES", FILES);
    } else if let Some(text) = command.get_after_help().filter(|_| command.get_name() != "serve") {
        section(&mut rest, "NOTES", &text.to_string());
    }
    section(&mut rest, "EXIT STATUS", EXIT_STATUS);
    if !is_program {
        section(&mut rest, "SEE ALSO", "countersign(1), which has the settings");
    }
    rest.to_writer(&mut page)?;
    Ok((man.get_filename(), String::from_utf8(page)?))
}

/// All settings.
fn environment(page: &mut Roff) {
    section(page, "ENVIRONMENT", settings::HELP);
    for (title, settings) in settings::groups() {
        page.control("SS", [title]);
        for (variable, what_for) in settings {
            page.control("TP", []).text([bold(variable)]).text([roman(what_for)]);
        }
    }
    page.control("PP", []).text([roman(settings::DURATIONS)]);
}

/// A section. Its paragraphs are filled, except those that are set out in columns or by indentation.
fn section(page: &mut Roff, title: &str, text: &str) {
    page.control("SH", [title]);
    for paragraph in text.split("\n\n") {
        page.control("PP", []);
        let is_set_out = paragraph.contains("  ");
        if is_set_out {
            page.control("nf", []);
        }
        for line in paragraph.lines() {
            page.text([roman(line)]);
        }
        if is_set_out {
            page.control("fi", []);
        }
    }
}

const FILES: &str = "\
countersign.toml   the settings file
.env               settings, before those of the file
countersign.db     the database, if no other is set

All are in the working folder. The secret that seals the keys of a SQLite database is in a file beside it, unless it is \
set.";

const EXIT_STATUS: &str = "\
0   done; of a server: it was asked to stop
1   not done; standard error says why
2   a mistake in the command line";
