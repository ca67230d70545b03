//! `countersign import …`: brings users, sessions and revoked tokens of another application from its own database.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::io::{self, Read as _};

use clap::{Args, Subcommand};
use countersign_core::flow::{CheckError, ForeignError, Sessions};
use countersign_core::model::{EmailAddress, PasswordHash, Peppers, User, Username};
use countersign_core::model::{EndReason, Refusal, Session, UserSession};
use countersign_core::store::{FoundSession, NameKey, SessionInserted, Stores, UserInserted};
use countersign_flask::FlaskRules;
use countersign_flask::import::columns::{
    ACCESS, ACTIVE, BEGAN, DISABLED, EMAIL, EXPIRES, ID, JTI, OWNER, REFRESH, REGISTERED, REVOKED,
    TOKEN_EXPIRES, TOKEN_OWNER, TOKEN_REVOKED, TOKEN_SINCE, TOKEN_TYPE, USERNAME, VERIFIED,
};
use countersign_flask::import::{
    HashForm, Memberships, Row, Rows, TableNames, Tables, read_tables, unhyphenated,
};
use countersign_jwt::{SessionId, Timestamp, TokenId, UserId};

mod counts;

use counts::{SessionCounts, TokenCounts, UserCounts};

use super::user_number::HighestNumber;
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
    /// Bring users, sessions and revoked tokens from the database of a Flask application with Flask-JWT-Extended, which is
    /// only read.
    ///
    /// Users come from a table user or users: id, which is the identity in the tokens, e-mail address, username, the
    /// password's hash, roles, and whether the account is disabled. Roles come also from the tables of Flask-Security,
    /// role and roles_users. Sessions come from a table session, sessions, user_session
    /// or user_sessions with jti_access and jti_refresh, under COUNTERSIGN_PROFILE=flask-jwt-extended with the
    /// application's JWT_… options. Live sessions can then be listed and ended here. The tokens of revoked sessions,
    /// and those in a table such as token_blocklist with a column jti, stay revoked. Whatever is not brought over is named with the reason. A repeated import brings what is new.
    ///
    /// The store must exist already: countersign migrate makes it. docs/migrating-from-flask.md says more.
    Flask(Flask),
}

#[derive(Args, Debug)]
struct Flask {
    /// The application's database: sqlite:// and a path, postgres:// or mysql://. With - the URL is read from standard
    /// input, so that other users of the machine do not see a password in it
    #[arg(long, value_name = "URL", allow_hyphen_values = true)]
    from: String,
    /// Say what would be done, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// The table of the users, if its name is none of user and users
    #[arg(long, value_name = "TABLE")]
    users_table: Option<String>,
    /// The table of the sessions, if its name is none of session, sessions, user_session and user_sessions
    #[arg(long, value_name = "TABLE")]
    sessions_table: Option<String>,
    /// The table of the revoked tokens, with a column jti, if it has none of the usual names, such as token_blocklist or
    /// revoked_tokens
    #[arg(long, value_name = "TABLE")]
    blocklist_table: Option<String>,
    /// The column of a user's roles: a text with one or several, or a boolean, which stands for the role admin or for
    /// the one that the column's name says, as in is_editor. Default: the first of role, roles and is_admin that exists
    #[arg(long, value_name = "COLUMN")]
    roles_column: Option<String>,
    /// Write users' ids of 32 hexadecimal digits with hyphens, as they are in the tokens of applications that use
    /// SQLAlchemy's Uuid with a database that has no such type
    #[arg(long)]
    hyphenate_ids: bool,
    /// The bcrypt hashes are of an application that sets Flask-Bcrypt's BCRYPT_HANDLE_LONG_PASSWORDS. They are kept with
    /// the prefix bcrypt-sha256-hex, because they cannot be told from others by their text
    #[arg(long)]
    bcrypt_long_passwords: bool,
    #[command(flatten)]
    store: StoreFlags,
}

