//! The settings of the pages.

use std::path::PathBuf;

use countersign_pages::{Colour, Logo, Templates};

use super::reader::Reader;
use super::told;
use super::value::Setting;

/// The settings of the pages, checked as far as their texts tell.
#[derive(Debug)]
pub(crate) struct PagesSettings {
    /// `pages`: whether there are pages. Default yes; no in a profile, whose cookies are those of another program.
    pub(crate) on: bool,
    /// `api_page`: whether there is a page to try the API. Default: where only this machine reaches the server.
    pub(crate) api: Option<bool>,
    /// `pages_logo`: the picture in place of the mark. Default none.
    pub(crate) logo: Option<PathBuf>,
    /// `pages_color`: the colour of buttons and links, `#rrggbb`. Default `#2f5bea`.
    pub(crate) colour: Colour,
    /// `pages_templates`: the folder with templates and texts in place of the built-in ones. Default none.
    pub(crate) templates: Option<PathBuf>,
}

impl PagesSettings {
    pub(super) fn read(reader: &Reader<'_>, is_native: bool) -> Self {
        let path = |setting: &Setting| Ok(PathBuf::from(setting.text()));
        Self {
            on: reader.read("pages", is_native, |setting| match setting.switch()? {
                true if !is_native => Err(setting.wrong(
                    "must be no in a profile: the pages sign in with this server's own cookies, which \
                     COUNTERSIGN_PROFILE replaces by those of a Flask application",
                )),
                on => Ok(on),
            }),
            api: reader.optional("api_page", |setting| match setting.switch()? {
                true if !is_native => {
                    Err(setting
                        .wrong("must be no in a profile, whose refusals the page would not understand"))
                }
                on => Ok(on),
            }),
            logo: reader.optional("pages_logo", path),
            colour: reader.read("pages_color", Colour::DEFAULT, |setting| {
                let wrong = |_| setting.wrong("must be # and six hexadecimal digits, such as #2f5bea");
                setting.text().parse().map_err(wrong)
            }),
            templates: reader.optional("pages_templates", path),
        }
    }

    /// What is wrong with the files that the settings name.
    pub(super) fn problem(&self) -> Option<String> {
        let logo = self.logo.as_ref().and_then(|path| Logo::read(path).err());
        if let Some(error) = logo {
            return Some(format!("COUNTERSIGN_PAGES_LOGO: {}", told(&error)));
        }
        let error = Templates::load(self.templates.as_ref()?).err()?;
        Some(format!("COUNTERSIGN_PAGES_TEMPLATES: {}", told(&error)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Flags, SettingErrors, Settings, Sources};
    use super::*;

    fn read(environment: &[(&str, &str)]) -> Result<PagesSettings, SettingErrors> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Ok(Settings::read(&Sources::collect(Flags::default(), environment, None, None))?.pages)
    }

    #[test]
    fn there_are_pages_unless_a_setting_says_otherwise() {
        assert!(read(&[]).unwrap().on);
        assert!(!read(&[("COUNTERSIGN_PAGES", "no")]).unwrap().on);
    }

    #[cfg(feature = "flask")]
    #[test]
    fn a_profile_has_no_pages() {
        let profile = ("COUNTERSIGN_PROFILE", "flask-jwt-extended");
        let secret = ("JWT_SECRET_KEY", "a secret of thirty-two bytes or so");
        assert!(!read(&[profile, secret]).unwrap().on);
        let error = read(&[profile, secret, ("COUNTERSIGN_PAGES", "yes")]).unwrap_err().to_string();
        assert!(error.contains("COUNTERSIGN_PAGES") && error.contains("in a profile"), "{error}");
    }

    #[test]
    fn the_page_to_try_the_api_is_there_or_not_by_a_setting() {
        assert_eq!(read(&[]).unwrap().api, None);
        assert_eq!(read(&[("COUNTERSIGN_API_PAGE", "yes")]).unwrap().api, Some(true));
        assert_eq!(read(&[("COUNTERSIGN_API_PAGE", "no")]).unwrap().api, Some(false));
    }

    #[test]
    fn a_colour_that_would_end_the_rule_of_the_style_sheet_is_refused() {
        assert_eq!(read(&[("COUNTERSIGN_PAGES_COLOR", "#0A7D4F")]).unwrap().colour.to_string(), "#0a7d4f");
        for colour in ["green", "#0a7", "#0a7d4f;} body{display:none", "rgb(1,2,3)", "url(x)"] {
            let error = read(&[("COUNTERSIGN_PAGES_COLOR", colour)]).unwrap_err().to_string();
            assert!(error.contains("COUNTERSIGN_PAGES_COLOR") && error.contains("#2f5bea"), "{error}");
        }
    }
}
