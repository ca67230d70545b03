//! Options: the database to use, and how it is opened.

use std::fmt;
use std::net::Ipv6Addr;
use std::time::Duration;

use mongodb::options::{
    Acknowledgment, ClientOptions, ConnectionString, HostInfo, ReadConcern, ReadConcernLevel, ReadPreference,
    SelectionCriteria, ServerAddress,
};

use crate::call::Failure;

/// The options with which a [`MongodbStore`](crate::MongodbStore) is opened.
///
/// ```
/// use countersign_mongodb::MongodbOptions;
///
/// let options = MongodbOptions::from_url("mongodb://app:password@db.example/app?replicaSet=rs0")?;
/// assert_eq!(options.servers(), "db.example:27017");
/// assert!(!format!("{options} {options:?}").contains("password"), "it can go to a log");
/// # Ok::<(), countersign_mongodb::OpenError>(())
/// ```
#[derive(Clone)]
pub struct MongodbOptions {
    /// The URL, including its password.
    pub(crate) url: String,
    servers: String,
    pub(crate) database: String,
    pub(crate) run_migrations: bool,
    pub(crate) deadline: Duration,
    pub(crate) connections: u32,
}

/// Why the database could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The URL is not one of MongoDB's, or the driver does not know a parameter. The message does not repeat the URL,
    /// because it may hold a password.
    #[error(
        "not a MongoDB URL: write mongodb:// or mongodb+srv://, user and password with their special characters \
         percent-encoded, the servers, and the database's name"
    )]
    Url,
    /// The URL has a parameter with which the store cannot work.
    #[error("the URL's parameter {parameter} cannot be used: {why}")]
    Parameter {
        /// The name of the parameter.
        parameter: &'static str,
        /// The reason why it cannot be used.
        why: &'static str,
    },
    /// The servers could not be reached, or did not do what opening needs.
    #[error("could not {action} at {servers}")]
    Server {
        /// What opening was about to do.
        action: &'static str,
        /// The servers.
        servers: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The collections are not up to date, and the options do not allow changing them.
    #[error("the database's collections are not up to date; run the migrations first")]
    NotMigrated,
    /// The collections are those of a newer version of this program.
    #[error("the database's collections are of version {found}, this program knows those up to {known}")]
    Newer {
        /// The version of the collections.
        found: i64,
        /// The newest version that this program knows.
        known: i64,
    },
}

impl MongodbOptions {
    /// The default deadline: 3 s.
    pub const DEADLINE: Duration = Duration::from_secs(3);
    /// The default number of connections: 32.
    pub const CONNECTIONS: u32 = 32;
    /// The name of the database that is used if the URL names none.
    pub const DATABASE: &'static str = "countersign";

