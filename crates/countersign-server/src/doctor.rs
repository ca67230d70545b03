//! `countersign doctor`: looks at everything that a server needs, says what is wrong and what to do about it.
//!
//! It changes nothing: a database is neither made nor brought up to date, and no mail is sent. Each module looks at one
//! thing and adds [findings](Finding) to the report.

mod certificate;
mod database;
mod fetch;
mod files;
mod mail;
mod public;
mod reached;
mod servers;
mod settings;

use countersign_jwt::Clock;
use serde::Serialize;

use crate::settings::Flags;

pub(crate) use servers::Whereabouts;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// It was looked at and is right.
    Good,
    /// Nothing is wrong, but an operator may want to know.
    Note,
    /// The server works, but something is missing, or will fail one day.
    Warning,
    /// The server does not start, or does not do what it promises.
    Error,
}

/// What was found about one thing.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) about: About,
    pub(crate) severity: Severity,
    pub(crate) found: String,
    /// What to do, unless `found` says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

/// The things that are looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum About {
    Settings,
    Files,
    Public,
    Certificate,
    Database,
    Clock,
    Keys,
    Servers,
    Mail,
    Proxy,
}

impl About {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Files => "files",
            Self::Public => "public",
            Self::Certificate => "certificate",
            Self::Database => "database",
            Self::Clock => "clock",
            Self::Keys => "keys",
            Self::Servers => "servers",
            Self::Mail => "mail",
            Self::Proxy => "proxy",
        }
    }
}

/// Everything that was found, in the order in which it was looked at.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    /// The worst that was found.
    pub(crate) fn worst(&self) -> Severity {
        self.findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Good)
    }

    fn good(&mut self, about: About, found: impl Into<String>) {
        self.add(about, Severity::Good, found, None);
    }

    /// Something to know, with what to do if it is not intended.
    fn note(&mut self, about: About, found: impl Into<String>, remedy: impl Into<String>) {
        self.add(about, Severity::Note, found, Some(remedy.into()));
    }

    fn warning(&mut self, about: About, found: impl Into<String>, remedy: impl Into<String>) {
        self.add(about, Severity::Warning, found, Some(remedy.into()));
    }

    fn error(&mut self, about: About, found: impl Into<String>, remedy: impl Into<String>) {
        self.add(about, Severity::Error, found, Some(remedy.into()));
    }

    /// Something that the rest of the program would complain of, in words that say what to do.
    fn complaint(&mut self, about: About, severity: Severity, found: impl Into<String>) {
        self.add(about, severity, found, None);
    }

    /// Says that all is good about a thing of which nothing bad was found.
    fn good_if_nothing_else(&mut self, about: About, found: impl Into<String>) {
        if !self.findings.iter().any(|finding| finding.about == about) {
            self.good(about, found);
        }
    }

    fn add(&mut self, about: About, severity: Severity, found: impl Into<String>, remedy: Option<String>) {
        self.findings.push(Finding { about, severity, found: found.into(), remedy });
    }
}

/// Looks at everything. `reach` says whether other machines are asked too: the mail server and the public URL.
pub(crate) async fn examine(flags: Flags, reach: bool, clock: &dyn Clock) -> Report {
    let mut report = Report::default();
    let Some((sources, settings)) = settings::examine(flags, &mut report) else { return report };
    files::examine(sources.file.as_deref(), &settings, &mut report);
    public::examine(&settings, &mut report);
    certificate::examine(&settings, clock.now(), &mut report);
    database::examine(&settings, clock.now(), &mut report).await;
    mail::examine(&settings, reach, &mut report).await;
    if reach {
        reached::examine(&settings, clock.now(), &mut report).await;
    }
    report
}
