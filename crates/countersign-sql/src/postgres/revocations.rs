//! The revocation log.

use async_trait::async_trait;
use countersign_core::model::{Entry, Target};
use countersign_core::store::{
    Changes, EpochRaise, RevocationStore, StoreError, TokenRevocation, TokensRevoked,
};
use countersign_jwt::{Epoch, Timestamp, UserId};

use super::engine::{Statement, Transaction, malformed, only};
use super::{PURGE_STEP, PostgresStore};
use crate::column::{integer, limit, number, optional_time, time};
use crate::record::{EntryRow, room_beside};

const TIME: &str = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

const EPOCH: &str = "
    SELECT coalesce(max(n), 0) FROM countersign.revocation WHERE user_id = $1 AND kind = 'user' AND ref = ''";

const RAISED_AT: &str = "
    SELECT max(at) FROM countersign.revocation WHERE user_id = $1 AND kind = 'user' AND ref = ''";

/// A key that is taken keeps the later times; where nothing would change, nothing is written.
const MERGE: &str = "
    INSERT INTO countersign.revocation AS known (user_id, kind, ref, n, except_session, until, at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    ON CONFLICT (user_id, kind, ref, n) DO UPDATE SET
        until = greatest(known.until, excluded.until), at = greatest(known.at, excluded.at)
    WHERE known.until < excluded.until OR known.at < excluded.at";

/// [`MERGE`] for tokens of one user.
const MERGE_TOKENS: &str = "
    INSERT INTO countersign.revocation AS known (user_id, kind, ref, n, until, at)
    SELECT $1, 'token', id, 0, $3, $4 FROM (SELECT DISTINCT unnest($2::text[]) AS id) AS tokens
    ON CONFLICT (user_id, kind, ref, n) DO UPDATE SET
        until = greatest(known.until, excluded.until), at = greatest(known.at, excluded.at)
    WHERE known.until < excluded.until OR known.at < excluded.at";

/// The entry with the next number, and the marks of the sessions that it ends. Of callers at once each waits for the one
/// before, whose number it wanted; it returns nothing then, and tries again. Rows are locked in the order of their keys.
const RAISE: &str = "
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
    SELECT n, at FROM raised";

/// Marks sessions that [`RAISE`] has ended and left for later, and those that were being inserted while it looked.
const MARK_REST: &str = "
    WITH oldest AS MATERIALIZED (
        SELECT id FROM countersign.session
        WHERE user_id = $1 AND ended_at IS NULL AND epoch < $3 AND id IS DISTINCT FROM $2
        ORDER BY created_at, id LIMIT $6),
    ended AS (
        SELECT session.id FROM oldest JOIN countersign.session ON session.user_id = $1 AND session.id = oldest.id
        ORDER BY session.id
        FOR UPDATE OF session)
    UPDATE countersign.session SET ended_at = $4, end_reason = $5 FROM ended
    WHERE session.user_id = $1 AND session.id = ended.id AND session.ended_at IS NULL";

/// Deletes what is old and decides nothing any more beside the user's entry `n`, which excepts this session: all lower
/// ones, but for the highest that does not except the same session.
const FORGET_OUTDONE: &str = "
    DELETE FROM countersign.revocation AS entry
    WHERE user_id = $1 AND kind = 'user' AND ref = '' AND n < $3 AND at < $4
        AND ($2 IS NULL OR n IS DISTINCT FROM (SELECT max(other.n) FROM countersign.revocation AS other
            WHERE other.user_id = $1 AND other.kind = 'user' AND other.ref = '' AND other.n < $3
                AND other.except_session IS DISTINCT FROM $2))";

/// Until the end of the transaction, others who revoke tokens of this user wait here. A row to wait at, and no advisory
/// lock, because those are not known to the distributed relatives of PostgreSQL.
const QUEUE: &str = "
    INSERT INTO countersign.token_owner AS known (user_id, until) VALUES ($1, $2)
    ON CONFLICT (user_id) DO UPDATE SET until = greatest(known.until, excluded.until)";

/// Run after [`QUEUE`], so it sees what those before have committed.
const LIVE_TOKENS: &str = "
    SELECT ref, until FROM countersign.revocation WHERE user_id = $1 AND kind = 'token' AND until > $2";

/// The log from some time on, as it lies in the table. An entry that is written again gets a later time, so it moves on
/// in this order and never back.
const LOG: &str = "
    SELECT user_id, kind, ref, n, except_session, until, at FROM countersign.revocation
    WHERE (at, user_id, kind, ref, n) > ($1, $2, $3, $4, $5)
    ORDER BY at, user_id, kind, ref, n LIMIT $6";

/// Unlike those that stay (below), entries that may go are found first in the index. What another node is deleting is
/// left to it. Not `NOT EXISTS`: for that, the server would read all sessions first.
const PURGE: &str = "
    WITH old AS MATERIALIZED (
        SELECT user_id, kind, ref, n FROM countersign.revocation AS entry
        WHERE kind <> 'user' AND until < $1
            AND (kind <> 'session' OR coalesce((SELECT ended_at IS NOT NULL FROM countersign.session
                WHERE session.user_id = entry.user_id AND session.id = entry.ref), true))
        ORDER BY until LIMIT $2 FOR UPDATE SKIP LOCKED)
    DELETE FROM countersign.revocation AS entry USING old
    WHERE entry.user_id = old.user_id AND entry.kind = old.kind AND entry.ref = old.ref AND entry.n = old.n";

/// A user's highest entry stays, so this looks at many that do not go: at so many in a step, and goes on from there.
/// Returns the last that it looked at, how many those were, and how many of them it deleted.
const PURGE_OUTDONE: &str = "
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
    FROM old ORDER BY until DESC, user_id DESC, n DESC LIMIT 1";

const PURGE_QUEUE: &str = "
    WITH old AS MATERIALIZED (
        SELECT user_id FROM countersign.token_owner WHERE until < $1 ORDER BY until LIMIT $2
        FOR UPDATE SKIP LOCKED)
    DELETE FROM countersign.token_owner USING old WHERE token_owner.user_id = old.user_id";

/// How many sessions one statement marks at most: some milliseconds of work.
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
        const ACTION: &str = "read the server's time";
        let rows = self.tail.read::<(i64,)>(ACTION, Statement::new(TIME)).await?;
        let (now,) = only(ACTION, rows)?;
        time("time", now).map(Some).map_err(malformed(ACTION))
    }

    async fn epoch(&self, user_id: &UserId) -> Result<Epoch, StoreError> {
        const ACTION: &str = "read the user's epoch";
        let statement = Statement::new(EPOCH).bind(user_id.as_str());
        let (n,) = only(ACTION, self.work.read::<(i64,)>(ACTION, statement).await?)?;
        number("n", n).map(Epoch::new).map_err(malformed(ACTION))
    }

    async fn epoch_raised_at(&self, user_id: &UserId) -> Result<Option<Timestamp>, StoreError> {
        const ACTION: &str = "read when the user's epoch was raised";
        let statement = Statement::new(RAISED_AT).bind(user_id.as_str());
        let (at,) = only(ACTION, self.work.read::<(Option<i64>,)>(ACTION, statement).await?)?;
        optional_time("at", at).map_err(malformed(ACTION))
    }

    async fn raise_epoch(&self, user_id: &UserId, raise: &EpochRaise) -> Result<Entry, StoreError> {
        const ACTION: &str = "raise the user's epoch";
        let except = raise.except.map(|id| id.to_string());
        let of_them = |sql| Statement::new(sql).bind(user_id.as_str()).bind(except.as_deref());
        let at = raise.at.as_millis();
        let raised = async {
            loop {
                let statement = of_them(RAISE).bind(raise.until.as_millis()).bind(at);
                let statement = statement.bind(raise.reason.name()).bind(limit(MARK_STEP));
                let rows: Vec<(i64, i64)> = self.work.write_returning(ACTION, statement).await?;
                if let Some(raised) = rows.into_iter().next() {
                    return Ok(raised);
                }
            }
        };
        let (n, raised_at) = self.work.series(ACTION, raised).await?;
        self.announce();
        let rest = async {
            let mark =
                || of_them(MARK_REST).bind(n).bind(at).bind(raise.reason.name()).bind(limit(MARK_STEP));
            while self.work.write(ACTION, mark()).await? == MARK_STEP as u64 {}
            let forget = of_them(FORGET_OUTDONE).bind(n).bind(raise.forgets_before().as_millis());
            self.work.write(ACTION, forget).await
        };
        // The epoch is raised whatever comes of this: what is left has no mark then, but the log ends it.
        if let Err(error) = rest.await {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "could not mark all sessions that the log has ended");
        }
        let epoch = number("n", n).map(Epoch::new).map_err(malformed(ACTION))?;
        let at = time("at", raised_at).map_err(malformed(ACTION))?;
        let target = Target::User { user_id: user_id.clone(), epoch, except: raise.except };
        Ok(Entry { target, until: raise.until, at })
    }

    async fn revoke_tokens(
        &self,
        user_id: &UserId,
        tokens: &TokenRevocation,
    ) -> Result<TokensRevoked, StoreError> {
        let ids: Vec<String> = tokens.ids.iter().map(ToString::to_string).collect();
        let (user_id, at, until) = (user_id.as_str(), tokens.at.as_millis(), tokens.until.as_millis());
        let queue = Statement::new(QUEUE).bind(user_id).bind(until);
        let live = Statement::new(LIVE_TOKENS).bind(user_id).bind(at);
        let merge = Statement::new(MERGE_TOKENS).bind(user_id).bind(ids).bind(until).bind(at);
        let (queue, live, merge) = (&queue, &live, &merge);
        let work = |mut transaction: Transaction| async move {
            transaction.write(queue).await?;
            let room = room_beside(&transaction.read(live).await?, tokens)?;
            if room == TokensRevoked::Yes {
                transaction.write(merge).await?;
                transaction.commit().await?;
            } else {
                transaction.undo().await?;
            }
            Ok(room)
        };
        let revoked = self.work.transaction("revoke tokens", work).await?;
        if revoked == TokensRevoked::Yes {
            self.announce();
        }
        Ok(revoked)
    }

    async fn insert_entry(&self, entry: &Entry) -> Result<(), StoreError> {
        const ACTION: &str = "insert into the revocation log";
        let key = entry.key();
        let except = match &entry.target {
            Target::User { except, .. } => except.map(|id| id.to_string()),
            _ => None,
        };
        let statement = Statement::new(MERGE)
            .bind(key.user_id)
            .bind(key.kind)
            .bind(key.reference)
            .bind(integer(key.number).map_err(malformed(ACTION))?)
            .bind(except)
            .bind(entry.until.as_millis())
            .bind(entry.at.as_millis());
        if let Target::Node { .. } = entry.target {
            // A heartbeat is the tail's own: it must not wait behind other work. It is nothing to tell others of.
            self.tail.write(ACTION, statement).await?;
        } else {
            self.work.write(ACTION, statement).await?;
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
        const ACTION: &str = "read the revocation log";
        // The entry before comes first, or what every entry of that time comes after: none has an empty kind.
        let (at, key) = after.map_or((since, None), |after| (after.at, Some(after.key())));
        let (user_id, kind, reference, n) = key.as_ref().map_or(("", "", "", 0), |key| {
            (key.user_id.as_str(), key.kind, key.reference.as_str(), key.number)
        });
        let statement = Statement::new(LOG)
            .bind(at.as_millis())
            .bind(user_id)
            .bind(kind)
            .bind(reference)
            .bind(integer(n).map_err(malformed(ACTION))?)
            .bind(limit(at_most));
        let rows = self.tail.read::<EntryRow>(ACTION, statement).await?;
        Ok(rows.into_iter().map(Entry::from).collect())
    }

    async fn purge_entries(&self, before: Timestamp, at_most: usize) -> Result<u64, StoreError> {
        const ACTION: &str = "purge the revocation log";
        let purged = self.purge(ACTION, PURGE, before, at_most).await?;
        let left = at_most.saturating_sub(usize::try_from(purged).unwrap_or(usize::MAX));
        let outdone = self.purge_outdone(ACTION, before, left).await?;
        // These are no entries, so they are not counted.
        self.purge(ACTION, PURGE_QUEUE, before, PURGE_STEP).await?;
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
            let left = at_most.saturating_sub(usize::try_from(purged).unwrap_or(usize::MAX));
            if left == 0 {
                return Ok(purged);
            }
            let (until, user_id, n) = &last;
            let statement = Statement::new(PURGE_OUTDONE).bind(before.as_millis()).bind(until).bind(user_id);
            let statement = statement.bind(n).bind(limit(PURGE_STEP)).bind(limit(left));
            let rows: Vec<(i64, String, i64, i64, i64)> =
                self.work.write_returning(action, statement).await?;
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
    use super::super::plans::Filled;
    use super::*;

    #[tokio::test]
    async fn no_statement_reads_more_than_it_needs() {
        let Some(mut filled) = Filled::open().await else { return };
        let of_user = |sql| Statement::new(sql).bind("user 5");
        let entry = of_user(MERGE).bind("token").bind("token 5").bind(0_i64).bind(None::<String>);
        let tokens = of_user(MERGE_TOKENS).bind(vec!["token 5"]).bind(5_i64).bind(5_i64);
        let raise = of_user(RAISE).bind(None::<String>).bind(5_i64).bind(5_i64).bind("all_ended").bind(9_i64);
        let mark =
            of_user(MARK_REST).bind(None::<String>).bind(1_i64).bind(5_i64).bind("all_ended").bind(9_i64);
        let forget = of_user(FORGET_OUTDONE).bind(None::<String>).bind(1_i64).bind(15_000_i64);
        let page = Statement::new(LOG).bind(5_i64).bind("user 5").bind("token").bind("token 5").bind(0_i64);
        let page = page.bind(5_000_i64);
        let outdone = Statement::new(PURGE_OUTDONE).bind(2_000_i64).bind(5_i64).bind("user 5").bind(1_i64);
        for (statement, index) in [
            (of_user(EPOCH), "revocation_pkey"),
            (of_user(RAISED_AT), "revocation_pkey"),
            (entry.bind(5_i64).bind(5_i64), "revocation_pkey"),
            (tokens, "revocation_pkey"),
            (raise, "revocation_pkey"),
            (mark, "session_live"),
            (forget, "revocation_pkey"),
            (of_user(QUEUE).bind(5_i64), "token_owner_pkey"),
            (of_user(LIVE_TOKENS).bind(5_i64), "revocation_pkey"),
            (page, "revocation_in_time"),
            (Statement::new(PURGE).bind(100_i64).bind(10_i64), "revocation_until"),
            (outdone.bind(100_i64).bind(100_i64), "revocation_user_until"),
            (Statement::new(PURGE_QUEUE).bind(100_i64).bind(10_i64), "token_owner_until"),
        ] {
            let plan = filled.plan(&statement).await;
            assert!(!plan.contains("Seq Scan") && plan.contains(index), "{}: {plan}", statement.sql());
        }
    }
}
