//! The settings of passwords: how they are hashed, what a new one must be, and how long a login takes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_core::flow::{BreachedFileError, BreachedPasswords};
use countersign_core::model::{
    Argon2Params, InvalidPeppers, MinimumLength, PasswordRules, Peppers, UnsafeArgon2Params,
};
use countersign_http::AuthBuilder;

use super::reader::Reader;
use super::secret_file::{self, SecretTextError};
use super::value::{Setting, SettingError};
use super::{Sources, duration, told};

/// All settings of passwords, checked as far as their texts tell.
#[derive(Debug)]
pub(crate) struct PasswordSettings {
    /// `password_hash`: the cost of new hashes. Default `19mib`.
    argon2: Argon2Params,
    /// `password_min` and `password_words`: what a new password must be. Default 8 code points, and no words.
    rules: PasswordRules,
    /// `password_pepper` or `password_pepper_file`. Default none.
    peppers: PepperSource,
    /// `breached_passwords`: the file of breached passwords. Default none.
    breached: Option<PathBuf>,
    /// `login_floor`: the least time that a login takes. Default `off`.
    login_floor: Option<Duration>,
}

/// Where the peppers are.
#[derive(Debug)]
enum PepperSource {
    Given(Peppers),
    File(PathBuf),
}

/// Why a file that a setting of passwords names cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PasswordFileError {
    #[error("COUNTERSIGN_PASSWORD_PEPPER_FILE: cannot read {}", .path.display())]
    ReadPeppers { path: PathBuf, source: io::Error },
    #[error(
        "COUNTERSIGN_PASSWORD_PEPPER_FILE: {0} is open to other users (mode {mode:03o}); where it is mounted, let it be \
         root's and readable by the server's group alone (Kubernetes: defaultMode: 0440); else run: chmod 600 {0}",
        .path.display()
    )]
    Open { path: PathBuf, mode: u32 },
    #[error("COUNTERSIGN_PASSWORD_PEPPER_FILE: {} holds no peppers", .path.display())]
    Peppers { path: PathBuf, source: InvalidPeppers },
    #[error("COUNTERSIGN_BREACHED_PASSWORDS cannot be used")]
    Breached(#[from] BreachedFileError),
}

impl PasswordSettings {
    pub(super) fn read(reader: &Reader<'_>) -> Self {
        let minimum = reader.read("password_min", MinimumLength::default(), minimum_length);
        let words = reader.get("password_words");
        let words = words.iter().flat_map(|setting| setting.text().split(','));
        Self {
            argon2: reader.read("password_hash", Argon2Params::default(), argon2),
            rules: PasswordRules::new(minimum).with_words(words),
            peppers: reader.or(PepperSource::Given(Peppers::default()), peppers(reader.sources)),
            breached: reader.optional("breached_passwords", |setting| Ok(setting.text().into())),
            login_floor: reader.read("login_floor", None, login_floor),
        }
    }

    /// What is wrong with the files that the settings name.
    pub(super) fn problem(&self) -> Option<String> {
        let peppers = self.peppers().err();
        let breached = || BreachedPasswords::open(self.breached.as_ref()?).err().map(PasswordFileError::from);
        peppers.or_else(breached).map(|error| told(&error))
    }

    /// The peppers, read from their file if they are in one.
    pub(crate) fn peppers(&self) -> Result<Peppers, PasswordFileError> {
        match &self.peppers {
            PepperSource::Given(peppers) => Ok(peppers.clone()),
            PepperSource::File(path) => read_peppers(path),
        }
    }

    /// Hands the settings on, after reading the files that they name.
    pub(crate) fn apply(&self, builder: AuthBuilder) -> Result<AuthBuilder, PasswordFileError> {
        let mut builder = builder
            .argon2(self.argon2.clone())
            .password_peppers(self.peppers()?)
            .password_rules(self.rules.clone());
        if let Some(path) = &self.breached {
            builder = builder.breached_passwords(BreachedPasswords::open(path)?);
        }
        if let Some(floor) = self.login_floor {
            builder = builder.login_floor(floor);
        }
        Ok(builder)
    }
}

