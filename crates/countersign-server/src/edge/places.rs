//! The places that connections take: so many in all, and so many from one address.
//!
//! If all are taken, the connection gives up its place on which nothing was sent or received for the longest time and no
//! request is being worked on. So clients that only hold connections open cannot keep others out, however many they are.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use countersign_http::ThrottleKey;
use metrics::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::activity::Activity;
use super::counts::Counts;
use super::limits::Limits;

/// How long to wait for a place before asking the connections again, if all of them were busy.
const AGAIN: Duration = Duration::from_millis(50);

/// All places for connections.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    number: usize,
    /// The connections that have a place, in the order in which they are asked for it. Those that have ended are skipped.
    taken: VecDeque<Weak<Activity>>,
    of_addresses: Arc<PlacesOfAddresses>,
    counts: Counts,
}

/// The place of one connection, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    #[expect(dead_code, reason = "it is held until it is dropped")]
    permit: OwnedSemaphorePermit,
    open: Gauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.decrement(1);
    }
}

/// The places of each address.
#[derive(Debug)]
pub(super) struct PlacesOfAddresses {
    most: usize,
    taken: Mutex<HashMap<ThrottleKey, usize>>,
}

/// The place of one connection among those of its address.
#[derive(Debug)]
pub(super) struct PlaceOfAddress {
    key: ThrottleKey,
    places: Arc<PlacesOfAddresses>,
}

impl Places {
    pub(super) fn new(limits: &Limits, counts: Counts) -> Self {
        let number = limits.connections.min(Semaphore::MAX_PERMITS);
        Self {
            free: Arc::new(Semaphore::new(number)),
            number,
            taken: VecDeque::new(),
            of_addresses: Arc::new(PlacesOfAddresses {
                most: limits.connections_per_address,
                taken: Mutex::default(),
            }),
            counts,
        }
    }

    pub(super) fn of_addresses(&self) -> Arc<PlacesOfAddresses> {
        self.of_addresses.clone()
    }

    /// A place for this connection. Waits until there is one.
    pub(super) async fn next(&mut self, connection: &Arc<Activity>) -> Place {
        let permit = self.permit().await;
        if self.taken.len() >= self.number.saturating_mul(2) {
            self.taken.retain(|connection| connection.strong_count() > 0);
        }
        self.taken.push_back(Arc::downgrade(connection));
        self.counts.open.increment(1);
        Place { permit, open: self.counts.open.clone() }
    }

    async fn permit(&mut self) -> OwnedSemaphorePermit {
        loop {
            if let Ok(permit) = self.free.clone().try_acquire_owned() {
                return permit;
            }
            self.ask_for_a_place();
            // The semaphore is never closed.
            if let Ok(Ok(permit)) = tokio::time::timeout(AGAIN, self.free.clone().acquire_owned()).await {
                return permit;
            }
        }
    }

    /// Makes one connection give up its place, if any can. Connections are asked in turn; one that was used since it was
    /// asked last is passed over once (the "second chance" of page replacement).
    fn ask_for_a_place(&mut self) {
        for _ in 0..self.taken.len().saturating_mul(2) {
            let Some(connection) = self.taken.pop_front() else { return };
            match connection.upgrade() {
                Some(activity) if activity.gives_up_its_place() => {
                    self.counts.evicted.increment(1);
                    return;
                }
                Some(_) => self.taken.push_back(connection),
                None => {}
            }
        }
    }
}

impl PlacesOfAddresses {
    /// A place for a connection from this address, or `None` if the address has as many as it may.
    ///
    /// Addresses of this machine have as many as they like: what is there is a proxy that was not made known, or whoever
    /// is there can do worse.
    pub(super) fn of(self: &Arc<Self>, address: IpAddr) -> Option<Option<PlaceOfAddress>> {
        if address.to_canonical().is_loopback() {
            return Some(None);
        }
        let key = ThrottleKey::of(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let number = taken.entry(key).or_default();
        if *number >= self.most {
            return None;
        }
        *number += 1;
        Some(Some(PlaceOfAddress { key, places: self.clone() }))
    }
}

impl Drop for PlaceOfAddress {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = taken.get_mut(&self.key) {
            *number = number.saturating_sub(1);
            if *number == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(number: usize, of_address: usize) -> Places {
        let limits = Limits { connections: number, connections_per_address: of_address, ..Limits::default() };
        Places::new(&limits, Counts::of("users"))
    }

    #[test]
    fn sec_127_an_address_has_so_many_connections_whatever_its_form() {
        let places = places(100, 2).of_addresses();
        let of = |address: &str| places.of(address.parse().unwrap());
        for (one, other, third) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::2", "2001:db8::ffff:ffff:ffff:ffff"),
        ] {
            let (first, second) = (of(one).unwrap(), of(other).unwrap());
            assert!(of(third).is_none(), "{third}");
            drop(first);
            let again = of(third).unwrap();
            assert!(of(one).is_none(), "{one}");
            drop((second, again));
        }
        assert!(places.taken.lock().unwrap().is_empty());
        let _others = [of("192.0.2.2").unwrap(), of("2001:db8:0:1::1").unwrap()];
        let local: Vec<_> = (0..9).map(|_| of("127.0.0.1").unwrap()).collect();
        assert!(local.iter().all(Option::is_none));
    }

    #[tokio::test(start_paused = true)]
    async fn sec_151_an_idle_connection_gives_up_its_place_and_a_busy_one_does_not() {
        let mut places = places(3, 100);
        let open: Vec<_> = (0..3).map(|_| Arc::new(Activity::new())).collect();
        let mut held = Vec::new();
        for activity in &open {
            held.push(places.next(activity).await);
        }
        let _running = open[0].begin_request();
        places.ask_for_a_place();
        // All have just begun and are passed over once.
        assert_eq!(open.iter().map(|one| one.has_given_up()).collect::<Vec<_>>(), [false, true, false]);
        open[2].has_moved(1);
        places.ask_for_a_place();
        assert!(!open[0].has_given_up() && open[2].has_given_up());
        places.ask_for_a_place();
        assert!(!open[0].has_given_up());
        // It waits until a place is free.
        let late = Arc::new(Activity::new());
        assert!(tokio::time::timeout(AGAIN * 9, places.next(&late)).await.is_err());
        held.pop();
        let _place = places.next(&late).await;
    }
}
