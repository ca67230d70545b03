//! The rows of a table, and the meaning of their columns.

use std::error::Error;

use countersign_core::model::{Device, PasswordHash, Roles};
use countersign_jwt::{Timestamp, TokenId};

use super::columns::{
    ACTIVE, AGENT, BEGAN, EMAIL, EXPIRES, ID, IP, PASSWORD, REGISTERED, REVOKED, ROLE_ID, TOKEN_OWNER,
};
use super::roles::{Memberships, RolesColumn};
use super::source::{Column, Source, Table};
use super::tables::{BLOCKLIST, USERS, Wanted};
use super::value::{Cell, HashForm, Switch, address, switch, time, token_id};

/// The function that receives notes about rows.
pub type Say = fn(&str);

/// The rows that were read of a table.
#[derive(Debug)]
pub struct Rows {
    wanted: &'static Wanted,
    say: Say,
    table: String,
    /// The columns that were read, in lower case.
    columns: Vec<String>,
    /// The columns that have no meaning here.
    others: Vec<String>,
    /// The column of the users' roles.
    roles: Option<RolesColumn>,
    rows: Vec<Vec<Cell>>,
}

impl Rows {
    pub(super) async fn read(
        source: &mut Source,
        wanted: &'static Wanted,
        table: &Table,
        roles: Option<&Column>,
        say: Say,
    ) -> Result<Self, Box<dyn Error>> {
        let mut columns = wanted.columns(table);
        if let Some(roles) = roles.filter(|roles| columns.iter().all(|read| read.name != roles.name)) {
            columns.push(roles);
        }
        let is_read = |column: &&Column| columns.iter().any(|read| read.name == column.name);
        Ok(Self {
            wanted,
            say,
            table: table.name.clone(),
            columns: columns.iter().map(|column| column.name.to_ascii_lowercase()).collect(),
            others: table
                .columns
                .iter()
                .filter(|column| !is_read(column))
                .map(|column| shown(&column.name))
                .collect(),
            roles: roles.map(RolesColumn::new),
            rows: source.rows(table, &columns).await?,
        })
    }

    /// The rows.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().zip(1..).map(|(cells, number)| Row { rows: self, number, cells })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The table's name for the terminal.
    #[must_use]
    pub fn shown_table(&self) -> String {
        shown(&self.table)
    }

    /// Whether the table has any of these columns.
    #[must_use]
    pub fn has(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.columns.iter().any(|column| column == name))
    }

    /// Reports the table and the columns that are read, and the consequences of columns that are absent.
    pub fn describe(&self) {
        let Self { wanted, say, table, columns, others, .. } = self;
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
            lacks(EMAIL, "users have no e-mail address, and log in by username");
        } else if wanted.what == BLOCKLIST.what {
            lacks(TOKEN_OWNER, "only tokens that the table of the sessions names have a known user");
        } else {
            lacks(&[REVOKED, ACTIVE].concat(), "every session counts as not revoked");
            lacks(BEGAN, "a session's begin is reckoned from its expiry");
            lacks(EXPIRES, "a session lasts JWT_REFRESH_TOKEN_EXPIRES");
        }
    }
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row<'r> {
    rows: &'r Rows,
    number: u64,
    cells: &'r [Cell],
}

