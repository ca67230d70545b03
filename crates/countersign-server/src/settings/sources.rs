//! The sources of settings.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::ProfileSetting;
use super::declared::{self, ALL, Declared, PREFIX, Secrecy, variable};
use super::dotenv::{self, Dotenv};
use super::secret_file::{self, SecretTextError};
use super::value::{Setting, SettingError};

/// The settings file that is read where it exists and no other is named.
const FILE: &str = "countersign.toml";

/// The source of settings that are flags.
const COMMAND_LINE: &str = "command line";

/// The settings that the command line sets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    pub(crate) config: Option<PathBuf>,
    pub(crate) listen: Option<String>,
    pub(crate) plain_http: bool,
    pub(crate) accept_weak_store: bool,
    pub(crate) database: Option<String>,
    pub(crate) sessions: Option<String>,
}

/// Every setting that was set in any source, each from the first source that has it.
pub(crate) struct Sources {
    settings: BTreeMap<&'static str, Setting>,
    /// `JWT_…` and `SECRET_KEY`, as they are set for a Flask application.
    flask_options: BTreeMap<String, String>,
    /// The settings in files that other users may read or change.
    exposed: Vec<Exposed>,
    /// The numbers of the lines of `.env` that are skipped.
    pub(super) unreadable_lines: Vec<usize>,
    /// The names that are no settings.
    pub(super) wrong: Vec<SettingError>,
    /// The settings file that was read, if one was.
    pub(crate) file: Option<PathBuf>,
    /// The names that were asked for.
    #[cfg(test)]
    asked_for: std::cell::RefCell<std::collections::BTreeSet<&'static str>>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Values may be secret.
        f.debug_struct("Sources").field("names", &self.settings.keys()).finish_non_exhaustive()
    }
}

/// A file that every user of the machine may read or change, and the reason why that is a danger (SEC-046).
struct Exposed {
    what: Danger,
    path: PathBuf,
    mode: u32,
}

enum Danger {
    /// The file holds this setting.
    Setting(String),
    /// Any setting can be written into the file, because it is this server's own.
    AnySetting,
}

