//! The revocation log. Its races are described in [`sessions`](super::sessions).

use async_trait::async_trait;
use countersign_core::model::{Entry, Target};
use countersign_core::store::{
    Changes, EpochRaise, RevocationStore, StoreError, TokenRevocation, TokensRevoked,
};
use countersign_jwt::{Epoch, SessionId, Timestamp, UserId};

use super::{MySqlStore, Statement};
use crate::column::limit;
use crate::purge::{PURGE_STEP, left};
use crate::record::{EntryRecord, LiveToken, Raised, room_beside};

/// The server's time. It does not depend on the session's time zone, in which an hour may come twice.
pub(super) fn server_time() -> Statement<Timestamp> {
    Statement::new("SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000")
}

pub(super) fn epoch(user_id: &UserId) -> Statement<Epoch> {
    Statement::new(
        "
    SELECT COALESCE(MAX(n), 0) FROM countersign_revocation FORCE INDEX (PRIMARY)
    WHERE user_id = ? AND kind = 'user' AND ref = ''",
    )
    .bind(user_id)
}

pub(super) fn raised_at(user_id: &UserId) -> Statement<Option<Timestamp>> {
    Statement::new(
        "
    SELECT MAX(at) FROM countersign_revocation FORCE INDEX (PRIMARY)
    WHERE user_id = ? AND kind = 'user' AND ref = ''",
    )
    .bind(user_id)
}

/// Writes an entry. If there is one with its key, that entry keeps the later times.
pub(super) fn merge(entry: &Entry) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO countersign_revocation (",
        entry_columns!(names),
        ") VALUES (",
        entry_columns!(marks),
        ")
    ON DUPLICATE KEY UPDATE until = GREATEST(until, ?), at = GREATEST(at, ?)"
    ))
    .bind_record(EntryRecord::from(entry))
    .bind(entry.until)
    .bind(entry.at)
}

/// Writes the entries of several tokens of one user, as [`merge`] does for one entry. The middle part of the text is
/// repeated for each token.
fn merge_tokens(user_id: &UserId, tokens: &TokenRevocation) -> Statement {
    const PARTS: [&str; 3] = [
        "INSERT INTO countersign_revocation (user_id, kind, ref, n, until, at) VALUES ",
        "(?, 'token', ?, 0, ?, ?)",
        " ON DUPLICATE KEY UPDATE until = GREATEST(until, ?), at = GREATEST(at, ?)",
    ];
    // Rounded up as in `acknowledge`, so that there are few different statements.
    let length = tokens.ids.len().next_power_of_two();
    let statement = Statement::repeating(PARTS, ", ", length);
    let repeated = tokens.ids.iter().cycle().take(length);
    repeated
        .fold(statement, |statement, id| statement.bind(user_id).bind(*id).bind(tokens.until).bind(tokens.at))
        .bind(tokens.until)
        .bind(tokens.at)
}

/// Inserts the user's entry with the next number. Of concurrent callers one inserts it; the others wait for its commit
/// and then find the number taken.
pub(super) fn raise(user_id: &UserId, how: &EpochRaise, epoch: Epoch, at: Timestamp) -> Statement {
    Statement::new(
        "
    INSERT INTO countersign_revocation (user_id, kind, ref, n, except_session, until, at)
    VALUES (?, 'user', '', ?, ?, ?, ?)",
    )
    .bind(user_id)
    .bind(epoch)
    .bind(how.except)
    .bind(how.until)
    .bind(at)
}

/// The user's epoch, and when it was last raised.
pub(super) fn raised(user_id: &UserId) -> Statement<Raised> {
    Statement::new(
        "
    SELECT COALESCE(MAX(n), 0), MAX(at) FROM countersign_revocation FORCE INDEX (PRIMARY)
    WHERE user_id = ? AND kind = 'user' AND ref = ''",
    )
    .bind(user_id)
}

/// The sessions that [`raise`] ends and that have no mark yet, the oldest first. They are read once in the transaction
/// of [`raise`], so that a step that waits for a row finds the mark together with the entry. Afterwards they are read
/// until there are none: for sessions that are too many for one transaction, and for sessions that were being inserted
/// meanwhile, because InnoDB passes over rows that were not yet committed.
pub(super) fn unmarked(user_id: &UserId, how: &EpochRaise, epoch: Epoch) -> Statement<SessionId> {
    Statement::new(
        "
    SELECT CONVERT(id USING utf8mb4) FROM countersign_session FORCE INDEX (live)
    WHERE user_id = ? AND ended_at IS NULL AND epoch < ? AND NOT id <=> ? ORDER BY created_at, id LIMIT ?",
    )
    .bind(user_id)
    .bind(epoch)
    .bind(how.except)
    .bind(limit(MARK_STEP))
}

