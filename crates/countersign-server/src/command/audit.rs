//! `countersign audit …`: the audit trail at a terminal.

use std::collections::{HashSet, VecDeque};
use std::error::Error;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use countersign_core::model::{AuditPosition, AuditRecord, EmailAddress, Username};
use countersign_core::store::{AuditPage, AuditStore, NameKey, StoreError, Stores};
use countersign_http::{SystemClock, rfc3339};
use countersign_jwt::{Clock as _, SessionId, Timestamp, UserId};
use uuid::Uuid;

use super::table::shown;
use super::user_rows::time;
use super::{StoreFlags, new_file, with_settings};
use crate::settings::duration;
use crate::shown::ShownEvent;
use crate::store::Database;

/// The records that are read at once. No more are held, however many are written.
const PAGE: usize = 500;
/// How often new records are looked for.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// How late a record may come into the store and still be followed. Servers gather records for 200 ms.
const LATE: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
pub(crate) struct AuditCommand {
    #[command(subcommand)]
    command: AuditSubcommand,
}

#[derive(Debug, Subcommand)]
enum AuditSubcommand {
    /// Show the last records, the oldest of them first.
    Tail {
        /// How many records
        #[arg(short, long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u16).range(0..=10_000))]
        number: u16,
        /// Go on and show new records as they come
        #[arg(short, long)]
        follow: bool,
        #[command(flatten)]
        wanted: Wanted,
        /// Write each record as a line of JSON, for programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Show the records that fit, the newest first.
    Search {
        #[command(flatten)]
        wanted: Wanted,
        /// The most records to show
        #[arg(long, value_name = "NUMBER", default_value_t = 100)]
        limit: u32,
        /// Write each record as a line of JSON, for programs
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        store: StoreFlags,
    },
    /// Write the records that fit as JSON lines, the newest first.
    Export {
        /// A new file, which only you can read; without it or with -, the lines go to standard output
        file: Option<PathBuf>,
        #[command(flatten)]
        wanted: Wanted,
        #[command(flatten)]
        store: StoreFlags,
    },
}

/// Which records are wanted: those that fit all of this.
#[derive(Args, Debug)]
struct Wanted {
    /// Records about this user: id, e-mail address or username. Of a deleted user only the id is known
    #[arg(long, value_name = "USER", allow_hyphen_values = true)]
    user: Option<String>,
    /// Records of this event, such as login_failed; may be given several times
    #[arg(long, value_name = "NAME")]
    event: Vec<String>,
    /// Records about this session
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
    /// What this admin key did, or "command line"
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// Records of what was done from this address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<IpAddr>,
    /// Records from this time on: so long ago, such as 90m or 7d, or a time such as 2026-01-31 or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Records from before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
}

/// `countersign audit …`
pub(crate) fn run(command: AuditCommand) -> Result<(), Box<dyn Error>> {
    match command.command {
        AuditSubcommand::Tail { number, follow, wanted, json, store } => {
            with_settings(store, async |settings| {
                let stores = Database::open_without_secret(settings).await?.stores();
                let mut reader = Reader::new(&stores, wanted).await?;
                tail(&mut reader, number.into(), follow, json).await
            })
        }
        AuditSubcommand::Search { wanted, limit, json, store } => with_settings(store, async |settings| {
            let stores = Database::open_without_secret(settings).await?.stores();
            let mut reader = Reader::new(&stores, wanted).await?;
            for _ in 0..limit {
                let Some(record) = reader.next().await? else { break };
                write_line(&mut io::stdout().lock(), record, json).or_else(unless_closed)?;
            }
            Ok(())
        }),
        AuditSubcommand::Export { file, wanted, store } => with_settings(store, async |settings| {
            let stores = Database::open_without_secret(settings).await?.stores();
            let mut reader = Reader::new(&stores, wanted).await?;
            match file.filter(|path| path != Path::new("-")) {
                Some(path) => {
                    new_file::export(&path, "records", async |file| export(&mut reader, file).await).await
                }
                None => match export(&mut reader, io::stdout().lock()).await {
                    // Nobody reads any more, such as head -1.
                    Err(error) if new_file::is_closed(&*error) => Ok(()),
                    done => done.map(drop),
                },
            }
        }),
    }
}

/// Reads the records that are wanted, page by page, newest first.
struct Reader<'s> {
    store: &'s dyn AuditStore,
    wanted: Wanted,
    user_id: Option<UserId>,
    page: VecDeque<AuditRecord>,
    after: Option<AuditPosition>,
    is_last: bool,
}

