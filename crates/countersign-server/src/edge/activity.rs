//! What a connection is busy with, and whether it takes too long.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::limits::Limits;

/// The first bytes of a connection over HTTP/2 (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The work that a connection is busy with.
#[derive(Debug)]
pub(super) struct Activity {
    state: Mutex<State>,
    /// The task that waits for the connection to become idle.
    pub(super) changed: AtomicWaker,
    /// Another connection needs the place.
    wanted: Notify,
}

#[derive(Debug)]
struct State {
    /// What is waited for while no request is running.
    expected: Expected,
    /// The time from which on it is waited for.
    since: Instant,
    /// The rest of HTTP/2's preface that is still missing, as long as everything that was read is part of the preface.
    preface: Option<&'static [u8]>,
    /// How many requests are not yet answered completely.
    running: usize,
    /// How many of the running requests wait for more of their own body.
    waiting: usize,
    /// The time from which on the client does not take what is sent to it.
    stuck_since: Option<Instant>,
    /// Whether anything was received or sent since the connection was asked for its place.
    has_moved: bool,
    has_given_up: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Expected {
    /// The first byte.
    Beginning,
    /// The rest of a head, or of HTTP/2's preface.
    Head,
    /// A further request.
    Further,
}

/// What took too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Late {
    /// No further request has come.
    Idle,
    /// A request did not arrive, or an answer was not taken.
    Stuck,
}

impl Activity {
    /// A connection that was just accepted.
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                expected: Expected::Beginning,
                since: now(),
                preface: Some(PREFACE),
                running: 0,
                waiting: 0,
                stuck_since: None,
                has_moved: true,
                has_given_up: false,
            }),
            changed: AtomicWaker::new(),
            wanted: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection is established, so that its first byte is expected from now on.
    pub(super) fn is_open(&self) {
        self.state().since = now();
    }

    /// These bytes were received.
    pub(super) fn has_read(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut state = self.state();
        state.has_moved = true;
        // HTTP/2 is past its preface. Its frames are no sign that a request begins: a client may send pings for ever.
        let is_http_2 = state.preface.is_some_and(<[u8]>::is_empty);
        if !is_http_2 && state.running == 0 && state.expected != Expected::Head {
            state.expect(Expected::Head);
        }
        state.preface = match state.preface {
            Some([]) => Some(&[]),
            Some(missing) if bytes.starts_with(missing) => {
                state.expect(Expected::Further);
                Some(&[])
            }
            Some(missing) => missing.strip_prefix(bytes),
            None => None,
        };
    }

    /// So many bytes were sent or received.
    pub(super) fn has_moved(&self, bytes: usize) {
        if bytes > 0 {
            self.state().has_moved = true;
        }
    }

    /// Whether the client does not take what is sent to it.
    pub(super) fn is_stuck(&self, is_stuck: bool) {
        let mut state = self.state();
        match state.stuck_since {
            None if is_stuck => state.stuck_since = Some(now()),
            Some(_) if !is_stuck => state.stuck_since = None,
            _ => {}
        }
    }

    /// Whether the client does not take what is sent to it.
    #[cfg(test)]
    fn stuck_since(&self) -> Option<Instant> {
        self.state().stuck_since
    }

    /// A head has arrived. The request is running until the returned guard is dropped.
    pub(super) fn begin_request(self: &Arc<Self>) -> Running {
        self.state().running += 1;
        Running(self.clone())
    }

    /// A running request waits for more of its body, or no longer does.
    pub(super) fn waits_for_body(&self, waits: bool) {
        let mut state = self.state();
        if waits {
            state.waiting += 1;
            drop(state);
            self.changed.wake();
        } else {
            state.waiting = state.waiting.saturating_sub(1);
        }
    }

    /// Whether there is nothing left to finish: no request, or, if it is late, only requests that the client has not
    /// sent completely.
    pub(super) fn is_idle(&self, is_late: bool) -> bool {
        let state = self.state();
        let not_waited_for = if is_late { state.waiting } else { 0 };
        state.running <= not_waited_for && state.stuck_since.is_none()
    }

    /// Whether the server itself works on a request, and does not wait for the client.
    pub(super) fn works(&self) -> bool {
        self.state().works()
    }

    /// Ends as soon as the client is too slow.
    pub(super) async fn late(&self, limits: &Limits) -> Late {
        loop {
            let (due, now) = (self.state().due(limits), now());
            match due {
                Some((at, late)) if at <= now => return late,
                due => {
                    let look_again = now + limits.shortest();
                    sleep_until(due.map_or(look_again, |(at, _)| at.min(look_again))).await;
                }
            }
        }
    }

    /// Asks the connection to give up its place for another one. It does so, unless it was used since it was asked last
    /// or a request is being worked on.
    pub(super) fn gives_up_its_place(&self) -> bool {
        let mut state = self.state();
        if state.works() || std::mem::take(&mut state.has_moved) {
            return false;
        }
        state.has_given_up = true;
        drop(state);
        self.wanted.notify_one();
        true
    }

    /// Ends when the place is needed.
    pub(super) async fn place_is_needed(&self) {
        self.wanted.notified().await;
    }

    #[cfg(test)]
    pub(super) fn has_given_up(&self) -> bool {
        self.state().has_given_up
    }
}