impl Sources {
    /// Reads flags, the environment, `.env` in the working folder, and the settings file: the one that these name, or
    /// `countersign.toml` in the working folder, if it is there.
    ///
    /// # Errors
    /// [`SettingError`] for a file that cannot be read. What else is wrong is told by [`Settings::read`](super::Settings).
    pub(crate) fn read(flags: Flags) -> Result<Self, SettingError> {
        // A name that is not Unicode is none of this server's. A value that is not Unicode is an error of its own.
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok();
            let name = name.filter(|name| name.starts_with(PREFIX) || is_flask_option(name))?;
            Some((name, value.to_string_lossy().into_owned()))
        });
        let from_environment: BTreeMap<String, String> = environment.collect();
        let mut exposed = Vec::new();
        let dotenv_path = Path::new(".env");
        let dotenv = read_dotenv(dotenv_path)?;
        exposed.extend(exposed_in_dotenv(dotenv_path, &dotenv.variables));
        let config = variable("config");
        let named = flags.config.clone().or_else(|| {
            let named = from_environment.get(&config).or_else(|| dotenv.variables.get(&config));
            named.filter(|path| !path.is_empty()).map(PathBuf::from)
        });
        let path = named.or_else(|| Some(PathBuf::from(FILE)).filter(|path| path.is_file()));
        let mut wrong = Vec::new();
        let file = match &path {
            Some(path) => {
                let file = read_file(path, &mut wrong)?;
                exposed.extend(exposed_in_file(path, &file));
                Some(file)
            }
            None => None,
        };
        let mut sources = Self::collect(flags, from_environment, Some(dotenv.variables), file);
        sources.wrong.extend(wrong);
        sources.read_values_in_files();
        Ok(Self { exposed, unreadable_lines: dotenv.unreadable, file: path, ..sources })
    }

    /// Reads the URLs that stand in files of their own. The secret and the peppers are read later, where they are used.
    fn read_values_in_files(&mut self) {
        for (declared, in_file) in declared::in_files() {
            let Some(path) = self.settings.get(in_file.name) else { continue };
            if declared.secrecy != Secrecy::MayHavePassword {
                continue;
            }
            let read = match self.settings.get(declared.name) {
                // A flag beats what is set elsewhere.
                Some(setting) if setting.source == COMMAND_LINE && path.source != COMMAND_LINE => continue,
                Some(setting) => {
                    Err(setting.wrong(format!("is set together with {}; set only one", in_file.variable())))
                }
                None => read_value(path),
            };
            match read {
                Ok(text) => {
                    let setting = Setting { text, ..path.clone() };
                    self.settings.insert(declared.name, setting);
                }
                Err(error) => self.wrong.push(error),
            }
        }
    }

    /// Every setting with its value, if it was set.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static Declared, Option<&Setting>)> {
        ALL.iter().map(|declared| (declared, self.settings.get(declared.name)))
    }

    /// The settings that have other values here than there.
    pub(crate) fn changed_since(&self, there: &Self) -> impl Iterator<Item = &'static Declared> {
        let there = there.all().map(|(_, setting)| setting.map(Setting::text));
        let pairs = self.all().zip(there);
        pairs
            .filter(|((_, here), there)| here.map(Setting::text) != *there)
            .map(|((declared, _), _)| declared)
    }

    /// The options of a Flask application that have other values here than there.
    pub(crate) fn flask_options_changed_since(&self, there: &Self) -> Vec<String> {
        let names: BTreeSet<&String> = self.flask_options.keys().chain(there.flask_options.keys()).collect();
        let changed = |name: &&String| self.flask_options.get(*name) != there.flask_options.get(*name);
        names.into_iter().filter(changed).cloned().collect()
    }

    /// The names that were asked for.
    #[cfg(test)]
    pub(super) fn asked_for(&self) -> std::collections::BTreeSet<&'static str> {
        self.asked_for.borrow().clone()
    }

    /// Refuses a secret in a file that other users may read, and settings that other users may change. With a profile,
    /// the settings of a Flask application count as settings of this server.
    ///
    /// # Errors
    /// [`SettingError`] names the setting, the file and what to do.
    pub(super) fn check_exposed(&self, has_profile: bool) -> Result<(), SettingError> {
        let mut exposed = self.exposed.iter();
        let found = exposed.find(|exposed| match &exposed.what {
            Danger::Setting(name) => has_profile || !is_flask_option(name),
            Danger::AnySetting => true,
        });
        let Some(Exposed { what, path, mode }) = found else { return Ok(()) };
        let path = path.display().to_string();
        let (name, source, problem) = match what {
            Danger::Setting(name) => {
                (name, path.as_str(), "stands in a file that every user of this machine may")
            }
            Danger::AnySetting => {
                (&path, "configuration file", "is a file that every user of this machine may")
            }
        };
        Err(SettingError::new(
            name,
            source,
            format!(
                "{problem} read or change (mode {mode:03o}); run: chmod 600 {path} (where Kubernetes mounts it, set \
                 defaultMode: 0440)"
            ),
        ))
    }

    /// Combines the sources. Empty values count as unset.
    pub(crate) fn collect(
        flags: Flags,
        environment: impl IntoIterator<Item = (String, String)>,
        dotenv: Option<BTreeMap<String, String>>,
        file: Option<BTreeMap<String, String>>,
    ) -> Self {
        let mut settings = BTreeMap::new();
        let mut flask_options = BTreeMap::new();
        let mut wrong = Vec::new();
        let mut add = |name: &'static str, shown: &str, source: &str, text: String| {
            if !text.is_empty() {
                settings.entry(name).or_insert(Setting {
                    name: shown.to_owned(),
                    source: source.to_owned(),
                    text,
                });
            }
        };
        for (name, flag, value) in [
            ("listen", "--listen", flags.listen),
            ("plain_http", "--plain-http", flags.plain_http.then(|| "on".to_owned())),
            ("accept_weak_store", "--accept-weak-store", flags.accept_weak_store.then(|| "on".to_owned())),
            ("database_url", "--database", flags.database),
            ("sessions_url", "--sessions", flags.sessions),
        ] {
            if let Some(text) = value {
                add(name, flag, COMMAND_LINE, text);
            }
        }
        let dotenv = dotenv.unwrap_or_default();
        for (source, variables) in
            [("environment", environment.into_iter().collect()), (".env", dotenv)] as [(_, BTreeMap<_, _>); 2]
        {
            for (shown, text) in variables {
                if is_flask_option(&shown) {
                    flask_options.entry(shown).or_insert(text);
                    continue;
                }
                if let Some(rest) = shown.strip_prefix(PREFIX) {
                    match known(&rest.to_lowercase()).filter(|name| shown == variable(name)) {
                        Some(name) => add(name, &shown, source, text),
                        None => wrong.push(unknown(&shown, source, variable)),
                    }
                }
            }
        }
        for (shown, text) in file.unwrap_or_default() {
            if is_flask_option(&shown) {
                // The file is this server's own, so an unknown name in it is a mistake.
                if flask_options_known().any(|known| known == shown) {
                    flask_options.entry(shown).or_insert(text);
                } else {
                    wrong.push(nearest(&shown, "file", flask_options_known().map(ToOwned::to_owned)));
                }
                continue;
            }
            match known(&shown).filter(|name| *name != "config") {
                Some(name) => add(name, &shown, "file", text),
                None => wrong.push(unknown(&shown, "file", ToOwned::to_owned)),
            }
        }
        Self {
            settings,
            flask_options,
            exposed: Vec::new(),
            unreadable_lines: Vec::new(),
            wrong,
            file: None,
            #[cfg(test)]
            asked_for: std::cell::RefCell::default(),
        }
    }

    /// The options of a Flask application, as texts.
    #[cfg(feature = "flask")]
    pub(crate) fn flask_options(&self) -> BTreeMap<String, String> {
        self.flask_options.clone()
    }

    /// The options that were set and that one of the profiles knows. Other names that begin with `JWT_` are other
    /// programs'.
    pub(crate) fn known_flask_options(&self) -> Vec<String> {
        let known =
            |name: &&String| name.starts_with("JWT_") && flask_options_known().any(|known| known == *name);
        self.flask_options.keys().filter(known).cloned().collect()
    }

    /// The setting with this name, if it was set.
    pub(crate) fn get(&self, name: &'static str) -> Option<Setting> {
        debug_assert!(declared::find(name).is_some(), "{name} is a setting");
        #[cfg(test)]
        self.asked_for.borrow_mut().insert(name);
        self.settings.get(name).cloned()
    }
}