fn peppers(sources: &Sources) -> Result<PepperSource, SettingError> {
    Ok(match (sources.get("password_pepper"), sources.get("password_pepper_file")) {
        (None, None) => PepperSource::Given(Peppers::default()),
        (Some(peppers), None) => PepperSource::Given(
            Peppers::parse(peppers.text())
                .map_err(|error| peppers.wrong(format!("cannot be used: {error}")))?,
        ),
        (None, Some(file)) => PepperSource::File(file.text().into()),
        (Some(peppers), Some(_)) => {
            return Err(peppers.wrong("is set together with COUNTERSIGN_PASSWORD_PEPPER_FILE; set only one"));
        }
    })
}

/// Reads a cost: a name, or KiB, passes and lanes.
fn argon2(setting: &Setting) -> Result<Argon2Params, SettingError> {
    match setting.text() {
        "19mib" => return Ok(Argon2Params::MIB_19),
        "46mib" => return Ok(Argon2Params::MIB_46),
        _ => {}
    }
    let form = || {
        setting.wrong(
            "must be 19mib, 46mib, or the KiB, passes and lanes of argon2id with commas between them, such as 19456,2,1",
        )
    };
    let numbers: Result<Vec<u32>, _> =
        setting.text().split(',').map(|number| number.trim().parse()).collect();
    let [memory_kib, passes, lanes] = numbers.map_err(|_| form())?[..] else { return Err(form()) };
    Argon2Params::new(memory_kib, passes, lanes)
        .map_err(|error: UnsafeArgon2Params| setting.wrong(format!("cannot be used: {error}")))
}

fn minimum_length(setting: &Setting) -> Result<MinimumLength, SettingError> {
    let number = match setting.text() {
        "nist" => return Ok(MinimumLength::NIST),
        text => text.parse().ok(),
    };
    number
        .and_then(|number| MinimumLength::new(number).ok())
        .ok_or_else(|| setting.wrong("must be a number of characters from 8 to 64, or nist, which is 15"))
}

/// Reads a time that is short enough to wait for, or `off`.
fn login_floor(setting: &Setting) -> Result<Option<Duration>, SettingError> {
    const MOST: Duration = Duration::from_secs(10);
    let text = setting.text();
    if matches!(text, "off" | "0") {
        return Ok(None);
    }
    let floor = match text.strip_suffix("ms") {
        Some(millis) if millis.bytes().all(|byte| byte.is_ascii_digit()) => {
            millis.parse().ok().map(Duration::from_millis)
        }
        Some(_) => None,
        None => duration(text),
    };
    match floor {
        Some(floor) if floor <= MOST => Ok(Some(floor)),
        _ => Err(setting.wrong("must be a time of at most 10s, such as 800ms or 1s, or off")),
    }
}

