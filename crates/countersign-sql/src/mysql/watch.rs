//! Notices soon what other nodes have written into the log. MySQL sends no notifications, so the log is looked at.

use std::sync::Weak;
use std::time::Duration;

use countersign_core::store::{BoxError, ChangeSignal};
use sqlx::MySqlConnection;
use tokio::time::MissedTickBehavior;

use super::Statement;
use super::server::{Role, Route};
use crate::server::{Followed, Task, keep_up};

/// How often the log is looked at. The interval is a fraction of the time that a revocation may take to arrive, and a
/// look is less than a tenth of a millisecond of work, as it touches some entries of one index.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How far back a look reaches, at least. An entry's `at` is its writer's time before the commit. An entry that becomes
/// visible later than this is left to the next poll.
const WINDOW_MILLIS: i64 = 2_000;

/// The server's time, the number of entries since some time, and the sum of their times. An entry that is added, or
/// written again with a later time, changes the number or the sum. Heartbeats are left out, because they are no news to
/// anybody. Everything that the statement reads is in the index.
pub(super) fn look(since: i64) -> Statement<(i64, i64, i64)> {
    Statement::new(
        "
    SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000,
        COUNT(*), CAST(COALESCE(SUM(at - ?), 0) AS SIGNED)
    FROM countersign_revocation FORCE INDEX (at)
    WHERE at >= ? AND kind <> 'node'",
    )
    .bind(since)
    .bind(since)
}

/// What a look has found since some time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Seen {
    since: i64,
    entries: i64,
    sum: i64,
}

/// Raises the signal whenever the log has something new, from any node, and whenever something may have been missed.
pub(super) fn watch(route: Route, deadline: Duration, changed: Weak<ChangeSignal>) -> Task {
    Task::spawn(keep_up("look for", changed, move |changed| {
        let route = route.clone();
        async move {
            let mut worked = false;
            let ended = follow(&route, deadline, &changed, &mut worked).await;
            Followed { worked, ended }
        }
    }))
}

/// Looks until a look fails or the store is gone.
async fn follow(
    route: &Route,
    deadline: Duration,
    changed: &Weak<ChangeSignal>,
    worked: &mut bool,
) -> Result<(), BoxError> {
    let mut connection = route.connect(Role::Work).await?;
    let (now, _) = seen(&mut connection, deadline, i64::MAX).await?;
    let (_, mut known) = seen(&mut connection, deadline, now.saturating_sub(WINDOW_MILLIS)).await?;
    *worked = true;
    // From here on nothing is missed; before this point something may have been.
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
            // The new window is looked at before the last look at the old one, so that nothing falls between them.
            let (_, next) = seen(&mut connection, deadline, now.saturating_sub(WINDOW_MILLIS)).await?;
            let (_, last) = seen(&mut connection, deadline, known.since).await?;
            is_new |= last != known;
            known = next;
        }
    }
}

/// The server's time, and what the log has since some time.
async fn seen(
    connection: &mut MySqlConnection,
    deadline: Duration,
    since: i64,
) -> Result<(i64, Seen), BoxError> {
    let look = look(since);
    let rows = tokio::time::timeout(deadline, look.all(connection)).await??;
    let (now, entries, sum) = rows.into_iter().next().ok_or(sqlx::Error::RowNotFound)?;
    Ok((now, Seen { since, entries, sum }))
}
