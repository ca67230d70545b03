//! `countersign user export`: writes all accounts as JSON lines.

use std::error::Error;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use countersign_core::model::User;
use countersign_core::store::{UserPage, UserPosition, UserStore};
use countersign_jwt::Timestamp;
use serde::Serialize;

use super::{StoreFlags, new_file, with_settings};
use crate::store::Database;

/// Write all accounts as JSON lines, which countersign user import reads.
///
/// Each line is an object with id, email, username, roles, email_verified, disabled and created_at, and more where there
/// is more to say. Accounts whose deletion was asked for are left out.
#[derive(Args, Debug)]
pub(crate) struct UserExport {
    /// A new file, which only you can read; without it or with -, the lines go to standard output
    file: Option<PathBuf>,
    /// Write the password hashes too. Whoever has them can guess passwords offline, so keep them as safe as the database
    #[arg(long)]
    with_hashes: bool,
    #[command(flatten)]
    store: StoreFlags,
}

/// The number of accounts that are read at a time.
const PAGE: usize = 500;

/// `countersign user export`
pub(crate) fn run(export: UserExport) -> Result<(), Box<dyn Error>> {
    let UserExport { file, with_hashes, store } = export;
    let file = file.filter(|path| path != Path::new("-"));
    with_settings(store, async |settings| {
        let (database, _) = Database::open_existing(settings).await?;
        let stores = database.stores();
        let users = &**stores.users();
        let Some(path) = file else {
            return match write_all(users, with_hashes, io::stdout().lock()).await {
                // Nobody reads any more, such as head -1.
                Err(error) if new_file::is_closed(&*error) => Ok(()),
                done => done.map(drop),
            };
        };
        new_file::export(&path, "users", async |file| write_all(users, with_hashes, file).await).await
    })
}

/// Writes all accounts, newest first; returns how many.
async fn write_all(users: &dyn UserStore, with_hashes: bool, to: impl Write) -> Result<u64, Box<dyn Error>> {
    let mut to = BufWriter::new(to);
    let (mut after, mut written) = (None, 0);
    loop {
        let page = users.users(&UserPage { query: None, after, limit: PAGE }).await?;
        for user in page.iter().filter(|user| user.deleted_at.is_none()) {
            serde_json::to_writer(&mut to, &ExportedUser::of(user, with_hashes)).map_err(io::Error::from)?;
            to.write_all(b"\n")?;
            written += 1;
        }
        match page.last() {
            Some(last) => after = Some(UserPosition::from(last)),
            None => break,
        }
    }
    to.flush()?;
    Ok(written)
}

/// One line of an export.
#[derive(Debug, Serialize)]
struct ExportedUser<'u> {
    id: &'u str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'u str>,
    email_verified: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'u str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_hash: Option<&'u str>,
    roles: Vec<&'u str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'u str>,
    disabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_at: Option<String>,
    created_at: String,
}

impl<'u> ExportedUser<'u> {
    fn of(user: &'u User, with_hashes: bool) -> Self {
        let verified_at = user.email_verified_at.filter(|_| user.email.is_some());
        Self {
            id: user.id.as_str(),
            email: user.email.as_ref().map(|email| email.as_str()),
            email_verified: verified_at.is_some(),
            email_verified_at: verified_at.map(time),
            username: user.username.as_ref().map(|username| username.as_str()),
            password_hash: user.password_hash.as_ref().filter(|_| with_hashes).map(|hash| hash.expose()),
            roles: user.roles.iter().collect(),
            language: user.language.as_ref().map(|language| language.as_str()),
            disabled: user.disabled_at.is_some(),
            disabled_at: user.disabled_at.map(time),
            created_at: time(user.created_at),
        }
    }
}

/// A time in UTC with its milliseconds (RFC 3339).
fn time(time: Timestamp) -> String {
    let last = jiff::Timestamp::MAX.as_millisecond();
    jiff::Timestamp::from_millisecond(time.as_millis().min(last)).unwrap_or_default().to_string()
}
