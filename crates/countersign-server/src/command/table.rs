//! Tables for people.

use crate::telemetry::say;

/// Writes rows whose cells are aligned in columns.
pub(super) fn say_table<const N: usize>(rows: &[[String; N]]) {
    for line in columns(rows) {
        say(&line);
    }
}

fn columns<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; N]| {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A text that others chose, as a terminal can show it (SEC-148).
pub(super) fn shown(text: &str) -> String {
    text.escape_debug().to_string()
}

/// A cell that may be empty.
pub(super) fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}