/// `countersign import …`
pub(crate) fn run(import: ImportCommand) -> Result<(), Box<dyn Error>> {
    let ImportSubcommand::Flask(Flask {
        from,
        dry_run,
        users_table,
        sessions_table,
        blocklist_table,
        roles_column,
        hyphenate_ids,
        bcrypt_long_passwords,
        store,
    }) = import.command;
    let from = match from.as_str() {
        "-" => io::read_to_string(io::stdin().lock().take(64 * 1024))?,
        _ => from,
    };
    with_settings(store, async |settings| {
        let names = TableNames {
            users: users_table.as_deref(),
            sessions: sessions_table.as_deref(),
            blocklist: blocklist_table.as_deref(),
            roles_column: roles_column.as_deref(),
        };
        let Tables { users, memberships, sessions: user_sessions, blocklists, left } =
            read_tables(from.trim(), names, say).await?;
        let (auth, stores) = auth(settings).await?;
        let sessions = auth.sessions();
        let mut import = Import {
            sessions,
            stores: &stores,
            dry_run,
            hyphenate_ids,
            bcrypt_long_passwords,
            now: sessions.clock().now(),
            people: HashMap::new(),
            emails: HashSet::new(),
            usernames: HashSet::new(),
            seen: HashSet::new(),
            revoked: HashSet::new(),
            memberships,
            highest: HighestNumber::default(),
            users: UserCounts::default(),
            counts: SessionCounts::default(),
        };
        users.describe();
        for row in users.iter() {
            import.user(&row).await?;
        }
        if !dry_run {
            import.highest.count_on(&**stores.users()).await?;
        }
        let takes_tokens = match &settings.profile {
            ProfileSetting::Flask(profile) => matches!(profile.rules, FlaskRules::FlaskJwtExtended(_)),
            ProfileSetting::Native => false,
        };
        match &user_sessions {
            None => {
                say("sessions: there is no table with jti_access and jti_refresh, so none are brought over")
            }
            Some(_) if !takes_tokens => {
                say("sessions: not brought over; Flask's tokens are taken only under \
                     COUNTERSIGN_PROFILE=flask-jwt-extended, with the application's JWT_… options");
            }
            Some(rows) => {
                rows.describe();
                for row in rows.iter() {
                    import.session(&row).await?;
                }
                import.counts.tell();
            }
        }
        for rows in &blocklists {
            rows.describe();
            if takes_tokens {
                import.blocklist(rows, user_sessions.as_ref()).await?;
            } else {
                say(&format!(
                    "revoked tokens: those of {} are left; Flask's tokens are taken only under \
                     COUNTERSIGN_PROFILE=flask-jwt-extended, with the application's JWT_… options",
                    rows.shown_table()
                ));
            }
        }
        for table in &left {
            say(&format!(
                "revoked tokens: the table {table} has a column jti and is left; if it lists revoked tokens, say \
                 --blocklist-table {table}"
            ));
        }
        import.users.tell();
        if dry_run {
            say("this was a dry run: nothing was written");
        }
        Ok(())
    })
}

/// A user whose sessions are brought over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Person {
    Enabled,
    Disabled,
    /// An account with the same id has another e-mail address here, so it may belong to somebody else.
    Doubtful,
}

