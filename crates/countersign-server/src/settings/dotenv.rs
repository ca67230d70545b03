//! `.env`, read as python-dotenv reads it, because a Flask application beside this server reads the same file. Every
//! setting of this server has the same bytes in both, or is refused with the number of its line.
//!
//! The grammar is python-dotenv's own and not a shell's: a value without quotes goes to the end of the line, `$` alone
//! means nothing, and `${NAME}` stands for a variable in every value, even in single quotes. Versions of python-dotenv
//! read some lines differently. Those lines are refused, because this server does not know which version Flask uses.

use std::collections::BTreeMap;

/// The content of one `.env` file.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Dotenv {
    /// The variables that are settings of this server, with their values.
    pub(super) variables: BTreeMap<String, String>,
    /// The numbers of unreadable lines that hold no setting of this server, and are skipped.
    pub(super) unreadable: Vec<usize>,
}

/// A line with a setting of this server that cannot be read as Flask reads it. The error never holds the value.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("{problem}")]
pub(super) struct DotenvError {
    /// The name of the variable.
    pub(super) name: String,
    /// The number of its line, counted from 1.
    pub(super) line: usize,
    problem: Problem,
}

#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
enum Problem {
    #[error(
        "is not written as NAME=value, or its quotes do not end where the value does; Flask would pass it over"
    )]
    Syntax,
    #[error("has no = and so no value; write NAME=value, or take the line out")]
    NoValue,
    #[error(
        "stands behind a byte order mark, which some versions of python-dotenv take for a part of its name; save the file without it"
    )]
    ByteOrderMark,
    #[error("is not UTF-8; save the file as UTF-8, as Flask reads it")]
    Encoding,
    #[error("has a zero byte, which no variable of the environment may have")]
    Zero,
    #[error(
        "begins with blanks and #, which versions of python-dotenv read differently; put the value in quotes, or leave it out for an empty one"
    )]
    Comment,
    #[error(
        "has backslashes before a quote, which versions of python-dotenv read differently; write the value in the other kind of quotes, or without"
    )]
    Backslash,
    #[error(
        "stands behind line {0}, whose quotes versions of python-dotenv end at different places; write the value there in the other kind of quotes, or without"
    )]
    Behind(usize),
    #[error(
        "has ${{{0}}} in it, for which python-dotenv puts in a variable of that name, and there is none; write the value itself, or set {0} before it"
    )]
    Undefined(String),
}

/// Reads the bytes of a file. `is_ours` says whether a variable is one of this server's settings. `environment` holds
/// the variables of the process, which take precedence over those of the file.
///
/// # Errors
/// [`DotenvError`] for the first variable of this server that is not read the same by every Flask application.
pub(super) fn read(
    bytes: &[u8],
    is_ours: impl Fn(&str) -> bool,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Dotenv, DotenvError> {
    let text = String::from_utf8_lossy(bytes);
    let is_utf8 = matches!(text, std::borrow::Cow::Borrowed(_));
    // Line ends are replaced as Python replaces them when it reads a text file.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let (text, has_mark) = match text.strip_prefix('\u{feff}') {
        Some(text) => (text, true),
        None => (text.as_str(), false),
    };
    let mut reader = Reader { text, at: 0 };
    let mut read = Dotenv::default();
    // All variables are kept, because a value of this server may refer to any of them.
    let mut known: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut is_first = true;
    let mut doubtful = None;
    while reader.at < text.len() {
        reader.blanks(true);
        let (start, line) = (reader.at, reader.line());
        let binding = reader.binding();
        let whole = text.get(start..reader.at).unwrap_or_default();
        let is_encoded = is_utf8 || !whole.contains(char::REPLACEMENT_CHARACTER);
        let refused = |name: &str, problem| Err(DotenvError { name: name.to_owned(), line, problem });
        match binding {
            Ok(None) => {}
            Ok(Some(Binding { key, .. })) if !is_encoded && is_ours(&key) => {
                return refused(&key, Problem::Encoding);
            }
            Ok(Some(Binding { key, .. })) if has_mark && is_first && is_ours(&key) => {
                return refused(&key, Problem::ByteOrderMark);
            }
            Ok(Some(Binding { key, .. })) if doubtful.is_some() && is_ours(&key) => {
                return refused(&key, Problem::Behind(doubtful.unwrap_or_default()));
            }
            Ok(Some(Binding { key, value: None, .. })) if is_ours(&key) => {
                return refused(&key, Problem::NoValue);
            }
            Ok(Some(Binding { key, doubt: Some(doubt), .. })) if is_ours(&key) => {
                return refused(&key, doubt);
            }
            Ok(Some(Binding { key, value: Some(value), doubt })) => {
                if doubt == Some(Problem::Backslash) {
                    doubtful = Some(line);
                }
                let lookup = |name: &str| environment(name).map(Some).or_else(|| known.get(name).cloned());
                let (value, undefined) = interpolated(&value, lookup);
                if is_ours(&key) {
                    if let Some(undefined) = undefined {
                        return refused(&key, Problem::Undefined(undefined));
                    }
                    if value.contains('\0') {
                        return refused(&key, Problem::Zero);
                    }
                    read.variables.insert(key.clone(), value.clone());
                }
                if !is_encoded {
                    read.unreadable.push(line);
                }
                known.insert(key, Some(value));
            }
            Ok(Some(Binding { key, value: None, .. })) => {
                known.insert(key, None);
            }
            Err(Unreadable) => match alleged_name(whole).filter(|name| is_ours(name)) {
                Some(name) => return refused(name, Problem::Syntax),
                None => read.unreadable.push(line),
            },
        }
        is_first = false;
    }
    Ok(read)
}

