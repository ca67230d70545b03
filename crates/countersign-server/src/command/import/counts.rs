//! What an import counts, and how it says so.

use std::collections::BTreeMap;

use countersign_flask::import::{HashForm, Rows};

use crate::telemetry::say;

/// The counts of users.
#[derive(Debug, Default)]
pub(super) struct UserCounts {
    pub(super) read: u64,
    pub(super) brought: u64,
    pub(super) here: u64,
    pub(super) skipped: u64,
    pub(super) without_password: u64,
    pub(super) without_email: u64,
    pub(super) with_roles: u64,
    pub(super) verified: BTreeMap<HashForm, u64>,
    pub(super) unusable: u64,
}

/// The counts of sessions.
#[derive(Debug, Default)]
pub(super) struct SessionCounts {
    pub(super) read: u64,
    pub(super) live: u64,
    pub(super) here: u64,
    pub(super) revoked: u64,
    pub(super) revoked_before: u64,
    pub(super) ended: u64,
    pub(super) expired: u64,
    pub(super) skipped: u64,
    pub(super) odd_expiry: u64,
}

/// The counts of one table of revoked tokens.
#[derive(Debug, Default)]
pub(super) struct TokenCounts {
    pub(super) read: u64,
    pub(super) revoked: u64,
    pub(super) before: u64,
    pub(super) valid: u64,
    pub(super) expired: u64,
    pub(super) skipped: u64,
    pub(super) without_owner: u64,
}

impl UserCounts {
    /// Says what was counted.
    pub(super) fn tell(&self) {
        let Self {
            read,
            brought,
            here,
            skipped,
            without_password,
            without_email,
            with_roles,
            verified,
            unusable,
        } = self;
        say(&format!("users: {read} read, {brought} brought over, {here} here already, {skipped} skipped"));
        if *with_roles > 0 {
            say(&format!("users: {with_roles} with roles"));
        }
        if *without_email > 0 {
            say(&format!("users: {without_email} without an e-mail address, who log in by username"));
        }
        let forms: Vec<_> = verified.iter().map(|(form, count)| format!("{} {count}", form.name())).collect();
        if !forms.is_empty() {
            let count: u64 = verified.values().sum();
            say(&format!(
                "passwords: {count} whose owners log in here with their password ({})",
                forms.join(", ")
            ));
        }
        if *unusable > 0 {
            say(&format!(
                "passwords: {unusable} whose hash is not used: these users stay signed in by their tokens, but cannot log in \
                 with their password"
            ));
        }
        if *without_password > 0 {
            say(&format!("passwords: {without_password} users without one"));
        }
    }
}

impl SessionCounts {
    /// Says what was counted.
    pub(super) fn tell(&self) {
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

impl TokenCounts {
    /// Says what was counted.
    pub(super) fn tell(&self, rows: &Rows) {
        let Self { read, revoked, before, valid, expired, skipped, without_owner } = self;
        let table = rows.shown_table();
        say(&format!(
            "revoked tokens: {read} read from {table}, {revoked} revoked here from now on, {before} revoked here already, \
             {expired} expired, {skipped} skipped"
        ));
        if *valid > 0 {
            say(&format!("revoked tokens: {valid} in {table} are not revoked, as the table says"));
        }
        if *without_owner > 0 {
            say(&format!(
                "revoked tokens: {without_owner} in {table} are left, because nothing says whose they are, and a token is \
                 revoked together with its user; add a column user_id to {table}, or keep the application's check of \
                 the list until they have expired"
            ));
        }
    }
}
