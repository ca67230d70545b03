//! What `--help` says beside the flags.

use crate::settings;

/// What operators do most often.
pub(super) const EXAMPLES: &str = "\
Find a user:       countersign user list --query ada
Reset a password:  countersign user reset ada@example.com
End all sessions:  countersign user end-sessions ada@example.com";

/// The end of short help.
pub(super) fn short() -> String {
    format!("{EXAMPLES}\n\n--help lists all settings.")
}

/// The end of long help.
pub(super) fn long() -> String {
    format!("{EXAMPLES}\n\n{}", settings::help())
}

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

/// An example of `countersign client add`.
pub(super) const CLIENT: &str = "\
An API that asks whether a token is good, and a program that signs users out:

  countersign client add orders-api
  countersign client add backoffice --may introspect,revoke --expires 90d
  curl -s http://127.0.0.1:8080/v1/auth/introspect -u \"$CLIENT_ID:$CLIENT_SECRET\" -d \"token=$TOKEN\"

docs/api.md lists the endpoints.";

/// Examples of `countersign audit`.
pub(super) const AUDIT: &str = "\
All three commands narrow the records in the same way; --help of each says how.

  countersign audit tail --follow                          what happens now
  countersign audit search --user ada@example.com          what happened to a user
  countersign audit search --event login_failed --since 1h --json
  countersign audit export --since 30d events.jsonl        for another program

docs/audit.md explains the events.";

/// The settings that apply to every command that works on the store.
pub(super) const STORE: &str = "\
The settings are the server's: flag, then COUNTERSIGN_… variable, then .env in the working folder, then the settings
file, countersign.toml. countersign config show says what they are.
The secret that seals the keys comes from COUNTERSIGN_SECRET or COUNTERSIGN_SECRET_FILE; for SQLite without these, from
the file beside the database.";
