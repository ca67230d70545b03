//! The text of one setting, and reading it.

use std::time::Duration;

/// A setting that is wrong: its name, where it was set, and what it must be. The error never repeats the value, which
/// may be a secret under the wrong name.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{name} ({source_name}) {message}")]
pub(crate) struct SettingError {
    name: String,
    source_name: String,
    message: String,
}

impl SettingError {
    pub(crate) fn new(name: &str, source: &str, message: impl Into<String>) -> Self {
        Self { name: name.to_owned(), source_name: source.to_owned(), message: message.into() }
    }
}

/// A setting that was set, and its source.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) text: String,
}

impl Setting {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn wrong(&self, message: impl Into<String>) -> SettingError {
        SettingError::new(&self.name, &self.source, message)
    }

    /// Reads a duration: `90s`, `15m`, `12h`, `14d`, or plain seconds.
    pub(crate) fn duration(&self) -> Result<Duration, SettingError> {
        duration(&self.text)
            .ok_or_else(|| self.wrong("must be a duration such as 90s, 15m, 12h, 14d, or plain seconds"))
    }

    /// Reads `on` or `off`, or `yes` or `no`.
    pub(crate) fn switch(&self) -> Result<bool, SettingError> {
        match self.text.as_str() {
            "on" | "yes" | "true" | "1" => Ok(true),
            "off" | "no" | "false" | "0" => Ok(false),
            _ => Err(self.wrong("must be on or off (yes or no)")),
        }
    }
}

/// Reads a duration as people write it: `90s`, `15m`, `12h`, `14d`, or plain seconds.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h', 'd']) {
        Some(number) => (number, text.chars().next_back()),
        None => (text, None),
    };
    let secs_each: u64 = match unit {
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => 1,
    };
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let secs = number.parse::<u64>().ok().filter(|_| digits).and_then(|n| n.checked_mul(secs_each));
    secs.map(Duration::from_secs)
}
