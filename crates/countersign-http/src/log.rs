//! Texts from clients in log lines.

use std::fmt;

/// A client's text for a log line, escaped and shortened, so that clients cannot decide how long a log line gets.
#[must_use]
pub fn shown_in_log(text: &str) -> String {
    const MOST_BYTES: usize = 256;
    let cut = text.get(..text.floor_char_boundary(MOST_BYTES)).unwrap_or_default();
    let mut shown = cut.escape_debug().to_string();
    if cut.len() < text.len() {
        shown.push_str(&format!("… ({} bytes)", text.len()));
    }
    shown
}

/// Writes an error's text, then the texts of its causes. This is the `Debug` form of errors that a `main` returns.
///
/// # Errors
/// Those of the formatter.
pub fn write_with_causes(error: &dyn std::error::Error, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{error}")?;
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(f, ": {error}")?;
        cause = error.source();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_text_is_cut_between_characters_and_escaped() {
        for (text, expected) in [
            ("/v1/auth/me".to_owned(), "/v1/auth/me".to_owned()),
            ("/\"\n\u{1b}".to_owned(), "/\\\"\\n\\u{1b}".to_owned()),
            ("a".repeat(256), "a".repeat(256)),
            ("a".repeat(257), format!("{}… (257 bytes)", "a".repeat(256))),
            ("é".repeat(200), format!("{}… (400 bytes)", "é".repeat(128))),
            (format!("a{}", "é".repeat(200)), format!("a{}… (401 bytes)", "é".repeat(127))),
        ] {
            assert_eq!(shown_in_log(&text), expected);
        }
        assert!(shown_in_log(&"\"".repeat(60_000)).len() < 600);
    }
}
