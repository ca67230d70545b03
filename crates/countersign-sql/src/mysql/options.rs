//! Which MySQL or MariaDB server a store uses, and how.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::mysql::MySqlConnectOptions;

use crate::OpenError;
use crate::server::{Place, ServerSettings, address_and_parameters, without_brackets};

/// How a [`MySqlStore`](super::MySqlStore) is opened.
///
/// ```
/// use countersign_sql::mysql::MySqlOptions;
///
/// let url = "mysql://app:password@db.example/app?ssl-mode=VERIFY_IDENTITY";
/// let options = MySqlOptions::from_url(url)?.connections(8);
/// assert!(!format!("{options} {options:?}").contains("password"), "it can go to a log");
/// # Ok::<(), countersign_sql::OpenError>(())
/// ```
#[derive(Clone)]
pub struct MySqlOptions {
    pub(super) server: MySqlConnectOptions,
    pub(super) settings: ServerSettings,
    pub(super) watch: bool,
}

impl MySqlOptions {
    /// The default deadline: 3 s.
    pub const DEADLINE: Duration = ServerSettings::DEADLINE;
    /// The default number of connections: 16.
    pub const CONNECTIONS: u32 = ServerSettings::CONNECTIONS;

    /// Reads the options from a URL: `mysql://user:password@host:3306/database`, or the same with `mariadb://`. Special
    /// characters in the user and the password are percent-encoded. An IPv6 address is in brackets:
    /// `mysql://user@[::1]:3306/database`.
    ///
    /// Parameters: `ssl-mode` (`DISABLED`, `PREFERRED`, `REQUIRED`, `VERIFY_CA`, `VERIFY_IDENTITY`; default
    /// `PREFERRED`), `ssl-ca`, `ssl-cert`, `ssl-key` (files), and `socket` (the server's socket on the same machine).
    ///
    /// # Errors
    /// [`OpenError::Url`] if the text is no such URL, and [`OpenError::UrlParameter`] if a parameter is not known.
    pub fn from_url(url: &str) -> Result<Self, OpenError> {
        Ok(Self { server: parse(url)?, settings: ServerSettings::default(), watch: true })
    }

    /// Whether opening the store brings the tables up to date. Default: yes. With `false`, opening fails if they are
    /// not.
    #[must_use]
    pub fn run_migrations(mut self, run: bool) -> Self {
        self.settings.run_migrations = run;
        self
    }

    /// The deadline by which every operation is answered, with an error if need be: at least 10 ms, at most a minute.
    /// Default 3 s, so that a request gets its 503 while the client still waits. The server gives up waiting for a lock
    /// after a third of the deadline, but not before a second has passed. MariaDB ends every statement at the deadline;
    /// MySQL ends only statements that read.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.set_deadline(deadline);
        self
    }

    /// The largest number of connections that do the work, at least 1. Default 16, enough to keep some cores of the
    /// server busy. Two more connections read the revocation log, and one looks for what other nodes have written.
    #[must_use]
    pub fn connections(mut self, connections: u32) -> Self {
        self.settings.set_connections(connections);
        self
    }

    /// Whether the store looks, 40 times a second, for what other nodes have revoked. Default: yes, so that a logout
    /// arrives at other nodes within some hundredths of a second. With `false`, nodes learn of a revocation when they
    /// poll.
    #[must_use]
    pub fn watch(mut self, watch: bool) -> Self {
        self.watch = watch;
        self
    }
}

/// Shows where the database is and as which user it is opened, and nothing secret.
impl fmt::Display for MySqlOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = &self.server;
        let place = Place {
            engine: "MySQL",
            database: server.get_database().unwrap_or_default(),
            socket: server.get_socket().map(AsRef::as_ref),
            host: server.get_host(),
            port: server.get_port(),
            user: server.get_username(),
        };
        place.fmt(f)
    }
}

