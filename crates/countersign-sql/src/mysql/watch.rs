//! Noticing soon what other nodes have written into the log. MySQL tells nobody, so it is asked.

use std::sync::Weak;
use std::time::Duration;

use countersign_core::store::{BoxError, ChangeSignal};
use sqlx::MySqlConnection;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::server::{Role, Route};

/// How often the log is looked at: a fraction of what a revocation may take to arrive, and less than a tenth of a
/// millisecond of work, as it touches some entries of one index.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How far back it is looked, at least. An entry's `at` is its writer's, from before it was committed; what becomes
/// visible later than that is left to the next poll.
const WINDOW_MILLIS: i64 = 2_000;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The server's time, the number of entries since some time, and the sum of their times from then on: any entry that
/// comes, or comes again with a later time, changes one of the two. Heartbeats are nobody's news. All that is asked
/// for is in the index.
pub(super) const LOOK: &str = "
    SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000,
        COUNT(*), CAST(COALESCE(SUM(at - ?), 0) AS SIGNED)
    FROM countersign_revocation FORCE INDEX (at)
    WHERE at >= ? AND kind <> 'node'";

/// A task that ends when it is dropped.
#[derive(Debug)]
pub(super) struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What was found since some time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Seen {
    since: i64,
    entries: i64,
    sum: i64,
}

/// Raises the signal whenever there is something new, by whomever, and whenever something may have been missed.
pub(super) fn watch(route: Route, deadline: Duration, changed: Weak<ChangeSignal>) -> Task {
    Task(tokio::spawn(async move {
        let mut pause = FIRST_PAUSE;
        let mut complained = false;
        while changed.strong_count() > 0 {
            let Err(error) = look(&route, deadline, &changed, &mut pause).await else { return };
            // Once, not at each try: it may go on for long, and polling does the work.
            if complained {
                tracing::debug!(error = &*error, "cannot look for revocations");
            } else {
                complained = true;
                tracing::warn!(
                    error = &*error,
                    "cannot look for other nodes' revocations; learning of them by polling until that works"
                );
            }
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        }
    }))
}

/// Looks until that fails, or the store is gone.
async fn look(
    route: &Route,
    deadline: Duration,
    changed: &Weak<ChangeSignal>,
    pause: &mut Duration,
) -> Result<(), BoxError> {
    let mut connection = route.connect(Role::Work).await?;
    let (now, _) = seen(&mut connection, deadline, i64::MAX).await?;
    let (_, mut known) = seen(&mut connection, deadline, now.saturating_sub(WINDOW_MILLIS)).await?;
    *pause = FIRST_PAUSE;
    // From here on nothing is missed; until here it may have been.
    let mut is_new = true;
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let Some(signal) = changed.upgrade() else { return Ok(()) };
        if is_new {
            signal.raise();
        }
        drop(signal);
        ticks.tick().await;
        let (now, found) = seen(&mut connection, deadline, known.since).await?;
        is_new = found != known;
        known = found;
        if now.saturating_sub(known.since) > 2 * WINDOW_MILLIS {
            // The new window is looked at before the old one is for the last time, so that nothing falls between them.
            let (_, next) = seen(&mut connection, deadline, now.saturating_sub(WINDOW_MILLIS)).await?;
            let (_, last) = seen(&mut connection, deadline, known.since).await?;
            is_new |= last != known;
            known = next;
        }
    }
}

/// The server's time, and what there is since some time.
async fn seen(
    connection: &mut MySqlConnection,
    deadline: Duration,
    since: i64,
) -> Result<(i64, Seen), BoxError> {
    let query = sqlx::query_as(LOOK).bind(since).bind(since).fetch_one(connection);
    let (now, entries, sum) = tokio::time::timeout(deadline, query).await??;
    Ok((now, Seen { since, entries, sum }))
}
