//! `countersign user import`: brings accounts from a file.

use std::collections::HashSet;
use std::error::Error;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use countersign_core::flow::UserIds;
use countersign_core::model::{
    EmailAddress, Language, PasswordHash, Peppers, Roles, UnusableHash, User, Username,
};
use countersign_core::store::{NameKey, StoreError, UserInserted, UserStore};
use countersign_http::{OsRandom, SystemClock};
use countersign_jwt::random::{self, RandomError};
use countersign_jwt::{Clock as _, Timestamp, UserId};
use futures_util::{StreamExt as _, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::user_number::HighestNumber;
use super::user_rows::{COLUMNS, RawRow, RowReader, Switch};
use super::{StoreFlags, with_settings};
use crate::store::Database;
use crate::telemetry::say;

/// Bring accounts from a file: CSV with a heading, or JSON lines.
///
/// The columns are id, email, username, password_hash, roles, email_verified, disabled, created_at and language. All are
/// optional, except that every account needs an e-mail address or a username. Roles are a JSON array, or a text in which
/// commas or spaces separate them; email_verified and disabled are true, false or the time since when, and times are ISO
/// 8601 or Unix seconds. An account without an id gets one as COUNTERSIGN_USER_IDS says. Password hashes are those of
/// docs/passwords.md; passwords themselves are refused.
///
/// A row that cannot be brought over is named on standard error with its line and the reason, and the exit status is
/// then 1. Accounts that are here already, with the same id and names, are counted and stay as they are, so an import
/// that broke off is simply run again.
///
/// The store must exist already: countersign migrate makes it. countersign import flask reads the database of a Flask
/// application.
#[derive(Args, Debug)]
pub(crate) struct UserImport {
    /// The file; - is standard input
    file: PathBuf,
    /// Say what would be done, and write nothing. Rows are compared with the store, not with each other
    #[arg(long)]
    dry_run: bool,
    /// Stop at the first row that is refused, rather than go on with the others
    #[arg(long)]
    stop_at_refusal: bool,
    #[command(flatten)]
    store: StoreFlags,
}

/// The number of rows that are read before they are written. None of them has an id or a name of another.
const BATCH: usize = 512;
/// The number of rows that are written at a time.
const AT_A_TIME: usize = 64;

/// `countersign user import`
pub(crate) fn run(import: UserImport) -> Result<(), Box<dyn Error>> {
    let UserImport { file, dry_run, stop_at_refusal, store } = import;
    with_settings(store, async |settings| {
        let (input, bytes) = open(&file)?;
        let mut reader = RowReader::new(input)?;
        let (database, _) = Database::open_existing(settings).await?;
        let stores = database.stores();
        let import = Import {
            users: &**stores.users(),
            ids: settings.accounts.ids,
            peppers: settings.passwords.peppers()?,
            dry_run,
            now: SystemClock::new().now(),
            bar: bar(bytes),
            highest: HighestNumber::default(),
            counts: Counts::default(),
        };
        import.run(&mut reader, stop_at_refusal).await
    })
}

/// What is read, and its length, if it has one.
type Input = (Box<dyn Read>, Option<u64>);

/// Opens the file.
fn open(path: &Path) -> Result<Input, Box<dyn Error>> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    if path.to_string_lossy().contains("://") {
        return Err("this is the URL of a database; countersign import flask --from URL reads one".into());
    }
    let file = File::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let length = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
    Ok((Box::new(file), length))
}

/// The progress bar, which is only drawn on a terminal.
fn bar(bytes: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(bytes, ProgressDrawTarget::stderr());
    let template = if bytes.is_some() { "{bar:40} {percent:>3} %  {msg}" } else { "{spinner} {msg}" };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

struct Import<'i> {
    users: &'i dyn UserStore,
    ids: UserIds,
    peppers: Peppers,
    dry_run: bool,
    now: Timestamp,
    bar: ProgressBar,
    highest: HighestNumber,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    read: u64,
    brought: u64,
    here: u64,
    refused: u64,
    without_password: u64,
    unusable: u64,
}

