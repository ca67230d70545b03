//! Connections: shared by many commands at once, made again when they break, and never waited for beyond a deadline.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, PushInfo, PushKind, RedisError, Value};
use redis::{ServerError, ServerErrorKind};
use tokio::time::{Instant, timeout_at};

use crate::failure::Failure;
use crate::script::Call;

/// One connection, which may be absent or broken and is then made again.
pub(crate) struct Link {
    client: Client,
    live: Arc<Mutex<Live>>,
    /// Held while connecting, so that many commands make only one connection.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Live {
    connection: Option<MultiplexedConnection>,
    /// The number of the connection. A command that fails late then does not close the connection that followed its
    /// own.
    number: u64,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, live: Arc::default(), connecting: tokio::sync::Mutex::default() }
    }

    /// Runs a script. A command is sent again only if Redis says that it has not run it.
    pub(crate) async fn run(&self, call: &Call, by: Instant) -> Result<Value, Failure> {
        match self.send(&call.by_hash(), by).await? {
            Value::ServerError(error) if is_unknown_script(&error) => {
                answer(self.send(&call.in_full(), by).await?)
            }
            value => answer(value),
        }
    }

    /// Runs a script that writes, and waits until the given number of replicas have the write.
    pub(crate) async fn run_replicated(
        &self,
        call: &Call,
        replicas: u32,
        wait: Duration,
        by: Instant,
    ) -> Result<Value, Failure> {
        let with_wait = |command: Cmd| {
            let mut pipeline = Pipeline::new();
            pipeline.add_command(command).cmd("WAIT").arg(replicas).arg(wait.as_millis().to_string());
            pipeline
        };
        let mut answers = self.send_all(&with_wait(call.by_hash()), by).await?;
        if matches!(answers.first(), Some(Value::ServerError(error)) if is_unknown_script(error)) {
            answers = self.send_all(&with_wait(call.in_full()), by).await?;
        }
        let mut answers = answers.into_iter();
        let (Some(value), Some(confirmed)) = (answers.next(), answers.next()) else {
            return Err(Failure::Malformed("an answer"));
        };
        let value = answer(value)?;
        match answer(confirmed)? {
            Value::Int(confirmed) if confirmed >= i64::from(replicas) => Ok(value),
            Value::Int(confirmed) => Err(Failure::Replicas { confirmed, wanted: replicas }),
            _ => Err(Failure::Malformed("an answer")),
        }
    }

    /// Sends a command that is not a script.
    pub(crate) async fn query(&self, command: &Cmd, by: Instant) -> Result<Value, Failure> {
        answer(self.send(command, by).await?)
    }

    /// Sends commands together and returns all answers, errors included.
    pub(crate) async fn query_all(&self, pipeline: &Pipeline, by: Instant) -> Result<Vec<Value>, Failure> {
        self.send_all(pipeline, by).await
    }

    async fn send(&self, command: &Cmd, by: Instant) -> Result<Value, Failure> {
        loop {
            let (mut connection, number) = self.connection(by).await?;
            let sent = timeout_at(by, connection.send_packed_command(command)).await;
            let value = self.judge(sent.map_err(|_| Failure::Deadline), number)?;
            if !self.is_to_be_sent_again(&value, number) {
                return Ok(value);
            }
            pause(by).await?;
        }
    }

    async fn send_all(&self, pipeline: &Pipeline, by: Instant) -> Result<Vec<Value>, Failure> {
        loop {
            let (mut connection, number) = self.connection(by).await?;
            let sent = timeout_at(by, connection.send_packed_commands(pipeline, 0, pipeline.len())).await;
            let values = self.judge(sent.map_err(|_| Failure::Deadline), number)?;
            // The commands are sent again together, because the reason for which Redis refuses one makes it refuse all.
            if !values.first().is_some_and(|value| self.is_to_be_sent_again(value, number)) {
                return Ok(values);
            }
            pause(by).await?;
        }
    }

    /// Judges the result of a command. After a failure the connection is not used again, because it may be half dead.
    fn judge<T>(&self, sent: Result<Result<T, RedisError>, Failure>, number: u64) -> Result<T, Failure> {
        match sent {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                self.discard(number);
                Err(Failure::driver(error))
            }
            Err(failure) => {
                self.discard(number);
                Err(failure)
            }
        }
    }

    /// Whether Redis has refused a command only for a while, before running it.
    fn is_to_be_sent_again(&self, value: &Value, number: u64) -> bool {
        let Value::ServerError(error) = value else { return false };
        match error.kind() {
            Some(ServerErrorKind::BusyLoading | ServerErrorKind::TryAgain) => true,
            // The server has become a replica. The same address may lead to the new primary.
            Some(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown) => {
                self.discard(number);
                false
            }
            _ => error.code() == "BUSY",
        }
    }

    async fn connection(&self, by: Instant) -> Result<(MultiplexedConnection, u64), Failure> {
        if let Some(live) = self.live() {
            return Ok(live);
        }
        timeout_at(by, self.connect()).await.map_err(|_| Failure::Deadline)?
    }

    async fn connect(&self) -> Result<(MultiplexedConnection, u64), Failure> {
        let _connecting = self.connecting.lock().await;
        // Another command may have connected while this one waited.
        if let Some(live) = self.live() {
            return Ok(live);
        }
        let number = self.lock().number.saturating_add(1);
        let config = AsyncConnectionConfig::new()
            // The deadline is the caller's, and a command's own deadline counts from the moment it was asked for.
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE)
            .set_push_sender(forget_when_closed(Arc::downgrade(&self.live), number));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let connection = connection.map_err(Failure::driver)?;
        *self.lock() = Live { connection: Some(connection.clone()), number };
        Ok((connection, number))
    }

    fn live(&self) -> Option<(MultiplexedConnection, u64)> {
        let live = self.lock();
        live.connection.clone().map(|connection| (connection, live.number))
    }

    fn discard(&self, number: u64) {
        forget(&self.live, number);
    }

    fn lock(&self) -> MutexGuard<'_, Live> {
        lock(&self.live)
    }
}

