//! Which PostgreSQL server a store uses, and how.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use crate::OpenError;
use crate::server::{Place, ServerSettings, address_and_parameters, without_brackets};

/// How a [`PostgresStore`](super::PostgresStore) is opened.
///
/// ```
/// use countersign_sql::postgres::PostgresOptions;
///
/// let url = "postgres://app:password@db.example/app?sslmode=verify-full";
/// let options = PostgresOptions::from_url(url)?.connections(8);
/// assert!(!format!("{options} {options:?}").contains("password"), "it can go to a log");
/// # Ok::<(), countersign_sql::OpenError>(())
/// ```
#[derive(Clone)]
pub struct PostgresOptions {
    pub(super) server: PgConnectOptions,
    pub(super) listen: Option<PgConnectOptions>,
    pub(super) pooled: Option<bool>,
    pub(super) settings: ServerSettings,
}

impl PostgresOptions {
    /// The default deadline: 3 s.
    pub const DEADLINE: Duration = ServerSettings::DEADLINE;
    /// The default number of connections: 16.
    pub const CONNECTIONS: u32 = ServerSettings::CONNECTIONS;

    /// Reads the options from a URL: `postgres://user:password@host:5432/database`. What the URL leaves out comes from
    /// the environment (`PGHOST`, `PGPASSWORD`, …) and `~/.pgpass`, as in other programs. An IPv6 address is in
    /// brackets: `postgres://user@[::1]:5432/database`.
    ///
    /// Parameters: `sslmode` (`disable`, `prefer`, `require`, `verify-ca`, `verify-full`; default `prefer`),
    /// `sslrootcert`, `sslcert`, `sslkey` (files), `application_name`, `host` (a host, or a folder with a socket),
    /// `port`, `user`, `password`, `dbname`, `options`. Countersign adds two: `pooled=true` or `false`
    /// ([`pooled`](Self::pooled)), and `listen=host:port`, the server behind a pooler
    /// ([`listen_url`](Self::listen_url)). `statement-cache-capacity=0` means the same as `pooled=true`.
    ///
    /// # Errors
    /// [`OpenError::Url`] if the text is no such URL, and [`OpenError::UrlParameter`] if a parameter is not known.
    pub fn from_url(url: &str) -> Result<Self, OpenError> {
        let Parsed { server, listen, pooled } = parse(url)?;
        Ok(Self { server, listen, pooled, settings: ServerSettings::default() })
    }

    /// Sets where the store listens for what other nodes revoke, if the first URL leads to a pooler. This URL must lead
    /// straight to the server, to the same database. Without it, a node behind a pooler learns of revocations only by
    /// polling.
    ///
    /// # Errors
    /// The errors of [`PostgresOptions::from_url`].
    pub fn listen_url(mut self, url: &str) -> Result<Self, OpenError> {
        self.listen = Some(parse(url)?.server);
        Ok(self)
    }

    /// Whether there is a pooler in between that hands each transaction to another server connection (PgBouncer in
    /// transaction mode) and does not carry prepared statements along. Default: found out when the store is opened.
    ///
    /// With `true`, each statement is sent in a transaction of its own, which takes four round trips instead of one.
    /// PgBouncer from 1.21 on with `max_prepared_statements` above 0 carries prepared statements along, so
    /// `pooled(false)` is right for it, and fast.
    #[must_use]
    pub fn pooled(mut self, pooled: bool) -> Self {
        self.pooled = Some(pooled);
        self
    }

    /// Whether opening the store brings the tables up to date. Default: yes. With `false`, opening fails if they are
    /// not.
    #[must_use]
    pub fn run_migrations(mut self, run: bool) -> Self {
        self.settings.run_migrations = run;
        self
    }

    /// The deadline by which every operation is answered, with an error if need be: at least 10 ms, at most a minute.
    /// Default 3 s, so that a request gets its 503 while the client still waits. The server gives statements up at the
    /// deadline as well, unless a pooler is in between.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.set_deadline(deadline);
        self
    }

    /// The largest number of connections that do the work, at least 1. Default 16, enough to keep some cores of the
    /// server busy. Two more connections read the revocation log, and one listens for what other nodes have revoked.
    #[must_use]
    pub fn connections(mut self, connections: u32) -> Self {
        self.settings.set_connections(connections);
        self
    }
}

