//! The templates and texts that pages are made of.

use std::path::Path;

use countersign_text::{BuiltIn, Catalog, Language, TemplateError};
use minijinja::{Value, context};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../templates/", $name)))),*]
    };
}

const BUILT_IN: BuiltIn = BuiltIn {
    what: "page template",
    files: files![
        "layout.html",
        "form.html",
        "home.html",
        "register.html",
        "sign_in.html",
        "code.html",
        "code_enter.html",
        "code_link.html",
        "confirm.html",
        "account.html",
        "change_email.html",
        "change_username.html",
        "change_password.html",
        "change_language.html",
        "close.html",
        "verify.html",
        "verify_again.html",
        "forgot.html",
        "reset.html",
        "message.html",
        "error.html",
    ],
    texts: &[
        (Language::English, include_str!("../texts/en.toml")),
        (Language::German, include_str!("../texts/de.toml")),
        (Language::French, include_str!("../texts/fr.toml")),
    ],
};

/// The templates and texts of all pages in all languages, checked.
///
/// ```
/// use countersign_pages::Templates;
///
/// let folder = tempfile::TempDir::new()?;
/// std::fs::write(folder.path().join("en.toml"), "[sign_in]\ntitle = \"Welcome back\"\n")?;
/// assert!(Templates::load(folder.path()).is_ok());
///
/// std::fs::write(folder.path().join("error.html"), "<h1>{{ title }}</h1>\n{{ nmae }}\n")?;
/// let error = Templates::load(folder.path()).unwrap_err().to_string();
/// assert_eq!(error, "page template error.html, line 2: there is no variable nmae");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Templates {
    pub(crate) catalog: Catalog,
}

impl Templates {
    /// The templates and texts of this crate.
    #[must_use]
    pub fn built_in() -> Self {
        Self { catalog: Catalog::built_in(&BUILT_IN) }
    }

    /// The built-in templates and texts, of which the files in `folder` replace those of the same names, as
    /// [`Catalog::load`] describes. Every page is rendered in every language once, with made-up data, so that a mistake
    /// shows now.
    ///
    /// # Errors
    /// [`TemplateError`], which names the file and the line.
    pub fn load(folder: &Path) -> Result<Self, TemplateError> {
        let templates = Self { catalog: Catalog::load(&BUILT_IN, folder)? };
        templates.check()?;
        Ok(templates)
    }

