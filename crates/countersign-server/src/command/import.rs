//! `countersign import …`: users and sessions of another application, from its own database.

mod source;
mod value;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error;
use std::io::{self, Read as _};

use clap::{Args, Subcommand};
use countersign_core::flow::{CheckError, ForeignError, Sessions};
use countersign_core::model::{
    Device, EmailAddress, EndReason, PasswordHash, Refusal, Session, User, UserSession, Username,
};
use countersign_core::store::{FoundSession, NameKey, SessionInserted, Stores, UserInserted};
use countersign_jwt::{SessionId, Timestamp, TokenId, UserId};

use self::source::{Column, Source, Table};
use self::value::{Cell, HashForm, Switch, address, switch, time, token_id, unhyphenated};
use super::{StoreFlags, auth, with_settings};
use crate::settings::ProfileSetting;
use crate::telemetry::say;

#[derive(Args, Debug)]
pub(crate) struct ImportCommand {
    #[command(subcommand)]
    command: ImportSubcommand,
}

#[derive(Debug, Subcommand)]
enum ImportSubcommand {
    /// Bring users and sessions from a Flask application with Flask-JWT-Extended, whose database is only read.
    ///
    /// From a table user or users: id, which is the identity in the tokens, e-mail address, username, the password's
    /// hash, and whether the account is disabled. From a table session, sessions, user_session or user_sessions with
    /// jti_access and jti_refresh, under COUNTERSIGN_PROFILE=flask-jwt-extended with the application's JWT_… options:
    /// live sessions, which can then be listed and ended here, and the tokens of those that were revoked, which stay
    /// revoked. What is not brought over is named with the reason. Doing it again brings what is new.
    ///
    /// The store must be there: countersign migrate makes it. docs/migrating-from-flask.md says more.
    Flask(Flask),
}

#[derive(Args, Debug)]
struct Flask {
    /// The application's database: sqlite:// and a path, postgres:// or mysql://; - reads the URL from standard input,
    /// which keeps a password in it from others on the machine
    #[arg(long, value_name = "URL", allow_hyphen_values = true)]
    from: String,
    /// Say what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// The table of the users, if it has another name
    #[arg(long, value_name = "TABLE")]
    users_table: Option<String>,
    /// The table of the sessions, if it has another name
    #[arg(long, value_name = "TABLE")]
    sessions_table: Option<String>,
    /// Write users' ids of 32 hexadecimal digits with hyphens, as in the tokens of applications that use
    /// SQLAlchemy's Uuid with a database that has no such type
    #[arg(long)]
    hyphenate_ids: bool,
    #[command(flatten)]
    store: StoreFlags,
}

const ID: &[&str] = &["id"];
const EMAIL: &[&str] = &["email"];
const USERNAME: &[&str] = &["username", "name"];
const PASSWORD: &[&str] = &["password_hash", "password", "hashed_password"];
const REGISTERED: &[&str] = &["created_at", "registered_on", "registered_at", "date_created"];
/// Columns that say that something holds.
const ACTIVE: &[&str] = &["is_active", "active"];
const DISABLED: &[&str] = &["disabled", "disabled_at"];

const OWNER: &[&str] = &["user_id", "user"];
const ACCESS: &[&str] = &["jti_access"];
const REFRESH: &[&str] = &["jti_refresh"];
const BEGAN: &[&str] = &["created_at", "login_at"];
const EXPIRES: &[&str] = &["refresh_expires_at", "expires_at"];
const REVOKED: &[&str] = &["revoked", "is_revoked", "revoked_at", "ended_at", "logged_out_at"];
const AGENT: &[&str] = &["user_agent", "device", "browser"];
const IP: &[&str] = &["ip", "ip_address", "remote_addr"];

