//! The server's settings. Each is taken from the first source that has it: flag, environment, `.env`, file, default.
//!
//! Every setting has one name, written `COUNTERSIGN_LISTEN` in the environment and in `.env`, and `listen` in the file.
//! All settings are read and checked once, at start. An unknown name is an error that names the nearest known one.

mod accounts;
mod declared;
mod dotenv;
mod edge;
mod log;
mod pages;
mod passwords;
mod profile;
mod reader;
mod reference;
mod secret_file;
mod sources;
mod value;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_core::model::{AtLimit, Difference, GraceFor, PolicyError, SessionPolicy};
use countersign_http::AllowedOrigins;
use countersign_jwt::{Algorithm, Secrets};
use countersign_sql::sqlite::SqliteOptions;
use countersign_sql::{SecretFile, SecretFileError};
use url::Url;

use crate::store::{self, StoreLocation};

pub(crate) use accounts::{AccountSettings, MailSettings};
pub(crate) use declared::{Declared, Secrecy};
pub(crate) use edge::EdgeSettings;
pub(crate) use pages::PagesSettings;
pub(crate) use passwords::PasswordSettings;
pub(crate) use profile::ProfileSetting;
use reader::Reader;
pub(crate) use reader::SettingErrors;
pub(crate) use reference::{DURATIONS, HELP, groups, help, help_of_flag, page, schema};
pub(crate) use sources::{Flags, Sources, shown};
pub(crate) use value::{Setting, SettingError, duration};

/// All settings of the server, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    /// `listen`: address and port. Default `127.0.0.1:8080`; port 0 takes a free one.
    pub(crate) listen: String,
    /// `plain_http`: whether to listen on other than loopback addresses, where everybody on the way can read the
    /// traffic. Default no.
    pub(crate) plain_http: bool,
    /// TLS, proxies in front, and the number of connections.
    pub(crate) edge: EdgeSettings,
    /// `database_url`. Default `sqlite://countersign.db`; created when missing.
    pub(crate) database: StoreLocation,
    /// `sessions_url`: another engine for sessions, revocations and throttles. Default none: the database.
    pub(crate) sessions: Option<StoreLocation>,
    /// `accept_weak_store`: whether sessions may be kept in an engine on which two servers may both exchange the same
    /// refresh token. Default no: the start is refused.
    pub(crate) accept_weak_store: bool,
    /// `public_url`: decides the issuer, the cookies' prefix and `Secure`, and the server's own origin. Default unset.
    pub(crate) public_url: Option<Url>,
    /// `issuer`: the `iss` of tokens, if it is not the public URL. Default unset.
    pub(crate) issuer: Option<String>,
    /// `settings_change`: whether settings that differ from those of the store's other servers replace them in the
    /// store. Default no: the start is refused.
    pub(crate) settings_change: bool,
    /// `allowed_origins`: the other origins that may use cookies. Setting it turns CORS on. Default none.
    pub(crate) allowed_origins: AllowedOrigins,
    /// `secret` or `secret_file`: the secret that seals the keys in the store. Default for SQLite: the file beside it.
    pub(crate) secret: SecretSource,
    /// The lifetimes of tokens, sessions and keys, and the rules of refresh.
    pub(crate) policy: SessionPolicy,
    /// `profile`: the rules that tokens follow. Default `native`; the other profiles read the `JWT_…` options as well.
    pub(crate) profile: ProfileSetting,
    /// The numbers of the lines of `.env` that could not be read.
    pub(crate) unreadable_lines: Vec<usize>,
    /// The options of a Flask application that were set, although no profile was.
    pub(crate) without_profile: Vec<String>,
    /// What would not work beside a Flask application, each in a sentence.
    pub(crate) cautions: Vec<String>,
    /// The settings that were set, but are decided by the profile's options: each with what decides it.
    pub(crate) overruled: Vec<(String, &'static str)>,
    /// Who may have an account, and how users are written to.
    pub(crate) accounts: AccountSettings,
    /// The pages for people, and their look.
    pub(crate) pages: PagesSettings,
    /// How passwords are hashed, and what a new one must be.
    pub(crate) passwords: PasswordSettings,
    /// `hash_permits`: the number of parallel password hashes. Default: the number of cores, and
    /// one less where the threads that hash cannot have a lower priority.
    pub(crate) hash_permits: Option<NonZeroUsize>,
    /// `metrics_listen`: the address at which only metrics are served. Default none.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// `shutdown_grace`: how long running requests may continue after the server was asked to stop. Default `10s`.
    pub(crate) shutdown_grace: Duration,
    /// `log`: the directives of what is logged. Default `info`.
    pub(crate) log: String,
    /// `otlp_url`: the OpenTelemetry collector that gets traces. Default none.
    pub(crate) otlp_url: Option<Url>,
    /// `log_format`: `text` (default) or `json`.
    pub(crate) log_format: LogFormat,
}

