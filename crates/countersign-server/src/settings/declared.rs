//! Every setting, declared once. Its name in the environment, in the settings file and on the command line, the help,
//! the reference (docs/settings.md) and the schema of the settings file come from here.

/// A setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Declared {
    /// The name, as it is in the settings file.
    pub(crate) name: &'static str,
    pub(crate) group: Group,
    pub(crate) kind: Kind,
    /// The value, or words for what happens, where the setting is not set. Empty: nothing.
    pub(crate) default: &'static str,
    /// What it is for, in the help: as short as possible.
    pub(crate) help: &'static str,
    /// What it is for, in the reference, as Markdown.
    pub(crate) page: &'static str,
    /// The flag that sets it, if there is one.
    pub(crate) flag: Option<&'static str>,
    pub(crate) secrecy: Secrecy,
    /// Whether a running server that gets SIGHUP follows it.
    pub(crate) changes_at_once: bool,
    /// The version in which it came.
    pub(crate) since: &'static str,
}

/// What a setting is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Group {
    Server,
    Proxies,
    Stores,
    Public,
    Tokens,
    Keys,
    Passwords,
    Accounts,
    Mail,
    Pages,
    Operators,
    Flask,
}

/// What a value looks like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Text,
    /// `on` or `off`, or `yes` or `no`.
    Switch,
    /// A number and its unit, or seconds.
    Duration,
    /// A whole number.
    Number,
    /// One of these.
    Choice(&'static [&'static str]),
    /// The name of a signature algorithm (RFC 7518 §3.1).
    Algorithm,
    Url,
    /// An address and a port.
    Address,
    /// The path of a file or folder.
    Path,
    /// Texts with commas between them.
    List,
}

/// Whether a value may be shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Secrecy {
    Public,
    /// A URL, in which there may be a password.
    MayHavePassword,
    Secret,
}

impl Group {
    pub(crate) const ALL: [Self; 12] = [
        Self::Server,
        Self::Proxies,
        Self::Stores,
        Self::Public,
        Self::Tokens,
        Self::Keys,
        Self::Passwords,
        Self::Accounts,
        Self::Mail,
        Self::Pages,
        Self::Operators,
        Self::Flask,
    ];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Server => "Listening, TLS and connections",
            Self::Proxies => "Proxies in front",
            Self::Stores => "Databases",
            Self::Public => "The public address",
            Self::Tokens => "Tokens and sessions",
            Self::Keys => "Keys",
            Self::Passwords => "Passwords",
            Self::Accounts => "Accounts",
            Self::Mail => "Mail",
            Self::Pages => "Pages",
            Self::Operators => "Operating",
            Self::Flask => "The rules of a Flask library",
        }
    }
}

impl Declared {
    /// The name in the environment and in `.env`.
    pub(crate) fn variable(&self) -> String {
        variable(self.name)
    }

    const fn default(self, default: &'static str) -> Self {
        Self { default, ..self }
    }

    const fn flag(self, flag: &'static str) -> Self {
        Self { flag: Some(flag), ..self }
    }

    const fn help(self, help: &'static str) -> Self {
        Self { help, ..self }
    }

    const fn page(self, page: &'static str) -> Self {
        Self { page, ..self }
    }

    const fn changes_at_once(self) -> Self {
        Self { changes_at_once: true, ..self }
    }

    const fn secret(self) -> Self {
        Self { secrecy: Secrecy::Secret, ..self }
    }

    const fn may_have_password(self) -> Self {
        Self { secrecy: Secrecy::MayHavePassword, ..self }
    }
}

const fn setting(name: &'static str, group: Group, kind: Kind) -> Declared {
    Declared {
        name,
        group,
        kind,
        default: "",
        help: "",
        page: "",
        flag: None,
        secrecy: Secrecy::Public,
        changes_at_once: false,
        since: "0.1.0",
    }
}

/// The beginning of the names in the environment.
pub(crate) const PREFIX: &str = "COUNTERSIGN_";

/// The name in the environment of the setting with this name in the file.
pub(crate) fn variable(name: &str) -> String {
    format!("{PREFIX}{}", name.to_uppercase())
}