/// What is looked for in one kind of table.
struct Wanted {
    what: &'static str,
    option: &'static str,
    /// The usual names.
    tables: &'static [&'static str],
    /// Of each of these one column at least.
    required: &'static [&'static [&'static str]],
    /// Of each of these the first column that there is.
    first_of: &'static [&'static [&'static str]],
    /// Every one of these.
    every: &'static [&'static [&'static str]],
}

const USERS: Wanted = Wanted {
    what: "users",
    option: "--users-table",
    tables: &["user", "users"],
    required: &[ID, EMAIL],
    first_of: &[ID, EMAIL, USERNAME, PASSWORD, REGISTERED],
    every: &[ACTIVE, DISABLED],
};

const SESSIONS: Wanted = Wanted {
    what: "sessions",
    option: "--sessions-table",
    tables: &["session", "sessions", "user_session", "user_sessions"],
    required: &[OWNER, ACCESS, REFRESH],
    first_of: &[ID, OWNER, ACCESS, REFRESH, BEGAN, EXPIRES, AGENT, IP],
    every: &[REVOKED, ACTIVE],
};

/// `countersign import …`
pub(crate) fn run(import: ImportCommand) -> Result<(), Box<dyn Error>> {
    let ImportSubcommand::Flask(Flask { from, dry_run, users_table, sessions_table, hyphenate_ids, store }) =
        import.command;
    let from = match from.as_str() {
        "-" => io::read_to_string(io::stdin().lock().take(64 * 1024))?,
        _ => from,
    };
    with_settings(store, async |settings| {
        let (users, user_sessions) =
            read(from.trim(), users_table.as_deref(), sessions_table.as_deref()).await?;
        let (auth, stores) = auth(settings).await?;
        let sessions = auth.sessions();
        let mut import = Import {
            sessions,
            stores: &stores,
            dry_run,
            hyphenate_ids,
            now: sessions.clock().now(),
            people: HashMap::new(),
            emails: HashSet::new(),
            usernames: HashSet::new(),
            seen: HashSet::new(),
            users: UserCounts::default(),
            counts: SessionCounts::default(),
        };
        users.describe(&USERS);
        for row in users.iter() {
            import.user(&row).await?;
        }
        match &user_sessions {
            None => {
                say("sessions: there is no table with jti_access and jti_refresh, so none are brought over")
            }
            Some(_) if !matches!(settings.profile, ProfileSetting::FlaskJwtExtended(_)) => {
                say("sessions: not brought over; Flask's tokens are taken only under \
                     COUNTERSIGN_PROFILE=flask-jwt-extended, with the application's JWT_… options");
            }
            Some(rows) => {
                rows.describe(&SESSIONS);
                for row in rows.iter() {
                    import.session(&row).await?;
                }
                import.counts.tell();
            }
        }
        import.users.tell();
        if dry_run {
            say("this was a dry run: nothing was written");
        }
        Ok(())
    })
}

/// Reads both tables, and lets go of the database before anything is written.
async fn read(
    from: &str,
    users_table: Option<&str>,
    sessions_table: Option<&str>,
) -> Result<(Rows, Option<Rows>), Box<dyn Error>> {
    let mut source = Source::open(from).await?;
    let tables = source.tables().await?;
    let users = USERS.find(&tables, users_table)?.ok_or_else(|| {
        format!(
            "there is no table {} with the columns id and email; say which one it is with {} TABLE",
            USERS.tables.join(" or "),
            USERS.option
        )
    })?;
    let sessions = SESSIONS.find(&tables, sessions_table)?;
    let users = Rows::read(&mut source, &USERS, users).await?;
    let sessions = match sessions {
        Some(table) => Some(Rows::read(&mut source, &SESSIONS, table).await?),
        None => None,
    };
    source.close().await;
    if users.rows.is_empty() {
        return Err(
            format!("the table {} is empty: there is nothing to bring over", shown(&users.table)).into()
        );
    }
    Ok((users, sessions))
}

impl Wanted {
    /// The table that was named, or else the one that looks right; `None` if none does.
    fn find<'t>(
        &self,
        tables: &'t [Table],
        named: Option<&str>,
    ) -> Result<Option<&'t Table>, Box<dyn Error>> {
        let missing = |table: &Table| {
            let is_missing = |names: &&&[&str]| names.iter().all(|name| table.column(name).is_none());
            self.required.iter().find(is_missing).map(|names| names.join(" or "))
        };
        if let Some(named) = named {
            let table = tables.iter().find(|table| table.is_called(named));
            let table = table.ok_or_else(|| format!("{}: there is no such table", self.option))?;
            return match missing(table) {
                None => Ok(Some(table)),
                Some(column) => {
                    Err(format!("{}: the table {} has no column {column}", self.option, shown(&table.name))
                        .into())
                }
            };
        }
        let is_usual = |table: &&Table| {
            table.is_near && self.tables.iter().any(|name| name.eq_ignore_ascii_case(&table.name))
        };
        let fitting: Vec<_> =
            tables.iter().filter(is_usual).filter(|table| missing(table).is_none()).collect();
        match fitting.as_slice() {
            [] => Ok(None),
            [table] => Ok(Some(table)),
            [one, other, ..] => Err(format!(
                "both {} and {} may be the table of the {}: say which one it is with {} TABLE",
                shown(&one.name),
                shown(&other.name),
                self.what,
                self.option
            )
            .into()),
        }
    }

    /// The columns of a table that mean something here.
    fn columns<'t>(&self, table: &'t Table) -> Vec<&'t Column> {
        let first = self.first_of.iter().filter_map(|names| names.iter().find_map(|name| table.column(name)));
        let every = self.every.iter().flat_map(|names| names.iter().filter_map(|name| table.column(name)));
        first.chain(every).collect()
    }
}

