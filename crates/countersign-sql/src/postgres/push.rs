//! Notifies the other nodes at once of what was revoked, and listens for their notifications. Both are best effort: a
//! node that hears nothing polls.

use std::sync::{Arc, Weak};
use std::time::Duration;

use countersign_core::store::ChangeSignal;
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::Notify;

use super::Statement;
use super::driver::RouteFor;
use super::options::PostgresOptions;
use super::server::{Role, Route};
use crate::OpenError;
use crate::server::{Followed, Operations, Task, keep_up};

/// The channel of the notifications. One is sent after an entry was committed.
const CHANNEL: &str = "countersign_revocation";

const IS_ALIVE: &str = "SELECT 1";

/// How long the connection may be silent before it is tested: some networks lose a server without a sign.
const SILENCE: Duration = Duration::from_secs(30);

/// Notifies every node that listens. A pooler passes the notification on to the server, too.
fn notify() -> Statement {
    Statement::new("SELECT pg_notify($1, '')").bind(CHANNEL)
}

/// Sends the notifications that are asked for. All that are asked for while one is being sent become one.
///
/// A notification inside the transaction that writes would make all commits of the whole server wait for one another,
/// because PostgreSQL sends notifications in the order of commits. So this task sends it after the commit, and nobody
/// waits for it.
pub(super) fn announce(work: Operations<RouteFor>, wanted: Arc<Notify>) -> Task {
    Task::spawn(async move {
        loop {
            wanted.notified().await;
            if let Err(error) = work.write("announce a revocation", notify()).await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "could not announce a revocation; other nodes learn of it when they poll"
                );
            }
        }
    })
}

/// The route on which to listen: the one of the URL for listening, or the route of the work if it leads straight to the
/// server. `None` if neither can be used.
pub(super) async fn route(work: &Route, options: &PostgresOptions) -> Option<Route> {
    const WITHOUT: &str = "learning of other nodes' revocations by polling alone";
    match &options.listen {
        None if work.is_direct() => Some(work.clone()),
        None => {
            tracing::info!(
                "a pooler is in between, which carries no notifications, and no listen URL is set; {WITHOUT}"
            );
            None
        }
        Some(server) => match Route::to_listen(server.clone(), options.settings.deadline).await {
            Ok(Some(route)) => Some(route),
            Ok(None) => {
                tracing::warn!("the listen URL leads to a pooler, which carries no notifications; {WITHOUT}");
                None
            }
            // A server that does not answer now may answer later.
            Err(OpenError::Deadline) => Some(Route::straight(server.clone(), options.settings.deadline)),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "could not connect to the listen URL; {WITHOUT} until that works"
                );
                Some(Route::straight(server.clone(), options.settings.deadline))
            }
        },
    }
}

/// Raises the signal when another node announces a revocation, and whenever announcements may have been missed.
pub(super) fn listen(route: Route, deadline: Duration, changed: Weak<ChangeSignal>) -> Task {
    Task::spawn(keep_up("listen for", changed, move |changed| {
        let route = route.clone();
        async move {
            let mut worked = false;
            let ended = hear(&route, deadline, &changed, &mut worked).await;
            Followed { worked, ended: ended.map_err(Into::into) }
        }
    }))
}

/// Listens until the connection fails or the store is gone.
async fn hear(
    route: &Route,
    deadline: Duration,
    changed: &Weak<ChangeSignal>,
    worked: &mut bool,
) -> Result<(), sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(deadline)
        .connect_lazy_with(route.options(Role::Listen));
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.eager_reconnect(false);
    within(deadline, listener.listen(CHANNEL)).await?;
    *worked = true;
    // From here on nothing is missed; before this point something may have been.
    loop {
        match changed.upgrade() {
            Some(signal) => signal.raise(),
            None => return Ok(()),
        }
        loop {
            match tokio::time::timeout(SILENCE, listener.try_recv()).await {
                Ok(Ok(Some(_))) => break,
                Ok(Ok(None)) => return Err(sqlx::Error::Io(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    within(deadline, sqlx::query(IS_ALIVE).persistent(false).execute(&mut listener)).await?;
                    if changed.strong_count() == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }
}

async fn within<T>(
    deadline: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    let timed_out = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    tokio::time::timeout(deadline, answer).await.map_err(timed_out)?
}
