//! The revocation log. About races, see [`sessions`](super::sessions).

use async_trait::async_trait;
use countersign_core::model::{Entry, Target};
use countersign_core::store::{
    Changes, EpochRaise, RevocationStore, StoreError, TokenRevocation, TokensRevoked,
};
use countersign_jwt::{Epoch, Timestamp, UserId};

use super::engine::{Statement, malformed, only};
use super::{MySqlStore, PURGE_STEP};
use crate::column::{integer, limit, number, optional_time, time};
use crate::record::{EntryRow, LiveTokenRecord, room_beside};

/// Independent of the session's time zone, whose hours may come twice.
const TIME: &str = "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000";

pub(super) const EPOCH: &str = "
    SELECT COALESCE(MAX(n), 0) FROM countersign_revocation FORCE INDEX (PRIMARY)
    WHERE user_id = ? AND kind = 'user' AND ref = ''";

pub(super) const RAISED_AT: &str = "
    SELECT MAX(at) FROM countersign_revocation FORCE INDEX (PRIMARY)
    WHERE user_id = ? AND kind = 'user' AND ref = ''";

/// A key that is taken keeps the later times.
pub(super) const MERGE: &str = "
    INSERT INTO countersign_revocation (user_id, kind, ref, n, except_session, until, at) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON DUPLICATE KEY UPDATE until = GREATEST(until, ?), at = GREATEST(at, ?)";

/// [`MERGE`] for tokens of one user: the middle part once for each.
pub(super) const MERGE_TOKENS: [&str; 3] = [
    "INSERT INTO countersign_revocation (user_id, kind, ref, n, until, at) VALUES ",
    "(?, 'token', ?, 0, ?, ?)",
    " ON DUPLICATE KEY UPDATE until = GREATEST(until, ?), at = GREATEST(at, ?)",
];

/// The entry with the next number. Of callers at once one inserts it; the others wait for its commit, and then find
/// the number taken.
pub(super) const RAISE: &str = "
    INSERT INTO countersign_revocation (user_id, kind, ref, n, except_session, until, at)
    VALUES (?, 'user', '', ?, ?, ?, ?)";

/// The user's epoch, and when it was raised last.
pub(super) const RAISED: &str = "
    SELECT COALESCE(MAX(n), 0), MAX(at) FROM countersign_revocation FORCE INDEX (PRIMARY)
    WHERE user_id = ? AND kind = 'user' AND ref = ''";

/// Sessions that [`RAISE`] ends and that have no mark yet, the oldest first. Read once in its transaction, so that a step
/// that waits for a row finds the mark with the entry; and then until there are none, for those that are too many for
/// one transaction and for those that were being inserted meanwhile: InnoDB passes over rows that were not committed yet.
pub(super) const UNMARKED: &str = "
    SELECT CONVERT(id USING utf8mb4) FROM countersign_session FORCE INDEX (live)
    WHERE user_id = ? AND ended_at IS NULL AND epoch < ? AND NOT id <=> ? ORDER BY created_at, id LIMIT ?";

/// Marks these, in the order of their keys: the middle part once for each.
pub(super) const MARK_ENDED: [&str; 3] = [
    "UPDATE countersign_session FORCE INDEX (PRIMARY) SET ended_at = ?, end_reason = ?
    WHERE user_id = ? AND ended_at IS NULL AND id IN (",
    "?",
    ")",
];

/// Deletes what is old and decides nothing any more beside the user's entry `n`, which excepts this session: all lower
/// ones, but for the highest that does not except the same session. That one is looked up in a table of its own, because MySQL deletes
/// from none that the same statement reads.
pub(super) const FORGET_OUTDONE: &str = "
    DELETE FROM countersign_revocation WHERE user_id = ? AND kind = 'user' AND ref = '' AND n < ? AND at < ?
        AND (? IS NULL OR NOT n <=> (SELECT kept.n FROM (SELECT MAX(other.n) AS n
            FROM countersign_revocation AS other FORCE INDEX (PRIMARY)
            WHERE other.user_id = ? AND other.kind = 'user' AND other.ref = '' AND other.n < ?
                AND NOT other.except_session <=> ?) AS kept))";

/// Until the end of the transaction, others who revoke tokens of this user wait here.
pub(super) const QUEUE: &str = "
    INSERT INTO countersign_token_owner (user_id, until) VALUES (?, ?)
    ON DUPLICATE KEY UPDATE until = GREATEST(until, ?)";

/// Run after [`QUEUE`], so it sees what those before have committed; under REPEATABLE READ, too, because it is the
/// transaction's first read.
pub(super) const LIVE_TOKENS: &str = "
    SELECT CONVERT(ref USING utf8mb4) AS ref, until FROM countersign_revocation FORCE INDEX (PRIMARY)
    WHERE user_id = ? AND kind = 'token' AND until > ?";

/// What comes after a key, in the order of keys. Written out, because the servers find no range for a comparison of
/// rows.
macro_rules! after_key {
    () => {
        "(entry.user_id > ?
            OR (entry.user_id = ? AND entry.kind > ?)
            OR (entry.user_id = ? AND entry.kind = ? AND entry.ref > ?)
            OR (entry.user_id = ? AND entry.kind = ? AND entry.ref = ? AND entry.n > ?))"
    };
}

