//! Converting earlier layouts to this one. Every step may be done twice, and by several programs at once. Programs that
//! still work with an earlier layout must be stopped.
//!
//! Accounts were not listed anywhere before layout 3, so their keys are searched for with `SCAN`, which looks at every
//! key of the database in steps of a millisecond and delays other commands no longer than that.

use tokio::time::Instant;

use crate::account::Account;
use crate::answer;
use crate::failure::Failure;
use crate::layout::{Names, line_of_member, session_of_member, time_member};
use crate::link::Link;
use crate::script::{CONVERT_ENTRIES, CONVERT_SESSIONS, CONVERT_USERS, CONVERTED, FIND_USERS};

/// The layouts that are converted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Earlier {
    /// Layout 1, which kept the epochs among a user's other entries, and had no lists of sessions without a mark and of
    /// revoked tokens.
    One,
    /// Layout 2, which had no list of accounts and no keys of names in them.
    Two,
}

impl Earlier {
    /// The earlier layout with this name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::One, Self::Two].into_iter().find(|layout| layout.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::One => "1",
            Self::Two => "2",
        }
    }
}

/// The approximate number of members or keys converted in one step, about a millisecond of work.
const STEP: usize = 200;

/// The approximate number of keys that one step of a search looks at.
const SCAN_STEP: usize = 1_000;

/// Converts everything, then records the layout. `by` gives the deadline of each step.
pub(crate) async fn run(
    link: &Link,
    names: &Names,
    from: Earlier,
    layout: &str,
    by: impl Fn() -> Instant,
) -> Result<(), Failure> {
    if from == Earlier::One {
        sessions(link, names, &by).await?;
        entries(link, names, &by).await?;
    }
    accounts(link, names, &by).await?;
    link.run(&CONVERTED.on([names.meta()]).arg(from.name()).arg(layout), by()).await?;
    Ok(())
}

async fn sessions(link: &Link, names: &Names, by: impl Fn() -> Instant) -> Result<(), Failure> {
    let mut cursor = "0".to_owned();
    loop {
        let members;
        (cursor, members) = scan(link, &names.sessions_by_until(), &cursor, by()).await?;
        let mut call = CONVERT_SESSIONS.on([]);
        for member in &members {
            let (user_id, id) = session_of_member(member)?;
            call = call.key(names.sessions(user_id)).key(names.live(user_id)).arg(id);
        }
        link.run(&call, by()).await?;
        if cursor == "0" {
            return Ok(());
        }
    }
}

async fn entries(link: &Link, names: &Names, by: impl Fn() -> Instant) -> Result<(), Failure> {
    let mut cursor = "0".to_owned();
    loop {
        let members;
        (cursor, members) = scan(link, &names.log(), &cursor, by()).await?;
        let mut call = CONVERT_ENTRIES.on([]);
        for member in &members {
            let (user_id, field) = line_of_member(member)?;
            call = call.key(names.user_log(user_id)).key(names.epochs(user_id)).key(names.tokens(user_id));
            call = call.arg(field);
        }
        link.run(&call, by()).await?;
        if cursor == "0" {
            return Ok(());
        }
    }
}

async fn accounts(link: &Link, names: &Names, by: impl Fn() -> Instant) -> Result<(), Failure> {
    let mut cursor = "0".to_owned();
    loop {
        let mut command = redis::cmd("SCAN");
        command.arg(&cursor).arg("MATCH").arg(names.account_pattern()).arg("COUNT").arg(SCAN_STEP);
        let [next, found] = answer::exactly(link.query(&command, by()).await?)?;
        cursor = answer::text(next)?;
        for keys in answer::texts(found)?.chunks(STEP) {
            some_accounts(link, names, keys, &by).await?;
        }
        if cursor == "0" {
            return Ok(());
        }
    }
}

async fn some_accounts(
    link: &Link,
    names: &Names,
    keys: &[String],
    by: impl Fn() -> Instant,
) -> Result<(), Failure> {
    let found = link.run(&FIND_USERS.on(keys.iter().cloned()).arg("all").arg(""), by()).await?;
    let mut call = CONVERT_USERS.on([names.accounts()]);
    let mut found = answer::list(found)?.into_iter();
    while let (Some(number), Some(fields)) = (found.next(), found.next()) {
        let number = usize::try_from(answer::count(&number)?).unwrap_or(usize::MAX);
        let key = keys.get(number.wrapping_sub(1)).ok_or(Failure::Malformed("an answer"))?;
        // A key of this form that names no user is not of this store.
        let Some(user_id) = names.user_of_account(key) else { continue };
        let Some(account) = Account::read(&user_id, answer::fields(fields)?)? else { continue };
        call = call
            .key(key.clone())
            .number(account.user.revision)
            .arg(time_member(account.user.created_at, user_id.as_str()))
            .arg(account.email_key().unwrap_or_default())
            .arg(account.username_key().unwrap_or_default());
    }
    link.run(&call, by()).await?;
    Ok(())
}

/// Some members of a sorted set, and the cursor to continue with. Members that stay in the set throughout are returned
/// at least once.
async fn scan(link: &Link, key: &str, cursor: &str, by: Instant) -> Result<(String, Vec<String>), Failure> {
    let mut command = redis::cmd("ZSCAN");
    command.arg(key).arg(cursor).arg("COUNT").arg(STEP);
    let [cursor, found] = answer::exactly(link.query(&command, by).await?)?;
    let members = answer::list(found)?.into_iter().step_by(2).map(answer::text).collect::<Result<_, _>>()?;
    Ok((answer::text(cursor)?, members))
}
