//! The sentences of one language.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use crate::Language;

/// The texts of a language by key, such as `reset_password.subject`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Texts(BTreeMap<String, Text>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Text {
    text: String,
    line: usize,
}

/// What is wrong with a text, for the error of the template that asked for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct TextProblem {
    language: Language,
    pub(crate) line: Option<usize>,
    pub(crate) problem: String,
}

/// What is wrong with a file of texts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct FileProblem {
    pub(crate) line: Option<usize>,
    pub(crate) problem: String,
}

impl Texts {
    /// Reads a file of tables with texts.
    pub(crate) fn parse(source: &str) -> Result<Self, FileProblem> {
        type File = BTreeMap<String, BTreeMap<String, toml::Spanned<String>>>;
        let line_ends: Vec<usize> = source.match_indices('\n').map(|(at, _)| at).collect();
        let line = |span: Range<usize>| line_ends.partition_point(|end| *end < span.start) + 1;
        let file: File = toml::from_str(source).map_err(|error| FileProblem {
            line: error.span().map(line),
            problem: error.message().to_owned(),
        })?;
        let line = &line;
        let texts = file.into_iter().flat_map(|(table, texts)| {
            texts.into_iter().map(move |(name, text)| {
                let line = line(text.span());
                (format!("{table}.{name}"), Text { text: text.into_inner(), line })
            })
        });
        Ok(Self(texts.collect()))
    }

    /// Takes over texts of another file. Only texts that there are can be replaced.
    pub(crate) fn replace(&mut self, other: Self) -> Result<(), FileProblem> {
        for (key, text) in other.0 {
            match self.0.get_mut(&key) {
                Some(own) => *own = text,
                None => {
                    let problem = format!("{key} replaces no text; the built-in file has all keys");
                    return Err(FileProblem { line: Some(text.line), problem });
                }
            }
        }
        Ok(())
    }

    /// The text as it is written, with its placeholders.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(|text| text.text.as_str())
    }

    /// All keys with their texts, in which placeholders stand as `{name}`.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, text)| (key.as_str(), text.text.as_str()))
    }

    /// The text with `{name}` replaced by the value of that name. A value is never looked through for placeholders.
    pub(crate) fn fill(
        &self,
        key: &str,
        value: impl Fn(&str) -> Option<String>,
    ) -> Result<String, (Option<usize>, String)> {
        let text = self.0.get(key).ok_or_else(|| (None, format!("there is no text {key}")))?;
        let mut filled = String::with_capacity(text.text.len());
        for part in parts(&text.text) {
            match part {
                Part::Fixed(fixed) => filled.push_str(fixed),
                Part::Placeholder(name) => match value(name) {
                    Some(value) => filled.push_str(&value),
                    None => {
                        return Err((
                            Some(text.line),
                            format!("{key} has {{{name}}}, which this does not have"),
                        ));
                    }
                },
            }
        }
        Ok(filled)
    }
}

/// A part of a text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part<'a> {
    /// Text that stays as it is.
    Fixed(&'a str),
    /// The name of a value, which was in braces.
    Placeholder(&'a str),
}

/// The parts of a text. A brace that does not begin a placeholder is a brace.
#[must_use]
pub fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let name = after.split_once('}').map(|(name, _)| name).filter(|name| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        });
        match name {
            Some(name) => {
                parts.push(Part::Fixed(before));
                parts.push(Part::Placeholder(name));
                rest = after.get(name.len() + 1..).unwrap_or_default();
            }
            None => {
                parts.push(Part::Fixed(rest.get(..=before.len()).unwrap_or_default()));
                rest = after;
            }
        }
    }
    parts.push(Part::Fixed(rest));
    parts
}

impl TextProblem {
    pub(crate) fn new(language: Language, line: Option<usize>, problem: String) -> Self {
        Self { language, line, problem }
    }

    /// The name of the file that has the text, or should have it.
    pub(crate) fn file(&self) -> String {
        format!("{}.toml", self.language)
    }
}

impl fmt::Display for TextProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)
    }
}

impl std::error::Error for TextProblem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_that_are_no_placeholder_stay() {
        for (text, expected) in [
            ("{a}", "1"),
            ("x{a}y{a}", "x1y1"),
            ("{", "{"),
            ("{a", "{a"),
            ("a}", "a}"),
            ("{}", "{}"),
            ("{A}", "{A}"),
            ("{{a}}", "{1}"),
            ("{ a }{a}", "{ a }1"),
        ] {
            let texts = Texts::parse(&format!("[t]\nx = '{text}'")).unwrap();
            assert_eq!(
                texts.fill("t.x", |name| (name == "a").then(|| "1".to_owned())),
                Ok(expected.to_owned()),
                "{text}"
            );
        }
    }
}
