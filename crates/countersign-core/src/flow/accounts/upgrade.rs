//! Replacing an old password hash at a login with the right password (SEC-117).

use std::error::Error;

use super::Accounts;
use crate::model::PasswordHash;
use crate::model::user::User;

impl Accounts {
    /// Replaces the user's hash by `upgrade`, if it is still the one that the password was checked against. A failure
    /// does not concern the login; the next one tries again.
    pub(super) async fn upgrade_hash(&self, user: &mut User, upgrade: PasswordHash) {
        let users = &self.shared.users;
        match users.replace_password_hash(&user.id, user.password_hash.as_ref(), &upgrade).await {
            Ok(true) => user.password_hash = Some(upgrade),
            // Another login was faster, or the password was changed.
            Ok(false) => {}
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::warn!(error, user_id = %user.id, "an old password hash could not be replaced");
            }
        }
    }
}
