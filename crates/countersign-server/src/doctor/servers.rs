//! The other servers of the store, by the records that each leaves when it starts and stops.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use countersign_core::model::{AuditRecord, Target};
use countersign_core::store::{AuditPage, StoreError, Stores};
use countersign_jwt::Timestamp;
use uuid::Uuid;

use super::{About, Report};
use crate::audit::{SERVER_STARTED, SERVER_STOPPED};

/// The most records of each kind that are read.
const MOST: usize = 500;
/// The entries of the log that are read at once.
const PAGE: usize = 1_000;
/// The time back in which a running server has written a heartbeat.
const LATELY: Duration = Duration::from_secs(60);

/// Which server has started or stopped: the text of the record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Whereabouts {
    pub(crate) version: String,
    /// The machine's name and the address at which the server listens there.
    pub(crate) place: String,
    pub(crate) node: Uuid,
}

impl Whereabouts {
    /// Those of this program.
    pub(crate) fn here(address: SocketAddr, node: Uuid) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            place: format!("{} {address}", machine()),
            node,
        }
    }
}

impl fmt::Display for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {} at {}, node {}", self.version, self.place, self.node)
    }
}

impl FromStr for Whereabouts {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (version, rest) =
            text.strip_prefix("version ").and_then(|text| text.split_once(" at ")).ok_or(())?;
        let (place, node) = rest.rsplit_once(", node ").ok_or(())?;
        let node = Uuid::try_parse(node).map_err(drop)?;
        Ok(Self { version: version.to_owned(), place: place.to_owned(), node })
    }
}

#[cfg(unix)]
fn machine() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    name.chars().filter(char::is_ascii_graphic).take(64).collect()
}

#[cfg(not(unix))]
fn machine() -> String {
    "this machine".to_owned()
}

/// Looks for servers of other versions.
pub(super) async fn examine(stores: &Stores, now: Timestamp, report: &mut Report) -> Result<(), StoreError> {
    let started = records(stores, SERVER_STARTED).await?;
    let stopped = records(stores, SERVER_STOPPED).await?;
    let beating = beating(stores, now).await?;
    let running = running(&started, &stopped, beating.as_ref());
    let own = env!("CARGO_PKG_VERSION");
    let others: Vec<_> = running.iter().filter(|server| server.version != own).collect();
    for Whereabouts { version, place, .. } in &others {
        report.warning(
            About::Servers,
            format!("a server of version {version} runs at {place}; this program is {own}"),
            "let all servers of a store have one version; two may run side by side while they are upgraded one by one \
             (docs/scaling.md)",
        );
    }
    if others.is_empty() {
        let count = match running.len() {
            0 => "no server runs".to_owned(),
            1 => "one server runs".to_owned(),
            count => format!("{count} servers run"),
        };
        report.good(About::Servers, format!("{count} on this store, as far as they have left word"));
    }
    Ok(())
}

/// The newest records of this name, newest first.
async fn records(stores: &Stores, name: &str) -> Result<Vec<AuditRecord>, StoreError> {
    stores.audit().audit(&AuditPage { name: Some(name), limit: MOST, ..AuditPage::default() }).await
}

/// The nodes whose heartbeat is in the log; `None` for a store that needs no heartbeats.
async fn beating(stores: &Stores, now: Timestamp) -> Result<Option<BTreeSet<Uuid>>, StoreError> {
    let log = stores.revocations();
    if log.is_one_copy() {
        return Ok(None);
    }
    let now = log.time().await?.unwrap_or(now);
    let mut nodes = BTreeSet::new();
    let mut after = None;
    loop {
        let entries = log.entries(now - LATELY, after.as_ref(), PAGE).await?;
        nodes.extend(entries.iter().filter_map(|entry| match entry.target {
            Target::Node { id } => Some(id),
            _ => None,
        }));
        if entries.len() < PAGE {
            return Ok(Some(nodes));
        }
        after = entries.into_iter().next_back();
    }
}

/// The servers that run: of each place the last one that has started there, unless it has stopped. A server that was
/// killed leaves no word, so where there are heartbeats, they decide.
fn running(
    started: &[AuditRecord],
    stopped: &[AuditRecord],
    beating: Option<&BTreeSet<Uuid>>,
) -> Vec<Whereabouts> {
    let read = |record: &AuditRecord| record.detail.as_deref()?.parse::<Whereabouts>().ok();
    let stopped: BTreeSet<Uuid> = stopped.iter().filter_map(read).map(|server| server.node).collect();
    let mut last: BTreeMap<String, Whereabouts> = BTreeMap::new();
    for server in started.iter().filter_map(read) {
        last.entry(server.place.clone()).or_insert(server);
    }
    let runs = |server: &Whereabouts| {
        !stopped.contains(&server.node) && beating.is_none_or(|beating| beating.contains(&server.node))
    };
    last.into_values().filter(runs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(version: &str, place: &str, node: u128) -> AuditRecord {
        let server =
            Whereabouts { version: version.to_owned(), place: place.to_owned(), node: Uuid::from_u128(node) };
        let record = AuditRecord::new(Uuid::nil(), Timestamp::from_secs(0), SERVER_STARTED);
        AuditRecord { detail: Some(server.to_string()), ..record }
    }

    #[test]
    fn the_servers_that_run_are_known_by_their_records() {
        // Newest first.
        let started = [
            record("2", "a 10.0.0.1:80", 4),
            record("1", "b 10.0.0.2:80", 3),
            record("1", "c, node [::1]:80", 2),
            record("1", "a 10.0.0.1:80", 1),
        ];
        let stopped = [record("1", "c, node [::1]:80", 2)];
        let nodes = |running: Vec<Whereabouts>| {
            running.iter().map(|server| server.node.as_u128()).collect::<Vec<_>>()
        };
        assert_eq!(nodes(running(&started, &stopped, None)), [4, 3]);
        let beating = BTreeSet::from([Uuid::from_u128(4), Uuid::from_u128(9)]);
        assert_eq!(nodes(running(&started, &stopped, Some(&beating))), [4]);
        let foreign = AuditRecord { detail: Some("version 1".to_owned()), ..record("1", "d", 5) };
        assert_eq!(nodes(running(&[foreign], &[], None)), [0_u128; 0]);
    }
}
