//! The templates of mails, and rendering.

mod built_in;
mod error;
mod texts;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign_jwt::Timestamp;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, State, UndefinedBehavior, Value, context};

pub use error::TemplateError;

use crate::message::one_line;
use crate::sender::split;
use crate::{Content, Language, Links, Notice};
use built_in::{FILES, TEXTS};
use texts::{TextProblem, Texts};

/// The templates and texts of all mails in all languages, checked.
///
/// Each kind of mail ([`Notice::KINDS`]) has a template for its text (`reset_password.txt`) and one for its HTML
/// (`reset_password.html`), written in Jinja. Values are escaped in HTML and left as they are in text. The sentences come
/// from a file for each language (`de.toml`), by `text("reset_password.body")`.
///
/// ```
/// use std::time::Duration;
///
/// use countersign_mail::{Language, Letterhead, Links, Notice, Templates};
///
/// let links = Links::new("https://auth.example.com")?;
/// let notice =
///     Notice::ResetPassword { link: links.reset("s3cret"), expires_in: Duration::from_secs(3600) };
/// let letterhead = Letterhead::new("Example", &links);
/// let content = Templates::built_in().render(&notice, Language::German, &letterhead)?;
/// assert_eq!(content.subject(), "Neues Passwort für Example");
/// assert!(content.text().contains("https://auth.example.com/reset?token=s3cret"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Templates {
    environment: Environment<'static>,
    texts: BTreeMap<Language, Arc<Texts>>,
}

/// The site that mails come from, as they name it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Letterhead {
    site: String,
    home: String,
}

impl Letterhead {
    /// A site of this name, at the public URL of the links. An empty name stands for the URL's host.
    #[must_use]
    pub fn new(site: &str, links: &Links) -> Self {
        let site = one_line(site, 100);
        Self { site: if site.is_empty() { links.host().to_owned() } else { site }, home: links.home() }
    }
}

impl Templates {
    /// The templates and texts of this crate.
    #[must_use]
    pub fn built_in() -> Self {
        let texts = TEXTS
            .map(|(language, source)| (language, Texts::parse(source).expect("the built-in texts are TOML")));
        let files = FILES.map(|(name, source)| (name.to_owned(), source.to_owned()));
        Self::assemble(files, texts).expect("the built-in templates are Jinja")
    }

    /// The built-in templates, of which the files in `folder` replace those of the same names.
    ///
    /// - `<kind>.txt`, `<kind>.html`, `layout.txt`, `layout.html` and `button.html` replace the built-in template.
    /// - `en.toml`, `de.toml` and `fr.toml` replace single texts; the others stay.
    /// - Names that begin with `_` and end in `.txt` or `.html` are new templates, for `{% include %}`.
    /// - Files without the endings `.txt`, `.html` and `.toml` are left alone.
    ///
    /// Every mail is rendered in every language once, with made-up data, so that a mistake shows now and not when a user
    /// waits for the mail.
    ///
    /// # Errors
    /// [`TemplateError`], which names the file and the line.
    pub fn load(folder: &Path) -> Result<Self, TemplateError> {
        let mut files: BTreeMap<String, String> =
            FILES.iter().map(|(name, source)| ((*name).to_owned(), (*source).to_owned())).collect();
        let mut texts: BTreeMap<Language, Texts> = BTreeMap::new();
        for (language, source) in TEXTS {
            let _new = texts.insert(language, Texts::parse(source).expect("the built-in texts are TOML"));
        }
        for (name, source) in read(folder)? {
            if let Some(tag) = name.strip_suffix(".toml") {
                let language = Language::ALL.into_iter().find(|language| language.tag() == tag);
                let known = language.and_then(|language| texts.get_mut(&language));
                let known = known.ok_or_else(|| TemplateError::unknown_file(&name))?;
                let parsed = Texts::parse(&source);
                let parsed =
                    parsed.map_err(|problem| TemplateError::new(&name, problem.line, problem.problem))?;
                known
                    .replace(parsed)
                    .map_err(|problem| TemplateError::new(&name, problem.line, problem.problem))?;
            } else if name.starts_with('_') || files.contains_key(&name) {
                let _replaced = files.insert(name, source);
            } else {
                return Err(TemplateError::unknown_file(&name));
            }
        }
        let templates = Self::assemble(files, texts)?;
        templates.check()?;
        Ok(templates)
    }

    fn assemble(
        files: impl IntoIterator<Item = (String, String)>,
        texts: impl IntoIterator<Item = (Language, Texts)>,
    ) -> Result<Self, TemplateError> {
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
        for (name, source) in files {
            environment
                .add_template_owned(name.clone(), source)
                .map_err(|error| TemplateError::of(&name, &error))?;
        }
        Ok(Self { environment, texts })
    }

    /// Renders a mail.
    ///
    /// # Errors
    /// [`TemplateError`] if a template takes a way that the check at [`Templates::load`] did not see and fails on it. The
    /// error holds nothing of the mail's data.
    pub fn render(
        &self,
        notice: &Notice,
        language: Language,
        letterhead: &Letterhead,
    ) -> Result<Content, TemplateError> {
        let context = self.context(notice, language, letterhead)?;
        let subject = self.sentence(&context, &format!("{}.subject", notice.kind()))?;
        let text = self.part(&format!("{}.txt", notice.kind()), &context)?;
        let html = self.part(&format!("{}.html", notice.kind()), &context)?;
        Ok(Content::new(&subject, tidy(&text), Some(html)))
    }

    fn part(&self, name: &str, context: &Value) -> Result<String, TemplateError> {
        self.environment
            .get_template(name)
            .and_then(|template| template.render(context.clone()))
            .map_err(|error| TemplateError::of(name, &error))
    }

