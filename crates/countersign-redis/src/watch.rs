//! Hearing of what other nodes have written into the log.

use std::sync::Weak;
use std::time::Duration;

use countersign_core::store::ChangeSignal;
use futures_util::StreamExt as _;
use redis::Client;
use tokio::time::timeout;

use crate::failure::Failure;

/// After a failure it connects again, at first soon, then less often.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);
/// How often it is asked whether the connection still lives.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// Raises the signal whenever somebody but `own` tells of a change, until the store is gone.
pub(crate) async fn run(
    client: Client,
    channel: String,
    own: String,
    deadline: Duration,
    changed: Weak<ChangeSignal>,
) {
    let mut pause = PAUSE_FIRST;
    while changed.strong_count() > 0 {
        let mut has_listened = false;
        if let Err(error) = listen(&client, &channel, &own, deadline, &changed, &mut has_listened).await {
            // There is nothing more to tell: the log is polled too.
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the push of the revocation log stopped"
            );
        }
        pause = if has_listened { PAUSE_FIRST } else { pause.saturating_mul(2).min(PAUSE_LONGEST) };
        tokio::time::sleep(pause).await;
    }
}

async fn listen(
    client: &Client,
    channel: &str,
    own: &str,
    deadline: Duration,
    changed: &Weak<ChangeSignal>,
    has_listened: &mut bool,
) -> Result<(), Failure> {
    let connecting = timeout(deadline, client.get_async_pubsub()).await.map_err(|_| Failure::Deadline)?;
    let (mut sink, mut messages) = connecting.map_err(Failure::driver)?.split();
    loop {
        // At first it subscribes. Later that says nothing new, but only a connection that lives confirms it.
        let subscribing = timeout(deadline, sink.subscribe(channel)).await.map_err(|_| Failure::Deadline)?;
        subscribing.map_err(Failure::driver)?;
        if !*has_listened {
            *has_listened = true;
            let Some(signal) = changed.upgrade() else { return Ok(()) };
            // What was told meanwhile was not heard.
            signal.raise();
        }
        while let Ok(message) = timeout(ASK_EVERY, messages.next()).await {
            let Some(message) = message else { return Ok(()) };
            let Some(signal) = changed.upgrade() else { return Ok(()) };
            if message.get_payload_bytes() != own.as_bytes() {
                signal.raise();
            }
        }
    }
}
