//! What is wrong with a template.

use std::error::Error;
use std::fmt;

use super::built_in::FILES;
use super::texts::TextProblem;
use crate::Language;

/// What is wrong with a template or a file of texts, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TemplateError {
    file: String,
    line: Option<usize>,
    problem: String,
}

impl TemplateError {
    pub(super) fn new(file: &str, line: Option<usize>, problem: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, problem: problem.into() }
    }

    pub(super) fn unknown_file(file: &str) -> Self {
        let templates = FILES.iter().map(|(name, _)| (*name).to_owned());
        let texts = Language::ALL.iter().map(|language| format!("{language}.toml"));
        let known: Vec<_> = templates.chain(texts).collect();
        let problem = format!(
            "replaces nothing; the names are {}, and those of templates to include begin with _",
            known.join(", ")
        );
        Self::new(file, None, problem)
    }

    /// The error of a template engine. Nothing of the values that were rendered is taken over.
    pub(super) fn of(file: &str, error: &minijinja::Error) -> Self {
        // The innermost error tells the file that has the mistake, the outer ones those that include it.
        let mut innermost = error;
        let mut source: Option<&(dyn Error + 'static)> = error.source();
        while let Some(error) = source {
            if let Some(problem) = error.downcast_ref::<TextProblem>() {
                return Self::new(&problem.file(), problem.line, problem.problem.clone());
            }
            if let Some(error) = error.downcast_ref::<minijinja::Error>() {
                innermost = error;
            }
            source = error.source();
        }
        let problem = match innermost.detail() {
            Some(detail) => format!("{}: {detail}", innermost.kind()),
            None => innermost.kind().to_string(),
        };
        Self::new(innermost.name().unwrap_or(file), innermost.line(), problem)
    }

    /// The name of the file.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line in the file, from 1, if it is known.
    #[must_use]
    pub const fn line(&self) -> Option<usize> {
        self.line
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mail template {}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl Error for TemplateError {}
