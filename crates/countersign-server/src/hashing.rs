//! The threads that hash passwords.
//!
//! A password hash keeps a core busy for tens of milliseconds. On Linux the threads that hash have a lower priority than
//! those that answer requests, so they may take every core that is idle and give it back at once when a request comes. On
//! other systems priorities of single threads cannot be set in a safe way, and one core is left to requests.

use std::io;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Handle, Runtime};

/// The threads that hash passwords.
#[derive(Debug)]
pub(crate) struct HashThreads {
    runtime: Runtime,
    permits: NonZeroUsize,
}

impl HashThreads {
    /// Threads for this many hashes at a time, which are started when they are needed. Without a number there are as many
    /// as cores where they have a lower priority, else one less.
    pub(crate) fn new(permits: Option<NonZeroUsize>) -> io::Result<Self> {
        let permits = permits.unwrap_or_else(default_permits);
        let runtime = Builder::new_current_thread()
            .thread_name("hash")
            .max_blocking_threads(permits.get())
            .on_thread_start(lower_priority)
            .build()?;
        Ok(Self { runtime, permits })
    }

    /// The runtime whose blocking threads these are.
    pub(crate) fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    /// The number of hashes at a time.
    pub(crate) fn permits(&self) -> NonZeroUsize {
        self.permits
    }

    /// Ends the threads, without waiting for the hashes that run.
    pub(crate) fn stop(self) {
        self.runtime.shutdown_background();
    }
}

fn default_permits() -> NonZeroUsize {
    let cores = available_parallelism().map_or(1, NonZeroUsize::get);
    let left_to_requests = if cfg!(target_os = "linux") { 0 } else { 1 };
    NonZeroUsize::new(cores.saturating_sub(left_to_requests)).unwrap_or(NonZeroUsize::MIN)
}

/// How much lower the priority of these threads is, as a nice value: beside threads of the usual priority that want all
/// of a core they get a tenth of it, so that logins go on however busy the machine is.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Lowers the priority of the calling thread. On Linux a nice value belongs to a thread, and everybody may raise it.
#[cfg(target_os = "linux")]
fn lower_priority() {
    let lowered = rustix::process::getpriority_process(None)
        .and_then(|own| rustix::process::setpriority_process(None, own.saturating_add(NICENESS)));
    if let Err(error) = lowered {
        tracing::warn!(%error, "the threads that hash passwords have the priority of all others");
    }
}

#[cfg(not(target_os = "linux"))]
fn lower_priority() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_121_without_a_setting_hashes_leave_no_core_idle() {
        let threads = HashThreads::new(None).unwrap();
        let cores = available_parallelism().unwrap().get();
        let expected = if cfg!(target_os = "linux") { cores } else { (cores - 1).max(1) };
        assert_eq!(threads.permits().get(), expected);
        assert_eq!(HashThreads::new(NonZeroUsize::new(3)).unwrap().permits().get(), 3);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn sec_121_threads_that_hash_give_way_to_those_that_answer() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let threads = HashThreads::new(NonZeroUsize::new(2)).unwrap();
        let own = priority();
        for _ in 0..3 {
            let lowered = threads.handle().spawn_blocking(priority).await.unwrap();
            assert_eq!(lowered, (own + NICENESS).min(19));
        }
        assert_eq!(tokio::task::spawn_blocking(priority).await.unwrap(), own, "other threads keep theirs");
        assert_eq!(priority(), own);
        threads.stop();
    }
}