impl<'r> Row<'r> {
    fn cell(&self, name: &str) -> Option<&'r Cell> {
        let index = self.rows.columns.iter().position(|column| column == name)?;
        self.cells.get(index)
    }

    /// The first of these columns that exists, with its name.
    pub fn first(&self, names: &[&'static str]) -> (&'static str, &'r Cell) {
        let found = names.iter().find_map(|name| Some((*name, self.cell(name)?)));
        found.unwrap_or_else(|| (names.first().copied().unwrap_or_default(), &Cell::Null))
    }

    /// The text of the first of these columns; `None` if it is empty. A value that is no text is reported and left out.
    pub fn text(&self, names: &[&'static str]) -> Option<&'r str> {
        match self.first(names) {
            (_, Cell::Text(text)) if !text.is_empty() => Some(text),
            (name, Cell::Bytes) => {
                self.note(&format!("its {name} is not text, and is left out"));
                None
            }
            _ => None,
        }
    }

    /// The time in the first of these columns. A value that is no time is reported and left out.
    pub fn time(&self, names: &[&'static str]) -> Option<Timestamp> {
        let text = self.text(names)?;
        let found = time(text);
        if found.is_none() {
            self.note(&format!("its {} is not a time, and is left out", self.first(names).0));
        }
        found
    }

    /// Whether any of these columns is on, and since when. A value that cannot be understood counts as on, for safety.
    pub fn switched_on(&self, names: &[&'static str]) -> Option<Option<Timestamp>> {
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

    /// Whether any of these columns exists and is off. A value that cannot be understood counts as off, for safety.
    pub fn switched_off(&self, names: &[&'static str]) -> bool {
        names.iter().any(|name| match self.cell(name).map(switch) {
            None | Some(Switch::On(_)) => false,
            Some(Switch::Off) => true,
            Some(Switch::Unclear) => {
                self.note(&format!("its {name} is neither true nor false, and counts as false"));
                true
            }
        })
    }

    /// The id of a token; `None` if the column is empty.
    ///
    /// # Errors
    /// [`NotAnId`] for a value that is not an id.
    pub fn token(&self, names: &[&'static str]) -> Result<Option<TokenId>, NotAnId> {
        match self.first(names).1 {
            Cell::Null => Ok(None),
            Cell::Text(text) if text.is_empty() => Ok(None),
            Cell::Text(text) => token_id(text).map(Some).ok_or(NotAnId),
            Cell::Bytes => Err(NotAnId),
        }
    }

    /// The hash of the user's password, and its form. A value that is no hash is not kept, because it may be the
    /// password.
    pub fn password_hash(&self) -> (Option<PasswordHash>, Option<HashForm>) {
        /// The largest number of bytes in a hash.
        const MAX_BYTES: usize = 4_096;
        let Some(text) = self.text(PASSWORD) else { return (None, None) };
        let form = HashForm::of(text).filter(|_| text.len() <= MAX_BYTES && !text.contains(char::is_control));
        if form.is_none() {
            let column = self.first(PASSWORD).0;
            self.note(&format!(
                "its {column} is in no known form of a hash, perhaps the password itself, and is left out"
            ));
        }
        (form.map(|_| PasswordHash::from_stored(text.to_owned())), form)
    }

    /// The user's roles, by the column of roles and by membership. Roles that cannot be kept are reported and left out.
    #[must_use]
    pub fn roles(&self, memberships: &Memberships) -> Roles {
        let mut names: Vec<String> = Vec::new();
        if let Some(column) = &self.rows.roles {
            let cell = self.cell(&column.name).unwrap_or(&Cell::Null);
            match column.roles(cell) {
                Ok(roles) => names.extend(roles.iter().map(str::to_owned)),
                Err(why) => self.note(&format!("its {} is left out: {why}", shown(&column.name))),
            }
        }
        let found =
            |columns| if let Cell::Text(text) = self.first(columns).1 { Some(text.as_str()) } else { None };
        for name in memberships.of(found(ID), found(ROLE_ID)) {
            match Roles::new([name]) {
                Ok(_) => names.push(name.to_owned()),
                Err(error) => self.note(&format!("its role {} is left out: {error}", shown(name))),
            }
        }
        Roles::new(&names).unwrap_or_else(|error| {
            self.note(&format!("its roles are left out: {error}"));
            Roles::default()
        })
    }

    /// Whether any of these columns is certainly on, and since when. A value that cannot be understood counts as off,
    /// for safety.
    pub fn is_certain(&self, names: &[&'static str]) -> Option<Option<Timestamp>> {
        let mut on: Option<Option<Timestamp>> = None;
        for name in names {
            match self.cell(name).map(switch) {
                None | Some(Switch::Off) => {}
                Some(Switch::On(since)) => on = Some(on.flatten().max(since)),
                Some(Switch::Unclear) => {
                    self.note(&format!(
                        "its {name} is neither true nor false nor a time, and counts as false"
                    ));
                }
            }
        }
        on
    }

    /// The device of the session in this row.
    pub fn device(&self) -> Device {
        let ip = self.text(IP).and_then(|text| {
            let ip = address(text);
            if ip.is_none() {
                self.note(&format!("its {} is not an IP address, and is left out", self.first(IP).0));
            }
            ip
        });
        Device::new(self.text(AGENT), ip)
    }

    /// The row's name in messages.
    fn name(&self) -> String {
        let table = shown(&self.rows.table);
        match self.cell("id") {
            Some(Cell::Text(id)) => format!("{table} {}", shown(id)),
            _ => format!("{table}, row {} as read", self.number),
        }
    }

    /// Reports that the row is skipped, and why.
    pub fn skip(&self, why: &str) {
        (self.rows.say)(&format!("skipped: {}: {why}", self.name()));
    }

    /// Reports something about the row.
    pub fn note(&self, what: &str) {
        (self.rows.say)(&format!("note: {}: {what}", self.name()));
    }
}

/// The error of a column whose value is not the id of a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not the id of a token, a UUID")]
pub struct NotAnId;

/// A text from the other application for the terminal: shortened, and without characters that move the cursor.
pub(super) fn shown(text: &str) -> String {
    const MAX_CHARS: usize = 64;
    let mut shown: String = text.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        shown.push('…');
    }
    shown
}
