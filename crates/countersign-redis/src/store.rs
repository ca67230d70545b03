//! The store, and what all its operations have in common.

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
/// It runs tasks that keep connections, so it is opened and used within one tokio runtime.
#[derive(Debug)]
pub struct RedisStore {
    links: Links,
    /// Writes that wait for replicas hold up what is sent after them, so reads do not share their connections.
    waiting: Links,
    /// Reads the tail of the revocation log, which must not wait behind other commands.
    tail: Link,
    pub(crate) names: Names,
    /// For one list at a time, so that whoever asks for many of them waits for himself and not others for him.
    pub(crate) lists: Semaphore,
    pub(crate) changed: Arc<ChangeSignal>,
    listening: JoinHandle<()>,
    /// Who tells the others of changes: they do not need telling themselves.
    teller: String,
    deadline: Duration,
    wait_replicas: u32,
    weaknesses: Vec<String>,
    /// Names the set of data that this handle has seen.
    mark: Mutex<String>,
    run_migrations: bool,
    has_told_of_loss: AtomicBool,
}

impl RedisStore {
    /// Connects, checks that the server keeps what it answers, and sets up the store if there is none, as the options
    /// say. Programs that do so at the same time do not disturb each other.
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

    /// The ways in which this server may lose what it has answered, and those that could not be checked: empty where it
    /// keeps everything. Each was logged as a warning when the store was opened.
    #[must_use]
    pub fn weaknesses(&self) -> &[String] {
        &self.weaknesses
    }

    /// Closes the connections. Without it they close when the store is dropped.
    pub async fn close(mut self) {
        self.listening.abort();
        let _ended = (&mut self.listening).await;
    }

    /// Whether there are keys in the store. If so, they were sealed with a secret that must still be there.
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

    /// The server's time, which also is the moment to find out that its data are gone.
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

    /// The set of data is another one: the server was restarted without its data, or somebody deleted them.
    async fn tell_of_loss(&self) {
        if !self.has_told_of_loss.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "the data in Redis are gone: all sessions, and every revocation, key and account that was kept there. \
                 Nodes that start from now on accept access tokens that were revoked before, until they expire; to \
                 prevent that, replace the signing keys and restart the nodes"
            );
        }
        // So that nodes that only look can start again, and a second loss is told of too.
        if let Ok(opened) = set_up(&self.tail, &self.names, self.run_migrations, self.deadline).await {
            *self.mark.lock().unwrap_or_else(PoisonError::into_inner) = opened.mark;
            self.has_told_of_loss.store(false, Ordering::Relaxed);
        }
    }

    /// The last two arguments of a script that tells others that the log has grown.
    pub(crate) fn announcing(&self, call: Call) -> Call {
        call.arg(self.names.channel()).arg(self.teller.as_str())
    }

    /// An operation begins: it is answered before the deadline.
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

/// One operation: what it does, in words for its error, and until when.
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
            // Half of the time: when they do not answer, that is better known than a deadline that passed.
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

    /// Steps that share this operation's deadline.
    pub(crate) async fn all<T>(
        &self,
        steps: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        timeout_at(self.by, steps).await.unwrap_or_else(|_| self.value(Err(Failure::Deadline)))
    }

    /// A value, or this operation's error.
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

/// Finds the store as this program lays it out, or makes it so, if it may. Each step has the deadline.
async fn set_up(link: &Link, names: &Names, create: bool, deadline: Duration) -> Result<Opened, OpenError> {
    loop {
        let call = OPEN.on([names.meta()]).arg(LAYOUT).arg(if create { "yes" } else { "no" });
        let [layout, mark, handle] = answer::exactly(link.run(&call, from_now(deadline)).await?)?;
        match answer::text(layout)?.as_str() {
            LAYOUT => return Ok(Opened { mark: answer::text(mark)?, handle: answer::int(&handle)? }),
            convert::BEFORE if create => convert::run(link, names, LAYOUT, || from_now(deadline)).await?,
            "" | convert::BEFORE => return Err(OpenError::NotMigrated { prefix: names.prefix().to_owned() }),
            newer => return Err(OpenError::Newer { found: newer.to_owned() }),
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

/// How the keys and texts are laid out. A program that changes them counts this up and converts older ones.
const LAYOUT: &str = "2";
/// How many connections writes wait for replicas on: one such write at a time on each.
const WAITING_CONNECTIONS: usize = 8;
