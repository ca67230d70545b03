//! Checking from the server's settings whether it keeps what it has answered.

use std::collections::HashMap;

use redis::{Pipeline, Value};
use tokio::time::Instant;

use crate::answer;
use crate::failure::Failure;
use crate::link::Link;
use crate::options::{Durability, OpenError};

/// What a server reports about itself. `None` means that it does not report it: hosted servers often refuse `CONFIG`.
#[derive(Clone, Debug, Default)]
struct Server {
    info: HashMap<String, String>,
    config: HashMap<String, String>,
}

/// Asks the server how durable it is. Returns the ways in which it may lose what it has answered, in words for its
/// operator.
///
/// # Errors
/// [`OpenError`] when the server cannot be a store, or is less durable than demanded.
pub(crate) async fn check(
    link: &Link,
    durability: Durability,
    wait_replicas: u32,
    by: Instant,
) -> Result<Vec<String>, OpenError> {
    Server::ask(link, by).await?.assess(durability, wait_replicas)
}

impl Server {
    async fn ask(link: &Link, by: Instant) -> Result<Self, Failure> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("INFO");
        for setting in SETTINGS {
            pipeline.cmd("CONFIG").arg("GET").arg(setting);
        }
        let mut server = Self::default();
        for (number, value) in link.query_all(&pipeline, by).await?.into_iter().enumerate() {
            match value {
                Value::ServerError(error) if error.code() == "NOAUTH" => return Err(Failure::server(&error)),
                // The server refuses to report its settings.
                Value::ServerError(_) => {}
                info if number == 0 => server.info = read_info(&answer::text(info)?),
                config => {
                    for (name, value) in answer::pairs(config)? {
                        server.config.insert(name, answer::text(value)?);
                    }
                }
            }
        }
        Ok(server)
    }

    fn info(&self, name: &str) -> Option<&str> {
        self.info.get(name).map(String::as_str)
    }

    fn config(&self, name: &str) -> Option<&str> {
        self.config.get(name).map(String::as_str)
    }

    fn assess(&self, durability: Durability, wait_replicas: u32) -> Result<Vec<String>, OpenError> {
        self.can_be_a_store()?;
        let mut weaknesses = Vec::new();
        self.check_eviction(&mut weaknesses)?;
        self.check_disk(durability, &mut weaknesses)?;
        self.check_replication(wait_replicas, &mut weaknesses);
        Ok(weaknesses)
    }

    fn can_be_a_store(&self) -> Result<(), OpenError> {
        if self.info("cluster_enabled") == Some("1") || self.info("redis_mode") == Some("cluster") {
            return Err(OpenError::Cluster);
        }
        if self.info("role") == Some("slave") {
            return Err(OpenError::Replica);
        }
        match self.info("redis_version") {
            Some(version) if is_too_old(version) => Err(OpenError::TooOld { found: version.to_owned() }),
            _ => Ok(()),
        }
    }

    /// Checks that a full server refuses writes instead of making room by deleting revocations.
    fn check_eviction(&self, weaknesses: &mut Vec<String>) -> Result<(), OpenError> {
        let policy = self.config("maxmemory-policy").or(self.info("maxmemory_policy"));
        let limit = self.config("maxmemory").or(self.info("maxmemory"));
        match (policy, limit) {
            // `volatile-…` deletes only keys with an expiry of Redis's own, and no key here has one.
            (Some(policy), _) if policy == "noeviction" || policy.starts_with("volatile-") => {}
            (Some(policy), Some("0")) => weaknesses.push(format!(
                "maxmemory-policy is {policy}: nothing is deleted as long as maxmemory is 0; should it ever be set, \
                 sessions and revocations are deleted when memory runs out. Set maxmemory-policy to noeviction."
            )),
            (Some(policy), _) => {
                return Err(OpenError::Setting {
                    setting: "maxmemory-policy",
                    needed: "noeviction",
                    found: policy.to_owned(),
                    otherwise: "sessions and revocations are deleted when memory runs out",
                });
            }
            (None, _) => weaknesses.push(
                "maxmemory-policy could not be checked: unless it is noeviction, sessions and revocations are deleted \
                 when memory runs out"
                    .to_owned(),
            ),
        }
        Ok(())
    }

    fn check_disk(&self, durability: Durability, weaknesses: &mut Vec<String>) -> Result<(), OpenError> {
        let demand = |setting, needed, found: &str, otherwise| {
            Err(OpenError::Setting { setting, needed, found: found.to_owned(), otherwise })
        };
        let appendonly = self.config("appendonly").or(match self.info("aof_enabled") {
            Some("1") => Some("yes"),
            Some(_) => Some("no"),
            None => None,
        });
        match (appendonly, durability) {
            (Some("yes"), _) => {}
            (Some(_), Durability::Volatile) => {
                weaknesses.push(VOLATILE.to_owned());
                return Ok(());
            }
            (Some(found), _) => return demand("appendonly", "yes", found, NOT_ON_DISK),
            (None, _) => weaknesses.push(
                "appendonly could not be checked: unless it is yes, a restart of Redis loses every session and \
                 revocation since its last snapshot"
                    .to_owned(),
            ),
        }
        match (self.config("appendfsync"), durability) {
            (Some("always"), _) => {}
            (Some("everysec"), Durability::Always) => {
                return demand("appendfsync", "always", "everysec", NOT_YET_ON_DISK);
            }
            (Some("everysec"), _) => weaknesses.push(
                "appendfsync is everysec: a crash of the machine loses about a second of logouts, revocations and \
                 refreshes that were answered"
                    .to_owned(),
            ),
            (Some(found), Durability::Always) => {
                return demand("appendfsync", "always", found, NOT_YET_ON_DISK);
            }
            (Some(found), Durability::EverySecond) => {
                return demand("appendfsync", "everysec", found, MAYBE_NEVER_ON_DISK);
            }
            (Some(found), Durability::Volatile) => weaknesses.push(format!(
                "appendfsync is {found}: a crash of the machine loses what the operating system had not written, often \
                 half a minute of logouts, revocations and refreshes that were answered"
            )),
            (None, _) => weaknesses.push(
                "appendfsync could not be checked: unless it is always, a crash loses the last logouts, revocations \
                 and refreshes that were answered"
                    .to_owned(),
            ),
        }
        match (self.config("no-appendfsync-on-rewrite"), durability) {
            (Some("yes"), Durability::Always) => {
                demand("no-appendfsync-on-rewrite", "no", "yes", NOT_YET_ON_DISK)
            }
            (Some("yes"), _) => {
                weaknesses.push(
                    "no-appendfsync-on-rewrite is yes: while the log is rewritten, a crash loses what was answered \
                     meanwhile"
                        .to_owned(),
                );
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn check_replication(&self, wait_replicas: u32, weaknesses: &mut Vec<String>) {
        let replicas = self.info("connected_slaves").and_then(|count| count.parse::<u32>().ok()).unwrap_or(0);
        if wait_replicas > replicas {
            weaknesses.push(format!(
                "wait_replicas is {wait_replicas}, but {replicas} are connected: every write is an error until there \
                 are enough"
            ));
        } else if wait_replicas == 0 && replicas > 0 {
            weaknesses.push(
                "replication is asynchronous: when a replica takes over, the last logouts, revocations and refreshes \
                 that were answered may be lost. Set wait_replicas to 1 or more."
                    .to_owned(),
            );
        }
    }
}

fn read_info(text: &str) -> HashMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Whether the version is older than 6.2, the oldest one in which scripts are replicated by their effects and say what
/// they mean.
fn is_too_old(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(u32::MAX));
    (numbers.next().unwrap_or(u32::MAX), numbers.next().unwrap_or(0)) < (6, 2)
}

const SETTINGS: [&str; 5] =
    ["appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory", "maxmemory-policy"];

const VOLATILE: &str = "appendonly is no: a restart of Redis loses every session (everybody logs in again) and every \
    revocation (an access token that was revoked is accepted again, until it expires, by nodes that start afterwards) \
    since the last snapshot, if there are snapshots";
const NOT_ON_DISK: &str = "a restart of Redis would lose sessions and revocations; set appendonly to yes and \
    appendfsync to always, or accept the loss with durability=volatile";
const NOT_YET_ON_DISK: &str = "a crash would undo the last logouts and revocations that were answered; set it, or \
    accept that with durability=everysec (about a second) or durability=volatile (everything)";
const MAYBE_NEVER_ON_DISK: &str = "a crash would undo logouts and revocations of a long time; set it, or accept that \
    with durability=volatile";

#[cfg(test)]
mod tests {
    use super::*;

    fn server(settings: &[(&str, &str)]) -> Server {
        let mut server = Server::default();
        let durable = [
            ("appendonly", "yes"),
            ("appendfsync", "always"),
            ("no-appendfsync-on-rewrite", "no"),
            ("maxmemory", "1000"),
            ("maxmemory-policy", "noeviction"),
            ("redis_version", "7.0.15"),
            ("role", "master"),
            ("connected_slaves", "0"),
        ];
        for (name, value) in durable.iter().chain(settings) {
            let map = if SETTINGS.contains(name) { &mut server.config } else { &mut server.info };
            map.insert((*name).to_owned(), (*value).to_owned());
        }
        server
    }

    #[test]
    fn a_durable_server_has_no_weaknesses() {
        for durability in [Durability::Always, Durability::EverySecond, Durability::Volatile] {
            assert_eq!(server(&[]).assess(durability, 0).unwrap(), Vec::<String>::new());
        }
        let settings = [("maxmemory-policy", "volatile-lru"), ("connected_slaves", "2")];
        assert_eq!(server(&settings).assess(Durability::Always, 2).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn what_loses_more_than_was_accepted_is_refused_and_what_loses_less_is_told() {
        use Durability::{Always, EverySecond, Volatile};
        for (setting, value, refused_by, told_by) in [
            ("appendonly", "no", &[Always, EverySecond][..], &[Volatile][..]),
            ("appendfsync", "everysec", &[Always], &[EverySecond, Volatile]),
            ("appendfsync", "no", &[Always, EverySecond], &[Volatile]),
            ("no-appendfsync-on-rewrite", "yes", &[Always], &[EverySecond, Volatile]),
            ("maxmemory-policy", "allkeys-lru", &[Always, EverySecond, Volatile], &[]),
        ] {
            for durability in refused_by {
                let refused = server(&[(setting, value)]).assess(*durability, 0).unwrap_err();
                assert!(
                    matches!(&refused, OpenError::Setting { setting: found, .. } if *found == setting),
                    "{setting} is {value}, {durability:?}: {refused}"
                );
                assert!(refused.to_string().contains(value), "{refused}");
            }
            for durability in told_by {
                let weaknesses = server(&[(setting, value)]).assess(*durability, 0).unwrap();
                let [weakness] = weaknesses.as_slice() else { panic!("one weakness: {weaknesses:?}") };
                assert!(weakness.starts_with(&format!("{setting} is {value}")), "{weakness}");
            }
        }
    }

    #[test]
    fn what_cannot_be_checked_is_told() {
        let silent = Server::default();
        let weaknesses = silent.assess(Durability::Always, 0).unwrap();
        for setting in ["appendonly", "appendfsync", "maxmemory-policy"] {
            let told = format!("{setting} could not be checked");
            assert!(weaknesses.iter().any(|weakness| weakness.starts_with(&told)), "{setting}");
        }
        // Without CONFIG, INFO still reports most settings.
        let mut hosted = server(&[("aof_enabled", "0"), ("maxmemory_policy", "noeviction")]);
        hosted.config.clear();
        let refused = hosted.assess(Durability::Always, 0).unwrap_err();
        assert!(matches!(refused, OpenError::Setting { setting: "appendonly", .. }), "{refused}");
    }

    #[test]
    fn replicas_are_told_of() {
        let weaknesses = server(&[("connected_slaves", "1")]).assess(Durability::Always, 0).unwrap();
        assert!(weaknesses.iter().any(|weakness| weakness.starts_with("replication is asynchronous")));
        let weaknesses = server(&[("connected_slaves", "1")]).assess(Durability::Always, 2).unwrap();
        assert!(weaknesses.iter().any(|weakness| weakness.starts_with("wait_replicas is 2, but 1")));
    }

    #[test]
    fn what_cannot_be_a_store_is_refused() {
        let refused = |settings| server(settings).assess(Durability::Volatile, 0).unwrap_err();
        assert!(matches!(refused(&[("cluster_enabled", "1")]), OpenError::Cluster));
        assert!(matches!(refused(&[("role", "slave")]), OpenError::Replica));
        for (version, too_old) in [
            ("6.0.16", true),
            ("5.0", true),
            ("6.2.0", false),
            ("7.4.1", false),
            ("10.0", false),
            ("?", false),
        ] {
            let assessed = server(&[("redis_version", version)]).assess(Durability::Always, 0);
            assert_eq!(matches!(assessed, Err(OpenError::TooOld { .. })), too_old, "{version}");
        }
    }
}