/// Shows where the database is and as which user it is opened, and nothing secret.
impl fmt::Display for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (server, user) = (&self.server, self.server.get_username());
        let place = Place {
            engine: "PostgreSQL",
            database: server.get_database().unwrap_or(user),
            socket: server.get_socket().map(AsRef::as_ref),
            host: server.get_host(),
            port: server.get_port(),
            user,
        };
        place.fmt(f)
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Written field by field, because the driver's own `Debug` form would show the password.
        f.debug_struct("PostgresOptions")
            .field("host", &self.server.get_host())
            .field("port", &self.server.get_port())
            .field("database", &self.server.get_database())
            .field("user", &self.server.get_username())
            .field("listens_elsewhere", &self.listen.is_some())
            .field("pooled", &self.pooled)
            .field("run_migrations", &self.settings.run_migrations)
            .field("deadline", &self.settings.deadline)
            .field("connections", &self.settings.connections)
            .finish()
    }
}

/// The parameters that a URL may have.
const PARAMETERS: [&str; 20] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
    "pooled",
    "listen",
];

/// The error for a URL that is not one of PostgreSQL.
const NO_URL: OpenError = OpenError::Url {
    engine: "PostgreSQL",
    form: "postgres://user:password@host:5432/database, with @ / ? # and % in the password percent-encoded",
};

const NO_PARAMETER: OpenError = OpenError::UrlParameter {
    engine: "PostgreSQL",
    problem: "a parameter that is unknown or cannot have that value",
    known: &PARAMETERS,
};

/// The parts of a URL.
struct Parsed {
    server: PgConnectOptions,
    listen: Option<PgConnectOptions>,
    pooled: Option<bool>,
}

fn parse(url: &str) -> Result<Parsed, OpenError> {
    let (address, parameters) = address_and_parameters(url, ["postgres", "postgresql"]).ok_or(NO_URL)?;
    let (mut pooled, mut listen, mut for_the_driver) = (None, None, Vec::new());
    // The host is set as a parameter, because the driver would look up the URL's own host with its brackets, in the DNS
    // and in `~/.pgpass`. A `host` parameter in the URL comes after it and wins.
    if let Some(host) = ipv6_host(address) {
        for_the_driver.push(format!("host={host}"));
    }
    for (name, value) in parameters {
        match name {
            "pooled" => pooled = Some(value.parse().map_err(|_| NO_PARAMETER)?),
            "listen" => listen = Some(host_and_port(value).ok_or(NO_PARAMETER)?),
            "statement-cache-capacity" => pooled = Some(value == "0"),
            // The driver would log the value of a parameter that it does not know, and ignore the parameter.
            "host" | "hostaddr" => {
                let value =
                    value.replace("%5B", "[").replace("%5b", "[").replace("%5D", "]").replace("%5d", "]");
                for_the_driver.push(format!("{name}={}", without_brackets(&value)));
            }
            _ if PARAMETERS.contains(&name) || name.starts_with("options[") => {
                for_the_driver.push(format!("{name}={value}"));
            }
            _ => return Err(NO_PARAMETER),
        }
    }
    let url = format!("{address}?{}", for_the_driver.join("&"));
    let server = PgConnectOptions::from_str(&url).map_err(|_| NO_URL)?;
    let server = match server.get_application_name() {
        Some(_) => server,
        None => server.application_name("countersign"),
    };
    // Statements are no secret, but logs are to hold no SQL. No number here has a fraction, and poolers refuse the
    // parameter that says how fractions are written.
    let server = server.disable_statement_logging().extra_float_digits(None);
    let listen = listen.map(|(host, port)| server.clone().host(&host).port(port));
    Ok(Parsed { server, listen, pooled })
}

/// The IPv6 address between brackets, if the host of an address is one, as in `postgres://ada@[::1]:5432/auth`.
fn ipv6_host(address: &str) -> Option<Ipv6Addr> {
    let (_, rest) = address.split_once("://")?;
    let authority = rest.split('/').next()?;
    let host = authority.rsplit('@').next()?.strip_prefix('[')?;
    host.split_once(']')?.0.parse().ok()
}