/// The source of the secret.
pub(crate) enum SecretSource {
    /// The file beside the database.
    Beside,
    /// `COUNTERSIGN_SECRET`: base64, a list separated by commas.
    Given(String),
    /// `COUNTERSIGN_SECRET_FILE`.
    File(PathBuf),
}

impl SecretSource {
    /// The file that is to hold the secret, if it is missing.
    fn missing_file(&self) -> Option<&Path> {
        match self {
            Self::File(path) if !path.exists() => Some(path),
            Self::File(_) | Self::Given(_) | Self::Beside => None,
        }
    }

    /// What is wrong with the secret, as far as it shows without the database.
    fn problem(&self) -> Option<String> {
        match self {
            Self::Beside => None,
            Self::Given(text) => {
                Secrets::parse(text).err().map(|error| format!("COUNTERSIGN_SECRET: {error}"))
            }
            // What to do where the file is missing depends on the database.
            Self::File(path) => match SecretFile::at(path).load(true) {
                Ok(_) | Err(SecretFileError::NotFound { .. }) => None,
                Err(error) => Some(told(&error)),
            },
        }
    }
}

impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Beside => f.write_str("Beside"),
            Self::Given(_) => f.write_str("Given(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LogFormat {
    /// Text for people.
    Text,
    /// JSON for machines, one object a line.
    Json,
}

impl Settings {
    /// Reads and checks all settings.
    ///
    /// # Errors
    /// [`SettingErrors`] names each wrong setting, where it was set, and what it must look like.
    pub(crate) fn read(sources: &Sources) -> Result<Self, SettingErrors> {
        let reader = Reader::new(sources);
        let policy = session_policy(&reader);
        let profile = reader.or(ProfileSetting::Native, ProfileSetting::read(sources));
        reader.or((), sources.check_exposed(!profile.is_native()));
        let accounts = AccountSettings::read(&reader);
        let settings = Self {
            listen: reader.read("listen", "127.0.0.1:8080".to_owned(), listen),
            plain_http: reader.switch("plain_http", false),
            edge: EdgeSettings::read(&reader),
            database: reader.read(
                "database_url",
                StoreLocation::Sqlite(SqliteOptions::new("countersign.db")),
                location,
            ),
            sessions: reader.optional("sessions_url", location),
            accept_weak_store: reader.switch("accept_weak_store", false),
            public_url: reader.optional("public_url", public_url),
            issuer: reader.optional("issuer", issuer),
            settings_change: reader.switch("settings_change", false),
            allowed_origins: reader.read("allowed_origins", AllowedOrigins::default(), allowed_origins),
            secret: reader.or(SecretSource::Beside, secret(sources)),
            policy,
            overruled: profile.overruled(sources),
            unreadable_lines: sources.unreadable_lines.clone(),
            without_profile: match sources.get("profile") {
                // An operator who names the profile intends it.
                Some(_) => Vec::new(),
                None => sources.known_flask_options(),
            },
            pages: PagesSettings::read(&reader, profile.is_native()),
            cautions: profile
                .cautions(accounts.rules.registration, reader.get("user_ids").map(|_| accounts.ids)),
            profile,
            accounts,
            passwords: PasswordSettings::read(&reader),
            hash_permits: reader.optional("hash_permits", |setting| {
                setting.text().parse().map_err(|_| setting.wrong("must be a whole number, at least 1"))
            }),
            metrics_listen: reader.optional("metrics_listen", |setting| {
                let wrong = |_| setting.wrong("must be an IP address and a port, such as 127.0.0.1:9090");
                setting.text().parse().map_err(wrong)
            }),
            otlp_url: reader.optional("otlp_url", otlp_url),
            shutdown_grace: reader.duration("shutdown_grace", Duration::from_secs(10)),
            log: reader.read("log", "info".to_owned(), |setting| {
                log::check(setting.text()).map_err(|wrong| setting.wrong(wrong))?;
                Ok(setting.text().to_owned())
            }),
            log_format: reader.choice("log_format", LogFormat::Text, |text| match text {
                "text" => Some(LogFormat::Text),
                "json" => Some(LogFormat::Json),
                _ => None,
            }),
        };
        reader.finish()?;
        Ok(settings)
    }