/// Several connections that share the load.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    links: Arc<[Link]>,
    next: Arc<AtomicUsize>,
}

impl Links {
    pub(crate) fn new(client: &Client, count: usize) -> Self {
        let links = (0..count.max(1)).map(|_| Link::new(client.clone())).collect();
        Self { links, next: Arc::default() }
    }

    /// The next connection, each in turn.
    pub(crate) fn next(&self) -> Option<&Link> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.links.get(turn.checked_rem(self.links.len())?)
    }
}

/// Drops a connection as soon as the server closes it, so that the next command does not have to find out.
fn forget_when_closed(
    live: Weak<Mutex<Live>>,
    number: u64,
) -> impl Fn(PushInfo) -> Result<(), RedisError> + Send + Sync + 'static {
    move |push| {
        if push.kind == PushKind::Disconnection
            && let Some(live) = live.upgrade()
        {
            forget(&live, number);
        }
        Ok(())
    }
}

fn forget(live: &Mutex<Live>, number: u64) {
    let mut live = lock(live);
    if live.number == number {
        live.connection = None;
    }
}

fn lock(live: &Mutex<Live>) -> MutexGuard<'_, Live> {
    // No code panics while it holds the lock.
    live.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(value: Value) -> Result<Value, Failure> {
    match value {
        Value::ServerError(error) => Err(Failure::server(&error)),
        value => Ok(value),
    }
}

fn is_unknown_script(error: &ServerError) -> bool {
    error.kind() == Some(ServerErrorKind::NoScript)
}

async fn pause(by: Instant) -> Result<(), Failure> {
    timeout_at(by, tokio::time::sleep(PAUSE)).await.map_err(|_| Failure::Deadline)
}

/// Makes sure that TLS has a cryptography provider: rustls has none of its own, and panics without one or with several
/// to choose from. A provider that the program has chosen is kept.
pub(crate) fn choose_cryptography() {
    let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
    // Installing fails if there is a provider already.
    let _chosen_before = provider.install_default();
}

/// The number of commands that may wait to be written to one connection before callers wait.
const QUEUE: usize = 1_024;
const PAUSE: Duration = Duration::from_millis(20);
