//! Calling the driver: never longer than the deadline, never more calls at a time than there are connections, and with
//! errors that hold no document.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::store::BoxError;
use mongodb::error::{Error, ErrorKind, WriteFailure};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The connections of one purpose. Callers wait for a connection here and not in the driver, because a call that waits
/// in the driver cannot be cancelled: after a pause of the server, it would first work off thousands of calls whose
/// callers have gone.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    connections: Arc<Semaphore>,
    give_up: Duration,
}

/// Why a call failed. The server's own words are left out, because they quote documents (with names and hashes in them)
/// and whole commands.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("no answer before the deadline")]
    Deadline,
    #[error("the server answered with error {code} {name}")]
    Server { code: i32, name: String },
    #[error("the write was not confirmed by as many servers as it has to be (error {code} {name})")]
    NotConfirmed { code: i32, name: String },
    #[error("{0}")]
    Connection(String),
    #[error("{0}")]
    Driver(&'static str),
    #[error("the field {field} holds an invalid value")]
    Malformed {
        field: &'static str,
        #[source]
        source: BoxError,
    },
    #[error("the driver did not understand the answer")]
    NotUnderstood,
    #[error("the number is too large to be kept")]
    TooLarge,
    #[error("the registration took so long that another one was given its name")]
    RegistrationOvertaken,
    #[error("the store was closed")]
    Closed,
}

impl Lane {
    /// A lane with this many connections. After `give_up`, a call whose caller has gone frees its connection.
    pub(crate) fn new(connections: usize, give_up: Duration) -> Self {
        Self { connections: Arc::new(Semaphore::new(connections)), give_up }
    }

    /// Waits for the call's answer.
    ///
    /// The call runs in a task of its own, because the driver's calls are to be run to their end (according to its
    /// README). A caller that goes away, or whose deadline passes, leaves the call running and begins no other.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        call: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Failure> {
        let connection = self.connections.clone().acquire_owned().await.map_err(|_| Failure::Closed)?;
        let give_up = self.give_up;
        let call = tokio::spawn(async move {
            // The driver's monitor notices a dead server, but behind a load balancer there is no monitor.
            let answer = timeout(give_up, call).await;
            drop(connection);
            answer
        });
        match call.await {
            Ok(Ok(answer)) => answer.map_err(Failure::from),
            Ok(Err(_)) => Err(Failure::Deadline),
            Err(_) => Err(Failure::Driver("the driver's call did not end")),
        }
    }

    /// Waits for the call's answer as [`Lane::run`] does, and repeats the call while the server asks for it, because
    /// the write lost against another one and did nothing.
    pub(crate) async fn run_again<T, F>(&self, mut call: impl FnMut() -> F + Send) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let mut tries = 0;
        loop {
            match self.run(call()).await {
                Err(Failure::Server { code: WRITE_CONFLICT, .. }) if tries < TRIES => {
                    tries += 1;
                    pause(tries).await;
                }
                answer => return answer,
            }
        }
    }
}

/// Waits for an answer, at most until the deadline.
pub(crate) async fn within<T>(
    deadline: Duration,
    answer: impl Future<Output = Result<T, Failure>> + Send,
) -> Result<T, Failure> {
    timeout(deadline, answer).await.unwrap_or(Err(Failure::Deadline))
}

/// Pauses before the next try, longer each time, so that the conflicting operation can finish.
pub(crate) async fn pause(tries: u32) {
    tokio::time::sleep(Duration::from_millis(u64::from(tries.min(20)))).await;
}

/// The number of times that a write is repeated after losing against another one.
const TRIES: u32 = 5;

const WRITE_CONFLICT: i32 = 112;

impl Failure {
    pub(crate) fn server(code: i32, name: &str) -> Self {
        Self::Server { code, name: name.to_owned() }
    }

    pub(crate) fn malformed(field: &'static str, source: impl Into<BoxError>) -> Self {
        Self::Malformed { field, source: source.into() }
    }

    /// The error code with which the server answered; `None` for a failure without one.
    pub(crate) fn code(&self) -> Option<i32> {
        match self {
            Self::Server { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether a unique index, that of `_id` or another, already has the value.
    pub(crate) fn is_duplicate(&self) -> bool {
        self.code().is_some_and(is_duplicate)
    }

    /// Whether the server does not know the command, or does not support it in the mode in which it runs.
    pub(crate) fn is_not_implemented(&self) -> bool {
        /// In this order: illegal operation, not authorized, unknown command, cannot create index, invalid options,
        /// command not supported, invalid index option, not implemented, unknown pipeline stage, change streams need a
        /// replica set.
        const CODES: [i32; 10] = [20, 13, 59, 67, 72, 115, 197, 238, 40_324, 40_573];
        match self {
            Self::Server { code, .. } => CODES.contains(code),
            // mongo-java-server refuses change streams with an error without a code, which the driver does not accept.
            Self::NotUnderstood => true,
            _ => false,
        }
    }
}

/// Whether the code of a write error means that a unique index already has the value.
pub(crate) fn is_duplicate(code: i32) -> bool {
    matches!(code, 11_000 | 11_001 | 12_582)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match *error.kind {
            ErrorKind::Command(error) => Self::server(error.code, &error.code_name),
            ErrorKind::Write(WriteFailure::WriteError(error)) => {
                Self::server(error.code, error.code_name.as_deref().unwrap_or_default())
            }
            ErrorKind::Write(WriteFailure::WriteConcernError(error)) => {
                Self::NotConfirmed { code: error.code, name: error.code_name }
            }
            // These errors name servers and what is wrong with the connection to them.
            ErrorKind::Io(error) => Self::Connection(format!("the connection failed: {error}")),
            ErrorKind::ServerSelection { message, .. } => Self::Connection(message),
            ErrorKind::DnsResolve { message, .. } => Self::Connection(message),
            ErrorKind::InvalidTlsConfig { message, .. } => Self::Connection(message),
            ErrorKind::ConnectionPoolCleared { .. } => {
                Self::Driver("the connection was given up because the server did not answer")
            }
            ErrorKind::IncompatibleServer { message, .. } => Self::Connection(message),
            ErrorKind::Authentication { .. } => Self::Driver("the server did not accept the credentials"),
            ErrorKind::Shutdown => Self::Closed,
            ErrorKind::InvalidArgument { .. } => Self::Driver("the driver did not accept an argument"),
            ErrorKind::InvalidResponse { .. } => Self::NotUnderstood,
            _ => Self::Driver("the driver failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_for_a_connection_can_be_called_off_and_what_has_one_goes_on() {
        let lane = Lane::new(1, Duration::from_secs(60));
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let (done, mut is_done) = tokio::sync::oneshot::channel();
        let first = lane.run(async move {
            let _gone = wait.await;
            let _gone = done.send(());
            Ok(())
        });
        assert!(timeout(Duration::from_millis(10), first).await.is_err(), "it waits for us");
        let second = lane.run(async { Ok(()) });
        assert!(timeout(Duration::from_millis(10), second).await.is_err(), "the connection is taken");
        assert!(is_done.try_recv().is_err());
        go.send(()).unwrap();
        lane.run(async { Ok(()) }).await.unwrap();
        is_done.try_recv().unwrap();
    }
}
