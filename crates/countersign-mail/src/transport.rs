//! The ways that a message leaves by.

use std::fmt;

use async_trait::async_trait;

use crate::Message;

/// A way that messages leave by.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Hands one message over. When this returns `Ok`, the next server has taken it.
    ///
    /// The call ends within a bounded time, whatever the server does. A call that is dropped leaves nothing behind that
    /// a later call would stumble over.
    async fn send(&self, message: &Message) -> Result<(), SendError>;

    /// Gives back what is kept between messages, such as an open connection. A later [`Transport::send`] works
    /// nevertheless.
    async fn rest(&self);
}

/// The reason why a message could not be handed over.
///
/// The texts are the mail server's own and may name the recipient.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The message or its recipient was refused for good (5xx, RFC 5321 §4.2.1). Another attempt would meet the same
    /// refusal.
    #[error("the mail server refuses the message: {reply}")]
    Refused {
        /// The server's answer, or what is wrong with the message.
        reply: String,
    },
    /// The message or its recipient was refused for now (4xx). Other messages may pass.
    #[error("the mail server does not take the message now: {reply}")]
    Deferred {
        /// The server's answer.
        reply: String,
    },
    /// The mail server cannot be used now, whatever the message: no connection, no TLS, no login, no answer in time, or
    /// the sender is refused.
    #[error("the mail server cannot be used: {problem}")]
    Unavailable {
        /// What went wrong, and what to do where that is known.
        problem: String,
    },
}

impl SendError {
    /// Whether another attempt would fail too, so that there is none.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// Whether every other message would fail now too.
    #[must_use]
    pub const fn concerns_all(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    pub(crate) fn unavailable(problem: impl Into<String>) -> Self {
        Self::Unavailable { problem: problem.into() }
    }
}