impl State {
    fn works(&self) -> bool {
        self.running > self.waiting && self.stuck_since.is_none()
    }

    fn expect(&mut self, expected: Expected) {
        self.expected = expected;
        self.since = now();
    }

    /// The time at which the connection will be late if nothing happens until then.
    fn due(&self, limits: &Limits) -> Option<(Instant, Late)> {
        let (limit, late) = match self.expected {
            Expected::Beginning => (limits.first_byte, Late::Stuck),
            Expected::Head => (limits.head, Late::Stuck),
            Expected::Further => (limits.idle, Late::Idle),
        };
        let arriving = (self.running == 0).then(|| (self.since + limit, late));
        let sending = self.stuck_since.map(|since| (since + limits.send, Late::Stuck));
        arriving.into_iter().chain(sending).min_by_key(|(at, _)| *at)
    }
}

/// A request, from its head to the end of its answer.
#[derive(Debug)]
pub(super) struct Running(Arc<Activity>);

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.running = state.running.saturating_sub(1);
        if state.running == 0 {
            state.expect(Expected::Further);
        }
        drop(state);
        self.0.changed.wake();
    }
}

/// The time by the clock that deadlines of tokio go by.
#[expect(clippy::disallowed_methods, reason = "deadlines of sockets go by tokio's clock, which tests stop")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn late_within(activity: &Activity, time: Duration) -> Option<Late> {
        tokio::time::timeout(time, activity.late(&Limits::default())).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn sec_151_bytes_of_a_head_do_not_extend_its_deadline() {
        let activity = Activity::new();
        activity.has_read(b"G");
        for _ in 0..9 {
            assert_eq!(late_within(&activity, SECOND).await, None);
            activity.has_read(b"E");
        }
        assert_eq!(late_within(&activity, 2 * SECOND).await, Some(Late::Stuck));
    }

    #[tokio::test(start_paused = true)]
    async fn sec_151_pings_do_not_make_a_connection_busy() {
        let activity = Activity::new();
        activity.has_read(&PREFACE[..10]);
        activity.has_read(&PREFACE[10..]);
        for _ in 0..7 {
            activity.has_read(&[0, 0, 8, 6]);
            assert_eq!(late_within(&activity, 10 * SECOND).await, None);
        }
        assert_eq!(late_within(&activity, 6 * SECOND).await, Some(Late::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn sec_151_an_answer_that_is_not_taken_is_given_up() {
        let activity = Arc::new(Activity::new());
        let running = activity.begin_request();
        assert_eq!(
            late_within(&activity, 1000 * SECOND).await,
            None,
            "the handler has all the time it needs"
        );
        activity.is_stuck(true);
        let since = activity.stuck_since();
        assert_eq!(late_within(&activity, 20 * SECOND).await, None);
        activity.is_stuck(true);
        assert_eq!(activity.stuck_since(), since, "a byte that was taken changes nothing");
        assert_eq!(late_within(&activity, 11 * SECOND).await, Some(Late::Stuck));
        activity.is_stuck(false);
        drop(running);
        assert_eq!(late_within(&activity, 74 * SECOND).await, None);
        assert_eq!(late_within(&activity, 2 * SECOND).await, Some(Late::Idle));
    }
}
