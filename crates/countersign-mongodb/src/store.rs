//! The store: opening it, closing it, and the parts that all operations share.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::store::{ChangeSignal, StoreError};
use countersign_jwt::Timestamp;
use mongodb::bson::Document;
use mongodb::options::{ClientOptions, ReadConcern};
use mongodb::{Client, Database};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use crate::STORE_NAME;
use crate::call::{Failure, Lane, within};
use crate::locks::{Locks, Turn};
use crate::options::{MongodbOptions, OpenError};
use crate::push::Listener;
use crate::records::Records;
use crate::{schema, server};

/// All of Countersign's stores in one MongoDB database.
///
/// The store runs a task that listens for what other nodes write, so it is opened and used within one tokio runtime.
pub struct MongodbStore {
    pub(crate) sessions: Records,
    pub(crate) log: Records,
    pub(crate) token_batches: Records,
    pub(crate) accounts: Records,
    pub(crate) names: Records,
    pub(crate) secrets: Records,
    pub(crate) devices: Records,
    pub(crate) admin_keys: Records,
    pub(crate) audit: Records,
    pub(crate) outbox: Records,
    pub(crate) throttles: Records,
    pub(crate) keys: Records,
    pub(crate) store: Records,
    /// The connections for the tail of the revocation log and the server's time, which must not wait behind other work.
    pub(crate) tail: Tail,
    locks: Locks,
    /// Lets as many operations run as there are connections.
    room: Semaphore,
    /// Lets one list be read at a time, so that a client that asks for many lists delays only other lists.
    list_room: Semaphore,
    pub(crate) changed: Arc<ChangeSignal>,
    /// Notifies the listener of this node's own entries.
    pub(crate) written: Arc<Notify>,
    /// The server's time when the store was opened.
    opened_at: Timestamp,
    updates_are_atomic: bool,
    deadline: Duration,
    weaknesses: Vec<String>,
    client: Client,
    listening: JoinHandle<()>,
}

/// The connections beside the pool.
pub(crate) struct Tail {
    client: Client,
    pub(crate) database: Database,
    pub(crate) lane: Lane,
    pub(crate) log: Records,
}

impl MongodbStore {
    /// Connects to the database and brings its collections up to date, as the options allow. Nodes that do this at the
    /// same time do not disturb each other.
    ///
    /// ```no_run
    /// use countersign_mongodb::{MongodbOptions, MongodbStore, OpenError};
    ///
    /// # async fn open() -> Result<(), OpenError> {
    /// let options = MongodbOptions::from_url("mongodb://app:password@db.example/app?replicaSet=rs0")?;
    /// let store = MongodbStore::open(&options).await?;
    /// for weakness in store.weaknesses() {
    ///     println!("this database breaks a promise: {weakness}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`OpenError`], also when no server could be asked within the deadline.
    pub async fn open(options: &MongodbOptions) -> Result<Self, OpenError> {
        let (mut client_options, mut weaknesses) = options.client().await?;
        let (client, lane) = pool(options, &client_options, options.connections)?;
        let database = client.database(&options.database);
        let hello = within(options.deadline, server::hello(&database, &lane)).await;
        let hello = hello.map_err(|failure| options.failed("connect", failure))?;
        if hello.is_standalone {
            weaknesses.push(
                "the server is no member of a replica set: what it answered is lost with its disk, and it is one machine"
                    .to_owned(),
            );
        }
        // A standalone server may know no read concern but `local`, which is equivalent there.
        let (client, lane, database) = match schema::prepare(options, &database, &lane).await {
            Err(OpenError::Server { .. }) if hello.is_standalone && client_options.read_concern.is_some() => {
                client_options.read_concern = Some(ReadConcern::local());
                let (local, lane) = pool(options, &client_options, options.connections)?;
                let database = local.database(&options.database);
                schema::prepare(options, &database, &lane).await?;
                client.shutdown().immediate(true).await;
                (local, lane, database)
            }
            prepared => {
                prepared?;
                (client, lane, database)
            }
        };
        let records = |name| Records::new(&database, name, &lane);
        let store = records(schema::STORE);

        let looked = within(options.deadline, async {
            let volatile = server::is_volatile(&database, &lane).await?;
            Ok((volatile, server::updates_are_atomic(&store).await?))
        });
        let (volatile, updates_are_atomic) =
            looked.await.map_err(|failure| options.failed("try updates", failure))?;
        if volatile == Some(true) {
            weaknesses.push(
                "the storage engine keeps everything in memory: all is lost when the server stops".to_owned(),
            );
        }
        if !updates_are_atomic {
            weaknesses.push(NOT_ATOMIC.to_owned());
        }
        for weakness in &weaknesses {
            tracing::warn!(servers = options.servers(), "mongodb: {weakness}");
        }

        let (tail_client, _) = pool(options, &client_options, TAIL_CONNECTIONS)?;
        // The other two connections are for the change stream and the bell.
        let tail_lane = Lane::new(2, give_up(options.deadline));
        let tail_database = tail_client.database(&options.database);
        let log = records(schema::LOG);
        let tail = Tail {
            log: log.through(&tail_database, &tail_lane),
            client: tail_client,
            database: tail_database,
            lane: tail_lane,
        };
        let changed = Arc::new(ChangeSignal::new());
        let written = Arc::new(Notify::new());
        let listener = Listener {
            database: tail.database.clone(),
            store: store.through(&tail.database, &Lane::new(1, give_up(options.deadline))),
            deadline: options.deadline,
            changed: Arc::downgrade(&changed),
            written: written.clone(),
        };
        Ok(Self {
            sessions: records(schema::SESSIONS),
            log,
            token_batches: records(schema::TOKEN_BATCHES),
            accounts: records(schema::ACCOUNTS),
            names: records(schema::NAMES),
            secrets: records(schema::SECRETS),
            devices: records(schema::DEVICES),
            admin_keys: records(schema::ADMIN_KEYS),
            audit: records(schema::AUDIT),
            outbox: records(schema::OUTBOX),
            throttles: records(schema::THROTTLES),
            keys: records(schema::KEYS),
            store,
            tail,
            locks: Locks::new(),
            room: Semaphore::new(usize::try_from(options.connections).unwrap_or(usize::MAX)),
            list_room: Semaphore::new(1),
            changed,
            written,
            opened_at: hello.time,
            updates_are_atomic,
            deadline: options.deadline,
            weaknesses,
            client,
            listening: tokio::spawn(listener.run()),
        })
    }

