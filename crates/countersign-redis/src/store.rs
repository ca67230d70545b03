//! The store, and the parts that all its operations share.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_core::store::{ChangeSignal, StoreError};
use countersign_jwt::Timestamp;
use redis::{Cmd, Pipeline, Value};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::convert::Earlier;
use crate::failure::Failure;
use crate::layout::Names;
use crate::link::{Link, Links};
use crate::options::{OpenError, RedisOptions};
use crate::script::{Call, OPEN};
use crate::{answer, convert, durability, text, watch};

/// The name of this engine in errors.
pub(crate) const STORE: &str = "redis";

/// All of Countersign's stores in one Redis.
///
/// The store runs tasks that keep its connections, so it is opened and used within one tokio runtime.
#[derive(Debug)]
pub struct RedisStore {
    links: Links,
    /// The connections of writes that wait for replicas. Such a write delays what is sent after it, so reads use
    /// others.
    waiting: Links,
    /// The connection that reads the tail of the revocation log, which must not wait behind other commands.
    tail: Link,
    pub(crate) names: Names,
    /// Lets one list be read at a time, so that a client that asks for many lists delays only other lists.
    pub(crate) lists: Semaphore,
    pub(crate) changed: Arc<ChangeSignal>,
    listening: JoinHandle<()>,
    /// The name under which this store tells others of changes, so that it can ignore its own messages.
    teller: String,
    deadline: Duration,
    wait_replicas: u32,
    weaknesses: Vec<String>,
    /// The mark of the set of data that this handle has seen.
    mark: Mutex<String>,
    run_migrations: bool,
    has_told_of_loss: AtomicBool,
}

impl RedisStore {
    /// Connects, checks that the server keeps what it answers, and sets up the store if there is none, as the options
    /// allow. Programs that do this at the same time do not disturb each other.
    ///
    /// ```no_run
    /// use countersign_redis::{OpenError, RedisOptions, RedisStore};
    ///
    /// # async fn open() -> Result<(), OpenError> {
    /// let options = RedisOptions::from_url("redis://:password@db.example:6379/0")?.wait_replicas(1);
    /// let store = RedisStore::open(&options).await?;
    /// for weakness in store.weaknesses() {
    ///     println!("this Redis may lose what it has answered: {weakness}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`OpenError`], also when the server is less durable than demanded.
    pub async fn open(options: &RedisOptions) -> Result<Self, OpenError> {
        let tail = Link::new(options.client.clone());
        let by = from_now(options.deadline);
        let weaknesses = durability::check(&tail, options.durability, options.wait_replicas, by).await?;
        for weakness in &weaknesses {
            tracing::warn!(weakness, "Redis may lose what it has answered");
        }
        let names = Names::new(&options.prefix);
        let opened = set_up(&tail, &names, options.run_migrations, options.deadline).await?;
        let Opened { mark, handle } = opened;
        let links = Links::new(&options.client, options.connections);
        let waiting = match options.wait_replicas {
            0 => links.clone(),
            _ => Links::new(&options.client, options.connections.max(WAITING_CONNECTIONS)),
        };
        let teller = format!("{mark}/{handle}");
        let changed = Arc::new(ChangeSignal::new());
        let listening = tokio::spawn(watch::run(
            options.client.clone(),
            names.channel(),
            teller.clone(),
            options.deadline,
            Arc::downgrade(&changed),
        ));
        Ok(Self {
            links,
            waiting,
            tail,
            names,
            lists: Semaphore::new(1),
            changed,
            listening,
            teller,
            deadline: options.deadline,
            wait_replicas: options.wait_replicas,
            weaknesses,
            mark: Mutex::new(mark),
            run_migrations: options.run_migrations,
            has_told_of_loss: AtomicBool::new(false),
        })
    }

    /// The ways in which this server may lose what it has answered, and those that could not be checked. The list is
    /// empty for a server that keeps everything. Each weakness was logged as a warning when the store was opened.
    #[must_use]
    pub fn weaknesses(&self) -> &[String] {
        &self.weaknesses
    }

    /// Closes the connections. Dropping the store closes them as well.
    pub async fn close(mut self) {
        self.listening.abort();
        let _ended = (&mut self.listening).await;
    }

    /// Whether there are keys in the store. If so, they were sealed with a secret that is still needed.
    ///
    /// # Errors
    /// [`StoreError`] when Redis does not answer.
    pub async fn has_keys(&self) -> Result<bool, StoreError> {
        let op = self.op("look for keys");
        let mut command = redis::cmd("EXISTS");
        command.arg(self.names.keys());
        let found = op.query(&command).await?;
        op.value(answer::yes(&found))
    }

    /// The server's time. Reading it also detects that the server's data is gone.
    pub(crate) async fn server_time(&self) -> Result<Timestamp, StoreError> {
        let op = self.op("read the time");
        let mut pipeline = Pipeline::new();
        pipeline.cmd("TIME").cmd("HGET").arg(self.names.meta()).arg("mark");
        let (time, mark) = op.value(self.tail.query_all(&pipeline, op.by).await.and_then(read_time))?;
        if mark.as_deref() != Some(&*self.known_mark()) {
            self.tell_of_loss().await;
        }
        Ok(time)
    }

