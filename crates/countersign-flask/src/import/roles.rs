//! The roles of users: from a column of their table, and from tables of roles as Flask-Security has them.

use std::collections::HashMap;
use std::error::Error;

use countersign_core::model::Roles;

use super::columns;
use super::row::{Rows, Say, shown};
use super::source::{Column, Source, Table};
use super::tables::Wanted;
use super::value::{Cell, Switch, switch};

const ROLE_TABLE: Wanted = Wanted {
    what: "roles",
    option: "",
    tables: &["role", "roles"],
    required: &[columns::ID, columns::ROLE_NAME],
    first_of: &[columns::ID, columns::ROLE_NAME],
    every: &[],
};

const MEMBERS: Wanted = Wanted {
    what: "roles of users",
    option: "",
    tables: &["roles_users", "users_roles", "user_roles", "user_role", "role_users"],
    required: &[columns::OWNER, columns::ROLE_ID],
    first_of: &[columns::OWNER, columns::ROLE_ID],
    every: &[],
};

/// The column of the users' table that holds their roles.
#[derive(Debug)]
pub(super) struct RolesColumn {
    /// The name in lower case.
    pub(super) name: String,
    /// The role that the column switches on, if it is a switch.
    switches: Option<String>,
}

impl RolesColumn {
    pub(super) fn new(column: &Column) -> Self {
        let name = column.name.to_ascii_lowercase();
        let switched = name.strip_prefix("is_").map(str::to_owned);
        let is_switch = matches!(column.kind(), "boolean" | "bool" | "bit");
        let role = match name.as_str() {
            "role" | "roles" => "admin",
            name => name,
        };
        let switches = switched.or_else(|| (is_switch || name.contains("admin")).then(|| role.to_owned()));
        Self { name, switches }
    }

    /// The roles that a value stands for. A number is only taken for a switch in a column that is one, because it may be
    /// the number of a role. `Err` says why there are none.
    pub(super) fn roles(&self, cell: &Cell) -> Result<Roles, String> {
        let Cell::Text(text) = cell else {
            return match cell {
                Cell::Bytes => Err("it is not text".to_owned()),
                _ => Ok(Roles::default()),
            };
        };
        let is_word = text.trim().eq_ignore_ascii_case("true") || text.trim().eq_ignore_ascii_case("false");
        if self.switches.is_none() && !is_word {
            return Roles::parse_foreign(text).map_err(|error| error.to_string());
        }
        match switch(cell) {
            Switch::Off => Ok(Roles::default()),
            Switch::On(_) => {
                Roles::new([self.switches.as_deref().unwrap_or("admin")]).map_err(|error| error.to_string())
            }
            Switch::Unclear => Err("it is neither true nor false".to_owned()),
        }
    }
}

/// The roles that users have by tables of roles and members.
#[derive(Debug, Default)]
pub struct Memberships {
    /// The names of the roles, by their ids.
    names: HashMap<String, String>,
    /// The ids of users' roles, by the users' ids.
    members: HashMap<String, Vec<String>>,
}

impl Memberships {
    /// Reads the tables of roles and of members, if they are there.
    pub(super) async fn read(
        source: &mut Source,
        tables: &[Table],
        say: Say,
    ) -> Result<Self, Box<dyn Error>> {
        let mut found = Self::default();
        let Some(roles) = ROLE_TABLE.find_all(tables).next() else { return Ok(found) };
        let rows = Rows::read(source, &ROLE_TABLE, roles, None, say).await?;
        for row in rows.iter() {
            if let (Some(id), Some(name)) = (row.text(columns::ID), row.text(columns::ROLE_NAME)) {
                found.names.insert(id.to_owned(), name.to_owned());
            }
        }
        let mut from = vec![shown(&roles.name)];
        for table in MEMBERS.find_all(tables) {
            from.push(shown(&table.name));
            let rows = Rows::read(source, &MEMBERS, table, None, say).await?;
            for row in rows.iter() {
                if let (Some(user), Some(role)) = (row.text(columns::OWNER), row.text(columns::ROLE_ID)) {
                    found.members.entry(user.to_owned()).or_default().push(role.to_owned());
                }
            }
        }
        say(&format!("roles: from the tables {}", from.join(", ")));
        Ok(found)
    }

    /// The names of the roles of the user with this id, whose row names this role.
    pub(super) fn of<'m>(
        &'m self,
        user: Option<&str>,
        role: Option<&'m str>,
    ) -> impl Iterator<Item = &'m str> {
        let members = user.and_then(|user| self.members.get(user)).into_iter().flatten().map(String::as_str);
        members.chain(role).filter_map(|id| self.names.get(id)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_a_roles_column_gives_its_roles() {
        for (column, kind, value, roles) in [
            ("role", "text", "admin", Some("admin")),
            ("role", "text", "", Some("")),
            ("Role", "varchar(20)", "editor, admin", Some("admin editor")),
            ("roles", "text", "editor admin", Some("admin editor")),
            ("roles", "json", "[\"editor\", \"admin\"]", Some("admin editor")),
            ("roles", "ARRAY", "{editor,admin}", Some("admin editor")),
            ("role", "integer", "1", Some("1")),
            ("role", "boolean", "1", Some("admin")),
            ("role", "boolean", "f", Some("")),
            ("is_admin", "boolean", "t", Some("admin")),
            ("is_admin", "tinyint", "1", Some("admin")),
            ("is_admin", "integer", "0", Some("")),
            ("is_admin", "text", "True", Some("admin")),
            ("is_admin", "text", "perhaps", None),
            ("is_staff", "boolean", "1", Some("staff")),
            ("admin", "tinyint", "1", Some("admin")),
            ("superuser", "bit", "1", Some("superuser")),
            ("groups", "text", "true", Some("admin")),
            ("groups", "text", "say \"hi\",x", None),
        ] {
            let found = RolesColumn::new(&Column::new(column, kind)).roles(&Cell::Text(value.to_owned()));
            let found = found.ok().map(|roles| roles.to_string());
            assert_eq!(found.as_deref(), roles, "{column} {kind} {value:?}");
        }
        let column = RolesColumn::new(&Column::new("is_admin", "boolean"));
        assert_eq!(column.roles(&Cell::Null), Ok(Roles::default()));
        assert!(column.roles(&Cell::Bytes).is_err());
    }
}