/// A row whose values are understood.
#[derive(Debug)]
struct Account {
    line: u64,
    /// Whether the row names the id.
    has_id: bool,
    user: User,
    unusable: Option<UnusableHash>,
}

/// What became of a row.
#[derive(Debug)]
enum Outcome {
    Brought,
    Here,
    Refused(&'static str),
}

impl Import<'_> {
    async fn run(mut self, reader: &mut RowReader, stop_at_refusal: bool) -> Result<(), Box<dyn Error>> {
        let done = self.bring(reader, stop_at_refusal).await;
        if !self.dry_run {
            self.highest.count_on(self.users).await?;
        }
        self.bar.finish_and_clear();
        let Counts { read, brought, here, refused, without_password, unusable } = self.counts;
        say(&format!("users: {read} read, {brought} brought over, {here} here already, {refused} refused"));
        if here > 0 {
            say("users that are here already are left as they are, with their hashes and roles");
        }
        if without_password > 0 {
            say(&format!("passwords: {without_password} users without one"));
        }
        if unusable > 0 {
            say(&format!(
                "passwords: {unusable} whose hash is not used, so that their users need a new password"
            ));
        }
        if self.dry_run {
            say("this was a dry run: nothing was written");
        }
        done?;
        match refused {
            0 => Ok(()),
            1 => Err("one row was refused".into()),
            _ => Err(format!("{refused} rows were refused").into()),
        }
    }

    async fn bring(&mut self, reader: &mut RowReader, stop_at_refusal: bool) -> Result<(), Box<dyn Error>> {
        let mut batch: Vec<Account> = Vec::with_capacity(BATCH);
        let mut keys: HashSet<String> = HashSet::new();
        loop {
            let row = reader.next().map_err(|error| {
                format!("the file cannot be read to its end, after {} rows: {error}", self.counts.read)
            })?;
            let unknown = reader.unknown();
            if !unknown.is_empty() {
                let names: Vec<_> = unknown.iter().map(|name| shown(name)).collect();
                self.tell(&format!(
                    "warning: not understood and left out: {}; the columns are {}",
                    names.join(", "),
                    COLUMNS.join(", ")
                ));
            }
            let Some(row) = row else { break };
            self.counts.read += 1;
            let (line, account) = match row {
                Ok(row) => (row.line, self.understand(&row)?),
                Err((line, why)) => (line, Err(why)),
            };
            match account {
                Err(why) => self.refuse(line, &why),
                Ok(account) => {
                    // Of two rows with the same name or id the first one counts, so they are not written together.
                    let of_this = account.keys();
                    if batch.len() == BATCH || of_this.iter().any(|key| keys.contains(key)) {
                        self.write(&mut batch).await?;
                        keys.clear();
                        self.bar.set_position(reader.bytes());
                    }
                    keys.extend(of_this);
                    batch.push(account);
                }
            }
            if self.counts.refused > 0 && stop_at_refusal {
                break;
            }
        }
        self.write(&mut batch).await
    }

    /// Reads the values of a row. The inner `Err` says why the row is refused; it never holds the row's values.
    fn understand(&self, row: &RawRow) -> Result<Result<Account, String>, RandomError> {
        let fresh = UserId::from(random::uuid(&OsRandom)?);
        Ok(self.account(row, fresh))
    }