/// The setting with this name in the file.
pub(crate) fn find(name: &str) -> Option<&'static Declared> {
    ALL.iter().find(|declared| declared.name == name)
}

/// The settings whose value may stand in a file of its own, which the setting with `_file` after its name names.
pub(crate) fn in_files() -> impl Iterator<Item = (&'static Declared, &'static Declared)> {
    ALL.iter().filter_map(|declared| Some((declared, find(&format!("{}_file", declared.name))?)))
}

/// All settings, in the order of the help and the reference. `config` can only come from a flag, the environment or
/// `.env`.
pub(crate) const ALL: [Declared; 67] = [
    setting("config", Group::Server, Kind::Path)
        .flag("--config")
        .default("countersign.toml, if it is there")
        .help("the settings file")
        .page("The settings file, in place of `countersign.toml` in the working folder."),
    setting("listen", Group::Server, Kind::Address)
        .flag("--listen")
        .default("127.0.0.1:8080")
        .help("address and port")
        .page("Address and port; port 0 takes a free one. An address that other machines can reach is refused \
               without one of the next two settings."),
    setting("plain_http", Group::Server, Kind::Switch)
        .flag("--plain-http")
        .default("no")
        .help("yes, to listen on addresses that other machines reach: TLS is then done in front")
        .page("`yes` where TLS ends at a proxy on another machine, or in a container."),
    setting("tls_cert", Group::Server, Kind::Path)
        .help("the PEM file with the certificate, for https without a proxy; read again when it changes")
        .page("A PEM file with the certificate, the server's own first: the server then speaks https. Read again \
               when it changes. [proxies.md](proxies.md)"),
    setting("tls_key", Group::Server, Kind::Path)
        .help("the PEM file with its private key")
        .page("A PEM file with the private key of the certificate, which its owner alone may read."),
    setting("max_connections", Group::Server, Kind::Number)
        .default("10000, or what the limit on open files leaves")
        .help("connections in all")
        .page("How many connections there may be: 1 to 1,000,000. The server raises its limit on open files to \
               the most that the system allows."),
    setting("max_connections_per_address", Group::Server, Kind::Number)
        .default("a tenth of all")
        .help("connections from one address, or one /64 of IPv6")
        .page("How many connections one IPv4 address or one IPv6 /64 may have. Trusted proxies and this machine's \
               own addresses have no such limit."),
    setting("shutdown_grace", Group::Server, Kind::Duration)
        .default("10s")
        .help("how long running requests may go on when the server stops")
        .page("For how long running requests may go on after SIGTERM; 0 waits for none."),
    setting("trusted_proxies", Group::Proxies, Kind::List)
        .default("none")
        .help("addresses and networks of proxies that name the client, comma separated")
        .page("IP addresses and networks (`127.0.0.1,10.0.0.0/8`) of proxies whose word about the client's \
               address, scheme and host counts. [proxies.md](proxies.md)"),
    setting("forwarded_header", Group::Proxies, Kind::Choice(&["forwarded", "x-forwarded-for"]))
        .default("whichever of the two is there")
        .help("where they do: forwarded or x-forwarded-for")
        .page("`forwarded` or `x-forwarded-for`: the only header in which trusted proxies name the client. \
               Without it, two headers that contradict each other both do not count."),
    setting("proxy_protocol", Group::Proxies, Kind::Switch)
        .default("no")
        .help("yes, if they do by the PROXY protocol, version 2")
        .page("`yes`: connections of trusted proxies begin with a header of the PROXY protocol, version 2."),
    setting("database_url", Group::Stores, Kind::Url)
        .flag("--database")
        .default("sqlite://countersign.db")
        .may_have_password()
        .help("the database; a SQLite file is made when missing")
        .page("`sqlite://`, `postgres://`, `mysql://`, `mongodb://` or `redis://`. Missing tables are created. \
               [stores.md](stores.md)"),
    setting("database_url_file", Group::Stores, Kind::Path)
        .help("the file with the URL, where it has a password")
        .page("A file that holds the URL alone, for one with a password, such as a secret that is mounted. Its \
               owner alone may read it."),
    setting("sessions_url", Group::Stores, Kind::Url)
        .flag("--sessions")
        .may_have_password()
        .help("where sessions, revocations and throttles are, if not in the database")
        .page("Another engine for sessions, the revocation log and login counters, typically Redis. Accounts and \
               keys stay in the database."),
    setting("sessions_url_file", Group::Stores, Kind::Path)
        .help("the file with that URL")
        .page("A file that holds that URL alone."),
    setting("accept_weak_store", Group::Stores, Kind::Switch)
        .flag("--accept-weak-store")
        .default("no")
        .help("yes, to keep sessions in a relative of MongoDB without atomic updates under a condition: servers \
               then may both exchange a refresh token; else the start is refused")
        .page("`yes`: sessions may be in an engine whose updates under a condition are not atomic, as some \
               relatives of MongoDB are. Several servers may then exchange one refresh token, and its theft may \
               go unnoticed. Without it the start is refused. [stores.md](stores.md)"),
    setting("settings_change", Group::Stores, Kind::Switch)
        .default("no")
        .help("yes, to make this server's lifetimes, rules and profile those of its store, which all servers \
               share, where they differ; else the start is refused")
        .page("`yes`: where they differ, this server's settings replace those that all servers of its store share \
               ([why](api.md#settings-that-all-servers-share))."),
    setting("public_url", Group::Public, Kind::Url)
        .help("under which URL users reach the server: issuer, cookies, own origin")
        .page("The URL under which browsers reach the server. It decides the issuer (without a slash at its end), \
               the cookies' prefix and `Secure`, and the own origin. Unset: cookies and own origin follow the \
               listen address, and the issuer is `urn:uuid:` and an id that is made once and kept in the store."),
    setting("issuer", Group::Public, Kind::Text)
        .default("the public URL")
        .help("the issuer of tokens, where it is not to be the public URL")
        .page("`iss`, byte for byte. When the issuer changes, the store remembers the former one, and every \
               server accepts its tokens until they expire."),
    setting("allowed_origins", Group::Public, Kind::List)
        .help("other origins that may use cookies, comma separated")
        .page("Origins beside the own one whose pages may use cookies, comma separated: \
               `https://app.example.com`, `http://localhost:3000`. An app with a scheme of its own is named as it \
               sends itself, such as `tauri://localhost`, `capacitor://localhost` or `app://bundle`; browsers \
               call such pages `cross-site`, so they use tokens in the body."),
    setting("access_lifetime", Group::Tokens, Kind::Duration)
        .default("15m")
        .help("of access tokens")
        .page("How long an access token is valid: at least 1 s and at least twice `COUNTERSIGN_REFRESH_GRACE`, at \
               most the session's lifetime."),
    setting("session_idle", Group::Tokens, Kind::Duration)
        .default("14d")
        .help("a session ends when it was not refreshed for this long")
        .page("A session ends when it was not refreshed for this long."),
    setting("session_lifetime", Group::Tokens, Kind::Duration)
        .default("30d")
        .help("a session ends this long after its login")
        .page("A session ends this long after its login: at most 400 days."),
    setting("max_sessions", Group::Tokens, Kind::Number)
        .default("100")
        .help("live sessions a user may have, 1 to 10000")
        .page("How many live sessions a user may have: 1 to 10,000."),
    setting("sessions_at_limit", Group::Tokens, Kind::Choice(&["end-oldest", "refuse"]))
        .default("end-oldest")
        .help("what a login beyond that does: end-oldest or refuse")
        .page("What a login beyond that limit does: `end-oldest` ends the oldest session; `refuse` answers 409 \
               `too_many_sessions`."),
    setting("refresh_grace", Group::Tokens, Kind::Duration)
        .default("30s")
        .help("how long a used refresh token is answered with its successor")
        .page("For how long after a refresh the same pair is served again: 0 to 300 s, at most half the access \
               lifetime. 0 is strict single use."),
    setting("refresh_grace_for", Group::Tokens, Kind::Choice(&["anyone", "same-client"]))
        .default("anyone")
        .help("anyone, or same-client: another client is then taken for a thief")
        .page("`anyone`, or `same-client`: within the grace only the client that refreshed last is served again, \
               recognised by its whole `User-Agent`. A refresh by another client is a replay, and the session \
               ends."),
    setting("refresh_heal", Group::Tokens, Kind::Switch)
        .default("on")
        .help("on, or off where access tokens are verified elsewhere only")
        .page("Whether a session heals when the reply to a refresh was lost. `off` where access tokens are \
               verified elsewhere only, because this server then does not see them in use. A client can also \
               acknowledge a pair by `GET /v1/auth/me`."),
    setting("leeway", Group::Tokens, Kind::Duration)
        .default("10s")
        .help("how far clocks may differ")
        .page("How far clocks may differ: 0 to 300 s, for every kind of token."),
    setting("revocation_bound", Group::Tokens, Kind::Duration)
        .default("5s")
        .help("how fast a logout reaches every server")
        .page("How old a node's view of the revocation log may be: 1 to 300 s."),
    setting("secret", Group::Keys, Kind::Text)
        .secret()
        .help("seals the keys in the store: base64 of 32 bytes or more, a list while it changes")
        .page("Seals the keys in the store. Base64 of 32 bytes or more; in a comma-separated list the first seals \
               and all open. A store that several machines share needs it: without it the start is refused with \
               the command that makes one (`countersign key secret`). A secret that opens no key, or a missing \
               file beside a database that has keys, is an error and never makes new keys. Without either, SQLite \
               has `<database>.secret`, made at the first start with mode 0600."),
    setting("secret_file", Group::Keys, Kind::Path)
        .default("beside the SQLite database")
        .help("the file with it")
        .page("A file that holds the secret, in place of `COUNTERSIGN_SECRET`. Its owner alone may read it."),
    setting("key_rotation", Group::Keys, Kind::Text)
        .default("90d")
        .help("how long a key signs before another one replaces it, or off")
        .page("How long a key signs before the server replaces it: at least `1d`; `off`: keys are replaced only \
               on command. The new key is published some ten minutes before it signs, the old one until its last \
               token has expired. [keys.md](keys.md)"),
    setting("key_algorithm", Group::Keys, Kind::Algorithm)
        .default("first EdDSA, then as the one before")
        .help("what new keys for access tokens sign with")
        .page("What new keys for access tokens sign with, from the next rotation on: `HS256`, `RS256`, `PS256`, \
               `ES256` (each also with 384 and 512), `ES256K`, `EdDSA`. Unset: the first key is `EdDSA`, each \
               later one has the algorithm of the active one."),
    setting("password_min", Group::Passwords, Kind::Text)
        .default("8")
        .help("characters of a new password, 8 to 64, or nist, which is 15")
        .page("The fewest characters (code points) of a new password: 8 to 64, or `nist`, which is 15. \
               [passwords.md](passwords.md)"),
    setting("password_words", Group::Passwords, Kind::List)
        .help("words that no password may be, comma separated, such as the site's name")
        .page("Words that no new password may be, comma separated: the names of the site and of whoever runs it."),
    setting("breached_passwords", Group::Passwords, Kind::Path)
        .help("a file of SHA-1 digests that no new password may be among, ordered by hash")
        .page("A file of the SHA-1 digests of breached passwords, one `HEX:COUNT` a line and ordered by digest, \
               as Pwned Passwords publishes it. It is searched on disk."),
    setting("password_hash", Group::Passwords, Kind::Text)
        .default("19mib")
        .help("what a password hash costs: 19mib, 46mib, or KiB, passes and lanes")
        .page("The cost of new hashes: `19mib`, `46mib`, or KiB, passes and lanes of Argon2id, such as \
               `65536,3,1`. A cost that is lower than all that OWASP recommends stops the start. Older hashes are \
               replaced when their owners log in."),
    setting("password_pepper", Group::Passwords, Kind::Text)
        .secret()
        .help("keys that password hashes need: id:base64, a list while they change")
        .page("Keys outside of the database that password hashes need: an id, a colon and base64 of 32 bytes or \
               more, a list with commas. The first is for new hashes, and all verify; with `none` in front new \
               hashes get no pepper. The same for all servers of a store."),
    setting("password_pepper_file", Group::Passwords, Kind::Path)
        .help("the file with them")
        .page("A file that holds the peppers, in place of `COUNTERSIGN_PASSWORD_PEPPER`."),
    setting("login_floor", Group::Passwords, Kind::Text)
        .default("off")
        .help("the least time that a login takes, such as 800ms")
        .page("The least time that a login takes, in `ms` or `s`, at most `10s`."),
    setting("hash_permits", Group::Passwords, Kind::Number)
        .default("cores; on other systems than Linux cores - 1")
        .help("password hashes at the same time")
        .page("How many passwords are hashed at the same time. 64 more wait. On Linux the threads that hash have \
               a lower priority than those that answer requests."),
    setting("registration", Group::Accounts, Kind::Choice(&["open", "verify-first", "invite", "closed"]))
        .default("open")
        .help("who may register: open, verify-first (answers tell nobody who has an account), invite or closed")
        .page("Who may register: `open`, everybody; `verify-first`, everybody who proves the address first; \
               `invite`, who was invited by an operator; `closed`, nobody."),
    setting("email_domains", Group::Accounts, Kind::List)
        .default("all")
        .help("the domains of addresses that may be registered, comma separated")
        .page("Domains of the addresses that may be registered, comma separated."),
    setting("login_names", Group::Accounts, Kind::Choice(&["email", "username", "both"]))
        .default("email")
        .help("what an account needs: email, username or both, which means either")
        .page("What a new account needs: `email`, `username`, or `both`, which means either."),
    setting("user_ids", Group::Accounts, Kind::Choice(&["uuid", "integer"]))
        .default("uuid")
        .help("ids of new accounts: uuid, or integer, counting on from the highest one")
        .page("Ids of new accounts: `uuid`, or `integer`, counting on from the highest number before, for a \
               program beside this server whose ids are numbers."),
    setting("smtp_url", Group::Mail, Kind::Url)
        .default("none: on a loopback address mails are written to the log")
        .may_have_password()
        .help("the mail server: smtp://user:password@host:port?tls=starttls, implicit or none")
        .page("The mail server: `smtp://user:password@host:port?tls=starttls`, `tls=implicit`, or, on a loopback \
               address alone, `tls=none`. Needs `COUNTERSIGN_MAIL_FROM` and a public URL. Unset: where the server \
               listens on a loopback address, and its public URL, if there is one, leads to the same machine, \
               mails are written to the log, links included; elsewhere nothing is mailed."),
    setting("smtp_url_file", Group::Mail, Kind::Path)
        .help("the file with that URL")
        .page("A file that holds that URL alone, which has a password."),
    setting("smtp_ca", Group::Mail, Kind::Path)
        .help("a PEM file with further authorities for its certificate")
        .page("A PEM file with further certificate authorities for the mail server."),
    setting("mail_from", Group::Mail, Kind::Text)
        .default("no-reply@ and the host of the public URL")
        .help("the sender of mails, such as Example <no-reply@example.com>")
        .page("The sender: `Example <no-reply@example.com>`."),
    setting("mail_templates", Group::Mail, Kind::Path)
        .default("built-in")
        .help("a folder with templates and texts in place of the built-in ones")
        .page("A folder whose templates and texts replace the built-in ones of the same names. They are checked \
               at start, and read again at SIGHUP."),
    setting("site_name", Group::Pages, Kind::Text)
        .default("the host of the public URL")
        .help("what mails and pages call this site")
        .page("What mails and pages call this site."),
    setting("pages", Group::Pages, Kind::Switch)
        .default("yes; no in a profile")
        .help("whether there are pages to register, sign in and manage an account")
        .page("Whether there are [pages](pages.md) to register, sign in and manage an account. Not possible in a \
               profile. Sessions that begin on the pages end after a day and when the browser is closed, unless \
               the user asks to stay signed in."),
    setting("pages_logo", Group::Pages, Kind::Path)
        .default("a mark")
        .help("a picture in place of their mark")
        .page("A picture (`.svg`, `.png`, `.webp`, `.jpg`, `.gif`) of at most 512 KiB."),
    setting("pages_color", Group::Pages, Kind::Text)
        .default("#2f5bea")
        .help("the colour of their buttons and links")
        .page("The colour of buttons and links."),
    setting("pages_templates", Group::Pages, Kind::Path)
        .default("built-in")
        .help("a folder with templates and texts in place of the built-in ones")
        .page("A folder whose templates and texts replace the built-in ones of the same names. They are checked \
               at start, and read again at SIGHUP."),
    setting("api_page", Group::Pages, Kind::Switch)
        .default("yes where only this machine reaches the server")
        .help("whether there is a page to try the API")
        .page("Whether there is a page at `/docs/api` that shows every route and sends requests to it. Without the \
               setting it is there if the server listens on a loopback address and has no public URL, or one \
               that leads to a loopback address. Not possible in a profile."),
    setting("admin_listen", Group::Operators, Kind::Address)
        .default("nowhere")
        .help("address and port of the admin API")
        .page("An IP address and a port for the [admin API](api.md#admin-api). An address that other machines can \
               reach needs a certificate or `COUNTERSIGN_PLAIN_HTTP`, as for `COUNTERSIGN_LISTEN`."),
    setting("audit_retention", Group::Operators, Kind::Duration)
        .default("400d")
        .help("how long the audit trail is kept")
        .page("How long the audit trail is kept: at least `1d`."),
    setting("metrics_listen", Group::Operators, Kind::Address)
        .default("nowhere")
        .help("where Prometheus reads metrics, such as 127.0.0.1:9090")
        .page("An IP address and a port where Prometheus reads [metrics](metrics.md)."),
    setting("otlp_url", Group::Operators, Kind::Url)
        .default("none")
        .help("the OpenTelemetry collector that gets traces, such as http://127.0.0.1:4318; needs the feature otel")
        .page("The OpenTelemetry collector that gets [traces](metrics.md#traces), such as `http://127.0.0.1:4318`. Only \
               for a server that was built with the feature `otel`."),
    setting("log", Group::Operators, Kind::Text)
        .changes_at_once()
        .default("info")
        .help("off, error, warn, info, debug or trace, or more, such as info,countersign=debug")
        .page("`off`, `error`, `warn`, `info`, `debug` or `trace`, and levels for parts: \
               `info,countersign_sql=debug`."),
    setting("log_format", Group::Operators, Kind::Choice(&["text", "json"]))
        .default("text")
        .help("text or json")
        .page("`text` or `json`."),
    setting("profile", Group::Flask, Kind::Choice(&["native", "flask-jwt-extended", "flask-jwt"]))
        .default("native")
        .help("whose rules hold for tokens: native, or flask-jwt-extended or flask-jwt, which read the JWT_… \
               options of the Flask application as well")
        .page("`native`, `flask-jwt-extended` or `flask-jwt`: see [Profiles](api.md#profiles)."),
    setting("blocklist_url", Group::Flask, Kind::Url)
        .default("none")
        .may_have_password()
        .help("with flask-jwt-extended: the application's database, whose table of revoked tokens is asked about \
               every token, for the time of a move")
        .page("With `flask-jwt-extended`: the database of the Flask application, whose table of revoked tokens is \
               asked about every token for the time of a move (`sqlite://`, `postgres://`, `mysql://`). While it \
               does not answer, tokens are 503."),
    setting("blocklist_url_file", Group::Flask, Kind::Path)
        .help("the file with that URL")
        .page("A file that holds that URL alone."),
    setting("blocklist_table", Group::Flask, Kind::Text)
        .default("one with a usual name, such as token_blocklist")
        .help("that table")
        .page("That table, which has a column `jti`."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_setting_is_declared_once_and_described() {
        let names: BTreeSet<_> = ALL.iter().map(|declared| declared.name).collect();
        assert_eq!(names.len(), ALL.len());
        let mut groups = ALL.iter().map(|declared| declared.group).collect::<Vec<_>>();
        groups.dedup();
        assert_eq!(groups, Group::ALL, "the settings of a group stand together");
        for Declared { name, help, page, .. } in ALL {
            assert!(!help.is_empty() && !page.is_empty(), "{name}");
            assert!(!page.contains(" | ") && !page.contains('\n'), "{name} would break its table");
        }
    }

    #[test]
    fn every_secret_may_stand_in_a_file() {
        for declared in ALL.iter().filter(|declared| declared.secrecy != Secrecy::Public) {
            assert!(in_files().any(|(secret, _)| secret.name == declared.name), "{}", declared.name);
        }
    }
}