/// The name that an unreadable line seems to set.
fn alleged_name(line: &str) -> Option<&str> {
    let line = line.trim_start_matches(is_blank);
    let line = line.strip_prefix("export").map_or(line, |rest| rest.trim_start_matches(is_blank));
    let name = line.trim_start_matches(['\'', '"']);
    name.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().filter(|name| !name.is_empty())
}

/// The value with its variables replaced, as python-dotenv replaces them, and the first name for which there is no
/// variable. `lookup` returns a variable without `=` as a variable without a value.
fn interpolated(value: &str, lookup: impl Fn(&str) -> Option<Option<String>>) -> (String, Option<String>) {
    let mut text = String::new();
    let mut undefined = None;
    let mut rest = value;
    while let Some(start) = rest.find("${") {
        let (before, from) = rest.split_at(start);
        text.push_str(before);
        match variable(from) {
            Some(Variable { name, default, length }) => {
                match lookup(name).unwrap_or_else(|| default.map(ToOwned::to_owned)) {
                    Some(value) => text.push_str(&value),
                    None => undefined = undefined.or_else(|| Some(name.to_owned())),
                }
                rest = from.get(length..).unwrap_or_default();
            }
            None => {
                text.push('$');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    text.push_str(rest);
    (text, undefined)
}

struct Variable<'t> {
    name: &'t str,
    default: Option<&'t str>,
    length: usize,
}

/// Reads `${NAME}` or `${NAME:-default}` at the beginning of the text.
fn variable(text: &str) -> Option<Variable<'_>> {
    let inner = text.strip_prefix("${")?;
    let (name, rest) = inner.split_at_checked(inner.find(['}', ':'])?)?;
    let (default, rest) = match rest.strip_prefix(":-") {
        Some(rest) => {
            let (default, rest) = rest.split_at_checked(rest.find('}')?)?;
            (Some(default), rest)
        }
        None => (None, rest),
    };
    let rest = rest.strip_prefix('}')?;
    Some(Variable { name, default, length: text.len() - rest.len() })
}

/// A line that python-dotenv cannot read, and skips.
#[derive(Debug)]
struct Unreadable;

#[derive(Debug)]
struct Binding {
    key: String,
    /// `None` if the line has no `=`.
    value: Option<String>,
    /// The reason why versions of python-dotenv may read another value.
    doubt: Option<Problem>,
}

#[derive(Debug)]
struct Value {
    text: String,
    is_quoted: bool,
    doubt: Option<Problem>,
}

/// A position in the text that moves as python-dotenv's does: if a line cannot be read, the part of it that was read
/// stays read, and the rest of the line is skipped.
struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn line(&self) -> usize {
        self.text.get(..self.at).unwrap_or_default().matches('\n').count() + 1
    }

    /// Takes the characters for which `is_taken` is true, and returns them.
    fn take_while(&mut self, is_taken: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !is_taken(c)).unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn take(&mut self, expected: char) -> bool {
        let is_there = self.rest().starts_with(expected);
        if is_there {
            self.at += expected.len_utf8();
        }
        is_there
    }

    fn blanks(&mut self, and_lines: bool) -> &'t str {
        self.take_while(|c| is_blank(c) && (and_lines || c != '\n'))
    }

    /// Reads one line, or several if quotes span them. `None` for a line that sets nothing.
    fn binding(&mut self) -> Result<Option<Binding>, Unreadable> {
        if self.rest().is_empty() {
            return Ok(None);
        }
        let binding = self.try_binding();
        if binding.is_err() {
            self.take_while(|c| c != '\n');
            self.take('\n');
        }
        binding
    }

    fn try_binding(&mut self) -> Result<Option<Binding>, Unreadable> {
        self.export();
        let key = self.key()?;
        self.blanks(false);
        let (value, doubt) = if self.take('=') {
            let has_blanks = !self.blanks(false).is_empty();
            let Value { text, is_quoted, doubt } = self.value()?;
            let is_comment = has_blanks && !is_quoted && text.starts_with('#');
            (Some(text), if is_comment { Some(Problem::Comment) } else { doubt })
        } else {
            (None, None)
        };
        self.end_of_line()?;
        Ok(key.map(|key| Binding { key: key.to_owned(), value, doubt }))
    }

    fn export(&mut self) {
        let Some(rest) = self.rest().strip_prefix("export") else { return };
        let blanks = rest.len() - rest.trim_start_matches(|c| is_blank(c) && c != '\n').len();
        if blanks > 0 {
            self.at += "export".len() + blanks;
        }
    }

    /// Reads the name of a variable. `None` at a comment.
    fn key(&mut self) -> Result<Option<&'t str>, Unreadable> {
        let rest = self.rest();
        if rest.starts_with('#') {
            return Ok(None);
        }
        if let Some(quoted) = rest.strip_prefix('\'') {
            let (key, _) = quoted.split_once('\'').filter(|(key, _)| !key.is_empty()).ok_or(Unreadable)?;
            self.at += key.len() + 2;
            return Ok(Some(key));
        }
        let key = self.take_while(|c| c != '=' && c != '#' && !is_blank(c));
        if key.is_empty() { Err(Unreadable) } else { Ok(Some(key)) }
    }

    fn value(&mut self) -> Result<Value, Unreadable> {
        let Some(quote @ ('\'' | '"')) = self.rest().chars().next() else {
            let part = self.take_while(|c| c != '\n');
            return Ok(Value { text: without_comment(part).to_owned(), is_quoted: false, doubt: None });
        };
        let quoted = self.rest().get(1..).unwrap_or_default();
        let now = end_by_escapes(quoted, quote);
        let before = end_by_quotes(quoted, quote);
        // If one of the two finds no end, the version of python-dotenv that it stands for skips the line.
        let end = now.or(before).ok_or(Unreadable)?;
        let raw = quoted.get(..end).unwrap_or_default();
        self.at += end + 2;
        let doubt = (now != before).then_some(Problem::Backslash);
        Ok(Value { text: unescaped(raw, quote), is_quoted: true, doubt })
    }

    fn end_of_line(&mut self) -> Result<(), Unreadable> {
        let before = self.at;
        self.blanks(false);
        if self.take('#') {
            self.take_while(|c| c != '\n');
        } else {
            self.at = before;
        }
        self.blanks(false);
        if self.take('\n') || self.rest().is_empty() { Ok(()) } else { Err(Unreadable) }
    }
}