    /// What is wrong with the files that the settings name, except those of TLS, each in a sentence. No database is
    /// opened.
    pub(crate) fn problems_of_files(&self) -> Vec<String> {
        let problems = [
            self.secret.problem(),
            self.passwords.problem(),
            self.accounts.mail.problem(),
            self.pages.problem(),
        ];
        problems.into_iter().flatten().collect()
    }

    /// The file that the setting `secret_file` names, if it is missing.
    pub(crate) fn missing_secret_file(&self) -> Option<&Path> {
        self.secret.missing_file()
    }

    /// The sentence for a database that machines share, but without a secret that they share.
    pub(crate) fn missing_secret(&self) -> Option<String> {
        let is_shared = !matches!(self.database, StoreLocation::Sqlite(_));
        (is_shared && matches!(self.secret, SecretSource::Beside)).then(|| store::NO_SHARED_SECRET.to_owned())
    }

    /// Whether the database is a SQLite file that does not exist yet.
    pub(crate) fn is_database_missing(&self) -> bool {
        matches!(&self.database, StoreLocation::Sqlite(options) if !options.path().exists())
    }

    /// What is odd about the settings and probably not intended, each in a sentence.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = Vec::new();
        for line in &self.unreadable_lines {
            warnings.push(format!(
                ".env: line {line} cannot be read and is passed over; nothing of this server's is in it"
            ));
        }
        if !self.without_profile.is_empty() {
            warnings.push(format!(
                "options of a Flask application are set and have no effect, because no profile is: set \
                 COUNTERSIGN_PROFILE to flask-jwt-extended or flask-jwt to go by them, or to native if they are meant \
                 for another program: {}",
                self.without_profile.join(" ")
            ));
        }
        if self.settings_change {
            warnings.push(
                "COUNTERSIGN_SETTINGS_CHANGE is on: this server makes its settings the store's at every start; take it \
                 out when all servers have the new ones"
                    .to_owned(),
            );
        }
        if self.edge.tls.is_some() && self.plain_http {
            warnings
                .push("COUNTERSIGN_PLAIN_HTTP has no effect, because COUNTERSIGN_TLS_CERT is set".to_owned());
        }
        if self.edge.tls.is_some() && self.public_url.as_ref().is_some_and(|url| url.scheme() == "http") {
            warnings.push(
                "this server speaks https, but COUNTERSIGN_PUBLIC_URL begins with http://: cookies are made for plain \
                 http; write https://"
                    .to_owned(),
            );
        }
        for (setting, instead) in &self.overruled {
            warnings.push(format!("{setting} has no effect in a profile: {instead}"));
        }
        if self.profile.is_native() && self.policy.idle > self.policy.absolute {
            warnings.push(
                "COUNTERSIGN_SESSION_IDLE is longer than COUNTERSIGN_SESSION_LIFETIME and so ends no session; set it lower"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// An error with its causes, in one line.
pub(crate) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            let _infallible = write!(text, ": {message}");
        }
        cause = error.source();
    }
    text
}

