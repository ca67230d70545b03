//! The languages that mails and pages are written in, and the choice between them.

use std::fmt;
use std::str::FromStr;

/// A language that mails and pages are written in.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Language {
    /// English, which is used where nothing is known of the reader.
    #[default]
    English,
    /// German.
    German,
    /// French.
    French,
}

/// A text that names none of the languages.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not one of the languages; write en, de or fr")]
pub struct UnknownLanguage;

impl Language {
    /// All languages.
    pub const ALL: [Self; 3] = [Self::English, Self::German, Self::French];

    /// The language's tag (RFC 5646), as the attribute `lang` of HTML has it.
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
            Self::French => "fr",
        }
    }

    /// The language of a tag, with or without a region: `de`, `de-AT`, `DE_ch`.
    #[must_use]
    pub fn of_tag(tag: &str) -> Option<Self> {
        let primary = tag.trim().split(['-', '_']).next().unwrap_or_default();
        Self::ALL.into_iter().find(|language| language.tag().eq_ignore_ascii_case(primary))
    }

    /// Chooses a language: the user's preference if it is one of the languages, else the one that the header
    /// `Accept-Language` (RFC 9110 §12.5.4) likes best, else English.
    ///
    /// ```
    /// use countersign_text::Language;
    ///
    /// assert_eq!(Language::choose(None, Some("it, fr-CA;q=0.7, de;q=0.3")), Language::French);
    /// assert_eq!(Language::choose(Some("de-AT"), Some("fr")), Language::German);
    /// assert_eq!(Language::choose(None, None), Language::English);
    /// ```
    #[must_use]
    pub fn choose(preference: Option<&str>, accept_language: Option<&str>) -> Self {
        preference
            .and_then(Self::of_tag)
            .or_else(|| accept_language.and_then(Self::of_accept_language))
            .unwrap_or_default()
    }

    fn of_accept_language(header: &str) -> Option<Self> {
        let mut best: Option<(u16, Self)> = None;
        for item in header.split(',').take(MOST_RANGES) {
            let (range, parameters) = item.split_once(';').unwrap_or((item, ""));
            let (Some(language), Some(quality)) = (Self::of_tag(range), quality(parameters)) else {
                continue;
            };
            // Of languages that are liked as much, the one that is named first is taken.
            if quality > 0 && best.is_none_or(|(best, _)| quality > best) {
                best = Some((quality, language));
            }
        }
        best.map(|(_, language)| language)
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.tag())
    }
}

impl FromStr for Language {
    type Err = UnknownLanguage;

    fn from_str(text: &str) -> Result<Self, UnknownLanguage> {
        Self::of_tag(text).ok_or(UnknownLanguage)
    }
}

/// The weight of a range in thousandths (RFC 9110 §12.4.2): 1000 without a `q`, `None` for a `q` that is no number.
fn quality(parameters: &str) -> Option<u16> {
    let Some(value) = parameters.trim().strip_prefix(['q', 'Q']) else {
        return parameters.trim().is_empty().then_some(1_000);
    };
    let value = value.trim_start().strip_prefix('=')?.trim();
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let has_form = matches!(whole, "0" | "1")
        && fraction.len() <= 3
        && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths = format!("{whole}{fraction:0<3}").parse::<u16>().ok()?;
    (has_form && thousandths <= 1_000).then_some(thousandths)
}

/// The most ranges of a header that are read.
const MOST_RANGES: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_liked_language_of_the_header_is_taken() {
        for (header, expected) in [
            ("", Language::English),
            ("*", Language::English),
            ("it, es", Language::English),
            ("de", Language::German),
            ("fr-FR,fr;q=0.9,en-US;q=0.8", Language::French),
            ("it;q=1, en;q=0.5, de;q=0.8", Language::German),
            ("en;q=0.5, de;q=0.50", Language::English),
            ("de;q=0, fr;q=0.001", Language::French),
            ("de;q=0", Language::English),
            ("DE-ch ; Q = 0.8 , fr;q=0.7", Language::German),
            ("de;q=2, fr;q=0.1", Language::French),
            ("de;q=x, fr;q=0.1", Language::French),
            ("de;level=1, fr;q=0.1", Language::French),
            ("de;q=0.12345, fr;q=0.1", Language::French),
            ("den, fra, fr", Language::French),
            (",,;,=;q,de\u{e4}\r\n", Language::English),
        ] {
            assert_eq!(Language::choose(None, Some(header)), expected, "{header:?}");
        }
    }

    #[test]
    fn a_preference_that_is_a_language_beats_the_header() {
        for (preference, header, expected) in [
            ("fr", "de", Language::French),
            ("DE_at", "fr", Language::German),
            ("it", "de", Language::German),
            ("", "de", Language::German),
        ] {
            assert_eq!(Language::choose(Some(preference), Some(header)), expected, "{preference:?}");
        }
    }

    #[test]
    fn an_endless_header_is_not_read_to_its_end() {
        let header = format!("{}de", "it,".repeat(1_000_000));
        assert_eq!(Language::choose(None, Some(&header)), Language::English);
    }

    #[test]
    fn languages_have_a_tag_that_reads_back() {
        for language in Language::ALL {
            assert_eq!(language.to_string().parse(), Ok(language));
        }
        assert_eq!("it".parse::<Language>(), Err(UnknownLanguage));
    }
}
