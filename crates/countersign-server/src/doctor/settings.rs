//! The settings, and the files that they name.

use super::{About, Report, Severity};
use crate::edge;
use crate::serve;
use crate::settings::{Flags, Settings, Sources};

/// Reads the settings; `None` if some are wrong, so that there is nothing else to look at.
pub(super) fn examine(flags: Flags, report: &mut Report) -> Option<(Sources, Settings)> {
    let sources = match Sources::read(flags) {
        Ok(sources) => sources,
        Err(error) => {
            report.complaint(About::Settings, Severity::Error, error.to_string());
            return None;
        }
    };
    let settings = match Settings::read(&sources) {
        Ok(settings) => settings,
        Err(errors) => {
            for error in errors.iter() {
                report.complaint(About::Settings, Severity::Error, error.to_string());
            }
            return None;
        }
    };
    for warning in settings.warnings().iter().chain(&settings.cautions) {
        report.complaint(About::Settings, Severity::Warning, warning);
    }
    for problem in serve::refusals(&settings) {
        report.complaint(About::Settings, Severity::Error, problem);
    }
    // As the server does it when it starts.
    edge::raise_limit();
    if let Some(warning) = settings.edge.max_connections.and_then(edge::too_many_connections) {
        report.complaint(About::Settings, Severity::Warning, warning);
    }
    if ["trace", "debug"].iter().any(|level| settings.log.split(',').any(|part| part.trim() == *level)) {
        report.note(
            About::Settings,
            format!("COUNTERSIGN_LOG is {}, which writes a lot", settings.log),
            "set it to info when you have seen what you are after, and send SIGHUP",
        );
    }
    let found = match sources.all().filter(|(_, setting)| setting.is_some()).count() {
        0 => "none is set; the defaults hold".to_owned(),
        count => format!("{count} set; countersign config show says where"),
    };
    report.good_if_nothing_else(About::Settings, found);
    Some((sources, settings))
}
