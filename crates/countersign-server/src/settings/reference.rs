//! What is made of the declarations: the help, the reference and the schema of the settings file.

use std::fmt::Write as _;

use countersign_jwt::Algorithm;
use serde_json::{Map, Value, json};

use super::declared::{ALL, Declared, Group, Kind};

/// The widest line of the help.
const WIDTH: usize = 120;

/// The column in which the help says what a setting is for.
const COLUMN: usize = 33;

/// The help on all settings.
pub(crate) fn help() -> String {
    let mut text = String::from(HELP);
    for group in Group::ALL {
        let _infallible = write!(text, "\n\n{}:", group.title());
        for declared in ALL.iter().filter(|declared| declared.group == group) {
            text.push('\n');
            text.push_str(&help_of(declared));
        }
    }
    let _infallible = write!(text, "\n\n{DURATIONS}");
    text
}

/// The settings of each group: its title, and of each setting the variable and what it is for.
pub(crate) fn groups() -> impl Iterator<Item = (&'static str, Vec<(String, String)>)> {
    Group::ALL.into_iter().map(|group| {
        let settings = ALL.iter().filter(|declared| declared.group == group);
        (group.title(), settings.map(|declared| (declared.variable(), described(declared))).collect())
    })
}

/// The lines of the help on one setting: its name, and beside it what it is for.
fn help_of(declared: &Declared) -> String {
    let mut line = format!("  {}", declared.variable());
    let mut lines = Vec::new();
    if line.len() + 2 > COLUMN {
        lines.push(std::mem::take(&mut line));
    }
    line = format!("{line:COLUMN$}");
    for word in described(declared).split(' ') {
        if line.chars().count() + word.chars().count() > WIDTH {
            lines.push(line.trim_end().to_owned());
            line = " ".repeat(COLUMN);
        }
        line.push_str(word);
        line.push(' ');
    }
    lines.push(line.trim_end().to_owned());
    lines.join("\n")
}

fn described(declared: &Declared) -> String {
    match declared.default {
        "" => declared.help.to_owned(),
        default => format!("{} [{default}]", declared.help),
    }
}

/// The help on the flag of the setting with this name.
pub(crate) fn help_of_flag(name: &str) -> String {
    let Some(declared) = super::declared::find(name) else { return String::new() };
    let mut characters = declared.help.trim_start_matches("yes, to ").chars();
    let first = characters.next().map(char::to_uppercase);
    let mut text: String = first.into_iter().flatten().chain(characters).collect();
    let _infallible = write!(text, " [env: {}]", declared.variable());
    if !declared.default.is_empty() && declared.kind != Kind::Switch {
        let _infallible = write!(text, " [default: {}]", declared.default);
    }
    text
}

/// What a duration looks like.
pub(crate) const DURATIONS: &str = "Durations are 90s, 15m, 12h, 14d or plain seconds.";

/// Where settings come from.
pub(crate) const HELP: &str = "\
Settings, by environment variable. A flag beats the environment, that beats .env in the working folder, that beats the
settings file: countersign.toml in the working folder, or the one that COUNTERSIGN_CONFIG names. Its keys are the names
without COUNTERSIGN_ in lower case. countersign config check says what is wrong, countersign config show what holds.";

/// The reference page, `docs/settings.md`.
pub(crate) fn page() -> String {
    let mut page = String::from(PAGE);
    for group in Group::ALL {
        let _infallible = write!(
            page,
            "\n## {}\n\n| setting | kind | default | what for |\n|---|---|---|---|\n",
            group.title()
        );
        for declared in ALL.iter().filter(|declared| declared.group == group) {
            let flag = declared.flag.map(|flag| format!(", `{flag}`")).unwrap_or_default();
            let since = match declared.since {
                "0.1.0" => String::new(),
                since => format!(" Since {since}."),
            };
            let at_once = if declared.changes_at_once { " Changes at SIGHUP." } else { "" };
            let _infallible = writeln!(
                page,
                "| `{}`{flag} | {} | {} | {}{at_once}{since} |",
                declared.variable(),
                kind(declared.kind),
                default(declared),
                declared.page
            );
        }
    }
    page
}

/// A default as the reference shows it: a value as code, words as words.
fn default(declared: &Declared) -> String {
    match declared.default {
        "" => "none".to_owned(),
        words @ ("none" | "all" | "nowhere" | "built-in") => words.to_owned(),
        words if words.contains(' ') && !words.contains("://") => words.to_owned(),
        value => format!("`{value}`"),
    }
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Text => "text".to_owned(),
        Kind::Switch => "`yes` or `no`".to_owned(),
        Kind::Duration => "duration".to_owned(),
        Kind::Number => "number".to_owned(),
        Kind::Choice(names) => one_of(names.iter().map(|name| format!("`{name}`"))),
        Kind::Algorithm => "algorithm".to_owned(),
        Kind::Url => "URL".to_owned(),
        Kind::Address => "address".to_owned(),
        Kind::Path => "path".to_owned(),
        Kind::List => "list".to_owned(),
    }
}

