//! Tasks that run as long as a store is open. They are best effort: without them polling does the work.

use std::sync::Weak;
use std::time::Duration;

use countersign_core::store::{BoxError, ChangeSignal};
use tokio::task::JoinHandle;

/// The pause after the first failure.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A task that ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Follows what other nodes revoke until the store is gone. `follow` does so until it fails, and is called again after
/// a pause. The pause grows with each failure in a row, and is short again after following has worked. `what` names the
/// task in logs: "look for".
pub(crate) async fn keep_up<F>(
    what: &'static str,
    changed: Weak<ChangeSignal>,
    follow: impl Fn(Weak<ChangeSignal>) -> F,
) where
    F: Future<Output = Followed>,
{
    let mut pause = FIRST_PAUSE;
    let mut complained = false;
    while changed.strong_count() > 0 {
        let Followed { worked, ended } = follow(changed.clone()).await;
        let Err(error) = ended else { return };
        if worked {
            pause = FIRST_PAUSE;
        }
        // The failure is logged once, not at each attempt: it may last long, and polling does the work meanwhile.
        if complained {
            tracing::debug!(error = &*error, "cannot {what} revocations");
        } else {
            complained = true;
            tracing::warn!(
                error = &*error,
                "cannot {what} other nodes' revocations; learning of them by polling until that works"
            );
        }
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}

/// The result of following.
pub(crate) struct Followed {
    /// Whether following has worked for a time.
    pub(crate) worked: bool,
    /// `Ok` if the store is gone, else why following has failed.
    pub(crate) ended: Result<(), BoxError>,
}
