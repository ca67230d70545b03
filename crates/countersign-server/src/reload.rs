//! Reads the settings again when the server gets SIGHUP, and the templates and texts that they name.

use std::sync::{Arc, OnceLock};

use countersign_mail::{MailTemplates, Mailer};
use countersign_pages::{Pages, Templates};

use crate::settings::{Flags, SettingErrors, Settings, Sources, told};
use crate::telemetry::LogLevel;

/// Who shows texts, and takes new ones.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    pub(crate) pages: Option<Pages>,
    pub(crate) mailer: Option<Mailer>,
}

impl Texts {
    /// Reads all templates and texts again. If something is wrong with one, none changes.
    fn renew(&self, settings: &Settings) -> Result<(), String> {
        let wrong = |name: &str, error: &dyn std::error::Error| format!("{name}: {}", told(error));
        let pages = settings.pages.templates.as_ref().map(|folder| Templates::load(folder)).transpose();
        let pages = pages.map_err(|error| wrong("COUNTERSIGN_PAGES_TEMPLATES", &error))?;
        let mails = settings.accounts.mail.templates.as_ref().map(|folder| MailTemplates::load(folder));
        let mails = mails.transpose().map_err(|error| wrong("COUNTERSIGN_MAIL_TEMPLATES", &error))?;
        if let (Some(shown), Some(templates)) = (&self.pages, pages) {
            shown.renew_templates(templates);
        }
        if let (Some(mailer), Some(templates)) = (&self.mailer, mails) {
            mailer.renew_templates(templates);
        }
        Ok(())
    }
}

/// The settings that the running server has, and where to read them again.
#[derive(Debug)]
pub(crate) struct Reload {
    flags: Flags,
    /// The settings with which the server has started.
    started: Sources,
    /// The directives by which it logs now.
    log: String,
    level: LogLevel,
    /// Known when the server has started.
    texts: Arc<OnceLock<Texts>>,
}

impl Reload {
    pub(crate) fn new(flags: Flags, started: Sources, log: String, level: LogLevel) -> Self {
        Self { flags, started, log, level, texts: Arc::default() }
    }

    /// The place for those who show texts.
    pub(crate) fn texts(&self) -> Arc<OnceLock<Texts>> {
        self.texts.clone()
    }

    fn read(&self) -> Result<(Sources, Settings), SettingErrors> {
        let sources = Sources::read(self.flags.clone())?;
        let settings = Settings::read(&sources)?;
        Ok((sources, settings))
    }

    /// Reads all settings. If one is wrong, nothing changes. What can change at once does; the others are named.
    pub(crate) fn again(&mut self) {
        let (sources, settings) = match self.read() {
            Ok(read) => read,
            Err(error) => {
                tracing::error!("the settings were read again and are wrong, so nothing changes: {error}");
                return;
            }
        };
        if let Some(Err(error)) = self.texts.get().map(|texts| texts.renew(&settings)) {
            tracing::error!("the templates were read again and are wrong, so nothing changes: {error}");
            return;
        }
        if settings.log != self.log {
            self.level.set(&settings.log);
            tracing::info!(from = self.log, to = settings.log, "COUNTERSIGN_LOG has changed");
            self.log = settings.log;
        }
        let later = sources.changed_since(&self.started).filter(|declared| !declared.changes_at_once);
        let mut later: Vec<String> = later.map(|declared| declared.variable()).collect();
        later.extend(sources.flask_options_changed_since(&self.started));
        if later.is_empty() {
            tracing::info!("the settings were read again");
        } else {
            tracing::warn!(
                "the settings were read again; these have changed and take effect when the server is restarted: {}",
                later.join(" ")
            );
        }
    }
}
