//! Templates and texts, built in or replaced by the files of a folder.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, State, UndefinedBehavior, Value};

use crate::error::TemplateError;
use crate::language::Language;
use crate::texts::{TextProblem, Texts};

/// The templates and texts that a program comes with.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// What errors call a file, such as `mail template`.
    pub what: &'static str,
    /// The templates, by name. Those whose names end in `.html` escape values.
    pub files: &'static [(&'static str, &'static str)],
    /// The texts of each language, as TOML.
    pub texts: &'static [(Language, &'static str)],
}

/// Templates and texts, ready to render.
///
/// The texts come in the language that the variable `language` names, by its tag.
#[derive(Clone)]
pub struct Catalog {
    what: &'static str,
    known: Arc<[String]>,
    environment: Environment<'static>,
    texts: BTreeMap<Language, Arc<Texts>>,
}

impl Catalog {
    /// The templates and texts that the program comes with.
    ///
    /// # Panics
    /// If a built-in template is not Jinja or a built-in file of texts is not TOML.
    #[must_use]
    pub fn built_in(built_in: &BuiltIn) -> Self {
        let files = built_in.files.iter().map(|(name, source)| ((*name).to_owned(), (*source).to_owned()));
        Self::assemble(built_in, files, texts(built_in)).expect("the built-in templates are Jinja")
    }

    /// The templates and texts that the program comes with, of which the files in `folder` replace those of the same
    /// names.
    ///
    /// - A file with the name of a built-in template replaces it.
    /// - `en.toml`, `de.toml` and `fr.toml` replace single texts; the others stay.
    /// - Names that begin with `_` and end in `.txt` or `.html` are new templates, for `{% include %}`.
    /// - Files without the endings `.txt`, `.html` and `.toml` are left alone.
    ///
    /// The caller renders everything once, because only that shows unknown variables.
    ///
    /// # Errors
    /// [`TemplateError`], which names the file and the line.
    ///
    /// # Panics
    /// As [`Catalog::built_in`] does.
    pub fn load(built_in: &BuiltIn, folder: &Path) -> Result<Self, TemplateError> {
        let what = built_in.what;
        let mut files: BTreeMap<String, String> =
            built_in.files.iter().map(|(name, source)| ((*name).to_owned(), (*source).to_owned())).collect();
        let mut texts = texts(built_in);
        for (name, source) in read(what, folder)? {
            if let Some(tag) = name.strip_suffix(".toml") {
                let language = Language::ALL.into_iter().find(|language| language.tag() == tag);
                let known = language.and_then(|language| texts.get_mut(&language));
                let known = known.ok_or_else(|| unknown_file(built_in, &name))?;
                let parsed = Texts::parse(&source);
                let parsed = parsed
                    .map_err(|problem| TemplateError::new(what, &name, problem.line, problem.problem))?;
                known
                    .replace(parsed)
                    .map_err(|problem| TemplateError::new(what, &name, problem.line, problem.problem))?;
            } else if name.starts_with('_') || files.contains_key(&name) {
                let _replaced = files.insert(name, source);
            } else {
                return Err(unknown_file(built_in, &name));
            }
        }
        Self::assemble(built_in, files, texts)
    }