/// Whether Python counts a character as white space.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// The text up to the first blanks that a `#` follows, without blanks at its end.
fn without_comment(part: &str) -> &str {
    let mut end = part.len();
    let mut after_blank = false;
    for (at, c) in part.char_indices() {
        if c == '#' && after_blank {
            end = at;
            break;
        }
        after_blank = is_blank(c);
    }
    part.get(..end).unwrap_or_default().trim_end_matches(is_blank)
}

/// The position of the closing quote in newer versions of python-dotenv, in which a backslash escapes any character
/// after it.
fn end_by_escapes(text: &str, quote: char) -> Option<usize> {
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        if c == '\\' {
            characters.next()?;
        } else if c == quote {
            return Some(at);
        }
    }
    None
}

/// The position of the closing quote in older versions of python-dotenv. There a backslash counts only right before a
/// quote, and does not count if no end would be found otherwise.
fn end_by_quotes(text: &str, quote: char) -> Option<usize> {
    let mut last_escaped = None;
    let mut before = None;
    for (at, c) in text.char_indices() {
        if c == quote {
            if before != Some('\\') {
                return Some(at);
            }
            last_escaped = Some(at);
        }
        before = Some(c);
    }
    last_escaped
}

/// The value between quotes, without escapes.
fn unescaped(raw: &str, quote: char) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut characters = raw.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        let mut ahead = characters.clone();
        let escaped = match ahead.next() {
            Some(c @ ('\\' | '\'')) => Some(c),
            Some(c) if quote == '"' => match c {
                '"' => Some('"'),
                'a' => Some('\u{7}'),
                'b' => Some('\u{8}'),
                'f' => Some('\u{c}'),
                'n' => Some('\n'),
                'r' => Some('\r'),
                't' => Some('\t'),
                'v' => Some('\u{b}'),
                _ => None,
            },
            _ => None,
        };
        match escaped {
            Some(escaped) => {
                text.push(escaped);
                characters = ahead;
            }
            None => text.push('\\'),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use proptest::prelude::*;
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    use serde::Deserialize;

    use super::*;

    /// What python-dotenv 1.2.4 reads from each of these files, and what this module refuses.
    const CASES: &str = include_str!("../../tests/data/dotenv.json");

    type Variables = BTreeMap<String, String>;

    #[derive(Debug, Deserialize)]
    struct Case {
        /// The file's content. If `latin` is set, each character is a byte, so the file need not be UTF-8.
        file: String,
        #[serde(default)]
        latin: bool,
        /// The variables of the process.
        #[serde(default)]
        environment: BTreeMap<String, String>,
        /// The settings of this server that python-dotenv reads; `null` if Python fails to read the file at all.
        python: Option<BTreeMap<String, String>>,
        /// The name, the line and a part of the message, if this module refuses the file.
        refused: Option<(String, usize, String)>,
        #[serde(default)]
        unreadable: Vec<usize>,
    }

    impl Case {
        fn bytes(&self) -> Vec<u8> {
            if self.latin {
                self.file.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
            } else {
                self.file.clone().into_bytes()
            }
        }
    }

    fn cases() -> Vec<Case> {
        serde_json::from_str(CASES).unwrap()
    }

    fn is_ours(name: &str) -> bool {
        name.starts_with("COUNTERSIGN_") || name.starts_with("JWT_") || name == "SECRET_KEY"
    }

    #[test]
    fn every_line_is_read_as_python_dotenv_reads_it_or_refused_with_its_name_and_number() {
        assert!(cases().len() >= 40);
        for case in cases() {
            let read = read(&case.bytes(), is_ours, |name| case.environment.get(name).cloned());
            match (&case.refused, read) {
                (None, Ok(read)) => {
                    assert_eq!(Some(&read.variables), case.python.as_ref(), "{:?}", case.file);
                    assert_eq!(read.unreadable, case.unreadable, "{:?}", case.file);
                }
                (Some((name, line, message)), Err(error)) => {
                    assert_eq!((&error.name, error.line), (name, *line), "{:?}: {error}", case.file);
                    let told = error.to_string();
                    assert!(
                        told.contains(message.as_str()) && !told.contains("canary"),
                        "{:?}: {told}",
                        case.file
                    );
                }
                (_, read) => panic!("{:?}: {read:?}", case.file),
            }
        }
    }

    /// The table says about python-dotenv what the real one does, and this module reads the same whenever it reads
    /// anything.
    #[test]
    fn the_table_is_true_of_the_real_python_dotenv() {
        let cases = cases();
        let files = cases.iter().map(|case| (case.bytes(), case.environment.clone()));
        let Some(found) = python_reads(files) else { return };
        for (case, ours) in cases.iter().zip(found) {
            // Versions of python-dotenv differ in some of the refused files.
            if case.refused.is_none() {
                assert_eq!(ours, case.python, "{:?}", case.file);
            }
        }
    }

    #[test]
    fn whatever_is_read_from_any_file_is_what_the_real_python_dotenv_reads() {
        let mut runner = TestRunner::deterministic();
        let files: Vec<_> =
            std::iter::from_fn(|| Some(pieces().new_tree(&mut runner).ok()?.current())).take(5_000).collect();
        let Some(found) = python_reads(files.iter().map(|file| (file.clone().into_bytes(), BTreeMap::new())))
        else {
            return;
        };
        let mut read_alike = 0;
        for (file, python) in files.iter().zip(found) {
            if let (Ok(read), Some(python)) = (read(file.as_bytes(), is_ours, |_| None), python) {
                assert_eq!(read.variables, python, "{file:?}");
                read_alike += usize::from(!python.is_empty());
            }
        }
        assert!(read_alike > 200, "{read_alike}");
    }

    /// The settings of this server that python-dotenv reads from each file, beside these variables of the process. A
    /// file's result is `None` if reading it fails. The whole result is `None` if there is no Python for it.
    fn python_reads(files: impl Iterator<Item = (Vec<u8>, Variables)>) -> Option<Vec<Option<Variables>>> {
        const SCRIPT: &str = "
import json, os, sys, tempfile, logging
from dotenv import load_dotenv
logging.disable()
path = tempfile.mkstemp()[1]
for case in json.load(sys.stdin):
    with open(path, 'wb') as file:
        file.write(bytes(case['bytes']))
    os.environ.clear()
    os.environ.update(case['environment'])
    try:
        load_dotenv(path, encoding='utf-8')
        print(json.dumps({name: value for name, value in os.environ.items() if name not in case['environment']}))
    except ValueError:
        print('null')
os.unlink(path)
";
        let python = python()?;
        let input: Vec<_> = files
            .map(|(bytes, environment)| serde_json::json!({ "bytes": bytes, "environment": environment }))
            .collect();
        let mut process = Command::new(python)
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Python reads all input before it writes.
        serde_json::to_writer(process.stdin.take().unwrap(), &input).unwrap();
        let output = process.wait_with_output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        assert_eq!(lines.lines().count(), input.len());
        let of_ours = |line: &str| {
            let found: Option<Variables> = serde_json::from_str(line).unwrap();
            found.map(|found| found.into_iter().filter(|(name, _)| is_ours(name)).collect())
        };
        Some(lines.lines().map(of_ours).collect())
    }

    /// The path of a Python that has python-dotenv. If `TEST_FLASK_PYTHON` names one, that one must have it.
    fn python() -> Option<String> {
        let named = std::env::var("TEST_FLASK_PYTHON").ok();
        let python = named.clone().unwrap_or_else(|| "python3".to_owned());
        let tried = Command::new(&python).args(["-c", "import dotenv"]).output();
        if tried.is_ok_and(|output| output.status.success()) {
            return Some(python);
        }
        assert!(named.is_none(), "TEST_FLASK_PYTHON names {python}, which cannot import dotenv");
        None
    }

    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "JWT_SECRET_KEY",
            "\nJWT_SECRET_KEY=",
            "\nCOUNTERSIGN_LOG=",
            "\nAPP=",
            "COUNTERSIGN_LOG",
            "APP",
            "export ",
            "=",
            " ",
            "\n",
            "\r\n",
            "\r",
            "'",
            "\"",
            "\\",
            "#",
            "$",
            "${",
            "}",
            ":-",
            "x",
            "\t",
            "\u{feff}",
            "\u{a0}",
            "\u{1c}",
            "\0",
            "é",
            "=x\n",
            "\\n",
            "${APP}",
        ]);
        prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 5_000, ..ProptestConfig::default() })]

        #[test]
        fn no_file_makes_it_panic_and_every_error_names_a_line_of_the_file(text in pieces()) {
            let lines = text.replace("\r\n", "\n").replace('\r', "\n").matches('\n').count() + 1;
            match read(text.as_bytes(), is_ours, |_| None) {
                Ok(read) => {
                    prop_assert!(read.variables.keys().all(|name| is_ours(name)));
                    prop_assert!(read.unreadable.iter().all(|line| (1..=lines).contains(line)));
                }
                Err(error) => prop_assert!(is_ours(&error.name) && (1..=lines).contains(&error.line), "{error:?}"),
            }
        }

        #[test]
        fn nor_do_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _whatever = read(&bytes, |_| true, |name| Some(name.to_owned()));
        }
    }
}
