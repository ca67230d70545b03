//! One setting's text, and reading it.

use std::time::Duration;

/// A setting that is wrong: which, where it was set, what it must be. Never repeats the value: it may be a secret
/// that landed under the wrong name.
#[derive(Debug, thiserror::Error)]
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

/// A setting that was set, with where.
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

    /// `90s`, `15m`, `12h`, `14d`, or plain seconds.
    pub(crate) fn duration(&self) -> Result<Duration, SettingError> {
        duration(&self.text)
            .ok_or_else(|| self.wrong("must be a duration such as 90s, 15m, 12h, 14d, or plain seconds"))
    }

    /// `on` or `off`, as well `yes` or `no`.
    pub(crate) fn switch(&self) -> Result<bool, SettingError> {
        match self.text.as_str() {
            "on" | "yes" | "true" | "1" => Ok(true),
            "off" | "no" | "false" | "0" => Ok(false),
            _ => Err(self.wrong("must be on or off (yes or no)")),
        }
    }
}

/// A duration as people write it: `90s`, `15m`, `12h`, `14d`, or plain seconds.
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