/// Marks these sessions, in the order of their keys. The middle part of the text is repeated for each session.
fn mark_ended(user_id: &UserId, how: &EpochRaise, ids: &[SessionId]) -> Statement {
    const PARTS: [&str; 3] = [
        "UPDATE countersign_session FORCE INDEX (PRIMARY) SET ended_at = ?, end_reason = ?
    WHERE user_id = ? AND ended_at IS NULL AND id IN (",
        "?",
        ")",
    ];
    // Rounded up as in `acknowledge`, so that there are few different statements.
    let length = ids.len().next_power_of_two();
    let statement =
        Statement::repeating(PARTS, ", ", length).bind(how.at).bind(how.reason.name()).bind(user_id);
    ids.iter().cycle().take(length).fold(statement, |statement, id| statement.bind(*id))
}

/// Deletes the user's old entries that decide nothing any more beside the entry `n`, which excepts this session: all
/// lower ones, except the highest that does not except the same session. That one is looked up in a table of its own,
/// because MySQL deletes from no table that the same statement reads.
pub(super) fn forget_outdone(user_id: &UserId, how: &EpochRaise, epoch: Epoch) -> Statement {
    Statement::new(
        "
    DELETE FROM countersign_revocation WHERE user_id = ? AND kind = 'user' AND ref = '' AND n < ? AND at < ?
        AND (? IS NULL OR NOT n <=> (SELECT kept.n FROM (SELECT MAX(other.n) AS n
            FROM countersign_revocation AS other FORCE INDEX (PRIMARY)
            WHERE other.user_id = ? AND other.kind = 'user' AND other.ref = '' AND other.n < ?
                AND NOT other.except_session <=> ?) AS kept))",
    )
    .bind(user_id)
    .bind(epoch)
    .bind(how.forgets_before())
    .bind(how.except)
    .bind(user_id)
    .bind(epoch)
    .bind(how.except)
}

/// Makes others who revoke tokens of this user wait here until the end of the transaction.
pub(super) fn queue(user_id: &UserId, until: Timestamp) -> Statement {
    Statement::new(
        "
    INSERT INTO countersign_token_owner (user_id, until) VALUES (?, ?)
    ON DUPLICATE KEY UPDATE until = GREATEST(until, ?)",
    )
    .bind(user_id)
    .bind(until)
    .bind(until)
}

/// The user's live tokens. The statement runs after [`queue`], so it sees what earlier transactions have committed.
/// That holds under REPEATABLE READ, too, because it is the transaction's first read.
pub(super) fn live_tokens(user_id: &UserId, at: Timestamp) -> Statement<LiveToken> {
    Statement::new(
        "
    SELECT CONVERT(ref USING utf8mb4) AS ref, until FROM countersign_revocation FORCE INDEX (PRIMARY)
    WHERE user_id = ? AND kind = 'token' AND until > ?",
    )
    .bind(user_id)
    .bind(at)
}

/// The condition for what comes after a key, in the order of keys. It is written out, because the servers find no range
/// for a comparison of rows.
macro_rules! after_key {
    () => {
        "(entry.user_id > ?
            OR (entry.user_id = ? AND entry.kind > ?)
            OR (entry.user_id = ? AND entry.kind = ? AND entry.ref > ?)
            OR (entry.user_id = ? AND entry.kind = ? AND entry.ref = ? AND entry.n > ?))"
    };
}

/// Binds the parameters of [`after_key!`]. Without an entry they are ('', '', '', 0), which every key comes after,
/// because no kind is empty.
fn bind_after<Y>(statement: Statement<Y>, after: Option<&Entry>) -> Statement<Y> {
    let after = after.map(Entry::key);
    let (user_id, kind, reference, n) = after.as_ref().map_or(("", "", "", 0), |after| {
        (after.user_id.as_str(), after.kind, after.reference.as_str(), after.number)
    });
    let statement = statement.bind(user_id).bind(user_id).bind(kind).bind(user_id).bind(kind).bind(reference);
    statement.bind(user_id).bind(kind).bind(reference).bind(n)
}

/// A page of the whole log, by its primary key.
pub(super) fn all(after: Option<&Entry>, at_most: usize) -> Statement<Entry> {
    bind_after(
        Statement::new(concat!(
            "SELECT ",
            entry_columns!(converted),
            " FROM countersign_revocation AS entry FORCE INDEX (PRIMARY)
    WHERE ",
            after_key!(),
            " ORDER BY entry.user_id, entry.kind, entry.ref, entry.n LIMIT ?"
        )),
        after,
    )
    .bind(limit(at_most))
}