    fn known_mark(&self) -> String {
        self.mark.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reports that the set of data is another one: the server was restarted without its data, or somebody deleted it.
    async fn tell_of_loss(&self) {
        if !self.has_told_of_loss.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "the data in Redis are gone: all sessions, and every revocation, key and account that was kept there. \
                 Nodes that start from now on accept access tokens that were revoked before, until they expire; to \
                 prevent that, replace the signing keys and restart the nodes"
            );
        }
        // The new set is set up so that nodes that only read can start again, and so that a second loss is reported
        // too.
        if let Ok(opened) = set_up(&self.tail, &self.names, self.run_migrations, self.deadline).await {
            *self.mark.lock().unwrap_or_else(PoisonError::into_inner) = opened.mark;
            self.has_told_of_loss.store(false, Ordering::Relaxed);
        }
    }

    /// Adds the last two arguments of a script that tells other nodes that the log has grown.
    pub(crate) fn announcing(&self, call: Call) -> Call {
        call.arg(self.names.channel()).arg(self.teller.as_str())
    }

    /// Begins an operation, which is answered before the deadline.
    pub(crate) fn op(&self, action: &'static str) -> Op<'_> {
        Op { store: self, action, by: from_now(self.deadline) }
    }
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Sets up the store if there is none, for a command line.
///
/// # Errors
/// [`OpenError`]; then nothing was changed.
pub async fn migrate(options: &RedisOptions) -> Result<(), OpenError> {
    let link = Link::new(options.client.clone());
    let by = from_now(options.deadline);
    durability::check(&link, options.durability, options.wait_replicas, by).await?;
    set_up(&link, &Names::new(&options.prefix), true, options.deadline).await?;
    Ok(())
}

/// One operation: its name for error messages, and its deadline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op<'s> {
    store: &'s RedisStore,
    action: &'static str,
    by: Instant,
}

impl Op<'_> {
    /// Runs a script that only reads.
    pub(crate) async fn read(&self, call: &Call) -> Result<Value, StoreError> {
        self.value(self.link(&self.store.links)?.run(call, self.by).await)
    }

    /// Runs a script that writes.
    pub(crate) async fn write(&self, call: &Call) -> Result<Value, StoreError> {
        let link = self.link(&self.store.waiting)?;
        self.value(match self.store.wait_replicas {
            0 => link.run(call, self.by).await,
            // Replicas get half of the time, so that the error can name them instead of a deadline that passed.
            replicas => link.run_replicated(call, replicas, self.store.deadline / 2, self.by).await,
        })
    }

    /// Runs a script on the connection of the tail.
    pub(crate) async fn run_beside(&self, call: &Call) -> Result<Value, StoreError> {
        self.value(self.store.tail.run(call, self.by).await)
    }

    /// Sends a command that only reads.
    pub(crate) async fn query(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.value(self.link(&self.store.links)?.query(command, self.by).await)
    }

    /// Sends a command on the connection of the tail.
    pub(crate) async fn query_beside(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.value(self.store.tail.query(command, self.by).await)
    }

    /// Runs several steps that share this operation's deadline.
    pub(crate) async fn all<T>(
        &self,
        steps: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        timeout_at(self.by, steps).await.unwrap_or_else(|_| self.value(Err(Failure::Deadline)))
    }

    /// The value, or the failure as this operation's error.
    pub(crate) fn value<T>(&self, outcome: Result<T, Failure>) -> Result<T, StoreError> {
        outcome.map_err(|failure| StoreError::new(STORE, self.action, failure))
    }

    fn link<'l>(&self, links: &'l Links) -> Result<&'l Link, StoreError> {
        self.value(links.next().ok_or(Failure::Deadline))
    }
}

struct Opened {
    mark: String,
    handle: i64,
}

/// Finds the store in this program's layout, or sets it up if `create` allows it. The deadline applies to each step.
async fn set_up(link: &Link, names: &Names, create: bool, deadline: Duration) -> Result<Opened, OpenError> {
    loop {
        let call = OPEN.on([names.meta()]).arg(LAYOUT).arg(if create { "yes" } else { "no" });
        let [layout, mark, handle] = answer::exactly(link.run(&call, from_now(deadline)).await?)?;
        let layout = answer::text(layout)?;
        match (layout.as_str(), Earlier::from_name(&layout)) {
            (LAYOUT, _) => return Ok(Opened { mark: answer::text(mark)?, handle: answer::int(&handle)? }),
            (_, Some(earlier)) if create => {
                convert::run(link, names, earlier, LAYOUT, || from_now(deadline)).await?;
            }
            ("", _) | (_, Some(_)) => {
                return Err(OpenError::NotMigrated { prefix: names.prefix().to_owned() });
            }
            (newer, None) => return Err(OpenError::Newer { found: newer.to_owned() }),
        }
    }
}

fn read_time(answers: Vec<Value>) -> Result<(Timestamp, Option<String>), Failure> {
    const WHAT: &str = "the time";
    let Ok([time, mark]) = <[Value; 2]>::try_from(answers) else { return Err(Failure::Malformed(WHAT)) };
    if let Value::ServerError(error) = &time {
        return Err(Failure::server(error));
    }
    let [secs, micros] = answer::exactly(time)?;
    let secs: i64 = text::number(WHAT, &answer::text(secs)?)?;
    let micros: i64 = text::number(WHAT, &answer::text(micros)?)?;
    let millis = secs.saturating_mul(1_000).saturating_add(micros / 1_000);
    Ok((Timestamp::from_millis(millis), answer::optional_text(mark)?))
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a server takes is measured, not part of the domain's time"
)]
fn from_now(duration: Duration) -> Instant {
    Instant::now() + duration
}

/// The version of the keys' and texts' layout. A program that changes the layout counts it up and converts older ones.
const LAYOUT: &str = "3";
/// The number of connections for writes that wait for replicas. Each carries one such write at a time.
const WAITING_CONNECTIONS: usize = 8;