/// `a`, `a or b`, `a, b or c`.
pub(super) fn one_of(names: impl IntoIterator<Item = String>) -> String {
    let mut names: Vec<String> = names.into_iter().collect();
    let Some(last) = names.pop() else { return String::new() };
    if names.is_empty() { last } else { format!("{} or {last}", names.join(", ")) }
}

const PAGE: &str = "\
# Settings

For operators of the server: every setting, what it is for, and where it comes from. This page is what
`countersign config reference` prints.

```sh
countersign config check       # says everything that is wrong, and 1; or 0
countersign config show        # the settings that are set, and where each was; --all with the defaults, --json
countersign config reference   # this page; --schema: the JSON schema of the settings file
```

Each setting has one name: `COUNTERSIGN_LISTEN` in the environment and in `.env`, `listen` in the settings file. Its
value is taken from the first of these that has it, and an empty one counts as unset:

1. a flag, where there is one;
2. the environment;
3. `.env` in the working folder, which is read as python-dotenv reads it;
4. the settings file: `countersign.toml` in the working folder, or the one that `--config` or `COUNTERSIGN_CONFIG` names.

All commands read the same settings. An unknown name is an error that names the nearest known one, in every source. What
is wrong is told in one run.

```toml
# countersign.toml
public_url = \"https://auth.example.com\"
database_url_file = \"/run/secrets/database_url\"
trusted_proxies = [\"127.0.0.1\"]
access_lifetime = \"10m\"
refresh_heal = false
```

- **Durations** are `90s`, `15m`, `12h`, `14d`, or plain seconds. **Lists** have commas between their parts, or are lists
  in the file. **Addresses** are an IP address and a port.
- **Secrets** may each stand in a file of their own, which the setting with `_FILE` after its name names. Such a file
  holds nothing else and belongs to its owner alone (`chmod 600`), or to root with mode 0440, as Kubernetes and systemd
  mount it. A settings file or `.env` with a secret in it may not be read by everybody either; see
  [files](api.md#files).
- **SIGHUP** makes a running server read its settings again. The log level changes at once, and so do the templates and
  texts of pages and mails. Other settings that have changed are named in the log, and take effect when the server is
  restarted; so does the environment. If one is wrong, nothing changes. Certificates and keys are read again when they change, without any signal.
- An editor that knows JSON schemas completes and checks the settings file by `docs/settings.schema.json`.
- Kubernetes gives every pod beside a Service named `countersign` variables that begin like settings: set
  `enableServiceLinks: false`.
";

/// The JSON schema of the settings file (JSON Schema 2020-12), `docs/settings.schema.json`.
///
/// It is made by hand, as the declarations are values and no type that `schemars` could derive it from.
pub(crate) fn schema() -> Value {
    let file = ALL.iter().filter(|declared| declared.name != "config");
    let properties: Map<String, Value> =
        file.map(|declared| (declared.name.to_owned(), schema_of(declared))).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of the Countersign server (countersign.toml)",
        "type": "object",
        "properties": properties,
        "patternProperties": { "^(JWT_[A-Z_]+|SECRET_KEY)$": { "description": "An option of a Flask application." } },
        "additionalProperties": false,
    })
}

fn schema_of(declared: &Declared) -> Value {
    let texts = |names: Vec<&str>| json!({ "enum": names });
    let mut schema = match declared.kind {
        Kind::Text | Kind::Url | Kind::Path => json!({ "type": ["string", "integer"] }),
        Kind::Address => json!({ "type": "string", "pattern": ":[0-9]+$" }),
        Kind::Switch => json!({ "enum": [true, false, "on", "off", "yes", "no"] }),
        Kind::Duration => {
            json!({ "type": ["string", "integer"], "pattern": "^[0-9]+[smhd]?$", "minimum": 0 })
        }
        Kind::Number => json!({ "type": ["integer", "string"], "pattern": "^[0-9]+$", "minimum": 1 }),
        Kind::Choice(names) => texts(names.to_vec()),
        Kind::Algorithm => texts(Algorithm::ALL.map(Algorithm::name).to_vec()),
        Kind::List => json!({ "type": ["string", "array"], "items": { "type": "string" } }),
    };
    if let Value::Object(schema) = &mut schema {
        schema.insert("description".to_owned(), described(declared).into());
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_in_the_help_and_no_line_is_too_wide() {
        let help = help();
        for declared in ALL {
            let variable = format!("\n  {}", declared.variable());
            assert!([" ", "\n"].iter().any(|end| help.contains(&format!("{variable}{end}"))), "{variable}");
        }
        assert_eq!(help.matches("\n  COUNTERSIGN_").count(), ALL.len());
        for line in help.lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }

    #[test]
    fn a_value_that_the_schema_names_is_one_that_is_read() {
        for declared in ALL {
            let names = match declared.kind {
                Kind::Choice(names) => names.to_vec(),
                Kind::Algorithm => Algorithm::ALL.map(Algorithm::name).to_vec(),
                _ => continue,
            };
            assert_eq!(schema()["properties"][declared.name]["enum"], json!(names), "{}", declared.name);
        }
    }
}
