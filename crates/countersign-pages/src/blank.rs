//! Pages whose form is still empty. They are the same for everybody who is not signed in, except for the value of the
//! browser's forms, so each is rendered once in each language.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use countersign_text::Language;

/// Stands for the value of the browser's forms while a page is kept. Its characters are for private use: escaping leaves
/// them alone, and no text has them.
pub(crate) const MARK: &str = "\u{e000}form_token\u{e000}";

/// The pages that were rendered so far, by template and language.
#[derive(Debug, Default)]
pub(crate) struct Blanks(RwLock<BTreeMap<(&'static str, Language), Arc<Blank>>>);

/// A page without the value of the browser's forms.
#[derive(Debug)]
pub(crate) struct Blank {
    /// What is before, between and behind the places of the value.
    pieces: Vec<String>,
}

impl Blanks {
    /// The page of this template; where it is the first time, `render` makes it with [`MARK`] for the value.
    pub(crate) fn page<E>(
        &self,
        template: &'static str,
        language: Language,
        render: impl FnOnce() -> Result<String, E>,
    ) -> Result<Arc<Blank>, E> {
        let kept = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&(template, language)).cloned();
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let blank = Arc::new(Blank { pieces: render()?.split(MARK).map(str::to_owned).collect() });
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert((template, language), blank.clone());
        Ok(blank)
    }
}

impl Blank {
    /// The page for a browser whose forms have this value.
    pub(crate) fn with(&self, form_token: &str) -> String {
        self.pieces.join(form_token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_rendered_once_and_has_the_value_of_each_browser() {
        let blanks = Blanks::default();
        let mut rendered = 0;
        for (language, value) in [
            (Language::English, "a"),
            (Language::English, "b"),
            (Language::German, "c"),
            (Language::German, ""),
        ] {
            let page = blanks.page("x.html", language, || {
                rendered += 1;
                Ok::<_, ()>(format!("{language} <{MARK}> and <{MARK}>"))
            });
            assert_eq!(page.unwrap().with(value), format!("{language} <{value}> and <{value}>"));
        }
        assert_eq!(rendered, 2);
        assert!(blanks.page("y.html", Language::French, || Err(())).is_err());
        assert!(blanks.page("y.html", Language::French, || Ok::<_, ()>(String::new())).is_ok());
    }
}
