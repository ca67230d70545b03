//! The issuers beside a node's own that it accepts: former ones, and those of programs that were started since.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign_jwt::issuers::FormerIssuer;
use countersign_jwt::time::Clock as _;

use super::{Keys, Shared};
use crate::flow::{AgreementError, agree};
use crate::model::AgreedSettings;
use crate::model::agreed::policy_settings;
use crate::store::StoreError;

/// The least time between two reads of the store that access tokens with unknown issuers have caused.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The state of a node's search for new issuers.
#[derive(Debug, Default)]
pub(super) struct IssuerWatch {
    /// The time, by the monotonic clock, of the last read that an access token has caused.
    last: tokio::sync::Mutex<Option<Duration>>,
    /// Whether it was logged that the store's settings differ from this program's by now.
    has_told: AtomicBool,
}

impl Keys {
    /// The other issuers of this store's tokens. Their tokens are accepted beside those of [`Keys::issuer`].
    #[must_use]
    pub fn known_issuers(&self) -> Vec<FormerIssuer> {
        self.shared.known_issuers.load().iter().cloned().collect()
    }

    /// Reads which issuers the store knows, because another program may have been started with a new one. Only tokens
    /// that one of our keys has signed lead here, so strangers cannot cause it.
    pub(crate) async fn learn_issuers(&self) -> Result<(), StoreError> {
        match self.shared.store.settings().await?.as_deref().map(AgreedSettings::parse) {
            Some(Ok(record)) => self.take_in(&record),
            Some(Err(error)) => warn(&error),
            None => {}
        }
        Ok(())
    }

    /// Reads which issuers the store knows because of an access token, at most once a second: a key of another program
    /// that is accepted here may sign many tokens with issuers of its own. A client that is refused in that second gets
    /// a new access token with its refresh token.
    pub(super) async fn learn_issuers_or_warn(&self) {
        let Shared { clock, issuer_watch, .. } = &*self.shared;
        let mut last = issuer_watch.last.lock().await;
        if last.is_some_and(|last| clock.monotonic().saturating_sub(last) < LOOK_EVERY) {
            return;
        }
        if let Err(error) = self.learn_issuers().await {
            warn(&error);
        }
        *last = Some(clock.monotonic());
    }

    /// Reads the store's record of settings: takes in its issuers, keeps this node's issuer known to the others while
    /// the program runs, and logs a warning if other programs have changed settings since it started. A background task
    /// calls it every minute.
    ///
    /// # Errors
    /// [`AgreementError`]; the next call tries again.
    pub async fn tend_settings(&self) -> Result<(), AgreementError> {
        let Shared { store, clock, parties, policy, format, issuer_watch, .. } = &*self.shared;
        // Where the rules of another library hold, that library's options decide about the issuer.
        let own = format.is_none().then_some(parties.issuer.as_str());
        let Some(record) = agree::keep_known(&**store, own, policy, clock.now()).await? else {
            return Ok(());
        };
        self.take_in(&record);
        let differences = record.differences(&policy_settings(policy, own.is_some()));
        let has_another_issuer = own.is_some() && record.issuer() != own;
        if (has_another_issuer || !differences.is_empty())
            && !issuer_watch.has_told.swap(true, Ordering::Relaxed)
        {
            let error = AgreementError::Differ(differences);
            tracing::warn!(
                issuer = record.issuer(),
                error = &error as &dyn std::error::Error,
                "another program has changed the settings of this store since this one started; restart this one with \
                 the same settings"
            );
        }
        Ok(())
    }

    fn take_in(&self, record: &AgreedSettings) {
        let Shared { known_issuers, parties, .. } = &*self.shared;
        known_issuers.store(record.issuers_beside(Some(&parties.issuer)).into());
    }
}

fn warn(error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(error, "the store's record of issuers could not be read");
}