/// What was read of a table.
struct Rows {
    table: String,
    /// The columns that were read, in lower case.
    columns: Vec<String>,
    /// Those that mean nothing here.
    others: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Rows {
    async fn read(source: &mut Source, wanted: &Wanted, table: &Table) -> Result<Self, Box<dyn Error>> {
        let columns = wanted.columns(table);
        let is_read = |column: &&Column| columns.iter().any(|read| read.name == column.name);
        Ok(Self {
            table: table.name.clone(),
            columns: columns.iter().map(|column| column.name.to_ascii_lowercase()).collect(),
            others: table
                .columns
                .iter()
                .filter(|column| !is_read(column))
                .map(|column| shown(&column.name))
                .collect(),
            rows: source.rows(table, &columns).await?,
        })
    }

    fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().zip(1..).map(|(cells, number)| Row { rows: self, number, cells })
    }

    fn has(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.columns.iter().any(|column| column == name))
    }

    /// Says which table and columns are meant, and what follows from those that are not there.
    fn describe(&self, wanted: &Wanted) {
        let Self { table, columns, others, .. } = self;
        let (what, table) = (wanted.what, shown(table));
        say(&format!("{what}: from the table {table}, columns {}", columns.join(", ")));
        if !others.is_empty() {
            say(&format!(
                "{what}: not understood and left out: the columns {} of {table}",
                others.join(", ")
            ));
        }
        let lacks = |names: &[&str], consequence: &str| {
            if !self.has(names) {
                say(&format!("{what}: {table} has no column {}: {consequence}", names.join(" or ")));
            }
        };
        if wanted.what == USERS.what {
            lacks(PASSWORD, "nobody can log in by password");
            lacks(REGISTERED, "the time of registration is now");
        } else {
            lacks(&[REVOKED, ACTIVE].concat(), "every session counts as not revoked");
            lacks(BEGAN, "a session's begin is reckoned from its expiry");
            lacks(EXPIRES, "a session lasts JWT_REFRESH_TOKEN_EXPIRES");
        }
    }
}

/// One row.
#[derive(Clone, Copy)]
struct Row<'r> {
    rows: &'r Rows,
    number: u64,
    cells: &'r [Cell],
}

