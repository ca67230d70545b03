//! Log lines on standard error, and the few lines on standard output that people and scripts wait for.

use std::error::Error;
use std::io::Write as _;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, filter, fmt, reload};

use crate::settings::LogFormat;
use crate::traces::{self, Traces};

/// Libraries whose own debugging output shows requests unchanged, secrets included (SEC-147). Each of them logs at most
/// at this level, whatever the directives ask for.
const QUIET: [&str; 12] = [
    "h2",
    "hyper",
    "hyper_util",
    "mongodb",
    "opentelemetry",
    "opentelemetry-http",
    "opentelemetry-otlp",
    "opentelemetry_sdk",
    "redis",
    "reqwest",
    "sqlx",
    "tower",
];

/// Decides what is logged, and can be told otherwise.
#[derive(Debug)]
pub(crate) struct LogLevel(reload::Handle<EnvFilter, Registry>);

impl LogLevel {
    /// Logs by these directives from now on. They were checked.
    pub(crate) fn set(&self, directives: &str) {
        // The handle outlives the log only when the program ends.
        let _ = self.0.reload(EnvFilter::new(directives));
    }
}

/// Starts logging to standard error, and making traces if there are any.
pub(crate) fn start(directives: &str, format: LogFormat, traces: Option<&Traces>) -> LogLevel {
    let (wanted, level) = reload::Layer::new(EnvFilter::new(directives));
    let safe = filter::filter_fn(|metadata| {
        let library = metadata.target().split("::").next().unwrap_or_default();
        *metadata.level() <= tracing::Level::WARN || !QUIET.contains(&library)
    });
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(wanted)
        .with(lines.with_filter(safe))
        .with(traces::layer(traces))
        .init();
    LogLevel(level)
}

/// Writes a line to standard output at once, even into a pipe.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // If nobody reads the output any more, that is no reason to stop.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Writes a warning to standard error: something is not as it should be, but the program continues.
pub(crate) fn warn(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "warning: {line}");
}

/// Writes to standard error why the program gives up, with all causes.
pub(crate) fn complain(error: &dyn Error) {
    let mut text = format!("error: {error}");
    let mut shown = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // An error that only wraps another one has the same text, which is shown once.
        if !shown.contains(&message) {
            text.push_str(&format!("\n  because: {message}"));
        }
        shown = message;
        cause = error.source();
    }
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
