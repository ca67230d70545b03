//! What `--help` says about settings. docs/api.md says more.

/// The end of short help.
pub(super) const SHORT: &str = "\
Find a user:       countersign user list --query ada
Reset a password:  countersign user reset ada@example.com
End all sessions:  countersign user end-sessions ada@example.com

--help lists all settings.";

/// Examples of `countersign user`.
pub(super) const USER: &str = "\
A user is named by id, e-mail address or username.

  countersign user list --query ada             find a user
  countersign user reset ada@example.com        mail a link to choose another password (--link prints one)
  countersign user sessions ada                 where she is signed in
  countersign user end-sessions ada             sign her out everywhere
  countersign user create --email ada@example.com --roles admin --invite-link
                                                the first admin of an application, without mail";

/// An example of `countersign admin-key create`.
pub(super) const ADMIN_KEY: &str = "\
For a server that runs with COUNTERSIGN_ADMIN_LISTEN=127.0.0.1:8081:

  KEY=$(countersign admin-key create --name support --scope users:read --scope events:read)
  curl -s \"http://127.0.0.1:8081/v1/admin/users?query=ada\" -H \"authorization: Bearer $KEY\"
  curl -s \"http://127.0.0.1:8081/v1/admin/events?limit=20\" -H \"authorization: Bearer $KEY\"

docs/api.md lists all routes.";

/// The settings that apply to every command that works on the store.
pub(super) const STORE: &str = "\
The settings are the server's: flag, then COUNTERSIGN_… variable, then .env in the working folder, then the TOML file.
The secret that seals the keys comes from COUNTERSIGN_SECRET or COUNTERSIGN_SECRET_FILE; for SQLite without these, from
the file beside the database.";

/// Every setting that applies to serving.
pub(super) const SETTINGS: &str = "\
Find a user:       countersign user list --query ada
Reset a password:  countersign user reset ada@example.com
End all sessions:  countersign user end-sessions ada@example.com