/// Reads `host:port`, alone or inside a URL. An IPv6 address is in brackets.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    let text = text.replace("%3A", ":").replace("%3a", ":");
    let text = text.replace("%5B", "[").replace("%5b", "[").replace("%5D", "]").replace("%5d", "]");
    let (host, port) = text.rsplit_once(':')?;
    let host = without_brackets(host);
    let is_host = !host.is_empty() && !host.contains(['[', ']']);
    // Without brackets it is unclear where an address ends and its port begins.
    (is_host && (!host.contains(':') || text.starts_with('['))).then_some(())?;
    Some((host.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_server_and_a_database() {
        for (url, expected) in [
            ("postgres://ada:secret@db.example:5433/auth", Ok(("db.example", 5433, "auth"))),
            ("postgresql://ada@db.example/auth?sslmode=require", Ok(("db.example", 5432, "auth"))),
            ("postgres://ada@db.example/auth?options[search_path]=x", Ok(("db.example", 5432, "auth"))),
            ("postgres://ada@[::1]:5433/auth", Ok(("::1", 5433, "auth"))),
            ("postgres://ada:secret@[2001:DB8::2]/auth?sslmode=disable", Ok(("2001:db8::2", 5432, "auth"))),
            ("postgres://ada@db.example/auth?host=[::1]&port=5433", Ok(("::1", 5433, "auth"))),
            ("postgres://ada@db.example/auth?host=::1", Ok(("::1", 5432, "auth"))),
            ("postgres://ada@db.example/auth?hostaddr=%5B::1%5D", Ok(("::1", 5432, "auth"))),
            ("postgres://ada@[::1/auth", Err("url")),
            ("postgres://ada@::1/auth", Err("url")),
            ("postgres://ada@db.example/auth?sslmode=perhaps", Err("url")),
            ("postgres://ada:secret@db.example/auth?sslpassword=x", Err("parameter")),
            ("postgres://ada:se?cret@db.example/auth", Err("parameter")),
            ("postgres://ada:se#cret@db.example/auth", Err("url")),
            ("mysql://ada@db.example/auth", Err("url")),
            ("db.example/auth", Err("url")),
        ] {
            let found = PostgresOptions::from_url(url);
            let found = found.as_ref().map(|options| {
                let server = &options.server;
                (server.get_host(), server.get_port(), server.get_database().unwrap_or_default())
            });
            let found = found.map_err(|error| match error {
                OpenError::UrlParameter { .. } => "parameter",
                _ => "url",
            });
            assert_eq!(found, expected, "{url}");
        }
    }

    #[test]
    fn a_url_tells_of_a_pooler_and_of_the_server_behind_it() {
        for (parameters, expected) in [
            ("", Some((None, None))),
            ("statement-cache-capacity=0", Some((Some(true), None))),
            ("statement-cache-capacity=100", Some((Some(false), None))),
            ("pooled=true&sslmode=disable", Some((Some(true), None))),
            ("pooled=false", Some((Some(false), None))),
            ("pooled=perhaps", None),
            ("listen=10.0.0.5:5433", Some((None, Some(("10.0.0.5", 5433))))),
            ("pooled=true&listen=db.example%3A5432", Some((Some(true), Some(("db.example", 5432))))),
            ("listen=[::1]:5433", Some((None, Some(("::1", 5433))))),
            ("listen=%5B::1%5D%3A5433", Some((None, Some(("::1", 5433))))),
            ("listen=[::1]", None),
            // It is unclear which part would be the port.
            ("listen=::1:5433", None),
            ("listen=[::1:5433", None),
            ("listen=[db.example]:5433", None),
            ("listen=db.example", None),
            ("listen=:5432", None),
        ] {
            let options = PostgresOptions::from_url(&format!("postgres://ada@db.example/auth?{parameters}"));
            let found = options.as_ref().ok().map(|options| {
                let listen = options.listen.as_ref().map(|listen| (listen.get_host(), listen.get_port()));
                (options.pooled, listen)
            });
            assert_eq!(found, expected, "{parameters}");
        }
    }

    #[test]
    fn an_address_is_shown_as_urls_have_it() {
        for (url, expected) in [
            ("postgres://ada@[::1]:5433/auth", "the PostgreSQL database auth at [::1]:5433 (user ada)"),
            ("postgres://ada@db.example/auth", "the PostgreSQL database auth at db.example:5432 (user ada)"),
        ] {
            assert_eq!(PostgresOptions::from_url(url).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn no_text_shows_the_password() {
        let options = PostgresOptions::from_url("postgres://ada:s3cret@db.example/auth").unwrap();
        let options = options.listen_url("postgres://ada:s3cret@db.example/auth").unwrap();
        assert!(!format!("{options:?}").contains("s3cret"));
        for url in ["postgres://ada:s3cret@db.example:port/auth", "postgres://ada:s3?cret@db.example/auth"] {
            let error = PostgresOptions::from_url(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("cret"), "{error:?}");
        }
    }
}
