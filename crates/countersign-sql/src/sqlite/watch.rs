//! Notices what other processes have written into the same file, and what was done to the file itself.

use std::sync::Weak;
use std::time::Duration;

use countersign_core::store::ChangeSignal;
use sqlx::SqliteConnection;

use super::connection::{Connector, Role};

/// How often the file is looked at. The interval is a fraction of the time that a revocation may take to arrive, and a
/// look is some microseconds of work.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const AFTER_A_FAILURE: Duration = Duration::from_secs(1);

/// Raises the signal whenever another connection has committed, until the store is gone. SQLite counts the commits of
/// other connections in shared memory, so a look reads no page.
///
/// `connection` must be opened before the store is used: one that is opened while the files are taken away creates new
/// ones.
pub(super) async fn run(connection: SqliteConnection, connector: Connector, changed: Weak<ChangeSignal>) {
    let mut connection = Some(connection);
    while changed.strong_count() > 0 {
        if let Some(connection) = connection.take() {
            // Looking ends with an error or with the store. Neither has to be reported, because the log is polled as
            // well.
            let _ended = look(connection, &connector, &changed).await;
        }
        tokio::time::sleep(AFTER_A_FAILURE).await;
        connection = connector.connect(Role::Reader).await.ok();
    }
}

async fn look(
    mut connection: SqliteConnection,
    connector: &Connector,
    changed: &Weak<ChangeSignal>,
) -> Result<(), sqlx::Error> {
    let mut known = None;
    loop {
        // The check is made so that the program's log says it even if nobody asks for anything. Each operation checks
        // for itself.
        let _said = connector.check_files();
        let version: i64 = sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut connection).await?;
        let Some(signal) = changed.upgrade() else { return Ok(()) };
        if known.replace(version).is_some_and(|known| known != version) {
            signal.raise();
        }
        drop(signal);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