/// Whether a Flask application would read a variable with this name.
fn is_flask_option(name: &str) -> bool {
    name.starts_with("JWT_") || name == "SECRET_KEY"
}

fn known(name: &str) -> Option<&'static str> {
    declared::find(name).map(|declared| declared.name)
}

/// The names of the options of both profiles.
fn flask_options_known() -> impl Iterator<Item = &'static str> {
    ProfileSetting::option_names()
}

fn unknown(shown: &str, source: &str, spelled: impl Fn(&str) -> String) -> SettingError {
    // Kubernetes sets these variables in every pod beside a Service that is named `countersign`.
    let of_service =
        ["COUNTERSIGN_SERVICE_", "COUNTERSIGN_PORT_"].iter().any(|prefix| shown.starts_with(prefix));
    if of_service || shown == "COUNTERSIGN_PORT" {
        let remedy = "is not a setting; Kubernetes sets it beside a Service of this name: set enableServiceLinks: false";
        return SettingError::new(shown, source, remedy);
    }
    nearest(shown, source, ALL.iter().map(|declared| spelled(declared.name)))
}

fn nearest(shown: &str, source: &str, names: impl Iterator<Item = String>) -> SettingError {
    let lower = shown.to_lowercase();
    let nearest = names.max_by(|a, b| {
        let near = |known: &String| strsim::jaro_winkler(&known.to_lowercase(), &lower);
        near(a).total_cmp(&near(b))
    });
    let problem = match nearest {
        Some(nearest) => format!("is not a setting; did you mean {nearest}?"),
        None => "is not a setting; this server was built without the feature flask".to_owned(),
    };
    SettingError::new(shown, source, problem)
}

