//! The list of all metrics as the documentation has it.

use std::fmt::Write as _;

use super::declared::{AREAS, Kind, Label, Metric, Values};

/// The list of all metrics, as Markdown.
pub(crate) fn page() -> String {
    let mut page = String::new();
    for (area, metrics) in AREAS {
        // Writing into a `String` never fails.
        let _ = write!(page, "### {area}\n\n| Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n");
        for Metric { name, kind, labels, means } in *metrics {
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            let labels: Vec<_> = labels.iter().map(label).collect();
            let labels = if labels.is_empty() { "–".to_owned() } else { labels.join("; ") };
            let _ = writeln!(page, "| `{name}` | {kind} | {labels} | {means}. |");
        }
        page.push('\n');
    }
    page
}

fn label(Label { name, values }: &Label) -> String {
    match values {
        Values::Of(values) if values.len() > MOST_LISTED => {
            format!(
                "`{name}`: one of {} names of methods, such as `{}`",
                values.len(),
                values.first().unwrap_or(&"")
            )
        }
        Values::Of(values) => {
            let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
            format!("`{name}`: {}", values.join(", "))
        }
        Values::Any(what) => format!("`{name}`: {what}"),
    }
}

/// The most values of a label that are listed one by one.
const MOST_LISTED: usize = 20;