/// What [`EntryRow`] reads. The names of the converted columns are those of the table's, so whoever sorts says
/// which.
macro_rules! entry_columns {
    () => {
        "CONVERT(entry.user_id USING utf8mb4) AS user_id, CONVERT(entry.kind USING utf8mb4) AS kind,
        CONVERT(entry.ref USING utf8mb4) AS ref, entry.n,
        CONVERT(entry.except_session USING utf8mb4) AS except_session, entry.until, entry.at"
    };
}

/// The whole log, by its primary key.
pub(super) const ALL: &str = concat!(
    "SELECT ",
    entry_columns!(),
    " FROM countersign_revocation AS entry FORCE INDEX (PRIMARY)
    WHERE ",
    after_key!(),
    " ORDER BY entry.user_id, entry.kind, entry.ref, entry.n LIMIT ?"
);

/// Its tail. Few entries are that young, so they are found by `at` and sorted: read in the order of their keys, they
/// would be found by reading the whole log.
pub(super) const TAIL: &str = concat!(
    "SELECT ",
    entry_columns!(),
    " FROM countersign_revocation AS entry FORCE INDEX (at)
    WHERE entry.at >= ? AND ",
    after_key!(),
    " ORDER BY entry.user_id, entry.kind, entry.ref, entry.n LIMIT ?"
);

/// In the order of the index. For a deletion, MariaDB recognises it only by both columns; for a query, only without
/// the first.
macro_rules! purge {
    ($kind:literal) => {
        concat!(
            "DELETE FROM countersign_revocation WHERE kind = '",
            $kind,
            "' AND until < ? ORDER BY kind, until LIMIT ?"
        )
    };
}

pub(super) const PURGE: [&str; 3] = [purge!("node"), purge!("token"), purge!("key")];

/// A mark is never taken back, and no row comes back, so it does not matter what happens after the look.
pub(super) const PURGE_SESSIONS: &str = "
    DELETE FROM countersign_revocation
    WHERE kind = 'session' AND until < ? AND NOT EXISTS (SELECT 1 FROM countersign_session AS session
        WHERE session.user_id = countersign_revocation.user_id AND session.id = countersign_revocation.ref
            AND session.ended_at IS NULL)
    ORDER BY kind, until LIMIT ?";

/// `user` entries, in the order in which they stopped mattering: what comes after the last that was looked at.
macro_rules! old_user_entries {
    () => {
        "FROM countersign_revocation AS entry FORCE INDEX (kind_until)
        WHERE entry.kind = 'user' AND entry.until < ?
            AND (entry.until > ? OR (entry.until = ? AND (entry.user_id > ? OR (entry.user_id = ? AND entry.n > ?))))
        ORDER BY entry.until, entry.user_id, entry.n"
    };
}

/// A user's highest entry stays, so many are looked at that do not go: so many in a step. This is the last of a step.
pub(super) const STEP: &str = concat!(
    "SELECT entry.until, CONVERT(entry.user_id USING utf8mb4) AS user_id, entry.n ",
    old_user_entries!(),
    " LIMIT 1 OFFSET ?"
);