    fn assemble(
        built_in: &BuiltIn,
        files: impl IntoIterator<Item = (String, String)>,
        texts: BTreeMap<Language, Texts>,
    ) -> Result<Self, TemplateError> {
        let what = built_in.what;
        let texts: BTreeMap<_, _> =
            texts.into_iter().map(|(language, texts)| (language, Arc::new(texts))).collect();
        let mut environment = Environment::new();
        // Debug information holds the values that a template was rendered with, one-time secrets among them.
        environment.set_debug(false);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.expect("the usual syntax is valid"));
        let by_tag = texts.clone();
        environment.add_function("text", move |state: &State, key: &str| text(state, &by_tag, key));
        let mut known = Vec::new();
        for (name, source) in files {
            environment
                .add_template_owned(name.clone(), source)
                .map_err(|error| TemplateError::of(what, &name, &error))?;
            known.push(name);
        }
        Ok(Self { what, known: known.into(), environment, texts })
    }

    /// The names of all templates.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(String::as_str)
    }

    /// Checks that templates use these variables and no others, also where what they are rendered with does not lead.
    ///
    /// # Errors
    /// [`TemplateError`], which names the first unknown variable, its file and its line.
    pub fn check_variables(&self, known: &[&str]) -> Result<(), TemplateError> {
        let functions: Vec<&str> = self.environment.globals().map(|(name, _)| name).collect();
        // What others include may use what those have set.
        let templates = self.environment.templates().filter(|(name, _)| !name.starts_with('_'));
        for (name, template) in templates {
            let mut used: Vec<String> = template.undeclared_variables(false).into_iter().collect();
            used.sort();
            let is_known = |used: &str| known.contains(&used) || functions.contains(&used) || used == "super";
            if let Some(unknown) = used.into_iter().find(|used| !is_known(used)) {
                let is_used = |line: &str| {
                    let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
                    words.any(|word| word == unknown)
                };
                let line = template.source().lines().position(is_used).map(|index| index + 1);
                return Err(TemplateError::new(
                    self.what,
                    name,
                    line,
                    format!("there is no variable {unknown}"),
                ));
            }
        }
        Ok(())
    }

    /// Renders a template.
    ///
    /// # Errors
    /// [`TemplateError`] if the template fails on these values. It holds nothing of them.
    pub fn render(&self, name: &str, context: Value) -> Result<String, TemplateError> {
        self.environment
            .get_template(name)
            .and_then(|template| template.render(context))
            .map_err(|error| TemplateError::of(self.what, name, &error))
    }

    /// Renders a template that is not one of the files; `name` decides whether values are escaped.
    ///
    /// # Errors
    /// [`TemplateError`] if the template fails on these values.
    pub fn render_str(&self, name: &str, source: &str, context: Value) -> Result<String, TemplateError> {
        self.environment
            .render_named_str(name, source, context)
            .map_err(|error| TemplateError::of(self.what, name, &error))
    }

    /// The texts of a language.
    #[must_use]
    pub fn texts(&self, language: Language) -> Option<&Texts> {
        self.texts.get(&language).map(|texts| &**texts)
    }

    /// A text as it is written, with its placeholders.
    ///
    /// # Errors
    /// [`TemplateError`] if there is no such text.
    pub fn text(&self, language: Language, key: &str) -> Result<&str, TemplateError> {
        let text = self.texts(language).and_then(|texts| texts.get(key));
        text.ok_or_else(|| {
            TemplateError::new(self.what, &format!("{language}.toml"), None, format!("{key} is missing"))
        })
    }

    /// A text whose placeholders are replaced by these values.
    ///
    /// # Errors
    /// [`TemplateError`] if there is no such text, or a placeholder has no value.
    pub fn fill(
        &self,
        language: Language,
        key: &str,
        values: &[(&str, &str)],
    ) -> Result<String, TemplateError> {
        let wrong = |line, problem| TemplateError::new(self.what, &format!("{language}.toml"), line, problem);
        let texts = self.texts(language).ok_or_else(|| wrong(None, format!("{key} is missing")))?;
        let value = |name: &str| {
            values.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        texts.fill(key, value).map_err(|(line, problem)| wrong(line, problem))
    }

    /// An error about one of the files.
    #[must_use]
    pub fn wrong(&self, file: &str, problem: impl Into<String>) -> TemplateError {
        TemplateError::new(self.what, file, None, problem)
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog").field("what", &self.what).finish_non_exhaustive()
    }
}

fn texts(built_in: &BuiltIn) -> BTreeMap<Language, Texts> {
    let parse = |source: &str| Texts::parse(source).expect("the built-in texts are TOML");
    built_in.texts.iter().map(|(language, source)| (*language, parse(source))).collect()
}

fn unknown_file(built_in: &BuiltIn, file: &str) -> TemplateError {
    let templates = built_in.files.iter().map(|(name, _)| (*name).to_owned());
    let texts = built_in.texts.iter().map(|(language, _)| format!("{language}.toml"));
    let known: Vec<_> = templates.chain(texts).collect();
    let problem = format!(
        "replaces nothing; the names are {}, and those of templates to include begin with _",
        known.join(", ")
    );
    TemplateError::new(built_in.what, file, None, problem)
}

/// The files of a folder that are templates or texts, by name.
fn read(what: &'static str, folder: &Path) -> Result<BTreeMap<String, String>, TemplateError> {
    let unreadable = |name: &Path, error: std::io::Error| {
        TemplateError::new(what, &name.display().to_string(), None, format!("cannot be read: {error}"))
    };
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let path = entry.map_err(|error| unreadable(folder, error))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let is_ours = [".txt", ".html", ".toml"].iter().any(|ending| name.ends_with(ending));
        if is_ours && !name.starts_with('.') && path.is_file() {
            let source = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
            let _new = found.insert(name.to_owned(), source);
        }
    }
    Ok(found)
}

/// The function `text` of templates: a text by its key, in the language and with the values of what is rendered.
fn text(
    state: &State,
    texts: &BTreeMap<Language, Arc<Texts>>,
    key: &str,
) -> Result<String, minijinja::Error> {
    let tag = state.lookup("language");
    let language = tag.as_ref().and_then(Value::as_str).and_then(Language::of_tag).unwrap_or_default();
    let fail = |problem: TextProblem| {
        minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, problem.to_string())
            .with_source(problem)
    };
    let Some(text) = texts.get(&language) else {
        return Err(fail(TextProblem::new(language, None, format!("there are no texts for {language}"))));
    };
    text.fill(key, |name| {
        state.lookup(name).filter(|value| !value.is_undefined()).map(|value| value.to_string())
    })
    .map_err(|(line, problem)| fail(TextProblem::new(language, line, problem)))
}
