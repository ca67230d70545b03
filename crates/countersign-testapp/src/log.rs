//! The log of the whole test run, at TRACE: every line of it is checked for secrets when it is written (SEC-147).

use std::io::{self, Write};
use std::sync::{LazyLock, Mutex, Once, PoisonError};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

static LINES: LazyLock<Mutex<String>> = LazyLock::new(Mutex::default);

/// How every token begins: `{"` in base64url.
const TOKEN: &str = "eyJ";

struct Checked;

impl<'a> MakeWriter<'a> for Checked {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for Checked {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        assert!(!text.contains("canary-secret") && !text.contains(TOKEN), "a secret in the log: {text}");
        LINES.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the log of everything in this process to where the tests look at it.
pub fn install() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(Checked)
            .init();
    });
}

/// Whether the log so far has a line with this text.
pub fn contains(text: &str) -> bool {
    count(text) > 0
}

/// How often this text is in the log so far.
pub fn count(text: &str) -> usize {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).matches(text).count()
}

/// The lines of the log so far with this text.
pub fn lines_with(text: &str) -> Vec<String> {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}