    /// Options from a URL, such as `mongodb://user:password@host:27017/countersign?replicaSet=rs0` or
    /// `mongodb+srv://user:password@host/countersign`, with the parameters that MongoDB's drivers know: `replicaSet`,
    /// `authSource`, `tls`, `tlsCAFile`, `tlsCertificateKeyFile`, `maxPoolSize`, and so on. The database's collections
    /// are brought up to date when it is opened.
    ///
    /// Writes are confirmed by a majority that has them in its journals (`w=majority`, `journal=true`), and reads see
    /// only such writes (`readConcernLevel=majority`). If the URL asks for less,
    /// [`weaknesses`](crate::MongodbStore::weaknesses) tells. Reads always go to the primary, whatever the URL says.
    ///
    /// # Errors
    /// [`OpenError::Url`], and [`OpenError::Parameter`] for `w=0` and `socketTimeoutMS`.
    pub fn from_url(url: &str) -> Result<Self, OpenError> {
        let parsed = ConnectionString::parse(url).map_err(|_| OpenError::Url)?;
        #[expect(
            deprecated,
            reason = "the driver refuses it too, but later, and with the value in its words"
        )]
        if parsed.socket_timeout.is_some() {
            return Err(OpenError::Parameter {
                parameter: "socketTimeoutMS",
                why: "the driver does not know it; the store's own deadline holds",
            });
        }
        if parsed.write_concern.as_ref().and_then(|concern| concern.w.as_ref())
            == Some(&Acknowledgment::Nodes(0))
        {
            return Err(OpenError::Parameter {
                parameter: "w",
                why: "with w=0 no server confirms a write, and no race is ever settled",
            });
        }
        let servers = match &parsed.host_info {
            HostInfo::HostIdentifiers(hosts) => hosts.iter().map(shown).collect::<Vec<_>>().join(","),
            HostInfo::DnsRecord(host) => host.clone(),
            _ => String::new(),
        };
        Ok(Self {
            url: url.to_owned(),
            servers,
            database: parsed.default_database.unwrap_or_else(|| Self::DATABASE.to_owned()),
            run_migrations: true,
            deadline: Self::DEADLINE,
            connections: parsed.max_pool_size.unwrap_or(Self::CONNECTIONS).clamp(2, 1_000),
        })
    }

    /// The name of the database, in place of the URL's.
    #[must_use]
    pub fn database(mut self, name: &str) -> Self {
        name.clone_into(&mut self.database);
        self
    }

    /// Whether opening brings the collections up to date. Default: yes. Otherwise opening fails when they are not.
    #[must_use]
    pub fn run_migrations(mut self, run: bool) -> Self {
        self.run_migrations = run;
        self
    }

    /// The time within which every operation is answered, with an error if necessary. Default: 3 s, so that a request
    /// gets its 503 while the client still waits; at least 10 ms, at most a minute.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline.clamp(Duration::from_millis(10), Duration::from_secs(60));
        self
    }

    /// The largest number of connections to each server (`maxPoolSize` in the URL). Default: 32. The tail of the
    /// revocation log has further connections of its own.
    #[must_use]
    pub fn connections(mut self, connections: u32) -> Self {
        self.connections = connections.clamp(2, 1_000);
        self
    }

    /// The servers, without user name and password.
    #[must_use]
    pub fn servers(&self) -> &str {
        &self.servers
    }

    /// The options for the driver, and those among them that are weaker than they should be.
    pub(crate) async fn client(&self) -> Result<(ClientOptions, Vec<String>), OpenError> {
        // The driver asks the DNS for the servers of a mongodb+srv URL.
        let parsed = ClientOptions::parse(self.url.as_str());
        let mut options = match tokio::time::timeout(self.deadline, parsed).await {
            Ok(Ok(options)) => options,
            Ok(Err(error)) => return Err(self.failed("find the servers", error.into())),
            Err(_) => return Err(self.failed("find the servers", Failure::Deadline)),
        };
        let weaknesses = strengthen(&mut options, self.deadline);
        if options.selection_criteria.as_ref().is_some_and(|criteria| {
            !matches!(criteria, SelectionCriteria::ReadPreference(ReadPreference::Primary))
        }) {
            tracing::warn!("the URL's readPreference is not followed: the store reads from the primary");
        }
        options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
        options.app_name.get_or_insert_with(|| "countersign".to_owned());
        // The driver's limit is a little shorter than the deadline, so that its answer, which says more, comes first.
        let sooner = self.deadline.saturating_mul(5) / 6;
        let at_most = |time: Option<Duration>| Some(time.map_or(sooner, |time| time.min(sooner)));
        options.server_selection_timeout = at_most(options.server_selection_timeout);
        options.connect_timeout = at_most(options.connect_timeout);
        // Together with the limit above, this is the time after which a connection to a dead server is given up.
        options.heartbeat_freq.get_or_insert(Duration::from_secs(2));
        options.max_pool_size = Some(self.connections);
        Ok((options, weaknesses))
    }

    pub(crate) fn failed(&self, action: &'static str, failure: Failure) -> OpenError {
        OpenError::Server { action, servers: self.servers.clone(), source: failure.into() }
    }
}

/// A server as URLs write it, with an IPv6 address in brackets.
fn shown(server: &ServerAddress) -> String {
    match server {
        ServerAddress::Tcp { host, port } if host.parse::<Ipv6Addr>().is_ok() => {
            format!("[{host}]:{}", port.unwrap_or(27_017))
        }
        other => other.to_string(),
    }
}

/// Fills in the strongest settings where the URL has none. Returns the weaker ones that the URL has.
fn strengthen(options: &mut ClientOptions, deadline: Duration) -> Vec<String> {
    let mut weaknesses = Vec::new();
    let concern = options.write_concern.get_or_insert_default();
    match concern.w.get_or_insert(Acknowledgment::Majority) {
        Acknowledgment::Majority => {}
        Acknowledgment::Nodes(nodes) => weaknesses.push(format!(
            "w is {nodes}, not majority: when the primary fails, logouts, refreshes and accounts that were answered can \
             be lost"
        )),
        // A tag set that the replica set defines may be stronger.
        _ => {}
    }
    if !*concern.journal.get_or_insert(true) {
        weaknesses.push(
            "journal is false: when the servers lose power, logouts, refreshes and accounts that were answered can be \
             lost"
                .to_owned(),
        );
    }
    // A write that is not confirmed by then is no longer waited for, on the server either.
    concern.w_timeout.get_or_insert(deadline);
    let by_majority = concern.w == Some(Acknowledgment::Majority);
    match &options.read_concern {
        // Reads of majority-committed data would not see writes that no majority has to confirm.
        None if !by_majority => options.read_concern = Some(ReadConcern::local()),
        None => options.read_concern = Some(ReadConcern::majority()),
        Some(concern) => match &concern.level {
            ReadConcernLevel::Majority | ReadConcernLevel::Linearizable => {}
            level => {
                let name = match level {
                    ReadConcernLevel::Available => "available",
                    ReadConcernLevel::Snapshot => "snapshot",
                    ReadConcernLevel::Custom(name) => name.as_str(),
                    _ => "local",
                };
                weaknesses.push(format!(
                    "readConcernLevel is {name}, not majority: what was read can be lost when the primary fails"
                ));
            }
        },
    }
    weaknesses
}