fn read_dotenv(path: &Path) -> Result<Dotenv, SettingError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        // A folder named `.env` is no `.env` file, as in python-dotenv.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {
            return Ok(Dotenv::default());
        }
        Err(error) => {
            let problem = format!("cannot be read: {error}");
            return Err(SettingError::new(".env", "working folder", problem));
        }
    };
    let is_ours = |name: &str| name.starts_with(PREFIX) || is_flask_option(name);
    dotenv::read(&bytes, is_ours, |name| std::env::var(name).ok()).map_err(|error| {
        SettingError::new(&error.name, &format!(".env, line {}", error.line), error.to_string())
    })
}

/// The settings in `.env` that users outside the file's group may read, or change. The rest of the file is other
/// programs', and a file without settings of this server does not concern it.
fn exposed_in_dotenv(path: &Path, settings: &BTreeMap<String, String>) -> Vec<Exposed> {
    let Some(mode) = mode_for_all(path) else { return Vec::new() };
    settings_exposed(path, mode, settings, |name, value| is_changeable(mode) || is_secret(name, value))
}

/// The secrets in the settings file that users outside the file's group may read, and the whole file if they may change
/// it.
fn exposed_in_file(path: &Path, settings: &BTreeMap<String, String>) -> Vec<Exposed> {
    let Some(mode) = mode_for_all(path) else { return Vec::new() };
    let mut exposed = settings_exposed(path, mode, settings, is_secret);
    if is_changeable(mode) {
        exposed.push(Exposed { what: Danger::AnySetting, path: path.to_owned(), mode });
    }
    exposed
}

fn settings_exposed(
    path: &Path,
    mode: u32,
    settings: &BTreeMap<String, String>,
    is_exposed: impl Fn(&str, &str) -> bool,
) -> Vec<Exposed> {
    let exposed = settings.iter().filter(|(name, value)| !value.is_empty() && is_exposed(name, value));
    let exposed =
        exposed.map(|(name, _)| Exposed { what: Danger::Setting(name.clone()), path: path.to_owned(), mode });
    exposed.collect()
}

/// Whether every user may change a file with these permission bits. Somebody who may change settings can choose any for
/// the next start: an allowed origin, a database, a secret.
fn is_changeable(mode: u32) -> bool {
    mode & 0o002 != 0
}

/// The permission bits of a file that everybody may read or change.
#[cfg(unix)]
fn mode_for_all(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;

    const OTHERS: u32 = 0o006;
    let metadata = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    let mode = metadata.permissions().mode() & 0o777;
    (mode & OTHERS != 0).then_some(mode)
}

#[cfg(not(unix))]
fn mode_for_all(_: &Path) -> Option<u32> {
    None
}

/// Whether a reader of this value learns something with which to sign tokens, to open the store or to send mail.
fn is_secret(name: &str, value: &str) -> bool {
    let name = name.strip_prefix(PREFIX).unwrap_or(name).to_lowercase();
    match declared::find(&name).map(|declared| declared.secrecy) {
        Some(Secrecy::Secret) => true,
        Some(Secrecy::MayHavePassword) => has_password(value),
        Some(Secrecy::Public) => false,
        None => matches!(name.as_str(), "secret_key" | "jwt_secret_key" | "jwt_private_key"),
    }
}

/// A value as it may be shown to whoever looks at the settings.
pub(crate) fn shown(declared: &Declared, value: &str) -> String {
    match declared.secrecy {
        Secrecy::Secret => "(secret)".to_owned(),
        Secrecy::MayHavePassword if has_password(value) => without_password(value),
        Secrecy::MayHavePassword | Secrecy::Public => value.to_owned(),
    }
}

/// A URL without its password and without its parameters, which may hold one.
fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (user, place) = rest.rsplit_once('@').map_or((None, rest), |(user, place)| (Some(user), place));
    let place = place.split_once('?').map_or(place, |(place, _)| place);
    match user.map(|user| user.split_once([':', '?']).map_or(user, |(user, _)| user)) {
        Some(user) => format!("{scheme}://{user}:(secret)@{place}"),
        None => format!("{scheme}://{place}"),
    }
}

