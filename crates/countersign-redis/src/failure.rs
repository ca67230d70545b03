//! Why Redis did not answer, in words that hold no key, argument, script or password.

use redis::{RedisError, ServerError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command took too long. Whether a write was made is unknown.
    #[error("no answer before the deadline")]
    Deadline,
    /// The connection could not be made, or was lost. If it was lost, whether a write was made is unknown.
    #[error("no connection to Redis")]
    Connection(#[source] RedisError),
    /// Redis refused the command.
    #[error("Redis answered {0}")]
    Server(String),
    /// The write was made, but too few replicas have confirmed it in time.
    #[error("{confirmed} of {wanted} replicas have confirmed the write")]
    Replicas {
        /// The number of replicas that have confirmed.
        confirmed: i64,
        /// The number of replicas that must confirm.
        wanted: u32,
    },
    /// Redis holds a value that this program never writes.
    #[error("malformed data in Redis: {0}")]
    Malformed(&'static str),
    /// The number cannot be kept.
    #[error("the number is too large to be kept")]
    TooLarge,
}

impl Failure {
    /// The failure for a server's error. Errors without a code of their own repeat what they were sent, so their text
    /// is left out.
    pub(crate) fn server(error: &ServerError) -> Self {
        Self::Server(match (error.code(), error.details()) {
            (code @ ("ERR" | "NOSCRIPT"), _) | (code, None) => code.to_owned(),
            (code, Some(details)) => format!("{code} {details}"),
        })
    }

    /// The failure for a driver's error.
    pub(crate) fn driver(error: RedisError) -> Self {
        match error.code() {
            Some(code) => Self::Server(code.to_owned()),
            None => Self::Connection(error),
        }
    }
}