/// The lifetimes and rules of sessions.
fn session_policy(reader: &Reader<'_>) -> SessionPolicy {
    let default = SessionPolicy::default();
    let wrong_before = reader.count();
    let policy = SessionPolicy {
        access_lifetime: reader.duration("access_lifetime", default.access_lifetime),
        fresh_for: default.fresh_for,
        max_sessions: reader.read("max_sessions", default.max_sessions, |setting| {
            let wrong = |_| setting.wrong("must be a whole number between 1 and 10000");
            setting.text().parse::<NonZeroU32>().map_err(wrong)
        }),
        at_limit: reader.choice("sessions_at_limit", default.at_limit, |text| match text {
            "end-oldest" => Some(AtLimit::EndOldest),
            "refuse" => Some(AtLimit::Refuse),
            _ => None,
        }),
        grace_for: reader.choice("refresh_grace_for", default.grace_for, |text| match text {
            "anyone" => Some(GraceFor::Anyone),
            "same-client" => Some(GraceFor::SameClient),
            _ => None,
        }),
        idle: reader.duration("session_idle", default.idle),
        absolute: reader.duration("session_lifetime", default.absolute),
        grace: reader.duration("refresh_grace", default.grace),
        healing: reader.switch("refresh_heal", default.healing),
        leeway: reader.duration("leeway", default.leeway),
        revocation_bound: reader.duration("revocation_bound", default.revocation_bound),
        key_rotation: reader.read("key_rotation", default.key_rotation, key_rotation),
        key_algorithm: reader.optional("key_algorithm", key_algorithm).or(default.key_algorithm),
    };
    // Whether they fit each other shows only where each by itself is right.
    if reader.count() == wrong_before {
        let fit = policy.check().map_err(|error| policy_error(reader.sources, &policy, &error));
        reader.or((), fit);
    }
    policy
}

/// An engine's URL. An error never repeats the URL, because it may hold a password.
fn location(setting: &Setting) -> Result<StoreLocation, SettingError> {
    StoreLocation::parse(setting.text()).map_err(|error| match error {
        Some(error) => setting.wrong(format!("cannot be used: {error}")),
        None => setting.wrong(format!("must be {}", store::URLS)),
    })
}

/// Reads a duration, or `off`.
fn key_rotation(setting: &Setting) -> Result<Option<Duration>, SettingError> {
    match setting.text() {
        "off" | "0" => Ok(None),
        _ => match setting.duration() {
            Ok(every) => Ok(Some(every)),
            Err(_) => Err(setting.wrong("must be a duration of at least 1 day, such as 90d, or off")),
        },
    }
}

fn key_algorithm(setting: &Setting) -> Result<Algorithm, SettingError> {
    algorithm(setting.text()).map_err(|problem| setting.wrong(problem))
}

/// Reads the name of an algorithm, or says what it must be.
pub(crate) fn algorithm(name: &str) -> Result<Algorithm, String> {
    name.parse().map_err(|_| {
        match Algorithm::ALL.map(Algorithm::name).into_iter().find(|known| known.eq_ignore_ascii_case(name)) {
            Some(known) => format!("must be written {known}"),
            None => format!("must be one of {}", Algorithm::ALL.map(Algorithm::name).join(", ")),
        }
    })
}

fn allowed_origins(setting: &Setting) -> Result<AllowedOrigins, SettingError> {
    setting.text().parse().map_err(|error: countersign_http::AllowedOriginsError| {
        setting.wrong(format!("must be origins such as https://app.example.com, comma separated: {error}"))
    })
}

fn listen(setting: &Setting) -> Result<String, SettingError> {
    let text = setting.text();
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    match port.map(str::parse::<u16>) {
        Some(Ok(_)) => Ok(text.to_owned()),
        _ => Err(setting.wrong("must be an address and a port, such as 127.0.0.1:8080 or [::1]:8080")),
    }
}

fn public_url(setting: &Setting) -> Result<Url, SettingError> {
    let wrong =
        || setting.wrong("must be a URL such as https://auth.example.com, without query and fragment");
    let url = Url::parse(setting.text()).map_err(|_| wrong())?;
    let plain = url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if plain && url.has_host() && matches!(url.scheme(), "https" | "http") { Ok(url) } else { Err(wrong()) }
}

fn otlp_url(setting: &Setting) -> Result<Url, SettingError> {
    if !cfg!(feature = "otel") {
        return Err(setting.wrong(
            "cannot be used, because this server was built without traces; build it with --features otel",
        ));
    }
    public_url(setting).map_err(|_| {
        setting.wrong("must be the URL of an OpenTelemetry collector for HTTP, such as http://127.0.0.1:4318")
    })
}

