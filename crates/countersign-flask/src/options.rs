//! The options of a Flask application, read once and checked. This part serves both libraries.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::tokens::{KeySource, Leeway, algorithm_by_name};

/// The source of options: a map of values, or an environment of texts.
///
/// A value in an environment is JSON if it can be read as such, otherwise text; lists may also be comma-separated.
/// Names in it that belong to other programs are ignored.
///
/// ```
/// use countersign_flask::{FlaskJwtExtendedConfig, Options};
///
/// let environment = [("JWT_TOKEN_LOCATION", "headers, cookies"), ("PATH", "/bin")];
/// let variables = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
/// let config = FlaskJwtExtendedConfig::from_options(Options::from_environment(variables))?;
/// assert_eq!(config.token_location.len(), 2);
/// # Ok::<(), countersign_flask::OptionError>(())
/// ```
#[derive(Clone, Default)]
pub struct Options {
    values: BTreeMap<String, Given>,
    from_environment: bool,
}

#[derive(Clone)]
struct Given {
    value: Value,
    /// The text as it stood in the environment.
    raw: Option<String>,
}

/// An option that cannot be used. The message names the option and what to write instead, and never holds a secret.
///
/// ```
/// use countersign_flask::FlaskJwtExtendedConfig;
/// use serde_json::{Map, json};
///
/// let options = Map::from_iter([("JWT_ACCESS_TOKEN_EXPIRES".to_owned(), json!("soon"))]);
/// let error = FlaskJwtExtendedConfig::from_options(options).unwrap_err();
/// assert_eq!(error.option(), "JWT_ACCESS_TOKEN_EXPIRES");
/// ```
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{option} {problem}")]
pub struct OptionError {
    option: Cow<'static, str>,
    problem: Cow<'static, str>,
}

impl OptionError {
    /// Makes an error of the option's problem, which is written as the second half of a sentence that its name begins.
    pub(crate) fn new(option: impl Into<Cow<'static, str>>, problem: impl Into<Cow<'static, str>>) -> Self {
        Self { option: option.into(), problem: problem.into() }
    }

    /// The name of the option.
    #[must_use]
    pub fn option(&self) -> &str {
        &self.option
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl From<Map<String, Value>> for Options {
    fn from(values: Map<String, Value>) -> Self {
        let values = values.into_iter().map(|(name, value)| (name, Given { value, raw: None }));
        Self { values: values.collect(), from_environment: false }
    }
}

impl Options {
    /// Reads the options in an environment. Variables other than `JWT_…` and `SECRET_KEY` are ignored.
    pub fn from_environment(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours = variables.into_iter().filter(|(name, _)| name.starts_with("JWT_") || name == "SECRET_KEY");
        let values = ours.map(|(name, raw)| {
            let value = serde_json::from_str(&raw).unwrap_or_else(|_| Value::String(raw.clone()));
            (name, Given { value, raw: Some(raw) })
        });
        Self { values: values.collect(), from_environment: true }
    }

    /// Whether the option is given, even as null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Refuses names that are no options, and suggests the nearest one that is. In an environment, which other programs
    /// share, such a name is only logged.
    pub(crate) fn check_names(&self, known: &[&str]) -> Result<(), OptionError> {
        for name in self.values.keys().filter(|name| !known.contains(&name.as_str())) {
            let nearest = known
                .iter()
                .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
            let problem = format!("is not an option; did you mean {}?", nearest.unwrap_or(&"another one"));
            if !self.from_environment {
                return Err(OptionError::new(name.clone(), problem));
            }
            tracing::warn!(variable = name.as_str(), "{name} {problem}");
        }
        Ok(())
    }

    pub(crate) fn flag(&self, name: &'static str, default: bool) -> Result<bool, OptionError> {
        match self.value(name) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            // Python programs write booleans in this form.
            Some(Value::String(text)) if text == "True" => Ok(true),
            Some(Value::String(text)) if text == "False" => Ok(false),
            Some(_) => Err(OptionError::new(name, "must be true or false")),
        }
    }

    /// A text that must not be empty.
    pub(crate) fn name(&self, name: &'static str, default: &str) -> Result<String, OptionError> {
        match self.text(name)? {
            None if !self.has(name) => Ok(default.to_owned()),
            Some(text) if !text.is_empty() => Ok(text),
            _ => {
                Err(OptionError::new(name, format!("must be a text that is not empty, such as {default:?}")))
            }
        }
    }

    /// A text or null; an absent option counts as null.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<String>, OptionError> {
        match self.values.get(name) {
            None => Ok(None),
            Some(Given { value: Value::Null, .. }) => Ok(None),
            Some(Given { value: Value::String(text), .. }) => Ok(Some(text.clone())),
            Some(Given { raw: Some(raw), .. }) => Ok(Some(raw.clone())),
            Some(_) => Err(OptionError::new(name, "must be a text")),
        }
    }