    fn account(&self, row: &RawRow, fresh: UserId) -> Result<Account, String> {
        let id = row.text("id")?.map(|id| UserId::new(id.trim()));
        let id = id.transpose().map_err(|error| format!("its id cannot be used: {error}"))?;
        let created_at = row.time("created_at")?.unwrap_or(self.now).min(self.now);
        let has_id = id.is_some();
        let mut user = User::new(id.unwrap_or(fresh), created_at);
        if let Some(email) = row.text("email")? {
            let email = EmailAddress::parse(&email);
            user.email = Some(email.map_err(|error| format!("its email cannot be used: {error}"))?);
        }
        if let Some(username) = row.text("username")? {
            let username = Username::parse(&username);
            user.username = Some(username.map_err(|error| format!("its username cannot be used: {error}"))?);
        }
        if user.email.is_none() && user.username.is_none() {
            return Err("it has neither an email nor a username".to_owned());
        }
        let since = |switch: &Switch| match switch {
            Switch::On(since) => Some(since.unwrap_or(self.now).min(self.now)),
            Switch::Off => None,
        };
        // Where the two columns contradict each other, the safer value counts.
        let (verified, verified_at) = (row.switch("email_verified")?, row.time("email_verified_at")?);
        user.email_verified_at = match (&verified, verified_at) {
            (Some(Switch::Off), _) => None,
            (_, Some(at)) => Some(at.min(self.now)),
            (switch, None) => switch.as_ref().and_then(since),
        };
        if user.email_verified_at.is_some() && user.email.is_none() {
            return Err("its email is verified, but it has no email".to_owned());
        }
        let (disabled, disabled_at) = (row.switch("disabled")?, row.time("disabled_at")?);
        user.disabled_at = disabled_at.map(|at| at.min(self.now)).or(disabled.as_ref().and_then(since));
        if let Some(language) = row.text("language")? {
            let language = Language::parse(language.trim());
            user.language = Some(language.map_err(|error| format!("its language cannot be used: {error}"))?);
        }
        user.roles = roles(row)?;
        let hash = row.text("password_hash")?.map(|text| self.password_hash(text.trim())).transpose()?;
        let (password_hash, unusable) = hash.map_or((None, None), |(hash, unusable)| (Some(hash), unusable));
        user.password_hash = password_hash;
        Ok(Account { line: row.line, has_id, user, unusable })
    }

    /// The hash as it is kept, and why it is not used. A text that does not look like a hash may be the password itself.
    fn password_hash(&self, text: &str) -> Result<(PasswordHash, Option<UnusableHash>), String> {
        /// The largest number of bytes in a hash.
        const MAX_BYTES: usize = 4_096;
        let hash = PasswordHash::from_stored(text.to_owned());
        match hash.check(&self.peppers) {
            Ok(()) => Ok((hash, None)),
            Err(unusable) => {
                let is_hash =
                    unusable != UnusableHash::Form || looks_like_a_hash(text) && text.len() <= MAX_BYTES;
                if !is_hash || text.contains(char::is_control) {
                    return Err(
                        "its password_hash is in no known form of a hash, perhaps the password itself; left empty, the \
                         account is brought over without a password, and its owner sets one by a mailed link"
                            .to_owned(),
                    );
                }
                Ok((hash, Some(unusable)))
            }
        }
    }

    /// Writes the rows of a batch, and empties it.
    async fn write(&mut self, batch: &mut Vec<Account>) -> Result<(), Box<dyn Error>> {
        let mut waiting = Vec::with_capacity(batch.len());
        // Numbers that rows of this batch name are not given to others.
        batch.iter().filter(|account| account.has_id).for_each(|account| self.highest.see(&account.user.id));
        for mut account in batch.drain(..) {
            if account.has_id || self.ids == UserIds::Uuid || self.dry_run {
                waiting.push((account, None));
                continue;
            }
            // Numbers are given in the order of the rows, and none to an account that is here.
            let here = find_by_name(self.users, &account.user).await?;
            let outcome = here.map(|here| compared(&here, &account.user));
            if outcome.is_none() {
                let number = self.users.next_user_number(self.highest.next()).await?;
                account.user.id = UserId::new(&number.to_string())?;
            }
            waiting.push((account, outcome));
        }
        let (users, dry_run) = (self.users, self.dry_run);
        let mut outcomes = stream::iter(waiting)
            .map(async |(account, outcome)| {
                let outcome = match outcome {
                    Some(outcome) => outcome,
                    None => bring_one(users, &account, dry_run).await?,
                };
                Ok::<_, StoreError>((account, outcome))
            })
            .buffered(AT_A_TIME);
        while let Some(done) = outcomes.next().await {
            let (account, outcome) = done?;
            match outcome {
                Outcome::Refused(why) => self.refuse(account.line, why),
                Outcome::Here => {
                    self.highest.see(&account.user.id);
                    self.counts.here += 1;
                }
                Outcome::Brought => {
                    self.highest.see(&account.user.id);
                    self.counts.brought += 1;
                    self.counts.without_password += u64::from(account.user.password_hash.is_none());
                    if let Some(unusable) = account.unusable {
                        self.counts.unusable += 1;
                        self.tell(&format!(
                            "note: line {}: its password_hash is kept, but is not used: {unusable}",
                            account.line
                        ));
                    }
                }
            }
        }
        let Counts { read, refused, .. } = self.counts;
        self.bar.set_message(format!("{read} rows, {refused} refused"));
        Ok(())
    }

