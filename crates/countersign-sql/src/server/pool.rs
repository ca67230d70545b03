//! Connections that are kept open, and lent to one operation at a time.
//!
//! This crate does not use sqlx's own pool, for two reasons. That pool asks the server a question after each use,
//! before the connection is lent again: a second round trip for every statement. And it waits for the answer without a
//! limit: after the network has lost a server, every connection in that state is lost to the pool for as many minutes
//! as TCP goes on trying.
//!
//! Here a connection goes back at once after an operation that came to its end. It is dropped, and its socket closed,
//! after an operation that was interrupted by its deadline, its caller or the network. Idle connections are checked in
//! the background.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sqlx::{Connection as _, Database};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::Server;

/// How often idle connections are checked.
const ROUND: Duration = Duration::from_secs(10);
/// After how many rounds without use a connection is closed: 10 minutes.
const MAX_IDLE_ROUNDS: u32 = 60;
/// After how many rounds a connection is replaced, so that connections spread over the servers behind a name: half an
/// hour.
const MAX_ROUNDS: u32 = 180;

/// A connection to a server.
type Connection<S> = <<S as Server>::Driver as Database>::Connection;

/// Lends connections to one server.
#[derive(Debug)]
pub(crate) struct Pool<S: Server> {
    shared: Arc<Shared<S>>,
}

impl<S: Server> Clone for Pool<S> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

struct Shared<S: Server> {
    server: S,
    size: u32,
    permits: Arc<Semaphore>,
    /// The idle connections. The one used last is at the end, and is lent next.
    idle: Mutex<Vec<Idle<Connection<S>>>>,
    /// The number of rounds so far.
    round: AtomicU32,
    /// Raised when a connection did not answer. It may have waited for a lock, or the server may be out of reach.
    suspicion: Arc<Notify>,
}

impl<S: Server> fmt::Debug for Shared<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not all fields: the way to reach the server may hold the password.
        f.debug_struct("Shared").field("size", &self.size).finish_non_exhaustive()
    }
}

struct Idle<C> {
    connection: C,
    /// The round in which the connection was opened.
    opened: u32,
    /// The round in which the connection was used last.
    used: u32,
    /// The round in which the connection was last known to answer.
    answered: u32,
}

/// A connection lent to one operation. It is closed unless it is [given back](Lease::give_back).
pub(crate) struct Lease<S: Server> {
    /// `None` once the connection was given back.
    connection: Option<Connection<S>>,
    opened: u32,
    shared: Arc<Shared<S>>,
    _permit: OwnedSemaphorePermit,
}

impl<S: Server> Pool<S> {
    /// Opens at most so many connections, each when it is needed. It must be called within a tokio runtime.
    pub(crate) fn new(server: S, size: u32, deadline: Duration) -> Self {
        let suspicion = Arc::new(Notify::new());
        let permits = usize::try_from(size).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let shared = Arc::new(Shared {
            server,
            size,
            permits: Arc::new(Semaphore::new(permits)),
            idle: Mutex::new(Vec::new()),
            round: AtomicU32::new(0),
            suspicion: suspicion.clone(),
        });
        tokio::spawn(look_after(Arc::downgrade(&shared), suspicion, deadline));
        Self { shared }
    }

    /// Waits for a connection. The caller sets the deadline.
    pub(crate) async fn lend(&self) -> Result<Lease<S>, sqlx::Error> {
        let shared = self.shared.clone();
        let permit = shared.permits.clone().acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = shared.idle().pop();
        let (connection, opened) = match idle {
            Some(idle) => (idle.connection, idle.opened),
            None => (shared.server.connect().await?, shared.round()),
        };
        Ok(Lease { connection: Some(connection), opened, shared, _permit: permit })
    }

    /// Closes the idle connections, because one was found to be dead and so the others probably are too.
    pub(crate) fn distrust_idle(&self) {
        self.shared.idle().clear();
    }

    /// Lends no more connections, and closes the idle ones. The lent ones are closed when they come back.
    pub(crate) async fn close(&self, deadline: Duration) {
        self.shared.permits.close();
        let idle = std::mem::take(&mut *self.shared.idle());
        let closing = async {
            for idle in idle {
                let _closing_anyway = idle.connection.close().await;
            }
        };
        let _closing_anyway = tokio::time::timeout(deadline, closing).await;
    }
}

impl<S: Server> Shared<S> {
    fn idle(&self) -> MutexGuard<'_, Vec<Idle<Connection<S>>>> {
        // No code panics between two changes that belong together.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn round(&self) -> u32 {
        self.round.load(Ordering::Relaxed)
    }

    /// Tests one of the chosen idle connections, in the place of one that would be lent, and closes all idle ones if it
    /// does not answer. Returns whether there was a connection to test.
    async fn test(&self, deadline: Duration, of_these: impl Fn(&Idle<Connection<S>>) -> bool) -> bool {
        let Ok(_permit) = self.permits.clone().try_acquire_owned() else { return false };
        let found = {
            let mut idle = self.idle();
            let found = idle.iter().position(of_these);
            found.map(|found| idle.remove(found))
        };
        let Some(mut found) = found else { return false };
        match tokio::time::timeout(deadline, found.connection.ping()).await {
            Ok(Ok(())) => {
                found.answered = self.round();
                // The tested connection goes to the front, so it is the last to be lent.
                self.idle().insert(0, found);
            }
            Ok(Err(_)) | Err(_) => self.idle().clear(),
        }
        true
    }
}

impl<S: Server> Lease<S> {
    /// The server that the connection leads to.
    pub(crate) fn server(&self) -> &S {
        &self.shared.server
    }

    /// The connection.
    pub(crate) fn connection(&mut self) -> Result<&mut Connection<S>, sqlx::Error> {
        self.connection.as_mut().ok_or(sqlx::Error::WorkerCrashed)
    }

    /// Gives the connection back for the next operation. It must work, and have no transaction open.
    pub(crate) fn give_back(mut self) {
        if let Some(connection) = self.connection.take()
            && !self.shared.permits.is_closed()
        {
            let (opened, used) = (self.opened, self.shared.round());
            self.shared.idle().push(Idle { connection, opened, used, answered: used });
        }
    }
}

impl<S: Server> Drop for Lease<S> {
    fn drop(&mut self) {
        // A connection that is dropped with its lease was interrupted.
        if self.connection.is_some() {
            self.shared.suspicion.notify_one();
        }
    }
}

/// Closes connections that nobody needs, and finds dead ones before somebody needs them. Ends with the pool.
async fn look_after<S: Server>(pool: Weak<Shared<S>>, suspicion: Arc<Notify>, deadline: Duration) {
    loop {
        let is_suspected = tokio::time::timeout(ROUND, suspicion.notified()).await.is_ok();
        let Some(shared) = pool.upgrade() else { return };
        if is_suspected {
            // If this connection is dead, so are the others, and no caller has to wait to find out.
            shared.test(deadline, |_| true).await;
            continue;
        }
        let round = shared.round.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        shared.idle().retain(|idle| {
            round.wrapping_sub(idle.used) < MAX_IDLE_ROUNDS && round.wrapping_sub(idle.opened) < MAX_ROUNDS
        });
        while shared.test(deadline, |idle| round.wrapping_sub(idle.answered) > 1).await {}
    }
}
