//! The revocation log, kept in PostgreSQL.

use async_trait::async_trait;
use countersign_core::model::{Entry, Target};
use countersign_core::store::{
    Changes, EpochRaise, RevocationStore, StoreError, TokenRevocation, TokensRevoked,
};
use countersign_jwt::{Epoch, Timestamp, UserId};

use super::{PostgresStore, Statement};
use crate::column::limit;
use crate::purge::{PURGE_STEP, left};
use crate::record::{EntryRecord, LiveToken, Raised, room_beside};

fn server_time() -> Statement<Timestamp> {
    Statement::new("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint")
}

fn epoch(user_id: &UserId) -> Statement<Epoch> {
    Statement::new(
        "
    SELECT coalesce(max(n), 0) FROM countersign.revocation WHERE user_id = $1 AND kind = 'user' AND ref = ''",
    )
    .bind(user_id)
}

fn raised_at(user_id: &UserId) -> Statement<Option<Timestamp>> {
    Statement::new(
        "
    SELECT max(at) FROM countersign.revocation WHERE user_id = $1 AND kind = 'user' AND ref = ''",
    )
    .bind(user_id)
}

/// Writes an entry. If there is one with its key, that entry keeps the later times; if they would not change, nothing
/// is written.
fn merge(entry: &Entry) -> Statement {
    Statement::new(concat!(
        "
    INSERT INTO countersign.revocation AS known (",
        entry_columns!(names),
        ")
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (user_id, kind, ref, n) DO UPDATE SET
        until = greatest(known.until, excluded.until), at = greatest(known.at, excluded.at)
    WHERE known.until < excluded.until OR known.at < excluded.at"
    ))
    .bind_record(EntryRecord::from(entry))
}

/// Writes the entries of several tokens of one user, as [`merge`] does for one entry.
fn merge_tokens(user_id: &UserId, tokens: &TokenRevocation) -> Statement {
    Statement::new(
        "
    INSERT INTO countersign.revocation AS known (user_id, kind, ref, n, until, at)
    SELECT $1, 'token', id, 0, $3, $4 FROM (SELECT DISTINCT unnest($2::text[]) AS id) AS tokens
    ON CONFLICT (user_id, kind, ref, n) DO UPDATE SET
        until = greatest(known.until, excluded.until), at = greatest(known.at, excluded.at)
    WHERE known.until < excluded.until OR known.at < excluded.at",
    )
    .bind(user_id)
    .bind_list(tokens.ids.iter().map(ToString::to_string))
    .bind(tokens.until)
    .bind(tokens.at)
}

/// Inserts the user's entry with the next number, and marks the sessions that it ends. Concurrent callers run one after
/// the other. A caller that had to wait finds its number taken; the statement returns nothing then, and is tried again.
/// Rows are locked in the order of their keys.
fn raise(user_id: &UserId, how: &EpochRaise) -> Statement<Raised> {
    Statement::new("
    WITH raised AS (
        INSERT INTO countersign.revocation (user_id, kind, ref, n, except_session, until, at)
        SELECT $1, 'user', '', coalesce(max(n), 0) + 1, $2, $3, greatest(max(at), $4) FROM countersign.revocation
            WHERE user_id = $1 AND kind = 'user' AND ref = ''
        ON CONFLICT DO NOTHING
        RETURNING n, at),
    oldest AS MATERIALIZED (
        SELECT session.id FROM raised JOIN countersign.session ON session.epoch < raised.n
        WHERE session.user_id = $1 AND session.id IS DISTINCT FROM $2 AND session.ended_at IS NULL
        ORDER BY session.created_at, session.id LIMIT $6),
    ended AS (
        SELECT session.id FROM oldest JOIN countersign.session ON session.user_id = $1 AND session.id = oldest.id
        ORDER BY session.id
        FOR UPDATE OF session),
    marked AS (
        UPDATE countersign.session SET ended_at = $4, end_reason = $5 FROM ended
        WHERE session.user_id = $1 AND session.id = ended.id AND session.ended_at IS NULL)
    SELECT n, at FROM raised")
        .bind(user_id)
        .bind(how.except)
        .bind(how.until)
        .bind(how.at)
        .bind(how.reason.name())
        .bind(limit(MARK_STEP))
}

/// Marks the sessions that [`raise`] has ended and left for later, and those that were being inserted while it looked.
fn mark_rest(user_id: &UserId, how: &EpochRaise, epoch: Epoch) -> Statement {
    Statement::new("
    WITH oldest AS MATERIALIZED (
        SELECT id FROM countersign.session
        WHERE user_id = $1 AND ended_at IS NULL AND epoch < $3 AND id IS DISTINCT FROM $2
        ORDER BY created_at, id LIMIT $6),
    ended AS (
        SELECT session.id FROM oldest JOIN countersign.session ON session.user_id = $1 AND session.id = oldest.id
        ORDER BY session.id
        FOR UPDATE OF session)
    UPDATE countersign.session SET ended_at = $4, end_reason = $5 FROM ended
    WHERE session.user_id = $1 AND session.id = ended.id AND session.ended_at IS NULL")
        .bind(user_id)
        .bind(how.except)
        .bind(epoch)
        .bind(how.at)
        .bind(how.reason.name())
        .bind(limit(MARK_STEP))
}

/// Deletes the user's old entries that decide nothing any more beside the entry `n`, which excepts this session: all
/// lower ones, except the highest that does not except the same session.
fn forget_outdone(user_id: &UserId, how: &EpochRaise, epoch: Epoch) -> Statement {
    Statement::new(
        "
    DELETE FROM countersign.revocation AS entry
    WHERE user_id = $1 AND kind = 'user' AND ref = '' AND n < $3 AND at < $4
        AND ($2 IS NULL OR n IS DISTINCT FROM (SELECT max(other.n) FROM countersign.revocation AS other
            WHERE other.user_id = $1 AND other.kind = 'user' AND other.ref = '' AND other.n < $3
                AND other.except_session IS DISTINCT FROM $2))",
    )
    .bind(user_id)
    .bind(how.except)
    .bind(epoch)
    .bind(how.forgets_before())
}

/// Makes others who revoke tokens of this user wait here until the end of the transaction. They wait for a row and not
/// for an advisory lock, because the distributed relatives of PostgreSQL have no advisory locks.
fn queue(user_id: &UserId, until: Timestamp) -> Statement {
    Statement::new(
        "
    INSERT INTO countersign.token_owner AS known (user_id, until) VALUES ($1, $2)
    ON CONFLICT (user_id) DO UPDATE SET until = greatest(known.until, excluded.until)",
    )
    .bind(user_id)
    .bind(until)
}

/// The user's live tokens. The statement runs after [`queue`], so it sees what earlier transactions have committed.
fn live_tokens(user_id: &UserId, at: Timestamp) -> Statement<LiveToken> {
    Statement::new(
        "
    SELECT ref, until FROM countersign.revocation WHERE user_id = $1 AND kind = 'token' AND until > $2",
    )
    .bind(user_id)
    .bind(at)
}

/// A page of the log from some time on, in the order of the table. An entry that is written again gets a later time, so
/// it moves forward in this order and never back.
fn log(since: Timestamp, after: Option<&Entry>, at_most: usize) -> Statement<Entry> {
    // The page comes after the last entry of the previous page. The first page comes after a key that every entry of
    // its time follows, because no kind is empty.
    let (at, key) = after.map_or((since, None), |after| (after.at, Some(after.key())));
    let (user_id, kind, reference, n) = key
        .as_ref()
        .map_or(("", "", "", 0), |key| (key.user_id.as_str(), key.kind, key.reference.as_str(), key.number));
    Statement::new(concat!(
        "
    SELECT ",
        entry_columns!(names),
        " FROM countersign.revocation
    WHERE (at, user_id, kind, ref, n) > ($1, $2, $3, $4, $5)
    ORDER BY at, user_id, kind, ref, n LIMIT $6"
    ))
    .bind(at)
    .bind(user_id)
    .bind(kind)
    .bind(reference)
    .bind(n)
    .bind(limit(at_most))
}

/// Deletes entries that have stopped mattering, except `user` entries, which [`purge_outdone`] deletes. The index comes
/// first: it finds the entries that may be deleted. A row that another node is deleting is left to that node. The
/// condition is not written as `NOT EXISTS`, because the server would read all sessions first for it.
fn purge(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    WITH old AS MATERIALIZED (
        SELECT user_id, kind, ref, n FROM countersign.revocation AS entry
        WHERE kind <> 'user' AND until < $1
            AND (kind <> 'session' OR coalesce((SELECT ended_at IS NOT NULL FROM countersign.session
                WHERE session.user_id = entry.user_id AND session.id = entry.ref), true))
        ORDER BY until LIMIT $2 FOR UPDATE SKIP LOCKED)
    DELETE FROM countersign.revocation AS entry USING old
    WHERE entry.user_id = old.user_id AND entry.kind = old.kind AND entry.ref = old.ref AND entry.n = old.n",
    )
    .bind(before)
    .bind(limit(at_most))
}

/// Deletes `user` entries that are not their user's highest, one step of them. A user's highest entry stays, so many
/// entries are looked at and not deleted; a step looks at so many, and the next one continues after them. Returns the
/// last entry that the step looked at, how many it looked at, and how many of them it deleted.
fn purge_outdone(
    before: Timestamp,
    last: &(i64, String, i64),
    at_most: usize,
) -> Statement<(i64, String, i64, i64, i64)> {
    Statement::new("
    WITH old AS MATERIALIZED (
        SELECT until, user_id, n FROM countersign.revocation
        WHERE kind = 'user' AND until < $1 AND (until, user_id, n) > ($2, $3, $4)
        ORDER BY until, user_id, n LIMIT $5),
    outdone AS MATERIALIZED (
        SELECT entry.user_id, entry.n FROM old JOIN countersign.revocation AS entry
            ON entry.user_id = old.user_id AND entry.kind = 'user' AND entry.ref = '' AND entry.n = old.n
        WHERE entry.until < $1 AND EXISTS (SELECT 1 FROM countersign.revocation AS higher
            WHERE higher.user_id = old.user_id AND higher.kind = 'user' AND higher.ref = '' AND higher.n > old.n)
        LIMIT $6 FOR UPDATE OF entry SKIP LOCKED),
    gone AS (
        DELETE FROM countersign.revocation AS entry USING outdone
        WHERE entry.user_id = outdone.user_id AND entry.kind = 'user' AND entry.ref = '' AND entry.n = outdone.n
        RETURNING 1)
    SELECT until, user_id, n, (SELECT count(*) FROM old), (SELECT count(*) FROM gone)
    FROM old ORDER BY until DESC, user_id DESC, n DESC LIMIT 1")
        .bind(before)
        .bind(last.0)
        .bind(&last.1)
        .bind(last.2)
        .bind(limit(PURGE_STEP))
        .bind(limit(at_most))
}

fn purge_queue(before: Timestamp, at_most: usize) -> Statement {
    Statement::new(
        "
    WITH old AS MATERIALIZED (
        SELECT user_id FROM countersign.token_owner WHERE until < $1 ORDER BY until LIMIT $2
        FOR UPDATE SKIP LOCKED)
    DELETE FROM countersign.token_owner USING old WHERE token_owner.user_id = old.user_id",
    )
    .bind(before)
    .bind(limit(at_most))
}

/// How many sessions one statement marks at most, which takes some milliseconds.
const MARK_STEP: usize = 500;

#[async_trait]
impl RevocationStore for PostgresStore {
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
        let raised = async {
            loop {
                let rows = self.lanes.work.write_returning(ACTION, raise(user_id, how)).await?;
                if let Some(raised) = rows.into_iter().next() {
                    return Ok(raised);
                }
            }
        };
        let raised = self.lanes.work.series(ACTION, raised).await?;
        self.announce();
        let rest = async {
            let mark = || mark_rest(user_id, how, raised.epoch);
            while self.lanes.work.write(ACTION, mark()).await? == MARK_STEP as u64 {}
            self.lanes.work.write(ACTION, forget_outdone(user_id, how, raised.epoch)).await
        };
        // The epoch is raised whatever happens here: a session that is left has no mark then, but the log ends it.
        if let Err(error) = rest.await {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "could not mark all sessions that the log has ended");
        }
        let target = Target::User { user_id: user_id.clone(), epoch: raised.epoch, except: how.except };
        Ok(Entry { target, until: how.until, at: raised.at.unwrap_or(how.at) })
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
            if room == TokensRevoked::Yes {
                transaction.write(merge).await?;
                transaction.commit().await?;
            } else {
                transaction.undo().await?;
            }
            Ok(room)
        });
        let revoked = revoked.await?;
        if revoked == TokensRevoked::Yes {
            self.announce();
        }
        Ok(revoked)
    }

    async fn insert_entry(&self, entry: &Entry) -> Result<(), StoreError> {
        const ACTION: &str = "insert into the revocation log";
        if let Target::Node { .. } = entry.target {
            // A heartbeat belongs to the tail, so it must not wait behind other work. Other nodes need no notification
            // of it.
            self.lanes.tail.write(ACTION, merge(entry)).await?;
        } else {
            self.lanes.work.write(ACTION, merge(entry)).await?;
            self.announce();
        }
        Ok(())
    }

    async fn entries(
        &self,
        since: Timestamp,
        after: Option<&Entry>,
        at_most: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.lanes.tail.read("read the revocation log", log(since, after, at_most)).await
    }

    async fn purge_entries(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        const ACTION: &str = "purge the revocation log";
        let work = &self.lanes.work;
        let purged = work.purge(ACTION, at_most, |step| purge(before, step)).await?;
        let outdone = self.purge_outdone(ACTION, before, left(at_most, purged)).await?;
        // The rows of the queue are no entries, so they are not counted.
        work.purge(ACTION, PURGE_STEP, |step| purge_queue(before, step)).await?;
        Ok(purged.saturating_add(outdone))
    }
}