Settings, by environment variable. A flag beats the environment, that beats .env in the working folder, that beats the
TOML file, whose keys are the names without COUNTERSIGN_ in lower case. docs/api.md says more.

  COUNTERSIGN_CONFIG             the TOML file
  COUNTERSIGN_LISTEN             address and port [127.0.0.1:8080]
  COUNTERSIGN_PLAIN_HTTP         yes, to listen on addresses that other machines reach: TLS is then done in front [no]
  COUNTERSIGN_TLS_CERT           the PEM file with the certificate, for https without a proxy; read again when it changes
  COUNTERSIGN_TLS_KEY            the PEM file with its private key
  COUNTERSIGN_TRUSTED_PROXIES    addresses and networks of proxies that name the client, comma separated [none]
  COUNTERSIGN_FORWARDED_HEADER   where they do: forwarded or x-forwarded-for [whichever of the two is there]
  COUNTERSIGN_PROXY_PROTOCOL     yes, if they do by the PROXY protocol, version 2 [no]
  COUNTERSIGN_MAX_CONNECTIONS    connections in all [10000, or what the limit on open files leaves]
  COUNTERSIGN_MAX_CONNECTIONS_PER_ADDRESS
                                 connections from one address, or one /64 of IPv6 [a tenth of all]
  COUNTERSIGN_DATABASE_URL       the database; a SQLite file is made when missing [sqlite://countersign.db]
  COUNTERSIGN_SESSIONS_URL       where sessions, revocations and throttles are, if not in the database
  COUNTERSIGN_ACCEPT_WEAK_STORE  yes, to keep sessions in a relative of MongoDB without atomic updates under a condition:
                                 servers then may both exchange a refresh token; else the start is refused [no]
  COUNTERSIGN_PUBLIC_URL         under which URL users reach the server: issuer, cookies, own origin
  COUNTERSIGN_ISSUER             the issuer of tokens, where it is not to be the public URL
  COUNTERSIGN_SETTINGS_CHANGE    yes, to make this server's lifetimes, rules and profile those of its store, which all
                                 servers share, where they differ; else the start is refused [no]
  COUNTERSIGN_PROFILE            whose rules hold for tokens: native, or flask-jwt-extended or flask-jwt, which read the
                                 JWT_… options of the Flask application as well [native]
  COUNTERSIGN_BLOCKLIST_URL      with flask-jwt-extended: the application's database, whose table of revoked tokens is
                                 asked about every token, for the time of a move [none]
  COUNTERSIGN_BLOCKLIST_TABLE    that table [one with a usual name, such as token_blocklist]
  COUNTERSIGN_ALLOWED_ORIGINS    other origins that may use cookies, comma separated
  COUNTERSIGN_SECRET             seals the keys in the store: base64 of 32 bytes or more, a list while it changes
  COUNTERSIGN_SECRET_FILE        the file with it [beside the SQLite database]
  COUNTERSIGN_ACCESS_LIFETIME    of access tokens [15m]
  COUNTERSIGN_SESSION_IDLE       a session ends when it was not refreshed for this long [14d]
  COUNTERSIGN_SESSION_LIFETIME   a session ends this long after its login [30d]
  COUNTERSIGN_MAX_SESSIONS       live sessions a user may have, 1 to 10000 [100]
  COUNTERSIGN_SESSIONS_AT_LIMIT  what a login beyond that does: end-oldest or refuse [end-oldest]
  COUNTERSIGN_REFRESH_GRACE      how long a used refresh token is answered with its successor [30s]
  COUNTERSIGN_REFRESH_GRACE_FOR  anyone, or same-client: another client is then taken for a thief [anyone]
  COUNTERSIGN_REFRESH_HEAL       on, or off where access tokens are verified elsewhere only [on]
  COUNTERSIGN_LEEWAY             how far clocks may differ [10s]
  COUNTERSIGN_REVOCATION_BOUND   how fast a logout reaches every server [5s]
  COUNTERSIGN_KEY_ROTATION       how long a key signs before another one replaces it, or off [90d]
  COUNTERSIGN_KEY_ALGORITHM      what new keys for access tokens sign with [first EdDSA, then as the one before]
  COUNTERSIGN_PASSWORD_MIN       characters of a new password, 8 to 64, or nist, which is 15 [8]
  COUNTERSIGN_PASSWORD_WORDS     words that no password may be, comma separated, such as the site's name
  COUNTERSIGN_BREACHED_PASSWORDS a file of SHA-1 digests that no new password may be among, ordered by hash
  COUNTERSIGN_PASSWORD_HASH      what a password hash costs: 19mib, 46mib, or KiB, passes and lanes [19mib]
  COUNTERSIGN_PASSWORD_PEPPER    keys that password hashes need: id:base64, a list while they change
  COUNTERSIGN_PASSWORD_PEPPER_FILE the file with them
  COUNTERSIGN_LOGIN_FLOOR        the least time that a login takes, such as 800ms [off]
  COUNTERSIGN_REGISTRATION       who may register: open, verify-first (answers tell nobody who has an account), invite
                                 or closed [open]
  COUNTERSIGN_EMAIL_DOMAINS      the domains of addresses that may be registered, comma separated [all]
  COUNTERSIGN_LOGIN_NAMES        what an account needs: email, username or both, which means either [email]
  COUNTERSIGN_USER_IDS           ids of new accounts: uuid, or integer, counting on from the highest one [uuid]
  COUNTERSIGN_SMTP_URL           the mail server: smtp://user:password@host:port?tls=starttls, implicit or none
                                 [none: on a loopback address mails are written to the log]
  COUNTERSIGN_SMTP_CA            a PEM file with further authorities for its certificate
  COUNTERSIGN_MAIL_FROM          the sender of mails, such as Example <no-reply@example.com>
  COUNTERSIGN_MAIL_TEMPLATES     a folder with templates and texts in place of the built-in ones
  COUNTERSIGN_SITE_NAME          what mails and pages call this site [the host of the public URL]
  COUNTERSIGN_PAGES              whether there are pages to register, sign in and manage an account [yes; no in a profile]
  COUNTERSIGN_PAGES_LOGO         a picture in place of their mark
  COUNTERSIGN_PAGES_COLOR        the colour of their buttons and links [#2f5bea]
  COUNTERSIGN_PAGES_TEMPLATES    a folder with templates and texts in place of the built-in ones
  COUNTERSIGN_ADMIN_LISTEN       address and port of the admin API [nowhere]
  COUNTERSIGN_AUDIT_RETENTION    how long the audit trail is kept [400d]
  COUNTERSIGN_HASH_PERMITS       password hashes at the same time [cores; on other systems than Linux cores - 1]
  COUNTERSIGN_METRICS_LISTEN     where Prometheus reads metrics, such as 127.0.0.1:9090 [nowhere]
  COUNTERSIGN_SHUTDOWN_GRACE     how long running requests may go on when the server stops [10s]
  COUNTERSIGN_LOG                off, error, warn, info, debug or trace, or more, such as info,countersign=debug [info]
  COUNTERSIGN_LOG_FORMAT         text or json [text]

Durations are 90s, 15m, 12h, 14d or plain seconds.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::NAMES;

    #[test]
    fn every_setting_is_in_the_help() {
        for name in NAMES {
            let variable = format!("  COUNTERSIGN_{}", name.to_uppercase());
            let is_there = [" ", "\n"].iter().any(|end| SETTINGS.contains(&format!("{variable}{end}")));
            assert!(is_there, "{variable}");
        }
        assert_eq!(SETTINGS.matches("\n  COUNTERSIGN_").count(), NAMES.len());
    }
}