/// The issuer, unchanged, because issuers are compared byte by byte.
fn issuer(setting: &Setting) -> Result<String, SettingError> {
    let text = setting.text();
    if text.len() > 255 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(setting.wrong(
            "must be at most 255 visible ASCII characters without blanks, best a URL such as https://auth.example.com",
        ));
    }
    Ok(text.to_owned())
}

/// Says which settings differ from those of the store's other servers, by the names that settings have here.
pub(crate) fn differ(differences: &[Difference], profile: &ProfileSetting) -> String {
    let mut text = String::from("this store was set up with other settings, which all of its servers share:");
    for Difference { setting, own, stores } in differences {
        let _infallible =
            write!(text, "\n  {} is {own} here, {stores} in the store", named(setting, profile));
    }
    text.push_str(
        "\ngive all servers of a store the same; to change it for all of them, start this one with \
         COUNTERSIGN_SETTINGS_CHANGE=yes and the others with the new settings after it (docs/scaling.md)",
    );
    text
}

/// The name by which an operator sets a setting that all servers share.
pub(crate) fn named(setting: &str, profile: &ProfileSetting) -> String {
    let name = match setting {
        "idle" => "session_idle",
        "absolute" => "session_lifetime",
        "grace" => "refresh_grace",
        "grace_for" => "refresh_grace_for",
        "healing" => "refresh_heal",
        "sessions" => "sessions_url",
        name => name,
    };
    let of_profile = profile.named(setting).map(ToOwned::to_owned);
    of_profile.unwrap_or_else(|| format!("COUNTERSIGN_{}", name.to_uppercase()))
}

fn secret(sources: &Sources) -> Result<SecretSource, SettingError> {
    match (sources.get("secret"), sources.get("secret_file")) {
        (None, None) => Ok(SecretSource::Beside),
        (Some(secret), None) => Ok(SecretSource::Given(secret.text().to_owned())),
        (None, Some(file)) => Ok(SecretSource::File(file.text().into())),
        (Some(secret), Some(_)) => {
            Err(secret.wrong("is set together with COUNTERSIGN_SECRET_FILE; set only one"))
        }
    }
}

/// The error for a broken rule of the policy, which names the setting that breaks the rule.
fn policy_error(sources: &Sources, policy: &SessionPolicy, error: &PolicyError) -> SettingError {
    let name = match error.setting {
        "idle" => "session_idle",
        "absolute" => "session_lifetime",
        "grace" => "refresh_grace",
        name => name,
    };
    let rule = error.rule.trim_start_matches("it ");
    let message = if error.setting == "grace" && policy.grace <= SessionPolicy::LONGEST_GRACE {
        let longest = policy.access_lifetime.as_secs() / 2;
        format!(
            "is {}, more than half of COUNTERSIGN_ACCESS_LIFETIME ({} s): set it to at most {longest}s",
            error.value,
            policy.access_lifetime.as_secs()
        )
    } else {
        format!("is {}, but {rule}", error.value)
    };
    match sources.get(name) {
        Some(setting) => setting.wrong(message),
        // The setting has its default, which does not fit another setting that was set.
        None => SettingError::new(&format!("COUNTERSIGN_{}", name.to_uppercase()), "default", message),
    }
}

#[cfg(test)]
mod tests {
    use super::declared::ALL;
    use super::*;