/// Reads a value that stands in a file of its own, to which this setting is the path.
fn read_value(path: &Setting) -> Result<String, SettingError> {
    let shown = path.text();
    let text = secret_file::read(Path::new(shown)).map_err(|error| match error {
        SecretTextError::Unread(error) => path.wrong(format!("cannot be read: {shown}: {error}")),
        SecretTextError::Open { mode } => path.wrong(format!(
            "names a file that is open to other users (mode {mode:03o}); where it is mounted, let it be root's and \
             readable by the server's group alone (Kubernetes: defaultMode: 0440); else run: chmod 600 {shown}"
        )),
    })?;
    match text.trim() {
        "" => Err(path.wrong(format!("names an empty file: {shown}"))),
        value => Ok(value.to_owned()),
    }
}

/// Whether an engine's URL has a password in it, even if the URL is wrong in other ways.
fn has_password(url: &str) -> bool {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    // A password may hold every sign, also those that end the host of a right URL.
    let user = rest.rsplit_once('@').map(|(user, _)| user);
    let in_user =
        user.and_then(|user| user.split_once(':')).is_some_and(|(_, password)| !password.is_empty());
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let mut parameters = query.split(['&', ';']).filter_map(|pair| pair.split_once('='));
    in_user
        || parameters.any(|(name, value)| {
            let name = name.to_lowercase();
            !value.is_empty() && (name.contains("password") || name.contains("mechanismproperties"))
        })
}

/// Reads the settings file. Values that no setting has are noted as wrong.
fn read_file(path: &Path, wrong: &mut Vec<SettingError>) -> Result<BTreeMap<String, String>, SettingError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        SettingError::new(&shown, "configuration file", format!("cannot be read: {error}"))
    })?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        // The error's own text is not shown, because it contains the line, which may hold a secret.
        let line = error.span().map(|span| text.get(..span.start).unwrap_or_default().lines().count().max(1));
        let place = line.map(|line| format!(" near line {line}")).unwrap_or_default();
        SettingError::new(&shown, "configuration file", format!("is not TOML{place}: {}", error.message()))
    })?;
    let mut settings = BTreeMap::new();
    for (name, value) in table {
        let text = match value {
            // The options have the form that they have in the environment: JSON, unless the value is text.
            value if is_flask_option(&name) => match value {
                toml::Value::String(text) => text,
                value => serde_json::to_string(&value).unwrap_or_default(),
            },
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(switch) => (if switch { "on" } else { "off" }).to_owned(),
            toml::Value::Array(list) if list.iter().all(toml::Value::is_str) => {
                list.iter().filter_map(toml::Value::as_str).collect::<Vec<_>>().join(",")
            }
            toml::Value::Table(table) => {
                wrong.push(no_tables(&name, &table));
                continue;
            }
            _ => {
                let problem = "must be text, a number, true, false or a list of texts";
                wrong.push(SettingError::new(&name, "file", problem));
                continue;
            }
        };
        settings.insert(name, text);
    }
    Ok(settings)
}

