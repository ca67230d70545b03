//! Connections that are kept open, and lent to one operation at a time.
//!
//! Not sqlx's own pool, for two reasons. It asks the server a question after each use, before the connection is lent
//! again: a second round trip for every statement. And it waits for that answer as long as it takes: after the
//! network has swallowed a server, every connection in that state is lost to the pool for as many minutes as TCP goes
//! on trying.
//!
//! Here a connection goes back at once after an operation that came to its end, and is dropped, its socket closed,
//! after one that was interrupted by its deadline, its caller or the network. Idle connections are looked after in
//! the background.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sqlx::{Connection, MySqlConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::options::OpenError;
use super::server::{Role, Route};

/// How often idle connections are looked after.
const ROUND: Duration = Duration::from_secs(10);
/// In how many rounds a connection is closed that nobody needed: 10 minutes.
const MAX_IDLE_ROUNDS: u32 = 60;
/// In how many rounds a connection is replaced, so that they spread over the servers behind a name: half an hour.
const MAX_ROUNDS: u32 = 180;

/// Lends connections.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    route: Route,
    size: u32,
    permits: Arc<Semaphore>,
    /// The one used last is at the end, and is lent next.
    idle: Mutex<Vec<Idle>>,
    /// Counts the rounds.
    round: AtomicU32,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Connections cannot be printed.
        f.debug_struct("Shared").field("route", &self.route).field("size", &self.size).finish_non_exhaustive()
    }
}

struct Idle {
    connection: MySqlConnection,
    /// The round in which it was opened.
    opened: u32,
    /// The round in which it was used last.
    used: u32,
    /// The round in which it was last known to answer.
    answered: u32,
}

/// A connection for one operation. Unless it is [given back](Lease::give_back), it is closed.
#[derive(Debug)]
pub(super) struct Lease {
    /// `None` once it was given back.
    connection: Option<MySqlConnection>,
    opened: u32,
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    /// At most so many connections, opened when they are needed. To be made within a tokio runtime.
    pub(super) fn new(route: Route, size: u32, deadline: Duration) -> Self {
        let permits = usize::try_from(size).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let shared = Arc::new(Shared {
            route,
            size,
            permits: Arc::new(Semaphore::new(permits)),
            idle: Mutex::new(Vec::new()),
            round: AtomicU32::new(0),
        });
        tokio::spawn(look_after(Arc::downgrade(&shared), deadline));
        Self { shared }
    }

    /// Waits for a connection; the deadline is the caller's.
    pub(super) async fn lend(&self) -> Result<Lease, sqlx::Error> {
        let shared = self.shared.clone();
        let permit = shared.permits.clone().acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let idle = shared.idle().pop();
        let (connection, opened) = match idle {
            Some(idle) => (idle.connection, idle.opened),
            None => (shared.connect().await?, shared.round()),
        };
        Ok(Lease { connection: Some(connection), opened, shared, _permit: permit })
    }

    /// Closes the idle connections: one was found to be dead, so the others probably are too.
    pub(super) fn distrust_idle(&self) {
        self.shared.idle().clear();
    }

    /// Lends no more, and closes all connections that are idle. Those that are lent are closed when they come back.
    pub(super) async fn close(&self, deadline: Duration) {
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

impl Shared {
    async fn connect(&self) -> Result<MySqlConnection, sqlx::Error> {
        self.route.connect(Role::Work).await.map_err(|error| match error {
            OpenError::MySql(error) => error,
            other => sqlx::Error::config(other),
        })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        // Nothing panics between two changes that belong together.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn round(&self) -> u32 {
        self.round.load(Ordering::Relaxed)
    }
}

impl Lease {
    /// The connection.
    pub(super) fn connection(&mut self) -> Result<&mut MySqlConnection, sqlx::Error> {
        self.connection.as_mut().ok_or(sqlx::Error::WorkerCrashed)
    }

    /// Leaves the connection to the next one: it does what it is told, and has no transaction open.
    pub(super) fn give_back(mut self) {
        if let Some(connection) = self.connection.take()
            && !self.shared.permits.is_closed()
        {
            let (opened, used) = (self.opened, self.shared.round());
            self.shared.idle().push(Idle { connection, opened, used, answered: used });
        }
    }
}

/// Closes what nobody needs, and finds out which connections are dead before somebody needs them. Ends with the pool.
async fn look_after(pool: Weak<Shared>, deadline: Duration) {
    loop {
        tokio::time::sleep(ROUND).await;
        let Some(shared) = pool.upgrade() else { return };
        let round = shared.round.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        shared.idle().retain(|idle| {
            round.wrapping_sub(idle.used) < MAX_IDLE_ROUNDS && round.wrapping_sub(idle.opened) < MAX_ROUNDS
        });
        // Those that nobody has used for a round, each in the place of one that would be lent.
        while let Ok(permit) = shared.permits.clone().try_acquire_owned() {
            let rested = {
                let mut idle = shared.idle();
                let rested = idle.iter().position(|idle| round.wrapping_sub(idle.answered) > 1);
                rested.map(|rested| idle.remove(rested))
            };
            let Some(mut rested) = rested else { break };
            match tokio::time::timeout(deadline, rested.connection.ping()).await {
                Ok(Ok(())) => {
                    rested.answered = round;
                    // To the front: it is the last to be lent.
                    shared.idle().insert(0, rested);
                }
                Ok(Err(_)) | Err(_) => shared.idle().clear(),
            }
            drop(permit);
        }
    }
}
