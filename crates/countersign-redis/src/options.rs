//! Options: the Redis to use, the way to reach it, and the durability it must have.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use redis::{Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, TlsCertificates};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use crate::failure::Failure;
use crate::link::choose_cryptography;

/// The options with which a [`RedisStore`](crate::RedisStore) is opened.
///
/// ```
/// use countersign_redis::RedisOptions;
///
/// let options = RedisOptions::from_url("redis://:s3cret@db.example:6379/0?durability=volatile")?;
/// assert!(options.is_volatile());
/// assert!(!format!("{options} {options:?}").contains("s3cret"), "it can go to a log");
/// # Ok::<(), countersign_redis::OpenError>(())
/// ```
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// The driver's client, whose `Debug` form leaves out the password.
    pub(crate) client: Client,
    pub(crate) prefix: String,
    pub(crate) durability: Durability,
    pub(crate) wait_replicas: u32,
    pub(crate) deadline: Duration,
    pub(crate) connections: usize,
    pub(crate) run_migrations: bool,
}

/// The amount of answered data that a crash of Redis may lose.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Durability {
    /// Nothing: answered data is on disk.
    #[default]
    Always,
    /// About a second of answered data.
    EverySecond,
    /// All data.
    Volatile,
}

/// Why Redis could not be opened as a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The URL cannot be used.
    #[error("not a usable Redis URL: {reason}")]
    Url {
        /// The reason.
        reason: &'static str,
    },
    /// A file that the URL names cannot be read.
    #[error("the file {} cannot be read", path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A certificate or a key cannot be used.
    #[error("the certificates or the key that the URL names cannot be used")]
    Certificate,
    /// Redis did not answer as it should.
    #[error("could not open Redis")]
    Redis(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The Redis is a cluster.
    #[error(
        "this Redis is a cluster, which is not supported: the revocation log of all users is written in one step; \
         use a single primary, with replicas if you like"
    )]
    Cluster,
    /// The Redis is a replica and takes no writes.
    #[error("this Redis is a replica and takes no writes; use the address of the primary")]
    Replica,
    /// The Redis is too old.
    #[error("Redis {found} is too old; use 6.2 or newer")]
    TooOld {
        /// The version of the server.
        found: String,
    },
    /// A setting of the server means that answered data may be lost.
    #[error("the server's setting {setting} is {found}, but must be {needed}: {otherwise}")]
    Setting {
        /// The name of the setting.
        setting: &'static str,
        /// The value that the setting must have.
        needed: &'static str,
        /// The value that the setting has.
        found: String,
        /// The consequence of this value, and the option that accepts it.
        otherwise: &'static str,
    },
    /// There is no store under the prefix yet, and the options do not allow setting one up.
    #[error("there is no store under the prefix {prefix}; run the migrations first")]
    NotMigrated {
        /// The prefix of the keys.
        prefix: String,
    },
    /// The store was written by a newer version.
    #[error("the store has layout {found}, which is newer than this program's; upgrade the program")]
    Newer {
        /// The layout of the store.
        found: String,
    },
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        Self::Redis(failure.into())
    }
}

/// Writes where the Redis is, without secrets.
impl fmt::Display for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = self.client.get_connection_info();
        match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }
                if host.parse::<Ipv6Addr>().is_ok() =>
            {
                write!(f, "Redis at [{host}]:{port}")?;
            }
            other => write!(f, "Redis at {other}")?,
        }
        write!(f, " (database {}, prefix {})", info.redis_settings().db(), self.prefix)
    }
}

impl RedisOptions {
    /// The default prefix of all keys.
    pub const PREFIX: &'static str = "countersign";
    /// The default deadline: 3 s.
    pub const DEADLINE: Duration = Duration::from_secs(3);
    /// The default number of connections: 2.
    pub const CONNECTIONS: usize = 2;