    fn refuse(&mut self, line: u64, why: &str) {
        self.counts.refused += 1;
        self.tell(&format!("refused: line {line}: {why}"));
    }

    /// Writes a line to standard error, above the progress bar.
    fn tell(&self, line: &str) {
        self.bar.suspend(|| {
            let _ = writeln!(io::stderr().lock(), "{line}");
        });
    }
}

impl Account {
    /// What no other account may have.
    fn keys(&self) -> Vec<String> {
        let id = self.has_id.then(|| format!("id {}", self.user.id));
        let email = self.user.email.as_ref().map(|email| format!("email {}", email.key()));
        let username = self.user.username.as_ref().map(|username| format!("username {}", username.key()));
        [id, email, username].into_iter().flatten().collect()
    }
}

async fn bring_one(users: &dyn UserStore, account: &Account, dry_run: bool) -> Result<Outcome, StoreError> {
    if !dry_run && users.insert_user(&account.user).await? == UserInserted::Yes {
        return Ok(Outcome::Brought);
    }
    if account.has_id
        && let Some(here) = users.user(&account.user.id).await?
    {
        return Ok(match compared(&here, &account.user) {
            Outcome::Refused(_) => Outcome::Refused("its id is here already, with other names"),
            outcome => outcome,
        });
    }
    Ok(match find_by_name(users, &account.user).await? {
        Some(_) if account.has_id => Outcome::Refused("another account has its email or username"),
        Some(here) => compared(&here, &account.user),
        None if dry_run => Outcome::Brought,
        None => Outcome::Refused("its id or its name was taken at the same moment; import it again"),
    })
}

/// The account that has the e-mail address or the username.
async fn find_by_name(users: &dyn UserStore, user: &User) -> Result<Option<User>, StoreError> {
    if let Some(email) = &user.email
        && let Some(here) = users.user_by_name(NameKey::Email(email.key())).await?
    {
        return Ok(Some(here));
    }
    match &user.username {
        Some(username) => users.user_by_name(NameKey::Username(username.key())).await,
        None => Ok(None),
    }
}

/// Whether an account that is here has the names of a row.
fn compared(here: &User, user: &User) -> Outcome {
    let email = |user: &User| user.email.as_ref().map(|email| email.key().to_owned());
    let username = |user: &User| user.username.as_ref().map(|username| username.key().to_owned());
    if email(here) == email(user) && username(here) == username(user) {
        Outcome::Here
    } else {
        Outcome::Refused("another account has its email or username")
    }
}

fn roles(row: &RawRow) -> Result<Roles, String> {
    let roles = match row.value("roles") {
        Some(Value::Array(names)) => {
            let names: Option<Vec<_>> = names.iter().map(Value::as_str).collect();
            Roles::new(names.ok_or("its roles are not texts")?)
        }
        _ => Roles::parse_foreign(&row.text("roles")?.unwrap_or_default()),
    };
    roles.map_err(|error| format!("its roles cannot be used: {error}"))
}

/// Whether a text has the shape of a hash that names its form.
fn looks_like_a_hash(text: &str) -> bool {
    const FORMS: [&str; 4] = ["argon2", "bcrypt", "pbkdf2", "scrypt"];
    let marks = text.matches('$').count();
    (text.starts_with('$') && marks >= 3) || (marks >= 2 && FORMS.iter().any(|form| text.starts_with(form)))
}

/// A text from the file for the terminal.
fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}
