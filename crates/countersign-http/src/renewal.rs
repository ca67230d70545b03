//! Login sessions that go on in place: the request is answered as that of a signed-in user, and its answer brings the
//! cookies of the next generation.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use countersign_core::flow::{Pair, Prepared, Refresh, RefreshError};
use countersign_core::model::{AgentHash, Device, UserSession};
use countersign_jwt::{Claims, Generation, Timestamp};
use tokio::sync::OnceCell;

use crate::engine::Engine;

/// The renewals under way on this node. Requests of one session that arrive together share one.
#[derive(Debug, Default)]
pub(crate) struct Renewals(Mutex<Flights>);

#[derive(Debug, Default)]
struct Flights {
    by_session: HashMap<Key, Weak<Flight>>,
    /// The size at which flights that have landed are removed.
    sweep_at: usize,
}

/// What makes two requests share a renewal: they show the same refresh token, and call themselves the same client.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Key {
    session: UserSession,
    generation: Generation,
    agent: Option<AgentHash>,
}

struct Flight {
    token: Claims,
    device: Device,
    began: Timestamp,
    prepared: OnceCell<Prepared>,
    committed: OnceCell<bool>,
}

/// A login session that goes on in place. The session advances when the answer is known, by [`Renewal::commit`]: an
/// answer with an error leaves it as it is.
#[derive(Clone)]
pub struct Renewal {
    flight: Arc<Flight>,
    pair: Pair,
    refresh: Refresh,
}

impl Renewal {
    /// Renews the session of a verified refresh token, whose user exists.
    pub(crate) async fn of(engine: &Engine, token: Claims, device: Device) -> Result<Self, RefreshError> {
        let refresh = Refresh::of(engine.sessions());
        let flight = engine.renewals.join(token, device, engine.now());
        let prepare = || refresh.prepare(&flight.token, true, flight.device.clone());
        let pair = flight.prepared.get_or_try_init(prepare).await?.pair.clone();
        Ok(Self { flight, pair, refresh })
    }

    /// The pair that the session goes on with.
    #[must_use]
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// Advances the session to the pair, once for all requests that share the renewal. Returns whether the session is
    /// there: if not, it was ended or refreshed elsewhere meanwhile, and the answer sets no cookies.
    pub async fn commit(&self) -> bool {
        let Some(prepared) = self.flight.prepared.get() else { return false };
        let commit = || self.refresh.commit(prepared);
        match self.flight.committed.get_or_try_init(commit).await {
            Ok(is_there) => *is_there,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "a login session was not renewed; its next request tries again");
                false
            }
        }
    }
}

impl Renewals {
    /// The time for which requests share a renewal. A request that takes longer keeps its own.
    const SHARED_FOR: Duration = Duration::from_secs(10);
    const FIRST_SWEEP: usize = 64;

    fn join(&self, token: Claims, device: Device, now: Timestamp) -> Arc<Flight> {
        let new = |token, device| {
            let (prepared, committed) = (OnceCell::new(), OnceCell::new());
            Arc::new(Flight { token, device, began: now, prepared, committed })
        };
        let Some(session) = token.session() else { return new(token, device) };
        let key = Key {
            session: UserSession { user_id: token.subject().clone(), id: session.id },
            generation: session.generation,
            agent: device.agent_hash,
        };
        let mut flights = self.flights();
        if let Some(flight) = flights.by_session.get(&key).and_then(Weak::upgrade)
            && flight.began <= now
            && now < flight.began + Self::SHARED_FOR
        {
            return flight;
        }
        if flights.by_session.len() >= flights.sweep_at {
            flights.by_session.retain(|_, flight| flight.strong_count() > 0);
            flights.sweep_at = flights.by_session.len().saturating_mul(2).max(Self::FIRST_SWEEP);
        }
        let flight = new(token, device);
        flights.by_session.insert(key, Arc::downgrade(&flight));
        flight
    }

    /// Locks the flights. No code panics while it holds the lock, so the lock is never poisoned.
    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").field("began", &self.began).finish_non_exhaustive()
    }
}

impl fmt::Debug for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewal").field("pair", &self.pair).finish_non_exhaustive()
    }
}
