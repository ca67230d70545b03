//! What is wrong with a template.

use std::error::Error;
use std::fmt;

use crate::texts::TextProblem;

/// What is wrong with a template or a file of texts, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TemplateError {
    what: &'static str,
    file: String,
    line: Option<usize>,
    problem: String,
}

impl TemplateError {
    pub(crate) fn new(
        what: &'static str,
        file: &str,
        line: Option<usize>,
        problem: impl Into<String>,
    ) -> Self {
        Self { what, file: file.to_owned(), line, problem: problem.into() }
    }

    /// The error of a template engine. Nothing of the values that were rendered is taken over.
    pub(crate) fn of(what: &'static str, file: &str, error: &minijinja::Error) -> Self {
        // The innermost error tells the file that has the mistake, the outer ones those that include it.
        let mut innermost = error;
        let mut source: Option<&(dyn Error + 'static)> = error.source();
        while let Some(error) = source {
            if let Some(problem) = error.downcast_ref::<TextProblem>() {
                // Without a line in a file of texts, the mistake is the template's, which asks for the text.
                return match (problem.line, innermost.name()) {
                    (None, Some(name)) => Self::new(what, name, innermost.line(), problem.problem.clone()),
                    (line, _) => Self::new(what, &problem.file(), line, problem.problem.clone()),
                };
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
        Self::new(what, innermost.name().unwrap_or(file), innermost.line(), problem)
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
        write!(f, "{} {}", self.what, self.file)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl Error for TemplateError {}
