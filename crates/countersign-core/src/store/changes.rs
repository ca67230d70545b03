//! The way in which a store announces that its revocation log may have grown, so that nobody has to wait for the next
//! poll.

use tokio::sync::watch;

/// Announces to all who have [subscribed](ChangeSignal::subscribe) that the log may have grown. The signal contains no
/// entries, and an entry that it misses is read by the next poll.
#[derive(Debug)]
pub struct ChangeSignal(watch::Sender<()>);

/// A subscription to a [`ChangeSignal`].
#[derive(Clone, Debug)]
pub struct Changes(watch::Receiver<()>);

impl ChangeSignal {
    /// A signal without subscriptions.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(()))
    }

    /// Wakes all subscriptions. The call never waits.
    pub fn raise(&self) {
        self.0.send_replace(());
    }

    /// A subscription that hears what is raised from now on.
    #[must_use]
    pub fn subscribe(&self) -> Changes {
        Changes(self.0.subscribe())
    }
}

impl Default for ChangeSignal {
    fn default() -> Self {
        Self::new()
    }
}

impl Changes {
    /// Waits until the signal is raised, and returns at once if it was raised since the last call, however often.
    /// Returns `false` when it will never be raised again, because the store is gone.
    pub async fn next(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_raised_while_nobody_waits_is_heard_once() {
        let signal = ChangeSignal::new();
        let mut changes = signal.subscribe();
        signal.raise();
        signal.raise();
        assert!(changes.next().await);
        let next = tokio::time::timeout(std::time::Duration::ZERO, changes.next()).await;
        assert!(next.is_err(), "nothing was raised since");
        drop(signal);
        assert!(!changes.next().await);
    }
}
