//! The values that `COUNTERSIGN_LOG` may have.

use tracing_subscriber::EnvFilter;

/// The log levels, from nothing to everything.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The words that other programs use for a level.
const OTHER_WORDS: [(&str, &str); 9] = [
    ("warning", "warn"),
    ("err", "error"),
    ("critical", "error"),
    ("fatal", "error"),
    ("notice", "info"),
    ("information", "info"),
    ("verbose", "debug"),
    ("none", "off"),
    ("all", "trace"),
];

/// Checks log directives: a level for everything, and `target=level` for parts of it.
///
/// A word that is no level would be taken for the name of a target. Then only that target would be logged, which
/// usually means that nothing is.
///
/// # Errors
/// The text says what the value must be instead.
pub(super) fn check(text: &str) -> Result<(), String> {
    let levels = LEVELS.join(", ");
    if text.parse::<EnvFilter>().is_err() {
        return Err(format!(
            "must be a level ({levels}), or a level and more for parts of the server, such as info,countersign=debug"
        ));
    }
    let mut shows_ours = false;
    for directive in text.split(',') {
        let directive = directive.trim();
        if directive.is_empty() {
            continue;
        }
        match directive.rsplit_once(['=', ']']) {
            None if LEVELS.contains(&&*directive.to_lowercase()) => shows_ours = true,
            None => return Err(no_level(directive)),
            Some((target, _)) => {
                let target = target.split(['[', '=']).next().unwrap_or_default();
                shows_ours |= target.is_empty() || target == OURS;
            }
        }
    }
    if shows_ours {
        Ok(())
    } else {
        Err(format!(
            "names no level for this server's own lines; put one before the rest ({levels}), such as info,sqlx=warn"
        ))
    }
}

fn no_level(word: &str) -> String {
    let lower = word.to_lowercase();
    let known = OTHER_WORDS.iter().find(|(other, _)| *other == lower).map(|(_, level)| *level);
    let nearest = LEVELS
        .into_iter()
        .map(|level| (level, strsim::jaro_winkler(level, &lower)))
        .filter(|(_, near)| *near > 0.7)
        .max_by(|(_, a), (_, b)| a.total_cmp(b))
        .map(|(level, _)| level);
    let levels = LEVELS.join(", ");
    match known.or(nearest) {
        // The word is not repeated, because it may be a secret under a wrong name.
        Some(level) => format!("has a word that is no level: write {level}; the levels are {levels}"),
        None => format!(
            "has a word that is no level; the levels are {levels}, and a part of the server has one of its own by \
             target=level, such as info,countersign_sql=debug"
        ),
    }
}

/// The prefix of the targets of this server's own lines.
const OURS: &str = "countersign";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_targets_with_levels_are_accepted() {
        for text in [
            "off",
            "error",
            "warn",
            "info",
            "debug",
            "trace",
            "INFO",
            "Warn",
            "info,countersign=debug",
            "sqlx=warn,info",
            "countersign=debug",
            "info,",
            "info,[request]=debug",
            "[request{id=a}]=debug",
            "countersign[request]=debug",
            "countersign[request]",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_word_that_would_turn_the_log_off_is_refused_with_the_word_that_was_meant() {
        for (text, meant) in [
            ("warning", "write warn;"),
            ("WARNING", "write warn;"),
            ("inof", "write info;"),
            ("Infos", "write info;"),
            ("debgu", "write debug;"),
            ("err", "write error;"),
            ("critical", "write error;"),
            ("none", "write off;"),
            ("verbose", "write debug;"),
            ("info,warning", "write warn;"),
            ("warning,countersign=debug", "write warn;"),
            ("yes", "the levels are off, error, warn, info, debug, trace"),
            ("countersign", "target=level"),
            ("canary-secret", "the levels are"),
            ("countersing=debug", "names no level for this server's own lines"),
            ("sqlx=debug", "names no level for this server's own lines"),
            ("countersign=warning", "must be a level (off, error, warn, info, debug, trace)"),
            ("3", "the levels are off, error, warn, info, debug, trace"),
            ("0", "the levels are off, error, warn, info, debug, trace"),
            ("countersign_core::session=trace", "names no level for this server's own lines"),
            (",", "names no level"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(meant) && !error.contains("canary"), "{text}: {error}");
        }
    }
}