    /// One text with the values of the mail, as plain text.
    fn sentence(&self, context: &Value, key: &str) -> Result<String, TemplateError> {
        let call = format!("{{{{ text(\"{key}\") }}}}");
        self.environment
            .render_named_str("subject.txt", &call, context.clone())
            .map_err(|error| TemplateError::of("subject", &error))
    }

    fn context(
        &self,
        notice: &Notice,
        language: Language,
        letterhead: &Letterhead,
    ) -> Result<Value, TemplateError> {
        let texts = self.texts.get(&language);
        let fixed = |key: &str| {
            let text = texts.and_then(|texts| texts.get(key)).map(ToOwned::to_owned);
            text.ok_or_else(|| {
                TemplateError::new(&format!("{language}.toml"), None, format!("{key} is missing"))
            })
        };
        let common = context! {
            kind => notice.kind(),
            language => language.tag(),
            site => letterhead.site.as_str(),
            home => letterhead.home.as_str(),
        };
        let own = match notice {
            Notice::VerifyAddress { link, expires_in }
            | Notice::ResetPassword { link, expires_in }
            | Notice::Invite { link, expires_in } => {
                context! { link => link.as_str(), expires_in => duration(*expires_in, fixed)? }
            }
            Notice::SignInCode { code, link, expires_in } => context! {
                code => code.as_str(),
                link => link.as_str(),
                expires_in => duration(*expires_in, fixed)?,
            },
            Notice::AccountExists => context! {},
            Notice::PasswordChanged { at } | Notice::AccountDeleted { at } => context! { at => time(*at) },
            Notice::EmailChanged { new_address, at } => {
                let (local_part, domain) = split(new_address);
                let first = local_part.chars().next().unwrap_or_default();
                context! { new_address => format!("{first}…@{domain}"), at => time(*at) }
            }
            Notice::NewDevice { device, address, at } => {
                let device =
                    device.as_deref().map(|device| one_line(device, 120)).filter(|name| !name.is_empty());
                let address = address.map(|address| address.to_string());
                context! {
                    device => device.map_or_else(|| fixed("common.unknown"), Ok)?,
                    address => address.map_or_else(|| fixed("common.unknown"), Ok)?,
                    at => time(*at),
                }
            }
        };
        Ok(context! { ..own, ..common })
    }

    /// Renders every mail in every language. What the mail is for, its link or code, must be in it.
    fn check(&self) -> Result<(), TemplateError> {
        let links = Links::new("https://auth.example.com").expect("a URL");
        let letterhead = Letterhead::new("Example", &links);
        for language in Language::ALL {
            for notice in Notice::samples() {
                let content = self.render(&notice, language, &letterhead)?;
                let code = match &notice {
                    Notice::SignInCode { code, .. } => Some(code.as_str()),
                    _ => None,
                };
                for (name, value) in [("link", notice.link()), ("code", code)] {
                    let Some(value) = value else { continue };
                    let escaped =
                        self.environment.render_named_str("_.html", "{{ value }}", context! { value });
                    let escaped = escaped.map_err(|error| TemplateError::of("_.html", &error))?;
                    let html = content.html().unwrap_or_default();
                    for (ending, is_there) in [
                        ("txt", content.text().contains(value)),
                        ("html", html.contains(&escaped) || html.contains(value)),
                    ] {
                        if !is_there {
                            let file = format!("{}.{ending}", notice.kind());
                            let problem =
                                format!("the mail does not have its {name}; write {{{{ {name} }}}}");
                            return Err(TemplateError::new(&file, None, problem));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Templates(…)")
    }
}

/// The files of a folder that are templates or texts, by name.
fn read(folder: &Path) -> Result<BTreeMap<String, String>, TemplateError> {
    let unreadable = |name: &Path, error: std::io::Error| {
        TemplateError::new(&name.display().to_string(), None, format!("cannot be read: {error}"))
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

/// The function `text` of templates: a text by its key, in the mail's language and with the mail's values.
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

/// A time to the minute, the same in every language.
fn time(at: Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or(jiff::Timestamp::MAX);
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// A duration in the largest unit that it is a whole number of, in minutes at least.
fn duration(
    duration: Duration,
    text: impl Fn(&str) -> Result<String, TemplateError>,
) -> Result<String, TemplateError> {
    let minutes = duration.as_secs().div_ceil(60).max(1);
    let (count, unit) = match minutes {
        minutes if minutes.is_multiple_of(24 * 60) => (minutes / (24 * 60), "day"),
        minutes if minutes.is_multiple_of(60) => (minutes / 60, "hour"),
        minutes => (minutes, "minute"),
    };
    if count == 1 {
        return text(&format!("duration.{unit}"));
    }
    Ok(text(&format!("duration.{unit}s"))?.replace("{count}", &count.to_string()))
}

/// A text without white space at its ends and at those of its lines, and with at most one empty line in a row.
fn tidy(text: &str) -> String {
    let mut tidied = String::with_capacity(text.len());
    let mut is_empty_before = true;
    for line in text.lines() {
        // The line "-- " separates the signature; its blank is a part of it (RFC 3676 §4.3).
        let line = if line == "-- " { line } else { line.trim_end() };
        if !(line.is_empty() && is_empty_before) {
            tidied.push_str(line);
            tidied.push('\n');
        }
        is_empty_before = line.is_empty();
    }
    let end = tidied.trim_end_matches('\n').len();
    tidied.truncate(end);
    tidied.push('\n');
    tidied
}

#[cfg(test)]
mod tests;
