//! What an operator decides about the look: name, logo, colour; and the style sheet.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use crate::colour::Colour;

/// The name, logo and colour of pages.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// What pages call the site. Default: Countersign.
    pub name: Option<String>,
    /// The logo in place of Countersign's mark.
    pub logo: Option<Logo>,
    /// The colour of buttons and links. Links take a shade of it that can be read, in light and in dark. Default:
    /// [`Colour::DEFAULT`].
    pub colour: Colour,
}

/// A picture that pages show above the site's name.
#[derive(Clone, Debug)]
pub struct Logo {
    pub(crate) bytes: Bytes,
    pub(crate) media_type: &'static str,
}

/// The reason why a file cannot be the logo.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogoError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// The file is none of the kinds of pictures that browsers show.
    #[error("{} is no picture that browsers show; use a file that ends in .svg, .png, .webp, .jpg or .gif", .0.display())]
    Kind(PathBuf),
    /// The file is too large for every page to show it.
    #[error("{} has more than 512 KiB; every page shows it, so use a smaller one", .0.display())]
    TooLarge(PathBuf),
}

impl Logo {
    const MAX_BYTES: usize = 512 * 1024;
    const KINDS: [(&'static str, &'static str); 6] = [
        ("svg", "image/svg+xml"),
        ("png", "image/png"),
        ("webp", "image/webp"),
        ("jpg", "image/jpeg"),
        ("jpeg", "image/jpeg"),
        ("gif", "image/gif"),
    ];

    /// Reads a picture: an `.svg`, `.png`, `.webp`, `.jpg` or `.gif` of at most 512 KiB.
    ///
    /// # Errors
    /// [`LogoError`].
    pub fn read(path: &Path) -> Result<Self, LogoError> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let kind = Self::KINDS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(ending));
        let (_, media_type) = kind.ok_or_else(|| LogoError::Kind(path.to_owned()))?;
        let bytes =
            std::fs::read(path).map_err(|source| LogoError::Read { path: path.to_owned(), source })?;
        if bytes.len() > Self::MAX_BYTES {
            return Err(LogoError::TooLarge(path.to_owned()));
        }
        Ok(Self { bytes: bytes.into(), media_type })
    }
}

/// A file that pages refer to, under a name that changes with its content, so that browsers may keep it for good.
#[derive(Clone, Debug)]
pub(crate) struct Asset {
    pub(crate) path: String,
    pub(crate) bytes: Bytes,
    pub(crate) media_type: &'static str,
}

impl Asset {
    fn new(name: &str, ending: &str, bytes: Bytes, media_type: &'static str) -> Self {
        let digest = digest::digest(&digest::SHA256, &bytes);
        let version = URL_SAFE_NO_PAD.encode(digest.as_ref().get(..9).unwrap_or_default());
        Self { path: format!("/pages/{name}-{version}{ending}"), bytes, media_type }
    }

    /// The style sheet with this colour.
    pub(crate) fn style(colour: Colour) -> Self {
        let style = format!("{}{}", colours(colour), include_str!("../style.css"));
        Self::new("style", ".css", style.into(), "text/css; charset=utf-8")
    }

    /// The operator's logo, otherwise Countersign's mark in the operator's colour. It is the icon in the tab as well.
    pub(crate) fn logo(logo: Option<&Logo>, colour: Colour) -> Self {
        match logo {
            Some(logo) => Self::new("logo", "", logo.bytes.clone(), logo.media_type),
            None => Self::new("mark", ".svg", mark(colour).into(), "image/svg+xml"),
        }
    }
}

/// Countersign's mark: a signature under which another one is set.
fn mark(colour: Colour) -> String {
    let ink = colour.ink();
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'><rect width='32' height='32' rx='9' fill='{colour}'/>\
         <g fill='none' stroke='{ink}' stroke-linecap='round' stroke-linejoin='round' stroke-width='3'>\
         <path d='m9 14.500 4.500 4.500L23 9.500'/><path d='M9 24h14' stroke-opacity='.65'/></g></svg>"
    )
}

/// The backgrounds that text stands on, as the style sheet has them: card and page.
const LIGHT: [&str; 2] = ["#ffffff", "#f5f6f8"];
const DARK: [&str; 2] = ["#191b22", "#101116"];

/// The variables of the style sheet that depend on the operator's colour. Nothing but hexadecimal digits is written.
fn colours(colour: Colour) -> String {
    let grounds = |texts: [&str; 2]| texts.map(|text| text.parse().unwrap_or(Colour::WHITE));
    let (light, dark) = (grounds(LIGHT), grounds(DARK));
    let ink = colour.ink();
    // Towards the side where text on it stays as readable.
    let away = if ink == Colour::WHITE { Colour::BLACK } else { Colour::WHITE };
    let mut style = String::new();
    let _infallible = write!(
        style,
        ":root{{--brand:{colour};--brand-ink:{ink};--brand-strong:{};--link:{}}}\n\
         @media(prefers-color-scheme:dark){{:root{{--link:{}}}}}\n",
        colour.mixed(away, 14),
        colour.readable_on(&light),
        colour.readable_on(&dark),
    );
    style
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_style_sheet_is_small_and_has_the_backgrounds_that_colours_are_measured_on() {
        let style = Asset::style(Colour::DEFAULT);
        assert!(style.bytes.len() < 12 * 1024, "{} bytes", style.bytes.len());
        let text = std::str::from_utf8(&style.bytes).unwrap();
        for ground in LIGHT.into_iter().chain(DARK) {
            assert!(text.contains(ground), "{ground}");
        }
        assert!(!text.contains("url(") && !text.contains("@import"), "nothing is loaded from elsewhere");
    }

    #[test]
    fn the_name_of_a_file_changes_with_its_content() {
        let other: Colour = "#aa0000".parse().unwrap();
        assert_ne!(Asset::style(Colour::DEFAULT).path, Asset::style(other).path);
        assert_eq!(Asset::style(other).path, Asset::style(other).path);
    }

    #[test]
    fn a_logo_is_a_picture_of_a_bounded_size() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        assert_eq!(Logo::read(&file("a.SVG", b"<svg/>")).unwrap().media_type, "image/svg+xml");
        assert!(matches!(Logo::read(&file("a.html", b"")), Err(LogoError::Kind(_))));
        assert!(matches!(Logo::read(&file("a.png", &vec![0; 512 * 1024 + 1])), Err(LogoError::TooLarge(_))));
        assert!(matches!(Logo::read(&folder.path().join("b.png")), Err(LogoError::Read { .. })));
    }
}
