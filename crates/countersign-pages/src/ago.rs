//! Times and durations in words.

use std::time::Duration;

use countersign_jwt::Timestamp;
use countersign_text::{Catalog, Language};

/// How long ago something was: "2 hours ago".
pub(crate) fn ago(catalog: &Catalog, language: Language, at: Timestamp, now: Timestamp) -> String {
    let minutes = now.since(at).as_secs() / 60;
    let (key, count) = match minutes {
        0 => ("now", 0),
        1 => ("minute", 1),
        2..60 => ("minutes", minutes),
        60..120 => ("hour", 1),
        120..1440 => ("hours", minutes / 60),
        1440..2880 => ("day", 1),
        _ => ("days", minutes / 1440),
    };
    filled(catalog, language, "ago", key, count)
}

/// How long something takes: "30 seconds". It is never shorter than the time itself.
pub(crate) fn lasting(catalog: &Catalog, language: Language, duration: Duration) -> String {
    let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0)).max(1);
    let (unit, count) = match seconds {
        0..=90 => ("second", seconds),
        91..=5400 => ("minute", seconds.div_ceil(60)),
        _ => ("hour", seconds.div_ceil(3600)),
    };
    let key = if count == 1 { unit.to_owned() } else { format!("{unit}s") };
    filled(catalog, language, "duration", &key, count)
}

fn filled(catalog: &Catalog, language: Language, table: &str, key: &str, count: u64) -> String {
    let count = count.to_string();
    // All languages have these keys, which a test of the built-in texts checks.
    catalog.fill(language, &format!("{table}.{key}"), &[("count", &count)]).unwrap_or_default()
}

/// A time as HTML's `time` element takes it.
pub(crate) fn machine(at: Timestamp) -> String {
    countersign_http::rfc3339(at)
}

/// The day of a time, in UTC.
pub(crate) fn day(at: Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or(jiff::Timestamp::MAX);
    time.strftime("%Y-%m-%d").to_string()
}

/// The day of a time in words, in UTC: "31 January 2026".
pub(crate) fn day_in_words(catalog: &Catalog, language: Language, at: Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or(jiff::Timestamp::MAX);
    let date = time.to_zoned(jiff::tz::TimeZone::UTC).date();
    let key = if date.day() == 1 { "date.first" } else { "date.day" };
    let month = catalog.text(language, &format!("date.month_{}", date.month())).unwrap_or_default();
    let (day, year) = (date.day().to_string(), date.year().to_string());
    catalog.fill(language, key, &[("day", &day), ("month", month), ("year", &year)]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Templates;

    #[test]
    fn days_are_told_as_each_language_writes_them() {
        let catalog = Templates::built_in().catalog;
        for (seconds, expected) in [
            (1_769_860_800, ["31 January 2026", "31. Januar 2026", "31 janvier 2026"]),
            (1_796_083_200, ["1 December 2026", "1. Dezember 2026", "1er décembre 2026"]),
            (1_796_083_199, ["30 November 2026", "30. November 2026", "30 novembre 2026"]),
            (1_709_164_800, ["29 February 2024", "29. Februar 2024", "29 février 2024"]),
        ] {
            let at = Timestamp::from_secs(seconds);
            let told = [Language::English, Language::German, Language::French]
                .map(|language| day_in_words(&catalog, language, at));
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn times_and_durations_are_told_in_words() {
        let catalog = Templates::built_in().catalog;
        let now = Timestamp::from_secs(1_000_000_000);
        for (seconds, english, german) in [
            (0, "just now", "gerade eben"),
            (59, "just now", "gerade eben"),
            (60, "a minute ago", "vor einer Minute"),
            (3599, "59 minutes ago", "vor 59 Minuten"),
            (3600, "an hour ago", "vor einer Stunde"),
            (86_399, "23 hours ago", "vor 23 Stunden"),
            (86_400, "yesterday", "gestern"),
            (172_800, "2 days ago", "vor 2 Tagen"),
        ] {
            let at = now - Duration::from_secs(seconds);
            assert_eq!(ago(&catalog, Language::English, at, now), english);
            assert_eq!(ago(&catalog, Language::German, at, now), german);
        }
        assert_eq!(ago(&catalog, Language::English, now + Duration::from_secs(5), now), "just now", "ahead");
        for (millis, expected) in [
            (1, "1 second"),
            (1_500, "2 seconds"),
            (90_000, "90 seconds"),
            (91_000, "2 minutes"),
            (900_000, "15 minutes"),
            (5_401_000, "2 hours"),
        ] {
            assert_eq!(lasting(&catalog, Language::English, Duration::from_millis(millis)), expected);
        }
    }
}