impl PostgresStore {
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
            let rows = self.lanes.work.write_returning(action, purge_outdone(before, &last, left)).await?;
            let Some((until, user_id, n, seen, gone)) = rows.into_iter().next() else { return Ok(purged) };
            purged = purged.saturating_add(u64::try_from(gone).unwrap_or(0));
            if seen < limit(PURGE_STEP) {
                return Ok(purged);
            }
            last = (until, user_id, n);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use countersign_core::model::EndReason;
    use countersign_jwt::TokenId;
    use uuid::Uuid;

    use super::super::plans::Filled;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        let Some(mut filled) = Filled::open().await else { return };
        let ada = UserId::new("user 5").unwrap();
        let at = Timestamp::from_millis;
        let token = TokenId::new(Uuid::from_u128(5));
        let target = Target::Token { user_id: ada.clone(), id: token };
        let entry = Entry { target, until: at(5), at: at(5) };
        let tokens = TokenRevocation { ids: vec![token], at: at(5), until: at(5), limit: 9 };
        let how = EpochRaise { except: None, reason: EndReason::AllEnded, at: at(5), until: at(5) };
        // A time so late that old entries are deleted.
        let late = EpochRaise { at: at(15_000) + Duration::from_secs(3_600), ..how };
        let last = (5, "user 5".to_owned(), 1);
        filled.uses(epoch(&ada), "revocation_pkey").await;
        filled.uses(raised_at(&ada), "revocation_pkey").await;
        filled.uses(merge(&entry), "revocation_pkey").await;
        filled.uses(merge_tokens(&ada, &tokens), "revocation_pkey").await;
        filled.uses(raise(&ada, &how), "revocation_pkey").await;
        filled.uses(mark_rest(&ada, &how, Epoch::new(1)), "session_live").await;
        filled.uses(forget_outdone(&ada, &late, Epoch::new(1)), "revocation_pkey").await;
        filled.uses(queue(&ada, at(5)), "token_owner_pkey").await;
        filled.uses(live_tokens(&ada, at(5)), "revocation_pkey").await;
        filled.uses(log(Timestamp::MIN, Some(&entry), 5_000), "revocation_in_time").await;
        filled.uses(purge(at(100), 10), "revocation_until").await;
        filled.uses(purge_outdone(at(2_000), &last, 100), "revocation_user_until").await;
        filled.uses(purge_queue(at(100), 10), "token_owner_until").await;
    }
}
