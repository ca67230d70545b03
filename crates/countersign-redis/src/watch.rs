//! Listening for what other nodes have written into the log.

use std::sync::Weak;
use std::time::Duration;

use countersign_core::store::ChangeSignal;
use futures_util::StreamExt as _;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Client, RedisError};
use tokio::time::timeout;

use crate::failure::Failure;

/// The first pause before connecting again after a failure; later pauses are longer.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);
/// The interval at which the connection is checked.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// Raises the signal whenever a store other than `own` tells of a change, and whenever it listens again after an
/// interruption, until the store is gone.
pub(crate) async fn run(
    client: Client,
    channel: String,
    own: String,
    deadline: Duration,
    changed: Weak<ChangeSignal>,
) {
    let (mut listener, mut pause) = (Listener { channel, own, deadline, has_listened: false }, PAUSE_FIRST);
    while changed.strong_count() > 0 {
        let listening = match listener.subscribe(&client).await {
            Ok((sink, messages)) => {
                // Changes during the interruption were not heard. The first connection has none, because a node begins
                // by reading.
                if listener.has_listened
                    && let Some(signal) = changed.upgrade()
                {
                    signal.raise();
                }
                (listener.has_listened, pause) = (true, PAUSE_FIRST);
                listener.listen(sink, messages, &changed).await
            }
            Err(failure) => {
                pause = pause.saturating_mul(2).min(PAUSE_LONGEST);
                Err(failure)
            }
        };
        if let Err(error) = listening {
            // Nothing more needs to be done, because the log is polled as well.
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the push of the revocation log stopped"
            );
        }
        tokio::time::sleep(pause).await;
    }
}

struct Listener {
    channel: String,
    /// The text of this store's own messages.
    own: String,
    deadline: Duration,
    has_listened: bool,
}

impl Listener {
    async fn subscribe(&self, client: &Client) -> Result<(PubSubSink, PubSubStream), Failure> {
        let subscribing = async {
            let (mut sink, messages) = client.get_async_pubsub().await?.split();
            sink.subscribe(&self.channel).await?;
            Ok::<_, RedisError>((sink, messages))
        };
        timeout(self.deadline, subscribing).await.map_err(|_| Failure::Deadline)?.map_err(Failure::driver)
    }

    /// Listens until the connection breaks or the store is gone.
    async fn listen(
        &self,
        mut sink: PubSubSink,
        mut messages: PubSubStream,
        changed: &Weak<ChangeSignal>,
    ) -> Result<(), Failure> {
        loop {
            while let Ok(message) = timeout(ASK_EVERY, messages.next()).await {
                let (Some(message), Some(signal)) = (message, changed.upgrade()) else { return Ok(()) };
                if message.get_payload_bytes() != self.own.as_bytes() {
                    signal.raise();
                }
            }
            // Subscribing again changes nothing, but only a working connection confirms it.
            let asked = timeout(self.deadline, sink.subscribe(&self.channel)).await;
            asked.map_err(|_| Failure::Deadline)?.map_err(Failure::driver)?;
        }
    }
}