fn read_peppers(path: &Path) -> Result<Peppers, PasswordFileError> {
    let text = secret_file::read(path).map_err(|error| match error {
        SecretTextError::Unread(source) => PasswordFileError::ReadPeppers { path: path.to_owned(), source },
        SecretTextError::Open { mode } => PasswordFileError::Open { path: path.to_owned(), mode },
    })?;
    Peppers::parse(&text).map_err(|source| PasswordFileError::Peppers { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Flags, SettingErrors, Settings};

    const PEPPER: &str = "2026:q2Wc9Rt4Yb7Nm1Kp6Lz8Xv3Js5Hd0GfAeUoIiQyTrEw=";

    fn read(environment: &[(&str, &str)]) -> Result<PasswordSettings, SettingErrors> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let sources = Sources::collect(Flags::default(), environment, None, None);
        Settings::read(&sources).map(|settings| settings.passwords)
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.argon2, Argon2Params::MIB_19);
        assert_eq!(settings.rules.minimum().get(), 8);
        assert!(settings.breached.is_none() && settings.login_floor.is_none());
        assert!(matches!(settings.peppers, PepperSource::Given(_)));
    }

    #[test]
    fn sec_116_the_cost_of_hashes_is_a_name_or_three_numbers() {
        for (text, cost) in [
            ("19mib", Argon2Params::MIB_19),
            ("46mib", Argon2Params::MIB_46),
            ("19456,2,1", Argon2Params::MIB_19),
            ("65536, 3, 4", Argon2Params::new(65_536, 3, 4).unwrap()),
        ] {
            assert_eq!(read(&[("COUNTERSIGN_PASSWORD_HASH", text)]).unwrap().argon2, cost, "{text}");
        }
    }

    #[test]
    fn a_wrong_value_is_an_error_that_names_the_setting_and_the_fix() {
        for (name, value, fix) in [
            ("COUNTERSIGN_PASSWORD_HASH", "bcrypt", "19456,2,1"),
            ("COUNTERSIGN_PASSWORD_HASH", "19456,2", "19456,2,1"),
            ("COUNTERSIGN_PASSWORD_HASH", "19455,2,1", "argon2id costs too little"),
            ("COUNTERSIGN_PASSWORD_HASH", "2000000,2,1", "argon2id costs too much"),
            ("COUNTERSIGN_PASSWORD_MIN", "7", "from 8 to 64, or nist"),
            ("COUNTERSIGN_PASSWORD_MIN", "65", "from 8 to 64, or nist"),
            ("COUNTERSIGN_PASSWORD_MIN", "strong", "from 8 to 64, or nist"),
            ("COUNTERSIGN_PASSWORD_PEPPER", "secret", "number 1 is not an id"),
            ("COUNTERSIGN_LOGIN_FLOOR", "11s", "at most 10s"),
            ("COUNTERSIGN_LOGIN_FLOOR", "soon", "800ms"),
            ("COUNTERSIGN_LOGIN_FLOOR", "-1ms", "800ms"),
            ("COUNTERSIGN_LOGIN_FLOOR", "+1ms", "800ms"),
        ] {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(fix), "{name}={value}: {error}");
        }
        let both = [("COUNTERSIGN_PASSWORD_PEPPER", PEPPER), ("COUNTERSIGN_PASSWORD_PEPPER_FILE", "x")];
        assert!(read(&both).unwrap_err().to_string().contains("set only one"));
    }

    #[test]
    fn a_login_may_be_told_to_take_a_while() {
        for (text, millis) in [("off", None), ("0", None), ("800ms", Some(800)), ("2s", Some(2000))] {
            let floor = read(&[("COUNTERSIGN_LOGIN_FLOOR", text)]).unwrap().login_floor;
            assert_eq!(floor.map(|floor| floor.as_millis()), millis, "{text}");
        }
    }

    #[test]
    fn sec_112_the_minimum_of_nist_has_a_name() {
        assert_eq!(read(&[("COUNTERSIGN_PASSWORD_MIN", "nist")]).unwrap().rules.minimum().get(), 15);
        assert_eq!(read(&[("COUNTERSIGN_PASSWORD_MIN", "12")]).unwrap().rules.minimum().get(), 12);
    }

    #[cfg(unix)]
    #[test]
    fn sec_122_a_file_of_peppers_belongs_to_its_owner_alone() {
        use std::fs::{self, Permissions};
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pepper");
        fs::write(&path, format!("{PEPPER}\n")).unwrap();
        for (mode, accepted) in [(0o600, true), (0o644, false), (0o660, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let peppers = read_peppers(&path);
            assert_eq!(peppers.is_ok(), accepted, "{mode:o}: {peppers:?}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "canary").unwrap();
        let error = read_peppers(&path).unwrap_err();
        assert!(
            matches!(error, PasswordFileError::Peppers { .. }) && !format!("{error:?}").contains("canary")
        );
    }

    #[test]
    fn sec_046_a_pepper_is_in_no_debug_output() {
        let settings = read(&[("COUNTERSIGN_PASSWORD_PEPPER", PEPPER)]).unwrap();
        assert!(!format!("{settings:?}").contains(&PEPPER[5..]));
    }
}
