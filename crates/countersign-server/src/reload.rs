//! Reads the settings again when the server gets SIGHUP.

use crate::settings::{Flags, SettingErrors, Settings, Sources};
use crate::telemetry::LogLevel;

/// The settings that the running server has, and where to read them again.
#[derive(Debug)]
pub(crate) struct Reload {
    flags: Flags,
    /// The settings with which the server has started.
    started: Sources,
    /// The directives by which it logs now.
    log: String,
    level: LogLevel,
}

impl Reload {
    pub(crate) fn new(flags: Flags, started: Sources, log: String, level: LogLevel) -> Self {
        Self { flags, started, log, level }
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
        if settings.log != self.log {
            self.level.set(&settings.log);
            tracing::info!(from = self.log, to = settings.log, "COUNTERSIGN_LOG has changed");
            self.log = settings.log;
        }
        let later = sources.changed_since(&self.started).filter(|declared| !declared.changes_at_once);
        let later: Vec<String> = later.map(|declared| declared.variable()).collect();
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
