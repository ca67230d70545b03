//! The whole numbers among imported ids, from which the ids of new accounts count on.

use countersign_core::store::{StoreError, UserStore};
use countersign_jwt::UserId;

/// The highest id that is a whole number, of the ids that were seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HighestNumber(Option<u64>);

impl HighestNumber {
    /// Numbers above this one are not counted on from: JSON and some stores cannot hold them exactly.
    const MAX: u64 = (1 << 53) - 1;

    /// Takes note of an id.
    pub(super) fn see(&mut self, id: &UserId) {
        let text = id.as_str();
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        let number = text.parse().ok().filter(|number| is_plain && *number <= Self::MAX);
        self.0 = self.0.max(number);
    }

    /// The number after the highest one that was seen.
    pub(super) fn next(self) -> u64 {
        self.0.map_or(1, |highest| highest + 1)
    }

    /// Ensures that the store gives new accounts numbers above the highest one that was seen.
    pub(super) async fn count_on(self, users: &dyn UserStore) -> Result<(), StoreError> {
        // The number that the store returns is taken: it is the highest one itself, or one that is skipped.
        if let Some(highest) = self.0 {
            users.next_user_number(highest).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_whole_numbers_count() {
        let mut highest = HighestNumber::default();
        for id in ["b7", "007", "-3", "+3", "1.5", "9007199254740992", "99999999999999999999", "0"] {
            highest.see(&UserId::new(id).unwrap());
            assert_eq!(highest.0, None, "{id}");
        }
        for (id, expected) in [("17", 17), ("3", 17), ("9007199254740991", 9_007_199_254_740_991)] {
            highest.see(&UserId::new(id).unwrap());
            assert_eq!(highest.0, Some(expected));
        }
    }
}