/// Writes where the database is, without secrets.
impl fmt::Display for MongodbOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the MongoDB database {} at {}", self.database, self.servers)
    }
}

impl fmt::Debug for MongodbOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongodbOptions")
            .field("servers", &self.servers)
            .field("database", &self.database)
            .field("run_migrations", &self.run_migrations)
            .field("deadline", &self.deadline)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use mongodb::options::WriteConcern;

    use super::*;

    #[test]
    fn urls_name_servers_and_a_database() {
        for (url, expected) in [
            ("mongodb://localhost", Some(("localhost:27017", "countersign"))),
            ("mongodb://u:p@a,b:27018/users?replicaSet=rs0", Some(("a:27017,b:27018", "users"))),
            (
                "mongodb://u:p@[::1]:27018,[2001:db8::2]/users",
                Some(("[::1]:27018,[2001:db8::2]:27017", "users")),
            ),
            ("mongodb://[::1/users", None),
            ("mongodb+srv://u:p@cluster.example/users", Some(("cluster.example", "users"))),
            ("mongodb://", None),
            ("mongodb://localhost/?noSuchThing", None),
            ("postgres://localhost/a", None),
            ("", None),
        ] {
            let options = MongodbOptions::from_url(url).ok();
            let found = options.as_ref().map(|options| (options.servers(), options.database.as_str()));
            assert_eq!(found, expected, "{url}");
        }
    }

    #[test]
    fn parameters_that_break_the_promises_are_refused() {
        for (url, expected) in [
            ("mongodb://localhost/?w=0", "w"),
            ("mongodb://localhost/?socketTimeoutMS=5000", "socketTimeoutMS"),
        ] {
            match MongodbOptions::from_url(url) {
                Err(OpenError::Parameter { parameter, .. }) => assert_eq!(parameter, expected),
                other => panic!("{url}: {other:?}"),
            }
        }
    }

    #[test]
    fn no_password_is_in_debug_texts_or_errors() {
        let options = MongodbOptions::from_url("mongodb://ada:s3cret@localhost/db").unwrap();
        assert!(!format!("{options:?}").contains("s3cret"), "{options:?}");
        for url in ["mongodb://ada:s3cret/x@localhost", "mongodb://ada:s3cret@localhost:99999", "s3cret"] {
            let error = MongodbOptions::from_url(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("s3cret"), "{error:?}");
        }
    }

    #[tokio::test]
    async fn the_strongest_settings_are_the_default_and_weaker_ones_are_told() {
        for (parameters, expected) in [
            ("", &[][..]),
            ("&w=majority&journal=true&readConcernLevel=majority", &[]),
            ("&w=eachDataCentre", &[]),
            ("&w=1", &["w is 1"]),
            ("&w=1&journal=false", &["w is 1", "journal is false"]),
            ("&journal=false", &["journal is false"]),
            ("&readConcernLevel=local", &["readConcernLevel is local"]),
            ("&readConcernLevel=available", &["readConcernLevel is available"]),
        ] {
            let url = format!("mongodb://localhost/?readPreference=nearest{parameters}");
            let (client, weaknesses) = MongodbOptions::from_url(&url).unwrap().client().await.unwrap();
            assert_eq!(weaknesses.len(), expected.len(), "{url}: {weaknesses:?}");
            for (weakness, expected) in weaknesses.iter().zip(expected) {
                assert!(weakness.starts_with(expected), "{url}: {weakness}");
            }
            let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
            assert_eq!(client.selection_criteria, Some(primary), "{url}");
            let concern: WriteConcern = client.write_concern.unwrap();
            assert_eq!(concern.w_timeout, Some(MongodbOptions::DEADLINE), "{url}");
            if parameters.is_empty() {
                assert_eq!((concern.w, concern.journal), (Some(Acknowledgment::Majority), Some(true)));
                assert_eq!(client.read_concern, Some(ReadConcern::majority()));
            }
        }
    }

    #[tokio::test]
    async fn the_driver_gives_up_before_the_deadline() {
        let options = MongodbOptions::from_url("mongodb://localhost/?connectTimeoutMS=60000").unwrap();
        let (client, _) = options.deadline(Duration::from_millis(600)).client().await.unwrap();
        assert_eq!(client.connect_timeout, Some(Duration::from_millis(500)));
        assert_eq!(client.server_selection_timeout, Some(Duration::from_millis(500)));
    }
}