    /// Options from a URL: `redis://:password@host:6379/0`, `rediss://…` with TLS, or `unix:///path/to/socket`.
    ///
    /// The parameters `prefix`, `durability` (`always`, `everysec` or `volatile`) and `wait_replicas` correspond to the
    /// methods of this type. `ssl_ca_certs` names a file with the CA certificates to trust instead of the system's;
    /// `ssl_certfile` and `ssl_keyfile` name the client's own certificate and key (all PEM). A socket has the
    /// parameters `db`, `user` and `pass`.
    ///
    /// For `rediss://`, aws-lc-rs becomes the cryptography provider of the whole program's rustls, unless the program
    /// has chosen one.
    ///
    /// # Errors
    /// [`OpenError::Url`], [`OpenError::File`] or [`OpenError::Certificate`]. No message holds the URL, which may
    /// contain a password.
    pub fn from_url(url: &str) -> Result<Self, OpenError> {
        let refuse = |reason| OpenError::Url { reason };
        let mut url = redis::parse_redis_url(url)
            .ok_or(refuse("write redis://host:port/db, rediss:// for TLS, or unix:// and a socket's path"))?;
        if url.fragment().is_some() {
            return Err(refuse(
                "leave out the part after #; to trust a certificate of your own, name its CA with ssl_ca_certs",
            ));
        }
        let is_socket = url.scheme().ends_with("unix");
        let parameters: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        url.set_query(None);
        let mut parsed = Parameters::default();
        for (name, value) in parameters {
            match name.as_str() {
                "prefix" => parsed.prefix = Some(value),
                "durability" => parsed.durability = durability(&value).ok_or(refuse(DURABILITY))?,
                "wait_replicas" => parsed.wait_replicas = value.parse().map_err(|_| refuse(WAIT_REPLICAS))?,
                "ssl_ca_certs" => parsed.ca_certificates = Some(value.into()),
                "ssl_certfile" => parsed.certificate = Some(value.into()),
                "ssl_keyfile" => parsed.key = Some(value.into()),
                "db" | "user" | "pass" if is_socket => {
                    url.query_pairs_mut().append_pair(&name, &value);
                }
                _ => return Err(refuse("it has an unknown parameter")),
            }
        }
        // The driver's own message may repeat parts of the URL.
        let info = url.into_connection_info().map_err(|_| refuse("a part of it cannot be understood"))?;
        // RESP3 tells when a connection was closed.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let info = info.set_redis_settings(settings);
        let client = if matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            choose_cryptography();
            let certificates = parsed.certificates()?;
            Client::build_with_tls(info, certificates).map_err(|_| OpenError::Certificate)?
        } else if parsed.names_certificates() {
            return Err(refuse("certificates are for rediss:// only"));
        } else {
            Client::open(info).map_err(|_| refuse("a part of it cannot be understood"))?
        };
        let options = Self {
            client,
            prefix: Self::PREFIX.to_owned(),
            durability: parsed.durability,
            wait_replicas: parsed.wait_replicas,
            deadline: Self::DEADLINE,
            connections: Self::CONNECTIONS,
            run_migrations: true,
        };
        match parsed.prefix {
            Some(prefix) => options.prefix(&prefix),
            None => Ok(options),
        }
    }

    /// The prefix of all keys, so that several stores, or other programs, can share a database. Default: `countersign`.
    ///
    /// # Errors
    /// [`OpenError::Url`] unless the prefix is 1 to 64 ASCII letters, digits, `-`, `_`, `.` and `:`.
    pub fn prefix(mut self, prefix: &str) -> Result<Self, OpenError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        if !(1..=64).contains(&prefix.len()) || !prefix.bytes().all(fits) {
            return Err(OpenError::Url {
                reason: "the prefix is 1 to 64 ASCII letters, digits, -, _, . and :",
            });
        }
        prefix.clone_into(&mut self.prefix);
        Ok(self)
    }

    /// Accepts a server that writes to disk every second (`appendfsync everysec`) instead of before each answer. A
    /// crash then loses up to about a second of answered data: confirmed logouts and revocations are undone, and a
    /// refresh that is forgotten looks like a lost reply.
    #[must_use]
    pub fn allow_everysec(mut self) -> Self {
        self.durability = Durability::EverySecond;
        self
    }

    /// Accepts a server that keeps nothing over a restart (`appendonly no`).
    ///
    /// A restart then loses every session, so all users have to log in again. It loses revocations too: an access token
    /// that was revoked before the restart is accepted again until it expires, by every node that starts after it. Keys
    /// and accounts are lost as well, if they are kept in this store.
    #[must_use]
    pub fn allow_volatile(mut self) -> Self {
        self.durability = Durability::Volatile;
        self
    }

    /// Whether a server that keeps nothing over a restart is accepted.
    #[must_use]
    pub fn is_volatile(&self) -> bool {
        self.durability == Durability::Volatile
    }

    /// The number of replicas that must have a write before it is answered (`WAIT`). Default: 0.
    ///
    /// Redis replicates after it has answered. A replica that takes over may lack what was answered just before, so
    /// logouts and revocations are undone. With this option, a write that too few replicas confirm is an error, and so
    /// is every write while fewer replicas are connected. The option makes the loss unlikely, not impossible, because
    /// Redis does not elect the replica that has most of the data.
    #[must_use]
    pub fn wait_replicas(mut self, replicas: u32) -> Self {
        self.wait_replicas = replicas;
        self
    }

    /// The time within which every operation is answered, with an error if necessary. Default: 3 s, so that a request
    /// gets its 503 while the client still waits; at least 10 ms, at most a minute.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline.clamp(Duration::from_millis(10), Duration::from_secs(60));
        self
    }

    /// The number of connections that carry the commands. Default: 2, because each carries many commands at once. The
    /// tail of the revocation log and the push have one further connection each.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.clamp(1, 64);
        self
    }

    /// Whether opening sets up an empty store. Default: yes. Otherwise opening fails when there is no store.
    #[must_use]
    pub fn run_migrations(mut self, run: bool) -> Self {
        self.run_migrations = run;
        self
    }
}