/// The error for a `[table]`, with the setting that was probably meant.
fn no_tables(name: &str, table: &toml::Table) -> SettingError {
    let mut keys = table.keys().map(|key| (key, known(&format!("{name}_{key}")).or_else(|| known(key))));
    let problem = match keys.find_map(|(key, known)| Some((key, known?))) {
        Some((key, known)) => {
            format!("is a table, and the file has none: write {known} = … in place of {key} in [{name}]")
        }
        None => "is a table, and the file has none: every line is the name of a setting, = and its value"
            .to_owned(),
    };
    SettingError::new(name, "file", problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_flag_beats_the_environment_beats_dotenv_beats_the_file() {
        let flag = || Flags { listen: Some("flag:1".to_owned()), ..Flags::default() };
        let environment = map(&[("COUNTERSIGN_LISTEN", "environment:1")]);
        let dotenv = map(&[("COUNTERSIGN_LISTEN", "dotenv:1"), ("OTHER_APP", "x")]);
        let file = map(&[("listen", "file:1")]);
        let got = |flags, environment, dotenv, file| {
            let sources = Sources::collect(flags, environment, Some(dotenv), Some(file));
            sources.get("listen").unwrap().text
        };
        let none = BTreeMap::new;
        assert_eq!(got(flag(), environment.clone(), dotenv.clone(), file.clone()), "flag:1");
        assert_eq!(got(Flags::default(), environment, dotenv.clone(), file.clone()), "environment:1");
        assert_eq!(got(Flags::default(), none(), dotenv, file.clone()), "dotenv:1");
        assert_eq!(got(Flags::default(), none(), none(), file), "file:1");
    }

    #[test]
    fn unknown_names_are_refused_in_every_source() {
        let option =
            if cfg!(feature = "flask") { "JWT_TOKEN_LOCATION?" } else { "without the feature flask" };
        for (dotenv, file, expected) in [
            (map(&[("COUNTERSIGN_LISTENS", "x")]), BTreeMap::new(), "COUNTERSIGN_LISTEN?"),
            (BTreeMap::new(), map(&[("databse_url", "x")]), "database_url?"),
            (map(&[("COUNTERSIGN_listen", "x")]), BTreeMap::new(), "COUNTERSIGN_LISTEN?"),
            (BTreeMap::new(), map(&[("JWT_TOKEN_LOCATIONS", "x")]), option),
        ] {
            let sources = Sources::collect(Flags::default(), BTreeMap::new(), Some(dotenv), Some(file));
            let [error] = &sources.wrong[..] else { panic!("{:?}", sources.wrong) };
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn the_file_takes_numbers_switches_and_lists() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("countersign.toml");
        let text = "access_lifetime = 600\nrefresh_heal = false\nallowed_origins = [\"https://a.example\", \"https://b.example\"]\n";
        std::fs::write(&path, text).unwrap();
        let mut wrong = Vec::new();
        let file = read_file(&path, &mut wrong).unwrap();
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!(file["access_lifetime"], "600");
        assert_eq!(file["refresh_heal"], "off");
        assert_eq!(file["allowed_origins"], "https://a.example,https://b.example");
    }

    #[test]
    fn sec_046_a_secret_is_known_as_one_wherever_it_stands() {
        for (name, value, secret) in [
            ("COUNTERSIGN_SECRET", "x", true),
            ("secret", "x", true),
            ("JWT_SECRET_KEY", "x", true),
            ("SECRET_KEY", "x", true),
            ("JWT_PRIVATE_KEY", "x", true),
            ("COUNTERSIGN_PASSWORD_PEPPER", "x", true),
            ("COUNTERSIGN_PASSWORD_PEPPER_FILE", "x", false),
            ("COUNTERSIGN_SECRET_FILE", "x", false),
            ("secret_file", "x", false),
            ("JWT_PUBLIC_KEY", "x", false),
            ("database_url", "sqlite://a.db", false),
            ("database_url", "postgres://ada@db/auth", false),
            ("database_url", "postgres://ada:@db/auth", false),
            ("database_url", "postgres://ada:pw@db/auth", true),
            ("COUNTERSIGN_DATABASE_URL", "postgres://ada:p@w/x@db:1,db:2/auth", true),
            ("COUNTERSIGN_DATABASE_URL", "postgres:///auth?user=ada&password=pw", true),
            ("COUNTERSIGN_SESSIONS_URL", "redis://:pw@cache/0", true),
            ("COUNTERSIGN_SESSIONS_URL", "redis://cache:6379/0", false),
            ("COUNTERSIGN_PUBLIC_URL", "https://ada:pw@auth.example.com", false),
            ("COUNTERSIGN_SMTP_URL", "smtp://ada:pw@mail.example.com?tls=starttls", true),
            ("blocklist_url", "mysql://ada:pw@db/app", true),
        ] {
            assert_eq!(is_secret(name, value), secret, "{name}={value}");
        }
    }

    #[test]
    fn a_broken_file_is_named_without_repeating_its_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("countersign.toml");
        std::fs::write(&path, "listen = \"127.0.0.1:1\"\nsecret = canary-secret\n").unwrap();
        let error = read_file(&path, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("countersign.toml") && !error.contains("canary"), "{error}");
    }

    #[test]
    fn a_table_is_an_error_that_names_the_setting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("countersign.toml");
        let text = "access_lifetime = 600\n[database]\nurl = \"sqlite://a.db\"\n[server]\nlisten = \"[::1]:1\"\n[x]\ny = 1\n";
        std::fs::write(&path, text).unwrap();
        let mut wrong = Vec::new();
        assert_eq!(read_file(&path, &mut wrong).unwrap().len(), 1);
        let told: Vec<_> = wrong.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "database (file) is a table, and the file has none: write database_url = … in place of url in [database]",
                "server (file) is a table, and the file has none: write listen = … in place of listen in [server]",
                "x (file) is a table, and the file has none: every line is the name of a setting, = and its value",
            ]
        );
    }

    #[test]
    fn sec_046_what_is_shown_of_a_url_has_no_password() {
        let declared = declared::find("database_url").unwrap();
        for (url, expected) in [
            ("postgres://ada:canary@db/auth", "postgres://ada:(secret)@db/auth"),
            ("postgres:///auth?user=ada&password=canary", "postgres:///auth"),
            ("redis://:can@ary@cache:1,cache:2/0", "redis://:(secret)@cache:1,cache:2/0"),
            ("postgres://u:pa?canary@db/auth", "postgres://u:(secret)@db/auth"),
            ("postgres://u:pa/ca?n@ary#@db/auth?x=1", "postgres://u:(secret)@db/auth"),
            ("mongodb://db/auth?authMechanismProperties=AWS_SESSION_TOKEN:canary", "mongodb://db/auth"),
            ("sqlite://a.db", "sqlite://a.db"),
            ("postgres://ada@db/auth?sslmode=require", "postgres://ada@db/auth?sslmode=require"),
        ] {
            assert_eq!(shown(declared, url), expected);
        }
        assert_eq!(shown(declared::find("secret").unwrap(), "canary"), "(secret)");
    }

    #[cfg(unix)]
    #[test]
    fn sec_046_a_value_in_a_file_is_read_if_the_file_is_closed_to_others() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        let read = |content: &str, mode: u32, url: Option<&str>| {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let mut environment = map(&[("COUNTERSIGN_DATABASE_URL_FILE", path.to_str().unwrap())]);
            environment.extend(url.map(|url| ("COUNTERSIGN_DATABASE_URL".to_owned(), url.to_owned())));
            let mut sources = Sources::collect(Flags::default(), environment, None, None);
            sources.read_values_in_files();
            match sources.wrong.pop() {
                None => Ok(sources.get("database_url").unwrap().text),
                Some(error) => Err(error.to_string()),
            }
        };
        assert_eq!(
            read("postgres://ada:canary@db/auth\n", 0o600, None).unwrap(),
            "postgres://ada:canary@db/auth"
        );
        for (content, mode, url, expected) in [
            ("postgres://ada:canary@db/auth", 0o644, None, "chmod 600"),
            ("\n", 0o600, None, "empty file"),
            ("postgres://ada:canary@db/auth", 0o600, Some("sqlite://a.db"), "set only one"),
        ] {
            let error = read(content, mode, url).unwrap_err();
            assert!(error.starts_with("COUNTERSIGN_DATABASE_URL") && error.contains(expected), "{error}");
            assert!(!error.contains("canary"), "{error}");
        }
        let flag = Flags { database: Some("sqlite://flag.db".to_owned()), ..Flags::default() };
        let environment = map(&[("COUNTERSIGN_DATABASE_URL_FILE", "/nowhere")]);
        let mut sources = Sources::collect(flag, environment, None, None);
        sources.read_values_in_files();
        assert!(sources.wrong.is_empty());
        assert_eq!(sources.get("database_url").unwrap().text, "sqlite://flag.db");
    }
}