    /// Renders every page in every language, once with all values that may be there and once without.
    fn check(&self) -> Result<(), TemplateError> {
        let all = sample(Language::default(), true);
        let names: Vec<String> = all.try_iter().into_iter().flatten().map(|name| name.to_string()).collect();
        self.catalog.check_variables(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
        for language in Language::ALL {
            for is_full in [true, false] {
                let sample = sample(language, is_full);
                for name in self.catalog.names().filter(|name| !is_part(name)) {
                    let _page = self.catalog.render(name, sample.clone())?;
                }
                for key in self.catalog.texts(language).into_iter().flat_map(countersign_text::Texts::iter) {
                    let (key, _) = key;
                    let call = format!("{{{{ text(\"{key}\") }}}}");
                    let _text = self.catalog.render_str("text.txt", &call, sample.clone())?;
                }
            }
        }
        Ok(())
    }
}

/// Whether a template is a part of others, which is rendered with them.
fn is_part(name: &str) -> bool {
    name.starts_with('_') || matches!(name, "layout.html" | "form.html")
}

/// Made-up values of all pages. Without `is_full`, the values that may be absent are.
fn sample(language: Language, is_full: bool) -> Value {
    let text = |text: &'static str| if is_full { text } else { "" };
    let session = |current: bool| {
        context! {
            id => "6b9a6c1e-6f5e-4f0e-9c3e-5d6f1f1f0a55",
            device => "Firefox on Linux",
            is_phone => !current,
            address => text("192.0.2.7"),
            current,
            seen => "2 hours ago",
            seen_at => "2026-01-31T12:00:00Z",
            began => "yesterday",
            began_at => "2026-01-31T12:00:00Z",
        }
    };
    let sessions = if is_full { vec![session(true), session(false)] } else { Vec::new() };
    let languages = Language::ALL.map(|one| {
        context! { tag => one.tag(), name => "x", current => one == language }
    });
    let common = context! {
        base => text("/accounts"),
        language => language.tag(),
        languages,
        site => "Example",
        logo => "/pages/logo",
        style => "/pages/style.css",
        path => "/sign-in",
        form_token => "t0ken",
        csrf => text("csrf"),
        note => text("password_changed"),
        signed_in => is_full,
        who => text("ada@example.com"),
        sends_mail => is_full,
        may_register => is_full,
        may_remember => is_full,
        remembers => is_full,
        next => text("/next"),
        onward => text("?next=%2Fnext"),
        alert => text("sign_in.wrong"),
    };
    let own = context! {
        errors => context! { email => text("Enter an address.") },
        title_key => "signed_out.title",
        body_key => "signed_out.body",
        action => "/sign-in",
        action_key => "common.sign_in",
        name => text("ada"),
        email => text("ada@example.com"),
        username => text("ada"),
        names => if is_full { "both" } else { "email" },
        needs_email => is_full,
        needs_username => is_full,
        verified => !is_full,
        has_password => is_full,
        token => "t0ken",
        invited => is_full,
        minimum => "8",
        minutes => "10",
        wait => "30 seconds",
        count => "2",
        program => "Firefox",
        system => "Linux",
        device => "Firefox on Linux",
        seen => "2 hours ago",
        began => "yesterday",
        sessions,
        more => is_full,
        since => "2026-01-31",
        since_in_words => "31 January 2026",
        day => "31",
        month => "January",
        year => "2026",
        status => "404",
        title => "x",
        kind => "not_found",
        developer => is_full,
    };
    context! { ..own, ..common }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use countersign_text::{Part, parts};

    use super::*;

    fn load(files: &[(&str, &str)]) -> Result<Templates, TemplateError> {
        let folder = tempfile::TempDir::new().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        Templates::load(folder.path())
    }

    #[test]
    fn the_built_in_templates_render_in_every_language() {
        Templates::built_in().check().unwrap();
        load(&[]).unwrap();
    }

    #[test]
    fn all_languages_have_the_same_texts_with_the_same_placeholders() {
        let catalog = Templates::built_in().catalog;
        let placeholders = |language: Language| -> BTreeMap<String, BTreeSet<String>> {
            let names = |text| {
                let names = parts(text).into_iter().filter_map(|part| match part {
                    Part::Placeholder(name) => Some(name.to_owned()),
                    Part::Fixed(_) => None,
                });
                names.collect()
            };
            let texts = catalog.texts(language).unwrap();
            texts.iter().map(|(key, text)| (key.to_owned(), names(text))).collect()
        };
        let english = placeholders(Language::English);
        assert!(english.len() > 80, "the texts were found");
        for language in Language::ALL {
            let these = placeholders(language);
            let missing: Vec<_> = english.keys().filter(|key| !these.contains_key(*key)).collect();
            assert!(missing.is_empty(), "{language}: {missing:?}");
            for (key, names) in these {
                assert_eq!(english.get(&key), Some(&names), "{language} {key}");
            }
        }
    }

    /// French puts a space before some signs, where a line must not break.
    #[test]
    fn no_line_begins_with_a_sign_that_belongs_to_the_word_before() {
        let catalog = Templates::built_in().catalog;
        for language in Language::ALL {
            for (key, text) in catalog.texts(language).unwrap().iter() {
                for sign in [" ?", " !", " :", " ;", " »", "« "] {
                    assert!(!text.contains(sign), "{language} {key}: {text:?} needs a no-break space");
                }
            }
        }
    }

    #[test]
    fn a_mistake_is_an_error_that_names_file_and_line() {
        for (name, content, expected) in [
            (
                "error.html",
                "{{ title }}\n{{ titel }}",
                "page template error.html, line 2: there is no variable titel",
            ),
            ("error.html", "\n{% if %}", "page template error.html, line 2: syntax error"),
            ("layout.html", "\n\n{{ x }}", "page template layout.html, line 3: there is no variable x"),
            ("sign-in.html", "", "page template sign-in.html: replaces nothing; the names are layout.html,"),
            ("error.html", "\n{{ text(\"x.y\") }}", "page template error.html, line 2: there is no text x.y"),
            // Also where nothing that is rendered at start leads.
            (
                "error.html",
                "{% if kind == \"x\" %}\n{{ nmae }}{% endif %}",
                "page template error.html, line 2: there is no variable nmae",
            ),
            (
                "de.toml",
                "[sign_in]\ntitel = \"x\"",
                "page template de.toml, line 2: sign_in.titel replaces no text",
            ),
            (
                "fr.toml",
                "[sign_in]\ntitle = \"{nom}\"",
                "page template fr.toml, line 2: sign_in.title has {nom}",
            ),
        ] {
            let error = load(&[(name, content)]).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_text_and_a_template_of_the_folder_are_used() {
        let templates = load(&[
            ("en.toml", "[sign_in]\ntitle = \"Welcome back\""),
            ("message.html", "<b>{{ text(title_key) }}</b>{% include \"_more.html\" %}"),
            ("_more.html", "<i>{{ site }}</i>"),
            ("notes.md", "left alone"),
        ])
        .unwrap();
        let sample = sample(Language::English, true);
        assert!(templates.catalog.render("sign_in.html", sample.clone()).unwrap().contains("Welcome back"));
        assert!(templates.catalog.render("message.html", sample).unwrap().ends_with("<i>Example</i>"));
    }
}