    fn read(environment: &[(&str, &str)]) -> Result<Settings, SettingErrors> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::read(&Sources::collect(Flags::default(), environment, None, None))
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let error = read(&[
            ("COUNTERSIGN_LISTN", "127.0.0.1:1"),
            ("COUNTERSIGN_LOG_FORMAT", "xml"),
            ("COUNTERSIGN_KEY_ALGORITHM", "es256"),
            ("COUNTERSIGN_ADMIN_LISTEN", "8081"),
            ("COUNTERSIGN_PAGES_COLOR", "green"),
            ("COUNTERSIGN_PASSWORD_MIN", "3"),
            ("COUNTERSIGN_MAX_CONNECTIONS", "0"),
            ("COUNTERSIGN_ACCESS_LIFETIME", "soon"),
        ])
        .unwrap_err()
        .to_string();
        assert!(error.starts_with("8 settings are wrong\n"), "{error}");
        for part in [
            "COUNTERSIGN_LISTN (environment) is not a setting; did you mean COUNTERSIGN_LISTEN?",
            "COUNTERSIGN_LOG_FORMAT (environment) must be text or json",
            "COUNTERSIGN_KEY_ALGORITHM (environment) must be written ES256",
            "COUNTERSIGN_ADMIN_LISTEN",
            "COUNTERSIGN_PAGES_COLOR",
            "COUNTERSIGN_PASSWORD_MIN",
            "COUNTERSIGN_MAX_CONNECTIONS",
            "COUNTERSIGN_ACCESS_LIFETIME",
        ] {
            assert!(error.contains(&format!("\n  {part}")), "{part}: {error}");
        }
        assert!(
            !error.contains("REFRESH_GRACE"),
            "a default that does not fit what is wrong is not told: {error}"
        );
    }

    #[test]
    fn a_choice_in_other_letters_is_told_how_to_be_written() {
        let error = read(&[("COUNTERSIGN_REGISTRATION", "Closed")]).unwrap_err().to_string();
        assert_eq!(error, "COUNTERSIGN_REGISTRATION (environment) must be written closed");
    }

    #[test]
    fn every_declared_setting_is_read_and_no_other() {
        let read_by_name: std::collections::BTreeSet<&str> = {
            let sources = Sources::collect(Flags::default(), [], None, None);
            Settings::read(&sources).unwrap();
            sources.asked_for()
        };
        for declared in ALL {
            // The sources themselves read where the file is and the files with URLs. A profile alone reads the other one.
            let of_sources = |(value, file): (&Declared, &Declared)| {
                file.name == declared.name && value.secrecy == Secrecy::MayHavePassword
            };
            let elsewhere =
                matches!(declared.name, "config" | "blocklist_table") || declared::in_files().any(of_sources);
            assert!(elsewhere || read_by_name.contains(declared.name), "nothing reads {}", declared.name);
        }
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.listen, "127.0.0.1:8080");
        let StoreLocation::Sqlite(options) = &settings.database else { panic!("{:?}", settings.database) };
        assert_eq!(options.path(), std::path::Path::new("countersign.db"));
        assert!(settings.sessions.is_none());
        assert_eq!(settings.policy, SessionPolicy::default());
        assert_eq!(settings.log_format, LogFormat::Text);
        assert_eq!(settings.shutdown_grace.as_secs(), 10);
        assert!(settings.public_url.is_none() && settings.allowed_origins.is_empty());
    }

    #[test]
    fn durations_take_units_or_plain_seconds() {
        for (text, secs) in [("90s", 90), ("15m", 900), ("12h", 43_200), ("2d", 172_800), ("600", 600)] {
            let settings = read(&[("COUNTERSIGN_ACCESS_LIFETIME", text)]).unwrap();
            assert_eq!(settings.policy.access_lifetime.as_secs(), secs, "{text}");
        }
        for text in ["", "m", "15 m", "1.5h", "-1s", "15min", "99999999999999999999d"] {
            if text.is_empty() {
                continue;
            }
            let error = read(&[("COUNTERSIGN_ACCESS_LIFETIME", text)]).unwrap_err().to_string();
            assert!(
                error.contains("COUNTERSIGN_ACCESS_LIFETIME") && error.contains("15m"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn keys_rotate_by_themselves_unless_switched_off_and_sign_with_what_is_asked_for() {
        let policy = |pairs: &[(&str, &str)]| read(pairs).unwrap().policy;
        assert_eq!(policy(&[]).key_rotation, Some(Duration::from_secs(90 * 86_400)));
        assert_eq!(policy(&[("COUNTERSIGN_KEY_ROTATION", "off")]).key_rotation, None);
        let monthly = policy(&[("COUNTERSIGN_KEY_ROTATION", "30d")]).key_rotation;
        assert_eq!(monthly, Some(Duration::from_secs(30 * 86_400)));
        assert_eq!(policy(&[("COUNTERSIGN_KEY_ALGORITHM", "ES256")]).key_algorithm, Some(Algorithm::Es256));
    }

    #[test]
    fn an_unknown_name_is_an_error_that_names_the_nearest_one() {
        let error = read(&[("COUNTERSIGN_LISTN", "x")]).unwrap_err().to_string();
        assert!(error.contains("COUNTERSIGN_LISTN") && error.contains("COUNTERSIGN_LISTEN"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_an_error_that_names_the_setting_and_the_fix() {
        for (name, value, fix) in [
            ("COUNTERSIGN_LISTEN", "8080", "127.0.0.1:8080"),
            ("COUNTERSIGN_PLAIN_HTTP", "sure", "on or off"),
            ("COUNTERSIGN_DATABASE_URL", "oracle://db/auth", "postgres://"),
            ("COUNTERSIGN_DATABASE_URL", "postgres://db:port/auth", "postgres"),
            ("COUNTERSIGN_SESSIONS_URL", "memcached://db", "redis://"),
            ("COUNTERSIGN_DATABASE_URL", "countersign.db", "sqlite:///var/lib"),
            ("COUNTERSIGN_DATABASE_URL", "sqlite::memory:", "name a file"),
            ("COUNTERSIGN_PUBLIC_URL", "auth.example.com", "https://auth.example.com"),
            ("COUNTERSIGN_ALLOWED_ORIGINS", "*", "https://app.example.com"),
            (
                "COUNTERSIGN_ALLOWED_ORIGINS",
                "https://a.example,wss://b.example",
                "number 2 cannot be used: pages are",
            ),
            ("COUNTERSIGN_ALLOWED_ORIGINS", "https://a.example/", "there is a path behind the host"),
            ("COUNTERSIGN_SHUTDOWN_GRACE", "soon", "such as 90s"),
            ("COUNTERSIGN_REFRESH_HEAL", "maybe", "on or off"),
            ("COUNTERSIGN_LOG_FORMAT", "xml", "text or json"),
            ("COUNTERSIGN_HASH_PERMITS", "0", "at least 1"),
            ("COUNTERSIGN_REFRESH_GRACE", "301s", "at most 300 s"),
            ("COUNTERSIGN_LEEWAY", "301", "at most 300 s"),
            ("COUNTERSIGN_KEY_ROTATION", "monthly", "90d, or off"),
            ("COUNTERSIGN_KEY_ROTATION", "1h", "at least 1 day, or off"),
            ("COUNTERSIGN_KEY_ALGORITHM", "eddsa", "must be written EdDSA"),
            ("COUNTERSIGN_KEY_ALGORITHM", "none", "one of HS256"),
            ("COUNTERSIGN_METRICS_LISTEN", "localhost", "127.0.0.1:9090"),
            ("COUNTERSIGN_MAX_SESSIONS", "0", "between 1 and 10000"),
            ("COUNTERSIGN_MAX_SESSIONS", "10001", "between 1 and 10000"),
            ("COUNTERSIGN_SESSIONS_AT_LIMIT", "evict", "end-oldest or refuse"),
            ("COUNTERSIGN_REFRESH_GRACE_FOR", "me", "anyone or same-client"),
            ("COUNTERSIGN_LOG", "a=b=c", "info"),
            ("COUNTERSIGN_LOG", "warning", "write warn"),
            ("COUNTERSIGN_ISSUER", "two words", "https://auth.example.com"),
            ("COUNTERSIGN_SETTINGS_CHANGE", "perhaps", "yes or no"),
            ("COUNTERSIGN_ACCEPT_WEAK_STORE", "perhaps", "yes or no"),
        ] {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains(fix), "{name}={value}: {error}");
        }
    }

    #[test]
    fn a_default_that_no_longer_fits_is_named_too() {
        let error = read(&[("COUNTERSIGN_ACCESS_LIFETIME", "10s")]).unwrap_err().to_string();
        assert_eq!(
            error,
            "COUNTERSIGN_REFRESH_GRACE (default) is 30 s, more than half of COUNTERSIGN_ACCESS_LIFETIME (10 s): set it to \
             at most 5s"
        );
    }

    #[test]
    fn sec_046_a_secret_is_in_no_debug_output() {
        let settings = read(&[("COUNTERSIGN_SECRET", "canary-secret")]).unwrap();
        assert!(!format!("{settings:?}").contains("canary"));
        let both = [("COUNTERSIGN_SECRET", "canary-secret"), ("COUNTERSIGN_SECRET_FILE", "x")];
        assert!(!read(&both).unwrap_err().to_string().contains("canary"));
    }
}