/// A page of the log's tail. Few entries are that young, so they are found by `at` and sorted. To read them in the
/// order of their keys would mean to read the whole log.
pub(super) fn tail(since: Timestamp, after: Option<&Entry>, at_most: usize) -> Statement<Entry> {
    bind_after(
        Statement::new(concat!(
            "SELECT ",
            entry_columns!(converted),
            " FROM countersign_revocation AS entry FORCE INDEX (at)
    WHERE entry.at >= ? AND ",
            after_key!(),
            " ORDER BY entry.user_id, entry.kind, entry.ref, entry.n LIMIT ?"
        ))
        .bind(since),
        after,
    )
    .bind(limit(at_most))
}

/// The kinds of entries that are deleted as soon as they have stopped mattering.
pub(super) const PURGED_KINDS: [&str; 3] = ["node", "token", "key"];

/// Deletes entries of a kind, in the order of the index. MariaDB recognises that order for a deletion only by both
/// columns, and for a query only without the first.
pub(super) fn purge(kind: &str, before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "DELETE FROM countersign_revocation WHERE kind = ? AND until < ? ORDER BY kind, until LIMIT ?",
    )
    .bind(kind)
    .bind(before)
    .bind(limit(at_most))
}

/// Deletes `session` entries whose session is marked or gone. A mark is never taken back and no row comes back, so what
/// happens after the look does not matter.
pub(super) fn purge_sessions(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    DELETE FROM countersign_revocation
    WHERE kind = 'session' AND until < ? AND NOT EXISTS (SELECT 1 FROM countersign_session AS session
        WHERE session.user_id = countersign_revocation.user_id AND session.id = countersign_revocation.ref
            AND session.ended_at IS NULL)
    ORDER BY kind, until LIMIT ?",
    )
    .bind(before)
    .bind(limit(at_most))
}

/// The place of a `user` entry in the order in which such entries stop mattering: its `until`, `user_id` and `n`.
type UserEntryPlace = (i64, String, i64);

/// The `user` entries that come after the last one looked at, in the order in which they stopped mattering.
macro_rules! old_user_entries {
    () => {
        "FROM countersign_revocation AS entry FORCE INDEX (kind_until)
        WHERE entry.kind = 'user' AND entry.until < ?
            AND (entry.until > ? OR (entry.until = ? AND (entry.user_id > ? OR (entry.user_id = ? AND entry.n > ?))))
        ORDER BY entry.until, entry.user_id, entry.n"
    };
}

/// Binds the parameters of [`old_user_entries!`].
fn bind_old<Y>(statement: Statement<Y>, before: Timestamp, last: &UserEntryPlace) -> Statement<Y> {
    let (until, user_id, n) = last;
    let statement = statement.bind(before).bind(*until).bind(*until);
    statement.bind(user_id).bind(user_id).bind(*n)
}

/// The last `user` entry of a step. A user's highest entry stays, so many entries are looked at and not deleted; a step
/// looks at so many.
pub(super) fn step(before: Timestamp, last: &UserEntryPlace) -> Statement<UserEntryPlace> {
    bind_old(
        Statement::new(concat!(
            "SELECT entry.until, CONVERT(entry.user_id USING utf8mb4) AS user_id, entry.n ",
            old_user_entries!(),
            " LIMIT 1 OFFSET ?"
        )),
        before,
        last,
    )
    .bind(limit(PURGE_STEP - 1))
}

/// Deletes the entries of a step that are not their user's highest. The highest stays the highest, so what happens
/// after the look does not matter. Only the entry's own time may have been raised meanwhile, so it is checked again.
pub(super) fn purge_outdone(before: Timestamp, last: &UserEntryPlace, at_most: usize) -> Statement {
    bind_old(Statement::new(concat!(
    "DELETE gone FROM countersign_revocation AS gone
    JOIN (SELECT DISTINCT step.user_id, step.n FROM (SELECT entry.user_id, entry.n ",
    old_user_entries!(),
    " LIMIT ?) AS step
        JOIN countersign_revocation AS higher FORCE INDEX (PRIMARY)
            ON higher.user_id = step.user_id AND higher.kind = 'user' AND higher.ref = '' AND higher.n > step.n
        LIMIT ?) AS outdone
    ON gone.user_id = outdone.user_id AND gone.kind = 'user' AND gone.ref = '' AND gone.n = outdone.n
    WHERE gone.until < ?"
)), before, last).bind(limit(PURGE_STEP)).bind(limit(at_most)).bind(before)
}

pub(super) fn purge_queue(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    DELETE FROM countersign_token_owner WHERE until < ? ORDER BY until LIMIT ?",
    )
    .bind(before)
    .bind(limit(at_most))
}