impl<'r> Row<'r> {
    fn cell(&self, name: &str) -> Option<&'r Cell> {
        let index = self.rows.columns.iter().position(|column| column == name)?;
        self.cells.get(index)
    }

    /// The first of these columns that there is, with its name.
    fn first(&self, names: &[&'static str]) -> (&'static str, &'r Cell) {
        let found = names.iter().find_map(|name| Some((*name, self.cell(name)?)));
        found.unwrap_or_else(|| (names.first().copied().unwrap_or_default(), &Cell::Null))
    }

    /// Its text; `None` if there is nothing. What is no text is nothing, and is said.
    fn text(&self, names: &[&'static str]) -> Option<&'r str> {
        match self.first(names) {
            (_, Cell::Text(text)) if !text.is_empty() => Some(text),
            (name, Cell::Bytes) => {
                self.note(&format!("its {name} is not text, and is left out"));
                None
            }
            _ => None,
        }
    }

    /// Its time; what is none is left out, and is said.
    fn time(&self, names: &[&'static str]) -> Option<Timestamp> {
        let text = self.text(names)?;
        let found = time(text);
        if found.is_none() {
            self.note(&format!("its {} is not a time, and is left out", self.first(names).0));
        }
        found
    }

    /// Whether any of these columns is on, and since when. One that cannot be understood is on, for safety.
    fn switched_on(&self, names: &[&'static str]) -> Option<Option<Timestamp>> {
        let mut on: Option<Option<Timestamp>> = None;
        for name in names {
            let since = match self.cell(name).map(switch) {
                None | Some(Switch::Off) => continue,
                Some(Switch::On(since)) => since,
                Some(Switch::Unclear) => {
                    self.note(&format!(
                        "its {name} is neither true nor false nor a time, and counts as true"
                    ));
                    None
                }
            };
            on = Some(on.flatten().max(since));
        }
        on
    }

    /// Whether any of these columns is there and not on. One that cannot be understood is off, for safety.
    fn switched_off(&self, names: &[&'static str]) -> bool {
        names.iter().any(|name| match self.cell(name).map(switch) {
            None | Some(Switch::On(_)) => false,
            Some(Switch::Off) => true,
            Some(Switch::Unclear) => {
                self.note(&format!("its {name} is neither true nor false, and counts as false"));
                true
            }
        })
    }

    /// A token's id; `Err` for what is none.
    fn token(&self, names: &[&'static str]) -> Result<Option<TokenId>, ()> {
        match self.first(names).1 {
            Cell::Null => Ok(None),
            Cell::Text(text) if text.is_empty() => Ok(None),
            Cell::Text(text) => token_id(text).map(Some).ok_or(()),
            Cell::Bytes => Err(()),
        }
    }

    /// What the row is called in messages.
    fn name(&self) -> String {
        let table = shown(&self.rows.table);
        match self.cell("id") {
            Some(Cell::Text(id)) => format!("{table} {}", shown(id)),
            _ => format!("{table}, row {} as read", self.number),
        }
    }

    fn skip(&self, why: &str) {
        say(&format!("skipped: {}: {why}", self.name()));
    }

    fn note(&self, what: &str) {
        say(&format!("note: {}: {what}", self.name()));
    }
}

/// Text of others, for the terminal: short, and nothing in it moves the cursor.
fn shown(text: &str) -> String {
    const MAX_CHARS: usize = 64;
    let mut shown: String = text.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// A user whose sessions are looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Person {
    Enabled,
    Disabled,
    /// Somebody with the same id has another e-mail address here: perhaps somebody else.
    Doubtful,
}

struct Import<'i> {
    sessions: &'i Sessions,
    stores: &'i Stores,
    dry_run: bool,
    hyphenate_ids: bool,
    now: Timestamp,
    /// Users who are here by now, or would be.
    people: HashMap<UserId, Person>,
    /// The keys of the names that they took in this run.
    emails: HashSet<String>,
    usernames: HashSet<String>,
    /// The live sessions of this run.
    seen: HashSet<UserSession>,
    users: UserCounts,
    counts: SessionCounts,
}

#[derive(Debug, Default)]
struct UserCounts {
    read: u64,
    brought: u64,
    here: u64,
    skipped: u64,
    without_password: u64,
    hashes: BTreeMap<HashForm, u64>,
}

#[derive(Debug, Default)]
struct SessionCounts {
    read: u64,
    live: u64,
    here: u64,
    revoked: u64,
    revoked_before: u64,
    ended: u64,
    expired: u64,
    skipped: u64,
    odd_expiry: u64,
}

impl Import<'_> {
    fn user_id(&self, text: &str) -> Option<UserId> {
        match unhyphenated(text).filter(|_| self.hyphenate_ids) {
            Some(id) => Some(id.into()),
            None => UserId::new(text).ok(),
        }
    }

    async fn user(&mut self, row: &Row<'_>) -> Result<(), Box<dyn Error>> {
        self.users.read += 1;
        let skipped = match self.take_user(row).await? {
            Ok(()) => return Ok(()),
            Err(why) => why,
        };
        self.users.skipped += 1;
        row.skip(&skipped);
        Ok(())
    }

    /// Brings a user over; `Err` says why it cannot be.
    async fn take_user(&mut self, row: &Row<'_>) -> Result<Result<(), String>, Box<dyn Error>> {
        let Some(id) = row.text(ID).and_then(|text| self.user_id(text)) else {
            return Ok(Err("it has no id that can be kept".to_owned()));
        };
        if self.people.contains_key(&id) {
            return Ok(Err("another row has the same id".to_owned()));
        }
        let disabled_at = match row.switched_on(DISABLED) {
            Some(since) => Some(since.unwrap_or(self.now)),
            None => row.switched_off(ACTIVE).then_some(self.now),
        };
        let person = if disabled_at.is_some() { Person::Disabled } else { Person::Enabled };
        let Some(email) = row.text(EMAIL) else {
            return Ok(Err("it has no e-mail address, which accounts need".to_owned()));
        };
        let email = match EmailAddress::parse(email) {
            Ok(email) => email,
            Err(error) => return Ok(Err(format!("its e-mail address cannot be used: {error}"))),
        };
        let users = self.stores.users();
        if let Some(here) = users.user(&id).await? {
            if here.email.key() != email.key() {
                self.people.insert(id, Person::Doubtful);
                return Ok(Err("its id is here already, with another e-mail address".to_owned()));
            }
            self.people.insert(id, if here.is_enabled() { person } else { Person::Disabled });
            self.users.here += 1;
            return Ok(Ok(()));
        }
        let taken = "another user has its e-mail address".to_owned();
        if self.emails.contains(email.key())
            || users.user_by_name(NameKey::Email(email.key())).await?.is_some()
        {
            return Ok(Err(taken));
        }
        let username = self.username(row).await?;
        let (password_hash, form) = password_hash(row);
        let created_at = row.time(REGISTERED).unwrap_or(self.now).min(self.now);
        let mut user = User { id: id.clone(), email, username, password_hash, created_at, disabled_at };
        if !self.dry_run {
            let mut inserted = users.insert_user(&user).await?;
            if inserted == UserInserted::UsernameTaken {
                row.note("another user has its username, which is left out");
                user.username = None;
                inserted = users.insert_user(&user).await?;
            }
            if inserted != UserInserted::Yes {
                return Ok(Err(taken));
            }
        }
        match form {
            Some(form) => *self.users.hashes.entry(form).or_default() += 1,
            None => self.users.without_password += 1,
        }
        self.users.brought += 1;
        self.emails.insert(user.email.key().to_owned());
        self.usernames.extend(user.username.map(|username| username.key().to_owned()));
        self.people.insert(id, person);
        Ok(Ok(()))
    }

    async fn username(&self, row: &Row<'_>) -> Result<Option<Username>, Box<dyn Error>> {
        let Some(text) = row.text(USERNAME) else { return Ok(None) };
        let column = row.first(USERNAME).0;
        match Username::parse(text) {
            Err(error) => {
                row.note(&format!("its {column} cannot be a username, and is left out: {error}"));
                Ok(None)
            }
            Ok(username) => {
                let key = username.key();
                let taken = self.usernames.contains(key)
                    || self.stores.users().user_by_name(NameKey::Username(key)).await?.is_some();
                if taken {
                    row.note(&format!("another user has its {column}, which is left out"));
                }
                Ok((!taken).then_some(username))
            }
        }
    }

    async fn session(&mut self, row: &Row<'_>) -> Result<(), Box<dyn Error>> {
        self.counts.read += 1;
        let skipped = match self.take_session(row).await? {
            Ok(()) => return Ok(()),
            Err(why) => why,
        };
        self.counts.skipped += 1;
        row.skip(skipped);
        Ok(())
    }

    /// Brings a session over, or the end of one; `Err` says why it cannot be.
    async fn take_session(&mut self, row: &Row<'_>) -> Result<Result<(), &'static str>, Box<dyn Error>> {
        let Some(user_id) = row.text(OWNER).and_then(|text| self.user_id(text)) else {
            return Ok(Err("it names no user"));
        };
        let Some(person) = self.people.get(&user_id).copied() else {
            return Ok(Err("its user was not brought over"));
        };
        let began = row.time(BEGAN).map(|began| began.min(self.now));
        let expires = row.time(EXPIRES);
        let mut revoked = row.switched_on(REVOKED);
        if revoked.is_none() && (row.switched_off(ACTIVE) || person == Person::Disabled) {
            revoked = Some(None);
        }
        if let Some(revoked_at) = revoked {
            return self.take_revoked(row, &user_id, [began, expires, revoked_at]).await;
        }
        let Ok(Some(refresh)) = row.token(REFRESH) else {
            return Ok(Err("its jti_refresh is not the id of a token, a UUID"));
        };
        if row.token(ACCESS).is_err() {
            row.note("its jti_access is not the id of a token, a UUID");
        }
        if person == Person::Doubtful {
            return Ok(Err("its user's id is here already, with another e-mail address"));
        }
        let key = UserSession { user_id, id: SessionId::new(refresh.as_uuid()) };
        if !self.seen.insert(key.clone()) {
            return Ok(Err("another row has the same jti_refresh"));
        }
        if self.stores.sessions().session(&key).await?.is_some() {
            self.counts.here += 1;
            return Ok(Ok(()));
        }
        let policy = self.sessions.policy();
        let Some(issued_at) = began.or_else(|| expires.map(|at| (at - policy.absolute).min(self.now))) else {
            return Ok(Err("nothing says when it began; it begins here with its first refresh"));
        };
        // A refresh token lives longer than an access token: what ends so soon is another one's time.
        let has_jumped = |at: &Timestamp| *at <= issued_at + policy.access_lifetime + policy.leeway;
        let expires = match expires.filter(has_jumped).filter(|_| policy.absolute > policy.access_lifetime) {
            Some(_) => {
                self.counts.odd_expiry += 1;
                None
            }
            None => expires,
        };
        let device = device(row);
        match self.sessions.foreign().session(&key.user_id, refresh, issued_at, expires, &device).await {
            Ok(session) if session.is_live(self.now) => self.insert_session(&session).await?,
            Ok(_) | Err(ForeignError::Check(CheckError::Refused(Refusal::Expired))) => {
                self.counts.expired += 1
            }
            Err(ForeignError::Check(CheckError::Refused(_))) => self.counts.ended += 1,
            Err(error) => return Err(error.into()),
        }
        Ok(Ok(()))
    }

    async fn insert_session(&mut self, session: &Session) -> Result<(), Box<dyn Error>> {
        let inserted = match self.dry_run {
            true => SessionInserted::Yes,
            false => self.stores.sessions().insert_session(session).await?,
        };
        match inserted {
            SessionInserted::Yes => self.counts.live += 1,
            SessionInserted::Taken => self.counts.here += 1,
            SessionInserted::EpochRaised => self.counts.ended += 1,
        }
        Ok(())
    }

    /// Makes sure that the tokens of a session that was revoked in Flask stay refused here.
    async fn take_revoked(
        &mut self,
        row: &Row<'_>,
        user_id: &UserId,
        [began, expires, revoked_at]: [Option<Timestamp>; 3],
    ) -> Result<Result<(), &'static str>, Box<dyn Error>> {
        let policy = self.sessions.policy();
        // Its last token was issued before it was revoked, and not later than it says that a token expires. When it began
        // is no bound: an application may write a new token's id into the same row.
        let last_issued = expires.max(revoked_at).map(|at| began.map_or(at, |began| at.max(began)));
        if last_issued.is_some_and(|at| at + policy.absolute + policy.leeway <= self.now) {
            self.counts.expired += 1;
            return Ok(Ok(()));
        }
        let (access, refresh) = (row.token(ACCESS), row.token(REFRESH));
        for (name, id) in [("jti_access", access), ("jti_refresh", refresh)] {
            if id.is_err() {
                row.note(&format!("its {name} is not the id of a token, a UUID, and cannot be revoked"));
            }
        }
        let ids: Vec<_> = [access, refresh].into_iter().filter_map(|id| id.ok().flatten()).collect();
        if ids.is_empty() {
            return Ok(Err("it is revoked, and names no token that could be"));
        }
        let mut changed = false;
        for id in ids {
            if self.sessions.view().index().is_token_revoked(user_id, id) {
                continue;
            }
            changed = true;
            if !self.dry_run {
                self.sessions.foreign().revoke(user_id.clone(), id).await?;
            }
        }
        // The token may have been shown here while it was good; then the session is what refreshes.
        if let Ok(Some(refresh)) = refresh {
            let key = UserSession { user_id: user_id.clone(), id: SessionId::new(refresh.as_uuid()) };
            if let Some(FoundSession { session, log }) = self.stores.sessions().session(&key).await?
                && session.is_live(self.now)
                && !log.ended
            {
                changed = true;
                if !self.dry_run {
                    self.sessions.end(key, EndReason::LoggedOut).await?;
                }
            }
        }
        if changed {
            self.counts.revoked += 1;
        } else {
            self.counts.revoked_before += 1;
        }
        Ok(Ok(()))
    }
}

/// The hash of a row's password, and its form. What is none is not kept: it may be the password.
fn password_hash(row: &Row<'_>) -> (Option<PasswordHash>, Option<HashForm>) {
    /// No hash is longer.
    const MAX_BYTES: usize = 4_096;
    let Some(text) = row.text(PASSWORD) else { return (None, None) };
    let form = HashForm::of(text).filter(|_| text.len() <= MAX_BYTES && !text.contains(char::is_control));
    if form.is_none() {
        let column = row.first(PASSWORD).0;
        row.note(&format!(
            "its {column} is in no known form of a hash, perhaps the password itself, and is left out"
        ));
    }
    (form.map(|_| PasswordHash::from_stored(text.to_owned())), form)
}

fn device(row: &Row<'_>) -> Device {
    let ip = row.text(IP).and_then(|text| {
        let ip = address(text);
        if ip.is_none() {
            row.note(&format!("its {} is not an IP address, and is left out", row.first(IP).0));
        }
        ip
    });
    Device::new(row.text(AGENT), ip)
}

impl UserCounts {
    fn tell(&self) {
        let Self { read, brought, here, skipped, without_password, hashes } = self;
        say(&format!("users: {read} read, {brought} brought over, {here} here already, {skipped} skipped"));
        let verified = hashes.get(&HashForm::Argon2).copied().unwrap_or(0);
        say(&format!("passwords: {verified} of a form that this version verifies (Argon2 in PHC format)"));
        let others = hashes.iter().filter(|(form, _)| **form != HashForm::Argon2);
        let others: Vec<_> = others.map(|(form, count)| format!("{} {count}", form.name())).collect();
        if !others.is_empty() {
            let count: u64 = hashes.values().sum::<u64>() - verified;
            say(&format!(
                "passwords: {count} of a form that this version does not verify yet ({}): these users stay signed in by \
                 their tokens, but cannot log in with their password; the hashes are kept",
                others.join(", ")
            ));
        }
        if *without_password > 0 {
            say(&format!("passwords: {without_password} users without one"));
        }
    }
}

impl SessionCounts {
    fn tell(&self) {
        let Self { read, live, here, revoked, revoked_before, ended, expired, skipped, odd_expiry } = self;
        say(&format!(
            "sessions: {read} read, {live} live ones brought over, {here} here already, {skipped} skipped"
        ));
        say(&format!(
            "sessions: {revoked} revoked ones whose tokens are revoked here from now on, {revoked_before} revoked here \
             already, {expired} expired, {ended} ended here"
        ));
        if *odd_expiry > 0 {
            say(&format!(
                "sessions: {odd_expiry} expire as soon as an access token, which refresh tokens do not: they last \
                 JWT_REFRESH_TOKEN_EXPIRES instead"
            ));
        }
    }
}
