//! The form of values in JSON answers.

use countersign_jwt::Timestamp;

/// A time in the form that all answers use: RFC 3339, UTC, whole seconds, such as `2026-01-31T12:00:00Z`.
///
/// A time after the year 9999, which the form cannot express, becomes the last second of that year.
#[must_use]
pub fn rfc3339(time: Timestamp) -> String {
    let last = jiff::Timestamp::MAX.as_second();
    jiff::Timestamp::from_second(time.as_secs().min(last)).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_whole_seconds_in_utc() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_769_860_800_000, "2026-01-31T12:00:00Z"),
            (1_769_860_800_999, "2026-01-31T12:00:00Z"),
        ] {
            assert_eq!(rfc3339(Timestamp::from_millis(millis)), text);
        }
        assert!(rfc3339(Timestamp::MAX).starts_with("9999-12-"));
        assert!(rfc3339(Timestamp::MAX).ends_with('Z'));
    }
}
