//! The transport of a server that has no mail server.

use async_trait::async_trait;

use crate::{Message, SendError, Transport};

/// Writes what would have been sent into the log, at the level `info`, with the whole text and so with the one-time
/// links.
///
/// It is for trying things out on one's own machine. Whoever reads the log of a real server could reset any user's
/// password with it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Log;

impl Log {
    /// The transport. Making it logs a warning that no mail is sent.
    #[must_use]
    pub fn new() -> Self {
        tracing::warn!(
            "no mail server is set: mails are not sent but written to this log, one-time links included; set \
             COUNTERSIGN_SMTP_URL to send them"
        );
        Self
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Transport for Log {
    async fn send(&self, message: &Message) -> Result<(), SendError> {
        tracing::info!(
            id = %message.id(),
            to = message.to().as_str(),
            subject = message.content().subject(),
            "mail that is not sent:\n{}",
            message.content().text()
        );
        Ok(())
    }

    async fn rest(&self) {}
}
