//! Logins that wait until another one at the same counter is settled.
//!
//! A counter admits few attempts at once, because each may turn out to be a failure. Twenty right logins of one user at
//! once must all succeed nevertheless, so those beyond the first wait. A login that is settled on this node wakes one
//! that waits; what other nodes settle is seen by asking the store again after a short pause.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The logins of this node that wait, by counter.
#[derive(Debug, Default)]
pub(super) struct Queues {
    by_counter: Mutex<HashMap<String, Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    settled: Arc<Notify>,
    waiting: usize,
}

/// A login's membership in a queue.
#[derive(Debug)]
pub(super) struct InQueue<'a> {
    queues: &'a Queues,
    counter: &'a str,
    settled: Arc<Notify>,
}

impl Queues {
    /// Joins the queue at this counter, unless as many as `most` wait there.
    pub(super) fn join<'a>(&'a self, counter: &'a str, most: usize) -> Option<InQueue<'a>> {
        let mut by_counter = self.lock();
        if by_counter.get(counter).is_some_and(|queue| queue.waiting >= most) {
            return None;
        }
        let queue = by_counter.entry(counter.to_owned()).or_default();
        queue.waiting += 1;
        Some(InQueue { queues: self, counter, settled: queue.settled.clone() })
    }

    /// Wakes one login that waits at this counter, because another one was settled there.
    pub(super) fn settled(&self, counter: &str) {
        if let Some(queue) = self.lock().get(counter) {
            queue.settled.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Queue>> {
        self.by_counter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InQueue<'_> {
    /// Waits until another login at the counter was settled.
    pub(super) async fn woken(&self) {
        self.settled.notified().await;
    }
}

impl Drop for InQueue<'_> {
    /// Leaves the queue and wakes the next one. What made this login leave, a free counter or a pause, lets or makes the
    /// next one go too.
    fn drop(&mut self) {
        let mut by_counter = self.queues.lock();
        if let Some(queue) = by_counter.get_mut(self.counter) {
            queue.waiting = queue.waiting.saturating_sub(1);
            if queue.waiting > 0 {
                queue.settled.notify_one();
            } else {
                by_counter.remove(self.counter);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, timeout};

    use super::*;

    async fn is_woken(waiter: &InQueue<'_>) -> bool {
        timeout(Duration::from_millis(1), waiter.woken()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn one_is_woken_for_each_that_is_settled_and_wakes_the_next_when_it_leaves() {
        let queues = Queues::default();
        queues.settled("a");
        let one = queues.join("a", 2).unwrap();
        assert!(!is_woken(&one).await, "nothing was settled since it joined");
        let other = queues.join("a", 2).unwrap();
        assert!(queues.join("a", 2).is_none(), "two wait already");
        let elsewhere = queues.join("b", 2).unwrap();
        queues.settled("a");
        assert!(is_woken(&one).await);
        assert!(!is_woken(&other).await);
        assert!(!is_woken(&elsewhere).await);
        drop(one);
        assert!(is_woken(&other).await);
        drop(other);
        drop(elsewhere);
        assert!(queues.lock().is_empty(), "nothing is left of a queue in which nobody waits");
    }
}
