//! Why Redis did not answer, in words that hold no key, no argument, no script and no password.

use redis::{RedisError, ServerError};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// It took too long. Whether a write was made is not known.
    #[error("no answer before the deadline")]
    Deadline,
    /// The connection could not be made, or was lost; then whether a write was made is not known.
    #[error("no connection to Redis")]
    Connection(#[source] RedisError),
    /// Redis refused.
    #[error("Redis answered {0}")]
    Server(String),
    /// The write was made, but not enough replicas have confirmed it in time.
    #[error("{confirmed} of {wanted} replicas have confirmed the write")]
    Replicas {
        /// How many have.
        confirmed: i64,
        /// How many must.
        wanted: u32,
    },
    /// Redis holds what this program never writes.
    #[error("what is stored as {0} is malformed")]
    Malformed(&'static str),
    /// An account has this id already.
    #[error("there is an account with this id")]
    AccountIdTaken,
}

impl Failure {
    /// What the server said. Errors without a code of their own repeat what they were sent, so they are not shown.
    pub(crate) fn server(error: &ServerError) -> Self {
        Self::Server(match (error.code(), error.details()) {
            (code @ ("ERR" | "NOSCRIPT"), _) | (code, None) => code.to_owned(),
            (code, Some(details)) => format!("{code} {details}"),
        })
    }

    /// What the driver said.
    pub(crate) fn driver(error: RedisError) -> Self {
        match error.code() {
            Some(code) => Self::Server(code.to_owned()),
            None => Self::Connection(error),
        }
    }
}
