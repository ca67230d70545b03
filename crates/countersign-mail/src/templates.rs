//! The templates of mails, and rendering.

mod built_in;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use countersign_jwt::Timestamp;
use countersign_text::{Catalog, TemplateError};
use minijinja::{Value, context};

use crate::message::one_line;
use crate::sender::split;
use crate::{Content, Language, Links, Notice};
use built_in::BUILT_IN;

/// The templates and texts of all mails in all languages, checked.
///
/// Each kind of mail ([`Notice::KINDS`]) has a template for its text (`reset_password.txt`) and one for its HTML
/// (`reset_password.html`), written in Jinja. Values are escaped in HTML and left as they are in text. The sentences come
/// from a file for each language (`de.toml`), by `text("reset_password.body")`.
///
/// ```
/// use std::time::Duration;
///
/// use countersign_mail::{Language, Letterhead, Links, Notice, MailTemplates};
///
/// let links = Links::new("https://auth.example.com")?;
/// let notice =
///     Notice::ResetPassword { link: links.reset("s3cret"), expires_in: Duration::from_secs(3600) };
/// let letterhead = Letterhead::new("Example", &links);
/// let content = MailTemplates::built_in().render(&notice, Language::German, &letterhead)?;
/// assert_eq!(content.subject(), "Neues Passwort für Example");
/// assert!(content.text().contains("https://auth.example.com/reset?token=s3cret"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct MailTemplates {
    catalog: Catalog,
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

impl MailTemplates {
    /// The templates and texts of this crate.
    #[must_use]
    pub fn built_in() -> Self {
        Self { catalog: Catalog::built_in(&BUILT_IN) }
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
        let templates = Self { catalog: Catalog::load(&BUILT_IN, folder)? };
        templates.check()?;
        Ok(templates)
    }

    /// Renders a mail.
    ///
    /// # Errors
    /// [`TemplateError`] if a template takes a way that the check at [`MailTemplates::load`] did not see and fails on it. The
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
        self.catalog.render(name, context.clone())
    }

    /// One text with the values of the mail, as plain text.
    fn sentence(&self, context: &Value, key: &str) -> Result<String, TemplateError> {
        let call = format!("{{{{ text(\"{key}\") }}}}");
        self.catalog.render_str("subject.txt", &call, context.clone())
    }

    fn context(
        &self,
        notice: &Notice,
        language: Language,
        letterhead: &Letterhead,
    ) -> Result<Value, TemplateError> {
        let fixed = |key: &str| self.catalog.text(language, key).map(ToOwned::to_owned);
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
                    let escaped = self.catalog.render_str("_.html", "{{ value }}", context! { value })?;
                    let html = content.html().unwrap_or_default();
                    for (ending, is_there) in [
                        ("txt", content.text().contains(value)),
                        ("html", html.contains(&escaped) || html.contains(value)),
                    ] {
                        if !is_there {
                            let file = format!("{}.{ending}", notice.kind());
                            let problem =
                                format!("the mail does not have its {name}; write {{{{ {name} }}}}");
                            return Err(self.catalog.wrong(&file, problem));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for MailTemplates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MailTemplates(…)")
    }
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