    /// The ways in which the server, or what the URL asks of it, is weaker than the store's promises, and what can be
    /// lost, in one sentence each. Each was logged as well. The list is empty for a replica set or a sharded cluster
    /// with the default settings.
    #[must_use]
    pub fn weaknesses(&self) -> &[String] {
        &self.weaknesses
    }

    /// Closes the connections. Without it, dropping the store closes them a moment later.
    pub async fn close(self) {
        self.listening.abort();
        self.tail.client.clone().shutdown().immediate(true).await;
        self.client.clone().shutdown().immediate(true).await;
    }

    /// Whether there are keys in the store. If so, they were sealed with a secret that is still needed.
    ///
    /// # Errors
    /// [`StoreError`] when the server does not answer.
    pub async fn has_keys(&self) -> Result<bool, StoreError> {
        let found = async { Ok(self.keys.find_one(Document::new()).await?.is_some()) };
        self.answer("look for keys", Turn::Any, found).await
    }

    /// Runs an operation, at most until the deadline: waits for its turn, then for room, then for its calls.
    ///
    /// No more operations begin than there are connections. Under more work than the server can do, the operations that
    /// have begun are then finished, and the rest end without having done anything. If all operations took their first
    /// step before any took its second, none would finish by its deadline.
    pub(crate) async fn answer<T>(
        &self,
        action: &'static str,
        turn: Turn<'_>,
        operation: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, StoreError> {
        self.answer_beside(action, async {
            let _turn = self.locks.wait(turn, !self.updates_are_atomic).await;
            let _room = self.room.acquire().await.map_err(|_| Failure::Closed)?;
            operation.await
        })
        .await
    }

    /// Runs an operation that reads a list, as [`MongodbStore::answer`] does, but only one list at a time.
    pub(crate) async fn answer_list<T>(
        &self,
        action: &'static str,
        operation: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, StoreError> {
        self.answer_beside(action, async {
            let _list_room = self.list_room.acquire().await.map_err(|_| Failure::Closed)?;
            let _room = self.room.acquire().await.map_err(|_| Failure::Closed)?;
            operation.await
        })
        .await
    }

    /// Runs an operation that has connections of its own, as [`MongodbStore::answer`] does.
    pub(crate) async fn answer_beside<T>(
        &self,
        action: &'static str,
        operation: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, StoreError> {
        let answer = within(self.deadline, operation).await;
        answer.map_err(|failure| StoreError::new(STORE_NAME, action, failure))
    }

    /// Whether the engine settles races between updates under a condition.
    pub(crate) fn updates_are_atomic(&self) -> bool {
        self.updates_are_atomic
    }

    /// A time from which the server counts by its own clock (TTL), whatever clock the callers use. It is the server's
    /// time when the store was opened, or the callers' time if that is later.
    pub(crate) fn not_before_opening(&self, time: Timestamp) -> Timestamp {
        self.opened_at.max(time)
    }

    /// Notes that the log has grown by more than a heartbeat.
    pub(crate) fn has_written(&self) {
        self.written.notify_one();
    }
}

impl fmt::Debug for MongodbStore {
    /// Omits the driver's own clients, which hold the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongodbStore")
            .field("database", &self.tail.database.name())
            .field("deadline", &self.deadline)
            .field("weaknesses", &self.weaknesses)
            .finish_non_exhaustive()
    }
}

impl Drop for MongodbStore {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Brings the collections of a database up to date, for a command line.
///
/// # Errors
/// [`OpenError`]; then the collections are as before, but some of the new indexes may already exist.
pub async fn migrate(options: &MongodbOptions) -> Result<(), OpenError> {
    MongodbStore::open(&options.clone().run_migrations(true)).await?.close().await;
    Ok(())
}

fn pool(
    options: &MongodbOptions,
    client_options: &ClientOptions,
    connections: u32,
) -> Result<(Client, Lane), OpenError> {
    let mut client_options = client_options.clone();
    client_options.max_pool_size = Some(connections);
    if client_options.min_pool_size.is_some_and(|min| min > connections) {
        client_options.min_pool_size = Some(connections);
    }
    let client = Client::with_options(client_options);
    let client = client.map_err(|error| options.failed("set up the driver", error.into()))?;
    let connections = usize::try_from(connections).unwrap_or(usize::MAX);
    Ok((client, Lane::new(connections, give_up(options.deadline))))
}

/// The time after which a call whose caller has gone frees its connection.
fn give_up(deadline: Duration) -> Duration {
    deadline.saturating_mul(4)
}

/// The weakness of an engine that does not settle races between updates.
pub(crate) const NOT_ATOMIC: &str = "updates under a condition are not atomic: replay detection, the brake on guessing \
    passwords, the single use of mailed secrets, the single sending of mails and the limit of revoked tokens are best \
    effort between nodes; ends, epochs and names are not concerned";

/// The tail's connections: two for the tail, heartbeats and the time; one for the stream; one for the bell.
const TAIL_CONNECTIONS: u32 = 4;
