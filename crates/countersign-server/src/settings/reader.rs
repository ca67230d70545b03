//! Reads the settings one after the other and collects all that is wrong with them.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use super::declared::{Kind, find};
use super::reference::one_of;
use super::sources::Sources;
use super::value::{Setting, SettingError};

/// All that is wrong with the settings, at least one thing.
#[derive(Debug)]
pub(crate) struct SettingErrors(Vec<SettingError>);

impl std::error::Error for SettingErrors {}

impl SettingErrors {
    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &SettingError> {
        self.0.iter()
    }
}

impl fmt::Display for SettingErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = &self.0[..] {
            return only.fmt(f);
        }
        write!(f, "{} settings are wrong", self.0.len())?;
        for error in &self.0 {
            write!(f, "\n  {error}")?;
        }
        Ok(())
    }
}

/// Reads settings. A wrong one is noted, and its default is taken for it, so that the others are read too.
pub(super) struct Reader<'a> {
    pub(super) sources: &'a Sources,
    wrong: RefCell<Vec<SettingError>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(sources: &'a Sources) -> Self {
        Self { sources, wrong: RefCell::new(sources.wrong.clone()) }
    }

    pub(super) fn get(&self, name: &'static str) -> Option<Setting> {
        self.sources.get(name)
    }

    pub(super) fn note(&self, error: SettingError) {
        self.wrong.borrow_mut().push(error);
    }

    /// How many settings are wrong, of those that were read so far.
    pub(super) fn count(&self) -> usize {
        self.wrong.borrow().len()
    }

    /// What was read, or `instead` of it where it is wrong.
    pub(super) fn or<T>(&self, instead: T, read: Result<T, SettingError>) -> T {
        read.unwrap_or_else(|error| {
            self.note(error);
            instead
        })
    }

    /// The value of a setting, or its default.
    pub(super) fn read<T>(
        &self,
        name: &'static str,
        default: T,
        read: impl FnOnce(&Setting) -> Result<T, SettingError>,
    ) -> T {
        match self.get(name) {
            Some(setting) => self.or(default, read(&setting)),
            None => default,
        }
    }

    /// The value of a setting that may be unset.
    pub(super) fn optional<T>(
        &self,
        name: &'static str,
        read: impl FnOnce(&Setting) -> Result<T, SettingError>,
    ) -> Option<T> {
        self.read(name, None, |setting| read(setting).map(Some))
    }

    pub(super) fn duration(&self, name: &'static str, default: Duration) -> Duration {
        self.read(name, default, Setting::duration)
    }

    pub(super) fn switch(&self, name: &'static str, default: bool) -> bool {
        self.read(name, default, Setting::switch)
    }

    /// A setting that is one of the texts with which it is declared.
    pub(super) fn choice<T>(&self, name: &'static str, default: T, of: impl FnOnce(&str) -> Option<T>) -> T {
        self.read(name, default, |setting| of(setting.text()).ok_or_else(|| none_of_these(name, setting)))
    }

    /// # Errors
    /// All that was wrong.
    pub(super) fn finish(self) -> Result<(), SettingErrors> {
        let wrong = self.wrong.into_inner();
        if wrong.is_empty() { Ok(()) } else { Err(SettingErrors(wrong)) }
    }
}

impl From<SettingError> for SettingErrors {
    fn from(error: SettingError) -> Self {
        Self(vec![error])
    }
}

fn none_of_these(name: &str, setting: &Setting) -> SettingError {
    let Some(Kind::Choice(names)) = find(name).map(|declared| declared.kind) else {
        return setting.wrong("is none of the values that it may have");
    };
    match names.iter().find(|name| name.eq_ignore_ascii_case(setting.text())) {
        Some(name) => setting.wrong(format!("must be written {name}")),
        None => setting.wrong(format!("must be {}", one_of(names.iter().map(|name| (*name).to_owned())))),
    }
}