struct Import<'i> {
    sessions: &'i Sessions,
    stores: &'i Stores,
    dry_run: bool,
    hyphenate_ids: bool,
    bcrypt_long_passwords: bool,
    now: Timestamp,
    /// The users who have an account here by now, or would have one after a real run.
    people: HashMap<UserId, Person>,
    /// The keys of the e-mail addresses that users have claimed in this run.
    emails: HashSet<String>,
    usernames: HashSet<String>,
    /// The live sessions of this run.
    seen: HashSet<UserSession>,
    /// The tokens of blocklists that were revoked in this run.
    revoked: HashSet<(UserId, TokenId)>,
    memberships: Memberships,
    highest: HighestNumber,
    users: UserCounts,
    counts: SessionCounts,
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

    /// Brings a user over. `Err` says why the user cannot be brought over.
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
        let email = match row.text(EMAIL).map(EmailAddress::parse).transpose() {
            Ok(email) => email,
            Err(error) => return Ok(Err(format!("its e-mail address cannot be used: {error}"))),
        };
        let users = self.stores.users();
        if let Some(here) = users.user(&id).await? {
            let is_same = match (&email, &here.email) {
                (Some(email), Some(here)) => email.key() == here.key(),
                (None, None) => {
                    let username = row.text(USERNAME).and_then(|text| Username::parse(text).ok());
                    let key =
                        |username: &Option<Username>| username.as_ref().map(|name| name.key().to_owned());
                    key(&username) == key(&here.username)
                }
                _ => false,
            };
            if !is_same {
                self.people.insert(id, Person::Doubtful);
                let name = if email.is_some() { "e-mail address" } else { "name" };
                return Ok(Err(format!("its id is here already, with another {name}")));
            }
            self.highest.see(&id);
            self.people.insert(id, if here.is_enabled() { person } else { Person::Disabled });
            self.users.here += 1;
            return Ok(Ok(()));
        }
        let taken = "another user has its e-mail address".to_owned();
        if let Some(email) = &email
            && (self.emails.contains(email.key())
                || users.user_by_name(NameKey::Email(email.key())).await?.is_some())
        {
            return Ok(Err(taken));
        }
        let username = self.username(row).await?;
        if email.is_none() && username.is_none() {
            return Ok(Err("it has no e-mail address and no username that it could have here".to_owned()));
        }
        let email_verified_at = match &email {
            Some(_) => row.is_certain(VERIFIED).map(|since| since.unwrap_or(self.now).min(self.now)),
            None => None,
        };
        let hash = self.password_hash(row);
        let form = hash.as_ref().map(|(hash, form)| (*form, hash.check(&Peppers::default())));
        let password_hash = hash.map(|(hash, _)| hash);
        let created_at = row.time(REGISTERED).unwrap_or(self.now).min(self.now);
        let mut user = User {
            email,
            email_verified_at,
            username,
            roles: row.roles(&self.memberships),
            password_hash,
            disabled_at,
            ..User::new(id.clone(), created_at)
        };
        if !self.dry_run {
            let mut inserted = users.insert_user(&user).await?;
            if inserted == UserInserted::UsernameTaken && user.email.is_some() {
                row.note("another user has its username, which is left out");
                user.username = None;
                inserted = users.insert_user(&user).await?;
            }
            match inserted {
                UserInserted::Yes => {}
                UserInserted::UsernameTaken => return Ok(Err("another user has its username".to_owned())),
                _ => return Ok(Err(taken)),
            }
        }
        match form {
            Some((form, Ok(()))) => *self.users.verified.entry(form).or_default() += 1,
            Some((_, Err(reason))) => {
                row.note(&format!("its password hash is kept, but is not used: {reason}"));
                self.users.unusable += 1;
            }
            None => self.users.without_password += 1,
        }
        self.users.brought += 1;
        self.users.without_email += u64::from(user.email.is_none());
        self.users.with_roles += u64::from(!user.roles.is_empty());
        self.highest.see(&id);
        self.emails.extend(user.email.map(|email| email.key().to_owned()));
        self.usernames.extend(user.username.map(|username| username.key().to_owned()));
        self.people.insert(id, person);
        Ok(Ok(()))
    }

    /// The hash of the user's password as it is kept, and its form.
    fn password_hash(&self, row: &Row<'_>) -> Option<(PasswordHash, HashForm)> {
        let (Some(hash), Some(form)) = row.password_hash() else { return None };
        Some(match form {
            HashForm::Bcrypt if self.bcrypt_long_passwords => {
                (PasswordHash::of_flask_bcrypt_long(hash.expose()), form)
            }
            form => (hash, form),
        })
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

    /// Brings a session over, or the end of one. `Err` says why it cannot be brought over.
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
        // A refresh token lives longer than an access token, so an expiry this early is that of another token.
        let has_jumped = |at: &Timestamp| *at <= issued_at + policy.access_lifetime + policy.leeway;
        let expires = match expires.filter(has_jumped).filter(|_| policy.absolute > policy.access_lifetime) {
            Some(_) => {
                self.counts.odd_expiry += 1;
                None
            }
            None => expires,
        };
        let device = row.device();
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

    /// Ensures that the tokens of a session that was revoked in Flask stay refused here.
    async fn take_revoked(
        &mut self,
        row: &Row<'_>,
        user_id: &UserId,
        [began, expires, revoked_at]: [Option<Timestamp>; 3],
    ) -> Result<Result<(), &'static str>, Box<dyn Error>> {
        let policy = self.sessions.policy();
        // The session's last token was issued before the session was revoked, and not later than the expiry that the
        // row names. The session's beginning is no bound, because an application may write a new token's id into the
        // same row.
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
        // The token may have been presented here while it was valid; then there is a session here that can be
        // refreshed.
        if let Ok(Some(refresh)) = refresh {
            changed |= self.end_session_of(user_id, refresh).await?;
        }
        if changed {
            self.counts.revoked += 1;
        } else {
            self.counts.revoked_before += 1;
        }
        Ok(Ok(()))
    }

    /// Ends the session that a refresh token has here, if it has one; returns whether there was a live one.
    async fn end_session_of(&self, user_id: &UserId, refresh: TokenId) -> Result<bool, Box<dyn Error>> {
        let key = UserSession { user_id: user_id.clone(), id: SessionId::new(refresh.as_uuid()) };
        let Some(FoundSession { session, log }) = self.stores.sessions().session(&key).await? else {
            return Ok(false);
        };
        if !session.is_live(self.now) || log.ended {
            return Ok(false);
        }
        if !self.dry_run {
            self.sessions.end(key, EndReason::LoggedOut).await?;
        }
        Ok(true)
    }

    /// Ensures that the tokens in a table of revoked tokens stay refused here. A token is revoked together with its
    /// owner, so a table that names no user needs the table of the sessions beside it.
    async fn blocklist(&mut self, rows: &Rows, sessions: Option<&Rows>) -> Result<(), Box<dyn Error>> {
        let mut owners: HashMap<TokenId, UserId> = HashMap::new();
        if !rows.has(TOKEN_OWNER) {
            for row in sessions.into_iter().flat_map(Rows::iter) {
                let Some(owner) = row.text(OWNER).and_then(|text| self.user_id(text)) else { continue };
                for token in [row.token(ACCESS), row.token(REFRESH)].into_iter().flatten().flatten() {
                    owners.insert(token, owner.clone());
                }
            }
        }
        let mut counts = TokenCounts::default();
        for row in rows.iter() {
            counts.read += 1;
            if let Err(why) = self.take_token(&row, rows, &owners, &mut counts).await? {
                counts.skipped += 1;
                row.skip(why);
            }
        }
        counts.tell(rows);
        Ok(())
    }

    /// Revokes one token. `Err` says why it cannot be revoked.
    async fn take_token(
        &mut self,
        row: &Row<'_>,
        rows: &Rows,
        owners: &HashMap<TokenId, UserId>,
        counts: &mut TokenCounts,
    ) -> Result<Result<(), &'static str>, Box<dyn Error>> {
        if rows.has(TOKEN_REVOKED) && row.switched_on(TOKEN_REVOKED).is_none() {
            counts.valid += 1;
            return Ok(Ok(()));
        }
        let policy = self.sessions.policy();
        let is_past = |at: Timestamp| at + policy.leeway <= self.now;
        // The token was issued before it was revoked, and none lives longer than a session.
        let since = row.time(TOKEN_SINCE).map(|at| at + policy.absolute);
        if row.time(TOKEN_EXPIRES).is_some_and(is_past) || since.is_some_and(is_past) {
            counts.expired += 1;
            return Ok(Ok(()));
        }
        let Ok(Some(token)) = row.token(JTI) else {
            return Ok(Err("its jti is not the id of a token, a UUID"));
        };
        let owner = match row.text(TOKEN_OWNER) {
            Some(text) => self.user_id(text),
            None => owners.get(&token).cloned(),
        };
        let Some(owner) = owner else {
            counts.without_owner += 1;
            return Ok(Ok(()));
        };
        if !self.people.contains_key(&owner) {
            return Ok(Err("its user was not brought over"));
        }
        let mut changed = false;
        if !self.sessions.view().index().is_token_revoked(&owner, token)
            && self.revoked.insert((owner.clone(), token))
        {
            changed = true;
            if !self.dry_run {
                self.sessions.foreign().revoke(owner.clone(), token).await?;
            }
        }
        // A refresh token may have been presented here before it was revoked there.
        if !row.text(TOKEN_TYPE).is_some_and(|kind| kind.eq_ignore_ascii_case("access")) {
            changed |= self.end_session_of(&owner, token).await?;
        }
        if changed {
            counts.revoked += 1;
        } else {
            counts.before += 1;
        }
        Ok(Ok(()))
    }
}
