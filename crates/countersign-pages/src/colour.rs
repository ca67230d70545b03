//! The operator's colour, and the shades of it that can be read.

use std::fmt;
use std::str::FromStr;

/// A colour, written `#rrggbb`.
///
/// ```
/// use countersign_pages::Colour;
///
/// assert_eq!("#2F5BEA".parse::<Colour>()?.to_string(), "#2f5bea");
/// assert!("red; } body { display: none".parse::<Colour>().is_err());
/// # Ok::<(), countersign_pages::InvalidColour>(())
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Colour([u8; 3]);

/// A text that is no colour.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("write a colour as # and six hexadecimal digits, such as #2f5bea")]
pub struct InvalidColour;

impl Colour {
    /// Countersign's own colour.
    pub const DEFAULT: Self = Self([0x2f, 0x5b, 0xea]);
    pub(crate) const WHITE: Self = Self([255, 255, 255]);
    pub(crate) const BLACK: Self = Self([0, 0, 0]);
    /// The ratio that WCAG 2.2 asks of text (1.4.3).
    const READABLE: f64 = 4.5;

    /// The colour of text on this colour: white or black, whichever has more contrast.
    pub(crate) fn ink(self) -> Self {
        if self.contrast(Self::WHITE) >= self.contrast(Self::BLACK) { Self::WHITE } else { Self::BLACK }
    }

    /// This colour, made darker or lighter until text of it can be read on all of these backgrounds. One of them is
    /// enough to tell whether they are dark.
    pub(crate) fn readable_on(self, backgrounds: &[Self]) -> Self {
        let is_dark = backgrounds.first().is_some_and(|background| background.luminance() < 0.18);
        let towards = if is_dark { Self::WHITE } else { Self::BLACK };
        let steps = (0_u8..=100).map(|percent| self.mixed(towards, percent));
        let mut readable = steps.filter(|shade| {
            backgrounds.iter().all(|background| shade.contrast(*background) >= Self::READABLE)
        });
        readable.next().unwrap_or(towards)
    }

    /// This colour with so many percent of another.
    pub(crate) fn mixed(self, other: Self, percent: u8) -> Self {
        let share = f64::from(percent.min(100)) / 100.0;
        let [r, g, b] = self.0;
        let [other_r, other_g, other_b] = other.0;
        let mix = |from: u8, to: u8| {
            let value = f64::from(from).mul_add(1.0 - share, f64::from(to) * share).round();
            // A mean of two bytes is a byte.
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 255")]
            let byte = value as u8;
            byte
        };
        Self([mix(r, other_r), mix(g, other_g), mix(b, other_b)])
    }

    /// The contrast of two colours (WCAG 2.2, "contrast ratio"): 1 to 21.
    pub(crate) fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    fn luminance(self) -> f64 {
        let [r, g, b] = self.0.map(|byte| {
            let value = f64::from(byte) / 255.0;
            if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        });
        0.2126_f64.mul_add(r, 0.7152_f64.mul_add(g, 0.0722 * b))
    }
}

impl Default for Colour {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl FromStr for Colour {
    type Err = InvalidColour;

    fn from_str(text: &str) -> Result<Self, InvalidColour> {
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6).ok_or(InvalidColour)?;
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(InvalidColour);
        }
        let number = u32::from_str_radix(digits, 16).map_err(|_| InvalidColour)?;
        let [_, r, g, b] = number.to_be_bytes();
        Ok(Self([r, g, b]))
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [r, g, b] = self.0;
        write!(f, "#{r:02x}{g:02x}{b:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colour_is_six_hexadecimal_digits_and_nothing_else() {
        for text in ["#000000", "#ffffff", "#A1b2C3"] {
            assert_eq!(text.parse::<Colour>().unwrap().to_string(), text.to_lowercase());
        }
        for text in [
            "",
            "#",
            "#fff",
            "#12345",
            "#1234567",
            "red",
            "#12345g",
            "#+12345",
            "#12 456",
            "#123456;",
            "rgb(0,0,0)",
        ] {
            assert_eq!(text.parse::<Colour>(), Err(InvalidColour), "{text}");
        }
    }

    #[test]
    fn every_colour_yields_shades_that_can_be_read() {
        let backgrounds = [Colour::WHITE, "#f4f5f8".parse().unwrap()];
        let dark = ["#16181f".parse().unwrap(), "#0e0f14".parse().unwrap()];
        for text in [
            "#000000", "#ffffff", "#ffff00", "#808080", "#2f5bea", "#00ff00", "#ff0000", "#777777", "#123456",
        ] {
            let colour: Colour = text.parse().unwrap();
            assert!(colour.contrast(colour.ink()) >= 4.5, "{text}: text on it");
            for grounds in [backgrounds, dark] {
                let shade = colour.readable_on(&grounds);
                assert!(grounds.iter().all(|ground| shade.contrast(*ground) >= 4.5), "{text} is {shade}");
            }
        }
        assert_eq!(Colour::DEFAULT.readable_on(&[Colour::WHITE]), Colour::DEFAULT, "a readable colour stays");
    }
}