impl<'s> Reader<'s> {
    async fn new(stores: &'s Stores, wanted: Wanted) -> Result<Self, Box<dyn Error>> {
        let user_id = match &wanted.user {
            Some(text) => Some(user_id(stores, text).await?),
            None => None,
        };
        let mut reader = Self {
            store: &**stores.audit(),
            wanted,
            user_id,
            page: VecDeque::new(),
            after: None,
            is_last: false,
        };
        reader.begin_again();
        Ok(reader)
    }

    /// Begins again with the newest record.
    fn begin_again(&mut self) {
        // No record of this very moment has a place after this one.
        self.after = self.wanted.until.map(|at| AuditPosition { at, id: Uuid::nil() });
        self.page.clear();
        self.is_last = false;
    }

    /// The records that are wanted from this time on.
    async fn since(&mut self, from: Timestamp) -> Result<Vec<AuditRecord>, StoreError> {
        self.begin_again();
        let mut records = Vec::new();
        while let Some(record) = self.next().await?.filter(|record| record.at >= from) {
            records.push(record);
        }
        Ok(records)
    }

    /// The next record that is wanted.
    async fn next(&mut self) -> Result<Option<AuditRecord>, StoreError> {
        loop {
            while let Some(record) = self.page.pop_front() {
                if self.wanted.since.is_some_and(|since| record.at < since) {
                    self.page.clear();
                    self.is_last = true;
                } else if self.wanted.fits(&record) {
                    return Ok(Some(record));
                }
            }
            if self.is_last {
                return Ok(None);
            }
            // One event is looked up by the store, of several each record is looked at.
            let name = match &self.wanted.event[..] {
                [name] => Some(name.as_str()),
                _ => None,
            };
            let page = AuditPage { user_id: self.user_id.as_ref(), name, after: self.after, limit: PAGE };
            self.page = self.store.audit(&page).await?.into();
            self.is_last = self.page.len() < PAGE;
            self.after = self.page.back().map(AuditRecord::position);
        }
    }
}

impl Wanted {
    /// Whether a record fits what the store was not asked for.
    fn fits(&self, record: &AuditRecord) -> bool {
        let Self { user: _, event, session, actor, ip, since: _, until: _ } = self;
        (event.is_empty() || event.contains(&record.name))
            && (session.is_none() || *session == record.session_id)
            && (actor.is_none() || *actor == record.actor)
            && (ip.is_none() || *ip == record.ip)
    }
}

/// Shows the last records, the oldest first, and then new ones if they are to be followed.
async fn tail(
    reader: &mut Reader<'_>,
    number: usize,
    follow: bool,
    json: bool,
) -> Result<(), Box<dyn Error>> {
    let clock = SystemClock::new();
    // The time of the newest record by the servers' clocks, which may differ from this one.
    let mut newest =
        if follow { reader.next().await?.map_or(Timestamp::MIN, |record| record.at) } else { clock.now() };
    // The records of the last seconds that are no news.
    let mut known = HashSet::new();
    if follow {
        known.extend(reader.since(newest - LATE).await?.iter().map(AuditRecord::position));
        reader.begin_again();
    }
    let mut last = Vec::new();
    while last.len() < number {
        match reader.next().await? {
            Some(record) => last.push(record),
            None => break,
        }
    }
    known.extend(last.iter().map(AuditRecord::position));
    show_all(last, json)?;
    if !follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(FOLLOW_EVERY).await;
        let from = newest.min(clock.now()) - LATE;
        known.retain(|position| position.at >= from);
        let mut new = reader.since(from).await?;
        new.retain(|record| known.insert(record.position()));
        newest = new.iter().map(|record| record.at).fold(newest, Timestamp::max);
        show_all(new, json)?;
    }
}

/// Shows records that were read newest first, the oldest first.
fn show_all(records: Vec<AuditRecord>, json: bool) -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    for record in records.into_iter().rev() {
        write_line(&mut out, record, json).or_else(unless_closed)?;
    }
    out.flush().or_else(unless_closed)?;
    Ok(())
}

/// Ends the program without a word if nobody reads its output any more.
fn unless_closed(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Err(error)
}

/// Writes all records that are wanted as JSON lines; returns how many.
async fn export(reader: &mut Reader<'_>, to: impl Write) -> Result<u64, Box<dyn Error>> {
    let mut to = BufWriter::new(to);
    let mut written = 0;
    while let Some(record) = reader.next().await? {
        write_line(&mut to, record, true)?;
        written += 1;
    }
    to.flush()?;
    Ok(written)
}

