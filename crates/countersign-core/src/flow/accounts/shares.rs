//! How much of the hash pool one address may fill.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::ClientNetwork;

/// The registrations and logins of this node that are under way, by the address that they come from.
#[derive(Debug, Default)]
pub(super) struct Shares {
    by_network: Mutex<HashMap<ClientNetwork, usize>>,
}

/// One of the registrations and logins under way. When it is dropped, the address may begin another one.
#[derive(Debug)]
pub(super) struct Share {
    shares: Arc<Shares>,
    network: ClientNetwork,
}

impl Shares {
    /// Counts one more from this address, unless `most` are under way.
    pub(super) fn take(self: &Arc<Self>, network: ClientNetwork, most: usize) -> Option<Share> {
        let mut by_network = self.lock();
        let under_way = by_network.entry(network).or_default();
        if *under_way >= most {
            return None;
        }
        *under_way += 1;
        Some(Share { shares: self.clone(), network })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientNetwork, usize>> {
        self.by_network.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut by_network = self.shares.lock();
        match by_network.get_mut(&self.network) {
            Some(under_way) if *under_way > 1 => *under_way -= 1,
            _ => {
                by_network.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_leaves_nothing_behind() {
        let shares = Arc::new(Shares::default());
        let [one, other] = ["192.0.2.1", "2001:db8::1"].map(|ip| ClientNetwork::of(ip.parse().unwrap()));
        let first = shares.take(one, 2).unwrap();
        let second = shares.take(one, 2).unwrap();
        assert!(shares.take(one, 2).is_none());
        assert!(shares.take(other, 2).is_some());
        drop(first);
        let third = shares.take(one, 2).unwrap();
        drop((second, third));
        assert!(shares.lock().is_empty());
    }
}
