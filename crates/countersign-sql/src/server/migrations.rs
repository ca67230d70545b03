//! Which changes of the tables were made, and which are known. How a server makes them is in that server's own module.
//!
//! This module does not use sqlx's own runner, for three reasons. Its table could be the application's. It locks by
//! session and prepares statements by name, which does not work through a pooler that hands each transaction to another
//! server connection. And after a crash half-way it refuses to continue.

use std::time::Duration;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType};

/// One change of the tables.
pub(crate) fn change(version: i64, name: &'static str, sql: &'static str) -> Migration {
    Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
}

/// The state of the tables.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MigrationsStanding {
    /// Every change known here was made, and no other.
    Current,
    /// The first so many changes were made, and the others are missing.
    Behind(usize),
    /// A change with this version was made that is not known here, or is known with other content.
    Other(i64),
}

impl MigrationsStanding {
    /// The deadline for all changes, far more than they take: a server that hangs must not block the start of a program
    /// for ever.
    pub(crate) const DEADLINE: Duration = Duration::from_secs(600);

    /// Compares versions and checksums, oldest first.
    pub(crate) fn of(applied: &[(i64, Vec<u8>)], known: &[Migration]) -> Self {
        for (number, (version, checksum)) in applied.iter().enumerate() {
            let same = |known: &Migration| known.version == *version && *known.checksum == **checksum;
            if !known.get(number).is_some_and(same) {
                return Self::Other(*version);
            }
        }
        if applied.len() == known.len() { Self::Current } else { Self::Behind(applied.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_with_the_same_content_counts_as_made() {
        let known = [change(1, "one", "SELECT 1"), change(2, "two", "SELECT 2")];
        let made = |numbers: &[usize]| -> Vec<_> {
            numbers.iter().map(|n| (known[*n].version, known[*n].checksum.to_vec())).collect()
        };
        let edited = vec![(1, vec![0])];
        let mut newer = made(&[0, 1]);
        newer.push((9, vec![0]));
        for (applied, expected) in [
            (made(&[]), MigrationsStanding::Behind(0)),
            (made(&[0]), MigrationsStanding::Behind(1)),
            (made(&[0, 1]), MigrationsStanding::Current),
            (made(&[1]), MigrationsStanding::Other(2)),
            (edited, MigrationsStanding::Other(1)),
            (newer, MigrationsStanding::Other(9)),
        ] {
            assert_eq!(MigrationsStanding::of(&applied, &known), expected, "{applied:?}");
        }
    }
}