/// Writes a record as a line of JSON or for people. Either shows nothing to a terminal that it would take for a command
/// (SEC-148).
fn write_line(to: &mut impl Write, record: AuditRecord, json: bool) -> io::Result<()> {
    let line =
        if json { plain_json(&serde_json::to_string(&ShownEvent::from(record))?) } else { line(&record) };
    writeln!(to, "{line}")
}

/// A record for people: time and event, and then what is known of it.
fn line(record: &AuditRecord) -> String {
    let mut line = format!("{}  {}", rfc3339(record.at), shown(&record.name));
    let parts = [
        ("user", record.user_id.as_ref().map(ToString::to_string)),
        ("session", record.session_id.map(|id| id.to_string())),
        ("ip", record.ip.map(|ip| ip.to_string())),
        ("actor", record.actor.clone()),
        ("detail", record.detail.clone()),
    ];
    for (name, value) in parts {
        if let Some(value) = value {
            let value = shown(&value);
            let quote = if value.contains(' ') { "\"" } else { "" };
            line.push_str(&format!("  {name}={quote}{value}{quote}"));
        }
    }
    line
}

/// JSON in which no character is left that does something to a terminal. JSON itself escapes only those below U+0020.
fn plain_json(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for character in json.chars() {
        // Control characters of eight bits, and those that turn the direction of the text.
        let acts = character.is_control()
            || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match acts {
            true => plain.push_str(&format!("\\u{:04x}", u32::from(character))),
            false => plain.push(character),
        }
    }
    plain
}

/// The id of a user who is named by id, e-mail address or username. The trail knows deleted users too, so any other text
/// that can be an id is taken for one.
async fn user_id(stores: &Stores, text: &str) -> Result<UserId, Box<dyn Error>> {
    let users = stores.users();
    let id = UserId::new(text).ok();
    if let Some(id) = &id
        && users.user(id).await?.is_some()
    {
        return Ok(id.clone());
    }
    let by_name = match (EmailAddress::parse(text), Username::parse(text)) {
        (Ok(email), _) => users.user_by_name(NameKey::Email(email.key())).await?,
        (_, Ok(username)) => users.user_by_name(NameKey::Username(username.key())).await?,
        _ => None,
    };
    match by_name {
        Some(user) => Ok(user.id),
        None if text.contains('@') => Err(format!(
            "no user has the e-mail address {}; of a deleted user only the id is known here",
            shown(text)
        )
        .into()),
        None => Ok(id.ok_or("a user is named by id, e-mail address or username")?),
    }
}

/// A time, or how long ago it was.
fn moment(text: &str) -> Result<Timestamp, &'static str> {
    let ago = text.ends_with(['s', 'm', 'h', 'd']).then(|| duration(text)).flatten();
    let moment = ago.map(|ago| SystemClock::new().now() - ago).or_else(|| time(text));
    moment
        .ok_or("must be so long ago, such as 90m or 7d, or a time such as 2026-01-31 or 2026-01-31T12:00:00Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sec_148_no_line_acts_on_a_terminal() {
        let hostile = "a\r\n\u{1b}[2J\u{9b}31m\u{202e}evil \u{7f}\"quoted\"";
        let record = AuditRecord {
            user_id: UserId::new("ada").ok(),
            detail: Some(hostile.to_owned()),
            ..AuditRecord::new(Uuid::nil(), Timestamp::from_secs(0), "session\u{1b}began")
        };
        let mut json = Vec::new();
        write_line(&mut json, record.clone(), true).unwrap();
        let json = String::from_utf8(json).unwrap();
        let read: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read["detail"], hostile, "a program reads what was written");
        for line in [json.trim_end(), &line(&record)] {
            assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
        }
    }

    #[test]
    fn times_are_absolute_or_ago() {
        let now = SystemClock::new().now();
        assert!(moment("1h").is_ok_and(|at| now.since(at) <= Duration::from_secs(3_600)));
        for (text, secs) in [
            ("2026-01-31", 1_769_817_600),
            ("2026-01-31T12:00:00Z", 1_769_860_800),
            ("1769860800", 1_769_860_800),
        ] {
            assert_eq!(moment(text), Ok(Timestamp::from_secs(secs)), "{text}");
        }
        for text in ["", "h", "yesterday", "-1h", "12"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
