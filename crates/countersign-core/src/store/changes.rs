//! How a store tells that its revocation log may have grown, so that nobody has to wait for the next poll.

use tokio::sync::watch;

/// Tells everybody who [subscribed](ChangeSignal::subscribe) that the log may have grown. It says only "look now": what
/// it misses, the next poll reads.
#[derive(Debug)]
pub struct ChangeSignal(watch::Sender<()>);

/// Waits for a [`ChangeSignal`].
#[derive(Clone, Debug)]
pub struct Changes(watch::Receiver<()>);

impl ChangeSignal {
    /// A signal that nobody waits for yet.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(()))
    }

    /// Wakes everybody who waits. Never waits itself.
    pub fn raise(&self) {
        self.0.send_replace(());
    }

    /// What is raised from now on is heard.
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
    /// Returns when the signal was raised since the last call, however often; `false` when it never will be again,
    /// because the store is gone.
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
