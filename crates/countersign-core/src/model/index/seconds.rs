//! Times as the tables keep them, in whole seconds of 32 bits, which last until 2106.

use countersign_jwt::time::Timestamp;

/// The second that stands for itself and everything later, so it counts as never.
const FOREVER: u32 = u32::MAX;

/// The second in which the time is.
pub(super) fn floor(time: Timestamp) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(FOREVER)
}

/// The first second that is not before the time. An entry that is kept until then is never forgotten early.
pub(super) fn ceil(time: Timestamp) -> u32 {
    let rounded_up = Timestamp::from_millis(time.as_millis().saturating_add(999));
    floor(rounded_up)
}

/// Whether an entry that matters until `until` no longer matters at `now`.
pub(super) fn is_over(until: u32, now: Timestamp) -> bool {
    until != FOREVER && i64::from(until) <= now.as_secs()
}

/// Two numbers as one, so that they are read and written together.
pub(super) fn pack(high: u32, low: u32) -> u64 {
    u64::from(high) << u32::BITS | u64::from(low)
}

/// The two numbers that [`pack`] has combined.
#[expect(clippy::cast_possible_truncation, reason = "each takes its half")]
pub(super) fn unpack(packed: u64) -> (u32, u32) {
    ((packed >> u32::BITS) as u32, packed as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_over_early() {
        for (until_millis, now_millis, over) in [
            (1_000, 999, false),
            (1_000, 1_000, true),
            (1_001, 1_001, false),
            (1_001, 1_999, false),
            (1_001, 2_000, true),
            (0, 0, true),
            (Timestamp::MAX.as_millis(), Timestamp::MAX.as_millis(), false),
        ] {
            let until = ceil(Timestamp::from_millis(until_millis));
            assert_eq!(
                is_over(until, Timestamp::from_millis(now_millis)),
                over,
                "{until_millis} {now_millis}"
            );
        }
    }

    #[test]
    fn what_is_packed_comes_out_again() {
        for pair in [(0, 0), (1, 2), (u32::MAX, 0), (0, u32::MAX)] {
            assert_eq!(unpack(pack(pair.0, pair.1)), pair);
        }
    }
}
