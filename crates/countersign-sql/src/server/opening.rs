//! How a server's database is opened: its tables are checked, brought up to date, and its settings judged.

use std::time::Duration;

use sqlx::Database;

use super::MigrationsStanding;
use crate::OpenError;
use crate::statement::Driver;

/// The settings that exist for every server.
#[derive(Clone, Debug)]
pub(crate) struct ServerSettings {
    pub(crate) run_migrations: bool,
    pub(crate) deadline: Duration,
    pub(crate) connections: u32,
}

impl ServerSettings {
    /// The default deadline, 3 s, so that a request gets its 503 while the client still waits.
    pub(crate) const DEADLINE: Duration = Duration::from_secs(3);
    /// The default number of connections, 16, enough to keep some cores of the server busy.
    pub(crate) const CONNECTIONS: u32 = 16;

    pub(crate) fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline.clamp(Duration::from_millis(10), Duration::from_secs(60));
    }

    pub(crate) fn set_connections(&mut self, connections: u32) {
        self.connections = connections.max(1);
    }
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self { run_migrations: true, deadline: Self::DEADLINE, connections: Self::CONNECTIONS }
    }
}

/// The route to a server that is being opened.
pub(crate) trait Way: Sized + Send + Sync {
    /// The driver of this server.
    type Driver: Driver;

    /// The server's name in logs.
    const NAME: &'static str;

    /// The server's settings with which it may lose what it was told to keep, and what may be lost.
    ///
    /// # Errors
    /// [`OpenError::Setting`] if the server could not even accept or keep what it is told.
    fn weaknesses(
        connection: &mut <Self::Driver as Database>::Connection,
    ) -> impl Future<Output = Result<Vec<String>, OpenError>> + Send;

    /// The state of the tables, compared with the changes that are known here.
    fn standing(
        connection: &mut <Self::Driver as Database>::Connection,
    ) -> impl Future<Output = Result<MigrationsStanding, sqlx::Error>> + Send;

    /// Brings the tables up to date.
    fn migrate(&self) -> impl Future<Output = Result<(), OpenError>> + Send;
}

/// Brings the tables up to date, if the settings say so. Returns the server's weaknesses, which are logged.
pub(crate) async fn prepare<W: Way>(
    way: &W,
    connection: &mut <W::Driver as Database>::Connection,
    settings: &ServerSettings,
) -> Result<Vec<String>, OpenError> {
    let looking = async {
        let weaknesses = W::weaknesses(&mut *connection).await?;
        let standing = W::standing(&mut *connection).await.map_err(OpenError::engine)?;
        Ok::<_, OpenError>((weaknesses, standing))
    };
    let looked = tokio::time::timeout(settings.deadline, looking).await;
    let (weaknesses, standing) = looked.map_err(|_| OpenError::Deadline)??;
    for weakness in &weaknesses {
        tracing::warn!("{} is set to lose data: {weakness}", W::NAME);
    }
    match standing {
        MigrationsStanding::Current => {}
        MigrationsStanding::Other(version) => return Err(OpenError::UnknownChange { version }),
        MigrationsStanding::Behind(_) if settings.run_migrations => way.migrate().await?,
        MigrationsStanding::Behind(_) => return Err(OpenError::NotMigrated),
    }
    Ok(weaknesses)
}