    /// A text, or null where null is given; otherwise the default.
    pub(crate) fn text_or(
        &self,
        name: &'static str,
        default: Option<&str>,
    ) -> Result<Option<String>, OptionError> {
        if self.has(name) { self.text(name) } else { Ok(default.map(str::to_owned)) }
    }

    /// A secret or PEM text; an empty one and null count as absent.
    pub(crate) fn key(&self, name: &'static str) -> Result<Option<KeySource>, OptionError> {
        let text =
            self.text(name).map_err(|_| OptionError::new(name, "must be a text (it is not shown here)"))?;
        Ok(text.filter(|text| !text.is_empty()).map(KeySource::new))
    }

    /// `JWT_SECRET_KEY`, or else Flask's own `SECRET_KEY`.
    pub(crate) fn secret_key(&self) -> Result<Option<KeySource>, OptionError> {
        match self.key("JWT_SECRET_KEY")? {
            Some(secret) => Ok(Some(secret)),
            None => self.key("SECRET_KEY"),
        }
    }

    /// `JWT_ALGORITHM`. Both libraries default to HS256.
    pub(crate) fn algorithm(&self) -> Result<String, OptionError> {
        const NAME: &str = "JWT_ALGORITHM";
        let algorithm = self.name(NAME, "HS256")?;
        match algorithm_by_name(&algorithm) {
            Some(_) => Ok(algorithm),
            None => Err(OptionError::new(NAME, ALGORITHMS)),
        }
    }

    /// One text, or a list of texts; `None` if the option is null or absent.
    pub(crate) fn texts(&self, name: &'static str) -> Result<Option<Vec<String>>, OptionError> {
        let wrong = || OptionError::new(name, "must be a text or a list of texts");
        match self.values.get(name) {
            None | Some(Given { value: Value::Null, .. }) => Ok(None),
            Some(Given { value: Value::String(text), raw }) => Ok(Some(match raw {
                Some(_) => text.split(',').map(|part| part.trim().to_owned()).collect(),
                None => vec![text.clone()],
            })),
            Some(Given { value: Value::Array(list), .. }) => {
                let texts = list.iter().map(|text| text.as_str().map(str::to_owned).ok_or_else(wrong));
                texts.collect::<Result<_, _>>().map(Some)
            }
            Some(_) => Err(wrong()),
        }
    }

    /// The value as it is given.
    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name).map(|given| &given.value)
    }

    pub(crate) fn leeway(&self, name: &'static str, default: Duration) -> Result<Leeway, OptionError> {
        let duration = match self.value(name) {
            None => Some(default),
            Some(Value::Number(number)) if number.as_f64() == Some(0.0) => Some(Duration::ZERO),
            Some(value) => duration(value),
        };
        let millis =
            duration.filter(|leeway| *leeway <= MAX_LEEWAY).and_then(|d| i64::try_from(d.as_millis()).ok());
        millis.map(Leeway::from_millis).ok_or_else(|| {
            OptionError::new(
                name,
                "must be a number of seconds between 0 and 300; more is a longer token life in disguise",
            )
        })
    }
}

/// The problem text for an option that must name an algorithm, such as `JWT_ALGORITHM`.
pub(crate) const ALGORITHMS: &str = "must be one of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES256K, \
                          ES384, ES512, ES521, EdDSA, in this spelling; there is no way to accept unsigned tokens";

/// The longest leeway, the same as everywhere in Countersign.
const MAX_LEEWAY: Duration = Duration::from_secs(300);

/// A duration longer than zero seconds.
pub(crate) fn duration(value: &Value) -> Option<Duration> {
    let seconds = value.as_f64().filter(|seconds| *seconds > 0.0)?;
    Duration::try_from_secs_f64(seconds).ok()
}