/// How many sessions one statement marks at most, which takes some milliseconds.
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
        self.lanes.tail.only("read the server's time", server_time()).await.map(Some)
    }

    async fn epoch(&self, user_id: &UserId) -> Result<Epoch, StoreError> {
        self.lanes.work.only("read the user's epoch", epoch(user_id)).await
    }

    async fn epoch_raised_at(&self, user_id: &UserId) -> Result<Option<Timestamp>, StoreError> {
        self.lanes.work.only("read when the user's epoch was raised", raised_at(user_id)).await
    }

    async fn raise_epoch(&self, user_id: &UserId, how: &EpochRaise) -> Result<Entry, StoreError> {
        const ACTION: &str = "raise the user's epoch";
        let work = &self.lanes.work;
        let current = &raised(user_id);
        let raised = async {
            loop {
                let raised = work.transaction(ACTION, |mut transaction| async move {
                    let highest = transaction.read(current).await?.pop();
                    let epoch = highest.map_or(Epoch::FIRST, |highest| highest.epoch).next();
                    let at = highest.and_then(|highest| highest.at).map_or(how.at, |at| at.max(how.at));
                    if !transaction.insert(&raise(user_id, how, epoch, at)).await? {
                        transaction.undo().await?;
                        return Ok(None);
                    }
                    let ids = transaction.read(&unmarked(user_id, how, epoch)).await?;
                    if !ids.is_empty() {
                        transaction.write(&mark_ended(user_id, how, &ids)).await?;
                    }
                    transaction.commit().await?;
                    Ok(Some((epoch, at)))
                });
                if let Some(raised) = raised.await? {
                    return Ok(raised);
                }
            }
        };
        let (epoch, at) = work.series(ACTION, raised).await?;
        let rest = async {
            loop {
                let ids = work.read(ACTION, unmarked(user_id, how, epoch)).await?;
                if ids.is_empty() {
                    break;
                }
                work.write(ACTION, mark_ended(user_id, how, &ids)).await?;
            }
            work.write(ACTION, forget_outdone(user_id, how, epoch)).await
        };
        // The epoch is raised whatever happens here: a session that is left has no mark then, but the log ends it.
        if let Err(error) = rest.await {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "could not mark all sessions that the log has ended");
        }
        let target = Target::User { user_id: user_id.clone(), epoch, except: how.except };
        Ok(Entry { target, until: how.until, at })
    }

    async fn revoke_tokens(
        &self,
        user_id: &UserId,
        tokens: &TokenRevocation,
    ) -> Result<TokensRevoked, StoreError> {
        let queue = &queue(user_id, tokens.until);
        let live = &live_tokens(user_id, tokens.at);
        let merge = &merge_tokens(user_id, tokens);
        let revoked = self.lanes.work.transaction("revoke tokens", |mut transaction| async move {
            transaction.write(queue).await?;
            let room = room_beside(&transaction.read(live).await?, tokens);
            if room != TokensRevoked::Yes || tokens.ids.is_empty() {
                transaction.undo().await?;
                return Ok(room);
            }
            transaction.write(merge).await?;
            transaction.commit().await?;
            Ok(room)
        });
        revoked.await
    }

    async fn insert_entry(&self, entry: &Entry) -> Result<(), StoreError> {
        // A heartbeat belongs to the tail, so it must not wait behind other work.
        let is_heartbeat = matches!(entry.target, Target::Node { .. });
        let lane = if is_heartbeat { &self.lanes.tail } else { &self.lanes.work };
        lane.write("insert into the revocation log", merge(entry)).await.map(drop)
    }

    async fn entries(
        &self,
        since: Timestamp,
        after: Option<&Entry>,
        at_most: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let entries = if since == Timestamp::MIN { all(after, at_most) } else { tail(since, after, at_most) };
        self.lanes.tail.read("read the revocation log", entries).await
    }

    async fn purge_entries(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        const ACTION: &str = "purge the revocation log";
        let work = &self.lanes.work;
        let mut purged = 0_u64;
        for kind in PURGED_KINDS {
            let gone = work.purge(ACTION, left(at_most, purged), |step| purge(kind, before, step));
            purged = purged.saturating_add(gone.await?);
        }
        let gone = work.purge(ACTION, left(at_most, purged), |step| purge_sessions(before, step));
        purged = purged.saturating_add(gone.await?);
        let gone = self.purge_outdone(ACTION, before, left(at_most, purged));
        purged = purged.saturating_add(gone.await?);
        // The rows of the queue are no entries, so they are not counted.
        work.purge(ACTION, PURGE_STEP, |step| purge_queue(before, step)).await?;
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
        let mut purged = 0_u64;
        let mut last = (i64::MIN, String::new(), 0_i64);
        loop {
            let left = left(at_most, purged);
            if left == 0 {
                return Ok(purged);
            }
            let end = self.lanes.work.first(action, step(before, &last)).await?;
            let gone = self.lanes.work.write(action, purge_outdone(before, &last, left)).await?;
            purged = purged.saturating_add(gone);
            match end {
                Some(end) => last = end,
                None => return Ok(purged),
            }
        }
    }
}