/// Deletes those of a step that are not their user's highest. The highest stays the highest, so it does not matter
/// what happens after the look; only the entry's own time may have been raised, and is looked at again.
pub(super) const PURGE_OUTDONE: &str = concat!(
    "DELETE gone FROM countersign_revocation AS gone
    JOIN (SELECT DISTINCT step.user_id, step.n FROM (SELECT entry.user_id, entry.n ",
    old_user_entries!(),
    " LIMIT ?) AS step
        JOIN countersign_revocation AS higher FORCE INDEX (PRIMARY)
            ON higher.user_id = step.user_id AND higher.kind = 'user' AND higher.ref = '' AND higher.n > step.n
        LIMIT ?) AS outdone
    ON gone.user_id = outdone.user_id AND gone.kind = 'user' AND gone.ref = '' AND gone.n = outdone.n
    WHERE gone.until < ?"
);

pub(super) const PURGE_QUEUE: &str = "
    DELETE FROM countersign_token_owner WHERE until < ? ORDER BY until LIMIT ?";

/// How many sessions one statement marks at most: some milliseconds of work.
const MARK_STEP: usize = 128;

#[async_trait]
impl RevocationStore for MySqlStore {
    fn is_one_copy(&self) -> bool {
        false
    }

    fn changes(&self) -> Option<Changes> {
        self.changed.as_ref().map(|changed| changed.subscribe())
    }

    async fn time(&self) -> Result<Option<Timestamp>, StoreError> {
        const ACTION: &str = "read the server's time";
        let (now,): (i64,) = only(ACTION, self.tail.read(ACTION, Statement::new(TIME)).await?)?;
        time("time", now).map(Some).map_err(malformed(ACTION))
    }

    async fn epoch(&self, user_id: &UserId) -> Result<Epoch, StoreError> {
        const ACTION: &str = "read the user's epoch";
        let statement = Statement::new(EPOCH).text(user_id.as_str());
        let (n,): (i64,) = only(ACTION, self.work.read(ACTION, statement).await?)?;
        number("n", n).map(Epoch::new).map_err(malformed(ACTION))
    }

    async fn epoch_raised_at(&self, user_id: &UserId) -> Result<Option<Timestamp>, StoreError> {
        const ACTION: &str = "read when the user's epoch was raised";
        let statement = Statement::new(RAISED_AT).text(user_id.as_str());
        let (at,): (Option<i64>,) = only(ACTION, self.work.read(ACTION, statement).await?)?;
        optional_time("at", at).map_err(malformed(ACTION))
    }

    async fn raise_epoch(&self, user_id: &UserId, raise: &EpochRaise) -> Result<Entry, StoreError> {
        const ACTION: &str = "raise the user's epoch";
        let except = raise.except.map(|id| id.to_string());
        let current = Statement::new(RAISED).text(user_id.as_str());
        let (at, until) = (raise.at.as_millis(), raise.until.as_millis());
        let insert = |n, at| {
            let statement = Statement::new(RAISE).text(user_id.as_str()).number(n).text(except.as_deref());
            statement.number(until).number(at)
        };
        let unmarked = |n| {
            let statement = Statement::new(UNMARKED).text(user_id.as_str()).number(n).text(except.as_deref());
            statement.number(limit(MARK_STEP))
        };
        let mark = |ids: &[(String,)]| {
            // As few different statements as in `acknowledge`.
            let length = ids.len().next_power_of_two();
            let statement = Statement::repeating(MARK_ENDED, ", ", length);
            let statement = statement.number(at).text(raise.reason.name()).text(user_id.as_str());
            let repeated = ids.iter().cycle().take(length);
            repeated.fold(statement, |statement, (id,)| statement.text(id.as_str()))
        };
        let raised = async {
            loop {
                let raised = self.work.transaction(ACTION, |mut transaction| async {
                    let highest: Vec<(i64, Option<i64>)> = transaction.read(&current).await?;
                    let (highest, raised_at) = highest.into_iter().next().unwrap_or_default();
                    let n = highest.saturating_add(1);
                    let at = raised_at.map_or(at, |raised_at| raised_at.max(at));
                    if !transaction.insert(&insert(n, at)).await? {
                        transaction.undo().await?;
                        return Ok(None);
                    }
                    let ids: Vec<(String,)> = transaction.read(&unmarked(n)).await?;
                    if !ids.is_empty() {
                        transaction.write(&mark(&ids)).await?;
                    }
                    transaction.commit().await?;
                    Ok(Some((n, at)))
                });
                if let Some(raised) = raised.await? {
                    return Ok(raised);
                }
            }
        };
        let (n, raised_at) = self.work.series(ACTION, raised).await?;
        let rest = async {
            loop {
                let ids: Vec<(String,)> = self.work.read(ACTION, unmarked(n)).await?;
                if ids.is_empty() {
                    break;
                }
                self.work.write(ACTION, mark(&ids)).await?;
            }
            let forget = Statement::new(FORGET_OUTDONE).text(user_id.as_str()).number(n);
            let forget = forget.number(raise.forgets_before().as_millis()).text(except.as_deref());
            let forget = forget.text(user_id.as_str()).number(n).text(except.as_deref());
            self.work.write(ACTION, forget).await
        };
        // The epoch is raised whatever comes of this: what is left has no mark then, but the log ends it.
        if let Err(error) = rest.await {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "could not mark all sessions that the log has ended");
        }
        let epoch = number("n", n).map_err(malformed(ACTION))?;
        let at = time("at", raised_at).map_err(malformed(ACTION))?;
        let target =
            Target::User { user_id: user_id.clone(), epoch: Epoch::new(epoch), except: raise.except };
        Ok(Entry { target, until: raise.until, at })
    }

    async fn revoke_tokens(
        &self,
        user_id: &UserId,
        tokens: &TokenRevocation,
    ) -> Result<TokensRevoked, StoreError> {
        let (user_id, at, until) = (user_id.as_str(), tokens.at.as_millis(), tokens.until.as_millis());
        let queue = Statement::new(QUEUE).text(user_id).number(until).number(until);
        let live = Statement::new(LIVE_TOKENS).text(user_id).number(at);
        // As few different statements as in `acknowledge`.
        let length = tokens.ids.len().next_power_of_two();
        let repeated = tokens.ids.iter().cycle().take(length);
        let merge = repeated.fold(Statement::repeating(MERGE_TOKENS, ", ", length), |statement, id| {
            statement.text(user_id).text(id.to_string().as_str()).number(until).number(at)
        });
        let merge = merge.number(until).number(at);
        let revoked = self.work.transaction("revoke tokens", |mut transaction| async {
            transaction.write(&queue).await?;
            let live: Vec<LiveTokenRecord> = transaction.read(&live).await?;
            let room = room_beside(&live, tokens)?;
            if room != TokensRevoked::Yes || tokens.ids.is_empty() {
                transaction.undo().await?;
                return Ok(room);
            }
            transaction.write(&merge).await?;
            transaction.commit().await?;
            Ok(room)
        });
        revoked.await
    }

    async fn insert_entry(&self, entry: &Entry) -> Result<(), StoreError> {
        const ACTION: &str = "insert into the revocation log";
        // A heartbeat is the tail's own: it must not wait behind other work.
        let engine = if matches!(entry.target, Target::Node { .. }) { &self.tail } else { &self.work };
        let key = entry.key();
        let except = match &entry.target {
            Target::User { except, .. } => except.map(|id| id.to_string()),
            _ => None,
        };
        let (until, at) = (entry.until.as_millis(), entry.at.as_millis());
        let statement = Statement::new(MERGE)
            .text(key.user_id.as_str())
            .text(key.kind)
            .text(key.reference.as_str())
            .number(integer(key.number).map_err(malformed(ACTION))?)
            .text(except.as_deref())
            .number(until)
            .number(at)
            .number(until)
            .number(at);
        engine.write(ACTION, statement).await.map(drop)
    }

    async fn entries(
        &self,
        since: Timestamp,
        after: Option<&Entry>,
        at_most: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        const ACTION: &str = "read the revocation log";
        // Every key is after ('', '', '', 0): none has an empty kind.
        let after = after.map(Entry::key);
        let (user_id, kind, reference, n) = match &after {
            Some(after) => {
                let n = integer(after.number).map_err(malformed(ACTION))?;
                (after.user_id.as_str(), after.kind, after.reference.as_str(), n)
            }
            None => ("", "", "", 0),
        };
        let statement = if since == Timestamp::MIN {
            Statement::new(ALL)
        } else {
            Statement::new(TAIL).number(since.as_millis())
        };
        let statement =
            statement.text(user_id).text(user_id).text(kind).text(user_id).text(kind).text(reference);
        let statement = statement.text(user_id).text(kind).text(reference).number(n).number(limit(at_most));
        let rows = self.tail.read::<EntryRow>(ACTION, statement).await?;
        Ok(rows.into_iter().map(Entry::from).collect())
    }

    async fn purge_entries(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        const ACTION: &str = "purge the revocation log";
        let left = |purged| at_most.saturating_sub(usize::try_from(purged).unwrap_or(usize::MAX));
        let mut purged = 0_u64;
        for sql in PURGE.into_iter().chain([PURGE_SESSIONS]) {
            purged = purged.saturating_add(self.purge(ACTION, sql, before, left(purged)).await?);
        }
        purged = purged.saturating_add(self.purge_outdone(ACTION, before, left(purged)).await?);
        // These are no entries, so they are not counted.
        self.purge(ACTION, PURGE_QUEUE, before, PURGE_STEP).await?;
        Ok(purged)
    }
}

impl MySqlStore {
    async fn purge_outdone(
        &self,
        action: &'static str,
        before: Timestamp,
        at_most: usize,
    ) -> Result<u64, StoreError> {
        let mut left = at_most;
        let mut purged = 0_u64;
        let mut last = (i64::MIN, String::new(), 0_i64);
        while left > 0 {
            let from_here = |sql| {
                let (until, user_id, n) = (last.0, last.1.as_str(), last.2);
                let statement = Statement::new(sql).number(before.as_millis()).number(until).number(until);
                statement.text(user_id).text(user_id).number(n)
            };
            let step = from_here(STEP).number(limit(PURGE_STEP - 1));
            let step: Vec<(i64, String, i64)> = self.work.read(action, step).await?;
            let purge = from_here(PURGE_OUTDONE).number(limit(PURGE_STEP)).number(limit(left));
            let gone = self.work.write(action, purge.number(before.as_millis())).await?.rows;
            purged = purged.saturating_add(gone);
            left = left.saturating_sub(usize::try_from(gone).unwrap_or(usize::MAX));
            match step.into_iter().next() {
                Some(end) => last = end,
                None => break,
            }
        }
        Ok(purged)
    }
}
