//! The ids of new accounts.

use countersign_jwt::id::UserId;
use countersign_jwt::random::{Random, uuid};

use super::RegisterError;
use crate::store::{StoreError, UserStore};

/// The kind of ids that new accounts get.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum UserIds {
    /// Random UUIDs.
    #[default]
    Uuid,
    /// Whole numbers as text, counting on from the highest one before, for programs beside Countersign whose ids are
    /// numbers.
    Integer,
}

impl UserIds {
    /// An id for a new account.
    pub(super) async fn next(
        self,
        users: &dyn UserStore,
        random: &dyn Random,
    ) -> Result<UserId, RegisterError> {
        match self {
            Self::Uuid => Ok(UserId::from(uuid(random)?)),
            Self::Integer => {
                let number = users.next_user_number(1).await?;
                // A number is a well-formed id, so this error is never seen.
                UserId::new(&number.to_string())
                    .map_err(|error| StoreError::new("user id", "be made", error).into())
            }
        }
    }
}