impl fmt::Debug for MySqlOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Written field by field, because the driver's own `Debug` form would show the password.
        f.debug_struct("MySqlOptions")
            .field("host", &self.server.get_host())
            .field("port", &self.server.get_port())
            .field("socket", &self.server.get_socket())
            .field("user", &self.server.get_username())
            .field("database", &self.server.get_database())
            .field("run_migrations", &self.settings.run_migrations)
            .field("deadline", &self.settings.deadline)
            .field("connections", &self.settings.connections)
            .field("watch", &self.watch)
            .finish()
    }
}

/// The parameters that a URL may have. The others that the driver knows would change how text is kept.
const PARAMETERS: [&str; 9] =
    ["ssl-mode", "sslmode", "ssl-ca", "sslca", "ssl-cert", "sslcert", "ssl-key", "sslkey", "socket"];

/// The error for a URL that is not one of MySQL or MariaDB.
const NO_URL: OpenError = OpenError::Url {
    engine: "MySQL",
    form: "mysql://user:password@host:3306/database, with @ / ? # and % in the password percent-encoded",
};

fn parse(url: &str) -> Result<MySqlConnectOptions, OpenError> {
    let (_, mut parameters) = address_and_parameters(url, ["mysql", "mariadb"]).ok_or(NO_URL)?;
    // The driver would ignore a parameter that it does not know.
    if !parameters.all(|(name, _)| PARAMETERS.contains(&name)) {
        let problem = "an unknown parameter";
        return Err(OpenError::UrlParameter { engine: "MySQL", problem, known: &PARAMETERS });
    }
    let server = MySqlConnectOptions::from_str(url).map_err(|_| NO_URL)?;
    let host = without_brackets(server.get_host()).to_owned();
    let server = server.host(&host);
    if server.get_database().is_none() {
        return Err(NO_URL);
    }
    // The mode is set as a whole once a connection is open. Statements are no secret, but logs are to hold no SQL.
    Ok(server.pipes_as_concat(false).no_engine_substitution(false).disable_statement_logging())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_server_and_a_database() {
        for (url, expected) in [
            ("mysql://ada:secret@db.example:3307/auth", Ok(("db.example", 3307, "auth"))),
            ("mariadb://ada@db.example/auth?ssl-mode=REQUIRED", Ok(("db.example", 3306, "auth"))),
            ("mysql://ada@localhost/auth?socket=/run/mysqld.sock", Ok(("localhost", 3306, "auth"))),
            ("mysql://ada@[::1]:3307/auth", Ok(("::1", 3307, "auth"))),
            ("mariadb://ada:secret@[2001:DB8::2]/auth?ssl-mode=DISABLED", Ok(("2001:db8::2", 3306, "auth"))),
            ("mysql://ada@[::1/auth", Err("url")),
            ("mysql://ada@::1/auth", Err("url")),
            ("mysql://ada@db.example/auth?ssl-mode=perhaps", Err("url")),
            ("mysql://ada@db.example/", Err("url")),
            ("mysql://ada@db.example/auth?charset=latin1", Err("parameter")),
            ("mysql://ada:se?cret@db.example/auth", Err("parameter")),
            ("mysql://ada:se#cret@db.example/auth", Err("url")),
            ("postgres://ada@db.example/auth", Err("url")),
            ("db.example/auth", Err("url")),
        ] {
            let found = MySqlOptions::from_url(url);
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
    fn an_address_is_shown_as_urls_have_it() {
        for (url, expected) in [
            ("mysql://ada@[::1]:3307/auth", "the MySQL database auth at [::1]:3307 (user ada)"),
            ("mysql://ada@db.example/auth", "the MySQL database auth at db.example:3306 (user ada)"),
        ] {
            assert_eq!(MySqlOptions::from_url(url).unwrap().to_string(), expected);
        }
    }

    #[test]
    fn no_text_shows_the_password() {
        let options = MySqlOptions::from_url("mysql://ada:s3cret@db.example/auth").unwrap();
        assert!(!format!("{options:?}").contains("s3cret"));
        for url in ["mysql://ada:s3cret@db.example:port/auth", "mysql://ada:s3?cret@db.example/auth"] {
            let error = MySqlOptions::from_url(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("cret"), "{error:?}");
        }
    }
}