#[derive(Debug, Default)]
struct Parameters {
    prefix: Option<String>,
    durability: Durability,
    wait_replicas: u32,
    ca_certificates: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Parameters {
    fn names_certificates(&self) -> bool {
        self.ca_certificates.is_some() || self.certificate.is_some() || self.key.is_some()
    }

    fn certificates(&self) -> Result<TlsCertificates, OpenError> {
        let client_tls = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                Some(ClientTlsConfig { client_cert: read(certificate)?, client_key: read(key)? })
            }
            (None, None) => None,
            _ => return Err(OpenError::Url { reason: "ssl_certfile and ssl_keyfile belong together" }),
        };
        let root_cert = self.ca_certificates.as_deref().map(read).transpose()?;
        if root_cert.as_deref().is_some_and(|ca| CertificateDer::pem_slice_iter(ca).next().is_none()) {
            return Err(OpenError::Certificate);
        }
        Ok(TlsCertificates { client_tls, root_cert })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, OpenError> {
    std::fs::read(path).map_err(|source| OpenError::File { path: path.to_owned(), source })
}

fn durability(text: &str) -> Option<Durability> {
    match text {
        "always" => Some(Durability::Always),
        "everysec" => Some(Durability::EverySecond),
        "volatile" => Some(Durability::Volatile),
        _ => None,
    }
}

const DURABILITY: &str = "durability is always, everysec or volatile";
const WAIT_REPLICAS: &str = "wait_replicas is a number";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_strictly() {
        for (url, accepted) in [
            ("redis://localhost", true),
            ("redis://:secret@localhost:6379/3", true),
            ("redis://user:secret@[::1]:6379/3?prefix=app:auth", true),
            ("redis://localhost?durability=everysec&wait_replicas=1", true),
            ("redis://localhost?durability=volatile", true),
            ("rediss://localhost", true),
            ("unix:///run/redis.sock?db=2&user=a&pass=secret&prefix=x", true),
            ("redis://localhost?durability=never", false),
            ("redis://localhost?wait_replicas=-1", false),
            ("redis://localhost?prefix=", false),
            ("redis://localhost?prefix={x}", false),
            ("redis://localhost?prefix=a%20b", false),
            ("redis://localhost?db=2", false),
            ("redis://localhost?ssl_ca_certs=/etc/ca.pem", false),
            ("redis://localhost/secret", false),
            ("rediss://localhost/#insecure", false),
            ("rediss://localhost?ssl_certfile=/etc/own.pem", false),
            ("rediss://localhost?ssl_ca_certs=/there/is/no/such/file", false),
            ("postgres://localhost/a", false),
            ("localhost", false),
        ] {
            let options = RedisOptions::from_url(url);
            assert_eq!(options.is_ok(), accepted, "{url}");
            assert!(!format!("{options:?}").contains("secret"), "{url}");
        }
    }

    #[test]
    fn addresses_of_ipv6_lose_their_brackets_on_the_way_to_the_network() {
        for (url, expected) in [
            ("redis://[::1]:6380/3", "::1"),
            ("redis://:secret@[2001:DB8::2]", "2001:db8::2"),
            ("rediss://[::1]", "::1"),
        ] {
            let options = RedisOptions::from_url(url).unwrap();
            let info = options.client.get_connection_info();
            let (ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. }) = info.addr() else {
                panic!("{url}");
            };
            assert_eq!(host, expected, "{url}");
        }
        let shown = RedisOptions::from_url("redis://[::1]:6380/3").unwrap().to_string();
        assert_eq!(shown, "Redis at [::1]:6380 (database 3, prefix countersign)");
    }

    #[test]
    fn parameters_and_methods_are_the_same() {
        let url = "redis://localhost?prefix=app&durability=volatile&wait_replicas=2";
        let options = RedisOptions::from_url(url).unwrap();
        let same = RedisOptions::from_url("redis://localhost").unwrap();
        let same = same.prefix("app").unwrap().allow_volatile().wait_replicas(2);
        assert_eq!(format!("{options:?}"), format!("{same:?}"));
    }
}
