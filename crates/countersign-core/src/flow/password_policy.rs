//! The rules for new passwords, with the file of breached ones.

use std::error::Error;

use tokio::runtime::Handle;

use crate::flow::breached::BreachedPasswords;
use crate::model::{OwnNames, Password, PasswordRules, WeakPassword};

/// What a new password must be. Default: [`PasswordRules::default`], and no list of breached passwords.
#[derive(Clone, Debug, Default)]
pub struct PasswordPolicy {
    /// The rules that need nothing but the password and the names of its account.
    pub rules: PasswordRules,
    /// The list of breached passwords, if there is one.
    pub breached: Option<BreachedPasswords>,
}

impl PasswordPolicy {
    /// Checks a new password for the account with these names. The file of breached passwords is read on a blocking
    /// thread of `runtime`; callers hold a place in the hash pool, which bounds how many reads there are at a time.
    ///
    /// If the file cannot be read, the log says so, and the other rules decide.
    ///
    /// # Errors
    /// [`WeakPassword`] says what to change.
    pub async fn check(
        &self,
        password: &Password,
        names: OwnNames<'_>,
        runtime: &Handle,
    ) -> Result<(), WeakPassword> {
        self.rules.check(password, names)?;
        let Some(breached) = self.breached.clone() else { return Ok(()) };
        let digest = password.sha1();
        let found = runtime.spawn_blocking(move || breached.contains(digest)).await;
        match found.map_err(|error| error.into()).and_then(|found| found.map_err(Into::into)) {
            Ok(true) => Err(WeakPassword::Breached),
            Ok(false) => Ok(()),
            Err(error) => {
                let error: Box<dyn Error + Send + Sync> = error;
                tracing::error!(
                    error = &*error as &dyn Error,
                    "the file of breached passwords could not be read; a new password was not looked up in it"
                );
                Ok(())
            }
        }
    }
}
